"""T11: requests that the description allows, and requests that it does not, to every operation."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, Self, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import AcceptedNegativeData, FailureGroup
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.responses import Response

from pmis.approval.governed import parse_input
from tests.api import test_garbage
from tests.api.fuzzing import Ground, Judge, Told, prepared
from tests.api.garbage import REFUSED
from tests.api.test_garbage import WHOLE, Strict, plant

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from schemathesis import APIOperation, Case

    from tests.conftest import TestDatabase

CHECKS: Final[list[Any]] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
PARTS: Final = 6
SHARE: Final = 3_000 // PARTS
"""How many requests each part sends at least."""
READS, WRITES = (200, 400) if WHOLE else (14, 26)
"""How many requests of each mode an operation gets; reads three times as many of those that are allowed."""


@pytest.fixture(scope="module")
def ground(make_database: Callable[[str], TestDatabase]) -> Ground:
    return prepared(make_database("fuzz"))


class Fuzz:
    """One run against an application, and what it found."""

    def __init__(self, ground: Ground, app: FastAPI) -> None:
        self.judge = Judge(ground.again(app))
        self.schema = schemathesis.openapi.from_dict(cast("Any", app.openapi()))
        # What is looked for is in the answers; how long a busy machine takes for one is not.
        self.schema.config.update(request_timeout=120)
        self._app = app
        self._client: Any = None

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.judge.close)
        self._client = self._stack.enter_context(asgi.get_client(cast("Any", self._app)))
        self._client.headers.update(self.judge.ground.headers)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def operations(self) -> list[APIOperation[Any, Any, Any, Any]]:
        """All of them, in the order of what they let in: dealt out in turn, each part has its share of each kind.

        Reads let in most, then lists (which have filters to get wrong); writes let in little of what is made up.
        """
        found = [cast("Any", one).ok() for one in self.schema.get_all_operations()]
        return sorted(found, key=lambda one: (one.method, "{" in one.path, one.path))

    def everything(self, operation: APIOperation[Any, Any, Any, Any], place: int) -> None:
        """Both modes, about records that there are and records that there are not; which ones depends on the place."""
        known = self.judge.ground.ids(operation.path)
        for mode in MODES:
            examples = READS if operation.method == "get" else WRITES
            if mode is GenerationMode.POSITIVE and operation.method == "get":
                examples *= 3  # what is let in, and so answers with a body to judge, is mostly this
            if known:
                place += 1
                fixed = known[place % len(known)]
                self.run(operation, mode, examples - examples // 4, path_parameters=fixed)
            self.run(operation, mode, examples // 4 if known else examples)

    def run(
        self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, examples: int, **fixed: Any
    ) -> None:
        """So many cases of one operation."""
        name = f"{operation.method.upper()} {operation.path}"

        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        @given(case=operation.as_strategy(mode, **fixed))
        def one(case: Case[Any]) -> None:
            response = case.call(session=self._client)
            told = Told(
                response.status_code,
                {key: values[0] for key, values in response.headers.items()},
                response.content,
            )
            key = any(header.lower() == "idempotency-key" for header in case.headers or {})
            dry = str((case.query or {}).get("dry_run")).lower() == "true"
            how = f"{mode.value} {case.method} {case.formatted_path} {case.query} {case.headers} {case.body!r:.300}"
            self.judge.look(name, how, told, key=key, dry=dry)
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as group:
                for failure in group.exceptions:
                    # A refusal is one, whichever of its reasons came first.
                    # And a list of nothing in the query is not sent at all, so it is not what was let in.
                    if isinstance(failure, AcceptedNegativeData) and (told.status in REFUSED or unsent(case.query)):
                        continue
                    self.judge.wrong(name, type(failure).__name__, f"{how}\n{failure!s:.500}", told)

        # Nothing that is wrong can be sent to an operation that takes nothing.
        with contextlib.suppress(Unsatisfiable), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one()


def unsent(query: Any) -> bool:
    """Whether the query has a value that becomes no text when it is sent: `[]`, or a list of such."""

    def nothing(value: Any) -> bool:
        return isinstance(value, list) and all(map(nothing, cast("list[Any]", value)))

    return any(map(nothing, (query or {}).values()))


def test_only_lists_of_nothing_are_not_sent():
    assert unsent({"a": "b", "I": [[], []]})
    assert unsent({"I": []})
    assert not unsent({"I": [[], [""]], "a": "", "b": None})
    assert not unsent(None)


@pytest.mark.no_cover
@pytest.mark.parametrize("part", range(PARTS))
def test_every_answer_is_one_that_is_described(ground: Ground, part: int, record_property):
    began = time.perf_counter()
    with Fuzz(ground, ground.fresh_app()) as fuzz:
        for place, operation in enumerate(fuzz.operations):
            if place % PARTS == part:
                fuzz.everything(operation, place)
        judge = fuzz.judge
        record_property("figure", judge.figure(f"described {part + 1}/{PARTS}", time.perf_counter() - began))
        assert not judge.found, "\n".join(judge.found.values())
        assert judge.cases >= SHARE
        answered = sum(count for status, count in judge.statuses.items() if status < 400)
        assert answered >= judge.cases // 10, "nothing is let in, so that something is kept out proves little"


def test_the_size_of_the_proof():
    assert PARTS * SHARE + test_garbage.PARTS * test_garbage.SHARE + test_garbage.NOWHERE >= 8_000


class TestPlantedFaults:
    """The controls: a route that does one thing wrong is found."""

    @pytest.fixture
    def found_in(self, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
        def found(handler: Any) -> str:
            with Fuzz(ground, plant(ground, monkeypatch, handler)) as fuzz:
                [operation] = [one for one in fuzz.operations if one.path.endswith("/planted")]
                for mode in MODES:
                    fuzz.run(operation, mode, 30)
                assert fuzz.judge.cases >= 50
                return "\n".join(fuzz.judge.found.values())

        return found

    @staticmethod
    async def said(call: Any) -> Response:
        count = parse_input(Strict, await call.request.body()).count
        return Response(json.dumps({"items": [], "next": None, "x": count}), 200, None, "application/json")

    def test_a_fault(self, found_in):
        async def handler(call: Any) -> Response:
            await self.said(call)
            raise RuntimeError

        assert "answers 500" in found_in(handler)

    def test_an_undocumented_status(self, found_in):
        async def handler(call: Any) -> Response:
            answer = await self.said(call)
            answer.status_code = 207
            return answer

        assert "answers 207, which is not documented" in found_in(handler)

    def test_a_body_that_the_schema_forbids(self, found_in):
        async def handler(_: Any) -> Response:
            return Response(b'{"items":[],"next":null}', 200, None, "application/json")

        assert "AcceptedNegativeData" in found_in(handler)

    def test_an_answer_that_is_not_as_described(self, found_in):
        async def handler(call: Any) -> Response:
            await self.said(call)
            return Response(b'{"items":{},"next":1}', 200, None, "application/json")

        assert "JsonSchemaError" in found_in(handler)

    def test_another_media_type(self, found_in):
        async def handler(call: Any) -> Response:
            await self.said(call)
            return Response(b"{}", 200, None, "text/html")

        assert "UndefinedContentType" in found_in(handler)
