"""Tasks over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa

from pmis.approval.resource import Resource
from pmis.kit.filters import at_least, at_most, day, equals, line, one_of, search_filter, uuid, without
from pmis.kit.listing import Filter, Listing
from pmis.project.models import TABLE as _PROJECT
from pmis.task.escalation import TABLE as ESCALATION
from pmis.task.ladder import RUNGS
from pmis.task.models import TABLE, TaskCreate
from pmis.task.noun import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pmis.approval.governed import Proposed
    from pmis.kit.db import Session


async def _project_of(session: Session, said: Proposed) -> UUID | None:
    row = await session.one(
        "select project_id from state.package where id = %s", (cast("TaskCreate", said).package_id,)
    )
    return row[0] if row else None


# By what the policy in force calls closed.
_OPEN: Final = sa.text("""
task.status in (select known.name from state.policy,
    json_each(doc::json -> 'document' -> 'lifecycles' -> 'task' -> 'states') as known (name, state)
    where known.state ->> 'phase' <> 'frozen')
""")


def _today(project: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The day that it is in the project: one for all its rows, so that an index by due date serves."""
    zone = sa.literal_column("project.doc::json ->> 'timezone'", sa.Text)
    there = sa.func.timezone(zone, sa.bindparam("now", type_=sa.DateTime(timezone=True)))
    found = sa.select(sa.cast(there, sa.Date)).select_from(_PROJECT).where(_PROJECT.c.id == project)
    return found.correlate_except(_PROJECT).scalar_subquery()


def _is_overdue(table: sa.Table, project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.due_date < _today(project), _OPEN)


def _overdue(text: str) -> Mapping[str, Any]:
    if text not in ("true", "false"):
        message = "true or false"
        raise ValueError(message)
    return {}


def _escalated(text: str) -> Mapping[str, Any]:
    given = [item.strip() for item in text.split(",") if item.strip()]
    if not given or not set(given) <= set(RUNGS):
        message = f"one or more of {', '.join(RUNGS)}"
        raise ValueError(message)
    return {"escalated": given}


OVERDUE: Final = Filter(
    lambda table, project: sa.not_(sa.func.coalesce(_is_overdue(table, project), sa.false())),
    _overdue,
    "`true`: only what is open and past its due date, by the date in its project; `false`: only the others.",
    "true",
    {"true": _is_overdue},
)
ESCALATED: Final = Filter(
    lambda table, _project: sa.exists().where(
        ESCALATION.c.task_id == table.c.id,
        ESCALATION.c.due_date == table.c.due_date,
        ESCALATION.c.rung == sa.func.any(sa.bindparam("escalated", type_=sa.ARRAY(sa.Text))),
    ),
    _escalated,
    f"Only those whose newest rung of the overdue ladder is one of these: {', '.join(RUNGS)}; several separated by "
    "commas.",
    "manager,sponsor",
)

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
            "overdue": OVERDUE,
            "escalated": ESCALATED,
            "without": without("assignee_id", "due_date"),
            "q": search_filter(),
        },
        hides_deleted=True,
    ),
    project_of=_project_of,
    related=(
        "select approval_id from state.approval_target where target_id = %s",
        "select id from state.comment where entity_id = %s",
        "select id from state.escalation where task_id = %s",
    ),
)
