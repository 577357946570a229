"""The policy as a record of its own: stored through the ledger, changed only by an approved change."""

from typing import Any, Final
from uuid import UUID

from pydantic import Field

from pmis.approval.change import Change
from pmis.approval.governed import Noun, Proposed, Situation
from pmis.kit.db import Session
from pmis.kit.fields import Data
from pmis.kit.listing import state_table
from pmis.ledger.projection import Entity
from pmis.policy.document import Policy, default_policy

POLICY_ID: Final = UUID("01900000-0000-7000-8000-000000000001")
"""There is one policy, and every instance knows it by the same name."""


class PolicyRecord(Entity):
    """The document in force. Its version is the record's version."""

    document: dict[str, Any]


TABLE = state_table("policy")


class PolicyPatch(Proposed):
    """The whole new document; half a policy is none."""

    document: Data = Field(
        description="See the reference page of the policy document.",
        examples=[{**default_policy().to_json(), "name": "Our policy"}],
    )


class PolicyNoun(Noun[PolicyRecord]):
    """The policy on the governed path that it governs."""

    stream_type = "policy"
    label = "policy"
    model = PolicyRecord
    create_input = PolicyPatch
    patch_input = PolicyPatch
    operations = frozenset({"patch"})
    instance_level = True

    async def check_references(
        self, session: Session, change: Change, entity: PolicyRecord | None, situation: Situation
    ) -> None:
        """Raise PolicyDocumentError, with every fault, for a document that is no policy."""
        del session, situation
        Policy.parse({**change.patch["document"], "version": (entity.version if entity else 0) + 1})


POLICIES = PolicyNoun()
