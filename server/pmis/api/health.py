"""Alive, ready, and what for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import parts_of
from pmis.kit.canonical import canonical
from pmis.kit.errors import PmisError
from pmis.ops.migrate import head_revision
from pmis.ops.valkey import BrokerError, ping

router = docs.RouteTable("health")


class Alive(BaseModel):
    """The process answers; nothing else was asked."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Whether requests can be served, part by part."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str]


async def health(request: Request) -> Response:
    """The process is alive."""
    del request
    return Response(b'{"status":"alive"}', 200, None, "application/json")


async def readiness(request: Request) -> Response:
    """Each part, and whether requests can be served."""
    parts = parts_of(request)
    checks: dict[str, Any] = {"database": "ok", "schema": "ok"}
    try:
        async with parts.database.read() as session:
            row = await session.one("select version_num from public.alembic_version")
        wanted = head_revision()
        if row is None or row[0] != wanted:
            checks["schema"] = f"at {row[0] if row else 'nothing'}, this version needs {wanted}; run `pmis migrate`"
    except PmisError as error:
        checks["database"] = error.detail
        checks["schema"] = "unknown"
    if parts.settings.redis_url is not None:
        try:
            await ping(parts.settings.redis_url.get_secret_value())
            checks["broker"] = "ok"
        except BrokerError as error:
            # Losing the broker loses nothing that was accepted, so requests are served on.
            checks["broker"] = str(error)
    ready = checks["database"] == "ok" and checks["schema"] == "ok"
    body = {"status": "ready" if ready else "not_ready", "checks": checks}
    return Response(canonical(body), 200 if ready else 503, None, "application/json")


_READY = {200: Readiness, 503: {"model": Readiness, "description": "Not ready; the checks say why."}}
docs.route(router, "GET", "/health", health, docs.Spec("Is the process alive", "public", {200: Alive}, ()))
docs.route(router, "GET", "/readiness", readiness, docs.Spec("Can requests be served", "public", _READY, ()))
