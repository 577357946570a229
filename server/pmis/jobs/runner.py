"""Does jobs, in a process of its own: claim, keep the lease, work, end. What goes wrong ends the attempt, not this."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import psycopg

from pmis.jobs.registry import AttemptOverError, GiveUpError, Job, Tools, Work
from pmis.kit import faults, traces
from pmis.kit.canonical import canonical
from pmis.kit.clock import Clock
from pmis.kit.db import Database, Reach
from pmis.kit.errors import BusyError, PmisError, UnavailableError
from pmis.kit.logs import CORRELATION
from pmis.ledger.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from pmis.jobs.registry import Kind
    from pmis.kit.db import Row
    from pmis.kit.settings import Settings

log = logging.getLogger("pmis.worker")

_CLAIM: Final = (
    "select id, kind, project_id, acting, correlation_id, event_id, attempt, due_at, created_at, payload, "
    "forgiven, outside from jobs.claim(%s, %s, %s)"
)
_ATTEMPT_OVER: Final = "PM006"
_OUTSIDE_SECONDS: Final = (2.0, 4.0, 8.0, 16.0, 32.0, *(60.0,) * 6)
"""The waits after failures that are none of the job's own: a lost database or storage, a record that somebody else is
changing. Most are over within seconds, and together they outlast an outage of some minutes."""
_RECORDING_SECONDS: Final = 10.0
_POOL: Final = 3
_PACKAGE: Final = Path(__file__).resolve().parents[1]


class UnknownKindError(PmisError):
    """No function here does jobs of this kind; a newer worker may."""

    code = "unknown_job_kind"
    title = "Nobody does this kind of job"


class TookTooLongError(PmisError):
    """The attempt was ended because its time was up."""

    code = "job_took_too_long"
    title = "The job took too long"


def wait_before(failures: int, waits: Sequence[float], spread: Callable[[], float] = random.random) -> float:
    """How long to wait after so many failed attempts; a fifth more at random, so that they do not come all at once."""
    if not waits:
        return 0.0
    return waits[min(failures, len(waits)) - 1] * (1 + spread() / 5)


class Lease(threading.Thread):
    """Keeps one attempt's lease, on a connection of its own, however busy the job keeps its process.

    When the attempt is found to be over, `lost` is called, once, from this thread.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Row]], job: Job, seconds: float, lost: Callable[[], object]
    ) -> None:
        """Nothing is renewed before `start()`."""
        super().__init__(name="lease", daemon=True)
        self._connect = connect
        self._job = job
        self._seconds = seconds
        self._lost = lost
        self._ended = threading.Event()

    def run(self) -> None:
        """Renew the lease three times as often as needed, until `end()`."""
        while not self._ended.wait(self._seconds / 3):
            with contextlib.suppress(psycopg.Error), contextlib.closing(self._connect()) as connection:
                while True:
                    row = connection.execute(
                        "select jobs.renew(%s, %s, %s)", (self._job.id, self._job.attempt, self._seconds)
                    ).fetchone()
                    if row is None or not row[0]:
                        if not self._ended.is_set():
                            self._lost()
                        return
                    if self._ended.wait(self._seconds / 3):
                        return

    def end(self) -> None:
        """Stop renewing; what is under way is not waited for."""
        self._ended.set()


class Failures(NamedTuple):
    """How many attempts have failed if this one does: by the job's own fault, and by somebody else's."""

    own: int
    outside: int


def _outside(waits: Sequence[float]) -> Sequence[float]:
    """The same, none longer than the longest that the settings have; none where they have none."""
    return [min(one, max(waits)) for one in _OUTSIDE_SECONDS] if waits else waits


class Runner:
    """Does one job at a time, on an event loop and a pool of connections that live as long as the process."""

    def __init__(self, settings: Settings, kinds: Mapping[str, Kind[Any]], *, own_loop: bool = True) -> None:
        """Must be made in the process that does the jobs.

        Without `own_loop` the caller opens and closes the connections, on the loop on which it calls `attempt()`.
        """
        secret = settings.require_secret("secret_key")
        database = Database.of(settings, settings.worker_dsn, size=_POOL, role="pmis_worker")
        self.tools = Tools(settings, database, Vault(secret), Clock(settings.pmis_now))
        self._settings = settings
        self._kinds = kinds
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._loop = asyncio.new_event_loop() if own_loop else asyncio.get_running_loop()
        self._task: asyncio.Task[str] | None = None
        self._abandoned = False
        if own_loop:
            self._loop.run_until_complete(database.open())

    def close(self) -> None:
        """Close the connections, and send what spans are left."""
        traces.flush()
        self._loop.run_until_complete(self.tools.database.close())
        self._loop.close()

    def run(self, identity: UUID) -> str:
        """One attempt at a job; says what came of it: done, put off, waiting, dead, lost, returned, nothing to do."""
        self._task = self._loop.create_task(self.attempt(identity))
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            self._loop.add_signal_handler(signal.SIGTERM, self._told_to_stop)
        try:
            return self._loop.run_until_complete(self._task)
        finally:
            self._task = None
            if threading.current_thread() is threading.main_thread():
                self._loop.remove_signal_handler(signal.SIGTERM)
                signal.signal(signal.SIGTERM, before)

    def _told_to_stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def attempt(self, identity: UUID) -> str:
        """The same, for callers on the loop."""
        row = await self._claimed(identity)
        if row is None:
            return "nothing to do"
        *columns, payload, forgiven, outside = row
        job = Job(*columns)
        CORRELATION.set(job.correlation_id)  # of this attempt's task, which ends with it
        span = traces.begin("job", job.correlation_id)
        failures = Failures(job.attempt - forgiven, outside + 1)
        task = cast("asyncio.Task[str]", asyncio.current_task())
        self._abandoned = False
        lease = Lease(self._connect, job, self._settings.job_lease_seconds, lambda: self._abandon(task))
        lease.start()
        began = time.monotonic()
        try:
            outcome = await self._ended(job, payload, failures)
        except asyncio.CancelledError:
            if self._abandoned:
                outcome = "lost"
            else:
                await self._give_back(job)
                outcome = "returned"
        finally:
            lease.end()
        traces.end(
            span,
            job.kind,
            {"pmis.correlation_id": job.correlation_id, "pmis.job.attempt": job.attempt, "pmis.job.outcome": outcome},
            error=outcome if outcome in ("waiting", "dead") else None,
        )
        log.info("%s %s attempt %s: %s after %.2f s", job.kind, job.id, job.attempt, outcome, time.monotonic() - began)
        return outcome

    def _abandon(self, task: asyncio.Task[str]) -> None:
        """Called by the lease's thread: another worker may have the job, so this attempt is pointless."""

        def end() -> None:
            self._abandoned = True
            task.cancel()

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(end)

    async def _claimed(self, identity: UUID) -> Row | None:
        values = (identity, self._settings.job_lease_seconds, self._name)
        for tries in range(_POOL + 1):
            try:
                async with self.tools.database.write(Reach.INSTANCE) as session:
                    row = await session.one(_CLAIM, values)
                    await session.commit()
                    return row
            except UnavailableError:
                # A restarted server leaves dead connections in the pool: each is found out by its first use.
                if tries == _POOL:
                    raise
        return None

    async def _ended(self, job: Job, payload: str, failures: Failures) -> str:
        limit = self._settings.job_limit_seconds
        work = Work(self.tools, job)
        try:
            async with asyncio.timeout(limit):
                await self._worked(work, payload)
        except AttemptOverError:
            return "lost"
        except TimeoutError as error:
            late = TookTooLongError(f"It did not end within {limit} s.")
            return await self._failed(job, late if not str(error) else error, failures)
        except psycopg.Error as error:
            if error.sqlstate == _ATTEMPT_OVER:
                return "lost"
            return await self._failed(job, error, failures)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this attempt's, and is told
            return await self._failed(job, error, failures)
        return "put off" if work.is_put_off else "done"

    async def _worked(self, work: Work, payload: str) -> None:
        kind = self._kinds.get(work.job.kind)
        if kind is None:
            raise UnknownKindError(f"No function here does {work.job.kind} jobs; is this worker of an older version?")
        result = await kind.run(kind.parse(payload), work)
        if not work.is_finished:
            async with work.write() as session:
                work.finish(session, result)
                await session.commit()
            return
        async with self.tools.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                # One that was put off for a moment may be another worker's by now.
                "select from jobs.job where id = %s and attempt = %s and status = 'running'",
                (work.job.id, work.job.attempt),
            )
        if row is not None:
            message = f"{kind.name} said that it was finished, and did not commit that"
            raise RuntimeError(message)

    async def _failed(self, job: Job, error: Exception, failures: Failures) -> str:
        settings = self._settings
        # Somebody else's fault is tried again sooner and more often, and yet nothing is tried for ever.
        outside = isinstance(error, (UnavailableError, BusyError))
        waits = _outside(settings.job_retry_seconds) if outside else settings.job_retry_seconds
        values = (
            job.id,
            job.attempt,
            canonical(describe(error)),
            wait_before(failures.outside if outside else failures.own, waits),
            len(waits) + 1,
            isinstance(error, GiveUpError),
            outside,
        )
        log.warning("%s %s attempt %s failed", job.kind, job.id, job.attempt, exc_info=error)
        row = await self._record("select jobs.fail(%s, %s, %s, %s, %s, %s, %s)", values)
        outcome = str(row[0]) if row and row[0] else "lost"
        if outcome == "dead":
            log.error(
                "%s %s is a dead letter after %s attempts; `pmis job show` says why", job.kind, job.id, job.attempt
            )
        if outcome == "dead" or not isinstance(error, PmisError):
            # What the application foresees comes right by itself, or is reported when it did not.
            faults.report(error)
        return outcome

    async def _give_back(self, job: Job) -> None:
        await self._record("select jobs.give_back(%s, %s)", (job.id, job.attempt))

    async def _record(self, statement: str, values: Sequence[object]) -> Row | None:
        """Write down how an attempt ended, also when the database is about to come back; else the lease runs out."""
        until = time.monotonic() + _RECORDING_SECONDS
        while True:
            try:
                async with self.tools.database.write(Reach.INSTANCE) as session:
                    row = await session.one(statement, values)
                    await session.commit()
                    return row
            except UnavailableError:
                if time.monotonic() > until:
                    return None
                await asyncio.sleep(0.2)

    def _connect(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(
            self._settings.worker_dsn, autocommit=True, connect_timeout=5, application_name="pmis worker lease"
        )
        connection.execute("set role pmis_worker")
        return connection


def describe(error: BaseException) -> dict[str, Any]:
    """What to keep of an error: its kind, where it came from, and its words if they were made to be shown."""
    told: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, PmisError):
        told |= {"code": error.code, "message": error.detail}
    else:
        told["message"] = "PMIS did not expect this; the worker's log has the details."
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE):
            told["where"] = f"{path.relative_to(_PACKAGE.parent)}:{frame.lineno}"
            break
    return told
