"""Dates as people say them, judged on Wednesday 25 November 2026."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.assistant.planner.dates import Day, Shift, Span, Unclear, find_dates

TODAY = date(2026, 11, 25)


def only(text: str) -> object:
    found = find_dates(text, TODAY)
    assert len(found) == 1, found
    return found[0].when


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("today", "2026-11-25"),
        ("tomorrow", "2026-11-26"),
        ("the day after tomorrow", "2026-11-27"),
        ("yesterday", "2026-11-24"),
        ("the day before yesterday", "2026-11-23"),
        ("friday", "2026-11-27"),
        ("next friday", "2026-11-27"),
        ("on wednesday", "2026-12-02"),
        ("this wednesday", "2026-11-25"),
        ("last friday", "2026-11-20"),
        ("friday next week", "2026-12-04"),
        ("in two weeks", "2026-12-09"),
        ("in a month", "2026-12-25"),
        ("a week from now", "2026-12-02"),
        ("3 days ago", "2026-11-22"),
        ("in 3 working days", "2026-11-30"),
        ("end of the month", "2026-11-30"),
        ("end of next month", "2026-12-31"),
        ("end of next week", "2026-12-04"),
        ("end of year", "2026-12-31"),
        ("end of february 2027", "2027-02-28"),
        ("beginning of next month", "2026-12-01"),
        ("mid march", "2027-03-15"),
        ("end of q1", "2027-03-31"),
        ("12 march", "2027-03-12"),
        ("1st of december", "2026-12-01"),
        ("dec 20", "2026-12-20"),
        ("march 12, 2028", "2028-03-12"),
        ("12-mar-2027", "2027-03-12"),
        ("2026-12-01", "2026-12-01"),
        ("2026/12/01", "2026-12-01"),
        ("24.12.2026", "2026-12-24"),
        ("3.4.2027", "2027-04-03"),
        ("31/12/2026", "2026-12-31"),
        ("12/31/2026", "2026-12-31"),
        ("03/03/2027", "2027-03-03"),
        ("29 february 2028", "2028-02-29"),
    ],
)
def test_a_day(text: str, day: str):
    when = only(text)
    assert isinstance(when, Day)
    assert when.day.isoformat() == day


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("this week", "2026-11-23", "2026-11-29"),
        ("next week", "2026-11-30", "2026-12-06"),
        ("last month", "2026-10-01", "2026-10-31"),
        ("in march", "2027-03-01", "2027-03-31"),
        ("q1 2027", "2027-01-01", "2027-03-31"),
        ("in 2027", "2027-01-01", "2027-12-31"),
        ("the next 7 days", "2026-11-25", "2026-12-02"),
        ("the last two weeks", "2026-11-11", "2026-11-25"),
    ],
)
def test_days(text: str, first: str, last: str):
    when = only(text)
    assert isinstance(when, Span)
    assert (when.first.isoformat(), when.last.isoformat()) == (first, last)


@pytest.mark.parametrize(
    ("text", "sign", "day"),
    [
        ("by two weeks", 1, "2027-01-14"),
        ("by 10 days", -1, "2026-12-21"),
        ("two weeks earlier", 1, "2026-12-17"),
        ("another week", 1, "2027-01-07"),
        ("by a month", 1, "2027-01-31"),
        ("by 2 quarters", 1, "2027-06-30"),
        ("3 working days later", 1, "2027-01-05"),
    ],
)
def test_a_shift_is_counted_from_the_date_that_a_record_has(text: str, sign: int, day: str):
    when = only(text)
    assert isinstance(when, Shift)
    assert when.applied(date(2026, 12, 31), sign).isoformat() == day


def test_two_readings_are_both_kept():
    assert only("03/04/2026") == Unclear((date(2026, 3, 4), date(2026, 4, 3)))


@pytest.mark.parametrize("text", ["31 february 2027", "2026-13-01", "30/30/2026"])
def test_what_is_no_day_is_said_to_be_none(text: str):
    assert only(text) == Unclear(())


@pytest.mark.parametrize("text", ["we may go", "the sun", "p-003", "1,500 eur", "version 2.3"])
def test_other_words_are_no_dates(text: str):
    assert not find_dates(text, TODAY)


@given(st.text(max_size=300), st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_nothing_makes_it_fail(text: str, today: date):
    places = [(one.start, one.end) for one in find_dates(text.lower(), today)]
    assert places == sorted(places)
