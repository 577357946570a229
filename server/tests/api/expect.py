"""What an answer must be, in one place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx2

CODE: Final = re.compile(r"[a-z][a-z_]*[a-z]")
NEVER: Final = re.compile(
    r"Traceback|psycopg|sqlalchemy|asyncpg|site-packages|\.py\b|relation \"|syntax error|\bselect .+ from\b|"
    r"insert into|argon2|sealed:[0-9a-f]|eyJ[A-Za-z0-9_-]{10}",
    re.IGNORECASE,
)
"""What no answer holds: words of the database, of Python, of secrets."""


def problem(response: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem document of a refusal with this status, and this code when one is named."""
    assert response.status_code == status, f"{response.status_code}, not {status}: {response.text[:400]}"
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert CODE.fullmatch(body["code"]), body
    assert body["type"] == f"urn:pmis:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    assert body["correlation_id"] == response.headers["x-correlation-id"]
    assert not NEVER.search(response.text), response.text
    if code is not None:
        assert body["code"] == code, body
    return body


def ok(response: httpx2.Response, *statuses: int) -> Any:
    """The JSON of an answer with one of these statuses (200 when none is named)."""
    assert response.status_code in (statuses or (200,)), f"{response.status_code}: {response.text[:600]}"
    assert response.headers["content-type"] == "application/json"
    return response.json()


def applied(response: httpx2.Response, status: int = 200) -> Any:
    """The record that a write left behind."""
    body = ok(response, status)
    assert body["outcome"] == "applied", body
    return body["resource"]


def waits(response: httpx2.Response, outcome: str = "pending") -> Any:
    """The approval that a write left behind."""
    body = ok(response, 202)
    assert body["outcome"] == outcome, body
    assert body["resource"] is None
    return body["approval"]
