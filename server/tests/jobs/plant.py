"""A whole job system for a test: a database, a Valkey of its own, and as many processes as asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg

from pmis.jobs.queue import ACCEPT, id_of
from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7
from pmis.ops.process import identity, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from uuid import UUID

    from pmis.ops.valkey import EmbeddedValkey
    from tests.conftest import TestDatabase

SECRET = "a secret of the tests that is long enough, 0123456789"
STOP = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
KILL = ((signal.SIGKILL, 5.0),)


@dataclass
class Plant:
    """`urls` are the logins by the setting's name. Logs are in `folder`."""

    folder: Path
    urls: Mapping[str, str]
    database: TestDatabase
    valkey: EmbeddedValkey
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _broker: subprocess.Popen[bytes] | None = None

    @property
    def admin_dsn(self) -> str:
        return self.database.admin_dsn

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "PMIS_"))}
        return {
            **kept,
            **self.urls,
            "PMIS_DATA_DIR": str(self.folder / "none"),
            "REDIS_URL": self.valkey.url,
            "SECRET_KEY": SECRET,
            "JWT_SECRET_KEY": SECRET[::-1],
            "JOB_RETRY_SECONDS": "0.3,0.3,0.3",
            "JOB_LEASE_SECONDS": "3",
            "JOB_REPUBLISH_SECONDS": "2",
            "PYTHONUNBUFFERED": "1",
            "PMIS_DEBUG": "1",
            **self.settings,
        }

    # --- processes ---

    def start_broker(self) -> int:
        self.valkey.prepare()
        with (self.folder / "valkey.log").open("ab") as log:
            self._broker = subprocess.Popen(self.valkey.command(parent=os.getpid()), stdout=log, stderr=log, cwd="/")
        wait_for(self.valkey.socket.exists, "Valkey's socket")
        return self._broker.pid

    def stop_broker(self, steps: Any = KILL) -> None:
        if self._broker is not None:
            stop(self._broker.pid, steps)
            self._broker.wait(10)
            self._broker = None

    def start(self, what: str, name: str | None = None, **settings: str) -> int:
        name = name or what
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("deeds.py")), what],
                env={**self.environment, **settings},
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self.processes[name] = process
        return process.pid

    def end(self, name: str, steps: Any = STOP) -> int:
        process = self.processes.pop(name)
        who = identity(process.pid)
        stop(process.pid, steps)
        code = process.wait(20)
        if who is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return code

    def kill(self, name: str) -> None:
        self.end(name, KILL)

    def children(self, name: str) -> list[int]:
        """The processes of a worker's pool."""
        pid = self.processes[name].pid
        found = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(one) for one in found.read_text().split()] if found.exists() else []

    def stop_all(self) -> None:
        for name in list(self.processes):
            self.end(name)
        self.stop_broker()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # --- jobs ---

    @contextmanager
    def connection(self, dsn: str | None = None) -> Generator[psycopg.Connection[Any]]:
        with psycopg.connect(dsn or self.admin_dsn, autocommit=True) as connection:
            yield connection

    def all(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with self.connection() as connection:
            return connection.execute(cast("LiteralString", statement), values).fetchall()

    def accept(self, kind: str, *, dedup: str | None = None, **payload: Any) -> UUID:
        """Accept a job as the application does."""
        with self.connection(self.urls["DATABASE_URL"]) as connection:
            identity = uuid7() if dedup is None else id_of(dedup)
            values = (identity, kind, dedup, None, canonical(payload), None, "test", None, None, None)
            connection.execute(ACCEPT, values)
            return identity

    def status(self, *jobs: UUID) -> list[str]:
        found = dict(self.all("select id, status from jobs.job where id = any(%s)", (list(jobs),)))
        return [found[job] for job in jobs]

    def wait_for_status(self, wanted: str, *jobs: UUID, seconds: float = 60) -> float:
        """Wait until all of them have the status; how long that took."""
        began = time.monotonic()
        wait_for(
            lambda: set(self.status(*jobs)) == {wanted},
            lambda: f"jobs to be {wanted}; they are {self.status(*jobs)[:20]}\n" + self._logs(),
            seconds=seconds,
        )
        return time.monotonic() - began

    def deeds(self) -> dict[UUID, int]:
        """How often each job took effect."""
        return dict(self.all("select job_id, count(*)::int from public.deed group by 1"))

    def attempts(self, job: UUID) -> list[str]:
        return [
            row[0] for row in self.all("select outcome from jobs.attempt where job_id = %s order by attempt", (job,))
        ]

    def _logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.folder.glob("*.log"))
        )


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str], *, seconds: float = 30) -> None:
    """Wait until something is so; fails, saying what was waited for."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds:g} s in vain for {told}")
        time.sleep(0.03)
