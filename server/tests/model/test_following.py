"""The controls of what T1 looks with: whatever is changed behind its back, the very next look finds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.approval.policy import POLICY_ID
from pmis.kit.ids import uuid7
from tests.model.following import TABLES
from tests.model.harness import Broken, Harness
from tests.model.oracle import Change, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.conftest import TestDatabase
    from tests.model.harness import Example
    from tests.model.oracle import Record

FILLED: Final = tuple(table for table in TABLES if table not in ("package_type", "email", "escalation", "invitation"))
"""All but those that the walks of T1 leave empty."""
KEYS: Final = {"approval_target": "target_id", "search": "entity_id"}


@pytest.fixture(scope="module")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("followed")


@pytest.fixture(scope="module")
def harness(database: TestDatabase) -> Iterator[Harness]:
    made = Harness(database)
    yield made
    made.close()


@pytest.fixture
def example(harness: Harness) -> Example:
    """A project with a row in every table."""
    example = harness.begin_example("full", Rules())
    operator, package = example.who("operator"), uuid7()
    now = datetime.now(UTC).replace(microsecond=0)
    lent: Record = {
        "to_person": example.model.people["executive2"],
        "starts_at": now,
        "ends_at": now + timedelta(days=2),
    }
    remark: Record = {"body": "B", "entity_type": "package", "entity_id": package}
    memory: Record = {"text": "T", "kind": "context", "entity_type": "package", "entity_id": package}
    for change in (
        Change("create", "package", package, {"title": "A package"}),
        Change("create", "task", uuid7(), {"title": "A task", "package_id": package}),
        Change("create", "party", uuid7(), {"name": "A vendor", "kind": "vendor"}),
        Change("create", "comment", uuid7(), remark),
        Change("create", "memory", uuid7(), memory),
    ):
        example.propose(operator, [change])
    example.propose(example.who("executive"), [Change("create", "delegation", uuid7(), lent)])
    example.propose(operator, [Change("patch", "package", package, {"title": "Another"})], impact=2)
    example.observe()
    for waiting in list(example.model.approvals.values()):
        if waiting.status == "confirmation_required":
            example.decide(waiting.proposer, waiting, "confirm", shown="right")
    example.observe()
    assert {table for table, rows in example.follower.live.items() if rows} == set(FILLED)
    return example


def differences(example: Example) -> set[tuple[str, str]]:
    _, found = example.follower.look([POLICY_ID])
    return {(one.table, one.kind) for one in found}


def tamper(database: TestDatabase, statement: str, project: UUID) -> None:
    """Change rows as only a superuser can, past every trigger."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        done = connection.execute(statement, {"project": project, "new": uuid7()})  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert done.rowcount >= 1


def own(table: str) -> str:
    if table == "approval_target":
        return "approval_id in (select id from state.approval where project_id = %(project)s)"
    return "project_id = %(project)s"


def test_nothing_is_found_where_nothing_happened(example: Example):
    assert differences(example) == set()
    assert example.follower.from_scratch([POLICY_ID]) == []
    example.replay()


@pytest.mark.parametrize("table", FILLED)
def test_a_row_that_is_changed(table: str, database: TestDatabase, example: Example):
    changed = {"approval_target": "open = not open", "search": "body = 'x'"}.get(table, "version = version + 1")
    tamper(database, f"update state.{table} set {changed} where {own(table)}", example.model.project)
    assert differences(example) == {(table, "different")}


@pytest.mark.parametrize("table", FILLED)
def test_a_row_that_is_gone(table: str, database: TestDatabase, example: Example):
    # The targets of approvals are found through them: the rows of an approval that is gone go along.
    along = {("approval_target", "missing")} if table == "approval" else set[tuple[str, str]]()
    tamper(database, f"delete from state.{table} where {own(table)}", example.model.project)
    assert differences(example) == {(table, "missing")} | along


@pytest.mark.parametrize("table", [table for table in FILLED if table != "project"])
def test_a_row_out_of_nowhere(table: str, database: TestDatabase, example: Example):
    columns = TABLES[table][0]
    key = KEYS.get(table, "id")
    rest = [name for name in columns if name not in (key, "external_ref", "email", "number", "code", "person_id")]
    given: dict[str, Any] = {"code": "left(%(new)s::text, 8)", "number": "999", "person_id": "%(new)s"}
    extra = {name: given[name] for name in columns if name in given}
    tamper(
        database,
        f"insert into state.{table} ({', '.join([key, *rest, *extra])}) "
        f"select {', '.join(['%(new)s', *rest, *extra.values()])} from state.{table} where {own(table)} limit 1",
        example.model.project,
    )
    assert differences(example) == {(table, "surplus")}


def test_one_gone_and_one_come_do_not_cancel_out(database: TestDatabase, example: Example):
    tamper(database, f"update state.task set id = %(new)s where {own('task')}", example.model.project)
    assert differences(example) == {("task", "surplus"), ("task", "missing")}


def test_an_event_without_its_row(database: TestDatabase, example: Example):
    tamper(
        database,
        "insert into ledger.event select nextval('ledger.event_position'), %(new)s, stream_type, stream_id, "
        "stream_version + 1, project_id, 'task.deleted', schema_version, "
        '\'{"changes":{"title":{"from":null,"to":"x"}}}\', actor, actor_name, on_behalf_of, '
        "on_behalf_of_name, source, correlation_id, causation_id, occurred_at, previous_hash, content_hash, xid "
        "from ledger.event where project_id = %(project)s and stream_type = 'task'",
        example.model.project,
    )
    assert ("task", "different") in differences(example)


def test_the_policy(database: TestDatabase, harness: Harness):
    harness.follow_policy()
    harness.follow_policy(anew=True)
    tamper(database, "update state.policy set doc = replace(doc, 'ERROR', 'x') || ' '", uuid7())
    with pytest.raises(Broken, match="the row of the policy"):
        harness.follow_policy()
    tamper(database, "update state.policy set doc = rtrim(doc)", uuid7())
    harness.follow_policy(anew=True)
