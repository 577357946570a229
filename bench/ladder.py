"""How long the overdue ladder takes for so many tasks: the job, the promises it makes, and telling the people.

Everything is as `pmis up` runs it: PostgreSQL with its durability, the job claimed and ended by a worker's runner. The
log is verified row by row afterwards by a replay of every escalation.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from rich.console import Console

from bench import data, database, seed_pmis
from pmis.jobs.queue import ACCEPT
from pmis.jobs.relay import Relay
from pmis.jobs.runner import Runner
from pmis.kit.db import Database, Reach
from pmis.kit.ids import uuid7
from pmis.kit.settings import load_settings
from pmis.ledger.event import Actor, Event
from pmis.ledger.replay import check
from pmis.ops import postgres as pg
from pmis.ops.migrate import upgrade_database
from pmis.task.escalation import ESCALATIONS
from pmis.task.noun import TASKS
from pmis.work import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

BAR_SECONDS: Final = 30.0
PACKAGES: Final = 200
TODAY: Final = date(2026, 11, 24)
NAME: Final = "pmis_ladder"
console = Console(highlight=False, soft_wrap=True)


def _tasks(packages: list[data.Package], count: int) -> Iterator[Event]:
    """Tasks that were due last month, each somebody's."""
    world, rng = data.world(), random.Random(data.SEED)
    at = datetime(2026, 6, 1, tzinfo=UTC)
    for number in range(count):
        package = packages[number % len(packages)]
        fields = {
            "package_id": str(package.id),
            "title": f"Task {number}",
            "status": "pending",
            "assignee_id": str(rng.choice(world.people)),
            "due_date": str(date(2026, 10, 1) + timedelta(days=number % 30)),
        }
        yield Event(
            id=uuid7(),
            stream_type="task",
            stream_id=uuid7(),
            stream_version=1,
            project_id=world.projects[package.project],
            type="task.created",
            schema_version=1,
            payload={"fields": fields},
            actor=Actor("system:bench", "Benchmark"),
            occurred_at=at,
        )


def _fill(cluster: database.Cluster, count: int) -> None:
    cluster.create(NAME)
    upgrade_database(cluster.url(NAME, pg.OWNER))
    seed_pmis.create_world(cluster.url(NAME, pg.APP))
    with cluster.connect(NAME) as connection:
        packages = list(data.packages(PACKAGES, drafts_only=True, since=datetime(2026, 1, 1, tzinfo=UTC)))
        seed_pmis.add_packages(connection, packages)
        events = list(_tasks(packages, count))
        entities = [TASKS.apply(None, event) for event in events]
        columns = ("id", "version", "project_id", "doc", *TASKS.columns)
        found = [row for entity in entities for row in TASKS.children(entity)["search"]]
        child = TASKS.child_tables[0]
        tables = {"task": (columns, [TASKS.row(entity) for entity in entities]), child.table: (child.columns, found)}
        seed_pmis.store(connection, events, tables)
        connection.execute("vacuum analyze")


def _accept(connection: psycopg.Connection[Any], day: date) -> UUID:
    identity = uuid7()
    slot = json.dumps({"slot": f"{day}T00:00:00Z"})
    values = (identity, "tasks.check_overdue", None, None, slot, None, "bench", None, None, None)
    connection.execute(ACCEPT, values)
    return identity


async def _differences(dsn: str) -> int:
    pool = Database(dsn, size=1)
    await pool.open()
    try:
        async with pool.snapshot(Reach.INSTANCE) as session:
            return len((await check(session, [ESCALATIONS])).differences)
    finally:
        await pool.close()


def measure(count: int) -> bool:
    """Measure, print, judge."""
    scratch = Path(tempfile.mkdtemp(prefix="pmis-bench-"))
    try:
        with database.start(scratch) as cluster:
            with console.status(f"filling a database with {count:,} overdue tasks"):
                _fill(cluster, count)
            settings = load_settings(
                database_url=cluster.url(NAME, pg.APP),
                database_worker_url=cluster.url(NAME, pg.WORKER),
                secret_key="for the bench only: " + "k" * 40,
            )
            runner = Runner(settings, KINDS)
            try:
                return _walks(cluster, runner, count)
            finally:
                runner.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _walks(cluster: database.Cluster, runner: Runner, count: int) -> bool:
    slowest = 0.0
    with cluster.connect(NAME) as connection:
        for day, rung in enumerate(("owner", "manager")):
            job = _accept(connection, TODAY + timedelta(days=day))
            cluster.settle()
            began = time.monotonic()
            outcome = runner.run(job)
            took = time.monotonic() - began
            slowest = max(slowest, took)
            row = connection.execute("select result from jobs.job where id = %s", (job,)).fetchone()
            climbed = json.loads(row[0])["escalated"] if row and row[0] else 0
            if (outcome, climbed) != ("done", count):
                console.print(f"error: the ladder was {outcome}, and took {climbed:,} tasks to the rung of the {rung}")
                return False
            told, spread = _tell(cluster, runner)
            console.print(
                f"{rung}: {count:,} tasks climbed in {took:.1f} s ({count / took:,.0f}/s); "
                f"{told:,} notifications in {spread:.1f} s more"
            )
    different = asyncio.run(_differences(cluster.url(NAME, pg.ADMIN)))
    bar = BAR_SECONDS * max(1, count / 100_000)
    kept = slowest < bar or count < 100_000
    console.print(f"replay: {different} differences; bar {bar:.0f} s for {count:,}: {'kept' if kept else 'BROKEN'}")
    return kept and not different


def _tell(cluster: database.Cluster, runner: Runner) -> tuple[int, float]:
    """The relay's and the worker's part of what was promised."""
    due: list[UUID] = []
    relay = Relay(lambda jobs: due.extend(job.id for job in jobs), again_seconds=600, max_attempts=4)
    began = time.monotonic()
    with psycopg.connect(cluster.url(NAME, pg.RELAY), autocommit=True) as connection:
        while relay.step(connection) or due:
            while due:
                runner.run(due.pop())
    took = time.monotonic() - began
    with cluster.connect(NAME) as connection:
        row = connection.execute("select count(*) from notify.notification").fetchone()
    return (row[0] if row else 0), took
