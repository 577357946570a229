"""The daily walk up the overdue ladder."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - Pydantic reads it
from typing import TYPE_CHECKING, Any, Final

from pmis.jobs.registry import Payload, job
from pmis.kit.db import Reach
from pmis.ledger.event import Origin
from pmis.task.escalation import ACTOR, climb, find, ladder_at

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.jobs.registry import Work

BATCH: Final = 1000
"""Tasks in one transaction."""
AHEAD: Final = 20_000
"""Tasks that are looked for at a time."""


class Morning(Payload):
    """The slot of the schedule: the moment at which what is overdue is judged, whenever the job is done."""

    slot: datetime


@job("tasks.check_overdue", Morning)
async def check_overdue_tasks(said: Morning, work: Work) -> dict[str, Any]:
    """Take each overdue task one rung up the ladder. Done again, on the same day it climbs nothing."""
    origin = Origin(ACTOR, "job", work.job.correlation_id)
    async with work.database.read(Reach.INSTANCE) as session:
        ladder = await ladder_at(session, said.slot)
    climbed = 0
    after: tuple[UUID, UUID] | None = None
    while True:
        async with work.database.read(Reach.INSTANCE) as session:
            found = await find(session, ladder, after=after, limit=AHEAD)
        for start in range(0, len(found), BATCH):
            tasks = [task for _, task in found[start : start + BATCH]]
            async with work.write() as session:
                climbed += await climb(session, ladder, tasks, origin=origin)
                await session.commit()
            await work.tell(climbed, text="tasks climbed")
        if len(found) < AHEAD:
            return {"escalated": climbed, "projects": len(ladder.homes)}
        after = found[-1]
