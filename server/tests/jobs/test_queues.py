"""Which job waits where, and that what takes long holds up nothing that somebody waits for."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.jobs.broker import DEFAULT, MOST_MESSAGES, PROMPT, QUEUES, Due, make_app, publisher, queue_name
from pmis.jobs.relay import WINDOW
from pmis.kit.ids import uuid7
from pmis.kit.settings import load_settings
from pmis.ops.up import _workers
from pmis.work import KINDS
from tests.builders import SECRET, make_world, opened
from tests.jobs.plant import wait_for
from tests.mail.post import Post, letter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from uuid import UUID

    from tests.conftest import TestDatabase
    from tests.jobs.plant import Plant

pytestmark = pytest.mark.anyio
WAITS_IN: Final = {
    "approvals.escalate": "long",
    "approvals.expire": "long",
    "approvals.remind": "long",
    "assistant.prune": "long",
    "invitations.expire": "long",
    "mail.file": "prompt",
    "memory.embed": "outside",
    "memory.upkeep": "long",
    "notify.approval": "prompt",
    "notify.invitation": "post",
    "notify.mail": "post",
    # As many at once as tasks climbed: each is short, and no mail is behind all of them.
    "notify.overdue": "default",
    "notify.prune": "long",
    "notify.refresh_reused": "post",
    "tasks.check_overdue": "long",
    "upkeep.prune": "long",
    "webhook.deliver": "outside",
}

SLOW: Final = 100.0
"""How long each job of the flood takes."""


def test_every_kind_waits_where_this_table_says(database: TestDatabase):
    assert WAITS_IN.keys() == {name for name in KINDS if not name.startswith("test.")}
    with psycopg.connect(database.relay_dsn, autocommit=True) as connection:
        found = {
            kind: queue
            for kind in [*WAITS_IN, "a.newer_one"]
            for (queue,) in connection.execute("select jobs.queue_of(%s)", (kind,))
        }
    assert found == {**WAITS_IN, "a.newer_one": DEFAULT}
    assert set(found.values()) <= set(QUEUES)
    assert {queue_name(queue) for queue in QUEUES} == {"pmis", "pmis.prompt", "pmis.post", "pmis.outside", "pmis.long"}
    assert queue_name("of a later version") == "pmis"


def test_a_full_queue_takes_nothing_from_the_others(make_database: Callable[[str], TestDatabase]):
    with psycopg.connect(make_database("queues").admin_dsn, autocommit=True) as admin:
        for kind in WAITS_IN:
            admin.execute(
                "insert into jobs.job (id, kind, payload, correlation_id) "
                "select gen_random_uuid(), %s, '{}', 'test' from generate_series(1, 100)",
                (kind,),
            )
        told = "select queue, count(*)::int, count(distinct id)::int from jobs.hand_out(32, 60) group by 1 order by 1"
        assert admin.execute(told).fetchall() == [
            ("default", 32, 32),
            ("long", 32, 32),
            ("outside", 2, 2),
            ("post", 32, 32),
            ("prompt", 32, 32),
        ]
        assert admin.execute(told).fetchall() == []
        admin.execute("select jobs.claim(id, 60, 'test') from jobs.job where kind = 'notify.mail'")
        admin.execute("update jobs.job set status = 'queued', lease_until = null where kind = 'upkeep.prune'")
        assert admin.execute("select count(*) from jobs.hand_out(32, 60)").fetchone() == (0,), "all others are full"


def test_a_queue_nobody_listens_to_does_not_fill_the_broker(plant: Plant):
    """It is told of its jobs again and again, as nobody claims them; the others are told of theirs all the same."""
    app = make_app(load_settings(embedded=False, redis_url=plant.valkey.url))
    tell = publisher(app)
    held = {queue_name(queue): 0 for queue in ("long", "prompt")}
    with app.connection_for_read() as connection:
        for _ in range(3 * MOST_MESSAGES // WINDOW):
            tell([Due(uuid7(), "upkeep.prune", "long", "test") for _ in range(WINDOW)])
            tell([Due(uuid7(), "mail.file", "prompt", "test"), Due(uuid7(), "upkeep.prune", "long", "test")])
        for name in held:
            held[name] = connection.default_channel.queue_declare(queue=name).message_count
    assert MOST_MESSAGES <= held["pmis.long"] < MOST_MESSAGES + WINDOW
    assert held["pmis.prompt"] == 3 * MOST_MESSAGES // WINDOW


def test_what_pmis_up_runs_does_so_many_at_a_time_and_keeps_half_for_the_prompt():
    for wanted, kept, others in ((2, 1, 1), (3, 1, 2), (8, 4, 4)):
        assert _workers(wanted) == {
            "worker": ("worker", "--concurrency", str(kept), "--queues", ",".join(PROMPT)),
            "worker-long": ("worker", "--concurrency", str(others)),
        }
    assert _workers(1) == {"worker": ("worker",)}


@asynccontextmanager
async def office_of(plant: Plant) -> AsyncGenerator[Post]:
    """What takes mails in, for workers of a plant to file."""
    async with opened(plant.database) as pool:
        yield Post.of(await make_world(pool), plant.folder)


async def taken_in(post: Post) -> UUID:
    return (await post.accept(letter(), post.at(post.world.prefix))).id


def is_filed(plant: Plant, mail: UUID) -> bool:
    text = "select count(*) from state.email where doc::json ->> 'inbound_id' = %s"
    return plant.all(text, (str(mail),)) == [(1,)]


def flood(plant: Plant) -> list[UUID]:
    """Long walks, and calls to receivers that take their time: more than there are processes."""
    kinds = ("tasks.check_overdue", "tasks.check_overdue", "webhook.deliver", "webhook.deliver")
    return [plant.accept(kind, seconds=SLOW) for kind in kinds]


MAIL: Final = {"MAIL_DOMAIN": "mail.test", "SECRET_KEY": SECRET}


@pytest.mark.parametrize("kept", [True, False], ids=["half kept free", "control: one worker for everything"])
async def test_a_mail_is_filed_while_long_work_is_done(plant: Plant, record_property: Any, kept: bool):
    """As many processes either way; only where one of them is kept free is the mail filed while the others are busy."""
    where = {**MAIL, "STORAGE_DIR": str(plant.folder / "objects")}
    plant.start("relay")
    if kept:
        plant.start("worker", "worker", **where, WORKER_CONCURRENCY="1", TEST_QUEUES=",".join(PROMPT))
    else:
        plant.start("worker", "worker", **where, WORKER_CONCURRENCY="2")
    async with office_of(plant) as post:
        first = await taken_in(post)
        wait_for(lambda: is_filed(plant, first), plant._logs, seconds=90)
        if kept:
            plant.start("worker", "worker-long", **where, WORKER_CONCURRENCY="1")
        slow = flood(plant)
        wait_for(lambda: plant.status(*slow).count("running") == (1 if kept else 2), plant._logs, seconds=90)
        began = time.monotonic()
        mail = await taken_in(post)
        if kept:
            wait_for(lambda: is_filed(plant, mail), plant._logs, seconds=SLOW / 2)
            took = time.monotonic() - began
            record_property("figure", f"a mail beside four jobs of {SLOW:g} s: filed after {took:.2f} s")
        else:
            await asyncio.sleep(8)
            assert not is_filed(plant, mail)
        assert "done" not in plant.status(*slow), "the long work went on meanwhile"
    for name in ("worker", "worker-long") if kept else ("worker",):
        plant.kill(name)
