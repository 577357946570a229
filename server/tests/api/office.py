"""Two projects side by side, people of every kind, and a client that speaks for any of them.

Every text in a project's records carries the project's mark, a word that stands nowhere else: where it shows up in an
answer to somebody who may not see the project, something leaked.
"""

from __future__ import annotations

import json
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import httpx2
import psycopg
from pydantic import SecretStr

from pmis.api.app import create_app
from pmis.assistant import turns
from pmis.jobs.queue import enqueue
from pmis.kit.db import Database, Reach, WriteSession
from pmis.kit.ids import uuid7
from pmis.kit.settings import Settings, load_settings
from pmis.ledger.checkpoint import signer_of
from pmis.ledger.event import Origin
from pmis.ledger.seal import Sealer
from pmis.ledger.vault import Vault
from pmis.ops.console import Console
from pmis.policy.levels import Level
from pmis.task.escalation import ACTOR, climb, ladder_at
from tests.builders import SECRET, World, make_member, make_person, make_project, new_prefix
from tests.mail.post import Post, parcel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    import pytest
    from fastapi import FastAPI

    from pmis.api.context import Parts
    from tests.conftest import TestDatabase

WEBHOOK_SECRETS: Final = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "the former secret of a mail service")
JWT_SECRET: Final = "for tests only: " + "j" * 40
PASSWORD: Final = "correct horse battery staple"
PREFIX: Final = "/api/v1"
_HIGH: Final = Level.HIGH
_MEDIUM: Final = Level.MEDIUM
STAFF: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": ("viewer",),
    "analyst": ("analyst",),
    "operator": ("operator",),
    "admin": ("admin",),
    "admin2": ("admin",),
    "executive": ("executive",),
    "auditor": ("auditor",),
}
INSTANCE: Final[Mapping[str, Mapping[str, bool]]] = {
    "nobody": {},
    "root": {"instance_admin": True},
    "inspector": {"instance_auditor": True},
}


def settings_for(database: TestDatabase, **more: Any) -> Settings:
    """Settings of a served application on a test database."""
    usual: dict[str, Any] = {
        "database_url": SecretStr(database.app_dsn),
        "secret_key": SecretStr(SECRET),
        "jwt_secret_key": SecretStr(JWT_SECRET),
        "db_pool_size": 4,
        "storage_dir": database.files / "objects",
        "mail_max_bytes": 2 << 20,
        "mail_webhook_secret": SecretStr(WEBHOOK_SECRETS[0]),
        "mail_webhook_previous_secret": SecretStr(WEBHOOK_SECRETS[1]),
        # All tests call from one address.
        "signin_address_attempts": 1_000_000,
        # Their sign-ins last as long as the run.
        "step_up_minutes": 1440,
    }
    return load_settings(embedded=False, environment="test", **{**usual, **more})


def begin_session(database: TestDatabase, person: UUID, *, told: bool = True) -> UUID:
    """A session of the person, as a sign-in would begin it; unless `told`, the log does not know of it."""
    identity = uuid7()
    with psycopg.connect(database.app_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into identity.session "
            "(id, person_id, kind, client, started_at, last_used_at, authenticated_at, expires_at) "
            "select %s, %s, 'bearer', 'tests', t, t, t, t + interval '100 years' from (select now() as t) as clock",
            (identity, person),
        )
        if told:
            connection.execute(
                "select ledger.append_event(%s, 'session', %s, 1, null, 'session.started', 1, '{}', "
                "'system:tests', 'Tests', null, null, 'api', 'tests', null)",
                (uuid7(), identity),
            )
    return identity


def link_identity(database: TestDatabase, person: UUID) -> UUID:
    """An identity at some provider that opens the person's account."""
    identity = uuid7()
    with psycopg.connect(database.app_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into identity.external_identity "
            "(id, issuer, subject, provider, person_id, linked_at, last_used_at) "
            "values (%s, 'https://login.example', %s, 'corp', %s, now(), now())",
            (identity, str(person), person),
        )
        connection.execute(
            "select ledger.append_event(%s, 'identity', %s, 1, null, 'identity.linked', 1, '{}', "
            "'system:tests', 'Tests', null, null, 'api', 'tests', null)",
            (uuid7(), identity),
        )
    return identity


async def make_conversation(office: Office, who: str) -> UUID:
    """Something said to the assistant, in a conversation of somebody's."""
    answer = await office.post(
        who, "/chat", {"query": f"What about {office.records['b' if who.startswith('b:') else 'a'].mark}?"}
    )
    assert answer.status_code == 200, answer.text
    return UUID(answer.json()["conversation_id"])


def keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a call would commit is checked as a commit checks it, and taken back: no call sees another's effect.

    The assistant commits more than once for a message, and finds at its end what it began with: that it does not is no
    reason here to refuse its answer.
    """

    async def commit(session: WriteSession) -> None:
        await session.execute("set constraints all immediate")
        await session.execute("rollback")

    finish = turns.finish

    async def finished(*given: Any, **more: Any) -> bool:
        await finish(*given, **more)
        return True

    monkeypatch.setattr(WriteSession, "commit", commit)
    monkeypatch.setattr(turns, "finish", finished)


def new_mark() -> str:
    """A word that stands nowhere else."""
    return f"zq{secrets.token_hex(6)}"


@dataclass
class Records:
    """What a project holds: for each kind of record and each state the ids of records in it."""

    mark: str
    ids: dict[str, dict[str, UUID]] = field(default_factory=dict[str, dict[str, UUID]])
    values: dict[str, str] = field(default_factory=dict[str, str])
    """Values by which one might ask for them: codes, outside references, addresses, correlation ids."""

    def put(self, kind: str, state: str, identity: UUID) -> UUID:
        """Remember a record."""
        self.ids.setdefault(kind, {})[state] = identity
        return identity

    def all_ids(self) -> frozenset[str]:
        """Every id, as text; invitations are the instance's, and tell no others what they are into (`invited`)."""
        return frozenset(
            str(one) for kind, states in self.ids.items() if kind != "invitation" for one in states.values()
        )


@dataclass
class Office:
    """The served application, and everybody who calls it."""

    app: FastAPI
    test_database: TestDatabase
    database: Database
    vault: Vault
    a: World
    b: World
    people: dict[str, UUID]
    client: httpx2.AsyncClient
    records: dict[str, Records] = field(default_factory=dict[str, Records])
    _tokens: dict[str, tuple[datetime, str]] = field(default_factory=dict[str, tuple[datetime, str]])
    _sessions: dict[str, UUID] = field(default_factory=dict[str, UUID])

    @property
    def parts(self) -> Parts:
        """The application's parts."""
        return cast("Parts", self.app.state.parts)

    def world(self, who: str) -> World:
        """The project whose member somebody is: `b:` marks those of the other one."""
        return self.b if who.startswith("b:") else self.a

    def person(self, who: str) -> UUID:
        """The person's id: `analyst` is of project A, `b:analyst` of project B, `root` of none."""
        if who in self.people:
            return self.people[who]
        return self.world(who).people[who.removeprefix("b:")]

    def token(self, who: str) -> str:
        """An access token that is good for a while yet."""
        now = datetime.now(UTC)
        made, token = self._tokens.get(who, (now - timedelta(days=1), ""))
        if now - made > timedelta(minutes=5):
            session = self._sessions.get(who) or begin_session(self.test_database, self.person(who))
            self._sessions[who] = session
            token = self.parts.tokens.issue(self.person(who), session, now)
            self._tokens[who] = (now, token)
        return token

    def sign_in(self, *names: str) -> None:
        """Let these people's sign-ins be in the log already, for tests that count what is written."""
        for name in names:
            self.token(name)

    def headers(self, who: str | None) -> dict[str, str]:
        """What makes a request somebody's; nothing for `None`."""
        return {} if who is None else {"Authorization": f"Bearer {self.token(who)}"}

    async def call(
        self, who: str | None, method: str, path: str, json: Any = None, *, base: str = PREFIX, **more: Any
    ) -> httpx2.Response:
        """One request in somebody's name (nobody's for None)."""
        headers = {**self.headers(who), **more.pop("headers", {})}
        if json is not None:
            more["json"] = json
        return await self.client.request(method, base + path, headers=headers, **more)

    async def get(self, who: str | None, path: str, **more: Any) -> httpx2.Response:
        """Read."""
        return await self.call(who, "GET", path, **more)

    async def post(self, who: str | None, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        """Propose or say."""
        return await self.call(who, "POST", path, {} if json is None else json, **more)

    async def patch(self, who: str | None, path: str, json: Any, **more: Any) -> httpx2.Response:
        """Propose a change."""
        return await self.call(who, "PATCH", path, json, **more)

    async def delete(self, who: str | None, path: str, **more: Any) -> httpx2.Response:
        """Propose a deletion."""
        return await self.call(who, "DELETE", path, **more)

    async def count(self, *tables: str) -> tuple[int, ...]:
        """How many rows the tables have; without names, those that any write would touch."""
        names = tables or ("ledger.event", "ledger.outbox", "ledger.idempotency", "ledger.vault", "identity.credential")
        async with self.database.read(Reach.INSTANCE) as session:
            row = await session.one("select " + ", ".join(f"(select count(*) from {name})" for name in names))
        return row or ()

    async def sign_up(self, name: str, email: str, **rights: bool) -> UUID:
        """A person who can sign in with PASSWORD."""
        async with self.database.write(Reach.INSTANCE) as session:
            person = await Console(session, self.vault, "tests", "tests").person(name, email, PASSWORD, **rights)
            await session.commit()
        return person.id

    async def newcomer(self, *roles: str, world: World | None = None) -> str:
        """The name of a new member of a project, for tests that change what somebody may do."""
        name = f"newcomer-{secrets.token_hex(4)}"
        async with self.database.write(Reach.INSTANCE) as session:
            self.people[name] = await make_person(session, self.vault, name)
            if roles:
                await make_member(session, self.vault, (world or self.a).project, self.people[name], *roles)
            await session.commit()
        self.sign_in(name)
        return name


async def make_staff(database: Database, vault: Vault, mark: str, **project: Any) -> World:
    """A project with a person for each role; the project and everybody in it carry the mark."""
    prefix = project.setdefault("prefix", new_prefix())
    async with database.write(Reach.INSTANCE) as session:
        people = {name: await make_person(session, vault, f"{name.title()} {mark}") for name in STAFF}
        identity = await make_project(
            session, vault, **{"name": f"Project {mark}", "description": f"About {mark}", **project}
        )
        for name, roles in STAFF.items():
            await make_member(session, vault, identity, people[name], *roles)
        await session.commit()
    return World(database, vault, identity, people, prefix)


async def _mails(world: World, found: Records, files: Path) -> None:
    """A mail that is attached to the living package, and one that waits for somebody to look at it."""
    mark = found.mark
    post = Post.of(world, files)
    await world.make_party(name=f"Known {mark}", email=f"known@{mark}.example")
    code = found.values["package.live.code"]
    for state, sender in (("live", "known"), ("waiting", "stranger")):
        raw = parcel(f"{sender}@{mark}.example", mark)
        found.put("email", state, (await post.one(raw, post.at(code))).id)


async def _climb(world: World, task: UUID, mark: str) -> None:
    """Let an overdue task climb the ladder by one rung."""
    async with world.database.write(Reach.INSTANCE) as session:
        ladder = await ladder_at(session, datetime(2030, 1, 2, tzinfo=UTC))
        assert await climb(session, ladder, [task], origin=Origin(ACTOR, "job", f"ladder-{mark}")) == 1
        await session.commit()


async def furnish(world: World, mark: str, files: Path) -> Records:
    """One record of every kind in every state it can be in, each text with the mark."""
    found = Records(mark)

    async def waiting(kind: str, operation: str, target: UUID, patch: dict[str, Any], who: str = "operator") -> UUID:
        outcome = await world.propose(
            who, kind, operation, target, patch, reason=f"Waiting {mark}", stated_impact=_HIGH
        )
        assert outcome.approval is not None
        return outcome.approval.id

    # --- project, package types, people ---
    found.put("project", "live", world.project)
    works = await world.do("package_type", "create", None, _type(f"Works {mark}"), who="admin")
    found.put("package_type", "live", works.id)
    lots = await world.do("package_type", "create", None, _type(f"Lots {mark}"), who="admin")
    found.put("package_type", "waiting", lots.id)
    await waiting("package_type", "patch", lots.id, {"description": f"Changed {mark}"}, "admin")
    for name in STAFF:
        found.put("person", name, world.people[name])
    async with world.database.read(Reach.INSTANCE) as session:
        for person, identity in await session.all(
            "select person_id, id from state.membership where project_id = %s", (world.project,)
        ):
            name = next(str(key) for key, value in world.people.items() if value == person)
            found.put("membership", {"viewer": "live", "analyst": "waiting"}.get(name, name), identity)
    await waiting("membership", "patch", found.ids["membership"]["waiting"], {"roles": ["viewer"]}, "admin")
    now = datetime.now(UTC)
    for state, who in (("live", "admin"), ("waiting", "executive")):
        lent = await world.do(
            "delegation",
            "create",
            None,
            {
                "to_person": str(world.people["admin2"]),
                "starts_at": (now + timedelta(days=1)).isoformat(),
                "ends_at": (now + timedelta(days=2)).isoformat(),
            },
            who=who,
        )
        found.put("delegation", state, lent.id)
    await waiting("delegation", "patch", found.ids["delegation"]["waiting"], {"revoked": True}, "executive")

    # --- parties ---
    for state in ("live", "waiting", "deleted"):
        party = await world.do(
            "party",
            "create",
            None,
            {
                "name": f"Vendor {state} {mark}",
                "kind": "both",
                "email": f"{state}@{mark}.example",
                "external_ref": f"party-{state}-{mark}",
                "contacts": [{"name": f"Contact {mark}", "email": f"contact@{mark}.example", "phone": f"tel {mark}"}],
                "bank_details": {"holder": f"Holder {mark}", "account": f"account {mark}"},
                "data": {"note": mark},
            },
        )
        found.put("party", state, party.id)
        found.values[f"party.{state}.email"] = f"{state}@{mark}.example"
    found.values["party.external_ref"] = f"party-live-{mark}"
    await waiting("party", "patch", found.ids["party"]["waiting"], {"bank_details": {"holder": f"Other {mark}"}})
    await world.do("party", "delete", found.ids["party"]["deleted"], reason=f"Gone {mark}")

    # --- packages and tasks ---
    for state in ("live", "waiting", "deleted"):
        package = await world.do(
            "package",
            "create",
            None,
            {
                "title": f"Package {state} {mark}",
                "description": f"All about {mark}",
                "package_type": f"Works {mark}",
                "owner_id": str(world.people["operator"]),
                "vendor_id": str(found.ids["party"]["live"]),
                "amount": "50000.00",
                "currency": "EUR",
                "planned_start": "2026-01-01",
                "planned_end": "2026-12-31",
                "external_ref": f"package-{state}-{mark}",
                "data": {"note": mark},
            },
        )
        found.put("package", state, package.id)
        found.values[f"package.{state}.code"] = package.code
    found.values["package.external_ref"] = f"package-live-{mark}"
    await world.do("package", "transition", found.ids["package"]["waiting"], {"status": "submitted"})
    await waiting("package", "patch", found.ids["package"]["waiting"], {"title": f"Changed {mark}"})
    for state in ("live", "waiting", "deleted"):
        task = await world.do(
            "task",
            "create",
            None,
            {
                "package_id": str(found.ids["package"]["live"]),
                "title": f"Task {state} {mark}",
                "description": f"Do {mark}",
                "assignee_id": str(world.people["operator"]),
                "due_date": "2026-06-30",
                "external_ref": f"task-{state}-{mark}",
                "data": {"note": mark},
            },
        )
        found.put("task", state, task.id)
    found.values["task.external_ref"] = f"task-live-{mark}"
    await waiting("task", "patch", found.ids["task"]["waiting"], {"title": f"Changed {mark}"})
    await world.do("task", "delete", found.ids["task"]["deleted"], reason=f"Gone {mark}")
    await _climb(world, found.ids["task"]["live"], mark)
    await world.do("package", "delete", found.ids["package"]["deleted"], reason=f"Gone {mark}")

    await _remarks(world, mark, found, waiting)

    # --- approvals in each status ---
    await _approvals(world, mark, found)
    async with world.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select id, correlation_id from ledger.event where stream_id = %s order by position limit 1",
            (found.ids["package"]["live"],),
        )
        assert row is not None
        found.put("event", "live", row[0])
        found.values["correlation_id"] = row[1]
    await _mails(world, found, files)
    return found


async def _remarks(world: World, mark: str, found: Records, waiting: Callable[..., Awaitable[UUID]]) -> None:
    """Comments and memories, by somebody whom the matrix lets act."""
    for state in ("live", "waiting", "deleted"):
        comment = await world.do(
            "comment",
            "create",
            None,
            {
                "entity_type": "package",
                "entity_id": str(found.ids["package"]["live"]),
                "body": f"Comment {state} {mark}",
            },
            who="analyst",
        )
        found.put("comment", state, comment.id)
    await waiting("comment", "patch", found.ids["comment"]["waiting"], {"body": f"Changed {mark}"}, "analyst")
    await world.do("comment", "delete", found.ids["comment"]["deleted"], who="analyst", reason=f"Gone {mark}")
    for state in ("live", "waiting", "deleted"):
        memory = await world.do(
            "memory",
            "create",
            None,
            {
                "entity_type": "package",
                "entity_id": str(found.ids["package"]["live"]),
                "kind": "context",
                "text": f"Memory {state} {mark}",
                "sources": [{"type": "task", "id": str(found.ids["task"]["live"])}],
                "conversation_id": str(found.ids["person"]["analyst"]),
            },
            who="analyst",
        )
        found.put("memory", state, memory.id)
    await waiting("memory", "patch", found.ids["memory"]["waiting"], {"text": f"Changed {mark}"}, "analyst")
    await world.do("memory", "delete", found.ids["memory"]["deleted"], who="analyst", reason=f"Gone {mark}")


async def _approvals(world: World, mark: str, found: Records) -> None:
    async def proposed(state: str, title: str, who: str = "analyst", impact: Any = None) -> Any:
        package = await world.do("package", "create", None, {"title": f"For {state} {mark}"}, who="operator")
        outcome = await world.propose(
            who,
            "package",
            "patch",
            package.id,
            {"title": f"{title} {mark}"},
            reason=f"Reason {mark}",
            stated_impact=impact or _HIGH,
        )
        assert outcome.approval is not None
        found.put("approval", state, outcome.approval.id)
        return outcome.approval

    await proposed("live", "Pending")
    await proposed("waiting", "To confirm", impact=_MEDIUM)
    ended = await proposed("deleted", "Sent back")
    await world.say("admin2", ended, "request_changes", reason=f"Say more {mark}", shown=ended.digest)
    applied = await proposed("applied", "Applied")
    await world.say("admin2", applied, "approve", shown=applied.digest)


def seal(database: TestDatabase) -> None:
    """Put everything that was committed into the signed tree, as the loop of `pmis up` does."""
    with psycopg.connect(database.sealer_dsn, autocommit=True) as connection:
        Sealer(connection, signer_of(settings_for(database)), []).run()


async def make_invitations(office: Office, world: World, found: Records) -> None:
    """Open invitations whose every part was agreed: one to the instance, and one into the project as well."""
    name = f"inviter-{secrets.token_hex(4)}"
    async with office.database.write(Reach.INSTANCE) as session:
        office.people[name] = await make_person(session, office.vault, name, instance_admin=True)
        await make_member(session, office.vault, world.project, office.people[name], "admin")
        await session.commit()
    other = "b:admin2" if world is office.b else "admin2"
    into = {"roles": [{"project": world.prefix, "roles": ["viewer"]}]}
    for state, inviter, more in (("live", "root", {}), ("into", name, into)):
        said = {"email": f"{secrets.token_hex(8)}@example.org", "name": "Nia New", **more}
        made = (await office.post(inviter, "/invitations", said)).json()
        found.put("invitation", state, UUID(made["id"]))
        whom, *what = (one["approval"] for one in made["proposals"])
        says = [(inviter, whom, "confirm"), *((other, one, "approve") for one in what)]
        for who, approval, verb in says:
            answer = await office.post(who, f"/approvals/{approval['id']}/{verb}", {})
            assert answer.status_code == 200, answer.text
        for one in what:
            found.put("invited", "live", UUID(one["target_id"]))
            found.put("invited", "approval", UUID(one["id"]))


async def make_job(office: Office, project: UUID | None, status: str, mark: str = "") -> UUID:
    """A job with what it was given: one that nobody has begun (`queued`), or that ended, and what went wrong."""
    async with office.database.write(Reach.INSTANCE) as session:
        identity = enqueue(
            session, "test.nothing", {"mark": mark}, dedup=None, correlation_id="test", project_id=project
        )
        await session.commit()
    if status == "queued":
        return identity
    with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
        connection.execute(
            "update jobs.job set status = %s, finished_at = now(), attempt = 1, error = %s where id = %s",
            (status, json.dumps({"type": "Fault", "message": f"Wrong {mark}"}), identity),
        )
    return identity


async def make_token(office: Office, who: str, **said: Any) -> tuple[UUID, str]:
    """An API token of somebody: its id, and itself."""
    body = {"name": f"Token {secrets.token_hex(4)}", "expires_in_days": 1, **said}
    answer = await office.post(who, "/tokens", body)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"]), answer.json()["token"]


async def make_webhook(office: Office, who: str, **said: Any) -> tuple[UUID, str]:
    """A webhook of somebody's project: its id, and its secret. It was told something, under the id that it has."""
    body = {"url": f"https://hooks.example.org/{secrets.token_hex(4)}", "types": ["task.*"], **said}
    answer = await office.post(who, "/webhooks", {"project": office.world(who).prefix, **body})
    assert answer.status_code == 201, answer.text
    identity = UUID(answer.json()["id"])
    with psycopg.connect(office.test_database.app_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into webhook.delivery (id, hook_id, project_id, type, status, job_id) "
            "select id, id, project_id, 'webhook.ping', 'delivered', id from webhook.hook where id = %s",
            (identity,),
        )
    return identity, answer.json()["secret"]


async def begin_import(office: Office, who: str) -> UUID:
    """Let somebody try an import that says how far it is; the id under which it does."""
    identity = uuid7()
    path = f"/imports/ocds?dry_run=true&project={office.world(who).prefix}&progress={identity}"
    answer = await office.call(who, "POST", path, content=b"{}")
    assert answer.status_code == 422, answer.text
    return identity


def _type(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Kind of {name}",
        "fields_schema": {"type": "object", "properties": {"note": {"type": "string"}}},
    }


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """The application, started, and a client that calls it in this process."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://pmis.test", timeout=60) as client,
    ):
        yield client


@asynccontextmanager
async def open_office(database: TestDatabase, **settings: Any) -> AsyncGenerator[Office]:
    """Two staffed projects and the application on one database."""
    app = create_app(settings_for(database, **settings))
    vault = Vault(SECRET)
    pool = Database(database.app_dsn, size=4)
    await pool.open()
    try:
        marks = new_mark(), new_mark()
        a, b = [await make_staff(pool, vault, mark) for mark in marks]
        async with pool.write(Reach.INSTANCE) as session:
            people = {name: await make_person(session, vault, name.title(), **INSTANCE[name]) for name in INSTANCE}
            await session.commit()
        for world in (a, b):
            world.people.update(people)
        async with serving(app) as client:
            office = Office(
                app, database, pool, vault, a, b, people, client, {"a": Records(marks[0]), "b": Records(marks[1])}
            )
            office.sign_in(*STAFF, *(f"b:{name}" for name in STAFF), *INSTANCE)
            yield office
    finally:
        await pool.close()
