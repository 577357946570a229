"""Who may decide and who may not, one guise of the proposer at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pmis.policy.access import Role
from pmis.policy.approvers import (
    Candidate,
    DecisionRefusedError,
    Delegation,
    DelegationRefusedError,
    Order,
    Refusal,
    Round,
    Seat,
    Step,
    Verdict,
    Vote,
    is_closed,
    is_complete,
    may_confirm,
    may_decide,
    open_steps,
    require_delegation,
)
from pmis.policy.document import default_policy
from tests.policy.samples import person

if TYPE_CHECKING:
    from uuid import UUID

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HERE, THERE = person(901), person(902)

ADMIN = frozenset({Role.ADMIN})
EXECUTIVE = frozenset({Role.EXECUTIVE})
BOTH = ADMIN | EXECUTIVE
PROPOSER, ADA, BOB, CAROL, DAVE = (person(n) for n in range(1, 6))

ONE_ADMIN = (Step("admin", "An administrator", (Role.ADMIN,)),)
TWO = (
    Step("decider", "An administrator or executive", (Role.ADMIN, Role.EXECUTIVE)),
    Step("executive", "An executive", (Role.EXECUTIVE,)),
)


def round_(steps: tuple[Step, ...] = ONE_ADMIN, **more: Any) -> Round:
    return replace(Round(steps=steps, at=NOW, proposers=frozenset({PROPOSER}), project_id=HERE), **more)


def lent(giver: UUID, taker: UUID, roles: frozenset[Role] = ADMIN, **more: Any) -> Delegation:
    return replace(Delegation(giver, taker, NOW - DAY, NOW + DAY, HERE, roles), **more)


def yes(who: UUID, step: str = "admin", seat: UUID | None = None, **more: Any) -> Vote:
    return Vote(who, seat or who, step, **more)


def refused(one: Round, candidate: Candidate) -> Refusal:
    with pytest.raises(DecisionRefusedError) as caught:
        may_decide(one, candidate)
    assert caught.value.status == 403
    assert caught.value.extra == {"reason": caught.value.reason.value}
    assert len(caught.value.detail) > 30
    return caught.value.reason


class TestOneApprover:
    def test_an_admin_who_did_not_propose_may(self):
        assert may_decide(round_(), Candidate(ADA, ADMIN)) == Seat("admin", ADA)

    def test_and_then_it_is_complete(self):
        assert not is_complete(round_())
        assert is_complete(round_(votes=(yes(ADA),)))
        assert refused(round_(votes=(yes(ADA),)), Candidate(BOB, ADMIN)) is Refusal.ALREADY_COMPLETE

    @pytest.mark.parametrize("roles", [frozenset(), frozenset({Role.ANALYST, Role.AUDITOR}), EXECUTIVE])
    def test_without_the_role_nobody_may(self, roles: frozenset[Role]):
        assert refused(round_(), Candidate(ADA, roles)) is Refusal.NOT_AN_APPROVER

    @pytest.mark.parametrize("kind", ["agent", "service", "system"])
    def test_only_people_may(self, kind: Any):
        assert refused(round_(), Candidate(ADA, ADMIN, kind)) is Refusal.NOT_A_PERSON

    @pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.REQUEST_CHANGES])
    def test_a_no_ends_the_round(self, verdict: Verdict):
        ended = round_(votes=(yes(ADA, verdict=verdict),))
        assert is_closed(ended)
        assert not is_complete(ended)
        assert refused(ended, Candidate(BOB, ADMIN)) is Refusal.CLOSED

    def test_nothing_asked_is_never_complete(self):
        assert not is_complete(round_(()))


class TestTheProposer:
    def test_may_not_decide(self):
        assert refused(round_(), Candidate(PROPOSER, BOTH)) is Refusal.OWN_CHANGE

    def test_nor_for_what_their_agent_proposed(self):
        behind_the_agent = round_(proposers=frozenset({ADA}))
        assert refused(behind_the_agent, Candidate(ADA, ADMIN)) is Refusal.OWN_CHANGE

    def test_nor_in_a_seat_that_somebody_lends_them(self):
        assert (
            refused(round_(delegations=(lent(ADA, PROPOSER),)), Candidate(PROPOSER, frozenset())) is Refusal.OWN_CHANGE
        )

    def test_nor_through_whom_they_lent_their_seat_to(self):
        one = round_(delegations=(lent(PROPOSER, ADA),))
        assert refused(one, Candidate(ADA, frozenset())) is Refusal.DELEGATE_OF_PROPOSER

    def test_nor_through_that_persons_own_seat(self):
        one = round_(delegations=(lent(PROPOSER, ADA, frozenset()),))
        assert refused(one, Candidate(ADA, ADMIN)) is Refusal.DELEGATE_OF_PROPOSER

    def test_nor_through_a_seat_of_their_delegate_that_a_third_person_uses(self):
        one = round_(delegations=(lent(PROPOSER, ADA), lent(ADA, BOB)))
        assert refused(one, Candidate(BOB, frozenset())) is Refusal.DELEGATE_OF_PROPOSER
        assert may_decide(one, Candidate(BOB, ADMIN)) == Seat("admin", BOB)

    def test_whoever_was_their_delegate_once_may(self):
        past = lent(PROPOSER, ADA, starts=NOW - 2 * DAY, ends=NOW)
        later = lent(PROPOSER, ADA, starts=NOW + DAY, ends=NOW + 2 * DAY)
        elsewhere = lent(PROPOSER, ADA, project_id=THERE)
        assert may_decide(round_(delegations=(past, later, elsewhere)), Candidate(ADA, ADMIN)) == Seat("admin", ADA)

    def test_whoever_lends_to_them_may(self):
        assert may_decide(round_(delegations=(lent(ADA, PROPOSER),)), Candidate(ADA, ADMIN)) == Seat("admin", ADA)

    def test_a_vote_of_theirs_that_got_into_the_record_does_not_count(self):
        for vote in (yes(PROPOSER), yes(ADA, seat=PROPOSER), yes(PROPOSER, seat=ADA)):
            assert not is_complete(round_(votes=(vote,)))


class TestDelegation:
    def test_a_borrowed_seat_counts_for_its_owner(self):
        one = round_(delegations=(lent(ADA, BOB),))
        assert may_decide(one, Candidate(BOB, frozenset())) == Seat("admin", ADA)

    @pytest.mark.parametrize(
        "more",
        [
            {"starts": NOW + timedelta(microseconds=1)},
            {"ends": NOW},
            {"project_id": THERE},
        ],
    )
    def test_only_while_and_where_it_holds(self, more: dict[str, Any]):
        one = round_(delegations=(lent(ADA, BOB, **more),))
        assert refused(one, Candidate(BOB, frozenset())) is Refusal.NOT_AN_APPROVER

    def test_without_a_project_it_holds_in_all(self):
        one = round_(delegations=(lent(ADA, BOB, project_id=None),))
        assert may_decide(one, Candidate(BOB, frozenset())).seat_person_id == ADA

    def test_it_starts_at_its_first_moment(self):
        one = round_(delegations=(lent(ADA, BOB, starts=NOW),))
        assert may_decide(one, Candidate(BOB, frozenset())).seat_person_id == ADA

    def test_only_roles_that_the_lender_has_are_lent(self):
        one = round_(delegations=(lent(ADA, BOB, frozenset({Role.ANALYST})),))
        assert refused(one, Candidate(BOB, frozenset())) is Refusal.NOT_AN_APPROVER

    def test_a_borrowed_seat_is_not_lent_on(self):
        one = round_(delegations=(lent(ADA, BOB), lent(BOB, CAROL, frozenset())))
        assert refused(one, Candidate(CAROL, frozenset())) is Refusal.NOT_AN_APPROVER

    def test_ones_own_seat_comes_first(self):
        one = round_(delegations=(lent(ADA, BOB),))
        assert may_decide(one, Candidate(BOB, ADMIN)) == Seat("admin", BOB)

    def test_the_order_in_which_delegations_are_listed_does_not_matter(self):
        loans = (lent(ADA, CAROL), lent(BOB, CAROL))
        seats = {may_decide(round_(delegations=each), Candidate(CAROL, frozenset())) for each in (loans, loans[::-1])}
        assert seats == {Seat("admin", ADA)}


class TestCountingOnce:
    def test_nobody_counts_twice(self):
        assert refused(round_(TWO, votes=(yes(ADA, "executive"),)), Candidate(ADA, BOTH)) is Refusal.ALREADY_COUNTED

    def test_nor_a_second_time_in_a_borrowed_seat(self):
        one = round_(TWO, votes=(yes(ADA, "executive"),), delegations=(lent(BOB, ADA),))
        assert refused(one, Candidate(ADA, EXECUTIVE)) is Refusal.ALREADY_COUNTED

    def test_nor_does_the_owner_of_a_seat_that_was_used(self):
        one = round_(TWO, votes=(yes(BOB, "executive", seat=ADA),), delegations=(lent(ADA, BOB, EXECUTIVE),))
        assert refused(one, Candidate(ADA, BOTH)) is Refusal.ALREADY_COUNTED

    def test_nor_a_seat_whose_owner_decided(self):
        one = round_(TWO, votes=(yes(ADA, "executive"),), delegations=(lent(ADA, BOB, EXECUTIVE),))
        assert refused(one, Candidate(BOB, frozenset())) is Refusal.ALREADY_COUNTED

    def test_nor_a_seat_whose_owner_sat_for_another(self):
        one = round_(TWO, votes=(yes(ADA, "executive", seat=BOB),), delegations=(lent(ADA, CAROL),))
        assert refused(one, Candidate(CAROL, frozenset())) is Refusal.ALREADY_COUNTED

    def test_another_borrowed_seat_will_do(self):
        loans = (lent(ADA, CAROL), lent(BOB, CAROL))
        one = round_(TWO, votes=(yes(ADA, "executive"),), delegations=loans)
        assert may_decide(one, Candidate(CAROL, frozenset())) == Seat("decider", BOB)

    def test_repeated_votes_in_the_record_count_once(self):
        twice = round_(TWO, votes=(yes(ADA, "executive"), yes(ADA, "decider")))
        assert not is_complete(twice)
        seats = round_(TWO, votes=(yes(ADA, "executive"), yes(BOB, "decider", seat=ADA)))
        assert not is_complete(seats)

    def test_votes_for_no_known_step_count_nowhere(self):
        assert not is_complete(round_(votes=(yes(ADA, "unheard-of"),)))


class TestSteps:
    def test_an_executive_takes_the_executives_place_first(self):
        assert may_decide(round_(TWO), Candidate(ADA, BOTH)).step == "executive"
        assert may_decide(round_(TWO), Candidate(ADA, ADMIN)).step == "decider"

    def test_two_executives_will_do_and_two_admins_will_not(self):
        first = round_(TWO, votes=(yes(ADA, "executive"),))
        assert may_decide(first, Candidate(BOB, EXECUTIVE)).step == "decider"
        assert is_complete(round_(TWO, votes=(yes(ADA, "executive"), yes(BOB, "decider"))))
        assert refused(round_(TWO, votes=(yes(ADA, "decider"),)), Candidate(BOB, ADMIN)) is Refusal.NOT_AN_APPROVER

    def test_a_step_for_named_people_comes_before_one_for_anybody(self):
        named = Step("named", "Ada", (Role.ADMIN,), people=(ADA,))
        steps = (Step("anybody", "Anybody", (Role.ADMIN,)), named)
        assert may_decide(round_(steps), Candidate(ADA, ADMIN)).step == "named"
        assert may_decide(round_(steps), Candidate(BOB, ADMIN)).step == "anybody"

    def test_a_named_persons_seat_can_be_lent_but_needs_the_role(self):
        steps = (Step("named", "Ada", (Role.ADMIN,), people=(ADA,)),)
        assert may_decide(round_(steps, delegations=(lent(ADA, BOB),)), Candidate(BOB, ADMIN)) == Seat("named", ADA)
        assert refused(round_(steps), Candidate(ADA, EXECUTIVE)) is Refusal.NOT_AN_APPROVER

    def test_a_quorum_waits_for_so_many_people(self):
        steps = (Step("all", "Three", (Role.ADMIN,), quorum=3),)
        votes: tuple[Vote, ...] = ()
        for missing, who in ((3, ADA), (2, BOB), (1, CAROL)):
            (waiting,) = open_steps(round_(steps, votes=votes))
            assert (waiting.missing, waiting.ready) == (missing, True)
            assert not is_complete(round_(steps, votes=votes))
            votes = (*votes, yes(who, may_decide(round_(steps, votes=votes), Candidate(who, ADMIN)).step))
        assert is_complete(round_(steps, votes=votes))

    def test_in_serial_order_the_later_step_waits(self):
        serial = round_(TWO, order=Order.SERIAL)
        assert [(one.step.id, one.ready) for one in open_steps(serial)] == [("decider", True), ("executive", False)]
        assert may_decide(serial, Candidate(ADA, BOTH)).step == "decider"
        only = (Step("first", "First", (Role.ADMIN,)), Step("second", "Second", (Role.EXECUTIVE,)))
        assert refused(round_(only, order=Order.SERIAL), Candidate(ADA, EXECUTIVE)) is Refusal.NOT_YOUR_TURN
        then = round_(only, order=Order.SERIAL, votes=(yes(BOB, "first"),))
        assert may_decide(then, Candidate(ADA, EXECUTIVE)).step == "second"

    def test_in_parallel_all_are_ready(self):
        assert [one.ready for one in open_steps(round_(TWO))] == [True, True]

    def test_a_step_survives_json(self):
        step = Step("s", "Some", (Role.ADMIN, Role.EXECUTIVE), quorum=2, people=(ADA, BOB))
        assert Step.from_json(step.to_json()) == step
        assert "bypass" not in step.to_json()
        assert Step.from_json(step.bypassed().to_json()) == step.bypassed() != step

    def test_who_stayed_silent_is_bypassed_upward(self):
        (asked,) = ONE_ADMIN
        assert refused(round_((asked,)), Candidate(ADA, EXECUTIVE)) is Refusal.NOT_AN_APPROVER
        for step in (asked.bypassed(), replace(asked, people=(BOB,)).bypassed()):
            assert may_decide(round_((step,)), Candidate(ADA, EXECUTIVE)).step == asked.id
            assert may_decide(round_((step,)), Candidate(BOB, ADMIN)).step == asked.id
        named = Step("named", "Bob", (Role.EXECUTIVE,), people=(BOB,))
        assert may_decide(round_((named.bypassed(),)), Candidate(ADA, EXECUTIVE)).step == "named"
        assert refused(round_((named.bypassed(),)), Candidate(ADA, ADMIN)) is Refusal.NOT_AN_APPROVER

    def test_where_every_executive_is_asked_there_is_nobody_above(self):
        for step in TWO:
            assert step.bypassed() is step

    def test_whoever_was_asked_for_sits_there_first(self):
        steps = (ONE_ADMIN[0].bypassed(), TWO[1])
        assert may_decide(round_(steps), Candidate(ADA, EXECUTIVE)).step == "executive"


class TestSolo:
    """An instance with one person, who may then approve their own changes, each time as an exception."""

    def alone(self, steps: tuple[Step, ...] = ONE_ADMIN, **more: Any) -> Round:
        return round_(steps, **{"solo": True, "electors": frozenset({PROPOSER}), **more})

    def test_the_only_person_may_decide_their_own_change_as_an_exception(self):
        assert may_decide(self.alone(), Candidate(PROPOSER, ADMIN)) == Seat("admin", PROPOSER, exception=True)
        assert is_complete(self.alone(votes=(yes(PROPOSER, exception=True),)))

    def test_not_when_the_mode_is_off(self):
        assert refused(self.alone(solo=False), Candidate(PROPOSER, ADMIN)) is Refusal.OWN_CHANGE
        assert not is_complete(self.alone(solo=False, votes=(yes(PROPOSER, exception=True),)))

    def test_not_when_somebody_else_could(self):
        assert (
            refused(self.alone(electors=frozenset({PROPOSER, ADA})), Candidate(PROPOSER, ADMIN)) is Refusal.OWN_CHANGE
        )

    def test_not_for_somebody_who_is_no_elector(self):
        assert refused(self.alone(electors=frozenset({ADA})), Candidate(PROPOSER, ADMIN)) is Refusal.OWN_CHANGE
        assert refused(self.alone(electors=frozenset()), Candidate(PROPOSER, ADMIN)) is Refusal.OWN_CHANGE

    def test_not_for_their_agent(self):
        assert refused(self.alone(), Candidate(PROPOSER, ADMIN, "agent")) is Refusal.NOT_A_PERSON

    def test_a_change_by_somebody_else_needs_no_exception(self):
        one = self.alone(electors=frozenset({ADA}))
        assert may_decide(one, Candidate(ADA, ADMIN)) == Seat("admin", ADA)

    def test_unless_it_takes_more_people_than_there_are(self):
        one = self.alone(TWO, electors=frozenset({ADA}))
        assert may_decide(one, Candidate(ADA, ADMIN)) == Seat("decider", ADA, exception=True)
        assert is_complete(self.alone(TWO, electors=frozenset({ADA}), votes=(yes(ADA, "decider", exception=True),)))


class TestConfirming:
    def test_the_human_behind_the_proposal_confirms(self):
        may_confirm(ADA, Candidate(ADA, frozenset()))

    @pytest.mark.parametrize(
        ("proposer", "candidate", "why"),
        [
            (ADA, Candidate(BOB, BOTH), Refusal.NOT_THE_PROPOSER),
            (None, Candidate(BOB, BOTH), Refusal.NOT_THE_PROPOSER),
            (ADA, Candidate(ADA, BOTH, "agent"), Refusal.NOT_A_PERSON),
            (ADA, Candidate(ADA, BOTH, "system"), Refusal.NOT_A_PERSON),
        ],
    )
    def test_nobody_else_does(self, proposer: UUID | None, candidate: Candidate, why: Refusal):
        with pytest.raises(DecisionRefusedError) as caught:
            may_confirm(proposer, candidate)
        assert caught.value.reason is why


class TestMakingADelegation:
    LONGEST = default_policy().delegation.longest

    def test_up_to_the_longest(self):
        require_delegation(lent(ADA, BOB, starts=NOW, ends=NOW + self.LONGEST), self.LONGEST)

    @pytest.mark.parametrize(
        ("loan", "text"),
        [
            (lent(ADA, ADA), "somebody else"),
            (lent(ADA, BOB, starts=NOW, ends=NOW), "ends after it starts"),
            (lent(ADA, BOB, starts=NOW, ends=NOW + LONGEST + timedelta(seconds=1)), "at most 90 days"),
        ],
    )
    def test_refusals_say_what_to_change(self, loan: Delegation, text: str):
        with pytest.raises(DelegationRefusedError, match=text):
            require_delegation(loan, self.LONGEST)
