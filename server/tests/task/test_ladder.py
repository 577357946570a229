"""When a task is overdue, and who is next: tables of cases."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.task.ladder import RUNGS, Calendar, Rung, next_rung

SOMEBODY = [UUID(int=1)]


def calendar(timezone: str = "UTC", workdays: str = "12345", *holidays: str) -> Calendar:
    return Calendar(timezone, frozenset(map(int, workdays)), frozenset(map(date.fromisoformat, holidays)))


@pytest.mark.parametrize(
    ("timezone", "moment", "day"),
    [
        ("UTC", "2026-03-29T00:00:00", "2026-03-29"),
        ("America/Los_Angeles", "2026-03-29T00:00:00", "2026-03-28"),
        ("Pacific/Auckland", "2026-03-29T00:00:00", "2026-03-29"),
        # Summer time begins and ends: the morning of UTC is another day there, or the same one twice.
        ("Atlantic/Azores", "2026-03-29T00:00:00", "2026-03-28"),
        ("Atlantic/Azores", "2026-03-30T00:00:00", "2026-03-30"),
        ("Atlantic/Azores", "2026-10-25T00:00:00", "2026-10-25"),
        ("Atlantic/Azores", "2026-10-26T00:00:00", "2026-10-25"),
    ],
)
def test_the_day_is_the_project_s(timezone: str, moment: str, day: str):
    assert calendar(timezone).day_of(datetime.fromisoformat(moment).replace(tzinfo=UTC)) == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("today", "holidays", "missed"),
    [
        ("2026-11-24", (), "2026-11-23"),  # Tuesday: what was due on Monday
        ("2026-11-23", (), "2026-11-20"),  # Monday: what was due on Friday, not on Saturday
        ("2026-11-24", ("2026-11-23",), "2026-11-20"),  # Monday was a holiday, and what was due then is due today
        ("2026-12-28", ("2026-12-24", "2026-12-25"), "2026-12-23"),
    ],
)
def test_due_without_work_is_due_on_the_next_working_day(today: str, holidays: tuple[str, ...], missed: str):
    assert calendar("UTC", "12345", *holidays).last_missed(date.fromisoformat(today)) == date.fromisoformat(missed)


@given(st.sets(st.integers(1, 7), min_size=1), st.sets(st.dates(date(2026, 1, 1), date(2026, 3, 1)), max_size=40))
def test_what_was_missed_last_is_a_working_day_and_no_other_lies_between(workdays: set[int], holidays: set[date]):
    own, today = Calendar("UTC", frozenset(workdays), frozenset(holidays)), date(2026, 3, 2)
    missed = own.last_missed(today)
    assert own.works_on(missed)
    between = [date.fromordinal(day) for day in range(missed.toordinal() + 1, today.toordinal())]
    assert not any(own.works_on(day) for day in between)


@pytest.mark.parametrize(
    ("last", "empty", "expected"),
    [
        (None, set(), "owner"),
        ("owner", set(), "lead"),
        ("lead", set(), "manager"),
        ("manager", set(), "sponsor"),
        ("sponsor", set(), None),
        (None, {"owner"}, "lead"),
        (None, {"owner", "lead", "manager"}, "sponsor"),
        ("owner", {"lead", "manager", "sponsor"}, None),
        (None, set(RUNGS), None),
    ],
)
def test_the_next_rung_is_the_next_with_somebody_on_it(last: Rung | None, empty: set[str], expected: Rung | None):
    assert next_rung(last, {rung: [] if rung in empty else SOMEBODY for rung in RUNGS}) == expected
