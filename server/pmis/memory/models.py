"""The memory, its inputs and its tables."""

from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pmis.approval.governed import LiveEntity, Proposed
from pmis.kit.listing import state_table
from pmis.kit.text import Words

Remembered = Literal["project", "package", "task", "party"]
MemoryKind = Literal["conversation", "decision", "analysis", "context"]
SourceType = Literal["event", "approval", "email", "comment", "project", "package", "task", "party", "memory"]
MAX_TEXT: Final = 4_000
MAX_SOURCES: Final = 20
_SOME_ID: Final = "0197c0de-0000-7000-8000-000000000000"


class Source(BaseModel):
    """What a memory rests on: something of the same project."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    type: SourceType = Field(examples=["approval"])
    id: UUID = Field(examples=[_SOME_ID])


class Memory(LiveEntity):
    """What is worth remembering of a record. `text` is a reference into the vault.

    `author` is the person who remembers, also where an agent wrote it down for them; `writer` says which it was.
    """

    entity_type: Remembered
    entity_id: UUID
    kind: MemoryKind
    text: str
    sources: list[Source]
    conversation_id: UUID | None
    author: str
    author_name: str
    writer: str


class MemoryOut(Memory):
    """A memory as it is shown."""

    text: str = Field(description="What is remembered; `erased` when it was forgotten long enough ago.")


TABLE = state_table(
    "memory",
    sa.Column("entity_type", sa.Text, nullable=False),
    sa.Column("entity_id", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("conversation_id", sa.Uuid),
    sa.Column("deleted", sa.Boolean, nullable=False),
)
WORDS = sa.Table(
    "words",
    sa.MetaData(schema="memory"),
    sa.Column("memory_id", sa.Uuid, primary_key=True),
    sa.Column("project_id", sa.Uuid, nullable=False),
)

Text = Annotated[Words, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Sources = Annotated[list[Source], Field(max_length=MAX_SOURCES)]


class MemoryPatch(Proposed):
    """What is corrected; what is left out stays as it is, and the old text stays in the history."""

    text: Text = Field(default="", examples=["The client wants the paving before the school year begins."])
    kind: MemoryKind = Field(default="context", description="What kind of memory it is.")
    sources: Sources = Field(default=[], description="What it rests on; each must be of the same project.")


class MemoryCreate(MemoryPatch):
    """A new memory of a record."""

    entity_type: Remembered = Field(examples=["package"])
    entity_id: UUID = Field(examples=[_SOME_ID])
    text: Text = Field(examples=["The client wants the paving before the school year begins."])
    kind: MemoryKind = Field(description="What kind of memory it is.", examples=["context"])
    conversation_id: UUID | None = Field(default=None, description="The conversation in which it was said.")
