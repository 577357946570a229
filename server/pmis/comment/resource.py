"""Comments over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from pmis.approval.resource import Resource
from pmis.comment.models import TABLE, CommentCreate, Commented
from pmis.comment.noun import COMMENTS
from pmis.kit.filters import equals, one_of, search_filter, uuid
from pmis.kit.listing import Listing

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.governed import Proposed
    from pmis.kit.db import Session


async def _project_of(session: Session, said: Proposed) -> UUID | None:
    comment = cast("CommentCreate", said)
    row = await session.one(f"select project_id from state.{comment.entity_type} where id = %s", (comment.entity_id,))
    return row[0] if row else None


RESOURCE: Final = Resource(
    path="comments",
    noun=COMMENTS,
    listing=Listing(
        TABLE,
        orders={"created_at": "id"},
        default_order="-created_at",
        filters={
            "entity_type": one_of("entity_type", frozenset(get_args(Commented)), "Only those on these", "package"),
            "entity_id": equals(
                "entity_id", uuid, "Only those on this record.", "0197c0de-0000-7000-8000-000000000000"
            ),
            "q": search_filter(),
        },
        hides_deleted=True,
    ),
    project_of=_project_of,
)
