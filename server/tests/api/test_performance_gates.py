"""Gates of speed that no busy machine can move: what the database is asked, not how long it takes.

Reads are called through the served application, every route of the table; PostgreSQL itself writes down what it was
asked, by which connection. `bench/` measures the same at size, beside a floor.
"""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio
import psycopg
import pytest
from fastapi.routing import APIRoute
from psycopg import sql

from pmis.api import resources
from pmis.api.app import create_app
from pmis.approval.propose import active_policy
from pmis.identity import watch
from pmis.kit import listing
from pmis.kit.db import Database, Reach, ReadSession
from tests.api.office import PREFIX, open_office, serving, settings_for
from tests.api.rows import ROWS, Place, Row
from tests.builders import make_member

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    import httpx2

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

READS: Final = [row for row in ROWS if row.method == "GET"]
MOST: Final = 2
"""Statements of a read. Where an answer holds sealed values one more opens them all: they are kept apart from the rows,
so that they can be erased, and are not remembered."""
EXPORTS: Final = {"/audit/export", "/exports/ocds/{reference}"}
"""Whole documents made of many tables, which leave an event of their own; they may count what they write."""
SUMS: Final = {"/assistant/usage"}
"""What is asked for are sums, of thirty days that an index bounds."""
MORE: Final = {
    "/audit/export": 10,  # one of them for the proofs of each batch of sealed events
    "/exports/ocds/{reference}": 5,
    "/audit/events/{event_id}/proof": 4,  # the event, the checkpoint, its leaf, the path from leaf to root
}
POOL: Final = 2
CROWD: Final = 64
STEPS: Final = 220
HOT: Final = 0.95
_ENTRY: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[(\d+)\] (?:\w+@(\w+) )?", re.MULTILINE)
_STATEMENT: Final = re.compile(r"LOG:  (?:execute [^:]*|statement): (.*)", re.DOTALL)
# Beginning and ending a transaction, saying how far it reaches, and reading on from a cursor that was opened by a
# statement, ask nothing new; nor does the listener of the process (`identity/watch.py`), which no request waits for.
_CONTROL: Final = re.compile(
    r"\s*(?:(?:begin|commit|rollback|start transaction|fetch|close|listen)\b"
    r"|select set_config\('pmis.reach', \$1, true\)(?:, transaction_timestamp\(\), null)?\s*$)",
    re.IGNORECASE,
)
_WRITING: Final = re.compile(r"\b(?:insert|update|delete|append_event)\b", re.IGNORECASE)
_SKIPPING: Final = re.compile(r"\boffset\b|\bcount\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A statement that reached the server, and over which connection."""

    connection: int
    text: str


class Log:
    """What PostgreSQL wrote down for one database."""

    def __init__(self, database: TestDatabase) -> None:
        """Everything from now on."""
        self.database = database
        self.path: Path = database.cluster.server.folder.parent / "postgres.log"
        self.place = self.path.stat().st_size

    def since(self) -> list[Asked]:
        """What was asked since the last time; the server writes a statement down before it answers it."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            text = file.read()
            self.place = file.tell()
        _, *parts = _ENTRY.split(text.decode(errors="replace"))
        found: list[Asked] = []
        for pid, name, entry in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            match = _STATEMENT.match(entry)
            if name == self.database.name and match and not _CONTROL.match(match[1]):
                found.append(Asked(int(pid), match[1].strip()))
        return found


@asynccontextmanager
async def written_down(office: Office) -> AsyncGenerator[tuple[httpx2.AsyncClient, Log]]:
    """The office's application once more, with everything written down that it asks."""
    name = sql.Identifier(office.test_database.name)
    with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} set log_statement = 'all'").format(name))
        try:
            app = create_app(settings_for(office.test_database, db_pool_size=POOL))
            async with serving(app) as client:
                # A pool of two is full from the beginning: no connection is made, and says so, while reads are judged.
                await app.state.parts.database.pool.wait()
                # Until it is told of changes, a process looks up everybody afresh.
                while not app.state.parts.watch.is_heard:  # noqa: ASYNC110 - a time, and no event, says so
                    await anyio.sleep(0.02)
                yield client, Log(office.test_database)
        finally:
            connection.execute(sql.SQL("alter database {} reset log_statement").format(name))


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls is known once they have called: on a slow machine a second is over within a request."""
    monkeypatch.setattr(watch, "FRESH_SECONDS", 3600.0)


def requests(office: Office, row: Row) -> Iterator[tuple[str, str]]:
    """Who gets through with a row, and the paths that it asks for."""
    who = min(row.may)
    states = [state for state in row.states if (row.path, state) != ("/exports/ocds/{reference}", "deleted")]
    for state in states if row.placed else ("",):
        place = Place(office.records["a"], office.a.prefix, state)
        path = row.path
        for name, value in row.fill.items():
            path = path.replace(f"{{{name}}}", value)
        path = re.sub(r"\{\w+\}", lambda _: place.ref(row.kind), path)  # noqa: B023 - called at once
        yield who, f"{path}?{row.query(place)}" if row.query else path


@dataclass
class Gates:
    """What reads are held to, and what they were seen to break."""

    office: Office
    client: httpx2.AsyncClient
    log: Log
    done: int = 0
    most: int = 0
    paths: set[str] = field(default_factory=set[str])
    connections: set[int] = field(default_factory=set[int])
    broken: list[str] = field(default_factory=list[str])

    async def read(self, who: str, row: Row, path: str) -> httpx2.Response:
        """One read, by somebody who is known already, and what it asked."""
        headers = self.office.headers(who)
        await self.client.get(f"{PREFIX}/auth/me", headers=headers)
        if row.path.startswith("/audit"):
            # That somebody reads the log is an event; it is written once for all that they read again.
            await self.client.get(PREFIX + path, headers=headers)
        self.log.since()
        answer = await self.client.get(PREFIX + path, headers=headers)
        self.judge(row, path, answer, self.log.since())
        return answer

    def judge(self, row: Row, path: str, answer: httpx2.Response, asked: list[Asked]) -> None:
        """Hold a read to the gates."""
        self.done += 1
        self.paths.add(row.path)
        # The log is exported over a connection of the auditor, who may read all of it.
        self.connections.update(one.connection for one in asked if row.path != "/audit/export")
        texts = [one.text for one in asked if "from ledger.vault " not in one.text]
        opened = len(asked) - len(texts)
        self.most = max(self.most, len(texts) if row.path not in MORE else 0)
        if len(texts) > MORE.get(row.path, MOST) or opened > 1:
            self.broken.append(f"{path} asks {len(texts)} times, and the vault {opened} times: {texts}")
        if row.path not in EXPORTS | SUMS:
            self.broken += [f"{path} counts or skips rows: {text}" for text in texts if _SKIPPING.search(text)]
            self.broken += [f"{path} writes: {text}" for text in texts if _WRITING.search(text)]
        expected = {200} if "?" not in path and not row.hopeless else {200, 400, 404, 409, 422}
        if answer.status_code not in expected:
            self.broken.append(f"{path}: {answer.status_code} {answer.text[:200]}")

    async def all(self) -> None:
        """Every row; of lists the second page too, and each parameter that a route describes."""
        for row in READS:
            for who, path in requests(self.office, row):
                answer = await self.read(who, row, path)
                body = answer.json() if answer.headers.get("content-type") == "application/json" else {}
                if not {"items", "next"} <= body.keys():
                    continue
                page = await self.read(who, row, with_query(path, "limit=1"))
                if page.json()["next"]:
                    await self.read(who, row, with_query(path, f"limit=1&cursor={page.json()['next']}"))
        described = self.office.app.openapi()["paths"]
        for row in {row.path: row for row in READS}.values():
            who, path = next(requests(self.office, row))
            for parameter in described[PREFIX + row.path]["get"].get("parameters", ()):
                for value in examples(parameter):
                    await self.read(who, row, f"{path.partition('?')[0]}?{parameter['name']}={quote(str(value))}")


def with_query(path: str, query: str) -> str:
    """The path with more said in its query."""
    return f"{path}{'&' if '?' in path else '?'}{query}"


def examples(parameter: dict[str, Any]) -> Iterator[Any]:
    """The values of a query parameter that its description names."""
    if parameter["in"] != "query" or parameter["name"] in ("cursor", "limit"):
        return
    yield from parameter.get("schema", {}).get("enum", ())
    if "example" in parameter:
        yield parameter["example"]


def served_reads(office: Office) -> set[str]:
    """Every route that reads, from the table that serves them."""
    return {
        route.path.removeprefix(PREFIX)
        for route in office.app.routes
        if isinstance(route, APIRoute) and route.path.startswith(f"{PREFIX}/") and "GET" in (route.methods or ())
    }


async def test_every_route_that_reads_has_a_row(office: Office):
    assert served_reads(office) == {row.path for row in READS}
    assert set(MORE) <= served_reads(office)


async def test_reads_ask_little_count_nothing_and_open_no_connection(
    furnished: Office, record_property: Callable[[str, object], None]
):
    async with furnished.database.read(Reach.INSTANCE) as session:
        await active_policy(session)  # parsed once in a process, and another database's may have come between
    async with written_down(furnished) as (client, log):
        gates = Gates(furnished, client, log)
        await gates.all()
    assert not gates.broken, "\n".join(gates.broken[:20])
    assert gates.paths == served_reads(furnished)
    # The floor of the gate: a log that is empty, or is not this database's, would break nothing either.
    assert gates.most == MOST
    assert 1 <= len(gates.connections) <= POOL
    figure = f"gates: {gates.done} reads of {len(gates.paths)} routes, at most {gates.most} statements, "
    record_property("figure", figure + f"{len(gates.connections)} connections")


async def crowd(office: Office, client: httpx2.AsyncClient, log: Log) -> tuple[set[int], set[int]]:
    """Many reads at once, twice over: the statuses, and the connections that were used."""
    statuses: set[int] = set()
    headers = office.headers("viewer")
    log.since()

    async def one() -> None:
        answer = await client.get(f"{PREFIX}/packages", headers=headers)
        statuses.add(answer.status_code)

    for _ in range(2):
        async with anyio.create_task_group() as group:
            for _ in range(CROWD):
                group.start_soon(one)
    return statuses, {asked.connection for asked in log.since()}


async def test_a_crowd_of_readers_shares_the_pool(furnished: Office):
    async with written_down(furnished) as (client, log):
        statuses, connections = await crowd(furnished, client, log)
    assert statuses == {200}
    assert 1 <= len(connections) <= POOL


async def test_an_inbox_of_several_projects_asks_no_more_than_one_of_one(make_database: Callable[[str], TestDatabase]):
    async with open_office(make_database("inbox")) as office:
        who = await office.newcomer("admin")
        async with office.database.write(Reach.INSTANCE) as session:
            await make_member(session, office.vault, office.b.project, office.person(who), "admin")
            await session.commit()
        waiting = {str((await world.waiting()).id) for world in (office.a, office.b)}
        async with written_down(office) as (client, log):
            gates = Gates(office, client, log)
            row = next(row for row in READS if row.path == "/approvals")
            answer = await gates.read(who, row, "/approvals?waiting_for=me")
    assert {one["id"] for one in answer.json()["items"]} == waiting
    assert not gates.broken, gates.broken


class TestReadControls:
    """What the gates are there for is seen by them."""

    ROW: Final = next(row for row in READS if row.path == "/packages")

    async def _broken(self, furnished: Office) -> list[str]:
        async with written_down(furnished) as (client, log):
            gates = Gates(furnished, client, log)
            await gates.read("viewer", self.ROW, "/packages")
        return gates.broken

    async def test_nothing_is_wrong_to_begin_with(self, furnished: Office):
        assert await self._broken(furnished) == []

    async def test_a_statement_for_each_row_is_seen(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        real = resources.page

        async def page(session: Any, *given: Any, **more: Any) -> Any:
            found = await real(session, *given, **more)
            for _ in found.docs:
                await session.one("select 1")
            return found

        monkeypatch.setattr(resources, "page", page)
        assert "asks" in (await self._broken(furnished))[0]

    @pytest.mark.parametrize("words", ["{} offset 0", "with n as materialized (select count(*) from state.package) {}"])
    async def test_counting_and_skipping_are_seen(self, furnished: Office, monkeypatch: pytest.MonkeyPatch, words: str):
        real = listing._statement
        monkeypatch.setattr(listing, "_statement", lambda *given: words.format(real(*given)))
        assert "counts or skips" in (await self._broken(furnished))[0]

    async def test_a_write_is_seen(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        real = resources.page

        async def page(session: Any, *given: Any, **more: Any) -> Any:
            await session.execute("update state.package set version = version where false")
            return await real(session, *given, **more)

        monkeypatch.setattr(resources, "page", page)
        assert "writes" in (await self._broken(furnished))[0]

    async def test_a_connection_for_each_request_is_seen(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        @asynccontextmanager
        async def read(self: Database, reach: Reach) -> AsyncGenerator[ReadSession]:
            options: Any = self.pool.kwargs
            connection = await self.pool.connection_class.connect(str(self.pool.conninfo), **options)
            async with connection:
                yield ReadSession(connection, reach)

        monkeypatch.setattr(Database, "read", read)
        monkeypatch.setattr(sys.modules[__name__], "CROWD", 5)
        async with written_down(furnished) as (client, log):
            statuses, connections = await crowd(furnished, client, log)
        assert statuses == {200}
        assert len(connections) > POOL


async def share_of_hot_updates(database: TestDatabase, *before: str) -> tuple[int, float]:
    """Submit many packages through the application; how many rows were updated, and the share that was HOT."""
    async with open_office(database) as office:
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            # Autovacuum's snapshots, of whichever table, hold back the pruning that makes room on a page: noise.
            for (name,) in connection.execute(
                "select oid::regclass::text from pg_class where relkind = 'r' and oid >= 16384"
            ).fetchall():
                connection.execute(f"alter table {name} set (autovacuum_enabled = false)".encode())
            for statement in before:
                connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
        world = office.a
        made = [await world.propose("operator", "package", "create", None, {"title": "A title"}) for _ in range(STEPS)]
        for outcome in made:
            path = f"/packages/{outcome.entities[0].id}/transitions"
            answer = await office.post("operator", path, {"status": "submitted"})
            assert answer.status_code == 200, answer.text
    return await told_updates(database)


async def told_updates(database: TestDatabase) -> tuple[int, float]:
    """The updates of packages that PostgreSQL tells of once every session of the application has ended."""
    query = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'state.package'::regclass"
    updates = hot = 0
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        for _ in range(300):
            updates, hot = connection.execute(query).fetchone() or (0, 0)
            if updates >= STEPS:
                break
            await anyio.sleep(0.1)
    assert updates >= STEPS
    return updates, hot / updates


async def test_changes_of_status_are_hot(
    make_database: Callable[[str], TestDatabase], record_property: Callable[[str, object], None]
):
    updates, share = 0, 0.0
    for number in range(3):  # the analysis of a catalog holds pruning back as well, and cannot be kept away
        updates, share = await share_of_hot_updates(make_database(f"hot_{number}"))
        if share >= HOT:
            break
    assert share >= HOT
    record_property("figure", f"gates: {updates} changes of status, {share:.1%} of them HOT")


async def test_the_control_an_index_on_what_changes_is_seen(make_database: Callable[[str], TestDatabase]):
    _, share = await share_of_hot_updates(make_database("cold"), "create index on state.package (version)")
    assert share < HOT
