"""Memories to look for, and the jobs of theirs done as a worker does them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmis.jobs.queue import enqueue
from pmis.jobs.runner import Runner
from pmis.kit.db import Reach
from pmis.kit.settings import load_settings
from pmis.work import KINDS
from tests.builders import SECRET

if TYPE_CHECKING:
    from uuid import UUID

    from tests.builders import World
    from tests.conftest import TestDatabase

TEXT = "The mayor wants the paving before school begins."


async def stored(world: World, who: str = "analyst", **fields: Any) -> Any:
    """A memory of a package, as its row has it."""
    entity = fields.pop("entity_id", None) or str((await world.make_package()).id)
    given = {"entity_type": "package", "entity_id": entity, "kind": "context", "text": TEXT, **fields}
    outcome = await world.propose(who, "memory", "create", None, given)
    assert outcome.outcome == "applied", outcome
    return outcome.entities[0]


async def done(world: World, database: TestDatabase, kind: str, payload: dict[str, Any], **settings: Any) -> str:
    """What became of one attempt at a job."""
    logins = {"database_url": database.app_dsn, "database_worker_url": database.worker_dsn}
    runner = Runner(load_settings(**logins, secret_key=SECRET, **settings), KINDS, own_loop=False)
    async with world.database.write(Reach.INSTANCE) as session:
        job = enqueue(session, kind, payload, dedup=None, correlation_id="test")
        await session.commit()
    await runner.tools.database.open()
    try:
        return await runner.attempt(job)
    finally:
        await runner.tools.database.close()


async def embedded(world: World, database: TestDatabase, memory: UUID, version: int = 1) -> None:
    """Have the vector of a memory made."""
    assert await done(world, database, "memory.embed", {"memory_id": str(memory), "version": version}) == "done"
