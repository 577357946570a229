"""A write session: what it defers, what it reads ahead, and what is left when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
from pmis.approval.models import APPROVALS
from pmis.approval.registry import NOUNS
from pmis.kit.db import Database, Reach
from pmis.kit.errors import UnavailableError
from pmis.kit.ids import uuid7
from pmis.kit.settings import load_settings
from pmis.kit.wire import Wire
from tests.builders import opened

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Session, WriteSession
    from pmis.kit.wire import Result, Statement
    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
NUMBER = "insert into state.package_number values (%s, %s)"
READ = "select last from state.package_number where project_id = %s"


async def number_of(world: World, project: UUID) -> int | None:
    async with world.read() as session:
        row = await session.one(READ, (project,))
    return row[0] if row else None


class TestDeferred:
    @pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
    async def test_everything_is_run_in_order_and_committed(self, world: World, count: int):
        projects = [uuid7() for _ in range(count)]
        async with world.database.write(Reach.INSTANCE) as session:
            for number, project in enumerate(projects):
                session.defer(NUMBER, (project, number))
            session.defer("update state.package_number set last = last + 1000 where project_id = any(%s)", (projects,))
            await session.commit()
        async with world.read() as session:
            rows = await session.all(
                "select last from state.package_number where project_id = any(%s) order by last", (projects,)
            )
        assert [row[0] for row in rows] == [number + 1000 for number in range(count)]

    async def test_what_follows_sees_it(self, world: World):
        project = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            session.defer(NUMBER, (project, 7))
            assert await session.one(READ, (project,)) == (7,)
            await session.commit()
        assert await number_of(world, project) == 7

    async def test_one_that_fails_takes_all_of_it_back(self, world: World):
        first, second = uuid7(), uuid7()

        async def fail() -> None:
            async with world.database.write(Reach.INSTANCE) as session:
                session.defer(NUMBER, (first, 1))
                session.defer("select 1 / %s", (0,))
                session.defer(NUMBER, (second, 1))
                await session.commit()

        with pytest.raises(psycopg.errors.DivisionByZero):
            await fail()
        assert (await number_of(world, first), await number_of(world, second)) == (None, None)
        async with world.database.write(Reach.INSTANCE) as session:
            assert await session.one("select 1") == (1,)

    async def test_a_few_calls_are_one_statement_and_the_rest_stays_between_them(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        project, asked = uuid7(), list[str]()
        real = Wire.ask

        async def ask(wire: Wire, *statements: Statement, calls: int = 0) -> list[Result]:
            asked.extend(text for text, _ in statements)
            return await real(wire, *statements, calls=calls)

        async with world.database.write(Reach.INSTANCE) as session:
            monkeypatch.setattr(Wire, "ask", ask)
            for number in (1, 2):
                session.defer("select setseed(%s)", (0.5,))
                session.defer("select pg_catalog.length(%s)", (f"{number}",))
                session.defer(NUMBER, (project, number)) if number == 1 else None
            await session.one("select 1")
            for _ in range(9):
                session.defer("select setseed(%s)", (0.5,))
            assert await session.one(READ, (project,)) == (1,)
        calls = "select setseed(%s), pg_catalog.length(%s)"
        assert asked[:4] == [calls, NUMBER, calls, "select 1"]
        assert asked[4:14] == ["select setseed(%s)"] * 9 + [READ]

    async def test_a_restart_forgets_it(self, world: World):
        project = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            session.defer(NUMBER, (project, 1))
            await session.restart()
            await session.commit()
        assert await number_of(world, project) is None

    async def test_text_arrives_as_it_is(self, world: World):
        words = ["it's", 'a "b"', "back\\slash", "%s %% $1", "a; commit; --", "ümläut \U0001f6b2", "line\nbreak"]
        async with world.database.write(Reach.INSTANCE) as session:
            session.defer("create temporary table said (words text) on commit drop")
            for text in words:
                session.defer("insert into said values (%s)", (text,))
            assert [row[0] for row in await session.all("select words from said")] == words


class TestAhead:
    AHEAD = ("select %s::text", ("read ahead",))
    SECOND = ("select %s::text", ("second",))

    async def rows(self, session: WriteSession, monkeypatch: pytest.MonkeyPatch, *given: object) -> tuple[object, bool]:
        """What a statement answers, and whether the server was asked for it."""
        asked: list[object] = []
        real = Wire.ask

        async def ask(wire: Wire, *statements: Statement, calls: int = 0) -> list[Result]:
            asked.extend(statements)
            return await real(wire, *statements, calls=calls)

        monkeypatch.setattr(Wire, "ask", ask)
        return await session.all(*given), bool(asked)  # pyright: ignore[reportArgumentType]

    async def test_the_very_same_is_answered_once(self, world: World, monkeypatch: pytest.MonkeyPatch):
        async with world.database.write(Reach.INSTANCE, ahead=(self.SECOND, self.AHEAD)) as session:
            assert await self.rows(session, monkeypatch, *self.AHEAD) == ([("read ahead",)], False)
            assert await self.rows(session, monkeypatch, *self.SECOND) == ([("second",)], False)
            assert await self.rows(session, monkeypatch, *self.AHEAD) == ([("read ahead",)], True)

    @pytest.mark.parametrize("other", [("select %s::text", ("another",)), ("select %s::text as x", ("read ahead",))])
    async def test_anything_else_is_asked_for(
        self, world: World, monkeypatch: pytest.MonkeyPatch, other: tuple[str, tuple[str, ...]]
    ):
        async with world.database.write(Reach.INSTANCE, ahead=(self.AHEAD,)) as session:
            assert await self.rows(session, monkeypatch, *other) == ([other[1]], True)

    async def test_not_after_a_change(self, world: World, monkeypatch: pytest.MonkeyPatch):
        project = uuid7()
        async with world.database.write(Reach.INSTANCE, ahead=((READ, (project,)),) * 3) as session:
            assert await self.rows(session, monkeypatch, READ, (project,)) == ([], False)
            session.defer(NUMBER, (project, 3))
            assert await self.rows(session, monkeypatch, READ, (project,)) == ([(3,)], True)
            assert await self.rows(session, monkeypatch, READ, (project,)) == ([(3,)], True)

    async def test_nor_after_a_statement(self, world: World, monkeypatch: pytest.MonkeyPatch):
        project = uuid7()
        async with world.database.write(Reach.INSTANCE, ahead=((READ, (project,)),)) as session:
            await session.execute(NUMBER, (project, 3))
            assert await self.rows(session, monkeypatch, READ, (project,)) == ([(3,)], True)

    async def test_it_comes_with_the_first_statement(self, world: World):
        async with world.database.write(Reach.INSTANCE, ("%s || '!'", ("first",)), (self.AHEAD,)) as session:
            assert session.first == "first!"
            assert session.now.tzinfo is not None


@pytest.mark.parametrize("noun", [*NOUNS, "approval"])
async def test_rows_are_in_the_order_of_their_tables(world: World, noun: str):
    """The functions that write rows take their values in the order of the columns."""
    projection = APPROVALS if noun == "approval" else NOUNS[noun]
    wanted = {noun: ("id", "version", "project_id", "doc", *projection.columns)}
    wanted |= {child.table: child.columns for child in projection.child_tables}
    async with world.read() as session:
        for table, columns in wanted.items():
            rows = await session.all(
                "select column_name::text from information_schema.columns where table_schema = 'state' "
                "and table_name = %s and is_generated = 'NEVER' order by ordinal_position",
                (table,),
            )
            assert tuple(row[0] for row in rows) == columns


async def test_who_waits_too_long_for_a_connection_is_refused(database: TestDatabase):
    async with opened(database, size=1, wait_ms=50) as pool, pool.read(Reach.INSTANCE):
        with pytest.raises(UnavailableError, match="try again shortly"):
            async with pool.write(Reach.INSTANCE):
                pass


async def test_how_long_one_waits_is_a_setting(database: TestDatabase):
    settings = load_settings(embedded=False, environment="test", db_wait_ms=50, lock_timeout_ms=40)
    pool = Database.of(settings, database.app_dsn, size=1, role="pmis_app")
    await pool.open()
    try:
        # Making the first connection takes what it takes.
        await pool.pool.wait()
        async with pool.read(Reach.INSTANCE) as session:
            assert await session.one("show lock_timeout") == ("40ms",)
            with pytest.raises(UnavailableError):
                async with pool.read(Reach.INSTANCE):
                    pass
    finally:
        await pool.close()


class TestReach:
    """A session tells PostgreSQL what it may reach, and leaves nothing of it to whoever has the connection next."""

    ASKED = "select current_setting('pmis.reach', true)"
    HERE = uuid7()

    async def kept(self, session: Session) -> str | None:
        """What a statement would find that brings nothing of its own."""
        return (await session.connection.wire.ask((self.ASKED, None)))[0].rows[0][0] or None

    async def test_each_statement_of_a_read_has_it_and_no_other(self, world: World):
        for reach in (Reach.of(frozenset({self.HERE})), Reach.INSTANCE, Reach.of(frozenset())):
            async with world.database.read(reach) as session:
                for _ in range(3):  # alone, prepared, and from what is prepared
                    assert await session.one(self.ASKED) == (reach.text,)
                    assert await self.kept(session) is None

    async def test_a_transaction_has_it_to_its_end(self, world: World):
        reach = Reach.of(frozenset({self.HERE, uuid7()}))
        async with world.database.write(reach, ahead=((self.ASKED, ()),)) as session:
            assert await session.all(self.ASKED, ()) == [(reach.text,)]
            await session.restart()
            assert await session.one(self.ASKED) == (reach.text,)
            await session.commit()
            assert await self.kept(session) is None
        async with world.database.snapshot(Reach.INSTANCE) as session:
            assert await session.one(self.ASKED) == ("*",)

    def test_the_same_projects_make_the_same_text(self):
        some = [uuid7() for _ in range(5)]
        assert Reach.of(frozenset(some)) == Reach.of(frozenset(reversed(some)))
        assert Reach.of(frozenset(some)).text.count(",") == 4
