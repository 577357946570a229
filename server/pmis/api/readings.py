"""Who read what of the log is an event too, `log.read`; leafing through what was asked for is one reading."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from pmis.api.context import Call
    from pmis.ledger.event import Actor

SECONDS: Final = 3600
"""What somebody reads again within so long is the same reading."""
_KEPT: Final = 10_000


class Readings:
    """What was read lately, as far as this process knows: another one, or a restart, writes it once more."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` tells seconds that never go back."""
        self._now = now
        self._until: OrderedDict[tuple[Actor, UUID | None, str], float] = OrderedDict()

    async def note(self, call: Call, what: str, projects: Collection[UUID | None], **asked: str) -> None:
        """Write that the caller reads this, before they are answered; who cannot be written down reads nothing.

        It is written to each of the `projects` (None: what belongs to none, or to all) whose log is read, so that
        whoever audits one finds who read of it.
        """
        payload = {"what": what, "asked": asked}
        actor, text, now = call.origin.actor, canonical(payload), self._now()
        new = [one for one in projects if self._until.get((actor, one, text), now) <= now]
        if not new:
            return
        await self.write(call, Fact("log.read", payload), new)
        for project in new:
            self._until[actor, project, text] = now + SECONDS
            self._until.move_to_end((actor, project, text))
        while len(self._until) > _KEPT:
            self._until.popitem(last=False)

    @staticmethod
    async def write(call: Call, fact: Fact, projects: Collection[UUID | None]) -> None:
        """Write what the caller did with the log of these projects."""
        async with call.parts.database.write(call.reach) as session:
            for project in projects:
                record(session, "log", uuid7(), fact, origin=call.origin, project_id=project)
            await session.commit()
