"""The fixtures themselves: every login reaches the test database, and none is more than it should be."""

from __future__ import annotations

import psycopg
import pytest

from pmis.ops.migrate import current_revision, head_revision


@pytest.mark.parametrize("login", ["pmis_app", "pmis_sealer", "pmis_auditor", "pmis_owner"])
def test_each_login_is_itself_and_no_more(database, login):
    dsn = getattr(database, f"{login.removeprefix('pmis_')}_dsn")
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select current_user, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication "
            "from pg_roles where rolname = current_user"
        ).fetchone()
    assert row == (login, False, False, False, False, False)


def test_the_application_has_its_time_outs_and_the_head_revision(database):
    with psycopg.connect(database.app_dsn) as connection:
        shown = [
            connection.execute("select current_setting(%s)", (name,)).fetchone()
            for name in (
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "transaction_timeout",
                "plan_cache_mode",
            )
        ]
        assert shown == [("3s",), ("15s",), ("30s",), ("force_generic_plan",)]
        assert current_revision(connection) == head_revision()


def test_a_wrong_password_is_refused(database):
    dsn = database.app_dsn.replace(database.cluster.server.passwords["pmis_app"], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_databases_are_apart(make_database):
    one, other = make_database("one"), make_database("other")
    with psycopg.connect(one.owner_dsn) as connection:
        connection.execute("create table public.only_here (id int)")
    with psycopg.connect(other.owner_dsn) as connection:
        assert connection.execute("select to_regclass('public.only_here')").fetchone() == (None,)
