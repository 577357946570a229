"""A real log: events appended as the application does it, and a superuser who changes them."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg

from pmis.ledger.columns import EVENT_SELECT, event_record
from pmis.ledger.export import Exported, export_file
from pmis.ledger.seal import Sealer
from pmis.ledger.sink import FileSink
from pmis.ledger.verify import Report, event_hash, verify_file
from tests.ledger.logs import SIGNER, canonical

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from psycopg import Connection

    from tests.conftest import TestDatabase

PROJECT = UUID("0190c8f4-0000-7000-8000-000000000001")
OTHER_PROJECT = UUID("0190c8f4-0000-7000-8000-000000000002")


def append(
    connection: Connection[Any],
    stream: UUID,
    version: int,
    *,
    project: UUID | None = PROJECT,
    kind: str = "package",
    **payload: Any,
) -> int:
    """Append an event as the application does; returns its position."""
    row = connection.execute(
        "select ledger.append_event(%s, %s, %s, %s, %s, %s, 1, %s, %s, %s, null, null, 'api', 'test', null)",
        (
            uuid4(),
            kind,
            stream,
            version,
            project,
            f"{kind}.patched",
            canonical(payload or {"version": version}),
            "person:0190c8f4-7b1a-7c3e-9f6d-0123456789ab",
            "Ana Petrović",
        ),
    ).fetchone()
    assert row
    return row[0]


@dataclass
class LiveLog:
    """A database with its folder of checkpoints."""

    database: TestDatabase
    folder: Path

    @contextmanager
    def app(self) -> Generator[Connection[Any]]:
        with psycopg.connect(self.database.app_dsn, autocommit=True) as connection:
            yield connection

    def superuser(self) -> Connection[Any]:
        """Whom no trigger and no privilege stops."""
        return self.connect_as_superuser(self.database)

    @staticmethod
    def connect_as_superuser(database: TestDatabase) -> Connection[Any]:
        connection = psycopg.connect(database.admin_dsn, autocommit=True)
        connection.execute("set session_replication_role = replica")
        return connection

    @contextmanager
    def sealer(self, **options: Any) -> Generator[Sealer]:
        options = {"signer": SIGNER, "sinks": [FileSink(self.folder)], **options}
        with psycopg.connect(self.database.sealer_dsn, autocommit=True) as connection:
            yield Sealer(connection, options.pop("signer"), options.pop("sinks"), **options)

    def fill(self, events: int, *, streams: int = 3, project: UUID | None = PROJECT) -> list[UUID]:
        """Append events to new streams in turn; returns the streams."""
        ids = [uuid4() for _ in range(streams)]
        with self.app() as connection, connection.transaction():
            for number in range(events):
                append(connection, ids[number % streams], 1 + number // streams, project=project)
        return ids

    def settle(self) -> None:
        """Seal until the floor is at the top: other tests' transactions, in the same cluster, may hold it back."""
        deadline = time.monotonic() + 30
        with self.sealer() as sealer:
            while self.one(
                "select coalesce(max(settled), 0) < (select max(position) from ledger.event) from ledger.checkpoint"
            ):
                assert time.monotonic() < deadline, "the floor does not rise"
                sealer.run()
                self.fill(1)
                sealer.run()

    def seal(self, **options: Any) -> Any:
        with self.sealer(**options) as sealer:
            return sealer.run()

    def export(self, target: Path, **options: Any) -> Exported:
        with psycopg.connect(self.database.auditor_dsn, autocommit=True) as connection:
            return export_file(connection, str(target), origin=SIGNER.origin, keys=[SIGNER.key], **options)

    def verify(self, target: Path, **options: Any) -> Report:
        """Export, and verify against the folder."""
        self.export(target, **options)
        return verify_file(str(target), checkpoints=[self.folder] if self.folder.exists() else [])

    def one(self, statement: Any, parameters: Any = ()) -> Any:
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as connection:
            row = connection.execute(statement, parameters).fetchone()
            return row[0] if row and len(row) == 1 else row

    def events(self) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.admin_dsn) as connection:
            rows = connection.execute(f"select {EVENT_SELECT} from ledger.event e order by e.position").fetchall()
        return [event_record(row) for row in rows]


def store(connection: Connection[Any], event: dict[str, Any]) -> None:
    """Overwrite the hashes and the payload of an event, as only a superuser can."""
    connection.execute(
        "update ledger.event set stream_version = %s, payload = %s, actor = %s, occurred_at = %s, "
        "previous_hash = decode(%s, 'hex'), content_hash = decode(%s, 'hex') where position = %s",
        (
            event["stream_version"],
            event["payload"],
            event["actor"],
            event["occurred_at"],
            event["previous_hash"],
            event["content_hash"],
            event["position"],
        ),
    )


def rechain(connection: Connection[Any], *, renumber: bool = True) -> None:
    """Make every hash and every link fit again."""
    rows = connection.execute(
        f"select {EVENT_SELECT} from ledger.event e order by e.stream_id, e.stream_version, e.position"
    ).fetchall()
    stream, version, head = None, 0, "0" * 64
    for row in rows:
        event = event_record(row)
        if event["stream_id"] != stream:
            stream, version, head = event["stream_id"], 0, "0" * 64
        version += 1
        event["previous_hash"] = head
        if renumber:
            event["stream_version"] = version
        event["content_hash"] = head = event_hash(event).hex()
        store(connection, event)


def regrow(connection: Connection[Any]) -> None:
    """Make the whole tree anew from what the log holds now, in the old order; checkpoints cannot be signed anew."""
    connection.execute(
        """
        create temporary table leaf as select row_number() over (order by n.idx) - 1 as idx, n.position,
            sha256('\\x00'::bytea || e.content_hash) as hash
        from ledger.tree_node n join ledger.event e using (position);
        delete from ledger.tree_node;
        insert into ledger.tree_node (level, idx, hash, position) select 0, idx, hash, position from leaf;
        drop table leaf;
        """
    )
    level = 0
    while True:
        done = connection.execute(
            "insert into ledger.tree_node (level, idx, hash) "
            "select l.level + 1, l.idx / 2, sha256('\\x01'::bytea || l.hash || r.hash) from ledger.tree_node l "
            "join ledger.tree_node r on r.level = l.level and r.idx = l.idx + 1 where l.level = %s and l.idx %% 2 = 0",
            (level,),
        ).rowcount
        if not done:
            return
        level += 1


def payload_of(event: dict[str, Any]) -> Any:
    return json.loads(event["payload"])
