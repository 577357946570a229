"""The words that the planner knows, each with what it can mean; what it means where it stands, its neighbours tell.

They are data, in `lexicon.json`: for each kind of word its meanings, and for each meaning the words and phrases.
`fill` says nothing; `cue` means nothing to a command, and is looked for by the patterns of questions. `asking` are
words that are recognised with a slip of the finger in them although they only ask, `no_slips` are nobody's slip, though
like a known word, and `misspelt` is put right before anything is read.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Senses: TypeAlias = "Mapping[str, str]"
"""For each kind of word that it can be (`verb`, `status`, `field`, ...) the meaning that it then has."""

STATUSES: Final[Mapping[str, Mapping[str, str]]] = {
    "draft": {"package": "draft"},
    "submitted": {"package": "submitted"},
    "review": {"package": "in_review", "task": "review_needed"},
    "approved": {"package": "approved"},
    "awarded": {"package": "awarded"},
    "running": {"package": "active", "task": "in_progress"},
    "held": {"package": "on_hold"},
    "blocked": {"task": "blocked"},
    "pending": {"task": "pending"},
    "done": {"package": "completed", "task": "completed"},
    "cancelled": {"package": "cancelled", "task": "cancelled"},
}
"""What each meaning of a word for a status is for a package and for a task."""

_DATA: Final[Mapping[str, Any]] = json.loads(
    files("pmis.assistant.planner").joinpath("lexicon.json").read_text("utf-8")
)
ASKING: Final[frozenset[str]] = frozenset(_DATA["asking"])
NO_SLIPS: Final[frozenset[str]] = frozenset(_DATA["no_slips"])
MISSPELT: Final[Mapping[str, str]] = _DATA["misspelt"]
FUNCTION_WORDS: Final = frozenset(
    (
        *("the", "a", "an", "of", "in", "on", "for", "to", "and", "at", "by", "from", "with", "as", "is", "it", "its"),
        *("or", "into", "about", "under", "off", "up", "out", "this", "that", "no"),
    )
)
"""Words that say nothing about which record is meant."""


def _table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for kind in ("pronoun", "mark", "noun", "field", "status", "verb", "past", "ing"):
        for meaning, words in _DATA[kind].items():
            for word in words:
                table.setdefault(word, {}).setdefault(kind, meaning)
    for kind in ("cue", "fill"):
        for word in _DATA[kind]:
            table.setdefault(word, {})[kind] = ""
    return table


WORDS: Final[Mapping[str, Senses]] = _table()
"""Each known word or phrase, in small letters."""


@lru_cache(maxsize=1)
def by_first() -> dict[str, list[str]]:
    """The phrases of several words by their first one, the longest first."""
    found: dict[str, list[str]] = {}
    for phrase in WORDS:
        if " " in phrase:
            found.setdefault(phrase.split()[0], []).append(phrase)
    return {first: sorted(phrases, key=lambda one: -len(one.split())) for first, phrases in found.items()}
