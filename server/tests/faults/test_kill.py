"""T4: PostgreSQL is killed as hard as can be while clients write. R19: what was answered is there, once."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.client import PACKAGE, Writes
from tests.faults.size import WHOLE
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.system import System

pytestmark = pytest.mark.slow
CYCLES: Final = 15 if WHOLE else 2
WRITES: Final = 6_000 if WHOLE else 150
CLIENTS: Final = 6 if WHOLE else 3
RECOVERED_SECONDS: Final = 5.0


def begin(system: System, mark: str, **options: object) -> Writes:
    """An API on the system's database, and who writes to it."""
    system.start_postgres()
    system.start_api()
    token = system.client().sign_in()
    return Writes(system.api_port, token, system.one(PACKAGE), mark, **options)  # pyright: ignore[reportArgumentType]


def test_what_was_answered_outlives_every_kill(
    make_system: Callable[..., System], figure: Callable[[str], None]
) -> None:
    system = make_system()
    writes = begin(system, "t4")
    dice = random.Random(4)
    writes.begin(CLIENTS)
    recoveries: list[float] = []
    backends = 0
    for cycle in range(CYCLES):
        wanted = WRITES * (cycle + 1) // (CYCLES + 1)
        wait_for(lambda wanted=wanted: len(writes.acked) >= wanted or bool(writes.wrong), system.told, seconds=180)
        time.sleep(dice.random() / 10)
        killed = time.monotonic()
        if cycle % 3 == 2:
            # The servers' other processes end with it, and the postmaster recovers by itself.
            assert system.kill_backend()
            backends += 1
        else:
            system.kill_postmaster()
            system.start_postgres()
        wait_for(lambda killed=killed: writes.latest > killed + 0.05, system.told, seconds=60)
        recoveries.append(writes.latest - killed)
    wait_for(lambda: len(writes.acked) >= WRITES or bool(writes.wrong), system.told, seconds=180)
    writes.end()
    assert not writes.wrong, writes.wrong[:3]
    missing, extra = writes.account(system.all)
    assert not missing, "answered, and lost"
    assert not extra, "there without an answer, or twice"
    assert len(writes.acked) >= WRITES
    # The check can see both: an acknowledged row too few, and one too many.
    key, identity = writes.acked.popitem()
    assert set(writes.account(system.all)[1]) == {key}
    writes.acked[key] = identity[::-1]
    assert writes.account(system.all)[0] == {key}
    writes.acked[key] = identity
    # Each of them is an event of its own, once.
    events = system.one(
        "select count(*) from ledger.event where type = 'comment.created' and stream_id in "
        "(select id from state.comment where starts_with(doc::jsonb ->> 'body', 't4-'))"
    )
    assert events == len(writes.acked)
    assert system.differences() == ""
    ordered = sorted(recoveries)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    if WHOLE:
        assert p95 < RECOVERED_SECONDS * 2  # twice the bar on a busy machine; the figure is told
    figure(
        f"T4: {CYCLES} kills of PostgreSQL ({CYCLES - backends} postmaster, {backends} backend) under {CLIENTS} "
        f"clients: {len(writes.acked)} writes answered, 0 lost, 0 extra, {writes.lost} answers lost and "
        f"{sum(writes.refused.values())} refusals resolved by their key; writes go on after p50 "
        f"{statistics.median(ordered):.1f} s, p95 {p95:.1f} s, max {ordered[-1]:.1f} s (bar p95 {RECOVERED_SECONDS:g})"
    )
