"""What one is told, and how one wants to be mailed. Everybody has their own, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, create_model
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import caller, in_person, parts_of, require_good_key, require_known_parameters
from pmis.api.edge import write
from pmis.api.resources import id_after, limit_of, next_link
from pmis.approval.governed import Input, parse_input
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.paging import encode_cursor
from pmis.ledger.idempotency import Answer
from pmis.notify.spread import DEFAULT_MAIL
from pmis.notify.unsubscribing import unsubscribed
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from datetime import datetime

    from pmis.kit.db import WriteSession

router = docs.RouteTable("notifications")


class Notification(BaseModel):
    """Something that concerns the caller."""

    id: UUID
    kind: str = Field(examples=["approval.waiting"])
    project_id: UUID | None
    entity_type: str
    entity_id: UUID
    label: str
    urgent: bool
    doc: dict[str, Any] = Field(description="What else is known of it; depends on the kind.")
    created_at: str
    read_at: str | None
    mailed_at: str | None


NotificationPage = create_model(
    "NotificationPage", items=(list[Notification], ...), next=(str | None, ...), __doc__="A page, the newest first."
)


class MarkRead(Input):
    """What was read: all up to and including one, as lists show them, or everything."""

    up_to: UUID | None = Field(default=None, description="The newest that was seen; without it all of them.")


class Marked(BaseModel):
    """How many were unread until now."""

    marked: int


class Preferences(Input):
    """How one wants to be mailed what one has not read."""

    mail: Literal["at_once", "hourly", "daily", "never"] = Field(
        description="`at_once` after a minute, `hourly`, `daily` at 06:00 UTC; what is urgent does not wait.",
        examples=["daily"],
    )


class Wishes(BaseModel):
    """How one is mailed."""

    mail: str = Field(examples=["hourly"])


_PAGE = (
    "select id, doc::json, project_id, created_at, read_at, mailed_at from notify.notification "
    "where person_id = %(me)s and (%(after)s::uuid is null or id < %(after)s) "
    "and (not %(unread)s or read_at is null) and (project_id is null or project_id = any(%(projects)s)) "
    "order by id desc limit %(limit)s"
)


async def list_notifications(request: Request) -> Response:
    """A page of one's own notifications."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"unread", "cursor", "limit"}))
    unread = request.query_params.get("unread", "false")
    if unread not in ("true", "false"):
        raise InvalidInputError(
            "unread: true or false.", errors=[{"pointer": "/query/unread", "message": "true or false", "type": "bool"}]
        )
    limit = limit_of(request)
    after = id_after(request)
    values = {"me": call.principal.person_id, "after": after, "unread": unread == "true", "limit": limit + 1}
    async with call.parts.database.read(call.reach) as session:
        projects = await readable_projects(session, call.principal)
        rows = await session.all(_PAGE, {**values, "projects": projects})
    following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
    items = [_shown(*row) for row in rows[:limit]]
    body = canonical({"items": items, "next": following})
    return Response(body, 200, next_link(request, following), "application/json")


def _shown(identity: UUID, doc: dict[str, Any], project: UUID | None, *times: datetime | None) -> dict[str, Any]:
    made, read, mailed = (time.isoformat() if time else None for time in times)
    first = {name: doc.pop(name) for name in ("kind", "entity_type", "entity_id", "label", "urgent")}
    return {
        "id": str(identity),
        **first,
        "project_id": str(project) if project else None,
        "doc": doc,
        "created_at": made,
        "read_at": read,
        "mailed_at": mailed,
    }


async def mark_read(request: Request) -> Response:
    """Mark one's notifications as read; they are not mailed any more."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(MarkRead, await request.body())
    in_person(call)

    async def handle(session: WriteSession) -> Answer:
        marked = await session.execute(
            "update notify.notification set read_at = %s where person_id = %s and read_at is null "
            "and (%s::uuid is null or id <= %s)",
            (session.now, call.principal.person_id, said.up_to, said.up_to),
        )
        return Answer(200, canonical({"marked": marked}).encode(), {}, None)

    return await write(call, handle)


async def get_preferences(request: Request) -> Response:
    """How one is mailed."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        row = await session.one("select mail from notify.preference where person_id = %s", (call.principal.person_id,))
    return Response(canonical({"mail": row[0] if row else DEFAULT_MAIL}), 200, None, "application/json")


_WISH = (
    "insert into notify.preference (person_id, mail) values (%s, %s) "
    "on conflict (person_id) do update set mail = excluded.mail"
)


async def patch_preferences(request: Request) -> Response:
    """Say how one wants to be mailed from now on."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(Preferences, await request.body())
    in_person(call)

    async def handle(session: WriteSession) -> Answer:
        await session.execute(_WISH, (call.principal.person_id, said.mail))
        return Answer(200, canonical({"mail": said.mail}).encode(), {}, None)

    return await write(call, handle)


async def unsubscribe(request: Request) -> Response:
    """End the mails of whoever has this token, which stands in each of their mails (RFC 8058)."""
    parts = parts_of(request)
    require_known_parameters(request, frozenset({"token"}))
    require_good_key(request)
    secret = parts.settings.require_secret("secret_key")
    person = unsubscribed(secret, request.query_params.get("token", ""))
    if person is None:
        raise NotFoundError("This link does not end anybody's mails. Sign in and change how you are mailed.")
    async with parts.database.write(Reach.INSTANCE) as session:
        await session.execute(_WISH, (person, "never"))
        await session.commit()
    return Response(canonical({"mail": "never"}), 200, None, "application/json")


docs.route(
    router,
    "GET",
    "/notifications",
    list_notifications,
    docs.Spec(
        "List one's notifications",
        "signed in",
        {200: NotificationPage},
        docs.READ_REFUSALS,
        headers=("Link",),
        parameters=[
            docs.query("unread", "Only what was not read yet.", "true", {"type": "string", "enum": ["true", "false"]}),
            docs.CURSOR,
            docs.LIMIT,
        ],
    ),
)
docs.route(
    router,
    "POST",
    "/notifications/read",
    mark_read,
    docs.Spec(
        "Mark notifications as read", "signed in", {200: Marked}, (400, 401, 409, 413, 415, 422, 503), body=MarkRead
    ),
)
docs.route(
    router,
    "GET",
    "/notifications/preferences",
    get_preferences,
    docs.Spec("Read how one is mailed", "signed in", {200: Wishes}, (401, 422, 503)),
)
docs.route(
    router,
    "PATCH",
    "/notifications/preferences",
    patch_preferences,
    docs.Spec(
        "Change how one is mailed", "signed in", {200: Wishes}, (400, 401, 409, 413, 415, 422, 503), body=Preferences
    ),
)
docs.route(
    router,
    "POST",
    "/notifications/unsubscribe",
    unsubscribe,
    docs.Spec(
        "End one's mails without signing in",
        "public",
        {200: Wishes},
        (400, 404, 413, 422, 503),
        description=(
            "The address stands in the List-Unsubscribe header of each mail (RFC 8058); what it is sent is not read. "
            "An `Idempotency-Key` has no effect: a second time changes nothing."
        ),
        parameters=[docs.query("token", "What the link in the mail holds.")],
    ),
)
