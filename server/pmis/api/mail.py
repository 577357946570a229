"""Mails over HTTP: what came in, where it is filed, what it says, and what people decide about it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast, get_args
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, create_model
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, etag, if_match, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.resources import answer_of, flag, limit_of, next_link, preview_answer, project_named
from pmis.approval.governed import Input, Proposed, parse_input
from pmis.email.models import Status
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.paging import decode_moment, encode_cursor
from pmis.kit.text import Line, Words
from pmis.ledger.idempotency import Answer
from pmis.mail import triage
from pmis.mail.looking import find, messages
from pmis.mail.reading import Address, Attachment
from pmis.mail.suggestions import Suggestion
from pmis.mail.triage import Said, filed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pmis.email.models import Email
    from pmis.kit.db import WriteSession

router = docs.RouteTable("mail")
_ORDER: Final = "-received_at"
_STATUSES: Final = frozenset(get_args(Status))
_LONGEST_NUMBER: Final = 4
_LONGEST_NAME: Final = 120
_UNFIT: Final = frozenset('<>:"/\\|?*')


class MailSender(BaseModel):
    """Who sent it, where a mail server of yours vouches for that. It is no authority."""

    kind: Literal["person", "party"] | None
    id: UUID | None
    authenticated: bool


Reason = Annotated[Words, StringConstraints(max_length=2000)]
Named = Annotated[Line, StringConstraints(min_length=1, max_length=40)]


class MailAttach(Input):
    """To which package of its project the mail belongs."""

    package: Named = Field(description="The package, by code or id.", examples=["P-001"])
    reason: Reason | None = Field(default=None, description="Why; kept in the log.", examples=["It is their offer."])


class MailDismiss(Input):
    """That the mail belongs to no package."""

    reason: Reason | None = Field(default=None, description="Why; kept in the log.", examples=["Advertising."])


class MailMove(Input):
    """To which project the mail belongs."""

    project: Named | None = Field(
        description="The project, by id or prefix; null is the instance's inbox.", examples=["P"]
    )
    reason: Reason | None = Field(default=None, description="Why; kept in the log.", examples=["It is about the road."])


class MailFiled(BaseModel):
    """Where a mail is, without what it says."""

    id: UUID
    version: int
    project_id: UUID | None
    package_id: UUID | None
    candidate_id: UUID | None
    thread_id: UUID
    status: Status
    reason: str = Field(examples=["by_person"])
    received_at: datetime


class MailSuggestion(Suggestion):
    """A change that a line of the mail seems to ask for, and whether somebody has proposed it."""

    number: int
    accepted: bool


class MailSummary(BaseModel):
    """A mail in a list."""

    id: UUID
    version: int
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
    suggestions: list[MailSuggestion]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
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
    async with call.parts.database.read(call.reach) as session:
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
    async with call.parts.database.read(call.reach) as session:
        found = await find(session, call.principal, uuid_or_none(message_id))
    return Response(canonical(found.whole()), 200, {"ETag": etag(found.email.version)}, "application/json")


async def get_attachment(request: Request, message_id: str, number: str) -> Response:
    """A file of a mail, as it came."""
    call: Call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        found = await find(session, call.principal, uuid_or_none(message_id))
    given = found.mail.attachments
    if not 1 <= (place := _number(number)) <= len(given):
        raise NotFoundError("The mail has no such attachment.")
    one = given[place - 1]
    content = await call.parts.storage.get(one.digest)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name(one.name, place), safe='')}",
        # Whatever it says that it is, no browser opens it here.
        "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, 200, headers, "application/octet-stream")


def _number(text: str) -> int:
    """The place in a list that a text names, counted from 1; 0 for what names none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else 0


def file_name(name: str, place: int) -> str:
    """What the file may be called on somebody's disk: no folder, nothing hidden, nothing that a system reserves."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join("_" if one in _UNFIT or not one.isprintable() else one for one in last).strip(" .")
    return kept[:_LONGEST_NAME] or f"attachment-{place}"


def _deciding(
    model: type[Input], decide: Callable[[WriteSession, Call, UUID | None, Any, Said], Awaitable[Email]], name: str
) -> Any:  # noqa: ANN401 - an endpoint
    async def endpoint(request: Request, message_id: str) -> Response:
        call = await caller(request)
        require_known_parameters(request, frozenset())
        docs.require_json(request)
        told: Any = parse_input(model, await request.body())
        said = Said(call.proposing(Proposed(reason=told.reason)), if_match(request))

        async def handle(session: WriteSession) -> Answer:
            email = await decide(session, call, uuid_or_none(message_id), told, said)
            return Answer(200, canonical(filed(email)).encode(), {"ETag": etag(email.version)}, email.project_id)

        return await write(call, handle)

    endpoint.__name__ = name
    return endpoint


async def _attach(session: WriteSession, _call: Call, identity: UUID | None, told: MailAttach, said: Said) -> Email:
    return await triage.attach(session, identity, told.package, said)


async def _dismiss(session: WriteSession, _call: Call, identity: UUID | None, _told: MailDismiss, said: Said) -> Email:
    return await triage.dismiss(session, identity, said)


async def _move(session: WriteSession, call: Call, identity: UUID | None, told: MailMove, said: Said) -> Email:
    return await triage.move(session, call.parts.vault, identity, told.project, said)


async def accept_suggestion(request: Request, message_id: str, number: str) -> Response:
    """Propose what a line of a mail asks for."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"dry_run"}))
    preview = flag(request, "dry_run")
    docs.require_json(request)
    said = Said(call.proposing(parse_input(Proposed, await request.body())), if_match(request))
    identity, place, vault = uuid_or_none(message_id), _number(number), call.parts.vault

    async def handle(session: WriteSession) -> Answer:
        if preview:
            email, wanted = await triage.suggested(session, identity, place, said)
            return await preview_answer(session, vault, triage.proposing(email, place, said), [wanted])
        return answer_of(call, await triage.accept(session, vault, identity, place, said), path=None)

    return await write(call, handle)


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
    docs.Spec("Read one mail", "read", {200: MailMessage}, docs.READ_REFUSALS, headers=("ETag",)),
)
docs.route(
    router,
    "GET",
    "/mail/messages/{message_id}/attachments/{number}",
    get_attachment,
    docs.Spec(
        "Download a file of a mail",
        "read",
        {
            200: {
                "description": "The file as it came, whatever the mail says that it is; browsers save it.",
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
        docs.READ_REFUSALS,
        description="The first of the mail's `attachments` has the number 1. Nobody has looked for viruses in it.",
    ),
)
_DECIDES: Final = (
    "For administrators of the mail's project, or of the instance when it is in its inbox. It is an event."
)
for path, summary, body, decide, words in (
    (
        "attach",
        "Attach a mail to a package",
        MailAttach,
        _attach,
        (
            "Everybody in the project sees it then, and answers to it join it. Also what waits in quarantine or was "
            "dismissed is attached, and what is attached is attached elsewhere."
        ),
    ),
    ("dismiss", "Lay a mail aside", MailDismiss, _dismiss, "It is kept, for the project's administrators alone."),
    (
        "move",
        "Hand a mail to another project",
        MailMove,
        _move,
        (
            "It waits there to be looked at. What is in the instance's inbox goes to any project, what is in a project "
            "to another one that the caller sees, or to that inbox."
        ),
    ),
):
    docs.route(
        router,
        "POST",
        f"/mail/messages/{{message_id}}/{path}",
        _deciding(body, decide, f"{path}_mail"),
        docs.Spec(
            summary,
            "administer",
            {200: MailFiled},
            docs.WRITE_REFUSALS,
            description=f"{words} {_DECIDES}",
            body=body,
            body_required=body is not MailDismiss,
            parameters=[docs.IF_MATCH],
            headers=("ETag",),
        ),
    )
docs.route(
    router,
    "POST",
    "/mail/messages/{message_id}/suggestions/{number}/accept",
    accept_suggestion,
    docs.Spec(
        "Propose what a line of a mail asks for",
        "propose",
        {200: docs.Outcome | docs.Preview, 202: docs.Outcome},
        docs.WRITE_REFUSALS,
        description=(
            "The first of the mail's `suggestions` has the number 1. It becomes the caller's proposal for the package "
            "that the mail is attached to, once. Its `source` is `mail`, and it is judged as what an e-mail says: it "
            "never takes effect without somebody's yes."
        ),
        body=Proposed,
        body_required=False,
        parameters=[docs.DRY_RUN, docs.IF_MATCH],
        headers=("Location", "ETag"),
    ),
)
