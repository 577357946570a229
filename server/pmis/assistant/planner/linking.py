"""From words to records: which package, task, party, person or project a stretch of a sentence points at.

What is written exactly wins over what is only contained in a title, and that over what is merely like it. Of equals
none is chosen: an item then keeps them all, and whoever reads it asks back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pmis.assistant.planner.items import Item, Lexicon, items_of
from pmis.assistant.planner.knowledge import match, phrase_of
from pmis.assistant.planner.text import folded
from pmis.assistant.planner.words import ASKING, FUNCTION_WORDS, NO_SLIPS, STATUSES, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date
    from uuid import UUID

    from pmis.assistant.planner.knowledge import Knowledge, Record
    from pmis.assistant.planner.text import Said

MOST_PHRASES: Final = 28
"""How many phrases of a message are looked up in one round."""
LONGEST_PHRASE: Final = 8
_WORD: Final = re.compile(r"\w+")
_CLOSE: Final = 0.04
"""Likenesses nearer to each other than this are a draw."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A sentence in which slips were mended, each with its place and what stood there."""

    text: str
    slips: tuple[tuple[int, int, str], ...] = ()

    @classmethod
    def of(cls, text: str, corrected: Mapping[str, str]) -> Mended:
        """The sentence with these words in place of those."""
        slip = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, corrected)) + r")(?!\w)", re.IGNORECASE)
        parts: list[str] = []
        slips: list[tuple[int, int, str]] = []
        at = length = 0
        for found in slip.finditer(text):
            parts += [text[at : found.start()], corrected[found[0].lower()]]
            length += found.start() - at
            slips.append((length, length + len(parts[-1]), found[0]))
            at, length = found.end(), length + len(parts[-1])
        return cls("".join([*parts, text[at:]]), tuple(slips))

    def written(self, start: int, end: int) -> str:
        """A part of the sentence as it was typed: a title is taken as it is."""
        said, at = "", start
        for first, last, word in self.slips:
            if start <= first and last <= end:
                said += self.text[at:first] + word
                at = last
        return said + self.text[at:end]


async def read(
    said: Said, texts: Sequence[str], today: date, knowledge: Knowledge
) -> tuple[list[Mended], list[list[Item]]]:
    """The sentences with slips of the finger mended, and their parts with the records that these point at."""
    lexicon = _lexicon(knowledge)
    mended = [Mended(text) for text in texts]
    parts = [items_of(said, text, today, lexicon) for text in texts]
    await knowledge.search(_first_phrases(parts))
    missed = [group for items in parts for group in _groups(items) if not _hits(knowledge, group)]
    await knowledge.search(_inner_phrases(missed))
    corrected = _corrections(missed, knowledge)
    if corrected:
        mended = [Mended.of(text, corrected) for text in texts]
        texts = [one.text for one in mended]
        parts = [items_of(said, text, today, lexicon) for text in texts]
        await knowledge.search(_first_phrases(parts))
    chosen = [_chosen(items, knowledge) for items in parts]
    alike = [phrase for items, links in zip(parts, chosen, strict=True) for phrase in _unlinked(items, links)]
    if alike:
        await knowledge.search_alike(alike[:8])
        chosen = [_chosen(items, knowledge, alike=True) for items in parts]
    await _fetch(parts, chosen, knowledge)
    linked = [_linked(items, links, text, knowledge) for items, links, text in zip(parts, chosen, texts, strict=True)]
    return mended, linked


def _lexicon(knowledge: Knowledge) -> Lexicon:
    statuses = {
        status.replace("_", " "): next((key for key, by in STATUSES.items() if by.get(kind) == status), status)
        for kind in ("package", "task")
        for status in knowledge.statuses(kind)
    }
    known = {word: key for word, key in statuses.items() if "status" not in WORDS.get(word, {})}
    return Lexicon(knowledge.people, frozenset(one.prefix for one in knowledge.projects.values()), known)


class Group:
    """Unknown words that stand together, with nothing but words such as "of" and "the" between them."""

    def __init__(self, words: list[tuple[int, int, str]]) -> None:
        """Words with their places."""
        self.words = words

    @property
    def phrase(self) -> tuple[str, ...]:
        """All its words."""
        return self.part(0, len(self.words))

    def part(self, start: int, stop: int) -> tuple[str, ...]:
        """Some of its words."""
        return phrase_of(" ".join(word for _, _, word in self.words[start:stop]))

    def parts(self) -> Iterable[tuple[int, int]]:
        """Its stretches, the longest first."""
        count = len(self.words)
        for size in range(min(count, LONGEST_PHRASE), 0, -1):
            for start in range(count - size + 1):
                yield start, start + size


def _groups(items: Sequence[Item]) -> list[Group]:
    groups: list[Group] = []
    words: list[tuple[int, int, str]] = []
    for place, item in enumerate(items):
        if item.kind == "name" or (item.kind == "amount" and item.money.is_bare and _beside_name(items, place)):
            words += [(item.start + one.start(), item.start + one.end(), one[0]) for one in _WORD.finditer(item.text)]
        elif not (item.low in FUNCTION_WORDS or item.low == "&"):
            if words:
                groups.append(Group(words))
            words = []
    if words:
        groups.append(Group(words))
    return groups


def _beside_name(items: Sequence[Item], place: int) -> bool:
    return any(0 <= near < len(items) and items[near].kind == "name" for near in (place - 1, place + 1))


def _first_phrases(parts: Sequence[Sequence[Item]]) -> list[tuple[str, ...]]:
    phrases = [group.phrase for items in parts for group in _groups(items) if len(group.words) <= 12]  # noqa: PLR2004
    phrases += [phrase_of(item.value) for items in parts for item in items if item.kind == "quote"]
    return [phrase for phrase in phrases if phrase][:MOST_PHRASES]


def _inner_phrases(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    phrases: list[tuple[str, ...]] = []
    for group in groups:
        phrases += [group.part(start, stop) for start, stop in group.parts()]
    ordered = sorted(dict.fromkeys(phrase for phrase in phrases if phrase), key=len)
    # Single words are wanted in any case: those that no record has may be known words with a slip in them.
    return ordered[:MOST_PHRASES] if len(ordered) > MOST_PHRASES else ordered


def _hits(knowledge: Knowledge, group: Group) -> bool:
    return bool(knowledge.found(group.phrase))


def _corrections(groups: Sequence[Group], knowledge: Knowledge) -> dict[str, str]:
    """Unknown words that no record has, each with the known word that it is like."""
    corrected: dict[str, str] = {}
    names = {word for person in knowledge.people for word in person.words}
    for group in groups:
        for _, _, word in group.words[:40]:
            low = word.lower()
            if low in names or not low.isalpha() or knowledge.found((low,)):
                continue
            better = _known_word_like(low)
            if better is not None:
                corrected[low] = better
                continue
            name = _name_like(low, names)
            if name is not None:
                corrected[low] = name
    return corrected


def _name_like(word: str, names: Iterable[str]) -> str | None:
    return None if len(word) < 4 else next((name for name in names if _slips(word, name) == 1), None)  # noqa: PLR2004


@lru_cache(maxsize=1)
def _single_words() -> tuple[str, ...]:
    telling = {phrase for phrase, senses in WORDS.items() if set(senses) - {"cue", "fill"}} | ASKING
    parts = {part for phrase in telling for part in phrase.split() if part.isalpha()}
    return tuple(sorted(part for part in parts if len(part) >= 4))  # noqa: PLR2004 - shorter ones are like too many


@lru_cache(maxsize=2000)
def _known_word_like(word: str) -> str | None:
    """The one known word that this is with a slip of the finger: two letters changed round, one too many or few."""
    if len(word) < 4 or len(word) > 20:  # noqa: PLR2004 - too short to tell, or no word
        return None
    if word in NO_SLIPS:
        return None
    near = [one for one in _single_words() if abs(len(one) - len(word)) <= 1 and _slips(word, one) == 1]
    near = [one for one in near if one[0] == word[0] or sorted(one) == sorted(word)]
    if len(word) == 4:  # noqa: PLR2004 - of short words, only letters changed round
        near = [one for one in near if sorted(one) == sorted(word)]
    first = [one for one in near if one[0] == word[0]]
    swapped = [one for one in first if sorted(one) == sorted(word)]
    if len(word) >= 8 and not near:  # noqa: PLR2004 - in a long word, two slips are still clear
        near = [one for one in _single_words() if len(one) >= 7 and _slips(word, one) == 2 and one[0] == word[0]]  # noqa: PLR2004
        first = near
    for some in (swapped, first, near):
        meanings = {str(sorted(WORDS.get(one, {one: one}).items())) for one in some}
        if len(meanings) == 1:
            return some[0]
    return None


def _slips(one: str, other: str) -> int:
    """How many slips lie between two words (letters left out, added, mistaken or changed round), up to 3."""
    if abs(len(one) - len(other)) > 2:  # noqa: PLR2004
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, right in enumerate(other, 1):
            cost = min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return min(row[-1], 3)


class Link:
    """A stretch of a sentence, and the records that it is the title of, or a part of it."""

    def __init__(self, start: int, end: int, ranked: Sequence[tuple[float, UUID]], *, is_alike: bool) -> None:
        """The best alone are kept."""
        best = ranked[0][0]
        margin = _CLOSE if best < 1 else 0
        self.start, self.end = start, end
        self.ids = [identity for rank, identity in ranked if rank >= best - margin]
        self.rank = best
        self.is_alike = is_alike


def _chosen(items: Sequence[Item], knowledge: Knowledge, *, alike: bool = False) -> list[Link]:
    links: list[Link] = []
    for item in items:
        if item.kind == "quote":
            ranked = knowledge.found(phrase_of(item.value)) or (
                knowledge.found(phrase_of(item.value), alike=True) if alike else []
            )
            if ranked:
                links.append(Link(item.start, item.end, ranked, is_alike=ranked[0][0] < 1))
    for group in _groups(items):
        for start, stop in group.parts():
            for likely in (False, True) if alike else (False,):
                first, last = group.words[start][0], group.words[stop - 1][1]
                if any(first < link.end and link.start < last for link in links):
                    continue
                ranked = knowledge.found(group.part(start, stop), alike=likely)
                if ranked and not (len(group.words) > 1 and stop - start == 1 and _is_weak(group, start, ranked)):
                    links.append(Link(first, last, ranked, is_alike=likely))
    return links


def _is_weak(group: Group, start: int, ranked: Sequence[tuple[float, UUID]]) -> bool:
    """Whether a single word is too little to be taken for a title: a number, or the beginning of a short word."""
    word = group.words[start][2]
    return word.isdecimal() or (ranked[0][0] < 1.7 and len(word) < 4)  # noqa: PLR2004 - whole words


def _unlinked(items: Sequence[Item], links: Sequence[Link]) -> list[tuple[str, ...]]:
    phrases: list[tuple[str, ...]] = []
    for group in _groups(items):
        left = [word for word in group.words if not any(link.start < word[1] and word[0] < link.end for link in links)]
        if left:
            phrases.append(group.phrase)
            if len(left) < len(group.words):
                phrases.append(phrase_of(" ".join(word for _, _, word in left)))
    linked = {link.start for link in links}
    phrases += [phrase_of(item.value) for item in items if item.kind == "quote" and item.start not in linked]
    return [phrase for phrase in dict.fromkeys(phrases) if phrase]


async def _fetch(parts: Sequence[Sequence[Item]], chosen: Sequence[Sequence[Link]], knowledge: Knowledge) -> None:
    from uuid import UUID  # noqa: PLC0415 - typing elsewhere

    every = [item for items in parts for item in items]
    addresses = [item.value for item in every if item.kind == "address"]
    if addresses:
        await knowledge.people_at(addresses)
    await knowledge.fetch(
        ids={identity for links in chosen for link in links for identity in link.ids[:60]}
        | {UUID(item.value) for item in every if item.kind == "id"},
        codes={item.value for item in every if item.kind == "code"},
        numbers={item.value for item in every if item.kind == "number"},
        addresses=addresses,
    )


def _linked(items: Sequence[Item], links: Sequence[Link], text: str, knowledge: Knowledge) -> list[Item]:
    """The items with their records, unknown words among them that belong to no title staying as they are."""
    found: list[Item] = []
    for link in sorted(links, key=lambda one: one.start):
        records = [knowledge.records[one] for one in link.ids if one in knowledge.records]
        records = [one for one in records if not one.deleted] or records
        if not records:
            continue
        start, end, records = _extended(link, records, text, items)
        if any(start < one.end and one.start < end for one in found):
            start, end = link.start, link.end
        was_quoted = next((item for item in items if item.kind == "quote" and item.start == link.start), None)
        kind, value = ("quote", was_quoted.value) if was_quoted else ("name", None)
        found.append(
            Item(kind, start, end, text[start:end], value=value, records=tuple(records), is_alike=link.is_alike)
        )
    taken = list(found)
    for item in items:
        found += _left_over(item, taken, text)
    found.sort(key=lambda one: one.start)
    for item in found:
        _point(item, knowledge)
    return _nouns_absorbed(found, knowledge)


def _left_over(item: Item, taken: Sequence[Item], text: str) -> list[Item]:
    """What is left of an item when titles have taken their part of it."""
    inside = [one for one in taken if one.start < item.end and item.start < one.end]
    if not inside:
        return [item]
    if item.kind != "name":
        return []
    left: list[Item] = []
    for one in _WORD.finditer(item.text):
        start, end = item.start + one.start(), item.start + one.end()
        if any(start < other.end and other.start < end for other in inside):
            continue
        if left and not text[left[-1].end : start].strip():
            left[-1].end, left[-1].text = end, text[left[-1].start : end]
        else:
            left.append(Item("name", start, end, one[0]))
    return left


def _extended(link: Link, records: list[Record], text: str, items: Sequence[Item]) -> tuple[int, int, list[Record]]:
    """The stretch with the neighbouring words that are in the title too, and the records for which it is longest."""
    if link.rank >= 3:  # noqa: PLR2004 - the very title
        return link.start, link.end, records
    best = [(*_reach(link, [*_WORD.findall(folded(record.title))], text, items), record) for record in records]
    longest = max(end - start for start, end, _ in best)
    kept = [one for one in best if one[1] - one[0] == longest]
    return kept[0][0], kept[0][1], [record for _, _, record in kept]


def _reach(link: Link, title: list[str], text: str, items: Sequence[Item]) -> tuple[int, int]:
    fixed = [item for item in items if item.kind in ("code", "person", "quote", "address", "comma", "date")]
    head = next(
        (item for place, item in enumerate(items) if item.can("verb") and not (place and items[place - 1].can("noun"))),
        None,
    )
    if head is not None and _is_whole_title(link, title, text, head, items):
        head = None
    words = [(one.start(), one.end(), folded(one[0])) for one in _WORD.finditer(text)]
    inside = [word for start, _, word in words if link.start <= start < link.end]
    left = [word for word in title if word not in inside]
    start, end = link.start, link.end
    for going in (1, -1):
        line = [word for word in words if (word[0] >= link.end if going > 0 else word[1] <= link.start)]
        pending: tuple[int, int] | None = None
        for first, last, word in line[::going]:
            stops = any(first < one.end and one.start < last for one in fixed)
            if stops or (going < 0 and head is not None and first <= head.start) or word not in left:
                break
            left.remove(word)
            pending = (first, last)
            if word not in FUNCTION_WORDS:
                start, end = min(start, pending[0]), max(end, pending[1])
    return start, end


def _is_whole_title(link: Link, title: list[str], text: str, head: Item, items: Sequence[Item]) -> bool:
    """Whether the verb in front belongs to a title that is named entirely, and more of the sentence follows it."""
    said = [folded(word) for word in _WORD.findall(text[head.start : link.end])]
    follows = any(
        item.start >= link.end and (item.can("mark") or item.can("cue") or item.can("verb")) for item in items
    )
    return (
        follows
        and said == title[: len(said)]
        and set(title[len(said) :]) <= {folded(w) for w in _WORD.findall(text[link.end :])}
    )


def _point(item: Item, knowledge: Knowledge) -> None:
    """Give an item the records and people that its code, number or address stands for."""
    known = knowledge.records.values()
    if item.kind == "code":
        item.records = tuple(one for one in known if one.doc.get("code") == item.value)
    elif item.kind == "number":
        item.records = tuple(one for one in known if one.doc.get("number") == item.value and not one.deleted)
    elif item.kind == "id":
        item.records = tuple(one for one in known if str(one.named.id) == item.value)
    elif item.kind == "address":
        item.people = tuple(knowledge.addresses.get(item.value, ()))
        item.records = tuple(one for one in known if str(one.doc.get("email") or "").lower() == item.value)
    elif item.kind == "name" and not item.records:
        _point_at_project(item, knowledge)


def _point_at_project(item: Item, knowledge: Knowledge) -> None:
    words = phrase_of(item.text)
    named = [one for one in knowledge.projects.values() if one.prefix == item.text.upper()] or [
        one for one in knowledge.projects.values() if words and match(words, _WORD.findall(folded(one.name))) > 1
    ]
    if named:
        item.kind, item.value = "project", tuple(one.named for one in named)


_SINGULAR: Final = {
    "package": ("package",),
    "work package": ("package",),
    "wp": ("package",),
    "contract": ("package",),
    "procurement": ("package",),
    "packages": ("package",),
    "task": ("task",),
    "tasks": ("task",),
    "action item": ("task",),
    "action": ("task",),
    "job": ("task",),
    "ticket": ("task",),
    "company": ("party",),
    "party": ("party",),
    "firm": ("party",),
    "project": ("project",),
    "customer": ("party",),
    "client": ("party",),
}


_DATE_WORDS: Final = {
    "start": "planned_start",
    "begin": "planned_start",
    "starts": "planned_start",
    "end": "end",
    "ends": "end",
    "finish": "end",
}


def _comes_before_date(items: Sequence[Item]) -> bool:
    for item in items[:3]:
        if item.kind == "date":
            return True
        if item.low not in ("on", "by", "at", "from", "to", "is", ":", "=", "date", "the"):
            return False
    return False


def _nouns_absorbed(items: list[Item], knowledge: Knowledge) -> list[Item]:
    """The items without the nouns that only say what stands beside them: "package P-003", "the lane package"."""
    kept: list[Item] = []
    for place, item in enumerate(items):
        dated = _DATE_WORDS.get(item.low)
        if dated and place and _comes_before_date(items[place + 1 :]):
            item.senses = {"field": dated}
        after = items[place + 1] if place + 1 < len(items) else None
        kinds = _SINGULAR.get(item.low)
        if kinds is not None and after is not None and _fits(after, kinds, knowledge):
            after.start, after.senses = item.start, {"noun": kinds[0]}
            continue
        before = kept[-1] if kept else None
        if (
            kinds is not None
            and before is not None
            and before.kind in ("name", "quote")
            and _fits(before, kinds, knowledge)
        ):
            before.end = item.end
            continue
        kept.append(item)
    return kept


def _fits(item: Item, kinds: tuple[str, ...], knowledge: Knowledge) -> bool:
    """Whether the item points at records of these types; the others are then out of the question."""
    if item.kind == "project":
        return "project" in kinds
    if "project" in kinds and item.kind in ("name", "quote"):
        words = phrase_of(item.value or item.text)
        named = [one.named for one in knowledge.projects.values() if match(words, _WORD.findall(folded(one.name))) > 1]
        if named:
            item.kind, item.value, item.records = "project", tuple(named), ()
        return bool(named)
    fitting = tuple(one for one in item.records if one.type in kinds)
    if fitting:
        item.records = fitting
    return bool(fitting)
