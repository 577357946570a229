"""The second wall: every table that holds rows of projects has a policy, or stands here with the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from tests.builders import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

_BY_ACTOR: Final = "read by the caller's own name, never by project"
_WORK: Final = "of jobs, which serve the whole instance; the API judges the project of each row"
WITHOUT: Final = {
    "ledger.event": "the trigger that wants an event for every row reads it, also for a project just founded",
    "ledger.idempotency": _BY_ACTOR,
    "ledger.import_seen": "digests of what was imported, which say nothing by themselves",
    "state.project": "a project is founded by somebody who does not reach it yet",
    "state.membership": "says what somebody reaches, so it is read before that is known",
    "state.invitation": "says what somebody is to reach, and is read by a link before anybody has signed in",
    "state.person": "of the instance: its project is always null",
    "state.policy": "of the instance: its project is always null",
    "state.package_number": "a counter",
    "state.search": "a policy would keep its index from being used, as `@@` is not leakproof; what is found are ids, "
    "and the records behind them have policies",
    "memory.words": "as state.search: what is found are ids, and the records behind them have policies",
    "mail.thread": "ids of mails, which a mail that comes in is matched with",
    "jobs.job": _WORK,
    "notify.notification": "read by the person's own id, never by project",
    "webhook.hook": _WORK,
    "webhook.delivery": _WORK,
}
"""Tables with a column for the project and without a policy, and why."""


def unguarded(dsn: str) -> set[str]:
    """The tables with a column for the project that the application may read and no policy judges."""
    with psycopg.connect(dsn) as connection:
        return {
            name
            for (name,) in connection.execute(
                "select c.relnamespace::regnamespace || '.' || c.relname from pg_class c "
                "join pg_attribute a on a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped "
                "where c.relkind in ('r', 'p', 'v', 'm') and has_any_column_privilege('pmis_app', c.oid, 'select') "
                "and not (c.relrowsecurity and exists (select from pg_policy p where p.polrelid = c.oid "
                "and 'pmis_app'::regrole = any(p.polroles) and p.polcmd = '*'))"
            )
        }


def test_every_table_of_projects_has_a_policy_or_a_reason(database: TestDatabase):
    assert unguarded(database.admin_dsn) == set(WITHOUT)


@pytest.mark.parametrize(
    ("table", "hole"),
    [
        ("state.task", "alter table state.task disable row level security"),
        ("state.task", "drop policy reach on state.task"),
        ("state.more", "create table state.more (project_id uuid); grant select on state.more to pmis_app"),
    ],
)
def test_a_table_that_nothing_judges_is_seen(
    make_database: Callable[[str], TestDatabase], table: str, hole: LiteralString
):
    database = make_database("unguarded")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute(hole)
    assert unguarded(database.admin_dsn) - set(WITHOUT) == {table}


class TestReach:
    ROWS: Final = "select count(*) from state.package where project_id = %s"

    async def test_rows_are_there_for_whom_they_are_reached_by(self, world: World):
        package = await world.make_package()
        elsewhere, nothing = Reach.of(frozenset({uuid7()})), Reach.of(frozenset())
        for reach, rows in (
            (Reach.of(frozenset({world.project})), 1),
            (Reach.INSTANCE, 1),
            (elsewhere, 0),
            (nothing, 0),
        ):
            async with world.database.read(reach) as session:
                row = await session.one("select count(*) from state.package where id = %s", (package.id,))
            assert row == (rows,)

    @pytest.mark.parametrize("used", [False, True])
    async def test_without_one_nothing_is_answered(self, database: TestDatabase, world: World, used: bool):
        await world.make_package()
        async with opened(database) as one:
            if used:
                async with one.read(Reach.INSTANCE) as session:
                    await session.one(self.ROWS, (world.project,))
            async with one.pool.connection() as connection:
                with pytest.raises((psycopg.errors.UndefinedObject, psycopg.errors.InvalidTextRepresentation)):
                    await connection.execute(self.ROWS, (world.project,))

    async def test_nothing_is_written_beyond_it(self, world: World):
        package = await world.make_package()
        async with world.database.write(Reach.of(frozenset({uuid7()}))) as session:
            assert not await session.execute("update state.package set deleted = true where id = %s", (package.id,))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await session.execute(
                    "insert into state.package_type values (%s, 1, %s, '{}', 'x')", (uuid7(), world.project)
                )
        async with world.database.write(Reach.of(frozenset({world.project}))) as session:
            assert await session.execute("update state.package set deleted = true where id = %s", (package.id,))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await session.execute("update state.package set project_id = %s where id = %s", (uuid7(), package.id))

    async def test_who_reads_the_whole_log_needs_none(self, database: TestDatabase, world: World):
        await world.make_package()
        for dsn in (database.auditor_dsn, database.owner_dsn):
            with psycopg.connect(dsn) as connection:
                assert (connection.execute(self.ROWS, (world.project,)).fetchone() or (0,))[0] > 0
