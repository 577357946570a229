"""What changes, told to open pages within a second: which record, never what it says; that is asked for as ever.

One look at the log serves every page of a process. Who may no longer see a project hears no more of it, as with any
answer. After a break nothing is told again: a page then looks at everything anew.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Final

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response, StreamingResponse

from pmis.api import docs
from pmis.api.context import Call, caller, require_known_parameters
from pmis.api.listening import LONGEST_SECONDS
from pmis.api.problems import REFUSED
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError
from pmis.policy.access import ALL, Action, allowed, visible_projects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pmis.ledger.following import Grown
    from pmis.policy.access import Principal

router = docs.RouteTable("changes")

TOLD: Final = frozenset(
    {
        "approval",
        "comment",
        "delegation",
        "email",
        "membership",
        "memory",
        "package",
        "package_type",
        "party",
        "person",
        "policy",
        "project",
        "task",
    }
)
"""What readers of a project, or of the instance, can look at; sign-ins, tokens and readings of the log are not."""
_STANDING_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 15.0
_SECONDS: Final = re.compile("[0-9]{1,4}")


def _sees(principal: Principal, event: Grown) -> bool:
    if event.stream_type not in TOLD:
        return False
    if event.project_id is None:
        return allowed(principal, Action.READ, None)
    visible = visible_projects(principal)
    return visible is ALL or event.project_id in visible


def _seconds(request: Request) -> int:
    text = request.query_params.get("seconds", str(LONGEST_SECONDS))
    if not _SECONDS.fullmatch(text) or int(text) > LONGEST_SECONDS:
        raise InvalidInputError(
            f"seconds: a whole number from 0 to {LONGEST_SECONDS}.",
            errors=[{"pointer": "/query/seconds", "message": f"0 to {LONGEST_SECONDS}", "type": "range"}],
        )
    return int(text)


async def stream_changes(request: Request) -> Response:
    """What changes, as it does."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"seconds"}))
    seconds = _seconds(request)
    stream = _told(call, time.monotonic() + min(seconds, call.parts.changes.longest))
    first = await anext(stream)  # refused as a whole, or begun
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(_all(first, stream), 200, headers, "text/event-stream")


async def _all(first: str, rest: AsyncGenerator[str]) -> AsyncIterator[str]:
    async with contextlib.aclosing(rest):
        yield first
        async for text in rest:
            yield text


async def _told(call: Call, until: float) -> AsyncGenerator[str]:
    changes = call.parts.changes
    async with changes.listening(call.principal.id) as ear:
        yield "event: ready\ndata: {}\n\n"
        principal, asked = call.principal, time.monotonic()
        spoke = asked
        while not changes.is_ending:
            now = time.monotonic()
            if now >= until or ear.lost:
                return
            if now - asked >= _STANDING_SECONDS:
                try:
                    principal, asked = await call.standing(), now
                except REFUSED:
                    return
            if now - spoke >= _HEARTBEAT_SECONDS:
                spoke = now
                yield ": still here\n\n"
            event = await changes.next_of(ear, min(_STANDING_SECONDS, until - now))
            if event is not None and _sees(principal, event):
                spoke = time.monotonic()
                yield _change(event)


def _change(event: Grown) -> str:
    told = {
        "entity_type": event.stream_type,
        "entity_id": str(event.stream_id),
        "project_id": str(event.project_id) if event.project_id else None,
        "type": event.type,
        "version": event.stream_version,
        "position": event.position,
    }
    return f"event: change\ndata: {canonical(told)}\n\n"


docs.route(
    router,
    "GET",
    "/changes/stream",
    stream_changes,
    docs.Spec(
        "Hear what changes",
        "signed in",
        {
            200: {
                "description": "`ready` first, then `change` for each change of something that the caller reads.",
                "content": {
                    "text/event-stream": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "event": {"type": "string", "enum": ["ready", "change"]},
                                "data": {"type": "string", "contentMediaType": "application/json"},
                            },
                            "required": ["event", "data"],
                        }
                    }
                },
            }
        },
        (401, 422, 503),
        description=(
            "Server-sent events: which record changed and how it is called, not what it says. Nothing is told again "
            "after a break: whoever asks anew looks at everything anew. Whoever is too slow to hear a thousand "
            "changes, or may no longer be here, is told nothing more, and the stream ends."
        ),
        parameters=[
            docs.query(
                "seconds",
                "How long to listen at most.",
                0,
                {"type": "integer", "minimum": 0, "maximum": LONGEST_SECONDS, "default": LONGEST_SECONDS},
            )
        ],
    ),
)
