"""How far a running import is, told beside its transaction, so that others see it before the commit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pmis.kit.db import Reach
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.db import Database, Session

Phase = Literal["reading", "checking", "planning", "proposing", "done", "failed"]

_TELL: Final = (
    "insert into ledger.import_progress as p (id, actor, phase, done, total) values (%s, %s, %s, %s, %s) "
    "on conflict (id) do update set phase = excluded.phase, done = excluded.done, total = excluded.total, "
    "updated_at = clock_timestamp() where p.actor = excluded.actor"
)


class Progress:
    """Nobody is told."""

    async def say(self, phase: Phase, done: int = 0, total: int = 0) -> None:
        """The import is in this phase, so many of its items are done. Never raises: an import does not fail for it."""


class ToldProgress(Progress):
    """Whoever started the import is told, under an id of their own choice."""

    def __init__(self, database: Database, identity: UUID, actor: str) -> None:
        self._database = database
        self._identity = identity
        self._actor = actor

    async def say(self, phase: Phase, done: int = 0, total: int = 0) -> None:
        """Keep it on a connection of its own."""
        with suppress(PmisError):
            async with self._database.write(Reach.INSTANCE) as session:
                if phase == "reading":
                    await session.execute(
                        "delete from ledger.import_progress where updated_at < clock_timestamp() - interval '1 day'"
                    )
                await session.execute(_TELL, (self._identity, self._actor, phase, done, total))
                await session.commit()


@dataclass(frozen=True)
class Told:
    """How far an import is."""

    phase: Phase
    done: int
    total: int
    updated_at: datetime


async def progress_of(session: Session, identity: UUID, actor: str) -> Told | None:
    """What was last told of an import of this actor's; None when there is none."""
    row = await session.one(
        "select phase, done, total, updated_at from ledger.import_progress where id = %s and actor = %s",
        (identity, actor),
    )
    return Told(*row) if row else None
