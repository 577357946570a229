"""Migrations: once, by one at a time, finished by the next run when one was killed, and never past what is known."""

from __future__ import annotations

import threading

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pmis.ops import migrate
from pmis.ops import postgres as pg
from pmis.ops.migrate import MigrationError, head_revision, is_up_to_date, known_revisions, upgrade_database


@pytest.fixture
def empty(cluster, worker_id):
    """A database without a schema."""
    name = f"pmis_empty_{worker_id}"
    with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
        pg.drop_database(connection, name)
        pg.create_database(connection, name)
    yield cluster.server.url(pg.OWNER, name)
    with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
        pg.drop_database(connection, name)


def test_the_head_is_read_as_alembic_reads_it():
    config = Config()
    config.set_main_option("script_location", str(migrate.migrations_folder()))
    script = ScriptDirectory.from_config(config)
    assert head_revision() == script.get_current_head()
    assert set(known_revisions()) == {revision.revision for revision in script.walk_revisions()}


def test_two_heads_are_refused(monkeypatch):
    monkeypatch.setattr(migrate, "known_revisions", lambda: {"1": None, "2a": "1", "2b": "1"})
    with pytest.raises(MigrationError, match=r"2 heads \(2a, 2b\)"):
        head_revision()


def test_many_at_once_migrate_once(empty):
    answers = []
    barrier = threading.Barrier(3)

    def run():
        barrier.wait()
        answers.append(upgrade_database(empty))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=str) == ["", None, None]
    with psycopg.connect(empty) as connection:
        assert is_up_to_date(connection)
        assert connection.execute("select count(*) from state.policy").fetchone() == (1,)


def test_a_run_that_was_killed_before_its_last_step_is_finished(make_database, monkeypatch):
    database = make_database("unfinished")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("truncate state.policy, ledger.event cascade")
        connection.execute("revoke select on public.alembic_version from pmis_app")
    monkeypatch.setattr(migrate, "_run_alembic", lambda _dsn: pytest.fail("the schema is there already"))
    assert upgrade_database(database.owner_dsn) == head_revision()
    with psycopg.connect(database.app_dsn) as connection:
        assert is_up_to_date(connection)
    assert upgrade_database(database.owner_dsn) is None


def test_a_database_of_a_newer_version_is_not_touched(make_database):
    database = make_database("newer")
    with psycopg.connect(database.owner_dsn) as connection:
        connection.execute("update public.alembic_version set version_num = '9999'")
    with pytest.raises(MigrationError, match="at revision 9999, which this version of PMIS does not know"):
        upgrade_database(database.owner_dsn)


def test_a_step_that_fails_is_taken_back(empty):
    with psycopg.connect(empty) as connection:
        connection.execute("create schema state")
        connection.execute("create table state.in_the_way (id int)")
    with pytest.raises(MigrationError, match=r"A migration failed and was taken back: .*already exists"):
        upgrade_database(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("select to_regclass('ledger.event')").fetchone() == (None,)
        connection.execute("drop schema state cascade")
    assert upgrade_database(empty) == ""


def test_a_lock_that_is_not_given_fails_the_migration_and_not_everybody_else(empty, monkeypatch):
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 300)
    with psycopg.connect(empty) as holder:
        holder.execute("create table public.alembic_version (version_num varchar(32) not null)")
        holder.commit()
        holder.execute("lock table public.alembic_version in access exclusive mode")
        with pytest.raises(MigrationError, match="lock timeout"):
            upgrade_database(empty)


def test_the_application_may_not_migrate(make_database):
    database = make_database("app")
    with psycopg.connect(database.owner_dsn) as connection:
        connection.execute("update public.alembic_version set version_num = '0001'")
    with pytest.raises(MigrationError, match=r"could not be migrated|failed and was taken back"):
        upgrade_database(database.app_dsn)


def test_nobody_there():
    with pytest.raises(MigrationError, match=r"could not be migrated: .*refused"):
        upgrade_database("postgresql://u@127.0.0.1:1/d")
