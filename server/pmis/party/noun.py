"""What parties tell the governed path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmis.approval.errors import AlreadyExistsError
from pmis.approval.governed import SEARCHABLE, Noun
from pmis.package.noun import require_unused_ref
from pmis.party.models import Party, PartyCreate, PartyPatch

if TYPE_CHECKING:
    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session


class PartyNoun(Noun[Party]):
    """Parties, with an e-mail address that is unique in the project."""

    stream_type = "party"
    label = "party"
    model = Party
    columns = ("name", "email", "kind", "external_ref", "deleted")
    child_tables = (SEARCHABLE,)
    create_input = PartyCreate
    patch_input = PartyPatch
    operations = frozenset({"create", "patch", "delete", "restore"})
    merged_fields = frozenset({"data"})
    secret_fields = frozenset({"contacts", "bank_details"})

    def children(self, entity: Party) -> dict[str, list[tuple[Any, ...]]]:
        """The text by which the party is found."""
        return self.found_by(entity, f"{entity.name}\n{entity.email or ''}", deleted=entity.deleted)

    async def check_references(
        self, session: Session, change: Change, entity: Party | None, situation: Situation
    ) -> None:
        """E-mail addresses and outside references are unique in the project, letter case aside."""
        del situation
        email = change.patch.get("email")
        if email:
            row = await session.one(
                "select 1 from state.party where project_id = %s and lower(email) = lower(%s) and id <> %s",
                (change.project_id, email, change.target),
            )
            if row:
                raise AlreadyExistsError(f"email: {email} belongs to another party of this project.", field="email")
        ref = change.patch.get("external_ref")
        if ref and ref != (entity.external_ref if entity else None):
            await require_unused_ref(session, "party", change.project_id, ref)


PARTIES = PartyNoun()
