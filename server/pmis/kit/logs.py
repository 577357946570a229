"""What a process says about itself: one line for each record on standard output, as JSON or for people.

Every line carries the correlation id of the request or job it belongs to. Nothing that a log must not hold gets into
one: secrets of the settings, tokens, passwords in addresses, and what PostgreSQL quotes of rows are blotted out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pydantic import SecretStr

    from pmis.kit.settings import Settings

CORRELATION: Final[ContextVar[str | None]] = ContextVar("correlation_id", default=None)
"""The id of the request or job that the present task works on."""

BLOT: Final = "[removed]"
_SHORTEST_SECRET: Final = 8
_TOKENS: Final = {
    "bearer": re.compile(r"(?i:bearer\s+)(?P<it>[\w.~+/=-]+)"),
    "eyj": re.compile(r"(?P<it>\beyJ[\w-]+\.[\w-]+\.[\w-]*)"),
    "pmisr_": re.compile(r"(?P<it>\bpmisr_[\w-]{16,})"),
    "pmisi_": re.compile(r"(?P<it>\bpmisi_[\w-]{16,})"),
    "pmisb_": re.compile(r"(?P<it>\bpmisb_[\w-]{16,})"),
    "pmist_": re.compile(r"(?P<it>\bpmist_[\w-]{16,})"),
    "://": re.compile(r"(?<=://)[^\s/:@]*:(?P<it>[^\s/@]+)(?=@)"),
}
"""What looks like a token or a password, by what it never lacks: most lines hold nothing to look at more closely."""
_JSON: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))
_OWN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime"}


class Formatter(logging.Formatter):
    """Renders a record as one line, without what a log must not hold."""

    def __init__(self, process: str, secrets: frozenset[str] = frozenset(), *, as_json: bool = True) -> None:
        """`process` names the kind of process; `secrets` are values that never appear."""
        super().__init__()
        self._process = process
        self._as_json = as_json
        self._secrets = (
            re.compile("|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True)))
            if secrets
            else None
        )

    def format(self, record: logging.LogRecord) -> str:
        """One line; a trace follows inside it as JSON, and on lines of its own for people."""
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        correlation = CORRELATION.get()
        if correlation is not None:
            fields["correlation_id"] = correlation
        fields.update((name, value) for name, value in record.__dict__.items() if name not in _OWN)
        if record.exc_info and record.exc_info[1] is not None:
            fields["trace"] = trace_of(record.exc_info[1])
        if self._as_json:
            return self.clean(_JSON.encode(fields))
        known = [fields.pop(name) for name in ("timestamp", "level", "process", "logger", "message")]
        trace = fields.pop("trace", None)
        line = " ".join([*known, *(f"{name}={value}" for name, value in fields.items())])
        return self.clean(f"{line}\n{trace}" if trace else line)

    def clean(self, text: str) -> str:
        """The text without secrets and tokens."""
        if self._secrets is not None:
            text = self._secrets.sub(BLOT, text)
        lowered = text.lower()
        for sign, pattern in _TOKENS.items():
            if sign in lowered:
                text = pattern.sub(_blotted, text)
        return text


def _blotted(match: re.Match[str]) -> str:
    return match.group().replace(match.group("it"), BLOT)


def trace_of(error: BaseException) -> str:
    """The trace, without what PostgreSQL adds to its errors: it quotes whole rows, and rows hold what no log may."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("DETAIL:", "CONTEXT:")))


def secrets_of(settings: Settings) -> frozenset[str]:
    """The values of the settings that must not be shown anywhere; for an address, its password."""
    found: set[str] = set()
    for name in type(settings).secret_names:
        value: SecretStr | None = getattr(settings, name.lower())
        if value is None:
            continue
        text = value.get_secret_value()
        found.add((urlsplit(text).password or "") if "://" in text else text)
    return frozenset(text for text in found if len(text) >= _SHORTEST_SECRET)


def configure(settings: Settings, process: str) -> None:
    """Let everything that this process logs go to standard output, in the settings' form; again changes nothing."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Formatter(process, secrets_of(settings), as_json=settings.log_format == "json"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    # No line shows these, and each record would ask for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # What these say at INFO is about themselves, once for each connection or request.
    for name in ("httpx2", "httpcore2", "psycopg.pool"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
