"""T11: bytes that no client should send, to every operation; R20: what comes back tells nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from starlette.requests import Request as Received  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs, problems
from pmis.api.context import caller, parts_of, require_good_key, require_known_parameters
from pmis.approval.governed import Input, parse_input
from pmis.kit.db import Reach
from pmis.kit.errors import ConflictError
from tests.api.fuzzing import Ground, Judge, prepared
from tests.api.garbage import Dump, send, throw

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from fastapi import FastAPI

    from tests.conftest import TestDatabase

PARTS: Final = 5
SHARE: Final = 4_550 // PARTS
"""How many requests each part throws at least."""
NOWHERE: Final = 500
WHOLE: Final = os.environ.get("PMIS_TEST_LONG", "") not in ("", "0")
STRIDE: Final = 1 if WHOLE else 4
"""Of the requests to an operation every fourth is thrown, beginning at another one for each operation."""


@pytest.fixture(scope="module")
def ground(make_database: Callable[[str], TestDatabase]) -> Ground:
    return prepared(make_database("garbage"))


@contextmanager
def judging(ground: Ground, app: FastAPI | None = None) -> Generator[Judge]:
    """A judge of the application, or of another one on the same records."""
    judge = Judge(ground.again(app or ground.fresh_app()))
    try:
        yield judge
    finally:
        judge.close()


def throwing(judge: Judge, names: Iterable[str], *, nowhere: bool = False, stride: int = STRIDE) -> None:
    """Throw everything at these operations."""

    async def everything() -> None:
        app, token = judge.ground.app, judge.ground.token
        dump = Dump(judge.ground, judge)
        async with app.router.lifespan_context(app):
            for place, name in enumerate(names):
                cursor = await _cursor(dump, name, token)
                judge.look_again()  # the first page of the log is a reading that is written down
                thrown = list(dump.of(name, cursor))
                for request in thrown[place % stride :: stride]:
                    await throw(judge, request, token)
            for request in dump.nowhere() if nowhere else ():
                await throw(judge, request, token)

    asyncio.run(everything())


async def _cursor(dump: Dump, name: str, token: str) -> str | None:
    """A cursor that the operation itself gave out, if it has a second page."""
    if not any(one["name"] == "cursor" for one in dump.judge.operations[name].get("parameters", [])):
        return None
    told = await send(dump.ground.app, dump.request(name, "the first page", query="limit=1"), token)
    assert told.status == 200, told
    return json.loads(told.body)["next"]


@pytest.mark.no_cover
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_breaks_leaks_or_is_written(ground: Ground, part: int, record_property):
    began = time.perf_counter()
    with judging(ground) as judge:
        throwing(judge, list(judge.operations)[part::PARTS])
        record_property("figure", judge.figure(f"garbage {part + 1}/{PARTS}", time.perf_counter() - began))
        assert not judge.found, "\n".join(judge.found.values())
        assert judge.cases >= SHARE
        answered = sum(count for status, count in judge.statuses.items() if status < 400)
        assert answered >= judge.cases // 50, "nothing is let in, so that something is kept out proves little"


def test_nothing_is_where_nothing_is_offered(ground: Ground, record_property):
    began = time.perf_counter()
    with judging(ground) as judge:
        throwing(judge, [], nowhere=True)
        record_property("figure", judge.figure("methods and paths", time.perf_counter() - began))
        assert not judge.found, "\n".join(judge.found.values())
        assert judge.statuses.keys() == {404, 405}
        assert judge.cases >= NOWHERE


class Strict(Input):
    """What the planted routes say that they take."""

    count: int


def plant(ground: Ground, monkeypatch: pytest.MonkeyPatch, handler: Any) -> FastAPI:
    """The application with one more route, described like any other, that does what the handler does."""

    async def planted(request: Received) -> Response:
        call = await caller(request)
        docs.require_json(request)
        return await handler(call)

    monkeypatch.setitem(docs.PERMISSIONS, ("POST", "/planted"), "propose")
    monkeypatch.setitem(docs.BODIES, "Strict", Strict)
    monkeypatch.setattr(Strict.model_fields["count"], "examples", [1])
    app = ground.fresh_app()
    table = docs.RouteTable("planted")
    spec = docs.Spec("Planted", "propose", {200: docs.EventPage}, docs.SAY_REFUSALS, body=Strict)
    docs.route(table, "POST", "/planted", planted, spec)
    table.add_to(app, "/api/v1", described=True)
    return app


def found_in(ground: Ground, app: FastAPI) -> str:
    """What the garbage finds in the planted route."""
    with judging(ground, app) as judge:
        throwing(judge, ["POST /api/v1/planted"], stride=1)
        return "\n".join(judge.found.values())


class TestPlantedFaults:
    """The controls: a route that does one thing wrong is found."""

    async def good(self, call: Any) -> Response:
        parse_input(Strict, await call.request.body())
        return Response(b'{"items":[],"next":null}', 200, None, "application/json")

    def test_a_route_that_does_everything_right_is_not(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            require_known_parameters(call.request, frozenset())
            require_good_key(call.request)
            return await self.good(call)

        assert found_in(ground, plant(ground, monkeypatch, handler)) == ""

    def test_a_fault(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            if b"\\u0000" in await call.request.body():
                raise RuntimeError
            return await self.good(call)

        assert "answers 500" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_an_undocumented_status(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            if "x-http-method-override" in call.request.headers:
                return Response(b"{}", 206, None, "application/json")
            return await self.good(call)

        assert "answers 206, which is not documented" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_body_that_the_schema_forbids(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            body = await call.request.body()
            if body == b'{"count": true}':
                return Response(b'{"items":[],"next":null}', 200, None, "application/json")
            return await self.good(call)

        assert "count: True: answered 200, not a refusal" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_key_that_is_none(self, ground, monkeypatch):
        assert "Idempotency-Key: answered 200" in found_in(ground, plant(ground, monkeypatch, self.good))

    @pytest.mark.parametrize("words", ["psycopg.errors.SyntaxError: syntax error", 'File "/x/pmis/api/app.py"'])
    def test_words_of_ours_in_a_refusal(self, ground, monkeypatch, words):
        async def handler(call: Any) -> Response:
            if b"nonsense" in await call.request.body():
                raise ConflictError(words)
            return await self.good(call)

        assert "in a refusal" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_secret(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            body = json.dumps({"dsn": ground.database.app_dsn}).encode()
            return Response(body, 200, None, "application/json")

        assert "tells a secret" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_refusal_that_is_no_problem(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            return Response(b'{"detail":"no"}', 422, None, "application/json")

        assert "no problem document" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_refusal_that_wrote(self, ground, monkeypatch):
        async def handler(call: Any) -> Response:
            async with parts_of(call.request).database.write(Reach.INSTANCE) as session:
                statement = "insert into ledger.idempotency (actor, key, fingerprint) values (%s, %s, %s)"
                await session.execute(statement, (call.principal.ref, call.correlation_id, b"x" * 32))
                await session.commit()
            return problems.response_of(ConflictError("It was written all the same."), call.correlation_id)

        assert "wrote something" in found_in(ground, plant(ground, monkeypatch, handler))

    def test_a_method_that_is_not_described(self, ground):
        async def put() -> None:
            """Nobody knows of it."""

        app = ground.fresh_app()
        app.add_api_route("/api/v1/packages", put, methods=["PUT"], include_in_schema=False)
        with judging(ground, app) as judge:
            throwing(judge, [], nowhere=True)
            assert "PUT /api/v1/packages" in "".join(judge.found)


def test_what_is_thrown_is_of_many_kinds(ground: Ground):
    with judging(ground) as judge:
        dump = Dump(ground, judge)
        kinds: Counter[str] = Counter()
        judged = 0
        for name in judge.operations:
            for request in dump.of(name):
                kinds[request.why] += 1
                judged += bool(request.right)
        assert len(kinds) >= 500
        assert kinds.total() >= PARTS * SHARE * (1 if WHOLE else STRIDE)
        assert judged >= kinds.total() * 3 // 4, "too few of them have an answer that is known to be right"
