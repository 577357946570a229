"""What was typed, made plain: no control characters, one kind of quotation mark, quoted words put aside."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from pmis.assistant.planner.words import MISSPELT

MAX_READ: Final = 2000
"""How much is read of a message, besides what is quoted or follows a colon as the text of a comment."""

_OPEN, _CLOSE = "\ue000", "\ue001"
QUOTE: Final = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
# ruff: noqa: RUF001 - the marks of many languages are what this module is about
_QUOTED: Final = re.compile(
    r"\"([^\"]{1,10000})\"|“([^”]{1,10000})”|„([^“”]{1,10000})[“”]|«([^»]{1,10000})»|`([^`]{1,10000})`"
    r"|(?:(?<=^)|(?<=[\s(:,]))[‘']([^'‘’]{1,10000}(?:[’'](?=\w)[^'‘’]{1,10000}){0,40})[’'](?=$|[\s.,;:!?)])"
)
_DASHES: Final = str.maketrans({"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "…": " "})
_SENTENCE: Final = re.compile(r"(?<=[.!?;])\s+|\n+|;")
_TITLES: Final = re.compile(r"\b(?:e\.g|i\.e|mr|mrs|ms|dr|no|nr|approx|vs|incl|st|co|inc|ltd)\.$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """A message without what was quoted in it: each quotation left a mark that `QUOTE` finds."""

    text: str
    quotes: tuple[str, ...] = field(default=())

    def quoted(self, mark: str) -> str | None:
        """What stood in the quotation of which this is the mark."""
        found = QUOTE.fullmatch(mark)
        return self.quotes[int(found[1])] if found else None

    def spoken(self, text: str) -> str:
        """The text with its quotations put back."""
        return QUOTE.sub(lambda found: f'"{self.quotes[int(found[1])]}"', text)


def cleaned(text: str) -> str:
    """The text without control and invisible characters, in composed form, with single blanks."""
    kept = [
        " " if unicodedata.category(one) in ("Cc", "Zs", "Zl", "Zp") and one != "\n" else one
        for one in unicodedata.normalize("NFKC", text)
        if unicodedata.category(one) not in ("Cf", "Cs", "Co", "Cn")
    ]
    return re.sub(r"[^\S\n]+", " ", "".join(kept)).strip()


def put_aside(text: str) -> Said:
    """The message with its quotations put aside."""
    quotes: list[str] = []

    def keep(found: re.Match[str]) -> str:
        quotes.append(next(part for part in found.groups() if part is not None).strip())
        return f"{_OPEN}{len(quotes) - 1}{_CLOSE}"

    shown = _QUOTED.sub(keep, text)
    return Said(shown.translate(_DASHES), tuple(quotes))


def aside(said: Said, start: int, end: int) -> Said:
    """The same message with another part of it put aside, as if it had been quoted."""
    part = said.spoken(said.text[start:end]).strip().strip("\"'")
    mark = f" {_OPEN}{len(said.quotes)}{_CLOSE} "
    return Said(said.text[:start] + mark + said.text[end:], (*said.quotes, part))


_LONELY: Final = re.compile(r"(?<![\w'@.-])(?:" + "|".join(MISSPELT) + r")(?![\w'@-])", re.IGNORECASE)


def spelt(text: str) -> str:
    """The text with words that are often written otherwise in their usual form."""
    return _LONELY.sub(lambda found: MISSPELT[found[0].lower()], text)


def sentences(text: str) -> list[str]:
    """The sentences of a text; a point in a number, a code or an address ends none."""
    found: list[str] = []
    for part in _SENTENCE.split(text):
        if found and _TITLES.search(found[-1]):
            found[-1] = f"{found[-1]} {part}"
        else:
            found.append(part)
    return [part.strip() for part in found if part.strip(" .!?;,")]


def folded(text: str) -> str:
    """The text in small letters without accents, for comparing."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in plain if not unicodedata.combining(one))


def lowered(text: str) -> str:
    """The text in small letters, each where it stood: places in the one are places in the other."""
    return "".join(low if len(low := one.lower()) == 1 else one for one in text)
