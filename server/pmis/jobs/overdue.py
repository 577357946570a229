"""The daily walk up the overdue ladder."""

from __future__ import annotations

import asyncio
from datetime import datetime  # noqa: TC003 - Pydantic reads it
from typing import TYPE_CHECKING, Any, Final

from pmis.jobs.registry import Payload, job
from pmis.kit.db import Reach
from pmis.ledger.event import Origin
from pmis.task.escalation import ACTOR, LANES, climb, find, ladder_at, lane_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.jobs.registry import Work
    from pmis.task.escalation import Ladder

BATCH: Final = 1000
"""Tasks in one transaction."""
AHEAD: Final = 20_000
"""Tasks that are looked for at a time."""


class Morning(Payload):
    """The slot of the schedule: the moment at which what is overdue is judged, whenever the job is done."""

    slot: datetime


class _Walk:
    """One walk up the ladder, in several lanes."""

    def __init__(self, work: Work, ladder: Ladder) -> None:
        self._work = work
        self._ladder = ladder
        self._origin = Origin(ACTOR, "job", work.job.correlation_id)
        self.climbed = 0

    async def up(self, tasks: Sequence[UUID]) -> None:
        """Take all of the tasks up: one batch at once, more in lanes, of which the first that fails ends the others."""
        parts = [[task for task in tasks if lane_of(task) == lane] for lane in range(LANES)]
        lanes = [asyncio.ensure_future(self._lane(part)) for part in (parts if len(tasks) > BATCH else [tasks])]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _lane(self, tasks: Sequence[UUID]) -> None:
        for start in range(0, len(tasks), BATCH):
            async with self._work.write() as session:
                climbed = await climb(session, self._ladder, tasks[start : start + BATCH], origin=self._origin)
                await session.commit()
            self.climbed += climbed
            await self._work.tell(self.climbed, text="tasks climbed")


@job("tasks.check_overdue", Morning)
async def check_overdue_tasks(said: Morning, work: Work) -> dict[str, Any]:
    """Take each overdue task one rung up the ladder. Done again, on the same day it climbs nothing."""
    async with work.database.read(Reach.INSTANCE) as session:
        ladder = await ladder_at(session, said.slot)
    walk = _Walk(work, ladder)
    after: tuple[UUID, UUID] | None = None
    while True:
        async with work.database.read(Reach.INSTANCE) as session:
            found = await find(session, ladder, after=after, limit=AHEAD)
        await walk.up([task for _, task in found])
        if len(found) < AHEAD:
            return {"escalated": walk.climbed, "projects": len(ladder.homes)}
        after = found[-1]
