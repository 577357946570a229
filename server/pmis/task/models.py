"""The task, its inputs and its table."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, StringConstraints

from pmis.approval.governed import LiveEntity, Proposed
from pmis.kit.fields import Data, ExternalRef, LongText, Title
from pmis.kit.listing import state_table
from pmis.kit.text import Line

TaskSource = Literal["person", "import", "mail", "assistant", "system"]


class Task(LiveEntity):
    """A thing to do for a package. The due date is a calendar date in the project's time zone."""

    package_id: UUID
    title: str
    description: str = ""
    status: str
    assignee_id: UUID | None = None
    due_date: date | None = None
    source: TaskSource = "person"
    external_ref: str | None = None
    data: dict[str, Any] = Field(default={})


TABLE = state_table(
    "task",
    sa.Column("package_id", sa.Uuid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("assignee_id", sa.Uuid),
    sa.Column("due_date", sa.Date),
    sa.Column("external_ref", sa.Text),
    sa.Column("deleted", sa.Boolean, nullable=False),
)


class TaskPatch(Proposed):
    """The fields to change; those left out stay as they are. `data` is merged key by key (RFC 7396)."""

    title: Title = Field(default="", examples=["Survey the site"])
    description: LongText = ""
    assignee_id: UUID | None = None
    due_date: date | None = None
    external_ref: ExternalRef | None = None
    data: Data = Field(default={})


class TaskCreate(TaskPatch):
    """A new task of a package; it begins as pending."""

    package_id: UUID = Field(examples=["0197c0de-0000-7000-8000-000000000000"])
    title: Title = Field(examples=["Survey the site"])


class TaskTransition(TaskPatch):
    """The step to take."""

    status: Annotated[Line, StringConstraints(max_length=40)] = Field(examples=["in_progress"])
