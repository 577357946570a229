"""The processes that do what was accepted: the worker, the relay, the schedule."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

    from pmis.kit.settings import Settings

app = typer.Typer()


def _logging(settings: Settings, process: str) -> None:
    from pmis.kit import faults, logs  # noqa: PLC0415 - see the package

    logs.configure(settings, process)
    faults.configure(settings, process)


def _until_told() -> threading.Event:
    """An event that is set by the signals that end a process."""
    stop = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return stop


def _connecting(settings: Settings, process: str) -> Callable[[], Connection[Any]]:
    """How the relay and the beat reach the database."""
    import psycopg  # noqa: PLC0415 - see the package

    def connect() -> Connection[Any]:
        connection = psycopg.connect(
            settings.relay_dsn, autocommit=True, connect_timeout=5, application_name=f"pmis {process}"
        )
        connection.execute("set role pmis_relay")
        return connection

    return connect


@app.command()
def worker(
    concurrency: int | None = typer.Option(
        None, min=1, max=64, help="How many jobs at a time. Default: WORKER_CONCURRENCY."
    ),
    queues: str | None = typer.Option(
        None,
        metavar="NAMES",
        help="Only jobs of these queues, comma-separated: prompt (mails to file, people to tell), post (mails that go "
        "out), outside (calls to webhooks), long (walks through everything), default (all others). Default: all.",
    ),
) -> None:
    """Do jobs in the foreground. Any number of workers may run; each queue needs one at least.

    A worker with `--queues prompt,default` beside one for all queues files mail and tells people while long work is
    done; `pmis up` runs these two.
    SIGTERM lets the jobs that run end within ten seconds, and gives back those that do not.
    """
    from pmis.jobs.broker import QUEUES  # noqa: PLC0415 - see the package
    from pmis.jobs.worker import serve  # noqa: PLC0415
    from pmis.kit import traces  # noqa: PLC0415
    from pmis.kit.settings import load_settings  # noqa: PLC0415
    from pmis.work import KINDS  # noqa: PLC0415

    wanted = tuple(dict.fromkeys(one.strip() for one in queues.split(","))) if queues is not None else QUEUES
    if not set(wanted) <= set(QUEUES):
        raise typer.BadParameter(f"Name one or more of {', '.join(QUEUES)}.", param_hint="--queues")
    settings = load_settings()
    settings.require_servable()
    _logging(settings, "worker")
    traces.configure(settings, "worker")
    raise typer.Exit(serve(settings, KINDS, concurrency=concurrency, queues=wanted))


@app.command()
def relay() -> None:
    """Hand accepted work to the workers, in the foreground. Any number of relays may run."""
    from pmis.jobs.broker import make_app, publisher  # noqa: PLC0415 - see the package
    from pmis.jobs.relay import Relay  # noqa: PLC0415
    from pmis.kit.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    _logging(settings, "relay")

    Relay(
        publisher(make_app(settings)),
        again_seconds=settings.job_republish_seconds,
        max_attempts=len(settings.job_retry_seconds) + 1,
    ).run(_connecting(settings, "relay"), _until_told())


@app.command()
def beat() -> None:
    """Keep the schedule, in the foreground. Any number of beats may run: each slot is taken once."""
    from pmis.jobs.beat import Beat  # noqa: PLC0415 - see the package
    from pmis.kit.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    _logging(settings, "beat")
    Beat().run(_connecting(settings, "beat"), _until_told())
