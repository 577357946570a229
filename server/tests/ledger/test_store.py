"""Appending: events and rows in one transaction, each made from the other and never apart."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from pmis.comment.noun import COMMENTS
from pmis.kit.db import Reach
from pmis.kit.errors import BusyError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Event, Fact, Origin
from pmis.ledger.projection import Entity, Projection, UnknownEventError
from pmis.ledger.store import Happened, append, append_each, entity_as_of, folded, record
from pmis.package.noun import PACKAGES
from pmis.task.escalation import ESCALATIONS, Escalated
from pmis.task.noun import TASKS
from tests.ledger.hashing import content_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmis.kit.db import WriteSession
    from tests.builders import World

pytestmark = pytest.mark.anyio

ORIGIN = Origin(
    Actor("agent:1", "An assistant", "person:2", "Ünä Person"),
    "chat",
    "corr-1",
    UUID("01900000-0000-7000-8000-0000000000aa"),
)
FIELDS = {"title": "A task", "status": "pending"}


def created(package: UUID, **fields: Any) -> Fact:
    return Fact("task.created", {"fields": {**FIELDS, "package_id": str(package), **fields}})


def patched(**fields: Any) -> Fact:
    changes = {name: {"from": None, "to": value} for name, value in fields.items()}
    return Fact("task.patched", {"changes": changes})


def put(
    session: WriteSession, world: World, entity: Any, *facts: Fact, target: UUID, project: UUID | None = None
) -> Any:
    return append(session, TASKS, entity, facts, origin=ORIGIN, stream_id=target, project_id=project or world.project)


async def kept(world: World, work: Callable[[WriteSession], object]) -> None:
    async with world.database.write(Reach.INSTANCE) as session:
        work(session)
        await session.commit()


async def make(world: World, *facts: Fact) -> Any:
    target = uuid7()
    async with world.database.write(Reach.INSTANCE) as session:
        entity, _ = put(session, world, None, created(uuid7()), *facts, target=target)
        await session.commit()
    return entity


class TestAppend:
    async def test_the_event_says_who_when_why_and_what(self, world: World):
        target, package = uuid7(), uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            now = session.now
            entity, events = put(session, world, None, created(package, description="Ü"), target=target)
            await session.commit()
        async with world.read() as session:
            row = await session.one("select * from ledger.event where stream_id = %s", (target,))
        assert row is not None
        (position, identity, kind, stream, version, project, type_, schema, payload, actor, actor_name, behalf,
         behalf_name, source, correlation, causation, at, previous, content, _) = row  # fmt: skip
        assert (kind, stream, version, project) == ("task", target, 1, world.project)
        assert (type_, schema) == ("task.created", 1)
        assert payload == json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert json.loads(payload)["fields"]["description"] == "Ü"
        assert (actor, actor_name, behalf, behalf_name) == ("agent:1", "An assistant", "person:2", "Ünä Person")
        assert (source, correlation, causation) == ("chat", "corr-1", ORIGIN.causation_id)
        assert at == now == entity.created_at == entity.updated_at == events[0].occurred_at
        assert identity == events[0].id
        assert bytes(previous) == b"\0" * 32
        assert bytes(content) == content_hash(
            position, identity, kind, stream, version, project, type_, schema, actor, actor_name, behalf, behalf_name,
            source, correlation, causation, at, bytes(previous), payload,
        )  # fmt: skip

    async def test_the_row_is_the_entity(self, world: World):
        entity = await make(world)
        assert await world.get("task", entity.id) == entity
        async with world.read() as session:
            row = await session.one(
                "select version, project_id, doc, status, package_id, assignee_id, due_date, deleted from state.task "
                "where id = %s",
                (entity.id,),
            )
        assert row == (1, world.project, entity.model_dump_json(), "pending", entity.package_id, None, None, False)

    async def test_several_facts_are_several_versions_and_one_row(self, world: World):
        entity = await make(world, patched(title="Two"), patched(title="Three", description="d"))
        assert (entity.version, entity.title) == (3, "Three")
        assert [event[0] for event in await world.events(entity.id)] == ["task.created", "task.patched", "task.patched"]
        assert await world.get("task", entity.id) == entity

    async def test_a_fact_without_a_record_needs_to_begin_one(self, world: World):
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(UnknownEventError, match="cannot begin"):
                put(session, world, None, patched(title="x"), target=uuid7())

    async def test_a_fact_nobody_knows_is_refused(self, world: World):
        entity = await make(world)
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(UnknownEventError, match="not an event of a task"):
                put(session, world, entity, Fact("task.vanished"), target=entity.id)

    async def test_at_least_one_fact_is_needed(self, world: World):
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(ValueError, match="at least one fact"):
                put(session, world, None, target=uuid7())

    async def test_floats_that_are_no_numbers_never_reach_the_log(self, world: World):
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(ValueError, match="not JSON compliant"):
                put(session, world, None, created(uuid7(), data={"a": float("nan")}), target=uuid7())

    async def test_nothing_is_kept_without_a_commit(self, world: World):
        target = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            put(session, world, None, created(uuid7()), target=target)
            assert await session.one("select version from state.task where id = %s", (target,)) == (1,)
        assert await world.get("task", target) is None
        assert await world.events(target) == []

    async def test_a_restart_forgets_what_was_not_sent_yet(self, world: World):
        target = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            put(session, world, None, created(uuid7()), target=target)
            await session.restart()
            await session.commit()
        assert await world.events(target) == []


class TestConflicts:
    async def test_a_stale_entity_is_refused_at_the_latest_at_the_commit(self, world: World):
        entity = await make(world)
        async with world.database.write(Reach.INSTANCE) as session:
            put(session, world, entity, patched(title="First"), target=entity.id)
            await session.commit()
        with pytest.raises(BusyError):
            await kept(world, lambda session: put(session, world, entity, patched(title="Second"), target=entity.id))
        assert (await world.get("task", entity.id)).title == "First"
        assert len(await world.events(entity.id)) == 2

    async def test_a_stream_begins_once(self, world: World):
        entity = await make(world)
        with pytest.raises(BusyError):
            await kept(world, lambda session: put(session, world, None, created(uuid7()), target=entity.id))

    async def test_a_stream_stays_in_its_project(self, world: World):
        entity = await make(world)
        fact = patched(title="x")
        with pytest.raises(BusyError):
            await kept(world, lambda session: put(session, world, entity, fact, target=entity.id, project=uuid7()))

    async def test_and_in_its_kind(self, world: World):
        entity = await make(world)
        fields = {"body": "x", "entity_type": "task", "entity_id": str(entity.id), "author": "a", "author_name": "A"}

        def begin_again(session: WriteSession) -> None:
            fact = Fact("comment.created", {"fields": fields})
            first, _ = append(
                session, COMMENTS, None, [fact], origin=ORIGIN, stream_id=entity.id, project_id=world.project
            )
            assert first.version == 1

        with pytest.raises(BusyError):
            await kept(world, begin_again)


class TestChildren:
    async def test_the_search_row_follows_its_record(self, world: World):
        entity = await make(world)
        assert await self._found(world, entity.id) == [("task", "A task\n")]
        async with world.database.write(Reach.INSTANCE) as session:
            entity, _ = put(session, world, entity, patched(title="Survey"), target=entity.id)
            await session.commit()
        assert await self._found(world, entity.id) == [("task", "Survey\n")]

    async def test_it_is_left_alone_when_nothing_of_it_changes(self, world: World):
        entity = await make(world)
        before = await self._xmin(world, entity.id)
        async with world.database.write(Reach.INSTANCE) as session:
            put(session, world, entity, patched(status="in_progress"), target=entity.id)
            await session.commit()
        assert await self._xmin(world, entity.id) == before

    async def test_the_targets_of_an_approval_are_open_until_it_ends(self, world: World):
        one, other = await world.make_package("submitted"), await world.make_package("submitted")
        wanted = [world.wanted("package", "patch", package.id, {"title": "New"}) for package in (one, other)]
        approval = (await world.propose_all("operator", wanted)).approval
        assert approval is not None
        assert await self._targets(world, approval.id) == {(one.id, True), (other.id, True)}
        await world.withdraw("operator", approval)
        assert await self._targets(world, approval.id) == {(one.id, False), (other.id, False)}

    async def _found(self, world: World, entity: UUID) -> list[Any]:
        async with world.read() as session:
            return await session.all("select entity_type, body from state.search where entity_id = %s", (entity,))

    async def _xmin(self, world: World, entity: UUID) -> Any:
        async with world.read() as session:
            return await session.one("select xmin::text from state.search where entity_id = %s", (entity,))

    async def _targets(self, world: World, approval: UUID) -> set[Any]:
        async with world.read() as session:
            return set(
                await session.all(
                    "select target_id, open from state.approval_target where approval_id = %s", (approval,)
                )
            )


def rung(name: Any, task: UUID) -> Fact:
    said = Escalated(
        task_id=task, package_id=task, due_date=date(2026, 1, 1), rung=name, day=date(2026, 1, 2), people=[task]
    )
    return Fact("task.escalated", said.model_dump(mode="json"))


class TestAppendEach:
    """Many streams at once, exactly as one by one."""

    async def climbed(self, world: World, before: list[Any], name: str) -> list[Any]:
        async with world.database.write(Reach.INSTANCE) as session:
            happened = [
                Happened(one if one.version else None, one.id, world.project, rung(name, one.id)) for one in before
            ]
            made = await append_each(session, ESCALATIONS, happened, origin=ORIGIN)
            await session.commit()
        return [entity for entity, _ in made]

    async def test_rows_and_events_are_those_of_append(self, world: World):
        class New:
            version = 0

            def __init__(self) -> None:
                self.id = uuid7()

        first = await self.climbed(world, [New() for _ in range(3)], "owner")
        second = await self.climbed(world, [*first, New()], "lead")
        assert [one.version for one in second] == [2, 2, 2, 1]
        # One more by `append`, on the same streams: version, hash and row fit.
        async with world.database.write(Reach.INSTANCE) as session:
            one, _ = append(
                session, ESCALATIONS, second[0], [rung("manager", second[0].id)], origin=ORIGIN,
                stream_id=second[0].id, project_id=world.project,
            )  # fmt: skip
            await session.commit()
        async with world.read() as session:
            rows = await session.all(
                "select id, version, project_id, doc, task_id, due_date, rung, day from state.escalation "
                "where id = any(%s) order by id",
                ([one.id for one in second],),
            )
            events = await session.all(
                "select position, id, stream_type, stream_id, stream_version, project_id, type, schema_version, actor, "
                "actor_name, on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id, occurred_at, "
                "previous_hash, payload, content_hash from ledger.event where stream_id = any(%s) order by position",
                ([one.id for one in second],),
            )
        assert rows == sorted((ESCALATIONS.row(entity) for entity in [one, *second[1:]]), key=lambda row: row[0])
        assert len(events) == 8
        for *columns, previous, payload, content in events:
            hashed: list[Any] = [*columns, bytes(previous), payload]
            assert bytes(content) == content_hash(*hashed)
        await world.require_replay()

    async def test_a_stream_that_moved_on_is_refused_with_everything(self, world: World):
        identity, other = uuid7(), uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            first, _ = append(
                session, ESCALATIONS, None, [rung("owner", identity)], origin=ORIGIN, stream_id=identity,
                project_id=world.project,
            )  # fmt: skip
            await session.commit()
        for before in (None, first):
            happened = [Happened(None, other, world.project, rung("owner", other))]
            happened.append(Happened(before, identity, world.project, rung("lead", identity)))
            async with world.database.write(Reach.INSTANCE) as session:
                if before is not None:
                    await session.execute("update state.escalation set version = 7 where id = %s", (identity,))
                with pytest.raises(
                    psycopg.Error, match=r"does not stand at version 1|event_stream_id_stream_version_key"
                ):
                    await append_each(session, ESCALATIONS, happened, origin=ORIGIN)
        assert await world.events(other) == []
        assert len(await world.events(identity)) == 1

    async def test_what_has_child_tables_is_not_appended_so(self, world: World):
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.raises(ValueError, match="task has child tables"):
                await append_each(session, TASKS, [], origin=ORIGIN)


class TestRecord:
    async def test_a_deed_without_a_row_is_the_only_event_of_its_stream(self, world: World):
        stream = uuid7()
        async with world.database.write(Reach.INSTANCE) as session:
            record(session, "export", stream, Fact("export.made", {"events": 12}), origin=ORIGIN, project_id=None)
            await session.commit()
        assert await world.events(stream) == [("export.made", '{"events":12}', "agent:1", "person:2")]

    async def test_once(self, world: World):
        stream = uuid7()

        def twice(session: WriteSession) -> None:
            for _ in range(2):
                record(session, "export", stream, Fact("export.made"), origin=ORIGIN, project_id=None)

        with pytest.raises(BusyError):
            await kept(world, twice)


class TestReadingBack:
    async def test_as_of_is_the_state_of_that_moment(self, world: World):
        package = await world.make_package(title="One")
        titles = ("Two", "Three")
        seen = [package, *[await world.do("package", "patch", package.id, {"title": title}) for title in titles]]
        async with world.read() as session:
            for entity in seen:
                assert await entity_as_of(session, PACKAGES, package.id, entity.updated_at) == entity
            just_before = package.created_at - timedelta(microseconds=1)
            assert await entity_as_of(session, PACKAGES, package.id, just_before) is None
            between = seen[1].updated_at + (seen[2].updated_at - seen[1].updated_at) / 2
            assert await entity_as_of(session, PACKAGES, package.id, between) == seen[1]
            later = seen[2].updated_at + timedelta(days=9)
            assert await entity_as_of(session, PACKAGES, package.id, later) == seen[2]

    async def test_folding_gives_every_entity_of_the_project_in_the_order_of_ids(self, world: World):
        packages = [await world.make_package(title=title) for title in ("One", "Two")]
        await world.do("package", "patch", packages[0].id, {"title": "Uno"})
        async with world.database.snapshot(Reach.INSTANCE) as session:
            found = [one async for one in folded(session, PACKAGES, project_id=world.project)]
        assert [(one.id, one.title) for one in found] == [(packages[0].id, "Uno"), (packages[1].id, "Two")]

    async def test_and_of_all_projects_when_none_is_named(self, world: World):
        package = await world.make_package()
        async with world.database.snapshot(Reach.INSTANCE) as session:
            found = {one.id async for one in folded(session, PACKAGES)}
        assert package.id in found

    async def test_of_nothing_there_is_nothing(self, world: World):
        async with world.database.snapshot(Reach.INSTANCE) as session:
            assert [one async for one in folded(session, PACKAGES, project_id=uuid7())] == []


class Thing(Entity):
    """An entity of a test."""

    size: int = 0


class Things(Projection[Thing]):
    """A projection of a test."""

    stream_type = "thing"
    model = Thing


def test_a_projection_without_children_has_none():
    thing = Thing.model_construct(id=uuid7(), version=1, project_id=None, size=3)
    assert Things().children(thing) == {}


def test_an_event_knows_its_verb():
    event = Event(uuid7(), "thing", uuid7(), 1, None, "thing.made", 1, {}, ORIGIN.actor, datetime.now(UTC))
    assert event.verb == "made"


async def test_a_row_that_was_moved_by_other_means_is_not_overwritten(world: World):
    entity = await make(world)
    async with world.database.write(Reach.INSTANCE) as session:
        await session.execute("update state.task set version = 7 where id = %s", (entity.id,))
        put(session, world, entity, patched(title="x"), target=entity.id)
        with pytest.raises(psycopg.Error, match="does not stand at version 1") as refused:
            await session.commit()
    assert refused.value.sqlstate == "PM001"
    assert await world.get("task", entity.id) == entity
