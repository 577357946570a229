"""The party, its inputs and its table."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field, StringConstraints

from pmis.approval.governed import InProject, Input, LiveEntity, Proposed
from pmis.kit.fields import Data, Email, ExternalRef, Name
from pmis.kit.listing import state_table
from pmis.kit.text import Line

PartyKind = Literal["customer", "vendor", "both"]


class Party(LiveEntity):
    """A customer or vendor; needs no login. `contacts` and `bank_details` are references into the vault."""

    name: str
    kind: PartyKind
    email: str | None = None
    contacts: str | None = None
    bank_details: str | None = None
    external_ref: str | None = None
    data: dict[str, Any] = Field(default={})


TABLE = state_table(
    "party",
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("email", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("external_ref", sa.Text),
    sa.Column("deleted", sa.Boolean, nullable=False),
)

Short = Annotated[Line, StringConstraints(max_length=200)]


class Contact(Input):
    """Somebody to talk to."""

    name: Name
    role: Short | None = None
    email: Email | None = None
    phone: Short | None = None
    url: Annotated[Line, StringConstraints(max_length=500, pattern=r"^https?://")] | None = None


class BankDetails(Input):
    """Where money goes. Changing it is never decided by one person."""

    holder: Name
    iban: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{10,30}$")] | None = None
    bic: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{8}([A-Z0-9]{3})?$")] | None = None
    account: Short | None = None
    bank: Short | None = None


class PartyPatch(Proposed):
    """The fields to change; those left out stay as they are. `data` is merged key by key (RFC 7396)."""

    name: Name = Field(default="", examples=["AnyCorp Cycle Provision"])
    kind: PartyKind = "vendor"
    email: Email | None = None
    contacts: Annotated[list[Contact], Field(max_length=50)] | None = None
    bank_details: BankDetails | None = None
    external_ref: ExternalRef | None = None
    data: Data = Field(default={})


class PartyCreate(PartyPatch, InProject):
    """A new customer or vendor."""

    name: Name = Field(examples=["AnyCorp Cycle Provision"])
    kind: PartyKind = Field(examples=["vendor"])
