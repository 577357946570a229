"""What is done by the clock. A new schedule is a line here, and a kind of job that does it.

Told here and not where the kinds are declared, so that the beat, which needs nothing else of them, stays small.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CatchUp = Literal["latest", "every"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOST_AT_ONCE: Final = 1000
"""How many missed slots of one schedule are looked at in one go."""


@dataclass(frozen=True)
class Every:
    """A slot every so many seconds, counted from 1970, so that all beats know the same ones."""

    seconds: int
    offset_seconds: int = 0

    def at_or_before(self, moment: datetime) -> datetime:
        """The newest slot that has come."""
        passed = (moment - _EPOCH).total_seconds() - self.offset_seconds
        return _EPOCH + timedelta(seconds=math.floor(passed / self.seconds) * self.seconds + self.offset_seconds)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The slots after one moment up to another, the oldest first."""
        slot = self.at_or_before(after) + timedelta(seconds=self.seconds)
        while slot <= until:
            yield slot
            slot += timedelta(seconds=self.seconds)


def daily(hour: int = 0, minute: int = 0) -> Every:
    """A slot a day, at a time of UTC, which has no summer time: every day has it once."""
    return Every(86_400, hour * 3600 + minute * 60)


@dataclass(frozen=True)
class Schedule:
    """Which kind of job is accepted when. Its payload is the slot."""

    name: str
    kind: str
    slots: Every
    catch_up: CatchUp
    """After a time without any beat: only the newest of the missed slots, or every one of them, the oldest first."""

    def due(self, last: datetime, now: datetime) -> Sequence[datetime]:
        """The slots to fire, when `last` is the newest that was fired."""
        if self.catch_up == "latest":
            newest = self.slots.at_or_before(now)
            return [newest] if newest > last else []
        found: deque[datetime] = deque()
        for slot in self.slots.between(last, now):
            found.append(slot)
            if len(found) == MOST_AT_ONCE:
                break
        return found


SCHEDULES: Final[tuple[Schedule, ...]] = (
    Schedule("approvals.expire", "approvals.expire", Every(300), "latest"),
    Schedule("approvals.escalate", "approvals.escalate", Every(900), "latest"),
    Schedule("approvals.remind", "approvals.remind", Every(900), "latest"),
    Schedule("invitations.expire", "invitations.expire", Every(3600), "latest"),
    Schedule("tasks.check_overdue", "tasks.check_overdue", daily(), "latest"),
    Schedule("memory.upkeep", "memory.upkeep", Every(3600, 600), "latest"),
    Schedule("upkeep.prune", "upkeep.prune", daily(3, 20), "latest"),
    Schedule("notify.prune", "notify.prune", daily(3, 40), "latest"),
    Schedule("assistant.prune", "assistant.prune", daily(3, 50), "latest"),
)
