"""Who may decide, and when enough have: seats, quorum, order, delegation and the one-person exception.

A decision fills a *seat* of a step. The seat belongs to whoever holds the role: the decider, or somebody who delegated
to the decider. Nobody approves their own change in any guise, and one person counts once, whether as the decider or as
the owner of a seat that somebody else used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.kit.errors import PmisError
from pmis.policy.access import Kind, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta


class Order(StrEnum):
    """Whether steps are decided one after the other or all at once."""

    SERIAL = "serial"
    PARALLEL = "parallel"


class Verdict(StrEnum):
    """What an approver says. Anything but approve ends the round."""

    APPROVE = "approve"
    REJECT = "reject"
    REQUEST_CHANGES = "request_changes"


class Refusal(StrEnum):
    """Why somebody may not decide."""

    NOT_A_PERSON = "not_a_person"
    CLOSED = "closed"
    ALREADY_COMPLETE = "already_complete"
    OWN_CHANGE = "own_change"
    DELEGATE_OF_PROPOSER = "delegate_of_proposer"
    ALREADY_COUNTED = "already_counted"
    NOT_YOUR_TURN = "not_your_turn"
    NOT_AN_APPROVER = "not_an_approver"
    NOT_THE_PROPOSER = "not_the_proposer"


_WHY: Final[Mapping[Refusal, str]] = MappingProxyType(
    {
        Refusal.NOT_A_PERSON: "Only a person decides an approval, in person: no agent, service or job can.",
        Refusal.CLOSED: "This approval has been decided: one approver did not agree.",
        Refusal.ALREADY_COMPLETE: "Everybody who must agree has agreed.",
        Refusal.OWN_CHANGE: "Nobody decides their own change, nor one that was proposed in their name.",
        Refusal.DELEGATE_OF_PROPOSER: "The seat is held for, or delegated by, the person who proposed this change.",
        Refusal.ALREADY_COUNTED: "One person counts once: you, or the owner of the seat, have been counted already.",
        Refusal.NOT_YOUR_TURN: "Steps are decided in order, and an earlier one is still open.",
        Refusal.NOT_AN_APPROVER: "No open step of this approval asks for one of your roles.",
        Refusal.NOT_THE_PROPOSER: "Only the person who proposed this, or for whom it was proposed, confirms it.",
    }
)


class DecisionRefusedError(PmisError):
    """This person may not decide this approval; `reason` says why in one word."""

    code = "decision_refused"
    status = 403
    title = "You may not decide this"

    def __init__(self, reason: Refusal, **extra: Any) -> None:  # noqa: ANN401 - any JSON value may travel beside it
        """The text is that of the reason."""
        super().__init__(_WHY[reason], reason=reason.value, **extra)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an approval: how many people, with one of which roles, by name when `people` is not empty.

    `bypass` are the roles that may sit as well, since those who were asked stayed silent; whoever is named.
    """

    id: str
    name: str
    roles: tuple[Role, ...]
    quorum: int = 1
    people: tuple[UUID, ...] = ()
    bypass: tuple[Role, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The step as JSON; `from_json` gives it back."""
        value: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "roles": [role.value for role in self.roles],
            "quorum": self.quorum,
            "people": [str(person) for person in self.people],
        }
        return {**value, "bypass": [role.value for role in self.bypass]} if self.bypass else value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Step:
        """The step that `to_json` wrote."""
        return cls(
            id=value["id"],
            name=value["name"],
            roles=tuple(Role(role) for role in value["roles"]),
            quorum=value["quorum"],
            people=tuple(UUID(person) for person in value["people"]),
            bypass=tuple(Role(role) for role in value.get("bypass", ())),
        )

    def asks_for(self, person: UUID, roles: frozenset[Role]) -> bool:
        """Whether somebody with these roles may sit here."""
        asked = not roles.isdisjoint(self.roles) and (not self.people or person in self.people)
        return asked or not roles.isdisjoint(self.bypass)

    def bypassed(self) -> Step:
        """The step open to executives as well; as it is where every executive is asked already."""
        if Role.EXECUTIVE in self.roles and not self.people:
            return self
        return replace(self, bypass=(Role.EXECUTIVE,))


@dataclass(frozen=True, slots=True)
class Vote:
    """A decision that was given: by whom, in whose seat, for which step."""

    person_id: UUID
    seat_person_id: UUID
    step: str
    verdict: Verdict = Verdict.APPROVE
    exception: bool = False


@dataclass(frozen=True, slots=True)
class Delegation:
    """A seat lent for a while. `from_roles` are the roles the lender holds in the project now; they are what is lent.

    A borrowed seat cannot be lent on: only roles of one's own count.
    """

    from_person: UUID
    to_person: UUID
    starts: datetime
    ends: datetime
    project_id: UUID | None = None
    from_roles: frozenset[Role] = frozenset()

    def is_active(self, project_id: UUID | None, at: datetime) -> bool:
        """Whether it holds in the project at that moment; without a project of its own it holds in all."""
        return self.starts <= at < self.ends and self.project_id in (None, project_id)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who wants to decide, with the roles that count where the change belongs."""

    person_id: UUID
    roles: frozenset[Role]
    kind: Kind = "person"


@dataclass(frozen=True, slots=True)
class Seat:
    """The place in which a decision counts. `exception` marks the one-person install's approval of its own change."""

    step: str
    seat_person_id: UUID
    exception: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One approval in progress, with everything that decides who may decide.

    `proposers` are the people behind the change: who proposed it, whom the proposing agent acts for. `electors` are all
    who hold a deciding role there; they matter only in solo mode, which `solo` says is on.
    """

    steps: tuple[Step, ...]
    at: datetime
    proposers: frozenset[UUID]
    order: Order = Order.PARALLEL
    votes: tuple[Vote, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    project_id: UUID | None = None
    solo: bool = False
    electors: frozenset[UUID] = frozenset()

    def active_delegations(self) -> Iterable[Delegation]:
        """Those that hold here and now."""
        return (one for one in self.delegations if one.is_active(self.project_id, self.at))

    def barred(self) -> frozenset[UUID]:
        """Whoever stands for the proposer at this moment: no vote of theirs, and no seat of theirs, counts."""
        return frozenset(one.to_person for one in self.active_delegations() if one.from_person in self.proposers)

    def counted(self) -> frozenset[UUID]:
        """Everybody who has been counted, as decider or as owner of the seat."""
        return frozenset(person for vote in self.votes for person in (vote.person_id, vote.seat_person_id))


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that still waits for `missing` people; `ready` is false while an earlier one is open in serial order."""

    step: Step
    missing: int
    ready: bool


class DelegationRefusedError(PmisError):
    """The delegation is not one that the policy allows."""

    code = "delegation_refused"
    status = 409
    title = "This delegation is not allowed"


def _missing(round_: Round) -> dict[str, int]:
    """How many people each step still waits for."""
    missing = {step.id: step.quorum for step in round_.steps}
    people = set(round_.proposers)
    for vote in round_.votes:
        if vote.exception and round_.solo:
            return dict.fromkeys(missing, 0)
        # Votes were checked when they were given. They are counted strictly here all the same: a record that came by
        # another way (a restored table, a mistake elsewhere) cannot count one person twice, or the proposer at all.
        pair = {vote.person_id, vote.seat_person_id}
        if people.isdisjoint(pair) and missing.get(vote.step, 0) > 0:
            missing[vote.step] -= 1
        people |= pair
    return missing


def open_steps(round_: Round) -> tuple[OpenStep, ...]:
    """The steps that still wait for somebody, in order."""
    missing = _missing(round_)
    waiting: list[OpenStep] = []
    for step in round_.steps:
        if missing[step.id]:
            waiting.append(OpenStep(step, missing[step.id], ready=round_.order is Order.PARALLEL or not waiting))
    return tuple(waiting)


def is_closed(round_: Round) -> bool:
    """Whether somebody rejected the change or asked for another."""
    return any(vote.verdict is not Verdict.APPROVE for vote in round_.votes)


def is_complete(round_: Round) -> bool:
    """Whether everybody who must agree has agreed, and nobody disagreed."""
    return bool(round_.steps) and not is_closed(round_) and not open_steps(round_)


def may_decide(round_: Round, candidate: Candidate) -> Seat:
    """The seat in which the candidate's decision would count; raises DecisionRefusedError that says why not.

    One's own seat comes before a borrowed one, and the step that fewer roles can fill before one that more can, so
    that an executive does not use up the place that any administrator could take.
    """
    if candidate.kind != "person":
        raise DecisionRefusedError(Refusal.NOT_A_PERSON)
    if is_closed(round_):
        raise DecisionRefusedError(Refusal.CLOSED)
    waiting = open_steps(round_)
    if not waiting:
        raise DecisionRefusedError(Refusal.ALREADY_COMPLETE)
    if _stands_alone(round_, candidate) and _needs_exception(round_, candidate, waiting):
        return Seat(next(one for one in waiting if one.ready).step.id, candidate.person_id, exception=True)
    return _seat(round_, candidate, waiting)


def _seat(round_: Round, candidate: Candidate, waiting: tuple[OpenStep, ...]) -> Seat:
    barred, counted = round_.barred(), round_.counted()
    if candidate.person_id in round_.proposers:
        raise DecisionRefusedError(Refusal.OWN_CHANGE)
    if candidate.person_id in barred:
        raise DecisionRefusedError(Refusal.DELEGATE_OF_PROPOSER)
    if candidate.person_id in counted:
        raise DecisionRefusedError(Refusal.ALREADY_COUNTED)
    why = Refusal.NOT_AN_APPROVER
    for owner, roles in _seats_of(round_, candidate):
        asking = [one for one in waiting if one.step.asks_for(owner, roles)]
        if not asking:
            continue
        # The proposer's own seat never comes this far: whoever borrowed it is barred.
        if owner in barred:
            why = Refusal.DELEGATE_OF_PROPOSER
        elif owner in counted:
            why = Refusal.ALREADY_COUNTED
        elif ready := [one.step for one in asking if one.ready]:
            return Seat(min(ready, key=lambda step: (len(step.roles) + len(step.bypass), not step.people)).id, owner)
        else:
            why = Refusal.NOT_YOUR_TURN
    raise DecisionRefusedError(why)


def _seats_of(round_: Round, candidate: Candidate) -> Iterable[tuple[UUID, frozenset[Role]]]:
    """One's own seat, then the borrowed ones in an order that does not depend on how they were listed."""
    yield candidate.person_id, candidate.roles
    borrowed = [one for one in round_.active_delegations() if one.to_person == candidate.person_id]
    for one in sorted(borrowed, key=lambda one: (one.from_person, sorted(one.from_roles))):
        yield one.from_person, one.from_roles


def _stands_alone(round_: Round, candidate: Candidate) -> bool:
    return round_.solo and round_.electors == frozenset((candidate.person_id,))


def _needs_exception(round_: Round, candidate: Candidate, waiting: tuple[OpenStep, ...]) -> bool:
    """Whether the only elector there is could not finish the round as anybody else would."""
    if sum(one.missing for one in waiting) > 1:
        return True
    try:
        _seat(round_, candidate, waiting)
    except DecisionRefusedError:
        return True
    return False


def may_confirm(proposer_person: UUID | None, candidate: Candidate) -> None:
    """Return when the candidate is the human behind the proposal; only their own yes confirms it.

    Raises DecisionRefusedError for anybody else, and for an agent even when it acts for that human.
    """
    if candidate.kind != "person":
        raise DecisionRefusedError(Refusal.NOT_A_PERSON)
    if proposer_person is None or candidate.person_id != proposer_person:
        raise DecisionRefusedError(Refusal.NOT_THE_PROPOSER)


def require_delegation(delegation: Delegation, longest: timedelta) -> None:
    """Return when the policy allows the delegation; raises DelegationRefusedError that says what to change."""
    if delegation.from_person == delegation.to_person:
        raise DelegationRefusedError("A delegation goes to somebody else.")
    if delegation.ends <= delegation.starts:
        raise DelegationRefusedError("A delegation ends after it starts.")
    if delegation.ends - delegation.starts > longest:
        raise DelegationRefusedError(f"A delegation lasts at most {longest.days} days.", max_days=longest.days)
