"""Measure PMIS beside the floor, and beside Redmine where it is installed, in one run, and judge the gates.

Everything runs on this machine: an embedded PostgreSQL in a temporary folder, every contestant with its own database
of the same packages, a load generator. Contestants take turns round by round, so that a busy moment of the machine
hits all alike. Exits with 1 when a gate is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from bench import chat, data, database, ladder, mail, measure, redmine
from bench.load import MAX_SECONDS, Load, Player, choose_generator
from bench.report import Asked, Key, Run, Upkeep, gates_table, rates_table, upkeep_table
from bench.targets import ROOT, SCENARIOS, Floor, Pmis, Scenario, Target, TargetError, chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

TARGETS: Final[dict[str, type[Target]]] = {
    "floor": Floor,
    "pmis": Pmis,
    **({"redmine": redmine.Redmine} if redmine.installed() else {}),
}
# Transitions are used up: each client count gets fresh drafts, and a round ends when its share of them is gone.
TRANSITIONS: Final = {1: 600, 16: 1500, 64: 1500}
WARM_UP: Final = 300
LOGGED: Final = 40
console = Console(width=170 if not sys.stdout.isatty() else None, highlight=False)


def _numbers(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        message = f"{text!r} is not a comma-separated list of numbers"
        raise argparse.ArgumentTypeError(message)
    return found


def _names(known: Sequence[str]) -> Any:  # noqa: ANN401 - what argparse takes for a type
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if strange := [name for name in chosen if name not in known]:
            message = f"there is no {strange[0]!r}; known are {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return [name for name in known if name in chosen]

    return parse


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pmis bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 packages, one second a round: a look, not a proof")
    parser.add_argument("--packages", type=_numbers, help="how many packages, e.g. 10000,100000 (the default)")
    parser.add_argument("--clients", type=_numbers, default=[1, 16, 64], help="keep-alive clients, default 1,16,64")
    parser.add_argument(
        "--only", type=_names(list(SCENARIOS)), default=list(SCENARIOS), help=f"of {','.join(SCENARIOS)}"
    )
    parser.add_argument("--targets", type=_names(list(TARGETS)), default=list(TARGETS), help=f"of {','.join(TARGETS)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per cell, the median counts (default 3)")
    parser.add_argument("--seconds", type=int, help="length of a round (default 3, quick 1)")
    parser.add_argument(
        "--generator", choices=["auto", "wrk", "builtin"], default="auto", help="default: wrk when installed"
    )
    parser.add_argument(
        "--ladder", type=int, metavar="TASKS", help="only this: the overdue ladder for so many tasks, e.g. 100000"
    )
    parser.add_argument(
        "--mail", type=int, metavar="MAILS", help="only this: from a mail's acceptance until it is filed, e.g. 80"
    )
    parser.add_argument(
        "--chat", type=int, metavar="MESSAGES", help="only this: the assistant's answers without a model, e.g. 100"
    )
    parser.add_argument("--json", type=Path, help="where the results go (default bench/results/TIME.json)")
    options = parser.parse_args(arguments)
    options.packages = options.packages or ([10_000] if options.quick else [10_000, 100_000])
    options.seconds = min(options.seconds or (1 if options.quick else 3), MAX_SECONDS)
    return options


class Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace, cluster: database.Cluster, scratch: Path) -> None:
        """Describe the run."""
        self.options = options
        self.cluster = cluster
        self.player = Player(choose_generator(options.generator), scratch)
        self.targets = [
            TARGETS[name](cluster, count, scratch) for count in options.packages for name in options.targets
        ]
        self.scenarios = [SCENARIOS[name] for name in options.only]
        self.run = Run(self.scenarios, options.packages, options.clients, options.targets, self.player.generator)
        self._drafts_made = 0

    def fill(self) -> None:
        """Give every contestant the same packages."""
        for count in self.options.packages:
            mine = [target for target in self.targets if target.count == count]
            started = time.monotonic()
            for target in mine:
                target.prepare()
            with console.status(f"filling {len(mine)} databases with {count:,} packages"):
                for chunk in chunks(data.packages(count)):
                    for target in mine:
                        target.store(chunk)
                for target in mine:
                    target.vacuum()
            console.print(f"{count:,} packages stored {len(mine)} times in {time.monotonic() - started:.0f} s")

    def start(self) -> None:
        """Start every contestant and see that it answers what is asked."""
        for target in self.targets:
            target.start()
            target.check()

    def stop(self) -> None:
        """Stop every contestant."""
        for target in self.targets:
            target.stop()

    def _add_drafts(self, count: int) -> None:
        """The same new drafts for every contestant."""
        since = datetime(2026, 1, 1, tzinfo=UTC)
        self._drafts_made += 1
        drafts = list(data.packages(count, seed=data.SEED + self._drafts_made, since=since, drafts_only=True))
        for target in self.targets:
            target.store_drafts(drafts)

    def measure(self) -> None:
        """Every scenario: warm up, count statements, then let the contestants take turns."""
        with contextlib.ExitStack() as stack:
            monitors = {str(t): stack.enter_context(self.cluster.connect(t.database)) for t in self.targets}
            self._warm_up()
            before = {str(t): (measure.counters(monitors[str(t)], t.table), t.meter.pss()) for t in self.targets}
            for scenario in self.scenarios:
                self._measure(scenario)
            self._finish(monitors, before)

    def _warm_up(self) -> None:
        """Fill caches, plans and pools, with as many clients as will ever come."""
        reads = [scenario for scenario in self.scenarios if not scenario.writes] or [SCENARIOS["get"]]
        for target in self.targets:
            for scenario in reads:
                requests = target.requests(scenario, WARM_UP)
                self.player.play(target.port, requests, clients=max(self.options.clients), seconds=1, load=Load())
        # The counters must have told of these connections before the measured part begins.
        time.sleep(measure.STATISTICS_DELAY_SECONDS)

    def _measure(self, scenario: Scenario) -> None:
        once = scenario.load.once
        if once:
            shares = [TRANSITIONS.get(clients, 1500) for clients in self.options.clients]
            self._add_drafts(WARM_UP + LOGGED + self.options.rounds * sum(shares))
        requests: dict[str, list[bytes]] = {}
        for target in self.targets:
            requests[str(target)] = [] if once else target.requests(scenario, 0)
            warm = target.requests(scenario, round(WARM_UP * target.patience)) if once else requests[str(target)]
            self.player.play(target.port, warm, clients=16, seconds=1, load=scenario.load)
            if target.count == self.options.packages[0]:
                self._count_statements(scenario, target)
        self.cluster.settle()
        for clients in self.options.clients:
            for number in range(self.options.rounds):
                for target in self.targets:
                    drafts = round(TRANSITIONS.get(clients, 1500) * target.patience)
                    share = target.requests(scenario, drafts) if once else requests[str(target)]
                    with console.status(f"{scenario.title}: {target}, {clients} clients, round {number + 1}"):
                        self._round(scenario, target, clients, share)

    def _round(self, scenario: Scenario, target: Target, clients: int, requests: list[bytes]) -> None:
        seconds = MAX_SECONDS if scenario.load.once else self.options.seconds
        result, cost = target.meter.cost(
            lambda: self.player.play(target.port, requests, clients=clients, seconds=seconds, load=scenario.load),
            lambda result: result.generator_cpu,
        )
        self.run.add(Key(scenario.name, target.count, clients, target.name), result, cost)

    def _count_statements(self, scenario: Scenario, target: Target) -> None:
        requests = target.requests(scenario, LOGGED)[:LOGGED]
        port = target.port
        counted = measure.statements(
            self.cluster,
            target.database,
            lambda: self.player.play(port, requests, clients=1, seconds=10, load=Load(once=True)),
        )
        distinct = sorted(set(counted.texts))
        number = len(requests)
        self.run.asked[scenario.name, target.name] = Asked(
            len(counted.texts) / number, len(counted.queries) / number, distinct
        )

    def _finish(
        self, monitors: dict[str, psycopg.Connection[Any]], before: dict[str, tuple[measure.Counters, float | None]]
    ) -> None:
        time.sleep(measure.STATISTICS_DELAY_SECONDS)
        for target in self.targets:
            start, pss = before[str(target)]
            end = measure.counters(monitors[str(target)], target.table)
            requests = sum(
                cell.requests
                for key, cell in self.run.cells.items()
                if (key.target, key.count) == (target.name, target.count)
            )
            self.run.upkeep[target.name, target.count] = Upkeep(
                pss, target.meter.pss(), requests, end.sessions - start.sessions - target.own_sessions,
                end.updates - start.updates, end.hot_updates - start.hot_updates,
            )  # fmt: skip


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "processor": platform.machine()},
        "python": platform.python_version(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the results, judge."""
    options = _options(arguments)
    if options.ladder:
        return 0 if ladder.measure(options.ladder) else 1
    if options.chat:
        return 0 if chat.measure(options.chat) else 1
    if options.mail:
        return 0 if mail.measure(options.mail) else 1
    started = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="pmis-bench-"))
    try:
        with database.start(scratch) as cluster:
            bench = Bench(options, cluster, scratch)
            console.print(f"load generator: {bench.player.generator}")
            bench.fill()
            try:
                bench.start()
                bench.measure()
            finally:
                bench.stop()
    except TargetError as error:
        console.print(f"error: {error}", markup=False)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    run = bench.run
    run.facts = _facts(options)
    for count in options.packages:
        console.print(rates_table(run, count))
    console.print(upkeep_table(run))
    gates = run.gates()
    console.print(gates_table(gates))
    results = options.json or ROOT / "bench" / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(run.document(), indent=1))
    broken = sum(not gate.kept for gate in gates)
    console.print(
        f"{len(gates) - broken} gates kept, {broken} broken, {time.monotonic() - started:.0f} s; details in {results}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
