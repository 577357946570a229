"""Follows the log as it grows, for whoever tells others of it: each event once, soon after its commit.

Positions are given out before the commit, so one that is missing among those that are there may still come, or never.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pmis.kit.db import Session

AWAITED_SECONDS: Final = 300.0
"""No transaction of ours lasts so long: what is missing still was rolled back."""
_MOST_GAPS: Final = 200
_MOST_READ: Final = 1000
_NEVER: Final = 2**63 - 1
_GROWN: Final = (
    "select e.position, e.id, e.stream_type, e.stream_id, e.stream_version, e.project_id, e.type "
    "from unnest(%s::bigint[], %s::bigint[]) as awaited(low, high) "
    "join ledger.event e on e.position between awaited.low and awaited.high order by e.position limit %s"
)


@dataclass(frozen=True, slots=True)
class Grown:
    """An event by what it is about, without what it says."""

    position: int
    id: UUID
    stream_type: str
    stream_id: UUID
    stream_version: int
    project_id: UUID | None
    type: str


@dataclass(frozen=True, slots=True)
class _Gap:
    low: int
    high: int
    since: float


class Following:
    """A reader of the log from a moment on."""

    def __init__(self, position: int, now: Callable[[], float] = time.monotonic) -> None:
        """After `position`, the last that was there; `now` tells seconds that never go back."""
        self.position = position
        self._now = now
        self._gaps: list[_Gap] = []

    @classmethod
    async def from_now(cls, session: Session) -> Following:
        """From what is there now on."""
        row = await session.one("select coalesce(max(position), 0) from ledger.event")
        return cls(row[0] if row else 0)

    async def read(self, session: Session) -> list[Grown]:
        """What came since, at most a thousand events in the order of their positions; also those that came late."""
        lows = [*(gap.low for gap in self._gaps), self.position + 1]
        highs = [*(gap.high for gap in self._gaps), _NEVER]
        found = [Grown(*row) for row in await session.all(_GROWN, (lows, highs, _MOST_READ))]
        self._note({event.position for event in found})
        return found

    def _note(self, found: set[int]) -> None:
        now = self._now()
        awaited = [gap for gap in self._gaps if now - gap.since < AWAITED_SECONDS]
        last = max([self.position, *found])
        if last > self.position:
            awaited.append(_Gap(self.position + 1, last, now))
        self.position = last
        self._gaps = [part for gap in awaited for part in _without(gap, found)][-_MOST_GAPS:]


def _without(gap: _Gap, found: set[int]) -> list[_Gap]:
    """What remains of a gap; the range of a transaction that holds thousands is one gap, not thousands."""
    inside = sorted(position for position in found if gap.low <= position <= gap.high)
    edges = [gap.low - 1, *inside, gap.high + 1]
    return [_Gap(before + 1, after - 1, gap.since) for before, after in itertools.pairwise(edges) if after - before > 1]
