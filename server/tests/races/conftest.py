"""One application, served twice in this process, on a database that only these tests use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pmis.api.app import create_app
from tests.api.office import Office, open_office, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    import httpx2

    from tests.conftest import TestDatabase

# Enough for everybody who waits for a twin, and patience for a busy machine: a time-out is another test's matter.
SETTINGS = {"db_pool_size": 24, "lock_timeout_ms": 30_000, "db_wait_ms": 60_000}


@dataclass(frozen=True)
class Twice:
    """The office, and a second process's worth of the same application."""

    office: Office
    clients: tuple[httpx2.AsyncClient, httpx2.AsyncClient]


@asynccontextmanager
async def again(office: Office, **settings: Any) -> AsyncGenerator[tuple[Any, httpx2.AsyncClient]]:
    """The application once more on the office's database, as after a restart or beside it."""
    app = create_app(settings_for(office.test_database, **{**SETTINGS, **settings}))
    async with serving(app) as client:
        yield app, client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole run, so that the application is started once."""
    return "asyncio"


@pytest.fixture(scope="session")
async def twice(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Twice]:
    """Two processes of one office."""
    async with open_office(make_database("races"), **SETTINGS) as office, again(office) as (_, other):
        yield Twice(office, (office.client, other))
