"""What happens around every request: a correlation id, a limit to the body, headers that browsers obey."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pmis.api.metrics import Watch
from pmis.api.problems import fault, response_of
from pmis.kit import traces
from pmis.kit.errors import TooLargeError
from pmis.kit.ids import uuid7_text
from pmis.kit.logs import CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import Span
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pmis.api.proxy import Proxies

access: Final = logging.getLogger("pmis.access")
_QUIET: Final = ("/health", "/metrics", "/api/v1/health", "/api/v1/readiness", "/api/health", "/api/readiness")
"""What is asked every few seconds by machines; logged at DEBUG."""
_CORRELATION: Final = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_DOCS: Final = ("/docs", "/redoc", "/openapi.json")
_CSP: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class _TooLarge(Exception):  # noqa: N818 - it never leaves this module
    pass


class Edge:
    """The outermost layer. The correlation id is the caller's when it is well formed, or that of its trace, or made.

    Each request is counted, and is one line of the log: without its query and its body, which may hold anything.
    """

    def __init__(
        self,
        app: ASGIApp,
        proxies: Proxies,
        max_body_bytes: int,
        larger: Mapping[str, int] | None = None,
        *,
        hsts: bool = False,
    ) -> None:
        """`larger` are the larger limits of single paths; `hsts` tells browsers to insist on HTTPS."""
        self._headers = (*_HEADERS, _HSTS) if hsts else _HEADERS
        self._app = app
        self._proxies = proxies
        self._limit = max_body_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._proxies.judge(scope)
        headers = dict(scope["headers"])
        given, traceparent = headers.get(b"x-correlation-id", b""), headers.get(b"traceparent", b"")
        if not _CORRELATION.fullmatch(given):
            given = (traceparent and traces.correlation_of(traceparent)) or uuid7_text().encode()
        correlation = given
        scope["correlation_id"] = correlation.decode()
        CORRELATION.set(scope["correlation_id"])
        extra = [(b"x-correlation-id", correlation), *self._headers]
        if not scope["path"].startswith(_DOCS):
            extra.append(_CSP)
        started = False
        status = 0
        watch = Watch(scope)
        span = None if scope["path"] in _QUIET else traces.begin("request", scope["correlation_id"], traceparent)

        async def send_with_headers(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(item for item in extra if item[0] not in present)]
            await send(message)

        try:
            await self._answer(scope, receive, send_with_headers, headers, lambda: started)
        finally:
            watch.end(status or 499)
            _log(scope, watch, status)
            if span is not None:
                _traced(span, scope, watch, status)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send_with_headers: Send,
        headers: dict[bytes, bytes],
        has_started: Callable[[], bool],
    ) -> None:
        limit = self._larger.get(scope["path"], self._limit)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await _too_large(scope, limit)(scope, receive, send_with_headers)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise _TooLarge
            return message

        try:
            await self._app(scope, limited, send_with_headers)
        except Exception as error:
            # Here, and not in a handler of the framework: that would answer from outside, without these headers.
            answer = _too_large(scope, limit) if isinstance(error, _TooLarge) else fault(error, scope["correlation_id"])
            if has_started():
                raise
            await answer(scope, receive, send_with_headers)


def _too_large(scope: Scope, limit: int) -> Response:
    refused = TooLargeError(f"The body is larger than the {limit} bytes that are read here.")
    return response_of(refused, scope["correlation_id"])


def _traced(span: Span, scope: Scope, watch: Watch, status: int) -> None:
    """The conventions of OpenTelemetry for HTTP servers, as far as they tell nothing of whom or what it was about."""
    attributes = {
        "http.request.method": watch.method,
        "http.route": watch.route,
        "pmis.correlation_id": scope["correlation_id"],
    }
    if status:
        attributes["http.response.status_code"] = status
    ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    traces.end(span, f"{watch.method} {watch.route}", attributes, error=str(status) if ours else None)


def _log(scope: Scope, watch: Watch, status: int) -> None:
    level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
    if not access.isEnabledFor(level):
        return
    client = scope.get("client")
    # Made by hand: the usual way looks for the caller's line, which is always this one.
    record = access.makeRecord(
        access.name,
        level,
        __file__,
        0,
        "%s %s %s",
        (scope["method"], scope["path"], status or "cut off"),
        None,
        extra={
            "route": watch.route,
            "status": status,
            "duration_ms": round(watch.seconds * 1000, 1),
            "client": client[0] if client else None,
            "actor": scope.get("actor"),
        },
    )
    access.handle(record)
