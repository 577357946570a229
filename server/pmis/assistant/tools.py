"""What a model, or a program over MCP, may do: look, and propose. There is no tool that decides, fetches or runs.

Every tool is given names and values, never a query: it reads through the same questions as the grammar's, as the
assistant for the person, and what it proposes goes down the graph like what was said.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from pmis.assistant.answers import answer
from pmis.assistant.plan import (
    AboutRecord,
    ChangesSince,
    Decisions,
    FieldHistory,
    Grouping,
    ListOf,
    Named,
    Plan,
    PlannedChange,
    Question,
    Remembered,
    Totals,
    WaitingFor,
)
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.policy.access import Action, allowed

if TYPE_CHECKING:
    from pmis.assistant.answers import Asking, Finding
    from pmis.kit.db import Session

RecordType: TypeAlias = Literal["package", "task", "party", "project", "approval"]
Text: TypeAlias = Annotated[str, Field(max_length=300)]
Reference: TypeAlias = Annotated[
    str, Field(max_length=80, description="The record's id; of a package its code, of a project its prefix as well.")
]
Filters: TypeAlias = Annotated[
    dict[Annotated[str, Field(max_length=40)], Text],
    Field(
        max_length=12,
        description=(
            "As the API's lists take them. Packages: status, package_type, owner_id, vendor_id, currency, amount_min, "
            "amount_max, planned_end_from, planned_end_to, without, q. Tasks: status, package_id, assignee_id, "
            "due_from, due_to, overdue, without, q. Parties: kind, email, q. Approvals: status, route, target_id."
        ),
    ),
]


class Tool(BaseModel):
    """The arguments of a tool; its docstring is what whoever calls it is told."""

    model_config = ConfigDict(extra="forbid")
    unseen: ClassVar[bool] = False
    """Whether what it finds is told to the person, and not to a model: nothing but text that somebody wrote."""

    @property
    def looks_for(self) -> str:
        """The text that memories are looked for by, if it does: what it means is made out beforehand."""
        return ""

    async def question(self, session: Session, asking: Asking) -> Question:
        """What it asks; raises NotFoundError for a record that is not there for who asks."""
        raise NotImplementedError

    async def look(self, session: Session, asking: Asking) -> Finding:
        """What there is to say; raises NotFoundError or InvalidInputError."""
        return await answer(session, asking, await self.question(session, asking))


class ReadRecord(Tool):
    """Read one record: how it stands, what waits for a decision about it, and its newest event."""

    type: RecordType
    record: Reference

    async def question(self, session: Session, asking: Asking) -> Question:
        """How is it?"""
        return AboutRecord(await named(session, asking, self.type, self.record))


class ListRecords(Tool):
    """List records, or count them."""

    type: Literal["package", "task", "party", "approval"]
    filters: Filters = {}
    project: Reference | None = None
    sort: Annotated[str, Field(max_length=40)] | None = None
    limit: Annotated[int, Field(ge=1, le=20)] = 20
    count: bool = False

    async def question(self, session: Session, asking: Asking) -> Question:
        """Which are there?"""
        project = await _project(session, asking, self.project)
        return ListOf(self.type, self.filters, project, self.sort, self.limit, self.count)


class AddUp(Tool):
    """Add up amounts of packages, or count tasks, by group. Currencies are never added to each other."""

    by: Annotated[list[Grouping], Field(min_length=1, max_length=3)]
    type: Literal["package", "task"] = "package"
    filters: Filters = {}
    project: Reference | None = None

    async def question(self, session: Session, asking: Asking) -> Question:
        """How much?"""
        return Totals(tuple(self.by), self.type, self.filters, await _project(session, asking, self.project))


class WhatWaits(Tool):
    """List the approvals that wait for a decision of the person you act for. You cannot decide them."""

    async def question(self, session: Session, asking: Asking) -> Question:
        """What waits?"""
        del session, asking
        return WaitingFor()

    async def look(self, session: Session, asking: Asking) -> Finding:
        """What waits for the person: for an agent of theirs nothing ever does."""
        person = asking.person.on_behalf_of or asking.person
        own = type(asking)(person, asking.now, asking.zone, asking.public)
        return await answer(session, own, await self.question(session, own))


class WhoDecided(Tool):
    """Say who decided about a record, how, when and why."""

    type: RecordType
    record: Reference
    verdict: Literal["approve", "reject", "request_changes"] | None = None

    async def question(self, session: Session, asking: Asking) -> Question:
        """Who decided?"""
        return Decisions(await named(session, asking, self.type, self.record), self.verdict)


class WhatChanged(Tool):
    """List what happened since a time, to one record or to all that the person reads."""

    since: datetime = Field(description="With its zone, such as 2026-11-30T12:00:00Z.")
    until: datetime | None = None
    type: RecordType | None = None
    record: Reference | None = None

    async def question(self, session: Session, asking: Asking) -> Question:
        """What changed?"""
        if (self.type is None) != (self.record is None):
            raise InvalidInputError("type and record come together.")
        if self.since.tzinfo is None or (self.until and self.until.tzinfo is None):
            raise InvalidInputError("A time needs its zone, such as 2026-11-30T12:00:00Z.")
        about = await named(session, asking, self.type, self.record) if self.type and self.record else None
        return ChangesSince(self.since, self.until, about)


class HistoryOf(Tool):
    """List the values that a field of a record had, from when and by whom."""

    type: RecordType
    record: Reference
    field: Annotated[str, Field(max_length=60)]

    async def question(self, session: Session, asking: Asking) -> Question:
        """Which values?"""
        return FieldHistory(await named(session, asking, self.type, self.record), self.field)


class Recall(Tool):
    """Say what is remembered: of a record, that has to do with a text, or lately. Decisions, analyses, context."""

    unseen: ClassVar[bool] = True
    type: Literal["package", "task", "party", "project"] | None = None
    record: Reference | None = None
    text: Text = ""

    @property
    def looks_for(self) -> str:
        """The text."""
        return self.text

    async def question(self, session: Session, asking: Asking) -> Question:
        """What is remembered?"""
        if (self.type is None) != (self.record is None):
            raise InvalidInputError("type and record come together.")
        about = await named(session, asking, self.type, self.record) if self.type and self.record else None
        if about is not None and about.type == "project" and not self.text:
            return Remembered(project=about)
        return Remembered(about, self.text)


LOOKING: Final[dict[str, type[Tool]]] = {
    "read_record": ReadRecord,
    "list_records": ListRecords,
    "add_up": AddUp,
    "what_waits": WhatWaits,
    "who_decided": WhoDecided,
    "what_changed": WhatChanged,
    "history_of": HistoryOf,
    "recall": Recall,
}
"""Every tool that looks, by the name under which it is called."""


class Propose(BaseModel):
    """Propose one change. Policy decides what becomes of it; you decide nothing, and cannot confirm it.

    The patch has the fields of the API: amounts as exact decimals in text with a currency, dates as 2026-11-30, people
    and parties by id. A transition says the `status`.
    """

    model_config = ConfigDict(extra="forbid")

    operation: Literal["create", "patch", "transition", "delete", "restore"]
    type: Literal["package", "task", "party", "comment", "memory"]
    record: Reference | None = Field(default=None, description="Which; none for a new one.")
    project: Reference | None = Field(default=None, description="For a new record: where, by id or prefix.")
    patch: dict[str, Any] = {}
    reason: Annotated[str, Field(max_length=2000)] | None = None

    async def planned(self, session: Session, asking: Asking) -> Plan:
        """The plan of this one change; raises NotFoundError or InvalidInputError."""
        if (self.operation == "create") != (self.record is None):
            raise InvalidInputError("A new record has no name yet, and every other change names its record.")
        place = await _project(session, asking, self.project)
        target = await named(session, asking, self.type, self.record) if self.record else None
        change = PlannedChange(
            self.operation, self.type, target, self.patch, place.id if place else None, self.reason or None
        )
        return Plan("change", changes=(change,))


PROPOSE: Final = "propose"


async def _project(session: Session, asking: Asking, reference: str | None) -> Named | None:
    return await named(session, asking, "project", reference) if reference else None


async def named(session: Session, asking: Asking, kind: str, reference: str) -> Named:
    """The record with this id or code, as far as who asks may read it; raises NotFoundError."""
    try:
        identity: UUID | None = UUID(reference)
    except ValueError:
        identity = None
    code = {"package": "code", "project": "prefix"}.get(kind)
    row = None
    if identity is not None:
        place = "id" if kind == "project" else "project_id"
        row = await session.one(f"select id, {place}, doc::json from state.{kind} where id = %s", (identity,))
    elif code is not None and reference.isascii() and reference.isprintable():
        place = "id" if kind == "project" else "project_id"
        row = await session.one(
            f"select id, {place}, doc::json from state.{kind} where {code} = %s", (reference.strip().upper(),)
        )
    if row is None or (row[1] is not None and not allowed(asking.person, Action.READ, row[1])):
        raise NotFoundError(f"There is no {kind} {reference!r}.")
    doc: dict[str, Any] = row[2]
    label = str(doc.get("code") or doc.get("prefix") or doc.get("title") or doc.get("name") or doc.get("label") or "")
    return Named(kind, row[0], label or str(row[0]))  # pyright: ignore[reportArgumentType] - a kind of RecordType
