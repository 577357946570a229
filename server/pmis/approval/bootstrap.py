"""What a new instance begins with: the shipped policy, as the first event of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmis.approval.policy import POLICIES, POLICY_ID
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from pmis.policy.document import default_policy

if TYPE_CHECKING:
    from pmis.kit.db import WriteSession


async def ensure_policy(session: WriteSession) -> bool:
    """Put the shipped policy in force when there is none; says whether it did. The caller commits."""
    if await session.one("select 1 from state.policy"):
        return False
    origin = Origin(Actor("system:migrate", "Migration"), "system", "bootstrap")
    fact = Fact("policy.created", {"fields": {"document": default_policy().to_json()}, "reason": "the shipped policy"})
    append(session, POLICIES, None, [fact], origin=origin, stream_id=POLICY_ID, project_id=None)
    return True
