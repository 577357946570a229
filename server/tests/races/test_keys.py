"""What a key gives afterwards: across restarts, to whom, and which refusals it keeps (C5, R7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from pmis.approval import propose
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.policy.levels import Level
from tests.api.office import PREFIX
from tests.races.conftest import again
from tests.races.test_duplicates import Stage, take_rights

if TYPE_CHECKING:
    import httpx2

    from tests.api.office import Office
    from tests.races.conftest import Twice

pytestmark = pytest.mark.anyio


async def post(
    office: Office,
    who: str,
    path: str,
    body: Any,
    key: str,
    *,
    client: httpx2.AsyncClient | None = None,
    **headers: str,
) -> httpx2.Response:
    return await (client or office.client).post(
        PREFIX + path, json=body, headers={**office.headers(who), "Idempotency-Key": key, **headers}
    )


def package(office: Office, title: str = "A package") -> dict[str, Any]:
    return {"title": title, "project": str(office.a.project)}


@pytest.fixture
def office(twice: Twice) -> Office:
    return twice.office


@pytest.fixture
def key() -> str:
    return str(uuid7())


async def test_i3_an_answer_survives_a_restart(office: Office, key: str):
    first = await post(office, "operator", "/packages", package(office), key)
    async with again(office) as (_, client):
        second = await post(office, "operator", "/packages", package(office), key, client=client)
    assert second.content == first.content
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]


async def test_i3_whoever_comes_while_it_runs_is_told_when_to_come_back(office: Office, key: str):
    person = office.person("operator")
    async with again(office, lock_timeout_ms=200) as (_, client):
        with psycopg.connect(office.test_database.app_dsn) as running:
            running.execute("select ledger.claim(%s, %s, %s)", (f"person:{person}", key, b"running"))
            answer = await post(office, "operator", "/packages", package(office), key, client=client)
            running.rollback()
        assert (answer.status_code, answer.json()["code"]) == (409, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        # It was not kept: the same request under the same key goes through once nobody holds it.
        assert (await post(office, "operator", "/packages", package(office), key, client=client)).status_code == 201


class TestReauthorised:
    async def test_r7_who_left_the_project_does_not_get_the_answer_again(self, office: Office, key: str):
        who = await office.newcomer("operator")
        first = await post(office, who, "/packages", package(office), key)
        assert first.status_code == 201
        assert (await post(office, who, "/packages", package(office), key)).content == first.content
        await self._roles(office, who)
        gone = await post(office, who, "/packages", package(office), key)
        assert gone.status_code == 404
        assert first.json()["resource"]["code"] not in gone.text
        await self._roles(office, who, "viewer")
        assert (await post(office, who, "/packages", package(office), key)).content == first.content

    async def test_r7_who_founded_a_project_gets_that_answer_again_until_they_lose_it(self, office: Office, key: str):
        who = await self._chief(office)
        body = {"name": "A project", "prefix": f"K{uuid7().hex[-8:].upper()}", "currency": "EUR"}
        first = await post(office, who, "/projects", body, key)
        assert first.status_code == 201
        assert (await office.get(who, f"/projects/{first.json()['resource']['id']}")).status_code == 200
        assert (await post(office, who, "/projects", body, key)).content == first.content
        await take_rights(office, who)
        gone = await post(office, who, "/projects", body, key)
        assert gone.status_code == 404
        assert body["prefix"] not in gone.text

    async def test_r7_an_answer_of_the_instance_needs_the_rights_it_was_given_to(self, office: Office, key: str):
        who = await self._chief(office)
        body = {"name": "Somebody", "email": f"{uuid7().hex}@example.org", "password": "correct horse battery"}
        first = await post(office, who, "/people", body, key)
        assert first.status_code in (201, 202)
        assert (await post(office, who, "/people", body, key)).content == first.content
        await take_rights(office, who)
        gone = await post(office, who, "/people", body, key)
        assert (gone.status_code, gone.json()["code"]) == (403, "access_changed")

    async def test_another_person_with_the_same_key_is_another_request(self, office: Office, key: str):
        one = await post(office, "operator", "/packages", package(office, "One"), key)
        other = await post(office, "analyst", "/packages", package(office, "Two"), key)
        assert (one.status_code, other.status_code) == (201, 201)
        assert one.json()["resource"]["id"] != other.json()["resource"]["id"]

    async def _roles(self, office: Office, who: str, *roles: str) -> None:
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select id from state.membership where person_id = %s", (office.person(who),))
        assert row is not None
        await office.a.do("membership", "patch", row[0], {"roles": list(roles)}, who="admin")
        office.parts.principals.forget()

    async def _chief(self, office: Office) -> str:
        return await Stage(office).chief()


class TestRefusals:
    """What the domain decided is kept; what another time may decide otherwise is not."""

    async def test_a_conflict_is_kept(self, office: Office, key: str):
        draft = await office.a.make_package()
        path, body = f"/packages/{draft.id}/transitions", {"status": "in_review"}
        refused = await post(office, "operator", path, body, key)
        assert (refused.status_code, refused.json()["code"]) == (409, "transition_refused")
        await office.a.do("package", "transition", draft.id, {"status": "submitted"})
        assert (await post(office, "operator", path, body, key)).content == refused.content
        assert (await post(office, "operator", path, body, str(uuid7()))).status_code == 202

    async def test_a_stale_version_is_kept(self, office: Office, key: str):
        draft = await office.a.make_package()
        url, headers = f"{PREFIX}/packages/{draft.id}", {**office.headers("operator"), "Idempotency-Key": key}
        headers["If-Match"] = '"2"'
        refused = await office.client.patch(url, json={"title": "New"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (412, "stale_version")
        await office.a.do("package", "patch", draft.id, {"description": "Moved"})
        assert (await office.client.patch(url, json={"title": "New"}, headers=headers)).content == refused.content
        other = {**headers, "Idempotency-Key": str(uuid7())}
        assert (await office.client.patch(url, json={"title": "New"}, headers=other)).status_code == 200

    async def test_nothing_to_change_is_kept(self, office: Office, key: str):
        draft = await office.a.make_package(title="As it is")
        url, headers = f"{PREFIX}/packages/{draft.id}", {**office.headers("operator"), "Idempotency-Key": key}
        refused = await office.client.patch(url, json={"title": "As it is"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "nothing_to_change")
        await office.a.do("package", "patch", draft.id, {"title": "Otherwise"})
        assert (await office.client.patch(url, json={"title": "As it is"}, headers=headers)).content == refused.content

    async def test_a_refusal_that_writes_is_kept_with_what_it_wrote(self, office: Office, key: str):
        """An approval that is void stays void, and says so again in the same words."""
        draft = await office.a.make_package()
        waiting = (
            await office.a.propose("analyst", "package", "patch", draft.id, {"title": "Mine"}, stated_impact=Level.HIGH)
        ).approval
        assert waiting is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(propose, "_void_drifted", lambda *_, **__: None)
            await office.a.do("package", "patch", draft.id, {"title": "Yours"})
        path = f"/approvals/{waiting.id}/approve"
        refused = await post(office, "admin", path, {}, key)
        assert (refused.status_code, refused.json()["code"]) == (409, "approval_void")
        assert refused.json()["colliding"] == ["title"]
        assert (await office.a.approval(waiting)).status == "voided"
        assert (await post(office, "admin", path, {}, key)).content == refused.content
        assert (await post(office, "admin", path, {}, str(uuid7()))).json()["code"] == "approval_closed"

    async def test_who_may_not_is_not(self, office: Office, key: str):
        who = await office.newcomer("viewer")
        refused = await post(office, who, "/packages", package(office), key)
        assert refused.status_code == 403
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select id from state.membership where person_id = %s", (office.person(who),))
        assert row is not None
        await office.a.do("membership", "patch", row[0], {"roles": ["operator"]}, who="admin")
        office.parts.principals.forget()
        assert (await post(office, who, "/packages", package(office), key)).status_code == 201

    async def test_what_is_not_there_is_not(self, office: Office, key: str):
        path = f"/approvals/{uuid7()}/approve"
        assert (await post(office, "admin", path, {}, key)).status_code == 404
        assert await self._kept(office, key) == 0

    async def test_nobody_is_not(self, office: Office, key: str):
        answer = await office.client.post(
            f"{PREFIX}/packages", json=package(office), headers={"Idempotency-Key": key, "Authorization": "Bearer x"}
        )
        assert answer.status_code == 401
        assert await self._kept(office, key) == 0

    async def test_a_held_record_is_not(self, office: Office, key: str):
        draft = await office.a.make_package()
        async with again(office, lock_timeout_ms=200) as (_, client):
            headers = {**office.headers("operator"), "Idempotency-Key": key}
            with psycopg.connect(office.test_database.app_dsn, options="-c pmis.reach=*") as holder:
                holder.execute("select 1 from state.package where id = %s for update", (draft.id,))
                busy = await client.patch(f"{PREFIX}/packages/{draft.id}", json={"title": "New"}, headers=headers)
                holder.rollback()
            assert (busy.status_code, busy.json()["code"]) == (409, "busy")
            assert int(busy.headers["retry-after"]) >= 1
            done = await client.patch(f"{PREFIX}/packages/{draft.id}", json={"title": "New"}, headers=headers)
        assert done.status_code == 200

    async def test_a_fault_is_not(self, office: Office, key: str):
        def fail(*_: Any) -> None:
            message = "a fault of ours"
            raise RuntimeError(message)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(propose, "promise_changes", fail)
            broken = await post(office, "operator", "/packages", package(office), key)
        assert broken.status_code == 500
        assert "fault of ours" not in broken.text
        assert await self._kept(office, key) == 0
        assert (await post(office, "operator", "/packages", package(office), key)).status_code == 201

    async def test_a_malformed_key_is_refused_before_anything_is_done(self, office: Office):
        before = await office.count()
        for bad in ("", "with space", "x" * 256):
            answer = await post(office, "operator", "/packages", package(office), bad)
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed_idempotency_key")
        assert await office.count() == before

    async def test_without_a_key_each_request_is_another(self, office: Office):
        answers = [await office.post("operator", "/packages", package(office)) for _ in range(2)]
        assert len({json.loads(answer.content)["resource"]["id"] for answer in answers}) == 2

    async def _kept(self, office: Office, key: str) -> int:
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select count(*) from ledger.idempotency where key = %s", (key,))
        return row[0] if row else -1


async def test_secrets_are_kept_as_references_and_opened_for_each_answer(office: Office, key: str):
    body = {
        "name": "A vendor",
        "kind": "vendor",
        "project": str(office.a.project),
        "contacts": [{"name": "Kept Nowhere In Clear"}],
    }
    first = await post(office, "operator", "/parties", body, key)
    assert "Kept Nowhere In Clear" in first.text
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one("select body from ledger.idempotency where key = %s", (key,))
    assert row is not None
    assert b"Kept Nowhere" not in bytes(row[0])
    assert b"sealed:" in bytes(row[0])
    assert (await post(office, "operator", "/parties", body, key)).content == first.content
    async with office.database.write(Reach.INSTANCE) as session:
        await office.vault.destroy(session, UUID(first.json()["resource"]["id"]))
        await session.commit()
    erased = await post(office, "operator", "/parties", body, key)
    assert "Kept Nowhere In Clear" not in erased.text
    assert erased.json()["resource"]["contacts"] == "erased"
