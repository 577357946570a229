"""The jobs of memories: the vector of one that is new, and what nobody waits for."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - Pydantic reads it

from pmis.jobs.registry import Payload, job
from pmis.jobs.upkeep import Slot
from pmis.kit.db import Reach
from pmis.memory import index
from pmis.memory.embedding import embedder_of
from pmis.memory.upkeep import Pass, erase_due, make_findable, one, step

if TYPE_CHECKING:
    from pmis.jobs.registry import Work

_BATCH: Final = 500
_SECONDS: Final = 120.0
"""How long vectors are made in one go; the next slot goes on where this one stopped."""


class Changed(Payload):
    """A memory that was stored, corrected or restored."""

    memory_id: UUID
    version: int


@job("memory.embed", Changed)
async def embed(said: Changed, work: Work) -> dict[str, Any]:
    """Make the vector of a memory. No transaction is open while the embedder is asked; a newer version stays."""
    embedder = embedder_of(work.settings)
    async with work.database.read(Reach.INSTANCE) as session:
        found = await one(session, said.memory_id) if await index.has_vectors(session) else None
        text = (await work.vault.open(session, [found.ref]))[found.ref] if found else None
    vector = (await embedder.passages([text]))[0] if text is not None else None
    async with work.write() as session:
        kept = found is not None and vector is not None
        kept = kept and await make_findable(session, found, embedder.name, vector)  # pyright: ignore[reportArgumentType] - not None
        result = {"vectors": int(kept)}
        work.finish(session, result)
        await session.commit()
    return result


@job("memory.upkeep", Slot)
async def keep_up(_: Slot, work: Work) -> dict[str, Any]:
    """Erase what was forgotten long enough ago, and make what vectors lack, such as those of another embedder."""
    before = work.clock.now() - timedelta(days=work.settings.memory_erase_days)
    erased = 0
    while True:
        async with work.write() as session:
            found = await erase_due(session, work.vault, before=before, limit=_BATCH)
            await session.commit()
        erased += found
        if found < _BATCH:
            break
    embedder, at, until = embedder_of(work.settings), Pass(), time.monotonic() + _SECONDS
    while not at.finished and time.monotonic() < until:
        at = await step(work.database, work.vault, embedder, at, everything=False)
        await work.tell(at.done, text="memories made findable")
    return {"erased": erased, "findable": at.done}
