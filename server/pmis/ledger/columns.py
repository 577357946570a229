"""The columns of an event as the hash and the export write them: texts, whole numbers and nulls, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from pmis.ledger.verify import EVENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order of EVENT_COLUMNS. PostgreSQL makes the texts, which costs less than making and unmaking objects here.
EVENT_SELECT: Final[LiteralString] = (
    "e.position, e.id::text, e.stream_type, e.stream_id::text, e.stream_version, e.project_id::text, e.type, "
    "e.schema_version, e.actor, e.actor_name, e.on_behalf_of, e.on_behalf_of_name, e.source, e.correlation_id, "
    "e.causation_id::text, to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
    "encode(e.previous_hash, 'hex'), e.payload, encode(e.content_hash, 'hex')"
)


def event_record(values: Sequence[Any]) -> dict[str, Any]:
    """The event in the values of `EVENT_SELECT`."""
    return dict(zip(EVENT_COLUMNS, values, strict=True))
