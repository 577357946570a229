"""Old payloads are read as today's; the log keeps them as they were."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger import upcast as module
from pmis.ledger.event import Fact
from pmis.ledger.replay import check
from pmis.ledger.store import append, entity_as_of, folded
from pmis.ledger.upcast import current_version, upcast
from pmis.package.noun import PACKAGES
from tests.builders import PROJECTIONS, make_world

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    """The old events stay, and only these tests know how to read them."""
    return make_database("upcast")


def renamed(old: str, new: str) -> Any:
    def step(payload: dict[str, Any]) -> dict[str, Any]:
        return {new if name == old else name: value for name, value in payload.items()}

    return step


STEPS = {
    ("thing.made", 1): renamed("colour", "color"),
    ("thing.made", 2): lambda payload: {**payload, "size": payload.get("size", "M")},
    ("thing.lost", 1): renamed("a", "b"),
}


def test_a_payload_goes_through_every_step_from_its_own_version():
    assert upcast("thing.made", 1, {"colour": "red"}, STEPS) == {"color": "red", "size": "M"}
    assert upcast("thing.made", 2, {"color": "red"}, STEPS) == {"color": "red", "size": "M"}
    assert upcast("thing.made", 3, {"color": "red"}, STEPS) == {"color": "red"}


def test_the_given_payload_is_left_as_it_is():
    payload = {"colour": "red"}
    upcast("thing.made", 1, payload, STEPS)
    assert payload == {"colour": "red"}


def test_types_do_not_share_steps():
    assert upcast("thing.found", 1, {"colour": "red"}, STEPS) == {"colour": "red"}


def test_events_are_written_in_the_newest_version():
    assert current_version("thing.made", STEPS) == 3
    assert current_version("thing.lost", STEPS) == 2
    assert current_version("thing.found", STEPS) == 1


def test_there_is_no_hole_in_the_steps_that_ship():
    """A version that nothing brings further would be read as the newest one."""
    for type_, version in module.UPCASTERS:
        assert version == 1 or (type_, version - 1) in module.UPCASTERS


class TestOnTheLog:
    """A planted old version: `title` was called `name` when these events were written."""

    @pytest.fixture(autouse=True)
    def _planted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def from_first(payload: dict[str, Any]) -> dict[str, Any]:
            fields = {"title" if name == "name" else name: value for name, value in payload["fields"].items()}
            return {**payload, "fields": fields}

        # The functions hold the table as their default, so it is planted in place.
        monkeypatch.setitem(module.UPCASTERS, ("package.created", 1), from_first)

    async def test_an_old_event_becomes_todays_row_and_replays_to_it(self, world: World):
        package = await self._old_package(world)
        async with world.read() as session:
            row = await session.one(
                "select payload, schema_version from ledger.event where stream_id = %s and stream_version = 1",
                (package.id,),
            )
        assert row is not None
        assert "title" not in json.loads(row[0])["fields"]
        assert row[1] == 1
        assert (await world.get("package", package.id)).title == "Old words"
        await world.require_replay()

    async def test_the_whole_comparison_reads_it_too(self, world: World):
        await self._old_package(world)
        async with world.database.snapshot(Reach.INSTANCE) as session:
            report = await check(session, PROJECTIONS, project_id=world.project)
        assert report.differences == ()
        assert report.rows > 8

    async def test_so_does_the_state_of_a_moment(self, world: World):
        package = await self._old_package(world)
        async with world.database.snapshot(Reach.INSTANCE) as session:
            entity = await entity_as_of(session, PACKAGES, package.id, package.created_at)
            titles = {one.title async for one in folded(session, PACKAGES, project_id=world.project)}
        assert entity is not None
        assert entity.title == "Old words"
        assert titles == {"Old words"}

    async def test_todays_events_say_the_new_version(self, world: World):
        await self._old_package(world)
        new = await world.make_package(title="New words")
        async with world.read() as session:
            row = await session.one("select schema_version from ledger.event where stream_id = %s", (new.id,))
        assert row == (2,)

    async def test_without_the_step_the_replay_finds_it(self, world: World, monkeypatch: pytest.MonkeyPatch):
        """The control: the comparison does depend on upcasting."""
        await self._old_package(world)
        monkeypatch.delitem(module.UPCASTERS, ("package.created", 1))
        with pytest.raises(ValueError, match="title"):
            await world.require_replay()

    async def _old_package(self, world: World) -> Any:
        """A package whose first event is written as an old program would have written it."""
        fields: dict[str, Any] = {"name": "Old words", "status": "draft", "number": 1, "code": f"{world.prefix}-001"}
        fact = Fact("package.created", {"fields": fields, "governance": {"route": "CONSOLE"}})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pmis.ledger.store.current_version", lambda _: 1)
            async with world.database.write(Reach.INSTANCE) as session:
                origin = (await world.request(session, "operator")).origin
                entity, _ = append(
                    session, PACKAGES, None, [fact], origin=origin, stream_id=uuid7(), project_id=world.project
                )
                session.defer("insert into state.package_number values (%s, 1)", (world.project,))
                await session.commit()
        return entity


async def test_a_world_of_its_own_is_not_touched(world: World):
    """Nothing planted above is left behind."""
    other = await make_world(world.database)
    package = await other.make_package(title="As ever")
    assert (await other.get("package", package.id)).title == "As ever"
