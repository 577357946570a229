"""The project, its inputs and its table."""

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field, StringConstraints

from pmis.approval.governed import LiveEntity, Proposed
from pmis.kit.fields import Amount, Currency, LongText, Name, TimeZone
from pmis.kit.listing import state_table


def _distinct_dates(value: list[date]) -> list[date]:
    if len(set(value)) != len(value):
        message = "a holiday is listed twice"
        raise ValueError(message)
    return sorted(value)


def _workdays(value: list[int]) -> list[int]:
    if not value or len(set(value)) != len(value) or not all(1 <= day <= 7 for day in value):  # noqa: PLR2004 - ISO 8601
        message = "workdays are distinct ISO weekdays, 1 (Monday) to 7 (Sunday), at least one"
        raise ValueError(message)
    return sorted(value)


Workdays = Annotated[list[int], AfterValidator(_workdays), Field(examples=[[1, 2, 3, 4, 5]])]
Holidays = Annotated[list[date], AfterValidator(_distinct_dates), Field(max_length=1000)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,9}$"), Field(examples=["P"])]


class Project(LiveEntity):
    """Holds packages and people. `prefix` begins the code of each of its packages; the founder is its first admin."""

    name: str
    prefix: str
    description: str = ""
    timezone: str
    currency: str
    budget: Decimal | None = None
    workdays: list[int] = Field(default=[1, 2, 3, 4, 5])
    holidays: list[date] = Field(default=[])
    founder_id: UUID | None = None


TABLE = state_table("project", sa.Column("prefix", sa.Text, nullable=False), sa.Column("name", sa.Text, nullable=False))


class ProjectPatch(Proposed):
    """The fields to change; those left out stay as they are."""

    name: Name = Field(default="", examples=["Ring road east"])
    description: LongText = ""
    timezone: TimeZone = "UTC"
    budget: Amount | None = Field(default=None, description="In the project's currency.")
    workdays: Workdays = Field(default=[1, 2, 3, 4, 5])
    holidays: Holidays = Field(default=[])


class ProjectCreate(ProjectPatch):
    """A new project. Its prefix and its currency stay for ever, as codes and sums are made of them."""

    name: Name = Field(examples=["Ring road east"])
    prefix: Prefix
    currency: Currency
