"""Whoever follows the log hears of each event once, in whatever order transactions end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger import following
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.following import Following
from pmis.ledger.store import record

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import WriteSession
    from tests.builders import World

pytestmark = pytest.mark.anyio
ORIGIN: Final = Origin(Actor("person:1", "A person"), "api", "corr-1")


class Clock:
    """Seconds as a test wants them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def begun(world: World, clock: Clock | None = None) -> Following:
    async with world.database.read(Reach.INSTANCE) as session:
        found = await Following.from_now(session)
    return Following(found.position, clock) if clock else found


async def heard(world: World, reader: Following) -> list[UUID]:
    async with world.database.read(Reach.INSTANCE) as session:
        return [event.stream_id for event in await reader.read(session)]


async def written(session: WriteSession) -> UUID:
    """An event of its own stream, with a position, not committed yet."""
    stream = uuid7()
    record(session, "log", stream, Fact("log.read", {"what": "list", "asked": {}}), origin=ORIGIN, project_id=None)
    await session.one("select 1")
    return stream


async def committed(world: World) -> UUID:
    async with world.database.write(Reach.INSTANCE) as session:
        stream = await written(session)
        await session.commit()
    return stream


async def test_what_comes_is_heard_once_and_what_was_there_never(world: World):
    await committed(world)
    reader = await begun(world)
    assert await heard(world, reader) == []
    streams = [await committed(world) for _ in range(3)]
    assert await heard(world, reader) == streams
    assert await heard(world, reader) == []


async def test_it_says_what_the_event_is_about(world: World):
    reader = await begun(world)
    package = await world.make_package()
    async with world.database.read(Reach.INSTANCE) as session:
        events = await reader.read(session)
        rows = await session.all(
            "select position, id, stream_type, stream_id, stream_version, project_id, type from ledger.event "
            "where stream_id = %s order by position",
            (package.id,),
        )
    mine = [event for event in events if event.stream_id == package.id]
    assert rows
    assert [tuple(getattr(event, name) for name in event.__slots__) for event in mine] == rows


async def test_one_that_commits_late_is_heard_late(world: World):
    reader = await begun(world)
    async with world.database.write(Reach.INSTANCE) as session:
        late = await written(session)
        early = [await committed(world), await committed(world)]
        assert await heard(world, reader) == early
        await session.commit()
    assert await heard(world, reader) == [late]
    assert await heard(world, reader) == []


async def test_a_part_of_what_is_missing_comes_before_the_rest(world: World):
    reader = await begun(world)
    async with world.database.write(Reach.INSTANCE) as first, world.database.write(Reach.INSTANCE) as second:
        one, other, third = await written(first), await written(second), await written(first)
        last = await committed(world)
        assert await heard(world, reader) == [last]
        await second.commit()
        assert await heard(world, reader) == [other]
        await first.commit()
    assert await heard(world, reader) == [one, third]
    assert reader._gaps == []


async def test_what_was_rolled_back_is_awaited_for_a_while_only(world: World):
    clock = Clock()
    reader = await begun(world, clock)
    async with world.database.write(Reach.INSTANCE) as session:
        await written(session)
        await session.execute("rollback")
    last = await committed(world)
    assert await heard(world, reader) == [last]
    assert len(reader._gaps) == 1
    clock.seconds = following.AWAITED_SECONDS
    assert await heard(world, reader) == []
    assert reader._gaps == []


async def test_more_than_one_look_holds_is_heard_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "_MOST_READ", 2)
    reader = await begun(world)
    async with world.database.write(Reach.INSTANCE) as session:
        late = await written(session)
        early = [await committed(world) for _ in range(3)]
        assert await heard(world, reader) == early[:2]
        assert await heard(world, reader) == early[2:]
        await session.commit()
    assert await heard(world, reader) == [late]


async def test_only_so_many_gaps_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "_MOST_GAPS", 1)
    reader = await begun(world)
    async with world.database.write(Reach.INSTANCE) as first, world.database.write(Reach.INSTANCE) as second:
        await written(first)
        between = await committed(world)
        newer = await written(second)
        last = await committed(world)
        assert await heard(world, reader) == [between, last]
        await first.commit()
        await second.commit()
    assert await heard(world, reader) == [newer]
