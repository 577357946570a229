"""The tables of statuses, case by case, and ways that the shipped policy really allows."""

from __future__ import annotations

from itertools import product

import pytest

from pmis.ocds.check import AWARD_STATUSES, CONTRACT_STATUSES, MILESTONE_STATUSES, TENDER_STATUSES
from pmis.ocds.lifecycle import (
    award_status,
    contract_status,
    held_at,
    milestone_status,
    package_path,
    package_status,
    task_path,
    tender_status,
)
from tests.ocds.office import DEFAULT_POLICY

PACKAGE = DEFAULT_POLICY.lifecycles["package"]
TASK = DEFAULT_POLICY.lifecycles["task"]


@pytest.mark.parametrize(
    ("tender", "award", "contracts", "tags", "status"),
    [
        ({}, None, [], ["planning"], "draft"),
        ({}, None, [], [], "draft"),
        ({"status": "planning"}, None, [], ["tender"], "draft"),
        ({"status": "planned"}, None, [], ["planning"], "draft"),
        ({"status": "active"}, None, [], [], "approved"),
        ({"status": "complete"}, None, [], [], "approved"),
        ({"status": "cancelled"}, None, [], [], "cancelled"),
        ({"status": "unsuccessful"}, None, [], [], "cancelled"),
        ({"status": "withdrawn"}, None, [], [], "cancelled"),
        ({}, None, [], ["planning", "tender"], "approved"),
        ({}, None, [], ["tender", "tenderAmendment", "award"], "approved"),
        ({}, None, [], ["tender", "tenderCancellation"], "cancelled"),
        ({"status": "open"}, None, [], ["tender"], "approved"),
        ({"status": "active"}, {"status": "pending"}, [], [], "awarded"),
        ({"status": "active"}, {"status": "active"}, [], [], "awarded"),
        ({}, {}, [], ["award"], "awarded"),
        ({}, {}, [], ["award", "awardCancellation"], "cancelled"),
        ({"status": "complete"}, {"status": "cancelled"}, [], [], "cancelled"),
        ({"status": "complete"}, {"status": "unsuccessful"}, [], [], "cancelled"),
        ({}, {"status": "active"}, [{"status": "pending"}], [], "awarded"),
        ({}, {"status": "active"}, [{"status": "active"}], [], "active"),
        ({}, {"status": "active"}, [{"status": "terminated"}], [], "completed"),
        ({}, {"status": "active"}, [{"status": "cancelled"}], [], "awarded"),
        ({}, {"status": "cancelled"}, [{"status": "cancelled"}], [], "cancelled"),
        ({}, {"status": "cancelled"}, [{"status": "pending"}], [], "cancelled"),
        ({}, {"status": "active"}, [{"status": "terminated"}, {"status": "active"}], [], "active"),
        ({}, {"status": "active"}, [{"status": "terminated"}, {"status": "cancelled"}], [], "completed"),
        ({}, {"status": "active"}, [{"status": "terminated"}, {"status": "pending"}], [], "completed"),
        ({"status": "complete"}, None, [{"status": "pending"}], [], "awarded"),
        ({"status": "complete"}, None, [{"status": "cancelled"}], [], "approved"),
        ({}, {}, [{}], ["contract"], "awarded"),
        ({}, {}, [{"dateSigned": "2020-01-01"}], ["contract"], "active"),
        ({}, {}, [{"implementation": {"transactions": [{"id": "1"}]}}], ["implementation"], "active"),
        ({}, {}, [{"dateSigned": "2020-01-01"}], ["contract", "contractTermination"], "completed"),
    ],
)
def test_the_furthest_stage_decides(tender, award, contracts, tags, status):
    assert package_status(tender, award, contracts, tags) == status


def test_every_code_of_the_standard_has_a_meaning():
    meant = set(PACKAGE.states)
    assert {tender_status({"status": code}, []) for code in TENDER_STATUSES} <= meant
    assert {award_status({"status": code}, []) for code in AWARD_STATUSES} <= meant
    assert {contract_status({"status": code}, []) for code in CONTRACT_STATUSES} <= meant | {None}
    assert {milestone_status({"id": "1", "status": code}) for code in MILESTONE_STATUSES} <= set(TASK.states)


@pytest.mark.parametrize(
    ("milestone", "status"),
    [
        ({"id": "1", "title": "x"}, "pending"),
        ({"id": "1", "status": "scheduled"}, "pending"),
        ({"id": "1", "status": "notMet"}, "pending"),
        ({"id": "1", "status": "partiallyMet"}, "in_progress"),
        ({"id": "1", "status": "met"}, "completed"),
        ({"id": "1", "dateMet": "2020-01-01"}, "completed"),
        ({"id": "1", "dateMet": "2020-01-01", "status": "notMet"}, "pending"),
        ({"id": "1"}, "cancelled"),
    ],
)
def test_milestones(milestone, status):
    assert milestone_status(milestone) == status


@pytest.mark.parametrize(
    ("current", "target", "path"),
    [
        ("draft", "completed", ("submitted", "in_review", "approved", "awarded", "active", "completed")),
        ("in_review", "approved", ("approved",)),
        ("active", "awarded", None),
        ("on_hold", "active", None),
        ("on_hold", "completed", ("active", "completed")),
        ("on_hold", "cancelled", ("cancelled",)),
        ("completed", "active", None),
        ("completed", "cancelled", None),
        ("cancelled", "awarded", None),
        ("approved", "approved", ()),
    ],
)
def test_ways_of_a_package(current, target, path):
    assert package_path(current, target) == path


@pytest.mark.parametrize(
    ("lifecycle", "path_of"), [(PACKAGE, package_path), (TASK, task_path)], ids=["package", "task"]
)
def test_every_way_is_one_that_the_shipped_policy_allows(lifecycle, path_of):
    targets = {"draft", "approved", "awarded", "active", "completed", "cancelled"}
    if lifecycle is TASK:
        targets = {"pending", "in_progress", "completed", "cancelled"}
    for current, target in product(lifecycle.states, targets):
        at = current
        for step in path_of(current, target) or ():
            lifecycle.check(at, step)
            at = step
        assert at in (current, target)


@pytest.mark.parametrize(
    ("status", "fields", "open_tasks", "reached"),
    [
        ("approved", {}, False, "in_review"),
        ("approved", {"amount": "1"}, False, "approved"),
        ("awarded", {"amount": "1"}, False, "approved"),
        ("awarded", {"vendor_id": "x"}, False, "in_review"),
        ("active", {"amount": "1", "vendor_id": "x", "planned_start": "2020-01-01"}, False, "awarded"),
        ("completed", {"amount": "1", "vendor_id": "x", "planned_start": "1", "planned_end": "2"}, False, "completed"),
        ("completed", {"amount": "1", "vendor_id": "x", "planned_start": "1", "planned_end": "2"}, True, "active"),
        ("cancelled", {}, True, "cancelled"),
        ("draft", {}, True, "draft"),
    ],
)
def test_a_package_stops_before_a_step_that_it_cannot_take(status, fields, open_tasks, reached):
    assert held_at(status, fields, open_tasks=open_tasks)[0] == reached


def test_what_is_held_back_is_what_the_shipped_policy_guards():
    """Were the policy's guards to change, the importer would propose steps that are refused."""
    guards = {
        step.to: step.guards
        for step in PACKAGE.transitions
        if step.name in ("approve", "award", "activate", "complete", "submit", "review")
    }
    assert {to: sorted(names or ()) for to, names in guards.items()} == {
        "submitted": ["title_set"],
        "in_review": [],
        "approved": ["amount_set"],
        "awarded": ["amount_set", "vendor_set"],
        "active": ["planned_dates_set"],
        "completed": ["no_open_tasks"],
    }
