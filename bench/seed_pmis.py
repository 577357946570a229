"""Fill PMIS's database: what packages refer to through its own `append`, packages in bulk beside it.

Bulk means COPY instead of a function call per event; the rows are still what `apply` makes of the events, the hashes
are those that the verifier computes and each stream is chained, so a replay equals the state and the log verifies.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from bench import data
from pmis.approval.bootstrap import ensure_policy
from pmis.approval.governed import SEARCHABLE
from pmis.identity.noun import MEMBERSHIPS, PEOPLE
from pmis.kit.canonical import canonical
from pmis.kit.db import Database, Reach, WriteSession
from pmis.ledger.event import Actor, Event, Fact, Origin
from pmis.ledger.store import append
from pmis.ledger.verify import EVENT_COLUMNS, GENESIS, event_hash
from pmis.package.noun import PACKAGE_TYPES, PACKAGES
from pmis.party.noun import PARTIES
from pmis.project.noun import PROJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import psycopg

    from pmis.ledger.projection import AnyProjection
    from pmis.package.models import Package

STEPS: Final = {
    "submitted": "submit",
    "in_review": "review",
    "approved": "approve",
    "awarded": "award",
    "active": "activate",
    "completed": "complete",
}
_SYSTEM: Final = Origin(Actor("system:bench", "Benchmark"), "system", "bench-seed")
_NAMESPACE: Final = uuid.UUID("5b0c6a1e-7a52-7c61-9d5e-1f6b8f6a2c01")


def create_world(dsn: str) -> None:
    """The policy, projects, people, vendors and package types; the first person is an admin of every project."""
    asyncio.run(_create_world(dsn))


async def _create_world(dsn: str) -> None:
    database = Database(dsn, size=1, role="pmis_app")
    await database.open()
    try:
        async with database.write(Reach.INSTANCE) as session:
            await ensure_policy(session)
            _populate(session)
            await session.commit()
    finally:
        await database.close()


def _populate(session: WriteSession) -> None:
    world = data.world()

    def begin(noun: AnyProjection, identity: uuid.UUID, project: uuid.UUID | None, fields: dict[str, Any]) -> None:
        fact = Fact(f"{noun.stream_type}.created", {"fields": fields})
        append(session, noun, None, [fact], origin=_SYSTEM, stream_id=identity, project_id=project)

    for index, person in enumerate(world.people):
        begin(PEOPLE, person, None, {"name": data.person_name(index)})
    for index, project in enumerate(world.projects):
        name = f"Programme {data.WORDS[index + 20].capitalize()}"
        described = {"name": name, "prefix": data.project_prefix(index), "timezone": "UTC", "currency": "USD"}
        begin(PROJECTS, project, project, described)
        for person in world.people:
            roles = ["admin"] if person == world.people[0] else ["analyst"]
            identity = uuid.uuid5(_NAMESPACE, f"membership {project} {person}")
            begin(MEMBERSHIPS, identity, project, {"person_id": str(person), "roles": roles})
        for kind in data.TYPES:
            identity = uuid.uuid5(_NAMESPACE, f"type {project} {kind}")
            begin(PACKAGE_TYPES, identity, project, {"name": kind, "fields_schema": {"type": "object"}})
    for index, vendor in enumerate(world.vendors):
        project = world.projects[index % data.PROJECTS]
        begin(PARTIES, vendor, project, {"name": data.vendor_name(index), "kind": "vendor"})


def _public(fields: dict[str, Any], world: data.World) -> dict[str, Any]:
    """The fields under PMIS's names."""
    shown = dict(fields)
    for name, ids in (("owner", world.people), ("vendor", world.vendors)):
        if name in shown:
            index: int | None = shown.pop(name)
            shown[f"{name}_id"] = None if index is None else str(ids[index])
    return shown


def _payload(entry: data.Entry, number: int, code: str, world: data.World) -> dict[str, Any]:
    after = _public({name: change[1] for name, change in entry.changes.items()}, world)
    if entry.verb == "created":
        return {"fields": {**after, "external_ref": None, "number": number, "code": code}}
    before = _public({name: change[0] for name, change in entry.changes.items()}, world)
    changes = {name: {"from": before[name], "to": value} for name, value in after.items()}
    return {"changes": changes} | ({"step": STEPS[after["status"]]} if entry.verb == "transitioned" else {})


def _events(package: data.Package, number: int, code: str, world: data.World) -> list[Event]:
    return [
        Event(
            id=entry.id,
            stream_type="package",
            stream_id=package.id,
            stream_version=version,
            project_id=world.projects[package.project],
            type=f"package.{entry.verb}",
            schema_version=1,
            # What is applied is what the log holds, key for key in its order.
            payload=json.loads(canonical(_payload(entry, number, code, world))),
            actor=Actor(f"person:{world.people[entry.person]}", data.person_name(entry.person)),
            occurred_at=entry.at,
        )
        for version, entry in enumerate(package.history, 1)
    ]


def add_packages(connection: psycopg.Connection[Any], packages: Sequence[data.Package]) -> None:
    """Append the packages' events and project them, as a superuser in one transaction; they get the next numbers."""
    world = data.world()
    known = dict(connection.execute("select project_id, last from state.package_number").fetchall())
    numbers: dict[int, int] = {project: known.get(world.projects[project], 0) for project in range(data.PROJECTS)}
    rows: list[tuple[Any, ...]] = []
    searchable: list[tuple[Any, ...]] = []
    events: list[Event] = []
    for package in packages:
        number = numbers[package.project] = numbers[package.project] + 1
        entity: Package | None = None
        caused = _events(package, number, data.code(package.project, number), world)
        for event in caused:
            entity = PACKAGES.apply(entity, event)
        if entity is not None:
            rows.append(PACKAGES.row(entity))
            searchable += PACKAGES.children(entity)[SEARCHABLE.table]
        events += caused
    columns = ("id", "version", "project_id", "doc", *PACKAGES.columns)
    tables = {"package": (columns, rows), SEARCHABLE.table: (SEARCHABLE.columns, searchable)}
    with connection.transaction():
        store(connection, events, tables)
        for project, last in numbers.items():
            connection.execute(
                "insert into state.package_number values (%s, %s) on conflict (project_id) "
                "do update set last = excluded.last",
                (world.projects[project], last),
            )


def store(
    connection: psycopg.Connection[Any],
    events: list[Event],
    tables: Mapping[str, tuple[Sequence[str], Sequence[tuple[Any, ...]]]],
) -> None:
    """Append events and put the rows that they make into the tables of state, as a superuser in one transaction."""
    # Positions follow time, as they would had each been appended at its moment.
    events.sort(key=lambda event: event.occurred_at)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("lock table ledger.event in exclusive mode")
        first = _reserve(cursor, len(events))
        cursor.execute("create temporary table fresh (like ledger.event) on commit drop")
        cursor.execute("alter table fresh drop column xid")
        _copy(cursor, f"fresh ({', '.join(EVENT_COLUMNS)})", _records(events, first))
        names = ", ".join(EVENT_COLUMNS)
        cursor.execute(
            f"insert into ledger.event ({names}, xid) select {names}, pg_current_xact_id() from fresh".encode()
        )
        for table, (columns, rows) in tables.items():
            _copy(cursor, f"state.{table} ({', '.join(columns)})", rows)


def _reserve(cursor: psycopg.Cursor[Any], count: int) -> int:
    """The first of so many positions that nobody else will get."""
    row = cursor.execute(
        "select setval('ledger.event_position', nextval('ledger.event_position') + %s)", (count,)
    ).fetchone()
    return int(row[0]) - count if row else 1


def _records(events: Iterable[Event], first: int) -> Iterable[tuple[Any, ...]]:
    """The columns of each event, hashed and chained."""
    heads: dict[uuid.UUID, bytes] = {}
    for position, event in enumerate(events, first):
        previous = heads.get(event.stream_id)
        record: dict[str, Any] = {
            "position": position,
            "id": str(event.id),
            "stream_type": event.stream_type,
            "stream_id": str(event.stream_id),
            "stream_version": event.stream_version,
            "project_id": str(event.project_id),
            "type": event.type,
            "schema_version": event.schema_version,
            "actor": event.actor.ref,
            "actor_name": event.actor.name,
            "on_behalf_of": None,
            "on_behalf_of_name": None,
            "source": "import",
            "correlation_id": "bench-seed",
            "causation_id": None,
            "occurred_at": f"{event.occurred_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "previous_hash": previous.hex() if previous else GENESIS,
            "payload": canonical(event.payload),
        }
        head = heads[event.stream_id] = event_hash({**record, "content_hash": ""})
        record["previous_hash"] = "\\x" + record["previous_hash"]
        record["content_hash"] = "\\x" + head.hex()
        yield tuple(record[column] for column in EVENT_COLUMNS)


def _copy(cursor: psycopg.Cursor[Any], into: str, rows: Iterable[Sequence[Any]]) -> None:
    with cursor.copy(f"copy {into} from stdin".encode()) as copy:
        for row in rows:
            copy.write_row(row)
