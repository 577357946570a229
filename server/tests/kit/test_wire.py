"""Statements on one connection: what they are asked with, what becomes of errors, and what stays prepared."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from pmis.kit import wire
from pmis.kit.db import Reach
from pmis.kit.errors import UnavailableError
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from pmis.kit.db import Session
    from tests.builders import World

pytestmark = pytest.mark.anyio


async def prepared(session: Session) -> list[str]:
    rows = await session.all("select statement from pg_prepared_statements where name like 'pmis%%' order by 1", ())
    return [row[0] for row in rows]


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            0,
            -1,
            2**40,
            Decimal("1.50"),
            "it's %s %% $1 \\ \U0001f6b2",
            "",
            b"\x00\xff",
            UUID(int=1),
            date(2026, 2, 3),
            datetime(2026, 2, 3, 4, 5, 6, 7, UTC),
            [1, 2],
            ["a,b", 'c"d', "{}"],
            [],
        ],
        ids=repr,
    )
    async def test_they_come_back_as_they_went(self, world: World, value: Any):
        kind = {bytes: "bytea", str: "text", list: "integer[]" if value == [1, 2] else "text[]"}.get(type(value), "")
        cast = f"::{kind}" if kind else ""
        async with world.read() as session:
            for _ in range(3):  # alone, prepared, and from what is prepared
                assert await session.one(f"select %s{cast}", (value,)) == (value,)

    async def test_a_call_takes_them_as_the_function_says(self, world: World):
        values = (uuid7(), 5, None, "x", b"\x00\xff", [uuid7()], datetime(2026, 2, 3, tzinfo=UTC), Decimal("1.50"))
        kinds = ("uuid", "bigint", "date", "text", "bytea", "uuid[]", "timestamptz", "numeric")
        told = ", ".join(f"p{n} {kind}" for n, kind in enumerate(kinds))
        said = ", ".join(f"p{n}" for n in range(len(kinds)))
        async with world.database.write(Reach.INSTANCE) as session:
            await session.execute("create table pg_temp.taken (a uuid, b bigint, c date, d text, e bytea, f uuid[], "
                                  "g timestamptz, h numeric)")  # fmt: skip
            await session.execute(
                f"create function pg_temp.take({told}) returns void language plpgsql as "
                f"$$ begin insert into pg_temp.taken values ({said}); end $$"
            )
            for row in (values, (uuid7(), 2**40, date(2026, 1, 1), *values[3:]), values):
                session.defer(f"select pg_temp.take({', '.join(['%s'] * len(kinds))})", row)
                await session.one("select 1")
            assert await session.all("select * from pg_temp.taken where b = 5") == [values, values]
            # An absent date and a present one, a small number and a large one: one statement.
            assert [text for text in await prepared(session) if "take(" in text] == [
                "select pg_temp.take($1, $2, $3, $4, $5, $6, $7, $8)"
            ]

    async def test_names_and_percent_signs(self, world: World):
        async with world.read() as session:
            row = await session.one("select %(b)s || %(a1)s || %(b)s || '%%'", {"a1": "1", "b": "2", "c": "3"})
            assert row == ("212%",)
            assert await session.one("select '50%'") == ("50%",)

    @pytest.mark.parametrize("text", ["select 'a%' || %s", "select %d, %s", "select %s, %(name)"])
    async def test_what_is_no_placeholder_is_refused(self, world: World, text: str):
        async with world.read() as session:
            with pytest.raises(ValueError, match="is not a placeholder"):
                await session.one(text, ("x",))
            assert await session.one("select 1") == (1,)

    @pytest.mark.parametrize("value", ["a\x00b", object(), 2**80])
    async def test_what_cannot_be_a_value_leaves_the_transaction(self, world: World, value: object):
        project = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises((psycopg.DataError, psycopg.ProgrammingError)):
                await session.execute("insert into state.package_number values (%s, length(%s))", (project, value))
            if value != 2**80:  # that one is a number to PostgreSQL, which refused the function
                await session.execute("insert into state.package_number values (%s, 1)", (project,))


class TestErrors:
    async def test_nothing_after_the_first_one_is_run(self, world: World):
        async with world.read() as session:
            ask = session.connection.wire.ask
            await ask(("create temporary table seen (n integer)", None))
            with pytest.raises(psycopg.errors.DivisionByZero):
                await ask(
                    ("insert into seen values (1)", None), ("select 1 / 0", None), ("insert into seen values (2)", None)
                )
            with pytest.raises(psycopg.errors.UndefinedTable):
                await ask(
                    ("insert into seen values (3)", None), ("select * from nothing_here", None), ("select 1 / 0", None)
                )
            # One message is one transaction, unless it says otherwise.
            assert await session.all("select n from seen") == []
            await ask(("drop table seen", None))

    async def test_a_preparation_that_failed_is_not_remembered(self, world: World):
        later = ("select n from later where n = %s", (1,))
        async with world.read() as session:
            for _ in range(3):
                with pytest.raises(psycopg.errors.UndefinedTable):
                    await session.all(*later)
            await session.execute("create temporary table later as select 1 as n")
            for _ in range(3):
                assert await session.all(*later) == [(1,)]
            await session.execute("drop table later")

    async def test_a_preparation_behind_an_error_is_not_remembered(self, world: World):
        ask_later = ("select %s::text || 'behind'", ("x",))
        async with world.read() as session:
            ask = session.connection.wire.ask
            for _ in range(3):
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await ask(("select 1 / 0", None), ask_later)
            assert await session.one(*ask_later) == ("xbehind",)
            assert await session.one(*ask_later) == ("xbehind",)

    async def test_a_server_that_has_forgotten_is_told_again(self, world: World):
        said = ("select %s::text || 'again'", ("once",))
        for _ in range(2):
            async with world.read() as session:
                await session.one(*said)

        async def ask() -> None:
            async with world.read() as session:
                for _ in range(2):
                    await session.one(*said)
                await session.connection.execute("deallocate all")
                await session.one(*said)

        with pytest.raises(UnavailableError):
            await ask()
        async with world.read() as session:
            assert await session.one(*said) == ("onceagain",)

    async def test_a_connection_that_is_ended_is_replaced(self, world: World):
        async def end() -> None:
            async with world.read() as session:
                await session.one("select pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(UnavailableError):
            await end()
        async with world.read() as session:
            assert await session.one("select 1") == (1,)

    async def test_a_connection_that_was_lost_meanwhile_is_replaced(self, world: World):
        async def lose() -> None:
            async with world.read() as session:
                pid = await session.one("select pg_backend_pid()")
                async with world.read() as other:
                    assert await other.one("select pg_terminate_backend(%s)", pid) == (True,)
                await asyncio.sleep(0.2)
                await session.one("select 1")

        with pytest.raises(UnavailableError):
            await lose()
        async with world.read() as session:
            assert await session.one("select 1") == (1,)

    async def test_one_who_gives_up_leaves_no_answer_to_the_next(self, world: World):
        async def wait() -> None:
            async with world.database.write(Reach.INSTANCE) as session:
                await session.one("select pg_sleep(20)")

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.3)
        for number in range(4):
            async with world.database.write(Reach.INSTANCE) as session:
                assert await session.one("select %s::integer", (number,)) == (number,)


class TestSize:
    async def test_more_than_the_sockets_hold_goes_both_ways(self, world: World):
        text = "x" * 1_000_000
        async with world.read() as session:
            echoed = await session.connection.wire.ask(*[("select %s::text", (text,))] * 30)
        assert [len(one.rows[0][0]) for one in echoed] == [1_000_000] * 30

    async def test_only_so_many_stay_prepared(self, world: World, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(wire, "_MOST_PREPARED", 3)
        monkeypatch.setattr(wire, "_MOST_SEEN", 5)
        async with world.read() as session:
            await session.connection.execute("discard all")
            session.connection.__dict__.pop("wire", None)
            for _ in range(3):
                for number in range(8):
                    assert await session.one(f"select {number}") == (number,)
            assert len(await prepared(session)) <= 3
            await session.connection.execute("discard all")
            session.connection.__dict__.pop("wire", None)
