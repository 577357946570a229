"""What holds for every change, each with a planted bug that the same check must catch."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from pmis.kit.canonical import canonical
from pmis.policy import arbitrate as module
from pmis.policy.arbitrate import Decision, Facts, Reason, arbitrate_all
from pmis.policy.document import FLAGS, Matrix, Policy, Writer, default_policy
from pmis.policy.levels import Level, Route
from tests.policy.samples import FIELDS, budget_matrix, dice, run, some_facts, thrown, thrown_known

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class Named:
    """A policy that shows its name, not its whole document, when an example is printed."""

    def __init__(self, name: str, policy: Policy) -> None:
        self.name, self.policy = name, policy

    def __repr__(self) -> str:
        return self.name


POLICIES = (Named("default", default_policy()), Named("budget matrix", budget_matrix()))
policies = st.sampled_from(POLICIES)
changes = dice.map(lambda one: thrown(one) if one.random() < 0.2 else thrown_known(one))
awards = dice.map(
    lambda one: thrown_known(one, operation="transition", target_type="package", status="approved", to_status="awarded")
)


def seats(decision: Decision) -> int:
    return sum(step.quorum for step in decision.steps)


def is_laxer(one: Decision, other: Decision) -> bool:
    """Whether the first asks for less than the second in anything."""
    return (
        one.route.severity < other.route.severity
        or one.impact < other.impact
        or one.uncertainty < other.uncertainty
        or one.score < other.score
        or (one.route is not Route.REJECT and seats(one) < seats(other))
    )


# --- properties ---------------------------------------------------------------------------------------------------


def is_total(change: Facts, odd: Any, under: Named) -> None:
    """Whatever the words and numbers, there is a decision that explains itself and asks for somebody when it must."""
    policy = under.policy
    for one in (change, replace(change, amount_after=odd), replace(change, budget=odd)):
        decision = arbitrate_all([one], policy)
        json.dumps(decision.to_json(), allow_nan=False)
        assert decision.rule in {reason.rule for reason in decision.reasons}
        assert all(reason.text for reason in decision.reasons)
        assert decision.route.needs_approvers is bool(decision.steps)
        assert decision.score == (decision.impact + 1) * (decision.uncertainty + 1)
        assert decision.policy_version == policy.version


def is_deterministic(change: Facts, under: Named) -> None:
    """The same change, written down, read back and with its sets built in another order, gets the same decision."""
    policy = under.policy
    decision = canonical(arbitrate_all([change], policy).to_json())
    assert canonical(arbitrate_all([change], policy).to_json()) == decision
    back = Facts.from_json(json.loads(canonical(change.to_json())))
    shuffled = replace(
        back,
        fields=frozenset(sorted(back.fields, reverse=True)),
        first_set=frozenset(sorted(back.first_set, reverse=True)),
        flags=frozenset(sorted(back.flags, reverse=True)),
    )
    again = Policy.parse(json.dumps(policy.to_json()))
    assert canonical(arbitrate_all([shuffled], again).to_json()) == decision
    assert Decision.from_json(json.loads(decision)).to_json() == json.loads(decision)


def a_caller_cannot_lower_a_level(change: Facts, impact: Level, uncertainty: Level, under: Named) -> None:
    """What a caller (or a model) states never makes the answer laxer than saying nothing, and more never than less."""
    policy = under.policy
    silent = arbitrate_all([replace(change, stated_impact=None, stated_uncertainty=None)], policy)
    stated = arbitrate_all([replace(change, stated_impact=impact, stated_uncertainty=uncertainty)], policy)
    assert not is_laxer(stated, silent)
    for higher in Level:
        if higher >= impact:
            more = replace(change, stated_impact=higher, stated_uncertainty=uncertainty)
            assert not is_laxer(arbitrate_all([more], policy), stated)
        if higher >= uncertainty:
            more = replace(change, stated_impact=impact, stated_uncertainty=higher)
            assert not is_laxer(arbitrate_all([more], policy), stated)


def more_of_a_fact_is_never_laxer(
    change: Facts, more_fields: frozenset[str], more_flags: frozenset[str], under: Named
) -> None:
    """More fields, flags or slip, an amount that moves further, or fewer of them empty before: never laxer."""
    policy = under.policy
    base = arbitrate_all([change], policy)
    stricter = [
        replace(change, fields=change.fields | more_fields),
        replace(change, flags=change.flags | more_flags),
        replace(change, first_set=change.first_set - more_fields),
        replace(change, person_behind=False),
    ]
    if change.amount_after is not None and change.budget is not None:
        stricter.append(replace(change, budget=change.budget / 2))
    for one in stricter:
        assert not is_laxer(arbitrate_all([one], policy), base), one
    start = change.amount_before or Decimal(0)
    ladders = (
        [replace(change, slip_days=days) for days in (-5, 0, 8, 15, 31, 61, 181, 400)],
        [replace(change, amount_after=start + Decimal(step) * 100_000) for step in (0, 2, 6, 15, 30, 80, 110, 900)],
    )
    for ladder in ladders:
        rungs = [arbitrate_all([one], policy) for one in ladder]
        for lower, higher in pairwise(rungs):
            assert not is_laxer(higher, lower), ladder


def a_less_certain_writer_is_never_treated_laxer(change: Facts, under: Named) -> None:
    """Person, agent, e-mail: each at least as strict as the one before, all else equal."""
    policy = under.policy
    routes = [arbitrate_all([replace(change, writer=w)], policy) for w in (Writer.PERSON, Writer.AGENT, Writer.EMAIL)]
    for certain, uncertain in pairwise(routes):
        assert not is_laxer(uncertain, certain)


def a_bundle_is_never_laxer_than_its_parts(bundle: list[Facts], under: Named) -> None:
    """Neither putting changes together nor splitting an amount among them gets around anything."""
    policy = under.policy
    together = arbitrate_all(bundle, policy)
    for one in bundle:
        assert not is_laxer(together, arbitrate_all([one], policy))
    if together.route is not Route.REJECT:
        asked = {step.id for step in together.steps}
        totals: dict[str, Decimal] = {}
        for one in bundle:
            tiered = (one.target_type, one.operation, one.to_status) in {
                ("package", "transition", "approved"),
                ("package", "transition", "awarded"),
            }
            sums: dict[str, Decimal] = {}
            for currency, amount in ((one.currency_before, one.amount_before), (one.currency_after, one.amount_after)):
                if tiered and amount is not None:
                    sums[currency or "*"] = max(sums.get(currency or "*", Decimal(0)), amount)
            for currency, amount in sums.items():
                totals[currency] = totals.get(currency, Decimal(0)) + amount
        for tier in policy.tiers.levels:
            limits = tier.above
            if any(total > limits.get(currency, limits["*"]) for currency, total in totals.items()):
                assert tier.step.id in asked


def a_floor_holds(change: Facts, under: Named) -> None:
    """The sentences of the design that begin with "never below"."""
    policy = under.policy
    route = arbitrate_all([change], policy).route
    if change.target_type == "package" and change.operation != "create" and change.status != "draft":
        assert route.severity >= Route.APPROVAL_REQUIRED.severity
    if change.target_type == "package" and change.to_status == "awarded":
        assert route.severity >= Route.APPROVAL_REQUIRED.severity
    if change.target_type == "package" and change.operation == "patch" and "vendor_id" in change.fields:
        assert route.severity >= Route.EXECUTIVE_APPROVAL.severity
    if change.target_type == "party" and "bank_details" in change.fields:
        assert route.severity >= Route.EXECUTIVE_APPROVAL.severity
    if change.target_type == "policy":
        assert route.severity >= Route.EXECUTIVE_APPROVAL.severity
    if change.writer == "email" or "untrusted_text" in change.flags:
        assert route is not Route.AUTO


# --- planted bugs -------------------------------------------------------------------------------------------------


@contextmanager
def planted(name: str, broken: Any) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, broken)
        yield


def _raised_obeys(level: Level, stated: Level | None, _what: str, reasons: list[Reason]) -> tuple[Level, list[Reason]]:
    return (level if stated is None else stated), reasons


def _sum_of_nothing(judgements: list[Any], policy: Policy) -> Iterator[Any]:
    for one in judgements:
        yield from _real_tier_steps([one], policy)


_real_tier_steps = module._tier_steps
_real_holds = module._holds
_real_floors = module._floors
_real_impact = module._impact


def _equal_slip(when: Any, case: Any) -> bool:
    if when.slip_days_above is not None:
        return case.facts.slip_days == when.slip_days_above + 1
    return _real_holds(when, case)


def _only_field(when: Any, case: Any) -> bool:
    if when.fields is not None:
        return case.fields == frozenset(when.fields)
    return _real_holds(when, case)


def _only_a_single_field(case: Any, policy: Policy) -> Any:
    return _real_impact(replace(case, fields=frozenset()) if len(case.fields) > 1 else case, policy)


def _band(sums: Any, limits: Any) -> bool:
    return any(
        module.threshold(limits, currency) < amount < 3 * module.threshold(limits, currency)
        for currency, amount in sums
    )


def _no_floors(*_: Any) -> Iterator[Any]:
    yield from ()


def _trusting_floors(case: Any, policy: Policy, impact: Level, uncertainty: Level) -> Iterator[Any]:
    if case.facts.writer != Writer.EMAIL:
        yield from _real_floors(case, policy, impact, uncertainty)


class _Random:
    """A judge with a mood."""

    def __init__(self) -> None:
        self.mood = 0

    def __call__(self, *arguments: Any) -> bool:
        self.mood += 1
        return self.mood % 7 == 0 or _real_holds(*arguments)


def _lax_matrix() -> Named:
    """A policy whose matrix came past the check: low impact is stricter than medium."""
    good = default_policy()
    matrix = Matrix.model_construct(
        low=good.matrix.high, medium=good.matrix.low, high=good.matrix.medium, critical=good.matrix.critical
    )
    parts: dict[str, Any] = {name: getattr(good, name) for name in Policy.model_fields}
    return Named("lax", Policy.model_construct(None, **{**parts, "matrix": matrix}))


STRATEGIES: dict[Callable[..., None], dict[str, st.SearchStrategy[Any]]] = {
    is_total: {
        "change": changes,
        "odd": st.one_of(st.decimals(), st.sampled_from([Decimal("1e400"), Decimal("1e-400"), Decimal("sNaN")])),
    },
    is_deterministic: {"change": changes},
    a_caller_cannot_lower_a_level: {
        "change": changes,
        "impact": st.sampled_from(Level),
        "uncertainty": st.sampled_from(Level),
    },
    more_of_a_fact_is_never_laxer: {
        "change": changes,
        "more_fields": st.frozensets(st.sampled_from(FIELDS), max_size=3),
        "more_flags": st.frozensets(st.sampled_from(sorted(FLAGS))),
    },
    a_less_certain_writer_is_never_treated_laxer: {"change": changes},
    a_bundle_is_never_laxer_than_its_parts: {
        "bundle": st.one_of(st.lists(changes, min_size=1, max_size=5), st.lists(awards, min_size=2, max_size=4))
    },
    a_floor_holds: {"change": changes},
}

BUGS: list[tuple[Callable[..., None], str, str, Any]] = [
    (is_total, "amounts are not checked", "_is_money", lambda _amount: True),
    (is_total, "nothing is refused", "_refusals", lambda *_: iter(())),
    (is_deterministic, "the answer depends on what was asked before", "_holds", _Random()),
    (a_caller_cannot_lower_a_level, "the caller's word is taken", "_raised", _raised_obeys),
    (more_of_a_fact_is_never_laxer, "a slip counts only when exact", "_holds", _equal_slip),
    (more_of_a_fact_is_never_laxer, "several fields weigh nothing", "_impact", _only_a_single_field),
    (more_of_a_fact_is_never_laxer, "an amount counts only in a band", "_any_above", _band),
    (
        more_of_a_fact_is_never_laxer,
        "a human is behind it when nobody is",
        "_has_human",
        lambda f: f.person_behind is False,
    ),
    (a_less_certain_writer_is_never_treated_laxer, "mails skip the floors", "_floors", _trusting_floors),
    (a_bundle_is_never_laxer_than_its_parts, "amounts are not added up", "_tier_steps", _sum_of_nothing),
    (a_floor_holds, "a floor sees a field only when alone", "_holds", _only_field),
    (a_floor_holds, "floors are forgotten", "_floors", _no_floors),
]


@pytest.mark.parametrize("prop", STRATEGIES, ids=lambda prop: prop.__name__)
def test_it_holds_for_every_change(prop: Callable[..., None]):
    examples = {is_deterministic: 100, more_of_a_fact_is_never_laxer: 300}.get(prop, 600)
    run(prop, {**STRATEGIES[prop], "under": policies}, examples=examples)


@pytest.mark.parametrize(("prop", "name", "broken"), [(p, n, b) for p, _, n, b in BUGS], ids=[b for _, b, _, _ in BUGS])
def test_twin_the_planted_bug_is_caught(prop: Callable[..., None], name: str, broken: Any):
    with planted(name, broken), pytest.raises((AssertionError, ArithmeticError, AttributeError, KeyError, ValueError)):
        run(prop, {**STRATEGIES[prop], "under": policies}, examples=3000, derandomize=True)


def test_twin_a_matrix_that_is_not_monotone_is_caught():
    with pytest.raises(AssertionError):
        run(
            a_caller_cannot_lower_a_level,
            {**STRATEGIES[a_caller_cannot_lower_a_level], "under": st.just(_lax_matrix())},
            examples=3000,
            derandomize=True,
        )


def test_the_properties_see_every_route():
    seen: set[Route] = set()

    def look(change: Facts, under: Named) -> None:
        seen.add(arbitrate_all([change], under.policy).route)

    run(look, {"change": changes, "under": policies}, examples=1500)
    assert seen == set(Route)


def test_facts_have_no_field_that_the_strategies_forget():
    def look(change: Facts) -> None:
        moved.update(one.name for one in dataclass_fields(Facts) if getattr(change, one.name) != one.default)

    moved: set[str] = set()
    run(look, {"change": some_facts}, examples=500)
    assert moved == {one.name for one in dataclass_fields(Facts)}
