"""A planner that plans what a test says, for tests of what runs a plan: whoever made it, a plan is a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pmis.assistant.plan import Named, Plan, PlannedChange
from tests.api.expect import ok

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.assistant.plan import Question
    from pmis.assistant.work import Heard, Sessions
    from pmis.policy.access import Principal
    from tests.api.office import Office


@dataclass
class Scripted:
    """Plans by the words that were said; what nobody planned for is not understood."""

    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    heard: list[Heard] = field(default_factory=list["Heard"])
    name: str = "scripted"

    async def plan(self, sessions: Sessions, principal: Principal, heard: Heard) -> Plan:
        """The plan for these words."""
        del sessions, principal
        self.heard.append(heard)
        return self.plans.get(heard.text, Plan("clarify", text="Say it otherwise.", not_understood=(heard.text,)))

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Talk:
    """An office whose assistant plans what tests say."""

    office: Office
    planner: Scripted

    async def say(self, who: str, query: str, **more: Any) -> Any:
        """The answer to a message."""
        return ok(await self.office.post(who, "/chat", {"query": query, **more}))

    async def ask(self, who: str, question: Question, **more: Any) -> Any:
        """The answer to a question."""
        query = f"question {len(self.planner.plans)}"
        self.planner.plans[query] = Plan("answer", (question,))
        return await self.say(who, query, **more)

    async def change(self, who: str, *changes: PlannedChange, **more: Any) -> Any:
        """What becomes of changes."""
        query = f"changes {len(self.planner.plans)}"
        self.planner.plans[query] = Plan("change", changes=changes)
        return await self.say(who, query, **more)

    async def package(self, title: str = "Bridge", *, world: str = "", **fields: Any) -> Named:
        """A new package of project A, or of B."""
        place = self.office.b if world == "b" else self.office.a
        made = await place.do("package", "create", None, {"title": title, **fields})
        return Named("package", made.id, made.plain["code"])

    async def submit(self, package: Named) -> None:
        """Take a draft of project A to the next status, from where on every change waits for somebody."""
        await self.office.a.do("package", "transition", package.id, {"status": "submitted"})


def patch(record: Named, reason: str | None = None, **fields: Any) -> PlannedChange:
    """Change fields of a record."""
    return PlannedChange("patch", record.type, record, fields, reason=reason)  # pyright: ignore[reportArgumentType]


def step(record: Named, status: str, reason: str | None = None, **fields: Any) -> PlannedChange:
    """Take a record to a status."""
    said = {"status": status, **fields}
    return PlannedChange("transition", record.type, record, said, reason=reason)  # pyright: ignore[reportArgumentType]


def new(kind: Any, project: UUID, **fields: Any) -> PlannedChange:
    """Make a record."""
    return PlannedChange("create", kind, None, fields, project)
