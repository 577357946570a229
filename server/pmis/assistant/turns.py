"""Conversations and their turns: who said what, what is being answered, and what was answered.

A turn is taken by one process at a time, for as long as its lease; one whose process died is taken over by whoever asks
for it next and goes on where its checkpoints end. The attempt fences off a process that comes back after its lease.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pmis.assistant.errors import AssistantStoppedError, BudgetSpentError, TurnRunningError
from pmis.kit.canonical import canonical
from pmis.kit.errors import ForbiddenError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.ledger.idempotency import KeyReusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.kit.db import Row, Session, WriteSession

JsonObject: TypeAlias = "dict[str, Any]"
TITLE_LENGTH: Final = 80


@dataclass(frozen=True, slots=True)
class Said:
    """What came in: the request as it was sent, by whom, and under which key."""

    person_id: UUID
    request: JsonObject
    access: str
    """The digest of what the person may do: an answer is not given again to somebody with other rights."""
    conversation_id: UUID | None = None
    key: str | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that this process has taken. `before` is what the turn before it left."""

    id: UUID
    conversation_id: UUID
    number: int
    attempt: int
    request: JsonObject
    before: JsonObject | None
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """A turn that was answered before."""

    answer: JsonObject


_TURN: Final = (
    "select t.id, t.conversation_id, t.number, t.attempt, t.asked, t.status, t.lease_until, t.answer, t.fingerprint, "
    "t.access, t.began_at from chat.turn t"
)


async def require_running(session: Session) -> None:
    """Raise AssistantStoppedError when an administrator has stopped every agent."""
    row = await session.one("select stopped_at, reason from chat.switch")
    if row and row[0] is not None:
        why = f" ({row[1]})" if row[1] else ""
        raise AssistantStoppedError(f"An administrator has stopped the assistant{why}. Nothing was done.")


async def take(session: WriteSession, said: Said, lease: timedelta) -> Turn | Answered:
    """Take a message to be answered: a new one, or one whose process died.

    Raises NotFoundError for a conversation of somebody else, TurnRunningError while a message is being answered,
    KeyReusedError for a key that belongs to another request, ForbiddenError for an answer that was given to other
    rights, and AssistantStoppedError.
    """
    await require_running(session)
    if said.key is not None:
        # Twins wait here for the first of them, and then find its turn.
        await session.execute(
            "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"chat:{said.person_id}:{said.key}",)
        )
        row = await session.one(f"{_TURN} where t.person_id = %s and t.key = %s", (said.person_id, said.key))
        if row is not None:
            return await _again(session, said, row, lease)
    conversation = await _conversation(session, said)
    last = await session.one(
        "select number, status, lease_until, left_over from chat.turn where conversation_id = %s "
        "order by number desc limit 1",
        (conversation,),
    )
    if last is not None and last[1] == "running" and last[2] > session.now:
        raise TurnRunningError("The message before this one is still being answered. Wait for its answer.")
    turn = Turn(
        uuid7(),
        conversation,
        last[0] + 1 if last else 1,
        1,
        said.request,
        json.loads(last[3]) if last and last[3] else None,
        session.now,
    )
    await session.execute(
        "insert into chat.turn (id, conversation_id, person_id, number, key, fingerprint, access, asked, status, "
        "lease_until, began_at) values (%s, %s, %s, %s, %s, %s, %s, %s, 'running', %s, %s)",
        (
            turn.id,
            conversation,
            said.person_id,
            turn.number,
            said.key,
            said.fingerprint,
            said.access,
            canonical(said.request),
            session.now + lease,
            session.now,
        ),
    )
    return turn


async def _conversation(session: WriteSession, said: Said) -> UUID:
    if said.conversation_id is not None:
        row = await session.one(
            "update chat.conversation set touched_at = %s where id = %s and person_id = %s returning id",
            (session.now, said.conversation_id, said.person_id),
        )
        if row is None:
            raise NotFoundError("There is no such conversation.")
        return row[0]
    title = " ".join(str(said.request["query"]).split())
    identity = uuid7()
    await session.execute(
        "insert into chat.conversation (id, person_id, title, created_at, touched_at) values (%s, %s, %s, %s, %s)",
        (identity, said.person_id, title[:TITLE_LENGTH], session.now, session.now),
    )
    return identity


async def _again(session: WriteSession, said: Said, row: Row, lease: timedelta) -> Turn | Answered:
    identity, conversation, number, attempt, asked, status, until, answer, print_, access, began = row
    if bytes(print_ or b"") != said.fingerprint:
        raise KeyReusedError
    if answer is not None:
        if access != said.access:
            raise ForbiddenError("Your rights have changed since this was answered. Ask again under a new key.")
        return Answered(json.loads(answer))
    if status == "running" and until > session.now:
        raise TurnRunningError("This message is being answered. Ask again for its answer.")
    return await _taken_over(session, identity, conversation, number, attempt, asked, began, lease)


async def _taken_over(
    session: WriteSession,
    identity: UUID,
    conversation: UUID,
    number: int,
    attempt: int,
    asked: str,
    began: datetime,
    lease: timedelta,
) -> Turn:
    await session.execute(
        "update chat.turn set attempt = attempt + 1, lease_until = %s, status = 'running', ended_at = null "
        "where id = %s",
        (session.now + lease, identity),
    )
    before = await session.one(
        "select left_over from chat.turn where conversation_id = %s and number < %s order by number desc limit 1",
        (conversation, number),
    )
    left = json.loads(before[0]) if before and before[0] else None
    return Turn(identity, conversation, number, attempt + 1, json.loads(asked), left, began)


async def resume(session: WriteSession, person_id: UUID, conversation: UUID, lease: timedelta) -> Turn | Answered:
    """Take the conversation's last turn to go on with it: one whose process died, or that waits for the person's yes.

    Raises NotFoundError for a conversation of somebody else, and TurnRunningError while it is being answered.
    """
    await require_running(session)
    row = await session.one(
        f"{_TURN} join chat.conversation c on c.id = t.conversation_id where c.id = %s and c.person_id = %s "
        "order by t.number desc limit 1 for update of t",
        (conversation, person_id),
    )
    if row is None:
        raise NotFoundError("There is no such conversation, or nothing was said in it.")
    identity, _, number, attempt, asked, status, until, answer, _, _, began = row
    if status == "done":
        return Answered(json.loads(answer))
    if status == "running" and until > session.now:
        raise TurnRunningError("The last message is still being answered. Wait for its answer.")
    if status == "waiting":
        await session.execute("update chat.turn set answer = null, status = 'running' where id = %s", (identity,))
    return await _taken_over(session, identity, conversation, number, attempt, asked, began, lease)


async def finish(
    session: WriteSession,
    turn: Turn,
    answer: JsonObject,
    *,
    left: JsonObject,
    waiting: bool,
    proposals: int,
    usage: JsonObject | None,
) -> bool:
    """Keep the answer, unless somebody else has taken the turn over meanwhile; says whether it was kept."""
    touched = await session.execute(
        "update chat.turn set status = %s, answer = %s, left_over = %s, proposals = %s, usage = %s, ended_at = %s "
        "where id = %s and attempt = %s and status = 'running'",
        (
            "waiting" if waiting else "done",
            json.dumps(answer, ensure_ascii=False),
            json.dumps(left, ensure_ascii=False),
            proposals,
            json.dumps(usage) if usage else None,
            session.now,
            turn.id,
            turn.attempt,
        ),
    )
    return touched == 1


async def fail(session: WriteSession, turn: Turn) -> None:
    """Say that this attempt came to nothing; the same message, sent again under its key, is tried again."""
    await session.execute(
        "update chat.turn set status = 'failed', ended_at = %s where id = %s and attempt = %s and status = 'running'",
        (session.now, turn.id, turn.attempt),
    )


async def require_budget(session: Session, person_id: UUID, now: datetime, *, most: int, more: int) -> None:
    """Raise BudgetSpentError when `more` proposals would be more than `most` of the person's within an hour."""
    since = now - timedelta(hours=1)
    row = await session.one(
        "select coalesce(sum(proposals), 0), min(began_at) filter (where proposals > 0) from chat.turn "
        "where person_id = %s and began_at > %s",
        (person_id, since),
    )
    spent, oldest = row or (0, None)
    if spent + more > most:
        raise BudgetSpentError(
            f"The assistant may propose {most} changes in an hour for you, and has proposed {spent}. "
            "Propose this one yourself, or ask again later.",
            int(((oldest or now) - since).total_seconds()),
        )


async def usage_by_day(session: Session, since: datetime) -> Sequence[Row]:
    """What the assistant did and what models took, by day (UTC) and model, the newest first; whose it was is not said.

    Each row: day, model (None for the grammar), turns, proposals, calls, tokens read and written, milliseconds of
    calls, turns in which the model failed, and what was spent in which currency, where prices are known.
    """
    return await session.all(
        "select (began_at at time zone 'UTC')::date, usage::json ->> 'model', count(*), sum(proposals), "
        "coalesce(sum((usage::json ->> 'calls')::int), 0), coalesce(sum((usage::json ->> 'tokens_read')::bigint), 0), "
        "coalesce(sum((usage::json ->> 'tokens_written')::bigint), 0), "
        "coalesce(sum((usage::json ->> 'milliseconds')::bigint), 0), "
        "count(*) filter (where usage::json ->> 'failed' is not null), "
        "sum((usage::json ->> 'cost')::numeric), usage::json ->> 'currency' as currency "
        "from chat.turn where began_at >= %s group by 1, 2, currency order by 1 desc, 2, currency",
        (since,),
    )


async def conversations(session: Session, person_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Row]:
    """The person's conversations, the newest first: id, title, created, touched and the number of turns."""
    where = "" if after is None else "and c.id < %s"
    return await session.all(
        "select c.id, c.title, c.created_at, c.touched_at, "
        "(select max(t.number) from chat.turn t where t.conversation_id = c.id) "
        f"from chat.conversation c where c.person_id = %s {where} order by c.id desc limit %s",
        (person_id, *(() if after is None else (after,)), limit),
    )


async def transcript(session: Session, person_id: UUID, conversation: UUID) -> tuple[Row, Sequence[Row]]:
    """A conversation of the person's, and its turns in their order; raises NotFoundError."""
    head = await session.one(
        "select id, title, created_at, touched_at from chat.conversation where id = %s and person_id = %s",
        (conversation, person_id),
    )
    if head is None:
        raise NotFoundError("There is no such conversation.")
    turns = await session.all(
        "select id, number, status, asked, answer, began_at, ended_at from chat.turn where conversation_id = %s "
        "order by number",
        (conversation,),
    )
    return head, turns


async def forget(session: WriteSession, person_id: UUID, conversation: UUID) -> int:
    """Delete a conversation of the person's, and say how many turns it had; raises NotFoundError.

    What was proposed in it stays: that is in the log.
    """
    own = (conversation, person_id)
    gone = await session.execute("delete from chat.turn where conversation_id = %s and person_id = %s", own)
    if not await session.execute("delete from chat.conversation where id = %s and person_id = %s", own):
        raise NotFoundError("There is no such conversation.")
    return gone
