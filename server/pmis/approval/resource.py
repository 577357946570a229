"""What a noun offers over HTTP: where it lives, how it is listed, what may be done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from pmis.approval.governed import AnyNoun, Proposed
    from pmis.kit.db import Session
    from pmis.kit.listing import Listing


@dataclass(frozen=True)
class Resource:
    """One collection of the API."""

    path: str
    noun: AnyNoun
    listing: Listing
    code_column: str | None = None
    """The column of the name by which people know a record, if it has one beside its id."""
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Filters that always apply: `/customers` lists parties of that kind."""
    project_of: Callable[[Session, Proposed], Awaitable[UUID | None]] | None = None
    """How the project of a new record follows from its input, where it is not named."""
    related: tuple[str, ...] = ()
    """Queries for the streams that belong to a record's timeline, given its id as `%s`."""
    output: Any = None
    """The model of what is shown, where it is not the entity itself."""

    @property
    def label(self) -> str:
        """What one record is called."""
        return self.noun.label

    @property
    def operations(self) -> frozenset[str]:
        """What may be proposed for one."""
        return self.noun.operations
