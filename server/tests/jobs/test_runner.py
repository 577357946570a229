"""One attempt after the other: what is somebody else's fault outlasts an outage, and what is ours is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from pmis.jobs import runner
from pmis.jobs.registry import Kind
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, UnavailableError
from tests.builders import make_world, opened
from tests.jobs.test_kinds import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pmis.jobs.registry import Work
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


class Nothing(BaseModel):
    """No payload."""


@pytest.fixture
async def bench(make_database: Callable[[str], TestDatabase], tmp_path: Path) -> AsyncIterator[Bench]:
    database = make_database("runner")
    async with opened(database) as pool:
        yield Bench(await make_world(pool), database, tmp_path)


def failing(error: Exception, times: int = 1000) -> dict[str, Kind[Any]]:
    """A kind that raises so often, and then does its work."""
    left = [error] * times

    async def run(_: Nothing, __: Work) -> dict[str, Any]:
        if left:
            raise left.pop()
        return {}

    return {"test.failing": Kind("test.failing", Nothing, run)}


async def outcomes(bench: Bench, kinds: dict[str, Kind[Any]]) -> list[str]:
    """What becomes of each attempt, until there is none left."""
    job = await bench.accept("test.failing", {})
    told: list[str] = []
    while not told or told[-1] == "waiting":
        told.append(await bench.attempt(kinds, job))
    return told


async def test_an_outage_of_others_is_outlasted(bench: Bench):
    assert await outcomes(bench, failing(UnavailableError("The storage is away."), 9)) == ["waiting"] * 9 + ["done"]
    assert sum(runner._OUTSIDE_SECONDS) > 5 * 60


async def test_and_yet_nothing_is_tried_for_ever(bench: Bench):
    told = await outcomes(bench, failing(UnavailableError("It never comes back.")))
    assert told == ["waiting"] * len(runner._OUTSIDE_SECONDS) + ["dead"]


async def test_an_outage_takes_nothing_from_the_attempts_of_the_job(bench: Bench):
    """Five times the storage is away, then the job fails by itself: that is its first failure, not its last."""
    errors = [*[ForbiddenError("Nobody may.")] * 4, *[UnavailableError("The storage is away.")] * 5]

    async def run(_: Nothing, __: Work) -> dict[str, Any]:
        raise errors.pop()

    assert await outcomes(bench, {"test.failing": Kind("test.failing", Nothing, run)}) == ["waiting"] * 8 + ["dead"]


async def test_what_is_the_jobs_own_has_the_attempts_of_the_settings(bench: Bench):
    assert await outcomes(bench, failing(ForbiddenError("Nobody may."))) == ["waiting"] * 3 + ["dead"]


async def test_what_is_put_off_waits_as_often_as_it_must_and_was_no_attempt(bench: Bench):
    early = [True] * 12

    async def run(_: Nothing, work: Work) -> dict[str, Any]:
        if not early:
            raise ForbiddenError("Nobody may.")
        async with work.write() as session:
            early.pop()
            work.put_off(session, session.now)
            await session.commit()
        return {}

    kinds: dict[str, Kind[Any]] = {"test.off": Kind("test.off", Nothing, run)}
    job = await bench.accept("test.off", {})
    assert [await bench.attempt(kinds, job) for _ in range(12)] == ["put off"] * 12
    assert [await bench.attempt(kinds, job) for _ in range(4)] == ["waiting"] * 3 + ["dead"]
    async with bench.world.database.read(Reach.INSTANCE) as session:
        rows = await session.all("select outcome from jobs.attempt where job_id = %s", (job,))
    assert rows == [("failed",)] * 4


async def test_what_an_attempt_that_is_over_puts_off_is_not(bench: Bench):
    """Another worker has the job by then, and what the transaction wrote is taken back."""

    async def run(_: Nothing, work: Work) -> dict[str, Any]:
        bench.force(f"update jobs.job set attempt = attempt + 1 where id = '{work.job.id}'")
        async with work.write() as session:
            work.put_off(session, session.now)
            await session.commit()
        return {}

    job = await bench.accept("test.off", {})
    assert await bench.attempt({"test.off": Kind("test.off", Nothing, run)}, job) == "lost"
    async with bench.world.database.read(Reach.INSTANCE) as session:
        assert await session.one("select status, attempt, forgiven from jobs.job where id = %s", (job,)) == (
            "running",
            2,
            0,
        )


def test_the_waits_are_no_longer_than_those_of_the_settings():
    assert max(runner._outside((60, 120, 240))) == 60
    assert set(runner._outside((1.0,))) == {1.0}
    assert runner._outside(()) == ()


async def test_faults_and_dead_letters_are_reported_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    reported: list[BaseException] = []
    monkeypatch.setattr(runner.faults, "report", reported.append)
    fault, refusal = RuntimeError("ours"), ForbiddenError("Nobody may.")
    with caplog.at_level(logging.ERROR):
        await outcomes(bench, failing(fault, 2))
        assert (reported, caplog.records) == ([fault, fault], [])
        reported.clear()
        await outcomes(bench, failing(refusal))
    assert reported == [refusal]
    assert ["is a dead letter after 4 attempts" in record.getMessage() for record in caplog.records] == [True]
