"""R7: an answer that was kept is given again only to whom it may still be given, and shows only what they may see."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import pytest

from pmis.kit.db import Reach
from pmis.ledger.vault import PREFIX
from tests.api.expect import applied, ok, problem, waits

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


def key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


async def take_roles(office: Office, who: str, *roles: str) -> None:
    """Let an admin of the project give somebody other roles (none: they are out), agreed by another admin."""
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select id from state.membership where person_id = %s and project_id = %s",
            (office.person(who), office.a.project),
        )
    assert row is not None
    await office.a.do("membership", "patch", row[0], {"roles": list(roles)}, who="admin")
    office.parts.principals.forget(office.person(who))


async def test_a_kept_answer_comes_back_byte_for_byte(office: Office):
    headers = key()
    first = await office.post("analyst", "/packages", {"title": "Once"}, headers=headers)
    again = await office.post("analyst", "/packages", {"title": "Once"}, headers=headers)
    assert applied(first, 201)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    for name in ("etag", "location", "content-type"):
        assert again.headers[name] == first.headers[name]


async def test_another_person_may_use_the_same_key(office: Office):
    headers = key()
    first = applied(await office.post("analyst", "/packages", {"title": "Once"}, headers=headers), 201)
    other = applied(await office.post("operator", "/packages", {"title": "Once"}, headers=headers), 201)
    assert other["id"] != first["id"]


async def test_who_left_the_project_is_not_answered_again(office: Office):
    who = await office.newcomer("analyst")
    headers = key()
    applied(await office.post(who, "/packages", {"title": "Mine"}, headers=headers), 201)
    await take_roles(office, who)
    answer = await office.post(who, "/packages", {"title": "Mine"}, headers=headers)
    problem(answer, 404, "not_found")
    assert "Mine" not in answer.text


async def test_a_kept_refusal_is_not_told_to_who_left_the_project(office: Office):
    who = await office.newcomer("analyst")
    package = await office.a.make_package(title="A private title")
    headers = key()
    path = f"/packages/{package.id}"
    first = await office.patch(who, path, {"title": "A private title"}, headers=headers)
    problem(first, 422, "nothing_to_change")
    assert (await office.patch(who, path, {"title": "A private title"}, headers=headers)).content == first.content
    await take_roles(office, who)
    problem(await office.patch(who, path, {"title": "A private title"}, headers=headers), 403, "access_changed")


async def test_who_lost_the_administration_of_the_instance_is_not_answered_again(office: Office):
    who = f"root-{secrets.token_hex(4)}"
    office.people[who] = await office.sign_up(who.title(), f"{who}@example.org", instance_admin=True)
    headers = key()
    said = {
        "name": "Somebody private",
        "email": f"{secrets.token_hex(4)}@example.org",
        "password": "correct horse battery",
    }
    first = await office.post(who, "/people", said, headers=headers)
    waits(first, "confirmation_required")
    assert (await office.post(who, "/people", said, headers=headers)).content == first.content
    outcome = await office.a.propose("root", "person", "patch", office.person(who), {"instance_admin": False})
    for world in (office.a, office.b):
        assert outcome.approval is not None
        outcome = await world.say("executive", outcome.approval, "approve", shown=outcome.approval.digest)
    assert outcome.outcome == "applied"
    office.parts.principals.forget(office.person(who))
    answer = await office.post(who, "/people", said, headers=headers)
    problem(answer, 403, "access_changed")
    assert "private" not in answer.text


BANK: Final = {"holder": "Holder zq-secret", "account": "12345"}


class TestSecrets:
    async def test_what_lies_in_the_vault_is_kept_as_a_reference(self, office: Office):
        headers = key()
        said = {"name": "A vendor", "kind": "vendor", "contacts": [{"name": "Contact zq-secret"}]}
        answer = await office.post("analyst", "/parties", said, headers=headers)
        assert applied(answer, 201)["contacts"][0]["name"] == "Contact zq-secret"
        assert (await office.post("analyst", "/parties", said, headers=headers)).content == answer.content
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select convert_from(body, 'UTF8') from ledger.idempotency where key = %s",
                (headers["Idempotency-Key"],),
            )
        assert len(rows) == 1
        assert "zq-secret" not in rows[0][0]
        assert PREFIX in rows[0][0]

    async def test_once_erased_it_is_gone_from_kept_answers_too(self, office: Office):
        headers = key()
        said = {"name": "A vendor", "kind": "vendor", "contacts": [{"name": "Contact zq-secret"}]}
        created = applied(await office.post("analyst", "/parties", said, headers=headers), 201)
        async with office.database.write(Reach.INSTANCE) as session:
            await office.vault.destroy(session, created["id"])
            await session.commit()
        again = applied(await office.post("analyst", "/parties", said, headers=headers), 201)
        assert again["contacts"] == "erased"
        refused = await office.patch("admin2", f"/parties/{created['id']}", {"contacts": [{"name": "New"}]})
        problem(refused, 409, "erased")

    async def test_who_is_no_longer_an_admin_does_not_see_bank_details_in_a_kept_answer(self, office: Office):
        who = await office.newcomer("admin")
        headers = key()
        said = {"name": "A vendor", "kind": "vendor", "bank_details": BANK}
        first = await office.post(who, "/parties", said, headers=headers)
        assert "zq-secret" in first.text
        await take_roles(office, who, "analyst")
        again = await office.post(who, "/parties", said, headers=headers)
        assert again.headers["idempotency-replayed"] == "true"
        assert "zq-secret" not in again.text
        assert '"protected"' in again.text
        ok(again, first.status_code)
