"""T14, second factors and fresh proofs: codes are good once, guesses are counted, and executive decisions want
a proof."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pmis.api.app import create_app
from pmis.approval import decide
from pmis.approval.errors import StepUpNeededError
from pmis.identity import secondfactor
from pmis.identity.secondfactor import code_at, step_of
from pmis.kit.db import Reach
from pmis.policy.levels import Level
from tests.api.expect import ok, problem, waits
from tests.api.office import PASSWORD, PREFIX, make_token, serving, settings_for
from tests.api.test_cookies import SAME, signed_in
from tests.api.test_sessions import bearer, facts, sign_in, sign_up

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio


class Somebody:
    """Somebody with an authenticator, who is signed in."""

    def __init__(self, office: Office, email: str, person: UUID, told: dict[str, Any]) -> None:
        self.office, self.email, self.person, self.told = office, email, person, told
        self.secret = b""
        self.recovery: list[str] = []
        self._ahead = 0

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.told["access_token"])

    def code(self) -> str:
        """A code that was not given yet: as each is good once, the authenticator is set ahead where need be."""
        code = code_at(self.secret, step_of(self.office.parts.clock.now()) + self._ahead)
        self._ahead += 1
        return code

    async def forget_last(self) -> None:
        """Let the codes taken until now lie further back, as after a few minutes."""
        self._ahead = 0
        async with self.office.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "update identity.second_factor set last_step = last_step - 10 where person_id = %s", (self.person,)
            )
            await session.commit()

    async def post(self, path: str, said: Any = None) -> httpx2.Response:
        return await self.office.post(None, path, said, headers=self.headers)

    async def enable(self) -> None:
        begun = ok(await self.post("/auth/second-factor"))
        self.secret = base64.b32decode(begun["secret"])
        self.recovery = ok(await self.post("/auth/second-factor/confirm", {"code": self.code()}))["recovery_codes"]
        await self.forget_last()

    async def login(self, code: str | None = None, **more: Any) -> httpx2.Response:
        said = {"email": self.email, "password": PASSWORD, **({"code": code} if code is not None else {}), **more}
        return await self.office.post(None, "/auth/login", said)


async def somebody(office: Office) -> Somebody:
    email, person = await sign_up(office)
    return Somebody(office, email, person, await sign_in(office, email))


@pytest.fixture
async def ann(office: Office) -> Somebody:
    """Somebody who has a second factor."""
    found = await somebody(office)
    await found.enable()
    return found


async def told_of(office: Office, person: UUID) -> list[str]:
    """What the log says of somebody's second factor and failures, in order."""
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select type, payload::jsonb ->> 'because' from ledger.event where payload::jsonb ->> 'person_id' = %s "
            "and stream_type in ('second_factor', 'signin') order by position",
            (str(person),),
        )
    return [f"{kind} {because}" if because else kind for kind, because in rows]


async def make_stale(office: Office, session_id: str, minutes: float = 16) -> None:
    """Let the proof of a session lie further back."""
    async with office.database.write(Reach.INSTANCE) as session:
        await session.execute(
            "update identity.session set authenticated_at = authenticated_at - make_interval(secs => %s) where id = %s",
            (minutes * 60, session_id),
        )
        await session.commit()
    office.parts.watch.tell(None)


class TestSettingUp:
    async def test_it_counts_once_its_first_code_was_given(self, office: Office):
        who = await somebody(office)
        begun = ok(await who.post("/auth/second-factor"))
        assert begun["uri"].startswith("otpauth://totp/PMIS:Somebody?secret=" + begun["secret"])
        ok(await who.login())  # not yet
        assert ok(await office.get(None, "/auth/second-factor", headers=who.headers))["enabled"] is False
        problem(await who.post("/auth/second-factor/confirm", {"code": "000000"}), 403, "wrong_code")
        who.secret = base64.b32decode(begun["secret"])
        done = ok(await who.post("/auth/second-factor/confirm", {"code": who.code()}))
        assert len(set(done["recovery_codes"])) == 10
        assert done["ended"] == 1
        told = ok(await office.get(None, "/auth/second-factor", headers=who.headers))
        assert (told["enabled"], told["recovery_codes_left"]) == (True, 10)
        problem(await who.login(), 403, "second_factor_needed")
        assert await told_of(office, who.person) == ["second_factor.enabled"]

    async def test_the_secret_and_the_recovery_codes_are_not_kept_readable(self, ann: Somebody):
        async with ann.office.database.read(Reach.INSTANCE) as session:
            kept = await session.all(
                "select f::text from identity.second_factor f union all select r::text from identity.recovery_code r "
                "union all select v::text from ledger.vault v union all select e::text from ledger.event e "
                "where e.payload like %s",
                (f"%{ann.person}%",),
            )
        text = "\n".join(row[0] for row in kept)
        for secret in (base64.b32encode(ann.secret).decode(), ann.secret.hex(), *ann.recovery):
            assert secret not in text
            assert secret.replace("-", "") not in text
        assert str(ann.person) in text

    async def test_there_is_one_at_a_time(self, ann: Somebody):
        problem(await ann.post("/auth/second-factor"), 409, "second_factor_on")
        problem(await ann.post("/auth/second-factor/confirm", {"code": ann.code()}), 409, "second_factor_on")

    async def test_one_that_was_not_begun_is_not_confirmed(self, office: Office):
        who = await somebody(office)
        problem(await who.post("/auth/second-factor/confirm", {"code": "123456"}), 404)

    async def test_it_wants_a_fresh_proof_and_a_person(self, office: Office):
        who = await somebody(office)
        async with strict(office) as client:
            await make_stale(office, who.told["session_id"])
            for method, path, said in (
                ("POST", "/auth/second-factor", {}),
                ("POST", "/auth/second-factor/confirm", {"code": "123456"}),
                ("DELETE", "/auth/second-factor", None),
                ("POST", "/tokens", {"name": "x", "expires_in_days": 1}),
            ):
                answer = await client.request(method, f"{PREFIX}{path}", json=said, headers=who.headers)
                problem(answer, 403, "step_up_needed")
        _, token = await make_token(office, "admin", scope="write")
        for method, path in (("POST", "/auth/second-factor"), ("DELETE", "/auth/second-factor")):
            problem(await office.call(None, method, path, {}, headers=bearer(token)), 403, "person_needed")


def strict(office: Office, **settings: Any) -> Any:
    """Another process of the same instance, with the window for fresh proofs as it is by default."""
    return serving(create_app(settings_for(office.test_database, **{"step_up_minutes": 15, **settings})))


class TestCodes:
    async def test_with_the_code_one_signs_in(self, ann: Somebody):
        ok(await ann.login(ann.code()))
        ok(await ann.login(" ".join(ann.code())))

    async def test_each_is_good_once(self, ann: Somebody):
        code = ann.code()
        ok(await ann.login(code))
        problem(await ann.login(code), 403, "wrong_code")
        assert (await told_of(ann.office, ann.person))[-1] == "signin.failed code"

    async def test_of_eight_that_come_at_once_one_is_taken(self, ann: Somebody):
        code, answers = ann.code(), list[int]()

        async def one() -> None:
            answers.append((await ann.login(code)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(one)
        assert sorted(answers) == [200, *[403] * 7]

    async def test_one_that_forgets_the_last_step_is_found(self, ann: Somebody, monkeypatch: pytest.MonkeyPatch):
        """The control: without the rule, the same code is good twice."""
        rule = secondfactor.fitting_step
        monkeypatch.setattr(secondfactor, "fitting_step", lambda secret, code, now, _: rule(secret, code, now, 0))
        code = ann.code()
        assert [(await ann.login(code)).status_code for _ in range(2)] == [200, 200]

    @pytest.mark.parametrize("code", ["000000", "12345", "1234567", "abcdef", "''; --", "١٢٣٤٥٦", "a" * 16])
    async def test_what_is_none(self, ann: Somebody, code: str):
        problem(await ann.login(code), 403, "wrong_code")

    async def test_a_good_code_does_not_replace_the_password(self, ann: Somebody):
        said = {"email": ann.email, "password": "not the password", "code": ann.code()}
        problem(await ann.office.post(None, "/auth/login", said), 401, "unauthenticated")

    async def test_a_page_signs_in_with_it_too(self, ann: Somebody):
        said = {"email": ann.email, "password": PASSWORD, "session": "cookie"}
        problem(await ann.office.post(None, "/auth/login", said, headers=SAME), 403, "second_factor_needed")
        answer = await ann.office.post(None, "/auth/login", {**said, "code": ann.code()}, headers=SAME)
        ann.office.client.cookies.clear()
        assert "__Host-pmis" in answer.headers["set-cookie"]

    async def test_guesses_are_counted_however_one_guesses(self, ann: Somebody):
        async with strict(ann.office, signin_account_attempts=4) as client:

            async def guess(path: str, **said: Any) -> int:
                answer = await client.post(
                    f"{PREFIX}{path}", json={"password": PASSWORD, "code": "000000", **said}, headers=ann.headers
                )
                return answer.status_code

            first = [await guess("/auth/reauthenticate") for _ in range(2)]
            first += [await guess("/auth/login", email=ann.email) for _ in range(2)]
            assert first == [403] * 4
            assert await guess("/auth/reauthenticate") == 429
            assert await guess("/auth/login", email=ann.email) == 429
            # The right one comes too late as well.
            assert await guess("/auth/login", email=ann.email, code=ann.code()) == 429

    async def test_being_asked_for_the_code_is_no_failure(self, ann: Somebody):
        async with strict(ann.office, signin_account_attempts=2) as client:
            said = {"email": ann.email, "password": PASSWORD}
            for _ in range(5):
                answer = await client.post(f"{PREFIX}/auth/login", json=said)
                problem(answer, 403, "second_factor_needed")


class TestRecovery:
    async def test_a_recovery_code_is_good_once(self, ann: Somebody):
        code = ann.recovery[0]
        ok(await ann.login(code.upper()))
        problem(await ann.login(code), 403, "wrong_code")
        left = ok(await ann.office.get(None, "/auth/second-factor", headers=ann.headers))["recovery_codes_left"]
        assert left == 9
        assert "recovery_code.used" in await told_of(ann.office, ann.person)

    async def test_somebody_elses_is_none(self, ann: Somebody, office: Office):
        other = await somebody(office)
        await other.enable()
        problem(await ann.login(other.recovery[0]), 403, "wrong_code")

    async def test_one_does_without_again(self, ann: Somebody):
        async def remove(said: dict[str, str]) -> httpx2.Response:
            return await ann.office.call(None, "DELETE", "/auth/second-factor", said, headers=ann.headers)

        problem(await remove({}), 403, "second_factor_needed")
        problem(await remove({"code": "000000"}), 403, "wrong_code")
        ok(await ann.login(ann.code()))
        assert ok(await remove({"code": ann.recovery[0]})) == {"removed": 1}
        assert ok(await remove({})) == {"removed": 0}
        ok(await ann.login())
        problem_free = await told_of(ann.office, ann.person)
        assert problem_free[-1] == "second_factor.removed own"

    async def test_an_administrator_resets_it_and_the_sign_ins_end(self, ann: Somebody):
        office = ann.office
        path = f"/people/{ann.person}/second-factor"
        made = {"name": "Theirs", "expires_in_days": 1}
        token = ok(await ann.post("/tokens", made), 201)["token"]
        ok(await office.get(None, "/auth/me", headers=bearer(token)))
        for who in ("admin", "executive", "inspector", "b:admin"):
            assert (await office.delete(who, path)).status_code in (403, 404)
        assert ok(await office.delete("root", path)) == {"removed": 1}
        problem(await office.get(None, "/auth/me", headers=ann.headers), 401)
        problem(await office.get(None, "/auth/me", headers=bearer(token)), 401)
        ok(await ann.login())
        assert await facts(office, ann.told["session_id"]) == ["session.started", "session.ended"]
        assert (await told_of(office, ann.person))[-1] == "second_factor.removed reset"
        problem(await office.delete("root", f"/people/{office.person('root')}/second-factor"), 403)


async def executive(office: Office) -> Any:
    """An approval that waits for an executive, who is asked first."""
    package = await office.a.make_package()
    outcome = await office.a.propose(
        "operator", "package", "patch", package.id, {"title": "A costly thing"}, stated_impact=Level.CRITICAL
    )
    assert outcome.approval is not None
    assert outcome.approval.route == "EXECUTIVE_APPROVAL"
    return outcome.approval


async def chief(office: Office) -> Somebody:
    """An executive of the project who signs in by themselves."""
    from tests.builders import make_member

    found = await somebody(office)
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(session, office.vault, office.a.project, found.person, "executive", "admin")
        await session.commit()
    office.parts.principals.forget()
    return found


class TestStepUp:
    @pytest.mark.parametrize(
        ("verdict", "said"), [("approve", {}), ("reject", {"reason": "No."}), ("request-changes", {"reason": "More."})]
    )
    async def test_an_executive_decision_wants_a_fresh_proof(self, office: Office, verdict: str, said: dict[str, str]):
        who, approval = await chief(office), await executive(office)
        path = f"{PREFIX}/approvals/{approval.id}/{verdict}"
        await make_stale(office, who.told["session_id"])
        async with strict(office) as client:
            key = {"Idempotency-Key": secrets.token_hex(8)}
            before = await office.count("ledger.event")
            answer = await client.post(path, json=said, headers={**who.headers, **key})
            problem(answer, 403, "step_up_needed")
            assert await office.count("ledger.event") == before
            proof = await client.post(f"{PREFIX}/auth/reauthenticate", json={"password": PASSWORD}, headers=who.headers)
            assert set(ok(proof)) == {"authenticated_at", "recent_until"}
            # The very same request, under the same key: the refusal was not kept.
            ok(await client.post(path, json=said, headers={**who.headers, **key}))
        assert await facts(office, who.told["session_id"]) == ["session.started", "session.reauthenticated"]

    async def test_just_signed_in_is_fresh_and_just_before_the_end_too(self, office: Office):
        who, approval = await chief(office), await executive(office)
        await make_stale(office, who.told["session_id"], 14.5)
        async with strict(office) as client:
            ok(await client.post(f"{PREFIX}/approvals/{approval.id}/approve", json={}, headers=who.headers))

    async def test_a_seat_is_lent_with_a_fresh_proof(self, office: Office):
        """Whoever gets it decides with a fresh proof of their own."""
        who = await chief(office)
        begins = office.parts.clock.now()
        said = {
            "project": str(office.a.project),
            "to_person": str(office.person("admin2")),
            "starts_at": begins.isoformat(),
            "ends_at": (begins + timedelta(days=1)).isoformat(),
        }
        approval = waits(await who.post("/delegations", said), "confirmation_required")
        await make_stale(office, who.told["session_id"])
        path = f"{PREFIX}/approvals/{approval['id']}/confirm"
        async with strict(office) as client:
            problem(await client.post(path, json={}, headers=who.headers), 403, "step_up_needed")
            ok(await client.post(f"{PREFIX}/auth/reauthenticate", json={"password": PASSWORD}, headers=who.headers))
            ok(await client.post(path, json={}, headers=who.headers))

    async def test_a_new_password_is_no_proof(self, ann: Somebody):
        """Knowing the old one is half of it for who has a second factor, and is never a code."""
        office, path = ann.office, f"{PREFIX}/auth/password"
        session_id = ok(await ann.login(ann.code()))["session_id"]
        told = ok(await ann.login(ann.code()))
        said = {"current_password": PASSWORD, "new_password": "another horse, another battery"}
        await make_stale(office, told["session_id"])
        async with strict(office) as client:
            problem(await client.post(path, json=said, headers=bearer(told["access_token"])), 403, "step_up_needed")
        assert await facts(office, session_id) == ["session.started"]
        other = await somebody(office)
        await make_stale(office, other.told["session_id"])
        async with strict(office) as client:
            ok(await client.post(path, json=said, headers=other.headers))
            problem(await client.post(f"{PREFIX}/auth/second-factor", headers=other.headers), 403, "step_up_needed")

    async def test_a_refreshed_token_is_not_fresh(self, office: Office):
        who, approval = await chief(office), await executive(office)
        await make_stale(office, who.told["session_id"])
        async with strict(office) as client:
            said = {"refresh_token": who.told["refresh_token"]}
            token = ok(await client.post(f"{PREFIX}/auth/refresh", json=said))["access_token"]
            answer = await client.post(f"{PREFIX}/approvals/{approval.id}/approve", json={}, headers=bearer(token))
            problem(answer, 403, "step_up_needed")

    async def test_other_decisions_do_not_want_it(self, office: Office):
        who, approval = await chief(office), await office.a.waiting()
        await make_stale(office, who.told["session_id"])
        async with strict(office) as client:
            ok(await client.post(f"{PREFIX}/approvals/{approval.id}/approve", json={}, headers=who.headers))

    async def test_who_may_not_decide_is_told_that_first(self, office: Office):
        who, approval = await somebody(office), await executive(office)
        await make_stale(office, who.told["session_id"])
        async with strict(office) as client:
            answer = await client.post(f"{PREFIX}/approvals/{approval.id}/approve", json={}, headers=who.headers)
            problem(answer, 404)

    async def test_the_proof_takes_the_password_and_the_code(self, office: Office):
        who = await chief(office)
        await who.enable()
        for said, status, code in (
            ({"password": "wrong"}, 403, "wrong_password"),
            ({"password": PASSWORD}, 403, "second_factor_needed"),
            ({"password": PASSWORD, "code": "000000"}, 403, "wrong_code"),
        ):
            problem(await who.post("/auth/reauthenticate", said), status, code)
        ok(await who.post("/auth/reauthenticate", {"password": PASSWORD, "code": who.code()}))
        assert [one for one in await told_of(office, who.person) if one.startswith("signin")] == [
            "signin.failed reauthentication",
            "signin.failed code",
        ]

    async def test_a_browser_gets_another_cookie(self, office: Office):
        cookie, session_id = await signed_in(office)
        answer = await office.post(
            None, "/auth/reauthenticate", {"password": PASSWORD}, headers={"Cookie": cookie, **SAME}
        )
        ok(answer)
        office.client.cookies.clear()
        fresh = answer.headers["set-cookie"].partition(";")[0]
        assert fresh != cookie
        problem(await office.get(None, "/auth/me", headers={"Cookie": cookie}), 401)
        ok(await office.get(None, "/auth/me", headers={"Cookie": fresh}))
        assert await facts(office, session_id) == ["session.started", "session.reauthenticated"]

    async def test_an_edge_that_forgets_to_say_is_found(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        """The control: with the question left out, a stale session decides, and the first test would say so."""
        who, approval = await chief(office), await executive(office)
        await make_stale(office, who.told["session_id"], 60)
        say = decide.say
        monkeypatch.setattr(decide, "say", lambda *args, **said: say(*args, **{**said, "recent": True}))
        async with strict(office) as client:
            ok(await client.post(f"{PREFIX}/approvals/{approval.id}/approve", json={}, headers=who.headers))

    def test_the_refusal_says_what_to_do(self):
        assert "POST /auth/reauthenticate" in StepUpNeededError().detail
        assert timedelta(minutes=settings_default()) == timedelta(minutes=15)


def settings_default() -> int:
    from pmis.kit.settings import Settings

    return Settings.model_fields["step_up_minutes"].default
