"""The proof that rows equal the log, and that it finds every way in which they could differ (R1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.projection import UnknownEventError
from pmis.ledger.replay import Difference, Report, check, differences_in_memory
from pmis.ledger.store import append
from pmis.task.noun import TASKS
from tests.builders import PROJECTIONS, make_world, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    """What is tampered with stays broken, and nobody else shall meet it."""
    return make_database("tampered")


@dataclass(frozen=True)
class Scene:
    """A project with something of everything."""

    world: World
    database: TestDatabase
    package: UUID
    task: UUID
    party: UUID
    approval: UUID

    def tamper(self, *statements: str, event: bool = False) -> None:
        """Change rows as only a superuser can."""
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as connection:
            cursor = psycopg.ClientCursor(connection)
            for statement in ("set session_replication_role = replica", *statements):
                cursor.execute(statement, self.values)  # pyright: ignore[reportArgumentType, reportCallIssue]

    @property
    def values(self) -> dict[str, Any]:
        return {
            "package": self.package,
            "task": self.task,
            "party": self.party,
            "approval": self.approval,
            "project": self.world.project,
            "new": uuid7(),
        }

    async def both(self) -> tuple[set[Difference], set[Difference]]:
        """What the comparison in scratch tables finds, and what the one in memory does."""
        async with self.world.database.snapshot(Reach.INSTANCE) as session:
            report = await check(session, PROJECTIONS, project_id=self.world.project)
        async with self.world.database.snapshot(Reach.INSTANCE) as session:
            found = await differences_in_memory(session, PROJECTIONS, project_id=self.world.project)
        assert len(set(found)) == len(found)
        return set(report.differences), set(found)


@pytest.fixture
async def scene(world: World, database: TestDatabase) -> Scene:
    package = await world.make_package("submitted")
    task = await world.make_task(package.id)
    party = await world.make_party(email="a@vendors.example")
    await world.do(
        "comment", "create", None, {"entity_type": "package", "entity_id": str(package.id), "body": "A comment"}
    )
    outcome = await world.propose("analyst", "package", "patch", package.id, {"title": "Another"})
    assert outcome.approval is not None
    return Scene(world, database, package.id, task.id, party.id, outcome.approval.id)


async def test_what_the_governed_path_wrote_replays(scene: Scene):
    assert await scene.both() == (set(), set())


TAMPERED: Final = {
    "a document": (
        "update state.package set doc = replace(doc, 'A package', 'My package') where id = %(package)s",
        {("package", "package", "different")},
    ),
    "a document by a space": (
        "update state.package set doc = replace(doc, ',\"', ', \"') where id = %(package)s",
        {("package", "package", "different")},
    ),
    "a column beside the document": (
        "update state.package set status = 'approved' where id = %(package)s",
        {("package", "package", "different")},
    ),
    "an amount, which is compared as a number": (
        "update state.package set amount = amount + 0.01 where id = %(package)s",
        {("package", "package", "different")},
    ),
    "a version": (
        "update state.task set version = version + 1 where id = %(task)s",
        {("task", "task", "different")},
    ),
    "a row that is gone": (
        "delete from state.party where id = %(party)s",
        {("party", "party", "missing")},
    ),
    "a row out of nowhere": (
        (
            "insert into state.task (id, version, project_id, doc, package_id, status, deleted) "
            "select %(new)s, 1, project_id, doc, package_id, status, deleted from state.task where id = %(task)s"
        ),
        {("task", None, "surplus")},
    ),
    "a role": (
        "update state.membership set roles = '{admin,executive}' where project_id = %(project)s and roles = '{viewer}'",
        {("membership", None, "different")},
    ),
    "a decision": (
        (
            "update state.approval set status = 'applied', doc = replace(doc, '\"pending\"', '\"applied\"') "
            "where id = %(approval)s"
        ),
        {("approval", "approval", "different")},
    ),
    "an approval's target that is gone": (
        "delete from state.approval_target where approval_id = %(approval)s",
        {("approval_target", "package", "missing")},
    ),
    "an approval's target out of nowhere": (
        "insert into state.approval_target values (%(task)s, %(approval)s, true)",
        {("approval_target", "task", "surplus")},
    ),
    "an approval's target that seems closed": (
        "update state.approval_target set open = false where approval_id = %(approval)s",
        {("approval_target", "package", "different")},
    ),
    "a search text": (
        "update state.search set body = 'something else' where entity_id = %(package)s",
        {("search", "package", "different")},
    ),
    "a search text that is gone": (
        "delete from state.search where entity_id = %(task)s",
        {("search", "task", "missing")},
    ),
    "a search text out of nowhere": (
        (
            "insert into state.search (entity_id, entity_type, project_id, body, deleted) "
            "values (%(new)s, 'task', %(project)s, 'x', false)"
        ),
        {("search", None, "surplus")},
    ),
    "an event that lost its row's reason": (
        "update ledger.event set payload = replace(payload, 'A task', 'A tusk') where stream_id = %(task)s",
        {("task", "task", "different"), ("search", "task", "different")},
    ),
    "a stream that is gone": (
        "delete from ledger.event where stream_id = %(party)s",
        {("party", "party", "surplus"), ("search", "party", "surplus")},
    ),
    "an event at the end that is gone": (
        "delete from ledger.event where stream_id = %(package)s and stream_version > 1",
        {("package", "package", "different")},
    ),
    "a stream that moved to another project": (
        "update ledger.event set project_id = %(new)s where stream_id = %(task)s",
        {("task", "task", "surplus"), ("search", "task", "surplus")},
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_every_difference_is_found_by_both_comparisons(scene: Scene, name: str):
    statement, expected = TAMPERED[name]
    scene.tamper(statement)
    for found in await scene.both():
        named = {(one.table, one.kind) for one in found}
        assert named == {(table, kind) for table, _, kind in expected}
        keys = {(one.table, one.key) for one in found}
        assert keys >= {(table, str(getattr(scene, who))) for table, who, _ in expected if who}


async def test_an_event_of_a_kind_nobody_knows_stops_the_replay(scene: Scene):
    """A log that is newer than the program is not compared by half."""
    scene.tamper("update ledger.event set type = 'task.vanished' where stream_id = %(task)s and stream_version = 1")
    async with scene.world.database.snapshot(Reach.INSTANCE) as session:
        with pytest.raises(UnknownEventError):
            await check(session, PROJECTIONS, project_id=scene.world.project)
    async with scene.world.database.snapshot(Reach.INSTANCE) as session:
        with pytest.raises(UnknownEventError):
            await differences_in_memory(session, PROJECTIONS, project_id=scene.world.project)


class TestTheWholeInstance:
    """On a database of its own, as it compares everything there is."""

    async def test_everything_is_compared_and_progress_told(self, make_database: Any):
        database = make_database("replay")
        async with opened(database) as pool:
            world = await make_world(pool)
            package = await world.make_package("approved")
            await self._many_tasks(world, package.id, 1100)
            told: list[tuple[str, int]] = []
            report = await self._check(world, told)
            assert report.differences == ()
            assert told == [("task", 1000)]
            async with pool.read(Reach.INSTANCE) as session:
                counts = [
                    (await session.all(f"select count(*) from state.{projection.stream_type}"))[0][0]
                    for projection in PROJECTIONS
                ]
            assert report.rows == sum(counts)
            await self._surplus(world, database)

    async def _many_tasks(self, world: World, package: UUID, count: int) -> None:
        fields = {"title": "A task", "status": "pending", "package_id": str(package)}
        async with world.database.write(Reach.INSTANCE) as session:
            origin = (await world.request(session, "operator")).origin
            for _ in range(count):
                fact = Fact("task.created", {"fields": fields, "governance": {"route": "CONSOLE"}})
                append(session, TASKS, None, [fact], origin=origin, stream_id=uuid7(), project_id=world.project)
            await session.commit()

    async def _surplus(self, world: World, database: TestDatabase) -> None:
        """What lies in no project is compared too, and so is what no record of any project owns."""
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("update state.person set active = false where id = %s", (world.people["viewer"],))
            connection.execute("update state.policy set doc = replace(doc, 'default', 'lax')")
            stray = uuid7()
            connection.execute("insert into state.approval_target values (%s, %s, true)", (stray, uuid7()))
        report = await self._check(world)
        assert {(one.table, one.kind) for one in report.differences} == {
            ("person", "different"),
            ("policy", "different"),
            ("approval_target", "surplus"),
        }

    async def _check(self, world: World, told: list[tuple[str, int]] | None = None) -> Report:
        progress = None if told is None else lambda table, rows: told.append((table, rows))
        async with world.database.snapshot(Reach.INSTANCE) as session:
            report = await check(session, PROJECTIONS, progress=progress)
        async with world.database.snapshot(Reach.INSTANCE) as session:
            # The scratch tables went with the transaction, so that it can be run again.
            assert await session.one("select to_regclass('pg_temp.replayed_package')") == (None,)
        return report
