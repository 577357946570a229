"""T18: every kind of job is run twice, and its process killed between its effect and the acknowledgement of its end.

The process is really gone (SIGKILL): what it did not commit it did not do, and what it did nobody was told of. The
second run changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
import pytest

from pmis.jobs.queue import enqueue
from pmis.jobs.registry import KINDS as REGISTERED
from pmis.jobs.registry import Kind, Work
from pmis.jobs.runner import Runner
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.kit.settings import load_settings
from pmis.work import KINDS
from tests.builders import SECRET, make_world, opened
from tests.jobs import killing
from tests.jobs.killing import killed_after
from tests.mail.post import AUTHSERV, DOMAIN, Post, letter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pmis.jobs.registry import Payload
    from pmis.kit.settings import Settings
    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
SLOT: Final = {"slot": "2026-11-22T00:00:00Z"}
# Everything that a job could have changed, but for jobs themselves.
_TRACES: Final = """
select (select count(*) from ledger.event), (select count(*) from ledger.outbox),
    (select count(*) from ledger.idempotency), (select count(*) from notify.notification),
    (select md5(string_agg(doc, '|' order by id)) from state.approval),
    (select md5(string_agg(doc, '|' order by id)) from state.email),
    (select md5(string_agg(content, '|' order by id)) from mail.inbound),
    (select count(*) from chat.conversation),
    (select count(*) from ledger.vault_key where wrapped is null),
    (select md5(string_agg(concat(memory_id, version, embedder), '|' order by memory_id)) from memory.vector)
"""
_ENDED: Final = frozenset({"mail.file", "memory.embed", "notify.approval", "notify.overdue"})
"""The kinds that end in the transaction of their effect: killed after it, they are done, and are not done again."""


@dataclass
class Bench:
    """A database of one's own, with everything in it that the kinds work on."""

    world: World
    database: TestDatabase
    folder: Path

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
        async with self.world.database.write(Reach.INSTANCE) as session:
            identity = enqueue(session, kind, payload, dedup=None, correlation_id="test")
            await session.commit()
        return identity

    @property
    def settings(self) -> Settings:
        return load_settings(
            database_url=self.database.app_dsn,
            database_worker_url=self.database.worker_dsn,
            secret_key=SECRET,
            job_retry_seconds="0,0,0",
            mail_domain=DOMAIN,
            mail_authserv_id=AUTHSERV,
            storage_dir=self.folder / "objects",
        )

    async def kill(self, name: str, point: str, identity: UUID) -> str:
        """An attempt in a child that is killed `before` or `after` the commit of its effect."""
        if name == "mail.file":
            environment = {
                "DATABASE_URL": self.database.app_dsn,
                "DATABASE_WORKER_URL": self.database.worker_dsn,
                "SECRET_KEY": SECRET,
                "MAIL_DOMAIN": DOMAIN,
                "MAIL_AUTHSERV_ID": AUTHSERV,
                "STORAGE_DIR": str(self.folder / "objects"),
            }
            return await killing.killed_elsewhere(environment, name, point, identity)
        if point == "after":
            return await killing.attempt(self.settings, killed_after(KINDS[name]), identity)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Work, "finish", lambda *_: killing.kill())
            return await killing.attempt(self.settings, KINDS, identity)

    async def attempt(self, kinds: Mapping[str, Kind[Any]], identity: UUID) -> str:
        """One attempt, as a process of a worker makes it."""
        runner = Runner(self.settings, kinds, own_loop=False)
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


async def _talked_long_ago(bench: Bench) -> dict[str, Any]:
    for age in ("2 years", "1 day"):
        bench.force(
            "insert into chat.conversation (id, person_id, title, created_at, touched_at) "
            f"values ('{uuid7()}', '{uuid7()}', 'x', now(), now() - interval '{age}')"
        )
    return SLOT


async def _remembered(bench: Bench) -> dict[str, Any]:
    package = str((await bench.world.make_package()).id)
    given = {"entity_type": "package", "entity_id": package, "kind": "context", "text": "A memory"}
    memory = await bench.world.do("memory", "create", None, given)
    return {"memory_id": str(memory.id), "version": 1}


async def _forgotten(bench: Bench) -> dict[str, Any]:
    memory = (await _remembered(bench))["memory_id"]
    await bench.world.do("memory", "delete", UUID(memory))
    bench.force('update state.memory set doc = regexp_replace(doc, \'"deleted_at":"\\d{4}\', \'"deleted_at":"2020\')')
    await _remembered(bench)
    return SLOT


async def _overdue(bench: Bench) -> dict[str, Any]:
    package = await bench.world.make_package()
    await bench.world.make_task(package.id, due_date="2026-11-16")
    return {"slot": "2026-11-20T00:00:00Z"}


async def _arrived(bench: Bench) -> dict[str, Any]:
    post = Post.of(bench.world, bench.folder)
    package = await bench.world.make_package()
    await bench.world.make_party(email="vendor@firm.example")
    return {"inbound_id": str((await post.accept(letter(), post.at(package.code))).id)}


async def _proposed(bench: Bench) -> dict[str, Any]:
    approval = await bench.world.waiting()
    return {"approval_id": str(approval.id)}


async def _climbed(bench: Bench) -> dict[str, Any]:
    assert await bench.attempt(KINDS, await bench.accept("tasks.check_overdue", await _overdue(bench))) == "done"
    async with bench.world.read() as session:
        rows = await session.all("select id from ledger.event where type = 'task.escalated'")
    return {"events": [str(row[0]) for row in rows]}


ROWS: Final[dict[str, Callable[[Bench], Awaitable[dict[str, Any]]]]] = {
    "mail.file": _arrived,
    "notify.approval": _proposed,
    "notify.overdue": _climbed,
    "approvals.expire": _expiring,
    "approvals.escalate": _waiting,
    "approvals.remind": _waiting,
    "tasks.check_overdue": _overdue,
    "upkeep.prune": _kept_long,
    "notify.prune": _told_long_ago,
    "assistant.prune": _talked_long_ago,
    "memory.embed": _remembered,
    "memory.upkeep": _forgotten,
}
"""What each kind is given to do, and its payload."""
ELSEWHERE: Final = {
    "webhook.deliver": (
        "tests/notify/test_webhooks.py",
        "test_delivered_again_it_is_the_same_message_and_once_noted_it_is_not_sent_again",
    ),
    "invitations.expire": (
        "tests/api/test_invitations.py",
        "test_past_its_time_it_is_not_good_and_is_ended_by_the_clock",
    ),
    "notify.invitation": ("tests/notify/test_notify.py", "test_an_invitation_that_is_mailed_again_is_the_same_mail"),
    "notify.refresh_reused": ("tests/notify/test_notify.py", "test_warned_again_it_is_the_same_warning"),
    "notify.mail": ("tests/notify/test_notify.py", "test_a_mail_that_was_sent_and_not_noted_is_the_same_mail_again"),
}
"""The kinds that another file runs twice and kills, as their effect is outside: it comes under the same id again."""


@pytest.fixture
async def bench(make_database: Callable[[str], TestDatabase], tmp_path: Path) -> AsyncIterator[Bench]:
    database = make_database("kinds")
    async with opened(database) as pool:
        yield Bench(await make_world(pool), database, tmp_path)


def test_every_kind_has_a_row():
    assert {*ROWS, *ELSEWHERE} == {name for name in KINDS if not name.startswith("test.")}
    for path, name in ELSEWHERE.values():
        assert f"def {name}(" in (Path(__file__).resolve().parents[2] / path).read_text()
    assert KINDS is REGISTERED


@pytest.mark.parametrize("name", ROWS)
async def test_run_twice_and_killed_between_effect_and_acknowledgement(bench: Bench, name: str):
    payload = await ROWS[name](bench)
    before = await bench.traces()
    first = await bench.accept(name, payload)
    assert await bench.kill(name, "after", first) == "killed"
    after = await bench.traces()
    assert after != before, f"{name} had nothing to do, so that doing it twice proves nothing"
    assert killing.sweep(bench.database, first) == ("done" if name in _ENDED else "running")
    assert await bench.attempt(KINDS, first) == ("nothing to do" if name in _ENDED else "done")
    assert await bench.traces() == after
    assert await bench.attempt(KINDS, await bench.accept(name, payload)) == "done"
    assert await bench.traces() == after
    assert await bench.attempt(KINDS, first) == "nothing to do"


@pytest.mark.parametrize("name", sorted(_ENDED))
async def test_killed_before_its_effect_is_committed_it_did_nothing_and_is_done_again(bench: Bench, name: str):
    """The other side of the commit: everything is said, nothing is done."""
    payload = await ROWS[name](bench)
    before, first = await bench.traces(), await bench.accept(name, payload)
    assert await bench.kill(name, "before", first) == "killed"
    assert await bench.traces() == before
    assert killing.sweep(bench.database, first) == "running"
    assert await bench.attempt(KINDS, first) == "done"
    assert await bench.traces() != before


async def test_control_a_job_that_does_it_anew_each_time_is_found(bench: Bench):
    """A reminder under a key that names the attempt: killed and run again it is given twice, and the traces say so."""
    payload = await ROWS["approvals.remind"](bench)
    kind = KINDS["approvals.remind"]

    async def careless(wanted: Payload, work: Work) -> None:
        async with work.write() as session:
            await session.execute("update ledger.outbox set key = key || ':' || %s", (str(work.job.attempt),))
            await session.commit()
        await kind.run(wanted, work)

    planted = Kind(kind.name, kind.payload, careless)
    bench.force("grant update on ledger.outbox to pmis_app")
    first = await bench.accept(kind.name, payload)
    assert await killing.attempt(bench.settings, killed_after(planted), first) == "killed"
    after = await bench.traces()
    assert killing.sweep(bench.database, first) == "running"
    assert await bench.attempt({kind.name: planted}, first) == "done"
    assert (await bench.traces())[1] == after[1] + 1
