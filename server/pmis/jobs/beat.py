"""Keeps the schedule: each slot becomes one job, however many beats run and however often they are started again.

A slot is a row, unique by schedule and time, written in the transaction that accepts its job. The time is the
database's, so that a machine's clock that jumps fires nothing; time that goes back finds its slots taken.
"""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC
from typing import TYPE_CHECKING, Final

import psycopg

from pmis.jobs.schedule import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from threading import Event
    from typing import Any

    from pmis.jobs.schedule import Schedule

    Connection = psycopg.Connection[tuple[Any, ...]]

log = logging.getLogger("pmis.beat")

TICK_SECONDS: Final = 1.0


class Beat:
    """One beat. `now` is the time to go by; without it, the database's."""

    def __init__(self, schedules: Sequence[Schedule] = SCHEDULES, *, now: Callable[[], datetime] | None = None) -> None:
        """Nothing is fired before `step()`."""
        self._schedules = schedules
        self._now = now

    def step(self, connection: Connection) -> int:
        """Fire what has come; says how many slots that was. The connection commits each statement by itself."""
        rows = connection.execute(
            "select name, clock_timestamp(), (select max(slot) from jobs.slot where schedule = name) "
            "from unnest(%s::text[]) as name",
            ([schedule.name for schedule in self._schedules],),
        ).fetchall()
        known = {name: (now, last) for name, now, last in rows}
        return sum(self._fire(connection, schedule, *known[schedule.name]) for schedule in self._schedules)

    def _fire(self, connection: Connection, schedule: Schedule, now: datetime, last: datetime | None) -> int:
        now = self._now() if self._now else now.astimezone(UTC)
        if last is None:
            # A schedule begins with the slot after it is first seen: what was before is not its business.
            self._take(connection, schedule, schedule.slots.at_or_before(now), kind=None)
            return 0
        due = schedule.due(last.astimezone(UTC), now)
        return sum(self._take(connection, schedule, slot, kind=schedule.kind) for slot in due)

    @staticmethod
    def _take(connection: Connection, schedule: Schedule, slot: datetime, *, kind: str | None) -> bool:
        text = slot.isoformat().replace("+00:00", "Z")
        row = connection.execute(
            "select jobs.fire(%s, %s, %s, %s, %s)",
            (schedule.name, slot, kind, json.dumps({"slot": text}), f"slot:{schedule.name}:{text}"),
        ).fetchone()
        fired = bool(row and row[0])
        if fired and kind:
            log.info("%s of %s is accepted", schedule.name, text)
        return fired

    def run(self, connect: Callable[[], Connection], stop: Event) -> None:
        """Go on until `stop` is set; a lost database is waited for."""
        while not stop.is_set():
            try:
                with contextlib.closing(connect()) as connection:
                    while not stop.is_set():
                        self.step(connection)
                        stop.wait(TICK_SECONDS)
            except psycopg.Error as error:
                log.warning("the database did not answer the beat: %s", str(error).strip().partition("\n")[0])
                stop.wait(TICK_SECONDS)
