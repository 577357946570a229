"""The hash of an event, computed a second time from the description of its format, "pmis-event-v1"."""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


def content_hash(
    position: int,
    identity: UUID,
    stream_type: str,
    stream_id: UUID,
    stream_version: int,
    project_id: UUID | None,
    type_: str,
    schema_version: int,
    actor: str,
    actor_name: str,
    on_behalf_of: str | None,
    on_behalf_of_name: str | None,
    source: str,
    correlation_id: str,
    causation_id: UUID | None,
    occurred_at: datetime,
    previous_hash: bytes,
    payload: str,
) -> bytes:
    """SHA-256 of the lines of the format."""
    lines: list[object] = [
        "pmis-event-v1",
        position,
        identity,
        stream_type,
        stream_id,
        stream_version,
        project_id,
        type_,
        schema_version,
        actor,
        actor_name,
        on_behalf_of,
        on_behalf_of_name,
        source,
        correlation_id,
        causation_id,
        f"{occurred_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        previous_hash.hex(),
        hashlib.sha256(payload.encode()).hexdigest(),
    ]
    return hashlib.sha256("\n".join("-" if line is None else str(line) for line in lines).encode()).digest()
