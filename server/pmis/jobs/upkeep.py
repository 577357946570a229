"""Jobs that keep the place in order: approvals whose time runs out, and what was kept long enough."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - Pydantic reads it
from typing import TYPE_CHECKING, Any, Final

from pmis.approval.decide import escalate_due, expire_due
from pmis.identity import invitations
from pmis.identity.apitokens import prune as prune_tokens
from pmis.identity.sessions import Lifetimes
from pmis.identity.sessions import prune as prune_sessions
from pmis.jobs.registry import Payload, job
from pmis.ledger.idempotency import prune
from pmis.ledger.outbox import promise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pmis.jobs.registry import Work

_BATCH: Final = 500
_SLOT_DAYS: Final = 30


class Slot(Payload):
    """The slot of a schedule."""

    slot: datetime


@job("approvals.expire", Slot)
async def expire_approvals(_: Slot, work: Work) -> dict[str, Any]:
    """End the approvals that nobody decided in time. Once ended they are not found again."""
    return {"expired": await _in_batches(work, expire_due, "approvals expired")}


@job("approvals.escalate", Slot)
async def escalate_approvals(_: Slot, work: Work) -> dict[str, Any]:
    """Bypass upward who stayed silent. Once escalated an approval is not found again."""
    return {"escalated": await _in_batches(work, escalate_due, "approvals escalated")}


async def _in_batches(work: Work, step: Callable[..., Awaitable[int]], text: str) -> int:
    """Take the step, each time in a transaction of its own, until it finds no whole batch; how much it found."""
    done = 0
    while True:
        async with work.write() as session:
            found = await step(session, limit=_BATCH)
            await session.commit()
        done += found
        if found < _BATCH:
            return done
        await work.tell(done, text=text)


@job("invitations.expire", Slot)
async def expire_invitations(_: Slot, work: Work) -> dict[str, Any]:
    """End the invitations that nobody accepted in time, and forget where they went. Once ended they are not found."""
    return {"expired": await _in_batches(work, invitations.expire_due, "invitations expired")}


_TO_REMIND: Final = """
select a.id, e.id, a.number from (
    select id, floor(extract(epoch from %(now)s - (doc::json ->> 'created_at')::timestamptz) / 3600
        / (doc::json -> 'decision' ->> 'remind_hours')::numeric)::int as number
    from state.approval
    where status in ('pending', 'confirmation_required') and (doc::json -> 'decision' ->> 'remind_hours') is not null
      and (expires_at is null or expires_at > %(now)s)
) as a
join ledger.event e on e.stream_id = a.id and e.stream_version = 1
where a.number >= 1
  and not exists (select from ledger.outbox o where o.key = 'reminded:' || a.id || ':' || a.number)
order by a.id limit %(limit)s
"""


@job("approvals.remind", Slot)
async def remind_of_approvals(_: Slot, work: Work) -> dict[str, Any]:
    """Promise a reminder of every approval that has waited for one, two, ... times its `remind_hours`.

    Each once: the promise's key names the approval and which reminder it is. Of reminders that were missed only the
    newest is given.
    """
    given = 0
    while True:
        async with work.write() as session:
            rows = await session.all(_TO_REMIND, {"now": work.clock.now(), "limit": _BATCH})
            for identity, event, number in rows:
                promise(
                    session,
                    "approval.reminder",
                    key=f"reminded:{identity}:{number}",
                    event_id=event,
                    payload={"approval_id": str(identity), "reminder": number},
                )
            await session.commit()
        given += len(rows)
        if len(rows) < _BATCH:
            return {"reminders": given}


@job("upkeep.prune", Slot)
async def prune_everything(_: Slot, work: Work) -> dict[str, Any]:
    """Forget answers to idempotency keys, sign-ins, API tokens, jobs and slots that ended and were kept long."""
    settings = work.settings
    jobs = 0
    async with work.write() as session:
        answers = await prune(session, settings.idempotency_days)
        signed_in = await prune_sessions(session, now=work.clock.now(), lifetimes=Lifetimes.of(settings))
        tokens = await prune_tokens(session, now=work.clock.now())
        await session.commit()
    while True:
        async with work.write() as session:
            row = await session.one("select jobs.prune(%s, %s, %s)", (settings.job_keep_days, _SLOT_DAYS, _BATCH))
            await session.commit()
        gone = int(row[0]) if row else 0
        jobs += gone
        if gone < _BATCH:
            return {"answers": answers, "sessions": signed_in, "tokens": tokens, "jobs": jobs}
