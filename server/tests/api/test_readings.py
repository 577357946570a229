"""Reading the log, proving, verifying: each is an event of its own, and comes before the answer."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pmis.api import readings
from pmis.api.readings import Readings
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import UnavailableError
from tests.api.expect import ok, problem
from tests.api.office import open_office, seal
from tests.builders import make_member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def office(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    async with open_office(make_database("readings")) as office:
        yield office


async def noted(office: Office) -> list[tuple[Any, ...]]:
    """Who read what: actor, project, what they did, what they asked."""
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select actor, project_id, type, payload from ledger.event where stream_type = 'log' order by position"
        )
    return [(actor, project, type_, json.loads(payload)) for actor, project, type_, payload in rows]


async def test_who_read_what_stands_in_the_log_once(office: Office):
    package, _ = (await office.a.make_package()).id, await office.a.make_package()
    ref = {who: f"person:{office.person(who)}" for who in ("auditor", "admin", "inspector")}
    query = {"project": office.a.prefix, "type": "package.created"}
    page = ok(await office.get("auditor", "/audit", params={**query, "limit": 1}))
    searched = (ref["auditor"], office.a.project, "log.read", {"what": "list", "asked": {"type": "package.created"}})
    assert await noted(office) == [searched]
    # Leafing through it, and looking again, is the same reading; another question, another person, is not.
    ok(await office.get("auditor", "/audit", params={**query, "limit": 1, "cursor": page["next"]}))
    ok(await office.get("auditor", "/audit", params=query))
    assert await noted(office) == [searched]
    ok(await office.get("admin", "/audit", params=query))
    ok(await office.get("inspector", "/audit"))
    ok(await office.get("auditor", f"/audit/package/{package}"))
    event = page["items"][0]["id"]
    ok(await office.get("auditor", f"/audit/events/{event}"))
    seal(office.test_database)
    ok(await office.get("auditor", f"/audit/events/{event}/proof"))
    ok(await office.post("inspector", "/audit/verify", {}))
    found = await noted(office)
    judged = found.pop()
    record = {"stream_type": "package", "stream_id": str(package)}
    assert found[1:] == [
        (ref["admin"], *searched[1:]),
        (ref["inspector"], None, "log.read", {"what": "list", "asked": {}}),
        (ref["auditor"], office.a.project, "log.read", {"what": "record", "asked": record}),
        (ref["auditor"], office.a.project, "log.read", {"what": "event", "asked": {"event_id": event}}),
        (ref["auditor"], office.a.project, "log.read", {"what": "proof", "asked": {"event_id": event}}),
    ]
    assert judged[:3] == (ref["inspector"], None, "log.verified")
    assert judged[3]["result"] == "ok"
    assert judged[3]["findings"] == 0
    assert judged[3]["sealed"] > 0


async def test_whoever_audits_some_projects_leaves_it_in_each(office: Office):
    both = await office.newcomer("auditor")
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(session, office.vault, office.b.project, office.person(both), "auditor")
        await session.commit()
    stream = str((await office.b.make_package()).id)
    ok(await office.get(both, "/audit", params={"stream_id": stream, "type": "package.created"}))
    actor = f"person:{office.person(both)}"
    plain, whole = {"type": "package.created"}, {"type": "package.created", "stream_id": stream}
    assert {(row[0], row[1], row[2], canonical(row[3]["asked"])) for row in await noted(office)} == {
        (actor, office.a.project, "log.read", canonical(plain)),  # of another project's record it tells nothing
        (actor, office.b.project, "log.read", canonical(plain)),
        (actor, None, "log.read", canonical(whole)),
    }
    ok(await office.get(both, "/audit", params={"project": office.a.prefix, "type": "package.created"}))
    assert len(await noted(office)) == 3, "that was read already"
    for day in range(1, 4):
        asked = {"type": "package.created", "from": f"2026-11-0{day}T00:00:00Z", "to": f"2026-11-0{day + 1}T00:00:00Z"}
        ok(await office.get(both, "/audit", params=asked))
    assert [row[1] for row in (await noted(office))[3:]] == [None] * 3, "each day was asked for, in no project's log"
    ok(await office.get("auditor", "/audit"))
    assert {row[1] for row in (await noted(office))[6:]} == {office.a.project, None}, "only those they audit"


async def test_one_project_is_told_of_its_own_and_without_times(office: Office):
    own, foreign = (await office.a.make_package()).id, (await office.b.make_package()).id
    windows = [{"from": f"2026-11-0{day}T00:00:00Z"} for day in range(1, 4)] + [{"to": "2036-11-09T00:00:00Z"}]
    for stream in (own, foreign):
        for window in windows:
            asked = {"project": office.a.prefix, "stream_id": str(stream), **window}
            page = ok(await office.get("auditor", "/audit", params=asked))
            assert bool(page["items"]) == (stream == own)
    told = [(project, told["asked"]) for _, project, _, told in await noted(office)]
    assert told == [(office.a.project, {"stream_id": str(own)}), (office.a.project, {})]


async def test_who_may_not_read_it_leaves_nothing(office: Office):
    problem(await office.get("viewer", "/audit"), 403, "forbidden")
    problem(await office.get("auditor", f"/audit/events/{uuid4()}"), 404, "not_found")
    problem(await office.get("auditor", "/audit", params={"from": "yesterday"}), 422, "invalid_input")
    assert await noted(office) == []


async def test_what_cannot_be_written_down_is_not_read(office: Office, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise UnavailableError("The disk is full.")

    monkeypatch.setattr(readings, "record", full)
    problem(await office.get("auditor", "/audit", params={"project": office.a.prefix}), 503, "unavailable")
    monkeypatch.undo()
    ok(await office.get("auditor", "/audit", params={"project": office.a.prefix}))
    assert len(await noted(office)) == 1, "the reading that was refused counts as none"


async def test_after_an_hour_it_is_another_reading(office: Office, monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(office.parts, "readings", Readings(lambda: clock.now))
    for now in (0.0, readings.SECONDS - 1.0, readings.SECONDS + 0.0):
        clock.now = now
        ok(await office.get("inspector", "/audit"))
    assert len(await noted(office)) == 2


async def test_what_is_remembered_is_bounded(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readings, "_KEPT", 2)
    for type_ in ("a", "b", "c", "b", "a"):
        ok(await office.get("inspector", "/audit", params={"type": type_}))
    assert [told["asked"]["type"] for *_, told in await noted(office)] == ["a", "b", "c", "a"]
