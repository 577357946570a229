"""Fill the floor's database: the same packages, people and history as PMIS gets, by COPY."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from bench import data, floor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

FIELDS = (
    "package_type", "title", "description", "status", "owner_id", "vendor_id", "amount", "currency",
    "planned_start", "planned_end", "actual_start", "actual_end", "data",
)  # fmt: skip


def _public(fields: dict[str, Any], world: data.World) -> dict[str, Any]:
    """The fields under the names that the API gives them."""
    shown = dict(fields)
    for name, ids in (("owner", world.people), ("vendor", world.vendors)):
        if name in shown:
            index: int | None = shown.pop(name)
            shown[f"{name}_id"] = None if index is None else str(ids[index])
    return shown


def _sequence(project: int) -> str:
    return f"number_{data.project_prefix(project).lower()}"


def create_schema(connection: psycopg.Connection[Any], token: str) -> None:
    """Tables, people and projects; the token's person is an admin of every project."""
    world = data.world()
    connection.execute(floor.SCHEMA)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into project values (%s, %s, %s)",
            [
                (p, data.project_prefix(i), f"Programme {data.WORDS[i + 20].capitalize()}")
                for i, p in enumerate(world.projects)
            ],
        )
        cursor.executemany(
            "insert into person values (%s, %s)", [(p, data.person_name(i)) for i, p in enumerate(world.people)]
        )
        cursor.executemany(
            "insert into membership values (%s, %s, 'admin')", [(world.people[0], p) for p in world.projects]
        )
    connection.execute("insert into token values (%s, %s)", (hashlib.sha256(token.encode()).digest(), world.people[0]))
    for project in range(data.PROJECTS):
        connection.execute(f"create sequence {_sequence(project)}".encode())


def add_packages(connection: psycopg.Connection[Any], packages: Iterable[data.Package]) -> None:
    """Copy packages with their history; they get the next numbers of their projects."""
    world = data.world()
    numbers = {project: _last_number(connection, project) for project in range(data.PROJECTS)}
    rows: list[Sequence[Any]] = []
    searchable: list[Sequence[Any]] = []
    audit: list[Sequence[Any]] = []
    for package in packages:
        number = numbers[package.project] = numbers[package.project] + 1
        code, project = data.code(package.project, number), world.projects[package.project]
        shown = _public(package.fields, world)
        shown["data"] = orjson.dumps(shown["data"]).decode()
        rows.append(
            (package.id, package.version, project, code, number, *(shown[name] for name in FIELDS),
             package.created_at, package.updated_at)
        )  # fmt: skip
        searchable.append((package.id, project, f"{code} {shown['title']} {shown['description']}"))
        for version, entry in enumerate(package.history, 1):
            payload = orjson.dumps(_payload(entry, world)).decode()
            audit.append(
                (entry.id, package.id, version, project, f"package.{entry.verb}",
                 f"person:{world.people[entry.person]}", data.person_name(entry.person), "import", "bench-seed",
                 entry.at, payload)
            )  # fmt: skip
    with connection.transaction(), connection.cursor() as cursor:
        _copy(
            cursor,
            f"package (id, version, project_id, code, number, {', '.join(FIELDS)}, created_at, updated_at)",
            rows,
        )
        cursor.execute("create temporary table searchable (id uuid, project uuid, body text) on commit drop")
        _copy(cursor, "searchable", searchable)
        cursor.execute("insert into package_search select id, project, to_tsvector('simple', body) from searchable")
        _copy(cursor, floor.AUDIT.strip().removeprefix("insert into "), audit)
        for project, number in numbers.items():
            if number:
                cursor.execute("select setval(%s, %s)", (_sequence(project), number))


def _payload(entry: data.Entry, world: data.World) -> dict[str, Any]:
    after = _public({name: change[1] for name, change in entry.changes.items()}, world)
    if entry.verb == "created":
        return {"fields": after}
    before = _public({name: change[0] for name, change in entry.changes.items()}, world)
    return {"changes": {name: {"from": before[name], "to": value} for name, value in after.items()}}


def _last_number(connection: psycopg.Connection[Any], project: int) -> int:
    statement = f"select last_value - (not is_called)::integer from {_sequence(project)}"
    row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def _copy(cursor: psycopg.Cursor[Any], into: str, rows: Iterable[Sequence[Any]]) -> None:
    with cursor.copy(f"copy {into} from stdin".encode()) as copy:
        for row in rows:
            copy.write_row(row)
