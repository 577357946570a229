"""One thing said, in its circumstances: when, where, by whom, after what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pmis.assistant.planner.asking import AskBackError, unknown, which

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import date, datetime
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from pmis.assistant.plan import Before, Named
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.knowledge import Knowledge, Record
    from pmis.assistant.planner.text import Said

LIVE_TYPES = frozenset({"package", "task", "party"})


@dataclass
class Turn:
    """What a reader of one message may look at. `topics` are the records named so far, the newest last."""

    knowledge: Knowledge
    said: Said
    now: datetime
    zone: ZoneInfo
    project: Named | None
    before: Before | None
    chosen: frozenset[UUID] = frozenset()
    """What was answered to a question which of several was meant."""
    topics: list[Record] = field(default_factory=list["Record"])
    reason: str | None = None

    @property
    def today(self) -> date:
        """The day that it is for whoever asks."""
        return self.now.astimezone(self.zone).date()

    def candidates(self, item: Item, types: Collection[str]) -> list[Record]:
        """The records of these types that the item may mean, the likelier ones alone."""
        found = [one for one in item.records if one.type in types]
        picked = [one for one in found if one.named.id in self.chosen]
        if picked:
            return picked
        if self.project is not None and len(found) > 1:
            found = [one for one in found if one.project == self.project.id] or found
        return found

    def record(self, item: Item, types: Collection[str] = LIVE_TYPES, *, kind: str = "record") -> Record:
        """The one record that the item means; raises AskBackError."""
        found = self.candidates(item, types)
        if not found:
            raise unknown(item.value if item.kind == "quote" else item.text, kind)
        if len(found) > 1:
            raise which(item.value if item.kind == "quote" else item.text, [one.named for one in found])
        self.mention(found[0])
        return found[0]

    def mention(self, record: Record) -> None:
        """Remember that this was spoken of."""
        self.topics = [one for one in self.topics if one.named.id != record.named.id]
        self.topics.append(record)

    def meant(self, item: Item, types: Collection[str] = LIVE_TYPES) -> list[Record]:
        """What "it", "them" or "the second one" stand for; raises AskBackError."""
        known = self.knowledge.records
        if item.kind == "ordinal":
            listed = (self.before.candidates or self.before.records) if self.before else ()
            place = item.value - 1 if item.value > 0 else len(listed) - 1
            if not 0 <= place < len(listed):
                raise AskBackError(f"I do not know which one “{item.text.strip()}” is. Please name it.")
            one = known.get(listed[place].id)
            if one is None or one.type not in types:
                raise unknown(item.text)
            return [one]
        earlier = [known[one.id] for one in (self.before.records if self.before else ()) if one.id in known]
        some = [one for one in (self.topics or earlier) if one.type in types]
        many = item.can("pronoun", "them")
        if not some:
            raise AskBackError(f"I do not know what “{item.text.strip()}” stands for. Please name it.")
        if many:
            return some
        if len(some) > 1 and not self.topics:
            raise which(item.text, [one.named for one in some])
        return [some[-1]]

    def person(self, item: Item, projects: Iterable[UUID] = ()) -> Named:
        """The one person that the item means, of those with a role in the projects; raises AskBackError."""
        if item.can("pronoun", "me"):
            mine = next((one.named for one in self.knowledge.people if one.named.id == self.knowledge.me), None)
            if mine is None:
                raise AskBackError("You have no role in a project, so nothing can be yours.")
            people = [mine]
        else:
            people = list(item.people)
        wanted = set(projects)
        here = [
            one
            for one in people
            if not wanted
            or any(known.named.id == one.id and wanted <= known.projects for known in self.knowledge.people)
        ]
        picked = [one for one in here if one.id in self.chosen]
        if picked:
            return picked[0]
        if not here:
            if people:
                raise AskBackError(f"{people[0].label} has no role in this project.", not_understood=[item.text])
            raise unknown(item.text, "person")
        if len(here) > 1:
            raise which(item.text, here)
        return here[0]
