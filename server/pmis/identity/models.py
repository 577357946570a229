"""People, memberships, delegations: entities, inputs and tables."""

from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator
from sqlalchemy.dialects.postgresql import ARRAY

from pmis.approval.governed import InProject, Proposed
from pmis.identity.passwords import uncommon
from pmis.kit.fields import Email, Name
from pmis.kit.listing import state_table
from pmis.ledger.projection import Entity
from pmis.policy.access import Role

MIN_PASSWORD = 12
MAX_PASSWORD = 200
NewPassword = Annotated[
    str, StringConstraints(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD), AfterValidator(uncommon)
]
"""A password that somebody chooses."""


class Person(Entity):
    """Somebody with a name. The address and the password hash are kept beside the log, under `credential`."""

    name: str
    active: bool = True
    instance_admin: bool = False
    instance_auditor: bool = False
    credential: str | None = None
    hand_over_to: UUID | None = Field(
        default=None,
        exclude_if=lambda person: person is None,
        description="For somebody disabled: to whom what waited for them was to go.",
    )


PERSON_TABLE = state_table(
    "person",
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("instance_admin", sa.Boolean, nullable=False),
    sa.Column("instance_auditor", sa.Boolean, nullable=False),
)


class Membership(Entity):
    """A person's roles in a project. No roles: no longer a member."""

    person_id: UUID
    roles: list[str]


MEMBERSHIP_TABLE = state_table(
    "membership",
    sa.Column("person_id", sa.Uuid, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
)


class Delegation(Entity):
    """One person's seat in approvals, lent to another from one moment to another."""

    from_person: UUID
    to_person: UUID
    starts_at: datetime
    ends_at: datetime
    revoked: bool = False


DELEGATION_TABLE = state_table(
    "delegation",
    sa.Column("from_person", sa.Uuid, nullable=False),
    sa.Column("to_person", sa.Uuid, nullable=False),
    sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoked", sa.Boolean, nullable=False),
)


class _PersonFields(Proposed):
    """What both a new person and a change can say."""

    name: Name = Field(default="", examples=["Ada Analyst"])
    active: bool = True
    instance_admin: bool = False
    instance_auditor: bool = False


class PersonPatch(_PersonFields):
    """The fields to change; those left out stay as they are."""

    hand_over_to: UUID | None = Field(
        default=None,
        description=(
            "With `active` false: who gets the seats in open approvals that are still to be filled, where their own "
            "roles let them sit there. Without it, or where they may not, others whom the approval asks for decide."
        ),
    )


class PersonCreate(_PersonFields):
    """A new person, who signs in with the address and the password."""

    name: Name = Field(examples=["Ada Analyst"])
    email: Email = Field(examples=["ada@example.org"])
    password: NewPassword = Field(
        examples=["correct horse battery"], json_schema_extra={"writeOnly": True, "format": "password"}
    )


def sorted_roles(roles: list[Role]) -> list[Role]:
    """The roles in one order; raises ValueError for one that is named twice."""
    if len(set(roles)) != len(roles):
        message = "a role is listed twice"
        raise ValueError(message)
    return sorted(roles)


class MembershipPatch(Proposed):
    """The roles that the person is to have from now on; none ends the membership."""

    roles: Annotated[list[Role], AfterValidator(sorted_roles), Field(max_length=6)] = Field(
        default=[], examples=[["analyst"]]
    )


class MembershipCreate(MembershipPatch, InProject):
    """A person joins a project."""

    person_id: UUID = Field(examples=["0197c0de-0000-7000-8000-000000000000"])
    roles: Annotated[list[Role], AfterValidator(sorted_roles), Field(min_length=1, max_length=6)] = Field(
        examples=[["analyst"]]
    )


class DelegationPatch(Proposed):
    """Take the seat back, or change how long it is lent."""

    ends_at: AwareDatetime = Field(default=datetime.max.replace(tzinfo=UTC))
    revoked: bool = Field(default=False, examples=[True])


class DelegationCreate(InProject):
    """Lend one's own seat to somebody else for a while."""

    to_person: UUID = Field(examples=["0197c0de-0000-7000-8000-000000000000"])
    starts_at: AwareDatetime = Field(examples=["2026-12-01T00:00:00Z"])
    ends_at: AwareDatetime = Field(examples=["2026-12-15T00:00:00Z"])

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.ends_at <= self.starts_at:
            message = "ends_at lies after starts_at"
            raise ValueError(message)
        return self
