"""Memories over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from pmis.approval.resource import Resource
from pmis.kit.filters import equals, one_of, search_filter, uuid
from pmis.kit.listing import Listing
from pmis.memory.models import TABLE, WORDS, MemoryCreate, MemoryKind, MemoryOut, Remembered
from pmis.memory.noun import MEMORIES

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.governed import Proposed
    from pmis.kit.db import Session

_SOME_ID: Final = "0197c0de-0000-7000-8000-000000000000"


async def _project_of(session: Session, said: Proposed) -> UUID | None:
    memory = cast("MemoryCreate", said)
    row = await session.one(f"select project_id from state.{memory.entity_type} where id = %s", (memory.entity_id,))
    return row[0] if row else None


RESOURCE: Final = Resource(
    path="memories",
    noun=MEMORIES,
    listing=Listing(
        TABLE,
        orders={"created_at": "id"},
        default_order="-created_at",
        filters={
            "entity_type": one_of("entity_type", frozenset(get_args(Remembered)), "Only those of these", "package"),
            "entity_id": equals("entity_id", uuid, "Only those of this record.", _SOME_ID),
            "kind": one_of("kind", frozenset(get_args(MemoryKind)), "Only these kinds", "decision,context"),
            "conversation_id": equals("conversation_id", uuid, "Only those of this conversation.", _SOME_ID),
            "q": search_filter(WORDS, key="memory_id", words="words"),
        },
        hides_deleted=True,
    ),
    project_of=_project_of,
    related=("select approval_id from state.approval_target where target_id = %s",),
    output=MemoryOut,
)
