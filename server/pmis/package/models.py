"""The package and its table."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field

from pmis.approval.governed import LiveEntity
from pmis.kit.listing import state_table


class Package(LiveEntity):
    """A unit of procured or executed work. Money is exact; dates are calendar dates of the project."""

    number: int
    code: str
    status: str
    package_type: str | None = None
    title: str
    description: str = ""
    owner_id: UUID | None = None
    vendor_id: UUID | None = None
    amount: Decimal | None = None
    currency: str | None = None
    planned_start: date | None = None
    planned_end: date | None = None
    actual_start: date | None = None
    actual_end: date | None = None
    external_ref: str | None = None
    data: dict[str, Any] = Field(default={})


TABLE = state_table(
    "package",
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("package_type", sa.Text),
    sa.Column("owner_id", sa.Uuid),
    sa.Column("vendor_id", sa.Uuid),
    sa.Column("amount", sa.Numeric),
    sa.Column("currency", sa.Text),
    sa.Column("planned_end", sa.Date),
    sa.Column("external_ref", sa.Text),
    sa.Column("deleted", sa.Boolean, nullable=False),
)


class PackageType(LiveEntity):
    """What the extra fields of a kind of package look like: a JSON Schema (2020-12)."""

    name: str
    description: str = ""
    fields_schema: dict[str, Any]


TYPE_TABLE = state_table("package_type", sa.Column("name", sa.Text, nullable=False))
