"""Keys: one effect, one answer, for whoever asked (R6). What HTTP makes of them is proved in tests/races."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest

from pmis.kit.db import Reach
from pmis.kit.errors import BusyError
from pmis.kit.ids import uuid7
from pmis.ledger.idempotency import (
    Answer,
    Claim,
    KeyReusedError,
    MalformedKeyError,
    claim,
    claiming,
    fingerprint,
    prune,
    require_key,
    settle,
)
from tests.builders import opened

if TYPE_CHECKING:
    from pmis.kit.db import Database, WriteSession
    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

PRINT = fingerprint("POST", "/api/v1/packages", b"", "", b"{}")
OTHER = fingerprint("POST", "/api/v1/packages", b"", "", b"{ }")
ANSWER = Answer(201, b'{"b":1,"a":2}', {"ETag": '"1"', "Location": "/x"}, UUID(int=7), "rights")


class TestKeys:
    @pytest.mark.parametrize("key", ["k", "0197c0de-5d0e-7b1c-9d3f-3f1a7c0b9a11", "!~", "x" * 255])
    def test_printable_ascii_without_spaces_is_a_key(self, key: str):
        assert require_key(key) == key

    @pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ü", "a\n", "a\t", "\x00", "a\x7f"])
    def test_anything_else_is_not(self, key: str):
        with pytest.raises(MalformedKeyError):
            require_key(key)


class TestFingerprint:
    BASE = ("POST", "/api/v1/packages", b"a=1", '"3"', b"{}")

    def test_the_same_request_has_the_same_fingerprint(self):
        assert fingerprint(*self.BASE) == fingerprint(*self.BASE)

    @pytest.mark.parametrize(
        ("place", "value"), [(0, "PATCH"), (1, "/api/v1/tasks"), (2, b"a=2"), (3, '"4"'), (4, b"{} ")]
    )
    def test_each_part_counts(self, place: int, value: Any):
        other = [*self.BASE]
        other[place] = value
        assert fingerprint(*other) != fingerprint(*self.BASE)  # pyright: ignore[reportArgumentType]

    def test_parts_do_not_run_into_each_other(self):
        assert fingerprint("POST", "/ab", b"", "", b"c") != fingerprint("POST", "/a", b"", "", b"bc")
        assert fingerprint("POST", "/a", b"b", "", b"") != fingerprint("POST", "/a", b"", "b", b"")


async def give(database: Database, actor: str, key: str, answer: Answer = ANSWER, print_: bytes = PRINT) -> None:
    """Answer a request under a key."""
    async with database.write(Reach.INSTANCE) as session:
        held = await claim(session, actor, key, print_)
        assert isinstance(held, Claim)
        settle(session, held, answer)
        await session.commit()


class TestClaim:
    async def test_a_fresh_key_is_taken_and_gives_its_answer_afterwards(self, world: World):
        key = str(uuid7())
        await give(world.database, "person:1", key)
        async with world.database.write(Reach.INSTANCE) as session:
            assert await claim(session, "person:1", key, PRINT) == ANSWER

    async def test_it_can_be_taken_with_the_beginning_of_the_transaction(self, world: World):
        key = str(uuid7())
        async with world.database.write(Reach.INSTANCE, claiming("person:1", key, PRINT)) as session:
            held = await claim(session, "person:1", key, PRINT, begun=True)
            assert isinstance(held, Claim)
            assert (held.actor, held.key) == ("person:1", key)
            settle(session, held, ANSWER)
            await session.commit()
        async with world.database.write(Reach.INSTANCE, claiming("person:1", key, PRINT)) as session:
            assert await claim(session, "person:1", key, PRINT, begun=True) == ANSWER

    async def test_the_body_is_kept_byte_for_byte(self, world: World):
        key, body = str(uuid7()), bytes(range(256)) + b'{"z":1, "a" : 1.50}'
        await give(world.database, "person:1", key, Answer(422, body))
        async with world.database.write(Reach.INSTANCE) as session:
            assert await claim(session, "person:1", key, PRINT) == Answer(422, body)

    async def test_another_request_under_the_key_is_refused(self, world: World):
        key = str(uuid7())
        await give(world.database, "person:1", key)
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(KeyReusedError):
                await claim(session, "person:1", key, OTHER)

    async def test_keys_belong_to_whoever_uses_them(self, world: World):
        key = str(uuid7())
        await give(world.database, "person:1", key)
        await give(world.database, "person:2", key, Answer(200, b"another"), OTHER)
        async with world.database.write(Reach.INSTANCE) as session:
            assert await claim(session, "person:1", key, PRINT) == ANSWER

    async def test_a_transaction_that_is_taken_back_gives_the_key_back(self, world: World):
        key = str(uuid7())
        async with world.database.write(Reach.INSTANCE) as session:
            assert isinstance(await claim(session, "person:1", key, PRINT), Claim)
        async with world.database.write(Reach.INSTANCE) as session:
            assert isinstance(await claim(session, "person:1", key, OTHER), Claim)

    async def test_a_key_that_is_pruned_just_then_is_taken_anew(self, world: World, monkeypatch: pytest.MonkeyPatch):
        key = str(uuid7())
        await give(world.database, "person:1", key)
        async with world.database.write(Reach.INSTANCE) as session:
            real = session.one

            async def pruned_meanwhile(*given: Any) -> Any:
                monkeypatch.setattr(session, "one", real)
                async with world.database.write(Reach.INSTANCE) as other:
                    await other.execute("delete from ledger.idempotency where key = %s", (key,))
                    await other.commit()
                return await real(*given)

            monkeypatch.setattr(session, "one", pruned_meanwhile)
            assert await claim(session, "person:1", key, PRINT) == Claim("person:1", key)


class TestTwins:
    """Two transactions with one key."""

    async def test_the_second_waits_and_gets_the_first_ones_answer(self, world: World):
        assert await self._race(world, commit=True) == ANSWER

    async def test_or_the_key_when_the_first_one_failed(self, world: World):
        assert isinstance(await self._race(world, commit=False), Claim)

    async def test_another_request_is_refused_as_soon_as_the_first_is_done(self, world: World):
        with pytest.raises(KeyReusedError):
            await self._race(world, commit=True, print_=OTHER)

    async def test_who_waits_too_long_is_told_to_come_back(self, database: TestDatabase, world: World):
        key = str(uuid7())
        async with opened(database, lock_timeout_ms=200) as impatient, world.database.write(Reach.INSTANCE) as first:
            await claim(first, "person:1", key, PRINT)
            with pytest.raises(BusyError) as busy:
                async with impatient.write(Reach.INSTANCE) as second:
                    await claim(second, "person:1", key, PRINT)
            assert busy.value.retry_after
            with pytest.raises(BusyError):
                async with impatient.write(Reach.INSTANCE, claiming("person:1", key, PRINT)):
                    pass

    async def _race(self, world: World, *, commit: bool, print_: bytes = PRINT) -> Answer | Claim:
        key = str(uuid7())
        found: list[Answer | Claim | BaseException] = []
        async with world.database.write(Reach.INSTANCE) as first:
            held = await claim(first, "person:1", key, PRINT)
            assert isinstance(held, Claim)
            async with anyio.create_task_group() as group:
                group.start_soon(self._second, world, key, print_, found)
                await self._until_it_waits(world)
                assert found == []
                settle(first, held, ANSWER)
                if commit:
                    await first.commit()
                else:
                    await first.restart()
        assert len(found) == 1
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    async def _second(self, world: World, key: str, print_: bytes, found: list[Any]) -> None:
        try:
            async with world.database.write(Reach.INSTANCE) as session:
                found.append(await claim(session, "person:1", key, print_))
        except KeyReusedError as error:
            found.append(error)

    async def _until_it_waits(self, world: World) -> None:
        with anyio.fail_after(60):
            while True:
                async with world.read() as session:
                    row = await session.one(
                        "select count(*) from pg_stat_activity where datname = current_database() "
                        "and wait_event_type = 'Lock' and query like '%ledger.claim%'"
                    )
                if row and row[0]:
                    return
                await anyio.sleep(0.01)


class TestPrune:
    async def test_answers_older_than_the_window_are_forgotten(self, world: World, database: TestDatabase):
        old, new = str(uuid7()), str(uuid7())
        for key in (old, new):
            await give(world.database, "person:1", key)
        async with world.database.write(Reach.INSTANCE) as session:
            await self._age(session, old, timedelta(days=7, minutes=1))
            await self._age(session, new, timedelta(days=6, hours=23))
            await session.commit()
        async with world.database.write(Reach.INSTANCE) as session:
            assert await prune(session, 7) >= 1
            await session.commit()
        async with world.database.write(Reach.INSTANCE) as session:
            assert isinstance(await claim(session, "person:1", old, OTHER), Claim)
            assert await claim(session, "person:1", new, PRINT) == ANSWER

    async def _age(self, session: WriteSession, key: str, age: timedelta) -> None:
        await session.execute("update ledger.idempotency set created_at = created_at - %s where key = %s", (age, key))
