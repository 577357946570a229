"""The overdue ladder: when a task is overdue, and who is told next. Nothing but decisions; the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

Rung: TypeAlias = Literal["owner", "lead", "manager", "sponsor"]
RUNGS: Final[tuple[Rung, ...]] = ("owner", "lead", "manager", "sponsor")
"""From the bottom to the top."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Calendar:
    """The days on which a project works, in its time zone."""

    timezone: str
    workdays: frozenset[int]
    """ISO weekdays; at least one."""
    holidays: frozenset[date]

    def day_of(self, moment: datetime) -> date:
        """The date that people of the project write at that moment."""
        return moment.astimezone(ZoneInfo(self.timezone)).date()

    def works_on(self, day: date) -> bool:
        """Whether it is a working day."""
        return day.isoweekday() in self.workdays and day not in self.holidays

    def last_missed(self, today: date) -> date:
        """The newest due date that is overdue today: the working day before.

        What is due on a day without work is due on the next working day, and is overdue the day after that one.
        """
        day = today - _DAY
        while not self.works_on(day):
            day -= _DAY
        return day


def next_rung(last: Rung | None, people: Mapping[Rung, Sequence[UUID]]) -> Rung | None:
    """The rung above the last one on which there is somebody to tell; None at the top."""
    above = RUNGS if last is None else RUNGS[RUNGS.index(last) + 1 :]
    return next((rung for rung in above if people.get(rung)), None)
