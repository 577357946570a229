"""What a command is about: its targets, the values that it gives, and what is left of it that nobody understood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pmis.assistant.planner.amounts import currency_named
from pmis.assistant.planner.asking import AskBackError, not_clear
from pmis.assistant.planner.items import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTING: Final = frozenset({"code", "number", "id"})
_VALUES: Final = frozenset({"date", "amount", "percent", "person"})
_TEXT_FIELDS: Final = frozenset({"title", "description", "package_type", "external_ref"})
_PERSON_FIELDS: Final = frozenset({"owner", "assignee"})
_GENERIC: Final = frozenset({"set", "assign", "shift", "later", "earlier", "raise", "lower", "clear", "remove"})
STATUS_VERBS: Final = frozenset(
    {"set", "return", "reopen", "later", "earlier", "shift", "raise", "lower", "start", "resume", "hold"}
)
_RANGING: Final = frozenset({"to", "through", "until", "till", "up to", "->"})
"""What between two records would make a range of them."""
_ALL: Final = frozenset({"everything", "anything", "items", "things", "stuff", "records", "ones"})
_FROM: Final = frozenset({"from", "out of", "off"})


@dataclass
class Value:
    """A value that was named, for which field (when that was said), and after which preposition."""

    item: Item
    field: str | None
    prep: str | None


@dataclass
class Part:
    """A stretch of a command between two commas or "and"s."""

    targets: list[Item] = field(default_factory=list[Item])
    within: list[Item] = field(default_factory=list[Item])
    """The package of the task that is the target."""
    values: list[Value] = field(default_factory=list[Value])
    fields: list[str] = field(default_factory=list[str])
    statuses: list[Item] = field(default_factory=list[Item])
    nouns: list[str] = field(default_factory=list[str])
    projects: list[Item] = field(default_factory=list[Item])
    left: list[Item] = field(default_factory=list[Item])
    ends_with_target: bool = False
    says_all: bool = False
    """Whether it speaks of records by their kind alone, such as "all tasks of P-001"."""

    @property
    def says_something(self) -> bool:
        """Whether it gives a value, and not only targets."""
        return bool(self.values or self.statuses)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.targets or self.says_something or self.fields or self.left or self.within)


class Walk:
    """Reads one stretch from left to right."""

    def __init__(self, verb: str, *, passive: bool = False) -> None:
        """What the verb is decides what words after it are."""
        self.verb = verb
        self.passive = passive
        self.part = Part()
        self.field: str | None = None
        self.prep: str | None = None

    def read(self, items: Sequence[Item]) -> Part:
        """What the stretch says."""
        for item in items:
            if item.kind == "word":
                self._word(item)
            else:
                self._thing(item)
        self._bind()
        return self.part

    def _word(self, item: Item) -> None:  # noqa: C901, PLR0912 - one case for each kind of word
        part = self.part
        if self.field == "currency" and currency_named(item.text) is not None:
            self._value(item)
        elif item.can("status") and (self.verb in STATUS_VERBS or self.field == "status") and not part.statuses:
            if self.prep in _FROM:
                self.prep = None
                return
            part.statuses.append(item)
            self.field = self.prep = None
        elif item.can("mark", "or"):
            part.left.append(item)
        elif item.can("mark"):
            self.prep = item.low
        elif item.can("field"):
            self.field = item.senses["field"]
            part.fields.append(self.field)
        elif item.can("noun"):
            part.nouns.append(item.senses["noun"])
            part.says_all = part.says_all or item.low in _ALL
        elif item.can("pronoun", "it", "them"):
            part.targets.append(item)
            part.ends_with_target = True
        elif item.can("pronoun", "me"):
            if self.field in _PERSON_FIELDS or self.verb in ("assign", "set"):
                self._value(item)
            elif self.prep != "for":
                part.left.append(item)
        elif item.can("fill") or (self.passive and item.can("past", "set")):
            pass
        elif item.can("past", "assign") and self.verb == "set":
            self.verb = "assign"
        else:
            part.left.append(item)

    def _thing(self, item: Item) -> None:
        part = self.part
        wants_party = self.field == "vendor" or (self.verb == "award" and self.prep in ("to", "with", "for"))
        types = {one.type for one in item.records}
        if item.kind in _VALUES or (item.kind == "address" and not self._is_party_target(types)):
            self._value(item)
        elif item.kind == "project":
            part.projects.append(item)
        elif (
            (self.field == "currency" and item.kind == "name")
            or (item.kind == "quote" and self.field in _TEXT_FIELDS and self.prep not in ("of", "for", "on", "in"))
            or (item.kind == "quote" and self.verb in ("rename", "comment") and part.targets)
        ):
            self._value(item)
        elif item.kind in POINTING or item.kind == "ordinal":
            self._target(item)
        elif (wants_party and (item.kind in ("name", "quote")) and (not types or "party" in types)) or (
            types == {"party"}
            and self.verb in ("set", "award", "assign")
            and (part.targets or self.prep in ("to", "with"))
        ):
            self._value(item)
        elif types:
            self._target(item)
        elif (
            item.kind in ("name", "quote")
            and (self.field in _PERSON_FIELDS or self.field == "vendor" or self.field in _TEXT_FIELDS)
        ) or (item.kind == "name" and self.verb == "assign" and self.prep == "to" and part.targets):
            self._value(item)
        elif item.kind == "quote" and not part.targets:
            self._target(item)
        else:
            part.left.append(item)

    def _is_party_target(self, types: set[str]) -> bool:
        return "party" in types and self.field is None and not self.part.targets

    def _target(self, item: Item) -> None:
        part = self.part
        if self.prep in _RANGING and part.ends_with_target:
            raise AskBackError("I take no ranges. Please name each record.", not_understood=[item.text])
        last = part.targets[-1] if part.targets and part.ends_with_target else None
        inside = self.prep in (None, "of", "in", "on", "from", "for", "under", "within")
        if last is not None and inside and _can_be(last, "task") and _can_be(item, "package"):
            part.within.append(item)
        elif last is None or self.prep is not None or last.can("pronoun"):
            part.targets.append(item)
        elif not _are_one(last, item):
            # "P-001 works": two records that nothing joins are not both meant.
            part.left.append(item)
        part.ends_with_target = True
        self.prep = None

    def _value(self, item: Item) -> None:
        self.part.values.append(Value(item, self.field, self.prep))
        self.part.ends_with_target = False
        self.field = self.prep = None

    def _bind(self) -> None:
        """Give a value that came before the name of its field that name: "make Maria the owner of P-001"."""
        part = self.part
        others = [item for item in part.targets if not _is_party(item)]
        parties = [item for item in part.targets if _is_party(item)]
        if "vendor" in part.fields and others and len(parties) == 1:
            # "Use ACME as the vendor of P-001."
            part.targets = others
            part.values.append(Value(parties[0], "vendor", None))
        named = {value.field for value in part.values}
        for name in part.fields:
            if name in named:
                continue
            fitting = [value for value in part.values if value.field is None and _suits(value.item, name)]
            if fitting:
                fitting[0].field = name
                named.add(name)


def _is_party(item: Item) -> bool:
    return bool(item.records) and all(one.type == "party" for one in item.records)


def _are_one(item: Item, other: Item) -> bool:
    """Whether both name the same record, as in "P-003 (Bridge inspection)"."""
    return bool({one.named.id for one in item.records} & {one.named.id for one in other.records})


def _can_be(item: Item, kind: str) -> bool:
    return (
        item.kind == "code" if kind == "package" and not item.records else any(one.type == kind for one in item.records)
    )


def _suits(item: Item, name: str) -> bool:
    if name in _PERSON_FIELDS:
        return item.kind in ("person", "address") or item.can("pronoun")
    if name == "amount":
        return item.kind in ("amount", "percent")
    if name in ("end", "due", "planned_start", "actual_start", "actual_end", "dates"):
        return item.kind == "date"
    if name == "vendor":
        return bool(item.records)
    if name in _TEXT_FIELDS:
        return item.kind == "quote"
    return name == "email" and item.kind == "address"


@dataclass
class Frame:
    """One thing to do to some targets."""

    verb: str
    word: str
    parts: list[Part]
    targets: list[Item]
    within: list[Item]

    @property
    def values(self) -> list[Value]:
        """All values that were given."""
        return [value for part in self.parts for value in part.values]

    @property
    def statuses(self) -> list[Item]:
        """All statuses that were named."""
        return [item for part in self.parts for item in part.statuses]

    @property
    def fields(self) -> list[str]:
        """All fields that were named."""
        return [name for part in self.parts for name in part.fields]

    @property
    def projects(self) -> list[Item]:
        """All projects that were named."""
        return [item for part in self.parts for item in part.projects]

    @property
    def says_all(self) -> bool:
        """Whether it speaks of everything there is in something, or of several records of a kind."""
        return any(part.says_all for part in self.parts)

    @property
    def left(self) -> list[Item]:
        """What nothing was made of."""
        return [item for part in self.parts for item in part.left]


def segments(items: Sequence[Item]) -> list[list[Item]]:
    """The stretches between commas and "and"s."""
    found: list[list[Item]] = [[]]
    for item in items:
        if item.kind == "comma" or item.can("mark", "and", "but"):
            found.append([])
        else:
            found[-1].append(item)
    return [one for one in found if one]


def frames_of(  # noqa: C901, PLR0912 - one case for each way in which parts follow each other
    verb: str, word: str, items: Sequence[Item], *, passive: bool = False
) -> list[Frame]:
    """What is to be done to what: values go to the targets before them, or else to those after them.

    "Put P-001 and P-002 on hold and P-003 to active" is two things: the first for two targets. A target that stands
    last, after a value, has the values of what stands before it.
    """
    parts = [part for stretch in segments(items) if not (part := Walk(verb, passive=passive).read(stretch)).is_empty]
    frames: list[Frame] = []
    pending: list[Part] = []
    for part in parts:
        if part.targets and part.says_something:
            frame = Frame(verb, word, [*pending, part], [], [])
            frame.targets = [item for one in frame.parts for item in one.targets]
            frame.within = [item for one in frame.parts for item in one.within]
            for earlier in frames:
                if not earlier.targets:
                    earlier.targets, earlier.within = frame.targets, frame.within
            frames.append(frame)
            pending = []
        elif part.says_something and frames and not pending:
            frames.append(Frame(verb, word, [part], frames[-1].targets, frames[-1].within))
        elif part.says_something:
            targets = [item for one in pending for item in one.targets]
            within = [item for one in pending for item in one.within]
            frames.append(Frame(verb, word, [*pending, part], targets, within))
            pending = []
        elif part.targets and frames and frames[-1].parts[-1].ends_with_target:
            frames[-1].parts.append(part)
            frames[-1].targets = [*frames[-1].targets, *part.targets]
            frames[-1].within = [*frames[-1].within, *part.within]
        elif part.targets and frames and not frames[-1].targets:
            frames[-1].parts.append(part)
            frames[-1].targets, frames[-1].within = part.targets, part.within
        else:
            pending.append(part)
    if pending:
        targets = [item for one in pending for item in one.targets]
        if frames and targets and any(frame.values for frame in frames):
            raise not_clear(item.text for item in targets)
        if frames and not targets:
            frames[-1].parts += pending
        else:
            frames.append(Frame(verb, word, pending, targets, [item for one in pending for item in one.within]))
    for frame in frames:
        # "Both P-001 and P-002" names them itself.
        named = [item for item in frame.targets if not item.can("pronoun", "them")]
        frame.targets = named or frame.targets
    return frames
