"""T1: the governed path against an independent model, on PostgreSQL, with everything checked after every step.

30,000 steps, in shards with fixed seeds so that workers share them; a shard that ran fewer than it promised fails. The
same machine must then find bugs that are planted, one at a time, each on a database of its own. `PMIS_TEST_LONG=1`
walks as far as a release does: 250,000 steps.
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
from tests.model.planted import PLANTS, WHERE, Garden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import TestDatabase

LONG: Final = os.environ.get("PMIS_TEST_LONG", "") not in ("", "0")
SHARDS: Final = 160 if LONG else 20
STEPS: Final = 250_000 if LONG else 30_000
PER_EXAMPLE: Final = 30
FIRST_SEED: Final = 7_000
PLANTED_STEPS: Final = 6_000

# Coverage would make the walk a third slower, and these lines are covered by tests that say what they test.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]


def walk(harness: Harness, first: int, steps: int, *, shrink: bool) -> None:
    """Examples until so many steps were taken; raises what the machine finds."""
    goal = harness.steps + steps
    number = first
    while harness.steps < goal:
        # A move may take several steps, or none where it finds nothing to do: hence the loop. It seldom turns twice, as
        # the first example of each turn is the dullest there is.
        examples = 1 + (goal - harness.steps) // (PER_EXAMPLE * 3 // 2)
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


@pytest.mark.parametrize("shard", range(SHARDS))
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


@pytest.mark.parametrize("name", sorted(PLANTS))
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
        if name in WHERE:
            monkeypatch.setattr(GovernedPath, "favoured", WHERE[name].moves)
            monkeypatch.setattr(GovernedPath, "given", WHERE[name].rules)
        PLANTS[name](Garden(monkeypatch, database))
        with pytest.raises(BaseException) as caught:
            walk(made, FIRST_SEED, PLANTED_STEPS, shrink=False)
    finally:
        made.close()
    refused = [one for one in leaves(caught.value) if isinstance(one, psycopg.Error)]
    if not said and not refused:
        raise caught.value
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
    """The errors in an error, each once."""
    found: list[BaseException] = []
    ahead = [error]
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.append(one)
            ahead += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            ahead += [another for another in (one.__cause__, one.__context__) if another is not None]
    return found
