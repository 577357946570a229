"""New packages, tasks, parties and comments.

What a sentence gives beside the fields is the title: one stretch of words, quoted or not, and never two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pmis.assistant.plan import PlannedChange
from pmis.assistant.planner.asking import AskBackError, not_clear, unknown, which
from pmis.assistant.planner.changes import a_day, checked, field_of, money, vendor
from pmis.assistant.planner.dates import Shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.assistant.plan import TargetType
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.knowledge import Record
    from pmis.assistant.planner.linking import Mended
    from pmis.assistant.planner.turn import Turn

_OPENERS: Final = frozenset(
    [
        "to",
        "for",
        "in",
        "on",
        "of",
        "under",
        "from",
        "at",
        "by",
        "until",
        "till",
        "before",
        "with",
        "worth",
        "within",
        "belonging",
        "to",
        "inside",
        "as",
        "is",
        "onto",
        "into",
        "re",
        "about",
        "regarding",
    ]
)
_DATE_FIELDS: Final = frozenset({"planned_start", "end", "due", "actual_start", "actual_end"})
_EDGES: Final = re.compile(
    r"^(?:(?:to|for|that|is|called|named|titled|of|on|about|:|-|,|a|an|the|and|with)(?:\s+|$)|[\s,:;-]+)+",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(
    r"(?:[\s,:;.-]+|\b(?:please|pls|thanks|thank you|and|with|to|for|by|on|in|the|a)\s*$)+$", re.IGNORECASE
)
_KINDS: Final = {"vendor": "vendor", "customer": "customer"}
NEW: Final = frozenset({"package", "task", "party", "vendor", "customer", "comment", "project", "person", "approval"})


@dataclass
class Wish:
    """What is said of a record that is to be made."""

    titles: list[str] = field(default_factory=list[str])
    quotes: list[Item] = field(default_factory=list["Item"])
    fields: dict[str, Item] = field(default_factory=dict[str, "Item"])
    homes: list[Item] = field(default_factory=list["Item"])
    projects: list[Item] = field(default_factory=list["Item"])
    address: Item | None = None


def what_is_made(items: Sequence[Item]) -> tuple[str, list[Item]] | None:
    """The noun of what is to be made, and what is said after it; None when no noun says so."""
    if (
        len(items) > 2  # noqa: PLR2004 - a preposition, a record and a noun
        and items[0].low in ("to", "for", "on", "in", "under")
        and (items[1].records or items[1].kind == "code")
    ):
        # "Add to P-001 a task": where it belongs may stand first.
        found = what_is_made(items[2:])
        return (found[0], [*found[1], *items[:2]]) if found else None
    for place, item in enumerate(items[:6]):
        noun = item.senses.get("noun") or {"vendor": "vendor"}.get(item.senses.get("field", ""))
        if noun in NEW:
            rest = list(items[place + 1 :])
            if noun == "vendor" and _names_package(rest):
                return None
            if item.kind != "word":
                return noun, [item, *rest]
            return noun, rest
        if item.kind == "word" and (item.can("fill") or item.can("verb", "create") or item.can("cue")):
            continue
        if item.senses.get("noun") is None and item.kind in ("quote", "name") and _later_noun(items[place + 1 :]):
            noun, after = _later_noun(items[place + 1 :]) or ("", [])
            return noun, [item, *after]
        return None
    return None


def _later_noun(items: Sequence[Item]) -> tuple[str, list[Item]] | None:
    """The noun directly after the title, in "create a 'Survey' task", and what follows it."""
    if items and items[0].senses.get("noun") in ("package", "task") and items[0].kind == "word":
        return items[0].senses["noun"], list(items[1:])
    return None


def _names_package(items: Sequence[Item]) -> bool:
    return any(item.kind in ("code", "number") or item.can("pronoun", "it") for item in items)


def wish_of(items: Sequence[Item], sentence: Mended) -> Wish:
    """What the items say: fields with their values, where it belongs, and what is left as the title."""
    wish = Wish()
    residue: list[list[Item]] = [[]]
    at = 0
    while at < len(items):
        used = _slot(items, at, wish)
        if used:
            residue.append([])
            at += used
            continue
        residue[-1].append(items[at])
        at += 1
    for stretch in residue:
        words = [item for item in stretch if not _is_silent(item)]
        if not words:
            continue
        said = sentence.written(words[0].start, stretch[-1].end)
        said = _TAIL.sub("", _EDGES.sub("", said))
        if said:
            wish.titles.append(said)
    return wish


def without_orders(items: Sequence[Item]) -> list[Item]:
    """The items without "assign it" and the like, which only say that more fields follow."""
    kept: list[Item] = []
    for place, item in enumerate(items):
        after = items[place + 1] if place + 1 < len(items) else None
        before = items[place - 1] if place else None
        if item.can("verb", "assign", "set", "rename") and after is not None and after.can("pronoun", "it"):
            continue
        if item.can("pronoun", "it") and before is not None and before.can("verb", "assign", "set", "rename"):
            continue
        kept.append(item)
    return kept


def _is_silent(item: Item) -> bool:
    return item.kind in ("comma", "symbol") or (
        item.kind == "word"
        and (item.can("mark") or (item.can("fill") and not item.can("field")) or (item.can("pronoun", "it", "me")))
    )


def _slot(items: Sequence[Item], at: int, wish: Wish) -> int:
    """How many items from here on say where it belongs or what a field is; they are noted in the wish."""
    first = items[at]
    place, name = at, None
    while place < len(items) and place - at < 5:  # noqa: PLR2004 - "with an amount of about"
        item = items[place]
        if item.kind == "comma" or (
            item.kind == "word" and (item.low in _OPENERS or item.can("mark") or item.can("fill"))
        ):
            place += 1
        elif item.can("field") and name is None and _leads_to_value(items, place):
            name = item.senses["field"]
            place += 1
        else:
            break
    if place >= len(items):
        return 0
    item = items[place]
    opened = place > at and (first.low in _OPENERS or first.kind == "comma" or first.can("mark") or name is not None)
    if name is None and item.kind == "quote":
        wish.quotes.append(item)
        return place - at + 1
    if not _noted(item, name, wish, opened=opened, opener=first.low):
        return 0
    return place - at + 1


def _leads_to_value(items: Sequence[Item], place: int) -> bool:
    """Whether the name of a field is followed by a value of it, with nothing but small words between them."""
    name = items[place].senses["field"]
    for item in items[place + 1 : place + 5]:
        if item.kind == "word" and (item.can("mark") or item.can("fill") or item.low in _OPENERS):
            continue
        return _takes(name, item)
    return False


def _takes(name: str, item: Item) -> bool:
    if name in _DATE_FIELDS:
        return item.kind == "date"
    if name == "amount":
        return item.kind == "amount"
    if name in ("owner", "assignee"):
        return item.kind in ("person", "address") or item.can("pronoun", "me")
    if name == "vendor":
        return item.kind in ("name", "quote") and any(one.type == "party" for one in item.records)
    if name == "email":
        return item.kind == "address"
    return name in ("title", "description") and item.kind == "quote"


def _noted(item: Item, name: str | None, wish: Wish, *, opened: bool, opener: str) -> bool:
    if name == "title" and item.kind == "quote":
        wish.quotes.append(item)
    elif name is not None:
        wish.fields.setdefault(name, item)
    elif item.kind in ("code", "number", "id") or (
        item.can("pronoun", "it") and opened and opener in ("to", "for", "on", "in", "under")
    ):
        wish.homes.append(item)
    elif item.kind == "project" and (opened or item.senses):
        wish.projects.append(item)
    elif item.kind == "date" and not isinstance(item.value, Shift):
        wish.fields.setdefault("end", item)
    elif item.kind == "amount" and not item.money.is_bare:
        wish.fields.setdefault("amount", item)
    elif (item.kind == "person" or item.can("pronoun", "me")) and opened and opener in ("for", "to", "by", ","):
        wish.fields.setdefault("assignee", item)
    elif item.kind == "address":
        wish.address = item
    elif item.kind == "name" and opened and opener in ("to", "for", "in", "on", "of", "under") and _is_package(item):
        wish.homes.append(item)
    else:
        return False
    return True


def _is_package(item: Item) -> bool:
    return bool(item.records) and all(one.type == "package" for one in item.records) and not item.is_alike


@dataclass
class Maker:
    """Makes the change that brings a new record."""

    turn: Turn
    wish: Wish

    def make(self, noun: str) -> PlannedChange:
        """The change; raises AskBackError for what is missing or not clear."""
        if noun in ("project", "person", "approval", "comment"):
            raise AskBackError(f"I cannot add a {noun} here.", not_understood=[noun])
        if noun == "task":
            return self._task()
        if noun == "package":
            return self._package()
        return self._party(noun)

    def _title(self, noun: str) -> str:
        wish = self.wish
        if len(wish.quotes) > 1 or (wish.quotes and wish.titles) or len(wish.titles) > 1:
            raise not_clear(wish.titles or [str(item.value) for item in wish.quotes])
        said = wish.quotes[0].value if wish.quotes else wish.titles[0] if wish.titles else ""
        if not said:
            raise AskBackError(f"What shall the new {noun} be called?", offers=(f"… called “Title of the {noun}”",))
        return said

    def _task(self) -> PlannedChange:
        wish, turn = self.wish, self.turn
        package = self._home()
        title = self._title("task")
        patch: dict[str, Any] = {"package_id": str(package.named.id), "title": title}
        for name, item in wish.fields.items():
            patch |= self._field(name, item, "task", package.project)
        turn.mention(package)
        return self._planned("task", patch, package.project)

    def _home(self) -> Record:
        turn, homes = self.turn, self.wish.homes
        if len(homes) > 1:
            raise AskBackError("One task belongs to one package. Which one is it for?")
        if not homes:
            raise AskBackError("For which package is the task?", offers=("… for P-001",))
        if homes[0].can("pronoun"):
            return turn.meant(homes[0], ("package",))[0]
        return turn.record(homes[0], ("package",), kind="package")

    def _package(self) -> PlannedChange:
        wish = self.wish
        if wish.homes:
            raise AskBackError("A package cannot belong to another one.", not_understood=[wish.homes[0].text])
        project = self._project()
        patch: dict[str, Any] = {"title": self._title("package")}
        for name, item in wish.fields.items():
            patch |= self._field("owner" if name == "assignee" else name, item, "package", project)
        return self._planned("package", patch, project)

    def _party(self, noun: str) -> PlannedChange:
        wish = self.wish
        kind = _KINDS.get(noun)
        if wish.homes:
            raise not_clear([wish.homes[0].text])
        title = self._title(noun)
        if kind is None:
            raise AskBackError(f"Is {title} a vendor or a customer?", offers=(f"Add the vendor “{title}”",))
        patch: dict[str, Any] = {"name": title, "kind": kind}
        address = wish.address or wish.fields.pop("email", None)
        if address is not None:
            patch["email"] = address.text
        if wish.fields:
            raise not_clear([item.text for item in wish.fields.values()])
        return self._planned("party", patch, self._project())

    def _project(self) -> UUID:
        known = self.turn.knowledge.projects
        named = {one.id: one for item in self.wish.projects for one in item.value}
        if len(named) > 1:
            raise which(self.wish.projects[0].text, named.values())
        if named:
            return next(iter(named))
        if self.turn.project is not None:
            return self.turn.project.id
        if len(known) == 1:
            return next(iter(known))
        if not known:
            raise unknown("any", "project")
        raise AskBackError("In which project?", candidates=[one.named for one in known.values()])

    def _field(self, name: str, item: Item, kind: str, project: UUID) -> dict[str, Any]:
        field = field_of(name, kind)
        if field is None:
            raise AskBackError(f"A {kind} has no {name.replace('_', ' ')}.", not_understood=[item.text])
        if field == "amount":
            return money(self.turn, item, currency=self.turn.knowledge.projects[project].currency)
        if item.kind == "date":
            return {field: a_day(item).isoformat()}
        if field in ("owner_id", "assignee_id"):
            return {field: str(self.turn.person(item, [project]).id)}
        if field == "vendor_id":
            return {field: str(vendor(self.turn, item, project).named.id)}
        return {field: item.value if item.kind == "quote" else item.text.strip()}

    def _planned(self, kind: TargetType, patch: dict[str, Any], project: UUID) -> PlannedChange:
        checked(kind, "create", patch)
        return PlannedChange("create", kind, None, patch, project=project, reason=self.turn.reason)


def comment(turn: Turn, target: Record, body: str) -> PlannedChange:
    """A new comment on a record."""
    patch = {"entity_type": target.type, "entity_id": str(target.named.id), "body": body}
    checked("comment", "create", patch)
    return PlannedChange("create", "comment", None, patch, project=target.project, reason=turn.reason)
