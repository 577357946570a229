"""What a mail seems to ask for: a field, a value, and the line that says so. Found by rules, done by nobody.

A suggestion takes effect when a person accepts it, and then as a proposal of that person, with the uncertainty of
what comes from an e-mail; the line is shown to whoever decides.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

MAX_SUGGESTIONS: Final = 20
_MAX_LINE: Final = 400
_MAX_LINES: Final = 2000
_LONGEST_QUOTE: Final = 200

_FIELDS: Final = {
    "planned_end": r"planned (?:end|finish|completion)(?: date)?|completion date|end date|finish date",
    "planned_start": r"planned start(?: date)?|start date",
    "actual_start": r"actual start(?: date)?",
    "actual_end": r"actual (?:end|finish)(?: date)?",
}
_DAY: Final = r"(?P<day>\d{4}-\d{2}-\d{2})"
_TO: Final = r"(?:\s+(?:to|is now|is|will be|becomes|by|of)|\s*[:=])\s+"
_DATES: Final = tuple(
    (field, re.compile(rf"\b(?:{words}){_TO}(?:be\s+)?{_DAY}\b", re.IGNORECASE)) for field, words in _FIELDS.items()
)
_AMOUNT: Final = re.compile(
    r"\b(?:amount|price|contract value|total)(?:\s+(?:to|is now|is|will be|becomes|of)|\s*[:=])\s+"
    r"(?:(?P<before>[A-Z]{3})\s?(?P<one>\d{1,15}(?:\.\d{1,2})?)|(?P<two>\d{1,15}(?:\.\d{1,2})?)\s?(?P<after>[A-Z]{3}))"
    r"(?![\d.,]*\d)",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(
    r"\b(?:status|state)(?:\s+(?:to|is now|is|will be|becomes)|\s*[:=])\s+(?P<status>[a-z]+(?:[ _-][a-z]+)?)\b",
    re.IGNORECASE,
)
_STATUSES: Final = frozenset(
    {"draft", "submitted", "in_review", "approved", "awarded", "active", "on_hold", "completed", "cancelled"}
)


class Suggestion(BaseModel):
    """A change that a line of the mail seems to ask for."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    line: int
    quote: str
    operation: str
    patch: dict[str, Any]


def suggestions_of(text: str) -> list[Suggestion]:
    """What the text seems to ask for, line by line. Quoted lines of an earlier mail count for nothing."""
    found: list[Suggestion] = []
    for number, line in enumerate(text.split("\n")[:_MAX_LINES], start=1):
        words = line.strip()
        # What is not seen was written out, `[U+202E]`: such a line may say something else than it seems to.
        if not words or words.startswith(">") or len(words) > _MAX_LINE or "[U+" in words:
            continue
        for operation, patch in _changes(words):
            found.append(Suggestion(line=number, quote=words[:_LONGEST_QUOTE], operation=operation, patch=patch))
            if len(found) == MAX_SUGGESTIONS:
                return found
    return found


def _changes(line: str) -> list[tuple[str, dict[str, Any]]]:
    patch: dict[str, Any] = {}
    for field, pattern in _DATES:
        hit = pattern.search(line)
        if hit and _is_day(hit["day"]):
            patch[field] = hit["day"]
    money = _AMOUNT.search(line)
    if money:
        patch["amount"] = money["one"] or money["two"]
        patch["currency"] = (money["before"] or money["after"]).upper()
    changes = [("patch", patch)] if patch else []
    status = _STATUS.search(line)
    if status:
        said = status["status"].lower().replace(" ", "_").replace("-", "_")
        word = next((one for one in (said, said.partition("_")[0]) if one in _STATUSES), None)
        if word:
            changes.append(("transition", {"status": word}))
    return changes


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
