"""Signing in, and who one is."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import caller, parts_of, require_good_key, require_known_parameters
from pmis.api.metrics import SIGN_IN_FAILURES, TOKENS_ISSUED
from pmis.approval.governed import Input, parse_input
from pmis.identity.passwords import verify_password
from pmis.identity.principals import load_principal
from pmis.kit.canonical import canonical
from pmis.kit.errors import UnauthenticatedError
from pmis.kit.text import Line  # noqa: TC001
from pmis.policy.access import Role

router = docs.RouteTable("sign-in")


class Login(Input):
    """An address and a password."""

    email: Annotated[Line, StringConstraints(max_length=254)] = Field(examples=["ada@demo.example"])
    password: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["correct horse battery"]
    )


class Token(BaseModel):
    """A signed access token; send it as `Authorization: Bearer`."""

    access_token: str
    token_type: str = Field(examples=["bearer"])
    expires_in: int = Field(description="Seconds until it is no longer good.", examples=[600])


class Me(BaseModel):
    """Who one is, and one's roles in each project."""

    id: UUID
    name: str
    instance_admin: bool
    instance_auditor: bool
    roles: dict[UUID, list[Role]]


async def login(request: Request) -> Response:
    """Answer an access token for the right password; the same refusal, after the same time, for everything else."""
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)
    said = parse_input(Login, await request.body())
    parts = parts_of(request)
    async with parts.database.read() as session:
        row = await session.one(
            "select person_id, password_hash from identity.credential where lower(email) = lower(%s)", (said.email,)
        )
    if not await verify_password(row[1] if row else None, said.password) or row is None:
        SIGN_IN_FAILURES.labels("password").inc()
        raise UnauthenticatedError("The e-mail address or the password is wrong.")
    async with parts.database.read() as session:
        await load_principal(session, row[0])
    token = parts.tokens.issue(row[0], parts.clock.now())
    TOKENS_ISSUED.labels("access").inc()
    seconds = int(parts.tokens.lifetime.total_seconds())
    body = {"access_token": token, "token_type": "bearer", "expires_in": seconds}
    return Response(canonical(body), 200, None, "application/json")


async def me(request: Request) -> Response:
    """Who the token stands for, and the roles that count."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    principal = call.principal
    body = {
        "id": str(principal.id),
        "name": principal.name,
        "instance_admin": principal.instance_admin,
        "instance_auditor": principal.instance_auditor,
        "roles": {str(project): sorted(roles) for project, roles in principal.roles.items()},
    }
    return Response(canonical(body), 200, None, "application/json")


docs.route(
    router,
    "POST",
    "/auth/login",
    login,
    docs.Spec(
        "Sign in",
        "public",
        {200: Token},
        (400, 401, 413, 415, 422, 503),
        description="An `Idempotency-Key` has no effect here: nothing is changed, and tokens are not kept.",
        body=Login,
    ),
)
docs.route(router, "GET", "/auth/me", me, docs.Spec("Who am I", "signed in", {200: Me}, (401, 422, 503)))
