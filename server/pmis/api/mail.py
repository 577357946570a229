"""Mails over HTTP: what came in, where it is filed, what it says."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

from pydantic import BaseModel, Field, create_model
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, require_known_parameters, uuid_or_none
from pmis.api.resources import limit_of, next_link, project_named
from pmis.email.models import Status
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError
from pmis.kit.paging import decode_moment, encode_cursor
from pmis.mail.looking import find, messages
from pmis.mail.reading import Address, Attachment
from pmis.mail.suggestions import Suggestion

router = docs.RouteTable("mail")
_ORDER: Final = "-received_at"
_STATUSES: Final = frozenset(get_args(Status))


class MailSender(BaseModel):
    """Who sent it, where a mail server of yours vouches for that. It is no authority."""

    kind: Literal["person", "party"] | None
    id: UUID | None
    authenticated: bool


class MailSummary(BaseModel):
    """A mail in a list."""

    id: UUID
    project_id: UUID | None = Field(description="Null for the instance's inbox.")
    package_id: UUID | None
    candidate_id: UUID | None = Field(description="The package that it names, while it waits.")
    thread_id: UUID
    status: Status
    reason: str = Field(description="What decided where it is.", examples=["sender_unknown"])
    via: Literal["smtp", "lmtp", "imap", "webhook", "file"]
    received_at: datetime
    from_: list[Address] = Field(alias="from", description="What the mail says; anybody can write anything there.")
    subject: str
    sender: MailSender
    attachments: int
    suggestions: int


class MailMessage(MailSummary):
    """A mail with what it says: characters that are not seen are written out, the HTML runs and loads nothing."""

    to: list[Address]
    cc: list[Address]
    date: datetime | None
    text: str
    html: str | None
    faults: list[str] = Field(description="What could not be read of it, and why.")
    authentication: dict[str, Any] = Field(description="SPF, DKIM and DMARC, as a trusted mail server found them.")
    attachments: list[Attachment]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    suggestions: list[Suggestion]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    digest: str = Field(description="SHA-256 of the raw mail.")
    size: int


MailPage = create_model(
    "MailPage", items=(list[MailSummary], ...), next=(str | None, ...), __doc__="A page of mails, the newest first."
)


def _wrong(name: str, message: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name}: {message}.", errors=[{"pointer": f"/query/{name}", "message": message, "type": "value_error"}]
    )


def _statuses(text: str) -> list[str]:
    given = [one.strip() for one in text.split(",")]
    wrong = sorted(set(given) - _STATUSES)
    if wrong:
        raise _wrong("status", f"{wrong[0]!r} is not one of {', '.join(sorted(_STATUSES))}")
    return given


def _package(text: str) -> UUID:
    found = uuid_or_none(text)
    if found is None:
        raise _wrong("package_id", "not an id")
    return found


async def list_messages(request: Request) -> Response:
    """A page of the mails that the caller may see, the newest first."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit", "project", "package_id", "status"}))
    given = request.query_params
    limit = limit_of(request)
    after = decode_moment(given["cursor"], _ORDER) if "cursor" in given else None
    statuses = _statuses(given["status"]) if "status" in given else None
    package = _package(given["package_id"]) if "package_id" in given else None
    async with call.parts.database.read() as session:
        project = await project_named(session, call.principal, given["project"]) if "project" in given else None
        found = await messages(
            session,
            call.principal,
            project=project,
            package=package,
            statuses=statuses,
            after=after,
            limit=limit + 1,
        )
    following = None
    if len(found) > limit:
        last = found[limit - 1].email
        following = encode_cursor(_ORDER, [last.received_at.isoformat(), str(last.id)])
    body = canonical({"items": [one.summary() for one in found[:limit]], "next": following})
    return Response(body, 200, next_link(request, following), "application/json")


async def get_message(request: Request, message_id: str) -> Response:
    """One mail, with what it says."""
    call: Call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read() as session:
        found = await find(session, call.principal, uuid_or_none(message_id))
    return Response(canonical(found.whole()), 200, None, "application/json")


docs.route(
    router,
    "GET",
    "/mail/messages",
    list_messages,
    docs.Spec(
        "List mails",
        "read",
        {200: cast("Any", MailPage)},
        docs.READ_REFUSALS,
        description=(
            "Those attached to packages of one's projects; what waits in quarantine only for the project's "
            "administrators, and the instance's inbox for those of the instance."
        ),
        headers=("Link",),
        parameters=[
            docs.query("status", "Only these; several separated by commas.", "quarantined,unreadable"),
            docs.query(
                "package_id", "Only those attached to this package.", schema={"type": "string", "format": "uuid"}
            ),
            docs.CURSOR,
            docs.LIMIT,
            docs.PROJECT,
        ],
    ),
)
docs.route(
    router,
    "GET",
    "/mail/messages/{message_id}",
    get_message,
    docs.Spec("Read one mail", "read", {200: MailMessage}, docs.READ_REFUSALS),
)
