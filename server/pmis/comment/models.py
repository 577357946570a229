"""The comment, its inputs and its table."""

from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, StringConstraints

from pmis.approval.governed import LiveEntity, Proposed
from pmis.kit.listing import state_table
from pmis.kit.text import Words

Commented = Literal["project", "package", "task", "party", "approval"]
Body = Annotated[Words, StringConstraints(min_length=1, max_length=10_000)]


class Comment(LiveEntity):
    """What somebody said about a record."""

    entity_type: Commented
    entity_id: UUID
    body: str
    author: str
    author_name: str


TABLE = state_table(
    "comment",
    sa.Column("entity_type", sa.Text, nullable=False),
    sa.Column("entity_id", sa.Uuid, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
)


class CommentPatch(Proposed):
    """The new text; the old one stays in the history."""

    body: Body = Field(default="", examples=["The supplier will answer by Friday."])


class CommentCreate(CommentPatch):
    """A new comment on a record of the project."""

    entity_type: Commented = Field(examples=["package"])
    entity_id: UUID = Field(examples=["0197c0de-0000-7000-8000-000000000000"])
    body: Body = Field(examples=["The supplier will answer by Friday."])
