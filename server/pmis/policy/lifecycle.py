"""States and transitions: which steps a thing may take, who may propose them, and what must be in place first.

A lifecycle is part of the policy document. It knows the names of its guards, not their answers: those depend on the
thing at hand and are given by its noun, which finds here what each name asks for.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import Field

from pmis.kit.errors import PmisError
from pmis.policy.access import Role
from pmis.policy.levels import Route
from pmis.policy.strict import Identifier, LevelWord, Names, Roles, Strict


class Phase(StrEnum):
    """What a state means to the rules: still being written, under control, or closed for good."""

    DRAFT = "draft"
    LIVE = "live"
    FROZEN = "frozen"


GUARDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "title_set": "a title",
        "owner_set": "an owner",
        "assignee_set": "an assignee",
        "vendor_set": "a vendor",
        "amount_set": "an amount with its currency",
        "planned_dates_set": "a planned start and a planned end",
        "actual_start_set": "an actual start",
        "actual_end_set": "an actual end",
        "due_date_set": "a due date",
        "no_open_tasks": "every task to be completed or cancelled",
        "reason_given": "a reason",
    }
)
"""Every guard a document may name, with what it asks for, so that a refusal can say what is missing."""


class TransitionRefusedError(PmisError):
    """The step is not one of the lifecycle; `allowed` names those that are."""

    code = "transition_refused"
    status = 409
    title = "This step is not possible from here"


class State(Strict):
    """One state of a lifecycle."""

    phase: Phase


class Transition(Strict):
    """A named step to one state from any of several."""

    name: Identifier
    from_: Annotated[Names, Field(alias="from")]
    to: Identifier
    roles: Roles
    impact: LevelWord
    guards: Names | None = None
    floor: Route = Route.AUTO
    covers: Names | None = None
    """Fields that this step may set for the first time without the rules for changing them, as an award does for the
    vendor."""


class Lifecycle(Strict):
    """The states of a noun and the steps between them."""

    initial: Identifier
    states: Annotated[dict[Identifier, State], Field(min_length=1)]
    transitions: tuple[Transition, ...]

    @cached_property
    def _steps(self) -> Mapping[tuple[str, str], Transition]:
        return {(source, step.to): step for step in self.transitions for source in step.from_}

    @cached_property
    def proposers(self) -> tuple[Role, ...]:
        """The roles that may propose some step or other."""
        return tuple(sorted({role for step in self.transitions for role in step.roles}))

    def phase(self, status: str) -> Phase | None:
        """What the state means to the rules; None for a state this lifecycle does not have."""
        state = self.states.get(status)
        return state.phase if state is not None else None

    def find(self, from_status: str, to_status: str) -> Transition | None:
        """The step between the two states, if there is one."""
        return self._steps.get((from_status, to_status))

    def allowed(self, status: str, roles: Collection[Role] | None = None) -> tuple[Transition, ...]:
        """The steps out of the state, in document order; with roles, only those that one of them may propose."""
        return tuple(
            step
            for step in self.transitions
            if status in step.from_ and (roles is None or any(role in step.roles for role in roles))
        )

    def check(self, from_status: str, to_status: str) -> Transition:
        """The step between the two states; raises TransitionRefusedError that lists the states allowed next."""
        step = self.find(from_status, to_status)
        if step is not None:
            return step
        raise TransitionRefusedError(
            f"From {from_status} to {to_status} there is no step. {self.next_words(from_status)}",
            allowed=[step.to for step in self.allowed(from_status)],
        )

    def next_words(self, status: str) -> str:
        """The sentence that names the states allowed next."""
        following = [step.to for step in self.allowed(status)]
        if following:
            return f"Allowed next: {', '.join(following)}."
        if status in self.states:
            return f"Nothing follows {status}."
        return f"{status} is not a state here; the states are {', '.join(self.states)}."

    def problems(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What is wrong beyond the shape of each part: where it is and what it is."""
        found: list[tuple[tuple[str | int, ...], str]] = []
        known = ", ".join(self.states)
        if self.initial not in self.states:
            found.append((("initial",), f"{self.initial!r} is not one of the states: {known}"))
        names: set[str] = set()
        taken: dict[tuple[str, str], int] = {}
        for index, step in enumerate(self.transitions):
            at = ("transitions", index)
            if step.name in names:
                found.append(((*at, "name"), f"{step.name!r} is the name of an earlier transition"))
            names.add(step.name)
            if step.to not in self.states:
                found.append(((*at, "to"), f"{step.to!r} is not one of the states: {known}"))
            for place, source in enumerate(step.from_):
                where = (*at, "from", place)
                if source not in self.states:
                    found.append((where, f"{source!r} is not one of the states: {known}"))
                elif source == step.to:
                    found.append((where, f"a transition from {source!r} to itself changes nothing"))
                elif (source, step.to) in taken:
                    earlier = self.transitions[taken[source, step.to]].name
                    found.append((where, f"{earlier!r} already leads from {source!r} to {step.to!r}"))
                taken.setdefault((source, step.to), index)
            found.extend(
                ((*at, "guards", place), f"{guard!r} is not a known guard: {', '.join(GUARDS)}")
                for place, guard in enumerate(step.guards or ())
                if guard not in GUARDS
            )
        found.extend(
            (("states", state), f"no sequence of transitions leads from {self.initial!r} to {state!r}")
            for state in self.states
            if state not in self._reachable()
        )
        return found

    def _reachable(self) -> set[str]:
        reached = {self.initial}
        frontier = [self.initial]
        while frontier:
            for step in self.allowed(frontier.pop()):
                if step.to not in reached:
                    reached.add(step.to)
                    frontier.append(step.to)
        return reached
