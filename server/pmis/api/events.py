"""Events as JSON: the payload goes out as the text it was hashed as."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pmis.api.secrets import reveal
from pmis.kit.paging import decode_cursor, encode_cursor, foreign_cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.api.context import Call
    from pmis.kit.db import Row, Session

COLUMNS: Final = (
    "position, id::text, stream_type, stream_id::text, stream_version, project_id::text, type, schema_version, actor, "
    "actor_name, on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id::text, "
    "to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
    "encode(previous_hash, 'hex'), encode(content_hash, 'hex'), payload"
)
_NAMES: Final = (
    "position",
    "id",
    "stream_type",
    "stream_id",
    "stream_version",
    "project_id",
    "type",
    "schema_version",
    "actor",
    "actor_name",
    "on_behalf_of",
    "on_behalf_of_name",
    "source",
    "correlation_id",
    "causation_id",
    "occurred_at",
    "previous_hash",
    "content_hash",
)
_MAX_POSITION: Final = 2**63 - 1
NOTHING: Final = b'{"items":[],"next":null}'
"""A page without an event."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event_json(row: Row) -> str:
    """The event in a row of COLUMNS."""
    head = _encode(dict(zip(_NAMES, row[:-1], strict=True)))
    return f'{head[:-1]},"payload":{row[-1]}}}'


async def events_page(
    session: Session, call: Call, where: str, params: Sequence[Any], *, cursor: str | None, limit: int
) -> tuple[bytes, str | None]:
    """A page of events, the newest first, and the cursor of the next one."""
    values = list(params)
    if cursor is not None:
        position = decode_cursor(cursor, "-position", 1)[0]
        if type(position) is not int or not 0 <= position <= _MAX_POSITION:
            raise foreign_cursor()
        where += " and position < %s"
        values.append(position)
    rows = await session.all(
        f"select {COLUMNS} from ledger.event where {where} order by position desc limit %s", (*values, limit + 1)
    )
    following = encode_cursor("-position", [rows[limit - 1][0]]) if len(rows) > limit else None
    items = await reveal(session, call.parts.vault, call.principal, [event_json(row) for row in rows[:limit]])
    return f'{{"items":[{",".join(items)}],"next":{json.dumps(following)}}}'.encode(), following
