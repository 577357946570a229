"""One look at the log for all who listen in this process: what came since, told to each soon after its commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pmis.kit.db import Reach
from pmis.kit.errors import PmisError
from pmis.ledger.following import Following, Grown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import FrameType
    from uuid import UUID

    from pmis.kit.db import Database

log = logging.getLogger("pmis.api")

LONGEST_SECONDS: Final = 3600
LOOK_SECONDS: Final = 0.3
_MOST_BEHIND: Final = 1000
_MOST_EACH: Final = 30


@dataclass(eq=False)
class Ear:
    """Somebody who listens: what they have not taken yet, and whether they lost some of it."""

    who: UUID | str
    waiting: asyncio.Queue[Grown] = field(default_factory=lambda: asyncio.Queue(_MOST_BEHIND))
    lost: bool = False

    def hear(self, event: Grown) -> None:
        """Let it wait to be taken; who is a thousand behind has lost it."""
        if self.waiting.full():
            self.lost = True
        else:
            self.waiting.put_nowait(event)


class TooManyStreamsError(PmisError):
    """Somebody listens in so many places that it must be a mistake."""

    code = "too_many_streams"
    status = 429
    title = "Too many open streams"
    retry_after = 60


class Changes:
    """One process's look at the log, for as long as anybody listens."""

    def __init__(self, database: Database) -> None:
        """Nobody listens yet."""
        self.longest: float = LONGEST_SECONDS
        self._database = database
        self._ears: set[Ear] = set()
        self._looking: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._ending = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self, who: UUID | str) -> AsyncGenerator[Ear]:
        """What comes from now on; raises TooManyStreamsError for who listens in too many places."""
        if sum(other.who == who for other in self._ears) >= _MOST_EACH:
            raise TooManyStreamsError(f"You listen in {_MOST_EACH} places already. Close one of them.")
        ear = Ear(who)
        self._ears.add(ear)
        try:
            async with self._starting:
                if self._looking is None:
                    following = await self._begun()
                    self._looking = asyncio.create_task(self._looked(following), name="pmis changes")
            yield ear
        finally:
            self._ears.discard(ear)
            if not self._ears and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _begun(self) -> Following:
        async with self._database.read(Reach.INSTANCE) as session:
            return await Following.from_now(session)

    async def _looked(self, following: Following) -> None:
        """Look until nobody listens; what nobody foresaw ends the streams, and whoever asks anew begins anew."""
        try:
            await self._look(following)
        except Exception:
            log.exception("could not go on looking for changes")
            self._looking = None
            for ear in self._ears:
                ear.lost = True

    async def _look(self, following: Following) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with self._database.read(Reach.INSTANCE) as session:
                    grown = await following.read(session)
            except (PmisError, psycopg.Error) as error:
                # What was not read is read by the next look, once the database answers again.
                log.debug("could not look for changes: %s", error)
                continue
            for event in grown:
                for ear in self._ears:
                    ear.hear(event)

    @property
    def is_ending(self) -> bool:
        """Whether this process was asked to end; streams end by themselves then, and pages ask the next one."""
        return self._ending.is_set()

    async def next_of(self, ear: Ear, seconds: float) -> Grown | None:
        """What comes next; None when nothing came for so long, or the process ends."""
        coming, ending = asyncio.ensure_future(ear.waiting.get()), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({coming, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()
            ending.cancel()

    @contextlib.contextmanager
    def heeding_signals(self) -> Generator[None]:
        """End the streams when the server is asked to: it waits for open answers, and these would not end."""
        loop = asyncio.get_running_loop()
        before: dict[int, Any] = {}

        def heed(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
            def handle(number: int, frame: FrameType | None) -> None:
                loop.call_soon_threadsafe(self._ending.set)
                handler(number, frame)

            return handle

        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            # Only the main thread hears signals, and only a server has something to say to them.
            if callable(handler) and handler is not signal.default_int_handler:
                with contextlib.suppress(ValueError):
                    before[number] = signal.signal(number, heed(handler))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
