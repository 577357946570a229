"""A job is accepted exactly when the transaction is that causes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pmis.jobs.queue import enqueue, id_of
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from tests.builders import World

pytestmark = pytest.mark.anyio


async def jobs_of(world: World, correlation: str) -> list[tuple[object, ...]]:
    async with world.read() as session:
        return await session.all(
            "select id, kind, payload, status, attempt, project_id from jobs.job where correlation_id = %s",
            (correlation,),
        )


async def test_what_commits_is_accepted_with_everything_that_was_said(world: World):
    mark = f"test-{uuid7()}"
    async with world.database.write(Reach.INSTANCE) as session:
        identity = enqueue(
            session,
            "test.nothing",
            {"b": 1, "a": "Ü"},
            dedup=None,
            correlation_id=mark,
            project_id=world.project,
        )
        await session.commit()
    assert await jobs_of(world, mark) == [(identity, "test.nothing", '{"a":"Ü","b":1}', "queued", 0, world.project)]


async def test_what_is_taken_back_was_never_accepted(world: World):
    mark = f"test-{uuid7()}"
    async with world.database.write(Reach.INSTANCE) as session:
        enqueue(session, "test.nothing", {}, dedup=None, correlation_id=mark)
        await session.one("select 1")
    assert await jobs_of(world, mark) == []


async def test_the_same_key_names_the_same_job_however_often_it_is_accepted(world: World):
    mark = f"test-{uuid7()}"
    for number in (1, 2):
        async with world.database.write(Reach.INSTANCE) as session:
            assert enqueue(session, "test.nothing", {"n": number}, dedup=mark, correlation_id=mark) == id_of(mark)
            await session.commit()
    assert [(row[0], row[2]) for row in await jobs_of(world, mark)] == [(id_of(mark), '{"n":1}')]
    async with world.read() as session:
        assert await session.one("select jobs.id_of(%s)", (mark,)) == (id_of(mark),)
