"""The overdue ladder through its job: a rung a day, each once, whatever is done twice, missed or moved."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from pmis.approval.errors import GuardRefusedError
from pmis.jobs.registry import Kind
from pmis.kit.db import Reach
from pmis.kit.wire import Wire
from pmis.task.escalation import climb, find, ladder_at
from pmis.task.ladder import RUNGS
from pmis.work import KINDS
from tests.builders import make_world, opened
from tests.jobs.test_kinds import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from uuid import UUID

    from pmis.jobs.overdue import Morning
    from pmis.jobs.registry import Work
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
KIND: Final = "tasks.check_overdue"
MONDAY: Final = date(2026, 11, 23)
BOTH: Final = (17, 18)
"""The 25th and the 26th of October, counted from the 8th: at 00:00 UTC it is the 25th in the Azores on both."""


@pytest.fixture
async def bench(make_database: Callable[[str], TestDatabase], tmp_path: Path) -> AsyncIterator[Bench]:
    database = make_database("overdue")
    async with opened(database) as pool:
        yield Bench(await make_world(pool), database, tmp_path)


async def morning(bench: Bench, day: date) -> dict[str, Any]:
    """The job of that day's slot; its result."""
    slot = datetime(day.year, day.month, day.day, tzinfo=UTC)
    job = await bench.accept(KIND, {"slot": slot.isoformat()})
    assert await bench.attempt(KINDS, job) == "done"
    async with bench.world.read() as session:
        row = await session.one("select result from jobs.job where id = %s", (job,))
    return json.loads((row or ("",))[0])


async def climbed(bench: Bench, task: UUID) -> list[tuple[str, str, list[str]]]:
    """Day, rung and people by name, as the log has them."""
    names = {str(identity): name for name, identity in bench.world.people.items()}
    async with bench.world.read() as session:
        rows = await session.all(
            "select e.payload::json from ledger.event e join state.escalation s on s.id = e.stream_id "
            "where s.task_id = %s order by e.position",
            (task,),
        )
    return [(said["day"], said["rung"], sorted(names[one] for one in said["people"])) for (said,) in rows]


async def overdue(bench: Bench, due: date = MONDAY, *, lead: bool = True, **fields: Any) -> Any:
    """A task of the operator's, of a package that the executive's deputy leads."""
    world = bench.world
    owner = {"owner_id": str(world.people["analyst"])} if lead else {}
    package = await world.make_package(**owner)
    given = {"assignee_id": str(world.people["operator"]), "due_date": due.isoformat(), **fields}
    return await world.make_task(package.id, **given)


async def test_each_working_morning_one_rung_and_then_no_more(bench: Bench):
    task = await overdue(bench)
    for days in range(12):
        await morning(bench, MONDAY + timedelta(days=days))
    assert await climbed(bench, task.id) == [
        ("2026-11-24", "owner", ["operator"]),
        ("2026-11-25", "lead", ["analyst"]),
        ("2026-11-26", "manager", ["admin", "admin2"]),
        ("2026-11-27", "sponsor", ["executive"]),
    ]
    await bench.world.require_replay()


async def test_on_the_day_it_is_due_and_on_days_without_work_nobody_is_told(bench: Bench):
    task = await overdue(bench, date(2026, 11, 27))
    for day in (27, 28, 29):
        assert (await morning(bench, date(2026, 11, day)))["escalated"] == 0
    assert (await morning(bench, date(2026, 11, 30)))["escalated"] == 1
    assert [day for day, _, _ in await climbed(bench, task.id)] == ["2026-11-30"]


async def test_a_rung_without_anybody_is_left_out(bench: Bench):
    task = await overdue(bench, lead=False, assignee_id=None)
    for days in range(1, 4):
        await morning(bench, MONDAY + timedelta(days=days))
    assert [rung for _, rung, _ in await climbed(bench, task.id)] == ["manager", "sponsor"]


async def test_missed_mornings_are_not_sent_in_a_burst(bench: Bench):
    task = await overdue(bench)
    await morning(bench, MONDAY + timedelta(days=1))
    await morning(bench, MONDAY + timedelta(days=7))
    # A dead letter of a day long past, tried again.
    await morning(bench, MONDAY + timedelta(days=2))
    assert [(day, rung) for day, rung, _ in await climbed(bench, task.id)] == [
        ("2026-11-24", "owner"),
        ("2026-11-30", "lead"),
    ]


@pytest.mark.parametrize("how", ["completed", "cancelled", "deleted", "package deleted", "package cancelled"])
async def test_what_is_done_never_nags(bench: Bench, how: str):
    task = await overdue(bench)
    await morning(bench, MONDAY + timedelta(days=1))
    if how == "completed":
        for status in ("in_progress", "completed"):
            await bench.world.do("task", "transition", task.id, {"status": status})
    elif how == "cancelled":
        await bench.world.do("task", "transition", task.id, {"status": "cancelled"}, reason="Not needed.")
    elif how == "deleted":
        await bench.world.do("task", "delete", task.id, reason="A mistake.")
    elif how == "package deleted":
        await bench.world.do("package", "delete", task.package_id, reason="A mistake.")
    else:
        await bench.world.do("package", "transition", task.package_id, {"status": "cancelled"}, reason="Not needed.")
    for days in range(2, 5):
        assert (await morning(bench, MONDAY + timedelta(days=days)))["escalated"] == 0
    assert len(await climbed(bench, task.id)) == 1


async def test_nobody_gets_out_of_it_by_another_date_without_a_reason(bench: Bench):
    task = await overdue(bench)
    for day in ("2026-11-26", None):
        with pytest.raises(GuardRefusedError, match="needs a reason") as refused:
            await bench.world.do("task", "patch", task.id, {"due_date": day}, reason=" ")
        assert refused.value.extra["missing"] == ["a reason"]
    # What is no other date needs none.
    await bench.world.do("task", "patch", task.id, {"title": "Another title", "due_date": MONDAY.isoformat()})
    undated = await overdue(bench, due_date=None)
    await bench.world.do("task", "patch", undated.id, {"due_date": "2026-11-26"})


async def test_a_task_whose_due_date_moved_starts_again(bench: Bench):
    task = await overdue(bench)
    for days in (1, 2):
        await morning(bench, MONDAY + timedelta(days=days))
    await bench.world.do("task", "patch", task.id, {"due_date": "2026-11-26"}, reason="The offers are late.")
    for days in range(3, 6):
        await morning(bench, MONDAY + timedelta(days=days))
    await bench.world.do("task", "patch", task.id, {"due_date": MONDAY.isoformat()}, reason="Back to what it was.")
    await morning(bench, MONDAY + timedelta(days=7))
    assert [(day, rung) for day, rung, _ in await climbed(bench, task.id)] == [
        ("2026-11-24", "owner"),
        ("2026-11-25", "lead"),
        ("2026-11-27", "owner"),
        # The old date is overdue as before, and was told of on two rungs.
        ("2026-11-30", "manager"),
    ]
    await bench.world.require_replay()


async def test_thirty_mornings_over_the_end_of_summer_time_in_disorder(
    make_database: Callable[[str], TestDatabase], tmp_path: Path, record_property: Any
):
    """T17 for the ladder: each slot is done three times at once; some come late, some never, one day comes twice."""
    dice = random.Random(17)
    database = make_database("azores")
    async with opened(database) as pool:
        world = await make_world(pool, timezone="Atlantic/Azores", workdays=[1, 2, 3, 4, 5, 6, 7])
        bench = Bench(world, database, tmp_path)
        tasks = [await overdue(bench, date(2026, 10, 10) + timedelta(days=days)) for days in range(0, 25, 5)]
        days = [date(2026, 10, 8) + timedelta(days=n) for n in range(30) if n in BOTH or dice.random() > 0.2]
        for day in days:
            late = dice.choice(days)
            moments = [datetime(one.year, one.month, one.day, tzinfo=UTC) for one in (day, day, day, min(late, day))]
            dice.shuffle(moments)
            await asyncio.gather(*(walk(bench, moment) for moment in moments))
        for task in tasks:
            found = await climbed(bench, task.id)
            assert [rung for _, rung, _ in found] == list(RUNGS)[: len(found)]
            told = [day for day, _, _ in found]
            assert told == sorted(set(told)), "a rung a day, and never two on one"
            assert all(date.fromisoformat(day) > task.due_date for day in told)
        assert len(await climbed(bench, tasks[0].id)) == 4
        await bench.world.require_replay()
    record_property(
        "figure", f"T17: {len(days)} mornings, each done 4 times at once: no rung twice, none on a day twice"
    )


async def walk(bench: Bench, moment: datetime) -> int:
    """What the job does, on one of several connections."""
    from pmis.jobs.overdue import BATCH
    from pmis.ledger.event import Origin
    from pmis.task.escalation import ACTOR

    async with bench.world.read() as session:
        ladder = await ladder_at(session, moment)
        found = await find(session, ladder, after=None, limit=BATCH)
    async with bench.world.database.write(Reach.INSTANCE) as session:
        done = await climb(session, ladder, [task for _, task in found], origin=Origin(ACTOR, "job", "test"))
        await session.commit()
    return done


async def test_the_number_of_statements_does_not_grow_with_the_tasks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, record_property: Any
):
    world = bench.world
    package = await world.make_package(owner_id=str(world.people["analyst"]))
    asked: list[str] = []
    plain = Wire.ask

    async def counted(self: Wire, *statements: Any, calls: int = 0) -> Any:
        asked.extend(text for text, _ in statements)
        return await plain(self, *statements, calls=calls)

    async def statements(count: int, due: date) -> int:
        fields = {"package_id": str(package.id), "due_date": due.isoformat(), "title": "A task"}
        for start in range(0, count, 40):
            wanted = [world.wanted("task", "create", None, fields) for _ in range(start, min(count, start + 40))]
            await world.settle(await world.propose_all("operator", wanted), "operator")
        asked.clear()
        monkeypatch.setattr(Wire, "ask", counted)
        assert await walk(bench, datetime(due.year, due.month, due.day + 1, tzinfo=UTC)) == count
        monkeypatch.undo()
        return len(asked)

    few = await statements(3, date(2026, 11, 2))
    bench.force("update state.task set due_date = null")  # those three are not to be counted again
    many = await statements(120, date(2026, 11, 9))
    assert few == many
    assert few < 20
    record_property("figure", f"the ladder: {few} statements for 3 tasks, {many} for 120")


async def test_control_a_ladder_that_forgets_the_day_climbs_twice(bench: Bench):
    """The same job twice on one day: where the row forgets the day it climbs again, and that is seen."""
    task = await overdue(bench)
    day = MONDAY + timedelta(days=1)
    await morning(bench, day)
    await morning(bench, day)
    assert len(await climbed(bench, task.id)) == 1
    bench.force("update state.escalation set day = day - 1")
    await morning(bench, day)
    assert len(await climbed(bench, task.id)) == 2
    assert [day for day, _, _ in await climbed(bench, task.id)] == ["2026-11-24"] * 2


async def test_killed_between_two_batches_the_rest_is_climbed_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    from pmis.jobs import overdue as module
    from pmis.task import escalation

    monkeypatch.setattr(module, "BATCH", 1)
    for place in (module, escalation):
        monkeypatch.setattr(place, "LANES", 1)
    tasks = [await overdue(bench) for _ in range(3)]
    kind = KINDS[KIND]
    told: list[int] = []

    async def killed(wanted: Morning, work: Work) -> Any:
        plain = work.tell

        async def tell(done: int, total: int | None = None, text: str = "") -> None:
            told.append(done)
            if len(told) == 2:
                message = "killed here"
                raise RuntimeError(message)
            await plain(done, total, text)

        work.tell = tell  # pyright: ignore[reportAttributeAccessIssue]
        return await kind.run(wanted, work)

    job = await bench.accept(KIND, {"slot": "2026-11-24T00:00:00Z"})
    assert await bench.attempt({KIND: Kind(KIND, kind.payload, killed)}, job) == "waiting"
    assert sorted([len(await climbed(bench, task.id)) for task in tasks]) == [0, 1, 1]
    assert await bench.attempt(KINDS, job) == "done"
    assert [len(await climbed(bench, task.id)) for task in tasks] == [1, 1, 1]


async def test_a_lane_that_fails_ends_the_others_and_the_rest_is_climbed_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    from pmis.jobs import overdue as module

    monkeypatch.setattr(module, "BATCH", 1)
    tasks = [await overdue(bench) for _ in range(12)]
    climb, calls = module.climb, [0]

    async def fails(*given: Any, **more: Any) -> int:
        calls[0] += 1
        if calls[0] == 4:
            message = "a fault in one lane"
            raise RuntimeError(message)
        return await climb(*given, **more)

    monkeypatch.setattr(module, "climb", fails)
    job = await bench.accept(KIND, {"slot": "2026-11-24T00:00:00Z"})
    assert await bench.attempt(KINDS, job) == "waiting"
    assert sum([len(await climbed(bench, task.id)) for task in tasks]) < 6
    assert await bench.attempt(KINDS, job) == "done"
    assert [len(await climbed(bench, task.id)) for task in tasks] == [1] * 12
