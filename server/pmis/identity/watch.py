"""What one process remembers of people and sessions, and how it hears that it no longer holds.

PostgreSQL tells every listening process, at the commit, whose rights or sessions changed (migration 0005). While the
listener is heard, what is remembered is good until it is told otherwise, and no request asks the database who calls.
The listener asks for a sign of life several times a second; without one for a second, for whatever reason, what is
remembered is good for a second, as it would be without a listener.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from uuid import UUID

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

V = TypeVar("V")

CHANNEL: Final = "pmis_identity"
FRESH_SECONDS: Final = 1.0
"""Nothing that was taken away counts longer than this, whatever happens to the listener."""
HEARTBEAT_SECONDS: Final = 0.3
LONGEST_PAUSE_SECONDS: Final = 5.0
REMEMBERED: Final = 10_000
log = logging.getLogger("pmis.identity")


class Watch:
    """The listener of one process, with a connection of its own."""

    def __init__(self, dsn: str) -> None:
        """Describe the connection; `start()` makes it."""
        self._dsn = dsn
        self._task: asyncio.Task[None] | None = None
        self._hearers: list[Callable[[UUID | None], None]] = []
        self.confirmed = float("-inf")
        """When (by the monotonic clock) everything that had been committed had been heard."""
        self.told = 0
        """How many times something was heard; what was read while it grew may be stale already."""

    @property
    def is_heard(self) -> bool:
        """Whether what is remembered is known to be current, but for the last second."""
        return time.monotonic() - self.confirmed < FRESH_SECONDS

    def subscribe(self, hearer: Callable[[UUID | None], None]) -> None:
        """Call with the person whom to read afresh; None means everybody."""
        self._hearers.append(hearer)

    def tell(self, person_id: UUID | None) -> None:
        """Let everything that is remembered of the person (of everybody, for None) be read afresh."""
        self.told += 1
        for hearer in self._hearers:
            hearer(person_id)

    def start(self) -> None:
        """Listen until `stop()`; a connection that breaks is made anew."""
        self._task = asyncio.create_task(self._run(), name="pmis identity watch")

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.confirmed = float("-inf")

    async def _run(self) -> None:
        pause, silent = HEARTBEAT_SECONDS, False
        while True:
            began = time.monotonic()
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not silent:
                    log.warning("not told of changes in who may do what, each is read again every second: %s", error)
                silent = True
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause, silent = HEARTBEAT_SECONDS, False
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, connect_timeout=5, application_name="pmis-watch"
        )
        async with connection:
            await connection.execute(f"listen {CHANNEL}")
            # What was remembered before the listening began may have changed unheard.
            self.tell(None)
            while True:
                sent = time.monotonic()
                async with asyncio.timeout(FRESH_SECONDS):
                    # Listening twice is listening once; the answer comes after everything that was told before it.
                    await connection.execute(f"listen {CHANNEL}")
                await self._hear(connection, 0)
                self.confirmed = sent
                await self._hear(connection, HEARTBEAT_SECONDS)

    async def _hear(self, connection: psycopg.AsyncConnection, seconds: float) -> None:
        async for note in connection.notifies(timeout=seconds):
            try:
                self.tell(UUID(note.payload))
            except ValueError:
                self.tell(None)


class Remembered(Generic[V]):
    """Values by key, each about one person, for as long as they are known to be current."""

    def __init__(self, watch: Watch) -> None:
        """Nothing is remembered yet."""
        self._watch = watch
        self._known: dict[Hashable, tuple[float, UUID, V]] = {}
        self._of: dict[UUID, set[Hashable]] = {}
        watch.subscribe(self.forget)

    def get(self, key: Hashable) -> V | None:
        """The value, or None when it has to be read."""
        known = self._known.get(key)
        if known is None:
            return None
        if time.monotonic() - known[0] < FRESH_SECONDS or self._watch.is_heard:
            return known[2]
        return None

    def put(self, key: Hashable, person_id: UUID, value: V, told: int) -> None:
        """Remember what was read; `told` is what the watch had heard before the reading began."""
        if told != self._watch.told:
            return
        if len(self._known) >= REMEMBERED:
            self.forget(None)
        self._known[key] = (time.monotonic(), person_id, value)
        self._of.setdefault(person_id, set()).add(key)

    def forget(self, person_id: UUID | None) -> None:
        """Read what is about the person (about everybody, for None) afresh next time."""
        if person_id is None:
            self._known.clear()
            self._of.clear()
            return
        for key in self._of.pop(person_id, ()):
            self._known.pop(key, None)
