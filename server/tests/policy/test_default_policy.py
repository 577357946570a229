"""The shipped policy, case by case, against section 5 of the design."""

from __future__ import annotations

from typing import Any

import pytest

from pmis.policy.arbitrate import Facts, arbitrate
from pmis.policy.document import default_policy
from pmis.policy.levels import Level, Route
from pmis.policy.lifecycle import Phase
from tests.policy.samples import facts

POLICY = default_policy()
AUTO, CONFIRM, APPROVAL = Route.AUTO, Route.CONFIRM, Route.APPROVAL_REQUIRED
EXECUTIVE, ESCALATE, REJECT = Route.EXECUTIVE_APPROVAL, Route.ESCALATE, Route.REJECT

MATRIX = """
low       AUTO      AUTO      CONFIRM   APPROVAL
medium    CONFIRM   CONFIRM   APPROVAL  APPROVAL
high      APPROVAL  APPROVAL  EXECUTIVE EXECUTIVE
critical  EXECUTIVE EXECUTIVE ESCALATE  ESCALATE
"""


def test_the_matrix_is_that_of_the_design():
    names = {"APPROVAL": APPROVAL, "EXECUTIVE": EXECUTIVE, "AUTO": AUTO, "CONFIRM": CONFIRM, "ESCALATE": ESCALATE}
    for line in MATRIX.strip().splitlines():
        impact, *cells = line.split()
        for uncertainty, cell in zip(Level, cells, strict=True):
            assert POLICY.matrix.route(Level.parse(impact), uncertainty) is names[cell]


def money(before: str | None, after: str | None, currency: str = "USD", budget: str | None = None) -> dict[str, Any]:
    return {
        "amount_before": before,
        "amount_after": after,
        "currency_before": currency if before else None,
        "currency_after": currency if after else None,
        "budget": budget,
        "budget_currency": currency if budget else None,
    }


def step(source: str, to: str, target: str = "package", **more: Any) -> Facts:
    more.setdefault("fields", ["status"])
    return facts("transition", target, status=source, to_status=to, **more)


def draft(**more: Any) -> Facts:
    return facts("patch", status="draft", **more)


def active(**more: Any) -> Facts:
    return facts("patch", status="active", **more)


CASES: list[tuple[str, Facts, Route, str]] = [
    # Drafts
    ("a person writes a title", draft(fields=["title", "description"]), AUTO, "matrix.low.low"),
    ("an agent writes a title", draft(fields=["title"], writer="agent"), AUTO, "matrix.low.medium"),
    (
        "an agent guesses a date",
        draft(fields=["planned_end"], writer="agent", flags=["inexact"]),
        CONFIRM,
        "matrix.low.high",
    ),
    (
        "an agent quotes a mail",
        draft(fields=["title"], writer="agent", flags=["untrusted_text"]),
        CONFIRM,
        "matrix.low.high",
    ),
    ("an import writes a title", draft(fields=["title"], writer="import"), AUTO, "matrix.low.medium"),
    ("a mail writes a title, nobody reads it", draft(fields=["title"], writer="email"), APPROVAL, "confirm.nobody"),
    (
        "a mail writes a title, a person passes it on",
        draft(fields=["title"], writer="email", person_behind=True),
        CONFIRM,
        "matrix.low.high",
    ),
    ("an unknown field", draft(fields=["moon_phase"]), CONFIRM, "matrix.medium.low"),
    (
        "a new amount within reason",
        draft(fields=["amount", "currency"], **money(None, "1000000")),
        AUTO,
        "matrix.low.low",
    ),
    ("a large new amount", draft(fields=["amount"], **money(None, "1000000.01")), CONFIRM, "matrix.medium.low"),
    ("a huge new amount", draft(fields=["amount"], **money("1", "10000001.01")), APPROVAL, "matrix.high.low"),
    (
        "a quarter of the budget",
        draft(fields=["amount"], **money("100", "350", budget="1000")),
        AUTO,
        "matrix.low.low",
    ),
    (
        "more than a quarter of the budget",
        draft(fields=["amount"], **money("100", "351", budget="1000")),
        CONFIRM,
        "matrix.medium.low",
    ),
    (
        "more than half of the budget is taken away",
        draft(fields=["amount"], **money("700", "100", budget="1000")),
        APPROVAL,
        "matrix.high.low",
    ),
    (
        "another currency",
        draft(fields=["currency"], amount_before=5, amount_after=5, currency_before="USD", currency_after="EUR"),
        APPROVAL,
        "matrix.high.low",
    ),
    ("a vendor, even in a draft", draft(fields=["vendor_id"]), EXECUTIVE, "matrix.critical.low"),
    ("a late planned end in a draft", draft(fields=["planned_end"], slip_days=400), AUTO, "matrix.low.low"),
    # Creating and deleting
    ("a person creates a draft", facts("create", fields=["title", "vendor_id"]), AUTO, "matrix.low.low"),
    (
        "a person creates a draft for a million",
        facts("create", fields=["amount"], **money(None, "1000000")),
        AUTO,
        "matrix.low.low",
    ),
    # A new draft commits nobody to anything: its amount is judged when it is approved and awarded.
    ("a large one", facts("create", fields=["amount"], **money(None, "1000001")), AUTO, "matrix.low.low"),
    ("a huge one", facts("create", fields=["amount"], **money(None, "10000001")), AUTO, "matrix.low.low"),
    ("deleting a draft", facts("delete", status="draft"), CONFIRM, "matrix.medium.low"),
    ("deleting what is live", facts("delete", status="submitted"), APPROVAL, "matrix.high.low"),
    ("restoring a draft", facts("restore", status="draft"), CONFIRM, "matrix.medium.low"),
    ("restoring what was live", facts("restore", status="active"), APPROVAL, "package.past_draft"),
    # Past draft
    ("a title past draft", active(fields=["title"]), APPROVAL, "package.past_draft"),
    ("a title when the state is not stated", facts("patch", fields=["title"]), APPROVAL, "package.past_draft"),
    ("a small amount", active(fields=["amount"], **money("10", "11", budget="1000")), APPROVAL, "package.past_draft"),
    (
        "a quarter of the budget, live",
        active(fields=["amount"], **money("100", "351", budget="1000")),
        APPROVAL,
        "matrix.high.low",
    ),
    (
        "half of the budget, live",
        active(fields=["amount"], **money("100", "601", budget="1000")),
        EXECUTIVE,
        "matrix.critical.low",
    ),
    ("a very large sum", active(fields=["amount"], **money("1", "1000002")), APPROVAL, "matrix.high.low"),
    ("an enormous sum", active(fields=["amount"], **money("1", "10000002")), EXECUTIVE, "matrix.critical.low"),
    (
        "a very large sum from a mail",
        active(fields=["amount"], writer="email", **money("1", "1000002")),
        EXECUTIVE,
        "matrix.high.high",
    ),
    (
        "an enormous sum from a mail",
        active(fields=["amount"], writer="email", **money("1", "10000002")),
        ESCALATE,
        "matrix.critical.high",
    ),
    ("a slip of two weeks", active(fields=["planned_end"], slip_days=14), APPROVAL, "package.past_draft"),
    ("a slip of two months and a day", active(fields=["planned_end"], slip_days=61), APPROVAL, "matrix.high.low"),
    ("a slip of half a year", active(fields=["planned_end"], slip_days=181), EXECUTIVE, "matrix.critical.low"),
    ("the vendor", active(fields=["vendor_id"]), EXECUTIVE, "matrix.critical.low"),
    ("the vendor, says a mail", active(fields=["vendor_id"], writer="email"), ESCALATE, "matrix.critical.high"),
    # The life of a package
    ("submitting", step("draft", "submitted"), AUTO, "matrix.low.low"),
    ("reviewing", step("submitted", "in_review"), APPROVAL, "package.past_draft"),
    ("revising", step("in_review", "submitted"), APPROVAL, "package.past_draft"),
    ("approving", step("in_review", "approved"), APPROVAL, "base.package.approve.floor"),
    ("awarding", step("approved", "awarded"), APPROVAL, "matrix.high.low"),
    (
        "awarding to the first vendor",
        step("approved", "awarded", fields=["status", "vendor_id"], first_set=["vendor_id"]),
        APPROVAL,
        "matrix.high.low",
    ),
    (
        "awarding to another vendor than planned",
        step("approved", "awarded", fields=["status", "vendor_id"]),
        EXECUTIVE,
        "matrix.critical.low",
    ),
    (
        "a vendor slipped into another step",
        step("awarded", "active", fields=["status", "vendor_id"], first_set=["vendor_id"]),
        EXECUTIVE,
        "matrix.critical.low",
    ),
    ("starting work", step("awarded", "active"), APPROVAL, "package.past_draft"),
    ("completing", step("active", "completed"), APPROVAL, "package.past_draft"),
    ("cancelling a draft", step("draft", "cancelled"), CONFIRM, "matrix.medium.low"),
    ("cancelling what was submitted", step("submitted", "cancelled"), APPROVAL, "package.past_draft"),
    ("cancelling what is active", step("active", "cancelled"), APPROVAL, "matrix.high.low"),
    (
        "cancelling what is active, says a mail",
        step("active", "cancelled", writer="email"),
        EXECUTIVE,
        "matrix.high.high",
    ),
    ("reopening", step("completed", "active"), EXECUTIVE, "matrix.critical.low"),
    ("reviving", step("cancelled", "submitted"), EXECUTIVE, "matrix.critical.low"),
    ("a step that does not exist", step("draft", "awarded"), REJECT, "refused.transition"),
    ("writing a status by hand", draft(fields=["status"]), REJECT, "refused.transition"),
    ("changing what is completed", facts("patch", status="completed", fields=["title"]), REJECT, "package.frozen"),
    ("deleting what is cancelled", facts("delete", status="cancelled"), REJECT, "package.frozen"),
    # Tasks and comments
    ("a person makes a task", facts("create", "task"), AUTO, "matrix.low.low"),
    ("starting a task", step("pending", "in_progress", "task"), AUTO, "matrix.low.low"),
    ("blocking a task", step("in_progress", "blocked", "task"), AUTO, "matrix.low.low"),
    ("asking for review", step("in_progress", "review_needed", "task"), AUTO, "matrix.low.low"),
    ("completing a task", step("review_needed", "completed", "task"), AUTO, "matrix.low.low"),
    ("cancelling a task", step("blocked", "cancelled", "task"), CONFIRM, "matrix.medium.low"),
    (
        "a task due a week later",
        facts("patch", "task", status="pending", fields=["due_date"], slip_days=7),
        AUTO,
        "matrix.low.low",
    ),
    (
        "eight days",
        facts("patch", "task", status="pending", fields=["due_date"], slip_days=8),
        CONFIRM,
        "matrix.medium.low",
    ),
    (
        "a month",
        facts("patch", "task", status="pending", fields=["due_date"], slip_days=31),
        APPROVAL,
        "matrix.high.low",
    ),
    ("a completed task", facts("patch", "task", status="completed", fields=["title"]), REJECT, "task.frozen"),
    ("reopening a task", step("completed", "in_progress", "task"), REJECT, "refused.transition"),
    ("a comment", facts("create", "comment", fields=["body"]), AUTO, "matrix.low.low"),
    ("a comment by an agent", facts("create", "comment", writer="agent"), AUTO, "matrix.low.medium"),
    # Parties
    ("a memory", facts("create", "memory", fields=["text", "kind"]), AUTO, "matrix.low.low"),
    ("a memory by an agent", facts("create", "memory", writer="agent", fields=["text"]), AUTO, "matrix.low.medium"),
    ("forgetting one's own", facts("delete", "memory"), AUTO, "matrix.low.low"),
    ("forgetting another's", facts("delete", "memory", flags=["of_another"]), APPROVAL, "matrix.high.low"),
    (
        "correcting another's",
        facts("patch", "memory", fields=["text"], flags=["of_another"]),
        APPROVAL,
        "matrix.high.low",
    ),
    ("a new party", facts("create", "party", fields=["name", "email"]), AUTO, "matrix.low.low"),
    ("a party with bank details", facts("create", "party", fields=["name", "bank_details"]), EXECUTIVE, "party.bank"),
    ("bank details", facts("patch", "party", fields=["bank_details"]), EXECUTIVE, "matrix.critical.low"),
    (
        "bank details from an import",
        facts("patch", "party", fields=["bank_details"], writer="import"),
        EXECUTIVE,
        "matrix.critical.medium",
    ),
    ("a party's e-mail", facts("patch", "party", fields=["email"]), APPROVAL, "matrix.high.low"),
    ("a party's name", facts("patch", "party", fields=["name"]), CONFIRM, "matrix.medium.low"),
    ("deleting a party", facts("delete", "party"), APPROVAL, "matrix.high.low"),
    # The instance and its rules
    ("a project", facts("create", "project"), AUTO, "matrix.low.low"),
    ("a project's budget", facts("patch", "project", fields=["budget"]), APPROVAL, "matrix.high.low"),
    ("deleting a project", facts("delete", "project"), EXECUTIVE, "matrix.critical.low"),
    ("granting a role", facts("create", "membership"), APPROVAL, "matrix.high.low"),
    ("granting a role, says an agent", facts("create", "membership", writer="agent"), REJECT, "governance.people"),
    ("a delegation", facts("create", "delegation"), CONFIRM, "matrix.medium.low"),
    ("a delegation, says a mail", facts("create", "delegation", writer="email"), REJECT, "governance.people"),
    ("a person", facts("create", "person"), CONFIRM, "matrix.medium.low"),
    ("a person's name", facts("patch", "person", fields=["name"]), AUTO, "matrix.low.low"),
    ("a person's e-mail", facts("patch", "person", fields=["email"]), APPROVAL, "matrix.high.low"),
    (
        "an administrator of the instance",
        facts("patch", "person", fields=["instance_admin"]),
        EXECUTIVE,
        "matrix.critical.low",
    ),
    (
        "an administrator from the start",
        facts("create", "person", fields=["instance_admin"]),
        EXECUTIVE,
        "person.instance_admin",
    ),
    ("the policy", facts("patch", "policy", fields=["document"]), EXECUTIVE, "matrix.critical.low"),
    ("the policy, says an agent", facts("patch", "policy", writer="agent"), REJECT, "governance.people"),
    ("a package type", facts("create", "package_type"), CONFIRM, "matrix.medium.low"),
    ("changing a package type", facts("patch", "package_type", fields=["description"]), APPROVAL, "matrix.high.low"),
]


@pytest.mark.parametrize(("change", "route", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_change_goes_where_the_design_says(change: Facts, route: Route, rule: str):
    decision = arbitrate(change, POLICY)
    assert (decision.route, decision.rule) == (route, rule), [reason.to_json() for reason in decision.reasons]
    assert any(reason.rule == rule for reason in decision.reasons)


def test_every_change_of_a_package_past_draft_takes_at_least_an_approval():
    package = POLICY.lifecycles["package"]
    past = [state for state in package.states if package.phase(state) is not Phase.DRAFT]
    for status in past:
        for operation in ("patch", "delete", "restore"):
            assert arbitrate(facts(operation, status=status), POLICY).route.severity >= APPROVAL.severity
        for onward in package.allowed(status):
            assert arbitrate(step(status, onward.to), POLICY).route.severity >= APPROVAL.severity


@pytest.mark.parametrize("writer", ["agent", "email"])
def test_neither_agent_nor_mail_touches_people_roles_delegations_or_the_policy(writer: str):
    for noun in ("membership", "delegation", "person", "policy"):
        for operation in POLICY.nouns[noun].operations:
            assert arbitrate(facts(operation, noun, writer, person_behind=True), POLICY).route is REJECT


def test_nothing_from_a_mail_applies_by_itself():
    for noun, rule in POLICY.nouns.items():
        for operation in rule.operations:
            assert arbitrate(facts(operation, noun, "email", status="draft"), POLICY).route is not AUTO


class TestWhoMustAgree:
    def test_nobody_for_auto_and_confirm(self):
        for change in (draft(fields=["title"]), step("draft", "cancelled")):
            assert arbitrate(change, POLICY).steps == ()

    def test_one_administrator_for_an_approval(self):
        decision = arbitrate(active(fields=["title"]), POLICY)
        assert [(one.roles, one.quorum) for one in decision.steps] == [(("admin",), 1)]
        assert decision.expires_hours == 336
        assert not decision.step_up

    def test_two_people_one_of_them_an_executive_for_an_executive_approval(self):
        decision = arbitrate(active(fields=["vendor_id"]), POLICY)
        assert [one.roles for one in decision.steps] == [("admin", "executive"), ("executive",)]
        assert sum(one.quorum for one in decision.steps) == 2
        assert decision.step_up

    def test_an_escalation_notifies_at_once_and_has_a_deadline(self):
        decision = arbitrate(active(fields=["vendor_id"], writer="email"), POLICY)
        assert decision.notify_at_once
        assert decision.deadline_hours == 24
        assert decision.steps == arbitrate(active(fields=["vendor_id"]), POLICY).steps

    def test_an_executive_joins_for_a_large_award(self):
        small = arbitrate(step("approved", "awarded", **money("1000000", "1000000")), POLICY)
        large = arbitrate(step("approved", "awarded", **money("1000001", "1000001")), POLICY)
        assert [one.id for one in small.steps] == ["admin"]
        assert [one.id for one in large.steps] == ["admin", "executive"]
        assert (small.route, large.route) == (APPROVAL, APPROVAL)

    def test_the_executive_of_an_executive_approval_is_not_asked_twice(self):
        decision = arbitrate(active(fields=["amount", "vendor_id"], **money("1", "9000000")), POLICY)
        assert [one.id for one in decision.steps] == ["decider", "executive"]
