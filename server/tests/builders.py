"""Projects, people and packages for tests, made through the console and the governed path: never by raw inserts."""

from __future__ import annotations

import itertools
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import pytest

import pmis.nouns
from pmis.api.context import reach_of
from pmis.approval import decide
from pmis.approval import propose as propose_module
from pmis.approval.models import Approval
from pmis.approval.propose import Outcome, Request, Wanted, propose
from pmis.approval.registry import NOUNS
from pmis.identity.principals import load_principal
from pmis.kit.db import Database, Reach, ReadSession, Session, WriteSession
from pmis.kit.ids import uuid7
from pmis.ledger.replay import differences_in_memory
from pmis.ledger.vault import Vault
from pmis.ops.console import Console
from pmis.policy.access import Principal, Role

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from pmis.ledger.projection import Entity
    from pmis.policy.document import Writer
    from pmis.policy.levels import Level
    from tests.conftest import TestDatabase

SECRET: Final = "for tests only: " + "k" * 40
PROJECTIONS: Final = pmis.nouns.PROJECTIONS

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "analyst": ("analyst",),
    "operator": ("operator",),
    "admin": ("admin",),
    "admin2": ("admin",),
    "executive": ("executive",),
    "viewer": ("viewer",),
    "auditor": ("auditor",),
}
"""Everybody in a world, by the name that tests call them; `outsider` is nobody's member, `root` runs the instance."""

_prefixes = itertools.count(1)


def new_prefix() -> str:
    """A project prefix that no other test of this run uses: workers share nothing but may share a database."""
    return f"T{os.getpid() % 10_000}X{next(_prefixes)}"[:10]


async def make_person(session: WriteSession, vault: Vault, name: str, **rights: bool) -> UUID:
    """A person who cannot sign in: hashing a password costs 0.1 s, and a principal needs none."""
    console = Console(session, vault, "tests", "tests")
    fields = {"name": name, "active": True, "instance_admin": False, "instance_auditor": False, **rights}
    return (await console._create(NOUNS["person"], {**fields, "credential": None}, None, uuid7())).id


async def make_project(session: WriteSession, vault: Vault, **fields: Any) -> UUID:
    """A project with a budget of ten million euro."""
    console = Console(session, vault, "tests", "tests")
    given = {"name": "A project", "prefix": new_prefix(), "currency": "EUR", "budget": "10000000.00", **fields}
    return (await console.project(**given)).id


async def make_member(session: WriteSession, vault: Vault, project: UUID, person: UUID, *roles: str) -> None:
    """Roles in a project."""
    await Console(session, vault, "tests", "tests").member(project, person, *roles)


def agent_of(person: Principal, *, roles: Mapping[UUID, frozenset[Role]] | None = None) -> Principal:
    """An agent with everything its person has (or the roles given) that acts for that person."""
    return Principal(
        kind="agent",
        id=UUID(int=cast("UUID", person.id).int ^ 1),
        name=f"{person.name}'s assistant",
        on_behalf_of=person,
        roles=person.roles if roles is None else roles,
        instance_admin=person.instance_admin,
    )


@dataclass
class World:
    """A project with a person for each role, on a database that really commits."""

    database: Database
    vault: Vault
    project: UUID
    people: dict[str, UUID]
    prefix: str
    counter: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # --- principals ---

    async def principal(self, who: str, session: Session | None = None) -> Principal:
        """The person as a principal with the roles of this moment; `agent:analyst` is an agent acting for the analyst."""  # noqa: E501
        kind, _, name = who.rpartition(":")
        if session is None:
            async with self.database.read(Reach.INSTANCE) as own:
                person = await load_principal(own, self.people[name])
        else:
            person = await load_principal(session, self.people[name])
        return agent_of(person) if kind == "agent" else person

    async def reach(self, who: str) -> Reach:
        """What PostgreSQL lets the person reach, as at the edge."""
        return reach_of(await self.principal(who))

    async def request(self, session: Session, who: str, **said: Any) -> Request:
        """The person as a proposer."""
        return Request(
            await self.principal(who, session), said.pop("source", "api"), f"test-{next(self.counter)}", **said
        )

    # --- the governed path, one transaction each ---

    async def propose(
        self,
        who: str,
        noun: str,
        operation: str,
        target: UUID | None = None,
        patch: dict[str, Any] | None = None,
        *,
        reason: str | None = None,
        writer: Writer | None = None,
        stated_impact: Level | None = None,
        stated_uncertainty: Level | None = None,
        if_version: int | None = None,
    ) -> Outcome:
        """One change."""
        one = self.wanted(noun, operation, target, patch, if_version=if_version)
        return await self.propose_all(
            who,
            [one],
            reason=reason,
            writer=writer,
            stated_impact=stated_impact,
            stated_uncertainty=stated_uncertainty,
        )

    def wanted(
        self,
        noun: str,
        operation: str,
        target: UUID | None = None,
        patch: dict[str, Any] | None = None,
        *,
        if_version: int | None = None,
    ) -> Wanted:
        """A change as an endpoint would hand it over."""
        kind = NOUNS[noun]
        project = None if kind.instance_level or noun == "project" else self.project
        return Wanted(kind, operation, target or uuid7(), kind.validated(operation, patch or {}), project, if_version)

    async def propose_all(self, who: str, wanted: Sequence[Wanted], **said: Any) -> Outcome:
        """Changes that stand or fall together."""
        async with self.database.write(await self.reach(who)) as session:
            outcome = await propose(session, self.vault, await self.request(session, who, **said), wanted)
            await session.commit()
            return outcome

    async def say(
        self,
        who: str,
        approval: Approval | UUID,
        verdict: str,
        *,
        reason: str | None = "Because.",
        shown: str | None = None,
    ) -> Outcome:
        """Approve, reject, request_changes or confirm, as the edge does it: refusals that commit are committed."""
        identity = approval.id if isinstance(approval, Approval) else approval
        async with self.database.write(await self.reach(who)) as session:
            request = await self.request(session, who)
            try:
                if verdict == "confirm":
                    outcome = await decide.confirm(session, self.vault, request, identity, shown=shown, recent=True)
                else:
                    said = cast("decide.VerdictName", verdict)
                    outcome = await decide.say(
                        session, self.vault, request, identity, said, reason=reason, shown=shown, recent=True
                    )
            except decide.PmisError as error:
                if error.commits:
                    await session.commit()
                raise
            await session.commit()
            return outcome

    async def withdraw(self, who: str, approval: Approval, reason: str | None = None) -> Approval:
        """Take a proposal back."""
        async with self.database.write(await self.reach(who)) as session:
            ended = await decide.withdraw(session, await self.request(session, who), approval.id, reason=reason)
            await session.commit()
            return ended

    async def revise(self, who: str, approval: Approval, patches: dict[UUID, dict[str, Any]] | None = None) -> Outcome:
        """Propose again."""
        async with self.database.write(await self.reach(who)) as session:
            request = await self.request(session, who, reason=approval.reason)
            outcome = await decide.revise(session, self.vault, request, approval.id, patches or {})
            await session.commit()
            return outcome

    async def settle(self, outcome: Outcome, proposer: str) -> Outcome:
        """Let the proposer confirm, or the others agree, until it is applied."""
        if outcome.outcome == "confirmation_required" and outcome.approval:
            return await self.say(proposer, outcome.approval, "confirm")
        for who in ("admin", "admin2", "executive"):
            if outcome.approval is None or outcome.outcome == "applied":
                break
            if who == proposer:
                continue
            try:
                outcome = await self.say(who, outcome.approval, "approve", shown=outcome.approval.digest)
            except decide.DecisionRefusedError:
                continue
        assert outcome.outcome == "applied", outcome
        return outcome

    async def do(
        self,
        noun: str,
        operation: str,
        target: UUID | None = None,
        patch: dict[str, Any] | None = None,
        *,
        who: str = "operator",
        reason: str | None = None,
    ) -> Any:
        """Propose and see it applied; the record."""
        outcome = await self.settle(await self.propose(who, noun, operation, target, patch, reason=reason), who)
        return outcome.entities[0]

    # --- things ---

    async def make_package(self, status: str = "draft", *, who: str = "operator", **fields: Any) -> Any:
        """A package, moved to a status by people who agree."""
        given = {"title": "A package", "amount": "50000.00", "currency": "EUR", **fields}
        package = await self.do("package", "create", None, given, who=who)
        for step in path_to(status):
            patch: dict[str, Any] = {"status": step}
            if step == "awarded":
                patch["vendor_id"] = str((await self.make_party()).id)
            if step == "active":
                today = package.created_at.date()
                patch |= {"planned_start": str(today), "planned_end": str(today + timedelta(days=90))}
            package = await self.do("package", "transition", package.id, patch, who=who, reason="As planned.")
        return package

    async def make_task(self, package: UUID, **fields: Any) -> Any:
        """A pending task of a package."""
        return await self.do("task", "create", None, {"package_id": str(package), "title": "A task", **fields})

    async def make_party(self, **fields: Any) -> Any:
        """A vendor."""
        given = {"name": "A vendor", "kind": "vendor", **fields}
        return await self.do("party", "create", None, given)

    async def waiting(self, **patch: Any) -> Approval:
        """An approval that waits for one admin: a change of a submitted package by the analyst."""
        package = await self.make_package("submitted")
        outcome = await self.propose("analyst", "package", "patch", package.id, patch or {"title": "Another title"})
        assert outcome.approval is not None
        return outcome.approval

    # --- looking ---

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadSession]:
        """A session for looking."""
        async with self.database.read(Reach.INSTANCE) as session:
            yield session

    async def get(self, noun: str, identity: UUID) -> Any:
        """The record as its row has it; None when there is none."""
        async with self.database.read(Reach.INSTANCE) as session:
            row = await session.one(f"select doc from state.{noun} where id = %s", (identity,))
        model = Approval if noun == "approval" else NOUNS[noun].model
        return model.model_validate_json(row[0]) if row else None

    async def approval(self, approval: Approval | UUID) -> Approval:
        """The approval as it is now."""
        return await self.get("approval", approval.id if isinstance(approval, Approval) else approval)

    async def events(self, stream: UUID) -> list[tuple[Any, ...]]:
        """(type, payload as text, actor, on_behalf_of) of a stream, the oldest first."""
        async with self.database.read(Reach.INSTANCE) as session:
            return await session.all(
                "select type, payload, actor, on_behalf_of from ledger.event where stream_id = %s order by stream_version",  # noqa: E501
                (stream,),
            )

    async def outbox(self, key: str) -> list[tuple[Any, ...]]:
        """(topic, payload) promised under a key."""
        async with self.database.read(Reach.INSTANCE) as session:
            return await session.all("select topic, payload from ledger.outbox where key = %s", (key,))

    async def require_replay(self) -> None:
        """Fail unless the project's rows are what its log makes of them."""
        async with self.database.snapshot(Reach.INSTANCE) as session:
            found = await differences_in_memory(session, PROJECTIONS, project_id=self.project)
        assert not found, found


_STEPS: Final = ("submitted", "in_review", "approved", "awarded", "active")


def path_to(status: str) -> tuple[str, ...]:
    """The steps from draft to a status."""
    if status == "draft":
        return ()
    if status == "cancelled":
        return ("cancelled",)
    if status in ("on_hold", "completed"):
        return (*_STEPS, status)
    return _STEPS[: _STEPS.index(status) + 1]


async def make_world(database: Database, *, roles: Mapping[str, Sequence[str]] = ROLES, **project: Any) -> World:
    """A world of its own in a database that others use too."""
    vault = Vault(SECRET)
    prefix = project.setdefault("prefix", new_prefix())
    async with database.write(Reach.INSTANCE) as session:
        people: dict[str, UUID] = {}
        for name in (*roles, "outsider", "root"):
            rights = {"instance_admin": True} if name in ("admin", "root") else {}
            people[name] = await make_person(session, vault, name.title(), **rights)
        identity = await make_project(session, vault, **project)
        for name, held in roles.items():
            await make_member(session, vault, identity, people[name], *held)
        await session.commit()
    return World(database, vault, identity, people, prefix)


@asynccontextmanager
async def opened(database: TestDatabase, **options: Any) -> AsyncGenerator[Database]:
    """The application's pool on a test database, under the application's own login."""
    pool = Database(database.app_dsn, **{"size": 4, **options})  # pyright: ignore[reportArgumentType]
    # A process serves one database, and knows its policy by version; a test process serves several.
    propose_module._policies.clear()
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """A project with a person for each role."""
    async with opened(database) as pool:
        yield await make_world(pool)


def names(entities: Sequence[Entity]) -> list[str]:
    """Titles or names, for messages."""
    return [str(getattr(one, "title", None) or getattr(one, "name", one.id)) for one in entities]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the suites measured, at the end of every run: steps taken, races run, planted bugs found."""
    figures = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for figure in sorted(figures):
            terminalreporter.line(figure)
