"""Lines of the log: what each holds, and what none may."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from pmis.identity.sessions import COOKIE_PREFIX, PREFIX
from pmis.kit.logs import BLOT, CORRELATION, Formatter, configure, secrets_of
from pmis.kit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "zq-the-key-of-everything-" + "k" * 20
REFRESH = PREFIX + "0123456789abcdefXYZ-_0123456789abcdefXYZ-_0"
COOKIE = COOKIE_PREFIX + "0123456789abcdefXYZ-_0123456789abcdefXYZ-_0"
API_TOKEN = "pmist_" + "z" * 43
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ6cSJ9.c2lnbmF0dXJlLXpx"


def record(message: str, *values: object, error: BaseException | None = None, **more: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("pmis.test", logging.WARNING, __file__, 1, message, values, info)
    made.created = 1_700_000_000.25
    made.__dict__.update(more)
    return made


@pytest.fixture
def correlated() -> Iterator[str]:
    token = CORRELATION.set("trace-7")
    yield "trace-7"
    CORRELATION.reset(token)


class TestForm:
    def test_a_line_is_one_json_object(self, correlated: str):
        line = Formatter("worker").format(record("It took %s\nor so", "long", duration_ms=12.5, actor=None))
        assert "\n" not in line
        assert json.loads(line) == {
            "timestamp": "2023-11-14T22:13:20.250+00:00",
            "level": "WARNING",
            "process": "worker",
            "logger": "pmis.test",
            "message": "It took long\nor so",
            "correlation_id": correlated,
            "duration_ms": 12.5,
            "actor": None,
        }

    def test_without_a_request_it_names_none(self):
        assert "correlation_id" not in json.loads(Formatter("api").format(record("x")))

    def test_for_people_it_is_a_line_of_text(self, correlated: str):
        line = Formatter("api", as_json=False).format(record("Hello", route="/x"))
        assert line == f"2023-11-14T22:13:20.250+00:00 WARNING api pmis.test Hello correlation_id={correlated} route=/x"

    def test_the_trace_stands_inside_the_object_and_below_the_line(self):
        rows = "zq-" + "canary"

        def fail() -> None:
            raise RuntimeError(f"It broke\nDETAIL:  Failing row contains ({rows})\nCONTEXT:  {rows}")

        with pytest.raises(RuntimeError) as caught:
            fail()
        found = json.loads(Formatter("api").format(record("x", error=caught.value)))["trace"]
        assert "in fail" in found
        assert "It broke" in found
        assert rows in str(caught.value)
        assert rows not in found
        text = Formatter("api", as_json=False).format(record("x", error=caught.value))
        assert text.splitlines()[1] == "Traceback (most recent call last):"

    def test_what_is_no_json_is_written_as_text(self):
        assert json.loads(Formatter("api").format(record("x", what={1})))["what"] == "{1}"


class TestSecrets:
    @pytest.mark.parametrize(
        ("said", "canary"),
        [
            (f"Authorization: Bearer {JWT}", JWT),
            ("authorization: bearer abc.def-ghi", "abc.def-ghi"),
            (f"the token {JWT} is bad", "c2lnbmF0dXJlLXpx"),
            (f"the refresh token {REFRESH}", REFRESH),
            (f"the API token {API_TOKEN} of somebody", API_TOKEN),
            (f"Cookie: __Host-pmis={COOKIE}", COOKIE),
            ("postgresql://pmis:hunter2hunter2@host:5432/x", "hunter2hunter2"),
            ("redis://:hunter2hunter2@host:6379/0", "hunter2hunter2"),
            (f"the key is {SECRET}!", SECRET),
        ],
    )
    @pytest.mark.parametrize("as_json", [True, False])
    def test_they_are_blotted_out_wherever_they_stand(self, said: str, canary: str, as_json: bool):
        formatter = Formatter("api", frozenset({SECRET}), as_json=as_json)
        for line in (
            formatter.format(record("Said: %s", said)),
            formatter.format(record("x", header=said)),
            formatter.format(record("x", error=ValueError(said))),
        ):
            assert canary not in line
            assert BLOT in line

    def test_and_nothing_else_is(self):
        said = "Bearer; see https://host:8000/a@b and pmis_app, e.g. eyJ. at 12:30"
        assert json.loads(Formatter("api", frozenset({SECRET})).format(record(said)))["message"] == said

    def test_the_settings_know_which(self):
        settings = load_settings(
            embedded=False,
            secret_key=SecretStr(SECRET),
            database_url=SecretStr("postgresql://pmis:hunter2hunter2@host/x"),
            redis_url=SecretStr("redis://host:6379/0"),
            metrics_token=SecretStr("short"),
        )
        assert secrets_of(settings) == {SECRET, "hunter2hunter2"}


def test_a_process_writes_to_its_standard_output(monkeypatch: pytest.MonkeyPatch):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    try:
        for _ in range(2):
            configure(load_settings(embedded=False, log_level="INFO", secret_key=SecretStr(SECRET)), "relay")
        logging.getLogger("pmis.x").info("key %s", SECRET)
        logging.getLogger("pmis.x").debug("not at this level")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["message"] == f"key {BLOT}"
    assert json.loads(line)["process"] == "relay"
