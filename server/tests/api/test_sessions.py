"""T14, sessions: tokens rotate, a stolen one ends its family once, an honest client is never signed out, and what has
ended is refused everywhere within a second."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import httpx2
import psycopg
import pytest
from argon2 import PasswordHasher

from pmis.api.app import create_app
from pmis.identity import sessions, watch
from pmis.identity.passwords import needs_rehash
from pmis.identity.sessions import Client, Lifetimes
from pmis.kit.db import Reach, WriteSession
from pmis.ledger.event import Actor, Origin
from pmis.policy.access import Principal
from tests.api.expect import ok, problem
from tests.api.office import JWT_SECRET, PASSWORD, PREFIX, begin_session, serving, settings_for
from tests.builders import SECRET, make_person

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio

FAMILIES = 200
RACERS = 8
ORIGIN = Origin(Actor("system:tests", "Tests"), "api", "tests")
LIFETIMES = Lifetimes(timedelta(days=30), timedelta(days=14))


async def sign_up(office: Office) -> tuple[str, UUID]:
    """Somebody new with a password: their address and id."""
    email = f"{secrets.token_hex(6)}@example.org"
    return email, await office.sign_up("Somebody", email)


async def sign_in(office: Office, email: str, **headers: str) -> dict[str, Any]:
    """The tokens of a sign-in."""
    return ok(await office.post(None, "/auth/login", {"email": email, "password": PASSWORD}, headers=headers))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def renew(office: Office, token: str, **headers: str) -> httpx2.Response:
    """Ask for the successor of a refresh token."""
    return await office.client.post(
        f"{PREFIX}/auth/refresh", json={"refresh_token": token}, headers={"User-Agent": "tests", **headers}
    )


async def facts(office: Office, session_id: str) -> list[str]:
    """The types of what the log says of a session."""
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select type from ledger.event where stream_id = %s order by stream_version", (session_id,)
        )
    return [row[0] for row in rows]


async def age(office: Office, session_id: str, seconds: float = 11) -> None:
    """Let the uses of a session's refresh tokens lie further back."""
    async with office.database.write(Reach.INSTANCE) as session:
        await session.execute(
            "update identity.refresh_token set used_at = used_at - make_interval(secs => %s) where session_id = %s",
            (seconds, session_id),
        )
        await session.commit()


async def begun(office: Office, person: UUID) -> tuple[str, str]:
    """A session without the password, which takes long by design: its id and its refresh token."""
    async with office.database.write(Reach.INSTANCE) as session:
        granted = sessions.begin(
            session,
            Principal("person", person, "Somebody"),
            client=Client.of("tests", "127.0.0.1"),
            now=datetime.now(UTC),
            lifetimes=LIFETIMES,
            origin=ORIGIN,
        )
        await session.commit()
    return str(granted.session_id), granted.refresh_token


class TestSignIn:
    async def test_it_begins_a_session_that_the_log_tells_of(self, office: Office):
        email, person = await sign_up(office)
        told = await sign_in(office, email, **{"User-Agent": "a browser\twith tabs"})
        assert ok(await office.get(None, "/auth/me", headers=bearer(told["access_token"])))["id"] == str(person)
        assert await facts(office, told["session_id"]) == ["session.started"]
        shown = ok(await office.get(None, "/auth/sessions", headers=bearer(told["access_token"])))["items"]
        assert [(one["id"], one["client"], one["current"], one["kind"]) for one in shown] == [
            (told["session_id"], "a browser with tabs", True, "bearer")
        ]
        assert (told["expires_in"], told["refresh_expires_in"]) == (600, pytest.approx(14 * 86400, abs=2))

    async def test_neither_token_nor_password_nor_address_is_kept_or_told(self, office: Office):
        email, _ = await sign_up(office)
        told = await sign_in(office, email)
        problem(await office.post(None, "/auth/login", {"email": email, "password": "wrong " + PASSWORD}), 401)
        problem(await office.post(None, "/auth/login", {"email": f"x{email}", "password": PASSWORD}), 401)
        async with office.database.read(Reach.INSTANCE) as session:
            kept = await session.all(
                "select t::text from identity.refresh_token t union all select s::text from identity.session s "
                "union all select e::text from ledger.event e where e.type like 'si%%' or e.type like 'se%%' "
                "union all select t::text from identity.throttle t"
            )
        text = "\n".join(row[0] for row in kept)
        for secret in (told["refresh_token"], told["refresh_token"][6:], told["access_token"], PASSWORD, email):
            assert secret not in text
            assert secret.encode().hex() not in text

    async def test_a_failure_is_an_event_that_does_not_tell_whether_the_account_is_there(self, office: Office):
        email, _ = await sign_up(office)
        said: list[dict[str, Any]] = []
        for address in (email, f"nobody-{email}"):
            correlation = secrets.token_hex(8)
            answer = await office.post(
                None,
                "/auth/login",
                {"email": address, "password": "not the password"},
                headers={"X-Correlation-Id": correlation},
            )
            body = problem(answer, 401, "unauthenticated")
            async with office.database.read(Reach.INSTANCE) as session:
                row = await session.one(
                    "select type, payload::json, actor from ledger.event where correlation_id = %s", (correlation,)
                )
            assert row is not None
            assert (row[0], row[2]) == ("signin.failed", "system:sign-in")
            said.append({"detail": body["detail"], "fields": sorted(row[1]), "because": row[1]["because"]})
        assert said[0] == said[1]

    async def test_a_disabled_person_is_refused_and_their_sessions_end(self, office: Office):
        email, person = await sign_up(office)
        told = await sign_in(office, email)
        office.people["second root"] = await office.sign_up(
            "Root", f"{secrets.token_hex(6)}@example.org", instance_admin=True
        )
        answer = ok(await office.patch("root", f"/people/{person}", {"active": False}), 202)
        path = f"/approvals/{answer['approval']['id']}"
        if answer["outcome"] == "confirmation_required":
            ok(await office.post("root", f"{path}/confirm"))
        else:
            ok(await office.post("second root", f"{path}/approve"))
        await anyio.sleep(1)
        problem(await office.get(None, "/auth/me", headers=bearer(told["access_token"])), 401)
        problem(await renew(office, told["refresh_token"]), 401)
        problem(await office.post(None, "/auth/login", {"email": email, "password": PASSWORD}), 401)
        assert await facts(office, told["session_id"]) == ["session.started", "session.ended"]


class TestRefresh:
    async def test_each_token_is_good_once_and_gives_the_next(self, office: Office):
        identity, first = await begun(office, office.person("viewer"))
        seen = {first}
        token = first
        for _ in range(5):
            told = ok(await renew(office, token))
            assert told["session_id"] == identity
            ok(await office.get(None, "/auth/me", headers=bearer(told["access_token"])))
            token = told["refresh_token"]
            assert token not in seen
            seen.add(token)

    async def test_a_lost_answer_is_given_again_to_the_same_client(self, office: Office):
        identity, first = await begun(office, office.person("viewer"))
        one, other = [ok(await renew(office, first)) for _ in range(2)]
        assert one["refresh_token"] == other["refresh_token"]
        ok(await renew(office, one["refresh_token"]))
        assert await facts(office, identity) == ["session.started"]

    async def test_after_the_grace_it_is_theft(self, office: Office):
        identity, first = await begun(office, office.person("viewer"))
        told = ok(await renew(office, first))
        await age(office, identity)
        problem(await renew(office, first), 401, "refresh_reused")
        problem(await renew(office, told["refresh_token"]), 401, "unauthenticated")
        problem(await renew(office, first), 401, "unauthenticated")
        problem(await office.get(None, "/auth/me", headers=bearer(told["access_token"])), 401)
        assert await facts(office, identity) == ["session.started", "refresh.reused", "session.ended"]
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select payload::json ->> 'session_id' from ledger.outbox where topic = 'refresh.reused' and key = %s",
                (f"refresh.reused:{identity}",),
            )
        assert row == (identity,)

    async def test_from_another_client_it_is_theft_at_once(self, office: Office):
        identity, first = await begun(office, office.person("viewer"))
        ok(await renew(office, first))
        problem(await renew(office, first, **{"User-Agent": "curl"}), 401, "refresh_reused")
        assert (await facts(office, identity))[1:] == ["refresh.reused", "session.ended"]

    @pytest.mark.parametrize(
        "token",
        ["x", "pmisr_", "pmisr_" + "A" * 43, "pmisr_" + "A" * 44, "pmisr_" + "é" * 43, "' or 1=1 --", "A" * 200],
    )
    async def test_what_was_never_given_is_refused(self, office: Office, token: str):
        problem(await renew(office, token), 401, "unauthenticated")

    async def test_it_is_good_for_so_long(self, office: Office):
        for change in ("update identity.refresh_token set issued_at = issued_at - interval '14 days' where session_id",
                       "update identity.session set expires_at = now() where id"):  # fmt: skip
            identity, first = await begun(office, office.person("viewer"))
            with psycopg.connect(office.test_database.app_dsn) as connection:
                connection.execute(f"{change} = %s".encode(), (identity,))
            problem(await renew(office, first), 401, "unauthenticated")
            assert await facts(office, identity) == ["session.started", "session.ended"]

    async def test_what_the_database_holds_gives_nobody_a_token(self, office: Office):
        identity, first = await begun(office, office.person("viewer"))
        told = ok(await renew(office, first))
        with psycopg.connect(office.test_database.app_dsn) as connection:
            rows = connection.execute(
                "select digest, successor from identity.refresh_token where session_id = %s", (identity,)
            ).fetchall()
        assert len(rows) == 2
        for digest, sealed in rows:
            assert told["refresh_token"].encode() not in digest + (sealed or b"")
            problem(await renew(office, f"pmisr_{digest.hex()[:43]}"), 401)


async def race(office: Office, token: str, **headers: str) -> list[httpx2.Response]:
    """The same refresh token, presented by RACERS at once."""
    answers: list[httpx2.Response] = []

    async def one() -> None:
        answers.append(await renew(office, token, **headers))

    async with anyio.create_task_group() as group:
        for _ in range(RACERS):
            group.start_soon(one)
    return answers


async def families(office: Office, count: int) -> list[str]:
    """Race in so many families, first as one honest client, then as a thief; what went wrong."""
    wrong: list[str] = []
    async with office.database.write(Reach.INSTANCE) as session:
        person = await make_person(session, office.vault, "Racer")
        await session.commit()
    for number in range(count):
        identity, first = await begun(office, person)
        honest = await race(office, first)
        successors = {answer.json().get("refresh_token") for answer in honest}
        if {answer.status_code for answer in honest} != {200} or len(successors) != 1:
            wrong.append(f"{number}: an honest client was told {sorted(a.status_code for a in honest)}, {successors}")
            continue
        if await facts(office, identity) != ["session.started"]:
            wrong.append(f"{number}: an honest client was signed out")
        await age(office, identity)
        thief = await race(office, first, **{"X-Thief": "1"})
        told = sorted(answer.json().get("code", "") for answer in thief)
        if told != ["refresh_reused", *["unauthenticated"] * (RACERS - 1)]:
            wrong.append(f"{number}: thieves were told {told}")
        if (await facts(office, identity))[1:] != ["refresh.reused", "session.ended"]:
            wrong.append(f"{number}: the log tells {await facts(office, identity)}")
        if (await renew(office, str(successors.pop()))).status_code != 401:
            wrong.append(f"{number}: the family lives on")
    return wrong


class TestRaces:
    async def test_t14_families_are_revoked_once_and_no_honest_client_is_signed_out(
        self, office: Office, record_property: Callable[[str, object], None]
    ):
        began = time.perf_counter()
        assert not await families(office, FAMILIES)
        seconds = time.perf_counter() - began
        record_property("figure", f"T14: {FAMILIES} families x {RACERS} racers, honest and thieves, {seconds:.1f} s")

    async def test_the_control_without_grace_honest_clients_are_signed_out(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sessions, "GRACE", timedelta(seconds=-1))
        assert any("an honest client was told" in one for one in await families(office, 1))

    async def test_the_control_without_the_lock_the_race_is_lost(self, office: Office, monkeypatch: pytest.MonkeyPatch):
        real = WriteSession.one

        async def one(self: WriteSession, statement: str, params: Any = None) -> Any:
            return await real(self, statement.replace(" for update", ""), params)

        monkeypatch.setattr(WriteSession, "one", one)
        assert await families(office, 3)

    async def test_the_control_a_family_that_is_not_ended_is_seen(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sessions, "_end", lambda *_: None)
        assert await families(office, 1)


class TestEnding:
    async def test_signing_out_ends_this_session_alone(self, office: Office):
        email, _ = await sign_up(office)
        one, other = [await sign_in(office, email) for _ in range(2)]
        assert ok(await office.post(None, "/auth/logout", headers=bearer(one["access_token"]))) == {"ended": 1}
        problem(await office.get(None, "/auth/me", headers=bearer(one["access_token"])), 401, "unauthenticated")
        problem(await renew(office, one["refresh_token"]), 401)
        ok(await office.get(None, "/auth/me", headers=bearer(other["access_token"])))
        assert await facts(office, one["session_id"]) == ["session.started", "session.ended"]

    async def test_or_all_of_them(self, office: Office):
        email, _ = await sign_up(office)
        several = [await sign_in(office, email) for _ in range(3)]
        answer = await office.post(
            None, "/auth/logout", {"everywhere": True}, headers=bearer(several[0]["access_token"])
        )
        assert ok(answer) == {"ended": 3}
        for one in several:
            problem(await office.get(None, "/auth/me", headers=bearer(one["access_token"])), 401)

    async def test_another_session_can_be_ended_from_here(self, office: Office):
        email, _ = await sign_up(office)
        here, there = [await sign_in(office, email) for _ in range(2)]
        mine = bearer(here["access_token"])
        listed = ok(await office.get(None, "/auth/sessions?limit=1", headers=mine))
        assert [one["id"] for one in listed["items"]] == [there["session_id"]]
        rest = ok(await office.get(None, f"/auth/sessions?cursor={listed['next']}", headers=mine))
        assert [(one["id"], one["current"]) for one in rest["items"]] == [(here["session_id"], True)]
        path = f"/auth/sessions/{there['session_id']}"
        assert ok(await office.call(None, "DELETE", path, headers=mine)) == {"ended": 1}
        problem(await office.get(None, "/auth/me", headers=bearer(there["access_token"])), 401)
        problem(await office.call(None, "DELETE", path, headers=mine), 404, "not_found")
        ok(await office.get(None, "/auth/me", headers=mine))

    async def test_nobody_ends_another_persons(self, office: Office):
        email, _ = await sign_up(office)
        told = await sign_in(office, email)
        for who in ("root", "admin"):
            answer = await office.call(who, "DELETE", f"/auth/sessions/{told['session_id']}")
            problem(answer, 404, "not_found")
        ok(await office.get(None, "/auth/me", headers=bearer(told["access_token"])))

    async def test_what_ended_long_ago_is_forgotten_and_stays_in_the_log(self, office: Office):
        old, _ = await begun(office, office.person("viewer"))
        kept, token = await begun(office, office.person("viewer"))
        told = ok(await renew(office, token))
        now = datetime.now(UTC)
        with psycopg.connect(office.test_database.app_dsn) as connection:
            connection.execute(
                "update identity.session set ended_at = %s, ended_because = 'logout' where id = %s",
                (now - timedelta(days=31), old),
            )
            connection.execute(
                "update identity.refresh_token set used_at = %s where session_id = %s and used_at is not null",
                (now - timedelta(days=15), kept),
            )
        async with office.database.write(Reach.INSTANCE) as session:
            assert await sessions.prune(session, now=now, lifetimes=LIFETIMES) == 1
            await session.commit()
        assert await facts(office, old) == ["session.started"]
        problem(await renew(office, token), 401, "unauthenticated")
        ok(await renew(office, told["refresh_token"]))


@contextmanager
def api_process(database: TestDatabase, folder: Any) -> Generator[str]:
    """`pmis api` as a process of its own; where it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PMIS_")},
        "DATABASE_URL": database.app_dsn,
        "SECRET_KEY": SECRET,
        "JWT_SECRET_KEY": JWT_SECRET,
        "PMIS_DATA_DIR": str(folder),
        "DB_POOL_SIZE": "3",
    }
    command = [sys.executable, "-P", "-m", "pmis.cli.main", "api", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}{PREFIX}"
    finally:
        process.terminate()
        process.wait(20)


async def until_refused(client: httpx2.AsyncClient, url: str, token: str) -> float:
    """How long a token is still taken, from now; gives up after three seconds."""
    began = time.perf_counter()
    while time.perf_counter() - began < 3:
        asked = time.perf_counter()
        if (await client.get(f"{url}/auth/me", headers=bearer(token))).status_code == 401:
            return asked - began
        await anyio.sleep(0.005)
    return 3.0


class TestWithinASecond:
    async def test_r18_two_processes_refuse_what_has_ended(
        self, office: Office, tmp_path: Any, record_property: Callable[[str, object], None]
    ):
        person = office.person("viewer")
        waited: list[float] = []
        with ExitStack() as stack:
            urls = [stack.enter_context(api_process(office.test_database, tmp_path / str(n))) for n in range(2)]
            async with httpx2.AsyncClient(timeout=30) as client:
                for url in urls:
                    with anyio.fail_after(60):
                        while True:
                            try:
                                if (await client.get(f"{url}/health")).status_code == 200:
                                    break
                            except httpx2.TransportError:
                                await anyio.sleep(0.1)
                await anyio.sleep(1)
                for round_ in range(10):
                    session = begin_session(office.test_database, person)
                    token = office.parts.tokens.issue(person, session, datetime.now(UTC))
                    for url in urls:
                        assert (await client.get(f"{url}/auth/me", headers=bearer(token))).status_code == 200
                    here, there = urls if round_ % 2 else urls[::-1]
                    answer = await client.post(f"{here}/auth/logout", json={}, headers=bearer(token))
                    assert answer.status_code == 200
                    assert (await client.get(f"{here}/auth/me", headers=bearer(token))).status_code == 401
                    waited.append(await until_refused(client, there, token))
        assert max(waited) <= 1.0, waited
        figure = f"R18: a session ended in one process is refused by another after {max(waited) * 1000:.0f} ms at most"
        record_property("figure", f"{figure}, {len(waited)} rounds")

    async def test_a_role_and_a_disabled_person_too(self, office: Office):
        who = await office.newcomer("viewer")
        app = create_app(settings_for(office.test_database))
        async with serving(app) as client:
            await self._heard(app)
            path, headers = f"{PREFIX}/projects/{office.a.project}", office.headers(who)
            assert (await client.get(path, headers=headers)).status_code == 200
            with psycopg.connect(office.test_database.app_dsn, autocommit=True) as connection:
                row = connection.execute(
                    "select id from state.membership where person_id = %s", (office.person(who),)
                ).fetchone()
            assert row is not None
            await office.a.do("membership", "patch", row[0], {"roles": []}, who="admin")
            began = time.perf_counter()
            while (await client.get(path, headers=headers)).status_code == 200:
                assert time.perf_counter() - began < 1
                await anyio.sleep(0.01)

    async def test_while_it_is_heard_nobody_asks_the_database_who_calls(self, office: Office):
        app = create_app(settings_for(office.test_database))
        async with serving(app) as client:
            await self._heard(app)
            assert (await client.get(f"{PREFIX}/auth/me", headers=office.headers("viewer"))).status_code == 200
            await anyio.sleep(1.2)
            await app.state.parts.database.close()
            # There is no pool to ask any more.
            assert (await client.get(f"{PREFIX}/auth/me", headers=office.headers("viewer"))).status_code == 200

    async def test_a_listener_that_lost_its_connection_costs_no_more_than_a_second(self, office: Office):
        app = create_app(settings_for(office.test_database))
        async with serving(app) as client:
            await self._heard(app)
            session = begin_session(office.test_database, office.person("viewer"))
            token = app.state.parts.tokens.issue(office.person("viewer"), session, datetime.now(UTC))
            assert (await client.get(f"{PREFIX}/auth/me", headers=bearer(token))).status_code == 200
            with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name = 'pmis-watch' and datname = current_database()"
                )
            self._end(office, session)
            assert await until_refused(client, PREFIX, token) <= 1.1
            # It comes back by itself.
            await self._heard(app)

    async def test_the_control_without_being_told_it_takes_too_long(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ):
        async def deaf(*_: object) -> None:
            await anyio.sleep(3600)

        monkeypatch.setattr(watch.Watch, "_listen", deaf)
        monkeypatch.setattr(watch, "FRESH_SECONDS", 60.0)
        app = create_app(settings_for(office.test_database))
        async with serving(app) as client:
            session = begin_session(office.test_database, office.person("viewer"))
            token = app.state.parts.tokens.issue(office.person("viewer"), session, datetime.now(UTC))
            assert (await client.get(f"{PREFIX}/auth/me", headers=bearer(token))).status_code == 200
            self._end(office, session)
            assert await until_refused(client, PREFIX, token) == 3.0

    @staticmethod
    def _end(office: Office, session: UUID) -> None:
        with psycopg.connect(office.test_database.app_dsn, autocommit=True) as connection:
            connection.execute(
                "update identity.session set ended_at = now(), ended_because = 'tests' where id = %s", (session,)
            )

    @staticmethod
    async def _heard(app: Any) -> None:
        with anyio.fail_after(20):
            while not app.state.parts.watch.is_heard:  # noqa: ASYNC110 - a time, and no event, says so
                await anyio.sleep(0.02)


class TestKeys:
    async def test_a_former_key_is_good_until_its_tokens_expire(self, office: Office):
        session = begin_session(office.test_database, office.person("viewer"))
        old = office.parts.tokens.issue(office.person("viewer"), session, datetime.now(UTC))
        new = "the next key, for tests only: " + "n" * 40
        for previous, status in ((None, 401), (f"{uuid4()}{uuid4()},{JWT_SECRET}", 200)):
            settings = settings_for(office.test_database, jwt_secret_key=new, jwt_previous_secret_keys=previous)
            async with serving(create_app(settings)) as client:
                assert (await client.get(f"{PREFIX}/auth/me", headers=bearer(old))).status_code == status


class TestPassword:
    NEW = "another horse, another battery"

    async def change(self, office: Office, token: str, current: str, new: str = NEW) -> httpx2.Response:
        said = {"current_password": current, "new_password": new}
        return await office.post(None, "/auth/password", said, headers=bearer(token))

    async def test_changing_it_ends_the_other_sessions(self, office: Office):
        email, person = await sign_up(office)
        here, there = [await sign_in(office, email) for _ in range(2)]
        assert ok(await self.change(office, here["access_token"], PASSWORD)) == {"ended": 1}
        ok(await office.get(None, "/auth/me", headers=bearer(here["access_token"])))
        problem(await office.get(None, "/auth/me", headers=bearer(there["access_token"])), 401)
        problem(await renew(office, there["refresh_token"]), 401)
        problem(await office.post(None, "/auth/login", {"email": email, "password": PASSWORD}), 401)
        ok(await office.post(None, "/auth/login", {"email": email, "password": self.NEW}))
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select type from ledger.event where actor = %s and type = 'password.changed'", (f"person:{person}",)
            )
        assert len(rows) == 1

    async def test_it_needs_the_current_one(self, office: Office):
        email, _ = await sign_up(office)
        told = await sign_in(office, email)
        problem(await self.change(office, told["access_token"], "not " + PASSWORD), 403, "wrong_password")
        ok(await office.post(None, "/auth/login", {"email": email, "password": PASSWORD}))

    @pytest.mark.parametrize("new", ["tooshort1", "qwertyuiop123", "x" * 201])
    async def test_and_a_good_new_one(self, office: Office, new: str):
        answer = await self.change(office, office.token("viewer"), PASSWORD, new)
        assert problem(answer, 422)["errors"][0]["pointer"] == "/new_password"
        assert new not in answer.text

    async def test_it_is_not_guessed_from_within_either(self, office: Office):
        app = create_app(settings_for(office.test_database, signin_account_attempts=2))
        async with serving(app) as client:
            statuses = [
                (
                    await client.post(
                        f"{PREFIX}/auth/password",
                        json={"current_password": "not known", "new_password": self.NEW},
                        headers=office.headers("auditor"),
                    )
                ).status_code
                for _ in range(4)
            ]
        assert statuses == [403, 403, 429, 429]

    async def test_a_hash_of_former_parameters_is_made_anew_at_the_next_sign_in(self, office: Office):
        email, person = await sign_up(office)
        weak = PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
        with psycopg.connect(office.test_database.app_dsn) as connection:
            connection.execute("update identity.credential set password_hash = %s where person_id = %s", (weak, person))
        await sign_in(office, email)
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select password_hash from identity.credential where person_id = %s", (person,))
        assert row is not None
        assert row[0] != weak
        assert not needs_rehash(row[0])
        await sign_in(office, email)
