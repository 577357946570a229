"""The parts of a sentence: what each stretch of it is, before anybody asks what the sentence wants."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pmis.assistant.planner.amounts import Money, find_amounts
from pmis.assistant.planner.dates import find_dates
from pmis.assistant.planner.numbers import ORDINALS
from pmis.assistant.planner.text import QUOTE, folded, lowered
from pmis.assistant.planner.words import WORDS, by_first

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from pmis.assistant.plan import Named
    from pmis.assistant.planner.knowledge import Person, Record
    from pmis.assistant.planner.text import Said
    from pmis.assistant.planner.words import Senses

_CODE: Final = re.compile(
    r"(?<![\w./@-])(?P<prefix>[a-z][a-z0-9]{0,9}?)(?P<gap>[-_/ ]{0,2})(?P<number>[0-9]{1,6})(?![\w@%€$£]|"
    r"[.,/][0-9]|-[0-9])"
)
_NUMBERED: Final = re.compile(
    r"\b(?:packages?|pkgs?|wps?|work packages?)\s{0,2}(?:no\.?|nr\.?|number|numbers|#)?\s{0,2}"
    r"(?P<numbers>#?[0-9]{1,6}(?:(?:\s*,\s*(?:and )?|\s+and\s+|\s*&\s*)#?[0-9]{1,6}(?![\w-]))*)(?![\w%€$£-]|"
    r"[.,][0-9]| ?(?:eur|usd|million|k)\b)"
)
_HASH: Final = re.compile(r"(?<![\w])#\s?(?P<number>[0-9]{1,6})(?![\w%])")
_ADDRESS: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_ID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_TOKEN: Final = re.compile(r"->|=>|#?\w+(?:[.\-/]\w+)*(?:'\w+)?|[^\s\w]")
_ORDINAL: Final = re.compile(
    rf"\b(?:the |number |no\.? )?(?P<which>{'|'.join(ORDINALS)})(?: (?:one|package|task|of them|of these|option))\b"
    r"|^\W*(?:the |option |number |no\.? ?|#)?(?P<bare>" + "|".join(ORDINALS) + r"|[1-8])\W*$"
    r"|\boption (?P<option>[1-8])\b"
)


@dataclass
class Item:
    """A stretch of a sentence.

    `kind` is one of quote, code, number, person, address, date, amount, percent, word, name, ordinal, comma, symbol.
    `senses` is what a known word can mean. `records` are those that a code or name may point at, the best alone.
    """

    kind: str
    start: int
    end: int
    text: str
    senses: Senses = field(default_factory=dict[str, str])
    value: Any = None
    records: tuple[Record, ...] = ()
    people: tuple[Named, ...] = ()
    is_alike: bool = False
    """Whether the records were found although the words are not quite those of their titles."""

    def can(self, kind: str, *meanings: str) -> bool:
        """Whether it is a known word that can be of this kind (and have one of these meanings)."""
        return kind in self.senses and (not meanings or self.senses[kind] in meanings)

    @property
    def low(self) -> str:
        """Its text in small letters."""
        return self.text.lower()

    @property
    def money(self) -> Money:
        """The amount that it is."""
        return self.value


@dataclass(frozen=True)
class Lexicon:
    """What words mean in one turn: the planner's own, the policy's statuses, and who is here."""

    people: Sequence[Person]
    prefixes: Collection[str]
    statuses: Mapping[str, str] = field(default_factory=dict[str, str])


def items_of(said: Said, text: str, today: date, lexicon: Lexicon) -> list[Item]:
    """The parts of a sentence in their order; what is not known is a `name`, a run of unknown words."""
    low = lowered(text)
    found = [Item("quote", one.start(), one.end(), one[0], value=said.quoted(one[0])) for one in QUOTE.finditer(text)]
    _add(
        found, [Item("address", one.start(), one.end(), one[0], value=one[0].lower()) for one in _ADDRESS.finditer(low)]
    )
    _add(found, [Item("id", one.start(), one.end(), one[0], value=one[0]) for one in _ID.finditer(low)])
    _add(found, _codes(text, low, lexicon.prefixes))
    _add(found, _numbers(low))
    _add(found, _ordinals(low))
    _add(
        found,
        [Item("date", one.start, one.end, text[one.start : one.end], value=one.when) for one in find_dates(low, today)],
    )
    for one in find_amounts(text):
        kind = "percent" if one.money is None else "amount"
        value = one.percent if one.money is None else one.money
        _add(found, [Item(kind, one.start, one.end, text[one.start : one.end], value=value)])
    found.sort(key=lambda one: one.start)
    words: list[Item] = []
    at = 0
    for item in [*found, Item("end", len(text), len(text), "")]:
        words += _words(text, at, item.start, lexicon)
        at = max(at, item.end)
    return sorted([*found, *words], key=lambda one: one.start)


def _add(found: list[Item], more: Sequence[Item]) -> None:
    found += [item for item in more if not any(item.start < one.end and one.start < item.end for one in found)]


def _codes(text: str, low: str, prefixes: Collection[str]) -> list[Item]:
    items: list[Item] = []
    for one in _CODE.finditer(low):
        prefix, gap, number = one["prefix"].upper(), one["gap"], one["number"]
        written = text[one.start("prefix") : one.end("prefix")]
        known = prefix in prefixes
        if " " in gap or not gap:
            # "in 2 weeks" is no package of a project IN; "Q1" is a quarter where no project is called Q.
            plain = gap.strip() == "" and gap != ""
            if not known or (plain and written.lower() in _NO_PREFIX and not number.startswith("0")):
                continue
            if plain and not (written.isupper() or number.startswith("0") or prefix.lower() not in WORDS):
                continue
        elif not known and (not (written.isupper() or number.startswith("0")) or prefix in ("ISO", "COVID", "RFC")):
            continue
        items.append(
            Item("code", one.start(), one.end(), text[one.start() : one.end()], value=f"{prefix}-{int(number):03d}")
        )
    return items


_NO_PREFIX: Final = frozenset(
    [
        "in",
        "by",
        "to",
        "at",
        "of",
        "on",
        "for",
        "over",
        "under",
        "about",
        "than",
        "is",
        "and",
        "or",
        "a",
        "i",
        "no",
        "nr",
        "q",
        "from",
        "until",
        "till",
        "between",
        "within",
    ]
)


def _numbers(low: str) -> list[Item]:
    items: list[Item] = []
    for one in _NUMBERED.finditer(low):
        at = one.start("numbers")
        items += [
            Item("number", at + number.start(), at + number.end(), number[0], value=int(number[1]))
            for number in re.finditer(r"#?([0-9]+)", one["numbers"])
        ]
    items += [Item("number", one.start(), one.end(), one[0], value=int(one["number"])) for one in _HASH.finditer(low)]
    return items


def _ordinals(low: str) -> list[Item]:
    items: list[Item] = []
    for one in _ORDINAL.finditer(low):
        word = one["which"] or one["bare"] or one["option"]
        place = ORDINALS.get(word) or int(word)
        items.append(Item("ordinal", one.start(), one.end(), one[0], value=place))
    return items


def _words(text: str, start: int, end: int, lexicon: Lexicon) -> list[Item]:
    if text.startswith("'s", start) and start > 0:
        start += 2
    tokens = [(one.start() + start, one.end() + start, one[0]) for one in _TOKEN.finditer(text[start:end])]
    items: list[Item] = []
    at = 0
    while at < len(tokens):
        item, used = _next(text, tokens, at, lexicon, first=start == 0 and not items)
        if item is not None:
            last = items[-1] if items else None
            if (
                item.kind == "name"
                and last is not None
                and last.kind == "name"
                and not text[last.end : item.start].strip()
            ):
                last.end, last.text = item.end, text[last.start : item.end]
            else:
                items.append(item)
        at += used
    return items


def _next(
    text: str, tokens: Sequence[tuple[int, int, str]], at: int, lexicon: Lexicon, *, first: bool
) -> tuple[Item | None, int]:
    start, end, written = tokens[at]
    if written == ",":
        return Item("comma", start, end, written), 1
    if not any(one.isalnum() for one in written) and written not in WORDS:
        return (None if written in ".!?'\"()[]" else Item("symbol", start, end, written)), 1
    low = [_plain(token[2]) for token in tokens[at : at + 7]]
    person, used = _person(tokens, at, lexicon.people, first=first)
    if person is not None:
        stop = tokens[at + used - 1][1]
        return Item("person", start, stop, text[start:stop], people=person), used
    for phrase in (*by_first().get(low[0], ()), *(one for one in lexicon.statuses if " " in one)):
        parts = phrase.split()
        if low[: len(parts)] == parts:
            stop = tokens[at + len(parts) - 1][1]
            senses = dict(WORDS.get(phrase, {}))
            if phrase in lexicon.statuses:
                senses["status"] = senses.get("status", lexicon.statuses[phrase])
            return Item("word", start, stop, text[start:stop], senses=senses), len(parts)
    word = low[0]
    senses = dict(WORDS.get(word, {}))
    if word in lexicon.statuses:
        senses["status"] = senses.get("status", lexicon.statuses[word])
    if senses:
        return Item("word", start, end, written, senses=senses), 1
    stop = end - 2 if written.endswith("'s") else end
    return Item("name", start, stop, text[start:stop]), 1


def _plain(written: str) -> str:
    word = written.lower()
    if word.endswith("'s") and word not in WORDS:
        word = word[:-2]
    return word


def _person(
    tokens: Sequence[tuple[int, int, str]], at: int, people: Sequence[Person], *, first: bool
) -> tuple[tuple[Named, ...] | None, int]:
    """Who is named here, by the whole name or a part of it, and how many words that takes."""
    words = [folded(token[2].removesuffix("'s")) for token in tokens[at : at + 4]]
    if not words[0][:1].isalpha():
        return None, 0
    for used in range(len(words), 0, -1):
        said = words[:used]
        whole = tuple(one.named for one in people if [*one.words] == said)
        if whole and (used > 1 or _is_name(tokens[at][2], first=first)):
            return whole, used
        part = tuple(
            one.named
            for one in people
            if all(word in one.words for word in said) and (used > 1 or said[0] in (one.words[0], one.words[-1]))
        )
        if part and (used > 1 or _is_name(tokens[at][2], first=first)):
            return part, used
    return None, 0


def _is_name(written: str, *, first: bool) -> bool:
    """Whether a word that is a name is meant as one: Mark is somebody, to mark something is not."""
    low = written.lower().removesuffix("'s")
    return (low not in WORDS and low not in _ALSO_WORDS) or (written[:1].isupper() and not first)


_ALSO_WORDS: Final = frozenset(
    [
        "will",
        "may",
        "can",
        "mark",
        "grant",
        "bill",
        "chase",
        "drew",
        "art",
        "sue",
        "pat",
        "rob",
        "rose",
        "dawn",
        "hope",
        "grace",
        "faith",
        "joy",
    ]
)
