"""One's own API tokens over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response  # noqa: TC002 - the same

from pmis.api import docs
from pmis.api.context import uuid_or_none
from pmis.api.metrics import TOKENS_ISSUED
from pmis.api.own import json_answer, own_page, own_write
from pmis.api.resources import project_named
from pmis.api.secondfactor import require_recent
from pmis.approval.governed import Input, parse_input
from pmis.identity import apitokens, sessions
from pmis.kit.db import Reach
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.text import Line  # noqa: TC001

if TYPE_CHECKING:
    from pmis.api.context import Call
    from pmis.kit.db import Row

router = docs.RouteTable("sign-in")
_MAX_PROJECTS = 50


class TokenCreate(Input):
    """What a program is to be let do, and for how long."""

    name: Annotated[Line, StringConstraints(max_length=80)] = Field(
        description="What uses it; the log names it by this.", examples=["Nightly report"]
    )
    scope: Literal["read", "write"] = Field(
        default="read",
        description="`read` reads alone. `write` also proposes; it never decides or confirms, as only people do.",
        examples=["read"],
    )
    projects: list[Annotated[Line, StringConstraints(max_length=40)]] = Field(
        default=[],
        max_length=_MAX_PROJECTS,
        description="Only these projects, by prefix or id. None: wherever its owner has a role.",
        examples=[[]],
    )
    expires_in_days: int = Field(
        ge=1, le=3650, description="In how many days it ends; API_TOKEN_DAYS says how many it can be.", examples=[90]
    )


class ApiTokenOut(BaseModel):
    """An API token that was not revoked, without the token itself."""

    id: UUID
    name: str
    hint: str = Field(description="How the token begins, to tell which one it is.")
    scope: Literal["read", "write"]
    projects: list[UUID] = Field(description="To which projects it is confined; none: to those of its owner.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="When it was used last, to the hour.")


class NewToken(ApiTokenOut):
    """A new API token."""

    token: str = Field(description="Send it as `Authorization: Bearer`. It is shown this once and kept nowhere.")


class ApiTokenList(BaseModel):
    """One's API tokens, the newest first."""

    items: list[ApiTokenOut]
    next: str | None


class TokenRevoked(BaseModel):
    """How many tokens were revoked."""

    revoked: int


def _shown(row: Row, _: Call) -> dict[str, Any]:
    told = dict(zip(apitokens.LISTED, row, strict=True))
    scopes = told.pop("scopes")
    return {
        **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()},
        "id": str(told["id"]),
        "scope": "write" if "write" in scopes else "read",
        "projects": sorted(map(str, apitokens.projects_of(scopes) or ())),
    }


async def list_tokens(request: Request) -> Response:
    """The caller's own tokens."""
    return await own_page(request, apitokens.tokens_of, _shown)


async def create_token(request: Request) -> Response:
    """Make a token for a program."""
    call, person, own = await own_write(request)
    said = parse_input(TokenCreate, await request.body())
    await require_recent(call)
    parts = call.parts
    longest = parts.settings.api_token_days
    if said.expires_in_days > longest:
        message = f"at most {longest}"
        raise InvalidInputError(
            f"expires_in_days: {message}.",
            errors=[{"pointer": "/expires_in_days", "message": message, "type": "less_than_equal"}],
        )
    now = parts.clock.now()
    async with parts.database.write(Reach.INSTANCE) as session:
        projects = {await project_named(session, call.principal, one) for one in said.projects}
        identity, token = await apitokens.make(
            session,
            person,
            name=said.name,
            scope=said.scope,
            projects=projects,
            lifetime=timedelta(days=said.expires_in_days),
            now=now,
            origin=call.origin,
        )
        row = await session.one(apitokens.SELECTED + "where id = %s", (identity,))
        # Whoever ended the session, or disabled its person, meanwhile ended all tokens before this one was there.
        await sessions.require_going_on(session, own.id)
        await session.commit()
    TOKENS_ISSUED.labels("api").inc()
    shown = _shown(row, call) if row else {}
    return json_answer({**shown, "token": token}, 201)


async def revoke_token(request: Request, token_id: str) -> Response:
    """End one of the caller's own tokens."""
    call, person, _ = await own_write(request)
    wanted = uuid_or_none(token_id)
    if wanted is None:
        raise NotFoundError("There is no such token.")
    async with call.parts.database.write(call.reach) as session:
        await apitokens.revoke(session, wanted, person, now=call.parts.clock.now(), origin=call.origin)
        await session.commit()
    call.parts.watch.tell(person)
    return json_answer({"revoked": 1})


docs.route(
    router,
    "GET",
    "/tokens",
    list_tokens,
    docs.Spec(
        "List one's API tokens",
        "signed in",
        {200: ApiTokenList},
        (401, 403, 404, 422, 503),
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "POST",
    "/tokens",
    create_token,
    docs.Spec(
        "Make an API token",
        "signed in",
        {201: NewToken},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description=(
            "A program that shows it acts as a service for its owner, with the roles that the owner has at that "
            "moment. It never decides, confirms, configures or exports. An `Idempotency-Key` has no effect here, as "
            "the token is not kept: a second token of the same name is refused."
        ),
        body=TokenCreate,
    ),
)
docs.route(
    router,
    "DELETE",
    "/tokens/{token_id}",
    revoke_token,
    docs.Spec(
        "Revoke one of one's API tokens",
        "signed in",
        {200: TokenRevoked},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description=(
            "Every process refuses it within a second. An `Idempotency-Key` has no effect here: a token ends once."
        ),
    ),
)
