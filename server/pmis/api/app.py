"""The application factory."""

from __future__ import annotations

import asyncio
import importlib.metadata
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
from pmis.api import (
    apitokens,
    approvals,
    audit,
    changes,
    chat,
    docs,
    evidence,
    health,
    identities,
    imports,
    inbound,
    invitations,
    jobs,
    mail,
    memories,
    notifications,
    people,
    policies,
    problems,
    secondfactor,
    sessions,
    webhooks,
)
from pmis.api.context import Parts
from pmis.api.direct import Application, Direct
from pmis.api.mcp import PATH, Mcp
from pmis.api.metrics import figures_of, metrics, watch_pool
from pmis.api.middleware import Edge
from pmis.api.proxy import Proxies
from pmis.api.resources import Routes
from pmis.comment.resource import RESOURCE as COMMENTS
from pmis.identity.resource import DELEGATED, MEMBERS
from pmis.memory.resource import RESOURCE as MEMORIES
from pmis.package.resource import RESOURCE as PACKAGES
from pmis.package.resource import TYPES
from pmis.party.resource import CUSTOMERS, VENDORS
from pmis.party.resource import RESOURCE as PARTIES
from pmis.project.resource import RESOURCE as PROJECTS
from pmis.task.resource import RESOURCE as TASKS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from pmis.approval.resource import Resource
    from pmis.kit.settings import Settings

RESOURCES: Final[tuple[Resource, ...]] = (
    PACKAGES,
    PROJECTS,
    TYPES,
    TASKS,
    PARTIES,
    CUSTOMERS,
    VENDORS,
    COMMENTS,
    MEMORIES,
    MEMBERS,
    DELEGATED,
)
IMPORT_BYTES: Final = 10 * 1024 * 1024
DESCRIPTION: Final = (
    "Every change is proposed, judged by a deterministic policy, approved by someone else where the policy says so, "
    "applied once, and written into a log that anyone can verify. `/api/v1` is canonical; `/api` is the same thing."
)


def create_app(settings: Settings) -> FastAPI:
    """The API as the settings describe it; connects when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        parts: Parts = app.state.parts
        await parts.database.open()
        parts.watch.start()
        watching = asyncio.create_task(watch_pool(parts.database))
        try:
            with parts.changes.heeding_signals():
                yield
        finally:
            watching.cancel()
            await parts.watch.stop()
            await parts.limits.close()
            await app.state.mcp.stop()
            await parts.assistant.close()
            await parts.database.close()

    app = Application(
        title="PMIS",
        version=importlib.metadata.version("pmis"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # A redirect would name whatever host the caller named.
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.parts = Parts.of(settings)
    app.state.figures = figures_of(app.state.parts.database)
    app.state.standing = health.standing_of(app.state.parts)
    # Before the routes of the noun, which would take its name for that of a record.
    tables = [memories.router, *(Routes(resource).router() for resource in RESOURCES)]
    tables += [
        module.router
        for module in (
            approvals,
            changes,
            chat,
            evidence,
            audit,
            health,
            identities,
            imports,
            inbound,
            invitations,
            jobs,
            mail,
            notifications,
            people,
            policies,
            sessions,
            apitokens,
            secondfactor,
            webhooks,
        )
    ]
    for prefix in ("/api/v1", "/api"):
        for table in tables:
            table.add_to(app, prefix, described=prefix == "/api/v1")
    app.add_api_route("/health", health.readiness, methods=["GET"], include_in_schema=False)
    app.state.mcp = Mcp()
    app.mount(PATH, app.state.mcp)
    app.add_api_route("/metrics", metrics, methods=["GET"], include_in_schema=False)
    problems.install(app)
    _require_permissions(app)
    app.openapi = lambda: _described(app)
    inner: ASGIApp = Direct(app.framework, app.routes)
    if settings.cors_origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Correlation-Id"],
            expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Correlation-Id", "Idempotency-Replayed"],
        )
    larger = {"/imports/ocds": IMPORT_BYTES, inbound.PATH: settings.mail_max_bytes}
    app.outermost = Edge(
        inner,
        proxies=Proxies(settings),
        max_body_bytes=settings.max_body_bytes,
        larger={prefix + path: limit for prefix in ("/api", "/api/v1") for path, limit in larger.items()},
        hsts=settings.enable_hsts,
    )
    return app


def _described(app: FastAPI) -> dict[str, object]:
    if not app.openapi_schema:
        app.openapi_schema = docs.describe(app)
    return app.openapi_schema


def _require_permissions(app: FastAPI) -> None:
    """Raise RuntimeError for a route that does not say what the caller needs: deny by default begins here."""
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.path.startswith("/api"):
            continue
        path = route.path.removeprefix("/api").removeprefix("/v1")
        for method in route.methods or ():
            if not docs.PERMISSIONS.get((method, path)):
                message = f"{method} {route.path} does not declare its permission"
                raise RuntimeError(message)
