"""Dates as people say them: days, spans of days, and shifts of a date that a record has.

All is judged from the day that it is where the person is. What has two readings, such as 03/04/2026, keeps both, so
that the planner can ask.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from pmis.assistant.planner.numbers import SMALL, small

_MONTHS: Final = {
    name: number
    for number in range(1, 13)
    for name in (calendar.month_name[number].lower(), calendar.month_abbr[number].lower())
} | {"sept": 9}
_DAYS: Final = {
    name: number
    for number in range(7)
    for name in (calendar.day_name[number].lower(), calendar.day_abbr[number].lower())
} | {"tues": 1, "weds": 2, "thur": 3, "thurs": 3}
_LONG_DAYS: Final = "|".join(sorted(_DAYS, key=len, reverse=True))
_LONG_MONTHS: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_UNIT: Final = "(?:working |business |work |calendar )?(?:day|week|fortnight|month|quarter|year)s?"
_DAY_NUMBER: Final = "(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?"


@dataclass(frozen=True, slots=True)
class Day:
    """A day. `past` is what it is when the past was meant, where no year was said."""

    day: date
    past: date | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `first` to `last`, both included. `exact` names one of them where a single day was meant."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Shift:
    """So much later (or, when negative, earlier) than the date that a record has; a number of months or of days."""

    count: int
    unit: str
    """`day`, `workday`, `week` or `month`."""
    sign: int | None = None
    """1 later, -1 earlier, None when only the verb tells."""

    def applied(self, to: date, sign: int, workdays: frozenset[int] = frozenset(range(5))) -> date:
        """The date so much later or earlier; raises OverflowError beyond the calendar."""
        way = self.sign or sign
        if self.unit == "month":
            return _months(to, way * self.count)
        if self.unit == "workday":
            return _workdays(to, way * self.count, workdays)
        return to + timedelta(days=way * self.count * (7 if self.unit == "week" else 1))


@dataclass(frozen=True, slots=True)
class Unclear:
    """A date with two readings, or (when there are none) one that is no date at all."""

    readings: tuple[date, ...]


When = Day | Span | Shift | Unclear


@dataclass(frozen=True, slots=True)
class FoundDate:
    """A date in a text, and where it stands."""

    start: int
    end: int
    when: When


def _months(to: date, count: int) -> date:
    month = to.year * 12 + to.month - 1 + count
    year, month = divmod(month, 12)
    if not date.min.year <= year <= date.max.year:
        raise OverflowError
    return date(year, month + 1, min(to.day, calendar.monthrange(year, month + 1)[1]))


def _workdays(to: date, count: int, workdays: frozenset[int]) -> date:
    step = timedelta(days=1 if count > 0 else -1)
    left = min(abs(count), 4000)
    while left:
        to += step
        left -= to.weekday() in workdays
    return to


def month_end(day: date) -> date:
    """The last day of the month."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def week_of(day: date) -> Span:
    """The week, Monday to Sunday."""
    monday = day - timedelta(days=day.weekday())
    return Span(monday, monday + timedelta(days=6))


def _month_of(day: date) -> Span:
    return Span(day.replace(day=1), month_end(day))


def _quarter_of(day: date) -> Span:
    first = date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return Span(first, month_end(_months(first, 2)))


def _year_of(day: date) -> Span:
    return Span(date(day.year, 1, 1), date(day.year, 12, 31))


_PERIODS: Final = {"week": week_of, "month": _month_of, "quarter": _quarter_of, "year": _year_of}


def _plus(day: date, count: int, unit: str) -> date:
    return _shift_of(count, unit).applied(day, 1)


def _shift_of(count: int, unit: str, sign: int | None = None) -> Shift:
    bare = unit.rsplit(maxsplit=1)[-1].rstrip("s")
    working = unit.split(maxsplit=1)[0] in ("working", "business", "work") if " " in unit else False
    if bare == "fortnight":
        return Shift(count * 2, "week", sign)
    if bare == "quarter":
        return Shift(count * 3, "month", sign)
    if bare == "year":
        return Shift(count * 12, "month", sign)
    return Shift(count, "workday" if working and bare == "day" else bare, sign)


def _dated(year: int, month: int, day: int) -> When:
    try:
        return Day(date(year, month, day))
    except ValueError:
        return Unclear(())


def _iso(found: re.Match[str], _today: date) -> When:
    year, month, day = (int(part) for part in re.split("[-/.]", found[0]))
    return _dated(year, month, day)


def _numeric(found: re.Match[str], today: date) -> When:
    first, second, rest = (
        re.split("[-/.]", found[0].rstrip("."), maxsplit=2)
        if found["year"]
        else (
            *re.split("[-/.]", found[0].rstrip(".")),
            "",
        )
    )
    one, two = int(first), int(second)
    year = int(rest) if rest else today.year
    year += 2000 if rest and year < 100 else 0  # noqa: PLR2004 - a year of two digits
    readings = [(two, one)] if "." in found[0] else [(two, one), (one, two)]
    days = {when.day for month, day in readings if isinstance(when := _dated(year, month, day), Day)}
    if len(days) == 1:
        return Day(days.pop())
    return Unclear(tuple(sorted(days)))


def _day_of_month(found: re.Match[str], today: date) -> When:
    day = int(re.sub("[a-z]", "", found["day"]))
    month = _MONTHS[found["month"]]
    if found["year"]:
        year = int(found["year"].lstrip("'"))
        return _dated(year + 2000 if year < 100 else year, month, day)  # noqa: PLR2004 - a year of two digits
    return _yearless(month, day, today)


def _yearless(month: int, day: int, today: date) -> When:
    """The next such day; the past one is kept beside it."""
    around: list[date] = []
    for year in range(today.year - 4, today.year + 5):
        when = _dated(year, month, day)
        if isinstance(when, Day):
            around.append(when.day)
    coming = [one for one in around if one >= today]
    gone = [one for one in around if one <= today]
    return Day(coming[0], gone[-1]) if coming and gone else Unclear(())


def _month_named(found: re.Match[str], today: date) -> When:
    month = _MONTHS[found["month"]]
    if found["year"]:
        return _month_of(date(int(found["year"]), month, 1))
    first = date(today.year + (month < today.month), month, 1)
    return _month_of(first)


def _weekday(found: re.Match[str], today: date) -> When:
    wanted = _DAYS[found["day"]]
    ahead = (wanted - today.weekday() - 1) % 7 + 1
    behind = (today.weekday() - wanted - 1) % 7 + 1
    coming, gone = today + timedelta(days=ahead), today - timedelta(days=behind)
    said = (found["which"] or "").strip()
    if said in ("last", "past", "previous"):
        return Day(gone, gone)
    if found["week"]:
        weeks = {"next": 1, "this": 0, "last": -1}[
            found["week"].split()[-2] if " " in found["week"].strip() else "next"
        ]
        return Day(week_of(today).first + timedelta(days=7 * weeks + wanted))
    if said == "this" and ahead == 7:  # noqa: PLR2004 - a week
        return Day(today, today)
    return Day(coming, today if ahead == 7 else gone)  # noqa: PLR2004 - a week


def _relative_day(found: re.Match[str], today: date) -> When:
    word = found[0]
    days = {"day after": 2, "day before": -2, "tom": 1, "tmr": 1, "yes": -1}
    count = next((value for begin, value in days.items() if word.removeprefix("the ").startswith(begin)), 0)
    day = today + timedelta(days=count)
    return Day(day, day)


def _in_some(found: re.Match[str], today: date) -> When:
    day = _plus(today, small(found["count"]), found["unit"])
    return Day(day, day)


def _ago(found: re.Match[str], today: date) -> When:
    day = _plus(today, -small(found["count"]), found["unit"])
    return Day(day, day)


def _next_some(found: re.Match[str], today: date) -> When:
    count = small(found["count"])
    if found["way"] in ("last", "past", "previous"):
        return Span(_plus(today, -count, found["unit"]), today)
    return Span(today, _plus(today, count, found["unit"]))


def _period(found: re.Match[str], today: date) -> When:
    unit = found["unit"]
    way = {"next": 1, "coming": 1, "following": 1, "last": -1, "previous": -1, "past": -1}.get(found["way"], 0)
    span = _PERIODS[unit](today)
    if way:
        span = _PERIODS[unit](_plus(span.first, way, unit))
    return span


def _edge(found: re.Match[str], today: date) -> When:
    inner = found["of"]
    span: When = next(
        (one.when for one in find_dates(inner, today, surely=True) if one.end - one.start == len(inner)), Unclear(())
    )
    if not isinstance(span, Span):
        named = re.search("week|month|quarter|year", inner)
        if named is None:
            return Unclear(())
        span = _PERIODS[named[0]](today)
    edge = found["edge"]
    if edge.startswith(("begin", "start")):
        return Day(span.first, span.first)
    if edge.startswith("mid"):
        day = span.first + timedelta(days=14 if (span.last - span.first).days > 20 else 2)  # noqa: PLR2004 - a month
        return Day(day, day)
    # A week of work ends on its Friday.
    last = span.last - timedelta(days=2) if (span.last - span.first).days == 6 else span.last  # noqa: PLR2004 - a week
    return Day(last, last)


def _quarter(found: re.Match[str], today: date) -> When:
    number = int(found["quarter"])
    year = int(found["year"]) if found["year"] else today.year
    span = _quarter_of(date(year, number * 3, 1))
    return span if found["year"] or span.last >= today else _quarter_of(date(year + 1, number * 3, 1))


def _whole_year(found: re.Match[str], _today: date) -> When:
    return _year_of(date(int(found["year"]), 1, 1))


def _shift(found: re.Match[str], _today: date) -> When:
    sign = {"later": 1, "more": 1, "earlier": -1, "sooner": -1, "longer": 1, "forward": -1, "back": 1}.get(
        (found["way"] or "").split(" ")[-1]
    )
    return _shift_of(small(found["count"]), found["unit"], sign or (1 if found["another"] or found["more"] else None))


def _another(found: re.Match[str], _today: date) -> When:
    return _shift_of(1, found["unit"], 1)


_PERIOD_WORDS: Final = (
    r"(?:the |this |next |last |coming |following |current |previous |past )?(?:week|month|quarter|year)"
    rf"|(?:{_LONG_MONTHS})(?:,? [0-9]{{4}})?|q[1-4](?:[ /-]?20[0-9]{{2}})?|20[0-9]{{2}}"
)
_FORMS: Final = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (r"(?<![\w./-])[12][0-9]{3}[-/.][01]?[0-9][-/.][0-3]?[0-9](?![\w/-])", _iso),
        (r"(?<![\w./-])[0-3]?[0-9][-/.][0-3]?[0-9][-/.](?P<year>[12][0-9]{3}|[0-9]{2})(?![\w/-]|\.[0-9])", _numeric),
        (r"(?<![\w./-])[0-3]?[0-9]\.[01]?[0-9]\.(?P<year>)(?![0-9])", _numeric),
        (
            (
                rf"\b(?:the )?(?P<day>{_DAY_NUMBER})(?:[ -]+(?:of )?|\. )(?P<month>{_LONG_MONTHS})\b\.?"
                r"(?:,? ?-?(?P<year>[12][0-9]{3}\b|'[0-9]{2}\b))?"
            ),
            _day_of_month,
        ),
        (
            rf"\b(?P<month>{_LONG_MONTHS})\.?[ -](?:the )?(?P<day>{_DAY_NUMBER})\b(?:,? ?(?P<year>[12][0-9]{{3}})\b)?",
            _day_of_month,
        ),
        (
            (
                r"\b(?:the )?(?P<edge>end|beginning|start|middle|mid)(?: of |[ -])(?:the )?"
                rf"(?P<of>{_PERIOD_WORDS})\b"
            ),
            _edge,
        ),
        (
            (
                r"\b(?:the )?day (?:after tomorrow|before yesterday)\b|\b(?:today|tonight|tomorrow|tmrw?|tomorow|"
                r"yesterday)\b"
            ),
            _relative_day,
        ),
        (rf"\b(?:in|within) (?P<count>{SMALL}) (?P<unit>{_UNIT})(?:'s? time)?\b", _in_some),
        (rf"\b(?P<count>{SMALL}) (?P<unit>{_UNIT}) from (?:now|today)\b", _in_some),
        (rf"\b(?P<count>{SMALL}) (?P<unit>{_UNIT}) ago\b", _ago),
        (rf"\b(?:the )?(?P<way>next|coming|last|past|previous) (?P<count>{SMALL}) (?P<unit>{_UNIT})\b", _next_some),
        (
            (
                rf"\b(?P<which>this |next |coming |this coming |last |past |previous |the )?(?P<day>{_LONG_DAYS})\b"
                r"(?P<week>,? (?:of )?(?:next|this|last) week)?"
            ),
            _weekday,
        ),
        (
            (
                r"\b(?P<way>this|next|last|coming|following|current|previous|past|the current) (?P<unit>week|"
                r"month|quarter|year)\b"
            ),
            _period,
        ),
        (
            (
                rf"\b(?:by )?(?P<another>another )?(?P<count>{SMALL}) (?P<more>more )?(?P<unit>{_UNIT})\b"
                r"(?P<way> (?:later|earlier|sooner|longer|forward|back))?"
            ),
            _shift,
        ),
        (
            rf"\b(?:by )?(?P<another>another )(?P<count>)(?P<more>)(?P<unit>{_UNIT})\b(?P<way>)",
            _another,
        ),
        (r"\bq(?P<quarter>[1-4])(?:[ /-]?(?P<year>20[0-9]{2}))?\b", _quarter),
        (rf"\b(?P<month>{_LONG_MONTHS})\b(?:,? (?P<year>20[0-9]{{2}})\b)?", _month_named),
        (r"(?<=in )(?P<year>20[0-9]{2})\b|(?<=year )(?P<y>20[0-9]{2})\b|(?<=for )(?P<z>20[0-9]{2})\b", _whole_year),
    )
)
_WORDS_OF_OTHERS: Final = re.compile(r"\b(?:may|mar|sun|sat|wed|mon|march|second|sec)\b")


def find_dates(text: str, today: date, *, surely: bool = False) -> list[FoundDate]:
    """The dates in a text in small letters, none within another, in their order.

    Unless a date is `surely` meant, "may" and "sun" are only dates after a word such as "in" or "on".
    """
    found: list[FoundDate] = []
    for form, read in _FORMS:
        for match in form.finditer(text):
            if any(match.start() < one.end and one.start < match.end() for one in found):
                continue
            if not surely and _is_another_word(text, match):
                continue
            try:
                when = read(match, today)
            except (OverflowError, ValueError, TypeError):
                when = Unclear(())
            found.append(FoundDate(match.start(), match.end(), when))
    return sorted(found, key=lambda one: one.start)


_BEFORE_DATE: Final = re.compile(
    r"\b(?:in|of|by|on|since|until|till|before|after|this|next|last|for|to|from|during|mid|end|and|due|between)\s+$"
)


def _is_another_word(text: str, match: re.Match[str]) -> bool:
    """Whether it is "may" or "sun" with no sign that a date was meant."""
    if not _WORDS_OF_OTHERS.fullmatch(match[0].strip().removeprefix("the ")):
        return False
    return _BEFORE_DATE.search(text[max(0, match.start() - 12) : match.start()]) is None
