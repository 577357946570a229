"""Parties over HTTP; `/customers` and `/vendors` are parties of that kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

from pmis.approval.resource import Resource
from pmis.kit.filters import equals, line, one_of, search_filter
from pmis.kit.listing import Listing
from pmis.party.models import TABLE, BankDetails, Contact, Party, PartyKind
from pmis.party.noun import PARTIES

Hidden = Literal["protected", "erased"]


class PartyOut(Party):
    """A party as it is shown: what the caller may not see, or what was erased, is said instead."""

    contacts: list[Contact] | Hidden | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    bank_details: BankDetails | Hidden | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


RESOURCE: Final = Resource(
    path="parties",
    noun=PARTIES,
    listing=Listing(
        TABLE,
        orders={"created_at": "id"},
        default_order="-created_at",
        filters={
            "kind": one_of("kind", frozenset(get_args(PartyKind)), "Only these kinds", "vendor,both"),
            "email": equals("email", line, "Only the one with this e-mail address.", "office@example.org"),
            "external_ref": equals("external_ref", line, "Only the one with this outside reference.", "ocds:x"),
            "q": search_filter(),
        },
        hides_deleted=True,
    ),
    related=(
        "select approval_id from state.approval_target where target_id = %s",
        "select id from state.comment where entity_id = %s",
    ),
    output=PartyOut,
)
CUSTOMERS: Final = replace(RESOURCE, path="customers", fixed={"kind": "customer,both"})
VENDORS: Final = replace(RESOURCE, path="vendors", fixed={"kind": "vendor,both"})
