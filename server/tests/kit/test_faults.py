"""Reports of faults, as a collector receives them."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from pydantic import SecretStr

from pmis.kit import faults
from pmis.kit.logs import CORRELATION
from pmis.kit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "zq-canary-of-somebody"


class Collector:
    """A server that takes what is sent to it."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.append(body.decode())
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def dsn(self) -> SecretStr:
        return SecretStr(f"http://publickeyofproject@127.0.0.1:{self.server.server_port}/1")

    def events(self) -> list[dict[str, Any]]:
        """The events among what came."""
        sentry_sdk.flush(10)
        lines = [json.loads(line) for body in self.bodies for line in body.splitlines() if line]
        return [line for line in lines if "exception" in line]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setattr(faults, "_reports", False)
    yield made
    sentry_sdk.get_client().close()
    sentry_sdk.init(dsn=None)
    made.server.shutdown()
    made.server.server_close()


def break_something(text: str) -> Exception:
    """A fault with something in a variable that nobody else may learn."""
    private = {"iban": CANARY}

    def fail() -> None:
        raise RuntimeError(f"It broke with {text}\nDETAIL:  Failing row contains ({private['iban']})")

    try:
        fail()
    except RuntimeError as error:
        return error
    raise AssertionError


def test_a_fault_is_reported_without_what_people_entrusted_to_us(collector: Collector):
    settings = load_settings(embedded=False, sentry_dsn=collector.dsn, secret_key=SecretStr("k" * 16 + "-secret-key"))
    faults.configure(settings, "api")
    token = CORRELATION.set("trace-9")
    faults.report(break_something("k" * 16 + "-secret-key"))
    CORRELATION.reset(token)
    (event,) = collector.events()
    (value,) = event["exception"]["values"]
    assert value["type"] == "RuntimeError"
    assert value["value"] == "It broke with [removed]"
    assert value["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["tags"] == {"process": "api", "correlation_id": "trace-9"}
    assert event["environment"] == "development"
    assert not {"breadcrumbs", "request", "user", "contexts", "modules", "server_name", "extra"} & set(event)
    assert CANARY not in "".join(collector.bodies)


def test_the_canary_would_be_seen(collector: Collector):
    """The test above can fail: the library on its own sends all of it."""
    sentry_sdk.init(dsn=collector.dsn.get_secret_value())
    sentry_sdk.capture_exception(break_something("x"))
    assert collector.events()
    assert CANARY in "".join(collector.bodies)


def test_without_an_address_nothing_is_sent(collector: Collector):
    faults.configure(load_settings(embedded=False), "api")
    faults.report(break_something("x"))
    assert collector.events() == []
