"""A turn that is killed anywhere goes on in another process, and does nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.assistant.plan import Plan
from pmis.assistant.state import PLAN
from tests.api.office import open_office
from tests.assistant.talking import Talk, new, patch
from tests.builders import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pmis.assistant.plan import Named
    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
SEEDS: Final = 100


@pytest.fixture(scope="module")
async def office(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    """An office of its own: what hundreds of turns propose would wait for people of other tests, and spend budgets."""
    async with open_office(make_database("killed")) as office:
        yield office


@dataclass
class Runner:
    """Processes that answer messages, and kill themselves where they are told to."""

    talk: Talk
    process: subprocess.Popen[str]
    draft: Named
    waiting: Named

    def run(self, mark: str, at: int, *, forgets: bool = False) -> Any:
        """Answer a message under its key, killed `at` so many points on the way to PostgreSQL (0: not at all)."""
        changes = (
            new("package", self.talk.office.a.project, title=f"New {mark}"),
            patch(self.draft, description=mark),
            patch(self.waiting, description=mark),
        )
        task = {
            "dsn": self.talk.office.test_database.app_dsn,
            "secret": SECRET,
            "person": str(self.talk.office.person("analyst")),
            "query": mark,
            "plan": PLAN.dump_python(Plan("change", changes=changes), mode="json"),
            "at": at,
            "forgets": forgets,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(task), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def let_leases_end(self) -> None:
        """As if time had passed since the process died."""
        with psycopg.connect(self.talk.office.test_database.owner_dsn, autocommit=True) as connection:
            connection.execute("update chat.turn set lease_until = now() where status = 'running'")


@pytest.fixture
async def runner(talk: Talk) -> AsyncIterator[Runner]:
    draft, waiting = await talk.package("Draft"), await talk.package("Waiting")
    await talk.submit(waiting)
    with subprocess.Popen(  # noqa: ASYNC220 - each line waits for its answer
        [sys.executable, "-m", "tests.assistant.killing"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Runner(talk, process, draft, waiting)


def outcomes(told: Any) -> list[str]:
    return [change["outcome"] for change in told["answer"]["changes"]]


def effects(talk: Talk, mark: str) -> list[int]:
    """How often each of the three things was done."""
    with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
        row = connection.execute(
            "select count(*) filter (where type = 'package.created' and payload like %(new)s), "
            "count(*) filter (where type = 'package.patched' and payload like %(to)s), "
            "count(*) filter (where type = 'approval.created' and payload like %(mark)s) from ledger.event",
            {"new": f'%"title":"New {mark}"%', "to": f'%"to":"{mark}"%', "mark": f'%"description":"{mark}"%'},
        ).fetchone()
    return list(row or ())


async def test_killed_anywhere_it_is_done_once(talk: Talk, runner: Runner, record_property: Callable[[str, str], None]):
    whole = runner.run("whole", 0)
    assert outcomes(whole) == ["applied", "applied", "pending"]
    points = whole["points"]
    tries = killed = 0
    for seed in range(SEEDS):
        mark = f"seed-{seed}"
        # Evenly over all that goes to PostgreSQL, before and after each; some are killed again on the way back.
        for at in (1 + seed * points // SEEDS, *([1 + seed % 13] if seed % 3 == 0 else [])):
            # How many messages it takes to open connections differs: one that is nearly done may just be done.
            killed += runner.run(mark, at)["signal"] == signal.SIGKILL
            tries += 1
            runner.let_leases_end()
        after = runner.run(mark, 0)
        assert outcomes(after) == ["applied", "applied", "pending"], (seed, after)
        assert effects(talk, mark) == [1, 1, 1], seed
    assert killed >= 0.9 * tries
    record_property("figure", f"assistant: killed {killed} times at {points} points of a turn, each change made once")


async def test_the_control_without_the_keys_of_a_turn_something_is_done_twice(talk: Talk, runner: Runner):
    points = runner.run("control", 0, forgets=True)["points"]
    for at in range(points, 0, -1):
        mark = f"control-{at}"
        runner.run(mark, at, forgets=True)
        runner.let_leases_end()
        runner.run(mark, 0, forgets=True)
        if max(effects(talk, mark)) > 1:
            return
    pytest.fail("nothing was done twice, so the test beside this one shows nothing")
