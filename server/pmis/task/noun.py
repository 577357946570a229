"""What tasks tell the governed path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.approval.errors import BadReferenceError, FrozenRecordError, GuardRefusedError
from pmis.approval.governed import SEARCHABLE, Noun
from pmis.package.noun import require_member, require_unused_ref
from pmis.package.rules import slip_days
from pmis.policy.document import Writer
from pmis.policy.lifecycle import GUARDS, Phase
from pmis.task.models import Task, TaskCreate, TaskPatch, TaskTransition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session
    from pmis.ledger.event import Fact

_SOURCES: Final = {
    Writer.PERSON: "person",
    Writer.IMPORT: "import",
    Writer.EMAIL: "mail",
    Writer.AGENT: "assistant",
}


class TaskNoun(Noun[Task]):
    """Tasks: worked on by their people, completed once."""

    stream_type = "task"
    label = "task"
    model = Task
    columns = ("package_id", "status", "assignee_id", "due_date", "external_ref", "deleted")
    child_tables = (SEARCHABLE,)
    create_input = TaskCreate
    patch_input = TaskPatch
    transition_input = TaskTransition
    lifecycle = "task"
    operations = frozenset({"create", "patch", "transition", "delete", "restore"})
    merged_fields = frozenset({"data"})

    def children(self, entity: Task) -> dict[str, list[tuple[Any, ...]]]:
        """The text by which the task is found."""
        return self.found_by(entity, f"{entity.title}\n{entity.description}", deleted=entity.deleted)

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """A pending task that says where it came from."""
        return {**super().first_fields(change, situation), "source": _SOURCES.get(situation.writer, "system")}

    def decide(self, entity: Task | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts; raises GuardRefusedError when a due date moves, or goes, without anybody saying why."""
        caused = super().decide(entity, change, situation)
        if change.operation not in ("patch", "transition") or (situation.reason or "").strip():
            return caused
        known = entity is not None and entity.due_date is not None
        if known and any("due_date" in fact.payload["changes"] for fact in caused):
            raise GuardRefusedError("Another due date needs a reason.", missing=[GUARDS["reason_given"]])
        return caused

    def own_facts(
        self, entity: Task | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """The slip of the due date."""
        del fields, situation
        if entity is None or entity.due_date is None or "due_date" not in change.patch:
            return {}
        return {"slip_days": slip_days(entity.due_date.isoformat(), change.patch["due_date"])}

    async def check_references(
        self, session: Session, change: Change, entity: Task | None, situation: Situation
    ) -> None:
        """The package takes tasks, it and the assignee are of this project, outside references are unique."""
        patch = change.patch
        if entity is None:
            await _require_open_package(session, change, UUID(patch["package_id"]), situation)
        elif change.operation == "restore" and entity.deleted:
            await _require_open_package(session, change, entity.package_id, situation, deleted=True)
        if patch.get("assignee_id"):
            await require_member(session, change.project_id, patch["assignee_id"], "assignee_id")
        if patch.get("external_ref") and patch["external_ref"] != (entity.external_ref if entity else None):
            await require_unused_ref(session, "task", change.project_id, patch["external_ref"])


async def _require_open_package(
    session: Session, change: Change, package: UUID, situation: Situation, *, deleted: bool = False
) -> None:
    """The package is not frozen, and stays so until this is committed; one that is deleted counts if so said."""
    status = getattr(situation.known.get(package), "status", None)
    if status is None:
        row = await session.one(
            "select status from state.package where id = %s and project_id = %s and (%s or not deleted) for share",
            (package, change.project_id, deleted),
        )
        if row is None:
            raise BadReferenceError("package_id: there is no such package in this project.", field="package_id")
        status = row[0]
    if situation.policy.lifecycles["package"].phase(status) is Phase.FROZEN:
        raise FrozenRecordError(f"Its package is {status} and frozen; it takes no more tasks.", status_now=status)


TASKS = TaskNoun()
