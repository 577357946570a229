"""Attempts in a process of their own, as a worker's pool makes them, which can be killed at any point."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

from pmis.jobs.registry import Kind
from pmis.jobs.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pmis.jobs.registry import Payload, Work
    from pmis.kit.settings import Settings
    from tests.conftest import TestDatabase


_PATIENCE_SECONDS = 120.0


def killed_after(kind: Kind[Any]) -> dict[str, Kind[Any]]:
    """The kind, whose process is killed when everything it does is committed and nobody heard of that."""

    async def run(wanted: Payload, work: Work) -> None:
        await kind.run(wanted, work)
        kill()

    return {kind.name: Kind(kind.name, kind.payload, run)}


def kill() -> None:
    """The end of this process, which nothing in it can see coming."""
    os.kill(os.getpid(), signal.SIGKILL)


async def attempt(settings: Settings, kinds: Mapping[str, Kind[Any]], job: UUID) -> str:
    """What came of an attempt in a child: `killed` when the child was."""
    return await anyio.to_thread.run_sync(attempt_now, settings, kinds, job)


def attempt_now(settings: Settings, kinds: Mapping[str, Kind[Any]], job: UUID) -> str:
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Threads of this process hold nothing that the child uses: it opens connections and a loop of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.close(read)
            os.write(write, Runner(settings, kinds).run(job).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        if not select.select([told], [], [], _PATIENCE_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            message = f"the attempt said nothing in {_PATIENCE_SECONDS} s"
            raise AssertionError(message)
        outcome = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    assert outcome, "the child ended without a word"
    return outcome


_SERVER = str(Path(__file__).resolve().parents[2])
# What a fork of this process cannot do: the storage's threads are not in it.
_PROGRAM = """
import os, signal, sys
from uuid import UUID
from pmis.jobs.registry import Kind, Work
from pmis.jobs.runner import Runner
from pmis.kit.settings import load_settings
from pmis.work import KINDS

name, point, job = sys.argv[1:]
kind = KINDS[name]

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def killed(wanted, work):
    await kind.run(wanted, work)
    kill()

if point == "before":
    Work.finish = kill
print(Runner(load_settings(), {name: Kind(name, kind.payload, killed)}).run(UUID(job)))
"""


async def killed_elsewhere(environment: Mapping[str, str], name: str, point: str, job: UUID) -> str:
    """The same for a kind that keeps contents, killed `before` or `after` the commit of its effect."""
    done = await anyio.run_process(
        [sys.executable, "-P", "-c", _PROGRAM, name, point, str(job)],
        env={**os.environ, "PYTHONPATH": _SERVER, **environment},
        check=False,
        stdout=subprocess.PIPE,
        stderr=None,
    )
    return "killed" if done.returncode == -signal.SIGKILL else done.stdout.decode()


def sweep(database: TestDatabase, job: UUID) -> str:
    """Let the lease of a killed process run out, and the relay take its job back; the job's status before that."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        row = admin.execute("select status from jobs.job where id = %s", (job,)).fetchone()
        admin.execute("update jobs.job set lease_until = now() where id = %s and status = 'running'", (job,))
    with psycopg.connect(database.relay_dsn, autocommit=True) as relay:
        relay.execute("select id from jobs.sweep_lost(4, 100)")
    assert row is not None
    return row[0]
