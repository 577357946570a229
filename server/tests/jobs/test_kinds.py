"""T18: every kind of job is run twice, and killed between its effect and its end; the second run changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.jobs.queue import enqueue
from pmis.jobs.registry import KINDS as REGISTERED
from pmis.jobs.registry import Kind, Payload, Work
from pmis.jobs.runner import Runner
from pmis.kit.ids import uuid7
from pmis.kit.settings import load_settings
from pmis.work import KINDS
from tests.builders import SECRET, make_world, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from uuid import UUID

    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
SLOT: Final = {"slot": "2026-11-22T00:00:00Z"}
# Everything that a job could have changed, but for jobs themselves.
_TRACES: Final = """
select (select count(*) from ledger.event), (select count(*) from ledger.outbox),
    (select count(*) from ledger.idempotency), (select count(*) from notify.notification),
    (select md5(string_agg(doc, '|' order by id)) from state.approval)
"""


@dataclass
class Bench:
    """A database of one's own, with everything in it that the kinds work on."""

    world: World
    database: TestDatabase

    def force(self, statement: str) -> None:
        """Let time have passed, which no test can wait for: rows are changed behind the log's back."""
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement.encode())

    async def traces(self) -> tuple[Any, ...]:
        async with self.world.read() as session:
            row = await session.one(_TRACES)
        assert row is not None
        return row

    async def accept(self, kind: str, payload: dict[str, Any]) -> UUID:
        async with self.world.database.write() as session:
            identity = enqueue(session, kind, payload, dedup=None, correlation_id="test")
            await session.commit()
        return identity

    async def attempt(self, kinds: Mapping[str, Kind[Any]], identity: UUID) -> str:
        """One attempt, as a process of a worker makes it."""
        settings = load_settings(
            database_url=self.database.app_dsn,
            database_worker_url=self.database.worker_dsn,
            secret_key=SECRET,
            job_retry_seconds="0,0,0",
        )
        runner = Runner(settings, kinds, own_loop=False)
        await runner.tools.database.open()
        try:
            return await runner.attempt(identity)
        finally:
            await runner.tools.database.close()


async def _expiring(bench: Bench) -> dict[str, Any]:
    await bench.world.waiting()
    bench.force("update state.approval set expires_at = now() - interval '1 hour' where status = 'pending'")
    return SLOT


async def _waiting(bench: Bench) -> dict[str, Any]:
    await bench.world.waiting()
    bench.force(
        'update state.approval set doc = regexp_replace(doc, \'"created_at":"\\d{4}\', \'"created_at":"2020\'), '
        "expires_at = null where status = 'pending'"
    )
    return SLOT


async def _kept_long(bench: Bench) -> dict[str, Any]:
    bench.force(
        "insert into ledger.idempotency (actor, key, fingerprint, created_at) "
        f"values ('person:x', '{uuid7().hex}', '', now() - interval '1 year')"
    )
    return SLOT


async def _told_long_ago(bench: Bench) -> dict[str, Any]:
    for age in ("1 year", "1 day"):
        bench.force(
            "insert into notify.notification (id, person_id, key, about, doc, created_at) "
            f"values ('{uuid7()}', '{uuid7()}', 'x', '{uuid7()}', '{{}}', now() - interval '{age}')"
        )
    return SLOT


async def _overdue(bench: Bench) -> dict[str, Any]:
    package = await bench.world.make_package()
    await bench.world.make_task(package.id, due_date="2026-11-16")
    return {"slot": "2026-11-20T00:00:00Z"}


ROWS: Final[dict[str, Callable[[Bench], Awaitable[dict[str, Any]]]]] = {
    "approvals.expire": _expiring,
    "approvals.escalate": _waiting,
    "approvals.remind": _waiting,
    "tasks.check_overdue": _overdue,
    "upkeep.prune": _kept_long,
    "notify.prune": _told_long_ago,
}
"""What each kind is given to do, and its payload."""
ELSEWHERE: Final = {
    "mail.file": ("tests/mail/test_filing.py", "test_filed_again_it_makes_nothing"),
    "notify.approval": ("tests/notify/test_notify.py", "test_a_waiting_one_is_told_once_to_each"),
    "notify.overdue": ("tests/notify/test_notify.py", "test_who_is_on_the_rung_is_told_once"),
    "webhook.deliver": (
        "tests/notify/test_webhooks.py",
        "test_delivered_again_it_is_the_same_message_and_once_noted_it_is_not_sent_again",
    ),
    "notify.refresh_reused": ("tests/notify/test_notify.py", "test_warned_again_it_is_the_same_warning"),
    "notify.mail": ("tests/notify/test_notify.py", "test_a_mail_that_was_sent_and_not_noted_is_the_same_mail_again"),
}
"""The kinds that another file runs twice, as they need what only that one has."""


@pytest.fixture
async def bench(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Bench]:
    database = make_database("kinds")
    async with opened(database) as pool:
        yield Bench(await make_world(pool), database)


def test_every_kind_has_a_row():
    assert {*ROWS, *ELSEWHERE} == {name for name in KINDS if not name.startswith("test.")}
    for path, name in ELSEWHERE.values():
        assert f"def {name}(" in (Path(__file__).resolve().parents[2] / path).read_text()
    assert KINDS is REGISTERED


@pytest.mark.parametrize("name", ROWS)
async def test_run_twice_and_killed_between_effect_and_end(bench: Bench, name: str):
    payload = await ROWS[name](bench)
    before = await bench.traces()
    kind = KINDS[name]

    async def killed(wanted: Payload, work: Work) -> None:
        """The whole effect, and then the process is gone: nothing ends the attempt but its lease."""
        await kind.run(wanted, work)
        message = "killed here"
        raise RuntimeError(message)

    first = await bench.accept(name, payload)
    assert await bench.attempt({name: Kind(name, kind.payload, killed)}, first) == "waiting"
    after = await bench.traces()
    assert after != before, f"{name} had nothing to do, so that doing it twice proves nothing"
    assert await bench.attempt(KINDS, first) == "done"
    assert await bench.traces() == after
    assert await bench.attempt(KINDS, await bench.accept(name, payload)) == "done"
    assert await bench.traces() == after
    assert await bench.attempt(KINDS, first) == "nothing to do"


async def test_control_a_job_that_does_it_anew_each_time_is_found(bench: Bench):
    payload = await ROWS["approvals.remind"](bench)
    kind = KINDS["approvals.remind"]

    async def careless(wanted: Payload, work: Work) -> None:
        async with work.write() as session:
            await session.execute("update ledger.outbox set key = key || ':' || %s", (str(work.job.id),))
            await session.commit()
        await kind.run(wanted, work)

    kinds = {kind.name: Kind(kind.name, kind.payload, careless)}
    counts: list[Any] = []
    for _ in range(2):
        bench.force("grant update on ledger.outbox to pmis_app")
        assert await bench.attempt(kinds, await bench.accept(kind.name, payload)) == "done"
        counts.append((await bench.traces())[1])
    assert counts[1] == counts[0] + 1
