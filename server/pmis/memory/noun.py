"""What memories tell the governed path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.approval.errors import BadReferenceError
from pmis.approval.governed import Noun
from pmis.ledger.event import Fact
from pmis.ledger.outbox import promise
from pmis.ledger.projection import UnknownEventError
from pmis.ledger.vault import ErasedSubjectError
from pmis.memory import index
from pmis.memory.models import Memory, MemoryCreate, MemoryPatch
from pmis.policy.access import Action, allowed
from pmis.policy.document import UNTRUSTED, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Event, Origin
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Principal

CHANGED: Final = "memory.changed"
"""What is promised when there is a text whose vector is to be made."""
_ON_TIMELINES: Final = ("project", "package", "task", "party", "comment", "approval", "memory")
"""The streams whose events everybody reads who reads the project; those of others only who may read its log."""


class MemoryNoun(Noun[Memory]):
    """Memories: their texts lie in the vault, and what they are found by is made when they are applied."""

    stream_type = "memory"
    label = "memory"
    model = Memory
    columns = ("entity_type", "entity_id", "kind", "conversation_id", "deleted")
    create_input = MemoryCreate
    patch_input = MemoryPatch
    operations = frozenset({"create", "patch", "delete", "restore"})
    secret_fields = frozenset({"text"})

    def begin(self, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The first fields: a memory is stored, not created."""
        if event.verb != "stored":
            message = f"{event.type} cannot begin a {self.stream_type}"
            raise UnknownEventError(message)
        return dict(payload["fields"])

    def decide(self, entity: Memory | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts."""
        if entity is None:
            return [Fact("memory.stored", {"fields": self.first_fields(change, situation)})]
        return super().decide(entity, change, situation)

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The memory with whose it is, and what kind of writer put it down."""
        who = _who_remembers(situation.principal)
        return {**change.patch, "author": who.ref, "author_name": who.name, "writer": situation.writer.value}

    def own_facts(
        self, entity: Memory | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """Whether it is somebody else's, and whether a program took it from what anybody could have written."""
        del fields
        flags = set(situation.flags)
        if entity is not None and entity.author != _who_remembers(situation.principal).ref:
            flags.add("of_another")
        kinds = {one["type"] for one in change.patch.get("sources", ())} or {
            one.type for one in (entity.sources if entity else ())
        }
        if situation.writer is not Writer.PERSON and "email" in kinds and "text" in change.patch:
            flags.add(UNTRUSTED)
        return {"flags": frozenset(flags)}

    async def check_references(
        self, session: Session, change: Change, entity: Memory | None, situation: Situation
    ) -> None:
        """What is remembered of, and what it rests on, is of this project; what was erased does not come back."""
        patch = change.patch
        if entity is None:
            await _require_here(
                session, change, patch["entity_type"], [UUID(patch["entity_id"])], situation, "entity_id"
            )
        elif change.operation == "restore" and not await index.is_kept(session, entity.id):
            raise ErasedSubjectError("This memory was forgotten so long ago that its text was erased.")
        by_type: dict[str, list[UUID]] = {}
        for source in patch.get("sources", ()):
            by_type.setdefault(source["type"], []).append(UUID(source["id"]))
        for kind, identities in by_type.items():
            await _require_here(session, change, kind, identities, situation, "sources")

    async def applied(self, session: WriteSession, vault: Vault, entity: Memory, origin: Origin) -> list[Event]:
        """Have it found by its words from now on, and by its vector soon; or not any more."""
        del origin
        if entity.deleted or entity.project_id is None:
            await index.drop(session, entity.id)
            return []
        text = (await vault.open(session, [entity.text]))[entity.text]
        await index.put_words(session, entity.id, entity.project_id, text)
        row = await session.one(
            "select id from ledger.event where stream_id = %s and stream_version = %s", (entity.id, entity.version)
        )
        if row is not None:
            promise(
                session,
                CHANGED,
                key=f"{CHANGED}:{entity.id}:{entity.version}",
                event_id=row[0],
                payload={"memory_id": str(entity.id), "version": entity.version},
            )
        return []


def _who_remembers(principal: Principal) -> Principal:
    """The person for whom a program acts; whoever acts for nobody."""
    return principal if principal.on_behalf_of is None else _who_remembers(principal.on_behalf_of)


async def _require_here(
    session: Session, change: Change, kind: str, identities: Iterable[UUID], situation: Situation, field: str
) -> None:
    wanted = {one for one in identities if one not in situation.known}
    if not wanted:
        return
    if kind == "event":
        every = allowed(situation.principal, Action.READ_AUDIT, change.project_id)
        rows = await session.all(
            "select id from ledger.event where id = any(%s) and project_id = %s and (%s or stream_type = any(%s))",
            (list(wanted), change.project_id, every, list(_ON_TIMELINES)),
        )
    else:
        rows = await session.all(
            f"select id from state.{kind} where id = any(%s) and project_id = %s", (list(wanted), change.project_id)
        )
    if len(rows) < len(wanted):
        raise BadReferenceError(f"{field}: there is no such {kind} in this project.", field=field)


MEMORIES = MemoryNoun()
