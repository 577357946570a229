"""The short way to an endpoint leads where the framework's way does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import FastAPI
from starlette.routing import Match, Route

from pmis.api.direct import Direct
from pmis.api.docs import DirectRoute, RouteTable
from tests.api.expect import problem

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio
METHODS = ("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS")
VALUES = ("P-001", "0184d6ff-d000-7e11-9a64-d485d447d3f4", "transitions", "a b", "%2F", "ü", "1.0")


def framework(app: FastAPI, method: str, path: str) -> tuple[Any, dict[str, Any]] | None:
    """Where the framework's own table leads."""
    scope = {"type": "http", "method": method, "path": path, "headers": [], "root_path": ""}
    for route in app.routes:
        if isinstance(route, Route):
            match, more = route.matches(scope)
            if match is Match.FULL:
                return route, more["path_params"]
    return None


def paths(app: FastAPI) -> set[str]:
    """Every path with every kind of text in it, and some that are nearly one."""
    found: set[str] = set()
    for route in app.routes:
        path = cast("Route", route).path
        for value in VALUES:
            filled = re.sub(r"\{\w+\}", value, path)
            found |= {filled, f"{filled}/", f"{filled}/x", filled.replace("/api", "", 1), f"/{filled}", filled[:-1]}
    return found


async def test_it_is_the_way_of_the_framework(office: Office):
    app = office.app
    direct, asked = Direct(app, app.routes), 0
    for path in paths(app):
        for method in METHODS:
            there, here = framework(app, method, path), direct.find(method, path)
            if there is not None and isinstance(there[0], DirectRoute):
                assert here is not None, (method, path)
                assert (here[0] is there[0], here[1]) == (True, there[1]), (method, path)
                asked += 1
            else:
                assert here is None, (method, path)
    assert asked > 1000


async def test_every_endpoint_of_the_api_is_called_directly(office: Office):
    table = Direct(office.app, office.app.routes)
    for route in office.app.routes:
        if isinstance(route, DirectRoute):
            for method in route.methods or ():
                assert table.find(method, re.sub(r"\{\w+\}", "x", route.path)) is not None


def test_the_first_of_two_wins():
    async def endpoint(request: object) -> None:
        del request

    tables = RouteTable("x")
    for path in ("/things/{one}", "/things/all"):
        tables.add(path, endpoint, methods=["GET"], operation_id=path)
    app = FastAPI()
    tables.add_to(app, "/api", described=False)
    added = app.router.routes[-2:]
    found = Direct(app, added).find("GET", "/api/things/all")
    assert found is not None
    assert found[0].path == "/api/things/{one}"
    turned = Direct(app, reversed(added)).find("GET", "/api/things/all")
    assert turned is not None
    assert turned[0].path == "/api/things/all"


def test_a_parameter_of_several_segments_is_refused():
    async def endpoint(request: object) -> None:
        del request

    table = RouteTable("x")
    table.add("/files/{name:path}", endpoint, methods=["GET"])
    app = FastAPI()
    table.add_to(app, "/api", described=False)
    added = app.router.routes[-1]
    with pytest.raises(TypeError, match="more than one segment"):
        Direct(app, [added])


async def test_a_fault_where_the_framework_serves_is_a_problem_like_any_other(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    """`/metrics` is not a direct route; its faults must not be answered in the framework's own words."""

    async def broken() -> None:
        message = "hunter2"
        raise RuntimeError(message)

    monkeypatch.setattr(office.app.state.figures, "get", broken)
    answer = await office.get(None, "/metrics", base="")
    body = problem(answer, 500, "internal_error")
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    assert "hunter2" not in answer.text
