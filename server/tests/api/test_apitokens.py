"""T14, API tokens: they act for their owner, never with more than the owner has now, never as a person,
and end at once."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pmis.api.app import create_app
from pmis.identity import apitokens
from pmis.identity.apitokens import ApiToken
from pmis.kit.db import Reach, WriteSession
from tests.api.expect import applied, ok, problem, waits
from tests.api.office import PREFIX, make_token, serving, settings_for
from tests.api.rows import ROWS, Place
from tests.api.test_replays import take_roles

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio


def shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(office: Office, token: str, method: str, path: str, json: Any = None, **headers: str) -> httpx2.Response:
    """One request of a program that shows the token."""
    body = {} if json is None and method != "GET" else json
    return await office.call(None, method, path, body, headers={**shown(token), **headers})


async def facts(office: Office, token_id: UUID) -> list[tuple[str, str]]:
    async with office.database.read(Reach.INSTANCE) as session:
        return [
            (row[0], row[1])
            for row in await session.all(
                "select type, actor from ledger.event where stream_id = %s order by stream_version", (token_id,)
            )
        ]


async def alter(office: Office, token_id: UUID, assignment: str, *values: Any) -> None:
    """Change what is kept of a token, as time would, and let the process read it afresh."""
    async with office.database.write(Reach.INSTANCE) as session:
        await session.execute(f"update identity.api_token set {assignment} where id = %s", (*values, token_id))
        await session.commit()
    office.parts.watch.tell(None)


class TestMaking:
    async def test_it_is_shown_once_and_only_its_digest_is_kept(self, office: Office):
        said = {"name": "Nightly report", "scope": "write", "projects": [office.a.prefix], "expires_in_days": 30}
        who = await office.newcomer("analyst")
        made = ok(await office.post(who, "/tokens", said), 201)
        assert made["token"].startswith("pmist_")
        assert made["hint"] == made["token"][:10]
        assert (made["scope"], made["projects"], made["last_used_at"]) == ("write", [str(office.a.project)], None)
        listed = ok(await office.get(who, "/tokens"))["items"]
        assert listed == [{name: value for name, value in made.items() if name != "token"}]
        async with office.database.read(Reach.INSTANCE) as session:
            kept = await session.all(
                "select t::text from identity.api_token t where id = %(id)s union all "
                "select e::text from ledger.event e where stream_id = %(id)s",
                {"id": made["id"]},
            )
        assert len(kept) == 2
        for (text,) in kept:
            assert made["token"] not in text
            assert made["token"][10:] not in text
        assert await facts(office, made["id"]) == [("token.created", f"person:{office.person(who)}")]

    async def test_its_end_is_required_and_has_a_limit(self, office: Office):
        problem(await office.post("analyst", "/tokens", {"name": "x"}), 422)
        for days in (0, 366, 10**9):
            told = problem(await office.post("analyst", "/tokens", {"name": "x", "expires_in_days": days}), 422)
            assert told["errors"][0]["pointer"] == "/expires_in_days"
        async with serving(create_app(settings_for(office.test_database, api_token_days=7))) as client:
            for days, status in ((7, 201), (8, 422)):
                said = {"name": f"Of {days} {secrets.token_hex(4)}", "expires_in_days": days}
                answer = await client.post(f"{PREFIX}/tokens", json=said, headers=office.headers("analyst"))
                assert answer.status_code == status, answer.text

    async def test_a_name_is_given_once_until_it_is_free_again(self, office: Office):
        who = await office.newcomer("analyst")
        said = {"name": "Nightly", "expires_in_days": 1}
        first = ok(await office.post(who, "/tokens", said), 201)
        problem(await office.post(who, "/tokens", {**said, "name": "NIGHTLY"}), 409, "token_name_taken")
        ok(await office.delete(who, f"/tokens/{first['id']}"))
        ok(await office.post(who, "/tokens", said), 201)

    async def test_of_two_that_are_made_at_once_one_gets_the_name(self, office: Office):
        who = await office.newcomer("analyst")
        answers: list[int] = []

        async def make() -> None:
            answers.append((await office.post(who, "/tokens", {"name": "Same", "expires_in_days": 1})).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(make)
        assert sorted(answers) == [201, *[409] * 7]

    async def test_there_can_be_too_many(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(apitokens, "MAX_TOKENS", 2)
        who = await office.newcomer("analyst")
        for _ in range(2):
            await make_token(office, who)
        problem(await office.post(who, "/tokens", {"name": "x", "expires_in_days": 1}), 409, "too_many_tokens")

    async def test_a_project_that_the_owner_does_not_see_is_not_there(self, office: Office):
        said = {"name": "x", "expires_in_days": 1, "projects": [office.b.prefix]}
        problem(await office.post("analyst", "/tokens", said), 404)

    async def test_pages_follow_each_other(self, office: Office):
        who = await office.newcomer("analyst")
        made = [str((await make_token(office, who))[0]) for _ in range(3)]
        first = ok(await office.get(who, "/tokens?limit=2"))
        rest = ok(await office.get(who, f"/tokens?limit=2&cursor={first['next']}"))
        assert [one["id"] for one in (*first["items"], *rest["items"])] == made[::-1]
        assert rest["next"] is None


class TestUsing:
    async def test_it_says_for_whom_it_acts(self, office: Office):
        identity, token = await make_token(office, "analyst")
        me = ok(await ask(office, token, "GET", "/auth/me"))
        assert me["id"] == str(office.person("analyst"))
        assert (me["token"]["id"], me["token"]["scope"]) == (str(identity), "read")
        assert me["roles"] == {str(office.a.project): ["analyst"]}
        assert ok(await office.get("analyst", "/auth/me"))["token"] is None

    async def test_it_reads_what_its_owner_reads(self, office: Office):
        package = await office.a.make_package()
        other = await office.b.make_package()
        _, token = await make_token(office, "viewer")
        assert ok(await ask(office, token, "GET", f"/packages/{package.id}"))["id"] == str(package.id)
        problem(await ask(office, token, "GET", f"/packages/{other.id}"), 404)

    async def test_one_that_reads_does_not_write(self, office: Office):
        _, token = await make_token(office, "analyst")
        before = await office.count("ledger.event")
        problem(await ask(office, token, "POST", "/packages", {"title": "x"}), 403, "token_scope")
        assert await office.count("ledger.event") == before

    async def test_one_that_writes_proposes_as_a_service_for_its_owner(self, office: Office):
        identity, token = await make_token(office, "operator", scope="write", name="Night shift")
        made = applied(await ask(office, token, "POST", "/packages", {"title": "By night"}), 201)
        timeline = ok(await office.get("operator", f"/packages/{made['id']}/timeline"))["items"]
        told = timeline[0]
        assert (told["actor"], told["actor_name"]) == (f"service:{identity}", "Night shift")
        assert told["on_behalf_of"] == f"person:{office.person('operator')}"

    async def test_its_changes_are_judged_as_those_of_a_service(self, office: Office):
        _, token = await make_token(office, "operator", scope="write")
        said = {"operation": "patch", "target_type": "package", "patch": {"title": "y"}, "impact_level": "medium"}
        package = await office.a.make_package()
        path = f"/packages/{package.id}?dry_run=true"
        by_hand = ok(await office.patch("operator", path, {"title": "y"}))
        by_token = ok(await ask(office, token, "PATCH", path, {"title": "y"}))
        assert said["impact_level"] == "medium"
        assert (by_hand["uncertainty"], by_token["uncertainty"]) == ("low", "medium")

    async def test_a_key_of_its_own(self, office: Office):
        """The same key of the owner and of the token are two keys."""
        _, token = await make_token(office, "operator", scope="write")
        key = secrets.token_hex(8)
        one = applied(await ask(office, token, "POST", "/packages", {"title": "x"}, **{"Idempotency-Key": key}), 201)
        again = await ask(office, token, "POST", "/packages", {"title": "x"}, **{"Idempotency-Key": key})
        assert again.headers["idempotency-replayed"] == "true"
        other = await office.post("operator", "/packages", {"title": "x"}, headers={"Idempotency-Key": key})
        assert applied(other, 201)["id"] != one["id"] == again.json()["resource"]["id"]

    async def test_it_is_confined_to_its_projects(self, office: Office):
        who = await office.newcomer("operator")
        async with office.database.write(Reach.INSTANCE) as session:
            from tests.builders import make_member

            await make_member(session, office.vault, office.b.project, office.person(who), "operator")
            await session.commit()
        office.parts.principals.forget()
        packages = [await world.make_package() for world in (office.a, office.b)]
        _, everywhere = await make_token(office, who)
        _, confined = await make_token(office, who, projects=[office.b.prefix])
        assert [(await ask(office, everywhere, "GET", f"/packages/{one.id}")).status_code for one in packages] == [
            200
        ] * 2
        statuses = [(await ask(office, confined, "GET", f"/packages/{one.id}")).status_code for one in packages]
        assert statuses == [404, 200]
        assert [one["id"] for one in ok(await ask(office, confined, "GET", "/projects"))["items"]] == [
            str(office.b.project)
        ]

    async def test_its_use_is_noted_once_an_hour(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        identity, token = await make_token(office, "analyst")

        async def used() -> Any:
            async with office.database.read(Reach.INSTANCE) as session:
                row = await session.one("select last_used_at from identity.api_token where id = %s", (identity,))
            return row[0] if row else None

        assert await used() is None
        ok(await ask(office, token, "GET", "/auth/me"))
        first = await used()
        assert first is not None
        written = 0
        commit = WriteSession.commit

        async def counted(session: WriteSession) -> None:
            nonlocal written
            written += 1
            await commit(session)

        monkeypatch.setattr(WriteSession, "commit", counted)
        for _ in range(5):
            ok(await ask(office, token, "GET", "/auth/me"))
        assert (written, await used()) == (0, first)
        monkeypatch.undo()
        await alter(office, identity, "last_used_at = last_used_at - interval '61 minutes'")
        ok(await ask(office, token, "GET", "/auth/me"))
        assert await used() >= first


class TestRefusals:
    @pytest.mark.parametrize(
        "make",
        [
            lambda token: token[:-1],
            lambda token: token + "A",
            lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
            lambda token: token.upper(),
            lambda _: "pmist_",
            lambda _: "pmist_" + "A" * 43,
            lambda token: "pmisr_" + token[6:],
            lambda token: token.replace("pmist_", "pmist_%00"),
        ],
    )
    async def test_what_is_no_token_of_ours(self, office: Office, make):
        _, token = await make_token(office, "analyst")
        problem(await ask(office, make(token), "GET", "/auth/me"), 401, "unauthenticated")

    async def test_it_is_taken_from_one_place_only(self, office: Office):
        _, token = await make_token(office, "analyst")
        for headers in ({"Cookie": f"__Host-pmis={token}"}, {"X-Api-Key": token}, {"Authorization": token}):
            problem(await office.get(None, "/auth/me", headers=headers), 401)
        problem(await office.get(None, f"/auth/me?access_token={token}"), 401)

    async def test_after_its_end(self, office: Office):
        identity, token = await make_token(office, "analyst", name="Old")
        await alter(office, identity, "expires_at = now()")
        told = problem(await ask(office, token, "GET", "/auth/me"), 401, "unauthenticated")
        assert "Old" in told["detail"]

    async def test_of_somebody_else_it_can_neither_be_seen_nor_revoked(self, office: Office):
        identity, token = await make_token(office, "analyst")
        for who in ("admin", "root", "inspector", "b:analyst"):
            assert str(identity) not in (await office.get(who, "/tokens")).text
            problem(await office.delete(who, f"/tokens/{identity}"), 404)
        ok(await ask(office, token, "GET", "/auth/me"))

    @pytest.mark.parametrize("who", ["admin", "root"])
    async def test_what_people_do_in_person(self, office: Office, who: str):
        """Whatever its owner may do."""
        identity, token = await make_token(office, who, scope="write")
        before = await office.count("ledger.event")
        for method, path, body in (
            ("GET", "/tokens", None),
            ("POST", "/tokens", {"name": "Another", "expires_in_days": 1}),
            ("DELETE", f"/tokens/{identity}", {}),
            ("GET", "/auth/sessions", None),
            ("DELETE", f"/auth/sessions/{identity}", {}),
            ("GET", "/auth/identities", None),
            ("POST", "/auth/identities", {"provider": "corp"}),
            ("DELETE", f"/auth/identities/{identity}", {}),
            ("POST", "/auth/logout", {"everywhere": True}),
            ("POST", "/auth/password", {"current_password": "x", "new_password": "correct horse battery"}),
        ):
            problem(await ask(office, token, method, path, body), 403, "person_needed")
        for method, path, body in (
            ("POST", "/people", {"name": "x", "email": "x@example.org", "password": "correct horse battery"}),
            ("PATCH", f"/people/{office.person('viewer')}", {"instance_admin": True}),
            ("PATCH", "/policy", {"document": {}}),
            ("POST", "/projects", {"name": "x", "prefix": "ZZTOK", "currency": "EUR"}),
        ):
            assert (await ask(office, token, method, path, body)).status_code in (403, 404, 422), path
        assert await office.count("ledger.event") == before

    async def test_it_neither_decides_nor_confirms(self, office: Office):
        waiting = await office.a.waiting()
        tokens = {who: (await make_token(office, who, scope="write"))[1] for who in ("admin2", "operator", "analyst")}
        path = f"/approvals/{waiting.id}"
        for verdict, body in (("approve", {}), ("reject", {"reason": "No."}), ("request-changes", {"reason": "More."})):
            told = problem(
                await ask(office, tokens["admin2"], "POST", f"{path}/{verdict}", body), 403, "may_not_decide"
            )
            assert told["why"] == "not_a_person"
        package = await office.a.make_package()
        made = await ask(
            office, tokens["analyst"], "PATCH", f"/packages/{package.id}", {"title": "y", "impact_level": "medium"}
        )
        approval = waits(made, "confirmation_required")
        confirming = f"/approvals/{approval['id']}/confirm"
        assert (await ask(office, tokens["analyst"], "POST", confirming)).status_code == 403
        assert applied(await office.post("analyst", confirming, {"digest": approval["digest"]}))["title"] == "y"
        assert ok(await ask(office, tokens["admin2"], "GET", "/approvals?waiting_for=me"))["items"] == []

    async def test_it_takes_back_only_what_came_through_it(self, office: Office):
        _, token = await make_token(office, "analyst", scope="write")
        package = await office.a.make_package()
        for by_token in (False, True):
            said = {"title": f"z{by_token}", "impact_level": "high"}
            made = (
                await ask(office, token, "PATCH", f"/packages/{package.id}", said)
                if by_token
                else await office.patch("analyst", f"/packages/{package.id}", said)
            )
            path = f"/approvals/{waits(made)['id']}/withdraw"
            if by_token:
                assert ok(await ask(office, token, "POST", path, {}))["status"] == "withdrawn"
            else:
                problem(await ask(office, token, "POST", path, {}), 403, "may_not_decide")

    async def test_it_changes_neither_people_nor_roles_nor_seats(self, office: Office):
        _, token = await make_token(office, "admin", scope="write")
        now = office.parts.clock.now()
        lent = {
            "project": str(office.a.project),
            "to_person": str(office.person("admin2")),
            "starts_at": now.isoformat(),
            "ends_at": (now + timedelta(days=1)).isoformat(),
        }
        joined = {"project": str(office.a.project), "person_id": str(office.person("root")), "roles": ["viewer"]}
        for path, said in (("/delegations", lent), ("/memberships", joined)):
            told = problem(await ask(office, token, "POST", path, said), 403, "policy_refused")
            assert "governance.people" in str(told["reasons"])

    async def test_it_leaves_its_owners_notifications_alone(self, office: Office):
        _, token = await make_token(office, "admin", scope="write")
        for method, path, said in (
            ("POST", "/notifications/read", {}),
            ("PATCH", "/notifications/preferences", {"mail": "never"}),
        ):
            problem(await ask(office, token, method, path, said), 403, "person_needed")

    async def test_nobody_agrees_to_what_their_own_token_proposed(self, office: Office):
        _, token = await make_token(office, "admin", scope="write")
        package = await office.a.make_package()
        approval = waits(
            await ask(office, token, "PATCH", f"/packages/{package.id}", {"title": "y", "impact_level": "high"})
        )
        problem(await office.post("admin", f"/approvals/{approval['id']}/approve"), 403)
        assert applied(await office.post("admin2", f"/approvals/{approval['id']}/approve"))["title"] == "y"

    async def test_an_auditor_of_the_instance_reads_all_of_it_through_one_that_is_not_confined(self, office: Office):
        _, token = await make_token(office, "inspector")
        assert ok(await ask(office, token, "GET", "/audit?limit=1"))["items"]
        problem(await ask(office, token, "GET", "/audit/export"), 403)
        _, confined = await make_token(office, "inspector", projects=[office.a.prefix])
        assert ok(await ask(office, confined, "GET", "/projects"))["items"] == []


async def reached(office: Office, token: str, owner: str) -> list[str]:
    """What a token gets through to that its owner does not, over every operation that reads without naming a record."""
    more: list[str] = []
    for row in ROWS:
        if row.method != "GET" or "{" in row.path or row.kind not in ("", "project"):
            continue
        query = f"?{row.query(Place(None, office.b.prefix))}" if row.query else ""
        if row.kind == "project":
            query = f"?project={office.b.prefix}"
        mine = await office.get(owner, row.path + query)
        if (await ask(office, token, "GET", row.path + query)).status_code < mine.status_code:
            more.append(row.name)
    return more


class TestNeverMore:
    """A token never has more than its owner has at the moment it is shown."""

    async def test_with_the_role_goes_the_token(self, office: Office):
        who = await office.newcomer("analyst")
        package = await office.a.make_package()
        _, token = await make_token(office, who, scope="write", projects=[office.a.prefix])
        applied(await ask(office, token, "POST", "/packages", {"title": "x", "project": office.a.prefix}), 201)
        await take_roles(office, who, "viewer")
        ok(await ask(office, token, "GET", f"/packages/{package.id}"))
        said = {"title": "x", "project": office.a.prefix}
        assert (await ask(office, token, "POST", "/packages", said)).status_code == 403
        await take_roles(office, who)
        problem(await ask(office, token, "GET", f"/packages/{package.id}"), 404)

    @pytest.mark.parametrize(
        "who", ["viewer", "analyst", "admin", "executive", "auditor", "inspector", "root", "nobody"]
    )
    async def test_it_reads_nothing_that_they_do_not(self, office: Office, who: str):
        assert await reached(office, (await make_token(office, who))[1], who) == []

    async def test_one_with_rights_of_its_own_is_found(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        """The control."""
        somebody = await office.parts.principals.get(office.person("inspector"))
        monkeypatch.setattr(ApiToken, "principal", lambda *_: somebody)
        found = await reached(office, (await make_token(office, "nobody"))[1], "nobody")
        assert "GET /audit" in found
        assert "GET /packages + project" in found


class TestEnding:
    async def test_revoked_it_is_refused_at_once_and_the_log_says_so(self, office: Office):
        who = await office.newcomer("analyst")
        identity, token = await make_token(office, who)
        ok(await ask(office, token, "GET", "/auth/me"))
        assert ok(await office.delete(who, f"/tokens/{identity}")) == {"revoked": 1}
        problem(await ask(office, token, "GET", "/auth/me"), 401)
        problem(await office.delete(who, f"/tokens/{identity}"), 404)
        assert [fact for fact, _ in await facts(office, identity)] == ["token.created", "token.revoked"]
        assert ok(await office.get(who, "/tokens"))["items"] == []

    async def test_by_every_process_within_a_second(self, office: Office):
        who = await office.newcomer("analyst")
        worst = 0.0
        async with AsyncExitStack() as stack:
            others = [
                await stack.enter_async_context(serving(create_app(settings_for(office.test_database))))
                for _ in range(2)
            ]
            for _ in range(5):
                identity, token = await make_token(office, who)
                for client in others:
                    assert (await client.get(f"{PREFIX}/auth/me", headers=shown(token))).status_code == 200
                ok(await office.delete(who, f"/tokens/{identity}"))
                began = time.monotonic()
                for client in others:
                    while (await client.get(f"{PREFIX}/auth/me", headers=shown(token))).status_code == 200:
                        assert time.monotonic() - began < 5
                        await anyio.sleep(0.005)
                    worst = max(worst, time.monotonic() - began)
        assert worst <= 1, f"{worst:.3f} s"

    async def test_with_its_owner(self, office: Office):
        who = await office.newcomer("analyst")
        identity, token = await make_token(office, who)
        outcome = await office.a.propose("root", "person", "patch", office.person(who), {"active": False})
        assert outcome.approval is not None
        office.people["another root"] = await office.sign_up(
            "Root", f"{secrets.token_hex(6)}@example.org", instance_admin=True
        )
        ok(await office.post("another root", f"/approvals/{outcome.approval.id}/approve"))
        office.parts.watch.tell(None)
        problem(await ask(office, token, "GET", "/auth/me"), 401)
        assert [fact for fact, _ in await facts(office, identity)] == ["token.created", "token.revoked"]

    async def test_what_ended_long_ago_is_forgotten(self, office: Office):
        kept, _ = await make_token(office, "analyst")
        old, _ = await make_token(office, "analyst")
        await alter(office, old, "expires_at = now() - interval '31 days'")
        async with office.database.write(Reach.INSTANCE) as session:
            assert await apitokens.prune(session, now=office.parts.clock.now()) == 1
            await session.commit()
        left = {one["id"] for one in ok(await office.get("analyst", "/tokens?limit=200"))["items"]}
        assert str(kept) in left
        assert str(old) not in left
