"""The assistant of one process: takes a message, runs the graph on it, keeps the answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, cast
from zoneinfo import ZoneInfo

from pmis.assistant import turns
from pmis.assistant.acting import acting_for
from pmis.assistant.answers import Asking
from pmis.assistant.providers import planner_of
from pmis.assistant.turns import Answered, Said
from pmis.assistant.work import TurnLimits, Work
from pmis.kit.errors import UnavailableError
from pmis.memory.embedding import embedder_of
from pmis.memory.recall import question_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.graph.state import CompiledStateGraph

    from pmis.assistant.answers import Finding
    from pmis.assistant.plan import Plan
    from pmis.assistant.state import State
    from pmis.assistant.tools import Tool
    from pmis.assistant.turns import JsonObject, Turn
    from pmis.assistant.work import Heard, Planner, Sessions
    from pmis.kit.clock import Clock
    from pmis.kit.db import Database, Reach, Session
    from pmis.kit.settings import Settings
    from pmis.ledger.event import Source
    from pmis.ledger.vault import Vault
    from pmis.memory.embedding import Embedder
    from pmis.policy.access import Principal

GRACE_SECONDS: Final = 15
"""How much longer than a turn may take its lease lasts: for as long nobody else takes it over."""


@dataclass(frozen=True, slots=True)
class Given:
    """A plan that was made elsewhere."""

    made: Plan
    name: str = "given"

    async def plan(self, sessions: Sessions, principal: Principal, heard: Heard) -> Plan:
        """The plan as it is; what runs it holds it to the rules."""
        del sessions, principal, heard
        return self.made

    async def close(self) -> None:
        """Nothing is held."""


class TooSlowError(UnavailableError):
    """The turn took longer than it may; what it had proposed stays proposed."""

    code = "assistant_too_slow"
    title = "The assistant took too long"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who talks to the assistant, from where."""

    person: Principal
    reach: Reach
    source: Source
    correlation_id: str


class Assistant:
    """Answers messages, any number at a time; its graph is made when the first one comes."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        planner: Planner,
        *,
        dsn: str,
        public: str,
        limits: TurnLimits,
        embedder: Embedder | None = None,
    ) -> None:
        """Nothing is loaded or connected yet. `dsn` is where the checkpoints are."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._planner = planner
        self._dsn = dsn
        self._public = public
        self._limits = limits
        self._embedder = embedder
        self._making = asyncio.Lock()
        self._open = AsyncExitStack()
        self._graph: CompiledStateGraph[State, Work, State, State] | None = None
        self._saver: AsyncPostgresSaver | None = None

    @classmethod
    def of(cls, settings: Settings, database: Database, vault: Vault, clock: Clock) -> Self:
        """The assistant as the settings describe it."""
        limits = TurnLimits(
            settings.assistant_seconds, settings.assistant_proposals_per_hour, settings.assistant_max_steps
        )
        return cls(
            database,
            vault,
            clock,
            planner_of(settings),
            dsn=settings.app_dsn,
            public=settings.public,
            limits=limits,
            embedder=embedder_of(settings),
        )

    async def close(self) -> None:
        """Close what was opened."""
        await self._planner.close()
        await self._open.aclose()
        self._graph = self._saver = None

    async def _ready(self) -> CompiledStateGraph[State, Work, State, State]:
        async with self._making:
            if self._graph is None:
                from pmis.assistant.checkpoints import saver_on  # noqa: PLC0415 - loads slowly, and few processes chat
                from pmis.assistant.graph import build  # noqa: PLC0415

                self._saver = await self._open.enter_async_context(saver_on(self._dsn))
                self._graph = build(self._saver)
            return self._graph

    async def find(self, asker: Asker, tool: Tool) -> Finding:
        """What a tool finds, without a conversation; raises AssistantStoppedError, and what the tool raises.

        It is given a session that reaches what the person reaches, read as the assistant.
        """
        agent = acting_for(asker.person)
        text = tool.looks_for
        meant = {text: await question_of(self._embedder, text)} if text and self._embedder else {}
        asking = Asking(agent, self._clock.now(), ZoneInfo("UTC"), self._public, self._vault, meant)
        async with self._database.read(asker.reach) as session:
            await turns.require_running(session)
            return await tool.look(session, asking)

    async def carry_out(
        self, asker: Asker, planned: Callable[[Session, Asking], Awaitable[Plan]], words: str
    ) -> JsonObject:
        """What becomes of a plan that somebody else makes, a program over MCP for one: the answer, as to `words`.

        Raises what `planned`, `take` and `answer` raise.
        """
        agent = acting_for(asker.person)
        person = cast("UUID", agent.person_id)
        async with self._database.read(asker.reach) as session:
            plan = await planned(session, Asking(agent, self._clock.now(), ZoneInfo("UTC"), self._public))
        taken = await self.take(asker, Said(person, {"query": words}, ""))
        if isinstance(taken, Answered):  # only a key finds an answer that was given before
            return taken.answer
        return await self.answer(asker, taken, Given(plan))

    async def take(self, asker: Asker, said: Said) -> Turn | Answered:
        """Take a message; raises what `turns.take` raises, and ForbiddenError for who is no person."""
        acting_for(asker.person)
        async with self._database.write(asker.reach) as session:
            taken = await turns.take(session, said, self._lease)
            await session.commit()
            return taken

    async def take_up(self, asker: Asker, conversation: UUID) -> Turn | Answered:
        """Take the last message of a conversation to go on with it; raises what `turns.resume` raises."""
        agent = acting_for(asker.person)
        async with self._database.write(asker.reach) as session:
            taken = await turns.resume(session, cast("UUID", agent.person_id), conversation, self._lease)
            await session.commit()
            return taken

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._limits.seconds + GRACE_SECONDS)

    async def answer(self, asker: Asker, turn: Turn, planner: Planner | None = None) -> JsonObject:
        """The answer to a turn that was taken; raises TooSlowError, or whatever refusal applies."""
        answer: JsonObject | None = None
        async for kind, told in self.steps(asker, turn, planner):
            if kind == "answer":
                answer = told
        if answer is None:
            raise TooSlowError("No answer was found. Send the message again.")
        return answer

    async def steps(
        self, asker: Asker, turn: Turn, planner: Planner | None = None
    ) -> AsyncIterator[tuple[str, JsonObject]]:
        """The nodes as they are done, what is proposed as it is, and last the answer: ("answer", ...).

        Raises what `answer` raises. Whoever stops listening stops the turn; it can be taken up again.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                state: JsonObject = {}
                async for node, update in self._run(asker, turn, planner or self._planner):
                    state |= update
                    yield "step", {"node": node}
                    if node == "execute":
                        yield "proposal", _card(update["proposals"][update["at"] - 1])
            answer = {
                **state["answer"],
                "conversation_id": str(turn.conversation_id),
                "turn_id": str(turn.id),
            }
            await self._keep(asker, turn, state, answer)
            yield "answer", answer
        except TimeoutError:
            await self._give_up(asker, turn)
            raise TooSlowError(
                f"It took longer than {self._limits.seconds} s. What was proposed until then stays proposed."
            ) from None
        except BaseException:
            # Also when nobody listens any more: the same message, sent again, goes on at once.
            await asyncio.shield(self._give_up(asker, turn))
            raise

    async def _run(self, asker: Asker, turn: Turn, planner: Planner) -> AsyncIterator[tuple[str, JsonObject]]:
        graph = await self._ready()
        work = Work(
            turn.id,
            self._database,
            self._vault,
            self._clock,
            planner,
            asker.person,
            acting_for(asker.person),
            asker.reach,
            asker.source,
            asker.correlation_id,
            self._public,
            quotes=not isinstance(planner, Given),
            embedder=self._embedder,
            conversation_id=turn.conversation_id,
            limits=self._limits,
        )
        config: Any = {"configurable": {"thread_id": str(turn.id)}, "recursion_limit": self._limits.steps}
        begin = await self._beginning(graph, config, turn)
        yield "taken", begin[1]
        async for update in graph.astream(  # pyright: ignore[reportUnknownMemberType] - partly untyped
            begin[0], config, context=work, stream_mode="updates", durability="sync"
        ):
            for node, told in cast("dict[str, Any]", update).items():
                if node != "__interrupt__":
                    yield node, told or {}

    async def _beginning(
        self,
        graph: CompiledStateGraph[State, Work, State, State],
        config: Any,  # noqa: ANN401 - as the library has it
        turn: Turn,
    ) -> tuple[Any, JsonObject]:
        """What the graph begins with, and the state as far as it is: a turn that was taken over goes on."""
        if turn.attempt > 1:
            kept = await graph.aget_state(config)
            if kept.created_at is not None:
                from langgraph.types import Command  # noqa: PLC0415 - loaded with the graph

                waits = any(task.interrupts for task in kept.tasks)
                return (Command(resume=True) if waits else None), dict(kept.values)
        request = turn.request
        return {
            "query": request["query"],
            "stated_impact": request.get("impact_level"),
            "stated_uncertainty": request.get("uncertainty_level"),
            "asked_project": request.get("project"),
            "before": turn.before,
        }, {}

    async def _keep(self, asker: Asker, turn: Turn, state: JsonObject, answer: JsonObject) -> None:
        waiting = any(one["outcome"] == "confirmation_required" for one in state["proposals"])
        async with self._database.write(asker.reach) as session:
            kept = await turns.finish(
                session,
                turn,
                answer,
                left=state["left"],
                waiting=waiting,
                proposals=sum(one["outcome"] not in (None, "refused") for one in state["proposals"]),
                usage=state["plan"].get("usage"),
            )
            await session.commit()
        if not kept:
            raise TooSlowError("Another process has taken this message over. Ask again for its answer.")

    async def _give_up(self, asker: Asker, turn: Turn) -> None:
        async with self._database.write(asker.reach) as session:
            await turns.fail(session, turn)
            await session.commit()


def _card(proposal: JsonObject) -> JsonObject:
    """What a proposal came to, for a screen that shows it before the answer is there."""
    kept = ("outcome", "route", "rule", "approval_id", "digest", "diff", "needs", "refusal")
    return {**{name: proposal.get(name) for name in kept}, "changes": proposal["changes"]}
