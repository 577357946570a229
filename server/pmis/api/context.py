"""What a request can reach: the parts of the running application, and who is calling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

from pmis.api import proxy
from pmis.api.limits import Limits
from pmis.api.listening import Changes
from pmis.api.readings import Readings
from pmis.approval.propose import Request as ProposalRequest
from pmis.approval.propose import actor_of
from pmis.assistant.service import Assistant
from pmis.identity import apitokens
from pmis.identity.apitokens import ApiTokens, TokenScopeError
from pmis.identity.attempts import Attempts
from pmis.identity.oidc import Flows, RelyingParty
from pmis.identity.principals import Principals
from pmis.identity.providers import providers_of
from pmis.identity.sessions import Client, Lifetimes, Sessions, digest_of
from pmis.identity.tokens import Tokens
from pmis.identity.watch import Watch
from pmis.kit.clock import Clock
from pmis.kit.db import Database, Reach
from pmis.kit.errors import (
    ForbiddenError,
    InvalidInputError,
    MalformedRequestError,
    NotFoundError,
    UnauthenticatedError,
)
from pmis.ledger.event import Origin
from pmis.ledger.idempotency import require_key
from pmis.ledger.vault import Vault
from pmis.policy.access import ALL, visible_projects
from pmis.policy.levels import Level

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from starlette.requests import Request
    from starlette.responses import Response

    from pmis.approval.governed import Proposed
    from pmis.identity.apitokens import ApiToken
    from pmis.identity.sessions import SessionState
    from pmis.kit.settings import Settings
    from pmis.kit.storage import Storage
    from pmis.ledger.event import Source
    from pmis.memory.embedding import Embedder
    from pmis.policy.access import Principal

_TAG: Final = re.compile('"[0-9]{1,9}"')
COOKIE: Final = "__Host-pmis"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DEVELOPMENT_SECRET = "development only: " + "pmis" * 8


@dataclass
class Parts:
    """The parts of one running API process."""

    settings: Settings
    database: Database
    vault: Vault
    tokens: Tokens
    watch: Watch
    principals: Principals
    sessions: Sessions
    api_tokens: ApiTokens
    attempts: Attempts
    parties: dict[str, RelyingParty]
    """The identity providers that people may sign in through, by name."""
    flows: Flows
    lifetimes: Lifetimes
    clock: Clock
    limits: Limits
    readings: Readings
    changes: Changes
    assistant: Assistant

    @cached_property
    def storage(self) -> Storage:
        """Where files are; a folder is made when the first is asked for."""
        from pmis.kit.storage import Storage  # noqa: PLC0415 - its library loads slowly, and few requests need it

        return Storage.of(self.settings)

    @cached_property
    def embedder(self) -> Embedder:
        """What works out what a question means."""
        from pmis.memory.embedding import embedder_of  # noqa: PLC0415 - few requests need it

        return embedder_of(self.settings)

    @classmethod
    def of(cls, settings: Settings) -> Parts:
        """The parts that the settings describe; nothing is connected yet."""
        secret = settings.secret_key.get_secret_value() if settings.secret_key else DEVELOPMENT_SECRET
        jwt_secret = settings.jwt_secret_key.get_secret_value() if settings.jwt_secret_key else DEVELOPMENT_SECRET
        database = Database.of(settings, settings.app_dsn, size=settings.db_pool_size, role="pmis_app")
        vault, clock = Vault(secret), Clock(settings.pmis_now)
        watch = Watch(settings.app_dsn)
        return cls(
            settings,
            database,
            vault,
            Tokens(jwt_secret, settings.access_token_minutes, settings.previous_jwt_secrets),
            watch,
            Principals(database, watch),
            Sessions(database, watch),
            ApiTokens(database, watch),
            Attempts(database, secret, settings),
            {name: RelyingParty(one) for name, one in providers_of(settings).items()},
            Flows(secret),
            Lifetimes.of(settings),
            clock,
            Limits(settings),
            Readings(),
            Changes(database),
            Assistant.of(settings, database, vault, clock),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One request of somebody who signed in, or of a program with somebody's API token."""

    request: Request
    parts: Parts
    principal: Principal
    correlation_id: str
    source: Source
    session: SessionState | None = None
    token: ApiToken | None = None

    @property
    def origin(self) -> Origin:
        """Where the facts of this call come from."""
        return origin_of(self.request, self.principal)

    @property
    def reach(self) -> Reach:
        """What this call may reach in the database: the projects that the caller reads, and the instance's own."""
        return reach_of(self.principal)

    async def standing(self) -> Principal:
        """The caller as they are by now, for answers that go on; raises UnauthenticatedError for who may no more."""
        if self.token is not None:
            return (await _by_token(self.parts, bearer_of(self.request) or "", self.parts.clock.now()))[1]
        if self.session is not None:
            await self.parts.sessions.require(self.session.id, self.session.person_id, self.parts.clock.now())
        return await self.parts.principals.get(self.principal.person_id) if self.principal.person_id else self.principal

    def proposing(self, said: Proposed | None = None) -> ProposalRequest:
        """The caller as a proposer, with what they said about the proposal."""
        return ProposalRequest(
            self.principal,
            self.source,
            self.correlation_id,
            reason=said.reason if said else None,
            stated_impact=Level.parse(said.impact_level) if said and said.impact_level else None,
            stated_uncertainty=Level.parse(said.uncertainty_level) if said and said.uncertainty_level else None,
        )


def reach_of(principal: Principal) -> Reach:
    """The projects that a principal reads, as PostgreSQL is told of them."""
    visible = visible_projects(principal)
    return Reach.INSTANCE if visible is ALL else Reach.of(visible)


def parts_of(request: Request) -> Parts:
    """The application's parts."""
    return cast("Parts", request.app.state.parts)


async def caller(request: Request) -> Call:
    """Who calls, with one request less to make; raises UnauthenticatedError, or TooManyRequestsError."""
    parts = parts_of(request)
    try:
        call = await _known(request)
    except UnauthenticatedError:
        await count_address(request)
        raise
    if call.token is None:
        await parts.limits.require("person", str(call.principal.id))
    return call


async def count_address(request: Request) -> None:
    """Count a request of nobody who is known; raises TooManyRequestsError."""
    parts = parts_of(request)
    if parts.limits.counts("address"):
        await parts.limits.require("address", parts.attempts.address_digest("request", address_of(request)))


async def _known(request: Request) -> Call:
    parts = parts_of(request)
    now = parts.clock.now()
    authorization = request.headers.get("authorization")
    if proxy.USER in request.scope and authorization is None:
        # Any page may have made the browser send this past the proxy, which knows who sits there.
        if request.method not in _SAFE:
            require_same_origin(request)
        principal = await proxy.principal_of(parts, request.scope[proxy.USER])
        request.scope["actor"] = str(principal.id)
        return Call(request, parts, principal, request.scope["correlation_id"], source_of(request))
    cookie = request.cookies.get(COOKIE) if authorization is None else None
    if cookie is not None:
        if request.method not in _SAFE:
            require_same_origin(request)
        session = await parts.sessions.require_cookie(cookie, now)
    else:
        token = bearer_of(request)
        if token is None:
            raise UnauthenticatedError("Sign in and send the access token as `Authorization: Bearer <token>`.")
        if token.startswith(apitokens.PREFIX):
            return await _with_token(request, token, now)
        known = parts.tokens.verify(token, now)
        session = await parts.sessions.require(known.session_id, known.person_id, now)
    principal = await parts.principals.get(session.person_id)
    request.scope["actor"] = str(principal.id)
    return Call(request, parts, principal, request.scope["correlation_id"], source_of(request), session)


def bearer_of(request: Request) -> str | None:
    """The token that a request shows, of whatever kind."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


async def _with_token(request: Request, text: str, now: datetime) -> Call:
    parts = parts_of(request)
    token, principal = await _by_token(parts, text, now)
    request.scope["actor"] = principal.ref
    await parts.limits.require("token", str(token.id))
    if token.scope == "read" and request.method not in _SAFE:
        raise TokenScopeError(f"The API token {token.name!r} only reads. Make one with the scope `write`.")
    await parts.api_tokens.note_use(token, digest_of(text), now)
    return Call(request, parts, principal, request.scope["correlation_id"], source_of(request), token=token)


async def _by_token(parts: Parts, text: str, now: datetime) -> tuple[ApiToken, Principal]:
    token = await parts.api_tokens.require(text, now)
    return token, token.principal(await parts.principals.get(token.person_id))


class PersonNeededError(ForbiddenError):
    """What a person does in person was asked for with an API token."""

    code = "person_needed"
    title = "An API token cannot do this"


def in_person(call: Call) -> tuple[UUID, SessionState]:
    """The person who calls and the session they call in.

    Raises PersonNeededError for an API token, whatever its scope, and NotFoundError for a call without a session.
    """
    if call.token is not None:
        raise PersonNeededError("This is done in person. Sign in; an API token cannot do it.")
    person = call.principal.person_id
    if person is None or call.session is None:
        raise NotFoundError("There is no session: this request was made without one.")
    return person, call.session


class CrossSiteError(ForbiddenError):
    """A page of another site made the browser send this, with the cookie that it keeps for us."""

    code = "cross_site"
    title = "This came from another site"


def require_same_origin(request: Request) -> None:
    """Raise CrossSiteError unless the browser says that a page of this very origin sends the request.

    Whatever of `Sec-Fetch-Site` and `Origin` is there must say so, and one of them must be there. No page can set
    either. Without TLS only pages of this machine count.
    """
    site = request.headers.getlist("sec-fetch-site")
    origin = request.headers.getlist("origin")
    fits = all(one == "same-origin" for one in site) and all(
        _is_own(one, request.headers.get("host", "")) for one in origin
    )
    if not fits or not (site or origin):
        raise CrossSiteError(
            "With a session cookie, changes are taken only from pages of this very origin. Programs send an access "
            "token instead."
        )


def _is_own(origin: str, host: str) -> bool:
    scheme, _, place = origin.lower().partition("://")
    name = place.partition(":")[0]
    is_local = name in ("localhost", "127.0.0.1") or place.startswith("[::1]")
    return bool(place) and place == host.lower() and (scheme == "https" or (scheme == "http" and is_local))


def source_of(request: Request) -> Source:
    """What kind of program asks: our command line, or any other."""
    return "cli" if request.headers.get("user-agent", "").startswith("pmis-cli/") else "api"


def origin_of(request: Request, principal: Principal) -> Origin:
    """Where a fact comes from that somebody causes by this request."""
    return Origin(actor_of(principal), source_of(request), request.scope["correlation_id"])


def address_of(request: Request) -> str:
    """The network address that asks; one word for all who ask over a socket of this machine."""
    return request.client.host if request.client else "local"


def client_of(request: Request) -> Client:
    """The program that asks."""
    return Client.of(request.headers.get("user-agent", ""), address_of(request))


def set_cookie(response: Response, value: str, seconds: int) -> None:
    """Browsers take a `__Host-` cookie over TLS only, most also over http from localhost; none gives it to scripts."""
    response.set_cookie(COOKIE, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def require_known_parameters(request: Request, known: frozenset[str]) -> None:
    """Raise InvalidInputError for a query parameter that the endpoint does not have, or one given twice."""
    if not request.scope["query_string"]:
        return
    names = [name for name, _ in request.query_params.multi_items()]
    wrong = [name for name in names if name not in known]
    twice = [name for name in set(names) if names.count(name) > 1]
    if wrong or twice:
        words = f"there is no parameter {wrong[0]!r}" if wrong else f"{twice[0]!r} is given twice"
        listed = ", ".join(sorted(known)) or "none"
        raise InvalidInputError(
            f"{words}; this endpoint has {listed}.",
            errors=[{"pointer": f"/query/{(wrong or twice)[0]}", "message": words, "type": "extra_forbidden"}],
        )


def if_match(request: Request) -> int | None:
    """The version in an `If-Match` header; raises MalformedRequestError for anything but one entity tag of ours."""
    header = request.headers.get("if-match")
    if header is None or header == "*":
        return None
    if not _TAG.fullmatch(header):
        raise MalformedRequestError('If-Match must be the ETag of the record as it was read, such as "3".')
    return int(header[1:-1])


def require_good_key(request: Request) -> None:
    """Raise MalformedKeyError for an `Idempotency-Key` that is none, where no answer is kept under it either."""
    header = request.headers.get("idempotency-key")
    if header is not None:
        require_key(header)


def etag(version: int) -> str:
    """The entity tag of a record at a version."""
    return f'"{version}"'


def uuid_or_none(text: str) -> UUID | None:
    """The UUID that a text is, or None."""
    from uuid import UUID as Uuid  # noqa: PLC0415, N811

    try:
        return Uuid(text)
    except ValueError:
        return None
