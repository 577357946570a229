"""Who is told what, and by when.

Everything here may be done again: a person is told one thing once, by the unique key of its row.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pmis.approval.decide import waits_for
from pmis.approval.propose import active_policy
from pmis.identity.principals import load_principal
from pmis.jobs.queue import enqueue
from pmis.kit.canonical import canonical
from pmis.kit.errors import UnauthenticatedError
from pmis.kit.ids import uuid7
from pmis.policy.access import DECIDING_ROLES
from pmis.task.escalation import Escalated, open_statuses

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from pmis.approval.models import Approval
    from pmis.kit.db import Session, WriteSession

Mail: TypeAlias = Literal["at_once", "hourly", "daily", "never"]
DEFAULT_MAIL: Final[Mail] = "hourly"
MAIL: Final = "notify.mail"
OVERDUE: Final = "task.overdue"
GRACE: Final = timedelta(seconds=30)
"""Longer than any transaction is let to last (see `kit.db`)."""

_CANDIDATES: Final = (
    "select person_id from state.membership where project_id = %(project)s and roles && %(deciding)s::text[] "
    "union select to_person from state.delegation where project_id = %(project)s and not revoked and ends_at > %(at)s "
    "union select id from state.person where %(project)s::uuid is null and active and instance_admin "
    "union select person_id from state.membership where %(project)s::uuid is null and 'executive' = any(roles)"
)
_TELL: Final = (
    "insert into notify.notification (id, person_id, key, about, project_id, doc) values (%s, %s, %s, %s, %s, %s) "
    "on conflict do nothing"
)
_CLIMBED: Final = """
select e.payload::json, t.project_id, t.doc::json ->> 'title', p.code
from ledger.event e
join state.task t on t.id = (e.payload::json ->> 'task_id')::uuid and not t.deleted and t.status = any(%(open)s)
    and t.due_date = (e.payload::json ->> 'due_date')::date
join state.package p on p.id = t.package_id
where e.id = any(%(events)s) and e.type = 'task.escalated' order by e.position
"""
_TELL_EACH: Final = (
    "insert into notify.notification (id, person_id, key, about, project_id, doc) "
    "select id, person_id, key, about, project_id, doc "
    "from json_populate_recordset(null::notify.notification, %s::json) on conflict do nothing returning person_id"
)
_SETTLE_TASKS: Final = f"""
update notify.notification n set read_at = %(now)s
where (%(person)s::uuid is null or n.person_id = %(person)s) and n.read_at is null
    and n.doc::json ->> 'kind' = '{OVERDUE}' and not exists (
    select from state.task t where t.id = n.about and not t.deleted and t.status = any(%(open)s)
        and t.due_date = (n.doc::json ->> 'due_date')::date)
"""  # noqa: S608 - made of a constant
_SETTLE: Final = (
    "update notify.notification set read_at = %s "
    "where about = %s and read_at is null and doc::json->>'kind' = 'approval.waiting'"
)


async def whom_it_waits_for(session: Session, approval: Approval, at: datetime) -> list[UUID]:
    """Everybody who could decide or confirm the approval now: just those in whose inbox it stands."""
    if approval.status == "confirmation_required":
        people = [approval.proposer.person_id] if approval.proposer.person_id else []
    else:
        values = {"project": approval.project_id, "deciding": sorted(DECIDING_ROLES), "at": at}
        people = [person for (person,) in await session.all(_CANDIDATES, values)]
    found: list[UUID] = []
    for person in people:
        try:
            principal = await load_principal(session, person)
        except UnauthenticatedError:  # not active any more
            continue
        if await waits_for(session, principal, [approval], at):
            found.append(person)
    return found


async def tell_of(
    session: WriteSession, approval: Approval, *, by_mail: bool, occasion: str = "0", escalated: bool = False
) -> int:
    """Tell whoever has to know how an approval stands; says how many people were told something new.

    While it waits, those for whom it does, once more for each `occasion` (a reminder, an escalation). When it has
    ended, the proposer, unless they ended it; and what was said to others of its waiting counts as read. Of what is
    `escalated` everybody is mailed within two minutes who is mailed at all, all of the same minute in one mail.
    """
    if approval.is_open:
        # Who has to say something next may be somebody else than a moment ago.
        people = await whom_it_waits_for(session, approval, session.now)
        key, kind = f"waiting:{approval.id}:{occasion}", "approval.waiting"
    else:
        await session.execute(_SETTLE, (session.now, approval.id))
        proposer = approval.proposer.person_id
        by_themselves = approval.status == "withdrawn" or (approval.status == "applied" and not approval.verdicts)
        people = [] if proposer is None or by_themselves else [proposer]
        key, kind = f"ended:{approval.id}", f"approval.{approval.status}"
    summary = _summary(approval, kind, escalated=escalated)
    told = [
        person
        for person in people
        if await session.execute(_TELL, (uuid7(), person, key, approval.id, approval.project_id, canonical(summary)))
    ]
    if by_mail:
        mark = f"{approval.id}:{approval.version}:{occasion}" if _is_urgent(approval) and not escalated else None
        await _post(session, told, correlation_id=f"notify-{approval.id}", urgent=mark, soon=escalated)
    return len(told)


def _summary(approval: Approval, kind: str, *, escalated: bool) -> dict[str, Any]:
    """What is said: enough to know whether to look, and nothing that is sealed."""
    last = approval.verdicts[-1] if approval.verdicts else None
    return {
        "kind": kind,
        "entity_type": "approval",
        "entity_id": str(approval.id),
        "label": approval.label,
        "changes": len(approval.changes),
        "operation": approval.changes[0].operation if approval.changes else "",
        "target_type": approval.target_type,
        "route": approval.route,
        "urgent": _is_urgent(approval) or (approval.is_open and escalated),
        "from": approval.proposer.name if approval.is_open else last.name if last else "",
        "reason": (approval.reason if approval.is_open else approval.closed_reason) or "",
        "expires_at": approval.expires_at.isoformat() if approval.is_open and approval.expires_at else None,
    }


def _is_urgent(approval: Approval) -> bool:
    return approval.is_open and bool(approval.decision.get("notify_at_once"))


async def tell_of_overdue(session: WriteSession, events: Sequence[UUID], *, by_mail: bool, correlation_id: str) -> int:
    """Tell the people of each rung that was climbed; says how many were told something new.

    Of a task that is done by now, or due on another day, nobody is told.
    """
    policy = await active_policy(session)
    rows = await session.all(_CLIMBED, {"events": list(events), "open": list(open_statuses(policy, "task"))})
    told: list[dict[str, Any]] = []
    for payload, project, title, code in rows:
        said = Escalated.model_validate(payload)
        doc = {
            "kind": OVERDUE,
            "entity_type": "task",
            "entity_id": str(said.task_id),
            "label": title,
            "urgent": False,
            "package": code,
            "due_date": said.due_date.isoformat(),
            "rung": said.rung,
        }
        told += [
            {
                "id": uuid7(),
                "person_id": person,
                "key": f"overdue:{said.task_id}:{said.due_date}:{said.rung}",
                "about": said.task_id,
                "project_id": project,
                "doc": canonical(doc),
            }
            for person in said.people
        ]
    new = await session.all(_TELL_EACH, (json.dumps(told, default=str, ensure_ascii=False),))
    if by_mail:
        people = sorted({person for (person,) in new})
        await _post(session, people, correlation_id=correlation_id)
    return len(new)


async def tell_person(
    session: WriteSession,
    person: UUID,
    *,
    key: str,
    about: UUID,
    project: UUID | None,
    doc: Mapping[str, Any],
    by_mail: bool,
    correlation_id: str,
) -> bool:
    """Tell somebody one thing, once for each `key`; says whether that was new."""
    new = bool(await session.execute(_TELL, (uuid7(), person, key, about, project, canonical(dict(doc)))))
    if new and by_mail:
        await _post(session, [person], correlation_id=correlation_id)
    return new


async def settle_overdue(session: WriteSession, person: UUID | None = None) -> int:
    """Count as read what somebody, or everybody, was told of tasks that are done by now, or due on another day."""
    policy = await active_policy(session)
    return await session.execute(
        _SETTLE_TASKS, {"now": session.now, "person": person, "open": list(open_statuses(policy, "task"))}
    )


async def _post(
    session: WriteSession,
    people: Collection[UUID],
    *,
    correlation_id: str,
    urgent: str | None = None,
    soon: bool = False,
) -> None:
    """Have these people mailed as they wish; at once where it is urgent, once for each `urgent`.

    What is to be told `soon` is told all who are mailed at all as if they wished to be mailed at once.
    """
    wishes = await wishes_of(session, people)
    for person in people:
        mail = wishes.get(person, DEFAULT_MAIL)
        if mail == "never":
            continue
        due = session.now if urgent else due_after(session.now, "at_once" if soon else mail)
        slot = urgent or due.isoformat()
        enqueue(
            session,
            MAIL,
            {"person_id": str(person)},
            dedup=f"{MAIL}:{person}:{slot}",
            correlation_id=correlation_id,
            # What was told just before the slot may be committed just after it, and must find its mail still unsent.
            due_at=due + GRACE if due > session.now else due,
        )


async def wishes_of(session: Session, people: Collection[UUID]) -> dict[UUID, Mail]:
    """How these people want to be mailed, as far as they said so."""
    rows = await session.all("select person_id, mail from notify.preference where person_id = any(%s)", (list(people),))
    return dict(rows)


def due_after(now: datetime, mail: Mail) -> datetime:
    """When the next mail goes out to somebody who wants it so: in a minute, at the full hour, at six o'clock UTC.

    Even `at_once` leaves a minute, so that what happens together is told together.
    """
    minute = now.replace(second=0, microsecond=0)
    if mail == "at_once":
        return minute + timedelta(minutes=1 if now - minute < timedelta(seconds=30) else 2)
    if mail == "hourly":
        return minute.replace(minute=0) + timedelta(hours=1)
    six = minute.replace(hour=6, minute=0)
    return six if now < six else six + timedelta(days=1)
