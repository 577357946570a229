"""Invitations: who may send them and to what, who accepts them and becomes what, once, and what the log says of it."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
import pytest

from pmis.identity import invitations
from pmis.identity.invitations import CLOCK, INVITATIONS
from pmis.identity.invitations import PREFIX as TOKEN
from pmis.kit.db import Reach
from pmis.kit.errors import PmisError
from pmis.ledger.event import Origin
from pmis.ledger.replay import differences_in_memory
from pmis.ledger.store import entity_as_of
from pmis.nouns import PROJECTIONS
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD
from tests.builders import make_member

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio
WEAK: Final = "password1234"


class Desk:
    """An administrator of the instance and of project A, who invites, and another who agrees."""

    def __init__(self, office: Office, chief: str) -> None:
        self.office = office
        self.chief = chief

    async def invite(self, *roles: str, who: str | None = None, **more: Any) -> tuple[dict[str, Any], str]:
        """An invitation whose person was agreed; what was answered, and the address."""
        email = f"n{secrets.token_hex(6)}@example.org"
        said = {"email": email, "name": "Nia New", **more}
        if roles:
            said["roles"] = [{"project": self.office.a.prefix, "roles": list(roles)}]
        answer = ok(await self.office.post(who or self.chief, "/invitations", said), 202)
        return answer, email

    async def confirm(self, answer: dict[str, Any]) -> None:
        approval = answer["proposals"][0]["approval"]
        ok(await self.office.post(self.chief, f"/approvals/{approval['id']}/confirm", {}))

    async def agree(self, answer: dict[str, Any], *, who: str = "admin2") -> None:
        """Agree to the roles, as another administrator of the project."""
        for one in answer["proposals"][1:]:
            ok(await self.office.post(who, f"/approvals/{one['approval']['id']}/approve", {}))

    async def sent(self, *roles: str, **more: Any) -> tuple[str, str, str]:
        """An invitation that is agreed in all: its id, the address, and its token."""
        answer, email = await self.invite(*roles, **more)
        await self.confirm(answer)
        await self.agree(answer)
        return answer["id"], email, await self.token(answer["id"])

    async def token(self, identity: str) -> str:
        """Send it again, and take the token from the link."""
        link = ok(await self.office.post(self.chief, f"/invitations/{identity}/resend", {}))["link"]
        base, _, token = link.partition("#")
        assert base == f"{self.office.parts.settings.public}/invitation"
        assert token.startswith(TOKEN)
        return token

    async def accept(self, token: str, **more: Any) -> httpx2.Response:
        return await self.office.post(None, "/invitations/accept", {"token": token, "password": PASSWORD, **more})

    async def me(self, email: str) -> dict[str, Any]:
        """Sign in with the address; who that is."""
        login = await self.office.post(None, "/auth/login", {"email": email, "password": PASSWORD})
        headers = {"Authorization": f"Bearer {ok(login)['access_token']}"}
        return ok(await self.office.get(None, "/auth/me", headers=headers))

    async def events(self, *streams: str) -> list[tuple[str, dict[str, Any], str]]:
        async with self.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select type, payload, actor from ledger.event where stream_id = any(%s) order by position",
                ([UUID(one) for one in streams],),
            )
        return [(kind, json.loads(payload), actor) for kind, payload, actor in rows]

    async def replayed(self, identity: str) -> None:
        """The tables are what the log makes of them: the invitation, and everything in the project."""
        project = self.office.a.project
        async with self.office.database.snapshot(Reach.INSTANCE) as session:
            head = await invitations.find(session, UUID(identity))
            assert head == await entity_as_of(session, INVITATIONS, head.id, datetime.max.replace(tzinfo=UTC))
            assert await differences_in_memory(session, PROJECTIONS, project_id=project) == []

    def age(self, identity: str) -> None:
        """Let its time be over."""
        with psycopg.connect(self.office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "update state.invitation set expires_at = now() - interval '1 second', doc = "
                "jsonb_set(doc::jsonb, '{expires_at}', to_jsonb(to_char(now() at time zone 'utc' - interval '1 second',"
                ' \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')))::text where id = %s',
                (identity,),
            )


@pytest.fixture(scope="module")
async def desk(office: Office) -> Desk:
    name = f"chief-{secrets.token_hex(4)}"
    office.people[name] = await office.sign_up("Chief", f"{name}@example.org", instance_admin=True)
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(session, office.vault, office.a.project, office.people[name], "admin")
        await session.commit()
    office.sign_in(name)
    return Desk(office, name)


async def another(office: Office) -> Desk:
    """An administrator of the instance who is in no project."""
    name = f"second-{secrets.token_hex(4)}"
    office.people[name] = await office.sign_up("Second", f"{name}@example.org", instance_admin=True)
    office.sign_in(name)
    return Desk(office, name)


class TestTheWay:
    async def test_each_part_is_agreed_where_it_would_be(self, desk: Desk):
        answer, _ = await desk.invite("analyst", instance_auditor=True)
        person, roles = answer["proposals"]
        assert [one["approval"]["target_type"] for one in (person, roles)] == ["invitation"] * 2
        assert (person["approval"]["project_id"], roles["approval"]["project_id"]) == (
            None,
            str(desk.office.a.project),
        )
        # As `POST /people` and `POST /memberships` are judged.
        said = {"name": "X", "email": "judged@example.org", "password": PASSWORD, "instance_auditor": True}
        made = ok(await desk.office.post(desk.chief, "/people", said), 202)
        joins = {"project": desk.office.a.prefix, "person_id": str(desk.office.person("root")), "roles": ["analyst"]}
        joined = ok(await desk.office.post(desk.chief, "/memberships", joins), 202)
        for one, direct in ((person, made), (roles, joined)):
            assert (one["outcome"], one["route"], one["rule"]) == (direct["outcome"], direct["route"], direct["rule"])
            assert one["reasons"] == direct["reasons"]

    async def test_an_accepted_one_makes_the_person_with_exactly_the_roles(self, office: Office, desk: Desk):
        answer, email = await desk.invite("analyst", "operator")
        await desk.confirm(answer)
        await desk.agree(answer)
        shown = ok(await office.get(desk.chief, f"/invitations/{answer['id']}"))
        assert (shown["status"], shown["email"], shown["name"]) == ("open", email, "Nia New")
        assert [(one["roles"], one["status"]) for one in shown["roles"]] == [(["analyst", "operator"], "open")]
        token = await desk.token(answer["id"])
        problem(await desk.accept(token, name="The Chief"), 422, "invalid_input")  # what was agreed is who they are
        made = ok(await desk.accept(token), 201)
        assert made == {"person_id": answer["person_id"], "name": "Nia New", "email": email}
        me = await desk.me(email)
        assert (me["id"], me["name"]) == (answer["person_id"], "Nia New")
        assert me["roles"] == {str(office.a.project): ["analyst", "operator"]}
        assert (me["instance_admin"], me["instance_auditor"]) == (False, False)
        shown = ok(await office.get(desk.chief, f"/invitations/{answer['id']}"))
        assert (shown["status"], [one["status"] for one in shown["roles"]]) == ("accepted", ["accepted"])
        [(kind, payload, actor)] = await desk.events(answer["person_id"])
        assert (kind, actor) == ("person.created", f"person:{answer['person_id']}")
        assert payload["governance"] == {
            "route": "INVITATION",
            "rule": "invitation.accepted",
            "invitation_id": answer["id"],
        }
        kinds = [kind for kind, _, _ in await desk.events(answer["id"])]
        assert kinds == ["invitation.created", "invitation.sent", "invitation.accepted"]
        problem(await desk.accept(token), 401, "invitation_not_good")
        await desk.replayed(answer["id"])

    async def test_roles_that_are_agreed_later_count_from_then(self, office: Office, desk: Desk):
        answer, email = await desk.invite("viewer")
        await desk.confirm(answer)
        ok(await desk.accept(await desk.token(answer["id"])), 201)
        assert (await desk.me(email))["roles"] == {}
        await desk.agree(answer)
        office.parts.principals.forget(UUID(answer["person_id"]))
        assert (await desk.me(email))["roles"] == {str(office.a.project): ["viewer"]}
        await desk.replayed(answer["id"])

    async def test_rights_on_the_instance_take_an_executive(self, office: Office, desk: Desk):
        answer, email = await desk.invite(instance_admin=True)
        assert answer["proposals"][0]["route"] == "EXECUTIVE_APPROVAL"
        approval = answer["proposals"][0]["approval"]["id"]
        problem(await office.post(desk.chief, f"/approvals/{approval}/approve", {}), 403)
        for who in ("root", "executive"):
            ok(await office.post(who, f"/approvals/{approval}/approve", {}))
        ok(await desk.accept(await desk.token(answer["id"])), 201)
        assert (await desk.me(email))["instance_admin"] is True

    async def test_before_it_is_agreed_there_is_none(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("viewer")
        for method, path in (("GET", ""), ("POST", "/resend"), ("POST", "/revoke")):
            problem(await office.call(desk.chief, method, f"/invitations/{answer['id']}{path}"), 404, "not_found")

    async def test_the_address_stands_in_no_event(self, desk: Desk):
        identity, email, token = await desk.sent("viewer")
        ok(await desk.accept(token), 201)
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select 1 from ledger.event where payload like %s", (f"%{email}%",))
            assert rows == []
            rows = await session.all("select 1 from ledger.event where payload like %s", (f"%{identity}%",))
        assert rows

    async def test_the_token_stands_nowhere(self, desk: Desk):
        _, _, token = await desk.sent("viewer")
        ok(await desk.accept(token), 201)
        proof = token.removeprefix(TOKEN)[24:]
        with psycopg.connect(desk.office.test_database.admin_dsn) as connection:
            tables = connection.execute(
                "select format('%I.%I', schemaname, tablename) from pg_tables "
                "where schemaname in ('ledger', 'state', 'identity', 'jobs', 'notify')"
            ).fetchall()
            assert len(tables) > 20
            for (table,) in tables:
                query = f"select count(*) from {table} t where t::text like %s"
                assert connection.execute(query, (f"%{proof}%",)).fetchone() == (0,), table  # type: ignore[arg-type]


class TestWhoMay:
    @pytest.mark.parametrize("who", ["viewer", "admin", "executive", "auditor", "nobody", "inspector"])
    async def test_only_administrators_of_the_instance_invite(self, office: Office, who: str):
        before = await office.count()
        said = {"email": "x@example.org", "name": "X", "roles": []}
        problem(await office.post(who, "/invitations", said), 403, "forbidden")
        assert await office.count() == before

    async def test_nobody_invites_to_roles_that_they_could_not_grant(self, office: Office, desk: Desk):
        said = {"email": f"{secrets.token_hex(4)}@example.org", "name": "X"}
        before = await office.count("ledger.event", "ledger.vault", "identity.invited")
        # An administrator of the instance alone grants no roles in a project, nor knows of it.
        one = {**said, "roles": [{"project": str(office.a.project), "roles": ["viewer"]}]}
        problem(await office.post("root", "/invitations", one), 404, "not_found")
        # One who is a viewer there knows of it.
        await office_member(office, desk.chief, office.b.project, "viewer")
        one = {**said, "roles": [{"project": str(office.b.project), "roles": ["viewer"]}]}
        after_membership = await office.count("ledger.event", "ledger.vault", "identity.invited")
        problem(await office.post(desk.chief, "/invitations", one), 403, "forbidden")
        assert await office.count("ledger.event", "ledger.vault", "identity.invited") == after_membership
        assert before[1:] == after_membership[1:]

    async def test_nobody_agrees_to_their_own_roles(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("admin")
        approval = answer["proposals"][1]["approval"]["id"]
        problem(await office.post(desk.chief, f"/approvals/{approval}/approve", {}), 403)

    async def test_a_project_reads_of_its_own_roles_alone(self, office: Office, desk: Desk):
        answer, email = await desk.invite("viewer")
        person, roles = (one["approval"]["id"] for one in answer["proposals"])
        assert email not in (await office.get("admin2", f"/approvals/{roles}")).text
        problem(await office.get("admin2", f"/approvals/{person}"), 404)
        assert email in (await office.get("root", f"/approvals/{person}")).text
        problem(await office.get("root", f"/approvals/{roles}"), 404)

    async def test_whoever_reads_of_an_invitation_reads_of_their_own_projects_alone(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("viewer")
        await desk.confirm(answer)
        await desk.agree(answer)
        identity, project = answer["id"], str(office.a.project)

        async def roles(who: str) -> list[str]:
            shown = ok(await office.get(who, f"/invitations/{identity}"))
            (listed,) = [
                one
                for one in ok(await office.get(who, "/invitations?status=open&limit=200"))["items"]
                if one["id"] == identity
            ]
            assert listed == shown
            return [one["project_id"] for one in shown["roles"]]

        assert await roles(desk.chief) == await roles("inspector") == [project]
        assert await roles("root") == [], "administering the instance lets nobody see into a project"
        revoked = ok(await office.post("root", f"/invitations/{identity}/revoke", {}))
        assert (revoked["status"], revoked["roles"]) == ("revoked", [])
        shown = ok(await office.get(desk.chief, f"/invitations/{identity}"))
        assert [one["status"] for one in shown["roles"]] == ["revoked"], "what they do not see is ended all the same"

    async def test_without_mail_the_link_is_the_inviters_alone_and_freshly_proved(self, office: Office, desk: Desk):
        second = await another(office)
        answer, _ = await second.invite()
        await second.confirm(answer)
        identity, token = answer["id"], await second.token(answer["id"])
        for who in ("root", desk.chief):
            problem(await office.post(who, f"/invitations/{identity}/resend", {}), 403, "forbidden")
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute(
                "update identity.session set authenticated_at = authenticated_at - interval '1 day' "
                "where person_id = %s",
                (office.people[second.chief],),
            )
        office.parts.watch.tell(None)
        problem(await office.post(second.chief, f"/invitations/{identity}/resend", {}), 403, "step_up_needed")
        ok(await desk.accept(token), 201)

    async def test_a_program_invites_nobody(self, office: Office, desk: Desk):
        said = {"name": secrets.token_hex(4), "scope": "write", "expires_in_days": 1}
        token = ok(await office.post(desk.chief, "/tokens", said), 201)["token"]
        headers = {"Authorization": f"Bearer {token}"}
        body = {"email": "x@example.org", "name": "X"}
        problem(await office.post(None, "/invitations", body, headers=headers), 403)

    async def test_it_is_proposed_at_its_own_address_alone(self, office: Office, desk: Desk):
        change = {
            "operation": "create",
            "target_type": "invitation",
            "patch": {"person_id": str(office.person("root"))},
        }
        answer = problem(await office.post(desk.chief, "/proposals", {"changes": [change]}), 422, "invalid_input")
        assert "invitation" not in answer["detail"].partition("use one of")[2]

    async def test_it_is_not_changed_on_the_way(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("viewer")
        approval = answer["proposals"][1]["approval"]
        ok(await office.post("admin2", f"/approvals/{approval['id']}/request-changes", {"reason": "More."}))
        said = {"patches": {approval["target_id"]: {"roles": ["admin"]}}}
        problem(await office.post(desk.chief, f"/approvals/{approval['id']}/revise", said), 422, "invalid_input")
        again = ok(await office.post(desk.chief, f"/approvals/{approval['id']}/revise", {}), 202)
        assert again["approval"]["supersedes"] == approval["id"]


async def office_member(office: Office, who: str, project: UUID, *roles: str) -> None:
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(session, office.vault, project, office.person(who), *roles)
        await session.commit()
    office.parts.principals.forget(office.person(who))


class TestAddresses:
    async def test_of_somebody_who_is_here(self, office: Office, desk: Desk):
        email = f"{secrets.token_hex(4)}@example.org"
        await office.sign_up("Here", email)
        said = {"email": email.upper(), "name": "X"}
        answer = problem(await office.post(desk.chief, "/invitations", said), 409, "already_exists")
        assert "Grant them roles instead" in answer["detail"]
        # Whoever may not invite is not told who is here.
        answer = problem(await office.post("admin", "/invitations", said), 403, "forbidden")
        assert email not in json.dumps(answer).lower()

    async def test_of_somebody_who_is_invited_already(self, office: Office, desk: Desk):
        identity, email, _ = await desk.sent()
        answer = problem(await office.post(desk.chief, "/invitations", {"email": email, "name": "X"}), 409)
        assert "revoke" in answer["detail"]
        ok(await office.post(desk.chief, f"/invitations/{identity}/revoke", {}))
        ok(await office.post(desk.chief, "/invitations", {"email": email, "name": "X"}), 202)

    async def test_two_that_were_proposed_at_once(self, office: Office, desk: Desk):
        first, email = await desk.invite()
        second = ok(await office.post(desk.chief, "/invitations", {"email": email, "name": "X"}), 202)
        await desk.confirm(first)
        approval = second["proposals"][0]["approval"]["id"]
        problem(await office.post(desk.chief, f"/approvals/{approval}/confirm", {}), 409, "already_exists")

    async def test_that_somebody_got_in_the_meantime(self, office: Office, desk: Desk):
        identity, email, token = await desk.sent()
        await office.sign_up("Quicker", email)
        problem(await desk.accept(token), 409, "already_exists")
        assert ok(await office.get(desk.chief, f"/invitations/{identity}"))["status"] == "open"


class TestOver:
    async def test_a_revoked_one_is_good_for_nothing(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("viewer")
        await desk.confirm(answer)
        token = await desk.token(answer["id"])
        shown = ok(await office.post(desk.chief, f"/invitations/{answer['id']}/revoke", {}))
        assert shown["status"] == "revoked"
        problem(await desk.accept(token), 401, "invitation_not_good")
        for path in ("resend", "revoke"):
            problem(await office.post(desk.chief, f"/invitations/{answer['id']}/{path}", {}), 409, "invitation_over")
        # Roles that still waited are void.
        approval = answer["proposals"][1]["approval"]["id"]
        problem(await office.post("admin2", f"/approvals/{approval}/approve", {}), 409, "approval_void")
        await desk.replayed(answer["id"])

    async def test_sent_again_the_link_before_is_void(self, desk: Desk):
        identity, _, first = await desk.sent()
        second = await desk.token(identity)
        assert first != second
        problem(await desk.accept(first), 401, "invitation_not_good")
        ok(await desk.accept(second), 201)

    async def test_past_its_time_it_is_not_good_and_is_ended_by_the_clock(self, office: Office, desk: Desk):
        identity, email, token = await desk.sent("viewer")
        _, _, other = await desk.sent("viewer")
        desk.age(identity)
        problem(await desk.accept(token), 401, "invitation_not_good")
        async with office.database.write(Reach.INSTANCE) as session:
            assert await invitations.expire_due(session) == 1
            await session.commit()
        async with office.database.write(Reach.INSTANCE) as session:
            assert await invitations.expire_due(session) == 0
            rows = await session.all("select 1 from identity.invited where email = %s", (email,))
        assert rows == []
        shown = ok(await office.get(desk.chief, f"/invitations/{identity}"))
        assert (shown["status"], shown["roles"][0]["status"]) == ("expired", "expired")
        ok(await desk.accept(other), 201)

    async def test_roles_of_somebody_nobody_agreed_to_end(self, office: Office, desk: Desk):
        answer, _ = await desk.invite("viewer")
        await desk.agree(answer)

        async def state() -> list[tuple[str]]:
            async with office.database.write(Reach.INSTANCE) as session:
                await invitations.expire_due(session)
                await session.commit()
                return await session.all(
                    "select status from state.invitation where person_id = %s", (UUID(answer["person_id"]),)
                )

        assert await state() == [("open",)], "the person is still to be agreed"
        head = answer["proposals"][0]["approval"]["id"]
        ok(await office.post(desk.chief, f"/approvals/{head}/withdraw", {}))
        assert await state() == [("expired",)]

    @pytest.mark.parametrize("change", [{"active": False}, {"instance_admin": False}], ids=["disabled", "demoted"])
    async def test_with_the_inviter_their_invitations_end(self, office: Office, desk: Desk, change: dict[str, Any]):
        second = await another(office)
        name = second.chief
        answer, email = await second.invite()
        await second.confirm(answer)
        token = await second.token(answer["id"])
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            for field, value in change.items():
                connection.execute(
                    f"update state.person set {field} = %s where id = %s".encode(), (value, office.people[name])
                )
        problem(await desk.accept(token), 401, "invitation_not_good")
        async with office.database.write(Reach.INSTANCE) as session:
            with pytest.raises(invitations.InvitationOverError, match="may no longer invite"):
                await invitations.send_again(
                    session, UUID(answer["id"]), longest_days=9, origin=Origin(CLOCK, "system", "test")
                )
        async with office.database.write(Reach.INSTANCE) as session:
            assert await invitations.expire_due(session) == 1
            assert await session.all("select 1 from identity.invited where email = %s", (email,)) == []
            await session.commit()
        assert ok(await office.get(desk.chief, f"/invitations/{answer['id']}"))["status"] == "revoked"
        assert (await desk.events(answer["id"]))[-1][2] == "system:expiry"

    async def test_sent_again_and_again_it_ends_all_the_same(self, office: Office, desk: Desk):
        identity, _, _ = await desk.sent(expires_in_days=3)
        async with office.database.write(Reach.INSTANCE) as session:
            chief = office.people[desk.chief]
            head = await invitations.find(session, UUID(identity))
            for longest, days in ((2, 2), (9, 3)):
                head = await invitations.send_again(
                    session, head.id, longest_days=longest, by=chief, origin=Origin(CLOCK, "system", "test")
                )
                assert head.expires_at == session.now + timedelta(days=days)
            with pytest.MonkeyPatch.context() as patched:
                # Its time is over before the last day of all: nobody sent it again in between.
                patched.setattr(session, "now", head.created_at + timedelta(days=invitations.LONGEST_DAYS - 1))
                with pytest.raises(invitations.InvitationOverError, match="has expired"):
                    await invitations.send_again(
                        session, head.id, longest_days=9, origin=Origin(CLOCK, "system", "test")
                    )
            while head.created_at + timedelta(days=invitations.LONGEST_DAYS - 1) > session.now:
                session.now += timedelta(days=1)
                head = await invitations.send_again(
                    session, head.id, longest_days=9, origin=Origin(CLOCK, "system", "test")
                )
            head = await invitations.send_again(
                session, head.id, longest_days=9, origin=Origin(CLOCK, "system", "test")
            )
            assert head.expires_at == head.created_at + timedelta(days=invitations.LONGEST_DAYS)
            session.now = head.created_at + timedelta(days=invitations.LONGEST_DAYS)
            with pytest.raises(invitations.InvitationOverError, match="has expired"):
                await invitations.send_again(session, head.id, longest_days=9, origin=Origin(CLOCK, "system", "test"))

    async def test_time_is_bounded_by_the_setting(self, office: Office, desk: Desk):
        longest = office.parts.settings.invitation_days
        said = {"email": "long@example.org", "name": "X", "expires_in_days": longest + 1}
        problem(await office.post(desk.chief, "/invitations", said), 422, "invalid_input")
        answer, _ = await desk.invite(expires_in_days=2)
        await desk.confirm(answer)
        shown = ok(await office.get(desk.chief, f"/invitations/{answer['id']}"))
        async with office.database.write(Reach.INSTANCE) as session:
            left = datetime.fromisoformat(shown["expires_at"]) - session.now
        assert timedelta(days=2) - timedelta(minutes=1) < left <= timedelta(days=2)


class TestBadTokens:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
            lambda token: token.removeprefix(TOKEN),
            lambda token: TOKEN + "A" * 64,
            lambda token: token + "A",
            lambda token: TOKEN + "é" * 64,
            lambda token: token.replace("pmisi_", "pmisr_"),
            lambda token: " " + token,
        ],
    )
    async def test_all_are_answered_alike(self, desk: Desk, spoil: Callable[[str], str]):
        _, _, token = await desk.sent()
        good = problem(await desk.accept(TOKEN + "B" * 64), 401, "invitation_not_good")
        refused = problem(await desk.accept(spoil(token)), 401, "invitation_not_good")
        assert refused["detail"] == good["detail"]
        ok(await desk.accept(token), 201)

    async def test_a_refusal_is_an_event(self, office: Office, desk: Desk):
        correlation = secrets.token_hex(8)
        answer = await office.post(
            None,
            "/invitations/accept",
            {"token": TOKEN + "A" * 64, "password": PASSWORD},
            headers={"X-Correlation-Id": correlation},
        )
        problem(answer, 401, "invitation_not_good")
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select type, payload from ledger.event where correlation_id = %s", (correlation,))
        assert row is not None
        assert (row[0], json.loads(row[1])["because"]) == ("signin.failed", "invitation")

    async def test_guesses_are_counted(self, office: Office, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(office.parts.attempts, "_address", 2)
        monkeypatch.setattr(office.parts.attempts, "_window", 61.0)
        async with office.database.write(Reach.INSTANCE) as session:
            await session.execute("delete from identity.throttle")
            await session.commit()
        _, _, token = await desk.sent()
        for _ in range(2):
            problem(await desk.accept(TOKEN + "A" * 64), 401)
        assert "retry-after" in (await desk.accept(token)).headers
        problem(await desk.accept(token), 429, "too_many_attempts")
        async with office.database.write(Reach.INSTANCE) as session:
            await session.execute("delete from identity.throttle")
            await session.commit()
        ok(await desk.accept(token), 201)

    async def test_the_password_is_held_to_the_rules(self, desk: Desk):
        _, email, token = await desk.sent()
        for weak in ("short", WEAK):
            problem(await desk.accept(token, password=weak), 422, "invalid_input")
        ok(await desk.accept(token), 201)
        assert (await desk.me(email))["name"] == "Nia New"


class TestAtOnce:
    async def test_two_accept(self, office: Office, desk: Desk):
        identity, email, token = await desk.sent("viewer")
        answers = await asyncio.gather(*(desk.accept(token) for _ in range(4)))
        assert sorted(one.status_code for one in answers) == [201, 401, 401, 401]
        winner = next(one for one in answers if one.status_code == 201).json()
        assert (await desk.me(email))["id"] == winner["person_id"]
        events = await desk.events(identity, winner["person_id"])
        assert [kind for kind, _, _ in events].count("person.created") == 1
        await desk.replayed(identity)

    @pytest.mark.parametrize("way", ["revoke", "resend"])
    async def test_accept_against(self, office: Office, desk: Desk, way: str):
        seen: set[int] = set()
        identity = ""
        for _ in range(6):
            identity, email, token = await desk.sent("viewer")
            accepted, other = await asyncio.gather(
                desk.accept(token), office.post(desk.chief, f"/invitations/{identity}/{way}", {})
            )
            seen.add(accepted.status_code)
            assert (accepted.status_code, other.status_code) in ((201, 409), (401, 200))
            here = await office.post(None, "/auth/login", {"email": email, "password": PASSWORD})
            assert here.status_code == (200 if accepted.status_code == 201 else 401)
        assert seen <= {201, 401}
        await desk.replayed(identity)

    async def test_accept_against_agreement(self, office: Office, desk: Desk):
        """Roles that are agreed at the moment in which the person comes are given, once."""
        identity = ""
        for _ in range(6):
            answer, email = await desk.invite("viewer")
            await desk.confirm(answer)
            identity = answer["id"]
            token = await desk.token(answer["id"])
            accepted, _ = await asyncio.gather(desk.accept(token), desk.agree(answer))
            ok(accepted, 201)
            office.parts.principals.forget(UUID(answer["person_id"]))
            assert (await desk.me(email))["roles"] == {str(office.a.project): ["viewer"]}
        await desk.replayed(identity)

    async def test_revoke_against_agreement(self, office: Office, desk: Desk):
        """Roles are agreed before it is taken back, or are void: none stays open."""
        identity = ""
        for _ in range(6):
            answer, _ = await desk.invite("viewer")
            identity = answer["id"]
            await desk.confirm(answer)
            approval = answer["proposals"][1]["approval"]["id"]
            revoked, agreed = await asyncio.gather(
                office.post(desk.chief, f"/invitations/{answer['id']}/revoke", {}),
                office.post("admin2", f"/approvals/{approval}/approve", {}),
            )
            ok(revoked)
            assert agreed.status_code in (200, 409)
            shown = ok(await office.get(desk.chief, f"/invitations/{answer['id']}"))
            assert [one["status"] for one in shown["roles"]] == (["revoked"] if agreed.status_code == 200 else [])
        await desk.replayed(identity)


class TestList:
    async def test_it_is_paged_and_filtered(self, office: Office, desk: Desk):
        made = [(await desk.sent())[0] for _ in range(3)]
        ok(await office.post(desk.chief, f"/invitations/{made[0]}/revoke", {}))
        page = ok(await office.get(desk.chief, "/invitations?limit=2"))
        assert [one["id"] for one in page["items"]] == [made[2], made[1]]
        page = ok(await office.get("inspector", f"/invitations?limit=1&cursor={page['next']}"))
        assert [one["id"] for one in page["items"]] == [made[0]]
        page = ok(await office.get(desk.chief, "/invitations?status=open&limit=200"))
        assert {one["status"] for one in page["items"]} == {"open"}
        problem(await office.get(desk.chief, "/invitations?status=lost"), 422, "invalid_input")

    async def test_what_was_erased_is_shown_so_and_accepted_by_nobody(self, office: Office, desk: Desk):
        identity, _, token = await desk.sent()
        person = ok(await office.get(desk.chief, f"/invitations/{identity}"))["person_id"]
        async with office.database.write(Reach.INSTANCE) as session:
            await office.vault.destroy(session, UUID(person))
            await session.commit()
        assert ok(await office.get(desk.chief, f"/invitations/{identity}"))["email"] is None
        problem(await desk.accept(token), 401, "invitation_not_good")


def test_no_event_of_a_later_version_is_taken():
    with pytest.raises(Exception, match="is not an event"):
        invitations.INVITATIONS.change(None, _Event(), {})  # type: ignore[arg-type]
    assert issubclass(invitations.InvitationOverError, PmisError)


class _Event:
    verb = "patched"
    type = "invitation.patched"
