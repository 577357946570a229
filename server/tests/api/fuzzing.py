"""What fuzzers share: a furnished application, one person who may do most of it, and what every answer has to be."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pmis.api.app import create_app
from pmis.identity.tokens import Tokens
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from tests.api.description import operations
from tests.api.expect import CODE, NEVER
from tests.api.office import (
    JWT_SECRET,
    PASSWORD,
    begin_session,
    furnish,
    make_invitations,
    make_webhook,
    open_office,
    seal,
    settings_for,
)
from tests.builders import SECRET, make_member, make_person

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from fastapi import FastAPI

    from tests.api.office import Records
    from tests.conftest import TestDatabase

EVERY_ROLE: Final = ("admin", "analyst", "executive", "operator")
_KINDS: Final = {
    "packages": "package",
    "tasks": "task",
    "parties": "party",
    "customers": "party",
    "vendors": "party",
    "comments": "comment",
    "memories": "memory",
    "package-types": "package_type",
    "memberships": "membership",
    "delegations": "delegation",
    "projects": "project",
    "people": "person",
    "approvals": "approval",
    "exports": "package",
}
_AUDITED: Final = ("package", "task", "party", "approval", "membership")
WRITING_READS: Final = frozenset(
    {"export_log", "export_ocds", "list_events", "entity_events", "get_event", "get_proof"}
)
"""Reads that are events themselves: somebody took data out, or read the log."""
SILENT_WRITES: Final = frozenset({"simulate_policy", "simulate", "login"})
"""Requests with a body that change nothing."""
FAILURES: Final = {("login", 401), ("accept_invitation", 401), ("change_password", 403), ("reauthenticate", 403)}
"""Refusals that somebody failed, which is an event."""
COMMITTED_REFUSALS: Final = frozenset({"approval_void", "approval_expired"})
"""Refusals that are the end of the approval, and so an event."""
_COUNTED: Final = (
    "select (select coalesce(max(position), 0) from ledger.event), (select count(*) from ledger.outbox), "
    "(select count(*) from ledger.vault), (select count(*) from identity.credential), "
    "(select count(*) from ledger.idempotency)"
)


@dataclass
class Ground:
    """The application on a furnished database, not yet started."""

    app: FastAPI
    database: TestDatabase
    records: Records
    prefix: str
    person: UUID

    def __post_init__(self) -> None:
        """Let streams that would go on for an hour end at once."""
        self.app.state.parts.changes.longest = 0.0

    @property
    def token(self) -> str:
        """An access token of the fuzzing person."""
        # What is counted around each request is what the request writes, and not what it takes to make it.
        session = begin_session(self.database, self.person, told=False)
        return Tokens(JWT_SECRET, 600).issue(self.person, session, datetime.now(UTC))

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request the fuzzing person's."""
        return {"Authorization": f"Bearer {self.token}"}

    def ids(self, path: str) -> list[dict[str, str]]:
        """Path parameters with which a path names records that there are; one of each state."""
        if "{event_id}" in path:
            return [{"event_id": str(self.records.ids["event"]["live"])}]
        if "{entity_type}" in path:
            return [{"entity_type": kind, "entity_id": str(self.records.ids[kind]["live"])} for kind in _AUDITED]
        if "{message_id}" in path:
            mails = self.records.ids["email"].values()
            return [{"message_id": str(one), **({"number": "1"} if "{number}" in path else {})} for one in mails]
        if path.endswith("/{webhook_id}/deliveries"):
            return [{"webhook_id": str(self.records.ids["webhook"]["live"])}]
        if path.endswith("/{invitation_id}"):
            return [{"invitation_id": str(self.records.ids["invitation"]["live"])}]
        if "{import_id}" in path:
            return [{"import_id": str(uuid7())}]
        first = path.removeprefix("/api/v1/").partition("/")[0]
        name = "approval_id" if first == "approvals" else "reference"
        if f"{{{name}}}" not in path:
            return []
        return [{name: str(one)} for one in self.records.ids[_KINDS[first]].values()]

    def again(self, app: FastAPI) -> Ground:
        """Another application on the same records."""
        return Ground(app, self.database, self.records, self.prefix, self.person)

    def fresh_app(self) -> FastAPI:
        """One more application on the same database."""
        return create_app(settings_for(self.database))


def prepared(database: TestDatabase) -> Ground:
    """A furnished database and the application on it."""

    async def seed() -> tuple[Records, str, UUID]:
        async with open_office(database) as office:
            records = await furnish(office.a, office.records["a"].mark, database.files)
            records.put("webhook", "live", (await make_webhook(office, "admin"))[0])
            await make_invitations(office, office.a, records)
            seal(database)
            async with office.database.write(Reach.INSTANCE) as session:
                person = await make_person(session, office.vault, "Fuzzer", instance_admin=True)
                await make_member(session, office.vault, office.a.project, person, *EVERY_ROLE)
                await session.commit()
            seal(database)
            return records, office.a.prefix, person

    records, prefix, person = asyncio.run(seed())
    return Ground(create_app(settings_for(database)), database, records, prefix, person)


@dataclass(frozen=True)
class Told:
    """An answer, however it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Judge:
    """Looks at every answer; remembers the first of each kind that is not as it must be."""

    ground: Ground
    found: dict[str, str] = field(default_factory=dict[str, str])
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])
    through: set[str] = field(default_factory=set[str])
    """The operations that answered yes to something."""

    def __post_init__(self) -> None:
        """Look at the database beside the application, from a connection of its own."""
        self._connection = psycopg.connect(self.ground.database.admin_dsn, autocommit=True)
        self.look_again()

    def look_again(self) -> None:
        """Take what the database holds now as what was there before the next request."""
        self._before = self._rows()

    def close(self) -> None:
        """Look no more."""
        self._connection.close()

    @cached_property
    def operations(self) -> dict[str, dict[str, Any]]:
        """Each operation of the document, by method and path."""
        return {f"{method} {path}": told for method, path, told in operations(self.ground.app.openapi())}

    @cached_property
    def _secrets(self) -> tuple[bytes, ...]:
        passwords = self.ground.database.cluster.server.passwords
        return tuple(one.encode() for one in (SECRET, JWT_SECRET, PASSWORD, *dict(passwords).values()))

    def _rows(self) -> tuple[int, ...]:
        return self._connection.execute(_COUNTED).fetchone() or ()

    def wrong(self, name: str, what: str, how: str, told: Told) -> None:
        """Remember that something is not as it must be."""
        body = told.body[:400].decode(errors="backslashreplace")
        self.found.setdefault(f"{name}: {what}", f"{name}: {what}\n  {how[:700]}\n  {told.status} {body}")

    def look(self, name: str, how: str, told: Told, *, key: bool = False, dry: bool = False) -> None:
        """Judge one answer to the operation of this name; `key` when the answer is kept under a key."""
        self.cases += 1
        self.statuses[told.status] += 1
        operation = self.operations.get(name, {})
        if told.status < 400:
            self.through.add(name)
        if told.status >= 500:
            self.wrong(name, f"answers {told.status}", how, told)
        if operation and str(told.status) not in operation["responses"]:
            self.wrong(name, f"answers {told.status}, which is not documented", how, told)
        if any(secret in told.body for secret in self._secrets):
            self.wrong(name, "tells a secret", how, told)
        if told.status >= 400:
            self._look_at_problem(name, how, told)
        self._look_at_rows(name, how, told, operation.get("operationId", ""), key=key, dry=dry)

    def _look_at_problem(self, name: str, how: str, told: Told) -> None:
        if found := NEVER.search(told.body.decode(errors="replace")):
            self.wrong(name, f"says {found[0]!r} in a refusal", how, told)
        try:
            problem = json.loads(told.body)
            good = (
                told.headers["content-type"] == "application/problem+json"
                and problem["status"] == told.status
                and CODE.fullmatch(problem["code"])
                and problem["type"] == f"urn:pmis:problem:{problem['code']}"
                and problem["title"]
                and problem["detail"]
                and (
                    problem["correlation_id"] == told.headers["x-correlation-id"]
                    # What was kept under a key is given again byte for byte.
                    or told.headers.get("idempotency-replayed") == "true"
                )
            )
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            self.wrong(name, "refuses with something that is no problem document", how, told)

    def _look_at_rows(self, name: str, how: str, told: Told, operation: str, *, key: bool, dry: bool) -> None:
        """Nothing is written by a refusal, by a preview, or by a read."""
        before, self._before = self._before, self._rows()
        rows, was = self._before, before
        if key:  # the answer itself is kept
            rows, was = rows[:-1], was[:-1]
        if rows == was:
            return
        writes = not name.startswith("GET ") or operation in WRITING_READS
        if told.status < 400 and writes and not dry and operation not in SILENT_WRITES:
            return
        if (operation, told.status) in {
            ("login", 401),
            ("accept_invitation", 401),
            ("change_password", 403),
            ("reauthenticate", 403),
        }:
            return
        if told.status == 409 and json.loads(told.body).get("code") in COMMITTED_REFUSALS:
            return
        self.wrong(name, f"wrote something ({was} became {rows}) and answered {told.status}", how, told)

    def figure(self, what: str, seconds: float) -> str:
        """What was done, in a line."""
        said = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return f"T11 {what}: {self.cases} cases, {len(self.found)} wrong, {seconds:.1f} s ({said})"
