"""Traces: what a collector receives of a request and of the job it gave rise to, and what it never receives."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr

from pmis.jobs.registry import Kind, Payload, Work
from pmis.jobs.runner import Runner
from pmis.kit import traces
from pmis.kit.ids import uuid7
from tests.api.office import settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.office import Office

pytestmark = pytest.mark.anyio
CANARY = "zq-canary-of-somebody"
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.bodies.append(body)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def spans(self) -> dict[str, Any]:
        """The spans that came, by their name."""
        traces.flush()
        found = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return {
            span.name: span
            for request in found
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def collector(office: Office) -> Iterator[Collector]:
    made = Collector()
    settings = settings_for(
        office.test_database,
        otel_exporter_otlp_endpoint=made.url,
        otel_exporter_otlp_headers=SecretStr("x-key=sesame,x-other=b=c"),
    )
    traces.configure(settings, "tests")
    yield made
    traces.close()
    made.server.shutdown()
    made.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def attempt(office: Office, kinds: dict[str, Kind[Any]]) -> str:
    """Let the newest promise become a job, and do it."""
    with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
        connection.execute("select jobs.take_outbox('{events}', '{test.tell}', 1000)")
        row = connection.execute("select id from jobs.job where kind = 'test.tell' order by created_at desc limit 1")
        identity = (row.fetchone() or pytest.fail("no job"))[0]
    settings = settings_for(office.test_database, database_worker_url=SecretStr(office.test_database.worker_dsn))
    runner = Runner(settings, kinds, own_loop=False)
    await runner.tools.database.open()
    try:
        return await runner.attempt(identity)
    finally:
        await runner.tools.database.close()


async def _tell(_payload: Payload, _work: Work) -> None:
    """Do nothing."""


class _Anything(Payload):
    events: list[Any]


async def test_a_request_and_its_job_are_one_trace(office: Office, collector: Collector):
    answer = await office.post("analyst", "/packages", {"title": CANARY})
    assert answer.status_code == 201
    correlation = answer.headers["x-correlation-id"]
    assert await attempt(office, {"test.tell": Kind("test.tell", _Anything, _tell)}) == "done"

    spans = collector.spans()
    request, job = spans["POST /api/v1/packages"], spans["test.tell"]
    assert request.trace_id == job.trace_id == UUID(correlation).bytes
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/api/v1/packages",
        "http.response.status_code": 201,
        "pmis.correlation_id": correlation,
    }
    assert attributes(job) == {
        "pmis.correlation_id": correlation,
        "pmis.job.attempt": 1,
        "pmis.job.outcome": "done",
    }
    assert request.end_time_unix_nano > request.start_time_unix_nano
    assert CANARY.encode() not in b"".join(collector.bodies)
    assert office.token("analyst").encode() not in b"".join(collector.bodies)
    assert collector.headers[0]["x-key"] == "sesame"
    assert collector.headers[0]["x-other"] == "b=c"


async def test_a_job_that_fails_is_an_error(office: Office, collector: Collector):
    correlation = f"of-somebody.{uuid7()}"
    await office.post("analyst", "/packages", {"title": "x"}, headers={"X-Correlation-Id": correlation})
    assert await attempt(office, {}) == "waiting"
    span = collector.spans()["test.tell"]
    assert span.status.code == 2
    assert attributes(span)["error.type"] == "waiting"
    assert span.trace_id == traces.trace_id(correlation).to_bytes(16, "big")


async def test_the_trace_of_a_caller_is_continued(office: Office, collector: Collector):
    answer = await office.get("analyst", "/packages", headers={"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"})
    assert answer.headers["x-correlation-id"] == PARENT
    span = collector.spans()["GET /api/v1/packages"]
    assert span.trace_id.hex() == PARENT
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"


async def test_a_caller_that_does_not_sample_is_not_sent(office: Office, collector: Collector):
    await office.get("analyst", "/packages", headers={"traceparent": f"00-{PARENT}-00f067aa0ba902b7-00"})
    await office.get("analyst", "/parties")
    assert "GET /api/v1/packages" not in collector.spans()
    assert "GET /api/v1/parties" in collector.spans()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{PARENT}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{PARENT}-{'0' * 16}-01",
        f"00-{PARENT.upper()}-00f067aa0ba902b7-01",
        f"00-{PARENT}-00f067aa0ba902b7-01\x00",
        "00-" + "a" * 70_000,
    ],
)
def test_a_header_that_is_no_traceparent_counts_as_none(header: str):
    assert traces.correlation_of(header.encode()) == b""


async def test_nothing_is_made_when_nothing_is_to_be_sent(office: Office):
    assert traces.begin("request", "x") is None
    answer = await office.get("analyst", "/packages", headers={"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"})
    assert answer.headers["x-correlation-id"] == PARENT
