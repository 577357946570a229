"""T2: the same request many times at once, under one key, on every route that changes something (C5, R6, R7).

Forty duplicates, half of them to a second process of the application: one effect, forty equal answers. A new unsafe
route without a case fails the build.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
import pytest
from fastapi.routing import APIRoute

from pmis.api import edge
from pmis.approval.policy import POLICY_ID
from pmis.identity.models import Membership
from pmis.identity.noun import MEMBERSHIPS
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.idempotency import Claim
from pmis.ledger.store import append
from pmis.policy.levels import Level
from tests.api.office import PREFIX, make_job, make_webhook
from tests.builders import make_person
from tests.mail.post import Post, parcel

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from tests.api.office import Office
    from tests.builders import World
    from tests.races.conftest import Twice

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600), pytest.mark.no_cover]

DUPLICATES: Final = 40
KEYS: Final = 9
FEWER: Final = {
    ("POST", "/people"): 3,  # each hashes a password, which is meant to be slow
    ("POST", "/imports/ocds"): 3,  # each reads a file, forty times
    ("PATCH", "/policy"): 3,  # each answers with the whole policy, forty times
    # Each has a mail read by a child process first.
    **{("POST", f"/mail/messages/{{message_id}}/{way}"): 3 for way in ("attach", "dismiss", "move")},
    ("POST", "/mail/messages/{message_id}/suggestions/{number}/accept"): 3,
}
PROMISED: Final = 300
RELEASE: Final = Path(__file__).parents[1] / "data/ocds/ocds-213czf-000-00001-01-planning.json"


@dataclass(frozen=True)
class Sent:
    """A request that has one effect, and another body for the same key."""

    who: str
    path: str
    body: Any
    other: Any = None


Case = Callable[["Stage"], Awaitable[Sent]]


@dataclass(frozen=True)
class Stage:
    """What cases are made with."""

    office: Office

    @property
    def world(self) -> World:
        return self.office.a

    async def chief(self) -> str:
        """A new administrator of the instance, from whom it can be taken again."""
        name = f"chief-{uuid7().hex}"
        async with self.office.database.write(Reach.INSTANCE) as session:
            self.office.people[name] = await make_person(session, self.office.vault, name, instance_admin=True)
            await session.commit()
        return name

    async def draft(self, **fields: Any) -> UUID:
        outcome = await self.world.propose("operator", "package", "create", None, {"title": "A package", **fields})
        return outcome.entities[0].id

    async def task(self) -> UUID:
        return (await self.world.make_task(await self.draft())).id

    async def pending(self) -> UUID:
        """An approval that waits for one admin."""
        outcome = await self.world.propose(
            "analyst", "package", "patch", await self.draft(), {"title": "Another"}, stated_impact=Level.HIGH
        )
        assert outcome.approval is not None
        return outcome.approval.id

    async def hook(self) -> str:
        """The path of a webhook of the project, which was told something under the id that it has."""
        return f"/webhooks/{(await make_webhook(self.office, 'admin'))[0]}"

    async def mail(self, *, attached: bool = False) -> str:
        """The path of a mail that asks for something; it waits, or is attached to a package of its own."""
        post = Post.of(self.world, self.office.test_database.files)
        vendor = f"{uuid7().hex}@firm.example"
        if attached:
            await self.world.make_party(email=vendor)
        code = (await self.world.get("package", await self.draft())).code
        email = await post.one(parcel(vendor, uuid7().hex), post.at(code))
        return f"/mail/messages/{email.id}"


CASES: Final[dict[tuple[str, str], Case]] = {}
EXEMPT: Final = {
    ("POST", "/auth/login"): "a token is not kept",
    ("POST", "/auth/refresh"): "each token is good once, with or without a key",
    ("POST", "/auth/password"): "the second time the current password is another",
    ("POST", "/auth/logout"): "who has signed out is refused, with or without a key",
    ("DELETE", "/auth/sessions/{session_id}"): "a session ends once; the second finds none",
    ("POST", "/auth/reauthenticate"): "says again what is so; nothing secret is kept with answers",
    ("POST", "/auth/second-factor"): "each call makes another secret, which is not kept with answers",
    ("POST", "/auth/second-factor/confirm"): "recovery codes are not kept with answers; confirmed once",
    ("DELETE", "/auth/second-factor"): "removed once; the second time there is none",
    ("DELETE", "/people/{reference}/second-factor"): "removed once; the second time there is none",
    ("POST", "/tokens"): "a token is not kept; the second of a name is refused",
    ("DELETE", "/tokens/{token_id}"): "a token ends once; the second finds none",
    ("POST", "/webhooks"): "its secret is not kept; the second to the same address is refused",
    ("POST", "/webhooks/{webhook_id}/secret"): "each call makes another secret, which is not kept with answers",
    ("POST", "/invitations/{invitation_id}/resend"): "each call makes another link, which is not kept with answers",
    ("POST", "/invitations/{invitation_id}/revoke"): "an invitation ends once; the second is refused",
    ("POST", "/invitations/accept"): "each link is good once, with or without a key",
    ("POST", "/auth/identities"): "nothing is written; each answer begins a way of its own to the provider",
    ("DELETE", "/auth/identities/{identity_id}"): "an identity is removed once; the second finds none",
    ("POST", "/notifications/unsubscribe"): "sets what is so already the second time; open to mail programs",
    ("POST", "/notifications/read"): "the caller's own marks, of which the log knows nothing: see test_notifications",
    ("PATCH", "/notifications/preferences"): "the caller's own wish, of which the log knows nothing: the same",
    ("POST", "/mail/inbound"): "known by a signature; the same mail is taken once, with or without a key: test_inbound",
    ("POST", "/chat"): "while one answers, its twins are told to wait, and then given the same: test_chat",
    ("POST", "/conversations/{conversation_id}/resume"): "gives the same answer again, once there is one: test_chat",
    ("DELETE", "/conversations/{conversation_id}"): "the caller's own words; the second time there are none",
    ("POST", "/assistant/stop"): "turned once; the second time it stands so already",
    ("POST", "/assistant/start"): "turned once; the second time it stands so already",
    ("POST", "/policy/simulate"): "changes nothing: a question with a body",
    ("POST", "/audit/verify"): "a question with a body; that it was asked is an event each time",
}


def case(method: str, path: str) -> Callable[[Case], Case]:
    def put(function: Case) -> Case:
        CASES[method, path] = function
        return function

    return put


def simply(method: str, path: str, who: str, make: Callable[[Stage], Awaitable[str]], body: Any, other: Any) -> None:
    """A case whose path depends on a record and whose body does not."""

    async def function(stage: Stage) -> Sent:
        return Sent(who, await make(stage), body, other)

    CASES[method, path] = function


@case("POST", "/projects")
async def new_project(stage: Stage) -> Sent:
    prefix = f"R{uuid7().hex[-8:].upper()}"
    body = {"name": "A project", "prefix": prefix, "currency": "EUR"}
    return Sent(await stage.chief(), "/projects", body, {**body, "name": "Another"})


@case("PATCH", "/projects/{reference}")
async def project(stage: Stage) -> Sent:
    return Sent("admin", f"/projects/{stage.world.project}", {"description": uuid7().hex}, {"description": "Other"})


@case("POST", "/packages")
async def new_package(stage: Stage) -> Sent:
    body = {"title": "A package", "project": str(stage.world.project)}
    return Sent("operator", "/packages", body, {**body, "title": "Another"})


@case("PATCH", "/packages/{reference}")
async def package(stage: Stage) -> Sent:
    return Sent("operator", f"/packages/{await stage.draft()}", {"title": "New"}, {"title": "Newer"})


@case("POST", "/packages/{reference}/transitions")
async def package_step(stage: Stage) -> Sent:
    path = f"/packages/{await stage.draft()}/transitions"
    return Sent("operator", path, {"status": "submitted"}, {"status": "cancelled"})


@case("DELETE", "/packages/{reference}")
async def package_away(stage: Stage) -> Sent:
    return Sent("operator", f"/packages/{await stage.draft()}", {}, {"reason": "x"})


@case("POST", "/packages/{reference}/restore")
async def package_back(stage: Stage) -> Sent:
    package = await stage.draft()
    await stage.world.do("package", "delete", package)
    return Sent("operator", f"/packages/{package}/restore", {}, {"reason": "x"})


@case("POST", "/package-types")
async def new_type(stage: Stage) -> Sent:
    body = {"name": uuid7().hex, "project": str(stage.world.project), "fields_schema": {"type": "object"}}
    return Sent("admin", "/package-types", body, {**body, "description": "Other"})


@case("PATCH", "/package-types/{reference}")
async def type_(stage: Stage) -> Sent:
    made = await stage.world.do(
        "package_type", "create", None, {"name": uuid7().hex, "fields_schema": {"type": "object"}}, who="admin"
    )
    return Sent("admin", f"/package-types/{made.id}", {"description": "New"}, {"description": "Newer"})


@case("POST", "/tasks")
async def new_task(stage: Stage) -> Sent:
    body = {"title": "A task", "package_id": str(await stage.draft())}
    return Sent("operator", "/tasks", body, {**body, "title": "Another"})


@case("PATCH", "/tasks/{reference}")
async def task(stage: Stage) -> Sent:
    return Sent("operator", f"/tasks/{await stage.task()}", {"title": "New"}, {"title": "Newer"})


@case("POST", "/tasks/{reference}/transitions")
async def task_step(stage: Stage) -> Sent:
    path = f"/tasks/{await stage.task()}/transitions"
    return Sent("operator", path, {"status": "in_progress"}, {"status": "cancelled"})


@case("DELETE", "/tasks/{reference}")
async def task_away(stage: Stage) -> Sent:
    return Sent("operator", f"/tasks/{await stage.task()}", {}, {"reason": "x"})


@case("POST", "/tasks/{reference}/restore")
async def task_back(stage: Stage) -> Sent:
    task = await stage.task()
    await stage.world.do("task", "delete", task)
    return Sent("operator", f"/tasks/{task}/restore", {}, {"reason": "x"})


@case("POST", "/parties")
async def new_party(stage: Stage) -> Sent:
    body = {
        "name": "A vendor",
        "kind": "vendor",
        "project": str(stage.world.project),
        "email": f"{uuid7().hex}@example.org",
        "contacts": [{"name": "Nora North"}],
    }
    return Sent("operator", "/parties", body, {**body, "name": "Another"})


@case("PATCH", "/parties/{reference}")
async def party(stage: Stage) -> Sent:
    # Sealed on the way in: each duplicate would seal it anew.
    body = {"bank_details": {"holder": "A vendor", "account": "12345"}}
    return Sent("operator", f"/parties/{(await stage.world.make_party()).id}", body, {"name": "Newer"})


@case("DELETE", "/parties/{reference}")
async def party_away(stage: Stage) -> Sent:
    return Sent("operator", f"/parties/{(await stage.world.make_party()).id}", {}, {"reason": "x"})


@case("POST", "/parties/{reference}/restore")
async def party_back(stage: Stage) -> Sent:
    party = (await stage.world.make_party()).id
    await stage.world.do("party", "delete", party)
    return Sent("operator", f"/parties/{party}/restore", {}, {"reason": "x"})


async def comment_of(stage: Stage) -> UUID:
    body = {"entity_type": "package", "entity_id": str(await stage.draft()), "body": "A comment"}
    return (await stage.world.do("comment", "create", None, body, who="operator")).id


@case("POST", "/comments")
async def new_comment(stage: Stage) -> Sent:
    body = {"entity_type": "package", "entity_id": str(await stage.draft()), "body": "A comment"}
    return Sent("operator", "/comments", body, {**body, "body": "Another"})


@case("PATCH", "/comments/{reference}")
async def comment(stage: Stage) -> Sent:
    return Sent("operator", f"/comments/{await comment_of(stage)}", {"body": "New"}, {"body": "Newer"})


@case("DELETE", "/comments/{reference}")
async def comment_away(stage: Stage) -> Sent:
    return Sent("operator", f"/comments/{await comment_of(stage)}", {}, {"reason": "x"})


@case("POST", "/comments/{reference}/restore")
async def comment_back(stage: Stage) -> Sent:
    comment = await comment_of(stage)
    await stage.world.do("comment", "delete", comment, who="operator")
    return Sent("operator", f"/comments/{comment}/restore", {}, {"reason": "x"})


async def remembered(stage: Stage) -> UUID:
    return (await stage.world.do("memory", "create", None, await to_remember(stage), who="operator")).id


async def to_remember(stage: Stage) -> dict[str, Any]:
    package = str(await stage.draft())
    return {"entity_type": "package", "entity_id": package, "kind": "context", "text": "A memory"}


@case("POST", "/memories")
async def new_memory(stage: Stage) -> Sent:
    body = await to_remember(stage)
    return Sent("operator", "/memories", body, {**body, "text": "Another"})


@case("PATCH", "/memories/{reference}")
async def memory(stage: Stage) -> Sent:
    return Sent("operator", f"/memories/{await remembered(stage)}", {"text": "New"}, {"text": "Newer"})


@case("DELETE", "/memories/{reference}")
async def memory_away(stage: Stage) -> Sent:
    return Sent("operator", f"/memories/{await remembered(stage)}", {}, {"reason": "x"})


@case("POST", "/memories/{reference}/restore")
async def memory_back(stage: Stage) -> Sent:
    memory = await remembered(stage)
    await stage.world.do("memory", "delete", memory, who="operator")
    return Sent("operator", f"/memories/{memory}/restore", {}, {"reason": "x"})


@case("POST", "/memberships")
async def new_member(stage: Stage) -> Sent:
    person = stage.office.person(await stage.office.newcomer())
    body = {"person_id": str(person), "roles": ["viewer"], "project": str(stage.world.project)}
    return Sent("admin", "/memberships", body, {**body, "roles": ["analyst"]})


@case("PATCH", "/memberships/{reference}")
async def member(stage: Stage) -> Sent:
    person = stage.office.person(await stage.office.newcomer("viewer"))
    async with stage.world.read() as session:
        row = await session.one("select id from state.membership where person_id = %s", (person,))
    assert row is not None
    return Sent("admin", f"/memberships/{row[0]}", {"roles": ["analyst"]}, {"roles": []})


def loan(stage: Stage) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "to_person": str(stage.world.people["analyst"]),
        "starts_at": (now + timedelta(days=1)).isoformat(),
        "ends_at": (now + timedelta(days=2)).isoformat(),
        "project": str(stage.world.project),
    }


@case("POST", "/delegations")
async def new_delegation(stage: Stage) -> Sent:
    body = loan(stage)
    return Sent("executive", "/delegations", body, {**body, "to_person": str(stage.world.people["viewer"])})


@case("PATCH", "/delegations/{reference}")
async def delegation(stage: Stage) -> Sent:
    body = {name: value for name, value in loan(stage).items() if name != "project"}
    made = await stage.world.do("delegation", "create", None, body, who="executive")
    return Sent("executive", f"/delegations/{made.id}", {"revoked": True}, {"ends_at": body["ends_at"]})


@case("POST", "/approvals/{approval_id}/approve")
async def approve(stage: Stage) -> Sent:
    return Sent("admin", f"/approvals/{await stage.pending()}/approve", {}, {"reason": "x"})


@case("POST", "/approvals/{approval_id}/reject")
async def reject(stage: Stage) -> Sent:
    return Sent("admin", f"/approvals/{await stage.pending()}/reject", {"reason": "No."}, {"reason": "Never."})


@case("POST", "/approvals/{approval_id}/request-changes")
async def send_back(stage: Stage) -> Sent:
    path = f"/approvals/{await stage.pending()}/request-changes"
    return Sent("admin", path, {"reason": "Why?"}, {"reason": "How?"})


@case("POST", "/approvals/{approval_id}/confirm")
async def confirm(stage: Stage) -> Sent:
    outcome = await stage.world.propose("operator", "package", "delete", await stage.draft())
    assert outcome.approval is not None
    return Sent("operator", f"/approvals/{outcome.approval.id}/confirm", {}, {"reason": "x"})


@case("POST", "/approvals/{approval_id}/withdraw")
async def withdraw(stage: Stage) -> Sent:
    return Sent("analyst", f"/approvals/{await stage.pending()}/withdraw", {}, {"reason": "x"})


@case("POST", "/approvals/{approval_id}/revise")
async def revise(stage: Stage) -> Sent:
    approval = await stage.pending()
    await stage.world.say("admin", approval, "request_changes")
    return Sent("analyst", f"/approvals/{approval}/revise", {}, {"reason": "x"})


@case("POST", "/proposals")
async def several(stage: Stage) -> Sent:
    one, place = {"target_type": "package", "target": str(uuid7())}, str(stage.world.project)
    body = {
        "changes": [
            {**one, "operation": "create", "project": place, "patch": {"title": "A"}},
            {**one, "operation": "patch", "patch": {"title": "B"}},
        ]
    }
    return Sent("operator", "/proposals", body, {**body, "reason": "x"})


@case("POST", "/people")
async def new_person(stage: Stage) -> Sent:
    body = {"name": "Somebody", "email": f"{uuid7().hex}@example.org", "password": "correct horse battery"}
    return Sent(await stage.chief(), "/people", body, {**body, "name": "Somebody else"})


@case("POST", "/invitations")
async def invitation(stage: Stage) -> Sent:
    body = {"name": "Nia New", "email": f"{uuid7().hex}@example.org"}
    return Sent(await stage.chief(), "/invitations", body, {**body, "name": "Nia Newer"})


@case("PATCH", "/people/{reference}")
async def person(stage: Stage) -> Sent:
    somebody = stage.office.person(await stage.office.newcomer())
    return Sent(await stage.chief(), f"/people/{somebody}", {"name": "New"}, {"name": "Newer"})


@case("PATCH", "/policy")
async def policy(stage: Stage) -> Sent:
    document = (await stage.world.get("policy", POLICY_ID)).document
    body = {"document": {**document, "name": f"Policy {uuid7().hex}"}}
    return Sent(await stage.chief(), "/policy", body, {**body, "reason": "x"})


@case("POST", "/jobs/{job_id}/retry")
async def retry(stage: Stage) -> Sent:
    job = await make_job(stage.office, stage.world.project, "dead")
    return Sent("admin", f"/jobs/{job}/retry", {}, {"another": "body"})


@case("POST", "/jobs/dead-letters/retry")
async def retry_all(stage: Stage) -> Sent:
    await make_job(stage.office, stage.world.project, "dead")
    return Sent("admin", f"/jobs/dead-letters/retry?project={stage.world.prefix}", {}, {"another": "body"})


@case("POST", "/jobs/{job_id}/cancel")
async def cancel(stage: Stage) -> Sent:
    job = await make_job(stage.office, stage.world.project, "queued")
    return Sent("admin", f"/jobs/{job}/cancel", {}, {"reason": "another body"})


@case("POST", "/jobs/{job_id}/dismiss")
async def dismiss_job(stage: Stage) -> Sent:
    job = await make_job(stage.office, stage.world.project, "dead")
    return Sent("admin", f"/jobs/{job}/dismiss", {}, {"reason": "another body"})


@case("POST", "/mail/messages/{message_id}/attach")
async def attach(stage: Stage) -> Sent:
    body = {"package": str(await stage.draft())}
    return Sent("admin", f"{await stage.mail()}/attach", body, {**body, "reason": "x"})


@case("POST", "/mail/messages/{message_id}/dismiss")
async def dismiss(stage: Stage) -> Sent:
    return Sent("admin", f"{await stage.mail()}/dismiss", {}, {"reason": "x"})


@case("POST", "/mail/messages/{message_id}/move")
async def move(stage: Stage) -> Sent:
    return Sent("admin", f"{await stage.mail()}/move", {"project": None}, {"project": None, "reason": "x"})


@case("POST", "/mail/messages/{message_id}/suggestions/{number}/accept")
async def accept(stage: Stage) -> Sent:
    return Sent("operator", f"{await stage.mail(attached=True)}/suggestions/1/accept", {}, {"reason": "x"})


@case("POST", "/imports/ocds")
async def import_(stage: Stage) -> Sent:
    release = json.loads(RELEASE.read_bytes())
    release["releases"][0]["ocid"] = f"ocds-213czf-{uuid7().hex}"
    for party in release["releases"][0]["parties"]:
        party["id"] = uuid7().hex
    path = f"/imports/ocds?project={stage.world.prefix}&confirm=true"
    return Sent("operator", path, release, {**release, "license": "another"})


# --- racing ---------------------------------------------------------------------------------------------------------


@case("PATCH", "/webhooks/{webhook_id}")
async def hook(stage: Stage) -> Sent:
    return Sent("admin", await stage.hook(), {"description": uuid7().hex}, {"description": "Other"})


@case("DELETE", "/webhooks/{webhook_id}")
async def hook_away(stage: Stage) -> Sent:
    return Sent("admin", await stage.hook(), {}, {"reason": "x"})


@case("POST", "/webhooks/{webhook_id}/ping")
async def hook_pinged(stage: Stage) -> Sent:
    return Sent("admin", f"{await stage.hook()}/ping", {}, {"reason": "x"})


@case("POST", "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
async def hook_told_again(stage: Stage) -> Sent:
    path = await stage.hook()
    return Sent("admin", f"{path}/deliveries/{path.rpartition('/')[2]}/redeliver", {}, {"reason": "x"})


def unsafe_routes(office: Office, prefix: str) -> set[tuple[str, str]]:
    return {
        (method, route.path.removeprefix(prefix))
        for route in office.app.routes
        if isinstance(route, APIRoute) and route.path.startswith(prefix)
        for method in set(route.methods or ()) - {"GET", "HEAD", "OPTIONS"}
    }


async def send(
    office: Office,
    client: httpx2.AsyncClient,
    method: str,
    sent: Sent,
    key: str,
    *,
    body: Any = None,
    correlation: str = "",
) -> httpx2.Response:
    headers = {**office.headers(sent.who), "Idempotency-Key": key, "Content-Type": "application/json"}
    if correlation:
        headers["X-Correlation-Id"] = correlation
    content = json.dumps(sent.body if body is None else body).encode()
    return await client.request(method, PREFIX + sent.path, headers=headers, content=content)


async def race(twice: Twice, method: str, sent: Sent, key: str) -> list[httpx2.Response]:
    """Forty at once, each with a correlation id of its own, to two processes."""
    answers: list[httpx2.Response] = []
    start = anyio.Event()

    async def one(n: int) -> None:
        await start.wait()
        client = twice.clients[n % 2]
        answers.append(await send(twice.office, client, method, sent, key, correlation=f"{key}.{n}"))

    async with anyio.create_task_group() as group:
        for n in range(DUPLICATES):
            group.start_soon(one, n)
        await anyio.lowlevel.checkpoint()
        start.set()
    return answers


async def effects(office: Office, key: str) -> int:
    """In how many transactions something was written for a key, whichever duplicate wrote it."""
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select count(distinct xid) from ledger.event where correlation_id like %s", (f"{key}.%",)
        )
    return row[0] if row else 0


async def test_every_unsafe_route_has_a_case_or_a_reason(twice: Twice):
    routes = unsafe_routes(twice.office, "/api/v1")
    assert set(CASES) | set(EXEMPT) == routes
    assert not set(CASES) & set(EXEMPT)
    assert unsafe_routes(twice.office, "/api") >= routes
    assert sum(FEWER.get(route, KEYS) for route in CASES) >= PROMISED


async def put_roles(office: Office, membership: UUID, roles: list[str]) -> None:
    """Change somebody's roles, by two administrators whom no case needs."""
    world = office.a
    one, other = [await office.newcomer("admin") for _ in range(2)]
    world.people.update({name: office.person(name) for name in (one, other)})
    outcome = await world.propose(one, "membership", "patch", membership, {"roles": roles})
    assert outcome.approval is not None
    assert (await world.say(other, outcome.approval, "approve")).outcome == "applied"


async def leave_everything(office: Office, person: UUID) -> None:
    """Nobody else is in the projects that somebody founded: the ledger's own way out of them."""
    origin = Origin(Actor("system:test", "Test"), "system", "leaving")
    async with office.database.write(Reach.INSTANCE) as session:
        for (doc,) in await session.all("select doc from state.membership where person_id = %s", (person,)):
            seat = Membership.model_validate_json(doc)
            gone = Fact("membership.patched", {"changes": {"roles": {"from": seat.plain["roles"], "to": []}}})
            append(session, MEMBERSHIPS, seat, [gone], origin=origin, stream_id=seat.id, project_id=seat.project_id)
        await session.commit()


async def take_rights(office: Office, who: str) -> Callable[[], Awaitable[None]]:
    """Take everything that somebody may do, as their administrators would; gives what gives it back."""
    world, person = office.a, office.person(who)
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one(
            "select id, roles from state.membership where person_id = %s and project_id = %s", (person, world.project)
        )
    if row is None:
        outcome = await world.propose("root", "person", "patch", person, {"instance_admin": False})
        assert outcome.approval is not None
        for executive in ("executive", "b:executive"):
            if (await world.approval(outcome.approval)).is_open:
                name = executive.removeprefix("b:")
                await office.world(executive).say(name, outcome.approval, "approve")
        assert (await world.get("person", person)).instance_admin is False
        await leave_everything(office, person)
    else:
        await put_roles(office, row[0], [])
    office.parts.principals.forget()

    async def give_back() -> None:
        if row is not None:
            await put_roles(office, row[0], row[1])
        office.parts.principals.forget()

    return give_back


@pytest.mark.parametrize("route", sorted(CASES), ids=" ".join)
async def test_r6_r7_forty_duplicates_have_one_effect_and_one_answer(
    twice: Twice, route: tuple[str, str], record_property: Callable[[str, object], None]
):
    method, path = route
    office, stage = twice.office, Stage(twice.office)
    keys = FEWER.get(route, KEYS)
    began = time.perf_counter()
    done: list[tuple[Sent, str, httpx2.Response]] = []
    for _ in range(keys):
        sent, key = await CASES[route](stage), str(uuid7())
        answers = await race(twice, method, sent, key)
        assert len(answers) == DUPLICATES
        assert {answer.status_code for answer in answers} <= {200, 201, 202}, answers[0].text
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
        for header in ("etag", "location", "content-type"):
            assert len({answer.headers.get(header) for answer in answers}) == 1
        assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == DUPLICATES - 1
        assert await effects(office, key) == 1
        other = await send(office, office.client, method, sent, key, body=sent.other, correlation=f"{key}.x")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert await effects(office, key) == 1
        done.append((sent, key, answers[0]))
    # R7: whoever may no longer do or see it does not get the answer again, and does it no second time.
    sent, key, first = done[-1]
    give_back = await take_rights(office, sent.who)
    refused = await send(office, office.client, method, sent, key, correlation=f"{key}.r7")
    assert (refused.status_code, "idempotency-replayed" in refused.headers) in {(403, False), (404, False)}
    assert await effects(office, key) == 1
    await give_back()
    if office.a.people.get(sent.who):
        again = await send(office, office.client, method, sent, key, correlation=f"{key}.back")
        assert (again.status_code, again.content) == (first.status_code, first.content)
    await office.a.require_replay()
    figure = f"T2 {method} {path}: {keys} keys x {DUPLICATES}, {keys} effects, {time.perf_counter() - began:.1f} s"
    record_property("figure", figure)


async def test_the_control_without_keys_duplicates_have_many_effects(twice: Twice, monkeypatch: pytest.MonkeyPatch):
    """The race is a race: with the claim taken out, the same forty requests do it many times over."""

    async def take(_: Any, actor: str, key: str, *__: Any, **___: Any) -> Claim:
        return Claim(actor, key)

    monkeypatch.setattr(edge, "claim", take)
    monkeypatch.setattr(edge, "claiming", lambda *_: None)
    sent, key = await new_package(Stage(twice.office)), str(uuid7())
    answers = await race(twice, "POST", sent, key)
    assert len({answer.content for answer in answers}) == DUPLICATES
    assert await effects(twice.office, key) == DUPLICATES


async def test_the_control_an_answer_that_is_not_authorised_again_leaks(twice: Twice, monkeypatch: pytest.MonkeyPatch):
    """R7 is seen to be broken where it is broken."""
    monkeypatch.setattr(edge, "authorize", lambda *_: None)
    office, key = twice.office, str(uuid7())
    sent = replace(await package(Stage(office)), who=await office.newcomer("operator"))
    first = await send(office, office.client, "PATCH", sent, key, correlation=f"{key}.0")
    await take_rights(office, sent.who)
    leaked = await send(office, office.client, "PATCH", sent, key, correlation=f"{key}.1")
    assert (first.status_code, leaked.status_code, leaked.content) == (200, 200, first.content)
