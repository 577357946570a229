"""What the nodes of the graph work with: everything of a turn that is not its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from pmis.assistant.plan import Before, Named, Plan
    from pmis.kit.clock import Clock
    from pmis.kit.db import Database, Reach, Session
    from pmis.ledger.event import Source
    from pmis.ledger.vault import Vault
    from pmis.memory.embedding import Embedder
    from pmis.policy.access import Principal


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing said, and where and when: all that a planner is given beside the session."""

    text: str
    now: datetime
    zone: ZoneInfo
    public: str = ""
    """Where people open PMIS: the only address to which an answer may lead."""
    project: Named | None = None
    """The project that the person works in, when they said so."""
    before: Before | None = None


Sessions: TypeAlias = "Callable[[], AbstractAsyncContextManager[Session]]"
"""Opens a session that reads what the person reaches; none is kept open while a model thinks."""


class Planner(Protocol):
    """Makes a plan of what was said. It only reads, and only what its principal may read."""

    @property
    def name(self) -> str:
        """By which it is told who planned."""
        ...

    async def plan(self, sessions: Sessions, principal: Principal, heard: Heard) -> Plan:
        """The plan; never raises for anything that a person may say."""
        ...

    async def close(self) -> None:
        """Let go what is held between plans."""
        ...


@dataclass(frozen=True)
class TurnLimits:
    """How much one turn, and one person's assistant, may do."""

    seconds: int = 60
    proposals_an_hour: int = 100
    steps: int = 60


@dataclass(frozen=True)
class Work:
    """What a turn is done with, and for whom."""

    turn_id: UUID
    database: Database
    vault: Vault
    clock: Clock
    planner: Planner
    person: Principal
    """Who asks: what waits for them, and what they may see."""
    agent: Principal
    """As whom everything is read and proposed."""
    reach: Reach
    source: Source
    correlation_id: str
    public: str
    quotes: bool = True
    """Whether what was said are a person's words, which stand for a reason where none was given."""
    embedder: Embedder | None = None
    """What works out what a text means by which memories are looked for; without it words must do."""
    conversation_id: UUID | None = None
    limits: TurnLimits = field(default_factory=TurnLimits)
