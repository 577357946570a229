"""Alive, ready, and what for."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from psycopg import Error as PsycopgError
from psycopg.errors import UndefinedTable
from pydantic import BaseModel
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import PmisError
from pmis.kit.remembered import Remembered
from pmis.ops.migrate import head_revision, known_revisions
from pmis.ops.valkey import BrokerError, ping

if TYPE_CHECKING:
    from pmis.api.context import Parts

router = docs.RouteTable("health")
FRESH_SECONDS: Final = 1.0
DATABASE_SECONDS: Final = 2.0
"""How long the database may take to answer: who asks gives up soon after, and would not hear why."""
STALLED_SECONDS: Final = 30
"""A job that nobody has claimed for so long means that the workers, or the relay, do not run."""


class Alive(BaseModel):
    """The process answers; nothing else was asked."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Whether requests can be served, part by part."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str]
    revision: str | None
    """The revision of the database's schema; null when unknown."""
    oldest_job_seconds: int | None
    """For how long the oldest job that is due, or promise that is not handed on, has waited; null when unknown."""


async def health(request: Request) -> Response:
    """The process is alive."""
    del request
    return Response(b'{"status":"alive"}', 200, None, "application/json")


def standing_of(parts: Parts) -> Remembered[tuple[bool, str]]:
    """Whether requests can be served, and what to answer. That is in no budget, so it is looked into once a second."""
    return Remembered(partial(_look, parts), FRESH_SECONDS)


async def readiness(request: Request) -> Response:
    """Each part, and whether requests can be served."""
    standing: Remembered[tuple[bool, str]] = request.app.state.standing
    ready, body = await standing.get()
    return Response(body, 200 if ready else 503, None, "application/json")


async def _look(parts: Parts) -> tuple[bool, str]:
    checks: dict[str, str] = {}
    revision: str | None = None
    oldest: int | None = None
    ready = False
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            revision = await _revision(parts)
        checks["database"] = "ok"
        ready, checks["schema"] = _judged(revision)
        checks["jobs"], oldest = await _jobs(parts)
    except TimeoutError:
        checks = {"database": f"does not answer within {DATABASE_SECONDS:.0f} s", "schema": "unknown"}
    except PmisError as error:
        checks = {"database": error.detail, "schema": "unknown"}
    except PsycopgError as error:
        checks = {"database": f"refuses to be read (SQLSTATE {error.sqlstate}); `pmis doctor` says why"}
        checks["schema"] = "unknown"
    settings = parts.settings
    broker = settings.celery_broker or settings.redis_url
    if broker is not None:
        try:
            await ping(broker.get_secret_value())
            checks["broker"] = "ok"
        except BrokerError as error:
            # Losing the broker loses nothing that was accepted, so requests are served on.
            checks["broker"] = str(error)
    body = {
        "status": "ready" if ready else "not_ready",
        "checks": checks,
        "revision": revision,
        "oldest_job_seconds": oldest,
    }
    return ready, canonical(body)


async def _revision(parts: Parts) -> str | None:
    """The revision that the database is at; None for an empty one."""
    try:
        async with parts.database.read(Reach.INSTANCE) as session:
            row = await session.one("select version_num from public.alembic_version")
    except UndefinedTable:
        return None
    return str(row[0]) if row else None


def _judged(revision: str | None) -> tuple[bool, str]:
    """Whether this version can work with a schema, and what to say of it.

    One that is ahead is worked with: a newer version is on its way in, or out again, and its migrations leave what the
    version before needs.
    """
    wanted = head_revision()
    if revision == wanted:
        return True, "ok"
    if revision is None:
        return False, "empty; run `pmis migrate`"
    if revision in known_revisions():
        return False, f"at {revision}, this version needs {wanted}; run `pmis migrate`"
    return True, f"ahead, at {revision}; this version knows {wanted}"


async def _jobs(parts: Parts) -> tuple[str, int | None]:
    """Whether somebody does what was accepted. Requests are served without: nothing of it is lost by waiting."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), parts.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select unclaimed + unsent, extract(epoch from clock_timestamp() - "
                "least(oldest_due_at, oldest_unsent_at))::float8 from jobs.lag()"
            )
    except (PmisError, PsycopgError, TimeoutError):
        # A migration may hold what is counted, and requests are served on.
        return "unknown", None
    waiting, age = row or (0, None)
    oldest = int(age or 0)
    if oldest <= STALLED_SECONDS:
        return "ok", oldest
    return f"{waiting} wait, the oldest for {oldest} s; do `pmis relay` and `pmis worker` run?", oldest


_READY = {200: Readiness, 503: {"model": Readiness, "description": "Not ready; the checks say why."}}
docs.route(router, "GET", "/health", health, docs.Spec("Is the process alive", "public", {200: Alive}, ()))
docs.route(router, "GET", "/readiness", readiness, docs.Spec("Can requests be served", "public", _READY, ()))
