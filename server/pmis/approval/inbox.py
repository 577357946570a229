"""Lists of approvals: what somebody may see, and what waits for somebody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import sqlalchemy as sa

from pmis.approval import decide
from pmis.approval.models import OPEN, Approval, Status
from pmis.kit.filters import equals, line, one_of, uuid
from pmis.kit.listing import Listing, Page, page, state_table
from pmis.kit.paging import MAX_LIMIT, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.policy.access import Principal

TABLE: Final = state_table(
    "approval",
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("target_type", sa.Text, nullable=False),
    sa.Column("target_id", sa.Uuid, nullable=False),
    sa.Column("proposer_ref", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
)
LISTING: Final = Listing(
    TABLE,
    orders={"created_at": "id"},
    default_order="created_at",
    filters={
        "status": one_of("status", frozenset(get_args(Status)), "Only these statuses", "pending"),
        "route": one_of("route", None, "Only these routes", "EXECUTIVE_APPROVAL"),
        "target_id": equals("target_id", uuid, "Only those about this record.", "0197c0de-0000-7000-8000-000000000000"),
        "proposer": equals(
            "proposer_ref", line, "Only those of this proposer.", "person:0197c0de-0000-7000-8000-000000000000"
        ),
    },
)
WAITING_SCANNED: Final = 1000


@dataclass(frozen=True)
class Asked:
    """Which approvals, and when: in these projects, and (`instance`) those that lie in none."""

    projects: Sequence[UUID]
    instance: bool
    now: datetime
    filters: Mapping[str, str]
    sort: str | None = None
    cursor: str | None = None


async def approvals(session: Session, asked: Asked, limit: int) -> Page:
    """A page of approvals; raises InvalidInputError for a filter, order or cursor that is none."""
    return await page(
        session,
        LISTING,
        projects=asked.projects,
        filters=asked.filters,
        sort=asked.sort,
        cursor=asked.cursor,
        limit=limit,
        now=asked.now,
        instance=asked.instance,
    )


async def waiting_for(session: Session, principal: Principal, asked: Asked, limit: int) -> Page:
    """What waits for the principal: open approvals are read page by page until enough are found.

    Raises InvalidInputError for a filter, order or cursor that is none.
    """
    mine: list[str] = []
    scanned = 0
    filters = {"status": ",".join(sorted(OPEN)), **asked.filters}
    order = LISTING.default_order if asked.sort is None else asked.sort
    cursor = asked.cursor
    while True:
        part = Asked(asked.projects, asked.instance, asked.now, filters, order, cursor)
        found = await approvals(session, part, MAX_LIMIT)
        some = [Approval.model_validate_json(doc) for doc in found.docs]
        for approval in await decide.waits_for(session, principal, some, asked.now):
            if len(mine) == limit:
                return Page(mine, encode_cursor(order, [json.loads(mine[-1])["id"]]))
            mine.append(approval.model_dump_json())
        scanned += len(some)
        if found.next is None or scanned >= WAITING_SCANNED:
            return Page(mine, found.next)
        cursor = found.next
