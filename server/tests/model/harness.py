"""Drives the governed path on PostgreSQL and holds it against the oracle and the log after every step."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Coroutine  # noqa: TC003
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import uvloop

from pmis.approval import decide, policy, propose
from pmis.approval.policy import POLICIES, POLICY_ID
from pmis.approval.registry import NOUNS
from pmis.kit.db import Database, Reach
from pmis.kit.errors import PmisError
from pmis.kit.ids import uuid7
from pmis.ledger import idempotency, replay
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import EVENT_COLUMNS, append, event_of
from pmis.ledger.vault import Vault
from pmis.ops.console import Console
from pmis.policy.document import Writer, default_policy
from pmis.policy.levels import Level
from tests.builders import PROJECTIONS, SECRET, agent_of, make_member, make_person, make_project, new_prefix
from tests.ledger.hashing import content_hash
from tests.model import oracle
from tests.model.following import Follower
from tests.model.oracle import Answer, Change, Model, Rules, Waiting, Who

if TYPE_CHECKING:
    from pmis.kit.db import WriteSession
    from pmis.policy.access import Principal
    from tests.conftest import TestDatabase
    from tests.model.oracle import Record

T = TypeVar("T")
ZONE: Final = ZoneInfo("Europe/Berlin")
CASTS: Final = {
    "full": {
        "analyst": ("analyst",),
        "operator": ("operator",),
        "admin": ("admin",),
        "admin2": ("admin",),
        "executive": ("executive",),
        "executive2": ("executive", "analyst"),
        "viewer": ("viewer",),
    },
    "small": {"analyst": ("analyst",), "admin": ("admin",), "executive": ("executive",)},
    "alone": {"analyst": ("analyst",), "admin": ("admin", "executive")},
}
EVERYBODY: Final = ("analyst", "operator", "admin", "admin2", "executive", "executive2", "viewer", "outsider")
_UUIDS: Final = frozenset(
    {"vendor_id", "package_id", "assignee_id", "owner_id", "person_id", "from_person", "to_person", "entity_id"}
)
_TIMES: Final = frozenset({"starts_at", "ends_at"})
_COMPARED: Final = ("project", "package", "task", "party", "comment", "memory", "membership", "delegation")
EVERYTHING_EACH: Final = 16
"""After so many steps everything is read and replayed anew, not only what the step has touched."""
CANARY: Final = "DE-CANARY"
"""Stands in every bank account and every memory: it must never be seen in clear."""


class Broken(AssertionError):
    """The program and its promises differ."""


def require(holds: bool, what: str, *seen: object) -> None:
    if not holds:
        raise Broken(f"{what}: {seen}")


@dataclass
class Log:
    """The log as it was followed so far: heads of streams, and what each approval's events said."""

    heads: dict[UUID, tuple[int, bytes]] = field(default_factory=dict[UUID, tuple[int, bytes]])
    approvals: dict[UUID, list[dict[str, Any]]] = field(default_factory=dict[UUID, list[dict[str, Any]]])
    owed: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass
class Sent:
    """An answer that was kept under a key."""

    actor: str
    key: str
    fingerprint: bytes
    answer: idempotency.Answer


class Harness:
    """One process's connection to the database of the model's tests. Synchronous outside, as Hypothesis wants it."""

    def __init__(self, database: TestDatabase) -> None:
        # Not a Runner: it looks after Ctrl-C anew for each piece of work, and shows the last answer while it does.
        self.loop = uvloop.new_event_loop()
        self.vault = Vault(SECRET)
        self.database = Database(database.app_dsn, size=2)
        # Beside the program's own: looking is no part of what is looked at.
        self.eyes = psycopg.connect(
            database.app_dsn,
            autocommit=True,
            prepare_threshold=0,
            options="-c timezone=UTC -c plan_cache_mode=force_generic_plan -c random_page_cost=1.1 -c jit=off "
            "-c pmis.reach=*",
        )
        self.elsewhere = UUID(int=0)
        self.steps = 0
        self.due = False
        self._documents: dict[Rules, dict[str, Any]] = {}
        self._after_hours = propose._after_hours
        self._policy: policy.PolicyRecord | None = None
        # A process serves one database; a test process serves several, one after the other.
        propose._policies.clear()
        self.run(self._begin())
        # What was loaded so far stays; looking through it for garbage again and again costs a tenth of the time.
        gc.collect()
        gc.freeze()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        gc.unfreeze()
        self.eyes.close()
        self.run(self.database.close())
        self.loop.close()

    def follow_policy(self, *, anew: bool = False) -> None:
        """R1 for what belongs to no project: the policy's row is what its events make of it."""
        entity = None if anew else self._policy
        rows = self.eyes.execute(
            f"select {EVENT_COLUMNS} from ledger.event where stream_id = %s and stream_version > %s "  # pyright: ignore[reportArgumentType]
            "order by stream_version",
            (POLICY_ID, entity.version if entity else 0),
        )
        for row in rows:
            entity = POLICIES.apply(entity, event_of(row))
        if entity is None:
            raise Broken("there is no policy")
        columns = ", ".join(("id", "version", "project_id", "doc", *POLICIES.columns))
        live = self.eyes.execute(f"select {columns} from state.policy where id = %s", (POLICY_ID,)).fetchone()  # pyright: ignore[reportArgumentType]
        require(live == POLICIES.row(entity), "R1: the row of the policy", live)
        self._policy = entity

    async def _begin(self) -> None:
        await self.database.open()
        async with self.database.write(Reach.INSTANCE) as session:
            self.elsewhere = await make_project(session, self.vault)
            await session.commit()

    def after_hours(self, now: datetime, hours: int | None) -> str | None:
        """Stands in for the policy's expiry: an approval whose time is already over, while `due` is set."""
        if self.due and hours is not None:
            return (now - timedelta(seconds=1)).isoformat()
        return self._after_hours(now, hours)

    # --- one example ---

    def begin_example(self, cast_name: str, rules: Rules) -> Example:
        return self.run(self._begin_example(cast_name, rules))

    async def _begin_example(self, cast_name: str, rules: Rules) -> Example:
        before = self.eyes.execute(
            "select (select position from ledger.event order by position desc limit 1), stream_version, content_hash "
            "from ledger.event where stream_id = %s order by stream_version desc limit 1",
            (POLICY_ID,),
        ).fetchone()
        if before is None:
            raise Broken("there is no policy")
        position, policy_version, policy_head = before
        async with self.database.write(Reach.INSTANCE) as session:
            project = await make_project(session, self.vault, prefix=new_prefix(), timezone="Europe/Berlin")
            people: dict[str, UUID] = {}
            for name in EVERYBODY:
                rights = {"instance_admin": True} if name in ("admin", "admin2") else {}
                people[name] = await make_person(session, self.vault, name.title(), **rights)
            for name, roles in CASTS[cast_name].items():
                await make_member(session, self.vault, project, people[name], *roles)
            # Somebody who matters in another project, and must not in this one.
            await make_member(session, self.vault, self.elsewhere, people["outsider"], "executive")
            await session.commit()
        version = await self.put_policy(rules)
        model = Model(
            project=project,
            people=people,
            instance_admins=frozenset({people["admin"], people["admin2"]}),
            rules=replace(rules, version=version),
            elsewhere=frozenset({people["outsider"]}),
        )
        model.records[POLICY_ID] = {
            "noun": "policy",
            "id": POLICY_ID,
            "version": version,
            "document": unversioned(rules),
        }
        example = Example(self, model, Follower(self.eyes, project, position))
        example.log.heads[POLICY_ID] = (policy_version, bytes(policy_head))
        example.look()
        for noun in _COMPARED:
            for row in sorted(example.follower.live[noun].values(), key=lambda one: one[0]):
                known = {
                    name: value for name, value in plain(row[3]).items() if name not in ("created_at", "updated_at")
                }
                model.records[row[0]] = {"noun": noun, **known}
        return example

    async def put_policy(self, rules: Rules) -> int:
        """Put these rules in force from the console, so that an example does not depend on the one before it."""
        async with self.database.write(Reach.INSTANCE) as session:
            row = await session.one("select version, doc from state.policy where id = %s for update", (POLICY_ID,))
            if row is None:
                raise Broken("there is no policy")
            entity = policy.PolicyRecord.model_validate_json(row[1])
            changes = POLICIES.diff(entity.model_dump(mode="json"), {"document": self.document(rules)})
            if not changes:
                return entity.version
            fact = Fact("policy.patched", {"changes": changes, "governance": {"route": "CONSOLE"}})
            origin = Origin(Actor("system:tests", "Tests"), "system", "tests")
            found = append(session, POLICIES, entity, [fact], origin=origin, stream_id=POLICY_ID, project_id=None)
            await session.commit()
            return found[0].version

    def document(self, rules: Rules) -> dict[str, Any]:
        """The policy document that says what the model's rules say."""
        rules = unversioned(rules)
        if rules not in self._documents:
            document = json.loads(json.dumps(default_policy().to_json()))
            document["name"] = rules.name
            if rules.careful:
                document["matrix"]["low"] |= {"low": "CONFIRM", "medium": "CONFIRM"}
            if rules.two_admins:
                for route in ("APPROVAL_REQUIRED", "EXECUTIVE_APPROVAL", "ESCALATE"):
                    document["approvals"][route]["steps"][0]["quorum"] = 2
            if rules.serial:
                for route in ("APPROVAL_REQUIRED", "EXECUTIVE_APPROVAL", "ESCALATE"):
                    document["approvals"][route]["order"] = "serial"
            document["solo"]["enabled"] = rules.solo
            self._documents[rules] = document
        return self._documents[rules]


def unversioned(rules: Rules) -> Rules:
    return replace(rules, version=0)


def plain(doc: str) -> dict[str, Any]:
    """A document with the values that the model uses."""
    record: dict[str, Any] = json.loads(doc)
    for name, value in record.items():
        if value is not None and (name in _UUIDS or name == "id"):
            record[name] = UUID(value)
        elif name in _TIMES:
            record[name] = datetime.fromisoformat(value)  # pyright: ignore[reportArgumentType]
    return record


def _json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


class Example:
    """One project's life, followed in two ways."""

    def __init__(self, harness: Harness, model: Model, follower: Follower) -> None:
        self.harness = harness
        self.model = model
        self.follower = follower
        self.sound = False
        self.steps = 0
        self.log = Log()
        self.sent: list[Sent] = []
        self.instance_approvals: list[UUID] = []
        self._compared: dict[UUID, tuple[str, Record]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.harness.run(work)

    # --- who ---

    def who(self, name: str, *, agent: bool = False) -> Who:
        person = self.model.people[name]
        ref = f"agent:{UUID(int=person.int ^ 1)}" if agent else f"person:{person}"
        shown = name.title()
        return Who(f"{shown}'s assistant" if agent else shown, person, ref, agent)

    async def principal(self, session: WriteSession, who: Who) -> Principal:
        person = await decide_load(session, who.person)
        return agent_of(person) if who.agent else person

    async def request(self, session: WriteSession, who: Who, **said: Any) -> propose.Request:
        return propose.Request(await self.principal(session, who), "api", "model", **said)

    # --- proposing ---

    def wanted(self, change: Change) -> propose.Wanted:
        noun = NOUNS[change.noun]
        patch = {name: _json(value) for name, value in change.patch.items()}
        if change.noun == "policy":
            patch = {"document": self.harness.document(change.patch["document"])}
        elif change.noun == "party" and patch.get("bank_details"):
            patch["bank_details"] = {"holder": "A holder", "account": patch["bank_details"]}
        project = None if change.noun == "policy" else self.model.project
        return propose.Wanted(
            noun, change.operation, change.target, noun.validated(change.operation, patch), project, change.if_version
        )

    def propose(
        self,
        who: Who,
        changes: list[Change],
        *,
        writer: str | None = None,
        reason: str | None = None,
        impact: int = 0,
        uncertainty: int = 0,
        due: bool = False,
        revises: Waiting | None = None,
    ) -> None:
        """Propose, and require that what comes of it is what the model says."""
        kind = writer or ("agent" if who.agent else "person")
        expected = self.model.judge(who, changes, writer=kind, reason=reason, impact=impact, uncertainty=uncertainty)
        self.harness.due = due
        try:
            found = self.run(
                self._propose(who, changes, kind if writer else None, reason, impact, uncertainty, revises)
            )
        finally:
            self.harness.due = False
        self._proposed(who, changes, kind, reason, due, expected, found)

    async def _propose(
        self,
        who: Who,
        changes: list[Change],
        writer: str | None,
        reason: str | None,
        impact: int,
        uncertainty: int,
        revises: Waiting | None,
    ) -> propose.Outcome | str:
        key, fingerprint = str(uuid7()), hashlib.sha256(repr(changes).encode()).digest()
        try:
            async with self.harness.database.write(Reach.INSTANCE) as session:
                request = await self.request(
                    session,
                    who,
                    reason=reason,
                    stated_impact=Level(impact) if impact else None,
                    stated_uncertainty=Level(uncertainty) if uncertainty else None,
                    writer=Writer(writer) if writer else None,
                )
                held = await idempotency.claim(session, who.ref, key, fingerprint)
                require(isinstance(held, idempotency.Claim), "a fresh key was taken", held)
                if revises is None:
                    wanted = [self.wanted(change) for change in changes]
                    outcome = await propose.propose(session, self.harness.vault, request, wanted)
                else:
                    outcome = await decide.revise(session, self.harness.vault, request, revises.id, {})
                answer = idempotency.Answer(200, outcome.outcome.encode(), {}, self.model.project)
                idempotency.settle(session, cast("idempotency.Claim", held), answer)
                await session.commit()
                self.sent.append(Sent(who.ref, key, fingerprint, answer))
                return outcome
        except PmisError as error:
            return error.code

    def _proposed(
        self,
        who: Who,
        changes: list[Change],
        writer: str,
        reason: str | None,
        due: bool,
        expected: Answer,
        found: propose.Outcome | str,
    ) -> None:
        if isinstance(found, str):
            require(found in expected.refusals, "a refusal that the model knows", found, expected)
            return
        require(not expected.refusals, "a proposal that the model refuses", expected.refusals, found)
        route = oracle.ROUTES[expected.route]
        require(found.decision.route.value == route, "the route", found.decision, route)
        steps = tuple(
            (step.id, frozenset(role.value for role in step.roles), step.quorum) for step in found.decision.steps
        )
        require(steps == expected.steps, "who must agree", steps, expected.steps)
        if expected.route == oracle.AUTO:
            require(found.outcome == "applied" and found.approval is None, "applied at once", found)
            self._applied(expected, found)
            return
        approval = found.approval
        if approval is None:
            raise Broken(f"something waits: {found}")
        confirming = expected.route == oracle.CONFIRM
        require(
            found.outcome == approval.status if confirming else found.outcome == "pending",
            "the outcome is that of the approval",
            found.outcome,
        )
        bases = {
            change.target: self.model.records[change.target]["version"] if change.target in self.model.records else 0
            for change in changes
        }
        instance = changes[0].noun == "policy"
        self.model.approvals[approval.id] = Waiting(
            approval.id,
            who,
            writer,
            reason,
            changes,
            bases,
            expected.route,
            expected.steps,
            expected.serial,
            self.model.rules.version,
            due,
            instance,
            "confirmation_required" if confirming else "pending",
        )
        if instance:
            self.instance_approvals.append(approval.id)

    def _applied(self, expected: Answer, found: propose.Outcome, spared: UUID | None = None) -> None:
        # The policy and what belongs to no project have no zone; they stamp no dates either.
        today = found.entities[0].updated_at.astimezone(ZONE).date().isoformat()
        self.model.apply(expected, today=today, spared=spared)
        record = expected.after.get(POLICY_ID)
        if record is not None:
            self.model.rules = replace(record["document"], version=record["version"])

    def revise(self, who: Who, waiting: Waiting, *, due: bool) -> None:
        """Propose again what ended without being applied."""
        if not self.model.sees(waiting, who.person):
            expected = Answer(refusals=frozenset({"not_found"}))
        elif waiting.open or waiting.status == "applied":
            expected = Answer(refusals=frozenset({"approval_closed"}))
        elif who.person != waiting.proposer.person:
            expected = Answer(refusals=frozenset({"may_not_decide"}))
        else:
            changes = [replace(change, if_version=None) for change in waiting.changes]
            self.propose(who, changes, reason=waiting.reason, due=due, revises=waiting)
            return
        found = self.run(self._propose(who, waiting.changes, None, waiting.reason, 0, 0, waiting))
        self._proposed(who, waiting.changes, "person", waiting.reason, due, expected, found)

    # --- deciding ---

    def decide(self, who: Who, waiting: Waiting, verdict: str, *, shown: str | None) -> None:
        """Say something to an approval, and require that what comes of it is what the model says."""
        now = datetime.now(UTC)
        refusal, seat = self._decision(who, waiting, verdict, shown, now)
        again = self.model.again(waiting)
        found = self.run(self._decide(who, waiting, verdict, shown))
        if refusal is not None:
            require(found == refusal, "the refusal of a decision", found, refusal, who, waiting)
            if refusal == "approval_expired":
                waiting.status = "expired"
            elif refusal == "approval_void":
                waiting.status = "voided"
            return
        if verdict in ("approve", "reject", "request_changes"):
            step, owner, exception = cast("tuple[str, UUID, bool]", seat)
            waiting.votes.append((who.person, owner, step, exception))
        if verdict in ("reject", "request_changes", "withdraw"):
            waiting.status = {"reject": "rejected", "request_changes": "changes_requested"}.get(verdict, "withdrawn")
            require(not isinstance(found, str), "it is ended", found)
            return
        if verdict == "approve" and self.model.missing(waiting):
            require(isinstance(found, propose.Outcome) and found.outcome == "pending", "it still waits", found, waiting)
            return
        if again.refusals:
            require(found == "approval_void", "it cannot be applied any more", found, again.refusals)
            waiting.status = "voided"
            return
        if not isinstance(found, propose.Outcome):
            raise Broken(f"it is applied: {found} {who} {waiting}")
        require(found.outcome == "applied", "it is applied", found)
        waiting.status = "applied"
        self._applied(again, found, spared=waiting.id)

    def _decision(
        self, who: Who, waiting: Waiting, verdict: str, shown: str | None, now: datetime
    ) -> tuple[str | None, tuple[str, UUID, bool] | None]:
        judging = verdict in ("approve", "reject", "request_changes")
        if judging and who.agent:
            return "may_not_decide", None
        if not self.model.sees(waiting, who.person):
            return "not_found", None
        if waiting.open and waiting.due:
            return "approval_expired", None
        wanted = {"confirm": ("confirmation_required",), "withdraw": ("pending", "confirmation_required")}
        if waiting.status not in wanted.get(verdict, ("pending",)):
            return "approval_closed", None
        if verdict == "withdraw":
            return (None if who.person == waiting.proposer.person else "may_not_decide"), None
        if shown is not None and shown != "right":
            return "digest_mismatch", None
        if verdict == "confirm":
            if who.agent or who.person != waiting.proposer.person:
                return "decision_refused", None
        else:
            seat = self.model.seat(waiting, who.person, now)
            if seat is None:
                return "decision_refused", None
            if verdict != "approve" or not self.model.stale(waiting):
                return None, seat
        return ("approval_void" if self.model.stale(waiting) else None), None

    async def _decide(self, who: Who, waiting: Waiting, verdict: str, shown: str | None) -> Any:
        try:
            async with self.harness.database.write(Reach.INSTANCE) as session:
                request = await self.request(session, who)
                vault = self.harness.vault
                digest = self._digest(waiting) if shown == "right" else shown and "0" * 64
                try:
                    if verdict == "confirm":
                        found: Any = await decide.confirm(
                            session, vault, request, waiting.id, shown=digest, recent=True
                        )
                    elif verdict == "withdraw":
                        found = await decide.withdraw(session, request, waiting.id, reason=None)
                    else:
                        said = cast("decide.VerdictName", verdict)
                        found = await decide.say(
                            session, vault, request, waiting.id, said, reason="Because.", shown=digest, recent=True
                        )
                except PmisError as error:
                    if error.commits:
                        await session.commit()
                    return error.code
                await session.commit()
                return found
        except PmisError as error:
            return error.code

    def _digest(self, waiting: Waiting) -> str:
        """What the approval shows to those who look at it."""
        row = self.follower.live["approval"].get(waiting.id)
        return json.loads(row[3])["digest"] if row else ""

    def expire(self) -> None:
        """Let the job run that ends what nobody decided in time."""

        async def work() -> None:
            async with self.harness.database.write(Reach.INSTANCE) as session:
                await decide.expire_due(session)
                await session.commit()

        self.run(work())
        for waiting in self.model.approvals.values():
            if waiting.open and waiting.due:
                waiting.status = "expired"

    def repeat(self, sent: Sent, *, other: bool) -> None:
        """Send the same again under the same key: the same answer, and nothing happens; another body is refused."""

        async def work() -> idempotency.Answer | idempotency.Claim | str:
            print_ = hashlib.sha256(b"other").digest() if other else sent.fingerprint
            try:
                async with self.harness.database.write(Reach.INSTANCE) as session:
                    return await idempotency.claim(session, sent.actor, sent.key, print_)
            except PmisError as error:
                return error.code

        found = self.run(work())
        require(found == ("idempotency_key_reused" if other else sent.answer), "the same answer", found, sent)

    # --- looking ---

    def observe(self) -> None:
        """Everything that must hold between any two steps."""
        self.harness.steps += 1
        self.steps += 1
        self.sound = False
        self.look()
        self._records()
        self._approvals()
        if self.steps % EVERYTHING_EACH == 0:
            self.replay()
        self.sound = True

    def look(self) -> None:
        """Follow the log, and compare what it has touched, or what was touched without it, row by row."""
        events, differences = self.follower.look([POLICY_ID, *self.instance_approvals])
        require(not differences, "R1: the rows are what the log makes of them", differences)
        for event in events:
            self._follow(event)
        if any(event[3] == POLICY_ID for event in events):
            self.harness.follow_policy()
        self._settled()

    def replay(self) -> None:
        """Compare everything with everything the log makes, from the beginning."""

        async def work() -> list[replay.Difference]:
            async with self.harness.database.snapshot(Reach.INSTANCE) as session:
                return await replay.differences_in_memory(session, PROJECTIONS, project_id=self.model.project)

        found = self.run(work())
        require(not found, "R1: all rows are what the log makes of them", found)
        found = self.follower.from_scratch([POLICY_ID, *self.instance_approvals])
        require(not found, "R1: all rows are what was followed", found)

    def end(self) -> None:
        """The last look at an example; one that broke has been looked at."""
        if not self.sound:
            return
        # What concerns the whole instance would wait on in every example to come.
        for waiting in self.model.approvals.values():
            if waiting.instance and waiting.open:
                self.decide(waiting.proposer, waiting, "withdraw", shown=None)
        self.look()
        self._approvals()
        self.replay()

    def _follow(self, row: tuple[Any, ...]) -> None:
        (position, identity, kind, stream, version, project, type_, schema, actor, actor_name, behalf, behalf_name,
         source, correlation, causation, at, previous, content, payload, xid) = row  # fmt: skip
        known, head = self.log.heads.get(stream, (0, b"\0" * 32))
        require(version == known + 1, "R5: versions without a gap", stream, known, version)
        require(bytes(previous) == head, "R5: each event holds the hash of the one before it", stream, version)
        computed = content_hash(
            position, identity, kind, stream, version, project, type_, schema, actor, actor_name, behalf, behalf_name,
            source, correlation, causation, at, bytes(previous), payload,
        )  # fmt: skip
        require(bytes(content) == computed, "R5: the hash is that of the event", stream, version)
        self.log.heads[stream] = (version, bytes(content))
        require(CANARY not in payload, "secrets are sealed", payload)
        said = json.loads(payload)
        if kind == "approval":
            self.log.approvals.setdefault(stream, []).append({"type": type_, "actor": actor, "xid": xid, **said})
            waiting = self.model.approvals.get(stream)
            if type_ == "approval.voided" and waiting is not None and waiting.colliding:
                require(said["colliding"] == waiting.colliding, "the fields that collide", said, waiting)
            if type_ == "approval.applied":
                self.log.owed.setdefault(xid, [])
                self._agreed(stream)
            return
        governance = said["governance"]
        if governance["route"] == "CONSOLE":
            return
        if governance["route"] == "AUTO":
            require("approval_id" not in governance, "R10: nobody approved what was applied at once", governance)
            return
        approval = UUID(governance["approval_id"])
        created = self.log.approvals[approval][0]["fields"]
        require(governance["digest"] == created["digest"], "R8: the change that was agreed to", governance)
        require(
            str(stream) in {change["target"] for change in created["changes"]},
            "R8: a record of that change",
            governance,
        )
        self.log.owed.setdefault(xid, []).append(str(approval))

    def _agreed(self, approval: UUID) -> None:
        """R8, R9, R10 from nothing but the events of one approval, at the moment it is applied."""
        events = self.log.approvals[approval]
        require(events[0]["type"] == "approval.created", "R10: an approval begins", events)
        require(sum(event["type"] == "approval.applied" for event in events) == 1, "R9: applied at most once", events)
        created = events[0]["fields"]
        text = json.dumps(
            {"changes": created["changes"], "format": "pmis-change-v1", "policy_version": created["policy_version"]},
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        )
        digest = hashlib.sha256(text.encode()).hexdigest()
        digests = {created["digest"], *(event["digest"] for event in events if "digest" in event)}
        require(digests == {digest}, "R8: everybody agreed to the same change", digests, digest)
        proposer = created["proposer"]["person_id"]
        if created["route"] == "CONFIRM":
            confirmed = [event["actor"] for event in events if event["type"] == "approval.confirmed"]
            require(confirmed == [f"person:{proposer}"], "R10: the proposer's own yes", confirmed)
            return
        verdicts = [(event["actor"], event["verdict"]) for event in events if event["type"] == "approval.decided"]
        for actor, verdict in verdicts:
            require(actor == f"person:{verdict['person_id']}", "R9: people decide, in person", actor, verdict)
            require(verdict["verdict"] == "approve", "R10: nobody disagreed", verdict)
        if any(verdict["exception"] for _, verdict in verdicts):
            require(self.model.rules.solo, "R9: an exception only where one person is alone", verdicts)
            return
        people = [verdict["person_id"] for _, verdict in verdicts]
        seats = [verdict["seat_person_id"] for _, verdict in verdicts]
        require(proposer not in {*people, *seats}, "R9: nobody approves their own change", verdicts)
        taken = [{person, seat} for person, seat in zip(people, seats, strict=True)]
        for i, one in enumerate(taken):
            require(all(one.isdisjoint(other) for other in taken[:i]), "R9: each person counts once", verdicts)
        wanted = {step["id"]: step["quorum"] for step in created["decision"]["steps"]}
        given: dict[str, int] = {}
        for _, verdict in verdicts:
            given[verdict["step"]] = given.get(verdict["step"], 0) + 1
        require(given == wanted, "R10: as many as the policy asks for", given, wanted)

    def _settled(self) -> None:
        """What an approval allowed was written in the very transaction in which it ended."""
        for xid, named in self.log.owed.items():
            ended = [
                str(approval)
                for approval, events in self.log.approvals.items()
                if any(event["type"] == "approval.applied" and event["xid"] == xid for event in events)
            ]
            require(set(named) == set(ended) and bool(named), "R9: applied when it ended, and only then", named, ended)
        self.log.owed.clear()

    def _records(self) -> None:
        """The rows are those of the model, field by field."""
        live = self.follower.live
        expected = {identity: record for identity, record in self.model.records.items() if identity != POLICY_ID}
        require(sum(len(live[noun]) for noun in _COMPARED) == len(expected), "the same records", expected.keys())
        for identity, record in expected.items():
            row = live[record["noun"]].get(identity)
            if row is None:
                raise Broken(f"the same records: there is no {record}")
            # What neither side has touched since it was compared need not be read again.
            doc, known = self._compared.get(identity, ("", None))
            if known is not record or doc != row[3]:
                self._same(record["noun"], plain(row[3]), record)
                self._compared[identity] = (row[3], record)

    def _same(self, noun: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
        for name, value in expected.items():
            if name == "noun":
                continue
            if (name == "deleted_at" or name in oracle.SEALED) and value is not None:
                require(found[name] is not None, f"{noun}.{name}", found)
                require(name == "deleted_at" or found[name].startswith("sealed:"), "secrets are sealed", found)
                continue
            require(found[name] == value, f"{noun}.{name}", found[name], value)

    def _approvals(self) -> None:
        """The approvals are those of the model, and none waits for a version that is gone."""
        found = self.follower.live["approval"]
        require(len(found) == len(self.model.approvals), "as many approvals", len(found), len(self.model.approvals))
        for identity, row in found.items():
            waiting, status = self.model.approvals[identity], row[4]
            require(status == waiting.status, "the status of an approval", status, waiting)
            if not waiting.open:
                continue
            for target, base in waiting.bases.items():
                record = self.model.records.get(target)
                if base and record is not None:
                    require(record["version"] == base, "an open approval is never stale", record, waiting)


async def decide_load(session: WriteSession, person: UUID) -> Principal:
    from pmis.identity.principals import load_principal

    return await load_principal(session, person)


def console(session: WriteSession, vault: Vault) -> Console:
    return Console(session, vault, "tests", "tests")
