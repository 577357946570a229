"""What a message has remembered, asks of what is remembered, corrects and forgets.

Read before anything else of the grammar: what is to be remembered is no command, whatever it says, and is kept as it
was typed. "Remember to ..." and "don't forget to ..." are no memories but what follows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pmis.assistant.plan import Named, Plan, PlannedChange, Remembered
from pmis.assistant.planner import linking
from pmis.assistant.planner.asking import AskBackError, unknown, which
from pmis.assistant.planner.text import QUOTE, lowered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.assistant.plan import Before, Question
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.knowledge import Record
    from pmis.assistant.planner.text import Said
    from pmis.assistant.planner.turn import Turn

_KINDLY: Final = (
    r"^\W*(?:(?:please|pls|kindly|hey|hi|hello|ok|okay|so|and|also|now|(?:can|could|would|will) you)\b[\s,:]*)*"
)
_OF: Final = r"(?:about|for|of|on|regarding|concerning)"
_STORE: Final = re.compile(
    _KINDLY + r"(?:remember|memori[sz]e|keep in mind|bear in mind|(?:don't|do not|never) forget)"
    r"(?! to\b| (?:who|when|how|what|why|where|which|whether|if)\b)"
    rf"(?:\s+{_OF}\s+(?P<of>[^:,\n]{{1,120}}?)\s*(?::|,|\s+that\b)|\s+that\b|\s*[:,])?\s*(?P<text>(?!about\b)\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_EMPTY: Final = re.compile(
    _KINDLY + r"(?:remember|memori[sz]e|keep in mind|bear in mind)(?: (?:this|that|it))?\W*$", re.IGNORECASE
)
_ASK: Final = re.compile(
    r"^\W*(?:.{0,40}\b(?:what|which|anything|something|everything|all)\b.{0,40}"
    r"\b(?:remember(?:ed|s)?(?! to\b)|memories)\b"
    r"|.{0,20}\b(?:do|can|could) (?:you|we|i) remember(?= (?:about|of|anything|something|regarding)\b)"
    rf"|(?:.{{0,20}}\b(?:show|list|give|tell|see|get)\b.{{0,20}}?)?\b(?:memories|memory (?={_OF}\b)))"
    r"(?P<rest>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_FORGET: Final = re.compile(
    _KINDLY + r"(?:forget|delete|remove|erase)\s+(?P<what>"
    rf"(?:about )?(?:that|this|it|them)|(?:that|this|the|your) (?:last )?memory(?: {_OF}\b.*)?|"
    r"(?:what|everything|all(?: that)?|anything) (?:you|we) (?:remember|have remembered|remembered|know)"
    rf"(?: {_OF}\b.*)?|"
    rf"(?:the |all |your )*memor(?:y|ies) {_OF}\b.*|the \w+ (?:one|memory))\W*$",
    re.IGNORECASE | re.DOTALL,
)
_CORRECT: Final = re.compile(
    _KINDLY + r"(?:correct|change|update|replace|rewrite)\s+(?:(?:that|this|the)(?: memory)?|it)\s*"
    r"(?:to(?: say)?|with|:|,)\s*:?\s*(?P<text>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_DECIDED: Final = re.compile(
    r"^\W*(?:as (?:a )?decision\b|(?:[\w'-]+ ){0,4}?(?:decided|agreed|resolved|chose|settled)\b)", re.IGNORECASE
)
_AS_KIND: Final = re.compile(
    r"^\W*as (?:an? )?(?P<kind>decision|analysis|context|conversation)\b[\s:,-]*(?:that\b\s*)?"
)
_PLACES: Final = ("first", "second", "third", "fourth", "fifth")
_ITS: Final = re.compile(r"\b(?:it|its|this package|this task|that package|that task)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """What a message wants of the memories: the words of the record that it is about, and the text."""

    verb: str
    of: str = ""
    text: str = ""


def order_of(said: Said, before: Before | None) -> Order | None:
    """What a message wants of memories; None when it wants something else.

    After memories were told, "forget that" and "correct it to ..." are about them.
    """
    text = said.text.strip()
    after_memories = bool(told_in(before))
    if _EMPTY.match(text):
        return Order("store")
    if (found := _STORE.match(text)) is not None:
        return Order("store", found["of"] or "", found["text"])
    if (found := _FORGET.match(text)) is not None and (
        after_memories or re.search(r"memor|remember", found["what"], re.IGNORECASE)
    ):
        return Order("forget", _about(found["what"]))
    if after_memories and (found := _CORRECT.match(text)) is not None:
        return Order("correct", text=found["text"])
    if (found := _ASK.match(text)) is not None:
        return Order("ask", _about(found["rest"]))
    return None


def _about(text: str) -> str:
    found = re.search(rf"\b{_OF}\s+(?P<what>.+)$", text, re.IGNORECASE | re.DOTALL)
    return found["what"].strip(" ?.!") if found else ""


def told_in(before: Before | None) -> list[Named]:
    """The memories that the turn before told."""
    return [one for one in (before.candidates or before.records) if one.type == "memory"] if before else []


class Memories:
    """Plans what an order wants; raises AskBackError."""

    def __init__(self, turn: Turn, said: Said, order: Order) -> None:
        """The order was read from what was said."""
        self.turn = turn
        self.said = said
        self.order = order

    async def plan(self) -> Plan:
        """The plan."""
        match self.order.verb:
            case "store":
                return Plan("change", changes=(await self._stored(),))
            case "ask":
                return Plan("answer", (await self._asked(),))
            case "forget":
                return await self._forgotten()
            case _:
                memory = self._one_told()
                return Plan("change", changes=(PlannedChange("patch", "memory", memory, {"text": self._text()}),))

    # --- storing ---

    async def _stored(self) -> PlannedChange:
        text, kind = self._text(), "context"
        if (said := _AS_KIND.match(text)) is not None:
            kind, text = said["kind"].lower(), text[said.end() :]
        elif _DECIDED.match(text):
            kind = "decision"
        if not re.search(r"\w", text):
            raise AskBackError(
                "What shall I remember, and of what?", offers=("Remember for P-001: the client is away",)
            )
        about, project = await self._place(self.order.of, self.order.text)
        patch = {"entity_type": about.type, "entity_id": str(about.id), "text": text, "kind": kind}
        return PlannedChange("create", "memory", None, patch, project)

    def _text(self) -> str:
        """As it was typed; quotation marks round all of it are not a part of it."""
        mark = QUOTE.fullmatch(self.order.text.strip(" ."))
        quoted = self.said.quoted(mark[0]) if mark else None
        return quoted if quoted is not None else self.said.spoken(self.order.text).strip()

    async def _place(self, of: str, text: str) -> tuple[Named, UUID]:
        """Of which record it is to be remembered: the one that is named for it, the only one in it, or the project."""
        items = await self._items(of or text)
        found = self._records(items, strict=bool(of))
        if len(found) > 1:
            raise which(of or text, [one.named for one in found])
        if found:
            self.turn.mention(found[0])
            return found[0].named, found[0].project
        projects = [one for item in items if item.kind == "project" for one in item.value]
        if len(projects) == 1:
            return projects[0], projects[0].id
        if of and not projects:
            raise unknown(of)
        if _ITS.search(text) and (earlier := self._earlier()):
            return earlier.named, earlier.project
        known = list(self.turn.knowledge.projects.values())
        picked = [one.named for one in known if one.named.id in self.turn.chosen]
        here = picked or ([self.turn.project] if self.turn.project else [one.named for one in known])
        if len(here) != 1:
            raise AskBackError(
                "Of which record or project shall I remember that?",
                candidates=here,
                offers=("Remember for P-001: the client is away until May",),
            )
        return here[0], here[0].id

    def _earlier(self) -> Record | None:
        known = self.turn.knowledge.records
        some = [known[one.id] for one in (self.turn.before.records if self.turn.before else ()) if one.id in known]
        return some[0] if len(some) == 1 else None

    async def _items(self, text: str) -> list[Item]:
        _, parts = await linking.read(self.said, [text], self.turn.today, self.turn.knowledge)
        return parts[0]

    def _records(self, items: Sequence[Item], *, strict: bool) -> list[Record]:
        """The records that are named, those by their codes alone where there are any; "it" is what was spoken of."""
        found: dict[UUID, Record] = {}
        exact = [item for item in items if item.kind in ("code", "number", "id") and item.records]
        for item in exact or items:
            some = self.turn.candidates(item, ("package", "task", "party"))
            # A word of a text that several titles hold names none of them.
            if strict or item in exact or (len(some) == 1 and not item.is_alike):
                found |= {one.named.id: one for one in some}
            if strict and item.can("pronoun", "it", "them"):
                found |= {one.named.id: one for one in self.turn.meant(item)}
        return [one for one in found.values() if one.named.id in self.turn.chosen] or list(found.values())

    # --- asking, forgetting ---

    async def _asked(self) -> Question:
        of = self.order.of
        if not of:
            return Remembered(project=self.turn.project)
        items = await self._items(of)
        found = self._records(items, strict=True)
        if len(found) == 1 and self._is_all(items):
            return Remembered(found[0].named)
        projects = [one for item in items if item.kind == "project" for one in item.value]
        if len(projects) == 1 and self._is_all(items):
            return Remembered(project=projects[0])
        # No record, but what it says: the words, and what is like them.
        return Remembered(text=self.said.spoken(of), project=self.turn.project)

    @staticmethod
    def _is_all(items: Sequence[Item]) -> bool:
        """Whether nothing is said beside the record."""
        return all(
            item.records
            or item.kind in ("project", "comma")
            or any(item.can(sense) for sense in ("fill", "noun", "mark", "pronoun"))
            for item in items
        )

    def _one_told(self, low: str = "") -> Named:
        told = told_in(self.turn.before)
        picked = [one for one in told if one.id in self.turn.chosen]
        place = re.search(r"\bthe (first|second|third|fourth|fifth|last)\b", low)
        if place and told:
            at = (
                ("first", "second", "third", "fourth", "fifth").index(place[1]) if place[1] != "last" else len(told) - 1
            )
            picked = told[at : at + 1]
        some = picked or told
        if not some:
            raise AskBackError("Which memory? Ask what is remembered of a record first.")
        if len(some) > 1:
            raise which("that", some)
        return some[0]

    async def _forgotten(self) -> Plan:
        if not self.order.of:
            memory = self._one_told(lowered(self.said.text))
        else:
            found = self._records(await self._items(self.order.of), strict=True)
            if len(found) != 1:
                raise unknown(self.order.of) if not found else which(self.order.of, [one.named for one in found])
            memories = await self.turn.knowledge.memories_of(found[0].named)
            if not memories:
                return Plan("answer", text=f"Nothing is remembered of {found[0].named.label}.")
            if len(memories) > 1:
                told = Remembered(found[0].named)
                return Plan("clarify", (told,), text="Which of these? Say “forget the second one”, for example.")
            memory = memories[0]
        return Plan("change", changes=(PlannedChange("delete", "memory", memory, {}),))
