"""The assistant's job: forgetting what was kept long enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pmis.jobs.registry import job
from pmis.jobs.upkeep import Slot

if TYPE_CHECKING:
    from pmis.jobs.registry import Work

_BATCH: Final = 500
SCRATCH: Final = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
"""The tables of the graph's library that hold what is noted of a turn."""
# What is noted of a turn serves to go on with it: not once it has ended, nor when nobody has come back to it.
_FORGET_SCRATCH: Final = """
delete from agent.{table} where thread_id in (
    select distinct c.thread_id from agent.checkpoints c left join chat.turn t on t.id::text = c.thread_id
    where t.id is null or t.ended_at < %(now)s - (case t.status when 'waiting' then interval '45 days'
        when 'done' then interval '1 hour' else interval '7 days' end)
)
"""


@job("assistant.prune", Slot)
async def prune(_: Slot, work: Work) -> dict[str, Any]:
    """Forget conversations that nobody has touched for long, and what is noted of turns that have ended."""
    gone = 0
    while True:
        async with work.write() as session:
            found = await session.execute(
                "delete from chat.conversation where id in (select id from chat.conversation "
                "where touched_at < %s - make_interval(days => %s) order by touched_at limit %s)",
                (session.now, work.settings.conversation_keep_days, _BATCH),
            )
            await session.commit()
        gone += found
        if found < _BATCH:
            break
    async with work.write() as session:
        # The table that says which they are comes last.
        for table in reversed(SCRATCH):
            await session.execute(_FORGET_SCRATCH.format(table=table), {"now": session.now})
        await session.commit()
    return {"conversations": gone}
