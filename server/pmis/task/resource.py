"""Tasks over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pmis.approval.resource import Resource
from pmis.kit.filters import at_least, at_most, day, equals, line, one_of, search_filter, uuid
from pmis.kit.listing import Listing
from pmis.task.models import TABLE, TaskCreate
from pmis.task.noun import TASKS

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.governed import Proposed
    from pmis.kit.db import Session


async def _project_of(session: Session, said: Proposed) -> UUID | None:
    row = await session.one(
        "select project_id from state.package where id = %s", (cast("TaskCreate", said).package_id,)
    )
    return row[0] if row else None


RESOURCE: Final = Resource(
    path="tasks",
    noun=TASKS,
    listing=Listing(
        TABLE,
        orders={"created_at": "id", "due_date": "due_date"},
        default_order="-created_at",
        filters={
            "status": one_of("status", None, "Only these statuses", "pending,in_progress"),
            "package_id": equals(
                "package_id", uuid, "Only those of this package.", "0197c0de-0000-7000-8000-000000000000"
            ),
            "assignee_id": equals(
                "assignee_id", uuid, "Only those of this person.", "0197c0de-0000-7000-8000-000000000000"
            ),
            "external_ref": equals("external_ref", line, "Only the one with this outside reference.", "ocds:x"),
            "due_from": at_least("due_from", "due_date", day, "Due then or later.", "2026-01-01"),
            "due_to": at_most("due_to", "due_date", day, "Due then or earlier.", "2026-12-31"),
            "q": search_filter(),
        },
        hides_deleted=True,
    ),
    project_of=_project_of,
    related=(
        "select approval_id from state.approval_target where target_id = %s",
        "select id from state.comment where entity_id = %s",
    ),
)
