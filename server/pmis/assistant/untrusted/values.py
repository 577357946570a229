"""What is taken out of a text: amounts, days, statuses and packages, and nothing in words.

Whoever takes them, a model or the rules here: a value that does not stand in the text is not taken from it. A line in
which something cannot be seen, or that is quoted from an earlier mail, has none.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field

from pmis.assistant.planner.amounts import DOLLAR_CURRENCIES, as_text, currency_named, find_amounts
from pmis.assistant.planner.dates import Day as NamedDay
from pmis.assistant.planner.dates import Span, Unclear, find_dates
from pmis.assistant.planner.text import lowered
from pmis.assistant.planner.words import STATUSES, WORDS
from pmis.kit.money import currencies
from pmis.mail.suggestions import suggestions_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from pmis.assistant.planner.dates import FoundDate

LONGEST: Final = 8_000
"""How much of a text is read."""
_MOST: Final = 10
_PIECE: Final = re.compile(r".{1,500}(?:\s|$)|.{1,500}")
_CODE: Final = re.compile(r"(?<![A-Z0-9-])[A-Z][A-Z0-9]{0,9}-[0-9]{3,9}(?![A-Z0-9-])")
_CAPITALS: Final = re.compile(r"(?<![A-Za-z])[A-Z]{3}(?![A-Za-z])")
_WORD: Final = re.compile(r"[a-z_-]+")
_YEAR: Final = re.compile(r"[12][0-9]{3}")
_DUE: Final = re.compile(r"\b(?:due|deadline)\b[^.;]{0,30}$", re.IGNORECASE)
_PHRASE: Final = 4
"""How many words the longest name of a status has."""

Status: TypeAlias = Literal[
    "draft",
    "submitted",
    "in_review",
    "approved",
    "awarded",
    "active",
    "on_hold",
    "completed",
    "cancelled",
    "pending",
    "in_progress",
    "blocked",
    "review_needed",
]
Meaning: TypeAlias = Literal["planned_start", "planned_end", "actual_start", "actual_end", "due_date", "other"]


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class Amount(_Strict):
    """An amount as an exact decimal, with the code of its currency where one is named."""

    amount: Annotated[str, Field(pattern=r"^[0-9]{1,18}(\.[0-9]{1,4})?$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None


class Day(_Strict):
    """A day, such as 2026-11-30, and what it is the date of."""

    day: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    meaning: Meaning


class Values(_Strict):
    """All that may be taken out of a text."""

    amounts: Annotated[list[Amount], Field(max_length=_MOST)]
    days: Annotated[list[Day], Field(max_length=_MOST)]
    statuses: Annotated[list[Status], Field(max_length=_MOST)]
    packages: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{0,9}-[0-9]{3,9}$")]], Field(max_length=_MOST)
    ]


def schema() -> dict[str, Any]:
    """The shape of `Values` as providers take it; what they do not know of it is checked when they answer."""
    shape: dict[str, Any] = _without(Values.model_json_schema(), {"title", "pattern", "maxItems", "description"})
    return shape


def _without(part: Any, names: set[str]) -> Any:  # noqa: ANN401 - a JSON schema
    if isinstance(part, dict):
        items: dict[str, Any] = part  # pyright: ignore[reportUnknownVariableType]
        return {name: _without(value, names) for name, value in items.items() if name not in names}
    if isinstance(part, list):
        return [_without(value, names) for value in part]  # pyright: ignore[reportUnknownVariableType]
    return part


@dataclass
class _Written:
    """What stands in a text, with every reading that it has."""

    amounts: set[tuple[Decimal, str | None]] = field(default_factory=set[tuple[Decimal, str | None]])
    currencies: set[str] = field(default_factory=set[str])
    days: set[str] = field(default_factory=set[str])
    statuses: set[str] = field(default_factory=set[str])
    packages: set[str] = field(default_factory=set[str])


def lines_of(text: str) -> Iterator[str]:
    """The lines that count, in pieces that are read at once."""
    for line in text[:LONGEST].split("\n"):
        words = line.strip()
        if words and not words.startswith(">") and not _hides(words):
            yield from _PIECE.findall(words)


def _hides(line: str) -> bool:
    """Whether something in it is not seen, or was not and is written out by whoever read the mail."""
    return "[U+" in line or any(unicodedata.category(one) in ("Cc", "Cf", "Co", "Cs", "Cn") for one in line)


def taken(text: str, written: date) -> Values:
    """What the rules take out of a text of that day: what has one reading only."""
    amounts: dict[Amount, None] = {}
    days: dict[str, Meaning] = {}
    statuses: dict[Status, None] = {}
    packages: dict[str, None] = {}
    for line in lines_of(text):
        for one in find_amounts(line):
            money = one.money
            if money is not None and money.value is not None and not money.is_bare and not money.is_dollar:
                amounts[Amount(amount=as_text(money.value), currency=money.currency)] = None
        for found in find_dates(lowered(line), written):
            if isinstance(found.when, NamedDay) and _YEAR.search(line[found.start : found.end]):
                due = _DUE.search(line[: found.start])
                days.setdefault(found.when.day.isoformat(), "due_date" if due else "other")
        packages |= dict.fromkeys(_CODE.findall(line))
        for told in suggestions_of(line):
            for name, value in told.patch.items():
                if value in days:
                    days[value] = cast("Meaning", name)
            if told.operation == "transition":
                statuses[told.patch["status"]] = None
    return Values(
        amounts=list(amounts)[:_MOST],
        days=[Day(day=day, meaning=meaning) for day, meaning in days.items()][:_MOST],
        statuses=list(statuses)[:_MOST],
        packages=list(packages)[:_MOST],
    )


def standing(values: Values, text: str, written: date) -> Values:
    """Those of the values that stand in the text of that day, each in its normal form."""
    there = _Written()
    for line in lines_of(text):
        _add(there, line, written)
    amounts: dict[Amount, None] = {}
    for one in values.amounts:
        value = Decimal(one.amount)
        named = (value, one.currency) in there.amounts
        apart = (value, None) in there.amounts and (one.currency is None or one.currency in there.currencies)
        if named or apart:
            amounts[Amount(amount=as_text(value), currency=one.currency)] = None
    return Values(
        amounts=list(amounts),
        days=[one for one in dict.fromkeys(values.days) if one.day in there.days],
        statuses=[one for one in dict.fromkeys(values.statuses) if one in there.statuses],
        packages=[one for one in dict.fromkeys(values.packages) if one in there.packages],
    )


def _add(there: _Written, line: str, written: date) -> None:
    for one in find_amounts(line):
        money = one.money
        if money is None or money.value is None:
            continue
        named = DOLLAR_CURRENCIES if money.is_dollar else {money.currency}
        there.amounts |= {(money.value, currency) for currency in named}
        there.currencies |= {currency for currency in named if currency}
        # A currency that is named may be left out, or be named elsewhere only.
        there.amounts.add((money.value, None))
    there.currencies |= {word for word in _CAPITALS.findall(line) if currency_named(word) and word in currencies()}
    there.days |= {day.isoformat() for found in find_dates(lowered(line), written) for day in _readings(found)}
    there.packages |= set(_CODE.findall(line))
    words = _WORD.findall(lowered(line))
    for place in range(len(words)):
        for size in range(1, _PHRASE + 1):
            meaning = WORDS.get(" ".join(words[place : place + size]), {}).get("status")
            there.statuses |= set(STATUSES.get(meaning or "", {}).values())


def _readings(found: FoundDate) -> list[date]:
    match found.when:
        case NamedDay(day=day, past=past):
            return [day] if past is None else [day, past]
        case Span(first=first, last=last):
            return [first, last]
        case Unclear(readings=readings):
            return list(readings)
        case _:
            return []
