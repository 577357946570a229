"""Jobs over HTTP: who sees which, what is told of them, and dead letters that are tried again."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pmis.api import jobs
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from tests.api.expect import ok, problem
from tests.api.office import make_job

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio


async def listed(office: Office, who: str, query: str = "") -> list[str]:
    """Every job of a list, by walking its pages."""
    found, cursor = [], ""
    while True:
        page = ok(await office.get(who, f"/jobs?limit=2{query}{cursor}"))
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def test_each_sees_the_jobs_of_what_they_administer(office: Office):
    mine = [str(await make_job(office, office.a.project, "dead")) for _ in range(3)]
    of_instance = str(await make_job(office, None, "done"))
    theirs = str(await make_job(office, office.b.project, "dead"))
    assert [one for one in await listed(office, "admin2") if one in mine] == mine[::-1], "the newest first"
    assert not {theirs, of_instance} & set(await listed(office, "admin2"))
    seen = set(await listed(office, "root"))
    assert of_instance in seen
    assert not {theirs, *mine} & seen, "who administers the instance sees into no project by that"
    assert await listed(office, "operator") == []
    assert mine[0] in await listed(office, "admin2", "&status=dead,waiting&kind=test.nothing")
    assert await listed(office, "admin2", "&kind=test.other") == []
    dead = ok(await office.get("admin2", "/jobs/dead-letters?limit=200"))["items"]
    assert {*mine} <= {item["id"] for item in dead}
    assert {item["status"] for item in dead} == {"dead"}
    for who, job in (("operator", mine[0]), ("admin2", theirs), ("admin2", of_instance), ("root", theirs)):
        for path in (f"/jobs/{job}", f"/jobs/{job}/stream"):
            problem(await office.get(who, path), 404, "not_found")
        for way in ("retry", "cancel", "dismiss"):
            problem(await office.post(who, f"/jobs/{job}/{way}", {}), 404, "not_found")
    problem(await office.get("admin2", "/jobs?status=odd"), 422, "invalid_input")


async def test_a_dead_letter_is_shown_watched_and_tried_again_once_by_key(office: Office):
    job = await make_job(office, office.a.project, "dead", "because")
    found = ok(await office.get("admin2", f"/jobs/{job}"))
    assert (found["status"], found["payload"], found["error"]["message"]) == (
        "dead",
        {"mark": "because"},
        "Wrong because",
    )
    told = (await office.get("admin2", f"/jobs/{job}/stream")).text
    event, data = told.strip().splitlines()
    assert event == "event: job"
    assert json.loads(data.removeprefix("data: "))["status"] == "dead"
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = await office.post("admin2", f"/jobs/{job}/retry", {}, headers=key)
    assert ok(first)["status"] == "queued"
    assert (await office.post("admin2", f"/jobs/{job}/retry", {}, headers=key)).content == first.content
    problem(await office.post("admin2", f"/jobs/{job}/retry", {}), 409, "conflict")
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select actor, project_id from ledger.event where type = 'job.retried' and payload like %s", (f"%{job}%",)
        )
    assert rows == [(f"person:{office.person('admin2')}", office.a.project)]


def told_by(stream: httpx2.Response) -> list[tuple[str, int | None]]:
    """The status and how much is done, of each time that the stream said something."""
    found: list[tuple[str, int | None]] = []
    for message in stream.text.strip().split("\n\n"):
        event, data = message.splitlines()
        assert event == "event: job"
        job = json.loads(data.removeprefix("data: "))
        found.append((job["status"], job["progress"] and job["progress"]["done"]))
    return found


async def test_a_job_is_watched_as_it_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.02)
    job = await make_job(office, office.a.project, "queued")
    watched = asyncio.create_task(office.get("admin2", f"/jobs/{job}/stream"))
    with psycopg.connect(office.test_database.worker_dsn, autocommit=True) as worker:
        for statement in (
            "select from jobs.claim(%s, 60, 'test')",
            """select jobs.tell(%s, 1, '{"done": 1, "total": 3, "text": ""}')""",
            """select jobs.tell(%s, 1, '{"done": 3, "total": 3, "text": ""}')""",
            "select jobs.finish(%s, 1, '{}')",
        ):
            await asyncio.sleep(0.3)
            assert not watched.done(), "it goes on until the job has ended"
            await asyncio.to_thread(worker.execute, statement.encode(), (job,))
    told = told_by(await asyncio.wait_for(watched, 10))
    assert told[:4] == [("queued", None), ("running", None), ("running", 1), ("running", 3)]
    assert [status for status, _ in told[4:]] == ["done"]


async def test_who_may_no_longer_see_a_job_watches_it_no_longer(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.02)
    who = await office.newcomer("admin")
    job = await make_job(office, office.a.project, "queued")
    watched = asyncio.create_task(office.get(who, f"/jobs/{job}/stream"))
    await asyncio.sleep(0.3)
    assert not watched.done()
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one("select id from state.membership where person_id = %s", (office.person(who),))
    assert row is not None
    proposed = await office.a.propose("admin", "membership", "patch", row[0], {"roles": ["viewer"]})
    assert (await office.a.settle(proposed, "admin")).outcome == "applied"
    assert told_by(await asyncio.wait_for(watched, 10)) == [("queued", None)]


async def test_all_dead_letters_of_a_kind_are_tried_again_and_only_ones_own(office: Office):
    mine = {str(await make_job(office, office.a.project, "dead")) for _ in range(2)}
    theirs = await make_job(office, office.b.project, "dead")
    path = f"/jobs/dead-letters/retry?kind=test.nothing&project={office.a.prefix}"
    assert ok(await office.post("operator", path, {})) == {"retried": []}
    assert mine <= set(ok(await office.post("admin2", path, {}))["retried"])
    assert ok(await office.post("admin2", path, {})) == {"retried": []}
    async with office.database.read(Reach.INSTANCE) as session:
        assert await session.one("select status from jobs.job where id = %s", (theirs,)) == ("dead",)
    problem(await office.get("admin2", f"/jobs/{uuid7()}"), 404, "not_found")


async def facts_of(office: Office, job: UUID) -> list[tuple[Any, ...]]:
    async with office.database.read(Reach.INSTANCE) as session:
        return await session.all(
            "select type, actor, project_id, payload::json ->> 'kind', payload::json ->> 'reason' "
            "from ledger.event where stream_type = 'job' and stream_id = %s",
            (job,),
        )


async def test_a_job_that_waits_is_cancelled_and_never_done(office: Office):
    job = await make_job(office, office.a.project, "queued")
    problem(await office.post("admin2", f"/jobs/{job}/dismiss", {}), 409, "conflict")
    problem(await office.post("operator", f"/jobs/{job}/cancel", {}), 404, "not_found")
    problem(await office.post("admin2", f"/jobs/{job}/cancel", {"reason": "x" * 2001}), 422, "invalid_input")
    ended = ok(await office.post("admin2", f"/jobs/{job}/cancel", {"reason": " Done by hand. "}))
    assert (ended["status"], ended["finished_at"] is not None) == ("cancelled", True)
    assert claim(office, job) is None
    assert await facts_of(office, job) == [
        ("job.cancelled", f"person:{office.person('admin2')}", office.a.project, "test.nothing", "Done by hand.")
    ]
    for way in ("cancel", "dismiss", "retry"):
        told = problem(await office.post("admin2", f"/jobs/{job}/{way}", {}), 409, "conflict")
        assert told["status_now"] == "cancelled"
    assert len(await facts_of(office, job)) == 1


@pytest.mark.parametrize(
    ("kind", "status", "way"),
    [("mail.file", "queued", "cancel"), ("mail.file", "dead", "dismiss"), ("notify.mail", "queued", "cancel")],
)
async def test_what_was_accepted_from_or_for_people_is_not_ended(office: Office, kind: str, status: str, way: str):
    job = await make_job(office, office.a.project, status)
    with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
        connection.execute("update jobs.job set kind = %s where id = %s", (kind, job))
    told = problem(await office.post("admin2", f"/jobs/{job}/{way}", {}), 409, "conflict")
    assert "mail" in told["detail"]
    assert ok(await office.get("admin2", f"/jobs/{job}"))["status"] == status
    assert await facts_of(office, job) == []


async def test_a_job_that_runs_is_not_cancelled(office: Office):
    job = await make_job(office, office.a.project, "queued")
    assert claim(office, job) == 1
    told = problem(await office.post("admin2", f"/jobs/{job}/cancel", {}), 409, "conflict")
    assert (told["status_now"], "only jobs that wait are cancelled" in told["detail"]) == ("running", True)
    assert await facts_of(office, job) == []


async def test_a_dead_letter_that_is_dismissed_alarms_nobody_any_more(office: Office):
    async def alarming() -> int:
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select dead from jobs.lag()")
        assert row is not None
        return row[0]

    job = await make_job(office, office.a.project, "dead", "because")
    before = await alarming()
    problem(await office.post("admin2", f"/jobs/{job}/cancel", {}), 409, "conflict")
    ended = ok(await office.post("admin2", f"/jobs/{job}/dismiss", {}))
    assert (ended["status"], ended["error"]["message"]) == ("cancelled", "Wrong because"), "what went wrong stays"
    assert await alarming() == before - 1
    dead = ok(await office.get("admin2", "/jobs/dead-letters?limit=200"))["items"]
    assert str(job) not in {item["id"] for item in dead}
    assert [(row[0], row[4]) for row in await facts_of(office, job)] == [("job.dismissed", None)]


def claim(office: Office, job: UUID) -> int | None:
    """What a worker does first; the number of the attempt, if it may."""
    with psycopg.connect(office.test_database.worker_dsn, autocommit=True) as worker:
        row = worker.execute("select attempt from jobs.claim(%s, 60, 'test')", (job,)).fetchone()
    return row[0] if row else None


@pytest.mark.parametrize(("first", "second"), [("cancel", "claim"), ("dismiss", "retry"), ("cancel", "cancel")])
async def test_whoever_comes_second_to_a_job_finds_it_ended(office: Office, first: str, second: str):
    """The first has the row and has not committed yet: the second one waits for it, and then does nothing."""
    statements = {
        "claim": "select count(*) from jobs.claim(%(job)s, 60, 'test')",
        "retry": "select count(*) from jobs.retry(array[%(job)s])",
        "cancel": "select jobs.cancel(%(job)s)::int",
        "dismiss": "select jobs.dismiss(%(job)s)::int",
    }
    for one, other in ((first, second), (second, first)):
        another = await make_job(office, office.a.project, "queued" if first == "cancel" else "dead")
        with psycopg.connect(office.test_database.worker_dsn) as early:
            assert early.execute(statements[one].encode(), {"job": another}).fetchone() == (1,)

            def late(other: str = other, another: UUID = another) -> Any:
                with psycopg.connect(office.test_database.worker_dsn, autocommit=True) as connection:
                    return connection.execute(statements[other].encode(), {"job": another}).fetchone()

            waiting = asyncio.create_task(asyncio.to_thread(late))
            assert not (await asyncio.wait({waiting}, timeout=0.2))[0], "it waits for the first"
            early.commit()
        assert await waiting == (0,)


@pytest.mark.parametrize("way", ["cancel", "dismiss"])
async def test_many_at_once_end_a_job_once(office: Office, way: str):
    """Cancelling against claiming, dismissing against trying again: one of them gets it, and the log says which."""
    for _ in range(12):
        job = await make_job(office, office.a.project, "queued" if way == "cancel" else "dead")

        async def other(job: UUID = job) -> bool:
            if way == "cancel":
                return await asyncio.to_thread(claim, office, job) == 1
            return (await office.post("admin2", f"/jobs/{job}/retry", {})).status_code == 200

        async def end(job: UUID = job) -> bool:
            return (await office.post("admin2", f"/jobs/{job}/{way}", {})).status_code == 200

        otherwise, *ended = await asyncio.gather(other(), end(), end(), end())
        assert sum([otherwise, *ended]) == 1
        assert len(await facts_of(office, job)) == sum(ended)
