"""The state machine: what everybody may try, in any order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pmis.approval.policy import POLICY_ID
from pmis.kit.ids import uuid7
from tests.model.harness import CANARY, Broken, Harness
from tests.model.oracle import FROZEN, STATUSES, STEPS, Change, Rules, Waiting

if TYPE_CHECKING:
    from uuid import UUID

    from tests.model.harness import Example
    from tests.model.oracle import Record

AMOUNTS: Final = (
    "1000.00",
    "90000.00",
    "150000.00",
    "900000.00",
    "1200000.00",
    "3000000.00",
    "6000000.00",
    "12000000.00",
)
DAYS: Final = (0, 10, 20, 70, 200)
FIRST: Final = date(2027, 1, 1)
POLICIES: Final = (
    Rules(),
    Rules(name="Another name"),
    Rules(careful=True),
    Rules(two_admins=True),
    Rules(serial=True),
    Rules(solo=True),
)
# Small numbers choose among what is there: they shrink well, and mean something in every state.
index = st.integers(0, 15)
people = st.sampled_from(
    ("operator", "analyst", "admin", "admin2", "executive", "operator", "analyst", "executive2", "viewer", "outsider")
)
workers = st.sampled_from(("operator", "analyst", "admin", "operator"))
chiefs = st.sampled_from(("admin", "admin2", "executive", "executive2"))
rarely = st.integers(0, 7).map(lambda n: n == 7)
seldom = st.integers(0, 19).map(lambda n: n == 19)
reasons = st.sampled_from(("Because.", "Because.", None))
levels = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 3))
writers = st.sampled_from((None, None, None, None, "email", "import"))


class GovernedPath(RuleBasedStateMachine):
    """Proposals and decisions in any order, each followed by every check there is."""

    harness: ClassVar[Harness]
    example: Example

    @initialize(
        cast=st.sampled_from(("full", "full", "full", "small", "alone")), rules=st.sampled_from((Rules(), *POLICIES))
    )
    def begin(self, cast: str, rules: Rules) -> None:
        self.example = self.harness.begin_example(cast, Rules(solo=True) if cast == "alone" else rules)
        self.example.observe()
        # Something to begin with, so that no example is spent on an empty project.
        self._propose("operator", [self._package("A package", "90000.00")])
        self._propose("operator", [Change("create", "party", uuid7(), {"name": "A vendor", "kind": "vendor"})])
        self.example.observe()

    def teardown(self) -> None:
        if "example" in vars(self):
            self.example.end()

    # --- choosing ---

    def _pick(self, noun: str, n: int) -> Record | None:
        found = self.example.model.of(noun)
        return found[n % len(found)] if found else None

    def _approval(self, n: int, *, only_open: bool = True) -> Waiting | None:
        found = list(self.example.model.approvals.values())
        if only_open:
            found = [one for one in found if one.open] or found
        # The newest first: what was proposed just now is what one decides next.
        return found[-1 - n % len(found)] if found else None

    def _propose(self, name: str, changes: list[Change], *, agent: bool = False, **said: Any) -> None:
        self.example.propose(self.example.who(name, agent=agent), changes, **said)

    def _package(self, title: str, amount: str | None) -> Change:
        patch: Record = {"title": title}
        if amount is not None:
            patch |= {"amount": amount, "currency": "EUR"}
        return Change("create", "package", uuid7(), patch)

    def _step(self, noun: str, record: Record, n: int, vendor: UUID | None) -> Change:
        """A step, mostly one that leads somewhere."""
        following = [to for status, to in STEPS[noun] if status == record["status"]]
        to = following[n] if n < len(following) else STATUSES[noun][n % len(STATUSES[noun])]
        patch: Record = {"status": to}
        if to == "awarded" and vendor is not None:
            patch["vendor_id"] = vendor
        if to == "active" and record.get("planned_start") is None and n % 4:
            patch |= {"planned_start": str(FIRST), "planned_end": str(FIRST + timedelta(days=90))}
        return Change("transition", noun, record["id"], patch)

    def _vendor(self, n: int) -> UUID | None:
        found = self._pick("party", n)
        return found["id"] if found else None

    # --- proposing ---

    @rule(who=people, amount=st.sampled_from((None, *AMOUNTS)), agent=rarely, uncertainty=levels, due=rarely)
    def create_package(self, who: str, amount: str | None, agent: bool, uncertainty: int, due: bool) -> None:
        self._propose(who, [self._package("Another package", amount)], agent=agent, uncertainty=uncertainty, due=due)
        self.example.observe()

    @rule(
        who=people,
        n=index,
        title=st.sampled_from((None, "A", "B")),
        amount=st.sampled_from((None, None, "", *AMOUNTS)),
        end=st.sampled_from((None, None, *DAYS)),
        extra=st.sampled_from((None, None, {"a": 1}, {"a": None}, {"b": "two"})),
        agent=rarely,
        writer=writers,
        impact=levels,
        stale=seldom,
        due=rarely,
    )
    def patch_package(
        self,
        who: str,
        n: int,
        title: str | None,
        amount: str | None,
        end: int | None,
        extra: dict[str, Any] | None,
        agent: bool,
        writer: str | None,
        impact: int,
        stale: bool,
        due: bool,
    ) -> None:
        record = self._pick("package", n)
        if record is None:
            return
        patch: Record = {}
        if title is not None:
            patch["title"] = title
        if amount is not None:
            patch |= {"amount": amount or None, "currency": "EUR" if amount else None}
        if end is not None:
            patch |= {"planned_start": str(FIRST), "planned_end": str(FIRST + timedelta(days=end))}
        if extra is not None:
            patch["data"] = extra
        seen = record["version"] + (1 if stale else 0)
        change = Change("patch", "package", record["id"], patch or {"title": "C"}, seen if stale or n % 3 else None)
        self._propose(who, [change], agent=agent, writer=writer, impact=impact, due=due)
        self.example.observe()

    @rule(who=people, n=index, vendor=index, owner=people, what=st.sampled_from(("vendor", "none", "owner", "nobody")))
    def refer(self, who: str, n: int, vendor: int, owner: str, what: str) -> None:
        record = self._pick("package", n)
        if record is None:
            return
        model = self.example.model
        patch: Record = {
            "vendor": {"vendor_id": self._vendor(vendor)},
            "none": {"vendor_id": None},
            "owner": {"owner_id": model.people[owner]},
            "nobody": {"vendor_id": uuid7()},
        }[what]
        self._propose(who, [Change("patch", "package", record["id"], patch)])
        self.example.observe()

    @rule(
        who=workers,
        n=index,
        to=st.integers(0, 9),
        vendor=index,
        reason=reasons,
        agent=rarely,
        impact=levels,
        due=seldom,
    )
    def step_package(
        self, who: str, n: int, to: int, vendor: int, reason: str | None, agent: bool, impact: int, due: bool
    ) -> None:
        record = self._pick("package", n)
        if record is not None:
            change = self._step("package", record, to, self._vendor(vendor))
            self._propose(who, [change], agent=agent, reason=reason, impact=impact, due=due)
            self.example.observe()

    @rule(who=chiefs, n=index, to=st.integers(0, 2), vendor=index)
    def advance_package(self, who: str, n: int, to: int, vendor: int) -> None:
        """A step forward, so that examples reach the far end of the life cycle."""
        found = [one for one in self.example.model.of("package") if one["deleted_at"] is None]
        if found:
            record = found[n % len(found)]
            change = self._step("package", record, 0 if record["status"] not in FROZEN else to, self._vendor(vendor))
            self._propose(who, [change], reason="Because.")
            self.example.observe()

    @rule(who=workers, noun=st.sampled_from(("package", "task", "party", "comment")), n=index, restore=st.booleans())
    def remove(self, who: str, noun: str, n: int, restore: bool) -> None:
        record = self._pick(noun, n)
        if record is not None:
            self._propose(who, [Change("restore" if restore else "delete", noun, record["id"], {})])
            self.example.observe()

    @rule(who=people, n=index, assignee=st.sampled_from((None, "analyst", "outsider")), due_date=st.booleans())
    def create_task(self, who: str, n: int, assignee: str | None, due_date: bool) -> None:
        record = self._pick("package", n)
        patch: Record = {"title": "A task", "package_id": record["id"] if record else uuid7()}
        if assignee is not None:
            patch["assignee_id"] = self.example.model.people[assignee]
        if due_date:
            patch["due_date"] = str(FIRST)
        self._propose(who, [Change("create", "task", uuid7(), patch)])
        self.example.observe()

    @rule(who=workers, n=index, days=st.sampled_from((None, 5, 10, 40)), agent=rarely, uncertainty=levels)
    def patch_task(self, who: str, n: int, days: int | None, agent: bool, uncertainty: int) -> None:
        record = self._pick("task", n)
        if record is not None:
            patch: Record = {"title": "A"} if days is None else {"due_date": str(FIRST + timedelta(days=days))}
            change = Change("patch", "task", record["id"], patch)
            self._propose(who, [change], agent=agent, uncertainty=uncertainty)
            self.example.observe()

    @rule(who=workers, n=index, to=st.integers(0, 7), reason=reasons, agent=rarely)
    def step_task(self, who: str, n: int, to: int, reason: str | None, agent: bool) -> None:
        record = self._pick("task", n)
        if record is not None:
            self._propose(who, [self._step("task", record, to, None)], agent=agent, reason=reason)
            self.example.observe()

    @rule(who=people, n=index, what=st.sampled_from(("name", "email", "taken", "bank", "kind", "new")), agent=rarely)
    def party(self, who: str, n: int, what: str, agent: bool) -> None:
        record = self._pick("party", n)
        email = f"v{n % 3}@vendors.example"
        if what == "new" or record is None:
            patch: Record = {"name": "A party", "kind": ("vendor", "customer", "both")[n % 3], "email": email}
            change = Change("create", "party", uuid7(), patch)
        else:
            patch = {
                "name": {"name": f"Vendor {n % 3}"},
                "email": {"email": email},
                "taken": {"email": email.replace("v", "V", 1)},
                "bank": {"bank_details": f"{CANARY} {n}" if n % 4 else None},
                "kind": {"kind": ("vendor", "customer", "both")[n % 3]},
            }[what]
            change = Change("patch", "party", record["id"], patch)
        self._propose(who, [change], agent=agent)
        self.example.observe()

    @rule(
        who=people,
        n=index,
        body=st.sampled_from(("One.", "Two.")),
        fresh=st.booleans(),
        agent=rarely,
        uncertainty=levels,
    )
    def comment(self, who: str, n: int, body: str, fresh: bool, agent: bool, uncertainty: int) -> None:
        record = self._pick("comment", n)
        package = self._pick("package", n)
        if package is None:
            return
        if fresh or record is None:
            patch: Record = {"body": body, "entity_type": "package", "entity_id": package["id"]}
            change = Change("create", "comment", uuid7(), patch)
        else:
            change = Change("patch", "comment", record["id"], {"body": body})
        self._propose(who, [change], agent=agent, uncertainty=uncertainty)
        self.example.observe()

    @rule(who=workers, n=index, m=index, kind=st.integers(0, 5), amount=st.sampled_from(AMOUNTS), agent=rarely)
    def bundle(self, who: str, n: int, m: int, kind: int, amount: str, agent: bool) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Several changes that stand or fall together."""
        one, other = self._pick("package", n), self._pick("package", m)
        fresh = self._package("Of a bundle", amount)
        money: Record = {"amount": amount, "currency": "EUR"}
        changes = [fresh]
        if kind == 0:
            changes.append(Change("create", "task", uuid7(), {"title": "Of it", "package_id": fresh.target}))
        elif kind == 1:
            changes.append(Change("patch", "package", fresh.target, {"title": "At once"}))
            changes.append(Change("transition", "package", fresh.target, {"status": "submitted"}))
        elif one is not None and other is not None:
            changes = [Change("patch", "package", one["id"], money)]
            if kind == 2:
                changes.append(Change("patch", "package", other["id"], {**money, "title": "Together"}))
            elif kind == 3:
                changes.append(Change("transition", "package", one["id"], {"status": "submitted"}))
            elif kind == 4:
                changes.append(self._step("package", other, m, self._vendor(n)))
            else:
                task = self._pick("task", m)
                changes += [Change("delete", "task", task["id"], {})] if task else []
        self._propose(who, changes, agent=agent, reason="Together.")
        self.example.observe()

    @rule(
        who=people, n=index, roles=st.sampled_from(([], ["admin"], ["executive"], ["analyst"], ["admin", "executive"]))
    )
    def roles(self, who: str, n: int, roles: list[str]) -> None:
        record = self._pick("membership", n)
        if record is not None:
            self._propose(who, [Change("patch", "membership", record["id"], {"roles": roles})])
            self.example.observe()

    @rule(who=chiefs, to=people, window=st.sampled_from(("now", "now", "now", "past", "future")), agent=seldom)
    def lend(self, who: str, to: str, window: str, agent: bool) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        hours = {"now": (-1, 48), "past": (-5, -2), "future": (24, 48)}[window]
        patch: Record = {
            "to_person": self.example.model.people[to],
            "starts_at": now + timedelta(hours=hours[0]),
            "ends_at": now + timedelta(hours=hours[1]),
        }
        self._propose(who, [Change("create", "delegation", uuid7(), patch)], agent=agent)
        self.example.observe()

    @rule(who=chiefs, n=index)
    def take_back(self, who: str, n: int) -> None:
        record = self._pick("delegation", n)
        if record is not None:
            self._propose(who, [Change("patch", "delegation", record["id"], {"revoked": True})])
            self.example.observe()

    @rule(who=chiefs, budget=st.sampled_from(("5000000.00", "10000000.00", "20000000.00", "900000.00")))
    def budget(self, who: str, budget: str) -> None:
        model = self.example.model
        self._propose(who, [Change("patch", "project", model.project, {"budget": budget})])
        self.example.observe()

    @rule(who=chiefs, rules=st.sampled_from(POLICIES), agent=seldom)
    def policy(self, who: str, rules: Rules, agent: bool) -> None:
        change = Change("patch", "policy", POLICY_ID, {"document": replace(rules, version=0)})
        self._propose(who, [change], agent=agent)
        self.example.observe()

    @rule(who=people, n=index, due=rarely)
    def revise(self, who: str, n: int, due: bool) -> None:
        ended = [one for one in self.example.model.approvals.values() if not one.open]
        if ended:
            waiting = ended[-1 - n % len(ended)]
            name = who if n % 4 == 0 else self._name(waiting)
            self.example.revise(self.example.who(name), waiting, due=due)
            self.example.observe()

    # --- deciding ---

    def _name(self, waiting: Waiting) -> str:
        return next(name for name, person in self.example.model.people.items() if person == waiting.proposer.person)

    @rule(
        who=people,
        n=index,
        verdict=st.sampled_from(("approve", "approve", "approve", "reject", "request_changes", "confirm", "withdraw")),
        shown=st.sampled_from((None, None, "right", "wrong")),
        agent=rarely,
    )
    def say(self, who: str, n: int, verdict: str, shown: str | None, agent: bool) -> None:
        waiting = self._approval(n, only_open=n % 5 != 0)
        if waiting is not None:
            self.example.decide(self.example.who(who, agent=agent), waiting, verdict, shown=shown)
            self.example.observe()

    def _agree(self, waiting: Waiting, m: int) -> None:
        """Somebody who may says yes, if there is anybody."""
        if waiting.status == "confirmation_required":
            self.example.decide(self.example.who(self._name(waiting)), waiting, "confirm", shown="right")
            self.example.observe()
            return
        now = datetime.now(UTC)
        model = self.example.model
        able = [name for name, one in model.people.items() if model.seat(waiting, one, now) is not None]
        if able:
            self.example.decide(self.example.who(able[m % len(able)]), waiting, "approve", shown="right")
            self.example.observe()

    @rule(n=index, m=index)
    def agree(self, n: int, m: int) -> None:
        waiting = self._approval(n)
        if waiting is not None and waiting.open:
            self._agree(waiting, m)

    @rule(n=st.integers(0, 2), m=index)
    def agree_to_the_end(self, n: int, m: int) -> None:
        """Everybody who may says yes, one after the other."""
        waiting = self._approval(n)
        for turn in range(4):
            if waiting is None or not waiting.open:
                return
            self._agree(waiting, m + turn)

    @rule(n=st.integers(0, 2), m=index)
    def agree_to_the_next(self, n: int, m: int) -> None:
        self.agree_to_the_end(n, m)

    @rule(
        n=index,
        verdict=st.sampled_from(("approve", "fitting", "fitting", "withdraw", "reject")),
        agent=st.booleans(),
    )
    def proposer_says(self, n: int, verdict: str, agent: bool) -> None:
        """The person behind a proposal, or their assistant, tries."""
        waiting = self._approval(n)
        if waiting is not None:
            if verdict == "fitting":
                verdict = "confirm" if waiting.status == "confirmation_required" else "approve"
            self.example.decide(self.example.who(self._name(waiting), agent=agent), waiting, verdict, shown=None)
            self.example.observe()

    @rule()
    def expire(self) -> None:
        self.example.expire()
        self.example.observe()

    @rule(n=index, other=st.booleans())
    def repeat(self, n: int, other: bool) -> None:
        if self.example.sent:
            self.example.repeat(self.example.sent[-1 - n % len(self.example.sent)], other=other)
            self.example.observe()


__all__ = ["Broken", "GovernedPath"]
