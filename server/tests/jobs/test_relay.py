"""What the relay hands on, what it does when the broker takes nothing, and what each login may not do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pmis.jobs import relay as module
from pmis.jobs.relay import Relay, WorkerLostError
from pmis.kit.logs import CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from pmis.jobs.broker import Due
    from tests.conftest import TestDatabase

ACCEPT = "select jobs.accept(gen_random_uuid(), 'test.nothing', null, null, '{}', null, 'test', null, null, null)"


@pytest.fixture
def own(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("relay")


@pytest.fixture
def connection(own: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(own.relay_dsn, autocommit=True) as connection:
        yield connection


def accept(own: TestDatabase, count: int) -> None:
    with psycopg.connect(own.app_dsn) as application:
        for _ in range(count):
            application.execute(ACCEPT)


def relay(publish: Callable[[Sequence[Due]], None], **options: Any) -> Relay:
    given: dict[str, Any] = {"again_seconds": 60, "max_attempts": 4, "consumers": {}, **options}
    return Relay(publish, **given)


def hearing(told: list[UUID]) -> Callable[[Sequence[Due]], None]:
    """A broker that takes everything."""
    return lambda jobs: told.extend(job.id for job in jobs)


def promise(own: TestDatabase, topic: str, key: str) -> None:
    with psycopg.connect(own.app_dsn, autocommit=True) as application:
        application.execute(
            "select ledger.promise(gen_random_uuid(), %s, %s, '{\"a\":1}', (select id from ledger.event limit 1))",
            (topic, key),
        )


def test_a_promise_becomes_one_job_for_each_of_its_consumers(own: TestDatabase, connection: psycopg.Connection[Any]):
    told: list[UUID] = []
    handing = relay(hearing(told), consumers={"test.heard": ("test.one", "test.two")})
    handing.step(connection)
    promise(own, "test.heard", "k1")
    promise(own, "test.unheard", "k2")
    handing.step(connection)
    handing.step(connection)
    rows = connection.execute("select id, kind, payload, dedup from jobs.job order by kind").fetchall()
    assert [row[1:] for row in rows] == [
        ("test.one", '{"a":1}', "test.one:k1"),
        ("test.two", '{"a":1}', "test.two:k1"),
    ]
    assert sorted(told) == sorted(row[0] for row in rows)
    with psycopg.connect(own.admin_dsn) as admin:
        assert admin.execute("select count(*) from ledger.outbox where sent_at is null").fetchone() == (0,)


def test_a_broker_that_takes_nothing_ends_nothing_and_is_told_again(
    own: TestDatabase, connection: psycopg.Connection[Any]
):
    told: list[UUID] = []
    down = [True]

    def publish(jobs: Sequence[Due]) -> None:
        if down[0]:
            raise ConnectionError("no broker")
        hearing(told)(jobs)

    handing = relay(publish, again_seconds=0)
    handing.step(connection)
    accept(own, 3)
    assert handing.step(connection) == 0
    assert handing._not_before > 0, "it does not knock at once again"
    down[0], handing._not_before = False, 0.0
    assert handing.step(connection) == 3
    assert len(set(told)) == 3


def test_a_long_queue_stays_in_the_database_and_is_told_of_once(own: TestDatabase, connection: psycopg.Connection[Any]):
    told: list[UUID] = []
    handing = relay(hearing(told), window=5)
    handing.step(connection)
    accept(own, 12)
    assert [handing.step(connection), handing.step(connection)] == [5, 0]
    with psycopg.connect(own.worker_dsn, autocommit=True) as worker:
        for job in told[:5]:
            worker.execute("select jobs.claim(%s, 60, 'test')", (job,))
    assert handing.step(connection) == 5
    assert len(told) == len(set(told)) == 10


def test_calls_to_webhooks_hold_nobody_else_up(own: TestDatabase, connection: psycopg.Connection[Any]):
    """They come last, and a sixteenth of the window is the most that the broker has of them at a time."""
    told: list[UUID] = []
    handing = relay(hearing(told), window=32)
    handing.step(connection)
    with psycopg.connect(own.admin_dsn, autocommit=True) as admin:
        slow = {
            row[0]
            for row in admin.execute(
                "insert into jobs.job (id, kind, payload, correlation_id, due_at) "
                "select gen_random_uuid(), 'webhook.deliver', '{}', 'test', now() - interval '1 hour' "
                "from generate_series(1, 50) returning id"
            )
        }
    accept(own, 3)
    assert handing.step(connection) == 5
    assert len(slow & set(told)) == 2
    assert handing.step(connection) == 0
    accept(own, 1)
    assert handing.step(connection) == 1, "others are told of all the same"


def test_its_lines_carry_the_correlation_id_of_what_it_hands_on_and_takes_back(
    own: TestDatabase,
    connection: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    reported: list[BaseException] = []
    monkeypatch.setattr(module.faults, "report", reported.append)
    seen: list[tuple[str, str | None]] = []
    note = logging.Handler()
    monkeypatch.setattr(note, "emit", lambda record: seen.append((record.getMessage(), CORRELATION.get())))
    module.log.addHandler(note)
    handing = relay(lambda _: None, max_attempts=2, again_seconds=0)
    handing.step(connection)
    try:
        with psycopg.connect(own.app_dsn, autocommit=True) as application:
            for mark in ("request-1", "request-2"):
                application.execute(ACCEPT.replace("'test',", f"'{mark}',").encode())
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                assert handing.step(connection) == 2
                with psycopg.connect(own.worker_dsn, autocommit=True) as worker:
                    for row in connection.execute("select id from jobs.job").fetchall():
                        worker.execute("select jobs.claim(%s, -1, 'test')", row)
                handing._sweep(connection)
    finally:
        module.log.removeHandler(note)
    jobs = {
        row[0]: row[1]
        for row in connection.execute("select id, correlation_id from jobs.job where status = 'dead'").fetchall()
    }
    assert sorted(jobs.values()) == ["request-1", "request-2"]
    for job, mark in jobs.items():
        assert [(text, about) for text, about in seen if str(job) in text] == [
            (f"test.nothing {job} is handed to the workers", mark),
            (f"test.nothing {job} attempt 1 lost its worker", mark),
            (f"test.nothing {job} is handed to the workers", mark),
            (f"test.nothing {job} attempt 2 lost its worker", mark),
            (f"test.nothing {job} is a dead letter after 2 attempts", mark),
        ]
    assert [type(one) for one in reported] == [WorkerLostError] * 2, "every dead letter is reported"
    assert CORRELATION.get() is None


def test_two_relays_at_once_tell_of_each_job_once(own: TestDatabase, connection: psycopg.Connection[Any]):
    told: list[UUID] = []
    accept(own, 10)
    with psycopg.connect(own.relay_dsn) as other:
        first = [row[0] for row in other.execute("select id from jobs.hand_out(4, 60)")]
        relay(hearing(told), window=64).step(connection)
        assert not set(first) & set(told)
        assert len({*first, *told}) == 10


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        *[
            (login, statement)
            for login in ("app", "worker", "relay")
            for statement in (
                "insert into jobs.job (id, kind, payload, correlation_id) values (gen_random_uuid(), 'a.b', '{}', 'c')",
                "update jobs.job set status = 'done'",
                "delete from jobs.job",
                "truncate jobs.job cascade",
                "insert into jobs.slot values ('a', now(), null)",
                "delete from jobs.attempt",
            )
        ],
        ("app", "select jobs.claim(gen_random_uuid(), 1, 'x')"),
        ("app", "select jobs.finish(gen_random_uuid(), 1, null)"),
        ("app", "select jobs.publish(1, 1)"),
        ("app", "select jobs.hand_out(1, 1)"),
        ("app", "select jobs.sweep_lost(1, 1)"),
        ("worker", "select jobs.hand_out(1, 1)"),
        ("relay", "select jobs.cancel(gen_random_uuid())"),
        ("relay", "select jobs.dismiss(gen_random_uuid())"),
        ("app", "select jobs.fire('a', now(), 'a.b', '{}', 'c')"),
        ("worker", "select jobs.publish(1, 1)"),
        ("worker", "select jobs.fire('a', now(), 'a.b', '{}', 'c')"),
        ("relay", "select jobs.claim(gen_random_uuid(), 1, 'x')"),
        ("relay", ACCEPT),
        ("relay", "select 1 from state.package"),
        ("relay", "select 1 from ledger.event"),
        ("relay", "update ledger.outbox set sent_at = null"),
    ],
)
def test_no_login_may_do_more_than_its_process_does(database: TestDatabase, login: str, statement: str):
    dsn = {"app": database.app_dsn, "worker": database.worker_dsn, "relay": database.relay_dsn}[login]
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
