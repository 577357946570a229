"""A real approval matrix: budget approvals above 1.5, 3.5 and 7.5 million dollars each add a level."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from pmis.policy.access import Role
from pmis.policy.approvers import (
    Candidate,
    DecisionRefusedError,
    Order,
    Refusal,
    Round,
    Vote,
    is_complete,
    may_decide,
    open_steps,
)
from pmis.policy.arbitrate import Decision, arbitrate, arbitrate_all
from pmis.policy.levels import Route
from tests.policy.samples import budget_matrix, facts, person

POLICY = budget_matrix()
DIRECTOR = UUID("01900000-0000-7000-8000-00000000d1e1")
BOARD = [UUID(f"01900000-0000-7000-8000-00000000b00{n}") for n in range(1, 5)]


def award(amount: str, currency: str = "USD") -> Decision:
    change = facts(
        "transition",
        status="approved",
        to_status="awarded",
        amount_before=amount,
        amount_after=amount,
        currency_before=currency,
        currency_after=currency,
    )
    return arbitrate(change, POLICY)


@pytest.mark.parametrize(
    ("amount", "levels"),
    [
        ("0", []),
        ("1500000.00", []),
        ("1500000.01", ["program_director"]),
        ("3500000.00", ["program_director"]),
        ("3500000.01", ["program_director", "finance_committee"]),
        ("7500000.00", ["program_director", "finance_committee"]),
        ("7500000.01", ["program_director", "finance_committee", "board"]),
        ("999999999999.99", ["program_director", "finance_committee", "board"]),
    ],
)
def test_each_threshold_adds_its_level_just_above_it(amount: str, levels: list[str]):
    decision = award(amount)
    assert [step.id for step in decision.steps] == ["admin", *levels]
    assert decision.route is Route.APPROVAL_REQUIRED
    assert decision.order is Order.SERIAL
    assert [reason.rule for reason in decision.reasons if reason.rule.startswith("tier.")] == [
        f"tier.{one}" for one in levels
    ]


def test_the_reason_says_the_amount_the_threshold_and_who():
    reason = next(reason for reason in award("1600000").reasons if reason.rule == "tier.program_director")
    assert reason.text == "1600000 USD is above 1500000, so this must agree too: The program director."
    assert reason.facts == {"amount": ["1600000 USD"]}


def test_other_currencies_have_their_own_thresholds_and_are_never_converted():
    assert [step.id for step in award("1200000", "EUR").steps] == ["admin", "program_director"]
    assert [step.id for step in award("1200000", "USD").steps] == ["admin"]


def test_a_budget_is_tiered_too_and_a_cut_as_much_as_a_rise():
    for before, after in (("0", "8000000"), ("8000000", "0")):
        change = facts(
            "patch",
            "project",
            fields=["budget"],
            amount_before=before,
            amount_after=after,
            currency_before="USD",
            currency_after="USD",
        )
        assert [step.id for step in arbitrate(change, POLICY).steps][-3:] == [
            "program_director",
            "finance_committee",
            "board",
        ]


class TestBundles:
    def part(self, amount: str, currency: str = "USD"):
        return facts(
            "transition",
            status="approved",
            to_status="awarded",
            amount_before=amount,
            amount_after=amount,
            currency_before=currency,
            currency_after=currency,
        )

    def test_a_large_sum_cannot_be_split(self):
        decision = arbitrate_all([self.part("900000")] * 4, POLICY)
        assert [step.id for step in decision.steps] == ["admin", "program_director", "finance_committee"]
        tier = next(reason for reason in decision.reasons if reason.rule == "tier.finance_committee")
        assert tier.facts == {"amount": ["3600000 USD"]}

    def test_but_currencies_are_not_added_up(self):
        decision = arbitrate_all([self.part("900000", "USD"), self.part("900000", "EUR")], POLICY)
        assert [step.id for step in decision.steps] == ["admin"]

    def test_a_level_is_asked_once_even_when_two_currencies_are_above_it(self):
        decision = arbitrate_all([self.part("1600000", "USD"), self.part("1600000", "EUR")], POLICY)
        assert [step.id for step in decision.steps] == ["admin", "program_director"]


def test_ten_million_takes_seven_people_in_order_and_no_six_will_do():
    decision = award("10000000")
    proposer = person(1)
    executives = [person(30), person(31)]
    order: list[tuple[UUID, Role]] = [
        (person(20), Role.ADMIN),
        (DIRECTOR, Role.ADMIN),
        (executives[0], Role.EXECUTIVE),
        (executives[1], Role.EXECUTIVE),
        *((one, Role.EXECUTIVE) for one in BOARD[:3]),
    ]
    votes: tuple[Vote, ...] = ()

    def now() -> Round:
        return Round(
            steps=decision.steps,
            order=decision.order,
            proposers=frozenset({proposer}),
            votes=votes,
            at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    for place, (who, role) in enumerate(order):
        assert not is_complete(now()), f"complete after {place} people"
        with pytest.raises(DecisionRefusedError) as early:
            # The last of the board may not go first.
            may_decide(now(), Candidate(BOARD[3], frozenset({Role.EXECUTIVE}))) if place < 2 else may_decide(
                now(), Candidate(proposer, frozenset({Role.ADMIN, Role.EXECUTIVE}))
            )
        assert early.value.reason in (Refusal.NOT_YOUR_TURN, Refusal.OWN_CHANGE)
        seat = may_decide(now(), Candidate(who, frozenset({role})))
        assert seat.step == open_steps(now())[0].step.id
        votes = (*votes, Vote(who, seat.seat_person_id, seat.step))
    assert is_complete(now())
    assert len({vote.person_id for vote in votes}) == 7


def test_only_the_named_director_sits_in_the_directors_step():
    decision = award("1600000")
    round_ = Round(
        steps=decision.steps,
        order=decision.order,
        proposers=frozenset({person(1)}),
        votes=(Vote(person(20), person(20), "admin"),),
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with pytest.raises(DecisionRefusedError) as caught:
        may_decide(round_, Candidate(person(21), frozenset({Role.ADMIN, Role.EXECUTIVE})))
    assert caught.value.reason is Refusal.NOT_AN_APPROVER
    assert may_decide(round_, Candidate(DIRECTOR, frozenset({Role.ADMIN}))).step == "program_director"
