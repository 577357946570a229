"""What is kept of conversations, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr

from pmis.assistant.tasks import SCRATCH
from pmis.jobs.queue import enqueue
from pmis.jobs.runner import Runner
from pmis.kit.db import Reach
from pmis.work import KINDS
from tests.api.expect import ok, problem
from tests.api.office import settings_for
from tests.assistant.talking import patch

if TYPE_CHECKING:
    from tests.assistant.talking import Talk

pytestmark = pytest.mark.anyio


async def prune(talk: Talk) -> None:
    """One run of the job, as a worker makes it."""
    database = talk.office.test_database
    runner = Runner(settings_for(database, database_worker_url=SecretStr(database.worker_dsn)), KINDS, own_loop=False)
    async with talk.office.database.write(Reach.INSTANCE) as session:
        slot = {"slot": datetime.now(UTC).isoformat()}
        job = enqueue(session, "assistant.prune", slot, dedup=None, correlation_id="test")
        await session.commit()
    await runner.tools.database.open()
    try:
        assert await runner.attempt(job) == "done"
    finally:
        await runner.tools.database.close()


async def test_notes_of_ended_turns_go_and_those_that_wait_stay(talk: Talk):
    package = await talk.package()
    ended = await talk.change("operator", patch(package, title="Ended"))
    waits = await talk.change("operator", patch(package, title="Waits"), impact_level="medium")
    turns = [ended["turn_id"], waits["turn_id"]]

    def noted(table: str) -> list[int]:
        with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
            query = f"select count(*) from agent.{table} where thread_id = %s"
            return [connection.execute(query.encode(), (turn,)).fetchone()[0] for turn in turns]  # pyright: ignore[reportOptionalSubscript]

    assert all(noted("checkpoints"))
    with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
        connection.execute("update chat.turn set ended_at = ended_at - interval '2 days'")
        # The library has no other table that knows of a turn.
        rows = connection.execute(
            "select table_name from information_schema.columns "
            "where table_schema = 'agent' and column_name = 'thread_id'"
        )
        assert {row[0] for row in rows} == set(SCRATCH)
    await prune(talk)
    for table in SCRATCH:
        assert noted(table)[0] == 0, table
    assert noted("checkpoints")[1] > 0
    (change,) = waits["changes"]
    approval = f"/approvals/{change['approval_id']}/confirm"
    ok(await talk.office.post("operator", approval, {"digest": change["digest"]}))
    after = ok(await talk.office.post("operator", f"/conversations/{waits['conversation_id']}/resume"))
    assert after["changes"][0]["outcome"] == "applied"


async def test_conversations_that_nobody_goes_on_with_are_forgotten(talk: Talk):
    old, new = await talk.say("viewer", "one"), await talk.say("viewer", "two")
    with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
        connection.execute(
            "update chat.conversation set touched_at = now() - interval '366 days' where id = %s",
            (old["conversation_id"],),
        )
    await prune(talk)
    problem(await talk.office.get("viewer", f"/conversations/{old['conversation_id']}"), 404)
    ok(await talk.office.get("viewer", f"/conversations/{new['conversation_id']}"))
