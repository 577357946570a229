"""T1: the governed path against an independent model, on PostgreSQL, with everything checked after every step.

30,000 steps, in shards with fixed seeds so that workers share them; a shard that ran fewer than it promised fails. The
same machine must then find bugs that are planted, one at a time, each on a database of its own. Every change runs a few
shards and plants; `PMIS_TEST_LONG=1` runs all of them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from pmis.approval import propose
from tests.model.harness import Broken, Harness
from tests.model.machine import GovernedPath
from tests.model.planted import PLANTS, Garden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import TestDatabase

STEPS: Final = 30_000
SHARDS: Final = 20
PER_EXAMPLE: Final = 40
FIRST_SEED: Final = 7_000
PLANTED_STEPS: Final = 4_000
LONG: Final = os.environ.get("PMIS_TEST_LONG", "") not in ("", "0")
SHORT_SHARDS: Final = (8, 9)
SHORT_PLANTS: Final = (
    "actor_not_hashed",
    "applied_twice",
    "chain_broken",
    "comments_of_others",
    "decided_change_is_another",
    "outsiders_see_approvals",
    "row_goes_astray",
    "void_lost",
)

pytestmark = pytest.mark.timeout(900)


def walk(harness: Harness, first: int, steps: int, *, shrink: bool) -> None:
    """Examples until so many steps were taken; raises what the machine finds."""
    goal = harness.steps + steps
    number = first
    while harness.steps < goal:
        # Now and then a rule finds nothing to do, which is no step: hence the loop.
        examples = -(-(goal - harness.steps) // (PER_EXAMPLE - 8))
        config = settings(
            max_examples=examples,
            stateful_step_count=PER_EXAMPLE,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        )
        seed(number)(get_state_machine_test(GovernedPath, settings=config))()
        number += 1


def bring(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine use this harness."""
    monkeypatch.setattr(GovernedPath, "harness", harness, raising=False)
    monkeypatch.setattr(propose, "_after_hours", harness.after_hours)


@pytest.fixture(scope="session")
def model_database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("model")


@pytest.fixture
def harness(model_database: TestDatabase) -> Iterator[Harness]:
    made = Harness(model_database)
    yield made
    made.close()


@pytest.mark.parametrize("shard", range(SHARDS) if LONG else SHORT_SHARDS)
def test_everything_holds_after_every_step(
    shard: int,
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):
    bring(harness, monkeypatch)
    quota = STEPS // SHARDS
    began = time.perf_counter()
    walk(harness, FIRST_SEED + 100 * shard, quota, shrink=True)
    seconds = time.perf_counter() - began
    assert harness.steps >= quota
    assert quota * SHARDS >= STEPS
    told = f"seed {FIRST_SEED + 100 * shard}: {harness.steps} steps, {harness.steps / seconds:.0f} a second"
    record_property("figure", f"T1 {told}")


@pytest.mark.parametrize("name", sorted(PLANTS) if LONG else SHORT_PLANTS)
def test_a_planted_bug_is_found(
    name: str,
    make_database: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):
    database = make_database("planted")
    made = Harness(database)
    said: list[str] = []
    remember(monkeypatch, said)
    try:
        bring(made, monkeypatch)
        PLANTS[name](Garden(monkeypatch, database))
        with pytest.raises(BaseException) as caught:
            walk(made, FIRST_SEED, PLANTED_STEPS, shrink=False)
    finally:
        made.close()
    refused = [one for one in leaves(caught.value) if isinstance(one, psycopg.Error)]
    assert said or refused, f"something else broke: {caught.value!r}"
    how = said[0] if said else f"the database: {str(refused[0]).splitlines()[0]}"
    record_property("figure", f"T1 planted {name}: found after {made.steps} steps ({how[:90]})")


def remember(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Keep what the checks say, as Hypothesis wraps it differently from case to case."""

    class Told(Broken):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            said.append(str(words[0]))

    monkeypatch.setattr("tests.model.harness.Broken", Told)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in an error."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [
        error,
        *(leaves(error.__cause__) if error.__cause__ else ()),
        *(leaves(error.__context__) if error.__context__ else ()),
    ]
