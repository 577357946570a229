"""Appends events and projects them, in the transaction of a `WriteSession`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic_core import to_json

from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Event, Fact, Origin
from pmis.ledger.projection import AnyProjection, Child, Entity, Projection
from pmis.ledger.upcast import current_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.db import Row, Session, WriteSession

E = TypeVar("E", bound=Entity)

APPEND: Final = "select ledger.append_event(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_APPEND_EACH: Final = (
    "select ledger.append_event(e.id, %(stream_type)s, e.stream_id, e.stream_version, e.project_id, e.type, "
    "e.schema_version, e.payload, %(actor)s, %(actor_name)s, %(on_behalf_of)s, %(on_behalf_of_name)s, %(source)s, "
    "%(correlation_id)s, %(causation_id)s) from json_to_recordset(%(events)s::json) as e("
    "id uuid, stream_id uuid, stream_version int, project_id uuid, type text, schema_version int, payload text)"
)
EVENT_COLUMNS: Final = (
    "id, stream_type, stream_id, stream_version, project_id, type, schema_version, payload, "
    "actor, actor_name, on_behalf_of, on_behalf_of_name, occurred_at"
)


@cache
def _calls(projection: type[AnyProjection]) -> tuple[str, str]:
    """How a row is added, and how it is brought from one version to another."""
    values = ", ".join(["%s"] * (4 + len(projection.columns)))
    noun = projection.stream_type
    return f"select state.add_{noun}({values})", f"select state.set_{noun}({values}, %s)"


@cache
def _child_calls(child: Child) -> tuple[str, str]:
    """How one row of an entity is put there, and how all of them are dropped."""
    return (
        f"select state.put_{child.table}({', '.join(['%s'] * len(child.columns))})",
        f"select state.drop_{child.table}(%s)",
    )


def append(
    session: WriteSession,
    projection: Projection[E],
    entity: E | None,
    facts: Sequence[Fact],
    *,
    origin: Origin,
    stream_id: UUID,
    project_id: UUID | None,
) -> tuple[E, list[Event]]:
    """Append the facts to the entity's stream and bring its row to what they make of it.

    `entity` is the state that was read under a lock, or None for a stream that begins. Raises ConflictError when the
    stream does not stand where the entity does, at the latest at the commit. At least one fact is needed.
    """
    before = entity
    events: list[Event] = []
    actor = origin.actor
    for fact in facts:
        text = canonical(fact.payload)
        event = Event(
            id=uuid7(),
            stream_type=projection.stream_type,
            stream_id=stream_id,
            stream_version=(entity.version if entity else 0) + 1,
            project_id=project_id,
            type=fact.type,
            schema_version=current_version(fact.type),
            # What is applied is what the log holds, so that a replay finds the very same values in the same order.
            payload=json.loads(text),
            actor=actor,
            occurred_at=session.now,
        )
        _defer_event(session, event, text, origin)
        entity = projection.apply(entity, event)
        events.append(event)
    if entity is None:
        message = "append needs at least one fact"
        raise ValueError(message)
    row = projection.row(entity)
    add, bring = _calls(type(projection))
    if before is None:
        session.defer(add, row)
    else:
        session.defer(bring, (*row, before.version))
    _defer_children(session, projection, before, entity)
    return entity, events


@dataclass(frozen=True, slots=True)
class Happened(Generic[E]):
    """One fact about one entity, as `append_each` takes them. `entity` is None for a stream that begins."""

    entity: E | None
    stream_id: UUID
    project_id: UUID | None
    fact: Fact


async def append_each(
    session: WriteSession, projection: Projection[E], happened: Sequence[Happened[E]], *, origin: Origin
) -> list[tuple[E, Event]]:
    """Append one fact to each of many streams and bring their rows to what it makes of them, in a few statements.

    The same as `append` for each of them, for projections without child tables. Raises ConflictError when a stream does
    not stand where its entity does.
    """
    if projection.child_tables:
        message = f"{projection.stream_type} has child tables; append its facts one by one"
        raise ValueError(message)
    made: list[tuple[E, Event]] = []
    events: list[dict[str, Any]] = []
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    names = ("id", "version", "project_id", "doc", *projection.columns)
    for one in happened:
        text = canonical(one.fact.payload)
        event = Event(
            id=uuid7(),
            stream_type=projection.stream_type,
            stream_id=one.stream_id,
            stream_version=(one.entity.version if one.entity else 0) + 1,
            project_id=one.project_id,
            type=one.fact.type,
            schema_version=current_version(one.fact.type),
            payload=json.loads(text),
            actor=origin.actor,
            occurred_at=session.now,
        )
        told = ("id", "stream_id", "stream_version", "project_id", "type", "schema_version")
        events.append({name: getattr(event, name) for name in told} | {"payload": text})
        entity = projection.apply(one.entity, event)
        rows[one.entity is not None].append(dict(zip(names, projection.row(entity), strict=True)))
        made.append((entity, event))
    actor = origin.actor
    await session.execute(
        _APPEND_EACH,
        {
            "stream_type": projection.stream_type,
            "events": _records(events),
            "actor": actor.ref,
            "actor_name": actor.name,
            "on_behalf_of": actor.on_behalf_of,
            "on_behalf_of_name": actor.on_behalf_of_name,
            "source": origin.source,
            "correlation_id": origin.correlation_id,
            "causation_id": origin.causation_id,
        },
    )
    # Called for each row, the writers find it by its key, whatever PostgreSQL thinks of the table's size by then.
    values = ", ".join(f"r.{name}" for name in names)
    noun = projection.stream_type
    for call, new in ((f"add_{noun}({values})", rows[0]), (f"set_{noun}({values}, r.version - 1)", rows[1])):
        if new:
            records = f"json_populate_recordset(null::state.{noun}, %s::json) as r"
            await session.execute(f"select state.{call} from {records}", (_records(new),))
    return made


def _records(rows: Sequence[dict[str, Any]]) -> str:
    return to_json(rows).decode()


def _defer_event(session: WriteSession, event: Event, text: str, origin: Origin) -> None:
    actor = origin.actor
    session.defer(
        APPEND,
        (
            event.id,
            event.stream_type,
            event.stream_id,
            event.stream_version,
            event.project_id,
            event.type,
            event.schema_version,
            text,
            actor.ref,
            actor.name,
            actor.on_behalf_of,
            actor.on_behalf_of_name,
            origin.source,
            origin.correlation_id,
            origin.causation_id,
        ),
    )


def record(
    session: WriteSession,
    stream_type: str,
    stream_id: UUID,
    fact: Fact,
    *,
    origin: Origin,
    project_id: UUID | None,
    version: int = 1,
) -> Event:
    """Append a fact to a stream that makes no row: something was done, such as an export of the log.

    Most such streams hold one fact; of those that hold more, the caller knows at which version the fact comes.
    """
    text = canonical(fact.payload)
    event = Event(
        id=uuid7(),
        stream_type=stream_type,
        stream_id=stream_id,
        stream_version=version,
        project_id=project_id,
        type=fact.type,
        schema_version=current_version(fact.type),
        payload=fact.payload,
        actor=origin.actor,
        occurred_at=session.now,
    )
    _defer_event(session, event, text, origin)
    return event


def _defer_children(session: WriteSession, projection: Projection[E], before: E | None, after: E) -> None:
    old = projection.children(before) if before else {}
    new = projection.children(after)
    for child in projection.child_tables:
        put, drop = _child_calls(child)
        was, rows = old.get(child.table, []), new.get(child.table, [])
        if rows == was:
            continue
        if was and not (child.single and rows):
            session.defer(drop, (after.id,))
        for row in rows:
            session.defer(put, row)


def event_of(row: Row) -> Event:
    """The event in a row of EVENT_COLUMNS."""
    identity, stream_type, stream_id, version, project_id, type_, schema_version, payload, *who, occurred_at = row
    return Event(
        id=identity,
        stream_type=stream_type,
        stream_id=stream_id,
        stream_version=version,
        project_id=project_id,
        type=type_,
        schema_version=schema_version,
        payload=json.loads(payload),
        actor=Actor(*who),
        occurred_at=occurred_at,
    )


async def entity_as_of(session: Session, projection: Projection[E], stream_id: UUID, at: datetime) -> E | None:
    """The entity as it stood at a moment, or None when it did not exist yet."""
    entity: E | None = None
    for row in await session.all(
        f"select {EVENT_COLUMNS} from ledger.event where stream_id = %s and occurred_at <= %s order by stream_version",
        (stream_id, at),
    ):
        entity = projection.apply(entity, event_of(row))
    return entity


async def folded(session: Session, projection: Projection[E], *, project_id: UUID | None = None) -> AsyncIterator[E]:
    """Every entity of a projection, made from nothing but the log, in the order of their ids.

    Bounded memory: one stream at a time. With `project_id`, only that project's streams.
    """
    entity: E | None = None
    where = "stream_type = %s" + (" and project_id = %s" if project_id else "")
    params = (projection.stream_type, project_id) if project_id else (projection.stream_type,)
    statement = f"select {EVENT_COLUMNS} from ledger.event where {where} order by stream_id, stream_version"
    async for row in session.stream(statement, params):
        event = event_of(row)
        if entity is not None and entity.id != event.stream_id:
            yield entity
            entity = None
        entity = projection.apply(entity, event)
    if entity is not None:
        yield entity
