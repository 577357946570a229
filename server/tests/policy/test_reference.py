"""The reference page says what is there: nothing missing, and its example is what the program prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pmis.policy.access import PERMISSIONS, Action, Role
from pmis.policy.approvers import Refusal
from pmis.policy.arbitrate import arbitrate, explain
from pmis.policy.document import FLAGS, FloorWhen, Policy, PolicyDocumentError, RouteRule, StepRule, default_policy
from pmis.policy.levels import Route
from pmis.policy.lifecycle import GUARDS, Transition
from tests.policy.samples import default_document, facts

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "policy.md").read_text()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_is_what_the_program_prints():
    change = facts(
        "patch",
        writer="agent",
        status="active",
        fields=["amount", "planned_end"],
        amount_before=400_000,
        amount_after=1_250_000,
        currency_before="EUR",
        currency_after="EUR",
        budget=4_000_000,
        budget_currency="EUR",
        slip_days=20,
    )
    assert block("explanation").splitlines() == explain(arbitrate(change, default_policy()))


def test_the_example_of_a_fault_is_what_the_program_says():
    document = default_document()
    document["matrix"]["low"]["critical"] = "AUTO"
    with pytest.raises(PolicyDocumentError) as caught:
        Policy.parse(document)
    assert json.loads(block("json")) == {"code": caught.value.code, "errors": caught.value.errors}


NAMES = [
    *(
        info.alias or name
        for model in (Policy, FloorWhen, Transition, StepRule, RouteRule)
        for name, info in model.model_fields.items()
    ),
    *FLAGS,
    *GUARDS,
    *Route,
    *Refusal,
]


@pytest.mark.parametrize("name", sorted({str(name) for name in NAMES}))
def test_every_word_of_the_document_is_explained(name: str):
    assert f"`{name}`" in PAGE


def test_the_table_of_roles_is_that_of_the_program():
    heads, rows = [], {}
    for line in PAGE.partition("## Roles")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| |"):
            heads = cells[1:]
        elif line.startswith("| `"):
            for action in re.findall(r"`(\w+)`", cells[0]):
                rows[action] = {role for role, cell in zip(heads, cells[1:], strict=True) if cell == "x"}
    assert rows == {
        action.value: {role.value for role in Role if action in PERMISSIONS[role]}
        for action in Action
        if action is not Action.ADMINISTER
    }
