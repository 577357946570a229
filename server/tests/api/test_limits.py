"""How much one may ask: counted in a real Valkey, for all processes together; and what happens while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from pmis.api import limits
from pmis.api.app import create_app
from pmis.ops import valkey
from pmis.ops.postgres import socket_folder
from pmis.ops.process import current_user, named_user
from pmis.ops.valkey import BrokerError, EmbeddedValkey, ping
from tests.api.expect import ok, problem
from tests.api.office import PREFIX, make_token, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio
FEW = 5


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What is asked of a busy machine is answered in time; two tests ask one that is away."""
    if "valkey" not in request.node.name:
        monkeypatch.setattr(limits, "ASK_SECONDS", 5.0)


class Server:
    """A Valkey that can be killed and started again."""

    def __init__(self, place: Path) -> None:
        user = named_user("nobody") if os.geteuid() == 0 else current_user()
        sockets = socket_folder(place / "run", user, valkey.SOCKET)
        self.described = EmbeddedValkey(folder=place / "valkey", sockets=sockets, password="pass/word", user=user)
        self.described.prepare()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self.described.command(), stdout=subprocess.DEVNULL, cwd="/")
        asyncio.run(self._ready())

    async def _ready(self) -> None:
        for _ in range(1000):
            try:
                await ping(self.described.url)
            except BrokerError:
                await asyncio.sleep(0.01)
            else:
                return
        pytest.fail("Valkey did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.described.clear_stale()
            self._process = None


@pytest.fixture
def server() -> Iterator[Server]:
    place = Path(tempfile.mkdtemp(prefix="pmis vk-"))
    place.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(place, named_user("nobody").uid, -1)
    made = Server(place)
    made.start()
    yield made
    made.kill()
    shutil.rmtree(place, ignore_errors=True)


@contextlib.asynccontextmanager
async def api(office: Office, server: Server, **settings: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """One more process of the office's API, which counts."""
    few = {"rate_limit_person": FEW, "rate_limit_token": FEW, "rate_limit_address": FEW}
    given = {"redis_url": SecretStr(server.described.url), **few, **settings}
    async with serving(create_app(settings_for(office.test_database, **given))) as client:
        yield client


async def me(client: httpx2.AsyncClient, office: Office, who: str) -> httpx2.Response:
    return await client.get(f"{PREFIX}/auth/me", headers=office.headers(who))


async def test_the_limit_is_reached_and_the_window_passes(office: Office, server: Server):
    async with api(office, server, rate_limit_window_seconds=10) as client:
        for _ in range(FEW):
            ok(await me(client, office, "viewer"))
        answer = await me(client, office, "viewer")
        body = problem(answer, 429, "too_many_requests")
        assert body["limited"] == "person"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        # Others have budgets of their own.
        ok(await me(client, office, "analyst"))
        await asyncio.sleep(int(answer.headers["retry-after"]) + 0.1)
        ok(await me(client, office, "viewer"))


async def test_two_processes_share_it(office: Office, server: Server):
    async with api(office, server) as one, api(office, server) as other:
        statuses = [(await me(client, office, "operator")).status_code for client in (one, other) * FEW]
    assert statuses == [200] * FEW + [429] * FEW


async def test_each_counts_in_one_budget(office: Office, server: Server):
    _, token = await make_token(office, "analyst")
    async with api(office, server) as client:

        async def asked(**headers: str) -> int:
            return (await client.get(f"{PREFIX}/packages", headers=headers)).status_code

        assert [await asked(Authorization=f"Bearer {token}") for _ in range(FEW + 1)] == [200] * FEW + [429]
        assert (await me(client, office, "analyst")).status_code == 200, "its owner is not stopped"
        # Without a good token the address counts, at open doors too; who is signed in there is not stopped.
        assert [await asked(Authorization="Bearer none") for _ in range(FEW)] == [401] * FEW
        problem(await client.get(f"{PREFIX}/auth/providers"), 429, "too_many_requests")
        assert await asked() == 429
        assert (await me(client, office, "analyst")).status_code == 200
        # What machines ask is not counted at all.
        for path in ("/health", f"{PREFIX}/health", f"{PREFIX}/readiness", "/metrics"):
            for _ in range(FEW + 1):
                assert (await client.get(path)).status_code != 429, path


async def test_0_is_no_limit_and_without_valkey_nothing_is_counted(office: Office, server: Server):
    async with api(office, server, rate_limit_person=0) as client:
        assert {(await me(client, office, "viewer")).status_code for _ in range(3 * FEW)} == {200}
    async with api(office, server, redis_url=None) as client:
        assert {(await me(client, office, "viewer")).status_code for _ in range(3 * FEW)} == {200}


async def test_what_is_spent_is_not_asked_again(office: Office, server: Server, monkeypatch: pytest.MonkeyPatch):
    from limits.aio.strategies import FixedWindowRateLimiter

    asked: list[str] = []
    original = FixedWindowRateLimiter.hit

    async def hit(self: Any, item: Any, *names: str, **more: Any) -> bool:
        asked.append(names[0])
        return await original(self, item, *names, **more)

    monkeypatch.setattr(FixedWindowRateLimiter, "hit", hit)
    async with api(office, server) as client:
        for _ in range(FEW + 20):
            await me(client, office, "auditor")
    assert len(asked) == FEW + 1, "one question for each request, and none for those that are refused already"
    asked.clear()
    async with api(office, server, rate_limit_person=200) as one, api(office, server, rate_limit_person=200) as other:
        statuses = [(await me(client, office, "inspector")).status_code for client in (one, other) * 110]
    # Large budgets are taken in portions of a fiftieth, which each process uses up before it asks again.
    assert statuses == [200] * 200 + [429] * 20
    assert len(asked) == 50 + 2


async def test_many_at_once_take_one_portion(office: Office, server: Server):
    async with api(office, server, rate_limit_person=500) as client:
        answers = await asyncio.gather(*(me(client, office, "executive") for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
        statuses = [(await me(client, office, "executive")).status_code for _ in range(500 - 60 + 10)]
    assert statuses == [200] * 440 + [429] * 10, "not one of the budget was lost"


async def test_one_late_answer_is_no_reason_to_stop_counting(
    office: Office, server: Server, monkeypatch: pytest.MonkeyPatch
):
    """Whatever this process was busy with; of several questions that were late together one counts."""
    from limits.aio.strategies import FixedWindowRateLimiter

    original, late = FixedWindowRateLimiter.hit, 0

    async def hit(self: Any, *given: Any, **more: Any) -> bool:
        if late:
            await asyncio.sleep(0.05)
            raise TimeoutError
        return await original(self, *given, **more)

    monkeypatch.setattr(FixedWindowRateLimiter, "hit", hit)
    async with api(office, server) as client:
        late = 1
        answers = await asyncio.gather(*(me(client, office, "auditor") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        late = 0
        assert [(await me(client, office, "auditor")).status_code for _ in range(FEW + 1)] == [200] * FEW + [429]
        # Whose budget is spent stays refused, also while Valkey is left alone.
        late = 1
        for _ in range(5):
            ok(await me(client, office, "analyst"))
        late = 0
        ok(await me(client, office, "analyst"))
        problem(await me(client, office, "auditor"), 429, "too_many_requests")
        assert {(await me(client, office, "analyst")).status_code for _ in range(2 * FEW)} == {200}, "it rests"


async def test_while_valkey_is_away_requests_go_on(
    office: Office, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(limits, "REST_SECONDS", 1.0)

    def figures(text: str) -> tuple[float, float]:
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(lines["pmis_rate_limits_up"]), float(lines["pmis_rate_limits_uncounted_total"])

    async with api(office, server) as client:
        assert [(await me(client, office, "executive")).status_code for _ in range(FEW + 1)] == [200] * FEW + [429]
        up, uncounted = figures((await client.get("/metrics")).text)
        assert up == 1
        await asyncio.to_thread(server.kill)
        with caplog.at_level(logging.WARNING, logger="pmis.limits"):
            begun = time.monotonic()
            assert {(await me(client, office, "admin")).status_code for _ in range(2 * FEW)} == {200}
            assert time.monotonic() - begun < 10
        assert sum("does not answer" in record.message for record in caplog.records) == 1
        down, more = figures((await client.get("/metrics")).text)
        assert (down, more) == (0, uncounted + 2 * FEW)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(1.1)
        assert [(await me(client, office, "admin2")).status_code for _ in range(FEW + 1)] == [200] * FEW + [429]
        assert figures((await client.get("/metrics")).text)[0] == 1


async def test_valkey_that_hangs_holds_up_few_requests(office: Office, server: Server, monkeypatch: pytest.MonkeyPatch):
    asked: list[float] = []
    original = limits.Limits._fail

    def fail(self: limits.Limits, error: Exception, began: float) -> None:
        asked.append(time.monotonic())
        original(self, error, began)

    monkeypatch.setattr(limits.Limits, "_fail", fail)
    async with api(office, server) as client:
        ok(await me(client, office, "viewer"))
        process = server._process
        assert process is not None
        os.kill(process.pid, 19)
        try:
            assert {(await me(client, office, "viewer")).status_code for _ in range(2 * FEW)} == {200}
        finally:
            os.kill(process.pid, 18)
    assert len(asked) == limits._STRIKES
