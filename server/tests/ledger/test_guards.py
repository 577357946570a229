"""What PostgreSQL itself refuses (I2, R2, R3): every "cannot" with its code, and beside it the "can" that shows the
statement was refused for what it does and not for how it was written."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003

import psycopg
import pytest

from pmis.kit.db import translate
from pmis.kit.errors import BusyError
from pmis.kit.ids import uuid7
from tests.ledger.hashing import content_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

DENIED: Final = "42501"
MOVED, APPEND_ONLY, NO_EVENT, MALFORMED, TAKEN = "PM001", "PM002", "PM003", "PM004", "23505"
EVENT: Final = (
    "select ledger.append_event(%(id)s, %(stream_type)s, %(stream)s, %(version)s, %(project)s, %(type)s, 1, %(payload)s, "  # noqa: E501
    "%(actor)s, %(name)s, null, null, 'api', 'guards', null)"
)
UPDATE: Final = "update state.package set version = %(row_version)s, doc = doc where id = %(stream)s"


@dataclass(frozen=True)
class Scene:
    """A project with a package in it, seen with the rights of each login."""

    database: TestDatabase
    values: dict[str, Any]

    def run(self, login: str, *statements: str, commit: bool = False, **more: Any) -> list[Any]:
        """The first columns of the last statement's rows; everything is taken back unless `commit`."""
        dsn = getattr(self.database, f"{login}_dsn")
        # It reaches every project: what is refused here is refused to those whom no policy of rows keeps away.
        # Closed whatever happens: a commit that is refused leaves psycopg's own block before it closes.
        with closing(psycopg.connect(dsn, options="-c pmis.reach=*")) as connection:
            rows: list[Any] = []
            for statement in statements:
                # The client puts the parameters in, as DDL and DO take none.
                cursor = psycopg.ClientCursor(connection)
                cursor.execute(statement, {**self.values, **more})  # pyright: ignore[reportArgumentType, reportCallIssue]
                rows = [row[0] for row in cursor.fetchall()] if cursor.description else []
            if commit:
                connection.commit()
        return rows

    def refused(self, login: str, *statements: str, commit: bool = False, **more: Any) -> str | None:
        """The code with which it is refused, or None."""
        try:
            self.run(login, *statements, commit=commit, **more)
        except psycopg.Error as error:
            return error.sqlstate
        return None


@pytest.fixture
async def scene(world: World, database: TestDatabase) -> Scene:
    package = await world.make_package()
    values = {
        "id": uuid7(),
        "stream_type": "package",
        "stream": package.id,
        "version": package.version + 1,
        "row_version": package.version + 1,
        "project": world.project,
        "type": "package.patched",
        "payload": '{"changes":{}}',
        "actor": "person:1",
        "name": "Somebody",
        "party": (await world.make_party()).id,
    }
    return Scene(database, values)


# --- what the application's role may not do (R3), and what it may -------------------------------------------------

ONE: Final = "(select position from ledger.event where stream_id = %(stream)s limit 1)"
FORBIDDEN: Final = (
    # Rewriting, thinning out or lengthening the log.
    ("update ledger.event set payload = '{}' where stream_id = %(stream)s", DENIED),
    ("update ledger.event set actor = 'person:2'", DENIED),
    ("update ledger.event set occurred_at = now() - interval '1 year'", DENIED),
    ("update ledger.event set content_hash = previous_hash", DENIED),
    ("delete from ledger.event where stream_id = %(stream)s", DENIED),
    ("truncate ledger.event", DENIED),
    ("truncate ledger.event cascade", DENIED),
    ("insert into ledger.event select * from ledger.event limit 1", DENIED),
    ("copy ledger.event from program 'true'", DENIED),
    ("merge into ledger.event e using (select 1) x on e.id = %(id)s when matched then delete", DENIED),
    ("select 1 from ledger.event where stream_id = %(stream)s for update", DENIED),
    ("lock table ledger.event in access exclusive mode", DENIED),
    # Choosing position, and with it the place in the log.
    ("select nextval('ledger.event_position')", DENIED),
    ("select setval('ledger.event_position', 1)", DENIED),
    ("alter sequence ledger.event_position restart", DENIED),
    # Taking the guards away.
    ("alter table ledger.event disable trigger event_is_append_only", DENIED),
    ("alter table ledger.event disable trigger all", DENIED),
    ("alter table state.package disable trigger package_needs_its_event", DENIED),
    ("drop trigger event_is_append_only on ledger.event", DENIED),
    ("alter table ledger.event add column note text", DENIED),
    ("alter table ledger.event drop constraint event_pkey", DENIED),
    ("alter table ledger.event owner to pmis_app", DENIED),
    ("drop table ledger.event", DENIED),
    ("drop schema ledger cascade", DENIED),
    ("drop function ledger.append_event", DENIED),
    ("create rule quiet as on insert to ledger.event do instead nothing", DENIED),
    ("create trigger sly before insert on ledger.event for each row execute function ledger.refuse_change()", DENIED),
    ("create function ledger.content_hash(text) returns bytea language sql as 'select null::bytea'", DENIED),
    ("create or replace function ledger.refuse_change() returns trigger language plpgsql as 'begin return new; end'", DENIED),  # noqa: E501
    ("create table ledger.shadow (id int)", DENIED),
    ("create table state.shadow (id int)", DENIED),
    ("create table public.shadow (id int)", DENIED),
    ("create table identity.shadow (id int)", DENIED),
    ("alter function ledger.append_event owner to pmis_app", DENIED),
    ("alter function ledger.append_event set search_path = public", DENIED),
    ("set session_replication_role = replica", DENIED),
    ("set role pmis_owner", DENIED),
    ("set session authorization pmis_owner", DENIED),
    ("alter role pmis_app superuser", DENIED),
    ("grant pmis_owner to pmis_app", DENIED),
    # Calling what is not meant for it.
    ("select ledger.content_hash(e) from ledger.event e limit 1", DENIED),
    ("select ledger.append_checkpoint(0, array[1]::bigint[], '\\x00', 'x', 1)", DENIED),
    ("insert into ledger.tree_node (level, idx, hash, position) values (0, 0, sha256(''), 1)", DENIED),
    ("update ledger.tree_node set hash = sha256('')", DENIED),
    ("delete from ledger.tree_node", DENIED),
    ("insert into ledger.checkpoint values (1, sha256(''), 'x', 1, now())", DENIED),
    ("update ledger.checkpoint set root = sha256('')", DENIED),
    ("delete from ledger.checkpoint", DENIED),
    ("truncate ledger.checkpoint, ledger.tree_node", DENIED),
    # State that disappears, promises that are taken back, sealed values that are lost.
    *(
        (f"delete from state.{noun} where id = %(stream)s", DENIED)
        for noun in (
            "project", "package", "package_type", "task", "party", "comment", "person", "membership", "delegation", "policy", "memory",  # noqa: E501
            "approval",
        )
    ),
    ("truncate state.package", DENIED),
    ("delete from state.package_number", DENIED),
    ("delete from ledger.outbox", DENIED),
    ("insert into ledger.outbox (id, topic, key, payload, event_id) select %(id)s, 't', 'k', '{}', id from ledger.event limit 1", DENIED),  # noqa: E501
    ("select ledger.promise(%(id)s, 't', 'k', '{}', %(id)s)", "23000"),
    ("select ledger.promise(%(id)s, 't', 'k', '[]', id) from ledger.event limit 1", "23000"),
    ("update ledger.outbox set payload = '{}'", DENIED),
    ("update ledger.outbox set key = 'another'", DENIED),
    ("truncate ledger.outbox, ledger.idempotency", DENIED),
    ("delete from ledger.vault", DENIED),
    ("delete from ledger.vault_key", DENIED),
    ("delete from identity.credential", DENIED),
    ("drop table state.package", DENIED),
    ("update public.alembic_version set version_num = '0'", DENIED),
    # There is no parameter for hash, position or time.
    (f"{EVENT[:-1]}, sha256(''))", "42883"),
    (f"{EVENT[:-1]}, now())", "42883"),
    (f"{EVENT[:-1]}, 1)", "42883"),
)  # fmt: skip
PERMITTED: Final = (
    "select payload from ledger.event where stream_id = %(stream)s",
    EVENT,
    f"with e as ({EVENT}) update state.package set version = %(version)s where id = %(stream)s and (select count(*) from e) > 0",  # noqa: E501
    "update state.package_number set last = last where project_id = %(project)s",
    "select ledger.promise(%(id)s, 't', 'k', '{}', id) from ledger.event limit 1",
    "update ledger.outbox set sent_at = now()",
    "insert into ledger.idempotency (actor, key, fingerprint) values ('person:1', 'k', '')",
    "delete from ledger.idempotency",
    "insert into ledger.vault_key (subject) values (%(id)s)",
    "update ledger.vault_key set wrapped = null",
    "update ledger.vault set ciphertext = ciphertext",
    "delete from state.search where entity_id = %(stream)s",
    "delete from state.approval_target where target_id = %(stream)s",
    "select hash from ledger.tree_node",
    "select root from ledger.checkpoint",
    "select ledger.tree_root(1)",
    "select sealed from ledger.seal_lag()",
    "select 1 from state.package where id = %(stream)s for update",
    "select kind from ledger.lock_targets('{package}', array[%(stream)s]::uuid[], null, '{}', '{}')",
    "update identity.credential set changed_at = now()",
    "create temporary table scratch as select 1 as one",
    "set role pmis_app",
)


async def test_r3_the_application_cannot(scene: Scene):
    assert len(FORBIDDEN) >= 70
    assert {statement: scene.refused("app", statement) for statement, _ in FORBIDDEN} == dict(FORBIDDEN)


async def test_r3_the_application_can(scene: Scene):
    assert len(PERMITTED) >= 20
    assert {statement: scene.refused("app", statement) for statement in PERMITTED} == dict.fromkeys(PERMITTED)


# --- the owner, the sealer and the auditor --------------------------------------------------------------------------


async def test_i2_a_trigger_refuses_even_the_owner(scene: Scene):
    for statement in (
        "update ledger.event set payload = '{}' where stream_id = %(stream)s",
        "update ledger.event set xid = xid where stream_id = %(stream)s",
        "delete from ledger.event where stream_id = %(stream)s",
        "truncate ledger.event cascade",
        "delete from state.package where id = %(stream)s",
        "delete from state.party where id = %(party)s",
    ):
        assert scene.refused("owner", statement) == APPEND_ONLY, statement
        # A superuser can put every trigger aside; that is what the signed checkpoints outside the database are for.
        assert scene.refused("admin", "set session_replication_role = replica", statement) is None, statement


async def test_i2_signed_checkpoints_and_the_tree_are_as_fixed(scene: Scene):
    seal = (
        "do $$ declare h bytea; p bigint; begin "
        "select position, sha256('\\x00'::bytea || content_hash) into p, h from ledger.event order by position limit 1; "  # noqa: E501
        "if not exists (select from ledger.checkpoint) then "
        "perform ledger.append_checkpoint(0, array[p], h, E'log\\n1\\n' || encode(h, 'base64'), p); end if; end $$"
    )
    for statement in (
        "update ledger.checkpoint set note = 'x'",
        "delete from ledger.checkpoint",
        "truncate ledger.checkpoint",
        "update ledger.tree_node set hash = sha256('')",
        "delete from ledger.tree_node",
        "truncate ledger.tree_node",
    ):
        assert scene.refused("owner", seal, statement) == APPEND_ONLY, statement
    assert scene.refused("owner", seal) is None


async def test_r3_sealer_and_auditor_write_nothing_and_read_no_secret(scene: Scene):
    statements = (
        EVENT,
        "insert into ledger.event select * from ledger.event limit 1",
        "update ledger.event set payload = '{}'",
        "delete from ledger.event",
        "update state.package set doc = doc",
        "insert into ledger.checkpoint values (1, sha256(''), 'x', 1, now())",
        "insert into ledger.tree_node (level, idx, hash, position) values (0, 0, sha256(''), 1)",
        "select ciphertext from ledger.vault",
        "select wrapped from ledger.vault_key",
        "select password_hash from identity.credential",
        "select body from ledger.idempotency",
        "set role pmis_app",
        "select kind from ledger.lock_targets('{}', '{}', null, '{}', '{}')",
    )
    for login in ("sealer", "auditor"):
        assert {one: scene.refused(login, one) for one in statements} == dict.fromkeys(statements, DENIED)


async def test_r3_sealer_and_auditor_read_what_they_are_for(scene: Scene):
    assert scene.run("auditor", "select count(*) from ledger.event where stream_id = %(stream)s") == [1]
    assert scene.run("auditor", "select count(*) from state.package where id = %(stream)s") == [1]
    assert scene.run("sealer", "select count(*) from ledger.event where stream_id = %(stream)s") == [1]
    assert scene.refused("sealer", "select count(*) from state.package") == DENIED


# --- no event, no commit (R2) --------------------------------------------------------------------------------------


class TestNoEventNoCommit:
    async def test_a_row_with_its_event_commits(self, scene: Scene):
        assert scene.refused("app", EVENT, UPDATE, commit=True) is None

    async def test_in_any_order(self, scene: Scene):
        assert scene.refused("app", UPDATE, EVENT, commit=True) is None

    async def test_a_row_without_an_event_makes_the_commit_fail(self, scene: Scene):
        assert scene.refused("app", UPDATE) is None
        assert scene.refused("app", UPDATE, commit=True) == NO_EVENT

    async def test_also_when_only_its_text_changes(self, scene: Scene):
        unversioned = "update state.package set doc = replace(doc, 'A package', 'Mine') where id = %(stream)s"
        assert scene.refused("app", unversioned, commit=True) == NO_EVENT

    async def test_it_can_be_asked_for_earlier(self, scene: Scene):
        assert scene.refused("app", UPDATE, "set constraints all immediate") == NO_EVENT
        assert scene.refused("app", EVENT, UPDATE, "set constraints all immediate") is None

    async def test_but_not_put_off(self, scene: Scene):
        assert scene.refused("app", "set constraints all immediate", UPDATE) == NO_EVENT
        assert scene.refused("app", UPDATE, "set constraints all deferred", commit=True) == NO_EVENT

    async def test_a_new_row_needs_one_too(self, scene: Scene):
        insert = (
            "insert into state.task (id, version, project_id, doc, package_id, status, deleted) "
            "values (%(id)s, 1, %(project)s, '{}', %(stream)s, 'pending', false)"
        )
        created = {"stream_type": "task", "type": "task.created", "version": 1}
        event = EVENT.replace("%(stream)s", "%(id)s")
        assert scene.refused("app", insert, commit=True) == NO_EVENT
        assert scene.refused("app", event, insert, commit=True, **created) is None

    @pytest.mark.parametrize("off", [-1, 1, 5])
    async def test_the_event_must_be_of_the_version_of_the_row(self, scene: Scene, off: int):
        wrong = scene.values["version"] + off
        assert scene.refused("app", EVENT, UPDATE, commit=True, row_version=wrong) == NO_EVENT

    async def test_of_its_stream(self, scene: Scene):
        other = {"id": uuid7(), "version": 1}
        event = EVENT.replace("%(stream)s", "%(id)s")
        assert scene.refused("app", event, UPDATE, commit=True, **other) == NO_EVENT

    async def test_and_of_its_type(self, scene: Scene):
        # A stream that was begun as a task cannot carry a package.
        begun = EVENT.replace("%(stream)s", "%(id)s").replace("%(version)s", "1")
        insert = (
            "insert into state.party (id, version, project_id, doc, name, kind, deleted) "
            "values (%(id)s, 1, %(project)s, '{}', 'x', 'vendor', false)"
        )
        assert scene.refused("app", begun, insert, commit=True, stream_type="task", type="task.created") == NO_EVENT
        assert scene.refused("app", begun, insert, commit=True, stream_type="party", type="party.created") is None

    async def test_an_event_of_an_earlier_transaction_does_not_count(self, scene: Scene):
        assert scene.refused("app", EVENT, commit=True) is None
        assert scene.refused("app", UPDATE, commit=True) == NO_EVENT

    async def test_nor_one_that_was_rolled_back(self, scene: Scene):
        undone = ("savepoint s", EVENT, "rollback to s", UPDATE)
        kept = ("savepoint s", EVENT, "release s", UPDATE)
        assert scene.refused("app", *undone, commit=True) == NO_EVENT
        assert scene.refused("app", *kept, commit=True) is None

    async def test_every_table_of_state_is_guarded(self, scene: Scene):
        """A projection that somebody adds later without its trigger fails here."""
        from tests.builders import PROJECTIONS

        guarded = scene.run(
            "admin",
            "select tgrelid::regclass::text from pg_trigger where tgname like '%%needs_its_event' "
            "and tgdeferrable and tginitdeferred and tgenabled = 'O'",
        )
        assert set(guarded) == {f"state.{projection.stream_type}" for projection in PROJECTIONS}
        kept = scene.run(
            "admin", "select tgrelid::regclass::text from pg_trigger where tgname like '%%is_never_deleted'"
        )
        assert set(kept) == set(guarded)


# --- append_event --------------------------------------------------------------------------------------------------


class TestAppendEvent:
    @pytest.mark.parametrize(("off", "refused"), [(-1, TAKEN), (1, MOVED), (7, MOVED)])
    async def test_the_caller_names_the_version_that_comes_next(self, scene: Scene, off: int, refused: str):
        assert scene.refused("app", EVENT, version=scene.values["version"] + off) == refused

    async def test_a_stream_that_does_not_exist_begins_at_one(self, scene: Scene):
        fresh = uuid7()
        assert scene.refused("app", EVENT, stream=fresh, version=2) == MOVED
        assert scene.refused("app", EVENT, stream=fresh, version=1) is None

    async def test_a_stream_keeps_its_type(self, scene: Scene):
        assert scene.refused("app", EVENT, stream_type="task", type="task.patched") == MOVED

    async def test_a_stream_keeps_its_project(self, scene: Scene):
        assert scene.refused("app", EVENT, project=uuid7()) == MOVED
        assert scene.refused("app", EVENT, project=None) == MOVED

    @pytest.mark.parametrize(
        "broken",
        [
            {"type": "Package.patched"},
            {"type": "package"},
            {"type": None},
            {"stream_type": "pack age"},
            {"payload": "[]"},
            {"payload": "{"},
            {"payload": None},
            {"actor": "ghost:1"},
            {"actor": "person:a b"},
            {"actor": None},
            {"name": ""},
            {"name": "two\nlines"},
            {"name": "n" * 301},
            {"version": 0},
            {"version": None},
        ],
    )
    async def test_a_malformed_event_is_refused(self, scene: Scene, broken: dict[str, Any]):
        assert scene.refused("app", EVENT, **broken) in (MALFORMED, MOVED)
        assert scene.refused("app", EVENT) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("null, null, 'api'", "null, 'A name', 'api'"),
            ("null, null, 'api'", "'person:2', null, 'api'"),
            ("null, null, 'api'", "'nobody', 'A name', 'api'"),
            ("null, null, 'api'", "'person:2', E'A\\nname', 'api'"),
            ("'api'", "'post'"),
            ("'api'", "null"),
            ("'guards'", "'with spaces'"),
            ("'guards'", f"'{'c' * 101}'"),
            ("'guards'", "''"),
            ("'guards'", "null"),
            ("%(type)s, 1", "%(type)s, 0"),
        ],
    )
    async def test_so_is_a_malformed_header(self, scene: Scene, old: str, new: str):
        assert EVENT.count(old) == 1
        assert scene.refused("app", EVENT.replace(old, new)) == MALFORMED

    async def test_two_transactions_cannot_take_the_same_version(self, scene: Scene, database: TestDatabase):
        with psycopg.connect(database.app_dsn) as one, psycopg.connect(database.app_dsn) as other:
            other.execute("set lock_timeout = '300ms'")
            one.execute(EVENT, scene.values)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(EVENT, {**scene.values, "id": uuid7()})
            other.rollback()
            one.commit()
            with pytest.raises(psycopg.errors.UniqueViolation) as refused:
                other.execute(EVENT, {**scene.values, "id": uuid7()})
            assert isinstance(translate(refused.value), BusyError)

    async def test_the_database_chooses_time_position_hashes_and_transaction(
        self, scene: Scene, database: TestDatabase, connect: Callable[[str], psycopg.Connection]
    ):
        connection = connect(database.app_dsn)
        before = connection.execute(
            "select coalesce(max(position), 0), transaction_timestamp() from ledger.event"
        ).fetchone()
        position = connection.execute(EVENT, scene.values).fetchone()
        row = connection.execute(
            "select position, id, stream_type, stream_id, stream_version, project_id, type, schema_version, actor, "
            "actor_name, on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id, occurred_at, "
            "previous_hash, payload, content_hash, xid = pg_current_xact_id() from ledger.event where id = %s",
            (scene.values["id"],),
        ).fetchone()
        assert before is not None
        assert position is not None
        assert row is not None
        assert row[0] == position[0] > before[0]
        assert row[15] == before[1]
        assert row[-1] is True
        assert row[-2] == content_hash(*row[:18])
        previous = connection.execute(
            "select content_hash from ledger.event where stream_id = %s and stream_version = %s",
            (scene.values["stream"], scene.values["version"] - 1),
        ).fetchone()
        assert previous is not None
        assert row[16] == previous[0]

    async def test_the_clock_of_the_session_does_not_matter(self, scene: Scene, database: TestDatabase):
        """Neither a zone, nor a way of writing dates or numbers, changes what is hashed."""
        with psycopg.connect(database.app_dsn) as connection:
            for setting in ("timezone = 'Asia/Kathmandu'", "datestyle = 'German'", "extra_float_digits = 0"):
                connection.execute(f"set local {setting}")  # pyright: ignore[reportArgumentType, reportCallIssue]
            connection.execute(EVENT, scene.values)
            # psycopg reads only ISO dates; the event is written by now.
            connection.execute("set local datestyle = 'ISO'")
            row = connection.execute(
                "select position, id, stream_type, stream_id, stream_version, project_id, type, schema_version, actor, "
                "actor_name, on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id, occurred_at, "
                "previous_hash, payload, content_hash from ledger.event where id = %s",
                (scene.values["id"],),
            ).fetchone()
            assert row is not None
            assert row[-1] == content_hash(*row[:18])
            connection.rollback()


@pytest.fixture
def connect() -> Iterator[Callable[[str], psycopg.Connection]]:
    made: list[psycopg.Connection] = []

    def make(dsn: str) -> psycopg.Connection:
        made.append(psycopg.connect(dsn))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


async def test_a_shadow_in_the_scratch_schema_changes_nothing(scene: Scene, database: TestDatabase):
    """Names are looked up in pg_temp first; the functions of the log name their schemas."""
    with psycopg.connect(database.app_dsn) as connection:
        connection.execute("create temporary table event (like ledger.event)")
        connection.execute("create temporary table package as select * from state.package with no data")
        connection.execute(EVENT, scene.values)
        row = connection.execute("select count(*) from ledger.event where id = %s", (scene.values["id"],)).fetchone()
        assert row == (1,)
        connection.rollback()


async def test_hash_of_every_event_there_is(world: World):
    """Whatever the governed path wrote, on behalf of whomever, hashes as the format says."""
    package = await world.make_package("awarded")
    agent = await world.propose("agent:analyst", "package", "patch", package.id, {"description": "Ünïcode “text” 🏗"})
    assert agent.approval is not None
    await world.say("admin", agent.approval, "approve")
    async with world.read() as session:
        rows = await session.all(
            "select position, id, stream_type, stream_id, stream_version, project_id, type, schema_version, actor, "
            "actor_name, on_behalf_of, on_behalf_of_name, source, correlation_id, causation_id, occurred_at, "
            "previous_hash, payload, content_hash from ledger.event where project_id = %s order by position",
            (world.project,),
        )
    heads: dict[UUID, bytes] = {}
    for row in rows:
        assert bytes(row[16]) == heads.get(row[3], b"\0" * 32)
        heads[row[3]] = bytes(row[18])
        assert bytes(row[18]) == content_hash(*row[:16], bytes(row[16]), row[17])  # pyright: ignore[reportCallIssue]
    assert len(rows) > 20
    assert any(row[10] for row in rows)
