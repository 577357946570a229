"""Signing in through identity providers, and which identities open one's account."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import (
    COOKIE,
    address_of,
    client_of,
    origin_of,
    parts_of,
    require_known_parameters,
    source_of,
    uuid_or_none,
)
from pmis.api.metrics import SIGN_IN_FAILURES, TOKENS_ISSUED
from pmis.api.own import json_answer, own_page, own_write
from pmis.api.secondfactor import require_recent
from pmis.approval.governed import Input, parse_input
from pmis.identity import groups, links, sessions
from pmis.identity.oidc import (
    LIFETIME,
    MAX_TEXT,
    Flow,
    Identity,
    RelyingParty,
    SignInRefusedError,
    new_flow,
    safe_return,
)
from pmis.identity.principals import load_principal
from pmis.kit.db import Reach
from pmis.kit.errors import ConflictError, InvalidInputError, NotFoundError, PmisError, UnavailableError
from pmis.kit.ids import uuid7
from pmis.kit.text import Line  # noqa: TC001
from pmis.ledger.event import Fact, Origin
from pmis.ledger.store import record

if TYPE_CHECKING:
    from pmis.api.context import Call, Parts
    from pmis.kit.db import Row

router = docs.RouteTable("sign-in")
log = logging.getLogger("pmis.identity")
FLOW_COOKIE: Final = "__Host-pmis-flow-"
_NOT_KNOWN: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When somebody proved who they are whose provider does not say: never lately."""


class ProviderOut(BaseModel):
    """A provider that one can sign in through."""

    name: str
    title: str = Field(description="What people call it.")
    start: str = Field(description="The path to send the browser to.")


class ProviderList(BaseModel):
    """The providers that the settings name."""

    items: list[ProviderOut]


class IdentityOut(BaseModel):
    """An identity at a provider that opens one's account."""

    id: UUID
    provider: str
    linked_at: datetime
    last_used_at: datetime


class IdentityList(BaseModel):
    """One's identities, the newest first."""

    items: list[IdentityOut]
    next: str | None


class IdentityLink(Input):
    """Which provider to link one's account to."""

    provider: Annotated[Line, StringConstraints(min_length=1, max_length=31)] = Field(examples=["corp"])
    return_to: Annotated[Line, StringConstraints(max_length=2000)] = Field(
        default="/", description="The path of this site to come back to.", examples=["/"]
    )


class LinkBegun(BaseModel):
    """Where the browser goes to show who one is at the provider."""

    location: str


class Unlinked(BaseModel):
    """How many identities were removed."""

    removed: int


def _go(location: str) -> Response:
    return Response(b"", 303, {"Location": location})


def _keep(response: Response, name: str, value: str, seconds: int) -> None:
    """Keep a cookie as sessions are kept; one that is empty is taken back."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def _flow_cookie(state: str) -> str:
    """Several windows may be signing in at once; each flow has a cookie of its own."""
    return FLOW_COOKIE + hashlib.sha256(state.encode()).hexdigest()[:12]


def _party(parts: Parts, name: str) -> RelyingParty:
    party = parts.parties.get(name)
    if party is None:
        raise NotFoundError("There is no such identity provider.")
    return party


def _redirect_uri(parts: Parts, name: str) -> str:
    return f"{parts.settings.public}/api/v1/auth/oidc/{name}/callback"


def _safe(target: str | None, pointer: str) -> str:
    try:
        return safe_return(target)
    except ValueError as error:
        raise InvalidInputError(
            f"{error}.", errors=[{"pointer": pointer, "message": str(error), "type": "value_error"}]
        ) from None


async def list_providers(request: Request) -> Response:
    """Which providers one can sign in through."""
    require_known_parameters(request, frozenset())
    items = [
        {"name": name, "title": party.provider.shown, "start": f"/api/v1/auth/oidc/{name}/start"}
        for name, party in parts_of(request).parties.items()
    ]
    return json_answer({"items": items})


async def start_sign_in(request: Request, provider: str) -> Response:
    """Send the browser to the provider."""
    require_known_parameters(request, frozenset({"return_to", "fresh"}))
    parts = parts_of(request)
    party = _party(parts, provider)
    fresh = request.query_params.get("fresh", "false")
    if fresh not in ("true", "false"):
        raise InvalidInputError(
            "fresh: it is true or false.",
            errors=[{"pointer": "/query/fresh", "message": "it is true or false", "type": "bool_parsing"}],
        )
    target = _safe(request.query_params.get("return_to"), "/query/return_to")
    flow = new_flow(provider, return_to=target, now=parts.clock.now(), fresh=fresh == "true")
    response = _go(await party.begin(flow, _redirect_uri(parts, provider)))
    _keep(response, _flow_cookie(flow.state), parts.flows.seal(flow), int(LIFETIME.total_seconds()))
    return response


async def finish_sign_in(request: Request, provider: str) -> Response:
    """End a sign-in that came back from the provider: check it, find the account, begin a session."""
    parts = parts_of(request)
    party = _party(parts, provider)
    taken = await parts.attempts.take("sso", address=address_of(request))
    try:
        flow = _begun(request, parts, provider)
    except SignInRefusedError as error:
        # Anybody can send anything here: that is counted and logged, but makes nobody's log longer.
        _refused(provider, error)
        raise
    try:
        async with parts.database.write(Reach.INSTANCE) as session:
            first = await links.spend(session, flow)
            await session.commit()
        if not first:
            raise SignInRefusedError("used", "This sign-in has come back before. Begin again.")
        identity = await _identified(request, party, flow)
        response = await _opened(request, party, flow, identity)
    except PmisError as error:
        _refused(provider, error)
        if not isinstance(error, UnavailableError):
            await _record_failure(request, provider, error)
        raise
    await parts.attempts.give_back(taken)
    _keep(response, _flow_cookie(flow.state), "", 0)
    return response


def _begun(request: Request, parts: Parts, provider: str) -> Flow:
    state = request.query_params.get("state", "")
    sealed = request.cookies.get(_flow_cookie(state), "")
    if len(state) > MAX_TEXT or len(sealed) > MAX_TEXT:
        sealed = ""
    return parts.flows.open(sealed, provider, state, parts.clock.now())


async def _identified(request: Request, party: RelyingParty, flow: Flow) -> Identity:
    told = request.query_params
    await party.require_issuer(told.get("iss"))
    if "error" in told:
        raise SignInRefusedError("provider_refused", f"{party.provider.shown} did not let you in. Begin again.")
    code = told.get("code", "")
    if not 0 < len(code) <= MAX_TEXT or len(told.getlist("code")) > 1:
        raise SignInRefusedError("no_code", f"{party.provider.shown} gave no code. Begin again.")
    parts = parts_of(request)
    return await party.finish(flow, code, _redirect_uri(parts, flow.provider), parts.clock.now())


async def _opened(request: Request, party: RelyingParty, flow: Flow, identity: Identity) -> Response:
    """The answer that begins a session, or that comes back from linking."""
    parts = parts_of(request)
    now = parts.clock.now()
    response = _go(flow.return_to)
    origin = Origin(sessions.SIGN_IN, source_of(request), request.scope["correlation_id"])
    if flow.link_person is not None:
        await _link(request, party, flow, identity)
        return response
    async with parts.database.write(Reach.INSTANCE) as session:
        person = await links.person_of(session, identity, party.provider, now=now, origin=origin)
        moved = await groups.follow(session, person, party.provider, identity.groups, origin=origin)
        await sessions.hold_person(session, person)
        principal = await load_principal(session, person)
        begun = sessions.begin_in_browser(
            session,
            principal,
            client=client_of(request),
            now=now,
            lifetimes=parts.lifetimes,
            origin=origin_of(request, principal),
        )
        session.defer(
            "update identity.session set authenticated_at = %s where id = %s",
            (identity.authenticated_at or _NOT_KNOWN, begun.session_id),
        )
        await session.commit()
    if moved:
        parts.watch.tell(person)
    TOKENS_ISSUED.labels("cookie").inc()
    _keep(response, COOKIE, begun.cookie, int((begun.expires_at - now).total_seconds()))
    return response


async def _link(request: Request, party: RelyingParty, flow: Flow, identity: Identity) -> None:
    """Link the identity to the account in whose session this began, if that is still whose browser this is."""
    parts = parts_of(request)
    now = parts.clock.now()
    state = await parts.sessions.require_cookie(request.cookies.get(COOKIE, ""), now)
    if str(state.person_id) != flow.link_person:
        raise SignInRefusedError("another_person", "Somebody else has signed in meanwhile. Begin again.")
    principal = await parts.principals.get(state.person_id)
    origin = origin_of(request, principal)
    async with parts.database.write(Reach.INSTANCE) as session:
        await links.link(session, identity, state.person_id, party.provider, because="person", now=now, origin=origin)
        await session.commit()


def _refused(provider: str, error: PmisError) -> None:
    SIGN_IN_FAILURES.labels("provider_unavailable" if isinstance(error, UnavailableError) else "sso").inc()
    because = error.because if isinstance(error, SignInRefusedError) else error.code
    log.warning("sign-in through %s refused: %s", provider, because)


async def _record_failure(request: Request, provider: str, error: PmisError) -> None:
    parts = parts_of(request)
    payload = {
        "provider": provider,
        "client": parts.attempts.digest("login address", address_of(request)),
        "because": error.because if isinstance(error, SignInRefusedError) else error.code,
    }
    origin = Origin(sessions.SIGN_IN, source_of(request), request.scope["correlation_id"])
    async with parts.database.write(Reach.INSTANCE) as session:
        record(session, "signin", uuid7(), Fact("signin.failed", payload), origin=origin, project_id=None)
        await session.commit()


class BrowserNeededError(ConflictError):
    """The way to the provider and back is a browser's."""

    code = "browser_needed"
    title = "This takes a browser"


async def begin_link(request: Request) -> Response:
    """Begin to link one's account to an identity at a provider."""
    call, person, state = await own_write(request)
    said = parse_input(IdentityLink, await request.body())
    parts = call.parts
    target = _safe(said.return_to, "/return_to")
    await require_recent(call)
    if state.kind != "cookie":
        raise BrowserNeededError(
            "Sign in with a browser to link an identity: the way to the provider leads through it."
        )
    party = _party(parts, said.provider)
    flow = new_flow(said.provider, return_to=target, now=parts.clock.now(), link_person=str(person))
    response = json_answer({"location": await party.begin(flow, _redirect_uri(parts, said.provider))})
    _keep(response, _flow_cookie(flow.state), parts.flows.seal(flow), int(LIFETIME.total_seconds()))
    return response


async def list_identities(request: Request) -> Response:
    """The identities that open the caller's account."""
    return await own_page(request, links.links_of, _shown)


def _shown(row: Row, _: Call) -> dict[str, Any]:
    identity, provider, linked, used = row
    return {
        "id": str(identity),
        "provider": provider,
        "linked_at": linked.isoformat(),
        "last_used_at": used.isoformat(),
    }


async def remove_identity(request: Request, identity_id: str) -> Response:
    """Let one of the caller's identities open their account no more."""
    call, person, _ = await own_write(request)
    wanted = uuid_or_none(identity_id)
    if wanted is None:
        raise NotFoundError("There is no such identity.")
    async with call.parts.database.write(call.reach) as session:
        await links.unlink(session, wanted, person, origin=call.origin)
        await session.commit()
    return json_answer({"removed": 1})


_SAFE: Final = "Only a path of this very site is taken."
docs.route(
    router,
    "GET",
    "/auth/providers",
    list_providers,
    docs.Spec("List the identity providers", "public", {200: ProviderList}, (422, 503)),
)
docs.route(
    router,
    "GET",
    "/auth/oidc/{provider}/start",
    start_sign_in,
    docs.Spec(
        "Sign in through an identity provider",
        "public",
        {303: None},
        (404, 422, 503),
        description="Sends the browser to the provider, which sends it back to the callback. Nothing is written.",
        headers=("Location",),
        parameters=[
            docs.query("return_to", f"The path to come back to once signed in. {_SAFE}", "/"),
            docs.query(
                "fresh",
                "`true` asks the provider to let the person prove anew who they are, and takes nothing older.",
                schema={"type": "boolean", "default": False},
            ),
        ],
    ),
)
docs.route(
    router,
    "GET",
    "/auth/oidc/{provider}/callback",
    finish_sign_in,
    docs.Spec(
        "Come back from an identity provider",
        "public",
        {303: None},
        (401, 403, 404, 409, 422, 429, 503),
        description=(
            "Only for browsers that the provider sends here. Sets the cookie of a session and goes on to `return_to`. "
            "A refusal says in `because` what did not fit."
        ),
        headers=("Location",),
        parameters=[
            docs.query("code", "What the provider gives for an ID token, once."),
            docs.query("state", "What ties the answer to the browser in which the sign-in began."),
            docs.query("iss", "Which provider answers (RFC 9207)."),
            docs.query("error", "Why the provider lets nobody in."),
        ],
    ),
)
docs.route(
    router,
    "GET",
    "/auth/identities",
    list_identities,
    docs.Spec(
        "List the identities that open one's account",
        "signed in",
        {200: IdentityList},
        (401, 403, 404, 422, 503),
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "POST",
    "/auth/identities",
    begin_link,
    docs.Spec(
        "Begin to link an identity",
        "signed in",
        {200: LinkBegun},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description=(
            "For pages of this origin: send the browser to `location`. The provider sends it back, and from then on "
            "the identity opens the account. An `Idempotency-Key` has no effect here: nothing is written yet."
        ),
        body=IdentityLink,
    ),
)
docs.route(
    router,
    "DELETE",
    "/auth/identities/{identity_id}",
    remove_identity,
    docs.Spec(
        "Remove one of one's identities",
        "signed in",
        {200: Unlinked},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description="Sessions that it began go on. An `Idempotency-Key` has no effect here: it is removed once.",
    ),
)
