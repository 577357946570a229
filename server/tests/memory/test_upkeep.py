"""What nobody waits for: vectors made anew, texts erased, and a PostgreSQL that compares none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.kit.db import Reach
from pmis.ledger.vault import ErasedSubjectError
from pmis.memory.embedding.hashing import HashingEmbedder
from pmis.memory.recall import question_of, recall
from pmis.memory.upkeep import Pass, step
from pmis.ops import postgres as pg
from pmis.ops.doctor import Level, examine
from pmis.ops.migrate import is_up_to_date, upgrade_database
from tests.builders import SECRET, make_world, opened
from tests.conftest import TestDatabase
from tests.memory.working import done, embedded, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.builders import World

pytestmark = pytest.mark.anyio


def slot(at: datetime) -> dict[str, str]:
    return {"slot": at.isoformat()}


async def kept(world: World, memory: object) -> list[tuple[str, int]]:
    """Which embedder made its vector, of which version."""
    async with world.read() as session:
        return [
            (row[0], row[1])
            for row in await session.all("select embedder, version from memory.vector where memory_id = %s", (memory,))
        ]


class TestVectors:
    async def test_those_of_another_embedder_are_made_anew(self, make_database: Callable[[str], TestDatabase]):
        database = make_database("anew")
        async with opened(database) as pool:
            world = await make_world(pool)
            memories = [await stored(world, text=f"Memory number {number}.") for number in range(3)]
            await embedded(world, database, memories[0].id)
            with psycopg.connect(database.owner_dsn) as connection:
                connection.execute("update memory.vector set embedder = 'another:1'")
            await world.do("memory", "delete", memories[1].id, who="analyst")
            assert await done(world, database, "memory.upkeep", slot(datetime.now(UTC))) == "done"
            assert await kept(world, memories[0].id) == [("hashing:1", 1)]
            assert await kept(world, memories[1].id) == []
            assert await kept(world, memories[2].id) == [("hashing:1", 1)]
            again = await step(pool, world.vault, HashingEmbedder(), Pass(), everything=False)
            assert (again.done, again.finished) == (0, True)
            whole = await step(pool, world.vault, HashingEmbedder(), Pass(), everything=True)
            assert whole.done == 2

    async def test_a_provider_that_is_away_is_asked_again(self, world: World, database: TestDatabase):
        memory = await stored(world)
        away = {"embedder": "provider", "openai_api_key": "a key", "openai_base_url": "http://127.0.0.1:1"}
        payload = {"memory_id": str(memory.id), "version": 1}
        assert await done(world, database, "memory.embed", payload, **away) != "done"
        assert await kept(world, memory.id) == []
        await embedded(world, database, memory.id)
        assert await kept(world, memory.id) == [("hashing:1", 1)]

    async def test_an_older_version_does_not_take_the_place_of_a_newer_one(self, world: World, database: TestDatabase):
        memory = await stored(world)
        await world.do("memory", "patch", memory.id, {"text": "Another text."}, who="analyst")
        await embedded(world, database, memory.id, version=2)
        await embedded(world, database, memory.id, version=1)
        assert await kept(world, memory.id) == [("hashing:1", 2)]


class TestErasing:
    async def test_what_was_forgotten_long_enough_ago_is_erased_and_the_log_stays(
        self, world: World, database: TestDatabase
    ):
        memory = await stored(world)
        await world.do("memory", "patch", memory.id, {"text": "Another text."}, who="analyst")
        await world.do("memory", "delete", memory.id, who="analyst")
        other = await stored(world)

        async def readable(ref: str) -> bool:
            async with world.read() as session:
                return (await world.vault.open(session, [ref]))[ref] is not None

        soon, late = datetime.now(UTC) + timedelta(days=29), datetime.now(UTC) + timedelta(days=31)
        for now, is_there in ((soon, True), (late, False)):
            settings = {"pmis_now": now.isoformat(), "memory_erase_days": 30}
            assert await done(world, database, "memory.upkeep", slot(now), **settings) == "done"
            assert await readable(memory.text) is is_there
        assert await readable(other.text)
        with pytest.raises(ErasedSubjectError):
            await world.propose("analyst", "memory", "restore", memory.id)
        await world.require_replay()


class TestWithoutExtension:
    @pytest.fixture
    def bare(self, database: TestDatabase, worker_id: str) -> Iterator[TestDatabase]:
        """A database whose PostgreSQL compares no vectors, as far as its owner can help it."""
        name = f"pmis_bare_{worker_id}"
        with psycopg.connect(database.cluster.admin_dsn, autocommit=True) as connection:
            pg.drop_database(connection, name)
            pg.create_database(connection, name)
        bare = TestDatabase(database.cluster, name)
        upgrade_database(bare.owner_dsn)
        yield bare
        with psycopg.connect(database.cluster.admin_dsn, autocommit=True) as connection:
            pg.drop_database(connection, name)

    async def test_words_must_do_and_the_doctor_says_what_to_install(self, bare: TestDatabase):
        async with opened(bare) as pool:
            world = await make_world(pool)
            memory = await stored(world, text="About the paving.")
            await embedded(world, bare, memory.id)
            assert await done(world, bare, "memory.upkeep", slot(datetime.now(UTC))) == "done"
            question = await question_of(HashingEmbedder(), "paving")
            async with pool.read(Reach.INSTANCE) as session:
                (hit,) = await recall(session, world.vault, await world.principal("viewer"), question)
            assert (hit.by_words, hit.by_meaning) == (1, None)
            await world.do("memory", "delete", memory.id, who="analyst")

            async def finding() -> tuple[Level, str]:
                told = await asyncio.to_thread(examine, database_url=bare.app_dsn, secret_key=SECRET)
                return next((one.level, one.advice) for one in told if one.check == "memory")

            level, advice = await finding()
            assert level is Level.WARNING
            assert "create extension vector" in advice
            pg.add_extensions(bare.admin_dsn)
            with psycopg.connect(bare.owner_dsn) as connection:
                assert not is_up_to_date(connection)
            assert await finding() == (Level.WARNING, "Run `pmis migrate`.")
            assert await asyncio.to_thread(upgrade_database, bare.owner_dsn) is not None
            assert await asyncio.to_thread(upgrade_database, bare.owner_dsn) is None
            assert (await finding())[0] is Level.OK
            await world.do("memory", "restore", memory.id, who="analyst")
            assert await done(world, bare, "memory.upkeep", slot(datetime.now(UTC))) == "done"
            async with pool.read(Reach.INSTANCE) as session:
                (hit,) = await recall(session, world.vault, await world.principal("viewer"), question)
            assert (hit.by_words, hit.by_meaning) == (1, 1)

    async def test_where_somebody_put_the_extension_does_not_matter(self, bare: TestDatabase):
        with psycopg.connect(bare.admin_dsn, autocommit=True) as connection:
            connection.execute('create schema "Odd place"; create extension vector schema "Odd place"')
            connection.execute('grant usage on schema "Odd place" to pmis_owner with grant option')
        await asyncio.to_thread(upgrade_database, bare.owner_dsn)
        async with opened(bare) as pool:
            world = await make_world(pool)
            memory = await stored(world)
            await embedded(world, bare, memory.id)
            assert await kept(world, memory.id) == [("hashing:1", 1)]
