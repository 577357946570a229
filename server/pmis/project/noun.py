"""What projects tell the governed path."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pmis.approval.errors import AlreadyExistsError
from pmis.approval.governed import Noun
from pmis.approval.registry import NOUNS
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import append
from pmis.policy.access import Role
from pmis.project.models import Project, ProjectCreate, ProjectPatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Event, Origin
    from pmis.ledger.vault import Vault


class ProjectNoun(Noun[Project]):
    """Projects; each is its own project for reading and permission."""

    stream_type = "project"
    label = "project"
    model = Project
    columns = ("prefix", "name")
    create_input = ProjectCreate
    patch_input = ProjectPatch

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The fields of a new project, with the person who founds it."""
        founder = situation.principal.person_id
        return {**super().first_fields(change, situation), "founder_id": str(founder) if founder else None}

    async def applied(self, session: WriteSession, vault: Vault, entity: Project, origin: Origin) -> list[Event]:
        """Make the founder the first administrator: a project without members could never get one."""
        del vault
        if entity.version > 1 or entity.founder_id is None:
            return []
        fields = {"person_id": str(entity.founder_id), "roles": [Role.ADMIN.value]}
        fact = Fact("membership.created", {"fields": fields, "governance": {"rule": "project.founder"}})
        _, events = append(
            session, NOUNS["membership"], None, [fact], origin=origin, stream_id=uuid7(), project_id=entity.id
        )
        return events

    def own_facts(
        self, entity: Project | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """The budget is the project's amount: raising it is judged like money."""
        del situation
        if "budget" not in fields:
            return {}
        currency = entity.currency if entity else change.patch["currency"]
        after = change.patch.get("budget")
        return {
            "amount_before": entity.budget if entity else None,
            "amount_after": None if after is None else Decimal(after),
            "currency_before": currency if entity and entity.budget is not None else None,
            "currency_after": currency,
        }

    async def check_references(
        self, session: Session, change: Change, entity: Project | None, situation: Situation
    ) -> None:
        """Prefixes are unique in the instance, as package codes begin with them."""
        del situation
        if entity is None and await session.one(
            "select 1 from state.project where prefix = %s", (change.patch["prefix"],)
        ):
            raise AlreadyExistsError(
                f"prefix: {change.patch['prefix']} begins the codes of another project.", field="prefix"
            )


PROJECTS = ProjectNoun()
