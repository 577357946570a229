"""What comments tell the governed path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from pmis.approval.errors import BadReferenceError
from pmis.approval.governed import SEARCHABLE, Noun
from pmis.comment.models import Comment, CommentCreate, CommentPatch
from pmis.kit.errors import ForbiddenError

if TYPE_CHECKING:
    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session
    from pmis.ledger.event import Fact


class CommentNoun(Noun[Comment]):
    """Comments; only their authors change or delete them."""

    stream_type = "comment"
    label = "comment"
    model = Comment
    columns = ("entity_type", "entity_id", "deleted")
    child_tables = (SEARCHABLE,)
    create_input = CommentCreate
    patch_input = CommentPatch
    operations = frozenset({"create", "patch", "delete", "restore"})

    def children(self, entity: Comment) -> dict[str, list[tuple[Any, ...]]]:
        """The text by which the comment is found."""
        return self.found_by(entity, entity.body, deleted=entity.deleted)

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The comment with its author."""
        who = situation.principal
        return {**change.patch, "author": who.ref, "author_name": who.name}

    def decide(self, entity: Comment | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts; raises ForbiddenError for somebody else's comment."""
        if entity is not None and entity.author != situation.principal.ref:
            raise ForbiddenError("Only its author changes a comment.")
        return super().decide(entity, change, situation)

    async def check_references(
        self, session: Session, change: Change, entity: Comment | None, situation: Situation
    ) -> None:
        """What is commented on is of this project."""
        if entity is not None:
            return
        kind, identity = change.patch["entity_type"], UUID(change.patch["entity_id"])
        if identity in situation.known:
            return
        row = await session.one(
            f"select 1 from state.{kind} where id = %s and project_id = %s", (identity, change.project_id)
        )
        if row is None:
            raise BadReferenceError(f"entity_id: there is no such {kind} in this project.", field="entity_id")


COMMENTS = CommentNoun()
