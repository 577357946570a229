"""Facts, events and who caused them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

Source = Literal["api", "cli", "chat", "mcp", "mail", "import", "job", "system"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and for whom; the names are snapshots that outlive a renaming or a removal."""

    ref: str
    name: str
    on_behalf_of: str | None = None
    on_behalf_of_name: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a transaction's events come from."""

    actor: Actor
    source: Source
    correlation_id: str
    causation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What rules decided: an event that has no place in the log yet. The payload is JSON without floats."""

    type: str
    payload: dict[str, Any] = field(default_factory=dict[str, Any])
    schema_version: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """One immutable fact of the log, as far as a projection needs it. `occurred_at` is UTC."""

    id: UUID
    stream_type: str
    stream_id: UUID
    stream_version: int
    project_id: UUID | None
    type: str
    schema_version: int
    payload: dict[str, Any]
    actor: Actor
    occurred_at: datetime

    @property
    def verb(self) -> str:
        """The type without the noun: `created` of `package.created`."""
        return self.type.partition(".")[2]
