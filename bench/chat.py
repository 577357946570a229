"""How long the assistant takes to answer without a model: one person, one message after the other, over HTTP.

The application is served as production runs it, on 10,000 packages and their history. Each message begins a
conversation of its own, and each change ends as a proposal: every check, event and checkpoint is included.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
from rich.console import Console
from rich.table import Table

from bench import data, database
from bench.targets import Pmis, chunks

if TYPE_CHECKING:
    from collections.abc import Mapping

BAR_MS: Final = 60.0
PACKAGES: Final = 10_000
WARM: Final = 10
console = Console(highlight=False, soft_wrap=True)
QUESTIONS: Final[Mapping[str, str]] = {
    "a record": "What is the status of {code}?",
    "by its title": "Who owns {title}?",
    "a list": "Which packages are on hold?",
    "a total": "Total amount by status and currency",
    "what is overdue": "What is overdue?",
    "what waits": "What waits for me?",
    "a history": "History of the amount of {code}",
    "what changed": "What changed in {code} since Monday?",
    "a change": "Set the description of {draft} to 'Measured {number}'",
    "a step": "Put {active} on hold because it is measured",
    "nothing known": "Please fold the paper along the dotted line",
}


def measure(count: int) -> bool:
    """Measure so many of each, print, judge."""
    scratch = Path(tempfile.mkdtemp(prefix="pmis-bench-"))
    try:
        with database.start(scratch) as cluster:
            target = Pmis(cluster, PACKAGES, scratch)
            with console.status(f"filling a database with {PACKAGES:,} packages"):
                target.prepare()
                for chunk in chunks(data.packages(PACKAGES)):
                    target.store(chunk)
                target.vacuum()
            with cluster.connect(target.database) as connection:
                rows = connection.execute(
                    "select doc::json ->> 'code', doc::json ->> 'title', status from state.package"
                ).fetchall()
            os.environ["ASSISTANT_PROPOSALS_PER_HOUR"] = "10000"
            os.environ["RATE_LIMIT_PERSON"] = "0"
            target.start()
            try:
                return _asked(f"http://127.0.0.1:{target.port}", target.headers, rows, count)
            finally:
                target.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _asked(url: str, headers: Mapping[str, str], rows: list[Any], count: int) -> bool:
    rng = random.Random(data.SEED)
    by_status = {status: [code for code, _, one in rows if one == status] for status in ("draft", "active")}
    table = Table(
        "message", "kinds of answer", "p50 ms", "p95 ms", "p99 ms", title=f"{count} of each, one after the other"
    )
    slowest: list[float] = []
    everything: list[float] = []
    with httpx2.Client(base_url=f"{url}/api/v1", headers=dict(headers), timeout=60) as client:
        for name, text in QUESTIONS.items():
            took: list[float] = []
            kinds: dict[str, int] = {}
            for number in range(count + WARM):
                code, title, _ = rng.choice(rows)
                said = text.format(
                    code=code,
                    title=title,
                    number=number,
                    draft=rng.choice(by_status["draft"]),
                    active=rng.choice(by_status["active"]),
                )
                began = time.perf_counter()
                answer = client.post("/chat", json={"query": said})
                spent = 1000 * (time.perf_counter() - began)
                if not answer.is_success:
                    console.print(f"{said}: {answer.status_code} {answer.text[:300]}")
                    return False
                if number >= WARM:
                    took.append(spent)
                    kind = answer.json()["action_type"]
                    kinds[kind] = kinds.get(kind, 0) + 1
            cuts = statistics.quantiles(took, n=100)
            slowest.append(cuts[94])
            everything += took
            table.add_row(name, str(kinds), *[f"{cuts[place]:.1f}" for place in (49, 94, 98)])
    cuts = statistics.quantiles(everything, n=100)
    table.add_row("all", "", *[f"{cuts[place]:.1f}" for place in (49, 94, 98)])
    console.print(table)
    kept = cuts[94] <= BAR_MS
    console.print(f"p95 of all: {cuts[94]:.1f} ms, bar {BAR_MS:.0f} ms: {'kept' if kept else 'BROKEN'}; ", end="")
    console.print(f"the slowest kind: {max(slowest):.1f} ms")
    return kept
