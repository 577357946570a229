"""The filed e-mail, its events and its table.

A mail that came to two projects is filed in both, each for itself. What it says stands beside the log.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from pmis.kit.listing import state_table
from pmis.ledger.event import Event
from pmis.ledger.projection import Entity, Projection, UnknownEventError

Status = Literal["attached", "quarantined", "unreadable", "dismissed", "moved"]


class FiledAttachment(BaseModel):
    """A file of the mail, by its digest."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    digest: str
    size: int
    media_type: str


class Email(Entity):
    """A mail in a project, or (without one) in the instance's inbox. `candidate_id` is the package that it names."""

    inbound_id: UUID
    via: str
    digest: str
    size: int
    received_at: datetime
    status: Status
    reason: str
    package_id: UUID | None = None
    candidate_id: UUID | None = None
    thread_id: UUID
    sender_kind: Literal["person", "party"] | None = None
    sender_id: UUID | None = None
    authenticated: bool = False
    attachments: list[FiledAttachment] = Field(default=[])
    suggestions: int = 0
    accepted: list[int] = Field(default=[])


TABLE = state_table(
    "email",
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("package_id", sa.Uuid),
    sa.Column("thread_id", sa.Uuid, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
)


class EmailProjection(Projection[Email]):
    """E-mails: ingested, then attached, dismissed, moved to the project where they belong, or taken up."""

    stream_type = "email"
    model = Email
    columns = ("status", "package_id", "thread_id", "received_at")

    def begin(self, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """The mail as it was filed first."""
        if event.verb != "ingested":
            message = f"{event.type} cannot begin an email"
            raise UnknownEventError(message)
        return dict(payload["fields"])

    def change(self, entity: Email, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """What somebody decided about it."""
        del entity
        if event.verb not in ("attached", "dismissed", "moved", "suggestion_accepted"):
            message = f"{event.type} is not an event of an email that exists"
            raise UnknownEventError(message)
        return {name: change["to"] for name, change in payload["changes"].items()}


EMAILS = EmailProjection()
