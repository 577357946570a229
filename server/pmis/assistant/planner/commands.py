"""What a sentence that asks for something to be done asks for.

A change is planned only when every word of the command was made something of.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pmis.assistant.planner.asking import AskBackError, RefusedError, not_clear
from pmis.assistant.planner.changes import TRANSITIONS, Builder, deciding
from pmis.assistant.planner.creating import Maker, comment, what_is_made, wish_of, without_orders
from pmis.assistant.planner.items import Item
from pmis.assistant.planner.slots import frames_of
from pmis.assistant.planner.text import folded
from pmis.assistant.planner.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.assistant.plan import PlannedChange
    from pmis.assistant.planner.linking import Mended
    from pmis.assistant.planner.turn import Turn

_MUST: Final = re.compile(
    r"^(?:needs? to be|must be|has to be|have to be|needs? to|must|has to|is to be|are to be|shall|shall be|"
    r"should be|should|needs?|to be|should now be|needs? to get|has got to be|must now be)$"
)
_SET_MARKS: Final = frozenset({"->", "=>", "=", ">", ":"})
_RAW_AFTER: Final = frozenset(
    {"to", "as", "into", "=", ":", "->", "=>", "be", "is", "read", "reads", "to be", "called", "named", "titled"}
)


def clauses(items: Sequence[Item]) -> list[list[Item]]:
    """The stretches that begin with a verb of their own."""
    found: list[list[Item]] = [[]]
    creates = _creates(items)
    for place, item in enumerate(items):
        joins = item.kind == "comma" or item.can("mark", "and", "but")
        if joins and _begins(items, place + 1):
            if creates and _goes_on(items[place + 1 :]):
                found[-1].append(item)
                continue
            found.append([])
        elif joins and creates and _another(items[place + 1 :]):
            found.append([next(one for one in items if one.can("verb", "create"))])
        else:
            found[-1].append(item)
    return [one for one in found if one]


def _creates(items: Sequence[Item]) -> bool:
    first = next((item for item in items if not item.can("fill") and item.kind != "comma"), None)
    return first is not None and first.can("verb", "create")


def _another(items: Sequence[Item]) -> bool:
    """Whether a further record is to be made: "and a task 'X' for P-002"."""
    few = [item for item in items[:3] if item.low not in ("a", "an", "another", "new", "one", "also")]
    return (
        bool(items)
        and items[0].low in ("a", "an", "another", "one")
        and bool(few)
        and few[0].senses.get("noun") in ("task", "package")
    )


def _goes_on(items: Sequence[Item]) -> bool:
    """Whether what follows says more of what was just made: "and assign it to Maria"."""
    few = items[:4]
    return any(item.can("pronoun", "it") for item in few) and any(
        item.can("verb", "assign", "set", "rename") for item in few[:2]
    )


def _begins(items: Sequence[Item], at: int) -> bool:
    """Whether a command or a question begins here."""
    while (
        at < len(items)
        and (
            (items[at].kind == "word" and (items[at].can("fill") or items[at].can("mark", "and")))
            or items[at].low == "to"
        )
        and not items[at].can("verb")
    ):
        at += 1
    if at >= len(items):
        return False
    item = items[at]
    if item.low in ("who", "what", "when", "which", "how", "where", "what's", "who's", "don't", "do", "not", "never"):
        return True
    return is_verb(items, at)


def is_verb(items: Sequence[Item], at: int) -> bool:
    """Whether the word there is a verb that gives an order, and not the name of a field or a status."""
    item = items[at]
    if not item.can("verb"):
        return False
    after = items[at + 1] if at + 1 < len(items) else None
    if item.can("verb", "comment"):
        return after is not None and (
            not after.can("mark") or after.low in ("on", "to", "for", "about", "that", "in", "under", ":")
        )
    if item.can("status") and after is not None and after.can("noun") and after.low.endswith("s"):
        return False
    if item.can("field") or item.can("noun"):
        # "title to X", "contract of", "value = 5" name a field; "name it X", "contract ACME" are orders.
        return (
            after is not None
            and not (after.can("mark") or after.can("field"))
            and item.low not in ("value", "cost", "mail", "e-mail", "email", "lead", "award")
        )
    if item.can("status"):
        return after is not None and not after.can("mark") and after.kind != "comma"
    return not (
        item.low in ("note", "new", "in", "report", "up")
        and after is not None
        and after.can("mark")
        and item.low != "note"
    )


def leads_to_value(items: Sequence[Item]) -> bool:
    """Whether a record or field is followed by "to" and a status or value: "status of P-001 to on hold"."""
    for place, item in enumerate(items):
        if item.low != "to" or place == 0:
            continue
        after = next((one for one in items[place + 1 :] if not (one.can("fill") and not one.can("status"))), None)
        if after is not None and (after.can("status") or after.kind in ("amount", "date", "person")):
            return any(one.records or one.kind == "code" for one in items[:place])
    return False


class Orders:
    """Plans the commands of one sentence."""

    def __init__(self, turn: Turn, said: Mended, *, asked: bool) -> None:
        """`asked` says that somebody asked outright for it to be done."""
        self.turn = turn
        self.said = said
        self.text = said.text
        self.asked = asked
        self.approvable: list[PlannedChange] = []
        """Steps to `approved`, which are decisions where an approval is open already."""

    def plan(self, items: Sequence[Item]) -> list[PlannedChange]:
        """The changes; raises AskBackError or RefusedError."""
        changes: list[PlannedChange] = []
        for clause in clauses(items):
            changes += self._clause(clause)
        return changes

    def _clause(self, items: list[Item]) -> list[PlannedChange]:
        at = self.head(items)
        if at is None:
            made = what_is_made(items)
            first = next((item for item in items if not item.can("fill")), None)
            is_noun = first is not None and first.kind == "word" and first.can("noun", "task", "package")
            if made is not None and is_noun and any(item.low == ":" or item.kind == "quote" for item in items):
                return [Maker(self.turn, wish_of(made[1], self.said)).make(made[0])]
            return self._without_verb(items)
        verb = items[at].senses["verb"]
        before = [item for item in items[:at] if not (item.can("fill") or item.can("mark") or item.kind == "comma")]
        rest = items[at + 1 :]
        if before:
            # "P-001: cancel it": what stands first is what it is about.
            if not all(item.records or item.kind == "code" for item in before):
                raise not_clear(item.text for item in before)
            if any(item.can("pronoun", "it", "them") for item in rest):
                for item in before:
                    self.turn.record(item)
            elif verb == "create":
                rest = [*rest, *before]
            else:
                rest = [*before, *rest]
        return self._order(verb, items[at], rest)

    def head(self, items: Sequence[Item]) -> int | None:
        """Where the verb of a command stands, if it has one."""
        for place, item in enumerate(items):
            if is_verb(items, place):
                return place
            if item.can("cue") and not item.can("fill"):
                return None
            if not (
                item.can("fill") or item.can("mark") or item.kind == "comma" or item.records or item.kind == "code"
            ):
                return None
        return None

    def _order(  # noqa: C901, PLR0912 - one case for each kind of order
        self, verb: str, head: Item, rest: list[Item]
    ) -> list[PlannedChange]:
        if verb == "ask":
            raise not_clear([self.text])
        if verb == "remove" and any(item.can("status", "running") and item.low.endswith("hold") for item in rest):
            # "Remove P-001 from hold" takes nothing away but the hold.
            verb = "set"
        if verb == "describe":
            verb, rest = "set", [Item("word", head.start, head.end, head.text, {"field": "description"}), *rest]
        if verb == "remind":
            raise AskBackError(
                "I send no messages. I can add a task or a comment instead.",
                not_understood=[head.text],
                offers=("Add a task “Call the vendor” to P-001 for Maria", "Comment on P-001: please call the vendor"),
            )
        if verb == "decide":
            raise deciding()
        if verb == "approve" and not self._names_package(rest):
            raise deciding()
        if verb == "comment":
            return [self._comment(rest)]
        if verb in ("create", "set", "start", "assign", "comment"):
            made = what_is_made(rest) if verb != "assign" or head.low == "assign" else None
            if verb == "create" or (made is not None and _says_new(rest, verb, head)):
                if made is not None and made[0] == "comment":
                    return [self._comment(made[1])]
                if made is not None and not (made[0] == "vendor" and verb != "create"):
                    return [Maker(self.turn, wish_of(without_orders(made[1]), self.said)).make(made[0])]
                verb = "set"
                worth = next((item for item in rest if not item.can("fill")), None)
                if head.low == "add" and worth is not None and worth.kind in ("amount", "percent"):
                    verb, rest = "raise", [Item("word", worth.start, worth.start, "by", {"mark": "to"}), *rest]
        if (
            head.low == "take"
            and any(item.low in ("out of", "out", "off", "away") for item in rest)
            and any(item.can("field") for item in rest)
        ):
            verb = "clear"
        verb, rest = _with_particle(verb, head, rest)
        last = next((item for item in reversed(rest) if not item.can("fill")), None)
        if (
            head.low in ("let", "make", "have")
            and last is not None
            and last.senses.get("verb") in TRANSITIONS
            and not last.can("status")
        ):
            verb, rest = last.senses["verb"], [item for item in rest if item is not last]
        rest = self._with_text(verb, rest)
        changed = self._causative(verb, rest)
        if changed is not None:
            verb, rest = changed
        return self._build(verb, head.low, rest)

    def _build(self, verb: str, word: str, rest: Sequence[Item], *, passive: bool = False) -> list[PlannedChange]:
        frames = frames_of(verb, word, rest, passive=passive)
        if not frames:
            raise AskBackError(f"What do you want to {word}? Please name the package or task.")
        changes: list[PlannedChange] = []
        for frame in frames:
            made = Builder(self.turn, frame).changes()
            changes += made
        self.approvable += [one for one in changes if one.patch.get("status") == "approved"]
        return changes

    def _causative(self, verb: str, rest: list[Item]) -> tuple[str, list[Item]] | None:
        """The verb of "get P-001 deleted" or "have it renamed": the participle, and what is left without it."""
        if verb != "set":
            return None
        for place, item in enumerate(rest):
            if item.can("past") and not item.can("status") and not item.can("past", "set"):
                return item.senses["past"], [*rest[:place], *rest[place + 1 :]]
        return None

    def _without_verb(self, items: list[Item]) -> list[PlannedChange]:
        """A sentence without a verb in front: "P-001 must be cancelled", "P-001 -> on hold", "P-001 on hold please"."""
        aux = [
            place
            for place, item in enumerate(items)
            if _MUST.fullmatch(item.low)
            or (
                item.low in ("has", "have", "is", "are")
                and place + 1 < len(items)
                and items[place + 1].low in ("to", "to be")
            )
        ]
        if aux:
            subject = [item for item in items[: aux[0]] if not item.can("cue") or item.can("field")]
            rest = items[aux[0] + 1 :]
            while rest and (
                rest[0].low in ("to", "be", "to be", "get", "now", "to get", "go", "to go") or rest[0].can("fill")
            ):
                rest = rest[1:]
            if subject and rest:
                return self._passive(subject, rest)
        arrow = next((place for place, item in enumerate(items) if item.low in _SET_MARKS), None)
        names = any(item.records or item.kind == "code" or item.can("pronoun", "it", "them") for item in items)
        says = any(
            item.can("status") or item.kind in ("amount", "date", "person", "percent", "quote") for item in items
        )
        if names and says and (arrow is not None or self.asked or leads_to_value(items)):
            return self._passive([], items)
        raise not_clear([self.text])

    def _passive(self, subject: list[Item], rest: list[Item]) -> list[PlannedChange]:
        head = rest[0] if rest else None
        if head is not None and not subject:
            changed = self._causative("set", rest)
            if changed is not None:
                return self._build(changed[0], changed[0], changed[1], passive=True)
            return self._build("set", "change", self._with_text("set", rest), passive=True)
        if head is not None and head.can("past") and not head.can("past", "set"):
            verb = head.senses["past"]
            if verb == "decide":
                raise deciding()
            return self._build(verb, head.low, [*subject, *rest[1:]], passive=True)
        if head is not None and head.can("verb") and not head.can("status") and head.senses["verb"] in TRANSITIONS:
            return self._build(head.senses["verb"], head.low, [*subject, *rest[1:]], passive=True)
        return self._build("set", "change", [*subject, *self._with_text("set", rest)], passive=True)

    def _names_package(self, rest: Sequence[Item]) -> bool:
        """Whether a package is to be approved, and not a proposal about one."""
        if any(
            item.low in ("change", "changes", "offer", "update")
            or item.can("noun", "approval")
            or item.can("verb", "award", "cancel")
            or item.can("noun", "record")
            for item in rest
        ):
            return False
        if any(item.can("pronoun", "it", "them") for item in rest):
            return False
        return any(
            item.kind in ("code", "number") or any(one.type == "package" for one in item.records) for item in rest
        )

    def _comment(self, rest: Sequence[Item]) -> PlannedChange:
        body = next((item for item in reversed(rest) if item.kind == "quote"), None)
        things = [
            item
            for item in rest
            if item is not body
            and item.low not in ("that", "saying", "says", ":")
            and not (
                item.kind == "word" and (item.can("mark") or item.can("fill") or item.can("noun") or item.can("cue"))
            )
            and item.kind != "comma"
        ]
        if not things:
            raise AskBackError("On which record do you want to comment?", offers=("Comment on P-001: …",))
        if len(things) > 1:
            raise not_clear(item.text for item in things[1:])
        item = things[0]
        target = self.turn.meant(item)[0] if item.can("pronoun") or item.kind == "ordinal" else self.turn.record(item)
        if body is None:
            raise AskBackError(
                f"What is the comment on {target.named.label}?", offers=(f"Comment on {target.named.label}: …",)
            )
        return comment(self.turn, target, body.value)

    def _with_text(self, verb: str, rest: list[Item]) -> list[Item]:
        """The items with the words of a new title or description, if one is given without quotation marks, as one."""
        names = [
            place
            for place, item in enumerate(rest)
            if item.can("field", "title", "description", "package_type", "external_ref")
        ]
        if not names and verb != "rename":
            return rest
        begin = names[0] if names else 0
        for place in range(begin, len(rest)):
            if rest[place].low in _RAW_AFTER and place + 1 < len(rest) and (place > begin or not names):
                after = rest[place + 1 :]
                if any(item.kind == "quote" for item in after):
                    return rest
                said = re.sub(
                    r"[\s,.;]*(?:\bplease|\bpls|\bthanks|\bthank you)?[\s,.;!]*$",
                    "",
                    self.said.written(after[0].start, after[-1].end),
                )
                quote = Item("quote", after[0].start, after[-1].end, said, value=said)
                return [*rest[: place + 1], quote] if said else rest
        return rest


_PARTICLES: Final = frozenset(["off", "up", "out", "back", "over", "forward", "in", "down", "aside", "ahead"])


def _with_particle(verb: str, head: Item, rest: list[Item]) -> tuple[str, list[Item]]:
    """The whole verb of "bring the deadline forward" or "call P-001 off", and what is left without its second half."""
    for place, item in enumerate(rest):
        if place == 0 or item.low not in _PARTICLES:
            continue
        meaning = WORDS.get(f"{head.low} {item.low}", {}).get("verb")
        after = rest[place + 1] if place + 1 < len(rest) else None
        ends = (
            after is None
            or after.kind in ("comma", "date")
            or after.low in ("by", "to", "until", "till", "for", "and", "please", "from")
        )
        if meaning is not None and ends:
            return meaning, [*rest[:place], *rest[place + 1 :]]
    return verb, rest


def _says_new(rest: Sequence[Item], verb: str, head: Item) -> bool:
    """Whether the command brings something new: "make a new task", "start a new package", "put a task on P-001"."""
    says = any(item.low in ("new", "another", "a new") for item in rest[:3])
    return says or (
        verb == "set"
        and head.low in ("make", "put", "enter", "place")
        and bool(rest)
        and rest[0].low in ("a", "an")
        and len(rest) > 1
        and rest[1].senses.get("noun") in ("task", "package")
    )


def is_bare(text: str) -> bool:
    """Whether a message is nothing but a word or two of consent or refusal."""
    return folded(text).strip(" .!?") in _BARE


_BARE: Final = frozenset(
    [
        "yes",
        "no",
        "ok",
        "okay",
        "yep",
        "yeah",
        "nope",
        "sure",
        "do it",
        "go ahead",
        "go on",
        "never mind",
        "nevermind",
        "forget it",
        "stop",
        "cancel",
        "cancel that",
        "leave it",
        "nothing",
        "no thanks",
        "no thank you",
        "confirm",
        "confirmed",
        "approve",
        "approved",
        "y",
        "n",
        "please do",
        "drop it",
        "abort",
        "undo",
        "undo that",
        "revert",
        "reject",
    ]
)


def bare_answer(text: str) -> str | RefusedError | AskBackError:
    """What is answered to such a word: consent is given in the approval, not here."""
    word = folded(text).strip(" .!?")
    if word in ("confirm", "confirmed", "approve", "approved", "reject"):
        return deciding()
    if word in ("yes", "ok", "okay", "yep", "yeah", "sure", "do it", "go ahead", "go on", "y", "please do"):
        return AskBackError(
            "Please say in full what you want, such as “put P-001 on hold”.", not_understood=[text.strip()]
        )
    if word in ("undo", "undo that", "revert"):
        return AskBackError(
            "Please say what it should be again, such as “set P-001 to active”.", not_understood=[text.strip()]
        )
    return "All right. I changed nothing."
