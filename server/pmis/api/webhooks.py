"""Outgoing webhooks over HTTP: for whoever configures a project, or administers the instance, in person."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, etag, if_match, require_good_key, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.resources import id_after, limit_of, next_link, project_named
from pmis.api.secondfactor import require_recent
from pmis.approval.governed import Input, parse_input
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.egress import require_good
from pmis.kit.errors import InvalidInputError, NotFoundError, StaleVersionError
from pmis.kit.paging import decode_cursor, encode_cursor, foreign_cursor
from pmis.kit.text import Line, Paragraph, one_line
from pmis.ledger.idempotency import Answer
from pmis.notify import webhooks
from pmis.notify.webhooks import STREAMS, Hook, Wish, networks_of, ports_of
from pmis.policy.access import Action, authorize
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from pmis.kit.db import Row, Session, WriteSession
    from pmis.kit.settings import Settings

router = docs.RouteTable("webhooks")
_NOBODY_ELSE: Final = "Only for whoever configures the project, or, for one of the instance, administers that."
State = Literal["waiting", "delivered", "failed", "stopped"]
STATES: Final = ("waiting", "delivered", "failed", "stopped")

EventType = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(STREAMS)})\.(\*|[a-z_]{{1,60}})$")]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(one_line)]
_TYPES: Final = (
    "Which events: their types, or all of a kind of record, such as `package.*`. Kinds: " + ", ".join(STREAMS) + "."
)
_URL: Final = "Where it goes: `https`, with the full name of a host that lies outside."
_PAYLOAD: Final = (
    "Whether it is told what changed, which may hold what people wrote. Without, it is told which record and which "
    "fields, and asks the API for the rest."
)


class WebhookCreate(Input):
    """An address that is to be told what happens."""

    url: Address = Field(description=_URL, examples=["https://hooks.example.org/pmis"])
    types: list[EventType] = Field(min_length=1, max_length=50, description=_TYPES, examples=[["package.*"]])
    project: Annotated[Line, StringConstraints(max_length=40)] | None = Field(
        default=None,
        description=(
            "The project, by prefix or id, whose events it is told. Without it: of the instance, and of every project "
            "whose log the caller may read."
        ),
    )
    description: Annotated[Paragraph, StringConstraints(max_length=500)] = Field(
        default="", description="What it is for.", examples=["Tells the warehouse."]
    )
    include_payload: bool = Field(default=False, description=_PAYLOAD, examples=[False])


class WebhookPatch(Input):
    """What is to be different. Whoever changes more than words, or switches it on, answers for it from then on."""

    url: Address | None = Field(default=None, description=_URL)
    types: list[EventType] | None = Field(default=None, min_length=1, max_length=50, description=_TYPES)
    description: Annotated[Paragraph, StringConstraints(max_length=500)] | None = Field(
        default=None, description="What it is for.", examples=["Tells the other warehouse."]
    )
    include_payload: bool | None = Field(default=None, description=_PAYLOAD)
    enabled: bool | None = Field(default=None, description="Whether it is told anything.")


class WebhookSecretChange(Input):
    """A change of the secret."""

    overlap_hours: int = Field(
        default=24,
        ge=0,
        le=168,
        description="For how long messages are signed with the former secret as well. 0: it is given up at once.",
        examples=[24],
    )


class WebhookOut(BaseModel):
    """A webhook, without its secret."""

    id: UUID
    version: int
    project_id: UUID | None = Field(description="Null: it belongs to the instance.")
    person_id: UUID = Field(description="Who answers for it: it is told what they may read in the log.")
    url: str
    description: str
    types: list[str]
    include_payload: bool
    enabled: bool
    disabled_because: Literal["person", "owner", "rights", "gone", "failing"] | None = Field(
        description=(
            "Switched off by a `person`; as its `owner` was disabled, or lost the `rights`; as the receiver is `gone` "
            "(410), or has been `failing` for days."
        )
    )
    failures: int = Field(description="How many calls in a row failed.")
    failing_since: datetime | None
    resting_until: datetime | None = Field(description="Until when nobody is called, as too many calls failed.")
    former_secret_until: datetime | None = Field(description="Until when the former secret signs as well.")
    created_at: datetime
    updated_at: datetime


class NewWebhook(WebhookOut):
    """A webhook with its secret."""

    secret: str = Field(description="What messages are signed with (Standard Webhooks). It is shown this once.")


class WebhookList(BaseModel):
    """Webhooks, the newest first."""

    items: list[WebhookOut]
    next: str | None


class WebhookDeleted(BaseModel):
    """How many webhooks were deleted."""

    deleted: int


class DeliveryOut(BaseModel):
    """What a webhook was told, or is to be told."""

    id: UUID
    event_id: UUID | None = Field(description="The event, whose id is the message's `webhook-id`. A ping has none.")
    project_id: UUID | None
    type: str
    status: State = Field(
        description="`waiting` for its (next) attempt, `delivered`, `failed` for good, or `stopped` with the webhook."
    )
    attempts: int = Field(description="How often the receiver was called.")
    answer: int | None = Field(description="The HTTP status of the last answer.")
    error: str | None = Field(description="What went wrong the last time.")
    milliseconds: int | None = Field(description="How long the last answer took.")
    job_id: UUID
    created_at: datetime
    tried_at: datetime | None


class DeliveryList(BaseModel):
    """What a webhook was told, the newest first."""

    items: list[DeliveryOut]
    next: str | None


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def shown(hook: Hook, now: datetime) -> dict[str, Any]:
    """The hook as answers show it."""
    return {
        "id": str(hook.id),
        "version": hook.version,
        "project_id": str(hook.project_id) if hook.project_id else None,
        "person_id": str(hook.person_id),
        "url": hook.url,
        "description": hook.description,
        "types": list(hook.types),
        "include_payload": hook.include_payload,
        "enabled": hook.enabled,
        "disabled_because": hook.disabled_because,
        "failures": hook.failures,
        "failing_since": _time(hook.failing_since),
        "resting_until": _time(hook.open_until),
        "former_secret_until": _time(hook.previous_until) if len(hook.secret_refs(now)) > 1 else None,
        "created_at": _time(hook.created_at),
        "updated_at": _time(hook.updated_at),
    }


_DELIVERIES: Final = """
select * from (
    select d.number, d.id, d.event_id, d.project_id, d.type, case when d.status <> 'pending' then d.status
        when j.status is null or j.status in ('dead', 'cancelled') then 'failed' else 'waiting' end as state,
        d.attempts, d.answer, d.error, d.milliseconds, d.job_id, d.created_at, d.tried_at
    from webhook.delivery d left join jobs.job j on j.id = d.job_id
    where d.hook_id = %(hook)s and (%(id)s::uuid is null or d.id = %(id)s)
        and (%(after)s::bigint is null or d.number < %(after)s)
        and (d.project_id is null or d.project_id = any(%(projects)s))
        and (%(state)s::text is null or (d.status = 'delivered') = (%(state)s = 'delivered'))
) as told where %(state)s::text is null or state = %(state)s order by number desc limit %(limit)s
"""


def _delivery(row: Row) -> dict[str, Any]:
    _, identity, event, project, kind, state, attempts, answer, error, taken, job, created, tried = row
    return {
        "id": str(identity),
        "event_id": str(event) if event else None,
        "project_id": str(project) if project else None,
        "type": kind,
        "status": state,
        "attempts": attempts,
        "answer": answer,
        "error": error,
        "milliseconds": taken,
        "job_id": str(job),
        "created_at": _time(created),
        "tried_at": _time(tried),
    }


async def _told(session: Session, call: Call, hook: UUID, **more: UUID | str | int | None) -> list[Row]:
    """What the hook was told, as far as the caller may read it in the log."""
    projects = await readable_projects(session, call.principal, Action.READ_AUDIT)
    values = {"hook": hook, "id": None, "after": None, "state": None, "limit": 1, "projects": projects}
    return await session.all(_DELIVERIES, {**values, **more})


def _require_good(settings: Settings, url: str) -> None:
    require_good(url, networks_of(settings.webhook_networks), ports_of(settings.webhook_ports))


async def list_webhooks(request: Request) -> Response:
    """The webhooks over which the caller has a say."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"project", "cursor", "limit"}))
    limit, after = limit_of(request), id_after(request)
    given = request.query_params.get("project")
    async with call.parts.database.read(call.reach) as session:
        only = await project_named(session, call.principal, given) if given is not None else None
        mine = await readable_projects(session, call.principal, Action.CONFIGURE)
        rows = await session.all(
            f"{webhooks.SELECTED} where (h.project_id = any(%(mine)s) or (h.project_id is null and %(instance)s)) "
            "and (%(only)s::uuid is null or h.project_id = %(only)s) "
            "and (%(after)s::uuid is null or h.id < %(after)s) order by h.id desc limit %(limit)s",
            {
                "mine": mine,
                "instance": webhooks.manages(call.principal, None),
                "only": only,
                "after": after,
                "limit": limit + 1,
            },
        )
    following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
    now = call.parts.clock.now()
    body = {"items": [shown(Hook(*row), now) for row in rows[:limit]], "next": following}
    return Response(canonical(body), 200, next_link(request, following), "application/json")


async def create_webhook(request: Request) -> Response:
    """Make a webhook."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)
    said = parse_input(WebhookCreate, await request.body())
    parts = call.parts
    project = None
    if said.project is not None:
        async with parts.database.read(Reach.INSTANCE) as session:
            project = await project_named(session, call.principal, said.project)
    authorize(call.principal, Action.ADMINISTER if project is None else Action.CONFIGURE, project)
    await require_recent(call)
    _require_good(parts.settings, said.url)
    wish = Wish(said.url, said.description, sorted(set(said.types)), said.include_payload)
    async with parts.database.write(Reach.INSTANCE) as session:
        hook, secret = await webhooks.make(
            session, parts.vault, call.principal, project=project, wish=wish, origin=call.origin
        )
        await session.commit()
    headers = {"ETag": etag(hook.version), "Location": f"/api/v1/webhooks/{hook.id}"}
    body = canonical({**shown(hook, parts.clock.now()), "secret": secret})
    return Response(body, 201, headers, "application/json")


async def get_webhook(request: Request, webhook_id: str) -> Response:
    """One webhook."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        hook = await webhooks.find(session, call.principal, uuid_or_none(webhook_id))
    body = canonical(shown(hook, call.parts.clock.now()))
    return Response(body, 200, {"ETag": etag(hook.version)}, "application/json")


async def patch_webhook(request: Request, webhook_id: str) -> Response:
    """Change a webhook."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(WebhookPatch, await request.body())
    identity, seen = uuid_or_none(webhook_id), if_match(request)
    async with call.parts.database.read(call.reach) as session:
        await webhooks.find(session, call.principal, identity)
    if any(getattr(said, name) is not None for name in ("url", "types", "include_payload")) or said.enabled:
        await require_recent(call)
    if said.url is not None:
        _require_good(call.parts.settings, said.url)

    async def handle(session: WriteSession) -> Answer:
        hook = await webhooks.find(session, call.principal, identity, lock=True)
        if seen not in (None, hook.version):
            raise StaleVersionError(
                f"You saw version {seen}; it is at version {hook.version} now. Read it again and repeat.",
                version=hook.version,
            )
        wish = Wish(
            hook.url if said.url is None else said.url,
            hook.description if said.description is None else said.description,
            list(hook.types) if said.types is None else sorted(set(said.types)),
            hook.include_payload if said.include_payload is None else said.include_payload,
        )
        enabled = hook.enabled if said.enabled is None else said.enabled
        after = await webhooks.change(session, call.principal, hook, wish, enabled=enabled, origin=call.origin)
        body = canonical(shown(after, session.now)).encode()
        return Answer(200, body, {"ETag": etag(after.version)}, after.project_id)

    return await write(call, handle)


async def delete_webhook(request: Request, webhook_id: str) -> Response:
    """Delete a webhook, its secrets, and what it was told."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)

    async def handle(session: WriteSession) -> Answer:
        hook = await webhooks.find(session, call.principal, uuid_or_none(webhook_id), lock=True)
        await webhooks.remove(session, call.parts.vault, hook, origin=call.origin)
        return Answer(200, canonical({"deleted": 1}).encode(), {}, hook.project_id)

    return await write(call, handle)


async def change_secret(request: Request, webhook_id: str) -> Response:
    """Give a webhook another secret."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)
    said = parse_input(WebhookSecretChange, await request.body() or b"{}")
    identity, parts = uuid_or_none(webhook_id), call.parts
    async with parts.database.read(Reach.INSTANCE) as session:
        await webhooks.find(session, call.principal, identity)
    await require_recent(call)
    async with parts.database.write(Reach.INSTANCE) as session:
        hook = await webhooks.find(session, call.principal, identity, lock=True)
        after, secret = await webhooks.rotate(
            session, parts.vault, hook, overlap=timedelta(hours=said.overlap_hours), origin=call.origin
        )
        await session.commit()
    body = canonical({**shown(after, parts.clock.now()), "secret": secret})
    return Response(body, 200, {"ETag": etag(after.version)}, "application/json")


async def ping_webhook(request: Request, webhook_id: str) -> Response:
    """Send a webhook a message that tells of nothing."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)

    async def handle(session: WriteSession) -> Answer:
        hook = await webhooks.find(session, call.principal, uuid_or_none(webhook_id), lock=True)
        delivery = await webhooks.ping(session, hook, origin=call.origin)
        rows = await _told(session, call, hook.id, id=delivery)
        return Answer(202, canonical(_delivery(rows[0])).encode(), {}, hook.project_id)

    return await write(call, handle)


async def list_deliveries(request: Request, webhook_id: str) -> Response:
    """What a webhook was told."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"status", "cursor", "limit"}))
    limit, state = limit_of(request), request.query_params.get("status")
    if state not in (None, *STATES):
        message = "one of " + ", ".join(STATES)
        raise InvalidInputError(
            f"status: {message}.", errors=[{"pointer": "/query/status", "message": message, "type": "enum"}]
        )
    cursor, after = request.query_params.get("cursor"), None
    if cursor is not None:
        after = decode_cursor(cursor, "-number", 1)[0]
        if type(after) is not int or not 0 < after < 1 << 62:
            raise foreign_cursor()
    async with call.parts.database.read(call.reach) as session:
        hook = await webhooks.find(session, call.principal, uuid_or_none(webhook_id))
        rows = await _told(session, call, hook.id, after=after, state=state, limit=limit + 1)
    following = encode_cursor("-number", [rows[limit - 1][0]]) if len(rows) > limit else None
    body = {"items": [_delivery(row) for row in rows[:limit]], "next": following}
    return Response(canonical(body), 200, next_link(request, following), "application/json")


async def redeliver(request: Request, webhook_id: str, delivery_id: str) -> Response:
    """Tell a webhook something again."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)

    async def handle(session: WriteSession) -> Answer:
        hook = await webhooks.find(session, call.principal, uuid_or_none(webhook_id), lock=True)
        delivery = uuid_or_none(delivery_id)
        if delivery is None or not await _told(session, call, hook.id, id=delivery):
            raise NotFoundError("There is no such delivery.")
        await webhooks.redeliver(session, hook, delivery, origin=call.origin)
        rows = await _told(session, call, hook.id, id=delivery)
        return Answer(202, canonical(_delivery(rows[0])).encode(), {}, hook.project_id)

    return await write(call, handle)


_ONE: Final = "/webhooks/{webhook_id}"
docs.route(
    router,
    "GET",
    "/webhooks",
    list_webhooks,
    docs.Spec(
        "List webhooks",
        "signed in",
        {200: WebhookList},
        docs.READ_REFUSALS,
        description=f"{_NOBODY_ELSE} To others there are none.",
        headers=("Link",),
        parameters=[docs.PROJECT, docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "POST",
    "/webhooks",
    create_webhook,
    docs.Spec(
        "Make a webhook",
        "configure",
        {201: NewWebhook},
        docs.SAY_REFUSALS,
        description=(
            f"{_NOBODY_ELSE} Needs a fresh proof of who one is. An `Idempotency-Key` has no effect here, as the "
            "secret is not kept: a second webhook to the same address is refused."
        ),
        body=WebhookCreate,
        headers=("ETag", "Location"),
    ),
)
docs.route(
    router,
    "GET",
    _ONE,
    get_webhook,
    docs.Spec("Read a webhook", "configure", {200: WebhookOut}, (401, 403, 404, 422, 503), headers=("ETag",)),
)
docs.route(
    router,
    "PATCH",
    _ONE,
    patch_webhook,
    docs.Spec(
        "Change a webhook",
        "configure",
        {200: WebhookOut},
        docs.WRITE_REFUSALS,
        description=f"{_NOBODY_ELSE} More than other words needs a fresh proof of who one is.",
        body=WebhookPatch,
        parameters=[docs.IF_MATCH],
        headers=("ETag",),
    ),
)
docs.route(
    router,
    "DELETE",
    _ONE,
    delete_webhook,
    docs.Spec(
        "Delete a webhook",
        "configure",
        {200: WebhookDeleted},
        docs.SAY_REFUSALS,
        description="It is told nothing more, and what it was told is forgotten; the log keeps that it was there.",
    ),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/secret",
    change_secret,
    docs.Spec(
        "Give a webhook another secret",
        "configure",
        {200: NewWebhook},
        docs.SAY_REFUSALS,
        description=(
            "For the overlap, messages are signed with both. Needs a fresh proof of who one is. An `Idempotency-Key` "
            "has no effect here: each call makes another secret, which is not kept with answers."
        ),
        body=WebhookSecretChange,
        body_required=False,
        headers=("ETag",),
    ),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/ping",
    ping_webhook,
    docs.Spec(
        "Send a webhook a message that tells of nothing",
        "configure",
        {202: DeliveryOut},
        docs.SAY_REFUSALS,
        description="To see whether it listens: its deliveries say what it answered.",
    ),
)
docs.route(
    router,
    "GET",
    f"{_ONE}/deliveries",
    list_deliveries,
    docs.Spec(
        "List what a webhook was told",
        "configure",
        {200: DeliveryList},
        (401, 403, 404, 422, 503),
        headers=("Link",),
        parameters=[
            docs.query("status", "Only those that stand so.", schema={"type": "string", "enum": list(STATES)}),
            docs.CURSOR,
            docs.LIMIT,
        ],
    ),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/deliveries/{{delivery_id}}/redeliver",
    redeliver,
    docs.Spec(
        "Tell a webhook something again",
        "configure",
        {202: DeliveryOut},
        docs.SAY_REFUSALS,
        description="Under the same `webhook-id`, by which the receiver knows that it is nothing new.",
    ),
)
