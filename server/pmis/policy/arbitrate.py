"""Facts and policy in, a decision that explains itself out. Pure, total and the same every time.

The route starts at the matrix cell for impact and uncertainty and only ever rises: floors and amount tiers make it
stricter, nothing makes it laxer. The same holds for the two levels, so whatever a caller (or a model) states can only
raise them. A change that the policy does not know is refused with a reason; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from pmis.policy.approvers import Order, Step
from pmis.policy.document import Operation, Writer, threshold
from pmis.policy.levels import APPROVAL_ROUTES, Level, Route
from pmis.policy.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pmis.policy.document import FloorWhen, Policy, When
    from pmis.policy.lifecycle import Lifecycle, Transition

# Wide enough that no sum, difference or product of amounts is ever rounded; see `_is_money`.
_EXACT: Final = Context(prec=200)
_MOST_DIGITS: Final = 30

STATUS: Final = "status"
"""The field that a step writes; the step itself says how much that matters."""

_NO_HUMAN: Final = frozenset((Writer.EMAIL, Writer.SERVICE, Writer.SYSTEM))
"""Writers behind whom there is no person to confirm anything, unless the facts say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything about a change that the policy may look at. What is not stated counts as the stricter case.

    Amounts are those before and after the change, equal when it does not touch them. `fields` are those the change
    writes, `first_set` those of them that were empty before. `slip_days` is how much later the planned end or due
    date gets. `person_behind` says whether a human can confirm; by default it follows from the writer.
    """

    operation: str
    target_type: str
    writer: str
    status: str | None = None
    to_status: str | None = None
    fields: frozenset[str] = frozenset()
    first_set: frozenset[str] = frozenset()
    amount_before: Decimal | None = None
    amount_after: Decimal | None = None
    currency_before: str | None = None
    currency_after: str | None = None
    budget: Decimal | None = None
    budget_currency: str | None = None
    slip_days: int = 0
    flags: frozenset[str] = frozenset()
    stated_impact: Level | None = None
    stated_uncertainty: Level | None = None
    person_behind: bool | None = None
    solo: bool = False

    def to_json(self) -> dict[str, Any]:
        """The facts that are not at their default, as JSON; `from_json` gives the same facts back."""
        stated: dict[str, Any] = {}
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if value != default:
                stated[name] = _json(value)
        return stated

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Facts:
        """The facts that `to_json` wrote."""
        read: dict[str, Any] = dict(value)
        for name in ("fields", "first_set", "flags"):
            read[name] = frozenset(read.get(name, ()))
        for name in ("amount_before", "amount_after", "budget"):
            read[name] = Decimal(read[name]) if name in read else None
        for name in ("stated_impact", "stated_uncertainty"):
            read[name] = Level.parse(read[name]) if name in read else None
        return cls(**read)


class _Told(Mapping[str, Any]):
    """What `Facts.to_json` tells, told when somebody asks: nobody does of what is applied at once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    @cached_property
    def _known(self) -> dict[str, Any]:
        return self._facts.to_json()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - JSON
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return repr(self._known)


_DEFAULTS: Final = tuple((one.name, one.default) for one in fields(Facts))


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule that had a say, in words, with the facts it looked at.

    For a bundle, `changes` are the places of the changes it applied to, and the facts those of the first of them.
    """

    rule: str
    text: str
    facts: Mapping[str, Any]
    changes: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The reason as JSON; `from_json` gives it back."""
        value: dict[str, Any] = {"rule": self.rule, "text": self.text, "facts": dict(self.facts)}
        return {**value, "changes": list(self.changes)} if self.changes else value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reason:
        """The reason that `to_json` wrote."""
        return cls(value["rule"], value["text"], dict(value["facts"]), tuple(value.get("changes", ())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy answers: the route, how it came about, and who must agree within which time."""

    route: Route
    impact: Level
    uncertainty: Level
    score: int
    rule: str
    reasons: tuple[Reason, ...]
    facts: Mapping[str, Any]
    steps: tuple[Step, ...]
    order: Order
    expires_hours: int | None
    remind_hours: int | None
    bypass_hours: int | None
    deadline_hours: int | None
    notify_at_once: bool
    step_up: bool
    policy_version: int

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON, always the same for the same decision; `from_json` gives it back."""
        return {
            "route": self.route.value,
            "impact": self.impact.word,
            "uncertainty": self.uncertainty.word,
            "score": self.score,
            "rule": self.rule,
            "reasons": [reason.to_json() for reason in self.reasons],
            "facts": dict(self.facts),
            "steps": [step.to_json() for step in self.steps],
            "order": self.order.value,
            "expires_hours": self.expires_hours,
            "remind_hours": self.remind_hours,
            "bypass_hours": self.bypass_hours,
            "deadline_hours": self.deadline_hours,
            "notify_at_once": self.notify_at_once,
            "step_up": self.step_up,
            "policy_version": self.policy_version,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """The decision that `to_json` wrote."""
        return cls(
            route=Route(value["route"]),
            impact=Level.parse(value["impact"]),
            uncertainty=Level.parse(value["uncertainty"]),
            score=value["score"],
            rule=value["rule"],
            reasons=tuple(Reason.from_json(reason) for reason in value["reasons"]),
            facts=dict(value["facts"]),
            steps=tuple(Step.from_json(step) for step in value["steps"]),
            order=Order(value["order"]),
            expires_hours=value["expires_hours"],
            remind_hours=value["remind_hours"],
            bypass_hours=value.get("bypass_hours"),  # decisions of before there was one have none
            deadline_hours=value["deadline_hours"],
            notify_at_once=value["notify_at_once"],
            step_up=value["step_up"],
            policy_version=value["policy_version"],
        )


def arbitrate(facts: Facts, policy: Policy) -> Decision:
    """The route of one change, with every reason; never raises."""
    return arbitrate_all((facts,), policy)


def arbitrate_all(changes: Sequence[Facts], policy: Policy) -> Decision:
    """The route of changes that are applied all or nothing: that of the strictest of them, with the reasons of all.

    Amounts that fall under the tiers are added up per currency, so that a large sum cannot be split among the changes.
    """
    with localcontext(_EXACT):
        judgements = [_judge(facts, policy) for facts in changes] or [_nothing()]
        bundled = len(changes) > 1
        ruling = max(judgements, key=lambda one: one.route.severity)
        route, rule = ruling.route, ruling.rule
        reasons = _gathered(judgements) if bundled else ruling.reasons
        tiers = list(_tier_steps(judgements, policy))
        if tiers and route is not Route.REJECT:
            reasons = (*reasons, *(reason for reason, _ in tiers))
            if not route.needs_approvers:
                route, rule = Route.APPROVAL_REQUIRED, tiers[0][0].rule
        waiting = policy.approvals.by_route.get(route)
        impact = max(one.impact for one in judgements)
        uncertainty = max(one.uncertainty for one in judgements)
        steps = {step.id: step.step for step in waiting.steps} if waiting is not None else {}
        serial = waiting is not None and waiting.order is Order.SERIAL
        again = waiting is not None and waiting.step_up
        if route in APPROVAL_ROUTES and tiers:
            steps.update((step.id, step) for _, step in tiers if step.id not in steps)
            serial = serial or policy.tiers.order is Order.SERIAL
            # A large amount is an executive's decision, whatever the route is called.
            again = again or policy.approvals.executive_approval.step_up
        return Decision(
            route=route,
            impact=impact,
            uncertainty=uncertainty,
            score=max(one.score for one in judgements),
            rule=rule,
            reasons=reasons,
            facts={"changes": [facts.to_json() for facts in changes]} if bundled else ruling.facts,
            steps=tuple(steps.values()),
            order=Order.SERIAL if serial else Order.PARALLEL,
            expires_hours=waiting.expires_hours if waiting is not None else None,
            remind_hours=waiting.remind_hours if waiting is not None else None,
            bypass_hours=waiting.bypass_hours if waiting is not None else None,
            deadline_hours=waiting.deadline_hours if waiting is not None else None,
            notify_at_once=waiting is not None and waiting.notify_at_once,
            step_up=again,
            policy_version=policy.version,
        )


def explain(decision: Decision) -> list[str]:
    """The decision in sentences, one a line, for people."""
    lines = [
        f"{decision.route}, chosen by {decision.rule} (policy version {decision.policy_version})",
        f"impact {decision.impact.word} x uncertainty {decision.uncertainty.word} = score {decision.score} of 16",
    ]
    for reason in decision.reasons:
        known = ", ".join(f"{name} {_said(value)}" for name, value in reason.facts.items())
        lines.append(f"- {reason.text} [{reason.rule}{': ' + known if known else ''}]")
    for number, step in enumerate(decision.steps, start=1):
        named = " (named people only)" if step.people else ""
        who = " or ".join(step.roles)
        lines.append(f"{number}. {step.name}: {step.quorum} x {who}{named}")
    if decision.steps:
        how = "in this order" if decision.order is Order.SERIAL else "in any order"
        lines.append(f"All of these must agree, {how}, within {decision.expires_hours} hours.")
        waits = [hours for hours in (decision.bypass_hours, decision.deadline_hours) if hours is not None]
        if waits:
            lines.append(f"After {min(waits)} hours of silence executives may fill every step whose turn it is.")
    return lines


# --- judging one change -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """What one change comes to, before tiers."""

    route: Route
    rule: str
    impact: Level
    uncertainty: Level
    reasons: tuple[Reason, ...]
    facts: Mapping[str, Any]
    amounts: tuple[tuple[str | None, Decimal], ...] = ()

    @property
    def score(self) -> int:
        return (self.impact + 1) * (self.uncertainty + 1)


def _nothing() -> _Judgement:
    reason = Reason("refused.nothing", "Nothing is proposed.", {})
    return _Judgement(
        route=Route.REJECT,
        rule=reason.rule,
        impact=Level.LOW,
        uncertainty=Level.LOW,
        reasons=(reason,),
        facts={},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The facts with everything that is worked out from them once."""

    facts: Facts
    phase: Phase | None
    step: Transition | None
    fields: frozenset[str]
    """The fields that count: those the step covers do not when they are set for the first time."""
    deltas: tuple[tuple[str | None, Decimal], ...]
    """By how much the amount moves, per currency; both whole amounts when the currency changes."""
    amounts: tuple[tuple[str | None, Decimal], ...]
    """The larger of the amounts before and after, per currency."""


def _judge(facts: Facts, policy: Policy) -> _Judgement:
    refusals = list(_refusals(facts, policy))
    if not all(_is_money(amount) for amount in (facts.amount_before, facts.amount_after, facts.budget)):
        refusals.append(Reason("refused.amount", "An amount is not a number that money can be.", {}))
        return _refused(facts, refusals)
    if refusals:
        return _refused(facts, refusals)
    case = _case(facts, policy)
    uncertainty, because_uncertain = _uncertainty(case, policy)
    impact, because_impact = _impact(case, policy)
    route, rule = policy.matrix.route(impact, uncertainty), f"matrix.{impact.word}.{uncertainty.word}"
    text = f"{impact.word.capitalize()} impact at {uncertainty.word} uncertainty goes to {route}."
    reasons = [*because_uncertain, *because_impact, Reason(rule, text, {})]
    for floor, reason in _floors(case, policy, impact, uncertainty):
        reasons.append(reason)
        if floor.severity > route.severity:
            route, rule = floor, reason.rule
    if route is Route.CONFIRM and not _has_human(facts):
        text = "Nobody stands behind this change who could confirm it, so it needs an approval."
        reasons.append(Reason("confirm.nobody", text, {"writer": facts.writer}))
        route, rule = Route.APPROVAL_REQUIRED, "confirm.nobody"
    if facts.solo and policy.solo.enabled and route in APPROVAL_ROUTES:
        text = "One person runs this instance: approving their own change is recorded as an exception."
        reasons.append(Reason("solo.exception", text, {}))
    tiered = any(_holds(when, case) for when in policy.tiers.applies_to)
    return _Judgement(
        route=route,
        rule=rule,
        impact=impact,
        uncertainty=uncertainty,
        reasons=tuple(reasons),
        facts=_Told(facts),
        amounts=case.amounts if tiered else (),
    )


def _refused(facts: Facts, reasons: list[Reason]) -> _Judgement:
    return _Judgement(
        route=Route.REJECT,
        rule=reasons[0].rule,
        impact=Level.CRITICAL,
        uncertainty=Level.CRITICAL,
        reasons=tuple(reasons),
        facts=_Told(facts),
    )


def _refusals(facts: Facts, policy: Policy) -> Iterator[Reason]:
    """Why the policy cannot judge the change at all: it does not know what it is."""
    noun = policy.nouns.get(facts.target_type)
    if noun is None:
        known = ", ".join(policy.nouns)
        yield Reason("refused.noun", f"The policy knows no {str(facts.target_type)!r}; it knows {known}.", {})
        return
    if policy.uncertainty.writers.of(facts.writer) is None:
        known = ", ".join(Writer)
        yield Reason("refused.writer", f"{str(facts.writer)!r} is not a writer; writers are {known}.", {})
    lifecycle = policy.lifecycle(facts.target_type)
    is_step = lifecycle is not None and facts.operation == Operation.TRANSITION
    if not is_step and policy.operation(facts.target_type, facts.operation) is None:
        known = ", ".join([*noun.operations, *(["transition"] if lifecycle is not None else [])])
        text = f"A {facts.target_type} has no {str(facts.operation)!r}; it has {known}."
        yield Reason("refused.operation", text, {})
    elif lifecycle is not None:
        yield from _refused_status(facts, lifecycle)


def _refused_status(facts: Facts, lifecycle: Lifecycle) -> Iterator[Reason]:
    status, to_status = facts.status, facts.to_status
    given = {"status": status, "to_status": to_status}
    if facts.operation == Operation.CREATE:
        if to_status not in (None, lifecycle.initial):
            yield Reason("refused.transition", f"It begins as {lifecycle.initial}, not as {to_status}.", given)
    elif facts.operation != Operation.TRANSITION:
        if facts.operation == Operation.PATCH and STATUS in facts.fields:
            yield Reason("refused.transition", "A status is changed by a step of the lifecycle, not by a patch.", given)
        elif status is not None and lifecycle.phase(status) is None:
            yield Reason("refused.transition", lifecycle.next_words(status), given)
    elif status is None or to_status is None or lifecycle.find(status, to_status) is None:
        text = f"From {status} to {to_status} there is no step. {lifecycle.next_words(status or '')}"
        yield Reason("refused.transition", text, given)


def _case(facts: Facts, policy: Policy) -> _Case:
    lifecycle = policy.lifecycle(facts.target_type)
    step = None
    phase = None
    if lifecycle is not None:
        if facts.operation == Operation.CREATE:
            phase = lifecycle.phase(lifecycle.initial)
        else:
            # A state that nobody stated counts as past draft.
            phase = lifecycle.phase(facts.status) if facts.status is not None else Phase.LIVE
        if facts.operation == Operation.TRANSITION:
            step = lifecycle.find(facts.status or "", facts.to_status or "")
    covered = facts.first_set.intersection(step.covers) if step is not None and step.covers else frozenset[str]()
    before, after = facts.amount_before, facts.amount_after
    deltas: dict[str | None, Decimal] = {}
    if before is not None and after is not None and facts.currency_before == facts.currency_after:
        deltas[facts.currency_after] = abs(after - before)
    else:
        # Set, removed, or stated in another currency: then both whole amounts move, each in its own.
        for currency, amount in _both(facts):
            deltas[currency] = abs(amount)
    amounts: dict[str | None, Decimal] = {}
    for currency, amount in _both(facts):
        amounts[currency] = max(abs(amount), amounts.get(currency, Decimal(0)))
    return _Case(
        facts=facts,
        phase=phase,
        step=step,
        fields=facts.fields - covered - {STATUS},
        deltas=tuple((currency, delta) for currency, delta in deltas.items() if delta),
        amounts=tuple(amounts.items()),
    )


def _both(facts: Facts) -> Iterator[tuple[str | None, Decimal]]:
    if facts.amount_before is not None:
        yield facts.currency_before, facts.amount_before
    if facts.amount_after is not None:
        yield facts.currency_after, facts.amount_after


def _uncertainty(case: _Case, policy: Policy) -> tuple[Level, list[Reason]]:
    facts = case.facts
    # `_refusals` has seen to it that the writer is known.
    level = cast("Level", policy.uncertainty.writers.of(facts.writer))
    text = f"Whatever comes from {_FROM[facts.writer]} starts at {level.word} uncertainty."
    reasons = [Reason(f"writer.{facts.writer}", text, {"writer": facts.writer})]
    for rule in policy.uncertainty.rules:
        if _holds(rule.when, case):
            level = max(level, rule.uncertainty)
            reasons.append(Reason(rule.id, rule.text, _looked_at(rule.when, case)))
    return _raised(level, facts.stated_uncertainty, "uncertainty", reasons)


_FROM: Final[Mapping[str, str]] = MappingProxyType(
    {
        Writer.PERSON: "a person",
        Writer.AGENT: "an agent",
        Writer.IMPORT: "an import",
        Writer.EMAIL: "an e-mail",
        Writer.SERVICE: "a service",
        Writer.SYSTEM: "a job",
    }
)


def _impact(case: _Case, policy: Policy) -> tuple[Level, list[Reason]]:
    facts = case.facts
    noun = policy.nouns[facts.target_type]
    what = case.step.name if case.step is not None else facts.operation
    level = (case.step or noun.operations[Operation(facts.operation)]).impact
    subject = f"The step {what}" if case.step is not None else f"Every {_DEEDS[facts.operation]}"
    text = f"{subject} of a {facts.target_type} starts at {level.word} impact."
    reasons = [Reason(f"base.{facts.target_type}.{what}", text, {})]
    if facts.operation in _WRITES_FIELDS and case.fields:
        weights = {name: noun.field_impact(name) for name in case.fields}
        heaviest = max(weights.values())
        named = sorted(name for name, weight in weights.items() if weight is heaviest)
        text = f"Of the fields it changes, the weightiest ({', '.join(named)}) has {heaviest.word} impact."
        reasons.append(Reason(f"base.{facts.target_type}.fields", text, {"fields": sorted(case.fields)}))
        level = max(level, heaviest)
    for rule in policy.impact_rules[facts.target_type, facts.operation, case.phase]:
        if _holds(rule.when, case):
            level = max(level, rule.impact)
            reasons.append(Reason(rule.id, rule.text, _looked_at(rule.when, case)))
    return _raised(level, facts.stated_impact, "impact", reasons)


_DEEDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Operation.CREATE: "creation",
        Operation.PATCH: "change",
        Operation.DELETE: "deletion",
        Operation.RESTORE: "restoration",
    }
)
_WRITES_FIELDS: Final = (Operation.PATCH, Operation.TRANSITION)


def _raised(level: Level, stated: Level | None, what: str, reasons: list[Reason]) -> tuple[Level, list[Reason]]:
    """The level after the caller's own statement, which can only raise it."""
    if stated is None:
        return level, reasons
    if stated > level:
        text = f"The caller states {stated.word} {what}, which is higher."
    else:
        text = f"The caller states {stated.word} {what}; a statement never lowers what the facts say."
    return max(level, stated), [*reasons, Reason(f"stated.{what}", text, {f"stated_{what}": stated.word})]


def _floors(case: _Case, policy: Policy, impact: Level, uncertainty: Level) -> Iterator[tuple[Route, Reason]]:
    """Every floor that applies, in document order, that of the step first."""
    step = case.step
    if step is not None and step.floor is not Route.AUTO:
        text = f"The step {step.name} of a {case.facts.target_type} is never below {step.floor}."
        yield step.floor, Reason(f"base.{case.facts.target_type}.{step.name}.floor", text, {})
    for rule in policy.floor_rules[case.facts.target_type, case.facts.operation, case.phase]:
        if _reaches(rule.when, impact, uncertainty) and _holds(rule.when, case):
            yield rule.route, Reason(rule.id, rule.text, _looked_at(rule.when, case))


def _has_human(facts: Facts) -> bool:
    return facts.person_behind if facts.person_behind is not None else facts.writer not in _NO_HUMAN


# --- conditions ---------------------------------------------------------------------------------------------------


def _reaches(when: FloorWhen, impact: Level, uncertainty: Level) -> bool:
    return (when.impact_at_least is None or impact >= when.impact_at_least) and (
        when.uncertainty_at_least is None or uncertainty >= when.uncertainty_at_least
    )


def _holds(when: When, case: _Case) -> bool:
    """Whether every condition that is given holds. Those about amounts hold in any currency the change touches."""
    facts = case.facts
    return (
        (when.noun is None or facts.target_type in when.noun)
        and (when.operation is None or facts.operation in when.operation)
        and (when.phase is None or case.phase in when.phase)
        and (when.fields is None or any(_names(name, case.fields) for name in when.fields))
        and (when.writer is None or facts.writer in when.writer)
        and (when.from_ is None or facts.status in when.from_)
        and (when.to is None or facts.to_status in when.to)
        and (when.flags is None or not facts.flags.isdisjoint(when.flags))
        and (when.slip_days_above is None or facts.slip_days > when.slip_days_above)
        and (when.currency_changes is None or _currency_changes(facts))
        and (when.share_unknown is None or (bool(case.deltas) and _comparable(case) is None))
        and (when.share_above is None or _share_is_above(case, when.share_above))
        and (when.delta_above is None or _any_above(case.deltas, when.delta_above))
        and (when.amount_above is None or _any_above(case.amounts, when.amount_above))
    )


def _names(name: str, written: frozenset[str]) -> bool:
    """Whether the change writes the field or a part of it (`data` stands for `data.colour`)."""
    return name in written or any(one.startswith(f"{name}.") for one in written)


def _currency_changes(facts: Facts) -> bool:
    before, after = facts.currency_before, facts.currency_after
    has_both = facts.amount_before is not None and facts.amount_after is not None
    return before != after and (has_both or (before is not None and after is not None))


def _comparable(case: _Case) -> tuple[Decimal, Decimal] | None:
    """The movement and the budget, when both are of one currency and the budget is more than nothing."""
    facts = case.facts
    if len(case.deltas) == 1 and facts.budget is not None and facts.budget > 0:
        currency, delta = case.deltas[0]
        if currency == facts.budget_currency and not _currency_changes(facts):
            return delta, facts.budget
    return None


def _share_is_above(case: _Case, share: Decimal) -> bool:
    pair = _comparable(case)
    return pair is not None and pair[0] > share * pair[1]


def _any_above(sums: Iterable[tuple[str | None, Decimal]], limits: Mapping[str, Decimal]) -> bool:
    return any(amount > threshold(limits, currency) for currency, amount in sums)


def _looked_at(when: When, case: _Case) -> dict[str, Any]:
    """The values of the facts that the rule's conditions are about."""
    facts = case.facts
    seen: dict[str, Any] = {}
    if when.writer is not None:
        seen["writer"] = facts.writer
    if when.phase is not None or when.from_ is not None:
        seen["status"] = facts.status
    if when.to is not None:
        seen["to_status"] = facts.to_status
    if when.fields is not None:
        seen["fields"] = sorted(
            one for one in case.fields if any(_names(name, frozenset((one,))) for name in when.fields)
        )
    if when.flags is not None:
        seen["flags"] = sorted(facts.flags.intersection(when.flags))
    if when.slip_days_above is not None:
        seen["slip_days"] = facts.slip_days
    if when.currency_changes is not None:
        seen["currency"] = f"{facts.currency_before} to {facts.currency_after}"
    if when.delta_above is not None or when.share_unknown is not None:
        seen["moves_by"] = _sums(case.deltas)
    if when.amount_above is not None:
        seen["amount"] = _sums(case.amounts)
    pair = _comparable(case) if when.share_above is not None else None
    if pair is not None:
        seen["share_percent"] = format((pair[0] / pair[1] * 100).quantize(Decimal("0.1")), "f")
    return seen


# --- amounts and tiers --------------------------------------------------------------------------------------------


def _is_money(amount: Decimal | None) -> bool:
    """Whether arithmetic with the amount is exact: finite, and within far more digits than money has."""
    if amount is None:
        return True
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_DIGITS and amount.adjusted() <= _MOST_DIGITS


def _tier_steps(judgements: list[_Judgement], policy: Policy) -> Iterator[tuple[Reason, Step]]:
    """The step of every tier that the sum of the amounts in one currency is above."""
    totals: dict[str | None, Decimal] = {}
    for judgement in judgements:
        for currency, amount in judgement.amounts:
            totals[currency] = totals.get(currency, Decimal(0)) + amount
    for tier in policy.tiers.levels:
        for currency in sorted(totals, key=str):
            limit = threshold(tier.above, currency)
            if totals[currency] > limit:
                total = _sums(((currency, totals[currency]),))[0]
                text = f"{total} is above {format(limit, 'f')}, so this must agree too: {tier.step.name}."
                yield Reason(f"tier.{tier.step.id}", text, {"amount": [total]}), tier.step.step
                break


def _gathered(judgements: list[_Judgement]) -> tuple[Reason, ...]:
    """The reasons of all changes, each rule once, with the places of the changes it applied to."""
    first: dict[str, Reason] = {}
    places: dict[str, list[int]] = {}
    for place, judgement in enumerate(judgements):
        for reason in judgement.reasons:
            first.setdefault(reason.rule, reason)
            places.setdefault(reason.rule, []).append(place)
    return tuple(Reason(rule, one.text, one.facts, tuple(places[rule])) for rule, one in first.items())


def _sums(sums: Iterable[tuple[str | None, Decimal]]) -> list[str]:
    """Amounts as texts, each with its currency."""
    return sorted(f"{format(amount, 'f')} {currency or '(no currency)'}" for currency, amount in sums)


def _json(value: Any) -> Any:  # noqa: ANN401 - any fact
    if isinstance(value, Level):
        return value.word
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f") if _is_money(value) else str(value)
    return sorted(cast("frozenset[str]", value)) if isinstance(value, frozenset) else value


def _said(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return ", ".join(cast("list[str]", value)) if isinstance(value, list) else str(value)
