"""Signing in and out, and who one is."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response  # noqa: TC002 - the same

from pmis.api import docs
from pmis.api.context import (
    Call,
    address_of,
    caller,
    client_of,
    origin_of,
    parts_of,
    require_known_parameters,
    require_same_origin,
    set_cookie,
    source_of,
    uuid_or_none,
)
from pmis.api.metrics import SIGN_IN_FAILURES, TOKENS_ISSUED
from pmis.api.own import json_answer, own_page, own_write, require_plain_write
from pmis.api.secondfactor import Code, SecondFactorNeededError, prove_second_factor, require_code_or_recent
from pmis.approval.governed import Input, parse_input
from pmis.identity import sessions
from pmis.identity.models import MAX_PASSWORD, NewPassword
from pmis.identity.passwords import hash_password_soon, needs_rehash, verify_password
from pmis.identity.principals import load_principal
from pmis.kit.db import Reach
from pmis.kit.errors import BusyError, NotFoundError, UnauthenticatedError
from pmis.kit.ids import uuid7
from pmis.kit.text import Line  # noqa: TC001
from pmis.ledger.event import Fact, Origin
from pmis.ledger.store import record
from pmis.policy.access import Role

if TYPE_CHECKING:
    from pmis.api.context import Parts
    from pmis.kit.db import Row
    from pmis.policy.access import Principal

router = docs.RouteTable("sign-in")

_NOT_KEPT = "An `Idempotency-Key` has no effect here: tokens are not kept."


class Login(Input):
    """An address and a password."""

    email: Annotated[Line, StringConstraints(max_length=254)] = Field(examples=["ada@demo.example"])
    password: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["correct horse battery"]
    )

    code: Code | None = Field(
        default=None,
        description="For those with a second factor: what the authenticator shows, or a recovery code.",
        json_schema_extra={"writeOnly": True},
    )
    session: Literal["tokens", "cookie"] = Field(
        default="tokens",
        description=(
            "`tokens` for programs. `cookie` for pages of this origin: nothing secret is in the answer, and the "
            "browser is told to keep the cookie where no script reads it."
        ),
        examples=["tokens"],
    )


class Refresh(Input):
    """The refresh token that was given last."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["pmisr_" + "A" * 43]
    )


class Logout(Input):
    """Which sign-ins to end."""

    everywhere: bool = Field(
        default=False, description="All of one's sessions, on every device, instead of this one.", examples=[False]
    )


class PasswordChange(Input):
    """The password until now, and the one from now on."""

    current_password: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PASSWORD)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["correct horse battery"]
    )
    new_password: NewPassword = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["another horse, another battery"]
    )


class Token(BaseModel):
    """A signed access token to send as `Authorization: Bearer`, and what gives the next one."""

    access_token: str
    token_type: str = Field(examples=["bearer"])
    expires_in: int = Field(description="Seconds until the access token is no longer good.", examples=[600])
    refresh_token: str = Field(
        description="Good for one `POST /auth/refresh`, which answers the next. Keep it where nobody else reads it."
    )
    refresh_expires_in: int = Field(description="Seconds until the refresh token is no longer good.")
    session_id: UUID


class BrowserSession(BaseModel):
    """A session that the cookie `__Host-pmis` stands for, which the browser was given with this answer."""

    session_id: UUID
    expires_in: int = Field(description="Seconds until it ends.")


class SessionOut(BaseModel):
    """A sign-in that has not ended."""

    id: UUID
    kind: Literal["bearer", "cookie"]
    client: str = Field(description="What the program called itself that signed in.")
    started_at: datetime
    last_used_at: datetime = Field(description="When it was signed in or refreshed last.")
    authenticated_at: datetime = Field(
        description="When one last proved who one is; 1970, where a provider did not say when that was."
    )
    expires_at: datetime
    current: bool = Field(description="Whether this request was made in it.")


class SessionList(BaseModel):
    """One's sessions, the newest first."""

    items: list[SessionOut]
    next: str | None


class Ended(BaseModel):
    """How many sessions were ended."""

    ended: int


class UsedToken(BaseModel):
    """The API token with which a request is made."""

    id: UUID
    name: str
    scope: Literal["read", "write"]
    expires_at: datetime


class Me(BaseModel):
    """Who one is, and one's roles in each project: with an API token, who its owner is, and the roles it has there."""

    id: UUID
    name: str
    instance_admin: bool
    instance_auditor: bool
    roles: dict[UUID, list[Role]]
    token: UsedToken | None = Field(description="The API token that was sent, when it was one.")


def _granted(parts: Parts, granted: sessions.Granted) -> Response:
    now = parts.clock.now()
    TOKENS_ISSUED.labels("access").inc()
    TOKENS_ISSUED.labels("refresh").inc()
    lifetime = min(parts.tokens.lifetime, granted.expires_at - now)
    return json_answer(
        {
            "access_token": parts.tokens.issue(granted.person_id, granted.session_id, now),
            "token_type": "bearer",
            "expires_in": int(lifetime.total_seconds()),
            "refresh_token": granted.refresh_token,
            "refresh_expires_in": int((granted.refresh_expires_at - now).total_seconds()),
            "session_id": str(granted.session_id),
        }
    )


async def login(request: Request) -> Response:
    """Answer tokens for the right password; the same refusal, after the same time, for everything else."""
    require_plain_write(request)
    said = parse_input(Login, await request.body())
    if said.session == "cookie":
        # Nor does another site's page sign anybody in here, as somebody else than they think.
        require_same_origin(request)
    parts = parts_of(request)
    taken = await parts.attempts.take("login", address=address_of(request), account=said.email)
    principal, encoded = await _authenticated(request, said)
    try:
        proved = await prove_second_factor(request, principal, said.code)
    except SecondFactorNeededError:
        await parts.attempts.give_back(taken)
        raise
    origin = origin_of(request, principal)
    begin = sessions.begin_in_browser if said.session == "cookie" else sessions.begin
    async with parts.database.write(Reach.INSTANCE) as session:
        await sessions.require_unchanged(session, principal, encoded, second_factor=proved)
        begun = begin(
            session,
            principal,
            client=client_of(request),
            now=parts.clock.now(),
            lifetimes=parts.lifetimes,
            origin=origin,
        )
        await session.commit()
    await parts.attempts.give_back(taken)
    return _granted(parts, begun) if isinstance(begun, sessions.Granted) else _browsing(parts, begun)


def _browsing(parts: Parts, begun: sessions.Browsing) -> Response:
    TOKENS_ISSUED.labels("cookie").inc()
    seconds = int((begun.expires_at - parts.clock.now()).total_seconds())
    response = json_answer({"session_id": str(begun.session_id), "expires_in": seconds})
    set_cookie(response, begun.cookie, seconds)
    return response


async def _authenticated(request: Request, said: Login) -> tuple[Principal, str]:
    """Whose address and password they are, and the hash that fitted.

    A failure is an event, which tells neither address nor account.
    """
    parts = parts_of(request)
    async with parts.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select person_id, password_hash from identity.credential where lower(email) = lower(%s)", (said.email,)
        )
    fits = await verify_password(row[1] if row else None, said.password)
    if not fits or row is None:
        SIGN_IN_FAILURES.labels("password").inc()
        await _record_failure(request, said, "wrong")
        raise UnauthenticatedError("The e-mail address or the password is wrong.")
    try:
        async with parts.database.read(Reach.INSTANCE) as session:
            principal = await load_principal(session, row[0])
    except UnauthenticatedError:
        SIGN_IN_FAILURES.labels("not_active").inc()
        await _record_failure(request, said, "not_active")
        raise
    if needs_rehash(row[1]):
        return principal, await _rehash(parts, row[0], row[1], said.password)
    return principal, row[1]


async def _rehash(parts: Parts, person: UUID, encoded: str, password: str) -> str:
    """Keep the password as it is hashed today; the hash that another change put there meanwhile stays.

    The hash that is kept, if the password fits it: another sign-in may just have done the same.
    """
    hashed = await hash_password_soon(password)
    async with parts.database.write(Reach.INSTANCE) as session:
        kept = await session.execute(
            "update identity.credential set password_hash = %s where person_id = %s and password_hash = %s",
            (hashed, person, encoded),
        )
        row = None
        if not kept:
            row = await session.one("select password_hash from identity.credential where person_id = %s", (person,))
        await session.commit()
    return row[0] if row is not None and await verify_password(row[0], password) else hashed


async def _record_failure(request: Request, said: Login, because: str) -> None:
    parts = parts_of(request)
    payload = {
        "account": parts.attempts.digest("login account", said.email.casefold()),
        "client": parts.attempts.digest("login address", address_of(request)),
        "because": because,
    }
    origin = Origin(sessions.SIGN_IN, source_of(request), request.scope["correlation_id"])
    async with parts.database.write(Reach.INSTANCE) as session:
        record(session, "signin", uuid7(), Fact("signin.failed", payload), origin=origin, project_id=None)
        await session.commit()


async def refresh(request: Request) -> Response:
    """Answer the next access and refresh token of a session."""
    require_plain_write(request)
    said = parse_input(Refresh, await request.body())
    parts = parts_of(request)
    taken = await parts.attempts.take("refresh", address=address_of(request))
    async with parts.database.write(Reach.INSTANCE) as session:
        granted = await sessions.refresh(
            session,
            said.refresh_token,
            client=client_of(request),
            now=parts.clock.now(),
            lifetimes=parts.lifetimes,
            source=source_of(request),
            correlation_id=request.scope["correlation_id"],
        )
        # A refusal is committed too: it may have ended the session.
        await session.commit()
    if isinstance(granted, UnauthenticatedError):
        SIGN_IN_FAILURES.labels("refresh").inc()
        raise granted
    await parts.attempts.give_back(taken)
    return _granted(parts, granted)


async def change_password(request: Request) -> Response:
    """Give oneself another password; every other session of the caller's ends."""
    call, person, current = await own_write(request)
    said = parse_input(PasswordChange, await request.body())
    parts = call.parts
    await require_code_or_recent(call)
    taken = await parts.attempts.take("password", address=address_of(request), account=str(person))
    async with parts.database.read(Reach.INSTANCE) as session:
        row = await session.one("select password_hash from identity.credential where person_id = %s", (person,))
    if not await verify_password(row[0] if row else None, said.current_password) or row is None:
        SIGN_IN_FAILURES.labels("password").inc()
        async with parts.database.write(Reach.INSTANCE) as session:
            fact = Fact("signin.failed", {"person_id": str(person), "because": "current_password"})
            record(session, "signin", uuid7(), fact, origin=call.origin, project_id=None)
            await session.commit()
        raise sessions.WrongPasswordError("The current password is wrong.")
    hashed = await hash_password_soon(said.new_password)
    now = parts.clock.now()
    async with parts.database.write(Reach.INSTANCE) as session:
        changed = await session.execute(
            "update identity.credential set password_hash = %s, changed_at = %s "
            "where person_id = %s and password_hash = %s",
            (hashed, session.now, person, row[0]),
        )
        if not changed:
            raise BusyError("The password was changed at the same moment from elsewhere.")
        fact = Fact("password.changed", {"person_id": str(person)})
        record(session, "password", uuid7(), fact, origin=call.origin, project_id=None)
        ended = await sessions.end_all(
            session, person, why="password_changed", now=now, origin=call.origin, but=current.id
        )
        await session.commit()
    parts.watch.tell(person)
    await parts.attempts.give_back(taken)
    return json_answer({"ended": ended})


async def logout(request: Request) -> Response:
    """End this session, or every session of the caller's."""
    call, person, current = await own_write(request)
    said = parse_input(Logout, await request.body() or b"{}")
    now = call.parts.clock.now()
    async with call.parts.database.write(call.reach) as session:
        if said.everywhere:
            ended = await sessions.end_all(session, person, why="logout", now=now, origin=call.origin)
        else:
            await sessions.end_one(session, current.id, person, why="logout", now=now, origin=call.origin)
            ended = 1
        await session.commit()
    call.parts.watch.tell(person)
    response = json_answer({"ended": ended})
    if call.session is not None and call.session.kind == "cookie":
        set_cookie(response, "", 0)
    return response


async def list_sessions(request: Request) -> Response:
    """The caller's own sessions."""
    return await own_page(request, partial(sessions.open_sessions, now=parts_of(request).clock.now()), _shown)


def _shown(row: Row, call: Call) -> dict[str, Any]:
    identity, kind, client, *times = row
    names = ("started_at", "last_used_at", "authenticated_at", "expires_at")
    shown = {name: time.isoformat() for name, time in zip(names, times, strict=True)}
    return {
        "id": str(identity),
        "kind": kind,
        "client": client,
        **shown,
        "current": call.session is not None and identity == call.session.id,
    }


async def end_session(request: Request, session_id: str) -> Response:
    """End one of the caller's own sessions."""
    call, person, _ = await own_write(request)
    wanted = uuid_or_none(session_id)
    if wanted is None:
        raise NotFoundError("There is no such session.")
    async with call.parts.database.write(call.reach) as session:
        await sessions.end_one(
            session, wanted, person, why="ended_elsewhere", now=call.parts.clock.now(), origin=call.origin
        )
        await session.commit()
    call.parts.watch.tell(person)
    return json_answer({"ended": 1})


async def me(request: Request) -> Response:
    """Who the token stands for, and the roles that count."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    principal, token = call.principal, call.token
    owner = principal.on_behalf_of or principal
    body: dict[str, Any] = {
        "id": str(owner.id),
        "name": owner.name,
        "instance_admin": principal.instance_admin,
        "instance_auditor": principal.instance_auditor,
        "roles": {str(project): sorted(roles) for project, roles in principal.roles.items()},
        "token": None,
    }
    if token is not None:
        told = {"id": str(token.id), "name": token.name, "scope": token.scope}
        body["token"] = {**told, "expires_at": token.expires_at.isoformat()}
    return json_answer(body)


docs.route(
    router,
    "POST",
    "/auth/login",
    login,
    docs.Spec(
        "Sign in",
        "public",
        {200: Token | BrowserSession},
        (400, 401, 403, 413, 415, 422, 429, 503),
        description=_NOT_KEPT,
        body=Login,
    ),
)
docs.route(
    router,
    "POST",
    "/auth/refresh",
    refresh,
    docs.Spec(
        "Go on being signed in",
        "public",
        {200: Token},
        (400, 401, 413, 415, 422, 429, 503),
        description=(
            "Each refresh token is good once. One that comes again ends its session for everybody who holds a token of "
            "it, unless it comes from the same client within ten seconds: then that client is answered the same "
            f"refresh token as the first time. {_NOT_KEPT}"
        ),
        body=Refresh,
    ),
)
docs.route(
    router,
    "POST",
    "/auth/password",
    change_password,
    docs.Spec(
        "Change one's password",
        "signed in",
        {200: Ended},
        (400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
        description=(
            "All of one's other sessions end. An `Idempotency-Key` has no effect here: the second time the current "
            "password is another."
        ),
        body=PasswordChange,
    ),
)
docs.route(
    router,
    "POST",
    "/auth/logout",
    logout,
    docs.Spec(
        "Sign out",
        "signed in",
        {200: Ended},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description=(
            "Its tokens are refused by every process within a second. An `Idempotency-Key` has no effect here: who has "
            "signed out is refused."
        ),
        body=Logout,
        body_required=False,
    ),
)
docs.route(
    router,
    "GET",
    "/auth/sessions",
    list_sessions,
    docs.Spec(
        "List one's sign-ins",
        "signed in",
        {200: SessionList},
        (401, 403, 404, 422, 503),
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "DELETE",
    "/auth/sessions/{session_id}",
    end_session,
    docs.Spec(
        "End one of one's sign-ins",
        "signed in",
        {200: Ended},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description="An `Idempotency-Key` has no effect here: a session ends once.",
    ),
)
docs.route(router, "GET", "/auth/me", me, docs.Spec("Who am I", "signed in", {200: Me}, (401, 422, 503)))
