"""What Prometheus reads at `/metrics`: what this API has served, and how the whole install stands.

Counts of requests are added up over the processes of one API (`API_WORKERS`), through files in
PROMETHEUS_MULTIPROC_DIR. How the install stands comes from the database, is asked for at most once in a few seconds,
and is the same whichever replica is scraped: take the maximum over replicas, not the sum.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from psycopg import Error as PsycopgError
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api.context import parts_of
from pmis.kit.db import Reach
from pmis.kit.errors import PmisError, UnauthenticatedError
from pmis.kit.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric
    from starlette.types import Scope

    from pmis.kit.db import Database

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: where the processes of one API keep their counts. `pmis api` sets it for several."""
FRESH_SECONDS: Final = 5.0
"""How old the figures from the database may be."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)

_REQUESTS: Final = Counter("http_requests", "Requests answered.", ("method", "route", "status"))
_DURATION: Final = Histogram(
    "http_request_duration_seconds", "From the request to the end of its answer.", ("method", "route"), buckets=_BUCKETS
)
_IN_PROGRESS: Final = Gauge(
    "http_requests_inprogress", "Requests that are being answered.", ("method",), multiprocess_mode="livesum"
)
TOKENS_ISSUED: Final = Counter("pmis_tokens_issued", "Tokens given out, by what they are.", ("kind",))
SIGN_IN_FAILURES: Final = Counter("pmis_sign_in_failures", "Sign-ins that were refused.", ("reason",))
_POOL: Final = Gauge(
    "pmis_database_connections", "Connections of the API's pool.", ("state",), multiprocess_mode="livesum"
)
_POOL_WAITING: Final = Gauge(
    "pmis_database_requests_waiting", "Requests that wait for a connection.", multiprocess_mode="livesum"
)

_FIGURES: Final = (
    "select l.sealed, l.unsealed, "
    "coalesce(extract(epoch from clock_timestamp() - l.oldest_unsealed_at), 0)::float8, "
    "(select coalesce(json_object_agg(route, number), '{}') from (select route, count(*) as number "
    "from state.approval where status in ('pending', 'confirmation_required') group by route) as waiting), "
    "j.unclaimed, coalesce(extract(epoch from clock_timestamp() - j.oldest_due_at), 0)::float8, j.running, j.dead, "
    "j.unsent, coalesce(extract(epoch from clock_timestamp() - j.oldest_unsent_at), 0)::float8 "
    "from ledger.seal_lag() l, jobs.lag() j"
)
_QUEUES: Final = (
    "select queue, jobs, extract(epoch from clock_timestamp() - oldest_due_at)::float8 from jobs.due_in_queues()"
)
_DURATIONS: Final = (
    "select j.kind, count(*), percentile_cont(array[0.5, 0.95, 1]) "
    "within group (order by extract(epoch from a.ended_at - a.started_at)::float8) "
    "from jobs.job j join jobs.attempt a on a.job_id = j.id and a.outcome = 'done' "
    "where j.status = 'done' and j.finished_at > clock_timestamp() - interval '10 minutes' group by j.kind order by 1"
)


class Watch:
    """Follows one request from its beginning to the end of its answer."""

    __slots__ = ("_began", "_in_progress", "_scope", "method", "seconds")

    def __init__(self, scope: Scope) -> None:
        """The request begins now."""
        method = scope["method"]
        self._scope = scope
        self.method = method if method in _METHODS else "OTHER"
        self._in_progress = _child(_IN_PROGRESS, self.method)
        self._in_progress.inc()
        self._began = time.perf_counter()
        self.seconds = 0.0

    @property
    def route(self) -> str:
        """The path as it was declared: with names in place of ids, so that there are not more of them than routes."""
        return getattr(self._scope.get("route"), "path", None) or "unmatched"

    def end(self, status: int) -> None:
        """The answer has gone out."""
        self.seconds = time.perf_counter() - self._began
        self._in_progress.dec()
        _child(_REQUESTS, self.method, self.route, str(status)).inc()
        _child(_DURATION, self.method, self.route).observe(self.seconds)


_children: dict[tuple[Any, ...], Any] = {}


def _child(metric: Counter | Gauge | Histogram, *labels: str) -> Any:  # noqa: ANN401 - one of the three
    """The series with these labels; looking it up in the library costs more than counting does."""
    known = _children.get((metric, *labels))
    if known is None:
        known = _children[metric, *labels] = metric.labels(*labels)
    return known


def figures_of(database: Database) -> Remembered[list[Metric]]:
    """How the install stands, as the database says; `pmis_database_up` alone when it does not answer."""
    return Remembered(partial(_ask, database), FRESH_SECONDS)


async def _ask(database: Database) -> list[Metric]:
    try:
        async with database.read(Reach.INSTANCE) as session:
            row = await session.one(_FIGURES)
            durations = await session.all(_DURATIONS)
            queues = await session.all(_QUEUES)
    except (PmisError, PsycopgError):
        # Gone, or not to be read: a schema that is not there yet, a login without the rights.
        return [GaugeMetricFamily("pmis_database_up", _UP, 0)]
    sealed, unsealed, age, waiting, unclaimed, job_age, running, dead, unsent, promise_age = row or _NOTHING
    by_route = GaugeMetricFamily("pmis_approvals_waiting", "Approvals that wait for somebody.", labels=("route",))
    for route, number in sorted(waiting.items()):
        by_route.add_metric((route,), number)
    done = GaugeMetricFamily("pmis_jobs_done", "Jobs done in the last ten minutes.", labels=("kind",))
    lasted = GaugeMetricFamily(
        "pmis_job_duration_seconds", "How long those of the last ten minutes took.", labels=("kind", "quantile")
    )
    for kind, number, lengths in durations:
        done.add_metric((kind,), number)
        for quantile, seconds in zip(("0.5", "0.95", "1"), lengths, strict=True):
            lasted.add_metric((kind, quantile), seconds)
    due = GaugeMetricFamily("pmis_jobs_due", "Jobs that are due and that no worker has.", labels=("queue",))
    since = GaugeMetricFamily(
        "pmis_jobs_due_oldest_seconds", "How long the oldest of these has been due.", labels=("queue",)
    )
    for queue, number, seconds in queues:
        due.add_metric((queue,), number)
        since.add_metric((queue,), seconds)
    return [
        done,
        lasted,
        due,
        since,
        GaugeMetricFamily("pmis_database_up", _UP, 1),
        CounterMetricFamily("pmis_events_appended", "Events in the log.", sealed + unsealed),
        GaugeMetricFamily("pmis_events_unsealed", "Events that no checkpoint covers yet.", unsealed),
        GaugeMetricFamily("pmis_seal_age_seconds", "Age of the oldest event that no checkpoint covers.", age),
        by_route,
        GaugeMetricFamily("pmis_jobs_unclaimed", "Jobs that are due and that no worker has.", unclaimed),
        GaugeMetricFamily("pmis_jobs_oldest_seconds", "How long the oldest of these has been due.", job_age),
        GaugeMetricFamily("pmis_jobs_running", "Jobs that a worker has.", running),
        GaugeMetricFamily("pmis_jobs_dead", "Dead letters: jobs that somebody has to look at.", dead),
        GaugeMetricFamily("pmis_outbox_unsent", "Promises that no relay has taken.", unsent),
        GaugeMetricFamily("pmis_outbox_oldest_seconds", "Age of the oldest of these.", promise_age),
    ]


_NOTHING: Final[tuple[Any, ...]] = (0, 0, 0.0, {}, 0, 0.0, 0, 0, 0, 0.0)
_UP: Final = "Whether the database answers and can be read."


class _Given:
    """A collector of metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def count_pool(database: Database) -> None:
    """Take down how many connections the pool of this process has, and who waits for one."""
    stats = database.pool.get_stats()
    size, free = stats.get("pool_size", 0), stats.get("pool_available", 0)
    _child(_POOL, "used").set(size - free)
    _child(_POOL, "free").set(free)
    _POOL_WAITING.set(stats.get("requests_waiting", 0))


async def watch_pool(database: Database, *, every_seconds: float = 5.0) -> None:
    """Count the pool for ever: any process may be the one that is scraped."""
    while True:
        count_pool(database)
        await asyncio.sleep(every_seconds)


def _forget_the_dead(folder: str) -> None:
    """Drop the gauges of processes that were killed: what those were answering they answer no more."""
    for pid in {path.stem.rpartition("_")[2] for path in Path(folder).glob("gauge_live*.db")}:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(int(pid), folder)  # pyright: ignore[reportUnknownMemberType]


def _registries(figures: list[Metric]) -> Iterator[CollectorRegistry]:
    if folder := os.environ.get(DIRECTORY):
        _forget_the_dead(folder)
        shared = CollectorRegistry()
        with suppress(FileNotFoundError):  # a process went away while its file was read
            multiprocess.MultiProcessCollector(shared, folder)  # pyright: ignore[reportUnknownMemberType]
        yield shared
    else:
        yield REGISTRY
    asked = CollectorRegistry()
    asked.register(_Given(figures))  # pyright: ignore[reportArgumentType] - the library wants its own base class
    yield asked


async def metrics(request: Request) -> Response:
    """Everything, in Prometheus' text format."""
    parts = parts_of(request)
    wanted = parts.settings.metrics_token
    if wanted is not None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), wanted.get_secret_value().encode()):
            raise UnauthenticatedError("Send METRICS_TOKEN as `Authorization: Bearer <token>`.")
    count_pool(parts.database)
    figures: Remembered[list[Metric]] = request.app.state.figures
    text = b"".join([generate_latest(registry) for registry in _registries(await figures.get())])
    return Response(text, 200, media_type=CONTENT_TYPE_LATEST)
