"""What a round cost: processor time, memory, statements and connections, as the kernel and PostgreSQL count it.

Nothing is counted inside the contestants. Processor time and memory come from /proc (Linux; elsewhere they are not
reported), statements from the server's own log, connections and HOT updates from its statistics.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psycopg

    from bench.database import Cluster

PROC: Final = Path("/proc")
HAS_PROC: Final = (PROC / "self/stat").exists()
TICK: Final = 1 / os.sysconf("SC_CLK_TCK") if HAS_PROC else 0.01
# PostgreSQL's backends tell their statistics at most once a second, and when idle after ten.
STATISTICS_DELAY_SECONDS: Final = 11.0

T = TypeVar("T")


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def tree(pid: int) -> list[int]:
    """A process and everything below it."""
    children = _children()
    pids = [pid]
    for known in pids:
        pids += children.get(known, [])
    return pids


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that the processes have used so far, in user and kernel mode."""
    total = 0
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total * TICK


def pss_mib(pids: Iterable[int]) -> float:
    """Memory of the processes, with what several share counted once."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(match[1]) if match else 0
    return total / 1024


def backends(cluster: Cluster, database: str) -> list[int]:
    """The server processes that work for a database's clients."""
    found: list[int] = []
    for pid in _children().get(cluster.pid, []):
        try:
            title = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            continue
        words = title.split()
        if len(words) > 2 and words[0] == "postgres:" and words[2] == database:
            found.append(pid)
    return found


def machine_ticks() -> tuple[int, int]:
    """Processor ticks of the whole machine: all but idle ones, and those a hypervisor gave to somebody else."""
    fields = [int(field) for field in (PROC / "stat").read_text().partition("\n")[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields[:8]
    return user + nice + system + irq + softirq + steal, steal


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of a round: the contestant's processes, its database sessions, PostgreSQL's own helpers.

    `others` is what the rest of the machine used or was not given, the load generator apart: noise.
    """

    app: float
    database: float
    helpers: float
    others: float


class Meter:
    """Watches one contestant while a round is played."""

    def __init__(self, cluster: Cluster, pid: int, database: str) -> None:
        """Watch the processes below `pid` and the sessions of `database`."""
        self._cluster = cluster
        self._pid = pid
        self._database = database

    def pss(self) -> float | None:
        """The contestant's memory now."""
        return pss_mib(tree(self._pid)) if HAS_PROC else None

    def cost(self, play: Callable[[], T], generator_cpu: Callable[[T], float]) -> tuple[T, Cost | None]:
        """Play a round; what it gave, and what it cost."""
        if not HAS_PROC:
            return play(), None
        before = self._sample()
        result = play()
        after = self._sample()
        app, database, helpers, machine = (b - a for a, b in zip(before, after, strict=True))
        others = max(0.0, machine - app - database - helpers - generator_cpu(result))
        return result, Cost(app, database, helpers, others)

    def _sample(self) -> tuple[float, float, float, float]:
        mine = backends(self._cluster, self._database)
        whole = tree(self._cluster.pid)
        helpers = [pid for pid in whole if pid not in mine]
        return cpu_seconds(tree(self._pid)), cpu_seconds(mine), cpu_seconds(helpers), machine_ticks()[0] * TICK


_STATEMENT: Final = re.compile(r"^LOG:  (?:execute [^:]*|statement): (.*)$", re.DOTALL)
# What a transaction reaches is said in the message of its first statement: it costs no way to the server of its own.
_CONTROL: Final = re.compile(
    r"^\s*(?:(?:begin|commit|rollback|start transaction|savepoint|release|listen)\b|select set_config\('pmis\.reach')",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statements:
    """What a database was asked while a scenario was played slowly."""

    texts: list[str]

    @property
    def queries(self) -> list[str]:
        """Without the statements that only begin and end transactions, and say how far they reach."""
        return [text for text in self.texts if not _CONTROL.match(text)]


def statements(cluster: Cluster, database: str, play: Callable[[], Any]) -> Statements:
    """Play something with every statement logged by the server; what it logged for the database."""
    cluster.set("log_statement", "all")
    try:
        # Sessions read the new setting before their next statement; the reload itself takes a moment to reach them.
        time.sleep(0.3)
        start = cluster.log.stat().st_size
        play()
        time.sleep(0.2)
    finally:
        cluster.set("log_statement", None)
    with cluster.log.open("rb") as log:
        log.seek(start)
        text = log.read().decode(errors="replace")
    found: list[str] = []
    for entry in re.split(r"^pmisbench\|", text, flags=re.MULTILINE):
        name, _, rest = entry.partition("|")
        match = _STATEMENT.match(rest.partition("|")[2].rstrip("\n"))
        if name == database and match:
            found.append(match[1])
    return Statements(found)


@dataclass(frozen=True, slots=True)
class Counters:
    """PostgreSQL's own counters for a database."""

    sessions: int
    updates: int
    hot_updates: int


def counters(monitor: psycopg.Connection[Any], table: str) -> Counters:
    """The counters, and those of one table's updates. `monitor` is a connection to that database, opened before."""
    row = monitor.execute(
        "select sessions, coalesce(n_tup_upd, 0), coalesce(n_tup_hot_upd, 0) "
        "from pg_stat_database left join pg_stat_user_tables on relid = to_regclass(%s) "
        "where datname = current_database()",
        (table,),
    ).fetchone()
    return Counters(*cast("tuple[int, int, int]", row))
