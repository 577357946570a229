"""What people do about their own sign-in: how such a request begins, and how their lists are paged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, in_person, require_good_key, require_known_parameters
from pmis.api.resources import id_after, limit_of, next_link
from pmis.kit.canonical import canonical
from pmis.kit.paging import encode_cursor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from starlette.requests import Request

    from pmis.identity.sessions import SessionState
    from pmis.kit.db import Row, Session


class _RowsOf(Protocol):
    def __call__(
        self, session: Session, person: UUID, /, *, after: UUID | None, limit: int
    ) -> Awaitable[list[Row]]: ...


def json_answer(body: dict[str, Any], status: int = 200) -> Response:
    """The body as JSON."""
    return Response(canonical(body), status, None, "application/json")


def require_plain_write(request: Request) -> None:
    """Raise what is wrong with a request that changes something, has no parameters, and whose answer is not kept."""
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)


async def own_write(request: Request) -> tuple[Call, UUID, SessionState]:
    """Who changes something of their own, in person: the call, the person, and the session they call in."""
    call = await caller(request)
    require_plain_write(request)
    return call, *in_person(call)


async def own_page(
    request: Request,
    rows_of: _RowsOf,
    shown: Callable[[Row, Call], dict[str, Any]],
) -> Response:
    """A page of what belongs to the caller; rows come in the order of their ids, which are their first column.

    `rows_of` reads somebody's rows that come after an id (after none, from the first), as many as it is told.
    """
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    person, _ = in_person(call)
    limit, after = limit_of(request), id_after(request)
    async with call.parts.database.read(call.reach) as session:
        rows = await rows_of(session, person, after=after, limit=limit + 1)
    following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
    body = {"items": [shown(row, call) for row in rows[:limit]], "next": following}
    return Response(canonical(body), 200, next_link(request, following), "application/json")
