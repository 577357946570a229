"""An office in which people talk with the assistant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmis.assistant.evaluation.world import load_world
from pmis.kit.db import Reach
from pmis.ops.console import Console
from tests.api.office import PASSWORD, Office, open_office
from tests.assistant.talking import Scripted, Talk
from tests.builders import make_member, make_project

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pmis.assistant.evaluation.world import World
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


async def furnish(office: Office) -> World:
    """Load the world: who is there by the console, all else over HTTP."""
    world = load_world()
    async with office.database.write(Reach.INSTANCE) as session:
        console = Console(session, office.vault, "tests", "tests")
        for key, person in world.data["people"].items():
            made = await console.person(person["name"], person["email"], PASSWORD)
            world.ids[f"person:{key}"] = str(made.id)
            office.people[key] = made.id
        for key, project in world.data["projects"].items():
            identity = await make_project(session, office.vault, **project)
            world.ids[f"project:{key}"] = str(identity)
            for who, person in world.data["people"].items():
                if key in person["roles"]:
                    await make_member(session, office.vault, identity, office.people[who], *person["roles"][key])
        await session.commit()

    async def call(who: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await office.call(who, method, path, dict(body))
        assert answer.status_code < 300 or path.endswith("/approve"), (method, path, answer.text)
        return answer.json()

    await world.load(call)
    return world


@pytest.fixture(scope="session")
async def evaluated(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[tuple[Office, World]]:
    """A served application in which the world of the evaluation is loaded."""
    async with open_office(make_database("planner")) as office:
        yield office, await furnish(office)
