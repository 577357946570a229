"""Memories on the governed path: whose they are, what they rest on, and what becomes of their texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pmis.approval.errors import BadReferenceError, DeletedRecordError
from pmis.email.models import EMAILS
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, InvalidInputError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from pmis.ledger.vault import ErasedSubjectError
from pmis.policy.levels import Route
from tests.builders import make_world
from tests.memory.working import TEXT, stored

if TYPE_CHECKING:
    from uuid import UUID

    from tests.builders import World

pytestmark = pytest.mark.anyio


async def found(world: World, identity: UUID) -> bool:
    async with world.read() as session:
        return await session.one("select 1 from memory.words where memory_id = %s", (identity,)) is not None


class TestStoring:
    async def test_the_log_and_the_row_hold_a_reference_and_the_vault_the_text(self, world: World):
        memory = await stored(world)
        (kind, payload, actor, _), *more = await world.events(memory.id)
        assert (kind, actor, more) == ("memory.stored", f"person:{world.people['analyst']}", [])
        assert "mayor" not in payload
        assert json.loads(payload)["fields"]["text"] == memory.text
        async with world.read() as session:
            assert (await world.vault.open(session, [memory.text]))[memory.text] == TEXT
        await world.require_replay()

    async def test_it_is_the_persons_own_also_when_an_agent_wrote_it(self, world: World):
        memory = await stored(world)
        assert (memory.author, memory.author_name, memory.writer) == (
            f"person:{world.people['analyst']}",
            "Analyst",
            "person",
        )
        package = str((await world.make_package()).id)
        given = {"entity_type": "package", "entity_id": package, "kind": "conversation", "text": TEXT}
        outcome = await world.propose("agent:analyst", "memory", "create", None, given)
        assert outcome.decision.route is Route.AUTO
        written: Any = outcome.entities[0]
        assert (written.author, written.writer) == (memory.author, "agent")
        assert (await world.propose("analyst", "memory", "delete", written.id)).decision.route is Route.AUTO

    async def test_it_promises_a_vector_once(self, world: World):
        memory = await stored(world)
        assert await world.outbox(f"memory.changed:{memory.id}:1") == [
            ("memory.changed", json.dumps({"memory_id": str(memory.id), "version": 1}, separators=(",", ":")))
        ]

    @pytest.mark.parametrize("text", ["", "  \n", "x" * 4001, "sealed:" + "0" * 64])
    async def test_texts_that_are_none(self, world: World, text: str):
        with pytest.raises(InvalidInputError):
            await stored(world, text=text)


class TestReferences:
    async def test_what_it_is_about_and_rests_on_is_of_this_project(self, world: World):
        package = await world.make_package()
        approval = await world.waiting()
        async with world.read() as session:
            row = await session.one("select id from ledger.event where stream_id = %s", (package.id,))
        assert row is not None
        sources = [
            {"type": "package", "id": str(package.id)},
            {"type": "approval", "id": str(approval.id)},
            {"type": "event", "id": str(row[0])},
        ]
        memory = await stored(world, sources=sources)
        assert [one.model_dump(mode="json") for one in memory.sources] == sources
        other = await make_world(world.database)
        foreign = await other.make_package()
        for wrong in ("package", "approval", "event", "email", "comment", "task", "party", "project", "memory"):
            for identity in (foreign.id, uuid7()):
                with pytest.raises(BadReferenceError, match="sources: there is no such"):
                    await stored(world, sources=[*sources, {"type": wrong, "id": str(identity)}])
        with pytest.raises(BadReferenceError, match="entity_id: there is no such package"):
            await stored(world, entity_id=str(foreign.id))

    async def test_events_that_only_the_log_shows_are_sources_for_its_readers_alone(self, world: World):
        async with world.read() as session:
            row = await session.one(
                "select id from ledger.event where project_id = %s and stream_type = 'membership' limit 1",
                (world.project,),
            )
        assert row is not None
        sources = [{"type": "event", "id": str(row[0])}]
        await stored(world, "admin", sources=sources)
        with pytest.raises(BadReferenceError):
            await stored(world, "analyst", sources=sources)


class TestRoutes:
    async def test_ones_own_is_ones_own_and_that_of_another_takes_an_approval(self, world: World):
        memory = await stored(world)
        for who, route in (("analyst", Route.AUTO), ("operator", Route.APPROVAL_REQUIRED)):
            outcome = await world.propose(who, "memory", "patch", memory.id, {"text": f"Corrected by {who}."})
            assert outcome.decision.route is route, who
            outcome = await world.propose(who, "memory", "delete", (await stored(world)).id)
            assert outcome.decision.route is route, who

    async def test_what_a_program_took_from_a_mail_waits_for_a_yes(self, world: World):
        """The assistant reads memories later on: nobody plants one there by writing a mail."""
        sources = [{"type": "email", "id": str(await a_mail(world))}]
        memory = await stored(world, "analyst", sources=sources)
        package = str((await world.make_package()).id)
        given = {"entity_type": "package", "entity_id": package, "kind": "context", "text": TEXT, "sources": sources}
        for operation, target, patch in (
            ("create", None, given),
            ("patch", memory.id, {"text": "Pay at once."}),
            ("patch", memory.id, {"text": "Pay at once.", "sources": sources}),
        ):
            outcome = await world.propose("agent:analyst", "memory", operation, target, patch)
            assert outcome.decision.route is Route.CONFIRM, operation
            assert "untrusted.confirm" in {reason.rule for reason in outcome.decision.reasons}


async def a_mail(world: World) -> UUID:
    identity = uuid7()
    fields = {
        "inbound_id": str(uuid7()),
        "via": "smtp",
        "digest": "0" * 64,
        "size": 1,
        "received_at": "2026-11-22T00:00:00Z",
        "status": "quarantined",
        "reason": "unknown",
        "thread_id": str(uuid7()),
    }
    async with world.database.write(Reach.INSTANCE) as session:
        origin = Origin(Actor("system:mail", "Mail"), "mail", "test")
        fact = Fact("email.ingested", {"fields": fields})
        append(session, EMAILS, None, [fact], origin=origin, stream_id=identity, project_id=world.project)
        await session.commit()
    return identity


class TestForgetting:
    async def test_what_is_forgotten_is_found_no_more_and_can_be_restored(self, world: World):
        memory = await stored(world)
        assert await found(world, memory.id)
        gone = (await world.propose("analyst", "memory", "delete", memory.id)).entities[0]
        assert (gone.version, await found(world, memory.id)) == (2, False)
        with pytest.raises(DeletedRecordError):
            await world.propose("analyst", "memory", "patch", memory.id, {"text": "x"})
        back: Any = (await world.propose("analyst", "memory", "restore", memory.id)).entities[0]
        assert (back.deleted, back.text, await found(world, memory.id)) == (False, memory.text, True)
        assert [kind for kind, *_ in await world.events(memory.id)] == [
            "memory.stored",
            "memory.deleted",
            "memory.restored",
        ]
        await world.require_replay()

    async def test_what_was_erased_does_not_come_back(self, world: World):
        memory = await stored(world)
        await world.propose("analyst", "memory", "patch", memory.id, {"text": "Another text."})
        await world.propose("analyst", "memory", "delete", memory.id)
        async with world.database.write(Reach.INSTANCE) as session:
            await world.vault.destroy(session, memory.id)
            await session.commit()
        with pytest.raises(ErasedSubjectError):
            await world.propose("analyst", "memory", "restore", memory.id)
        async with world.read() as session:
            refs = [
                row[0] for row in await session.all("select ref from ledger.vault where subject = %s", (memory.id,))
            ]
            assert len(refs) == 2
            assert set((await world.vault.open(session, refs)).values()) == {None}
        await world.require_replay()


class TestSeeing:
    async def test_it_is_not_there_for_who_does_not_see_the_project(self, world: World):
        memory = await stored(world)
        for operation, patch in (("patch", {"text": "x"}), ("delete", None), ("restore", None)):
            with pytest.raises(NotFoundError):
                await world.propose("outsider", "memory", operation, memory.id, patch)
        with pytest.raises(ForbiddenError):
            await world.propose("viewer", "memory", "delete", memory.id)
