"""Schemas of package types: judged when they are proposed, followed nowhere but in themselves."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pmis.package import extra
from tests.api.expect import applied, problem, waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that notes every path it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class named it
            del format, args

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def named(schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"Type {secrets.token_hex(4)}", "fields_schema": schema}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "http://{at}/x"}}},
        {"properties": {"a": {"$ref": "HTTP://{at}/x"}}},
        {"properties": {"a": {"$ref": "//{at}/x"}}},
        {"properties": {"a": {"$dynamicRef": "http://{at}/x#y"}}},
        {"$id": "http://{at}/", "properties": {"a": {"$ref": "x"}}},
        {"properties": {"a": {"$id": "http://{at}/", "$ref": "#/x"}}},
        {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"properties": {"a": {"$ref": "other.json"}}},
        {"properties": {"a": {"$ref": "urn:x:y"}}},
        {"allOf": [{"if": {"properties": {"a": {"$ref": "ftp://{at}/x"}}}}]},
    ],
)
async def test_a_schema_refers_only_to_itself(office: Office, elsewhere, schema):
    address, asked = elsewhere
    text = json.dumps(named(schema)).replace("{at}", address)
    before = await office.count()
    answer = await office.call("admin", "POST", "/package-types", content=text.encode())
    body = problem(answer, 422, "invalid_input")
    assert body["errors"][0]["pointer"] == "/fields_schema"
    assert not asked
    assert await office.count() == before


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"properties": []},
        {"$ref": "#/nowhere"},
        {"$ref": "#anchor"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"pattern": "["},
        {"patternProperties": {"(": {}}},
        {"minLength": True},
        {"multipleOf": 0},
    ],
)
async def test_a_schema_that_cannot_be_followed_is_refused(office: Office, schema):
    before = await office.count()
    problem(await office.post("admin", "/package-types", named(schema)), 422, "invalid_input")
    assert await office.count() == before


async def made(office: Office, schema: dict[str, Any]) -> str:
    said = named(schema)
    approval = waits(await office.post("admin", "/package-types", said), "confirmation_required")
    assert applied(await office.post("admin", f"/approvals/{approval['id']}/confirm"))["name"] == said["name"]
    return said["name"]


async def test_references_inside_a_schema_are_followed(office: Office):
    count = {"type": "integer", "minimum": 1}
    name = await made(office, {"$defs": {"count": count}, "properties": {"lots": {"$ref": "#/$defs/count"}}})
    applied(await office.post("analyst", "/packages", {"title": "x", "package_type": name, "data": {"lots": 2}}), 201)
    answer = await office.post("analyst", "/packages", {"title": "x", "package_type": name, "data": {"lots": 0}})
    assert problem(answer, 422, "invalid_input")["errors"][0]["pointer"] == "/data/lots"


async def test_a_schema_that_only_some_data_lead_in_a_circle_refuses_those(office: Office):
    name = await made(office, {"properties": {"a": {"$ref": "#/properties/a"}, "b": {"$ref": "#/$defs/none"}}})
    applied(await office.post("analyst", "/packages", {"title": "x", "package_type": name}), 201)
    for data in ({"a": 1}, {"b": 1}):
        answer = await office.post("analyst", "/packages", {"title": "x", "package_type": name, "data": data})
        problem(answer, 422, "invalid_input")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("date", "2026-02-28", "20260228"),
        ("date", "2026-02-28", "2026-W09-6"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28T10:00:00"),
        ("email", "a@firm.example", "a at firm"),
        ("uuid", "0184d6ff-d000-7e11-9a64-d485d447d3f4", "0184d6ff"),
        ("uri", "https://firm.example/x", "firm dot example"),
    ],
)
async def test_what_a_format_asks_for_is_asked_for(office: Office, name: str, good: str, bad: str):
    schema = {"type": "object", "properties": {"field": {"type": ["string", "null"], "format": name}}}
    given = {"title": "Typed", "package_type": await made(office, schema)}
    applied(await office.post("operator", "/packages", {**given, "data": {"field": good}}), 201)
    refused = await office.post("operator", "/packages", {**given, "data": {"field": bad}})
    assert problem(refused, 422, "invalid_input")["errors"][0]["pointer"] == "/data/field"


async def test_a_format_that_nothing_checks_is_refused(office: Office):
    schema = {"properties": {"a": {"anyOf": [{"format": "hostname"}]}}}
    body = problem(await office.post("admin", "/package-types", named(schema)), 422, "invalid_input")
    assert "'hostname' is not one that is checked; these are: date, " in body["detail"]
    # A field of that name is no format, nor is what stands in a value.
    await made(office, {"properties": {"a": {"enum": [{"format": "A4"}], "default": {"format": "A4"}}}})
    await made(office, {"properties": {"format": {"type": "string"}}})


def test_no_text_takes_long_to_be_no_address():
    began = time.process_time()
    assert extra.faults_of({"format": "email"}, "a@" + "." * 100_000 + "@")  # type: ignore[arg-type]
    assert extra.faults_of({"format": "email"}, "a@" + "a." * 120 + "@")  # type: ignore[arg-type]
    assert time.process_time() - began < 5, "a quadratic pattern takes minutes"
