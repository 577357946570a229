"""What the governed path may do, told a second time: small, slow, and without a line of the program under test.

The rules are those of the design, not of the code: the tables below were written from its text. Records are plain
dictionaries of the JSON that the API shows; an answer is either a set of refusals, any of which is right, or the route,
who must agree, and the records as they would be.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

Record = dict[str, Any]

AUTO, CONFIRM, APPROVAL, EXECUTIVE, ESCALATE, REJECT = range(6)
ROUTES: Final = ("AUTO", "CONFIRM", "APPROVAL_REQUIRED", "EXECUTIVE_APPROVAL", "ESCALATE", "REJECT")
MATRIX: Final = (
    (AUTO, AUTO, CONFIRM, APPROVAL),
    (CONFIRM, CONFIRM, APPROVAL, APPROVAL),
    (APPROVAL, APPROVAL, EXECUTIVE, EXECUTIVE),
    (EXECUTIVE, EXECUTIVE, ESCALATE, ESCALATE),
)
"""Rows are impacts, columns uncertainties, both from low to critical."""
LEVELS: Final = ("low", "medium", "high", "critical")
CERTAIN: Final = {"person": 0, "agent": 1, "import": 1, "email": 2, "service": 1, "system": 0}

WORKERS: Final = frozenset({"analyst", "operator", "admin"})
WRITERS: Final = WORKERS | {"executive"}
CHIEFS: Final = frozenset({"admin", "executive"})
ADMINS: Final = frozenset({"admin"})
PROPOSERS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "package": {"create": WRITERS, "patch": WRITERS, "delete": WORKERS, "restore": WORKERS},
    "task": {"create": WORKERS, "patch": WORKERS, "delete": WORKERS, "restore": WORKERS},
    "party": {"create": WRITERS, "patch": WRITERS, "delete": WORKERS, "restore": WORKERS},
    "comment": {"create": WRITERS, "patch": WRITERS, "delete": WRITERS, "restore": WRITERS},
    "memory": {"create": WRITERS, "patch": WRITERS, "delete": WRITERS, "restore": WRITERS},
    "membership": {"create": ADMINS, "patch": ADMINS},
    "delegation": {"create": CHIEFS, "patch": CHIEFS},
    "project": {"create": ADMINS, "patch": ADMINS},
    "policy": {"patch": ADMINS},
}


@dataclass(frozen=True)
class Step:
    """One step of a life cycle."""

    impact: int
    roles: frozenset[str] = WORKERS
    needs: tuple[str, ...] = ()
    floor: int = AUTO


CANCEL: Final = Step(1)
PACKAGE_STEPS: Final[Mapping[tuple[str, str], Step]] = {
    ("draft", "submitted"): Step(0, needs=("title",)),
    ("submitted", "in_review"): Step(0),
    ("in_review", "submitted"): Step(0),
    ("in_review", "approved"): Step(1, needs=("amount",), floor=APPROVAL),
    ("approved", "awarded"): Step(2, needs=("vendor_id", "amount"), floor=APPROVAL),
    ("awarded", "active"): Step(1, needs=("planned_start", "planned_end")),
    ("active", "on_hold"): Step(1),
    ("on_hold", "active"): Step(1),
    ("active", "completed"): Step(1, needs=("no open tasks",)),
    ("completed", "active"): Step(3, CHIEFS, ("reason",), EXECUTIVE),
    ("cancelled", "submitted"): Step(3, CHIEFS, ("reason", "title"), EXECUTIVE),
    **{(status, "cancelled"): CANCEL for status in ("draft", "submitted", "in_review", "approved")},
    **{(status, "cancelled"): Step(2) for status in ("awarded", "active", "on_hold")},
}
TASK_STEPS: Final[Mapping[tuple[str, str], Step]] = {
    ("pending", "in_progress"): Step(0),
    ("in_progress", "blocked"): Step(0),
    ("blocked", "in_progress"): Step(0),
    ("in_progress", "review_needed"): Step(0),
    ("review_needed", "in_progress"): Step(0),
    ("in_progress", "completed"): Step(0),
    ("review_needed", "completed"): Step(0),
    **{(status, "cancelled"): CANCEL for status in ("pending", "in_progress", "blocked", "review_needed")},
}
STEPS: Final = {"package": PACKAGE_STEPS, "task": TASK_STEPS}
STATUSES: Final = {
    noun: tuple(dict.fromkeys(status for pair in steps for status in pair)) for noun, steps in STEPS.items()
}
FROZEN: Final = frozenset({"completed", "cancelled"})
SEALED: Final = frozenset({"bank_details", "text"})
FIELDS: Final[Mapping[str, Mapping[str, int]]] = {
    "package": {"vendor_id": 3},
    "task": {},
    "party": {"name": 1, "kind": 1, "email": 2, "bank_details": 3},
    "comment": {},
    "memory": {},
    "membership": {"roles": 2},
    "delegation": {"revoked": 1, "ends_at": 1},
    "project": {"budget": 2, "description": 0, "name": 0},
    "policy": {"document": 3},
}
"""How much each field weighs; those not named weigh little."""
EMPTY: Final[Mapping[str, Record]] = {
    "package": {
        "deleted_at": None,
        "title": "",
        "description": "",
        "package_type": None,
        "owner_id": None,
        "vendor_id": None,
        "amount": None,
        "currency": None,
        "planned_start": None,
        "planned_end": None,
        "actual_start": None,
        "actual_end": None,
        "external_ref": None,
        "data": {},
    },
    "task": {
        "deleted_at": None,
        "description": "",
        "assignee_id": None,
        "due_date": None,
        "external_ref": None,
        "data": {},
    },
    "party": {
        "deleted_at": None,
        "email": None,
        "contacts": None,
        "bank_details": None,
        "external_ref": None,
        "data": {},
    },
    "comment": {"deleted_at": None},
    "memory": {"deleted_at": None, "sources": [], "conversation_id": None},
    "membership": {},
    "delegation": {"revoked": False},
}
TODAY: Final = "TODAY"
"""Stands for the project's calendar date of the moment a change is applied."""
NOW: Final = "NOW"
"""Stands for the moment a record is deleted."""


@dataclass(frozen=True)
class Rules:
    """The parts of the policy that this model can follow through a change."""

    version: int = 1
    name: str = "The default policy"
    careful: bool = False
    """Low impact at low or medium uncertainty asks for a confirmation instead of applying at once."""
    two_admins: bool = False
    """Two where one was enough, and so three where two were."""
    serial: bool = False
    solo: bool = False


@dataclass(frozen=True)
class Who:
    """A person, or an agent that acts for one."""

    name: str
    person: UUID
    ref: str
    agent: bool = False


@dataclass(frozen=True)
class Change:
    """One change, as the writer means it."""

    operation: str
    noun: str
    target: UUID
    patch: Record
    if_version: int | None = None


@dataclass
class Seen:
    """What one change comes to."""

    refusals: frozenset[str] = frozenset()
    severity: int = AUTO
    tiered: Decimal | None = None
    after: Record = field(default_factory=Record)
    moved: frozenset[str] = frozenset()
    of_another: bool = False


@dataclass
class Answer:
    """What a proposal comes to."""

    refusals: frozenset[str] = frozenset()
    route: int = AUTO
    steps: tuple[tuple[str, frozenset[str], int], ...] = ()
    serial: bool = False
    after: dict[UUID, Record] = field(default_factory=dict["UUID", Record])
    moved: dict[UUID, frozenset[str]] = field(default_factory=dict["UUID", frozenset[str]])


@dataclass
class Waiting:
    """An approval."""

    id: UUID
    proposer: Who
    writer: str
    reason: str | None
    changes: list[Change]
    bases: dict[UUID, int]
    route: int
    steps: tuple[tuple[str, frozenset[str], int], ...]
    serial: bool
    policy_version: int
    due: bool
    instance: bool
    status: str = "pending"
    votes: list[tuple[UUID, UUID, str, bool]] = field(default_factory=list[tuple["UUID", "UUID", str, bool]])
    colliding: list[str] = field(default_factory=list[str])

    @property
    def open(self) -> bool:
        return self.status in ("pending", "confirmation_required")


@dataclass
class Model:
    """One project, its people, and the policy above it."""

    project: UUID
    people: dict[str, UUID]
    instance_admins: frozenset[UUID]
    rules: Rules
    elsewhere: frozenset[UUID] = frozenset()
    """Executives of other projects, who have a say in what concerns the whole instance."""
    records: dict[UUID, Record] = field(default_factory=dict["UUID", Record])
    approvals: dict[UUID, Waiting] = field(default_factory=dict["UUID", Waiting])
    numbers: int = 0

    # --- people ---

    def roles(self, person: UUID) -> frozenset[str]:
        """The person's roles in the project."""
        for record in self.of("membership"):
            if record["person_id"] == person:
                return frozenset(record["roles"])
        return frozenset()

    def instance_roles(self, person: UUID) -> frozenset[str]:
        """The person's roles in what concerns the whole instance."""
        held = {"admin"} if person in self.instance_admins else set[str]()
        chief = person in self.elsewhere or "executive" in self.roles(person)
        return frozenset(held | ({"executive"} if chief else set[str]()))

    def of(self, noun: str) -> list[Record]:
        """The records of a noun, the oldest first."""
        return [record for record in self.records.values() if record["noun"] == noun]

    def lent(self, at: datetime) -> list[tuple[UUID, UUID]]:
        """Seats that are lent at a moment: by whom, to whom."""
        return [
            (record["from_person"], record["to_person"])
            for record in self.of("delegation")
            if not record["revoked"] and record["starts_at"] <= at < record["ends_at"]
        ]

    # --- what a proposal comes to ---

    def judge(
        self,
        who: Who,
        changes: Sequence[Change],
        *,
        writer: str,
        reason: str | None,
        impact: int = 0,
        uncertainty: int = 0,
        privileged: bool = False,
    ) -> Answer:
        """Refusals, or the route with what would be; `privileged` once the right to propose has been found."""
        world = copy.copy(self)
        world.records = dict(self.records)
        answer = Answer()
        tiered = Decimal(0)
        has_tier = False
        for change in changes:
            seen = world.look(
                who,
                change,
                writer=writer,
                reason=reason,
                impact=impact,
                uncertainty=uncertainty,
                privileged=privileged,
                original=self,
            )
            if seen.refusals:
                return Answer(refusals=seen.refusals)
            answer.route = max(answer.route, seen.severity)
            if seen.tiered is not None:
                has_tier = True
                tiered += seen.tiered
            world.records[change.target] = answer.after[change.target] = seen.after
            if change.operation != "create":
                answer.moved[change.target] = answer.moved.get(change.target, frozenset()) | seen.moved
        if answer.route == REJECT:
            return Answer(refusals=frozenset({"policy_refused"}))
        above = has_tier and tiered > 1_000_000
        if above and answer.route < APPROVAL:
            answer.route = APPROVAL
        answer.steps = self.steps(answer.route, above)
        answer.serial = self.rules.serial and answer.route >= APPROVAL
        return answer

    def steps(self, route: int, above: bool) -> tuple[tuple[str, frozenset[str], int], ...]:
        """Who must agree: (step, roles, how many)."""
        if route < APPROVAL:
            return ()
        chief = ("executive", frozenset({"executive"}), 1)
        quorum = 2 if self.rules.two_admins else 1
        if route == APPROVAL:
            first = ("admin", ADMINS, quorum)
            return (first, chief) if above else (first,)
        return ("decider", CHIEFS, quorum), chief

    def look(
        self,
        who: Who,
        change: Change,
        *,
        writer: str,
        reason: str | None,
        impact: int,
        uncertainty: int,
        privileged: bool,
        original: Model,
    ) -> Seen:
        """What one change comes to in this world; versions are those of the world before the proposal."""
        refusals: set[str] = set()
        noun, creating = change.noun, change.operation == "create"
        held = self.roles(who.person)
        if noun == "policy":
            held = self.instance_roles(who.person)
        elif noun == "project":
            held |= self.instance_roles(who.person)
        if not privileged and noun != "policy" and not self.roles(who.person):
            # The policy of the instance is no secret; a project is, to those outside, whatever they are elsewhere.
            return Seen(frozenset({"not_found"}))
        entity = self.records.get(change.target)
        if creating and (entity is not None):
            refusals.add("already_exists")
        if not creating and entity is None:
            return Seen(frozenset({"not_found"}))
        now = original.records.get(change.target)
        if change.if_version is not None and now is not None and now["version"] != change.if_version:
            refusals.add("stale_version")
        before = entity if entity is not None and not creating else None
        if change.operation == "transition":
            seen = self._transition(change, before or {}, reason, refusals)
        else:
            seen = self._plain(who, change, before, reason, refusals)
        seen.refusals = frozenset(refusals)
        if not privileged and held.isdisjoint(seen_roles(change, before)):
            seen.refusals |= {"forbidden"}
        if seen.refusals:
            return seen
        seen.of_another = change.noun == "memory" and bool(before) and before["author"] != f"person:{who.person}"
        seen.after["version"] = (before or {"version": 0})["version"] + 1
        self._weigh(change, before, seen, max(CERTAIN[writer], uncertainty), impact, writer)
        return seen

    def _transition(self, change: Change, before: Record, reason: str | None, refusals: set[str]) -> Seen:
        steps, to = STEPS[change.noun], change.patch["status"]
        if before["deleted_at"] is not None:
            refusals.add("record_deleted")
        step = steps.get((before["status"], to))
        if step is None:
            refusals.add("transition_refused")
        after = {**before, **change.patch}
        if change.patch.get("vendor_id"):
            refusals |= self._vendor(change.patch["vendor_id"])
        if step is not None:
            if change.noun == "package" and before["status"] in FROZEN:
                after["actual_end"] = None
            if change.noun == "package" and to == "active" and before["status"] == "awarded":
                after["actual_start"] = after["actual_start"] or TODAY
            if change.noun == "package" and to == "completed":
                after["actual_end"] = after["actual_end"] or TODAY
            given = {**after, "reason": reason, "no open tasks": not self._open_tasks(change.target)}
            if not all(given[need] for need in step.needs):
                refusals.add("guard_refused")
        moved = frozenset(name for name in after if after[name] != before[name])
        return Seen(after=after, moved=moved)

    def _plain(self, who: Who, change: Change, before: Record | None, reason: str | None, refusals: set[str]) -> Seen:
        noun, patch = change.noun, change.patch
        if before is None:
            refusals |= self._references(change, None)
            if noun == "delegation" and patch["to_person"] == who.person:
                refusals.add("delegation_refused")
            after = {**EMPTY[noun], **copy.deepcopy(patch), "noun": noun, "id": change.target}
            if noun in ("package", "task"):
                after["status"] = {"package": "draft", "task": "pending"}[noun]
            if noun == "comment":
                after |= {"author": who.ref, "author_name": who.name}
            if noun == "memory":
                person = who.name.removesuffix("'s assistant")
                writer = "agent" if who.agent else "person"
                after |= {"author": f"person:{who.person}", "author_name": person, "writer": writer}
            if noun == "delegation":
                after["from_person"] = who.person
            return Seen(
                after=after, moved=frozenset(name for name, value in patch.items() if value not in (None, {}, ""))
            )
        if noun == "comment" and before["author"] != who.ref:
            refusals.add("forbidden")
        if noun == "delegation" and before["from_person"] != who.person:
            refusals.add("forbidden")
        if change.operation == "restore":
            if before.get("deleted_at") is None:
                refusals.add("nothing_to_change")
            elif noun == "task" and self.records[before["package_id"]]["status"] in FROZEN:
                refusals.add("record_frozen")
            return Seen(after={**before, "deleted_at": None}, moved=frozenset({"deleted_at", "deleted_by"}))
        if before.get("deleted_at") is not None:
            refusals.add("record_deleted")
        if noun in STEPS and before["status"] in FROZEN:
            refusals.add("record_frozen")
        if change.operation == "delete":
            return Seen(after={**before, "deleted_at": NOW}, moved=frozenset({"deleted_at", "deleted_by"}))
        refusals |= self._references(change, before)
        after = {**before, **copy.deepcopy(patch)}
        if "data" in patch:
            merged = {**before["data"], **patch["data"]}
            after["data"] = {key: value for key, value in merged.items() if value is not None}
        # What is sealed is not compared: whoever may not see it would learn by trying what it is.
        moved = frozenset(
            name for name in patch if after[name] != before[name] or (name in SEALED and after[name] is not None)
        )
        if not moved:
            refusals.add("nothing_to_change")
        if noun == "task" and "due_date" in moved and before["due_date"] and not reason:
            refusals.add("guard_refused")
        return Seen(after=after, moved=moved)

    def _references(self, change: Change, before: Record | None) -> set[str]:
        noun, patch = change.noun, change.patch
        refusals: set[str] = set()
        if patch.get("vendor_id"):
            refusals |= self._vendor(patch["vendor_id"])
        for name in ("assignee_id", "owner_id"):
            if patch.get(name) and not self.roles(patch[name]):
                refusals.add("bad_reference")
        if noun == "task" and before is None:
            package = self.records.get(patch["package_id"])
            if package is None or package["deleted_at"] is not None:
                refusals.add("bad_reference")
            elif package["status"] in FROZEN:
                refusals.add("record_frozen")
        if noun in ("comment", "memory") and before is None and patch["entity_id"] not in self.records:
            refusals.add("bad_reference")
        if noun == "party" and patch.get("email"):
            taken = [one for one in self.of("party") if (one["email"] or "").lower() == patch["email"].lower()]
            if any(one["id"] != change.target for one in taken):
                refusals.add("already_exists")
        if noun == "delegation" and before is None and not self.roles(patch["to_person"]):
            refusals.add("bad_reference")
        return refusals

    def _vendor(self, identity: UUID) -> set[str]:
        party = self.records.get(identity)
        good = party is not None and party["deleted_at"] is None and party["kind"] != "customer"
        return set() if good else {"bad_reference"}

    def _open_tasks(self, package: UUID) -> bool:
        return any(
            task["package_id"] == package and task["deleted_at"] is None and task["status"] not in FROZEN
            for task in self.of("task")
        )

    # --- how risky it is ---

    def _weigh(
        self, change: Change, before: Record | None, seen: Seen, uncertainty: int, stated: int, writer: str
    ) -> None:
        noun, operation = change.noun, change.operation
        before = before or {}
        step = STEPS[noun].get((before.get("status"), change.patch["status"])) if operation == "transition" else None  # pyright: ignore[reportArgumentType]
        fields = seen.moved - {"status"}
        if step is not None and change.patch["status"] == "awarded" and before.get("vendor_id") is None:
            fields -= {"vendor_id"}
        if step is not None:
            impact = step.impact
        else:
            impact = {
                ("package", "delete"): 1,
                ("package", "restore"): 1,
                ("task", "delete"): 1,
                ("party", "delete"): 2,
                ("party", "restore"): 1,
                ("membership", "create"): 2,
                ("membership", "patch"): 2,
                ("delegation", "create"): 1,
                ("delegation", "patch"): 1,
                ("policy", "patch"): 3,
            }.get((noun, operation), 0)
        if operation in ("patch", "transition"):
            impact = max([impact, *(FIELDS[noun].get(name, 0) for name in fields)])
        if seen.of_another:
            impact = max(impact, 2)
        floor = step.floor if step is not None else AUTO
        live = noun == "package" and operation != "create" and before["status"] != "draft"
        if noun == "package":
            impact = max(impact, self._money(operation, before, seen.after, live))
            if live:
                floor = max(floor, APPROVAL)
                impact = max(impact, slip(before.get("planned_end"), seen.after.get("planned_end"), (14, 60, 180)))
                if operation == "delete":
                    impact = max(impact, 2)
            if "vendor_id" in fields and operation in ("patch", "transition"):
                floor = max(floor, EXECUTIVE)
            if (live and operation == "patch" and fields & {"amount", "currency"}) or change.patch.get("status") in (
                "approved",
                "awarded",
            ):
                sums = [Decimal(one["amount"]) for one in (before, seen.after) if one.get("amount")]
                seen.tiered = max(sums, default=None)
        if noun == "task" and operation in ("patch", "transition"):
            impact = max(impact, slip(before.get("due_date"), seen.after.get("due_date"), (7, 30)))
        if noun == "party" and operation in ("create", "patch") and "bank_details" in fields:
            floor = max(floor, EXECUTIVE)
        if noun == "project" and "budget" in fields:
            seen.tiered = max(Decimal(before["budget"]), Decimal(seen.after["budget"]))
        if noun == "membership":
            floor = max(floor, APPROVAL)
        if noun == "policy":
            floor = max(floor, EXECUTIVE)
        if noun in ("membership", "delegation", "policy") and writer in ("agent", "email", "system"):
            floor = REJECT
        if writer == "email":
            floor = max(floor, CONFIRM)
        impact = max(impact, stated)
        cell = MATRIX[impact][uncertainty]
        if self.rules.careful and impact == 0 and uncertainty <= 1:
            cell = CONFIRM
        seen.severity = max(cell, floor)

    def _money(self, operation: str, before: Record, after: Record, live: bool) -> int:
        old, new = before.get("amount"), after.get("amount")
        if old == new:
            return 0
        moved = abs(Decimal(new or 0) - Decimal(old or 0))
        budget = Decimal(self.records[self.project]["budget"])
        if live:
            return max(above(moved, 100_000, 1_000_000, 10_000_000), above(moved / budget, "0.1", "0.25", "0.5"))
        if operation == "create":
            return 0
        return max(above(moved, 1_000_000, 10_000_000), above(moved / budget, "0.25", "0.5"))

    # --- what becomes of the records ---

    def apply(self, answer: Answer, *, today: str, spared: UUID | None = None) -> None:
        """Make it so: records change, and open approvals of what moved are void."""
        for identity, record in answer.after.items():
            record = {name: today if value == TODAY else value for name, value in record.items()}
            if record["noun"] == "package" and "code" not in record:
                self.numbers += 1
                record["number"] = self.numbers
                record["code"] = f"{self.records[self.project]['prefix']}-{self.numbers:03d}"
            self.records[identity] = record
        for waiting in self.approvals.values():
            if not waiting.open or waiting.id == spared:
                continue
            hit = [change for change in waiting.changes if change.target in answer.moved]
            if hit:
                waiting.status = "voided"
                waiting.colliding = sorted(
                    {name for change in hit for name in answer.moved[change.target] & (set(change.patch) or {"status"})}
                )

    # --- who may decide ---

    def _deciding(self, waiting: Waiting, person: UUID) -> frozenset[str]:
        return self.instance_roles(person) if waiting.instance else self.roles(person)

    def sees(self, waiting: Waiting, person: UUID) -> bool:
        """Whether the person may see the approval at all."""
        return (
            bool(self._deciding(waiting, person) & {"admin", "executive"})
            if waiting.instance
            else bool(self.roles(person))
        )

    def missing(self, waiting: Waiting) -> list[tuple[str, frozenset[str], int]]:
        """The steps that still wait, with how many."""
        if any(exception for *_, exception in waiting.votes):
            return []
        left = {name: count for name, _, count in waiting.steps}
        for _, _, step, _ in waiting.votes:
            left[step] -= 1
        return [(name, roles, left[name]) for name, roles, _ in waiting.steps if left[name] > 0]

    def seat(self, waiting: Waiting, person: UUID, at: datetime) -> tuple[str, UUID, bool] | None:
        """(step, whose seat, whether as the exception of an install with one person), or None for nobody's."""
        left = self.missing(waiting)
        own = self._own_seat(waiting, person, at, left)
        if self.rules.solo and not waiting.instance:
            electors = [one for one in self.people.values() if self.roles(one) & CHIEFS]
            if electors == [person] and (own is None or sum(count for *_, count in left) > 1):
                return left[0][0], person, True
        return own

    def _own_seat(
        self, waiting: Waiting, person: UUID, at: datetime, left: list[tuple[str, frozenset[str], int]]
    ) -> tuple[str, UUID, bool] | None:
        lent = [] if waiting.instance else self.lent(at)
        behind = waiting.proposer.person
        standing_for = {taker for giver, taker in lent if giver == behind}
        counted = {one for vote in waiting.votes for one in vote[:2]}
        if person == behind or person in standing_for or person in counted:
            return None
        seats = [(person, self._deciding(waiting, person))]
        seats += sorted(
            ((giver, self.roles(giver)) for giver, taker in lent if taker == person), key=lambda one: one[0]
        )
        ready = left[:1] if waiting.serial else left
        for owner, roles in seats:
            if owner != person and (owner in standing_for or owner in counted or owner == behind):
                continue
            fitting = [(name, wanted) for name, wanted, _ in ready if roles & wanted]
            if fitting:
                return min(fitting, key=lambda one: len(one[1]))[0], owner, False
        return None

    def stale(self, waiting: Waiting) -> bool:
        """Whether the approval no longer fits what is there."""
        if waiting.policy_version != self.rules.version:
            return True
        for target, base in waiting.bases.items():
            version = self.records[target]["version"] if target in self.records else 0
            if version != base:
                return True
        return False

    def again(self, waiting: Waiting) -> Answer:
        """What the stored changes come to now."""
        return self.judge(
            waiting.proposer, waiting.changes, writer=waiting.writer, reason=waiting.reason, privileged=True
        )


def seen_roles(change: Change, before: Record | None) -> frozenset[str]:
    """Who may propose it."""
    if change.operation != "transition":
        return PROPOSERS[change.noun].get(change.operation, frozenset())
    step = STEPS[change.noun].get(((before or {}).get("status", ""), change.patch["status"]))
    return step.roles if step is not None else WRITERS


def above(value: Decimal, *limits: int | str) -> int:
    """How many of the limits the value is above."""
    return sum(value > Decimal(limit) for limit in limits)


def slip(before: str | None, after: str | None, limits: Iterable[int]) -> int:
    """How many of the limits the days of delay are above."""
    if not before:
        return 0
    if not after:
        return len(tuple(limits))
    days = (date.fromisoformat(after) - date.fromisoformat(before)).days
    return sum(days > limit for limit in limits)
