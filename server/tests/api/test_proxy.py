"""Behind a proxy: whom it is believed about, and how everybody else's headers count for nothing."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from pmis.kit.db import Reach
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD, Office, open_office

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
KEY = secrets.token_urlsafe(48)
PROXY, NEXT, STRANGER = "10.1.2.3", "192.0.2.7", "203.0.113.9"
BELIEVED = {"X-Proxy-Secret": KEY}
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("proxied")


@pytest.fixture(scope="module")
async def there(database: TestDatabase) -> AsyncIterator[Office]:
    """An office behind proxies that say who asks."""
    async with open_office(
        database,
        trusted_proxy_addresses=f"10.1.0.0/16, {NEXT}",
        trusted_proxy_secret=SecretStr(KEY),
        trusted_proxy_users=True,
        signin_address_attempts=3,
    ) as office:
        yield office


async def call(
    office: Office, peer: str, method: str, path: str, headers: dict[str, str], json: Any = None
) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=office.app, raise_app_exceptions=False, client=(peer, 4711))
    async with httpx2.AsyncClient(transport=transport, base_url="http://pmis.test") as client:
        raw = httpx2.Headers(headers, encoding="latin-1")
        return await client.request(method, "/api/v1" + path, headers=raw, json=json)


def named(person: UUID | str, **more: str) -> dict[str, str]:
    return {**BELIEVED, "X-User-Id": str(person), **more}


class TestPeople:
    async def test_a_believed_proxy_says_who_asks(self, there: Office):
        for peer in (PROXY, NEXT, "::ffff:10.1.2.3"):
            body = ok(await call(there, peer, "GET", "/auth/me", named(there.person("analyst"))))
            assert body["id"] == str(there.person("analyst"))

    async def test_people_are_named_by_their_address_too(self, there: Office):
        email = f"{secrets.token_hex(6)}@example.org"
        await there.sign_up("Somebody", email)
        body = ok(await call(there, PROXY, "GET", "/auth/me", named(email.upper())))
        assert body["name"] == "Somebody"

    async def test_what_they_do_is_an_event_of_theirs(self, there: Office):
        answer = await call(
            there, PROXY, "POST", "/packages", {**named(there.person("analyst")), **SAME}, {"title": "Through"}
        )
        ok(answer, 201)
        async with there.database.read(Reach.INSTANCE) as session:
            row = await session.one("select actor from ledger.event order by position desc limit 1")
        assert row == (f"person:{there.person('analyst')}",)

    @pytest.mark.parametrize(
        ("peer", "headers"),
        [
            (STRANGER, BELIEVED),
            ("not-an-address", BELIEVED),
            (PROXY, {}),
            (PROXY, {"X-Proxy-Secret": KEY[:-1]}),
            (PROXY, {"X-Proxy-Secret": ""}),
            (PROXY, {"X-Proxy-Secret": KEY + ", " + KEY}),
        ],
    )
    async def test_nobody_else_is_believed(self, there: Office, peer: str, headers: dict[str, str]):
        said = {**headers, "X-User-Id": str(there.person("admin")), "X-User-Role": "admin"}
        problem(await call(there, peer, "GET", "/auth/me", said), 401, "unauthenticated")
        # And it takes nothing from who one is otherwise.
        own = {**said, **there.headers("viewer")}
        assert ok(await call(there, peer, "GET", "/auth/me", own))["id"] == str(there.person("viewer"))

    async def test_a_token_counts_more_than_the_proxys_word(self, there: Office):
        said = {**named(there.person("admin")), **there.headers("viewer")}
        assert ok(await call(there, PROXY, "GET", "/auth/me", said))["id"] == str(there.person("viewer"))

    @pytest.mark.parametrize(
        "who",
        ["", "nobody@example.org", "00000000-0000-7000-8000-000000000000", "x" * 301, "a\tb", "%00"],
    )
    async def test_whom_nobody_knows_is_nobody(self, there: Office, who: str):
        problem(await call(there, PROXY, "GET", "/auth/me", named(who)), 401, "unauthenticated")

    async def test_a_name_that_is_given_twice_is_nobodys(self, there: Office):
        transport = httpx2.ASGITransport(app=there.app, raise_app_exceptions=False, client=(PROXY, 4711))
        admin, viewer = (str(there.person(one)) for one in ("admin", "viewer"))
        headers = [("X-Proxy-Secret", KEY), ("X-User-Id", viewer), ("X-User-Id", admin)]
        async with httpx2.AsyncClient(transport=transport, base_url="http://pmis.test") as client:
            problem(await client.get("/api/v1/people/me", headers=headers), 401, "unauthenticated")

    async def test_a_role_takes_away_and_never_gives(self, there: Office):
        """An administrator whom the proxy calls a viewer only reads; a viewer whom it calls admin is a viewer."""
        package = {"project": str(there.a.project), "title": "Of whom"}
        as_viewer = {**named(there.person("admin"), **{"X-User-Role": "viewer"}), **SAME}
        problem(await call(there, PROXY, "POST", "/packages", as_viewer, package), 403)
        ok(await call(there, PROXY, "GET", f"/projects/{there.a.project}", as_viewer))
        as_admin = {**named(there.person("viewer"), **{"X-User-Role": "admin"}), **SAME}
        problem(await call(there, PROXY, "POST", "/packages", as_admin, package), 403)
        as_self = {**named(there.person("admin"), **{"X-User-Role": "Admin, operator"}), **SAME}
        ok(await call(there, PROXY, "POST", "/packages", as_self, package), 201)
        unknown = named(there.person("admin"), **{"X-User-Role": "emperor"})
        problem(await call(there, PROXY, "GET", "/auth/me", unknown), 401, "unauthenticated")

    @pytest.mark.parametrize(
        ("said", "signed"),
        [
            ("A. L\u00f3pez", "{own} (the proxy says: A. L\u00f3pez)"),
            ("x" * 120, f"{{own}} (the proxy says: {'x' * 120})"),
            (" {own} ", "{own}"),
            ("", "{own}"),
        ],
    )
    async def test_what_the_proxy_calls_them_stands_beside_their_name(self, there: Office, said: str, signed: str):
        own = ok(await call(there, PROXY, "GET", "/auth/me", named(there.person("analyst"))))["name"]
        headers = {
            **named(there.person("analyst")),
            **SAME,
            "X-User-Name": said.format(own=own).encode().decode("latin-1"),
            "X-Correlation-Id": secrets.token_hex(8),
        }
        ok(await call(there, PROXY, "POST", "/packages", headers, {"title": "By which name"}), 201)
        async with there.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select actor, actor_name from ledger.event where correlation_id = %s", (headers["X-Correlation-Id"],)
            )
        assert set(rows) == {(f"person:{there.person('analyst')}", signed.format(own=own))}
        assert ok(await call(there, PROXY, "GET", "/auth/me", headers))["name"] == own

    @pytest.mark.parametrize("said", ["x" * 121, "a\tb", "a\x1b[2Jb", "\u00ff", "sealed:" + "0" * 64])
    async def test_a_name_that_is_none_is_refused_by_its_header(self, there: Office, said: str):
        refused = await call(there, PROXY, "GET", "/auth/me", named(there.person("viewer"), **{"X-User-Name": said}))
        assert "X-User-Name" in problem(refused, 401, "unauthenticated")["detail"]

    async def test_a_name_alone_is_nobodys(self, there: Office):
        said = {**BELIEVED, "X-User-Name": "Analyst"}
        problem(await call(there, PROXY, "GET", "/auth/me", said), 401, "unauthenticated")

    async def test_a_page_of_another_site_changes_nothing_through_the_proxy(self, there: Office):
        said = named(there.person("analyst"))
        for site in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            problem(await call(there, PROXY, "POST", "/packages", {**said, **site}, {"title": "x"}), 403, "cross_site")

    async def test_it_is_no_session(self, there: Office):
        answer = await call(there, PROXY, "GET", "/auth/sessions", named(there.person("analyst")))
        problem(answer, 404, "not_found")

    async def test_who_is_disabled_is_nobody(self, there: Office):
        email = f"{secrets.token_hex(6)}@example.org"
        await there.sign_up("Gone", email)
        person = ok(await call(there, PROXY, "GET", "/auth/me", named(email)))["id"]
        outcome = await there.a.propose("root", "person", "patch", UUID(person), {"active": False})
        assert outcome.approval is not None
        there.people["another root"] = await there.sign_up(
            "Root", f"{secrets.token_hex(6)}@example.org", instance_admin=True
        )
        ok(await there.post("another root", f"/approvals/{outcome.approval.id}/approve"))
        there.parts.watch.tell(None)
        problem(await call(there, PROXY, "GET", "/auth/me", named(email)), 401, "unauthenticated")


class TestAddresses:
    """The limit of failed sign-ins per address shows which address counts."""

    async def refused_after_three(self, office: Office, peer: str, headers: Callable[[int], dict[str, str]]) -> bool:
        said = {"email": "nobody@example.org", "password": PASSWORD}
        answers = [
            await call(
                office, peer, "POST", "/auth/login", headers(number), {**said, "email": f"{number}{said['email']}"}
            )
            for number in range(5)
        ]
        assert {answer.status_code for answer in answers} <= {401, 429}
        return answers[-1].status_code == 429

    async def test_each_caller_behind_the_proxy_has_a_limit_of_their_own(self, there: Office):
        def each(number: int) -> dict[str, str]:
            return {**BELIEVED, "X-Forwarded-For": f"198.51.100.{number}, {NEXT}"}

        assert not await self.refused_after_three(there, PROXY, each)

    async def test_what_a_caller_writes_before_the_proxys_word_counts_for_nothing(self, there: Office):
        def each(number: int) -> dict[str, str]:
            return {**BELIEVED, "X-Forwarded-For": f"198.51.100.{100 + number}, 198.51.100.99, {NEXT}"}

        assert await self.refused_after_three(there, PROXY, each)

    async def test_nobody_else_says_where_they_come_from(self, there: Office):
        def each(number: int) -> dict[str, str]:
            return {"X-Forwarded-For": f"198.51.100.{200 + number}"}

        assert await self.refused_after_three(there, "203.0.113.77", each)

    async def test_garbage_is_the_proxys_own_address(self, there: Office):
        def each(number: int) -> dict[str, str]:
            return {**BELIEVED, "X-Forwarded-For": f"garbage {number}"}

        assert await self.refused_after_three(there, "10.1.9.9", each)


async def test_where_it_is_not_switched_on_the_headers_count_for_nothing(office: Office):
    said = {**named(office.person("root")), "X-User-Role": "admin"}
    for peer in ("127.0.0.1", PROXY):
        problem(await call(office, peer, "GET", "/auth/me", said), 401, "unauthenticated")


async def test_without_a_secret_nobody_is_believed_about_people(database: TestDatabase):
    async with open_office(database, trusted_proxy_addresses="10.1.0.0/16", trusted_proxy_users=True) as office:
        said = {"X-User-Id": str(office.person("root"))}
        problem(await call(office, PROXY, "GET", "/auth/me", said), 401, "unauthenticated")
