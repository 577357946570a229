"""Tokens that were not issued by this instance, or not for this, or not for now: each 401, none of them a fault."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pmis.identity.tokens import Tokens
from pmis.kit.errors import UnauthenticatedError
from tests.api.expect import ok, problem
from tests.api.office import JWT_SECRET, begin_session, open_office

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


class Forger:
    """Makes tokens as somebody would who knows everything but the signing key, and a few as the instance itself."""

    def __init__(self, person: str, session: str) -> None:
        self.tokens = Tokens(JWT_SECRET, 10)
        self.now = int(datetime.now(UTC).timestamp())
        self.good: dict[str, Any] = {
            "iss": "pmis",
            "aud": "pmis-api",
            "sub": person,
            "iat": self.now,
            "nbf": self.now,
            "exp": self.now + 600,
            "jti": "x",
            "sid": session,
        }
        self.headers: dict[str, Any] = {"typ": "at+jwt", "kid": self.tokens.kid}

    @property
    def key(self) -> Ed25519PrivateKey:
        return self.tokens._private

    @property
    def public(self) -> bytes:
        return self.tokens._public.public_bytes_raw()

    def signed(self, claims: Mapping[str, Any] = {}, /, drop: str = "", **headers: Any) -> str:
        """A token with the instance's own signature, and something wrong in it."""
        said = {name: value for name, value in {**self.good, **claims}.items() if name != drop}
        return self.raw({"alg": "EdDSA", **self.headers, **headers}, said)

    def raw(self, header: Any, claims: Any, key: Ed25519PrivateKey | None = None) -> str:
        """Signed whatever it holds: a library might refuse to make it."""
        text = f"{_b64(header)}.{_b64(claims)}"
        return f"{text}.{_b64((key or self.key).sign(text.encode()))}"


def _b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def attacks(person: str, session: str, foreign: str) -> dict[str, str]:
    """By what is wrong with it: a token that must not open anything."""
    forger = Forger(person, session)
    good = forger.signed()
    head, body, signature = good.split(".")
    other = Ed25519PrivateKey.generate()
    rsa = generate_private_key(65537, 2048)
    pem = forger.tokens._public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": _b64(other.public_key().public_bytes_raw())}
    none = [
        f"{_b64({'alg': name, **forger.headers})}.{body}.{tail}"
        for name in ("none", "None", "NONE", "nOnE", "")
        for tail in ("", signature)
    ]
    found = {f"none {i}": token for i, token in enumerate(none)}
    for name, secret in (("raw", forger.public), ("pem", pem), ("hex", forger.public.hex().encode()), ("empty", b"")):
        found[f"hs256 with the public key ({name})"] = _hs256(forger, secret)
    found |= {
        "hs256 with the signing secret": _hs256(forger, JWT_SECRET.encode()),
        "rs256": jwt.encode(forger.good, rsa, algorithm="RS256", headers=forger.headers),
        "another key": forger.raw({"alg": "EdDSA", **forger.headers}, forger.good, other),
        "another key under its own kid": forger.raw(
            {"alg": "EdDSA", "typ": "at+jwt", "kid": "0" * 16}, forger.good, other
        ),
        "another instance": Tokens(JWT_SECRET + "!", 10).issue(uuid4(), uuid4(), datetime.now(UTC)),
        "embedded key": forger.raw({"alg": "EdDSA", **forger.headers, "jwk": jwk}, forger.good, other),
        "our signature, embedded key": forger.signed(jwk=jwk),
        "jku": forger.signed(jku="https://evil.example/keys"),
        "x5u": forger.signed(x5u="https://evil.example/chain"),
        "x5c": forger.signed(x5c=["AAAA"]),
        "crit": forger.signed(crit=["exp"]),
        "crit unknown": forger.signed(crit=["b64"], b64=False),
        "compressed": forger.signed(zip="DEF"),
        "content type": forger.signed(cty="JWT"),
        "type jwt": forger.signed(typ="JWT"),
        "type id token": forger.signed(typ="id+jwt"),
        "type in capitals": forger.signed(typ="AT+JWT"),
        "type a list": forger.signed(typ=["at+jwt"]),
        "kid of a path": forger.signed(kid="../../dev/null"),
        "kid of sql": forger.signed(kid="' or '1'='1"),
        "kid a number": forger.signed(kid=1),
        "kid null": forger.signed(kid=None),
        "alg in lower case": forger.signed(alg="eddsa"),
        "alg Ed25519": forger.signed(alg="Ed25519"),
        "no kid": forger.raw({"alg": "EdDSA", "typ": "at+jwt"}, forger.good),
        "no typ": forger.raw({"alg": "EdDSA", "kid": forger.tokens.kid}, forger.good),
        "no header": forger.raw({}, forger.good),
        "header a list": forger.raw([], forger.good),
        "header a text": forger.raw("EdDSA", forger.good),
        "header null": forger.raw(None, forger.good),
        "header deep": forger.raw(json.loads("[" * 500 + "]" * 500), forger.good),
        "claims a list": forger.raw({"alg": "EdDSA", **forger.headers}, [forger.good]),
        "claims null": forger.raw({"alg": "EdDSA", **forger.headers}, None),
        "claims no json": forger.raw({"alg": "EdDSA", **forger.headers}, b"\xff\xfe"),
        "another issuer": forger.signed({"iss": "pmis2"}),
        "issuer a list": forger.signed({"iss": ["pmis"]}),
        "another audience": forger.signed({"aud": "pmis-web"}),
        "audience a list": forger.signed({"aud": ["pmis-api", "other"]}),
        "audience a list of one": forger.signed({"aud": ["pmis-api"]}),
        "expired": forger.signed({"exp": forger.now - 1}),
        "expired long ago": forger.signed({"exp": 0, "iat": 0, "nbf": 0}),
        "not yet": forger.signed({"nbf": forger.now + 3600}),
        "issued tomorrow": forger.signed({"iat": forger.now + 86400}),
        "exp a text": forger.signed({"exp": str(forger.now + 600)}),
        "exp a float": forger.signed({"exp": forger.now + 600.5}),
        "exp true": forger.signed({"exp": True}),
        "exp null": forger.signed({"exp": None}),
        "exp endless": forger.signed({"exp": 10**30}),
        "exp negative": forger.signed({"exp": -(10**30)}),
        "exp infinite": forger.raw(
            {"alg": "EdDSA", **forger.headers}, json.dumps({**forger.good, "exp": float("inf")}).encode()
        ),
        "iat a text": forger.signed({"iat": "now"}),
        "nbf a list": forger.signed({"nbf": [forger.now]}),
        "subject unknown": forger.signed({"sub": str(uuid4())}),
        "subject no id": forger.signed({"sub": "admin"}),
        "subject a number": forger.signed({"sub": 1}),
        "subject null": forger.signed({"sub": None}),
        "subject of sql": forger.signed({"sub": "' or 1=1 --"}),
        "subject with a zero": forger.signed({"sub": person + "\x00"}),
        "session unknown": forger.signed({"sid": str(uuid4())}),
        "session of another": forger.signed({"sid": foreign}),
        "session no id": forger.signed({"sid": "1"}),
        "session a number": forger.signed({"sid": 1}),
        "session null": forger.signed({"sid": None}),
        "session a list": forger.signed({"sid": [session]}),
        "session of sql": forger.signed({"sid": "' or 1=1 --"}),
        "empty": "",
        "a dot": ".",
        "dots": "..",
        "more parts": good + ".x",
        "fewer parts": f"{head}.{body}",
        "signature cut": good[:-2],
        "signature of another": f"{head}.{body}.{forger.signed({'jti': 'y'}).rsplit('.', 1)[1]}",
        "signature empty": f"{head}.{body}.",
        "padded": good + "=",
        "body swapped": f"{head}.{_b64({**forger.good, 'sub': str(uuid4())})}.{signature}",
        "twice": f"{good} {good}",
        "200 KB": "a" * 200_000,
        "200 KB of dots": "." * 200_000,
        "good but long": forger.signed({"pad": "x" * 5000}),
        "latin": "ü.ü.ü",
        "percent": "%00.%00.%00",
        "basic": base64.b64encode(b"admin:admin").decode(),
    }
    for claim in forger.good:
        found[f"no {claim}"] = forger.signed(drop=claim)
    return found


def _hs256(forger: Forger, secret: bytes) -> str:
    import hashlib
    import hmac

    text = f"{_b64({'alg': 'HS256', **forger.headers})}.{_b64(forger.good)}"
    return f"{text}.{_b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


async def test_none_of_them_opens_anything(office: Office):
    own, other = [str(begin_session(office.test_database, office.person(who))) for who in ("admin", "analyst")]
    tried = attacks(str(office.person("admin")), own, other)
    assert len(tried) >= 80
    opened: list[str] = []
    for name, token in tried.items():
        for path in ("/auth/me", "/packages"):
            value = b"Bearer " + token.encode("latin-1")
            answer = await office.get(None, path, headers={"Authorization": value})
            if answer.status_code != 401:
                opened.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            else:
                problem(answer, 401, "unauthenticated")
    assert not opened


async def test_the_forger_can_make_a_good_one(office: Office):
    """The control: what is refused above is refused for what is wrong with it, not for being made here."""
    session = begin_session(office.test_database, office.person("admin"))
    token = Forger(str(office.person("admin")), str(session)).signed()
    answer = await office.get(None, "/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert ok(answer)["id"] == str(office.person("admin"))


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic {}", "{}", "bearer: {}", "Bearer\t{}", "Token {}"])
async def test_only_a_bearer_token_counts(office: Office, value):
    token = office.token("analyst")
    problem(await office.get(None, "/auth/me", headers={"Authorization": value.format(token)}), 401)


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}  "])
async def test_the_scheme_is_read_as_http_says(office: Office, value):
    token = office.token("analyst")
    ok(await office.get(None, "/auth/me", headers={"Authorization": value.format(token)}))


async def test_a_token_in_the_query_or_a_cookie_does_not_count(office: Office):
    token = office.token("analyst")
    problem(await office.get(None, f"/auth/me?access_token={token}"), 401)
    problem(await office.get(None, "/auth/me", headers={"Cookie": f"access_token={token}"}), 401)


class TestClock:
    def test_a_token_ends_when_it_says(self):
        tokens, person, start = Tokens(JWT_SECRET, 10), uuid4(), datetime.now(UTC)
        token = tokens.issue(person, uuid4(), start)
        assert tokens.verify(token, start + timedelta(minutes=9, seconds=58)).person_id == person
        with pytest.raises(UnauthenticatedError, match="expired"):
            tokens.verify(token, start + timedelta(minutes=10))
        with pytest.raises(UnauthenticatedError, match="expired"):
            Tokens(JWT_SECRET, 10).verify(token, start + timedelta(minutes=10))

    def test_another_process_whose_clock_is_a_little_behind_takes_it(self):
        token = Tokens(JWT_SECRET, 10).issue(uuid4(), uuid4(), datetime.now(UTC))
        Tokens(JWT_SECRET, 10).verify(token, datetime.now(UTC) - timedelta(seconds=5))
        with pytest.raises(UnauthenticatedError):
            Tokens(JWT_SECRET, 10).verify(token, datetime.now(UTC) - timedelta(seconds=30))

    def test_what_is_remembered_is_bounded(self):
        tokens, now = Tokens(JWT_SECRET, 10), datetime.now(UTC)
        for _ in range(4100):
            tokens.verify(tokens.issue(uuid4(), uuid4(), now), now)
        assert len(tokens._verified) == 4096

    @pytest.mark.parametrize("now", ["2020-02-29T12:00:00Z", "2031-01-01T00:00:00+14:00"])
    async def test_an_instance_whose_clock_stands_still_can_be_signed_in_to(
        self, make_database: Callable[[str], TestDatabase], now
    ):
        async with open_office(make_database("clock"), pmis_now=datetime.fromisoformat(now)) as office:
            await office.sign_up("Ada", "ada@example.org")
            said = {"email": "ada@example.org", "password": "correct horse battery staple"}
            token = ok(await office.post(None, "/auth/login", said))["access_token"]
            ok(await office.get(None, "/auth/me", headers={"Authorization": f"Bearer {token}"}))
