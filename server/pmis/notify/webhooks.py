"""Outgoing webhooks: addresses outside that are told what happens here.

A hook belongs to a project, or to the instance, and to somebody who answers for it: whoever last said where it goes or
what it is told. It is told nothing that this person may not read in the log by then, and nothing at all once they may
not configure the project (administer the instance) any more. Its secrets lie in the vault, under a key of the hook's
own, which goes with it. What is done to it is in the log; its address is not, as many an address is a secret itself.
"""

from __future__ import annotations

import base64
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from pmis.jobs.queue import enqueue, id_of
from pmis.kit.egress import Egress
from pmis.kit.errors import ConflictError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.kit.signing import PREFIX
from pmis.ledger.event import Fact
from pmis.ledger.store import record
from pmis.policy.access import PERMISSIONS, Action, allowed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import Path
    from uuid import UUID

    from pmis.kit.db import Row, Session, WriteSession
    from pmis.ledger.event import Origin
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Principal

Because = Literal["person", "owner", "rights", "gone", "failing"]
STREAMS: Final = ("approval", "comment", "email", "package", "package_type", "party", "project", "task")
"""What hooks can be told of: the work. Who signs in, and who is let do what, is told to nobody outside."""
DELIVER: Final = "webhook.deliver"
PING: Final = "webhook.ping"
MAX_HOOKS: Final = 50
"""How many hooks a project, or the instance, can have: each is written down for every event that it is told of."""
_SECRET_BYTES: Final = 32
_MANAGERS: Final = (
    "select m.person_id from state.membership m join state.person p on p.id = m.person_id and p.active "
    "where m.project_id = %(project)s and m.roles && %(configuring)s::text[] "
    "union select id from state.person where %(project)s::uuid is null and active and instance_admin"
)
_CONFIGURING: Final = sorted(role for role, actions in PERMISSIONS.items() if Action.CONFIGURE in actions)
_COLUMNS: Final = (
    "h.id, h.version, h.project_id, h.person_id, h.url, h.description, h.types, h.include_payload, h.enabled, "
    "h.disabled_because, h.secret_ref, h.previous_ref, h.previous_until, h.failures, h.failing_since, h.open_until, "
    "h.created_at, h.updated_at"
)
SELECTED: Final = f"select {_COLUMNS} from webhook.hook h "  # noqa: S608 - made of a constant
"""Rows for `Hook`."""


class WebhookExistsError(ConflictError):
    """Another hook of the same place leads to the same address."""

    code = "webhook_exists"
    title = "There is a webhook to this address"


class TooManyWebhooksError(ConflictError):
    """A project, or the instance, has as many hooks as one can have."""

    code = "too_many_webhooks"
    title = "There are too many webhooks"


class WebhookOffError(ConflictError):
    """The hook is switched off, so that it is told nothing."""

    code = "webhook_off"
    title = "This webhook is switched off"


class DeliveryUnderWayError(ConflictError):
    """The delivery has not ended yet."""

    code = "delivery_under_way"
    title = "This is still being delivered"


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook as it stands."""

    id: UUID
    version: int
    project_id: UUID | None
    person_id: UUID
    url: str
    description: str
    types: Sequence[str]
    include_payload: bool
    enabled: bool
    disabled_because: Because | None
    secret_ref: str
    previous_ref: str | None
    previous_until: datetime | None
    failures: int
    failing_since: datetime | None
    open_until: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def host(self) -> str:
        """Where it leads, without what may be secret."""
        return urlsplit(self.url).hostname or ""

    def secret_refs(self, now: datetime) -> list[str]:
        """The secrets that sign at a moment: the present one, and for a while the one before it."""
        former = self.previous_ref if self.previous_until is not None and self.previous_until > now else None
        return [self.secret_ref, *([former] if former else [])]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a hook is to be."""

    url: str
    description: str
    types: Sequence[str]
    include_payload: bool


def networks_of(setting: str) -> list[str]:
    """The inside networks that may be called."""
    return [one.strip() for one in setting.split(",") if one.strip()]


def ports_of(setting: str) -> list[int]:
    """The ports that addresses may name."""
    return [int(one) for one in setting.split(",")]


def egress_of(networks: str, ports: str, ca_file: Path | None) -> Egress:
    """The way outside that the settings of these names describe."""
    return Egress(
        networks=networks_of(networks),
        ports=ports_of(ports),
        context=ssl.create_default_context(cafile=ca_file),
    )


def manages(principal: Principal, project: UUID | None) -> bool:
    """Whether somebody has the say over the hooks of a project, or (None) of the instance."""
    action = Action.ADMINISTER if project is None else Action.CONFIGURE
    return allowed(principal, action, project)


async def managers(session: Session, project: UUID | None) -> list[UUID]:
    """Everybody who has that say now."""
    values = {"project": project, "configuring": _CONFIGURING}
    return [person for (person,) in await session.all(_MANAGERS, values)]


async def find(session: Session, principal: Principal, identity: UUID | None, *, lock: bool = False) -> Hook:
    """The hook; raises NotFoundError for one over which the caller has no say, as for one that is not there."""
    row = None
    if identity is not None:
        row = await session.one(f"{SELECTED} where h.id = %s{' for no key update' if lock else ''}", (identity,))
    hook = Hook(*row) if row else None
    if hook is None or not manages(principal, hook.project_id):
        raise NotFoundError("There is no such webhook.")
    return hook


async def make(
    session: WriteSession, vault: Vault, principal: Principal, *, project: UUID | None, wish: Wish, origin: Origin
) -> tuple[Hook, str]:
    """A new hook, and its secret, which is never to be had again.

    Raises WebhookExistsError or TooManyWebhooksError. The caller has judged the address and the person.
    """
    count = await _require_free(session, project, wish.url)
    if count >= MAX_HOOKS:
        raise TooManyWebhooksError(f"There are {count} webhooks here. Delete those that nobody needs.")
    identity = uuid7()
    secret, ref = await _new_secret(session, vault, identity)
    await session.execute(
        "insert into webhook.hook (id, version, project_id, person_id, url, description, types, include_payload, "
        "enabled, secret_ref, created_at, updated_at) values (%s, 1, %s, %s, %s, %s, %s, %s, true, %s, %s, %s)",
        (
            identity,
            project,
            principal.person_id,
            wish.url,
            wish.description,
            list(wish.types),
            wish.include_payload,
            ref,
            session.now,
            session.now,
        ),
    )
    hook = await _read(session, identity)
    told = {"person_id": str(hook.person_id), "host": hook.host, "types": list(hook.types)}
    fact = Fact("webhook.created", {**told, "include_payload": hook.include_payload})
    record(session, "webhook", identity, fact, origin=origin, project_id=project)
    return hook, secret


async def change(
    session: WriteSession, principal: Principal, hook: Hook, wish: Wish, *, enabled: bool, origin: Origin
) -> Hook:
    """The hook as it is to be from now on. Who says where it goes, what it is told, or switches it on, answers for it.

    Raises WebhookExistsError. The hook is locked.
    """
    if wish.url != hook.url:
        await _require_free(session, hook.project_id, wish.url)
    before = Wish(hook.url, hook.description, hook.types, hook.include_payload)
    names = [
        name
        for name in ("url", "description", "types", "include_payload")
        if getattr(before, name) != getattr(wish, name)
    ]
    switched = enabled != hook.enabled
    if not names and not switched:
        return hook
    answers = set(names) - {"description"} or (switched and enabled)
    # An address that is new, or trusted again, begins anew.
    anew = "url" in names or (switched and enabled)
    await session.execute(
        "update webhook.hook set version = version + 1, url = %s, description = %s, types = %s, include_payload = %s, "
        "enabled = %s, disabled_because = %s, person_id = %s, updated_at = %s, "
        "failures = case when %s then 0 else failures end, "
        "failing_since = case when %s then null else failing_since end, "
        "open_until = case when %s then null else open_until end where id = %s",
        (
            wish.url,
            wish.description,
            list(wish.types),
            wish.include_payload,
            enabled,
            None if enabled else hook.disabled_because or "person",
            principal.person_id if answers else hook.person_id,
            session.now,
            anew,
            anew,
            anew,
            hook.id,
        ),
    )
    after = await _read(session, hook.id)
    told: dict[str, Any] = {"person_id": str(after.person_id), "changed": names, "host": after.host}
    if switched:
        told["enabled"] = enabled
    _tell(session, after, "webhook.changed", {**told, "types": list(after.types)}, origin)
    return after


async def rotate(
    session: WriteSession, vault: Vault, hook: Hook, *, overlap: timedelta, origin: Origin
) -> tuple[Hook, str]:
    """Another secret, and the hook. For the overlap the one before signs as well. The hook is locked."""
    secret, ref = await _new_secret(session, vault, hook.id)
    until = session.now + overlap if overlap else None
    await session.execute(
        "update webhook.hook set version = version + 1, secret_ref = %s, previous_ref = %s, previous_until = %s, "
        "updated_at = %s where id = %s",
        (ref, hook.secret_ref if until else None, until, session.now, hook.id),
    )
    after = await _read(session, hook.id)
    _tell(session, after, "webhook.secret_changed", {"former_until": until.isoformat() if until else None}, origin)
    return after, secret


async def remove(session: WriteSession, vault: Vault, hook: Hook, *, origin: Origin) -> None:
    """Take the hook away, with its secrets; what it was told goes with time, and is shown to nobody any more.

    The hook is locked.
    """
    fact = Fact("webhook.deleted", {"host": hook.host})
    record(session, "webhook", hook.id, fact, origin=origin, project_id=hook.project_id, version=hook.version + 1)
    await session.execute("delete from webhook.hook where id = %s", (hook.id,))
    await vault.destroy(session, hook.id)


async def switch_off(session: WriteSession, hook: Hook, because: Because, *, origin: Origin) -> bool:
    """Switch the hook off for a reason of its own; false when it was off already."""
    changed = await session.execute(
        "update webhook.hook set enabled = false, disabled_because = %s, version = version + 1, updated_at = %s "
        "where id = %s and enabled",
        (because, session.now, hook.id),
    )
    if not changed:
        return False
    _tell(session, await _read(session, hook.id), "webhook.disabled", {"because": because}, origin)
    return True


async def ping(session: WriteSession, hook: Hook, *, origin: Origin) -> UUID:
    """Have the hook told of nothing, to see whether it listens; the delivery's id. The hook is locked.

    Raises WebhookOffError.
    """
    _require_on(hook)
    identity = uuid7()
    await session.execute(
        "insert into webhook.delivery (id, hook_id, project_id, type, job_id) values (%s, %s, %s, %s, %s)",
        (identity, hook.id, hook.project_id, PING, id_of(_key(identity, 0))),
    )
    _accept(session, identity, 0, project=hook.project_id, event=None, origin=origin)
    await session.execute("update webhook.hook set version = version + 1 where id = %s", (hook.id,))
    after = await _read(session, hook.id)
    _tell(session, after, "webhook.pinged", {"delivery_id": str(identity)}, origin)
    return identity


async def redeliver(session: WriteSession, hook: Hook, delivery: UUID, *, origin: Origin) -> None:
    """Have something that has ended told again, under the same id. The hook is locked.

    Raises WebhookOffError, NotFoundError or DeliveryUnderWayError.
    """
    row = await session.one(
        "select d.status, d.round, d.event_id, j.status from webhook.delivery d "
        "left join jobs.job j on j.id = d.job_id where d.id = %s and d.hook_id = %s for update of d",
        (delivery, hook.id),
    )
    if row is None:
        raise NotFoundError("There is no such delivery.")
    _require_on(hook)
    status, number, event, job = row
    if status == "pending" and job not in ("dead", "cancelled", None):  # None: its job ended so long ago
        raise DeliveryUnderWayError("It has not ended yet: wait, or look at its attempts.")
    # Somebody may lay the dead letter aside just now, and then it is another job's.
    if not await session.all(
        "select jobs.retry(array(select job_id from webhook.delivery where id = %s and status = 'pending'))",
        (delivery,),
    ):
        await _again(session, delivery, number + 1)
        _accept(session, delivery, number + 1, project=hook.project_id, event=event, origin=origin)
    await session.execute("update webhook.hook set version = version + 1 where id = %s", (hook.id,))
    after = await _read(session, hook.id)
    _tell(session, after, "webhook.redelivered", {"delivery_id": str(delivery)}, origin)


async def _again(session: WriteSession, delivery: UUID, number: int) -> None:
    """Let the delivery wait for another job, the one that `_accept` makes of the same number."""
    await session.execute(
        "update webhook.delivery set status = 'pending', round = %s, job_id = %s where id = %s",
        (number, id_of(_key(delivery, number)), delivery),
    )


def _accept(
    session: WriteSession, delivery: UUID, number: int, *, project: UUID | None, event: UUID | None, origin: Origin
) -> None:
    """Accept the job that delivers it for the first time (0), or again."""
    enqueue(
        session,
        DELIVER,
        {"delivery_id": str(delivery)},
        dedup=_key(delivery, number),
        correlation_id=origin.correlation_id,
        project_id=project,
        event_id=event,
    )


def _key(delivery: UUID, number: int) -> str:
    """The key of the job, as `webhook.offer` makes it."""
    return f"{DELIVER}:{delivery}:{number}"


def _require_on(hook: Hook) -> None:
    if not hook.enabled:
        raise WebhookOffError("It is switched off, and is told nothing. Switch it on first.")


async def _require_free(session: WriteSession, project: UUID | None, url: str) -> int:
    """How many hooks there are; raises WebhookExistsError when one leads there. One after the other from here on."""
    await session.one("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"webhooks of {project}",))
    rows = await session.all("select url from webhook.hook where project_id is not distinct from %s", (project,))
    if any(one == url for (one,) in rows):
        raise WebhookExistsError("url: a webhook here leads to this address already. Change that one.")
    return len(rows)


async def _new_secret(session: WriteSession, vault: Vault, hook: UUID) -> tuple[str, str]:
    secret = PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    return secret, await vault.seal(session, hook, {"webhook_secret": secret})


async def _read(session: Session, identity: UUID) -> Hook:
    row: Row | None = await session.one(f"{SELECTED} where h.id = %s", (identity,))
    if row is None:
        raise NotFoundError("There is no such webhook.")
    return Hook(*row)


def _tell(session: WriteSession, hook: Hook, kind: str, payload: dict[str, Any], origin: Origin) -> None:
    """Write down what was done; `hook` is as it is after that."""
    fact = Fact(kind, payload)
    record(session, "webhook", hook.id, fact, origin=origin, project_id=hook.project_id, version=hook.version)
