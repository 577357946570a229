"""A planner that asks a model. The model is taken to be hostile: what it says becomes a plan, or nothing.

It sees what was said to the assistant, and of records their values and references: no title, description, comment, mail
or imported field, which others wrote and could address to it. Of such a text it may ask for the values, which are taken
out of it apart (`pmis.assistant.untrusted`); what it proposes from then on is known to rest on what others wrote. What
it calls is recorded and run as a plan like any;
what it writes in prose is shown without addresses. When it fails, is late, costs too much or talks nonsense, the
grammar plans, and the person is told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pmis.assistant.answers import Asking, answer
from pmis.assistant.contained import contained
from pmis.assistant.plan import Plan, PlannedChange, Question
from pmis.assistant.providers.prompts import SYSTEM, context_of
from pmis.assistant.tools import LOOKING, PROPOSE, Propose
from pmis.assistant.untrusted.tools import FIND_TEXTS, READ_TEXT, READING, FindTexts, ReadText
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from decimal import Decimal

    from langchain_core.messages import AIMessage, BaseMessage

    from pmis.assistant.providers.models import Connected
    from pmis.assistant.untrusted.reader import Reader
    from pmis.assistant.untrusted.tools import Reading
    from pmis.assistant.work import Heard, Planner, Sessions
    from pmis.policy.access import Principal

log = logging.getLogger("pmis.assistant")
_SEEN: Final = {
    *("id", "code", "version", "kind", "status", "amount", "currency", "number", "route", "created_at", "expires_at"),
    *("owner_id", "vendor_id", "assignee_id", "package_id", "project_id", "target_type", "target_id"),
    *("planned_start", "planned_end", "actual_start", "actual_end", "due_date"),
}
"""The fields of a record that a model is shown: none in which somebody writes what they like."""
_MOST_ROWS: Final = 20
_MOST_TOOLS: Final = 20
_MOST_READ: Final = 5
"""How many texts of others are read for one message."""
_LONGEST: Final = 2000


class AskBack(BaseModel):
    """Ask the person something that has to be known first. Nothing is changed."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(min_length=1, max_length=_LONGEST)]


class Decline(BaseModel):
    """Say that this will not be done, such as deciding in somebody's place."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[str, Field(min_length=1, max_length=_LONGEST)]


_ASK_BACK: Final = "ask_back"
_DECLINE: Final = "decline"


class NonsenseError(Exception):
    """What a model answered is nothing that can be planned with."""


class SpentError(Exception):
    """The model has taken more than it may for one message."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a model may take for one message."""

    seconds: float
    calls: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost."""

    read: Decimal
    written: Decimal
    currency: str

    def of(self, read: int, written: int) -> str:
        """What so many tokens cost, exactly."""
        return f"{(self.read * read + self.written * written) / 1_000_000:f}"


@dataclass
class _Draft:
    """What a model has made so far."""

    questions: list[Question] = field(default_factory=list["Question"])
    changes: list[PlannedChange] = field(default_factory=list[PlannedChange])
    asked: str = ""
    declined: str = ""
    looked: bool = False
    readings: list[Reading] = field(default_factory=list["Reading"])
    unread: str = ""
    """What the model did to a text, which was then read without it."""
    calls: int = 0
    read: int = 0
    written: int = 0
    tools: list[str] = field(default_factory=list[str])
    """What it called, with what it was given or refused: for administrators, without values."""

    def sourced(self, change: PlannedChange) -> PlannedChange:
        """The change, and all that was read of others before it, with the fields whose value stands there."""
        sources = (replace(one.source, fields=one.fields_of(change.patch)) for one in self.readings)
        return replace(change, sources=tuple(sources))


class ModelPlanner:
    """Plans with a model, and without one whenever that fails."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connected],
        otherwise: Planner,
        budget: Budget,
        reader: Reader,
        prices: Prices | None = None,
    ) -> None:
        """`connect` gives the model, when it is first asked; `otherwise` plans when the model does not."""
        self._prices = prices
        self._name = name
        self._connect = connect
        self._otherwise = otherwise
        self._budget = budget
        self._reader = reader
        self._model: Any = None
        self._bare: Any = None
        """The same model without tools, for what others wrote."""
        self._let_go: Callable[[], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        """The provider and its model."""
        return self._name

    async def plan(self, sessions: Sessions, principal: Principal, heard: Heard) -> Plan:
        """The plan; never raises for what a model does."""
        began, draft = time.monotonic(), _Draft()
        failed = ""
        try:
            if self._model is None:
                # Its library takes seconds to load, once in a process: nobody's time to think.
                await self._load()
            async with asyncio.timeout(self._budget.seconds):
                made = await self._asked(sessions, principal, heard, draft)
        except TimeoutError:
            failed = "did not answer in time"
        except SpentError:
            failed = "took more than it may for one message"
        except NonsenseError:
            failed = "answered with nothing that I can use"
        except PmisError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider's library raises, somebody waits for an answer
            failed = "is not available"
            log.warning("the model failed", extra={"model": self._name, "fault": type(error).__name__})
        usage = {
            "model": self._name,
            "calls": draft.calls,
            "tokens_read": draft.read,
            "tokens_written": draft.written,
            "milliseconds": round(1000 * (time.monotonic() - began)),
            "tools": draft.tools[:_MOST_TOOLS],
            "failed": failed or None,
        }
        if self._prices is not None:
            usage |= {"cost": self._prices.of(draft.read, draft.written), "currency": self._prices.currency}
        if not failed:
            notice = f"(The model {draft.unread} over a text; I read that without it.)" if draft.unread else ""
            return replace(made, usage=usage, notice=notice)  # pyright: ignore[reportPossiblyUnboundVariable] - nothing failed
        made = await self._otherwise.plan(sessions, principal, heard)
        notice = f"(The model {failed}; I answered without it.)"
        return replace(made, notice=notice, planner=self._otherwise.name, usage=usage)

    async def close(self) -> None:
        """Let the connections to the provider go."""
        if self._let_go is not None:
            await self._let_go()
        self._model = self._bare = self._let_go = None

    async def _load(self) -> None:
        self._bare, self._let_go = await asyncio.to_thread(self._connect)
        self._model = self._bare.bind_tools(_described())  # pyright: ignore[reportUnknownMemberType] - partly untyped

    async def _asked(self, sessions: Sessions, principal: Principal, heard: Heard, draft: _Draft) -> Plan:
        from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage  # noqa: PLC0415 - loads slowly

        messages: list[BaseMessage] = [SystemMessage(SYSTEM), HumanMessage(context_of(heard))]
        prose = ""
        for _ in range(self._budget.calls):
            said = cast("AIMessage", await self._model.ainvoke(messages))
            self._count(draft, said)
            if said.invalid_tool_calls:
                raise NonsenseError
            if not said.tool_calls:
                prose = str(said.text)
                break
            messages.append(said)
            # What it looked up before was for itself; what it looks up last is the answer.
            draft.questions.clear()
            for call in said.tool_calls[:_MOST_TOOLS]:
                told = await self._used(sessions, principal, heard, draft, call["name"], call["args"])
                messages.append(ToolMessage(json.dumps(told, ensure_ascii=False), tool_call_id=call["id"] or ""))
            if len(said.tool_calls) > _MOST_TOOLS:
                raise NonsenseError
            if draft.asked or draft.declined:
                break
        else:
            if not draft.changes and not draft.questions:
                raise SpentError
        return self._made(draft, prose, heard)

    def _count(self, draft: _Draft, said: AIMessage) -> None:
        usage = said.usage_metadata
        self._spend(draft, usage["input_tokens"] if usage else 0, usage["output_tokens"] if usage else 0)

    def _spend(self, draft: _Draft, read: int, written: int) -> None:
        draft.calls += 1
        draft.read += read
        draft.written += written
        if draft.read + draft.written > self._budget.tokens:
            raise SpentError

    @staticmethod
    def _made(draft: _Draft, prose: str, heard: Heard) -> Plan:
        if draft.declined:
            return Plan("refuse", text=contained(draft.declined, heard.public))
        if draft.asked:
            return Plan("clarify", text=contained(draft.asked, heard.public))
        if draft.changes:
            return Plan("change", changes=tuple(draft.changes), unsure=draft.looked)
        if draft.questions or draft.readings:
            told = "\n".join(one.told() for one in draft.readings)
            return Plan("answer", questions=tuple(draft.questions), text=told)
        if not prose.strip():
            raise NonsenseError
        return Plan("answer", text=contained(prose[:_LONGEST], heard.public))

    async def _used(
        self,
        sessions: Sessions,
        principal: Principal,
        heard: Heard,
        draft: _Draft,
        name: str,
        arguments: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """What a tool gives the model."""
        asking = Asking(principal, heard.now, heard.zone or ZoneInfo("UTC"), heard.public)
        try:
            if name == _ASK_BACK:
                draft.asked = AskBack.model_validate(arguments).question
                return {}
            if name == _DECLINE:
                draft.declined = Decline.model_validate(arguments).why
                return {}
            if name == READ_TEXT:
                return await self._read(sessions, asking, draft, ReadText.model_validate(arguments))
            async with sessions() as session:
                if name == PROPOSE:
                    plan = await Propose.model_validate(arguments).planned(session, asking)
                    draft.changes += [draft.sourced(change) for change in plan.changes]
                    draft.tools.append(name)
                    return {"noted": "it is proposed when you are done"}
                if name == FIND_TEXTS:
                    texts = await FindTexts.model_validate(arguments).found(session, asking)
                    draft.tools.append(name)
                    return {"found": len(texts), "texts": texts}
                if name not in LOOKING:
                    draft.tools.append("a tool that there is not")
                    return {"refused": "there is no such tool"}
                tool = LOOKING[name].model_validate(arguments)
                question = await tool.question(session, asking)
                if tool.unseen:
                    draft.questions.append(question)
                    draft.tools.append(name)
                    return {"noted": "it is told to the person when you are done"}
                found = await answer(session, asking, question)
                draft.questions.append(question)
                draft.looked = draft.looked or bool(found.rows)
                draft.tools.append(name)
                return {"found": len(found.rows) or len(found.evidence), "rows": [_shown(row) for row in found.rows]}
        except ValidationError as error:
            draft.tools.append(f"{name}: refused")
            return {"refused": [f"{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]}
        except PmisError as error:
            draft.tools.append(f"{name}: refused")
            return {"refused": error.code}

    async def _read(self, sessions: Sessions, asking: Asking, draft: _Draft, tool: ReadText) -> dict[str, Any]:
        """The values in a text, for the model that plans."""
        if len(draft.readings) == _MOST_READ:
            return {"refused": f"{_MOST_READ} texts are all that is read for one message"}
        reading, made = await self._reader.read(self._bare, sessions, asking, tool)
        draft.readings.append(reading)
        draft.unread = draft.unread or made.failed
        draft.tools.append(READ_TEXT if not made.failed else f"{READ_TEXT}: without the model")
        self._spend(draft, made.tokens_read, made.tokens_written)
        return reading.shown()


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values and references of a record."""
    return {name: value for name, value in row.items() if name in _SEEN and value is not None}


def _described() -> list[dict[str, Any]]:
    """The tools as every provider's library takes them."""
    saying: dict[str, type[BaseModel]] = {_ASK_BACK: AskBack, _DECLINE: Decline}
    offered: dict[str, type[BaseModel]] = {**LOOKING, **READING, PROPOSE: Propose, **saying}
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": " ".join((model.__doc__ or "").split()),
                "parameters": model.model_json_schema(),
            },
        }
        for name, model in offered.items()
    ]
