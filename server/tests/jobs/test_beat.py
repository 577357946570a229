"""T17: each slot once, whatever the clock does and however many beats run; missed slots as the schedule says."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pmis.jobs.beat import Beat
from pmis.jobs.schedule import MOST_AT_ONCE, SCHEDULES, Every, Schedule, daily
from pmis.work import KINDS
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import TestDatabase
    from tests.jobs.plant import Plant

START = datetime(2026, 3, 27, 11, 59, 30, tzinfo=UTC)  # two days before clocks change in Europe
DAYS = 7
EVERY = Schedule("test.every", "test.tick", Every(3600), "every")
LATEST = Schedule("test.latest", "test.tick", daily(0, 0), "latest")
BOTH = (EVERY, LATEST)


@pytest.fixture
def slots(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("beat")


@pytest.fixture
def connection(slots: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(slots.relay_dsn, autocommit=True) as connection:
        yield connection


def fired(connection: psycopg.Connection[Any], schedule: Schedule) -> list[datetime]:
    return [
        row[0].astimezone(UTC)
        for row in connection.execute(
            "select s.slot from jobs.slot s join jobs.job j on j.id = s.job_id where s.schedule = %s order by 1",
            (schedule.name,),
        )
    ]


def all_slots(schedule: Schedule, until: datetime) -> list[datetime]:
    return list(schedule.slots.between(START, until))


def test_seven_days_of_jumping_clocks_three_beats_and_twenty_restarts(slots: TestDatabase, record_property: Any):
    """Three beats at once, each with a clock of its own that jumps up to two hours either way, begun anew at random."""
    wrong, restarts, end = random.Random(17), [0], START + timedelta(days=DAYS)
    minutes = DAYS * 24 * 60
    barrier = threading.Barrier(3)
    faults: list[BaseException] = []

    def one(number: int) -> None:
        own = random.Random(number)
        try:
            with psycopg.connect(slots.relay_dsn, autocommit=True) as connection:
                clock = [START]
                beat = Beat(BOTH, now=lambda: clock[0])
                beat.step(connection)
                for minute in range(0, minutes, 30):
                    if minute % 360 == 0:
                        barrier.wait(60)
                    if own.random() < 0.02:
                        beat = Beat(BOTH, now=lambda: clock[0])
                        restarts[0] += 1
                    clock[0] = min(START + timedelta(minutes=minute + own.uniform(-120, 120)), end)
                    beat.step(connection)
                clock[0] = START + timedelta(minutes=minutes)
                beat.step(connection)
        except BaseException as error:  # noqa: BLE001 - told to the test below
            faults.append(error)
            barrier.abort()

    threads = [threading.Thread(target=one, args=(wrong.randrange(1000),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert not faults, faults
    with psycopg.connect(slots.relay_dsn, autocommit=True) as connection:
        assert connection.execute("select count(*), count(distinct dedup) from jobs.job").fetchone() == (
            DAYS * 24 + DAYS,
            DAYS * 24 + DAYS,
        )
        assert fired(connection, EVERY) == all_slots(EVERY, end)
        assert fired(connection, LATEST) == all_slots(LATEST, end)
    assert restarts[0] >= 15
    record_property("figure", f"T17: {DAYS} days, 3 beats, {restarts[0]} restarts: {DAYS * 25} slots, each fired once")


def test_three_beats_that_are_killed_twenty_times_fire_each_second_once(plant: Plant, record_property: Any):
    """Processes, really gone in the midst of whatever they do, and begun anew."""
    dice, kills = random.Random(20), 20
    beats = [f"beat-{number}" for number in range(3)]
    for name in beats:
        plant.start("beat-often", name)
    fired_so_far = "select count(*) from jobs.slot where schedule = 'test.often'"
    wait_for(lambda: plant.all(fired_so_far)[0][0] > 1, plant._logs, seconds=60)
    for _ in range(kills):
        time.sleep(dice.uniform(0.2, 1))
        name = dice.choice(beats)
        plant.kill(name)
        plant.start("beat-often", name)
    before = plant.all(fired_so_far)[0][0]
    wait_for(lambda: plant.all(fired_so_far)[0][0] > before + 2, plant._logs, seconds=60)
    for name in beats:
        plant.kill(name)
    slots = [row[0] for row in plant.all("select slot from jobs.slot where schedule = 'test.often' order by slot")]
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(seconds=1)}, "none is missing"
    jobs = plant.all("select payload::json ->> 'slot', count(*)::int from jobs.job where kind = 'test.tick' group by 1")
    assert {count for _, count in jobs} == {1}
    assert len(jobs) == len(slots) - 1, "the first slot only says since when"
    record_property("figure", f"T17: 3 beats, {kills} kills: {len(jobs)} slots of a second, each fired once")


def test_after_a_pause_every_slot_or_only_the_newest(connection: psycopg.Connection[Any]):
    moment = START
    beat = Beat(BOTH, now=lambda: moment)
    assert beat.step(connection) == 0, "a schedule begins with the slot after it is first seen"
    assert fired(connection, EVERY) == fired(connection, LATEST) == []
    moment = START + timedelta(days=3)
    assert beat.step(connection) == 72 + 1
    assert fired(connection, EVERY) == all_slots(EVERY, moment)
    assert fired(connection, LATEST) == all_slots(LATEST, moment)[-1:]
    assert beat.step(connection) == 0
    moment = START
    assert beat.step(connection) == 0, "time that goes back finds its slots taken"


def test_a_very_long_pause_is_caught_up_with_bit_by_bit(connection: psycopg.Connection[Any]):
    often = Schedule("test.often", "test.tick", Every(60), "every")
    moment = START
    beat = Beat([often], now=lambda: moment)
    beat.step(connection)
    moment = START + timedelta(days=1)
    assert [beat.step(connection), beat.step(connection), beat.step(connection)] == [MOST_AT_ONCE, 440, 0]


def test_a_slot_and_its_job_are_one(connection: psycopg.Connection[Any]):
    """The job is refused, and so the slot stays free."""
    bad = Schedule("test.bad", "Not a kind", Every(60), "every")
    moment = START
    beat = Beat([bad], now=lambda: moment)
    beat.step(connection)
    moment += timedelta(minutes=1)
    with pytest.raises(psycopg.errors.CheckViolation):
        beat.step(connection)
    row = connection.execute("select count(*) from jobs.slot where schedule = 'test.bad'").fetchone()
    assert row == (1,)


def test_control_without_the_unique_slot_three_beats_fire_thrice(slots: TestDatabase):
    """What the proof above would miss if it could not fail: without the table's key each beat accepts a job."""
    with psycopg.connect(slots.admin_dsn, autocommit=True) as admin:
        admin.execute("alter table jobs.slot drop constraint slot_pkey")
        admin.execute(
            "create or replace function jobs.fire(p_schedule text, p_slot timestamptz, p_kind text, p_payload text, "
            "p_correlation_id text) returns boolean language plpgsql security definer as $$ begin "
            "insert into jobs.slot (schedule, slot) values (p_schedule, p_slot); "
            "return jobs.accept(gen_random_uuid(), coalesce(p_kind, 'test.none'), null, null, p_payload, null, "
            "p_correlation_id, null, null, null); end $$"
        )
        with psycopg.connect(slots.relay_dsn, autocommit=True) as connection:
            # Three beats that have all seen the same slot to be due.
            for _ in range(3):
                Beat._take(connection, LATEST, START, kind="test.tick")
        assert admin.execute("select count(*) from jobs.job where kind = 'test.tick'").fetchone() == (3,)


def test_what_is_scheduled_is_a_kind_that_somebody_does():
    assert {one.kind for one in SCHEDULES} <= KINDS.keys()
    assert len({one.name for one in SCHEDULES}) == len(SCHEDULES)


@pytest.mark.parametrize(
    ("slots_", "moment", "expected"),
    [
        (daily(), "2026-03-29T00:00:00+00:00", "2026-03-29T00:00:00+00:00"),
        (daily(), "2026-03-29T23:59:59+00:00", "2026-03-29T00:00:00+00:00"),
        (daily(3, 20), "2026-03-29T03:19:59+00:00", "2026-03-28T03:20:00+00:00"),
        (Every(300), "2026-03-29T00:04:59+00:00", "2026-03-29T00:00:00+00:00"),
    ],
)
def test_the_newest_slot(slots_: Every, moment: str, expected: str):
    assert slots_.at_or_before(datetime.fromisoformat(moment)) == datetime.fromisoformat(expected)
