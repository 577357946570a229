"""The served application for tests: one office per worker for what changes little, another for what may break it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.office import (
    Office,
    begin_import,
    begin_session,
    furnish,
    link_identity,
    make_conversation,
    make_invitations,
    make_job,
    make_token,
    make_webhook,
    open_office,
    seal,
)

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
    async with open_office(make_database("api")) as office:
        yield office


@pytest.fixture(scope="session")
async def furnished(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    """Two projects with one record of every kind in every state; tests of it leave the records as they are."""
    async with open_office(make_database("bola")) as office:
        for name, world in (("a", office.a), ("b", office.b)):
            office.records[name] = await furnish(world, office.records[name].mark, office.test_database.files)
            office.records[name].put(
                "import", "live", await begin_import(office, "b:operator" if name == "b" else "operator")
            )
            worker = "b:operator" if name == "b" else "operator"
            office.records[name].put("session", "live", begin_session(office.test_database, office.person(worker)))
            office.records[name].put("conversation", "live", await make_conversation(office, worker))
            office.records[name].put("token", "live", (await make_token(office, worker))[0])
            office.records[name].put("identity", "live", link_identity(office.test_database, office.person(worker)))
            admin = "b:admin" if name == "b" else "admin"
            hook, _ = await make_webhook(office, admin, description=office.records[name].mark)
            office.records[name].put("webhook", "live", hook)
            for state, status in (("live", "done"), ("waiting", "dead"), ("queued", "queued")):
                records = office.records[name]
                records.put("job", state, await make_job(office, world.project, status, records.mark))
            await make_invitations(office, world, office.records[name])
            # Somebody who could become a member.
            office.records[name].put("person", "stranger", office.person(await office.newcomer()))
            seal(office.test_database)
        yield office
