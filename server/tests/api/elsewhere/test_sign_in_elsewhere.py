"""Signing in through a real identity provider, and everything that must not count when it comes back from one."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from pmis.api import identities
from pmis.identity import oidc
from pmis.identity.models import Person
from pmis.identity.noun import PEOPLE
from pmis.kit.db import Reach
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD, Office, open_office
from tests.builders import make_person

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from uuid import UUID

    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
HERE = "http://pmis.test"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
SAME = {"Sec-Fetch-Site": "same-origin"}
CALLBACK = "/api/v1/auth/oidc/{}/callback"


@dataclass
class Idp:
    """The provider's process, and what a browser does there."""

    url: str
    http: httpx2.Client
    client_id: str = ""
    client_secret: str = ""

    def register(self, *names: str) -> None:
        told = self.http.post(
            f"{self.url}/oauth2/clients", json={"redirect_uris": [HERE + CALLBACK.format(name) for name in names]}
        )
        self.client_id, self.client_secret = told.json()["client_id"], told.json()["client_secret"]

    def user(self, subject: str, **claims: Any) -> None:
        self.http.put(f"{self.url}/users/{subject}", json=claims).raise_for_status()

    def wrong(self, **told: Any) -> None:
        """Let the next ID token be wrong."""
        self.http.post(f"{self.url}/test/wrong", json=told).raise_for_status()

    def metadata(self, **told: Any) -> None:
        self.http.post(f"{self.url}/test/metadata", json=told).raise_for_status()

    def rotate(self) -> None:
        self.http.post(f"{self.url}/test/rotate").raise_for_status()

    def sign_in(self, location: str, subject: str) -> str:
        """What the provider sends the browser back to, once somebody has signed in there."""
        answer = self.http.post(location, data={"sub": subject})
        assert answer.status_code == 302, answer.text[:300]
        return answer.headers["location"]


@dataclass
class Browser:
    """One browser: it keeps cookies, and follows the redirects it is told to."""

    office: Office
    idp: Idp
    cookies: dict[str, str] = field(default_factory=dict[str, str])

    async def get(self, url: str) -> httpx2.Response:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.office.client.get(url, headers={"Cookie": header} if header else {})
        self.office.client.cookies.clear()
        for kept in answer.headers.get_list("set-cookie"):
            name, _, rest = kept.partition("=")
            value, *attributes = rest.split("; ")
            assert {one.lower() for one in attributes} >= {"httponly", "path=/", "samesite=lax", "secure"}
            assert name.startswith("__Host-")
            self.cookies[name] = value
            if "Max-Age=0" in attributes:
                del self.cookies[name]
        return answer

    async def start(self, name: str = "corp", query: str = "") -> str:
        answer = await self.get(f"/api/v1/auth/oidc/{name}/start{query}")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def come_back(self, subject: str, name: str = "corp", query: str = "") -> httpx2.Response:
        return await self.get(self.idp.sign_in(await self.start(name, query), subject))

    async def me(self) -> Any:
        return ok(await self.get("/api/v1/auth/me"))


@pytest.fixture(scope="module")
def idp() -> Iterator[Idp]:
    script = Path(__file__).with_name("identity_provider.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with httpx2.Client(trust_env=False) as http:
            one = Idp(url, http)
            one.register("corp", "trusting")
            yield one
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def configured(idp: Idp, **more: Any) -> SecretStr:
    usual = {
        "name": "corp",
        "title": "Corporate",
        "issuer": idp.url,
        "client_id": idp.client_id,
        "client_secret": idp.client_secret,
    }
    return SecretStr(json.dumps([{**usual, **more}]))


@asynccontextmanager
async def opened(database: TestDatabase, idp: Idp, **more: Any) -> AsyncGenerator[Office]:
    async with open_office(database, oidc_providers=configured(idp, **more), public_url=HERE) as office:
        yield office


@pytest.fixture(scope="module")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("elsewhere")


@pytest.fixture(scope="module")
async def lasting(database: TestDatabase, idp: Idp) -> AsyncIterator[Office]:
    async with opened(database, idp, link_by_email=True) as office:
        yield office


@pytest.fixture
def there(lasting: Office) -> Office:
    """An office whose people sign in at the provider; each test finds nothing remembered of it."""
    for party in lasting.parts.parties.values():
        party._metadata = party._keys = None
    return lasting


async def employee(office: Office, idp: Idp, *, verified: Any = True, **claims: Any) -> tuple[str, UUID]:
    """Somebody with an account here and at the provider: the subject there, the person here."""
    subject = f"s-{secrets.token_hex(6)}"
    email = f"{subject}@example.org"
    async with office.database.write(Reach.INSTANCE) as session:
        person = await make_person(session, office.vault, f"Person {subject}")
        # Without a password: hashing one takes a while, and nobody gives it here.
        await session.execute(
            "insert into identity.credential (person_id, email, password_hash, changed_at) values (%s, %s, '', now())",
            (person, email),
        )
        await session.commit()
    idp.user(subject, email=email, email_verified=verified, **claims)
    return subject, person


async def change(office: Office, person: UUID, **rights: bool) -> None:
    """Give or take rights, as the console could if it had to."""
    async with office.database.write(Reach.INSTANCE) as session:
        row = await session.one("select doc from state.person where id = %s for update", (person,))
        assert row is not None
        before = Person.model_validate_json(row[0])
        fact = Fact("person.patched", {"changes": PEOPLE.diff(before.plain, rights)})
        origin = Origin(Actor("system:tests", "Tests"), "system", "tests")
        append(session, PEOPLE, before, [fact], origin=origin, stream_id=person, project_id=None)
        await session.commit()


async def failures(office: Office) -> list[dict[str, Any]]:
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all("select payload from ledger.event where type = 'signin.failed' order by position")
    return [json.loads(row[0]) for row in rows]


async def refused(office: Office, answer: httpx2.Response, because: str, status: int = 401) -> None:
    """It is a clear refusal, no session begins, and the log has it."""
    told = problem(answer, status, "sso_refused" if status == 401 else because)
    assert status != 401 or told["because"] == because
    assert "__Host-pmis=" not in str(answer.headers)
    assert (await failures(office))[-1]["because"] == because


class TestTheWayThere:
    async def test_it_asks_as_it_should(self, there: Office, idp: Idp):
        browser = Browser(there, idp)
        place = urlsplit(await browser.start(query="?return_to=/packages?status=draft"))
        asked = dict(parse_qsl(place.query))
        assert f"{place.scheme}://{place.netloc}" == idp.url
        assert asked.pop("state") != asked.pop("nonce")
        assert len(asked.pop("code_challenge")) == 43
        assert asked == {
            "response_type": "code",
            "client_id": idp.client_id,
            "redirect_uri": HERE + CALLBACK.format("corp"),
            "scope": "openid profile email",
            "code_challenge_method": "S256",
        }
        assert len(browser.cookies) == 1
        assert idp.client_secret not in str(browser.cookies)

    async def test_it_writes_nothing(self, there: Office, idp: Idp):
        before = await there.count("ledger.event", "identity.session", "identity.ended_flow", "identity.throttle")
        await Browser(there, idp).start()
        assert before == await there.count(
            "ledger.event", "identity.session", "identity.ended_flow", "identity.throttle"
        )

    async def test_providers_are_listed(self, there: Office):
        assert ok(await there.get(None, "/auth/providers"))["items"] == [
            {"name": "corp", "title": "Corporate", "start": "/api/v1/auth/oidc/corp/start"}
        ]

    async def test_there_is_no_other(self, there: Office):
        for path in ("start", "callback?state=x&code=y"):
            problem(await there.get(None, f"/auth/oidc/another/{path}"), 404, "not_found")

    @pytest.mark.parametrize(
        "target",
        [
            "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "evil.example", "",
            "/\t/evil.example", "/\n/evil.example", "javascript:alert(1)", "/a\\b", " /", "/ä", "/" + "a" * 2000,
        ],
    )  # fmt: skip
    async def test_one_comes_back_to_this_very_site(self, there: Office, target: str):
        answer = await there.get(None, f"/auth/oidc/corp/start?{urlencode({'return_to': target})}")
        problem(answer, 422, "invalid_input")

    async def test_a_wrong_word_for_fresh_is_refused(self, there: Office):
        problem(await there.get(None, "/auth/oidc/corp/start?fresh=yes"), 422, "invalid_input")


class TestComingBack:
    async def test_it_begins_a_session_and_goes_where_one_wanted(self, there: Office, idp: Idp):
        subject, person = await employee(there, idp)
        browser = Browser(there, idp)
        answer = await browser.come_back(subject, query="?return_to=/packages%3Fstatus=draft")
        assert (answer.status_code, answer.headers["location"]) == (303, "/packages?status=draft")
        assert list(browser.cookies) == ["__Host-pmis"]
        assert (await browser.me())["id"] == str(person)
        session = ok(await browser.get("/api/v1/auth/sessions"))["items"][0]
        assert session["kind"] == "cookie"
        async with there.database.read(Reach.INSTANCE) as read:
            row = await read.one(
                "select payload, actor from ledger.event where type = 'identity.linked' "
                "and payload::jsonb ->> 'person_id' = %s",
                (str(person),),
            )
        assert row is not None
        assert json.loads(row[0]) == {"person_id": str(person), "provider": "corp", "because": "email"}
        assert row[1] == "system:sign-in"

    async def test_afterwards_the_subject_counts_and_not_the_address(self, there: Office, idp: Idp):
        subject, person = await employee(there, idp)
        assert (await Browser(there, idp).come_back(subject)).status_code == 303
        idp.user(subject, email="another@example.org", email_verified=False)
        browser = Browser(there, idp)
        assert (await browser.come_back(subject)).status_code == 303
        assert (await browser.me())["id"] == str(person)

    async def test_an_address_given_to_somebody_else_opens_nothing(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        assert (await Browser(there, idp).come_back(subject)).status_code == 303
        idp.user(f"{subject}-heir", email=f"{subject}@example.org", email_verified=True)
        answer = await Browser(there, idp).come_back(f"{subject}-heir")
        await refused(there, answer, "identity_not_linked", 403)

    @pytest.mark.parametrize("verified", [False, None, "true", 1])
    async def test_an_address_that_is_not_verified_opens_nothing(self, there: Office, idp: Idp, verified: Any):
        subject, _ = await employee(there, idp, verified=verified)
        await refused(there, await Browser(there, idp).come_back(subject), "identity_not_linked", 403)

    async def test_who_has_no_account_is_told_what_to_do(self, there: Office, idp: Idp):
        idp.user("stranger", email="stranger@example.org", email_verified=True)
        answer = await Browser(there, idp).come_back("stranger")
        await refused(there, answer, "identity_not_linked", 403)
        assert "ask an administrator" in answer.json()["detail"]

    async def test_who_is_disabled_stays_out(self, there: Office, idp: Idp):
        subject, person = await employee(there, idp)
        assert (await Browser(there, idp).come_back(subject)).status_code == 303
        await change(there, person, active=False)
        answer = await Browser(there, idp).come_back(subject)
        problem(answer, 401, "unauthenticated")
        assert "__Host-pmis=" not in str(answer.headers)

    async def test_two_windows_at_once(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        browser = Browser(there, idp)
        ways = [await browser.start(), await browser.start()]
        for way in ways:
            assert (await browser.get(idp.sign_in(way, subject))).status_code == 303

    async def test_keys_are_looked_for_again_when_the_provider_rotates(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        assert (await Browser(there, idp).come_back(subject)).status_code == 303
        idp.rotate()
        assert (await Browser(there, idp).come_back(subject)).status_code == 303

    async def test_the_client_proves_itself_and_the_verifier(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        assert (await Browser(there, idp).come_back(subject)).status_code == 303
        last = idp.http.get(f"{idp.url}/test/seen").json()[-1]
        assert last == {"form": ["code", "code_verifier", "grant_type", "redirect_uri"], "basic": True}

    async def test_what_the_id_token_leaves_out_is_asked_for(self, there: Office, idp: Idp):
        subject, person = await employee(there, idp)
        idp.wrong(drop=["email", "email_verified"])
        browser = Browser(there, idp)
        assert (await browser.come_back(subject)).status_code == 303
        assert (await browser.me())["id"] == str(person)

    async def test_what_is_said_of_somebody_else_does_not_count(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        idp.metadata(userinfo_endpoint=f"{idp.url}/test/somebody-else")
        try:
            idp.wrong(drop=["email"])
            await refused(there, await Browser(there, idp).come_back(subject), "other_subject")
        finally:
            idp.metadata()

    async def test_the_secret_goes_into_the_form_where_the_provider_takes_no_header(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        idp.metadata(token_endpoint_auth_methods_supported=["client_secret_post"])
        try:
            # This provider says so, but has the client down for the header: it refuses.
            await refused(there, await Browser(there, idp).come_back(subject), "code_refused")
        finally:
            idp.metadata()
        last = idp.http.get(f"{idp.url}/test/seen").json()[-1]
        assert (last["basic"], {"client_id", "client_secret"} <= set(last["form"])) == (False, True)

    async def test_when_one_proved_it_counts_where_the_provider_says_so(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        for told, counts in (({"claims": {"auth_time": int(at.timestamp())}}, at), ({"drop": ["auth_time"]}, NEVER)):
            idp.wrong(**told)
            browser = Browser(there, idp)
            assert (await browser.come_back(subject)).status_code == 303
            session = ok(await browser.get("/api/v1/auth/sessions"))["items"][0]
            assert datetime.fromisoformat(session["authenticated_at"]) == counts

    async def test_a_fresh_proof_is_asked_for_and_required(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        browser = Browser(there, idp)
        asked = dict(parse_qsl(urlsplit(await browser.start(query="?fresh=true")).query))
        assert (asked["prompt"], asked["max_age"]) == ("login", "0")
        now = int(datetime.now(UTC).timestamp())
        idp.wrong(claims={"auth_time": now})
        assert (await browser.come_back(subject, query="?fresh=true")).status_code == 303
        for told in ({"drop": ["auth_time"]}, {"claims": {"auth_time": now - 3600}}):
            idp.wrong(**told)
            answer = await Browser(there, idp).come_back(subject, query="?fresh=true")
            await refused(there, answer, "not_fresh")


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "nonce of another": ("wrong_nonce", {"claims": {"nonce": "another"}}),
    "no nonce": ("wrong_nonce", {"drop": ["nonce"]}),
    "nonce that is no text": ("wrong_nonce", {"claims": {"nonce": 1}}),
    "audience": ("wrong_audience", {"claims": {"aud": "another"}}),
    "one audience more": ("wrong_audience", {"claims": {"aud": ["CLIENT", "another"]}}),
    "no audience": ("malformed", {"drop": ["aud"]}),
    "authorized party": ("wrong_party", {"claims": {"azp": "another"}}),
    "issuer": ("wrong_issuer", {"claims": {"iss": "https://evil.example"}}),
    "issuer with a slash": ("wrong_issuer", {"claims": {"iss": "ISSUER/"}}),
    "expired": ("expired", {"ago": 600}),
    "from the future": ("not_yet", {"ago": -600}),
    "no end": ("malformed", {"drop": ["exp"]}),
    "an end that is none": ("malformed", {"claims": {"exp": True}}),
    "an end beyond time": ("malformed", {"claims": {"exp": 1e300}}),
    "no subject": ("malformed", {"drop": ["sub"]}),
    "an empty subject": ("malformed", {"claims": {"sub": ""}}),
    "a long subject": ("malformed", {"claims": {"sub": "x" * 256}}),
    "a number for a subject": ("malformed", {"claims": {"sub": 7}}),
    "another access token": ("wrong_at_hash", {"claims": {"at_hash": "A" * 22}}),
    "a key that is not published": ("unknown_key", {"sign": "stranger"}),
    "a key of that name that is not": ("unknown_key", {"sign": "own", "header": {"kid": "another"}}),
    "no signature": ("algorithm", {"sign": "none"}),
    "HMAC under the public key": ("algorithm", {"sign": "public"}),
}


class TestWhatDoesNotCount:
    @pytest.mark.parametrize("what", WRONG)
    async def test_an_id_token_that_is_wrong(self, there: Office, idp: Idp, what: str):
        because, told = WRONG[what]
        subject, _ = await employee(there, idp)
        text = json.dumps(told).replace("CLIENT", idp.client_id).replace("ISSUER", idp.url)
        idp.wrong(**json.loads(text))
        await refused(there, await Browser(there, idp).come_back(subject), because)
        # The control: but for that, it would have counted.
        assert (await Browser(there, idp).come_back(subject)).status_code == 303

    async def test_a_code_that_comes_again(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        browser = Browser(there, idp)
        back = idp.sign_in(await browser.start(), subject)
        kept = dict(browser.cookies)
        assert (await browser.get(back)).status_code == 303
        await refused(there, await Browser(there, idp, kept).get(back), "used")

    async def test_a_code_that_was_used_elsewhere(self, there: Office, idp: Idp):
        """Another browser's code in one's own sign-in: the provider sees that the verifier is another."""
        subject, _ = await employee(there, idp)
        theirs = dict(parse_qsl(urlsplit(idp.sign_in(await Browser(there, idp).start(), subject)).query))
        browser = Browser(there, idp)
        mine = dict(parse_qsl(urlsplit(await browser.start()).query))
        query = urlencode({"code": theirs["code"], "state": mine["state"]})
        await refused(there, await browser.get(f"/api/v1/auth/oidc/corp/callback?{query}"), "code_refused")

    async def test_a_state_of_another_browser(self, there: Office, idp: Idp):
        """Nobody is signed in as somebody else by a link that they follow."""
        subject, _ = await employee(there, idp)
        back = idp.sign_in(await Browser(there, idp).start(), subject)
        before = len(await failures(there))
        other = Browser(there, idp)
        await other.start()
        for browser in (Browser(there, idp), other):
            told = problem(await browser.get(back), 401, "sso_refused")
            assert told["because"] == "unknown_state"
            assert "__Host-pmis" not in browser.cookies
        assert len(await failures(there)) == before

    @pytest.mark.parametrize("state", ["", "x", "x" * 5000, "\x00"])
    async def test_rubbish(self, there: Office, idp: Idp, state: str):
        name = identities._flow_cookie(state)
        for sealed in ("", "x", "A" * 400, "A" * 5000):
            query = urlencode({"code": "x", "state": state})
            answer = await Browser(there, idp, {name: sealed}).get(f"/api/v1/auth/oidc/corp/callback?{query}")
            assert problem(answer, 401, "sso_refused")["because"] == "unknown_state"

    async def test_an_answer_after_too_long(self, there: Office, idp: Idp, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(oidc, "LIFETIME", timedelta(0))
        subject, _ = await employee(there, idp)
        answer = await Browser(there, idp).come_back(subject)
        assert problem(answer, 401, "sso_refused")["because"] == "unknown_state"

    async def test_an_answer_of_another_provider(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        browser = Browser(there, idp)
        back = idp.sign_in(await browser.start(), subject)
        await refused(there, await browser.get(f"{back}&iss=https%3A%2F%2Fevil.example"), "mixed_up_issuer")

    async def test_an_answer_that_does_not_say_whose_it_is(self, there: Office, idp: Idp):
        subject, _ = await employee(there, idp)
        idp.metadata(authorization_response_iss_parameter_supported=True)
        try:
            browser = Browser(there, idp)
            back = idp.sign_in(await browser.start(), subject)
            await refused(there, await browser.get(back), "mixed_up_issuer")
            back = idp.sign_in(await browser.start(), subject)
            good = await browser.get(f"{back}&{urlencode({'iss': idp.url})}")
            assert good.status_code == 303
        finally:
            idp.metadata()

    async def test_somebody_who_says_no(self, there: Office, idp: Idp):
        browser = Browser(there, idp)
        location = await browser.start()
        answer = idp.http.post(location, data={"action": "deny"})
        # This provider forgets the state when it says no; others do not.
        back = dict(parse_qsl(urlsplit(answer.headers["location"]).query)) | {
            "state": dict(parse_qsl(urlsplit(location).query))["state"]
        }
        assert back["error"] == "access_denied"
        answer = await browser.get(f"/api/v1/auth/oidc/corp/callback?{urlencode(back)}")
        await refused(there, answer, "provider_refused")

    async def test_no_code(self, there: Office, idp: Idp):
        for query in ("", "&code=", "&code=a&code=b", f"&code={'a' * 5000}"):
            browser = Browser(there, idp)
            state = dict(parse_qsl(urlsplit(await browser.start()).query))["state"]
            answer = await browser.get(f"/api/v1/auth/oidc/corp/callback?state={state}{query}")
            await refused(there, answer, "no_code")

    async def test_it_is_counted_and_logged(self, there: Office, idp: Idp, caplog: pytest.LogCaptureFixture):
        def counted() -> float:
            return identities.SIGN_IN_FAILURES.labels("sso")._value.get()

        subject, _ = await employee(there, idp)
        before = counted()
        idp.wrong(claims={"nonce": "another"})
        with caplog.at_level(logging.WARNING, "pmis.identity"):
            await Browser(there, idp).come_back(subject)
        assert counted() == before + 1
        assert "sign-in through corp refused: wrong_nonce" in caplog.text

    @pytest.mark.parametrize(
        ("planted", "what"),
        [("nonce", "nonce of another"), ("time", "expired"), ("signature", "a key that is not published")],
    )
    async def test_the_control_a_check_left_out_is_seen(
        self, there: Office, idp: Idp, monkeypatch: pytest.MonkeyPatch, planted: str, what: str
    ):
        """The tests above fail when a check is left out."""
        if planted == "nonce":
            monkeypatch.setattr(oidc.hmac, "compare_digest", lambda *_: True)
        elif planted == "time":
            monkeypatch.setattr(oidc, "SKEW", timedelta(days=1))
        else:
            real = oidc.jwt.decode

            def unsigned(*given: Any, **more: Any) -> Any:
                more["options"] = {**more["options"], "verify_signature": False}
                return real(*given, **more)

            monkeypatch.setattr(oidc.jwt, "decode", unsigned)
        subject, _ = await employee(there, idp)
        idp.wrong(**WRONG[what][1])
        with pytest.raises(AssertionError):
            await refused(there, await Browser(there, idp).come_back(subject), WRONG[what][0])
        idp.wrong()


class TestAProviderThatIsNotThere:
    async def test_nothing_listens(self, database: TestDatabase, idp: Idp):
        async with opened(database, idp, issuer="http://127.0.0.1:9") as office:
            told = await office.get(None, "/auth/oidc/corp/start")
            assert problem(told, 503, "provider_unavailable")
            assert told.headers["retry-after"]

    @pytest.mark.parametrize(
        "told",
        [
            {"issuer": "https://evil.example"},
            {"token_endpoint": "http://evil.example/token"},
            {"jwks_uri": "https://a@evil.example/keys"},
            {"authorization_endpoint": None},
        ],
    )
    async def test_it_publishes_something_else(self, there: Office, idp: Idp, told: dict[str, Any]):
        idp.metadata(**told)
        try:
            problem(await there.get(None, "/auth/oidc/corp/start"), 503, "provider_unavailable")
        finally:
            idp.metadata()

    async def test_it_publishes_too_much(self, there: Office, idp: Idp):
        idp.metadata(filler="x" * oidc.ANSWER_BYTES)
        try:
            problem(await there.get(None, "/auth/oidc/corp/start"), 503, "provider_unavailable")
        finally:
            idp.metadata()


class TestLinking:
    async def signed_in(self, office: Office, idp: Idp) -> tuple[Browser, str, UUID]:
        subject = f"s-{secrets.token_hex(6)}"
        email = f"{subject}@example.org"
        person = await office.sign_up(subject, email)
        idp.user(subject, email=email, email_verified=True)
        browser = Browser(office, idp)
        said = {"email": email, "password": PASSWORD, "session": "cookie"}
        answer = await office.post(None, "/auth/login", said, headers=SAME)
        office.client.cookies.clear()
        browser.cookies["__Host-pmis"] = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        return browser, subject, person

    async def begin(self, browser: Browser, **said: Any) -> str:
        header = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        answer = await browser.office.post(
            None, "/auth/identities", {"provider": "corp", **said}, headers={"Cookie": header, **SAME}
        )
        browser.office.client.cookies.clear()
        location = ok(answer)["location"]
        name, _, rest = answer.headers["set-cookie"].partition("=")
        browser.cookies[name] = rest.partition(";")[0]
        return location

    async def test_one_links_ones_own_account(self, database: TestDatabase, idp: Idp):
        """Where no address counts, which is the usual way."""
        async with opened(database, idp) as office:
            browser, subject, person = await self.signed_in(office, idp)
            answer = await Browser(office, idp).come_back(subject)
            await refused(office, answer, "identity_not_linked", 403)
            back = await browser.get(idp.sign_in(await self.begin(browser, return_to="/account"), subject))
            assert (back.status_code, back.headers["location"]) == (303, "/account")
            other = Browser(office, idp)
            assert (await other.come_back(subject)).status_code == 303
            assert (await other.me())["id"] == str(person)
            listed = ok(await other.get("/api/v1/auth/identities"))["items"]
            assert [one["provider"] for one in listed] == ["corp"]
            header = {"Cookie": f"__Host-pmis={other.cookies['__Host-pmis']}", **SAME}
            path = f"/auth/identities/{listed[0]['id']}"
            problem(await office.delete("viewer", path), 404, "not_found")
            assert ok(await office.delete(None, path, headers=header)) == {"removed": 1}
            problem(await office.delete(None, path, headers=header), 404, "not_found")
            answer = await Browser(office, idp).come_back(subject)
            await refused(office, answer, "identity_not_linked", 403)
            async with office.database.read(Reach.INSTANCE) as session:
                rows = await session.all(
                    "select type, stream_version, actor from ledger.event where stream_id = %s order by stream_version",
                    (listed[0]["id"],),
                )
            actor = f"person:{person}"
            assert rows == [("identity.linked", 1, actor), ("identity.unlinked", 2, actor)]

    async def test_it_takes_a_fresh_proof(self, there: Office, idp: Idp):
        """Or whoever finds a browser left open opens the account for good."""
        browser, _, person = await self.signed_in(there, idp)
        async with there.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "update identity.session set authenticated_at = authenticated_at - interval '2 days' "
                "where person_id = %s",
                (person,),
            )
            await session.commit()
        there.parts.watch.tell(None)
        header = {"Cookie": f"__Host-pmis={browser.cookies['__Host-pmis']}", **SAME}
        answer = await there.post(None, "/auth/identities", {"provider": "corp"}, headers=header)
        problem(answer, 403, "step_up_needed")

    async def test_linking_twice_is_linking_once(self, there: Office, idp: Idp):
        browser, subject, _ = await self.signed_in(there, idp)
        for _ in range(2):
            assert (await browser.get(idp.sign_in(await self.begin(browser), subject))).status_code == 303
        assert len(ok(await browser.get("/api/v1/auth/identities"))["items"]) == 1

    async def test_an_identity_opens_one_account_and_an_account_has_one_of_each_provider(self, there: Office, idp: Idp):
        browser, subject, _ = await self.signed_in(there, idp)
        assert (await browser.get(idp.sign_in(await self.begin(browser), subject))).status_code == 303
        other, another, _ = await self.signed_in(there, idp)
        await refused(there, await other.get(idp.sign_in(await self.begin(other), subject)), "identity_taken", 409)
        await refused(there, await browser.get(idp.sign_in(await self.begin(browser), another)), "identity_taken", 409)

    async def test_who_signed_in_meanwhile_gets_nothing(self, there: Office, idp: Idp):
        browser, subject, _ = await self.signed_in(there, idp)
        other, _, _ = await self.signed_in(there, idp)
        location = await self.begin(browser)
        browser.cookies["__Host-pmis"] = other.cookies["__Host-pmis"]
        await refused(there, await browser.get(idp.sign_in(location, subject)), "another_person")

    async def test_it_takes_a_browser_and_a_provider_that_there_is(self, there: Office, idp: Idp):
        browser, _, _ = await self.signed_in(there, idp)
        headers = {"Cookie": f"__Host-pmis={browser.cookies['__Host-pmis']}", **SAME}
        problem(await there.post(None, "/auth/identities", {"provider": "x"}, headers=headers), 404, "not_found")
        problem(await there.post("viewer", "/auth/identities", {"provider": "corp"}), 409, "browser_needed")
        said = {"provider": "corp", "return_to": "//evil.example"}
        problem(await there.post("viewer", "/auth/identities", said), 422, "invalid_input")


class TestGroups:
    async def roles(self, office: Office, person: UUID) -> list[str]:
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select roles from state.membership where project_id = %s and person_id = %s",
                (office.a.project, person),
            )
        return row[0] if row else []

    async def test_groups_give_and_take_what_the_setting_names_and_nothing_else(self, database: TestDatabase, idp: Idp):
        async with opened(database, idp) as first:
            prefix = first.a.prefix
            world = first.a
        mapped = {
            "bridge": [{"project": prefix, "roles": ["analyst", "operator"]}],
            "audit": [{"instance_auditor": True}],
            "gone": [{"project": "NOSUCH", "roles": ["viewer"]}],
        }
        async with opened(database, idp, link_by_email=True, groups=mapped) as office:
            office.a = world
            subject, person = await employee(office, idp, groups=["bridge", "audit", "unknown"])
            browser = Browser(office, idp)
            assert (await browser.come_back(subject)).status_code == 303
            me = await browser.me()
            assert me["roles"] == {str(world.project): ["analyst", "operator"]}
            assert (me["instance_auditor"], me["instance_admin"]) == (True, False)
            # What a person granted stays when the groups go.
            async with office.database.read(Reach.INSTANCE) as session:
                row = await session.one("select id from state.membership where person_id = %s", (person,))
            assert row is not None
            world.database = office.database
            await world.do("membership", "patch", row[0], {"roles": ["analyst", "operator", "viewer"]}, who="admin")
            idp.user(subject, email=f"{subject}@example.org", email_verified=True)
            assert (await browser.come_back(subject)).status_code == 303
            me = await browser.me()
            assert (me["roles"], me["instance_auditor"]) == ({str(world.project): ["viewer"]}, False)
            events = await world.events(row[0])
            governed = [json.loads(one[1])["governance"]["route"] for one in events]
            assert governed == ["SETTING", "APPROVAL_REQUIRED", "SETTING"]
            assert [one[2] for one in events if one[2].startswith("system:")] == ["system:sign-in"] * 2
            await world.require_replay()
            before = await office.count("ledger.event")
            assert (await browser.come_back(subject)).status_code == 303
            # Nothing to change: the sign-in is the one event more.
            assert await office.count("ledger.event") == (before[0] + 1,)

    async def test_the_last_administrator_stays_one(
        self, make_database: Callable[[str], TestDatabase], idp: Idp, caplog: pytest.LogCaptureFixture
    ):
        mapped = {"admins": [{"instance_admin": True}]}
        async with opened(make_database("groups"), idp, link_by_email=True, groups=mapped) as office:
            browsers: list[tuple[Browser, str]] = []
            async with office.database.read(Reach.INSTANCE) as session:
                before = await session.all("select id from state.person where instance_admin")
            for _ in range(2):
                subject, _ = await employee(office, idp, groups=["admins"])
                browser = Browser(office, idp)
                assert (await browser.come_back(subject)).status_code == 303
                assert (await browser.me())["instance_admin"]
                browsers.append((browser, subject))
            for (person,) in before:
                await change(office, person, instance_admin=False)
            for browser, subject in browsers:
                idp.user(subject, email=f"{subject}@example.org", email_verified=True)
                assert (await browser.come_back(subject)).status_code == 303
            assert [(await browser.me())["instance_admin"] for browser, _ in browsers] == [False, True]
            assert "the last administrator of the instance stays one" in caplog.text


def test_the_seal_of_a_flow_is_bound_to_provider_and_state_and_time():
    now = datetime.now(UTC)
    flows = oidc.Flows("a secret")
    flow = oidc.new_flow("corp", return_to="/", now=now)
    sealed = flows.seal(flow)
    assert flows.open(sealed, "corp", flow.state, now) == flow
    for wrong in (
        (sealed, "other", flow.state, now),
        (sealed, "corp", "other", now),
        (sealed, "corp", flow.state, now + oidc.LIFETIME),
        (sealed[:-2] + "AA", "corp", flow.state, now),
        ("", "corp", flow.state, now),
    ):
        with pytest.raises(oidc.SignInRefusedError):
            flows.open(*wrong)
    with pytest.raises(oidc.SignInRefusedError):
        oidc.Flows("another secret").open(sealed, "corp", flow.state, now)
    assert flow.verifier not in sealed
