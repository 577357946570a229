"""GET /approvals: what waits, for whom; changes of the instance's people and of its policy among them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.expect import ok, problem, waits
from tests.api.office import open_office
from tests.builders import new_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def quiet(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    """An office in which only these tests propose."""
    async with open_office(make_database("inbox")) as office:
        yield office


async def ids(office: Office, who: str, query: str = "") -> list[str]:
    return [one["id"] for one in ok(await office.get(who, f"/approvals?{query}"))["items"]]


async def new_person(office: Office) -> Any:
    said = {"name": "Somebody", "email": f"{secrets.token_hex(4)}@example.org", "password": "correct horse battery"}
    return waits(await office.post("root", "/people", {**said, "impact_level": "critical"}))


async def test_changes_of_the_instance_are_listed_for_those_who_decide_them_and_nobody_else(quiet: Office):
    approval = await new_person(quiet)
    assert approval["project_id"] is None
    for who in ("root", "executive", "b:executive", "inspector"):
        assert approval["id"] in await ids(quiet, who), who
    for who in ("executive", "b:executive"):
        assert approval["id"] in await ids(quiet, who, "waiting_for=me"), who
    # The proposer does not decide, and an auditor decides nothing.
    for who in ("root", "inspector"):
        assert approval["id"] not in await ids(quiet, who, "waiting_for=me"), who
    for who in ("admin", "analyst", "viewer", "auditor", "nobody"):
        assert approval["id"] not in await ids(quiet, who), who
        problem(await quiet.get(who, f"/approvals/{approval['id']}"), 404, "not_found")
    assert approval["id"] not in await ids(quiet, "executive", f"project={quiet.a.project}")


@pytest.mark.parametrize(
    ("said", "outcome", "deciders", "verdict"),
    [
        ({"impact_level": "critical"}, "pending", ("executive", "b:executive"), "approve"),
        ({"uncertainty_level": "high"}, "confirmation_required", ("root",), "confirm"),
    ],
)
async def test_a_project_that_is_to_be_founded_is_decided_by_the_instance(
    quiet: Office, said: dict[str, str], outcome: str, deciders: tuple[str, ...], verdict: str
):
    new = {"name": "A project", "prefix": new_prefix(), "currency": "EUR", **said}
    approval = waits(await quiet.post("root", "/projects", new), outcome)
    assert approval["project_id"] is None
    assert approval["id"] in await ids(quiet, "root")
    for other in ("admin", "auditor", "nobody"):
        problem(await quiet.get(other, f"/approvals/{approval['id']}"), 404, "not_found")
    last = outcome
    for who in deciders:
        assert approval["id"] in await ids(quiet, who, "waiting_for=me")
        path = f"/approvals/{approval['id']}/{verdict}"
        last = ok(await quiet.post(who, path, {"digest": approval["digest"]}))["outcome"]
    assert last == "applied"
    # Whoever proposed it is its first administrator, whoever agreed.
    quiet.parts.principals.forget(quiet.person("root"))
    (member,) = ok(await quiet.get("root", f"/memberships?project={approval['target_id']}"))["items"]
    assert (member["person_id"], member["roles"]) == (str(quiet.person("root")), ["admin"])


async def test_pages_of_both_kinds_follow_each_other_without_loss_or_repetition(quiet: Office):
    made: list[str] = []
    for _ in range(4):
        made.append((await new_person(quiet))["id"])
        made.append(str((await quiet.a.waiting()).id))
    everything = await ids(quiet, "executive", "limit=200")
    assert [one for one in everything if one in made] == made
    for order in ("created_at", "-created_at"):
        for limit in (1, 3):
            found: list[str] = []
            path: str | None = f"/approvals?limit={limit}&sort={order}"
            while path:
                body = ok(await quiet.get("executive", path))
                assert len(body["items"]) <= limit
                found += [one["id"] for one in body["items"]]
                path = f"/approvals?limit={limit}&sort={order}&cursor={body['next']}" if body["next"] else None
            assert found == (everything if order == "created_at" else everything[::-1])


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
@pytest.mark.parametrize("order", ["created_at", "-created_at"])
async def test_the_inbox_pages_to_its_end(quiet: Office, limit, order):
    made = [str((await quiet.a.waiting()).id) for _ in range(3)]
    found: list[str] = []
    cursor = ""
    while True:
        body = ok(await quiet.get("admin", f"/approvals?waiting_for=me&limit={limit}&sort={order}{cursor}"))
        assert len(body["items"]) <= limit
        found += [one["id"] for one in body["items"]]
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert len(found) == len(set(found))
    assert [one for one in found if one in made] == (made if order == "created_at" else made[::-1])


async def test_what_is_decided_or_confirmable_by_others_only_does_not_wait_for_me(quiet: Office):
    approval = await quiet.a.waiting()
    assert str(approval.id) in await ids(quiet, "admin", "waiting_for=me")
    assert str(approval.id) not in await ids(quiet, "analyst", "waiting_for=me")
    assert str(approval.id) not in await ids(quiet, "b:admin", "waiting_for=me")
    await quiet.a.say("admin2", approval, "reject")
    assert str(approval.id) not in await ids(quiet, "admin", "waiting_for=me")
    assert str(approval.id) not in await ids(quiet, "admin", "waiting_for=me&status=rejected")
    assert str(approval.id) in await ids(quiet, "admin", "status=rejected")
    draft = await quiet.a.make_package()
    answer = await quiet.patch("analyst", f"/packages/{draft.id}", {"title": "x", "impact_level": "medium"})
    own = waits(answer, "confirmation_required")
    assert own["id"] in await ids(quiet, "analyst", "waiting_for=me")
    assert own["id"] not in await ids(quiet, "admin", "waiting_for=me")


async def test_each_filter_narrows(quiet: Office):
    approval = await quiet.a.waiting()
    identity, package = str(approval.id), str(approval.target_id)
    assert await ids(quiet, "admin", f"target_id={package}") == [identity]
    assert identity in await ids(quiet, "admin", f"proposer=person:{quiet.person('analyst')}")
    assert identity not in await ids(quiet, "admin", f"proposer=person:{quiet.person('operator')}")
    assert identity in await ids(quiet, "admin", "status=pending,applied&limit=200")
    assert identity not in await ids(quiet, "admin", "status=applied&limit=200")
    assert identity in await ids(quiet, "admin", "route=APPROVAL_REQUIRED&limit=200")
    assert identity not in await ids(quiet, "admin", "route=CONFIRM&limit=200")


@pytest.mark.parametrize(
    "query", ["status=open", "waiting_for=you", "sort=label", "target_id=x", "q=x", "limit=0", "deleted=true", "route="]
)
async def test_what_the_list_does_not_know_is_refused(quiet: Office, query):
    problem(await quiet.get("admin", f"/approvals?{query}"), 422, "invalid_input")
