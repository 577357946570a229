"""What becomes of the approvals in which somebody has a seat, once they are disabled.

A seat goes to the named successor only where the successor could sit by their own roles: handing over gives nobody a
role, and nobody decides their own change by it. Everything else stays with whoever else the approval asks for, as they
are looked up at each decision. What waits for the person's own yes and nobody else's is taken back. Each is an event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pmis.approval.models import APPROVALS, Approval
from pmis.approval.propose import waiting_steps
from pmis.identity.principals import load_principal
from pmis.kit.errors import UnauthenticatedError
from pmis.ledger.event import Fact
from pmis.ledger.outbox import promise
from pmis.ledger.store import append
from pmis.policy.approvers import Delegation, Order, Round, Step, Verdict, Vote, open_steps
from pmis.policy.arbitrate import Decision

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.identity.models import Person
    from pmis.kit.db import WriteSession
    from pmis.ledger.event import Event, Origin
    from pmis.policy.access import Principal, Role

_OPEN: Final = (
    "select a.doc from state.approval a where a.status in ('pending', 'confirmation_required') "
    "and (a.project_id is null or a.project_id = any(%(projects)s) "
    "or a.doc::json -> 'proposer' ->> 'person_id' = %(person)s::text) "
    "and (a.expires_at is null or a.expires_at > %(at)s) "
    "and not exists (select from state.approval_target t where t.approval_id = a.id and t.target_id = %(person)s) "
    "order by a.id for update"
)
_LENT: Final = (
    "select project_id, from_person, to_person, starts_at, ends_at from state.delegation "
    "where not revoked and starts_at <= %s and ends_at > %s"
)


async def hand_over(session: WriteSession, leaver: Person, origin: Origin) -> list[Event]:
    """Hand over the open approvals of somebody who was just disabled; the events that say so.

    Approvals of changes of the leaver themselves are left out: whatever changed the leaver makes them void. Done
    again, it does nothing.
    """
    principal = await load_principal(session, leaver.id, active=False)
    try:
        successor = await load_principal(session, leaver.hand_over_to) if leaver.hand_over_to else None
    except UnauthenticatedError:
        successor = None  # disabled in turn: nobody is
    rows = await session.all(_OPEN, {"projects": sorted(principal.projects), "person": leaver.id, "at": session.now})
    if not rows:
        return []
    lent = [
        Delegation(giver, taker, starts, ends, project)
        for project, giver, taker, starts, ends in await session.all(_LENT, (session.now, session.now))
    ]
    events: list[Event] = []
    for (doc,) in rows:
        approval = Approval.model_validate_json(doc)
        if approval.status == "confirmation_required":
            if approval.proposer.person_id == leaver.id:
                fact = Fact("approval.withdrawn", {"reason": f"{leaver.name}, who was to confirm it, was disabled"})
                events += _append(session, approval, fact, "approval.ended", f"ended:{approval.id}", origin)
            continue
        round_ = _round(approval, tuple(lent), session)
        steps = _steps_of(round_, principal)
        if not steps or _is_handed_over(await _told(session, approval.id), leaver.id, successor):
            continue
        taken = _taken(round_, steps, successor)
        to = successor if taken and successor else None
        after = tuple(_replaced(step, leaver.id, to) if step.id in taken else step for step in round_.steps)
        told: dict[str, Any] = {
            "from_person": str(leaver.id),
            "from_name": leaver.name,
            "to_person": str(to.id) if to else None,
            "to_name": to.name if to else None,
            "for_steps": sorted(taken or steps),
            "steps": [step.to_json() for step in after],
            "open_steps": waiting_steps(replace(round_, steps=after)),
        }
        key = f"handed_over:{approval.id}:{approval.version + 1}"
        events += _append(session, approval, Fact("approval.handed_over", told), "approval.handed_over", key, origin)
    return events


def _append(session: WriteSession, approval: Approval, fact: Fact, topic: str, key: str, origin: Origin) -> list[Event]:
    after, events = append(
        session, APPROVALS, approval, [fact], origin=origin, stream_id=approval.id, project_id=approval.project_id
    )
    payload = {"approval_id": str(approval.id), "status": after.status}
    promise(session, topic, key=key, event_id=events[0].id, payload=payload)
    return events


def _round(approval: Approval, lent: tuple[Delegation, ...], session: WriteSession) -> Round:
    decision = Decision.from_json(approval.decision)
    return Round(
        steps=decision.steps,
        order=Order.PARALLEL,  # whose turn it is makes no difference to whose seat it is
        at=session.now,
        proposers=frozenset({approval.proposer.person_id} if approval.proposer.person_id else ()),
        votes=tuple(
            Vote(vote.person_id, vote.seat_person_id, vote.step, Verdict(vote.verdict), vote.exception)
            for vote in approval.verdicts
        ),
        delegations=lent,
        project_id=approval.project_id,
    )


def _roles(principal: Principal, round_: Round) -> frozenset[Role]:
    return principal.roles_in(round_.project_id)


def _may_sit(round_: Round, person: UUID) -> bool:
    return person not in round_.proposers | round_.barred() | round_.counted()


def _steps_of(round_: Round, leaver: Principal) -> set[str]:
    """The steps that wait, among others, for somebody."""
    person = leaver.person_id
    if person is None or not _may_sit(round_, person):
        return set()
    return {one.step.id for one in open_steps(round_) if one.step.asks_for(person, _roles(leaver, round_))}


def _taken(round_: Round, steps: set[str], successor: Principal | None) -> set[str]:
    """Those of the steps in which the successor could sit by their own roles."""
    if successor is None or successor.person_id is None or not _may_sit(round_, successor.person_id):
        return set()
    roles = _roles(successor, round_)
    return {step.id for step in round_.steps if step.id in steps and not roles.isdisjoint(step.roles)}


def _replaced(step: Step, leaver: UUID, successor: Principal | None) -> Step:
    """The step with the successor named in place of the leaver, where it names people."""
    if successor is None or successor.person_id is None or leaver not in step.people:
        return step
    others = [person for person in step.people if person not in (leaver, successor.person_id)]
    return replace(step, people=(*others, successor.person_id))


async def _told(session: WriteSession, approval: UUID) -> list[tuple[str, str | None]]:
    rows = await session.all(
        "select payload::json ->> 'from_person', payload::json ->> 'to_person' from ledger.event "
        "where stream_id = %s and type = 'approval.handed_over'",
        (approval,),
    )
    return [(giver, taker) for giver, taker in rows]


def _is_handed_over(told: list[tuple[str, str | None]], leaver: UUID, successor: Principal | None) -> bool:
    """Whether the approval was handed over already, and another successor would change nothing."""
    return any(giver == str(leaver) and (taker is not None or successor is None) for giver, taker in told)
