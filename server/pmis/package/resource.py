"""Packages and package types over HTTP."""

from __future__ import annotations

from typing import Final

from pmis.approval.resource import Resource
from pmis.kit.filters import amount, at_least, at_most, day, equals, line, one_of, search_filter, uuid, without
from pmis.kit.listing import Listing
from pmis.package.models import TABLE, TYPE_TABLE
from pmis.package.noun import PACKAGE_TYPES, PACKAGES

RESOURCE: Final = Resource(
    path="packages",
    noun=PACKAGES,
    listing=Listing(
        TABLE,
        orders={"created_at": "id", "code": "number", "amount": "amount", "planned_end": "planned_end"},
        default_order="-created_at",
        filters={
            "status": one_of("status", None, "Only these statuses", "draft,submitted"),
            "package_type": one_of("package_type", None, "Only these types", "Works"),
            "owner_id": equals("owner_id", uuid, "Only those of this owner.", "0197c0de-0000-7000-8000-000000000000"),
            "vendor_id": equals(
                "vendor_id", uuid, "Only those of this vendor.", "0197c0de-0000-7000-8000-000000000000"
            ),
            "currency": one_of("currency", None, "Only these currencies", "USD"),
            "external_ref": equals("external_ref", line, "Only the one with this outside reference.", "ocds:x"),
            "amount_min": at_least("amount_min", "amount", amount, "Only amounts from here on.", "1000.00"),
            "amount_max": at_most("amount_max", "amount", amount, "Only amounts up to here.", "5000.00"),
            "planned_end_from": at_least(
                "planned_end_from", "planned_end", day, "Planned to end then or later.", "2026-01-01"
            ),
            "planned_end_to": at_most(
                "planned_end_to", "planned_end", day, "Planned to end then or earlier.", "2026-12-31"
            ),
            "without": without("owner_id", "vendor_id", "amount", "planned_end", "package_type"),
            "q": search_filter(),
        },
        hides_deleted=True,
    ),
    code_column="code",
    related=(
        "select approval_id from state.approval_target where target_id = %s",
        "select id from state.task where package_id = %s",
        "select id from state.comment where entity_id = %s",
        "select id from state.email where package_id = %s",
    ),
)
TYPES: Final = Resource(
    path="package-types",
    noun=PACKAGE_TYPES,
    listing=Listing(TYPE_TABLE, orders={"created_at": "id"}, default_order="created_at"),
    related=("select approval_id from state.approval_target where target_id = %s",),
)
