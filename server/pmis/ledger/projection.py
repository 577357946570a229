"""State made from events: an entity, how an event changes it, and the row it stands in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from pmis.ledger.event import Event
from pmis.ledger.upcast import upcast


class Entity(BaseModel):
    """The state of one stream. Its JSON form is what the row stores and what the API answers. Times are UTC."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    version: int
    project_id: UUID | None
    created_at: datetime
    updated_at: datetime

    @cached_property
    def doc(self) -> str:
        """Its JSON text, made once."""
        return self.model_dump_json()

    @cached_property
    def plain(self) -> Mapping[str, Any]:
        """Its fields in JSON form, made once, for reading only."""
        return self.model_dump(mode="json")


E = TypeVar("E", bound=Entity)


class UnknownEventError(Exception):
    """An event that no projection knows: the log is newer than the program."""


@dataclass(frozen=True)
class Child:
    """Rows that hang on an entity, found by `key`; they are derived whole from the entity's state."""

    table: str
    columns: tuple[str, ...]
    key: str
    single: bool = False
    """Whether the key is unique, so that there is at most one row."""


class Projection(Generic[E]):
    """How the events of one stream type become rows of one table.

    Subclasses name the type, the model and the columns that are copied out of it for filters and indexes.
    """

    stream_type: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()
    child_tables: ClassVar[tuple[Child, ...]] = ()
    model: type[E]

    @final
    def apply(self, entity: E | None, event: Event) -> E:
        """The entity after the event: the only code that changes state, live and in replay.

        Raises UnknownEventError for a type it does not know.
        """
        payload = upcast(event.type, event.schema_version, event.payload)
        if entity is None:
            values = self.begin(event, payload)
        else:
            values = {**entity.__dict__, **self.change(entity, event, payload)}
            for cached in ("doc", "plain"):
                values.pop(cached, None)
        values.update(
            id=event.stream_id,
            version=event.stream_version,
            project_id=event.project_id,
            created_at=entity.created_at if entity else event.occurred_at,
            updated_at=event.occurred_at,
        )
        return self.model.model_validate(values)

    def begin(self, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The first fields of the entity."""
        if event.verb != "created":
            message = f"{event.type} cannot begin a {self.stream_type}"
            raise UnknownEventError(message)
        return dict(payload["fields"])

    def change(self, entity: E, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The fields that the event changes, with their new values."""
        del entity
        if event.verb not in ("patched", "transitioned", "deleted", "restored"):
            message = f"{event.type} is not an event of a {self.stream_type} that exists"
            raise UnknownEventError(message)
        return {name: change["to"] for name, change in payload["changes"].items()}

    def children(self, entity: E) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of each child table."""
        del entity
        return {}

    @final
    def row(self, entity: E) -> tuple[Any, ...]:
        """The whole row: id, version, project, document, then the copied columns."""
        return (
            entity.id,
            entity.version,
            entity.project_id,
            entity.doc,
            *(getattr(entity, column) for column in self.columns),
        )


AnyProjection = Projection[Any]
