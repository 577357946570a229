"""People, memberships and delegations over HTTP."""

from __future__ import annotations

from typing import Final

from pmis.approval.resource import Resource
from pmis.identity.models import DELEGATION_TABLE, MEMBERSHIP_TABLE
from pmis.identity.noun import DELEGATIONS, MEMBERSHIPS
from pmis.kit.filters import equals, uuid
from pmis.kit.listing import Listing

_PERSON: Final = "0197c0de-0000-7000-8000-000000000000"

MEMBERS: Final = Resource(
    path="memberships",
    noun=MEMBERSHIPS,
    listing=Listing(
        MEMBERSHIP_TABLE,
        orders={"created_at": "id"},
        default_order="created_at",
        filters={"person_id": equals("person_id", uuid, "Only those of this person.", _PERSON)},
    ),
    related=("select approval_id from state.approval_target where target_id = %s",),
)
DELEGATED: Final = Resource(
    path="delegations",
    noun=DELEGATIONS,
    listing=Listing(
        DELEGATION_TABLE,
        orders={"created_at": "id"},
        default_order="-created_at",
        filters={
            "from_person": equals("from_person", uuid, "Only seats of this person.", _PERSON),
            "to_person": equals("to_person", uuid, "Only seats lent to this person.", _PERSON),
        },
    ),
    related=("select approval_id from state.approval_target where target_id = %s",),
)
