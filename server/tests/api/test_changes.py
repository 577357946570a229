"""Open pages hear what changes: soon, only of what their people read, and for no longer than these may."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from pmis.api import changes, listening
from pmis.identity.tokens import Tokens
from pmis.kit.db import Database, Reach
from pmis.ledger.following import Following
from pmis.ledger.vault import Vault
from tests.api.expect import ok, problem
from tests.api.office import JWT_SECRET, begin_session
from tests.api.served import Served
from tests.builders import SECRET, make_member, make_person

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
READY: Final = "event: ready\ndata: {}\n\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(changes, "_STANDING_SECONDS", 0.05)


def told(text: str) -> list[dict[str, Any]]:
    """What the changes said, after the stream began."""
    assert text.startswith(READY)
    found: list[dict[str, Any]] = []
    for message in text.removeprefix(READY).strip().split("\n\n"):
        if not message or message.startswith(":"):
            continue
        event, data = message.splitlines()
        assert event == "event: change"
        found.append(json.loads(data.removeprefix("data: ")))
    return found


async def listen(office: Office, who: str, seconds: int = 2) -> asyncio.Task[str]:
    """The stream, begun."""
    hub = office.parts.changes
    before = len(hub._ears)

    async def whole() -> str:
        answer = await office.get(who, f"/changes/stream?seconds={seconds}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in answer.headers["cache-control"]
        return answer.text

    task = asyncio.create_task(whole())
    async with asyncio.timeout(10):
        while len(hub._ears) == before or hub._looking is None:  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)
    return task


async def test_a_change_is_told_to_those_who_read_it(office: Office):
    ears = {who: await listen(office, who) for who in ("viewer", "operator", "b:viewer", "root", "inspector", "nobody")}
    package = await office.a.make_package()
    heard = {who: told(await ear) for who, ear in ears.items()}
    for who in ("viewer", "operator", "inspector"):
        mine = [one for one in heard[who] if one["entity_id"] == str(package.id)]
        assert [one["type"] for one in mine] == ["package.created"], who
        assert mine[0].keys() == {"entity_type", "entity_id", "project_id", "type", "version", "position"}
        assert (mine[0]["entity_type"], mine[0]["version"]) == ("package", 1)
        assert mine[0]["project_id"] == str(office.a.project)
    for who in ("b:viewer", "root", "nobody"):
        assert str(office.a.project) not in json.dumps(heard[who])
    assert office.parts.changes._looking is None, "nobody listens, and nobody looks"


async def test_it_does_not_tell_who_signs_in_or_reads_the_log(office: Office):
    ear = await listen(office, "inspector")
    ok(await office.get("inspector", "/audit", params={"type": "package.created", "limit": "1"}))
    package = await office.a.make_package()
    heard = told(await ear)
    assert str(package.id) in {one["entity_id"] for one in heard}
    assert {one["entity_type"] for one in heard} <= changes.TOLD


async def test_who_loses_their_role_hears_no_more(office: Office):
    who = await office.newcomer("viewer")
    ear = await listen(office, who, 3)
    before = await office.a.make_package()
    await asyncio.sleep(0.5)
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one("select id from state.membership where person_id = %s", (office.person(who),))
    assert row is not None
    proposed = await office.a.propose("admin", "membership", "patch", row[0], {"roles": []})
    assert (await office.a.settle(proposed, "admin")).outcome == "applied"
    await asyncio.sleep(0.5)
    after = await office.a.make_package()
    heard = {one["entity_id"] for one in told(await ear)}
    assert str(before.id) in heard
    assert str(after.id) not in heard


async def test_whose_session_ends_hears_no_more(office: Office):
    who = await office.newcomer("viewer")
    ear = await listen(office, who, 30)
    assert (await office.post(who, "/auth/logout", {})).status_code == 200
    await asyncio.wait_for(ear, 10)


async def test_somebody_too_slow_is_told_nothing_more(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listening, "_MOST_BEHIND", 1)
    slow = await listen(office, "viewer", 30)
    monkeypatch.setattr(listening, "_MOST_BEHIND", 1000)
    quick = await listen(office, "viewer", 2)
    package = await office.a.make_package()
    # Founded in one transaction, several events come at one look: one more than the slow one can keep.
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(
            session, office.vault, office.a.project, await make_person(session, office.vault, "N"), "viewer"
        )
        await session.commit()
    assert told(await asyncio.wait_for(slow, 10))
    assert str(package.id) in {one["entity_id"] for one in told(await quick)}


async def test_one_listens_in_so_many_places(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listening, "_MOST_EACH", 2)
    ears = [await listen(office, "viewer", 1) for _ in range(2)]
    refused = problem(await office.get("viewer", "/changes/stream"), 429, "too_many_streams")
    assert "Close one" in refused["detail"]
    assert (await office.get("operator", "/changes/stream?seconds=0")).status_code == 200, "others may"
    await asyncio.gather(*ears)
    again = await office.get("viewer", "/changes/stream?seconds=0")
    assert (again.status_code, again.text) == (200, READY)


@pytest.mark.parametrize("seconds", ["-1", "3601", "1.5", "x", "", "٣"])
async def test_how_long_is_a_number_of_seconds(office: Office, seconds: str):
    found = problem(await office.get("viewer", "/changes/stream", params={"seconds": seconds}), 422, "invalid_input")
    assert found["errors"][0]["pointer"] == "/query/seconds"


async def test_a_silent_stream_shows_that_it_lives(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "_HEARTBEAT_SECONDS", 0.1)
    text = await (await listen(office, "nobody", 1))
    assert text.count(": still here\n\n") >= 3


async def test_it_goes_on_when_the_database_was_away_for_a_moment(office: Office, monkeypatch: pytest.MonkeyPatch):
    read, failing = Following.read, [3]

    async def fails(self: Following, session: Any) -> Any:
        if failing[0]:
            failing[0] -= 1
            await session.all("select 1 / 0")
        return await read(self, session)

    monkeypatch.setattr(Following, "read", fails)
    ear = await listen(office, "viewer", 2)
    package = await office.a.make_package()
    assert str(package.id) in {one["entity_id"] for one in told(await ear)}
    assert failing == [0]


async def test_a_fault_that_nobody_foresaw_ends_the_streams_and_not_those_to_come(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    read = Following.read

    async def fails(self: Following, session: Any) -> Any:
        del self, session
        raise LookupError

    monkeypatch.setattr(Following, "read", fails)
    ear = await listen(office, "viewer", 30)
    assert told(await asyncio.wait_for(ear, 10)) == []
    monkeypatch.setattr(Following, "read", read)
    ear = await listen(office, "viewer", 2)
    package = await office.a.make_package()
    assert str(package.id) in {one["entity_id"] for one in told(await ear)}


def test_a_server_that_ends_ends_its_streams(make_database: Callable[[str], TestDatabase], tmp_path: Path):
    database = make_database("streams")
    person = asyncio.run(_somebody(database))
    token = Tokens(JWT_SECRET, 15).issue(person, begin_session(database, person), datetime.now(UTC))
    served = Served(database, tmp_path)
    try:
        served.wait()
        address = f"http://127.0.0.1:{served.port}/api/v1/changes/stream"
        with httpx2.stream("GET", address, headers={"Authorization": f"Bearer {token}"}, timeout=30) as stream:
            texts = stream.iter_text()
            assert next(texts) == READY
            began = time.monotonic()
            served.process.terminate()
            assert list(texts) == []
        served.process.wait(30)
        # uvicorn waits ten seconds for answers that do not end.
        assert time.monotonic() - began < 8
    finally:
        served.process.kill()
        served.process.wait(30)


async def _somebody(database: TestDatabase) -> UUID:
    pool = Database(database.app_dsn, size=1)
    await pool.open()
    try:
        async with pool.write(Reach.INSTANCE) as session:
            person = await make_person(session, Vault(SECRET), "Somebody")
            await session.commit()
    finally:
        await pool.close()
    return person
