"""Jobs over HTTP: who sees which, what is told of them, and dead letters that are tried again."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from pmis.kit.ids import uuid7
from tests.api.expect import ok, problem
from tests.api.office import make_job

if TYPE_CHECKING:
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
        problem(await office.post(who, f"/jobs/{job}/retry", {}), 404, "not_found")
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
    async with office.database.read() as session:
        rows = await session.all(
            "select actor, project_id from ledger.event where type = 'job.retried' and payload like %s", (f"%{job}%",)
        )
    assert rows == [(f"person:{office.person('admin2')}", office.a.project)]


async def test_all_dead_letters_of_a_kind_are_tried_again_and_only_ones_own(office: Office):
    mine = {str(await make_job(office, office.a.project, "dead")) for _ in range(2)}
    theirs = await make_job(office, office.b.project, "dead")
    path = f"/jobs/dead-letters/retry?kind=test.nothing&project={office.a.prefix}"
    assert ok(await office.post("operator", path, {})) == {"retried": []}
    assert mine <= set(ok(await office.post("admin2", path, {}))["retried"])
    assert ok(await office.post("admin2", path, {})) == {"retried": []}
    async with office.database.read() as session:
        assert await session.one("select status from jobs.job where id = %s", (theirs,)) == ("dead",)
    problem(await office.get("admin2", f"/jobs/{uuid7()}"), 404, "not_found")
