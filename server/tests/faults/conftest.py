"""The size of the fault suites, and a system for each test."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.disks import require_mounts
from tests.faults.size import ALL, WHOLE, show
from tests.faults.system import Seed, System

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count(1)
SUITES = {
    "test_kill.py": "T4",
    "test_power.py": "T5",
    "test_pipeline.py": "T6",
    "test_lost_answers.py": "T7",
    "test_disk_full.py": "T8",
}
_told: set[str] = set()
_skipped: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """At their whole size they take what they take."""
    for item in items:
        if WHOLE and "faults" in item.path.parts:
            item.add_marker(pytest.mark.timeout(1200))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember which suites told a figure, and why others did not."""
    suite = SUITES.get(Path(report.location[0]).name)
    if suite is None:
        return
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped[suite] = report.longrepr[2]
    if report.when == "call" and any(name == "figure" for name, _ in report.user_properties):
        _told.add(suite)


def _missing() -> list[str]:
    return [suite for suite in SUITES.values() if suite not in _told and suite not in _skipped]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A suite that ran nothing fails the run that promised all of them."""
    if ALL and _missing():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not WHOLE:
        return
    for suite, why in sorted(_skipped.items()):
        if suite not in _told:
            terminalreporter.line(f"{suite} was not run here: {why}", yellow=True)
    for suite in _missing() if ALL else ():
        terminalreporter.line(f"{suite} ran nothing", red=True)


@pytest.fixture(scope="session")
def seed() -> Seed:
    return Seed.of(Path(os.environ["PMIS_TEST_ROOT"]))


@pytest.fixture
def make_system(seed: Seed, worker_id: str) -> Iterator[Callable[..., System]]:
    """Makes systems, whose processes are started by the test and stopped after it."""
    made: list[System] = []

    def make(**options: Any) -> System:
        folder = Path(os.environ["PMIS_TEST_ROOT"]) / f"f-{worker_id}-{next(_numbers)}"
        system = System(folder, seed, **options)
        made.append(system)
        return system

    yield make
    for system in made:
        system.stop_all()


@pytest.fixture
def room(worker_id: str) -> Iterator[Path]:
    """A folder for disks of the test's own, which the servers' user reaches; skips where there can be none."""
    folder = Path(os.environ["PMIS_TEST_ROOT"]) / f"room-{worker_id}-{next(_numbers)}"
    folder.mkdir(mode=0o755)
    try:
        require_mounts(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def figure(record_property: Any) -> Callable[[str], None]:
    """Says what was measured: at the end of the run, and at once in one that is watched."""

    def tell(text: str) -> None:
        record_property("figure", text)
        show(text)

    return tell
