"""The assistant over HTTP: what is said to it, its answers as a whole or as they are made, and its conversations."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response, StreamingResponse

from pmis.api import docs
from pmis.api.context import Call, caller, require_known_parameters, uuid_or_none
from pmis.api.edge import REPLAYED, access_of
from pmis.api.own import json_answer, require_plain_write
from pmis.api.problems import REFUSED, refuse
from pmis.api.resources import id_after, limit_of, next_link
from pmis.approval.governed import Input, LevelName, parse_input
from pmis.assistant import turns
from pmis.assistant.service import Asker
from pmis.assistant.turns import Answered, Said
from pmis.kit.canonical import canonical
from pmis.kit.errors import ForbiddenError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.kit.paging import encode_cursor
from pmis.kit.text import Line, Words  # noqa: TC001 - pydantic reads the annotations at run time
from pmis.ledger.event import Fact
from pmis.ledger.idempotency import fingerprint, require_key
from pmis.ledger.store import record
from pmis.policy.access import Action, authorize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from pmis.assistant.turns import JsonObject, Turn
    from pmis.kit.db import Row

MAX_QUERY: Final = 10_000
_USAGE_DAYS: Final = 30
_EVENTS: Final = "text/event-stream"
router = docs.RouteTable("assistant")


class ChatMessage(Input):
    """Something said to the assistant."""

    query: Annotated[Words, StringConstraints(min_length=1, max_length=MAX_QUERY)] = Field(
        examples=["What is the status of P-001?"]
    )
    conversation_id: Annotated[Line, StringConstraints(max_length=40)] | None = Field(
        default=None, description="The conversation that it belongs to; without one a new one begins."
    )
    project: Annotated[Line, StringConstraints(min_length=1, max_length=40)] | None = Field(
        default=None, description="The project that it is about, by id or prefix, where the words leave it open."
    )
    impact_level: LevelName | None = Field(
        default=None, description="It can raise the computed impact, never lower it."
    )
    uncertainty_level: LevelName | None = Field(
        default=None, description="It can raise the computed uncertainty, never lower it."
    )


class ChatSource(BaseModel):
    """A text that others wrote, which a model was given values of before it planned a change."""

    type: Literal["email", "comment", "package", "task"]
    id: str
    part: str = Field(examples=["subject"])
    fields: list[str] = Field(description="The fields of the change whose value stands in the text.")


class ChatChange(BaseModel):
    """A change that was proposed, and what became of it."""

    operation: Literal["create", "patch", "transition", "delete", "restore"]
    target_type: str
    target: str | None = Field(description="What people call the record: its code, or its title.")
    target_id: str | None
    patch: dict[str, Any]
    outcome: str = Field(
        description="`applied`, `pending`, `confirmation_required`, `refused`, or what became of the approval since."
    )
    route: str | None
    rule: str | None
    approval_id: str | None
    digest: str | None = Field(description="For the decision about the approval: the digest of what was shown.")
    reason: str | None
    sources: list[ChatSource] = Field(
        description="What others wrote that the change may rest on; the policy is told of it."
    )


class ChatEvidence(BaseModel):
    """What an answer rests on."""

    type: str
    id: str
    label: str
    url: str


class ChatRecord(BaseModel):
    """A record that may have been meant."""

    type: str
    id: str
    label: str


class ChatAnswer(BaseModel):
    """What the assistant says. Its text is Markdown without pictures; links lead to PMIS only."""

    response: str
    action_type: Literal["answer", "change", "clarify", "refuse"]
    changes: list[ChatChange]
    resource_created: ChatEvidence | None
    evidence: list[ChatEvidence]
    route: str | None = Field(description="The strictest route among the changes.")
    questions: list[dict[str, Any]] = Field(
        description="What was understood as asked: a `kind`, and what it is about, by the names of the API."
    )
    candidates: list[ChatRecord] = Field(description="Which of these was meant, when that is asked back.")
    not_understood: list[str]
    offers: list[str] = Field(description="What could be said instead.")
    planner: str
    conversation_id: str
    turn_id: str


class ConversationOut(BaseModel):
    """A conversation."""

    id: str
    title: str
    created_at: str
    touched_at: str
    turns: int


class ConversationList(BaseModel):
    """Conversations, the newest first."""

    items: list[ConversationOut]
    next: str | None


class TurnOut(BaseModel):
    """Something said, and the answer to it, once there is one."""

    id: str
    number: int
    status: Literal["running", "waiting", "done", "failed"]
    asked: dict[str, Any]
    answer: ChatAnswer | None
    began_at: str
    ended_at: str | None


class ConversationWhole(BaseModel):
    """A conversation with its turns."""

    id: str
    title: str
    created_at: str
    touched_at: str
    turns: list[TurnOut]


class ConversationDeleted(BaseModel):
    """How many turns were deleted."""

    deleted: int


class SwitchOut(BaseModel):
    """Whether the assistant works."""

    stopped: bool
    stopped_at: str | None
    stopped_by: str | None
    reason: str | None


class UsageOfDay(BaseModel):
    """What was done on a day (UTC) with a model, or without one."""

    day: str
    model: str | None
    turns: int
    proposals: int
    calls: int
    tokens_read: int
    tokens_written: int
    milliseconds: int
    failed: int = Field(description="Turns in which the model failed, and the grammar answered.")
    cost: str | None = Field(description="What the tokens cost, where their prices are set: an exact decimal.")
    currency: str | None


class Usage(BaseModel):
    """The last 30 days, the newest first."""

    days: list[UsageOfDay]


class SwitchOff(Input):
    """Why every agent is stopped."""

    reason: Annotated[Words, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, examples=["We look into a strange proposal."]
    )


def _asker(call: Call) -> Asker:
    return Asker(call.principal, call.reach, "mcp" if call.source == "mcp" else "chat", call.correlation_id)


def _person(call: Call) -> UUID:
    person = call.principal.person_id
    if person is None:
        raise ForbiddenError("The assistant works for people only.")
    return person


def _conversation(text: str) -> UUID:
    """The id that names a conversation; raises NotFoundError for what is none."""
    identity = uuid_or_none(text)
    if identity is None:
        raise NotFoundError("There is no such conversation.")
    return identity


async def chat(request: Request) -> Response:
    """Say something to the assistant."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    header = request.headers.get("idempotency-key")
    key = require_key(header) if header is not None else None
    body = await request.body()
    message = parse_input(ChatMessage, body)
    conversation = _conversation(message.conversation_id) if message.conversation_id is not None else None
    said = Said(
        _person(call),
        message.model_dump(mode="json", exclude_none=True),
        access_of(call),
        conversation,
        key,
        fingerprint("POST", "chat", b"", "", body) if key else None,
    )
    taken = await call.parts.assistant.take(_asker(call), said)
    return await _answered(request, call, taken)


async def _answered(request: Request, call: Call, taken: Turn | Answered) -> Response:
    """The answer, whole or as it is made, as the caller takes it."""
    streams = _EVENTS in request.headers.get("accept", "")
    if streams:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_told(request, call, taken), 200, headers, _EVENTS)
    if isinstance(taken, Answered):
        response = json_answer(taken.answer)
        response.headers[REPLAYED] = "true"
        return response
    return json_answer(await call.parts.assistant.answer(_asker(call), taken))


async def _told(request: Request, call: Call, taken: Turn | Answered) -> AsyncIterator[str]:
    if isinstance(taken, Answered):
        yield _event("answer", taken.answer)
        return
    try:
        async for kind, told in call.parts.assistant.steps(_asker(call), taken):
            if kind == "answer":
                yield _event("token", {"text": told["response"]})
            yield _event(kind, told)
    except REFUSED as error:
        # The answer has begun: what is wrong can only be said in it.
        problem = await refuse(request, error)
        yield _event("problem", json.loads(bytes(problem.body)))


def _event(kind: str, told: JsonObject) -> str:
    return f"event: {kind}\ndata: {canonical(told)}\n\n"


async def list_conversations(request: Request) -> Response:
    """A page of the caller's conversations."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    limit, after = limit_of(request), id_after(request)
    async with call.parts.database.read(call.reach) as session:
        rows = await turns.conversations(session, _person(call), after=after, limit=limit + 1)
    following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
    items = [{**_head(row), "turns": row[4] or 0} for row in rows[:limit]]
    return Response(
        canonical({"items": items, "next": following}), 200, next_link(request, following), "application/json"
    )


def _head(row: Row) -> JsonObject:
    identity, title, created, touched = row[:4]
    return {
        "id": str(identity),
        "title": title,
        "created_at": created.isoformat(),
        "touched_at": touched.isoformat(),
    }


async def _whole(call: Call, conversation_id: str) -> JsonObject:
    identity = _conversation(conversation_id)
    async with call.parts.database.read(call.reach) as session:
        head, found = await turns.transcript(session, _person(call), identity)
    return {
        **_head(head),
        "turns": [
            {
                "id": str(turn),
                "number": number,
                "status": status,
                "asked": json.loads(asked),
                "answer": json.loads(answer) if answer else None,
                "began_at": began.isoformat(),
                "ended_at": ended.isoformat() if ended else None,
            }
            for turn, number, status, asked, answer, began, ended in found
        ],
    }


async def get_conversation(request: Request, conversation_id: str) -> Response:
    """One conversation with its turns."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    return json_answer(await _whole(call, conversation_id))


async def export_conversation(request: Request, conversation_id: str) -> Response:
    """One conversation as a text that people keep."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    whole = await _whole(call, conversation_id)
    parts = [f"# {whole['title']}\n"]
    for turn in whole["turns"]:
        parts.append(f"**{call.principal.name}**, {turn['began_at']}\n\n{turn['asked']['query']}\n")
        answer = turn["answer"]
        if answer is None:
            parts.append(f"(no answer: {turn['status']})\n")
            continue
        parts.append(f"**Assistant**\n\n{answer['response']}\n")
        parts += [f"- {one['type']}: {one['label']} <{one['url']}>" for one in answer["evidence"]]
        parts.append("")
    headers = {"Content-Disposition": f'attachment; filename="conversation-{whole["id"]}.md"'}
    return Response("\n".join(parts), 200, headers, "text/markdown; charset=utf-8")


async def resume_conversation(request: Request, conversation_id: str) -> Response:
    """Go on with the last message: its process died, or the caller has given the yes that it waits for."""
    call = await caller(request)
    require_plain_write(request)
    identity = _conversation(conversation_id)
    _person(call)
    return await _answered(request, call, await call.parts.assistant.take_up(_asker(call), identity))


async def delete_conversation(request: Request, conversation_id: str) -> Response:
    """Delete a conversation."""
    call = await caller(request)
    require_plain_write(request)
    identity = _conversation(conversation_id)
    async with call.parts.database.write(call.reach) as session:
        gone = await turns.forget(session, _person(call), identity)
        await session.commit()
    return json_answer({"deleted": gone})


async def get_switch(request: Request) -> Response:
    """Whether the assistant works."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        return json_answer(_switch(await session.one(_SWITCH)))


_SWITCH: Final = "select stopped_at, stopped_by, reason from chat.switch"


def _switch(row: Row | None) -> JsonObject:
    at, by, reason = row or (None, None, None)
    return {"stopped": at is not None, "stopped_at": at.isoformat() if at else None, "stopped_by": by, "reason": reason}


async def get_usage(request: Request) -> Response:
    """What the assistant did, and what models took."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    authorize(call.principal, Action.ADMINISTER, None)
    async with call.parts.database.read(call.reach) as session:
        rows = await turns.usage_by_day(session, call.parts.clock.now() - timedelta(days=_USAGE_DAYS))
    return json_answer({"days": [_of_day(row) for row in rows]})


def _of_day(row: Row) -> JsonObject:
    day, model, *numbers, cost, currency = row
    told = (str(day), model, *map(int, numbers), None if cost is None else f"{cost:f}", currency)
    return dict(zip(UsageOfDay.model_fields, told, strict=True))


async def stop_assistant(request: Request) -> Response:
    """Stop every agent."""
    call = await caller(request)
    require_plain_write(request)
    said = parse_input(SwitchOff, await request.body())
    return await _turned(call, "assistant.stopped", said.reason)


async def start_assistant(request: Request) -> Response:
    """Let the agents work again."""
    call = await caller(request)
    require_plain_write(request)
    parse_input(Input, await request.body())
    return await _turned(call, "assistant.started", None)


async def _turned(call: Call, fact: str, reason: str | None) -> Response:
    """Turn the switch, which is an event unless it stands so already."""
    authorize(call.principal, Action.ADMINISTER, None)
    stops = fact == "assistant.stopped"
    async with call.parts.database.write(call.reach) as session:
        row = await session.one(f"{_SWITCH} for update")
        if row is None or (row[0] is not None) != stops:
            at, by = (session.now, call.principal.signature) if stops else (None, None)
            await session.execute(
                "update chat.switch set stopped_at = %s, stopped_by = %s, reason = %s", (at, by, reason)
            )
            told = Fact(fact, {"reason": reason} if reason else {})
            record(session, "assistant", uuid7(), told, origin=call.origin, project_id=None)
            row = (at, by, reason)
        await session.commit()
    return json_answer(_switch(row))


_ONE: Final = "/conversations/{conversation_id}"
_STREAMED: Final = (
    "With `Accept: text/event-stream` the answer comes as it is made: `step` for each node that is done, `proposal` "
    "for each change that is submitted, `token` for the text, and last `answer` (or `problem`) with what is else the "
    "body."
)
docs.route(
    router,
    "POST",
    "/chat",
    chat,
    docs.Spec(
        "Say something to the assistant",
        "signed in",
        {200: ChatAnswer},
        docs.SAY_REFUSALS,
        description=(
            "It answers from what the caller may see, with evidence, and turns what is asked for into proposals of its "
            "own, for the caller: it decides and confirms nothing. While the message is being answered, the same one "
            f"under the same key answers 409. {_STREAMED}"
        ),
        body=ChatMessage,
    ),
)
docs.route(
    router,
    "GET",
    "/conversations",
    list_conversations,
    docs.Spec(
        "List your conversations",
        "signed in",
        {200: ConversationList},
        docs.READ_REFUSALS,
        description="The newest first. Nobody sees those of others.",
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "GET",
    _ONE,
    get_conversation,
    docs.Spec("Read a conversation", "signed in", {200: ConversationWhole}, docs.READ_REFUSALS),
)
docs.route(
    router,
    "GET",
    f"{_ONE}/export",
    export_conversation,
    docs.Spec(
        "Export a conversation",
        "signed in",
        {200: {"description": "Markdown.", "content": {"text/markdown": {"schema": {"type": "string"}}}}},
        docs.READ_REFUSALS,
    ),
)
docs.route(
    router,
    "POST",
    f"{_ONE}/resume",
    resume_conversation,
    docs.Spec(
        "Go on with a conversation's last message",
        "signed in",
        {200: ChatAnswer},
        docs.SAY_REFUSALS,
        description=(
            "When its process died, it goes on where it was and does nothing twice. When it waits for your own yes, it "
            f"says what became of the approval. Otherwise it gives its answer again. {_STREAMED}"
        ),
    ),
)
docs.route(
    router,
    "DELETE",
    _ONE,
    delete_conversation,
    docs.Spec(
        "Delete a conversation",
        "signed in",
        {200: ConversationDeleted},
        docs.SAY_REFUSALS,
        description="Its words are gone. What was proposed in it stays: that is in the log.",
    ),
)
docs.route(
    router,
    "GET",
    "/assistant",
    get_switch,
    docs.Spec("See whether the assistant works", "signed in", {200: SwitchOut}, docs.READ_REFUSALS),
)
docs.route(
    router,
    "GET",
    "/assistant/usage",
    get_usage,
    docs.Spec(
        "See what the assistant did, and what models took",
        "signed in",
        {200: Usage},
        (401, 403, 422, 503),
        description="For administrators of the instance. Nobody's words are in it, nor whose they were.",
    ),
)
for _path, _endpoint, _summary, _body in (
    ("stop", stop_assistant, "Stop every agent", SwitchOff),
    ("start", start_assistant, "Let the agents work again", None),
):
    docs.route(
        router,
        "POST",
        f"/assistant/{_path}",
        _endpoint,
        docs.Spec(
            _summary,
            "administer",
            {200: SwitchOut},
            docs.SAY_REFUSALS,
            description="For administrators of the instance. It holds for what runs as well; it is an event.",
            body=_body,
            body_required=False,
        ),
    )
