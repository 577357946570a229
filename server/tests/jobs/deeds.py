"""Kinds of job for tests, and the processes that do them: `python -m tests.jobs.deeds worker|relay`.

A deed's effect is a row per run in `public.deed`, or one row per job: what was done, and how often, can be counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pmis.jobs.registry import KINDS, GiveUpError, Payload, job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pmis.jobs.registry import Work

TABLES = """
create table public.deed (job_id uuid not null, attempt int not null, at timestamptz default clock_timestamp());
create table public.deed_once (job_id uuid primary key);
grant select, insert on public.deed, public.deed_once to pmis_app;
"""


class Deed(Payload):
    n: int = 0
    seconds: float = 0.0
    fail_until: int = 0
    """Attempts before this one fail."""


async def _note(work: Work) -> None:
    """What an effect without any protection would be: one more row for each run."""
    async with work.write() as session:
        await session.execute(
            "insert into public.deed (job_id, attempt) values (%s, %s)", (work.job.id, work.job.attempt)
        )
        await session.commit()


@job("test.deed", Deed)
async def do_deed(deed: Deed, work: Work) -> Mapping[str, Any] | None:
    """The effect commits together with the end of the job."""
    if deed.seconds:
        await asyncio.sleep(deed.seconds)
    if work.job.attempt < deed.fail_until:
        message = "not yet"
        raise RuntimeError(message)
    async with work.write() as session:
        await session.execute(
            "insert into public.deed (job_id, attempt) values (%s, %s)", (work.job.id, work.job.attempt)
        )
        work.finish(session, {"n": deed.n})
        await session.commit()
    return None


@job("test.loose", Deed)
async def do_loose(deed: Deed, work: Work) -> None:
    """The positive control: an effect of its own, which nothing takes back or makes once."""
    await _note(work)
    await asyncio.sleep(deed.seconds)


@job("test.tell", Deed)
async def do_tell(deed: Deed, work: Work) -> None:
    for done in range(deed.n):
        await work.tell(done + 1, deed.n, f"step {done + 1}")
        await asyncio.sleep(deed.seconds)


@job("test.poison", Deed)
async def do_poison(_deed: Deed, work: Work) -> None:
    await _note(work)
    os.kill(os.getpid(), signal.SIGKILL)


@job("test.busy", Deed)
async def do_busy(deed: Deed, work: Work) -> None:
    """Holds its process without letting the event loop run."""
    await _note(work)
    until = time.monotonic() + deed.seconds
    while time.monotonic() < until:
        time.sleep(0.01)  # noqa: ASYNC251 - a job that behaves badly, on purpose


@job("test.hopeless", Deed)
async def do_hopeless(_deed: Deed, _work: Work) -> None:
    raise GiveUpError("It will never work.")


def _die_before_the_broker_hears(told: Path) -> None:
    """Each time that a job was done, and before its message is acknowledged, the process is killed."""
    from pmis.jobs.runner import Runner

    run = Runner.run

    def killed(self: Runner, identity: UUID) -> str:
        outcome = run(self, identity)
        with told.open("a") as log:
            log.write(f"{identity} {outcome}\n")
        if outcome == "done":
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    Runner.run = killed


def _tell_configuration(told: Path) -> None:
    """What the worker goes by once it is ready, as its own parts say."""
    import json
    from typing import cast

    from celery.worker import WorkController

    def ready(_: Any, sender: Any) -> None:
        conf = sender.app.conf
        channel = sender.connection.default_channel
        found = {name: conf[name] for name in conf if isinstance(conf[name], str | int | float | bool | list | None)}
        found |= {f"transport.{name}": value for name, value in conf.broker_transport_options.items()}
        connected = channel.pool.connection_kwargs
        found |= {f"connection.{name}": connected.get(name) for name in ("socket_timeout", "health_check_interval")}
        found |= {
            "channel.visibility_timeout": channel.visibility_timeout,
            "channel.unacked_restore_throttle": channel.unacked_restore_throttle,
            "consumer.prefetch_count": sender.qos.value,
            "pool": type(sender.pool).__module__,
            "pool.limit": sender.pool.limit,
            "pool.time_limit": sender.pool._pool.timeout,
            "queues": sorted(sender.app.amqp.queues.consume_from),
            "beat_schedule": dict(conf.beat_schedule),
        }
        told.write_text(json.dumps(found, default=str))

    cast("Any", WorkController).on_consumer_ready = ready


def _beat_often() -> None:
    from threading import Event

    import psycopg

    from pmis.jobs.beat import Beat
    from pmis.jobs.schedule import Every, Schedule

    dsn = os.environ["DATABASE_RELAY_URL"]
    Beat([Schedule("test.often", "test.tick", Every(1), "every")]).run(
        lambda: psycopg.connect(dsn, autocommit=True), Event()
    )


def main() -> None:
    import logging

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if sys.argv[1] == "worker":
        import pmis.mail.tasks  # pyright: ignore[reportUnusedImport] - the filing of mails, as it is
        import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
        from pmis.jobs.broker import QUEUES
        from pmis.jobs.registry import Kind
        from pmis.jobs.worker import serve
        from pmis.kit.settings import load_settings

        # A walk through everything that takes its time, and a receiver outside that does.
        slow = {name: Kind(name, Deed, do_deed) for name in ("tasks.check_overdue", "webhook.deliver")}
        queues = os.environ.get("TEST_QUEUES", ",".join(QUEUES)).split(",")
        if "TEST_KILLED" in os.environ:
            _die_before_the_broker_hears(Path(os.environ["TEST_KILLED"]))
        if "TEST_CONFIGURATION" in os.environ:
            _tell_configuration(Path(os.environ["TEST_CONFIGURATION"]))
        sys.exit(serve(load_settings(), {**KINDS, **slow}, queues=queues))
    if sys.argv[1] == "beat-often":
        _beat_often()
    sys.argv = ["pmis", *sys.argv[1:]]
    from pmis.cli.main import run

    run()


if __name__ == "__main__":
    main()
