"""The state machine: what everybody may try, in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pmis.approval.policy import POLICY_ID
from pmis.kit.ids import uuid7
from tests.model.harness import CANARY, Broken, Harness
from tests.model.oracle import FROZEN, STATUSES, STEPS, Change, Rules, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
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
FORWARD: Final = {
    "draft": "submitted",
    "submitted": "in_review",
    "in_review": "approved",
    "approved": "awarded",
    "awarded": "active",
    "active": "completed",
    "on_hold": "active",
}
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
leaders = st.sampled_from(("admin", "admin2", "operator", "executive"))
rarely = st.integers(0, 7).map(lambda n: n == 7)
seldom = st.integers(0, 19).map(lambda n: n == 19)
reasons = st.sampled_from(("Because.", "Because.", None))
levels = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 3))
writers = st.sampled_from((None, None, None, None, "email", "import"))


def there_is(noun: str) -> Callable[[Any], bool]:
    """A rule that needs a record is not tried without one: steps are for what does something."""
    return lambda machine: bool(machine.example.model.of(noun))


def waits(machine: Any) -> bool:
    """Whether something is undecided."""
    return any(one.open for one in machine.example.model.approvals.values())


def is_late(machine: Any) -> bool:
    """Whether something is undecided whose time is over."""
    return any(one.open and one.due for one in machine.example.model.approvals.values())


def has_ended(machine: Any) -> bool:
    """Whether something was decided, one way or the other."""
    return any(not one.open for one in machine.example.model.approvals.values())


@dataclass(frozen=True)
class Move:
    """Something to do, how often compared with the others, and when it makes sense."""

    weight: int
    when: Callable[[Any], bool] | None
    drawn: st.SearchStrategy[tuple[str, dict[str, Any]]]


MOVES: Final[dict[str, Move]] = {}
F = TypeVar("F", bound="Callable[..., None]")


def move(
    weight: int, when: Callable[[Any], bool] | None = None, **arguments: st.SearchStrategy[Any]
) -> Callable[[F], F]:
    """Make a method one of the moves.

    Hypothesis's own rules are switched off by the half in each example, and those left with nothing to do leave the
    steps to the rest: what takes several of them in a row then hardly ever happens.
    """

    def register(method: F) -> F:
        drawn = st.tuples(st.just(method.__name__), st.fixed_dictionaries(arguments))
        MOVES[method.__name__] = Move(weight, when, drawn)
        return method

    return register


@cache
def _one_of(names: tuple[str, ...], favoured: tuple[str, ...]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    often = {name: MOVES[name].weight * (10 if name in favoured else 1) for name in names}
    weighted = [name for name, times in often.items() for _ in range(times)]
    return st.sampled_from(weighted).flatmap(_arguments)


def _arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return MOVES[name].drawn


def _moves(machine: GovernedPath) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return machine.moves()


class GovernedPath(RuleBasedStateMachine):
    """Proposals and decisions in any order, each followed by every check there is."""

    harness: ClassVar[Harness]
    favoured: ClassVar[tuple[str, ...]] = ()
    """Moves to make more often than others, where a certain bug is looked for."""
    given: ClassVar[Rules | None] = None
    """The policy of every example, instead of any."""
    example: Example

    @initialize(
        cast=st.sampled_from(("full", "full", "full", "small", "alone")),
        rules=st.sampled_from((Rules(), *POLICIES)),
        amount=st.sampled_from(("90000.00", None, "1200000.00")),
    )
    def begin(self, cast: str, rules: Rules, amount: str | None) -> None:
        if self.given is not None:
            cast, rules = "full", self.given
        self.example = self.harness.begin_example(cast, Rules(solo=True) if cast == "alone" else rules)
        self.example.observe()
        # Something to begin with, so that no example is spent on an empty project.
        package = self._package("A package", amount)
        remark: Record = {"body": "A comment", "entity_type": "package", "entity_id": package.target}
        for change in (
            package,
            Change("create", "party", uuid7(), {"name": "A vendor", "kind": "vendor"}),
            Change("create", "task", uuid7(), {"title": "A task", "package_id": package.target}),
            Change("create", "comment", uuid7(), remark),
        ):
            self._propose("admin", [change])
            self.example.observe()

    def teardown(self) -> None:
        if "example" in vars(self):
            self.example.end()

    def moves(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        """What makes sense now."""
        return _one_of(tuple(name for name, one in MOVES.items() if one.when is None or one.when(self)), self.favoured)

    @rule(chosen=st.runner().flatmap(_moves))
    def go(self, chosen: tuple[str, dict[str, Any]]) -> None:
        name, arguments = chosen
        getattr(self, name)(**arguments)

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

    def _step(self, noun: str, record: Record, n: int, vendor: UUID | None, *, bare: bool) -> Change:
        """A step, mostly one that leads somewhere; a bare one does not bring what it needs."""
        following = [to for status, to in STEPS[noun] if status == record["status"]]
        to = following[n] if n < len(following) else STATUSES[noun][n % len(STATUSES[noun])]
        patch: Record = {"status": to}
        if to == "awarded" and vendor is not None and not bare:
            patch["vendor_id"] = vendor
        if to == "active" and record.get("planned_start") is None and not bare:
            patch |= {"planned_start": str(FIRST), "planned_end": str(FIRST + timedelta(days=90))}
        return Change("transition", noun, record["id"], patch)

    def _vendor(self, n: int) -> UUID | None:
        found = self._pick("party", n)
        return found["id"] if found else None

    # --- proposing ---

    @move(2, who=people, amount=st.sampled_from((None, *AMOUNTS)), agent=rarely, uncertainty=levels, due=rarely)
    def create_package(self, who: str, amount: str | None, agent: bool, uncertainty: int, due: bool) -> None:
        self._propose(who, [self._package("Another package", amount)], agent=agent, uncertainty=uncertainty, due=due)
        self.example.observe()

    @move(
        3,
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

    @move(
        1, who=people, n=index, vendor=index, owner=people, what=st.sampled_from(("vendor", "none", "owner", "nobody"))
    )
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

    @move(
        2,
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
            change = self._step("package", record, to, self._vendor(vendor), bare=to % 4 == 0)
            self._propose(who, [change], agent=agent, reason=reason, impact=impact, due=due)
            self.example.observe()

    @move(
        3,
        who=workers,
        n=index,
        impact=st.sampled_from((2, 2, 3)),
        fresh=st.booleans(),
        late=st.booleans(),
        agent=rarely,
    )
    def ask(self, who: str, n: int, impact: int, fresh: bool, late: bool, agent: bool) -> None:
        """Something that waits for others, whatever the rest of the policy says of it; `late` once its time is over."""
        record = self._pick("package", n)
        if fresh or record is None:
            change = self._package("To be agreed to", "90000.00")
        else:
            change = Change("patch", "package", record["id"], {"description": f"Number {n}"})
        self._propose(who, [change], agent=agent, impact=impact, due=late)
        self.example.observe()

    @move(3, who=leaders, n=index, to=st.integers(0, 2), vendor=index, bare=rarely)
    def advance_package(self, who: str, n: int, to: int, vendor: int, bare: bool) -> None:
        """A step forward, so that examples reach the far end of the life cycle."""
        found = [one for one in self.example.model.of("package") if one["deleted_at"] is None]
        if found:
            record = found[n % len(found)]
            if record["status"] not in FROZEN:
                following = [after for before, after in STEPS["package"] if before == record["status"]]
                to = following.index(FORWARD[record["status"]])
            change = self._step("package", record, to, self._vendor(vendor), bare=bare)
            self._propose(who, [change], reason=None if bare else "Because.")
            self.example.observe()

    @move(2, who=workers, noun=st.sampled_from(("package", "task")), n=st.integers(0, 3), m=index)
    def finish(self, who: str, noun: str, n: int, m: int) -> None:
        """Cancel something, and change it all the same."""
        record = self._pick(noun, n)
        if record is not None:
            self._propose(who, [Change("transition", noun, record["id"], {"status": "cancelled"})], reason="Because.")
            self.example.observe()
            self.agree_to_the_end(0, m)
            self._propose(who, [Change("patch", noun, record["id"], {"title": f"Late {m}"})])
            self.example.observe()

    @move(3, who=leaders, n=st.integers(0, 3), m=index, steps=st.integers(1, 6), vendor=index, bare=st.booleans())
    def march(self, who: str, n: int, m: int, steps: int, vendor: int, bare: bool) -> None:
        """Forward, with everybody's consent, several times; at last, perhaps, without what it needs."""
        for turn in range(steps):
            self.advance_package(who, n, 0, vendor, bare and turn == steps - 1)
            self.agree_to_the_end(0, m + turn)

    @move(
        2,
        who=workers,
        noun=st.sampled_from(("package", "task", "party", "comment", "memory")),
        n=index,
        restore=st.booleans(),
    )
    def remove(self, who: str, noun: str, n: int, restore: bool) -> None:
        record = self._pick(noun, n)
        if record is not None:
            self._propose(who, [Change("restore" if restore else "delete", noun, record["id"], {})])
            self.example.observe()

    @move(2, who=people, n=index, assignee=st.sampled_from((None, "analyst", "outsider")), due_date=st.booleans())
    def create_task(self, who: str, n: int, assignee: str | None, due_date: bool) -> None:
        record = self._pick("package", n)
        patch: Record = {"title": "A task", "package_id": record["id"] if record else uuid7()}
        if assignee is not None:
            patch["assignee_id"] = self.example.model.people[assignee]
        if due_date:
            patch["due_date"] = str(FIRST)
        self._propose(who, [Change("create", "task", uuid7(), patch)])
        self.example.observe()

    @move(
        2,
        there_is("task"),
        who=workers,
        n=index,
        days=st.sampled_from((None, 5, 10, 40)),
        reason=reasons,
        agent=rarely,
        uncertainty=levels,
    )
    def patch_task(self, who: str, n: int, days: int | None, reason: str | None, agent: bool, uncertainty: int) -> None:
        record = self._pick("task", n)
        if record is not None:
            patch: Record = {"title": "A"} if days is None else {"due_date": str(FIRST + timedelta(days=days))}
            change = Change("patch", "task", record["id"], patch)
            self._propose(who, [change], agent=agent, reason=reason, uncertainty=uncertainty)
            self.example.observe()

    @move(2, there_is("task"), who=workers, n=index, to=st.integers(0, 7), reason=reasons, agent=rarely)
    def step_task(self, who: str, n: int, to: int, reason: str | None, agent: bool) -> None:
        record = self._pick("task", n)
        if record is not None:
            self._propose(who, [self._step("task", record, to, None, bare=True)], agent=agent, reason=reason)
            self.example.observe()

    @move(2, who=people, n=index, what=st.sampled_from(("name", "email", "taken", "bank", "kind", "new")), agent=rarely)
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

    @move(
        2,
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

    @move(2, who=people, n=index, fresh=st.booleans(), agent=rarely, uncertainty=levels)
    def memory(self, who: str, n: int, fresh: bool, agent: bool, uncertainty: int) -> None:
        record, package = self._pick("memory", n), self._pick("package", n)
        if package is None:
            return
        text = f"{CANARY} {n}"
        if fresh or record is None:
            about: Record = {"entity_type": "package", "entity_id": package["id"], "kind": "context"}
            change = Change("create", "memory", uuid7(), {**about, "text": text})
        else:
            change = Change("patch", "memory", record["id"], {"text": text} if n % 2 else {"kind": "decision"})
        self._propose(who, [change], agent=agent, uncertainty=uncertainty)
        self.example.observe()

    @move(2, who=workers, n=index, m=index, kind=st.integers(0, 6), amount=st.sampled_from(AMOUNTS), agent=rarely)
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
        elif kind == 6:
            vendor = self._pick("party", n)
            # The second weighs more than the first.
            changes += [Change("patch", "party", vendor["id"], {"email": f"v{m}@b.example"})] if vendor else []
        elif one is not None and other is not None:
            changes = [Change("patch", "package", one["id"], money)]
            if kind == 2:
                changes.append(Change("patch", "package", other["id"], {**money, "title": "Together"}))
            elif kind == 3:
                changes.append(Change("transition", "package", one["id"], {"status": "submitted"}))
            elif kind == 4:
                changes.append(self._step("package", other, m, self._vendor(n), bare=m % 4 == 0))
            else:
                task = self._pick("task", m)
                changes += [Change("delete", "task", task["id"], {})] if task else []
        self._propose(who, changes, agent=agent, reason="Together.")
        self.example.observe()

    @move(
        2,
        who=people,
        n=index,
        roles=st.sampled_from(([], ["admin"], ["executive"], ["analyst"], ["admin", "executive"])),
    )
    def roles(self, who: str, n: int, roles: list[str]) -> None:
        record = self._pick("membership", n)
        if record is not None:
            self._propose(who, [Change("patch", "membership", record["id"], {"roles": roles})])
            self.example.observe()

    @move(2, who=chiefs, to=people, window=st.sampled_from(("now", "now", "now", "past", "future")), agent=seldom)
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

    def _newest(self) -> Waiting | None:
        return next(reversed(self.example.model.approvals.values()), None)

    @move(
        4,
        who=chiefs,
        to=st.sampled_from(("executive2", "executive", "admin2", "analyst", "operator")),
        window=st.sampled_from(("now", "now", "past", "future")),
        own=st.booleans(),
        impact=st.sampled_from((2, 3)),
        end=st.sampled_from((None, None, "revoked")),
    )
    def lend_and_vote(self, who: str, to: str, window: str, own: bool, impact: int, end: str | None) -> None:
        """Somebody lends a seat, and then both try to use it, and the taker's own beside it."""
        self.ask(who if own else "operator", 0, impact, fresh=True, late=False, agent=False)
        waiting = self._newest()
        self.lend(who, to, window, agent=False)
        lent = self._newest()
        if lent is not None and lent.status == "confirmation_required":
            self._agree(lent, 0)
        if end is not None:
            mine = [one for one in self.example.model.of("delegation") if not one["revoked"]]
            if mine:
                self._propose(who, [Change("patch", "delegation", mine[-1]["id"], {"revoked": True})])
                self.example.observe()
                lent = self._newest()
                if lent is not None and lent.status == "confirmation_required":
                    self._agree(lent, 0)
        for name in (to, to, who):
            if waiting is not None and waiting.open:
                self.example.decide(self.example.who(name), waiting, "approve", shown="right")
                self.example.observe()

    @move(1, there_is("delegation"), who=chiefs, n=index)
    def take_back(self, who: str, n: int) -> None:
        record = self._pick("delegation", n)
        if record is not None:
            self._propose(who, [Change("patch", "delegation", record["id"], {"revoked": True})])
            self.example.observe()

    @move(1, who=chiefs, budget=st.sampled_from(("5000000.00", "10000000.00", "20000000.00", "900000.00")))
    def budget(self, who: str, budget: str) -> None:
        model = self.example.model
        self._propose(who, [Change("patch", "project", model.project, {"budget": budget})])
        self.example.observe()

    @move(1, who=chiefs, rules=st.sampled_from(POLICIES), agent=seldom)
    def policy(self, who: str, rules: Rules, agent: bool) -> None:
        change = Change("patch", "policy", POLICY_ID, {"document": replace(rules, version=0)})
        self._propose(who, [change], agent=agent)
        self.example.observe()

    @move(2, has_ended, who=people, n=index, due=rarely)
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

    @move(
        4,
        lambda machine: bool(machine.example.model.approvals),
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
        else:
            self._vote(waiting, m, "approve")

    def _vote(self, waiting: Waiting, m: int, verdict: str) -> None:
        """Somebody who may decide says so, if there is anybody."""
        now = datetime.now(UTC)
        model = self.example.model
        able = [name for name, one in model.people.items() if model.seat(waiting, one, now) is not None]
        if able:
            self.example.decide(self.example.who(able[m % len(able)]), waiting, verdict, shown="right")
            self.example.observe()

    @move(
        2,
        waits,
        n=st.integers(0, 3),
        m=index,
        verdict=st.sampled_from(("reject", "request_changes")),
        again=st.booleans(),
    )
    def disagree(self, n: int, m: int, verdict: str, again: bool) -> None:
        """Somebody who may says no; `again` if somebody else then says yes all the same."""
        waiting = self._approval(n)
        if waiting is not None and waiting.status == "pending":
            self._vote(waiting, m, verdict)
            if again and not waiting.open:
                chief = ("admin", "admin2", "executive", "executive2")[m % 4]
                self.example.decide(self.example.who(chief), waiting, "approve", shown="right")
                self.example.observe()

    @move(2, is_late, n=st.integers(0, 3), m=index)
    def come_too_late(self, n: int, m: int) -> None:
        """Somebody agrees after the time is over."""
        late = [one for one in self.example.model.approvals.values() if one.open and one.due]
        if late:
            self._agree(late[-1 - n % len(late)], m)

    @move(2, waits, n=index, m=index)
    def agree(self, n: int, m: int) -> None:
        waiting = self._approval(n)
        if waiting is not None and waiting.open:
            self._agree(waiting, m)

    @move(5, waits, n=st.integers(0, 2), m=index)
    def agree_to_the_end(self, n: int, m: int) -> None:
        """Everybody who may says yes, one after the other."""
        waiting = self._approval(n)
        for turn in range(4):
            if waiting is None or not waiting.open:
                return
            self._agree(waiting, m + turn)

    @move(3, waits, who=chiefs, n=st.integers(0, 2), shown=st.sampled_from(("right", "right", "wrong")))
    def chief_agrees(self, who: str, n: int, shown: str) -> None:
        """In turn or out of turn, to what was shown or to something else."""
        waiting = self._approval(n)
        if waiting is not None:
            self.example.decide(self.example.who(who), waiting, "approve", shown=shown)
            self.example.observe()

    @move(
        3,
        waits,
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

    @move(
        3,
        waits,
        who=people,
        n=st.integers(0, 3),
        verdict=st.sampled_from(("withdraw", "confirm", "approve")),
        agent=st.booleans(),
    )
    def meddle(self, who: str, n: int, verdict: str, agent: bool) -> None:
        """Somebody other than the proposer, or that person's assistant, tries what is not theirs to do."""
        waiting = self._approval(n)
        if waiting is not None:
            if verdict == "confirm" and waiting.status != "confirmation_required":
                verdict = "withdraw"
            self.example.decide(self.example.who(who, agent=agent), waiting, verdict, shown="right")
            self.example.observe()

    @move(1)
    def expire(self) -> None:
        """The job runs; mostly when there is something for it to do."""
        self.example.expire()
        self.example.observe()

    @move(2, n=index, other=st.booleans())
    def repeat(self, n: int, other: bool) -> None:
        if self.example.sent:
            self.example.repeat(self.example.sent[-1 - n % len(self.example.sent)], other=other)
            self.example.observe()


__all__ = ["Broken", "GovernedPath"]
