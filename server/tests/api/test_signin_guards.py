"""T14: what changes while somebody signs in counts for the sign-in too, and what else is judged as of this moment."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING, Any

import pytest

import pmis.api.sessions as edge
from pmis.approval.propose import actor_of
from pmis.identity import groups, secondfactor
from pmis.identity import sessions as kept
from pmis.identity.principals import load_principal
from pmis.identity.providers import Provider
from pmis.identity.secondfactor import code_at, step_of
from pmis.kit.db import Database, Reach
from pmis.ledger.event import Origin
from pmis.ledger.vault import Vault
from tests.api.expect import ok, problem, waits
from tests.api.office import PASSWORD, PREFIX, make_token
from tests.api.test_secondfactor import chief, executive, make_stale, somebody, strict
from tests.api.test_sessions import bearer
from tests.builders import SECRET, make_person

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.api.office import Office
    from tests.api.test_secondfactor import Somebody
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
ANOTHER = "another horse, another battery"


async def changed_password(who: Somebody) -> None:
    ok(await who.post("/auth/password", {"current_password": PASSWORD, "new_password": ANOTHER}))


async def enabled_a_second_factor(who: Somebody) -> None:
    await who.enable()


async def were_disabled(who: Somebody) -> None:
    office, name = who.office, f"root-{secrets.token_hex(4)}"
    office.people[name] = await office.sign_up(name, f"{name}@example.org", instance_admin=True)
    approval = waits(await office.patch("root", f"/people/{who.person}", {"active": False}))
    ok(await office.post(name, f"/approvals/{approval['id']}/approve"))


@pytest.fixture
async def ann(office: Office) -> Somebody:
    """Somebody who has a second factor."""
    found = await somebody(office)
    await found.enable()
    return found


MEANWHILE = (changed_password, enabled_a_second_factor, were_disabled)


def let_happen(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Awaitable[None]]) -> None:
    """Let it happen once, after everything was proved and before the session begins."""
    proves = edge.prove_second_factor

    async def slowly(*args: Any) -> bool:
        proved = await proves(*args)
        monkeypatch.setattr(edge, "prove_second_factor", proves)
        await what()
        return proved

    monkeypatch.setattr(edge, "prove_second_factor", slowly)


class TestMeanwhile:
    @pytest.mark.parametrize("change", MEANWHILE)
    async def test_no_session_begins(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, change: Callable[[Somebody], Awaitable[None]]
    ):
        who = await somebody(office)
        let_happen(monkeypatch, lambda: change(who))
        problem(await who.login(), 401, "changed_meanwhile")
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select id::text from identity.session where person_id = %s and ended_at is null", (who.person,)
            )
        assert [one for (one,) in rows if one != who.told["session_id"]] == []

    async def test_without_the_second_look_one_does(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        """The control: what the tests above would find."""

        async def content(*_: Any, **__: Any) -> None:
            return None

        monkeypatch.setattr(kept, "require_unchanged", content)
        who = await somebody(office)
        let_happen(monkeypatch, lambda: changed_password(who))
        ok(await who.login())

    async def test_a_sign_in_waits_for_a_second_factor_that_is_just_confirmed(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ):
        who, proved = await somebody(office), asyncio.Event()

        async def reached() -> None:
            proved.set()

        let_happen(monkeypatch, reached)
        now = office.parts.clock.now()
        async with office.database.write(Reach.INSTANCE) as session:
            secret, _ = await secondfactor.enrol(session, office.vault, who.person, "Who", now)
            await session.commit()
        code = code_at(base64.b32decode(secret), step_of(now))
        async with office.database.write(Reach.INSTANCE) as session:
            principal = await load_principal(session, who.person)
            origin = Origin(actor_of(principal), "api", "tests")
            await secondfactor.confirm(session, office.vault, who.person, code, now=now, origin=origin)
            signing_in = asyncio.create_task(who.login())
            await proved.wait()
            await asyncio.sleep(0.5)
            assert not signing_in.done()
            await session.commit()
        problem(await signing_in, 401, "changed_meanwhile")


@pytest.mark.parametrize(("a_day", "then"), [(3, 429), (50, 200)])
async def test_wrong_codes_are_few_in_a_day(ann: Somebody, a_day: int, then: int):
    """However slowly they come. The control: with the default for a day the next code is looked at."""
    path = f"{PREFIX}/auth/reauthenticate"
    async with strict(ann.office, signin_codes_a_day=a_day, signin_account_attempts=100) as client:
        for _ in range(3):
            answer = await client.post(path, json={"password": PASSWORD, "code": "000000"}, headers=ann.headers)
            problem(answer, 403, "wrong_code")
        answer = await client.post(path, json={"password": PASSWORD, "code": ann.code()}, headers=ann.headers)
        assert answer.status_code == then, answer.text
        if then == 429:
            assert int(answer.headers["retry-after"]) > 3600


async def test_a_wrong_code_is_nobodys(ann: Somebody):
    problem(await ann.login("000000"), 403, "wrong_code")
    async with ann.office.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select actor, payload::json ->> 'client' from ledger.event where type = 'signin.failed' "
            "and payload::json ->> 'person_id' = %s order by position desc limit 1",
            (str(ann.person),),
        )
    assert row is not None
    assert row[0] == "system:sign-in"
    assert len(row[1]) == 64


async def test_a_proof_given_to_another_process_counts_at_once(office: Office, monkeypatch: pytest.MonkeyPatch):
    who, approval = await chief(office), await executive(office)
    await make_stale(office, who.told["session_id"])
    path = f"{PREFIX}/approvals/{approval.id}/approve"
    async with strict(office) as client:
        problem(await client.post(path, json={}, headers=who.headers), 403, "step_up_needed")
        deaf = client._transport.app.state.parts.watch  # type: ignore[attr-defined]
        monkeypatch.setattr(deaf, "tell", lambda _: None)
        monkeypatch.setattr(deaf, "_hearers", [])
        ok(await who.post("/auth/reauthenticate", {"password": PASSWORD}))
        ok(await client.post(path, json={}, headers=who.headers))


async def test_a_token_that_is_confined_does_not_reach_the_instance(office: Office):
    """An executive of a project joins decisions about the instance; a token for that project alone reads none."""
    proposed = await office.a.propose("root", "person", "patch", office.person("nobody"), {"instance_auditor": True})
    assert proposed.approval is not None
    path = f"/approvals/{proposed.approval.id}"
    ok(await office.get("executive", path))
    _, wide = await make_token(office, "executive")
    ok(await office.get(None, path, headers=bearer(wide)))
    _, narrow = await make_token(office, "executive", projects=[str(office.a.project)])
    problem(await office.get(None, path, headers=bearer(narrow)), 404)
    listed = ok(await office.get(None, "/approvals?limit=200", headers=bearer(narrow)))["items"]
    assert {one["project_id"] for one in listed} <= {str(office.a.project)}


async def test_the_last_administrator_stays_one_when_two_lose_the_right_at_once(
    make_database: Callable[[str], TestDatabase],
):
    """Raced: each sees the other as the one who stays, unless one waits for the other."""
    test_database = make_database(f"last{secrets.token_hex(3)}")
    provider = Provider.model_validate(
        {
            "name": "corp",
            "issuer": "https://login.example",
            "client_id": "pmis",
            "groups": {"admins": [{"instance_admin": True}]},
        }
    )
    vault, database = Vault(SECRET), Database(test_database.app_dsn, size=4, role="pmis_app")
    await database.open()
    try:
        async with database.write(Reach.INSTANCE) as session:
            people = [await make_person(session, vault, name, instance_admin=True) for name in ("Ann", "Ben")]
            await session.commit()
        met = asyncio.Barrier(2)

        async def lose(person: Any) -> bool:
            async with database.write(Reach.INSTANCE) as session:
                principal = await load_principal(session, person)
                await met.wait()
                origin = Origin(actor_of(principal), "api", "tests")
                moved = await groups.follow(session, person, provider, frozenset(), origin=origin)
                await asyncio.sleep(0.3)  # both have looked, unless one of them had to wait
                await session.commit()
                return moved

        assert sorted(await asyncio.gather(*map(lose, people))) == [False, True]
        async with database.read(Reach.INSTANCE) as session:
            rows = await session.all("select 1 from state.person where instance_admin and active")
        assert len(rows) == 1
    finally:
        await database.close()
