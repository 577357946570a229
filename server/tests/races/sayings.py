"""T3's hall: a crowd that says forty things to one approval at the same moment, and who judges what came of it.

The judge reads only the log, the rows, the outbox and what it knows of people, roles and loans of its own; it asks none
of the code that decides.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import anyio

import pmis.nouns
from pmis.approval.errors import ApprovalClosedError, ApprovalVoidError, DigestMismatchError, MayNotDecideError
from pmis.approval.policy import POLICY_ID
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger import replay
from pmis.policy.approvers import DecisionRefusedError
from pmis.policy.levels import Level
from tests.builders import make_world, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from pmis.approval.models import Approval
    from tests.builders import World
    from tests.conftest import TestDatabase

SAYINGS: Final = 40
ADMINS: Final = tuple(f"admin{n}" for n in range(6))
EXECUTIVES: Final = tuple(f"executive{n}" for n in range(4))
DECIDERS: Final = ADMINS + EXECUTIVES
ROLES: Final = {
    **dict.fromkeys(ADMINS, ("admin",)),
    **dict.fromkeys(EXECUTIVES, ("executive",)),
    "operator": ("operator",),
    "analyst": ("analyst",),
    "viewer": ("viewer",),
}
PROPOSERS: Final = (*ADMINS[:4], *EXECUTIVES[:2], "analyst", "agent:admin0", "agent:executive1", "agent:analyst")
MODES: Final = ("agree", "agree", "agree", "in vain", "reject", "send back", "withdraw", "drift")
LOANS_LAST: Final = 5
"""After so many rounds other people lend their seats to others."""


def step(quorum: int, *roles: str) -> dict[str, Any]:
    """A step of an approval as a policy has it; what is the same has the same id."""
    name = f"{quorum} {' or '.join(roles)}"
    return {"id": f"{'_'.join(roles)}_{quorum}", "name": name, "roles": list(roles), "quorum": quorum}


QUORUMS: Final[dict[str, tuple[str, list[dict[str, Any]]]]] = {
    "one admin": ("parallel", [step(1, "admin")]),
    "three admins": ("parallel", [step(3, "admin")]),
    "any two and an executive": (
        "parallel",
        [step(2, "admin", "executive"), step(1, "executive")],
    ),
    "two admins, then two executives": ("serial", [step(2, "admin"), step(2, "executive")]),
}
"""Who must agree, and in which order."""


Rules = dict[str, tuple[str, list[dict[str, Any]]]]
"""For each route the order and the steps that the policy in force asks for."""


@dataclass
class Said:
    """One saying, and what it was answered."""

    who: str
    what: str
    answer: Any = None

    @property
    def accepted(self) -> bool:
        """Whether it did something."""
        return not isinstance(self.answer, BaseException)


@dataclass
class Hall:
    """A project with many who decide, under a policy that asks for some of them."""

    world: World
    rules: Rules
    seed: str
    loans: dict[UUID, tuple[str, str]] = field(default_factory=dict["UUID", "tuple[str, str]"])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    refusals: Counter[str] = field(default_factory=Counter[str])
    rounds: int = 0

    def name(self, identity: UUID | str | None) -> str:
        """Whose id it is."""
        return next(name for name, known in self.world.people.items() if str(known) == str(identity))

    def takers(self, giver: str) -> set[str]:
        """Who sits for somebody at present."""
        return {taker for lender, taker in self.loans.values() if lender == giver}

    # --- a round ---

    async def play(self, rounds: int) -> list[str]:
        """So many more rounds, until something is wrong; what is wrong."""
        for _ in range(rounds):
            rng = Random(f"{self.seed}/{self.rounds}")
            if self.rounds % LOANS_LAST == 0:
                await self.lend(rng)
            found = await self.round(rng)
            self.rounds += 1
            if found:
                return [f"round {self.rounds}: {one}" for one in found]
        return []

    async def lend(self, rng: Random) -> None:
        """Everybody takes their seats back; then some lend them, in chains and circles too."""
        for loan, (giver, _) in list(self.loans.items()):
            await self._loan(giver, "patch", loan, {"revoked": True})
        self.loans.clear()
        now = datetime.now(UTC)
        for _ in range(rng.randint(4, 8)):
            giver = rng.choice(DECIDERS)
            taker = rng.choice([name for name in (*DECIDERS, "analyst", "viewer") if name != giver])
            window = {"starts_at": now - timedelta(minutes=1), "ends_at": now + timedelta(days=1)}
            patch = {"to_person": str(self.world.people[taker])} | {k: v.isoformat() for k, v in window.items()}
            self.loans[await self._loan(giver, "create", None, patch)] = (giver, taker)

    async def _loan(self, giver: str, operation: str, loan: UUID | None, patch: dict[str, Any]) -> UUID:
        outcome = await self.world.propose(giver, "delegation", operation, loan, patch)
        if outcome.outcome != "applied":
            assert outcome.approval is not None
            outcome = await self.world.say(giver, outcome.approval, "confirm")
        return outcome.entities[0].id

    async def round(self, rng: Random) -> list[str]:
        """Propose, let everybody speak at once, finish what is still open, judge."""
        draft = await self.world.propose("operator", "package", "create", None, {"title": "A package"})
        proposer, mode = rng.choice(PROPOSERS), MODES[self.rounds % len(MODES)]
        outcome = await self.world.propose(
            proposer, "package", "patch", draft.entities[0].id, {"title": "Another"}, stated_impact=Level.HIGH
        )
        assert outcome.approval is not None
        approval = outcome.approval
        said = self.crowd(rng, proposer.rpartition(":")[2], mode)
        await self.shout(said, approval)
        raced = await self.world.approval(approval)
        self.outcomes[raced.status] += 1
        found = await self.judge(approval, said, raced)
        if raced.is_open and not found:
            await self.world.withdraw(proposer.rpartition(":")[2], raced)
        return found

    def crowd(self, rng: Random, proposer: str, mode: str) -> list[Said]:
        """Forty sayings: most say yes, several of them more than once, and some who may not."""
        said = [Said(name, "approve") for name in (proposer, proposer, f"agent:{rng.choice(DECIDERS)}", "viewer")]
        stand_ins = sorted(self.takers(proposer))
        said += [Said(name, "approve") for name in stand_ins]
        said += [Said(rng.choice(DECIDERS), "approve, of something else")]
        others = [name for name in (*DECIDERS, "analyst") if name != proposer]
        said += [Said(rng.choice(others), "approve") for _ in range(SAYINGS - 3 - len(said))]
        rng.shuffle(said)
        # Few against many: they would always come too late if they did not speak among the first.
        few: list[Said] = {
            "reject": [Said(name, "reject") for name in rng.sample(others, 3)],
            "send back": [Said(name, "request_changes") for name in rng.sample(others, 3)],
            "withdraw": [Said(name, "withdraw") for name in (proposer, proposer, rng.choice(others))],
            "drift": [Said("operator", "change the record") for _ in range(3)],
            "in vain": [Said(name, "approve") for name in (proposer, "viewer", next(iter(stand_ins), "viewer"))],
        }.get(mode, [Said(name, "approve") for name in rng.sample(others, 3)])
        for one in few:
            said.insert(rng.randrange(8), one)
        return said

    async def shout(self, said: list[Said], approval: Approval) -> None:
        """Everybody at once."""
        start = anyio.Event()

        async def one(saying: Said) -> None:
            await start.wait()
            try:
                saying.answer = await self.speak(saying, approval)
            except Exception as error:  # noqa: BLE001 - the judge knows which are refusals
                saying.answer = error

        async with anyio.create_task_group() as group:
            for saying in said:
                group.start_soon(one, saying)
            start.set()

    async def speak(self, saying: Said, approval: Approval) -> Any:
        """One saying, in a transaction of its own."""
        match saying.what:
            case "approve":
                return await self.world.say(saying.who, approval, "approve", shown=approval.digest)
            case "approve, of something else":
                return await self.world.say(saying.who, approval, "approve", shown="0" * 64)
            case "withdraw":
                return await self.world.withdraw(saying.who, approval)
            case "change the record":
                patch = {"description": f"Otherwise {uuid7()}"}
                return await self.world.propose(saying.who, "package", "patch", approval.target_id, patch)
            case verdict:
                return await self.world.say(saying.who, approval, verdict)

    # --- judging ---

    async def judge(self, approval: Approval, said: list[Said], after: Approval) -> list[str]:
        """Everything that is wrong with a round."""
        events = [
            (kind, json.loads(payload), actor, behalf)
            for kind, payload, actor, behalf in await self.world.events(approval.id)
        ]
        found = [*self._answers(said, events)]
        found += self._end(events, after)
        found += self._votes(approval, events)
        found += await self._effects(approval, events, after)
        return found

    def _answers(self, said: list[Said], events: list[Any]) -> list[str]:
        found: list[str] = []
        for one in said:
            error = one.answer
            if one.accepted:
                continue
            if isinstance(error, DecisionRefusedError):
                self.refusals[error.reason.value] += 1
            elif isinstance(error, MayNotDecideError):
                self.refusals[str(error.extra["why"])] += 1
            elif isinstance(error, ApprovalClosedError | ApprovalVoidError):
                self.refusals["closed"] += 1
            elif not (isinstance(error, DigestMismatchError) and one.what.endswith("something else")):
                found.append(f"{one.who} said {one.what} and was answered {error!r}")
        if len(said) != SAYINGS:
            found.append(f"{len(said)} sayings")
        accepted = [one for one in said if one.accepted]
        decided = Counter(kind for kind, *_ in events)
        verdicts = sum(one.what in ("approve", "reject", "request_changes") for one in accepted)
        if verdicts != decided["approval.decided"]:
            found.append(f"{verdicts} sayings were accepted, {decided['approval.decided']} stand in the log")
        applied = sum(one.what == "approve" and one.answer.outcome == "applied" for one in accepted)
        if applied != decided["approval.applied"]:
            found.append(f"{applied} were told that they had it applied; the log has {decided['approval.applied']}")
        withdrawn = sum(one.what == "withdraw" for one in accepted)
        if withdrawn != decided["approval.withdrawn"]:
            found.append(f"{withdrawn} were told that they took it back")
        found += [f"{one.who} did {one.what} unseen" for one in accepted if one.what.endswith("something else")]
        return found

    @staticmethod
    def _ends(kind: str, payload: dict[str, Any]) -> str | None:
        """The status that an event ends an approval with."""
        if kind == "approval.decided":
            return {"reject": "rejected", "request_changes": "changes_requested"}.get(payload["verdict"]["verdict"])
        verb = kind.removeprefix("approval.")
        return verb if verb in ("applied", "withdrawn", "voided", "expired") else None

    def _end(self, events: list[Any], after: Approval) -> list[str]:
        ends = [self._ends(kind, payload) for kind, payload, *_ in events]
        known = [one for one in ends if one]
        if len(known) > 1:
            return [f"it ended {len(known)} times: {', '.join(known)}"]
        if known and ends[-1] is None:
            return [f"something happened after it was {known[0]}"]
        if after.status != (known[0] if known else "pending"):
            return [f"it is {after.status}, by its events {known}"]
        return []

    def _votes(self, approval: Approval, events: list[Any]) -> list[str]:
        found: list[str] = []
        counted: set[str] = set()
        seats: Counter[str] = Counter()
        order, steps = self.rules[approval.route]
        place = {one["id"]: i for i, one in enumerate(steps)}
        for kind, payload, actor, behalf in events:
            if kind != "approval.decided":
                continue
            verdict = payload["verdict"]
            if actor != f"person:{verdict['person_id']}" or behalf is not None:
                found.append(f"{actor} for {behalf} decided as {verdict['name']}")
            decider, owner = self.name(verdict["person_id"]), self.name(verdict["seat_person_id"])
            asked = steps[place[verdict["step"]]]
            found += self._seat(self.name(approval.proposer.person_id), decider, owner, asked["roles"])
            if {decider, owner} & counted:
                found.append(f"{decider} for {owner} was counted before")
            counted |= {decider, owner}
            if order == "serial" and any(seats[one["id"]] < one["quorum"] for one in steps[: place[asked["id"]]]):
                found.append(f"{asked['id']} was decided before its turn")
            if verdict["verdict"] == "approve":
                seats[asked["id"]] += 1
        wanted = Counter({one["id"]: one["quorum"] for one in steps})
        if seats - wanted:
            found.append(f"more people agreed than were asked: {dict(seats)}")
        if any(kind == "approval.applied" for kind, *_ in events) != (seats == wanted):
            found.append(f"{dict(seats)} of {dict(wanted)} agreed, and it was{' not' * (seats == wanted)} applied")
        return found

    def _seat(self, proposer: str, decider: str, owner: str, roles: list[str]) -> list[str]:
        """What is wrong with somebody's deciding in somebody's seat."""
        found: list[str] = []
        for one in {decider, owner}:
            if one == proposer:
                found.append(f"{proposer} decides their own change")
            # A borrowed seat cannot be lent on. So along a chain of loans nobody speaks for the proposer but whom the
            # proposer lent the seat to; they are barred, and so is every seat of theirs, whoever borrowed it.
            if one in self.takers(proposer):
                found.append(f"{one} sits for {proposer}, who proposed it")
        if owner != decider and decider not in self.takers(owner):
            found.append(f"{decider} sits for {owner}, who lent them nothing")
        if not set(ROLES[owner]) & set(roles):
            found.append(f"{owner} is not one of those who are asked: {roles}")
        return found

    async def _effects(self, approval: Approval, events: list[Any], after: Approval) -> list[str]:
        """The record moved once, from where it was judged, when and only when it was applied."""
        applied = sum(kind == "approval.applied" for kind, *_ in events)
        async with self.world.read() as session:
            moved = await session.all(
                "select stream_version from ledger.event where stream_id = %s "
                "and payload::jsonb -> 'governance' ->> 'approval_id' = %s",
                (approval.target_id, str(approval.id)),
            )
        found: list[str] = []
        if len(moved) != applied or (applied and moved[0][0] != approval.changes[0].base_version + 1):
            found.append(
                f"applied {applied} times, the record moved to {moved} from {approval.changes[0].base_version}"
            )
        if len(await self.world.outbox(f"applied:{approval.id}")) != applied:
            found.append("the application was not promised once")
        title = (await self.world.get("package", approval.target_id)).title
        if title != ("Another" if applied else "A package"):
            found.append(f"the title is {title!r} and the approval {after.status}")
        return found

    async def replayed(self) -> list[str]:
        """What replaying the whole log makes otherwise than the tables have it."""
        async with self.world.database.snapshot(Reach.INSTANCE) as session:
            report = await replay.check(session, pmis.nouns.PROJECTIONS)
        return [str(one) for one in report.differences]


async def rule(world: World, order: str, steps: list[dict[str, Any]]) -> Rules:
    """Put a policy in force that asks for these people, as an instance would."""
    document = (await world.get("policy", POLICY_ID)).document
    # A stricter route asks for no fewer people.
    strict = [step(max(1, sum(one["quorum"] for one in steps) - 1), "admin", "executive")]
    asked = {"APPROVAL_REQUIRED": steps, "EXECUTIVE_APPROVAL": [*strict, step(1, "executive")]}
    asked["ESCALATE"] = asked["EXECUTIVE_APPROVAL"]
    approvals: dict[str, Any] = {
        route: {**one, "order": order, "steps": asked[route]} if route in asked else one
        for route, one in document["approvals"].items()
    }
    patch = {"document": {**document, "approvals": approvals}}
    outcome = await world.propose("root", "policy", "patch", POLICY_ID, patch)
    assert outcome.approval is not None
    approval = outcome.approval
    for name in EXECUTIVES[:2]:
        outcome = await world.say(name, approval, "approve")
    assert outcome.outcome == "applied"
    return {route: (one["order"], one["steps"]) for route, one in approvals.items()}


@asynccontextmanager
async def open_hall(database: TestDatabase, quorum: str) -> AsyncGenerator[Hall]:
    """A hall on a database of its own, with a connection for nearly everybody in it."""
    async with opened(database, size=32, lock_timeout_ms=30_000, wait_ms=60_000) as pool:
        world = await make_world(pool, roles=ROLES)
        yield Hall(world, await rule(world, *QUORUMS[quorum]), quorum)
