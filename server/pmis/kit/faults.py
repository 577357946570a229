"""Reports faults of ours to Sentry, or whatever speaks its protocol, when SENTRY_DSN is set; else does nothing.

A report holds the exception's type and text, the trace with the lines of our code, the release, the kind of process
and the correlation id. No values of variables, no request, no breadcrumbs: a report leaves the install, and must not
take along what people entrusted to it.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, Final

from pmis.kit.logs import BLOT, CORRELATION, Formatter, secrets_of

if TYPE_CHECKING:
    from pmis.kit.settings import Settings

_KEPT: Final = frozenset(
    {"event_id", "timestamp", "platform", "level", "release", "environment", "sdk", "exception", "tags", "transaction"}
)
_reports = False


def configure(settings: Settings, process: str) -> None:
    """Report the faults of this process from now on, if SENTRY_DSN is set."""
    global _reports  # noqa: PLW0603 - one process, one client, as the library has it
    if settings.sentry_dsn is None:
        return
    import sentry_sdk  # noqa: PLC0415 - it takes long to load, and few use it

    cleaner = Formatter(process, secrets_of(settings))

    def scrubbed(event: Any, _hint: Any) -> Any:  # noqa: ANN401 - the library's own dictionaries
        kept: dict[str, Any] = {name: value for name, value in event.items() if name in _KEPT}
        for value in kept.get("exception", {}).get("values", ()):
            # PostgreSQL's first line says what is wrong; the others quote rows.
            value["value"] = cleaner.clean(str(value.get("value", "")).partition("\n")[0]) or BLOT
            for frame in value.get("stacktrace", {}).get("frames", ()):
                frame.pop("vars", None)
        return kept

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.environment,
        release=importlib.metadata.version("pmis"),
        default_integrations=False,
        auto_enabling_integrations=False,
        max_breadcrumbs=0,
        data_collection={
            "user_info": False,
            "cookies": {"mode": "off"},
            "http_headers": {"request": {"mode": "off"}},
            "http_bodies": [],
            "url_query_params": {"mode": "off"},
            "database_query_data": False,
            "queues": False,
            "stack_frame_variables": False,
        },
        before_send=scrubbed,
    )
    sentry_sdk.set_tag("process", process)
    _reports = True


def report(error: BaseException) -> None:
    """Send a fault; returns at once."""
    if not _reports:
        return
    import sentry_sdk  # noqa: PLC0415 - loaded by now

    with sentry_sdk.new_scope() as scope:
        scope.set_tag("correlation_id", CORRELATION.get() or "-")
        scope.capture_exception(error)
