"""Invitations over HTTP: administrators of the instance send them, whoever has the link accepts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import (
    DEVELOPMENT_SECRET,
    Call,
    address_of,
    caller,
    etag,
    parts_of,
    require_known_parameters,
    source_of,
    uuid_or_none,
)
from pmis.api.edge import write
from pmis.api.metrics import SIGN_IN_FAILURES
from pmis.api.own import json_answer, require_plain_write
from pmis.api.resources import answer_of, id_after, limit_of, next_link, project_named
from pmis.api.secondfactor import require_recent
from pmis.approval.governed import Input, Proposed, parse_input
from pmis.approval.propose import Wanted, propose
from pmis.identity import invitations
from pmis.identity.invitations import INVITATIONS, Invitation, InvitationNotGoodError, Secrets, Status
from pmis.identity.models import NewPassword, sorted_roles
from pmis.identity.passwords import hash_password_soon
from pmis.identity.sessions import SIGN_IN
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.fields import Email, Name  # noqa: TC001 - Pydantic reads the annotations
from pmis.kit.ids import uuid7
from pmis.kit.paging import encode_cursor
from pmis.kit.text import Line  # noqa: TC001 - the same
from pmis.ledger.event import Fact, Origin
from pmis.ledger.idempotency import Answer
from pmis.ledger.store import record
from pmis.policy.access import Action, Role, allowed, authorize
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from pmis.api.context import Parts
    from pmis.kit.db import Row, Session, WriteSession

router = docs.RouteTable("invitations")
MAX_PROJECTS: Final = 20


class InvitedRoles(Input):
    """Roles in one project."""

    project: Annotated[Line, StringConstraints(min_length=1, max_length=40)] = Field(
        description="The id or prefix of the project.", examples=["P"]
    )
    roles: Annotated[list[Role], AfterValidator(sorted_roles), Field(min_length=1, max_length=6)] = Field(
        examples=[["analyst"]]
    )


class InvitationCreate(Proposed):
    """Who is to come, and what they are to be."""

    email: Email = Field(
        description="Where the link goes, and what the person will sign in with.", examples=["new@example.org"]
    )
    name: Name = Field(description="What the person is called.", examples=["Nia New"])
    instance_admin: bool = Field(default=False, description="Whether they administer the instance.")
    instance_auditor: bool = Field(default=False, description="Whether they audit the instance.")
    roles: Annotated[list[InvitedRoles], Field(max_length=MAX_PROJECTS)] = Field(
        default=[], description="Roles project by project. Each is proposed in its project, and agreed there."
    )
    expires_in_days: int | None = Field(
        default=None,
        ge=1,
        le=invitations.LONGEST_DAYS,
        description="For how many days a link is good from when it is sent: at most, and by default, INVITATION_DAYS.",
        examples=[3],
    )


class InvitationAccept(Input):
    """The token of the link, and what to sign in with from now on."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["pmisi_" + "A" * 64]
    )
    password: NewPassword = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["correct horse battery"]
    )


class RolesOut(BaseModel):
    """Roles in one project that were agreed."""

    project_id: UUID
    roles: list[Role]
    status: Status


class InvitationOut(BaseModel):
    """An invitation whose person was agreed. Its token is shown to nobody."""

    id: UUID
    version: int
    status: Status
    person_id: UUID = Field(description="Who the person will be, or is.")
    name: str
    email: str | None = Field(description="Null once it was erased.")
    instance_admin: bool
    instance_auditor: bool
    roles: list[RolesOut] = Field(
        description="What was agreed so far in projects that the caller reads; what still waits is an approval there."
    )
    inviter: UUID
    inviter_name: str
    sent: int = Field(description="How often it was sent; only the last link is good.")
    expires_at: datetime = Field(description="Until when the link is good.")
    created_at: datetime


class InvitationList(BaseModel):
    """Invitations, the newest first."""

    items: list[InvitationOut]
    next: str | None


class Invited(BaseModel):
    """What became of an invitation: it goes out when the first proposal, which makes the person, is agreed."""

    id: UUID
    person_id: UUID
    outcome: Literal["applied", "pending", "confirmation_required"] = Field(
        description="Of the first proposal: `applied`, the link goes out."
    )
    proposals: list[docs.Outcome] = Field(description="The person first, then the roles, in the order they were named.")


class InvitationSent(BaseModel):
    """An invitation that was sent again."""

    id: UUID
    sent: int
    expires_at: datetime
    mailed: bool = Field(description="Whether the link goes out by mail.")
    link: str | None = Field(
        description="Where no mail is configured: the link, to be handed over. It is shown this once."
    )


class Accepted(BaseModel):
    """Somebody who is here from now on, and signs in with the address and the password."""

    person_id: UUID
    name: str
    email: str


def _secrets(parts: Parts) -> Secrets:
    secret = parts.settings.secret_key
    return Secrets(secret.get_secret_value() if secret else DEVELOPMENT_SECRET)


def _reads(call: Call) -> bool:
    return call.principal.instance_auditor or allowed(call.principal, Action.ADMINISTER, None)


def _require_knows(call: Call, *, writes: bool = False) -> None:
    """Raise NotFoundError for whoever may not know of invitations, ForbiddenError for whoever only reads them."""
    if not _reads(call):
        raise NotFoundError("There is no such invitation.")
    if writes:
        authorize(call.principal, Action.ADMINISTER, None)


async def create_invitation(request: Request) -> Response:
    """Invite somebody."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    authorize(call.principal, Action.ADMINISTER, None)
    said = parse_input(InvitationCreate, await request.body())
    longest = call.parts.settings.invitation_days
    days = longest if said.expires_in_days is None else said.expires_in_days
    if days > longest:
        message = f"at most {longest}"
        raise InvalidInputError(
            f"expires_in_days: {message}.",
            errors=[{"pointer": "/expires_in_days", "message": message, "type": "less_than_equal"}],
        )

    async def handle(session: WriteSession) -> Answer:
        return await _propose(session, call, said, days)

    return await write(call, handle)


async def _propose(session: WriteSession, call: Call, said: InvitationCreate, days: int) -> Answer:
    identity, person = uuid7(), uuid7()
    places: list[UUID] = []
    for i, one in enumerate(said.roles):
        place = await project_named(session, call.principal, one.project)
        if place in places:
            message = "named twice"
            pointer = f"/roles/{i}/project"
            raise InvalidInputError(
                f"{pointer[1:]}: {message}.", errors=[{"pointer": pointer, "message": message, "type": "value_error"}]
            )
        places.append(place)
    both = {"person_id": str(person), "name": said.name}
    rights = {"instance_admin": said.instance_admin, "instance_auditor": said.instance_auditor}
    wanted = [Wanted(INVITATIONS, "create", identity, {**both, "email": said.email, **rights, "days": days})]
    for one, place in zip(said.roles, places, strict=True):
        roles = [role.value for role in one.roles]
        wanted.append(Wanted(INVITATIONS, "create", uuid7(), {**both, "roles": roles}, place))
    request = call.proposing(said)
    # One proposal each: a project's own people agree to who is let into it, and nobody else reads of it.
    outcomes = [await propose(session, call.parts.vault, request, [one]) for one in wanted]
    answers = [answer_of(call, one, path="invitations", created=True) for one in outcomes]
    head = {"id": str(identity), "person_id": str(person), "outcome": outcomes[0].outcome}
    proposals = ",".join(answer.body.decode() for answer in answers)
    body = f'{canonical(head)[:-1]},"proposals":[{proposals}]}}'
    headers = {name: value for name, value in answers[0].headers.items() if name == "Location"}
    return Answer(answers[0].status, body.encode(), headers, None)


def _shown(row: Row, addresses: dict[str, Any]) -> dict[str, Any]:
    head = Invitation.model_validate_json(row[1])
    return {
        "id": str(head.id),
        "version": head.version,
        "status": head.status,
        "person_id": str(head.person_id),
        "name": head.name,
        "email": addresses.get(head.invited_address or ""),
        "instance_admin": head.instance_admin,
        "instance_auditor": head.instance_auditor,
        "roles": json.loads(row[2]) if row[2] else [],
        "inviter": str(head.inviter),
        "inviter_name": head.inviter_name,
        "sent": head.serial,
        "expires_at": head.expires_at.isoformat() if head.expires_at else None,
        "created_at": head.created_at.isoformat(),
    }


async def _all_shown(session: Session, call: Call, rows: list[Row]) -> list[dict[str, Any]]:
    refs = [ref for row in rows if (ref := json.loads(row[1])["invited_address"])]
    addresses = await call.parts.vault.open(session, refs)
    return [_shown(row, addresses) for row in rows]


async def list_invitations(request: Request) -> Response:
    """A page of invitations."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"status", "cursor", "limit"}))
    if not _reads(call):
        authorize(call.principal, Action.ADMINISTER, None)
    status = request.query_params.get("status")
    if status is not None and status not in get_args(Status):
        message = f"one of {', '.join(get_args(Status))}"
        raise InvalidInputError(
            f"status: {message}.", errors=[{"pointer": "/query/status", "message": message, "type": "enum"}]
        )
    limit, after = limit_of(request), id_after(request)
    async with call.parts.database.read(Reach.INSTANCE) as session:
        projects = await readable_projects(session, call.principal)
        rows = await invitations.listed(session, projects, status=status, after=after, limit=limit + 1)
        shown = await _all_shown(session, call, rows[:limit])
    following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
    body = canonical({"items": shown, "next": following})
    return Response(body, 200, next_link(request, following), "application/json")


async def _one(session: Session, call: Call, identity: UUID | None) -> dict[str, Any]:
    readable = await readable_projects(session, call.principal)
    rows = [] if identity is None else await invitations.listed(session, readable, only=identity)
    if not rows:
        raise NotFoundError("There is no such invitation.")
    return (await _all_shown(session, call, rows))[0]


async def get_invitation(request: Request, invitation_id: str) -> Response:
    """One invitation."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    _require_knows(call)
    async with call.parts.database.read(Reach.INSTANCE) as session:
        shown = await _one(session, call, uuid_or_none(invitation_id))
    return Response(canonical(shown), 200, {"ETag": etag(shown["version"])}, "application/json")


async def resend_invitation(request: Request, invitation_id: str) -> Response:
    """Send an invitation again."""
    call = await caller(request)
    require_plain_write(request)
    _require_knows(call, writes=True)
    parts = call.parts
    mailed = parts.settings.smtp_server is not None
    if not mailed:
        await require_recent(call)
    async with parts.database.write(Reach.INSTANCE) as session:
        head = await invitations.send_again(
            session,
            uuid_or_none(invitation_id),
            longest_days=parts.settings.invitation_days,
            by=None if mailed else call.principal.person_id,
            origin=call.origin,
        )
        await session.commit()
    shown = {
        "id": str(head.id),
        "sent": head.serial,
        "expires_at": head.expires_at.isoformat() if head.expires_at else None,
        "mailed": mailed,
        "link": None if mailed else _secrets(parts).link(parts.settings.public, head),
    }
    return json_answer(shown)


async def revoke_invitation(request: Request, invitation_id: str) -> Response:
    """Take an invitation back."""
    call = await caller(request)
    require_plain_write(request)
    _require_knows(call, writes=True)
    async with call.parts.database.write(Reach.INSTANCE) as session:
        head = await invitations.revoke(session, uuid_or_none(invitation_id), origin=call.origin)
        shown = await _one(session, call, head.id)
        await session.commit()
    return json_answer(shown)


async def accept_invitation(request: Request) -> Response:
    """Accept an invitation: be somebody here from now on."""
    require_plain_write(request)
    said = parse_input(InvitationAccept, await request.body())
    parts = parts_of(request)
    secrets = _secrets(parts)
    taken = await parts.attempts.take("invitation", address=address_of(request))
    try:
        # Looked at first: a guess costs no hashing.
        async with parts.database.read(Reach.INSTANCE) as session:
            await invitations.good(session, secrets, said.token, now=parts.clock.now())
        hashed = await hash_password_soon(said.password)
        async with parts.database.write(Reach.INSTANCE) as session:
            person, name, email = await invitations.accept(
                session,
                parts.vault,
                secrets,
                said.token,
                password_hash=hashed,
                source=source_of(request),
                correlation_id=request.scope["correlation_id"],
            )
            await session.commit()
    except InvitationNotGoodError:
        SIGN_IN_FAILURES.labels("invitation").inc()
        await _record_failure(request)
        raise
    await parts.attempts.give_back(taken)
    return json_answer({"person_id": str(person), "name": name, "email": email}, 201)


async def _record_failure(request: Request) -> None:
    parts = parts_of(request)
    payload = {"client": parts.attempts.digest("login address", address_of(request)), "because": "invitation"}
    origin = Origin(SIGN_IN, source_of(request), request.scope["correlation_id"])
    async with parts.database.write(Reach.INSTANCE) as session:
        record(session, "signin", uuid7(), Fact("signin.failed", payload), origin=origin, project_id=None)
        await session.commit()


_ONE: Final = "/invitations/{invitation_id}"
_REFUSED: Final = (400, 401, 403, 404, 409, 413, 415, 422, 503)
docs.route(
    router,
    "GET",
    "/invitations",
    list_invitations,
    docs.Spec(
        "List invitations",
        "read_audit",
        {200: InvitationList},
        (401, 403, 422, 503),
        headers=("Link",),
        description="For administrators and auditors of the instance.",
        parameters=[
            docs.query("status", "Only those.", "open", {"type": "string", "enum": list(get_args(Status))}),
            docs.CURSOR,
            docs.LIMIT,
        ],
    ),
)
docs.route(
    router,
    "POST",
    "/invitations",
    create_invitation,
    docs.Spec(
        "Invite somebody",
        "administer",
        {201: Invited, 202: Invited},
        docs.SAY_REFUSALS,
        description=(
            "Proposes a person, as `POST /people` does, and roles, as `POST /memberships` does, each judged and agreed "
            "like those: nobody invites to more than they could grant. Once the person is agreed, the link goes out. "
            "Roles that are agreed after it was accepted count from then."
        ),
        headers=("Location",),
        body=InvitationCreate,
    ),
)
docs.route(
    router,
    "GET",
    _ONE,
    get_invitation,
    docs.Spec("Read one invitation", "read_audit", {200: InvitationOut}, (401, 403, 404, 422, 503), headers=("ETag",)),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/resend",
    resend_invitation,
    docs.Spec(
        "Send an invitation again",
        "administer",
        {200: InvitationSent},
        _REFUSED,
        description=(
            "The link before is void, and the time begins anew, though no invitation is open for more than "
            f"{invitations.LONGEST_DAYS} days. Where no mail is configured, the link is in the answer, to be handed "
            "over: only whoever invited gets it, with a fresh proof of who they are. An `Idempotency-Key` has no "
            "effect here: links are not kept."
        ),
    ),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/revoke",
    revoke_invitation,
    docs.Spec(
        "Take an invitation back",
        "administer",
        {200: InvitationOut},
        _REFUSED,
        description=(
            "Its link is void at once. Roles that still wait to be agreed are void when somebody decides them. An "
            "`Idempotency-Key` has no effect here: an invitation ends once."
        ),
    ),
)
docs.route(
    router,
    "POST",
    "/invitations/accept",
    accept_invitation,
    docs.Spec(
        "Accept an invitation",
        "public",
        {201: Accepted},
        (400, 401, 409, 413, 415, 422, 429, 503),
        description=(
            "Makes the person, with exactly what was agreed, once; sign in then. Every token that is not good is "
            "answered alike. An `Idempotency-Key` has no effect here: each link is good once."
        ),
        body=InvitationAccept,
    ),
)
