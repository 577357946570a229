"""Numbers in digits and in words."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

UNITS: Final = {
    word: value
    for value, words in enumerate(
        (
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        )
    )
    for word in words.split()
}
_TENS: Final = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
ORDINALS: Final = {
    "first": 1,
    "1st": 1,
    "second": 2,
    "2nd": 2,
    "third": 3,
    "3rd": 3,
    "fourth": 4,
    "4th": 4,
    "fifth": 5,
    "5th": 5,
    "sixth": 6,
    "6th": 6,
    "seventh": 7,
    "7th": 7,
    "eighth": 8,
    "8th": 8,
    "last": -1,
}
_WORDS: Final = "|".join([*sorted(UNITS, key=len, reverse=True), *_TENS])
_SCALE_WORDS: Final = "|".join(_SCALES)
SPELLED: Final = (
    rf"(?:half a million|(?:(?:a|an)[ -](?:{_SCALE_WORDS})|(?:{_WORDS}))"
    rf"(?:[ -](?:and )?(?:{_WORDS}|{_SCALE_WORDS})){{0,8}})"
)
"""A number in words, as a part of a pattern."""
SMALL: Final = rf"(?:[0-9]{{1,4}}|an?|{_WORDS}|(?:a )?couple(?: of)?|twenty[ -]one)"
"""A small number in digits or words, as a part of a pattern."""


def small(text: str) -> int:
    """The number that a match of `SMALL` states."""
    word = text.strip().replace("-", " ")
    if word.isdecimal():
        return int(word)
    if word in ("a", "an"):
        return 1
    if "couple" in word:
        return 2
    return int(spelled(word) or 0)


def spelled(text: str) -> Decimal | None:
    """The number that words such as "two hundred and fifty thousand" state, if they state one."""
    if text == "half a million":
        return Decimal(500_000)
    total, part = 0, 0
    for word in re.split("[ -]", text):
        if word in ("a", "an"):
            part = 1
        elif word in UNITS:
            part += UNITS[word]
        elif word in _TENS:
            part += _TENS[word]
        elif word == "hundred":
            part = (part or 1) * 100
        elif word in _SCALES:
            total, part = total + (part or 1) * _SCALES[word], 0
        elif word != "and":
            return None
    return Decimal(total + part)
