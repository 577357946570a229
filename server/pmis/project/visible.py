"""Which projects somebody sees, where a list of them is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmis.policy.access import ALL, Action, visible_projects

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.policy.access import Principal


async def readable_projects(session: Session, principal: Principal, action: Action = Action.READ) -> list[UUID]:
    """The projects in which the principal may do this."""
    visible = visible_projects(principal, action)
    if visible is ALL:
        return [row[0] for row in await session.all("select id from state.project")]
    return sorted(visible)
