"""Amounts of money as people write them: exact decimals, with the currency where one was named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from pmis.assistant.planner.numbers import SPELLED, spelled
from pmis.assistant.planner.text import lowered
from pmis.kit.money import MAX_DIGITS, MAX_PLACES, currencies

CENT: Final = Decimal("0.01")
_SYMBOLS: Final = {
    "€": "EUR",
    "$": "USD",
    "£": "GBP",
    "us$": "USD",
    "₹": "INR",
    "₺": "TRY",
    "zł": "PLN",
    "a$": "AUD",
    "c$": "CAD",
}
_NAMES: Final = {
    "euro": "EUR",
    "euros": "EUR",
    "dollar": "USD",
    "dollars": "USD",
    "us dollars": "USD",
    "us dollar": "USD",
    "bucks": "USD",
    "pound": "GBP",
    "pounds": "GBP",
    "pounds sterling": "GBP",
    "sterling": "GBP",
    "quid": "GBP",
    "yen": "JPY",
    "swiss francs": "CHF",
    "francs": "CHF",
    "rupees": "INR",
    "zloty": "PLN",
    "zlotys": "PLN",
    "hryvnia": "UAH",
    "canadian dollars": "CAD",
    "australian dollars": "AUD",
    "rand": "ZAR",
    "yuan": "CNY",
    "renminbi": "CNY",
    "reais": "BRL",
}
DOLLARS: Final = frozenset({"$", "dollar", "dollars", "bucks"})
"""What several currencies are called: that of the record is meant when it is one of them."""
DOLLAR_CURRENCIES: Final = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD"})
_COMMON: Final = frozenset(
    [
        "eur",
        "usd",
        "gbp",
        "chf",
        "jpy",
        "cad",
        "aud",
        "nzd",
        "sek",
        "nok",
        "dkk",
        "pln",
        "czk",
        "huf",
        "ron",
        "bgn",
        "inr",
        "cny",
        "brl",
        "mxn",
        "zar",
        "uah",
        "sgd",
        "hkd",
        "krw",
        "rub",
    ]
)
_SCALES: Final = {
    "k": 3,
    "thousand": 3,
    "thou": 3,
    "grand": 3,
    "m": 6,
    "mn": 6,
    "mio": 6,
    "mil": 6,
    "mill": 6,
    "million": 6,
    "millions": 6,
    "b": 9,
    "bn": 9,
    "billion": 9,
    "billions": 9,
}
_CODE: Final = r"[a-z]{3}(?![a-z])"
_NAME: Final = "|".join(sorted((*_NAMES,), key=len, reverse=True))
_SIGN: Final = r"us\$|a\$|c\$|[€$£₹₺¥]|zł"
_DIGITS: Final = r"[0-9]{1,3}(?:[ '_][0-9]{3}){1,6}(?:[.,][0-9]{1,4})?(?![0-9])|[0-9][0-9.,]{0,40}(?<![.,])"
_SCALE: Final = "|".join(sorted(_SCALES, key=len, reverse=True))
_AMOUNT: Final = re.compile(
    rf"(?<![\w.,-])(?:(?P<before>{_SIGN}|{_CODE}|euros?\b) ?)?(?P<minus>- ?)?"
    rf"(?P<number>{_DIGITS}|\b{SPELLED}\b)(?: ?(?P<scale>{_SCALE})\b)?"
    rf"(?: ?-? ?(?P<after>{_SIGN}|(?:{_NAME})\b|{_CODE}))?(?:,-)?"
)
_PERCENT: Final = re.compile(
    rf"(?<![\w.,-])(?P<number>[0-9]{{1,6}}(?:[.,][0-9]{{1,4}})?|\b{SPELLED}) ?(?:%|percent\b|per cent\b|pct\b)"
)
_GROUPED: Final = re.compile(r"[0-9]{1,3}(?:[ '_,][0-9]{3})+")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount. `value` is None when the figure has two readings or none; `currency` as it was named, if it was."""

    value: Decimal | None
    currency: str | None
    said: str
    is_dollar: bool = False
    """Whether only "dollars" were named, of which there are several."""
    is_bare: bool = False
    """Whether nothing but a number says that this is money."""


@dataclass(frozen=True, slots=True)
class FoundAmount:
    """An amount or a percentage in a text, and where it stands."""

    start: int
    end: int
    money: Money | None = None
    percent: Decimal | None = None


def figure(text: str, *, scaled: bool = False) -> Decimal | None:
    """The number that digits with points and commas state; None when that could be two, or is none."""
    text = re.sub("[ '_]", "", text)
    if text.isdecimal():
        return Decimal(text)
    dots, commas = text.count("."), text.count(",")
    if dots and commas:
        decimal = "." if text.rindex(".") > text.rindex(",") else ","
        group = "," if decimal == "." else "."
        whole, _, fraction = text.rpartition(decimal)
        if decimal in whole or not re.fullmatch(rf"[0-9]{{1,3}}(?:{re.escape(group)}[0-9]{{3}})*", whole):
            return None
        return Decimal(f"{whole.replace(group, '')}.{fraction}") if fraction else None
    mark = "." if dots else ","
    parts = text.split(mark)
    if len(parts) > 2:  # noqa: PLR2004 - only a grouping mark stands twice
        grouped = len(parts[0]) in (1, 2, 3) and all(len(part) == 3 for part in parts[1:])  # noqa: PLR2004
        return Decimal("".join(parts)) if grouped else None
    whole, fraction = parts
    if not whole or not fraction:
        return None
    if len(fraction) == 3 and len(whole) <= 3 and whole.strip("0"):  # noqa: PLR2004 - could be a group
        if mark == ",":
            return Decimal(whole + fraction)
        # 1.234 is a thousand to some; 1.234 million is not.
        return Decimal(f"{whole}.{fraction}") if scaled else None
    return Decimal(f"{whole}.{fraction}")


def currency_named(word: str) -> str | None:
    """The currency that a sign, a name or a code means; of the codes that are words too only those in capitals."""
    low = word.lower()
    known = _SYMBOLS.get(low) or _NAMES.get(low)
    if known is not None or low in _COMMON:
        return known or word.upper()
    return word if word.isascii() and word.isupper() and word in currencies() else None


def find_amounts(said: str) -> list[FoundAmount]:
    """The amounts and percentages in a text, bare numbers among them, in their order."""
    text = lowered(said)
    found = [
        FoundAmount(match.start(), match.end(), percent=_figure(match["number"], scaled=True))
        for match in _PERCENT.finditer(text)
    ]
    for match in _AMOUNT.finditer(text):
        read = _read(match, said)
        if read is not None and not any(read.start < one.end and one.start < read.end for one in found):
            found.append(read)
    return sorted(found, key=lambda one: one.start)


def _figure(text: str, *, scaled: bool) -> Decimal | None:
    return figure(text, scaled=scaled) if text[0].isdecimal() else spelled(text)


def _read(match: re.Match[str], written: str) -> FoundAmount | None:
    before, after = (written[match.start(part) : match.end(part)] for part in ("before", "after"))
    start, end = match.start(), match.end()
    ahead = currency_named(before) if before else None
    behind = currency_named(after) if after else None
    if before and ahead is None:
        start = match.start("minus") if match["minus"] else match.start("number")
    if after and behind is None:
        end = match.end("scale") if match["scale"] else match.end("number")
    scale = _SCALES[match["scale"]] if match["scale"] else 0
    value = _figure(match["number"], scaled=bool(scale))
    if not match["number"][0].isdecimal() and not (ahead or behind):
        return None
    if value is not None:
        value = value.scaleb(scale)
        if match["minus"] or value.adjusted() >= MAX_DIGITS or -int(value.normalize().as_tuple().exponent) > MAX_PLACES:
            value = None
    if ahead and behind and ahead != behind:
        value = None
    said = written[start:end]
    named = before if ahead else after if behind else ""
    is_bare = not (ahead or behind or scale)
    return FoundAmount(start, end, Money(value, ahead or behind, said, (named or "").lower() in DOLLARS, is_bare))


def as_text(value: Decimal) -> str:
    """The amount as the API takes it: plain digits with at least two places."""
    places = max(2, -int(value.normalize().as_tuple().exponent))
    return format(value.quantize(Decimal(1).scaleb(-places)), "f")


def raised(amount: Decimal, percent: Decimal) -> Decimal:
    """The amount so many percent higher, to the cent, halves up."""
    return (amount * (100 + percent) / 100).quantize(CENT, ROUND_HALF_UP)
