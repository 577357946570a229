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
    from collections.abc import Callable
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

    async def note(self, call: Call, what: str, project: UUID | None, **asked: str) -> None:
        """Write that the caller reads this, before they are answered; who cannot be written down reads nothing."""
        payload = {"what": what, "asked": asked}
        key = call.origin.actor, project, canonical(payload)
        now = self._now()
        if self._until.get(key, now) > now:
            return
        await self.write(call, Fact("log.read", payload), project)
        self._until[key] = now + SECONDS
        self._until.move_to_end(key)
        while len(self._until) > _KEPT:
            self._until.popitem(last=False)

    @staticmethod
    async def write(call: Call, fact: Fact, project: UUID | None) -> None:
        """Write what the caller did with the log."""
        async with call.parts.database.write(call.reach) as session:
            record(session, "log", uuid7(), fact, origin=call.origin, project_id=project)
            await session.commit()
