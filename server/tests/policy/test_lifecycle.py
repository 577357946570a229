from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from pmis.policy.access import Role
from pmis.policy.document import Policy, PolicyDocumentError, default_policy
from pmis.policy.lifecycle import GUARDS, Lifecycle, Phase, TransitionRefusedError
from tests.policy.samples import default_document

PACKAGE = default_policy().lifecycles["package"]
TASK = default_policy().lifecycles["task"]


def arrows(lifecycle: Lifecycle) -> set[tuple[str, str]]:
    return {(source, step.to) for step in lifecycle.transitions for source in step.from_}


def test_the_packages_steps_are_those_of_the_design():
    spine = ["draft", "submitted", "in_review", "approved", "awarded", "active", "completed"]
    expected = set(pairwise(spine))
    expected |= {("in_review", "submitted"), ("active", "on_hold"), ("on_hold", "active")}
    expected |= {(state, "cancelled") for state in PACKAGE.states if state not in ("completed", "cancelled")}
    expected |= {("completed", "active"), ("cancelled", "submitted")}
    assert arrows(PACKAGE) == expected


def test_the_tasks_steps_are_those_of_the_design():
    expected = {
        ("pending", "in_progress"),
        ("in_progress", "completed"),
        ("in_progress", "blocked"),
        ("blocked", "in_progress"),
        ("in_progress", "review_needed"),
        ("review_needed", "completed"),
        ("review_needed", "in_progress"),
    }
    expected |= {(state, "cancelled") for state in ("pending", "in_progress", "blocked", "review_needed")}
    assert arrows(TASK) == expected


def test_a_completed_task_stays_completed():
    assert TASK.allowed("completed") == ()
    with pytest.raises(TransitionRefusedError, match="Nothing follows completed"):
        TASK.check("completed", "in_progress")


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_closed_packages_are_frozen_and_only_admins_and_executives_may_ask_to_reopen_them(state: str):
    assert PACKAGE.phase(state) is Phase.FROZEN
    assert [set(step.roles) for step in PACKAGE.allowed(state)] == [{Role.ADMIN, Role.EXECUTIVE}]


def test_phases():
    assert PACKAGE.phase("draft") is Phase.DRAFT
    assert PACKAGE.phase("awarded") is Phase.LIVE
    assert PACKAGE.phase("nowhere") is None


def test_a_refused_step_names_those_that_are_allowed():
    with pytest.raises(TransitionRefusedError) as caught:
        PACKAGE.check("in_review", "active")
    assert caught.value.status == 409
    assert caught.value.extra == {"allowed": ["submitted", "approved", "cancelled"]}
    assert caught.value.detail == (
        "From in_review to active there is no step. Allowed next: submitted, approved, cancelled."
    )


def test_a_state_that_does_not_exist_names_those_that_do():
    with pytest.raises(TransitionRefusedError, match=r"nowhere is not a state here; the states are draft, submitted"):
        PACKAGE.check("nowhere", "active")


def test_an_allowed_step_is_given_back():
    assert PACKAGE.check("approved", "awarded").name == "award"
    assert PACKAGE.find("approved", "awarded") is PACKAGE.check("approved", "awarded")
    assert PACKAGE.find("approved", "active") is None


def test_steps_can_be_asked_for_by_role():
    assert [step.name for step in PACKAGE.allowed("completed", [Role.ANALYST])] == []
    assert [step.name for step in PACKAGE.allowed("completed", [Role.ANALYST, Role.EXECUTIVE])] == ["reopen"]


def test_every_guard_of_the_design_is_asked_for_where_it_belongs():
    assert set(PACKAGE.check("approved", "awarded").guards or ()) == {"vendor_set", "amount_set"}
    assert all(guard in GUARDS for one in (PACKAGE, TASK) for step in one.transitions for guard in step.guards or ())


def _broken(change: dict[str, Any]) -> dict[str, Any]:
    document = default_document()
    lifecycle = document["lifecycles"]["task"]
    lifecycle.update(change.get("lifecycle", {}))
    lifecycle["states"].update(change.get("states", {}))
    for index, values in change.get("transitions", {}).items():
        lifecycle["transitions"][index].update(values)
    return document


@pytest.mark.parametrize(
    ("change", "pointer", "problem"),
    [
        ({"lifecycle": {"initial": "born"}}, "/initial", "'born' is not one of the states: pending, in_progress"),
        ({"states": {"limbo": {"phase": "live"}}}, "/states/limbo", "no sequence of transitions leads from 'pending'"),
        ({"transitions": {0: {"to": "nowhere"}}}, "/transitions/0/to", "'nowhere' is not one of the states"),
        ({"transitions": {0: {"from": ["nowhere"]}}}, "/transitions/0/from/0", "'nowhere' is not one of the states"),
        ({"transitions": {0: {"from": ["in_progress"]}}}, "/transitions/0/from/0", "to itself changes nothing"),
        (
            {"transitions": {1: {"name": "start"}}},
            "/transitions/1/name",
            "'start' is the name of an earlier transition",
        ),
        (
            {"transitions": {3: {"from": ["in_progress"], "to": "completed"}}},
            "/transitions/5/from/0",
            "'request_review' already leads from 'in_progress' to 'completed'",
        ),
        (
            {"transitions": {0: {"guards": ["moon_full"]}}},
            "/transitions/0/guards/0",
            "'moon_full' is not a known guard",
        ),
    ],
)
def test_what_is_wrong_with_a_lifecycle_is_said_where_it_is(change: dict[str, Any], pointer: str, problem: str):
    with pytest.raises(PolicyDocumentError) as caught:
        Policy.parse(_broken(change))
    found = {one["pointer"]: one["problem"] for one in caught.value.errors}
    assert problem in found[f"/lifecycles/task{pointer}"]
