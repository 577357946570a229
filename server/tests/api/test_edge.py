"""Around every request: correlation ids, headers, limits, faults, and the commit before the answer."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from pmis.api import health
from pmis.api.app import create_app
from pmis.kit.logs import Formatter
from pmis.kit.settings import load_settings
from pmis.ops import postgres as pg
from pmis.package.noun import PackageNoun
from tests.api.expect import applied, ok, problem
from tests.api.office import JWT_SECRET, open_office, serving, settings_for
from tests.builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import httpx2

    from pmis.api.context import Parts
    from tests.api.office import Office
    from tests.conftest import Cluster, TestDatabase

pytestmark = pytest.mark.anyio
MEGABYTE = 1024 * 1024


class TestCorrelation:
    @pytest.mark.parametrize("path", ["/packages", "/health", "/nothing/here", "/packages/none"])
    async def test_a_well_formed_id_comes_back(self, office: Office, path):
        given = "a.B_c:1-2"
        answer = await office.get("analyst", path, headers={"X-Correlation-Id": given})
        assert answer.headers["x-correlation-id"] == given

    @pytest.mark.parametrize("given", ["", "two words", "ü", "x" * 101, "a\tb", "<script>", "a,b", "'"])
    async def test_any_other_is_replaced_by_a_new_one(self, office: Office, given):
        answer = await office.get("analyst", "/packages", headers={"X-Correlation-Id": given.encode()})
        made = answer.headers["x-correlation-id"]
        assert made != given
        assert UUID(made).version == 7

    async def test_each_request_without_one_gets_its_own(self, office: Office):
        made = {(await office.get(None, "/health")).headers["x-correlation-id"] for _ in range(20)}
        assert len(made) == 20

    async def test_it_stands_in_the_events_that_the_request_caused(self, office: Office):
        given = f"trace-{secrets.token_hex(4)}"
        created = applied(
            await office.post("analyst", "/packages", {"title": "Traced"}, headers={"X-Correlation-Id": given}), 201
        )
        found = ok(await office.get("auditor", f"/audit?correlation_id={given}"))["items"]
        assert [event["stream_id"] for event in found] == [created["id"]]


class TestHeaders:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/packages"), ("GET", "/health"), ("GET", "/nothing"), ("PUT", "/packages"), ("GET", "/auth/me")],
    )
    async def test_every_answer_tells_browsers_to_be_careful(self, office: Office, method, path):
        for who in (None, "analyst"):
            answer = await office.call(who, method, path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert "server" not in answer.headers

    async def test_browsers_are_told_to_insist_on_https_when_it_is_set(self, office: Office):
        name = "strict-transport-security"
        assert name not in (await office.get(None, "/health")).headers
        async with serving(create_app(settings_for(office.test_database, enable_hsts=True))) as client:
            for path in ("/api/v1/health", "/api/v1/packages", "/docs", "/nothing"):
                assert (await client.get(path)).headers[name] == "max-age=31536000; includeSubDomains"

    async def test_an_anonymous_caller_is_told_how_to_sign_in(self, office: Office):
        answer = await office.get(None, "/packages")
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"

    async def test_a_method_that_is_not_offered_names_those_that_are(self, office: Office):
        answer = await office.call("analyst", "PUT", "/packages")
        problem(answer, 405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]

    async def test_a_slash_at_the_end_is_another_path_and_no_redirect(self, office: Office):
        answer = await office.get("analyst", "/packages/", headers={"Host": "evil.example"})
        problem(answer, 404, "not_found")
        assert "location" not in answer.headers


class TestBodyLimit:
    async def test_a_declared_length_over_the_limit_is_refused_before_it_is_read(self, office: Office):
        read = False

        async def body():
            nonlocal read
            read = True
            yield b" " * 100

        before = await office.count()
        answer = await office.call(
            "analyst", "POST", "/packages", content=body(), headers={"Content-Length": str(10 * MEGABYTE)}
        )
        problem(answer, 413, "too_large")
        assert not read
        assert await office.count() == before

    @pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}])
    async def test_a_body_that_turns_out_to_be_over_the_limit_is_refused(self, office: Office, headers):
        sent = 0

        async def body():
            nonlocal sent
            for _ in range(160):
                sent += 65536
                yield b" " * 65536

        before = await office.count()
        answer = await office.call("analyst", "POST", "/packages", content=body(), headers=headers)
        problem(answer, 413, "too_large")
        assert sent <= MEGABYTE + 2 * 65536, "it went on reading"
        assert await office.count() == before

    async def test_a_body_of_exactly_the_limit_is_read(self, office: Office):
        head = b'{"title":"At the limit"'
        body = head + b" " * (MEGABYTE - len(head) - 1) + b"}"
        assert len(body) == MEGABYTE
        applied(await office.call("analyst", "POST", "/packages", content=body), 201)
        problem(await office.call("analyst", "POST", "/packages", content=body + b" "), 413, "too_large")


class TestCors:
    async def test_a_preflight_from_a_known_origin_is_allowed_and_from_another_is_not(
        self, make_database: Callable[[str], TestDatabase]
    ):
        async with open_office(make_database("cors"), cors_origins=("https://pmis.example.org",)) as office:
            asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "If-Match"}
            known = await office.call(
                None, "OPTIONS", "/packages", headers={"Origin": "https://pmis.example.org", **asked}
            )
            assert known.status_code == 200
            assert known.headers["access-control-allow-origin"] == "https://pmis.example.org"
            assert "PATCH" in known.headers["access-control-allow-methods"]
            assert known.headers["x-correlation-id"]
            assert "access-control-allow-credentials" not in known.headers
            other = await office.call(None, "OPTIONS", "/packages", headers={"Origin": "https://evil.example", **asked})
            assert other.status_code == 400
            assert "access-control-allow-origin" not in other.headers
            read = await office.get("analyst", "/packages", headers={"Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in read.headers
            read = await office.get("analyst", "/packages", headers={"Origin": "https://pmis.example.org"})
            assert "ETag" in read.headers["access-control-expose-headers"]

    async def test_without_origins_no_page_elsewhere_may_call(self, office: Office):
        answer = await office.get("analyst", "/packages", headers={"Origin": "https://pmis.example.org"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestFaults:
    @pytest.fixture(autouse=True)
    def as_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """The log's text as the API writes it."""
        caplog.handler.setFormatter(Formatter("api"))

    async def test_a_fault_of_ours_says_nothing_and_is_logged_with_its_id(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        def broken(*_, **__):
            message = "select hunter2 from identity.credential"
            raise RuntimeError(message)

        monkeypatch.setattr(PackageNoun, "decide", broken)
        before = await office.count()
        with caplog.at_level(logging.ERROR, "pmis.api"):
            answer = await office.post("analyst", "/packages", {"title": "x"})
        body = problem(answer, 500, "internal_error")
        assert "hunter2" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert body["correlation_id"] in caplog.text
        assert "RuntimeError" in caplog.text
        assert await office.count() == before

    async def test_the_rows_that_postgresql_quotes_are_not_logged(
        self, office: Office, caplog: pytest.LogCaptureFixture
    ):
        mark = f"zq{secrets.token_hex(6)}"
        with (
            caplog.at_level(logging.DEBUG),
            at_commit(office, mark, "using errcode = '23514', detail = 'Failing row contains (' || new.doc || ')'"),
        ):
            answer = await office.post("analyst", "/packages", {"title": f"A {mark}"})
        problem(answer, 500, "internal_error")
        assert "CheckViolation" in caplog.text
        assert mark not in caplog.text
        assert mark not in answer.text


@contextmanager
def at_commit(office: Office, mark: str, how: str = "using errcode = 'PM999'") -> Generator[None]:
    """Let the commit of every package whose document holds the mark fail, and only the commit."""
    name = f"refuse_{mark}"
    with psycopg.connect(office.test_database.owner_dsn, autocommit=True) as owner:
        owner.execute(
            f"create function state.{name}() returns trigger language plpgsql as "
            f"$$ begin raise exception 'the commit was refused' {how}; end $$"  # type: ignore[arg-type]
        )
        owner.execute(
            f"create constraint trigger {name} after insert or update on state.package deferrable initially deferred "
            f"for each row when (new.doc like '%{mark}%') execute function state.{name}()"  # type: ignore[arg-type]
        )
        try:
            yield
        finally:
            owner.execute(f"drop function state.{name} cascade")  # type: ignore[arg-type]


class TestCommitBeforeAnswer:
    """An answer that was sent before its commit could not say that the commit failed."""

    @pytest.mark.parametrize("key", [None, "once"])
    @pytest.mark.parametrize(
        ("how", "status", "code"),
        [
            ("using errcode = 'PM999'", 500, "internal_error"),
            ("using errcode = '23505'", 409, "conflict"),
            ("using errcode = '40P01'", 409, "busy"),
            ("using errcode = '53100'", 503, "unavailable"),
        ],
    )
    async def test_a_commit_that_fails_is_answered_as_a_failure(self, office: Office, key, how, status, code):
        mark = f"zq{secrets.token_hex(6)}"
        headers = {"Idempotency-Key": f"{key}-{mark}"} if key else {}
        before = await office.count()
        with at_commit(office, mark, how):
            answer = await office.post("analyst", "/packages", {"title": mark}, headers=headers)
            problem(answer, status, code)
            assert await office.count() == before
        created = applied(await office.post("analyst", "/packages", {"title": mark}, headers=headers), 201)
        assert ok(await office.get("analyst", f"/packages/{created['id']}"))["title"] == mark

    async def test_whoever_reads_the_answer_finds_the_record_from_another_connection(self, office: Office):
        with psycopg.connect(office.test_database.app_dsn, autocommit=True, options="-c pmis.reach=*") as other:
            for _ in range(5):
                created = applied(await office.post("analyst", "/packages", {"title": "At once"}), 201)
                row = other.execute("select version from state.package where id = %s", (created["id"],)).fetchone()
                assert row == (1,)


async def asked_of(dsn: str, *, metrics: bool = True, **given: Any) -> tuple[httpx2.Response, str]:
    """Whether an API on that database is ready, and its metrics."""
    values = {"secret_key": SECRET, "jwt_secret_key": JWT_SECRET, "database_url": dsn, **given}
    async with serving(create_app(load_settings(embedded=False, environment="test", **values))) as client:
        answer = await client.get("/api/v1/readiness")
        return answer, (await client.get("/metrics")).text if metrics else ""


@pytest.fixture
def empty_dsn(cluster: Cluster) -> Iterator[str]:
    """A database in which nothing was made."""
    name = f"pmis_empty_{os.getpid()}"
    with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
        pg.create_database(connection, name)
        yield cluster.server.url(pg.APP, name)
        pg.drop_database(connection, name)


class TestHealth:
    async def test_alive_asks_nothing(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(office.parts, "database", None)
        assert ok(await office.get(None, "/health")) == {"status": "alive"}

    @pytest.mark.parametrize("base", ["/api/v1/readiness", "/api/readiness", "/health"])
    async def test_ready_names_each_part(self, office: Office, base):
        body = ok(await office.get(None, base, base=""))
        assert body["status"] == "ready"
        assert {**body["checks"], "jobs": "told"} == {"database": "ok", "schema": "ok", "jobs": "told"}
        assert body["oldest_job_seconds"] >= 0

    async def test_a_schema_that_is_behind_is_not_ready(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        present = health.head_revision()
        monkeypatch.setattr(health, "head_revision", lambda: "9999")
        answer, _ = await asked_of(office.parts.settings.app_dsn, metrics=False)
        assert answer.status_code == 503
        assert (answer.json()["revision"], "pmis migrate" in answer.json()["checks"]["schema"]) == (present, True)

    async def test_one_that_is_ahead_is(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        """A version that is rolled out migrates first, and the one before serves on until it is replaced."""
        monkeypatch.setattr(health, "head_revision", lambda: "0001")
        monkeypatch.setattr(health, "known_revisions", lambda: {"0001": None})
        body = ok((await asked_of(office.parts.settings.app_dsn, metrics=False))[0])
        assert (body["status"], body["checks"]["schema"].partition(",")[0]) == ("ready", "ahead")

    async def test_whoever_asks_often_asks_the_database_once_a_second(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ):
        asked: list[str | None] = []
        real = health._revision

        async def counted(parts: Parts) -> str | None:
            asked.append(await real(parts))
            return asked[-1]

        monkeypatch.setattr(health, "_revision", counted)
        monkeypatch.setattr(health, "FRESH_SECONDS", 0.3)
        values = {"secret_key": SECRET, "jwt_secret_key": JWT_SECRET, "database_url": office.parts.settings.app_dsn}
        async with serving(create_app(load_settings(embedded=False, environment="test", **values))) as client:
            paths = ("/health", "/api/v1/readiness", "/api/readiness") * 10
            answers = await asyncio.gather(*(client.get(path) for path in paths))
            assert ({answer.status_code for answer in answers}, len(asked)) == ({200}, 1)
            monkeypatch.setattr(health, "head_revision", lambda: "9999")
            await asyncio.sleep(0.35)
            assert (await client.get("/health")).status_code == 503

    async def test_a_database_without_a_schema_is_told_to_migrate(self, empty_dsn: str):
        answer, figures = await asked_of(empty_dsn)
        assert (answer.status_code, answer.json()["checks"]["schema"]) == (503, "empty; run `pmis migrate`")
        assert "\npmis_database_up 0.0\n" in figures

    async def test_one_that_may_not_be_read_is_not_ready(self, make_database: Callable[[str], TestDatabase]):
        database = make_database("unreadable")
        with psycopg.connect(database.owner_dsn) as connection:
            connection.execute("revoke select on public.alembic_version from pmis_app, public")
            connection.execute("revoke usage on schema ledger from pmis_app")
        answer, figures = await asked_of(database.app_dsn)
        assert (answer.status_code, "42501" in answer.json()["checks"]["database"]) == (503, True)
        assert "\npmis_database_up 0.0\n" in figures

    async def test_one_that_does_not_answer_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(health, "DATABASE_SECONDS", 0.2)
        # Takes the connection, and never says a word.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            answer, _ = await asked_of(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d", metrics=False)
        assert (answer.status_code, "does not answer" in answer.json()["checks"]["database"]) == (503, True)

    async def test_the_broker_that_the_jobs_go_by_is_the_one_that_is_asked(self, office: Office):
        given = {"celery_broker": "redis://127.0.0.1:1", "redis_url": None}
        answer, _ = await asked_of(office.parts.settings.app_dsn, metrics=False, **given)
        assert (answer.status_code, "refused" in answer.json()["checks"]["broker"]) == (200, True)
