"""`pmis admin create`: the first administrator of an instance in which nobody can sign in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.api.app import create_app
from pmis.kit.settings import load_settings
from tests.cli.conftest import JWT_SECRET, SECRET, Ran, Serving, run, spawn_tty

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import TestDatabase

PASSWORD = "correct horse battery"


@pytest.fixture
def database(make_database: Callable[[str], TestDatabase], home: Path, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    made = make_database("cliadmin")
    monkeypatch.setenv("DATABASE_URL", made.app_dsn)
    monkeypatch.setenv("DATABASE_AUDITOR_URL", made.auditor_dsn)
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET)
    return made


def create(email: str = "ada@example.org", *more: str, password: str = PASSWORD) -> Ran:
    return run("admin", "create", email, "--name", "Ada Admin", "--password-stdin", *more, stdin=password)


def people(database: TestDatabase) -> list[tuple[str, bool]]:
    with psycopg.connect(database.admin_dsn) as connection:
        return connection.execute("select name, instance_admin from state.person order by id").fetchall()


def test_who_was_made_signs_in_and_makes_the_first_project_and_the_next_person(database: TestDatabase):
    made = create()
    assert made.code == 0, made
    assert made.out == "ada@example.org can sign in now: pmis login ada@example.org\n"
    settings = load_settings(embedded=False, environment="test")
    with Serving(create_app(settings)) as serving:
        signed = run("login", "ada@example.org", "--password-stdin", "--url", serving.url, stdin=PASSWORD)
        assert signed.code == 0, signed
        project = run("project", "create", "--name", "Harbour", "--prefix", "H", "--currency", "EUR", "--json")
        assert project.code == 0, project
        assert run("project", "show", "H").code == 0
        assert (
            run("package", "create", "--project", "H", "--title", "Quay", "--amount", "100", "--currency", "EUR").code
            == 0
        )
        roles = run("people", "roles", "--json").json["items"]
        assert [one["roles"] for one in roles] == [["admin"]]
        assert run("ledger", "replay", "--check").code == 0


def test_the_log_tells_who_made_them_and_how(database: TestDatabase):
    create()
    with psycopg.connect(database.admin_dsn) as connection:
        rows = connection.execute(
            "select type, actor, source, payload from ledger.event where stream_type <> 'policy'"
        ).fetchall()
    assert [(row[0], row[1], row[2]) for row in rows] == [("person.created", "system:console", "system")]
    assert '"route":"CONSOLE"' in rows[0][3]
    assert PASSWORD not in rows[0][3]
    assert "ada@example.org" not in rows[0][3]


def test_there_is_only_one_first(database: TestDatabase):
    assert create().code == 0
    second = create("ben@example.org")
    assert second.code == 1
    assert second.err.startswith("error: Ada Admin administers this instance. Sign in and propose the new person")
    assert len(people(database)) == 1
    assert create("ben@example.org", "--another").code == 0
    assert people(database) == [("Ada Admin", True), ("Ada Admin", True)]


def test_two_consoles_at_once_make_one(database: TestDatabase):
    from pmis.ops.console import AdministratorExistsError, create_administrator

    settings, refused = load_settings(), list[AdministratorExistsError]()

    def make(number: int) -> None:
        try:
            create_administrator(settings, name="Ada", email=f"a{number}@example.org", password=PASSWORD, another=False)
        except AdministratorExistsError as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(people(database)) == 1
    assert len(refused) == 3


@pytest.mark.parametrize(
    ("email", "password", "words"),
    [
        ("nonsense", PASSWORD, "email: "),
        ("ada@example.org", "short", "password: "),
        ("ada@example.org", "", "password: "),
    ],
)
def test_what_is_no_address_or_password_is_refused_and_nothing_is_written(
    database: TestDatabase, email: str, password: str, words: str
):
    refused = create(email, password=password)
    assert refused.code == 1
    assert refused.err.startswith(f"error: {words}")
    assert people(database) == []


def test_an_address_is_taken_once(database: TestDatabase):
    create()
    refused = create("ADA@example.org", "--another")
    assert refused.code == 1
    assert refused.err == "error: email: ADA@example.org belongs to another person.\n"
    assert len(people(database)) == 1


def test_without_a_terminal_the_password_comes_from_standard_input(database: TestDatabase):
    refused = run("admin", "create", "ada@example.org", "--name", "Ada")
    assert refused.code == 2
    assert "give --password-stdin" in refused.err


def test_on_a_terminal_it_is_asked_for_twice_and_not_shown(database: TestDatabase):
    made = spawn_tty(
        *("admin", "create", "ada@example.org", "--name", "Ada Admin"),
        answers=[("Password: ", PASSWORD), ("The same again: ", PASSWORD)],
    )
    assert made.code == 0, made
    assert PASSWORD not in made.out
    assert people(database) == [("Ada Admin", True)]


def test_without_a_secret_nothing_can_be_sealed(database: TestDatabase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SECRET_KEY")
    refused = create()
    assert refused.code == 1
    assert "SECRET_KEY" in refused.err
