"""How often one may try to sign in: exact, shared by every process, the same for accounts that there are not."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from pmis.api.app import create_app
from pmis.identity.attempts import _network
from pmis.kit.db import Reach
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD, PREFIX, open_office, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx2

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

LIMIT = 4


@asynccontextmanager
async def strict(office: Office, **settings: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """Another process of the same instance, which allows little."""
    given = {"signin_account_attempts": LIMIT, **settings}
    async with serving(create_app(settings_for(office.test_database, **given))) as client:
        yield client


async def sign_in(client: httpx2.AsyncClient, email: str, password: str = "not the password") -> httpx2.Response:
    return await client.post(f"{PREFIX}/auth/login", json={"email": email, "password": password})


async def at_once(client: httpx2.AsyncClient, email: str, times: int) -> list[int]:
    """The statuses of so many wrong passwords at the same moment."""
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await sign_in(client, email)).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(one)
    return sorted(statuses)


def new_address() -> str:
    return f"{secrets.token_hex(6)}@example.org"


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_of_many_at_once_exactly_as_many_get_through(office: Office, known: bool):
    email = new_address()
    if known:
        await office.sign_up("Somebody", email)
    async with strict(office) as one, strict(office) as other:
        statuses = await at_once(one, email, 20)
        assert statuses == [401] * LIMIT + [429] * (20 - LIMIT)
        answer = await sign_in(other, email.upper(), PASSWORD)
    body = problem(answer, 429, "too_many_attempts")
    assert 1 <= int(answer.headers["retry-after"]) <= 300 // LIMIT
    assert email.lower() not in str(body).lower()


async def test_the_control_without_its_lock_the_counter_is_not_exact(make_database: Callable[[str], TestDatabase]):
    async with open_office(make_database("attempts")) as office:
        with psycopg.connect(office.test_database.owner_dsn, autocommit=True) as connection:
            row = connection.execute("select pg_get_functiondef('identity.attempt'::regproc)").fetchone()
            assert row is not None
            text = row[0].replace(" for update;", "; perform pg_sleep(2);")
            assert text != row[0]
            connection.execute(text)
        email = new_address()
        async with strict(office, db_pool_size=20) as client:
            # Once its row is there; to add it they would wait for each other.
            await sign_in(client, email)
            statuses = await at_once(client, email, 20)
    assert statuses.count(401) > LIMIT - 1


async def test_who_knows_the_password_is_never_stopped(office: Office):
    email = new_address()
    await office.sign_up("Somebody", email)
    async with strict(office) as client:
        for _ in range(LIMIT + 2):
            ok(await sign_in(client, email, PASSWORD))


async def test_after_the_time_it_says_one_may_try_again(office: Office):
    email = new_address()
    async with strict(office, signin_window_seconds=4) as client:
        assert await at_once(client, email, LIMIT + 1) == [401] * LIMIT + [429]
        answer = await sign_in(client, email)
        if answer.status_code == 429:
            await anyio.sleep(int(answer.headers["retry-after"]))
            answer = await sign_in(client, email)
        problem(answer, 401)


async def test_a_client_address_is_limited_whatever_accounts_it_tries(make_database: Callable[[str], TestDatabase]):
    async with open_office(make_database("address")) as office:
        async with strict(office, signin_address_attempts=3) as client:
            statuses = [(await sign_in(client, new_address())).status_code for _ in range(5)]
            assert statuses == [401] * 3 + [429] * 2
            # To refresh is counted apart, and refused attempts take nothing from the account's budget.
            tried = [
                (await client.post(f"{PREFIX}/auth/refresh", json={"refresh_token": "pmisr_x"})).status_code
                for _ in range(5)
            ]
            assert tried == [401] * 3 + [429] * 2
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select count(*) from identity.throttle")
        # Three accounts and one address to sign in, one to refresh: who was refused left nothing to count but a row.
        assert rows[0][0] <= 3 + 2 + 2


async def test_nothing_is_looked_up_or_hashed_for_who_is_limited(office: Office):
    """The refusal comes before the account is looked for: it cannot take longer for one that there is."""
    email = new_address()
    await office.sign_up("Somebody", email)
    async with strict(office, signin_account_attempts=1) as client:
        problem(await sign_in(client, email), 401)
        count = await office.count("ledger.event")
        for address in (email, new_address()):
            if address != email:
                problem(await sign_in(client, address), 401)
                count = await office.count("ledger.event")
            problem(await sign_in(client, address), 429)
            assert await office.count("ledger.event") == count


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("local", "local"),
    ],
)
def test_an_address_stands_for_its_network(address: str, network: str):
    assert _network(address) == network
