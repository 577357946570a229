"""What a planner makes of what was said: the only thing that it gives, whoever planned."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations at run time
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from typing import Any, Literal, TypeAlias
from uuid import UUID  # noqa: TC003

TargetType: TypeAlias = Literal["package", "task", "party", "comment", "memory"]
Operation: TypeAlias = Literal["create", "patch", "transition", "delete", "restore"]
ListedType: TypeAlias = Literal["package", "task", "party", "approval"]
Grouping: TypeAlias = Literal["status", "currency", "vendor", "owner", "package_type", "project", "assignee"]


@dataclass(frozen=True, slots=True)
class Named:
    """A record that was meant. `label` is what people call it: its code, or its title."""

    type: Literal["package", "task", "party", "person", "project", "approval", "memory"]
    id: UUID
    label: str


@dataclass(frozen=True, slots=True)
class AboutRecord:
    """How is this record? `fields` are those asked for, by the API's names; none means all that matters."""

    record: Named
    fields: tuple[str, ...] = ()
    kind: Literal["record"] = "record"


@dataclass(frozen=True, slots=True)
class ListOf:
    """Which records are there? `filters` are those of the API's list, and so is `sort`; `count` asks how many."""

    type: ListedType
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    project: Named | None = None
    sort: str | None = None
    limit: int | None = None
    count: bool = False
    kind: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """Which approvals wait for a decision of the person who asks?"""

    project: Named | None = None
    count: bool = False
    kind: Literal["waiting"] = "waiting"


@dataclass(frozen=True, slots=True)
class Decisions:
    """Who decided about this record, how, and when? `verdict` narrows it to those who said so."""

    record: Named
    verdict: Literal["approve", "reject", "request_changes"] | None = None
    status: str | None = None
    """The status that the decided change led to, when it was named: who approved the award of it?"""
    kind: Literal["decisions"] = "decisions"


@dataclass(frozen=True, slots=True)
class ChangesSince:
    """What happened from `since` (UTC, inclusive) until `until` (exclusive), to this record, project or all?"""

    since: datetime
    until: datetime | None = None
    record: Named | None = None
    by: Named | None = None
    types: tuple[str, ...] = ()
    """Only these types of records, when they were named."""
    kind: Literal["changes"] = "changes"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of package amounts, or numbers of records, by group; money is never added across currencies."""

    by: tuple[Grouping, ...]
    type: Literal["package", "task"] = "package"
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    project: Named | None = None
    kind: Literal["totals"] = "totals"


@dataclass(frozen=True, slots=True)
class FieldHistory:
    """Which values did this field of the record have, from when, by whom?"""

    record: Named
    field: str
    kind: Literal["history"] = "history"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered: of this record, or that has to do with this text, or lately?"""

    record: Named | None = None
    text: str = ""
    project: Named | None = None
    kind: Literal["memories"] = "memories"


@dataclass(frozen=True, slots=True)
class WhatCanYouDo:
    """What may be asked, in examples."""

    kind: Literal["help"] = "help"


Question: TypeAlias = (
    AboutRecord | ListOf | WaitingFor | Decisions | ChangesSince | Totals | FieldHistory | Remembered | WhatCanYouDo
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A text that others wrote, which was read before a change was planned."""

    type: Literal["email", "comment", "package", "task"]
    id: UUID
    part: str
    """Which text of it: `subject`, `text`, `attachment 2`, `body`, `title`, `description`, `data`."""
    fields: tuple[str, ...] = ()
    """The fields of the change whose value stands in the text."""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One change to be proposed: what would be sent to the API, checked by nobody yet.

    `target` is None for a record to be created. `patch` has the fields by the API's names and in its JSON form: ids and
    dates as text, an amount as an exact decimal in text. The status of a transition is in it.
    """

    operation: Operation
    target_type: TargetType
    target: Named | None
    patch: Mapping[str, Any]
    project: UUID | None = None
    """Where it is to be created."""
    reason: str | None = None
    sources: tuple[Taken, ...] = ()
    """What others wrote that was read before: the policy is told of it, whether or not values are from there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one thing said. Questions and changes may come together; nothing else goes with a refusal.

    `clarify`: something has to be asked back, and nothing is changed, not even what was clear of the same message.
    `refuse`: it is understood and will not be done, such as approving on somebody's behalf.
    """

    kind: Literal["answer", "change", "clarify", "refuse"]
    questions: tuple[Question, ...] = ()
    changes: tuple[PlannedChange, ...] = ()
    text: str = ""
    """What is said back where there is nothing to look up: the question, or why it is refused."""
    candidates: tuple[Named, ...] = ()
    """Which of these was meant, when that is the question."""
    not_understood: tuple[str, ...] = ()
    """The parts of the message that nothing was made of, in its own words."""
    offers: tuple[str, ...] = ()
    """What could be said instead, each a sentence that would be understood."""
    notice: str = ""
    """What the person should know about how this was planned: that a model failed, for one."""
    planner: str = ""
    """Who planned it, when it was not the planner that was asked."""
    unsure: bool = False
    """Whether it was made after reading what others wrote; its changes are then judged as of high uncertainty."""
    usage: Mapping[str, Any] | None = None
    """What it took: calls, tokens, milliseconds and tools, when a model was asked."""


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier turn of the conversation leaves for "it", "the second one" or a bare answer to a question."""

    records: tuple[Named, ...] = ()
    asked: str | None = None
    """The message to which the assistant asked back, when this one may be the answer."""
    candidates: tuple[Named, ...] = ()
