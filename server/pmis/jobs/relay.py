"""Hands what was accepted to the workers: promises become jobs, due jobs become messages, lost ones are due again.

Everything is marked in a transaction that ends before the broker hears of it, and rows that another relay holds are
skipped, so that any number of relays may run. A broker that is down is not this process's end: nothing is lost by
waiting.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import psycopg

from pmis.jobs.broker import BROKER_ERRORS, Due
from pmis.jobs.topics import CONSUMERS, pairs
from pmis.kit import faults
from pmis.kit.errors import PmisError
from pmis.kit.logs import CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from threading import Event
    from typing import Any

    Connection = psycopg.Connection[tuple[Any, ...]]

log = logging.getLogger("pmis.relay")

WINDOW: Final = 64
"""How many jobs each queue of the broker holds at most: the rest waits in PostgreSQL, where waiting costs nothing."""
POLL_SECONDS: Final = 0.5
_BUSY_SECONDS: Final = 0.05
_BATCH: Final = 500
_LONGEST_PAUSE_SECONDS: Final = 5.0


class WorkerLostError(PmisError):
    """A worker was not heard of again, as often as a job may be tried."""

    code = "worker_lost"
    title = "The job's workers were lost"


class Relay:
    """One relay. `publish` tells the broker of jobs, and raises what BROKER_ERRORS names when it cannot."""

    def __init__(
        self,
        publish: Callable[[Sequence[Due]], None],
        *,
        again_seconds: float,
        max_attempts: int,
        window: int = WINDOW,
        consumers: Mapping[str, tuple[str, ...]] = CONSUMERS,
    ) -> None:
        """`again_seconds` after it was told of a job that nobody claimed, the broker is told again."""
        self._publish = publish
        self._again = again_seconds
        self._max_attempts = max_attempts
        self._window = window
        self._topics, self._kinds = pairs(consumers)
        self._pause = 0.0
        self._not_before = 0.0

    def step(self, connection: Connection) -> int:
        """Do what there is to do now; says how much that was. The connection commits each statement by itself."""
        row = connection.execute("select jobs.take_outbox(%s, %s, %s)", (self._topics, self._kinds, _BATCH)).fetchone()
        return (row[0] if row else 0) + self._sweep(connection) + self._tell(connection)

    def _sweep(self, connection: Connection) -> int:
        """Take back the jobs whose worker was not heard of again."""
        lost = connection.execute(
            "select id, kind, correlation_id, attempt, status from jobs.sweep_lost(%s, %s)",
            (self._max_attempts, _BATCH),
        ).fetchall()
        for identity, kind, correlation, attempt, status in lost:
            with _on_behalf_of(correlation):
                log.warning("%s %s attempt %s lost its worker", kind, identity, attempt)
                if status == "dead":
                    log.error("%s %s is a dead letter after %s attempts", kind, identity, attempt)
                    faults.report(WorkerLostError(f"The worker of {kind} {identity} was not heard of again."))
        return len(lost)

    def _tell(self, connection: Connection) -> int:
        if time.monotonic() < self._not_before:
            return 0
        rows = connection.execute(
            "select id, kind, queue, correlation_id from jobs.hand_out(%s, %s)", (self._window, self._again)
        )
        due = [Due(*row) for row in rows]
        if not due:
            return 0
        try:
            self._publish(due)
        except BROKER_ERRORS as error:
            self._pause = min(max(0.25, self._pause * 2), _LONGEST_PAUSE_SECONDS)
            self._not_before = time.monotonic() + self._pause
            log.warning("the broker takes no messages (%s); again in %.1f s", _first_line(error), self._pause)
            return 0
        if self._pause:
            log.info("the broker takes messages again")
        self._pause = 0.0
        for job in due:
            with _on_behalf_of(job.correlation_id):
                log.info("%s %s is handed to the workers", job.kind, job.id)
        return len(due)

    def run(self, connect: Callable[[], Connection], stop: Event) -> None:
        """Go on until `stop` is set; a lost database is waited for."""
        while not stop.is_set():
            try:
                with contextlib.closing(connect()) as connection:
                    connection.execute("listen pmis_jobs")
                    self._serve(connection, stop)
            except psycopg.Error as error:
                log.warning("the database did not answer the relay: %s", _first_line(error))
                stop.wait(1.0)

    def _serve(self, connection: Connection, stop: Event) -> None:
        busy_until = 0.0
        while not stop.is_set():
            if self.step(connection):
                busy_until = time.monotonic() + 1
            # While there is much to do it looks often; otherwise it is woken, and looks now and then all the same.
            pause = _BUSY_SECONDS if time.monotonic() < busy_until else POLL_SECONDS
            for _ in connection.notifies(timeout=pause, stop_after=1):
                pass


@contextlib.contextmanager
def _on_behalf_of(correlation_id: str) -> Generator[None]:
    """Lines that are logged inside carry the correlation id."""
    before = CORRELATION.set(correlation_id)
    try:
        yield
    finally:
        CORRELATION.reset(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
