"""What is promised in a transaction is promised exactly when the transaction is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.kit.db import Reach
from pmis.kit.errors import ConflictError
from pmis.kit.ids import uuid7
from pmis.ledger.outbox import promise

if TYPE_CHECKING:
    from uuid import UUID

    from tests.builders import World

pytestmark = pytest.mark.anyio


async def event_of(world: World) -> UUID:
    async with world.read() as session:
        row = await session.one("select id from ledger.event where project_id = %s limit 1", (world.project,))
    assert row is not None
    return row[0]


async def test_a_promise_is_kept_with_its_event_and_not_sent_yet(world: World):
    event, key = await event_of(world), f"test:{uuid7()}"
    async with world.database.write(Reach.INSTANCE) as session:
        promise(session, "mail", key=key, event_id=event, payload={"b": 1, "a": "Ü"})
        await session.commit()
    async with world.read() as session:
        row = await session.one("select topic, payload, event_id, sent_at from ledger.outbox where key = %s", (key,))
    assert row == ("mail", '{"a":"Ü","b":1}', event, None)


async def test_a_transaction_that_is_taken_back_promised_nothing(world: World):
    event, key = await event_of(world), f"test:{uuid7()}"
    async with world.database.write(Reach.INSTANCE) as session:
        promise(session, "mail", key=key, event_id=event, payload={})
        await session.one("select 1")
    assert await world.outbox(key) == []


async def test_a_key_is_promised_once_and_the_second_transaction_fails_whole(world: World):
    event, key = await event_of(world), f"test:{uuid7()}"
    async with world.database.write(Reach.INSTANCE) as session:
        promise(session, "mail", key=key, event_id=event, payload={"first": True})
        await session.commit()
    package = uuid7()

    async def again() -> None:
        async with world.database.write(Reach.INSTANCE) as session:
            session.defer("insert into state.package_number values (%s, 1)", (package,))
            promise(session, "mail", key=key, event_id=event, payload={"first": False})
            await session.commit()

    with pytest.raises(ConflictError):
        await again()
    assert [json.loads(payload) for _, payload in await world.outbox(key)] == [{"first": True}]
    async with world.read() as session:
        assert await session.one("select 1 from state.package_number where project_id = %s", (package,)) is None


async def test_there_is_no_promise_without_an_event(world: World):
    async with world.database.write(Reach.INSTANCE) as session:
        promise(session, "mail", key=f"test:{uuid7()}", event_id=uuid7(), payload={})
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
            await session.commit()


class TestOfTheGovernedPath:
    """Each step of a change tells the world, once."""

    async def test_what_is_applied_at_once_is_told(self, world: World):
        outcome = await world.propose("operator", "package", "create", None, {"title": "A package"})
        events = await self._told(world, f"events:{(await self._ids(world, outcome.entities[0].id))[0]}")
        assert [event["type"] for event in events] == ["package.created"]

    async def test_what_waits_is_requested_decided_and_applied(self, world: World):
        approval = await world.waiting()
        requested = await world.outbox(f"requested:{approval.id}")
        assert [topic for topic, _ in requested] == ["approval.requested"]
        assert json.loads(requested[0][1])["urgent"] is False
        await world.say("admin", approval, "approve")
        applied = await world.outbox(f"applied:{approval.id}")
        assert [topic for topic, _ in applied] == ["approval.applied"]
        assert len(json.loads(applied[0][1])["events"]) == 1

    async def test_a_decision_that_does_not_end_it_is_told_too(self, world: World):
        package = await world.make_package("submitted")
        outcome = await world.propose(
            "operator", "package", "patch", package.id, {"vendor_id": str((await world.make_party()).id)}
        )
        assert outcome.approval is not None
        decided = (await world.say("admin", outcome.approval, "approve")).approval
        assert decided is not None
        assert [topic for topic, _ in await world.outbox(f"decided:{decided.id}:{decided.version}")] == [
            "approval.decided"
        ]
        assert await world.outbox(f"applied:{decided.id}") == []

    async def test_so_is_an_end_without_effect(self, world: World):
        approval = await world.waiting()
        await world.withdraw("analyst", approval)
        ended = await world.outbox(f"ended:{approval.id}")
        assert [json.loads(payload)["status"] for _, payload in ended] == ["withdrawn"]

    async def _ids(self, world: World, stream: UUID) -> list[UUID]:
        async with world.read() as session:
            return [row[0] for row in await session.all("select id from ledger.event where stream_id = %s", (stream,))]

    async def _told(self, world: World, key: str) -> list[dict[str, str]]:
        return json.loads((await world.outbox(key))[0][1])["events"]
