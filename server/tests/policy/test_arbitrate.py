"""How a decision is made and explained, one mechanism at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pmis.kit.canonical import canonical
from pmis.policy.approvers import Order
from pmis.policy.arbitrate import Decision, Facts, Reason, arbitrate, arbitrate_all, explain
from pmis.policy.document import Policy, Writer, default_policy
from pmis.policy.levels import Level, Route
from tests.policy.samples import budget_matrix, default_document, facts

POLICY = default_policy()


def rules(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons]


def reason(decision: Decision, rule: str) -> Reason:
    return next(one for one in decision.reasons if one.rule == rule)


def with_rule(kind: str, **rule: Any) -> Policy:
    """The shipped policy with one more impact or uncertainty rule or floor."""
    document = default_document()
    rules = document["floors"] if kind == "floors" else document[kind]["rules"]
    rules.append({"id": "mine", "text": "Mine.", **rule})
    return Policy.parse(document)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "rule", "text"),
        [
            (facts("create", "unicorn"), "refused.noun", "The policy knows no 'unicorn'; it knows project, package,"),
            (facts(writer="ghost"), "refused.writer", "'ghost' is not a writer; writers are person, agent,"),
            (
                facts("merge"),
                "refused.operation",
                "A package has no 'merge'; it has create, patch, delete, restore, tran",
            ),
            (facts("transition", "party"), "refused.operation", "A party has no 'transition'; it has create, patch,"),
            (facts("delete", "policy"), "refused.operation", "A policy has no 'delete'; it has create, patch."),
            (
                facts("transition", status="draft", to_status="active"),
                "refused.transition",
                "From draft to active there is no step. Allowed next: submitted, cancelled.",
            ),
            (facts("transition"), "refused.transition", "From None to None there is no step."),
            (facts("transition", status="draft"), "refused.transition", "From draft to None there is no step."),
            (facts("create", to_status="active"), "refused.transition", "It begins as draft, not as active."),
            (facts("patch", status="lost"), "refused.transition", "lost is not a state here; the states are draft,"),
            (facts("patch", fields=["status"]), "refused.transition", "A status is changed by a step of the lifecycle"),
            (facts(amount_after=Decimal("NaN")), "refused.amount", "An amount is not a number that money can be."),
            (facts(amount_after=Decimal("sNaN")), "refused.amount", "An amount is not"),
            (facts(amount_before=Decimal("-Infinity")), "refused.amount", "An amount is not"),
            (facts(budget=Decimal("1e1000000000")), "refused.amount", "An amount is not"),
            (facts(amount_after=Decimal("1e-31")), "refused.amount", "An amount is not"),
        ],
    )
    def test_what_the_policy_does_not_know_is_refused_with_a_reason(self, change: Facts, rule: str, text: str):
        decision = arbitrate(change, POLICY)
        assert decision.route is Route.REJECT
        assert decision.rule == rule
        assert reason(decision, rule).text.startswith(text)
        assert decision.score == 16
        assert decision.steps == ()
        assert decision.expires_hours is None
        json.dumps(decision.to_json(), allow_nan=False)

    def test_every_cause_of_a_refusal_is_listed(self):
        decision = arbitrate(facts("merge", writer="ghost", amount_after=Decimal("NaN")), POLICY)
        assert rules(decision) == ["refused.writer", "refused.operation", "refused.amount"]

    def test_a_new_record_may_name_its_first_state(self):
        assert arbitrate(facts("create", to_status="draft"), POLICY).route is Route.AUTO

    def test_nothing_proposed_is_refused(self):
        decision = arbitrate_all([], POLICY)
        assert (decision.route, rules(decision)) == (Route.REJECT, ["refused.nothing"])
        assert Decision.from_json(decision.to_json()) == decision


class TestLevels:
    def test_impact_and_uncertainty_meet_in_the_matrix_and_multiply_into_the_score(self):
        decision = arbitrate(facts("patch", "party", "email", fields=["email"], person_behind=True), POLICY)
        assert (decision.impact, decision.uncertainty, decision.score) == (Level.HIGH, Level.HIGH, 9)
        assert decision.rule == "matrix.high.high"

    @pytest.mark.parametrize("stated", list(Level))
    def test_a_stated_level_only_raises(self, stated: Level):
        plain = facts("patch", "party", "email", fields=["email"])
        higher = arbitrate(
            facts("patch", "party", "email", fields=["email"], stated_impact=stated, stated_uncertainty=stated), POLICY
        )
        assert higher.impact == max(stated, Level.HIGH)
        assert higher.uncertainty == max(stated, Level.HIGH)
        assert higher.route.severity >= arbitrate(plain, POLICY).route.severity
        text = "which is higher" if stated > Level.HIGH else "a statement never lowers what the facts say"
        assert text in reason(higher, "stated.impact").text
        assert reason(higher, "stated.uncertainty").facts == {"stated_uncertainty": stated.word}

    def test_the_facts_that_it_tells_are_those_it_judged(self):
        judged = facts("patch", "party", fields=["data", "email"])
        told = arbitrate(judged, POLICY).facts
        assert dict(told) == judged.to_json()
        assert len(told) == len(judged.to_json())
        assert told["fields"] == ["data", "email"]
        assert repr(told) == repr(judged.to_json())

    def test_the_heaviest_field_counts_and_is_named(self):
        decision = arbitrate(facts("patch", "party", fields=["data", "email", "name"]), POLICY)
        said = reason(decision, "base.party.fields")
        assert said.text == "Of the fields it changes, the weightiest (email) has high impact."
        assert said.facts == {"fields": ["data", "email", "name"]}

    def test_fields_of_a_new_record_do_not_weigh(self):
        decision = arbitrate(facts("create", "party", fields=["email"]), POLICY)
        assert "base.party.fields" not in rules(decision)

    def test_every_rule_that_applies_is_listed_with_what_it_looked_at(self):
        change = facts(
            fields=["amount"],
            status="active",
            amount_before=100,
            amount_after=2_000_100,
            currency_before="USD",
            currency_after="USD",
            budget=6_000_000,
            budget_currency="USD",
        )
        decision = arbitrate(change, POLICY)
        assert reason(decision, "package.share.25").facts == {"status": "active", "share_percent": "33.3"}
        assert reason(decision, "package.amount.high").facts == {"status": "active", "moves_by": ["2000000 USD"]}
        assert "package.share.50" not in rules(decision)

    def test_uncertainty_rules(self):
        decision = arbitrate(facts("create", writer="agent", flags=["inexact"]), POLICY)
        assert decision.uncertainty is Level.HIGH
        assert reason(decision, "agent.inexact").facts == {"writer": "agent", "flags": ["inexact"]}
        assert arbitrate(facts("create", writer="person", flags=["inexact"]), POLICY).uncertainty is Level.LOW


class TestAmounts:
    def share(self, **more: Any) -> list[str]:
        given: dict[str, Any] = {
            "amount_before": 0,
            "amount_after": 60,
            "currency_before": "USD",
            "currency_after": "USD",
            "budget": 100,
            "budget_currency": "USD",
        }
        return rules(arbitrate(facts(status="active", fields=["amount"], **{**given, **more}), POLICY))

    def test_the_share_is_exact_at_its_edge(self):
        assert "package.share.50" not in self.share(amount_after=Decimal("50.00"))
        assert "package.share.50" in self.share(amount_after=Decimal("50.01"))

    @pytest.mark.parametrize(
        "more",
        [
            {"budget": None},
            {"budget": 0},
            {"budget": -100},
            {"budget_currency": "EUR"},
            {"budget_currency": None},
            {"currency_before": "EUR", "amount_before": 5},
            {"currency_before": None, "amount_before": 5},
        ],
    )
    def test_without_a_budget_in_the_same_currency_the_share_is_unknown_rather_than_none(self, more: dict[str, Any]):
        found = self.share(**more)
        assert "package.share.unknown" in found
        assert not any(rule.startswith("package.share.") for rule in found if rule != "package.share.unknown")

    def test_an_amount_that_does_not_move_has_no_share(self):
        assert not any("share" in rule for rule in self.share(amount_before=60, budget=None))

    def test_setting_and_removing_an_amount_move_all_of_it(self):
        assert "package.share.50" in self.share(amount_before=None, currency_before=None)
        assert "package.share.50" in self.share(amount_before=60, amount_after=None, currency_after=None)

    def test_amounts_in_two_currencies_are_never_subtracted(self):
        change = facts(
            status="active",
            fields=["amount", "currency"],
            amount_before=1_000_001,
            amount_after=1_000_001,
            currency_before="USD",
            currency_after="EUR",
        )
        decision = arbitrate(change, POLICY)
        assert reason(decision, "package.currency").facts == {"currency": "USD to EUR"}
        assert reason(decision, "package.amount.high").facts["moves_by"] == ["1000001 EUR", "1000001 USD"]

    def test_a_currency_changes_even_without_an_amount(self):
        found = rules(arbitrate(facts(status="draft", currency_before="USD", currency_after="EUR"), POLICY))
        assert "package.currency" in found

    def test_setting_the_first_currency_changes_none(self):
        found = rules(arbitrate(facts(status="draft", amount_after=5, currency_after="EUR"), POLICY))
        assert "package.currency" not in found

    def test_a_rule_can_ask_for_the_resulting_amount(self):
        policy = with_rule(
            "impact", when={"noun": ["package"], "amount_above": {"*": "10", "JPY": "1000"}}, impact="critical"
        )
        same: dict[str, Any] = {"amount_before": 11, "amount_after": 11}
        dollars = arbitrate(facts(**same, currency_before="USD", currency_after="USD"), policy)
        assert reason(dollars, "mine").facts == {"amount": ["11 USD"]}
        assert "mine" not in rules(arbitrate(facts(**same, currency_before="JPY", currency_after="JPY"), policy))
        assert reason(arbitrate(facts(**same), policy), "mine").facts == {"amount": ["11 (no currency)"]}

    def test_precision_is_not_lost_on_amounts_of_any_length(self):
        vast = Decimal("999999999999999999.9999")
        change = facts(
            status="draft",
            amount_before=vast,
            amount_after=vast + Decimal("1000000.0001"),
            currency_before="USD",
            currency_after="USD",
        )
        assert reason(arbitrate(change, POLICY), "package.draft.amount.medium").facts["moves_by"] == [
            "1000000.0001 USD"
        ]


class TestFloors:
    def test_a_floor_raises_and_then_it_is_the_rule(self):
        decision = arbitrate(facts("patch", status="submitted", fields=["title"]), POLICY)
        assert (decision.route, decision.rule) == (Route.APPROVAL_REQUIRED, "package.past_draft")

    def test_a_floor_below_the_route_changes_nothing_but_is_told(self):
        decision = arbitrate(facts("transition", status="active", to_status="cancelled", writer="email"), POLICY)
        assert (decision.route, decision.rule) == (Route.EXECUTIVE_APPROVAL, "matrix.high.high")
        assert reason(decision, "package.cancel.active").facts == {"status": "active", "to_status": "cancelled"}

    def test_a_floor_can_ask_for_levels(self):
        when = {"noun": ["comment"], "impact_at_least": "medium", "uncertainty_at_least": "medium"}
        policy = with_rule("floors", when=when, route="ESCALATE")
        for impact in Level:
            for uncertainty in Level:
                change = facts("create", "comment", stated_impact=impact, stated_uncertainty=uncertainty)
                applies = impact >= Level.MEDIUM and uncertainty >= Level.MEDIUM
                assert ("mine" in rules(arbitrate(change, policy))) is applies

    def test_a_floor_can_ask_for_a_field_and_its_parts(self):
        policy = with_rule("floors", when={"noun": ["package"], "fields": ["data"]}, route="APPROVAL_REQUIRED")
        decision = arbitrate(facts(status="draft", fields=["data.price", "title"]), policy)
        assert reason(decision, "mine").facts == {"fields": ["data.price"]}
        assert "mine" not in rules(arbitrate(facts(status="draft", fields=["database"]), policy))

    def test_a_floor_can_ask_for_the_slip(self):
        policy = with_rule("floors", when={"slip_days_above": 3}, route="APPROVAL_REQUIRED")
        assert reason(arbitrate(facts("patch", "task", slip_days=4), policy), "mine").facts == {"slip_days": 4}
        assert "mine" not in rules(arbitrate(facts("patch", "task", slip_days=3), policy))

    def test_the_strictest_of_several_floors_rules_wherever_it_stands(self):
        document = default_document()
        first = {"id": "first", "text": "First.", "when": {"noun": ["comment"]}, "route": "ESCALATE"}
        last = {"id": "last", "text": "Last.", "when": {"noun": ["comment"]}, "route": "CONFIRM"}
        for floors in ([first, last], [last, first]):
            decision = arbitrate(facts("create", "comment"), Policy.parse({**document, "floors": floors}))
            assert (decision.route, decision.rule) == (Route.ESCALATE, "first")

    @pytest.mark.parametrize(
        ("writer", "person_behind", "route"),
        [
            ("person", None, Route.CONFIRM),
            ("agent", None, Route.CONFIRM),
            ("import", None, Route.CONFIRM),
            ("service", None, Route.APPROVAL_REQUIRED),
            ("system", None, Route.APPROVAL_REQUIRED),
            ("service", True, Route.CONFIRM),
            ("agent", False, Route.APPROVAL_REQUIRED),
        ],
    )
    def test_what_nobody_can_confirm_needs_an_approval(self, writer: str, person_behind: bool | None, route: Route):
        decision = arbitrate(facts("delete", status="draft", writer=writer, person_behind=person_behind), POLICY)
        assert decision.route is route
        assert ("confirm.nobody" in rules(decision)) is (route is Route.APPROVAL_REQUIRED)

    def test_solo_mode_is_told_but_changes_no_route(self):
        document = default_document()
        document["solo"]["enabled"] = True
        solo = Policy.parse(document)
        change = facts("patch", status="active", fields=["title"], solo=True)
        assert arbitrate(change, solo).route is arbitrate(change, POLICY).route
        assert "solo.exception" in rules(arbitrate(change, solo))
        assert "solo.exception" not in rules(arbitrate(change, POLICY))
        assert "solo.exception" not in rules(arbitrate(facts("create", "comment", solo=True), solo))


class TestTiers:
    def big(self, operation: str = "create", **more: Any) -> Facts:
        return facts(operation, amount_after=2_000_000, currency_after="USD", fields=["amount"], **more)

    def tiered(self, order: str = "parallel") -> Policy:
        document = default_document()
        document["tiers"]["applies_to"] = [{"noun": ["package"]}]
        document["tiers"]["order"] = order
        return Policy.parse(document)

    def test_a_tier_turns_what_would_apply_into_an_approval(self):
        decision = arbitrate(self.big(), self.tiered())
        assert (decision.route, decision.rule) == (Route.APPROVAL_REQUIRED, "tier.executive")
        assert [step.id for step in decision.steps] == ["admin", "executive"]
        assert decision.expires_hours == 336
        assert decision.step_up  # an executive is asked, and that takes a fresh proof

    def test_a_tier_asks_for_no_fresh_proof_where_executives_are_not_asked_for_one(self):
        document = self.tiered().model_dump(mode="json", by_alias=True)
        document["approvals"]["EXECUTIVE_APPROVAL"]["step_up"] = False
        assert not arbitrate(self.big(), Policy.parse(document)).step_up

    def test_a_tier_does_not_soften_a_refusal(self):
        decision = arbitrate(self.big("patch", status="completed"), self.tiered())
        assert (decision.route, decision.steps) == (Route.REJECT, ())
        assert "tier.executive" not in rules(decision)

    @pytest.mark.parametrize("order", list(Order))
    def test_tiers_bring_their_order(self, order: Order):
        assert arbitrate(self.big(), self.tiered(order)).order is order
        small = facts("patch", status="active", fields=["title"])
        assert arbitrate(small, self.tiered(order)).order is Order.PARALLEL

    def test_a_serial_route_stays_serial(self):
        assert arbitrate(facts("patch", status="active", fields=["title"]), budget_matrix()).order is Order.SERIAL


class TestBundles:
    small = facts("create", "comment")
    large = facts("patch", "party", fields=["bank_details"])

    def test_the_strictest_change_rules_the_bundle(self):
        for changes in ([self.small, self.large], [self.large, self.small]):
            decision = arbitrate_all(changes, POLICY)
            assert (decision.route, decision.rule) == (Route.EXECUTIVE_APPROVAL, "matrix.critical.low")
            assert (decision.impact, decision.score) == (Level.CRITICAL, 4)
            assert decision.facts == {"changes": [one.to_json() for one in changes]}

    def test_each_rule_is_told_once_with_the_changes_it_is_about(self):
        decision = arbitrate_all([self.small, self.large, self.small], POLICY)
        assert reason(decision, "writer.person").changes == (0, 1, 2)
        assert reason(decision, "base.comment.create").changes == (0, 2)
        assert reason(decision, "party.bank").changes == (1,)
        assert len(set(rules(decision))) == len(rules(decision))

    def test_one_change_is_judged_as_if_alone(self):
        assert arbitrate_all([self.large], POLICY) == arbitrate(self.large, POLICY)

    def test_one_refused_change_refuses_all(self):
        decision = arbitrate_all([self.small, facts("merge")], POLICY)
        assert (decision.route, decision.rule) == (Route.REJECT, "refused.operation")


class TestJson:
    change = facts(
        "transition",
        writer=Writer.AGENT,
        status="approved",
        to_status="awarded",
        fields=["vendor_id", "title"],
        amount_before="2000000.50",
        amount_after="2000000.50",
        currency_before="USD",
        currency_after="USD",
        slip_days=3,
        flags=["inexact"],
        stated_impact=Level.HIGH,
        stated_uncertainty=Level.LOW,
        person_behind=True,
    )

    @pytest.mark.parametrize("changes", [[change], [change, facts("merge")]])
    def test_a_decision_survives_json(self, changes: list[Facts]):
        decision = arbitrate_all(changes, budget_matrix())
        text = canonical(decision.to_json())
        back = Decision.from_json(json.loads(text))
        assert back == decision
        assert canonical(back.to_json()) == text

    def test_facts_survive_json_and_are_judged_alike(self):
        text = canonical(self.change.to_json())
        back = Facts.from_json(json.loads(text))
        assert back == self.change
        assert arbitrate(back, POLICY) == arbitrate(self.change, POLICY)

    def test_facts_at_their_default_are_not_written(self):
        assert facts("create", "comment").to_json() == {
            "operation": "create",
            "target_type": "comment",
            "writer": "person",
        }


def test_the_explanation_reads_as_sentences():
    change = facts(
        "transition",
        status="approved",
        to_status="awarded",
        amount_before=1_600_000,
        amount_after=1_600_000,
        currency_before="USD",
        currency_after="USD",
    )
    assert explain(arbitrate(change, budget_matrix())) == [
        "APPROVAL_REQUIRED, chosen by matrix.high.low (policy version 7)",
        "impact high x uncertainty low = score 3 of 16",
        "- Whatever comes from a person starts at low uncertainty. [writer.person: writer person]",
        "- The step award of a package starts at high impact. [base.package.award]",
        "- High impact at low uncertainty goes to APPROVAL_REQUIRED. [matrix.high.low]",
        "- The step award of a package is never below APPROVAL_REQUIRED. [base.package.award.floor]",
        "- Every change of a package that is past draft takes an approval. [package.past_draft: status approved]",
        (
            "- 1600000 USD is above 1500000, so this must agree too: The program director. "
            "[tier.program_director: amount 1600000 USD]"
        ),
        "1. An administrator: 1 x admin",
        "2. The program director: 1 x admin or executive (named people only)",
        "All of these must agree, in this order, within 336 hours.",
    ]


def test_an_explanation_without_approvers_ends_with_the_reasons():
    lines = explain(arbitrate(facts("create", "comment"), POLICY))
    assert lines[0] == "AUTO, chosen by matrix.low.low (policy version 1)"
    assert lines[-1].startswith("- Low impact at low uncertainty goes to AUTO.")
    several = explain(arbitrate(facts("patch", "party", fields=["bank_details"]), POLICY))
    assert several[-2] == "All of these must agree, in any order, within 336 hours."
    assert several[-1] == "After 96 hours of silence executives may fill every step whose turn it is."


# --- the same on every machine ------------------------------------------------------------------------------------

_SERVER = Path(__file__).parents[2]
_PROGRAM = """
import sys
{planted}
from pmis.kit.canonical import canonical
from pmis.policy.arbitrate import arbitrate
from pmis.policy.document import default_policy
from tests.policy.samples import FIELDS, facts
for n in range(200):
    chosen = {{FIELDS[(n * k) % len(FIELDS)] for k in (1, 3, 5, 7)}}
    change = facts("patch", status="active", fields=chosen, flags=["inexact", "untrusted_text"], writer="agent")
    print(canonical(arbitrate(change, default_policy()).to_json()))
"""
_UNSORTED = "import pmis.policy.arbitrate as module; module.sorted = lambda values, **_: list(values)"


def _output(hash_seed: int, planted: str = "") -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    program = _PROGRAM.format(planted=planted)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=_SERVER, env=environment, check=True, capture_output=True, timeout=120
    ).stdout


def test_decisions_are_the_same_bytes_whatever_the_order_of_sets():
    first, *others = [_output(seed) for seed in (1, 2, 3)]
    assert len(first) > 100_000
    assert all(one == first for one in others)


def test_twin_an_unsorted_set_is_noticed():
    assert len({_output(seed, _UNSORTED) for seed in (1, 2, 3)}) > 1
