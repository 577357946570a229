"""Traces of requests and jobs by OpenTelemetry's protocol, when OTEL_EXPORTER_OTLP_ENDPOINT is set; else does nothing.

A request and the jobs that it gave rise to are one trace, in whichever processes they ran: the trace's id follows from
the correlation id, which each job carries anyway. A correlation id of 32 hexadecimal digits (with or without the
hyphens of a UUID) is the trace's id. A caller's `traceparent` (W3C Trace Context, level 1) is continued, and stands for
the correlation id when the caller names none.

A span tells the route or the kind of job, how it ended and how long it took. Nothing of addresses, headers, bodies or
records is in it: like the reports of `pmis.kit.faults`, spans leave the install.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span, Tracer

    from pmis.kit.settings import Settings

_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_SEND_AFTER_MS: Final = 1000.0
_SEND_SECONDS: Final = 5.0
_WANTED: Final[ContextVar[int]] = ContextVar("wanted_trace_id")

Kind = Literal["request", "job"]

_tracer: Tracer | None = None
_provider: Any = None


def trace_id(correlation: str) -> int:
    """The id of the trace that belongs to a correlation id: 128 bits, never 0."""
    digits = correlation.replace("-", "").lower()
    if _HEX.fullmatch(digits) and int(digits, 16):
        return int(digits, 16)
    return int.from_bytes(hashlib.sha256(correlation.encode()).digest()[:16], "big")


def correlation_of(traceparent: bytes) -> bytes:
    """The trace's id in a `traceparent` header, to serve as the correlation id; empty for a header that is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found and int(found[1], 16) and int(found[2], 16) else b""


def configure(settings: Settings, process: str) -> None:
    """Send the spans of this process from now on, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Processes that this one forks send theirs too.
    """
    global _tracer, _provider  # noqa: PLW0603 - one process, one sender
    if settings.otel_exporter_otlp_endpoint is None:
        return
    # They take long to load, and few use them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _WANTED.get()

    release = importlib.metadata.version("pmis")
    headers = settings.otel_exporter_otlp_headers
    # Ours alone, not the process's: libraries that look for one would send what may not leave.
    _provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.otel_traces_sampler_arg)),
        resource=Resource.create(
            {
                "service.name": f"pmis-{process}",
                "service.version": release,
                "deployment.environment.name": settings.environment,
            }
        ),
        id_generator=Ids(),
    )
    exporter = OTLPSpanExporter(
        endpoint=f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces",
        headers=_pairs(headers.get_secret_value()) if headers else {},
        timeout=_SEND_SECONDS,
    )
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_AFTER_MS))
    _tracer = _provider.get_tracer("pmis", release)


def _pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, as the protocol's exporters have it."""
    return {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in text.split(",")) if name}


def begin(kind: Kind, correlation: str, traceparent: bytes = b"") -> Span | None:
    """A span that begins now; None when nothing is sent."""
    if _tracer is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - loaded by now
    from opentelemetry.context import Context  # noqa: PLC0415

    context = Context()
    found = _TRACEPARENT.fullmatch(traceparent)
    if found:
        parent = trace.SpanContext(
            int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(found[3], 16) & 1)
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
    _WANTED.set(trace_id(correlation))
    return _tracer.start_span(kind, context, trace.SpanKind.SERVER if kind == "request" else trace.SpanKind.CONSUMER)


def end(span: Span | None, name: str, attributes: Mapping[str, str | int], *, error: str | None = None) -> None:
    """The span ends now. `error` says in a word what kind of fault it was, if it was one of ours."""
    if span is None:
        return
    span.update_name(name)
    span.set_attributes(attributes)
    if error is not None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - loaded by now

        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end()


def flush() -> None:
    """Wait until what ended so far was sent, or could not be within five seconds."""
    if _provider is not None:
        _provider.force_flush(int(_SEND_SECONDS * 1000))


def close() -> None:
    """Send what is left, and nothing any more."""
    global _tracer, _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None
