"""T3: forty people at once say something to the same approval (R8, R9): one outcome, at most one application.

200 rounds under four rules of who must agree, with loans of seats in chains and circles, proposers that are people and
agents, people who say it several times, and records that move in between.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.approval import decide
from tests.model import planted
from tests.model.planted import Garden
from tests.races.sayings import QUORUMS, SAYINGS, open_hall

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import TestDatabase

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600), pytest.mark.no_cover]

ROUNDS: Final = 50
PROMISED: Final = 200
PLANTED_ROUNDS: Final = 30
REFUSALS: Final = {"own_change", "delegate_of_proposer", "not_an_approver", "not_a_person", "closed"}


def test_the_rounds_are_as_many_as_promised():
    assert ROUNDS * len(QUORUMS) >= PROMISED


@pytest.mark.parametrize("quorum", sorted(QUORUMS))
async def test_r8_r9_whatever_forty_people_say_at_once_it_ends_once(
    quorum: str, make_database: Callable[[str], TestDatabase], record_property: Callable[[str, object], None]
):
    began = time.perf_counter()
    async with open_hall(make_database("hall"), quorum) as hall:
        assert await hall.play(ROUNDS) == []
        assert await hall.replayed() == []
    # A race in which nobody wins, or nobody is refused, shows nothing.
    assert hall.outcomes["applied"] >= ROUNDS / 4
    assert len(hall.outcomes) > 2
    assert hall.refusals.keys() >= REFUSALS
    figure = (
        f"T3 {quorum}: {hall.rounds} rounds x {SAYINGS}, {dict(hall.outcomes)}, {time.perf_counter() - began:.1f} s"
    )
    record_property("figure", figure)


# --- positive controls: each breaks one promise, and the judge must see it ---


def no_locks(garden: Garden) -> None:
    """Nobody waits for anybody."""
    with psycopg.connect(garden.database.admin_dsn, autocommit=True) as connection:
        row = connection.execute("select pg_get_functiondef('ledger.lock_targets'::regproc)").fetchone()
        source, count = re.subn(r" for update", "", row[0] if row else "")
        assert count > 1, "the plant is stale: nothing is locked there"
        connection.execute(source)  # pyright: ignore[reportCallIssue, reportArgumentType]
    real = decide.visible_approval

    async def visible_approval(*given: Any, lock: bool = False) -> Any:
        del lock
        return await real(*given)

    garden.patch.setattr(decide, "visible_approval", visible_approval)


def unseen_drift(garden: Garden) -> None:
    """A record moves and its approvals do not hear of it."""
    planted.drift_ignored(garden)
    planted.void_lost(garden)


PLANTS: Final[dict[str, tuple[Callable[[Garden], None], str]]] = {
    "the proposer decides": (planted.proposer_approves, "three admins"),
    "their delegate decides": (planted.delegate_of_proposer_counts, "three admins"),
    "one person is counted twice": (planted.one_person_counts_twice, "three admins"),
    "one is enough": (planted.quorum_of_one, "any two and an executive"),
    "the order does not matter": (planted.order_ignored, "two admins, then two executives"),
    "loans that were taken back": (planted.taken_back_seats_count, "two admins, then two executives"),
    "an end that is none": (planted.approvals_apply_again, "one admin"),
    "a no that is none": (planted.rejected_goes_on, "three admins"),
    "drift that nobody sees": (unseen_drift, "one admin"),
    "no locks": (no_locks, "three admins"),
}


@pytest.mark.parametrize("plant", sorted(PLANTS))
async def test_the_control_a_planted_bug_is_seen(
    plant: str,
    make_database: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):
    put, quorum = PLANTS[plant]
    database = make_database("planted")
    async with open_hall(database, quorum) as hall:
        assert await hall.play(1) == []
        put(Garden(monkeypatch, database))
        found = await hall.play(PLANTED_ROUNDS)
    assert found, f"{plant}: not seen in {PLANTED_ROUNDS} rounds"
    record_property("figure", f"T3 control, {plant}: {found[0]}")
