"""Follows one project from step to step: reads what a step has touched, and folds what it has appended.

Each version of a row says which transaction wrote it (`xmin`), so whatever was written since the last look is found
without reading the rest; whatever was deleted shows in the counts. Between two looks nothing can happen unseen, and
`from_scratch()` reads everything again without relying on that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from pmis.ledger.replay import Difference
from pmis.ledger.store import event_of
from tests.builders import PROJECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    import psycopg

    from pmis.ledger.projection import AnyProjection, Entity

    Row = tuple[Any, ...]

OF_PROJECTS: Final = tuple(one for one in PROJECTIONS if one.stream_type not in ("person", "policy"))
"""The projections whose records belong to a project (or, as approvals of the policy do, to none)."""
BY_TYPE: Final[dict[str, AnyProjection]] = {one.stream_type: one for one in OF_PROJECTS}
EVENT: Final = (
    "position, id, stream_type, stream_id, stream_version, project_id, type, schema_version, actor, actor_name, "
    "on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id, occurred_at, previous_hash, content_hash, "
    "payload, xid::text"
)
_OWN: Final = "project_id = %(project)s"
_APPROVALS: Final = f"({_OWN} or id = any(%(instance)s))"


def _tables() -> dict[str, tuple[tuple[str, ...], str]]:
    """Each table that is followed: its columns, and which of its rows."""
    tables: dict[str, tuple[tuple[str, ...], str]] = {}
    for projection in OF_PROJECTS:
        table = projection.stream_type
        own = _APPROVALS if table == "approval" else _OWN
        tables[table] = (("id", "version", "project_id", "doc", *projection.columns), own)
        for child in projection.child_tables:
            hangs = f"{child.key} in (select id from state.{table} where {own})"
            tables[child.table] = (child.columns, _OWN if "project_id" in child.columns else hangs)
    return tables


TABLES: Final = _tables()
_SINCE: Final = "xmin::text::bigint >= %(since)s"
_COUNTS: Final = ", ".join(
    f"(select count(*) as rows, count(*) filter (where {_SINCE}) as touched from state.{table} where {own}) t{i}"
    for i, (table, (_, own)) in enumerate(TABLES.items())
)
_GLANCE: Final = (
    "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
    "(select position from ledger.event order by position desc limit 1), "
    f"{', '.join(f't{i}.rows, t{i}.touched' for i in range(len(TABLES)))} from {_COUNTS}"
)
_ALL: Final = {
    table: f"select {', '.join(columns)} from state.{table} where {own}" for table, (columns, own) in TABLES.items()
}
_TOUCHED: Final = {table: f"{statement} and {_SINCE}" for table, statement in _ALL.items()}
_NEW: Final = (
    f"select {EVENT} from ledger.event where position > %(position)s and position <= %(last)s "
    f"and ({_OWN} or stream_id = any(%(instance)s)) order by position"
)


def key_of(table: str, row: Row) -> Any:
    """What tells the rows of a table apart."""
    return row[:2] if table == "approval_target" else row[0]


class Follower:
    """The rows and the log of a project, as far as they were seen, and what the log makes of itself."""

    def __init__(self, connection: psycopg.Connection[Row], project: UUID, position: int) -> None:
        self.connection = connection
        self.project = project
        self.position = position
        self.live: dict[str, dict[Any, Row]] = {table: {} for table in TABLES}
        self.made: dict[str, dict[Any, Row]] = {table: {} for table in TABLES}
        self.entities: dict[UUID, Entity] = {}
        self._since = 0

    def _rows(self, statement: str, params: dict[str, Any]) -> list[Row]:
        return self.connection.execute(cast("LiteralString", statement), params).fetchall()

    def look(self, instance: Iterable[UUID]) -> tuple[list[Row], list[Difference]]:
        """The events since the last look, and the rows that are not what the log makes of them.

        `instance` names the streams to follow that belong to no project.
        """
        params: dict[str, Any] = {"project": self.project, "instance": list(instance), "since": self._since}
        ((horizon, last, *counts),) = self._rows(_GLANCE, params)
        events: list[Row] = []
        if last != self.position:
            events = self._rows(_NEW, {**params, "position": self.position, "last": last})
            self.position = last
        suspects = self._fold(events)
        for i, table in enumerate(TABLES):
            rows, touched = counts[2 * i : 2 * i + 2]
            live = self.live[table]
            if touched:
                found = {key_of(table, row): row for row in self._rows(_TOUCHED[table], params)}
                live.update(found)
                suspects.setdefault(table, set()).update(found)
            if len(live) != rows:
                # Something is gone: which, only the rows themselves tell.
                self.live[table] = {key_of(table, row): row for row in self._rows(_ALL[table], params)}
                suspects.setdefault(table, set()).update(live.keys() ^ self.live[table].keys())
        self._since = horizon
        return events, [
            Difference(table, str(key), kind)
            for table, keys in suspects.items()
            for key in keys
            if (kind := self._kind(table, key))
        ]

    def _kind(self, table: str, key: Any) -> str:
        live, made = self.live[table].get(key), self.made[table].get(key)
        if live == made:
            return ""
        return "missing" if live is None else "surplus" if made is None else "different"

    def _fold(self, events: list[Row]) -> dict[str, set[Any]]:
        """Let the log make its rows; the keys of what it changed."""
        before: dict[UUID, Entity | None] = {}
        kinds: dict[UUID, AnyProjection] = {}
        for row in events:
            projection = BY_TYPE.get(row[2])
            if projection is None:
                continue
            event = event_of((*row[1:8], row[18], *row[8:12], row[15]))
            known = self.entities.get(event.stream_id)
            before.setdefault(event.stream_id, known)
            kinds[event.stream_id] = projection
            self.entities[event.stream_id] = projection.apply(known, event)
        changed: dict[str, set[Any]] = {}
        for stream, projection in kinds.items():
            entity, old = self.entities[stream], before[stream]
            rows = {projection.stream_type: [projection.row(entity)], **projection.children(entity)}
            for table, had in (projection.children(old) if old is not None else {}).items():
                for row in had:
                    changed.setdefault(table, set()).add(key_of(table, row))
                    self.made[table].pop(key_of(table, row), None)
            for table, has in rows.items():
                for row in has:
                    changed.setdefault(table, set()).add(key_of(table, row))
                    self.made[table][key_of(table, row)] = row
        return changed

    def from_scratch(self, instance: Iterable[UUID]) -> list[Difference]:
        """The rows, all read again, that are not what the log makes of them."""
        params = {"project": self.project, "instance": list(instance)}
        for table, statement in _ALL.items():
            self.live[table] = {key_of(table, row): row for row in self._rows(statement, params)}
        return [
            Difference(table, str(key), kind)
            for table in TABLES
            for key in self.live[table].keys() | self.made[table].keys()
            if (kind := self._kind(table, key))
        ]
