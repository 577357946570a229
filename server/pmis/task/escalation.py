"""How far a task has climbed the overdue ladder: a stream for each task and due date, an event for each rung.

That a rung is climbed once rests on the log: the stream is named by the task and its due date, has each version once,
and each version is on a higher rung and a later day than the one before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from pmis.approval.propose import active_policy
from pmis.kit.ids import derived_id
from pmis.kit.listing import state_table
from pmis.ledger.event import Actor, Event, Fact
from pmis.ledger.outbox import promise
from pmis.ledger.projection import Entity, Projection, UnknownEventError
from pmis.ledger.store import Happened, append_each
from pmis.policy.lifecycle import Phase
from pmis.task.ladder import RUNGS, Calendar, Rung, next_rung

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Origin
    from pmis.policy.document import Policy

ACTOR: Final = Actor("system:ladder", "The overdue ladder")
TOPIC: Final = "task.escalated"


class Escalated(BaseModel):
    """What is said of one rung: who was told of which task, and on which day of the project."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    task_id: UUID
    package_id: UUID
    due_date: date
    rung: Rung
    day: date
    people: list[UUID]


class Escalation(Entity):
    """The newest rung of a task that is (or was) overdue since one due date."""

    task_id: UUID
    package_id: UUID
    due_date: date
    rung: Rung
    day: date
    people: list[UUID]


TABLE = state_table(
    "escalation",
    sa.Column("task_id", sa.Uuid, nullable=False),
    sa.Column("due_date", sa.Date, nullable=False),
    sa.Column("rung", sa.Text, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
)


class EscalationProjection(Projection[Escalation]):
    """One event after the other, each a rung higher."""

    stream_type = "escalation"
    model = Escalation
    columns = ("task_id", "due_date", "rung", "day")

    def begin(self, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The first rung."""
        if event.type != TOPIC:
            message = f"{event.type} is not an event of an {self.stream_type}"
            raise UnknownEventError(message)
        return dict(payload)

    def change(self, entity: Escalation, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The next one."""
        del entity
        return self.begin(event, payload)


ESCALATIONS: Final = EscalationProjection()


@dataclass(frozen=True)
class Home:
    """A project on a day on which it works."""

    id: UUID
    today: date
    last_missed: date
    """Tasks due by this day are overdue today."""
    members: frozenset[UUID] = frozenset()
    managers: tuple[UUID, ...] = ()
    sponsors: tuple[UUID, ...] = ()


@dataclass(frozen=True)
class Ladder:
    """One run of the ladder: the projects that work on that day, and what counts as open."""

    homes: dict[UUID, Home] = field(default_factory=dict[UUID, Home])
    open_tasks: tuple[str, ...] = ()
    open_packages: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The same for `FIND` and `CLIMBING`."""
        homes = self.homes.values()
        return {
            "projects": [home.id for home in homes],
            "todays": [home.today for home in homes],
            "missed": [home.last_missed for home in homes],
            "open_tasks": list(self.open_tasks),
            "open_packages": list(self.open_packages),
            "top": RUNGS[-1],
        }


_FROM: Final = """
from unnest(%(projects)s::uuid[], %(todays)s::date[], %(missed)s::date[]) as c (project_id, today, missed)
join state.task t on t.project_id = c.project_id and t.due_date <= c.missed
join state.package p on p.id = t.package_id
left join state.escalation e on e.task_id = t.id and e.due_date = t.due_date
where not t.deleted and t.status = any(%(open_tasks)s) and not p.deleted and p.status = any(%(open_packages)s)
  and (e.id is null or (e.day < c.today and e.rung <> %(top)s))
"""
FIND: Final = f"""
select t.project_id, t.id {_FROM}
  and (%(after_project)s::uuid is null or (t.project_id, t.id) > (%(after_project)s::uuid, %(after_task)s::uuid))
order by t.project_id, t.id limit %(limit)s
"""
CLIMBING: Final = f"""
select t.id, t.project_id, t.package_id, t.due_date, t.assignee_id, p.owner_id, e.doc {_FROM}
  and t.id = any(%(tasks)s) order by t.project_id, t.id for share of t
"""
LANES: Final = 2
"""How many batches are under way at once: while PostgreSQL writes the one, the other is made."""
# One in each lane at a time, and each task in its lane, so that a job that is done twice at once climbs no rung twice,
# and none is refused for it.
_ALONE: Final = "select pg_advisory_xact_lock(hashtextextended('pmis.ladder', lane)) from unnest(%s::integer[]) as lane"
_PEOPLE: Final = """
select m.project_id, m.person_id, 'admin' = any(m.roles), 'executive' = any(m.roles)
from state.membership m join state.person p on p.id = m.person_id and p.active
where cardinality(m.roles) > 0 order by m.project_id, m.person_id
"""


def open_statuses(policy: Policy, noun: str) -> tuple[str, ...]:
    """The statuses in which something is still to be done."""
    states = policy.lifecycles[noun].states
    return tuple(name for name, state in states.items() if state.phase is not Phase.FROZEN)


async def ladder_at(session: Session, moment: datetime) -> Ladder:
    """What a run at that moment goes by: projects for which it is no working day are left out."""
    policy = await active_policy(session)
    people: dict[UUID, list[tuple[UUID, bool, bool]]] = {}
    for project, person, manages, sponsors in await session.all(_PEOPLE):
        people.setdefault(project, []).append((person, manages, sponsors))
    homes: dict[UUID, Home] = {}
    for identity, doc in await session.all("select id, doc from state.project order by id"):
        said = json.loads(doc)
        calendar = Calendar(
            said["timezone"], frozenset(said["workdays"]), frozenset(map(date.fromisoformat, said["holidays"]))
        )
        today = calendar.day_of(moment)
        if said["deleted_at"] is not None or not calendar.works_on(today):
            continue
        known = people.get(identity, [])
        homes[identity] = Home(
            identity,
            today,
            calendar.last_missed(today),
            frozenset(person for person, _, _ in known),
            tuple(person for person, manages, _ in known if manages),
            tuple(person for person, _, sponsors in known if sponsors),
        )
    return Ladder(homes, open_statuses(policy, "task"), open_statuses(policy, "package"))


async def find(
    session: Session, ladder: Ladder, *, after: tuple[UUID, UUID] | None, limit: int
) -> list[tuple[UUID, UUID]]:
    """Project and task of those that may climb, in that order, behind `after`."""
    project, task = after or (None, None)
    values = {**ladder.values, "after_project": project, "after_task": task, "limit": limit}
    return cast("list[tuple[UUID, UUID]]", await session.all(FIND, values))


def lane_of(task: UUID) -> int:
    """The lane in which the task climbs."""
    return task.int % LANES


async def climb(session: WriteSession, ladder: Ladder, tasks: Sequence[UUID], *, origin: Origin) -> int:
    """Take these tasks of one or several lanes one rung higher, those that may still climb; says how many that were.

    They are looked at anew under a lock: one that was done, moved or deleted meanwhile stays where it is. For each
    project what was climbed is promised to be told, as one.
    """
    await session.execute(_ALONE, (sorted({lane_of(task) for task in tasks}),))
    happened: list[Happened[Escalation]] = []
    rows = await session.all(CLIMBING, {**ladder.values, "tasks": list(tasks)})
    for task, project, package, due, assignee, owner, doc in rows:
        home = ladder.homes[project]
        before = Escalation.model_validate_json(doc) if doc else None
        people: dict[Rung, Sequence[UUID]] = {
            "owner": [assignee] if assignee in home.members else [],
            "lead": [owner] if owner in home.members else [],
            "manager": home.managers,
            "sponsor": home.sponsors,
        }
        rung = next_rung(before.rung if before else None, people)
        if rung is None:
            continue
        # What `Escalated` reads; made by hand, as there may be a hundred thousand.
        said = {
            "task_id": str(task),
            "package_id": str(package),
            "due_date": due.isoformat(),
            "rung": rung,
            "day": home.today.isoformat(),
            "people": [str(person) for person in people[rung]],
        }
        identity = derived_id(task, "escalation", due.isoformat())
        happened.append(Happened(before, identity, project, Fact(TOPIC, said)))
    if not happened:
        return 0
    by_project: dict[UUID | None, list[Event]] = {}
    for _, event in await append_each(session, ESCALATIONS, happened, origin=origin):
        by_project.setdefault(event.project_id, []).append(event)
    for events in by_project.values():
        first = events[0]
        promise(
            session,
            TOPIC,
            key=f"escalated:{first.stream_id}:{first.stream_version}",
            event_id=first.id,
            payload={"events": [str(event.id) for event in events]},
        )
    return len(happened)
