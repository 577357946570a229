"""What a run found: the medians of its rounds, the table for people, and the judgement on the gates."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.load import Result
    from bench.measure import Cost
    from bench.targets import Scenario

READ_GATE: Final = 0.40
WRITE_GATE: Final = 0.35
READ_GOAL: Final = 0.70
WRITE_GOAL: Final = 0.50
GROWTH_GATE: Final = 0.80
# Two, and now and then the caller's roles are read afresh.
READ_STATEMENTS: Final = 2.1
HOT_GATE: Final = 0.95
CONNECTIONS_GATE: Final = 0.001
JUDGED_CLIENTS: Final = 16


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One cell: who did what, with how many packages, for how many clients."""

    scenario: str
    count: int
    clients: int
    target: str


@dataclass(slots=True)
class Cell:
    """The rounds of one cell."""

    rounds: list[tuple[Result, Cost | None]] = field(default_factory=list[tuple["Result", "Cost | None"]])

    @property
    def rate(self) -> float:
        """Answers per second, the median round."""
        return median(result.rate for result, _ in self.rounds)

    @property
    def requests(self) -> int:
        """Answers of all rounds."""
        return sum(result.requests for result, _ in self.rounds)

    @property
    def errors(self) -> int:
        """Errors of all rounds."""
        return sum(result.errors for result, _ in self.rounds)

    def latency(self, name: str) -> float:
        """A percentile in milliseconds, the median round."""
        return median(float(getattr(result, name)) for result, _ in self.rounds)

    def cpu(self, name: str) -> float | None:
        """Milliseconds of processor time per answer: `app`, `database` or `helpers`."""
        costs = [cost for _, cost in self.rounds if cost is not None]
        if not costs or not self.requests:
            return None
        return sum(float(getattr(cost, name)) for cost in costs) * 1000 / self.requests

    @property
    def noise(self) -> float | None:
        """Cores that other programs took while the rounds ran."""
        costs = [cost for _, cost in self.rounds if cost is not None]
        seconds = sum(result.seconds for result, _ in self.rounds)
        return sum(cost.others for cost in costs) / seconds if costs and seconds else None

    @property
    def answer_bytes(self) -> float:
        """The size of an answer, headers included."""
        return sum(result.bytes for result, _ in self.rounds) / self.requests if self.requests else 0.0

    @property
    def statuses(self) -> dict[str, int]:
        """How often each status was answered, where it was counted."""
        found: dict[str, int] = {}
        for result, _ in self.rounds:
            for status, number in result.statuses.items():
                found[status] = found.get(status, 0) + number
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What a scenario asks of the database, per request."""

    statements: float
    queries: float
    samples: list[str]

    @property
    def has_offset(self) -> bool:
        """Whether a page was skipped by counting rows."""
        return any(re.search(r"\boffset\b", text, re.IGNORECASE) for text in self.samples)

    @property
    def has_count(self) -> bool:
        """Whether rows were counted without a bound."""
        return any(re.search(r"\bcount\s*\(", text, re.IGNORECASE) for text in self.samples)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a contestant held and did over the whole run."""

    pss_before: float | None
    pss_after: float | None
    requests: int
    new_sessions: int
    updates: int
    hot_updates: int

    @property
    def hot_share(self) -> float | None:
        """The share of updates that touched no index."""
        return self.hot_updates / self.updates if self.updates else None


@dataclass(frozen=True, slots=True)
class Gate:
    """A promise, what was measured, and whether it was kept."""

    name: str
    measured: float
    limit: float
    at_least: bool
    goal: float | None = None

    @property
    def kept(self) -> bool:
        """Whether it was kept."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(slots=True)
class Run:
    """Everything measured."""

    scenarios: list[Scenario]
    counts: list[int]
    clients: list[int]
    targets: list[str]
    generator: str
    cells: dict[Key, Cell] = field(default_factory=dict[Key, Cell])
    asked: dict[tuple[str, str], Asked] = field(default_factory=dict[tuple[str, str], Asked])
    upkeep: dict[tuple[str, int], Upkeep] = field(default_factory=dict[tuple[str, int], Upkeep])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def add(self, key: Key, result: Result, cost: Cost | None) -> None:
        """Keep a round."""
        self.cells.setdefault(key, Cell()).rounds.append((result, cost))

    def ratio(self, scenario: str, count: int, clients: int, *, of: str, to: str) -> float | None:
        """How one contestant's rate compares with another's: the median over the rounds, each with its neighbour."""
        mine, theirs = (self.cells.get(Key(scenario, count, clients, name)) for name in (of, to))
        if mine is None or theirs is None:
            return None
        pairs = zip(mine.rounds, theirs.rounds, strict=False)
        ratios = [a.rate / b.rate for (a, _), (b, _) in pairs if b.rate]
        return median(ratios) if ratios else None

    def cpu_ratio(self, scenario: str, count: int, clients: int, *, of: str, to: str) -> float | None:
        """The same by processor time per answer, application and sessions together.

        On a machine whose cores are all busy this is what decides the rate; other programs disturb it less.
        """
        mine, theirs = (self.cells.get(Key(scenario, count, clients, name)) for name in (of, to))
        if mine is None or theirs is None:
            return None
        costs = [(cell.cpu("app"), cell.cpu("database")) for cell in (mine, theirs)]
        if any(part is None for cost in costs for part in cost):
            return None
        own, other = (sum(part or 0.0 for part in cost) for cost in costs)
        return other / own if own else None

    def gates(self, judged: str = "pmis") -> list[Gate]:
        """Every gate that this run can judge."""
        return [*self._rate_gates(judged), *self._growth_gates(judged), *self._error_gates(), *self._cost_gates(judged)]

    def _judged_clients(self) -> int:
        return JUDGED_CLIENTS if JUDGED_CLIENTS in self.clients else self.clients[-1]

    def _rate_gates(self, judged: str) -> Iterator[Gate]:
        clients = self._judged_clients()
        for scenario in self.scenarios:
            limit, goal = (WRITE_GATE, WRITE_GOAL) if scenario.writes else (READ_GATE, READ_GOAL)
            for count in self.counts:
                ratio = self.ratio(scenario.name, count, clients, of=judged, to="floor")
                if ratio is not None:
                    name = f"{scenario.title}, {count:,} packages, {clients} clients: share of the floor's rate"
                    yield Gate(name, ratio, limit, at_least=True, goal=goal)

    def _growth_gates(self, judged: str) -> Iterator[Gate]:
        small, large = min(self.counts), max(self.counts)
        if small == large:
            return
        clients = self._judged_clients()
        for scenario in self.scenarios:
            cells = [self.cells.get(Key(scenario.name, count, clients, judged)) for count in (small, large)]
            if cells[0] and cells[1] and cells[0].rate:
                name = f"{scenario.title}, {clients} clients: rate with {large:,} packages over that with {small:,}"
                yield Gate(name, cells[1].rate / cells[0].rate, GROWTH_GATE, at_least=True)

    def _error_gates(self) -> Iterator[Gate]:
        for target in self.targets:
            wrong = 0
            for key, cell in self.cells.items():
                if key.target == target:
                    expected = next(s.expected for s in self.scenarios if s.name == key.scenario)
                    unexpected = sum(number for status, number in cell.statuses.items() if status not in expected)
                    wrong += max(cell.errors, unexpected)
            yield Gate(f"{target}: errors and unexpected answers", wrong, 0, at_least=False)

    def _cost_gates(self, judged: str) -> Iterator[Gate]:
        for scenario in self.scenarios:
            asked = self.asked.get((scenario.name, judged))
            if asked is None or scenario.writes:
                continue
            name = f"{scenario.title}: SQL statements per request"
            yield Gate(name, asked.queries, READ_STATEMENTS, at_least=False)
            name = f"{scenario.title}: OFFSET or unbounded COUNT"
            yield Gate(name, asked.has_offset + asked.has_count, 0, at_least=False)
        for count in self.counts:
            upkeep = self.upkeep.get((judged, count))
            if upkeep is None:
                continue
            if upkeep.requests:
                name = f"{count:,} packages: new database connections per request"
                yield Gate(name, upkeep.new_sessions / upkeep.requests, CONNECTIONS_GATE, at_least=False)
            if upkeep.hot_share is not None:
                yield Gate(f"{count:,} packages: share of HOT updates", upkeep.hot_share, HOT_GATE, at_least=True)

    def document(self) -> dict[str, Any]:
        """Everything as JSON values."""
        cells = [
            {
                **asdict(key),
                "rate": round(cell.rate, 1),
                "rates": [round(result.rate, 1) for result, _ in cell.rounds],
                **{name: round(cell.latency(name), 3) for name in ("p50", "p95", "p99", "worst")},
                "requests": cell.requests,
                "errors": cell.errors,
                "statuses": cell.statuses,
                "answer_bytes": round(cell.answer_bytes),
                **{f"cpu_{name}_ms": _round(cell.cpu(name), 4) for name in ("app", "database", "helpers")},
                "noise_cores": _round(cell.noise, 2),
            }
            for key, cell in sorted(self.cells.items())
        ]
        return {
            **self.facts,
            "generator": self.generator,
            "cells": cells,
            "statements": [
                {"scenario": name, "target": target, "per_request": asked.statements, "without_control": asked.queries,
                 "texts": asked.samples}
                for (name, target), asked in self.asked.items()
            ],
            "upkeep": [
                {"target": target, "count": count, **asdict(upkeep), "hot_share": _round(upkeep.hot_share, 4)}
                for (target, count), upkeep in self.upkeep.items()
            ],
            "gates": [{**asdict(gate), "kept": gate.kept} for gate in self.gates()],
        }  # fmt: skip


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _shown(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def rates_table(run: Run, count: int) -> Table:
    """Rates, latencies and costs of one size."""
    peers = [name for name in run.targets if name not in ("floor", "pmis")]
    table = Table(
        "scenario", "clients", "who", "req/s", "÷ floor", "by CPU", *(f"÷ {peer}" for peer in peers), "p50 ms", "p95",
        "p99", "errors", "SQL", "app ms", "db ms", "bytes", "noise",
        title=f"{count:,} packages", box=box.SIMPLE_HEAD, title_justify="left",
    )  # fmt: skip
    for column in table.columns[3:]:
        column.justify = "right"
    for scenario in run.scenarios:
        for clients in run.clients:
            for target in run.targets:
                cell = run.cells.get(Key(scenario.name, count, clients, target))
                if cell is None:
                    continue
                asked = run.asked.get((scenario.name, target))
                ratio = None if target == "floor" else run.ratio(scenario.name, count, clients, of=target, to="floor")
                by_cpu = None
                if target != "floor":
                    by_cpu = run.cpu_ratio(scenario.name, count, clients, of=target, to="floor")
                table.add_row(
                    scenario.title, str(clients), target, _shown(cell.rate, 0), _shown(ratio), _shown(by_cpu),
                    *(
                        _shown(None if target == peer else run.ratio(scenario.name, count, clients, of=target, to=peer))
                        for peer in peers
                    ),
                    *(_shown(cell.latency(name), 1) for name in ("p50", "p95", "p99")),
                    str(cell.errors), _shown(asked.statements, 1) if asked else "-",
                    _shown(cell.cpu("app")), _shown(cell.cpu("database")),
                    _shown(cell.answer_bytes, 0), _shown(cell.noise),
                )  # fmt: skip
    return table


def upkeep_table(run: Run) -> Table:
    """Memory, connections and HOT updates."""
    table = Table(
        "who", "packages", "memory MiB", "growth", "new connections", "requests", "updates", "HOT", box=box.SIMPLE_HEAD
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for (target, count), upkeep in run.upkeep.items():
        before, after = upkeep.pss_before, upkeep.pss_after
        table.add_row(
            target, f"{count:,}", _shown(after, 0),
            "-" if not before or after is None else f"{after / before - 1:+.0%}",
            str(upkeep.new_sessions), f"{upkeep.requests:,}", f"{upkeep.updates:,}",
            "-" if upkeep.hot_share is None else f"{upkeep.hot_share:.1%}",
        )  # fmt: skip
    return table


def gates_table(gates: Sequence[Gate]) -> Table:
    """The gates, the broken ones marked."""
    table = Table("gate", "measured", "limit", "goal", "", box=box.SIMPLE_HEAD)
    for gate in gates:
        reached = gate.goal is not None and gate.measured >= gate.goal
        goal = "-" if gate.goal is None else f"{gate.goal:.2f}{' ✓' if reached else ''}"
        sign = "≥" if gate.at_least else "≤"
        verdict = "[green]kept[/]" if gate.kept else "[bold red]BROKEN[/]"
        table.add_row(gate.name, f"{gate.measured:.3g}", f"{sign} {gate.limit:g}", goal, verdict)
    return table
