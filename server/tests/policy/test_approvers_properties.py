"""Random people, roles, delegations and attempts: the proposer's person never counts, and nobody counts twice.

A second, naive reading of the rules (`seats_that_would_count`) must agree with `may_decide` on every attempt, so that
too strict is found as surely as too lax. Each planted bug must be caught by the same check.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from pmis.policy import approvers as module
from pmis.policy.access import Role
from pmis.policy.approvers import (
    Candidate,
    DecisionRefusedError,
    Delegation,
    Order,
    Refusal,
    Round,
    Step,
    Verdict,
    Vote,
    is_complete,
    may_decide,
    open_steps,
)
from pmis.policy.document import default_policy
from pmis.policy.levels import Route
from tests.policy.samples import dice, person, run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from random import Random
    from uuid import UUID

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE, THERE = person(901), person(902)
PEOPLE = [person(n) for n in range(1, 8)]
DECIDERS = (Role.ADMIN, Role.EXECUTIVE)


class Case:
    """One approval with everybody who might have a hand in it, thrown from dice."""

    def __init__(self, throw: Random) -> None:
        self.throw = throw
        rule = default_policy().approvals.by_route
        shapes = [
            tuple(step.step for step in rule[Route.APPROVAL_REQUIRED].steps),
            tuple(step.step for step in rule[Route.EXECUTIVE_APPROVAL].steps),
            tuple(
                Step(
                    f"s{n}",
                    "Step",
                    tuple(throw.sample(DECIDERS, throw.randint(1, 2))),
                    quorum=throw.randint(1, 2),
                    people=tuple(throw.sample(PEOPLE, 3)) if throw.random() < 0.2 else (),
                )
                for n in range(throw.randint(1, 3))
            ),
        ]
        self.roles = {who: frozenset(throw.sample([*DECIDERS, Role.ANALYST], throw.randint(0, 3))) for who in PEOPLE}
        loans: list[Delegation] = []
        for _ in range(throw.randint(0, 8)):
            giver, taker = throw.sample(PEOPLE, 2)
            start = NOW + timedelta(hours=throw.choice([-48, -1, 0, 1]))
            loans.append(
                Delegation(
                    giver,
                    taker,
                    start,
                    start + timedelta(hours=throw.choice([1, 24, 49])),
                    throw.choice([None, HERE, HERE, HERE, THERE]),
                    self.roles[giver],
                )
            )
        self.round = Round(
            steps=throw.choice(shapes),
            order=throw.choice(list(Order)),
            at=NOW,
            proposers=frozenset(throw.sample(PEOPLE, throw.choice([1, 1, 1, 2]))),
            delegations=tuple(loans),
            project_id=HERE,
        )

    def __repr__(self) -> str:
        return f"{self.round!r} with {self.roles!r}"

    def attempts(self) -> list[Candidate]:
        kinds: list[Any] = ["person"] * 9 + ["agent"]
        return [Candidate(who, self.roles[who], self.throw.choice(kinds)) for who in self.throw.choices(PEOPLE, k=25)]


def seats_that_would_count(one: Round, candidate: Candidate) -> set[tuple[UUID, str]]:
    """The rules again, spelt out the long way: every (owner, step) in which this person could sit now."""
    if candidate.kind != "person" or any(vote.verdict is not Verdict.APPROVE for vote in one.votes):
        return set()
    holds = [
        loan
        for loan in one.delegations
        if loan.starts <= one.at
        and one.at < loan.ends
        and (loan.project_id is None or loan.project_id == one.project_id)
    ]
    tainted = set(one.proposers)
    for loan in holds:
        if loan.from_person in one.proposers:
            tainted.add(loan.to_person)
    used = {vote.person_id for vote in one.votes} | {vote.seat_person_id for vote in one.votes}
    if candidate.person_id in tainted or candidate.person_id in used:
        return set()
    owners = [(candidate.person_id, candidate.roles)]
    owners += [(loan.from_person, loan.from_roles) for loan in holds if loan.to_person == candidate.person_id]
    found: set[tuple[UUID, str]] = set()
    for step in one.steps:
        given = sum(1 for vote in one.votes if vote.step == step.id)
        if given >= step.quorum:
            continue
        for owner, roles in owners:
            named = not step.people or owner in step.people
            if owner not in tainted and owner not in used and named and any(role in step.roles for role in roles):
                found.add((owner, step.id))
        if one.order is Order.SERIAL:
            break
    return found


def every_attempt_is_judged_as_the_rules_say(case: Case) -> None:
    """Play out attempts at random; after each, what counted is what may count, and complete means enough people."""
    now = case.round
    for candidate in case.attempts():
        would = seats_that_would_count(now, candidate)
        done = not open_steps(now)
        try:
            seat = may_decide(now, candidate)
        except DecisionRefusedError:
            assert done or not would, f"{candidate} was refused but could sit in {would}"
            continue
        assert not done
        assert (seat.seat_person_id, seat.step) in would, f"{candidate} was given {seat}"
        assert not seat.exception
        now = replace(now, votes=(*now.votes, Vote(candidate.person_id, seat.seat_person_id, seat.step)))
        what_counted_may_count(now, case.roles)


def what_counted_may_count(now: Round, roles: dict[UUID, frozenset[Role]]) -> None:
    deciders = [vote.person_id for vote in now.votes]
    owners = [vote.seat_person_id for vote in now.votes]
    assert now.proposers.isdisjoint(deciders)
    assert now.proposers.isdisjoint(owners)
    assert len(set(deciders)) == len(deciders)
    assert len(set(owners)) == len(owners)
    for vote in now.votes:
        others = {p for other in now.votes if other is not vote for p in (other.person_id, other.seat_person_id)}
        assert vote.person_id not in others
        assert vote.seat_person_id not in others
        step = next(step for step in now.steps if step.id == vote.step)
        assert not roles[vote.seat_person_id].isdisjoint(step.roles)
    needed = sum(step.quorum for step in now.steps)
    assert is_complete(now) is (len(now.votes) == needed)


def no_fewer_votes_complete_it(case: Case) -> None:
    """Of the votes that complete a round, no smaller set does; nor does any set that only the proposers gave."""
    now = case.round
    for candidate in case.attempts():
        try:
            seat = may_decide(now, candidate)
        except DecisionRefusedError:
            continue
        now = replace(now, votes=(*now.votes, Vote(candidate.person_id, seat.seat_person_id, seat.step)))
    needed = sum(step.quorum for step in now.steps)
    for size in range(min(needed, len(now.votes) + 1)):
        for fewer in combinations(now.votes, size):
            assert not is_complete(replace(now, votes=fewer))
    own = next(iter(now.proposers))
    forged = tuple(Vote(own, own, step.id) for step in now.steps for _ in range(step.quorum))
    assert not is_complete(replace(now, votes=forged))
    repeated = tuple(Vote(PEOPLE[0], PEOPLE[0], step.id) for step in now.steps for _ in range(step.quorum))
    assert is_complete(replace(now, votes=repeated)) is (needed == 1 and PEOPLE[0] not in now.proposers)


def solo_is_an_exception_for_one(case: Case) -> None:
    """In solo mode only the one elector there is gets an exception; with more of them, all is as usual."""
    able = frozenset(who for who in PEOPLE if not case.roles[who].isdisjoint(DECIDERS))
    some = frozenset(case.throw.sample(sorted(able), min(len(able), case.throw.choice([0, 1, 1, 2]))))
    now = replace(case.round, solo=case.throw.random() < 0.7, electors=some)
    for candidate in case.attempts():
        try:
            seat = may_decide(now, candidate)
        except DecisionRefusedError:
            continue
        if seat.exception:
            assert now.solo
            assert candidate.kind == "person"
            assert some == {candidate.person_id}
            assert candidate.person_id == seat.seat_person_id
            vote = Vote(candidate.person_id, seat.seat_person_id, seat.step, exception=True)
            assert is_complete(replace(now, votes=(vote,)))
            assert not is_complete(replace(now, votes=(vote,), solo=False)) or candidate.person_id not in now.proposers
        else:
            assert (seat.seat_person_id, seat.step) in seats_that_would_count(now, candidate)


PROPERTIES = (every_attempt_is_judged_as_the_rules_say, no_fewer_votes_complete_it, solo_is_an_exception_for_one)
cases = dice.map(Case)


@pytest.mark.parametrize("prop", PROPERTIES, ids=lambda prop: prop.__name__)
def test_it_holds_for_every_delegation_graph(prop: Callable[[Case], None]):
    run(prop, {"case": cases}, examples=1000)


# --- planted bugs -------------------------------------------------------------------------------------------------

_real_counted = Round.counted
_real_missing = module._missing


def _nobody(_one: Round) -> frozenset[UUID]:
    return frozenset()


def _only_deciders(one: Round) -> frozenset[UUID]:
    return frozenset(vote.person_id for vote in one.votes)


def _only_owners(one: Round) -> frozenset[UUID]:
    return frozenset(vote.seat_person_id for vote in one.votes)


def _barred_for_ever(one: Round) -> frozenset[UUID]:
    return frozenset(loan.to_person for loan in one.delegations if loan.from_person in one.proposers)


def _simple_count(one: Round) -> dict[str, int]:
    return {step.id: max(0, step.quorum - sum(v.step == step.id for v in one.votes)) for step in one.steps}


def _one_vote_is_enough(one: Round) -> dict[str, int]:
    return {step.id: 0 if one.votes else step.quorum for step in one.steps}


def _asks_for_any_role(step: Step, person: UUID, _roles: frozenset[Role]) -> bool:
    return not step.people or person in step.people


def _asks_for_nobody_by_name(step: Step, _person: UUID, roles: frozenset[Role]) -> bool:
    return not roles.isdisjoint(step.roles)


def _active_everywhere(loan: Delegation, _project: UUID | None, at: datetime) -> bool:
    return loan.starts <= at < loan.ends


def _active_for_ever(loan: Delegation, project_id: UUID | None, _at: datetime) -> bool:
    return loan.project_id in (None, project_id)


def _active_to_the_end(loan: Delegation, project_id: UUID | None, at: datetime) -> bool:
    return loan.starts <= at <= loan.ends and loan.project_id in (None, project_id)


def _own_seat_for_all(one: Round, candidate: Candidate) -> list[tuple[UUID, frozenset[Role]]]:
    return [(candidate.person_id, candidate.roles), *((loan.from_person, loan.from_roles) for loan in one.delegations)]


def _always_ready(one: Round) -> tuple[module.OpenStep, ...]:
    return tuple(module.OpenStep(s, n, ready=True) for s in one.steps if (n := _real_missing(one)[s.id]))


def _anybody_alone(one: Round, _candidate: Candidate) -> bool:
    return one.solo


_real_seat = module._seat


def _proposers_are_welcome(one: Round, candidate: Candidate, waiting: Any) -> Any:
    return _real_seat(replace(one, proposers=frozenset()), candidate, waiting)


_real_may_decide = may_decide


def _agents_are_people(one: Round, candidate: Candidate) -> Any:
    return _real_may_decide(one, replace(candidate, kind="person"))


JUDGED, FEWER, SOLO = PROPERTIES
BUGS: list[tuple[str, Callable[[Case], None], Any, str, Any]] = [
    ("nobody is barred", JUDGED, Round, "barred", _nobody),
    ("past delegates stay barred", JUDGED, Round, "barred", _barred_for_ever),
    ("nobody is counted", JUDGED, Round, "counted", _nobody),
    ("owners are not counted", JUDGED, Round, "counted", _only_deciders),
    ("deciders are not counted", JUDGED, Round, "counted", _only_owners),
    ("proposers may", JUDGED, module, "_seat", _proposers_are_welcome),
    ("agents may", JUDGED, None, "may_decide", _agents_are_people),
    ("any role may", JUDGED, Step, "asks_for", _asks_for_any_role),
    ("names are ignored", JUDGED, Step, "asks_for", _asks_for_nobody_by_name),
    ("delegations hold everywhere", JUDGED, Delegation, "is_active", _active_everywhere),
    ("delegations hold for ever", JUDGED, Delegation, "is_active", _active_for_ever),
    ("delegations hold a moment too long", JUDGED, Delegation, "is_active", _active_to_the_end),
    ("seats are lent to all", JUDGED, module, "_seats_of", _own_seat_for_all),
    ("order is ignored", JUDGED, module, "open_steps", _always_ready),
    ("one vote is enough", JUDGED, module, "_missing", _one_vote_is_enough),
    ("one vote is enough to complete", FEWER, module, "_missing", _one_vote_is_enough),
    ("votes are counted, not people", FEWER, module, "_missing", _simple_count),
    ("solo is for all", SOLO, module, "_stands_alone", _anybody_alone),
]


@contextmanager
def planted(where: Any, name: str, broken: Any) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if where is None:
            patch.setitem(globals(), name, broken)
        else:
            patch.setattr(where, name, broken)
            if name in globals():
                patch.setitem(globals(), name, broken)
        yield


@pytest.mark.parametrize(("prop", "where", "name", "broken"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_twin_the_planted_bug_is_caught(prop: Callable[[Case], None], where: Any, name: str, broken: Any):
    with planted(where, name, broken), pytest.raises(AssertionError):
        run(prop, {"case": cases}, examples=2000, derandomize=True)


def test_the_attempts_meet_every_refusal_and_complete_many_rounds():
    met: set[Refusal] = set()
    completed: list[int] = []

    def look(case: Case) -> None:
        now = case.round
        for candidate in case.attempts():
            verdict = Verdict.REJECT if case.throw.random() < 0.02 else Verdict.APPROVE
            try:
                seat = may_decide(now, candidate)
            except DecisionRefusedError as error:
                met.add(error.reason)
            else:
                vote = Vote(candidate.person_id, seat.seat_person_id, seat.step, verdict)
                now = replace(now, votes=(*now.votes, vote))
        completed.append(is_complete(now))

    run(look, {"case": cases}, examples=500)
    assert met == set(Refusal) - {Refusal.NOT_THE_PROPOSER}
    assert sum(completed) > len(completed) // 4


def test_whenever_enough_untainted_people_are_there_they_can_complete_it():
    """Nothing is so strict that a round which could be completed gets stuck: for the routes that ship."""

    def prop(throw: Random, route: Route) -> None:
        steps = tuple(step.step for step in default_policy().approvals.by_route[route].steps)
        crowd = [Candidate(who, frozenset(throw.choices(DECIDERS, k=throw.randint(1, 2)))) for who in PEOPLE[1:]]
        executives = sum(Role.EXECUTIVE in one.roles for one in crowd)
        admins = sum(Role.ADMIN in one.roles for one in crowd)
        now = Round(steps=steps, at=NOW, proposers=frozenset({PEOPLE[0]}))
        throw.shuffle(crowd)
        for candidate in crowd:
            try:
                seat = may_decide(now, candidate)
            except DecisionRefusedError:
                continue
            now = replace(now, votes=(*now.votes, Vote(candidate.person_id, seat.seat_person_id, seat.step)))
        could = admins > 0 if route is Route.APPROVAL_REQUIRED else executives > 0
        assert is_complete(now) is could

    routes = [Route.APPROVAL_REQUIRED, Route.EXECUTIVE_APPROVAL, Route.ESCALATE]
    run(prop, {"throw": dice, "route": st.sampled_from(routes)}, examples=500)
