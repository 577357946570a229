"""T5: the power is cut. What was answered is on the disk, not only on its way there (R19).

The database lies on an ext4 image. Its processes are stopped where they are, and the image is copied: what the system
had not written to it by then is not in the copy, as after a power cut. The copy is mounted, and recovers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.ops import postgres as pg
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import EmbeddedServerError, stop, working_in
from tests.faults import disks
from tests.faults.client import PACKAGE, Writes
from tests.faults.size import WHOLE
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.faults.system import System

pytestmark = pytest.mark.slow
CUTS: Final = 4 if WHOLE else 1
WRITES: Final = 150 if WHOLE else 30
"""Before each cut."""
MEGABYTES: Final = 320


@contextlib.contextmanager
def still(system: System) -> Generator[None]:
    """Every process of the server stands still."""
    assert system.postmaster
    pids = set(working_in(system.postgres.folder))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def after_the_cut(system: System, copy: Path, room: Path, writes: Writes, acked: dict[str, str]) -> set[str] | None:
    """Which of the acknowledged writes a server on the copy does not have; None when there is no server to be had."""
    with disks.mounted(copy, room / "after") as place:
        sockets = room / "s"
        sockets.mkdir(exist_ok=True)
        pg.own(sockets, system.postgres.user)
        server = EmbeddedPostgres(
            place / "postgres", sockets, system.seed.passwords, user=system.postgres.user, copies=system.seed.copies
        )
        # The lock file names the stopped server, which works in another folder.
        (place / "postgres" / "postmaster.pid").unlink(missing_ok=True)
        server.prepare()
        try:
            pid = server.start(room / "after.log")
        except EmbeddedServerError:
            return None
        try:

            def rows(statement: Any, values: Any) -> list[tuple[Any, ...]]:
                with psycopg.connect(server.url(pg.ADMIN), autocommit=True) as connection:
                    return connection.execute(statement, values).fetchall()

            try:
                then = Writes(0, "", "", writes.mark, acked=acked)
                return then.account(rows)[0]
            except psycopg.Error:
                return None
        finally:
            stop(pid, ((signal.SIGINT, 20.0), (signal.SIGKILL, 5.0)))
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def cuts_of(system: System, image: Path, room: Path, cuts: int) -> list[tuple[int, set[str] | None]]:
    """Cut the power so many times, under writes: how many were acknowledged, and which of them are missing."""
    system.start_postgres()
    system.start_api()
    token = system.client().sign_in()
    writes = Writes(system.api_port, token, system.one(PACKAGE), "t5", patience=60)
    # What the start wrote has reached the disk long ago, where an installation runs.
    os.sync()
    writes.begin(3)
    found: list[tuple[int, set[str] | None]] = []
    for number in range(cuts):
        wanted = len(writes.acked) + WRITES
        wait_for(lambda wanted=wanted: len(writes.acked) >= wanted or bool(writes.wrong), system.told, seconds=90)
        with still(system):
            time.sleep(0.05)
            acked = dict(writes.acked)
            copy = room / f"cut-{number}.img"
            subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
        found.append((len(acked), after_the_cut(system, copy, room, writes, acked)))
        copy.unlink()
    writes.end()
    assert not writes.wrong, writes.wrong[:3]
    return found


@contextlib.contextmanager
def on_a_disk(
    make_system: Callable[..., System], room: Path, name: str, **extra: str
) -> Generator[tuple[System, Path]]:
    image = room / f"{name}.img"
    disks.make_image(image, MEGABYTES)
    with disks.mounted(image, room / name) as place:
        system = make_system(data=place, extra={"max_wal_size": "64MB", **extra})
        try:
            yield system, image
        finally:
            system.stop_all()
    image.unlink()


def test_what_was_answered_outlives_a_power_cut(
    make_system: Callable[..., System], room: Path, figure: Callable[[str], None]
) -> None:
    with on_a_disk(make_system, room, "safe") as (system, image):
        found = cuts_of(system, image, room, CUTS)
    assert all(missing == set() for _, missing in found), found
    figure(
        f"T5: {CUTS} power cuts, {found[-1][0]} writes answered before the last, 0 lost"
        + ("" if WHOLE else " (controls with --faults)")
    )


@pytest.mark.skipif(not WHOLE, reason="a part of `pmis test --faults`")
@pytest.mark.parametrize("unsafe", [{"synchronous_commit": "off", "wal_writer_delay": "2s"}, {"fsync": "off"}])
def test_control_unsafe_settings_lose(
    make_system: Callable[..., System], room: Path, figure: Callable[[str], None], unsafe: dict[str, str]
) -> None:
    with on_a_disk(make_system, room, "unsafe", **unsafe) as (system, image):
        found = cuts_of(system, image, room, 2)
    lost = [len(missing) if missing is not None else acked for acked, missing in found]
    assert all(lost), "the method would not see a loss"
    name = next(iter(unsafe))
    figure(f"T5 control, {name}=off: {' and '.join(map(str, lost))} answered writes lost in two cuts")
