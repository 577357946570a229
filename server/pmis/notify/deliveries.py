"""The job that tells a webhook of an event: at least once, always under the same id.

What is told is looked up, and whoever answers for the hook is judged, at each attempt. A receiver that fails is tried
again as every job is; one that fails again and again is left alone for a while (a circuit breaker: then one call, and
if that fails too, a longer while), and in the end for good.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - pydantic reads the annotations

from pmis.identity.principals import load_principal
from pmis.jobs.registry import GiveUpError, Payload, Work, job
from pmis.kit import signing
from pmis.kit.canonical import canonical
from pmis.kit.egress import AddressRefusedError, CallFailedError, Egress
from pmis.kit.errors import PmisError, UnauthenticatedError
from pmis.ledger.event import Actor, Origin
from pmis.notify.spread import tell_person
from pmis.notify.webhooks import (
    DELIVER,
    PING,
    SELECTED,
    Because,
    Hook,
    egress_of,
    managers,
    manages,
    switch_off,
)
from pmis.policy.access import Action, allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.kit.db import Session, WriteSession
    from pmis.kit.egress import Answer
    from pmis.kit.settings import Settings

ACTOR: Final = Actor("system:webhooks", "Webhooks")
_PROBE_SECONDS: Final = 10
"""How long others wait while one call finds out whether the receiver is back."""
_LONGEST_REST: Final = 4
"""How often the rest doubles."""
_GONE: Final = 410
_FORGOTTEN: Final = timedelta(days=1)
_WHY: Final[dict[Because, str]] = {
    "owner": "Whoever answered for it is not active any more. Who switches it on again answers for it.",
    "rights": "Whoever answered for it may not configure it any more. Who switches it on again answers for it.",
    "gone": "Its receiver answered 410: it is gone for good.",
    "failing": "Its receiver has taken nothing for days.",
}


class Told(Payload):
    """What is to be delivered."""

    delivery_id: UUID


class ReceiverFailedError(PmisError):
    """The receiver answered, and not that it took the message."""

    code = "receiver_failed"
    status = 502
    title = "The receiver did not take it"


@dataclass(frozen=True)
class Delivery:
    """One event for one hook."""

    id: UUID
    event_id: UUID | None
    project_id: UUID | None
    type: str
    status: str
    created_at: datetime

    @property
    def message_id(self) -> str:
        """What the receiver knows it by, however often it comes."""
        return str(self.event_id or self.id)


@dataclass(frozen=True)
class Message:
    """What goes out, to where."""

    delivery: Delivery
    hook: Hook
    body: bytes
    secrets: list[str]


@job(DELIVER, Told)
async def deliver(said: Told, work: Work) -> dict[str, Any]:
    """Tell one hook of one event, unless it was told, or is to be told no more."""
    message = await _prepared(said.delivery_id, work)
    if isinstance(message, dict):
        return message
    now = work.clock.now()
    headers = signing.headers_of(message.secrets, message.delivery.message_id, int(now.timestamp()), message.body)
    headers |= {"Content-Type": "application/json", "User-Agent": "PMIS"}
    answer, failure = None, None
    try:
        answer = await way_out(work.settings).post(message.hook.url, message.body, headers)
    except (AddressRefusedError, CallFailedError) as error:
        failure = error
    if answer is not None and 200 <= answer.status < 300:  # noqa: PLR2004 - what HTTP calls success
        return await _delivered(message, answer, work)
    return await _failed(message, answer, failure, work)


def way_out(settings: Settings) -> Egress:
    """The way outside, made once: reading certificates takes longer than most calls do."""
    return _way_out(settings.webhook_networks, settings.webhook_ports, settings.webhook_ca_file)


_way_out = lru_cache(maxsize=1)(egress_of)


def origin_of(work: Work) -> Origin:
    """Where facts come from that a delivery causes."""
    return Origin(ACTOR, "job", work.job.correlation_id)


async def _prepared(identity: UUID, work: Work) -> Message | dict[str, Any]:
    """The message; or, when there is nothing to send (now), what became of the job, which has ended."""
    async with work.write() as session:
        row = await session.one(
            "select d.id, d.event_id, d.project_id, d.type, d.status, d.created_at, d.hook_id "
            "from webhook.delivery d where d.id = %s",
            (identity,),
        )
        found = await session.one(f"{SELECTED} where h.id = %s for no key update", (row[-1],)) if row else None
        if row is None or found is None:
            await session.execute("delete from webhook.delivery where id = %s", (identity,))
            return await _end(session, work, "deleted")
        delivery, hook = Delivery(*row[:-1]), Hook(*found)
        if delivery.status != "pending":
            return await _end(session, work, delivery.status)
        outcome = await _withheld(session, delivery, hook, work)
        if outcome is not None:
            return await _end(session, work, outcome)
        until = await _resting(session, hook)
        if until is not None:
            work.put_off(session, until)
            await session.commit()
            return {"outcome": "put off"}
        opened = await work.vault.open(session, refs := hook.secret_refs(work.clock.now()))
        secrets = [opened[ref]["webhook_secret"] for ref in refs if opened[ref]]
        body = await body_of(session, delivery, include_payload=hook.include_payload)
        await session.commit()
    if not secrets:
        raise GiveUpError("The webhook's secret cannot be opened; make another one.")
    return Message(delivery, hook, body, secrets)


async def _end(session: WriteSession, work: Work, outcome: str) -> dict[str, Any]:
    result = {"outcome": outcome}
    work.finish(session, result)
    await session.commit()
    return result


async def _withheld(session: WriteSession, delivery: Delivery, hook: Hook, work: Work) -> str | None:
    """Why it is not to be told, if so, and that is done already."""
    if not hook.enabled:
        await _stop(session, delivery)
        return "stopped"
    try:
        principal = await load_principal(session, hook.person_id)
    except UnauthenticatedError:
        principal = None
    if principal is None or not manages(principal, hook.project_id):
        await _switch_off(session, hook, "owner" if principal is None else "rights", work)
        await _stop(session, delivery)
        return "stopped"
    if delivery.event_id is not None and not allowed(principal, Action.READ_AUDIT, delivery.project_id):
        # Not even that there was something: who looks after the hook may see no more than its owner.
        await session.execute("delete from webhook.delivery where id = %s", (delivery.id,))
        return "withheld"
    return None


async def _stop(session: WriteSession, delivery: Delivery) -> None:
    await session.execute("update webhook.delivery set status = 'stopped' where id = %s", (delivery.id,))


async def _resting(session: WriteSession, hook: Hook) -> datetime | None:
    """Until when the delivery is to be put off, while the receiver is left alone. The hook is locked."""
    if hook.open_until is None:
        return None
    now = session.now
    if hook.open_until <= now:
        # This one finds out; whoever comes meanwhile looks again soon.
        until = now + timedelta(seconds=_PROBE_SECONDS)
        # A receiver that nobody called for a day may have been well for most of it.
        since = now if hook.open_until < now - _FORGOTTEN else None
        await session.execute(
            "update webhook.hook set open_until = %s, failing_since = coalesce(%s, failing_since) where id = %s",
            (until, since, hook.id),
        )
        return None
    return hook.open_until + timedelta(seconds=random.random() * _PROBE_SECONDS)  # noqa: S311 - not all at once


async def body_of(session: Session, delivery: Delivery, *, include_payload: bool) -> bytes:
    """What is said: which record, of what kind, and which fields changed; what stands in them only where asked for."""
    if delivery.event_id is None:
        said: dict[str, Any] = {"type": PING, "timestamp": delivery.created_at.isoformat(), "data": {}}
        return canonical(said).encode()
    row = await session.one(
        "select stream_type, stream_id, stream_version, project_id, occurred_at, actor, payload::json "
        "from ledger.event where id = %s",
        (delivery.event_id,),
    )
    if row is None:
        raise GiveUpError(f"There is no event {delivery.event_id}.")
    kind, identity, version, project, at, actor, payload = row
    changes: dict[str, Any] | None = payload.get("changes")
    data: dict[str, Any] = {
        "event_id": str(delivery.event_id),
        "entity_type": kind,
        "entity_id": str(identity),
        "version": version,
        "project_id": str(project) if project else None,
        "changed": sorted(changes or ()),
    }
    if include_payload:
        data |= {"actor": actor, "payload": payload}
    return canonical({"type": delivery.type, "timestamp": at.isoformat(), "data": data}).encode()


_TRIED: Final = (
    "update webhook.delivery set attempts = attempts + 1, tried_at = %s, answer = %s, error = %s, milliseconds = %s, "
    "status = %s where id = %s"
)


async def _delivered(message: Message, answer: Answer, work: Work) -> dict[str, Any]:
    result = {"outcome": "delivered", "answer": answer.status}
    async with work.write() as session:
        # The hook first, as everybody locks them in this order.
        await session.execute(
            "update webhook.hook set failures = 0, failing_since = null, open_until = null "
            "where id = %s and (failures > 0 or open_until is not null)",
            (message.hook.id,),
        )
        taken = round(answer.seconds * 1000)
        await session.execute(_TRIED, (session.now, answer.status, None, taken, "delivered", message.delivery.id))
        work.finish(session, result)
        await session.commit()
    return result


async def _failed(message: Message, answer: Answer | None, failure: PmisError | None, work: Work) -> dict[str, Any]:
    """Write down what went wrong; raises it, so that the job is tried again, unless the receiver is gone for good."""
    settings, hook = work.settings, message.hook
    error = failure or ReceiverFailedError(_words(answer))
    async with work.write() as session:
        taken = round(answer.seconds * 1000) if answer else None
        status = answer.status if answer else None
        gone = status == _GONE
        row = await session.one(
            # Since it was first left alone; the time before, in which nobody may have called, says nothing.
            "update webhook.hook set failures = failures + 1, failing_since = "
            "case when open_until is null then %(now)s else coalesce(failing_since, %(now)s) end, "
            "open_until = case when failures + 1 >= %(most)s then %(now)s + make_interval(secs => "
            "%(rest)s * power(2, least(failures + 1 - %(most)s, %(longest)s))) end "
            "where id = %(id)s and url = %(url)s and enabled returning failures, failing_since",
            {
                "now": session.now,
                "most": settings.webhook_breaker_failures,
                "rest": settings.webhook_breaker_seconds,
                "longest": _LONGEST_REST,
                "id": hook.id,
                "url": hook.url,
            },
        )
        # Of an address that is another one by now, or of a delivery that succeeded meanwhile, it says nothing.
        gone = gone and row is not None
        await session.execute(
            f"{_TRIED} and status = 'pending'",
            (session.now, status, error.detail, taken, "stopped" if gone else "pending", message.delivery.id),
        )
        if row is not None:
            await _judge(session, hook, failures=row[0], since=row[1], gone=gone, work=work)
        result = {"outcome": "stopped", "answer": status}
        if gone:
            work.finish(session, result)
        await session.commit()
    if gone:
        return result
    if isinstance(error, AddressRefusedError):
        raise GiveUpError(error.detail)
    raise error


def _words(answer: Answer | None) -> str:
    status = answer.status if answer else 0
    if 300 <= status < 400:  # noqa: PLR2004 - the redirects of HTTP
        return f"The receiver answered {status}; redirects are not followed. Enter the address that it leads to."
    return f"The receiver answered {status}."


async def _judge(session: WriteSession, hook: Hook, *, failures: int, since: datetime, gone: bool, work: Work) -> None:
    """Tell whoever answers for the hook when it rests for the first time, and switch it off when that is enough."""
    settings = work.settings
    if failures >= settings.webhook_breaker_failures:
        since_then = f"webhook.failing:{hook.id}:{since.isoformat()}"
        await _warn(session, hook, [hook.person_id], "webhook.failing", since_then, work)
    too_long = failures >= settings.webhook_breaker_failures and session.now - since > timedelta(
        days=settings.webhook_disable_days
    )
    if gone or too_long:
        await _switch_off(session, hook, "gone" if gone else "failing", work)


async def _switch_off(session: WriteSession, hook: Hook, because: Because, work: Work) -> None:
    """Switch the hook off, and tell all who can switch it on again; whoever answered for it may be none of them."""
    if await switch_off(session, hook, because, origin=origin_of(work)):
        people = await managers(session, hook.project_id)
        key = f"webhook.disabled:{hook.id}:{hook.version}"
        await _warn(session, hook, people, "webhook.disabled", key, work, reason=_WHY[because])


async def _warn(
    session: WriteSession, hook: Hook, people: Sequence[UUID], kind: str, key: str, work: Work, *, reason: str = ""
) -> None:
    doc = {
        "kind": kind,
        "entity_type": "webhook",
        "entity_id": str(hook.id),
        "label": hook.description or hook.host,
        "urgent": False,
        "from": "",
        "reason": reason,
    }
    for person in people:
        await tell_person(
            session,
            person,
            key=key,
            about=hook.id,
            project=hook.project_id,
            doc=doc,
            by_mail=work.settings.smtp_server is not None,
            correlation_id=work.job.correlation_id,
        )
