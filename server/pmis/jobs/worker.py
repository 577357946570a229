"""`pmis worker`: Celery's processes, each with a runner of its own."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from celery import signals
from celery.worker import WorkController, state
from kombu.asynchronous import get_event_loop
from kombu.transport import redis as transport
from kombu.transport.virtual import base as virtual

from pmis.jobs.broker import GRACE_SECONDS, QUEUES, TASK, make_app, queue_name
from pmis.jobs.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.jobs.registry import Kind
    from pmis.kit.settings import Settings

log = logging.getLogger("pmis.worker")


class _Process:
    """What one process of the pool works with; made after the fork, as nothing connected may be shared."""

    runner: Runner | None = None


class _Message(virtual.Message):
    """A message whose acknowledgement or return, when it does not reach the broker, ends the connection.

    The library logs that and goes on. The message stays counted as one that this worker has, so that a worker that was
    busy with all it may have never asks the broker again, nor hears that it was gone: it stands still, for ever. A new
    connection begins to count anew, and the broker gives the message out again, which its job's row makes harmless.
    """

    def ack_log_error(
        self, logger: logging.Logger, errors: tuple[type[Exception], ...], multiple: bool = False
    ) -> None:
        try:
            self.ack(multiple=multiple)
        except errors as error:
            _end_connection(logger, error)

    def reject_log_error(
        self, logger: logging.Logger, errors: tuple[type[Exception], ...], requeue: bool = False
    ) -> None:
        try:
            self.reject(requeue=requeue)
        except errors as error:
            _end_connection(logger, error)


def _end_connection(logger: logging.Logger, error: Exception) -> None:
    """Raise the error where the connection is served, so that another one is made."""
    logger.warning("the broker did not hear that a job has ended; connecting again")
    hub: Any = get_event_loop()
    if hub is None:
        raise error

    def lose() -> None:
        hub.on_tick.discard(lose)
        raise error

    hub.on_tick.add(lose)


def make_worker(settings: Settings, kinds: Mapping[str, Kind[Any]]) -> Any:  # noqa: ANN401 - Celery has no types of its own
    """The Celery application with the one task there is."""
    app = make_app(settings)

    def begin(**_: object) -> None:
        _Process.runner = Runner(settings, kinds)

    def end(**_: object) -> None:
        if _Process.runner is not None:
            _Process.runner.close()

    def leave_logging_alone(**_: object) -> None:
        """Who handles this signal keeps Celery from setting up logging of its own."""

    for signalled, handle in (
        (signals.worker_process_init, begin),
        (signals.worker_process_shutdown, end),
        (signals.setup_logging, leave_logging_alone),
    ):
        cast("Any", signalled).connect(handle, weak=False)

    def do(identity: str) -> None:
        if _Process.runner is not None:
            _Process.runner.run(UUID(identity))

    app.task(do, name=TASK)
    cast("Any", transport.Channel).Message = _Message
    return app


def serve(
    settings: Settings,
    kinds: Mapping[str, Kind[Any]],
    *,
    concurrency: int | None = None,
    queues: Sequence[str] = QUEUES,
) -> int:
    """Do jobs of these queues until a signal ends it; the exit code.

    On SIGTERM or SIGINT no further job is begun; those that run have a while to end, and are given back after it.
    """
    # What Celery says of each message is said better by the runner.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    app = make_worker(settings, kinds)
    worker: Any = WorkController(
        app=app,
        pool="prefork",
        concurrency=concurrency or settings.worker_concurrency,
        queues=[queue_name(queue) for queue in queues],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=settings.log_level,
        hostname=f"pmis-{os.getpid()}@localhost",
    )

    def give_back() -> None:
        for pid in worker.pool.info["processes"]:
            log.info("process %s is told to give its job back", pid)
            os.kill(pid, signal.SIGTERM)

    def stop(_number: int, _frame: object) -> None:
        if state.should_stop is None:
            state.should_stop = 0
            timer = threading.Timer(GRACE_SECONDS, give_back)
            timer.daemon = True
            timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # What was loaded stays, and is shared by all processes of the pool as long as nobody looks through it again.
    gc.collect()
    gc.freeze()
    log.info("the worker does %s jobs at a time, of the queues %s", worker.concurrency, ", ".join(queues))
    worker.start()
    return int(worker.exitcode or 0)
