"""An office in which people talk with the assistant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.office import Office, open_office
from tests.assistant.talking import Scripted, Talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import TestDatabase


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole run, so that the application is started once."""
    return "asyncio"


@pytest.fixture(scope="session")
async def office(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    """Two staffed projects, empty but for their people."""
    async with open_office(make_database("assistant")) as office:
        yield office


@pytest.fixture
def talk(office: Office, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """The office with an assistant that plans what the test says."""
    planner = Scripted()
    monkeypatch.setattr(office.parts.assistant, "_planner", planner)
    return Talk(office, planner)
