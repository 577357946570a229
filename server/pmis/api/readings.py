"""Who read what of the log is an event too, `log.read`; leafing through what was asked for is one reading."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

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
_HARMLESS: Final = frozenset({"type"})
"""What is told in each of several projects: a record of one is nothing for the log of another."""
_TIMES: Final = frozenset({"from", "to"})
"""What is told in the instance's log only: a project's would grow by an event for every step through them."""
_Reading: TypeAlias = "tuple[Actor, UUID | None, str]"


class Readings:
    """What was read lately, as far as this process knows: another one, or a restart, writes it once more."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` tells seconds that never go back."""
        self._now = now
        self._until: OrderedDict[_Reading, float] = OrderedDict()

    async def note(
        self, call: Call, what: str, projects: Collection[UUID | None], *, found: bool = True, **asked: str
    ) -> None:
        """Write that the caller reads this, before they are answered; who cannot be written down reads nothing.

        It is written to each of the `projects` whose log is read, so that whoever audits one finds who read of it, and
        to the instance (None) where none was named. There the question stands as it was asked, in the one project that
        was named without its times, and in several, or where nothing was `found`, without what it names: that may be of
        another project.
        """
        actor, now = call.origin.actor, self._now()
        told_here = asked.keys() - _TIMES if found and None not in projects else _HARMLESS
        new: dict[_Reading, Fact] = {}
        for project in projects:
            told = {name: text for name, text in asked.items() if project is None or name in told_here}
            payload = {"what": what, "asked": told}
            reading = actor, project, canonical(payload)
            if self._until.get(reading, now) <= now:
                new[reading] = Fact("log.read", payload)
        if not new:
            return
        await self.write(call, [(fact, project) for (_, project, _), fact in new.items()])
        for reading in new:
            self._until[reading] = now + SECONDS
            self._until.move_to_end(reading)
        while len(self._until) > _KEPT:
            self._until.popitem(last=False)

    @staticmethod
    async def write(call: Call, facts: Collection[tuple[Fact, UUID | None]]) -> None:
        """Write what the caller did with the log, each fact to its project."""
        async with call.parts.database.write(call.reach) as session:
            for fact, project in facts:
                record(session, "log", uuid7(), fact, origin=call.origin, project_id=project)
            await session.commit()
