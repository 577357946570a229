"""T14, browsers: the cookie is kept as it should be, and no page of another site acts with it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from pmis.api import context
from pmis.kit.db import Reach
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.office import Office

pytestmark = pytest.mark.anyio

OWN = "https://pmis.test"
SAME = {"Sec-Fetch-Site": "same-origin", "Origin": OWN}
SITES = (None, "same-origin", "same-site", "cross-site", "none", "", "SAME-ORIGIN", "same-origin, same-origin")
ORIGINS = (
    None,
    OWN,
    "https://PMIS.test",
    "http://pmis.test",
    "https://pmis.test:8443",
    "https://pmis.test.evil.example",
    "https://evil.example",
    "https://evil.example/?https://pmis.test",
    "https://www.pmis.test",
    "https://user@pmis.test",
    "https://pmis.test/",
    "ftp://pmis.test",
    "pmis.test",
    "null",
    "",
)
GOOD_SITES = frozenset({None, "same-origin"})
GOOD_ORIGINS = frozenset({None, OWN, "https://PMIS.test"})
QUESTION = {"operation": "patch", "target_type": "package"}


async def signed_in(office: Office) -> tuple[str, str]:
    """Somebody new in a browser: what it keeps, and the session."""
    email = f"{secrets.token_hex(6)}@example.org"
    await office.sign_up("Somebody", email)
    said = {"email": email, "password": PASSWORD, "session": "cookie"}
    answer = await office.post(None, "/auth/login", said, headers=SAME)
    body = ok(answer)
    assert set(body) == {"session_id", "expires_in"}
    kept = answer.headers["set-cookie"]
    # The client of the tests keeps cookies by itself; here each request says which it sends.
    office.client.cookies.clear()
    name, _, rest = kept.partition("=")
    assert name == "__Host-pmis"
    value, *attributes = rest.split("; ")
    assert sorted(one.lower() for one in attributes) == [
        "httponly", f"max-age={body['expires_in']}", "path=/", "samesite=lax", "secure",
    ]  # fmt: skip
    assert value not in answer.text
    return f"{name}={value}", body["session_id"]


async def crossings(office: Office, cookie: str) -> list[str]:
    """Every pair of headers on a request with an effect, and on one that only reads; what went wrong."""
    wrong: list[str] = []
    for site in SITES:
        for origin in ORIGINS:
            headers = {"Cookie": cookie}
            headers |= {} if site is None else {"Sec-Fetch-Site": site}
            headers |= {} if origin is None else {"Origin": origin}
            good = site in GOOD_SITES and origin in GOOD_ORIGINS and (site, origin) != (None, None)
            answer = await office.post(None, "/policy/simulate", QUESTION, headers=headers)
            if answer.status_code != (200 if good else 403):
                wrong.append(f"{site} {origin}: {answer.status_code}")
            elif not good:
                problem(answer, 403, "cross_site")
    return wrong


async def test_t14_no_page_of_another_site_changes_anything(
    office: Office, record_property: Callable[[str, object], None]
):
    cookie, _ = await signed_in(office)
    assert len(SITES) * len(ORIGINS) >= 60
    assert not await crossings(office, cookie)
    record_property("figure", f"T14: {len(SITES) * len(ORIGINS)} pairs of Sec-Fetch-Site and Origin")


@pytest.mark.parametrize("planted", ["prefix", "any"])
async def test_the_control_a_wider_check_is_seen(office: Office, monkeypatch: pytest.MonkeyPatch, planted: str):
    wider = {"prefix": lambda origin, host: origin.lower().startswith(f"https://{host}"), "any": lambda *_: True}
    monkeypatch.setattr(context, "_is_own", wider[planted])
    cookie, _ = await signed_in(office)
    assert await crossings(office, cookie)


@pytest.mark.parametrize(("method", "path"), [("POST", "/packages"), ("PATCH", "/packages/x"), ("DELETE", "/tasks/x")])
async def test_it_holds_for_every_method_with_an_effect(office: Office, method: str, path: str):
    cookie, _ = await signed_in(office)
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = await office.call(None, method, path, {}, headers={"Cookie": cookie, **headers})
        problem(answer, 403, "cross_site")
    answer = await office.call(None, method, path, {}, headers={"Cookie": cookie, **SAME})
    assert answer.status_code in (404, 422)


async def test_reading_needs_the_cookie_alone(office: Office):
    cookie, identity = await signed_in(office)
    assert ok(await office.get(None, "/auth/me", headers={"Cookie": cookie}))["name"] == "Somebody"
    listed = ok(await office.get(None, "/auth/sessions", headers={"Cookie": cookie}))["items"]
    assert [(one["id"], one["kind"], one["current"]) for one in listed] == [(identity, "cookie", True)]


async def test_no_other_site_signs_anybody_in(office: Office):
    email = f"{secrets.token_hex(6)}@example.org"
    await office.sign_up("Somebody", email)
    said = {"email": email, "password": PASSWORD, "session": "cookie"}
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = await office.post(None, "/auth/login", said, headers=headers)
        problem(answer, 403, "cross_site")
        assert "set-cookie" not in answer.headers


async def test_no_session_is_fixed_from_outside(office: Office):
    """Each sign-in makes an id of its own, whatever the browser brings."""
    cookie, _ = await signed_in(office)
    email = f"{secrets.token_hex(6)}@example.org"
    await office.sign_up("Another", email)
    said = {"email": email, "password": PASSWORD, "session": "cookie"}
    answer = await office.post(None, "/auth/login", said, headers={"Cookie": cookie, **SAME})
    office.client.cookies.clear()
    assert cookie not in answer.headers["set-cookie"]
    assert ok(await office.get(None, "/auth/me", headers={"Cookie": cookie}))["name"] == "Somebody"


async def test_signing_out_ends_it_and_takes_the_cookie_back(office: Office):
    cookie, _ = await signed_in(office)
    answer = await office.post(None, "/auth/logout", headers={"Cookie": cookie, **SAME})
    office.client.cookies.clear()
    assert ok(answer) == {"ended": 1}
    assert "Max-Age=0" in answer.headers["set-cookie"]
    problem(await office.get(None, "/auth/me", headers={"Cookie": cookie}), 401, "unauthenticated")


@pytest.mark.parametrize(
    "value", ["", "x", "pmisb_", "pmisb_" + "A" * 43, "pmisr_" + "A" * 43, "' or 1=1 --", "A" * 5000, "%00"]
)
async def test_what_was_never_given_is_refused(office: Office, value: str):
    problem(await office.get(None, "/auth/me", headers={"Cookie": f"__Host-pmis={value}"}), 401)


async def test_a_token_counts_before_a_cookie_and_needs_no_origin(office: Office):
    cookie, _ = await signed_in(office)
    headers = {"Cookie": cookie, **office.headers("viewer"), "Sec-Fetch-Site": "cross-site"}
    ok(await office.post(None, "/policy/simulate", QUESTION, headers=headers))
    bad = {"Cookie": cookie, "Authorization": "Bearer rubbish"}
    problem(await office.get(None, "/auth/me", headers=bad), 401)


async def test_the_cookie_itself_is_not_kept(office: Office):
    cookie, identity = await signed_in(office)
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one("select s::text from identity.session s where id = %s", (identity,))
    value = cookie.partition("=")[2]
    assert row is not None
    assert value not in row[0]
    assert value.encode().hex() not in row[0]


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://localhost.evil.example", "localhost.evil.example", False),
        ("https://pmis.example.org", "pmis.example.org", True),
        ("http://pmis.example.org", "pmis.example.org", False),
        ("https://", "", False),
    ],
)
def test_without_tls_only_this_machine_counts(origin: str, host: str, own: bool):
    assert context._is_own(origin, host) is own
