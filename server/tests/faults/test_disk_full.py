"""T8: a disk is full. Reads go on, writes are refused with a word when to come again, and all goes on by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults import disks
from tests.faults.client import LOST, PACKAGE, Writes
from tests.faults.post import Senders, account
from tests.faults.system import DOMAIN
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.client import Client
    from tests.faults.system import System

pytestmark = pytest.mark.slow
SMALL: Final = 160
"""Megabytes: the database as it is copied, and a little."""


def look(client: Client, statuses: dict[int, int]) -> int:
    try:
        status = client.ask("GET", "/packages?limit=5").status
    except LOST:
        status = 0
    statuses[status] = statuses.get(status, 0) + 1
    return status


def test_the_disk_of_the_database_is_full(
    make_system: Callable[..., System], room: Path, figure: Callable[[str], None]
) -> None:
    with disks.memory(room / "data", SMALL) as disk:
        # Segments of the log are kept, so that its disk is reserved, and the tables meet the end first.
        system = make_system(data=disk, extra={"max_wal_size": "48MB", "min_wal_size": "48MB"})
        try:
            system.start_postgres()
            system.start_api()
            client = system.client()
            token = client.sign_in()
            writes = Writes(system.api_port, token, system.one(PACKAGE), "t8", size=6_000)
            disks.fill(disk, 6_000)
            writes.begin(3)
            reads: dict[int, int] = {}
            wait_for(lambda: writes.refused.get(503, 0) >= 3 or bool(writes.wrong), system.told, seconds=90)
            full = time.monotonic()
            while time.monotonic() < full + 3:
                look(client, reads)
                time.sleep(0.05)
            acked = len(writes.acked)
            # Space again, and nothing is touched.
            (disk / "ballast").unlink()
            freed = time.monotonic()
            wait_for(lambda: len(writes.acked) > acked + 20 or bool(writes.wrong), system.told, seconds=60)
            recovered = writes.latest - freed
            writes.end()
            assert not writes.wrong, writes.wrong[:3]
            client.close()
            assert writes.account(system.all) == (set(), {})
            assert system.differences() == ""
            share = reads.get(200, 0) / sum(reads.values())
            assert share > 0.9, reads
        finally:
            system.stop_all()
    figure(
        f"T8: the database's disk full: {writes.refused[503]} writes answered 503 with Retry-After, {share:.0%} of "
        f"{sum(reads.values())} reads answered, writes go on within {recovered:.1f} s of there being space, "
        f"{len(writes.acked)} writes answered, 0 lost, 0 extra"
    )


def test_the_disk_of_the_mails_is_full(
    make_system: Callable[..., System], room: Path, figure: Callable[[str], None]
) -> None:
    """And so is the broker's: a relay that cannot tell the workers tells them later."""
    with disks.memory(room / "objects", 8) as disk, disks.memory(room / "broker", 16) as broker:
        system = make_system(valkey_folder=broker / "v")
        system.settings["STORAGE_DIR"] = str(disk / "objects")
        try:
            system.start_postgres()
            system.start_valkey()
            system.start("mail", "+listener", PMIS_TEST_MINE=str(system.folder / "mine"))
            system.start("relay", "relay")
            system.start("worker", "worker")
            system.start_api()
            system.wait_for_smtp()
            system.supervise()
            for one in (disk, broker):
                disks.fill(one, 0)
            client = system.client()
            client.sign_in()
            reads: dict[int, int] = {}
            senders = Senders(system, f"p@{DOMAIN}", "t8")
            plan = {"smtp": (10, 2), "webhook": (10, 2)}
            senders.begin(plan)
            wait_for(lambda: senders.again >= 12 or bool(senders.faults), system.told, seconds=180)
            while sum(reads.values()) < 20:
                look(client, reads)
            assert not senders.faults, senders.faults
            assert not senders.accepted, "taken, and nowhere kept"
            # Space for the mails, and none for the broker yet.
            (disk / "ballast").unlink()
            wait_for(lambda: not senders.sending, system.told, seconds=180)
            (broker / "ballast").unlink()
            freed = time.monotonic()
            ended = "select count(*) from jobs.job where kind = 'mail.file' and status in ('done', 'dead')"
            wait_for(lambda: system.one(ended) == 20, system.told, seconds=240)
            drained = time.monotonic() - freed
            client.close()
            found = account(system, list(senders.accepted), disk / "objects")
            assert (found.done, found.lost, found.doubled, found.without_raw) == (20, [], [], [])
            assert reads == {200: 20}
        finally:
            system.stop_all()
    figure(
        f"T8: the disks of mails and broker full: {senders.again} mails put off by 451 or 503, none taken and lost, "
        f"{reads[200]} of 20 reads answered, 20 of 20 mails done {drained:.1f} s after there was space"
    )
