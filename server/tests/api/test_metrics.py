"""Metrics: what is counted, under which labels, over several processes, and what the log says beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from pmis.api.app import create_app
from pmis.api.metrics import figures_of
from pmis.jobs.queue import enqueue
from pmis.kit.db import Database, Reach
from pmis.kit.ids import uuid7
from tests.api.expect import problem
from tests.api.office import PASSWORD, serving, settings_for
from tests.api.served import Served
from tests.builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pmis.kit.remembered import Remembered
    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def read(office: Office) -> Callable[..., float]:
    answer = await office.get(None, "/metrics", base="")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    return lambda name, **labels: found.get((name, tuple(sorted(labels.items()))), 0.0)


class TestRequests:
    async def test_they_are_counted_by_route_and_not_by_what_is_asked_for(self, office: Office):
        labels = {"method": "GET", "route": "/api/v1/packages/{reference}"}
        before = await read(office)
        for number in range(5):
            await office.get("analyst", f"/packages/NONE-{number}")
        after = await read(office)
        for name in ("http_requests_total", "http_request_duration_seconds_count"):
            more = {"status": "404"} if name == "http_requests_total" else {}
            assert after(name, **labels, **more) - before(name, **labels, **more) == 5
        assert after("http_request_duration_seconds_sum", **labels) > before(
            "http_request_duration_seconds_sum", **labels
        )

    async def test_what_has_no_route_is_one_series(self, office: Office):
        wanted = {"method": "OTHER", "route": "unmatched", "status": "404"}
        before = await read(office)
        for number in range(3):
            await office.call(None, f"BREW{number}", f"/nothing/{number}")
        assert (await read(office))("http_requests_total", **wanted) - before("http_requests_total", **wanted) == 3

    async def test_those_under_way_are_seen_while_they_are(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        arrived, go_on = asyncio.Event(), asyncio.Event()
        figures: Remembered[Any] = office.app.state.figures
        original = figures.get

        async def slow() -> Any:
            arrived.set()
            await go_on.wait()
            return await original()

        before = (await read(office))("http_requests_inprogress", method="GET")
        monkeypatch.setattr(figures, "get", slow)
        waiting = asyncio.create_task(office.get(None, "/metrics", base=""))
        await arrived.wait()
        monkeypatch.setattr(figures, "get", original)
        during = (await read(office))("http_requests_inprogress", method="GET")
        go_on.set()
        await waiting
        assert (before, during) == (1, 2)
        assert (await read(office))("http_requests_inprogress", method="GET") == 1

    async def test_sign_ins_are_counted(self, office: Office):
        before = await read(office)
        mail = f"metrics-{time.time_ns()}@example.org"
        await office.sign_up("Metric", mail)
        for password in (PASSWORD, "wrong one", "wrong two"):
            await office.post(None, "/auth/login", {"email": mail, "password": password})
        after = await read(office)
        assert after("pmis_tokens_issued_total", kind="access") - before("pmis_tokens_issued_total", kind="access") == 1
        name, labels = "pmis_sign_in_failures_total", {"reason": "password"}
        assert after(name, **labels) - before(name, **labels) == 2


class TestInstall:
    async def test_the_database_says_how_it_stands(self, office: Office):
        figures: Remembered[Any] = office.app.state.figures
        figures.forget()
        before = await read(office)
        assert before("pmis_database_up") == 1
        assert before("pmis_events_appended_total") == (await office.count("ledger.event"))[0]
        outcome = await office.post("operator", "/packages", {"title": "Waits", "impact_level": "high"})
        assert outcome.status_code == 202, outcome.text
        # Not asked again within a few seconds, however often it is scraped.
        assert (await read(office))("pmis_events_appended_total") == before("pmis_events_appended_total")
        figures.forget()
        after = await read(office)
        route = outcome.json()["route"]
        assert after("pmis_events_appended_total") > before("pmis_events_appended_total")
        assert after("pmis_approvals_waiting", route=route) - before("pmis_approvals_waiting", route=route) == 1
        assert after("pmis_events_unsealed") > 0
        assert after("pmis_seal_age_seconds") > 0
        assert after("pmis_database_connections", state="free") >= 1
        assert after("pmis_outbox_unsent") > before("pmis_outbox_unsent")
        assert after("pmis_outbox_oldest_seconds") > 0

    async def test_accepted_work_is_seen_until_it_is_done(self, office: Office):
        figures: Remembered[Any] = office.app.state.figures
        figures.forget()
        before = await read(office)
        async with office.database.write(Reach.INSTANCE) as session:
            identity = enqueue(session, "upkeep.prune", {}, dedup=None, correlation_id="test")
            await session.commit()
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            for change, name in (
                ("due_at = now() - interval '1 minute'", "pmis_jobs_unclaimed"),
                ("status = 'running', lease_until = now()", "pmis_jobs_running"),
                ("status = 'dead', lease_until = null, finished_at = now()", "pmis_jobs_dead"),
            ):
                connection.execute(f"update jobs.job set {change} where id = %s".encode(), (identity,))
                figures.forget()
                now = await read(office)
                assert now(name) - before(name) == 1
                if name == "pmis_jobs_unclaimed":
                    assert now("pmis_jobs_oldest_seconds") >= 60
                    assert now("pmis_jobs_due", queue="long") == 1
                    assert now("pmis_jobs_due_oldest_seconds", queue="long") >= 60

    async def test_what_jobs_took_is_seen_for_a_while(self, office: Office):
        figures: Remembered[Any] = office.app.state.figures
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            for seconds, minutes in ((1, 0), (3, 0), (500, 11)):
                identity = uuid7()
                connection.execute(
                    "insert into jobs.job (id, kind, payload, correlation_id, due_at, status, finished_at) values "
                    "(%s, 'test.timed', '{}', 'test', now(), 'done', now() - make_interval(mins => %s))",
                    (identity, minutes),
                )
                connection.execute(
                    "insert into jobs.attempt (job_id, attempt, worker, started_at, ended_at, outcome) "
                    "select %s, 1, 'w', now() - make_interval(mins => %s, secs => %s), "
                    "now() - make_interval(mins => %s), 'done'",
                    (identity, minutes, seconds, minutes),
                )
        figures.forget()
        now = await read(office)
        assert now("pmis_jobs_done", kind="test.timed") == 2
        lasted = [now("pmis_job_duration_seconds", kind="test.timed", quantile=one) for one in ("0.5", "1")]
        assert lasted == pytest.approx([2, 3], abs=0.01)

    async def test_a_lost_database_is_a_figure_too(self, office: Office):
        lost = Database("postgresql://nobody@127.0.0.1:1/none", size=1)
        lost.pool.timeout = 0.2
        await lost.open()
        try:
            (figure,) = await figures_of(lost).get()
        finally:
            await lost.close()
        assert [(sample.name, sample.value) for sample in figure.samples] == [("pmis_database_up", 0)]

    async def test_a_token_keeps_others_out(self, office: Office):
        token = "m" * 40
        app = create_app(settings_for(office.test_database, metrics_token=SecretStr(token)))
        async with serving(app) as client:
            for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Bearer {token}x"}):
                problem(await client.get("/metrics", headers=headers), 401, "unauthenticated")
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200


def test_several_processes_add_up_and_log_alike(make_database: Callable[[str], TestDatabase], tmp_path: Path):
    served = Served(make_database("metrics"), tmp_path, workers=2)

    def counted() -> float:
        """The requests that the scrape knows of, whoever answers it."""
        wanted = (("method", "GET"), ("route", "/api/v1/packages"), ("status", "401"))
        return samples(served.get("/metrics").text).get(("http_requests_total", wanted), 0.0)

    try:
        served.wait()
        canary = "zq-canary-in-the-query"
        for number in range(30):
            served.get(f"/api/v1/packages?q={canary}", headers={"X-Correlation-Id": f"trace-{number}"})
        # Whichever of the two is scraped knows of all.
        assert {counted() for _ in range(12)} == {30}
        # One that is killed takes its counts of what it answered not along, and is not under way for ever.
        os.kill(min(served.workers()), signal.SIGKILL)
        deadline = time.monotonic() + 180
        while len(served.workers()) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(served.workers()) == 3, served.out.read_text()
        assert {counted() for _ in range(6)} == {30}
        under_way = samples(served.get("/metrics").text)["http_requests_inprogress", (("method", "GET"),)]
        assert under_way == 1
    finally:
        served.process.terminate()
        served.process.wait(30)
    lines = served.lines()
    asked = [line for line in lines if line["logger"] == "pmis.access" and "correlation_id" in line]
    assert {line["correlation_id"] for line in asked} >= {f"trace-{number}" for number in range(30)}
    mine = next(line for line in asked if line["correlation_id"] == "trace-7")
    assert mine["message"] == "GET /api/v1/packages 401"
    assert (mine["level"], mine["process"], mine["route"], mine["status"]) == ("INFO", "api", "/api/v1/packages", 401)
    assert mine["duration_ms"] > 0
    text = served.out.read_text()
    assert canary not in text
    assert SECRET not in text
