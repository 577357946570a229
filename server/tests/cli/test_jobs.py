"""Jobs on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


@pytest.fixture
def dead(signed_in: LiveApi) -> str:
    """A dead letter of the demo's project."""
    identity = uuid7()
    with psycopg.connect(signed_in.database.admin_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into jobs.job (id, kind, project_id, payload, correlation_id, status, attempt, error, finished_at) "
            "select %s, 'test.nothing', id, '{}', 'test', 'dead', 1, '{\"message\":\"It broke.\"}', now() "
            "from state.project order by id limit 1",
            (identity,),
        )
        connection.execute(
            "insert into jobs.attempt (job_id, attempt, worker, ended_at, outcome, error) "
            "values (%s, 1, 'a:1', now(), 'failed', '{\"message\":\"It broke.\"}')",
            (identity,),
        )
    return str(identity)


def test_a_dead_letter_is_listed_shown_watched_and_tried_again(pmis: Pmis, dead: str):
    listed = pmis("job", "list", "--status", "dead", "--as", "admin").out
    assert "test.nothing" in listed
    assert "It broke." in listed
    shown = pmis("job", "show", dead, "--as", "admin").out
    assert "test.nothing is dead" in shown
    assert "failed: It broke." in shown
    watched = pmis("job", "watch", dead, "--as", "admin")
    assert watched.out == "dead It broke.\n"
    assert pmis("job", "retry", dead, "--as", "admin").out == f"test.nothing {dead} is tried again.\n"
    assert "only dead letters are tried again" in pmis("job", "retry", dead, "--as", "admin").err
    assert pmis("job", "show", dead, "--as", "admin", "--json").json["status"] == "queued"


def test_all_of_a_kind_are_tried_again_and_nobody_elses(pmis: Pmis, dead: str):
    assert "There is no such job" in pmis("job", "show", dead, "--as", "operator").err
    assert pmis("job", "retry", "--all", "--as", "operator").out == "0 dead letters are tried again.\n"
    assert pmis("job", "retry", "--all", "--kind", "test.nothing", "--as", "admin").out.endswith(
        "dead letters are tried again.\n"
    )
    assert pmis("job", "show", dead, "--as", "admin", "--json").json["status"] == "queued"
    assert "Name dead letters, or say --all." in pmis("job", "retry").err


def test_a_dead_letter_is_dismissed_and_a_job_that_waits_cancelled(pmis: Pmis, dead: str):
    assert "only jobs that wait are cancelled" in pmis("job", "cancel", dead, "--as", "admin").err
    told = pmis("job", "dismiss", dead, "--reason", "Filed by hand.", "--as", "admin")
    assert told.out == f"test.nothing {dead} is dismissed.\n"
    assert "only dead letters are dismissed" in pmis("job", "dismiss", dead, "--as", "admin").err
    shown = pmis("job", "show", dead, "--as", "admin").out
    assert "test.nothing is cancelled" in shown
    assert "It broke." in shown


def test_a_job_that_waits_is_cancelled(pmis: Pmis, signed_in: LiveApi, dead: str):
    with psycopg.connect(signed_in.database.admin_dsn, autocommit=True) as connection:
        connection.execute("update jobs.job set status = 'waiting', finished_at = null where id = %s", (dead,))
    assert pmis("job", "cancel", dead, "--as", "admin", "--json").json["status"] == "cancelled"
    assert pmis("job", "watch", dead, "--as", "admin").out.startswith("cancelled")
