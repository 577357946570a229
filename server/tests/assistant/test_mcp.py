"""A real MCP client: it sees what its person sees, proposes, and decides nothing."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from pmis.assistant.tools import LOOKING
from tests.api.expect import ok, problem
from tests.api.office import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.api.office import Office
    from tests.assistant.talking import Talk

pytestmark = pytest.mark.anyio
URL: Final = "http://pmis.test/mcp/"


@asynccontextmanager
async def program(office: Office, who: str, token: str | None = None) -> AsyncGenerator[ClientSession]:
    """A program that works for somebody, with their access token or an API token."""
    headers = {"Authorization": f"Bearer {token}"} if token else office.headers(who)
    transport = httpx2.ASGITransport(app=office.app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://pmis.test", headers=headers, timeout=60) as http,
        streamable_http_client(URL, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        yield session


async def use(session: ClientSession, tool: str, **arguments: Any) -> Any:
    """What a tool says."""
    result = await session.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(session: ClientSession, tool: str, **arguments: Any) -> Any:
    """What a tool says when it says no."""
    result = await session.call_tool(tool, arguments)
    assert result.is_error, result.content
    return result.structured_content


async def test_its_tools_look_and_propose_and_nothing_else(talk: Talk):
    async with program(talk.office, "analyst") as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert tools.keys() == {*LOOKING, "propose"}
        assert all(tools[name].annotations.read_only_hint for name in LOOKING)  # pyright: ignore[reportOptionalMemberAccess]
        assert all(tool.description for tool in tools.values())
        told = await refused(session, "approve", approval="x")
        assert told["code"] == "not_found"


async def test_every_tool_that_looks_answers(talk: Talk):
    package = await talk.package("Looked at", amount="700.00", currency="EUR")
    async with program(talk.office, "analyst") as session:
        one = await use(session, "read_record", type="package", record=package.label)
        assert one["rows"][0]["title"] == "Looked at"
        listed = await use(session, "list_records", type="package", filters={"q": "looked"})
        assert [row["code"] for row in listed["rows"]] == [package.label]
        sums = await use(session, "add_up", by=["status"], filters={"q": "looked"})
        assert "700.00 EUR" in sums["text"]
        assert "text" in await use(session, "what_waits")
        assert "Nobody" in (await use(session, "who_decided", type="package", record=str(package.id)))["text"]
        changed = await use(session, "what_changed", since="2020-01-01T00:00:00Z", type="package", record=package.label)
        assert "package created" in changed["text"]
        history = await use(session, "history_of", type="package", record=package.label, field="amount")
        assert "700.00" in history["text"]


async def test_what_waits_for_the_person_is_told_and_not_decided(talk: Talk):
    package = await talk.package()
    await talk.submit(package)
    async with program(talk.office, "analyst") as session:
        made = await use(
            session, "propose", operation="patch", type="package", record=package.label, patch={"title": "New"}
        )
    (change,) = made["changes"]
    assert change["outcome"] == "pending"
    async with program(talk.office, "admin") as session:
        waits = await use(session, "what_waits")
        assert change["approval_id"] in [one["id"] for one in waits["evidence"]]


async def test_what_it_proposes_is_the_agents_for_the_person_and_says_so(talk: Talk):
    package = await talk.package()
    async with program(talk.office, "analyst") as session:
        made = await use(
            session, "propose", operation="patch", type="package", record=package.label, patch={"title": "By MCP"}
        )
    assert made["changes"][0]["outcome"] == "applied"
    newest = ok(await talk.office.get("admin", f"/packages/{package.label}/timeline"))["items"][0]
    assert (newest["source"], newest["actor"]) == ("mcp", "agent:assistant")
    assert newest["on_behalf_of"] == f"person:{talk.office.person('analyst')}"


async def test_what_lies_in_other_projects_is_not_there(talk: Talk):
    hidden = await talk.package("Hidden from a", world="b")
    async with program(talk.office, "admin") as session:
        told = [
            await refused(session, "read_record", type="package", record=hidden.label),
            await refused(session, "read_record", type="package", record=str(hidden.id)),
            await refused(
                session, "propose", operation="patch", type="package", record=hidden.label, patch={"title": "x"}
            ),
        ]
    assert {one["code"] for one in told} == {"not_found"}
    assert "Hidden from a" not in json.dumps(told)


async def test_a_token_that_reads_does_not_propose(talk: Talk):
    package = await talk.package()
    _, token = await make_token(talk.office, "analyst", scope="read")
    async with program(talk.office, "analyst", token) as session:
        assert await use(session, "read_record", type="package", record=package.label)
        said = {"operation": "patch", "type": "package", "record": package.label, "patch": {"title": "x"}}
        assert (await refused(session, "propose", **said))["code"] == "token_scope"


async def test_wrong_arguments_are_said_one_by_one(talk: Talk):
    async with program(talk.office, "analyst") as session:
        told = await refused(session, "list_records", type="secret", limit=0)
        assert told["code"] == "invalid_input"
        assert {one["pointer"] for one in told["errors"]} == {"/type", "/limit"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"Cookie": "__Host-pmis=x"}])
async def test_nobody_without_a_token(talk: Talk, headers: dict[str, str]):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    problem(await talk.office.client.post("/mcp/", json=body, headers=headers), 401)
