"""Proof that the rows equal the log: every projection rebuilt from events alone and compared row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from psycopg import sql

from pmis.ledger.store import EVENT_COLUMNS, event_of, folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.ledger.projection import AnyProjection, Entity


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the log makes of it. `kind` is missing, surplus or different."""

    table: str
    key: str
    kind: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay compared, and what it found."""

    rows: int
    differences: tuple[Difference, ...]


def _scratch(table: str) -> str:
    return f"replayed_{table}"


def _columns(projection: AnyProjection) -> tuple[str, ...]:
    return ("id", "version", "project_id", "doc", *projection.columns)


async def check(
    session: Session,
    projections: Iterable[AnyProjection],
    *,
    project_id: UUID | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Rebuild every table in PostgreSQL's scratch schema (`pg_temp`) and compare it with the live one.

    Wants a session inside one REPEATABLE READ transaction, so that the log and the rows are of one moment; the scratch
    tables go when it ends. With `project_id`, only that project's streams. `progress` is told table and rows.
    """
    differences: list[Difference] = []
    total = 0
    children: dict[str, tuple[str, ...]] = {}
    shared: set[str] = set()
    for projection in projections:
        table, columns = projection.stream_type, _columns(projection)
        await _make_scratch(session, table)
        for child in projection.child_tables:
            if child.table not in children:
                await _make_scratch(session, child.table)
            children[child.table] = child.columns
        pending: dict[str, list[tuple[Any, ...]]] = {table: []}
        async for entity in folded(session, projection, project_id=project_id):
            pending[table].append(projection.row(entity))
            for name, rows in projection.children(entity).items():
                pending.setdefault(name, []).extend(rows)
            total += 1
            if total % 1000 == 0:
                await _flush(session, pending, {table: columns, **children})
                if progress:
                    progress(table, total)
        await _flush(session, pending, {table: columns, **children})
        differences += await _compare(session, table, columns, ("id",), project_id)
        shared.update(child.table for child in projection.child_tables)
    for table in sorted(shared):
        key = children[table][:2] if table == "approval_target" else children[table][:1]
        differences += await _compare(session, table, children[table], key, None if project_id is None else project_id)
    return Report(total, tuple(differences))


async def _make_scratch(session: Session, table: str) -> None:
    await session.execute(f"create temporary table {_scratch(table)} as select * from state.{table} with no data")


async def _flush(
    session: Session, pending: dict[str, list[tuple[Any, ...]]], columns: dict[str, tuple[str, ...]]
) -> None:
    for table, rows in pending.items():
        if not rows:
            continue
        copy = sql.SQL(cast("LiteralString", f"copy {_scratch(table)} ({', '.join(columns[table])}) from stdin"))
        async with session.connection.cursor() as cursor, cursor.copy(copy) as into:
            for row in rows:
                await into.write_row(row)
        rows.clear()


async def _compare(
    session: Session, table: str, columns: tuple[str, ...], key: tuple[str, ...], project_id: UUID | None
) -> list[Difference]:
    names = ", ".join(columns)
    own = f"select {names} from state.{table}"
    params: tuple[Any, ...] = ()
    if project_id is not None and "project_id" in columns:
        own += " where project_id = %s"
        params = (project_id,)
    elif project_id is not None:
        own += f" where {columns[1]} in (select id from {_scratch('approval')})"
    on = " and ".join(f"l.{name} = r.{name}" for name in key)
    rows = await session.all(
        f"select coalesce(l.{key[0]}, r.{key[0]})::text, "
        f"case when l.{key[0]} is null then 'missing' when r.{key[0]} is null then 'surplus' else 'different' end "
        f"from ({own}) l full join (select {names} from {_scratch(table)}) r on {on} "
        "where l is distinct from r order by 1",
        params,
    )
    return [Difference(table, found, kind) for found, kind in rows]


async def differences_in_memory(
    session: Session, projections: Iterable[AnyProjection], *, project_id: UUID
) -> list[Difference]:
    """The same for one small project, in memory and one round trip: quick enough to follow every step of a test.

    The session is a snapshot, or a transaction: the statements pass it by, and reach what was set for all of it.
    """
    by_type = {projection.stream_type: projection for projection in projections}
    statements = {
        table: f"select {', '.join(_columns(projection))} from state.{table} where project_id = %s"
        for table, projection in by_type.items()
    }
    for table, projection in by_type.items():
        for child in projection.child_tables:
            own = "project_id = %s" if "project_id" in child.columns else f"{child.key} in ({_IDS.format(table)})"
            statements[child.table] = f"select {', '.join(child.columns)} from state.{child.table} where {own}"
    log = (
        f"select {EVENT_COLUMNS} from ledger.event where project_id = %s and stream_type = any(%s) "
        "order by stream_id, stream_version"
    )
    async with session.connection.pipeline():
        events = await session.connection.execute(log, (project_id, list(by_type)))
        cursors = {
            table: await session.connection.execute(cast("LiteralString", statement), (project_id,))
            for table, statement in statements.items()
        }
    live = {table: {_key(table, row): row for row in await cursor.fetchall()} for table, cursor in cursors.items()}
    folded_: dict[str, dict[Any, tuple[Any, ...]]] = {table: {} for table in live}
    entities: dict[UUID, tuple[AnyProjection, Entity]] = {}
    for event in map(event_of, await events.fetchall()):
        projection = by_type[event.stream_type]
        known = entities.get(event.stream_id)
        entities[event.stream_id] = (projection, projection.apply(known[1] if known else None, event))
    for projection, entity in entities.values():
        folded_[projection.stream_type][entity.id] = projection.row(entity)
        for table, rows in projection.children(entity).items():
            folded_[table].update({_key(table, row): row for row in rows})
    return [
        Difference(table, str(cast("tuple[Any, ...]", key)[0] if isinstance(key, tuple) else key), kind)
        for table, rows in live.items()
        for key, kind in sorted(_differing(rows, folded_[table]), key=str)
    ]


_IDS: Final = "select id from state.{} where project_id = %s"


def _key(table: str, row: tuple[Any, ...]) -> Any:  # noqa: ANN401 - an id, or a pair of them
    """What tells the rows of a table apart: the first column, or for the targets of approvals the first two."""
    return row[:2] if table == "approval_target" else row[0]


def _differing(live: Mapping[Any, tuple[Any, ...]], made: Mapping[Any, tuple[Any, ...]]) -> Iterator[tuple[Any, str]]:
    for key in live.keys() | made.keys():
        if key not in live:
            yield key, "missing"
        elif key not in made:
            yield key, "surplus"
        elif tuple(live[key]) != made[key]:
            yield key, "different"
