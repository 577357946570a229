"""Packages, tasks, parties, projects, comments and package types: the same commands with the same meaning."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from pmis.cli.lookup import SCANNED
from pmis.ops.console import create_administrator
from tests.cli.conftest import approval_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


def unique(word: str) -> str:
    return f"{word}{time.monotonic_ns()}"


class TestPackages:
    def test_the_list_has_what_people_look_for(self, pmis: Pmis):
        listed = pmis("package", "list", "--search", "Bridge bearings", "--as", "viewer")
        assert listed.out.splitlines()[0].split("  ")[0] == "CODE"
        assert re.search(
            r"^P-006 +Bridge bearings +active +275,000\.00 EUR +\d{4}-\d\d-\d\d$", listed.out, re.MULTILINE
        )

    @pytest.mark.parametrize(
        ("filters", "codes"),
        [
            (("--status", "on_hold,cancelled"), {"P-007", "P-009"}),
            (
                ("--amount-min", "300000", "--amount-max", "600000", "--status", "in_review,approved"),
                {"P-003", "P-004"},
            ),
            (("--search", "bridge"), {"P-006"}),
            (("--vendor", "Northern Roads Ltd"), {"P-005", "P-006", "P-007", "P-008"}),
            (("--vendor", "office@northern-roads.example", "--status", "active"), {"P-006"}),
            (("--owner", "Omar Operator", "--search", "survey"), {"P-001"}),
            (("--project", "P", "--search", "detour"), {"P-009"}),
        ],
    )
    def test_it_is_narrowed(self, pmis: Pmis, filters: tuple[str, ...], codes: set[str]):
        found = pmis("package", "list", *filters, "--json", "--as", "viewer").json["items"]
        assert {item["code"] for item in found if int(item["code"][2:]) < 10} == codes

    def test_it_is_sorted(self, pmis: Pmis):
        found = pmis("package", "list", "--sort", "-amount", "--limit", "2", "--json", "--as", "viewer").json["items"]
        amounts = [float(item["amount"]) for item in found]
        assert amounts == sorted(amounts, reverse=True)
        refused = pmis("package", "list", "--sort", "colour", "--as", "viewer")
        assert (refused.code, "there is no order 'colour'" in refused.err) == (1, True)

    def test_one_is_shown_whole(self, pmis: Pmis):
        shown = pmis("package", "show", "p-006", "--as", "viewer").out.splitlines()
        assert shown[0] == "P-006 Bridge bearings"
        text = "\n".join(shown)
        assert re.search(r"owner +Omar Operator \([0-9a-f]{8}\)", text)
        assert re.search(r"vendor +Northern Roads Ltd \([0-9a-f]{8}\)", text)
        assert re.search(r"amount +275,000\.00 EUR", text)
        assert re.search(r"version +\d+, ", text)

    def test_it_is_made_with_all_its_fields_and_shown_as_it_was(self, pmis: Pmis):
        title = unique("Whole")
        made = pmis(
            *("package", "create", "--title", title, "--description", "Two\nlines", "--owner", "me"),
            *("--amount", "12.50", "--currency", "EUR", "--planned-start", "2026-12-01", "--planned-end", "2027-01-31"),
            *("--external-ref", unique("ref"), "--data", "lots=3", "--data", 'code="007"', "--data", "note=plain text"),
            *("--project", "P", "--reason", "It is needed.", "--json", "--as", "analyst"),
        ).json["resource"]
        assert made["data"] == {"lots": 3, "code": "007", "note": "plain text"}
        assert made["amount"] == "12.50"
        first = made["updated_at"]
        changed = pmis(
            *("package", "propose", made["code"], "--set", "description=null", "--set", "data=null", "--as", "analyst")
        )
        assert changed.code == 1  # a description is text; empty it with an empty one
        assert "/description" in changed.err
        assert (
            pmis("package", "propose", made["code"], "--description", "", "--data", "lots=4", "--as", "analyst").code
            == 0
        )
        now = pmis("package", "show", made["code"], "--json", "--as", "analyst").json
        assert (now["description"], now["data"]["lots"], now["data"]["code"]) == ("", 4, "007")
        then = pmis("package", "show", made["code"], "--as-of", first, "--json", "--as", "analyst").json
        assert (then["description"], then["data"]["lots"], then["version"]) == ("Two\nlines", 3, 1)
        told = pmis("package", "timeline", made["code"], "--as", "analyst").out
        assert "data.lots    3 → 4" in told
        assert "description  Two\n" in told
        assert "reason         It is needed." in told
        assert "amount         12.50 EUR" in told

    def test_each_amount_of_the_past_has_its_own_currency(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Currency", amount="100.00", currency="EUR")
        approval = approval_in(
            pmis("package", "propose", code, "--amount", "110", "--currency", "USD", "--as", "analyst").out
        )
        assert pmis("approval", "approve", approval, "--yes", "--as", "admin").code == 0
        told = pmis("package", "timeline", code, "--as", "viewer").out
        assert "100.00 EUR → 110.00 USD" in told
        assert re.search(r"amount +100\.00 EUR\n", told)

    def test_a_dry_run_tells_all_and_writes_nothing(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Dry", amount="100.00", currency="EUR", status="submitted")
        shown = pmis("package", "propose", code, "--vendor", "Northern Roads Ltd", "--dry-run", "--as", "analyst")
        assert shown.code == 0
        assert "vendor  — → Northern Roads Ltd (" in shown.out
        assert (
            "It would wait for 1 admin or executive (an administrator or executive) and 1 executive (an executive); "
            "rule matrix.critical.low. Nothing was written." in shown.out
        ), shown.out
        assert "route  EXECUTIVE_APPROVAL" in shown.out
        assert "Changing the vendor takes an executive. [package.vendor]" in shown.out
        at_once = pmis("task", "create", "--package", code, "--title", "No", "--dry-run", "--as", "analyst")
        assert "It would be applied at once; rule " in at_once.out
        assert pmis("task", "list", "--package", code, "--json", "--as", "analyst").json["items"] == []
        assert pmis("package", "show", code, "--json", "--as", "analyst").json["version"] == 2
        assert pmis("approval", "list", "--package", code, "--json", "--as", "analyst").json["items"] == []

    def test_a_stated_risk_only_raises(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Stated")
        raised = pmis("package", "propose", code, "--title", "Raised", "--impact", "high", "--as", "analyst")
        assert "Waits for 1 admin" in raised.out
        lowered = pmis(
            *("package", "propose", code, "--amount", "2000000", "--currency", "EUR", "--impact", "low"),
            *("--uncertainty", "low", "--dry-run", "--as", "analyst"),
        )
        assert "a statement never lowers what the facts say" in lowered.out

    def test_a_version_seen_is_a_version_meant(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Seen")
        assert pmis("package", "propose", code, "--title", "Once", "--if-match", "1", "--as", "analyst").code == 0
        stale = pmis("package", "propose", code, "--title", "Twice", "--if-match", "1", "--as", "operator")
        assert stale.code == 1
        assert stale.err == "error: You saw version 1; it is at version 2 now. Read it again and repeat.\n"

    def test_a_step_that_is_not_possible_names_those_that_are(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Steps")
        refused = pmis("package", "transition", code, "awarded", "--as", "analyst")
        assert refused.err == "error: From draft to awarded there is no step. Allowed next: submitted, cancelled.\n"
        assert pmis("package", "steps", code, "--as", "viewer").out.splitlines()[0] == "now draft"

    def test_a_step_that_needs_something_says_so(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Needy", status="in_review")
        listed = pmis("package", "steps", code, "--as", "viewer").out
        amount = "an amount with its currency"
        assert re.search(rf"^approved +approve +no +{amount} +{amount}$", listed, re.MULTILINE)
        full = make_package("Full", amount="9", currency="EUR", status="in_review")
        listed = pmis("package", "steps", full, "--as", "viewer").out
        assert re.search(rf"^approved +approve +no +{amount}( +—)?$", listed, re.MULTILINE), listed
        refused = pmis("package", "transition", code, "approved", "--as", "analyst")
        assert refused.err == "error: in_review → approved needs an amount with its currency.\n"
        brought = pmis(
            "package", "transition", code, "approved", "--amount", "9", "--currency", "EUR", "--as", "analyst"
        )
        assert "amount    — → 9.00 EUR" in brought.out

    def test_it_is_deleted_and_comes_back(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Lazarus")
        gone = pmis("package", "delete", code, "--reason", "Twice.", "--json", "--as", "analyst").json
        if gone["outcome"] != "applied":
            assert pmis("approval", "confirm", gone["approval"]["id"], "--yes", "--as", "analyst").code == 0
        listed = ("package", "list", "--search", "Lazarus", "--json", "--as", "analyst")
        assert pmis(*listed).json["items"] == []
        assert [item["code"] for item in pmis(*listed, "--deleted").json["items"]] == [code]
        assert "deleted by  Ana Analyst" in pmis("package", "show", code, "--as", "viewer").out
        refused = pmis("package", "propose", code, "--title", "No", "--as", "analyst")
        assert (refused.code, "Restore it first" in refused.err) == (1, True)
        back = pmis("package", "restore", code, "--json", "--as", "analyst").json
        if back["outcome"] != "applied":
            assert pmis("approval", "confirm", back["approval"]["id"], "--yes", "--as", "analyst").code == 0
        assert [item["code"] for item in pmis(*listed).json["items"]] == [code]


class TestTasks:
    def test_its_whole_life(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("With a task")
        title = unique("Weld")
        made = pmis(
            *(
                "task",
                "create",
                "--package",
                code,
                "--title",
                title,
                "--assignee",
                "Omar Operator",
                "--due",
                "2027-03-01",
            ),
            *("--json", "--as", "analyst"),
        ).json["resource"]
        short = made["id"][-8:]
        listed = pmis("task", "list", "--package", code, "--as", "viewer").out
        assert re.search(
            rf"^{short}  {title}  pending  2027-03-01  Omar Operator \([0-9a-f]{{8}}\)  {code} With a task$",
            listed,
            re.MULTILINE,
        )
        assert pmis("task", "list", "--assignee", "me", "--search", title, "--json", "--as", "operator").json["items"]
        assert (
            pmis("task", "list", "--assignee", "me", "--search", title, "--json", "--as", "analyst").json["items"] == []
        )
        assert pmis("task", "transition", short, "in_progress", "--as", "operator").out.startswith(
            f"{title} is now in_progress (version 2)"
        )
        later = ("task", "propose", short, "--due", "2027-03-05")
        unreasoned = pmis(*later, "--as", "operator")
        assert (unreasoned.code, "needs a reason" in unreasoned.err) == (1, True)
        assert pmis(*later, "--reason", "The offers are late.", "--as", "operator").code == 0
        assert pmis("task", "transition", short, "completed", "--as", "operator").code == 0
        frozen = pmis("task", "propose", short, "--title", "Again", "--as", "operator")
        assert (frozen.code, "frozen" in frozen.err) == (1, True)
        shown = pmis("task", "show", short, "--as", "viewer").out
        assert f"package   {code} With a task\n" in shown
        told = pmis("task", "timeline", short, "--as", "viewer").out
        assert "due date  2027-03-01 → 2027-03-05" in told
        assert told.count("task.transitioned") == 2

    def test_a_new_one_needs_a_package(self, pmis: Pmis):
        assert "needs --package and --title" in pmis("task", "create", "--as", "analyst").err
        refused = pmis("task", "create", "--package", "P-999", "--title", "X", "--as", "analyst")
        assert (refused.code, refused.err) == (1, "error: There is no such package.\n")


class TestParties:
    def test_it_is_found_by_every_name_it_has(self, pmis: Pmis):
        name = unique("Smith & Sons ")
        made = pmis(
            *("party", "create", "--name", name, "--kind", "vendor", "--email", f"{unique('a')}@smith.example"),
            *("--set", 'contacts=[{"name": "Sam Smith", "phone": "+49 30 1"}]', "--json", "--as", "analyst"),
        ).json["resource"]
        for reference in (name, name.upper(), made["email"], made["id"], made["id"][-8:]):
            shown = pmis("party", "show", reference, "--as", "analyst")
            assert shown.out.splitlines()[0] == name, shown
        assert "Sam Smith" in shown.out
        listed = pmis("party", "list", "--kind", "vendor,both", "--search", "Smith", "--as", "viewer").out
        assert made["id"][-8:] in listed

    def test_two_of_one_name_are_told_apart(self, pmis: Pmis):
        name = unique("Double")
        made = [
            pmis("party", "create", "--name", name, "--kind", "customer", "--json", "--as", "analyst").json["resource"]
            for _ in range(2)
        ]
        refused = pmis("party", "show", name, "--as", "analyst")
        assert refused.code == 1
        assert "names 2 of them" in refused.err
        assert all(one["id"][-8:] in refused.err for one in made)

    def test_bank_details_take_an_executive_and_are_hidden_from_others(self, pmis: Pmis):
        name = unique("Bank")
        assert pmis("party", "create", "--name", name, "--kind", "vendor", "--as", "analyst").code == 0
        proposed = pmis(
            *("party", "propose", name, "--set", 'bank_details={"holder": "H", "iban": "DE89370400440532013000"}'),
            *("--as", "analyst"),
        )
        approval = approval_in(proposed.out)
        assert "executive" in proposed.out.splitlines()[0]
        assert "DE89" not in proposed.out
        assert "bank details" in proposed.out
        assert "DE89" in pmis("approval", "show", approval, "--as", "executive").out
        # What one may not see is not proposed again as if it were the value.
        assert pmis("approval", "withdraw", approval, "--as", "analyst").code == 0
        refused = pmis("approval", "revise", approval, "--set", "name=Other", "--as", "analyst")
        assert (refused.code, "You cannot see bank_details" in refused.err) == (1, True)

    def test_a_fragment_that_fits_nothing(self, pmis: Pmis):
        for reference in ("00000000", "0" * 20, "nobody@nowhere.example", "No Such Party"):
            refused = pmis("party", "show", reference, "--as", "analyst")
            assert refused.code == 1
            assert "There is no party" in refused.err, refused


class TestProjects:
    def test_they_are_listed_and_shown(self, pmis: Pmis):
        listed = pmis("project", "list", "--as", "viewer").out
        assert re.search(r"^P +Ring road east +10,000,000\.00 EUR +EUR +Europe/Berlin$", listed, re.MULTILINE)
        assert "budget       10,000,000.00 EUR" in pmis("project", "show", "P", "--as", "viewer").out
        assert "project.created" in pmis("project", "timeline", "P", "--limit", "200", "--as", "viewer").out

    def test_a_change_is_proposed(self, pmis: Pmis):
        shown = pmis("project", "propose", "P", "--budget", "12000000", "--dry-run", "--as", "admin")
        assert "budget  10,000,000.00 EUR → 12,000,000.00 EUR" in shown.out
        refused = pmis("project", "propose", "P", "--name", "Mine", "--as", "analyst")
        assert (refused.code, "Only an admin may propose this" in refused.err) == (1, True)

    def test_from_nothing_to_a_project_of_ones_own(self, pmis: Pmis, signed_in: LiveApi):
        # By somebody else than the demo's people: who founds a project is in it, and then has to name one each time.
        prefix, password = f"N{time.monotonic_ns() % 10**8}", "correct horse battery"
        email = f"{prefix.lower()}@example.org"
        create_administrator(signed_in.settings, name="Fay Founder", email=email, password=password, another=True)
        entered = pmis("login", email, "--password-stdin", "--as", "founder", "--url", signed_in.url, stdin=password)
        assert entered.code == 0, entered
        made = pmis(
            *("project", "create", "--name", "From nothing", "--prefix", prefix, "--currency", "EUR", "--json"),
            *("--as", "founder"),
        )
        assert made.code == 0, made
        outcome = made.json
        while outcome["outcome"] != "applied":
            who = {"confirmation_required": "founder", "pending": "executive"}[outcome["outcome"]]
            verb = "confirm" if who == "founder" else "approve"
            outcome = pmis("approval", verb, outcome["approval"]["id"], "--yes", "--json", "--as", who).json
        assert outcome["resource"]["prefix"] == prefix
        assert pmis("project", "show", prefix, "--as", "founder").code == 0
        assert pmis("project", "show", prefix, "--as", "admin").code == 1


class TestComments:
    def test_they_are_said_and_listed(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Talked about")
        said = pmis("comment", "add", "package", code, "First line\nsecond", "--as", "analyst")
        assert said.out == "the comment is created (version 1); rule matrix.low.low; applied at once.\n"
        listed = pmis("comment", "list", "package", code, "--as", "viewer").out
        assert re.search(r"Ana Analyst  First line second$", listed, re.MULTILINE)
        assert "body         First line\n" in pmis("package", "timeline", code, "--as", "viewer").out
        assert pmis("comment", "add", "package", code, "   ", "--as", "analyst").code == 1
        assert pmis("comment", "add", "cloud", code, "x", "--as", "analyst").code == 1
        assert pmis("comment", "add", "package", code, "x", "--as", "viewer").code == 1


class TestPackageTypes:
    def test_extra_fields_are_held_to_their_schema(self, pmis: Pmis):
        name = unique("Works")
        schema = '{"type": "object", "properties": {"lots": {"type": "integer", "minimum": 1}}}'
        made = pmis("package-type", "create", "--name", name, "--schema", schema, "--json", "--as", "admin")
        assert made.code == 0, made
        outcome = made.json
        if outcome["outcome"] == "confirmation_required":
            outcome = pmis("approval", "confirm", outcome["approval"]["id"], "--yes", "--json", "--as", "admin").json
        assert outcome["outcome"] == "applied"
        assert name in pmis("package-type", "list", "--all", "--as", "viewer").out
        refused = pmis(
            *("package", "create", "--title", "Typed", "--type", name, "--data", "lots=0", "--as", "analyst")
        )
        assert (refused.code, "data/lots: 0 is less than the minimum of 1" in refused.err) == (1, True)
        assert (
            pmis("package", "create", "--title", "Typed", "--type", name, "--data", "lots=2", "--as", "analyst").code
            == 0
        )

    def test_a_schema_that_is_no_json_is_not_understood(self, pmis: Pmis):
        refused = pmis("package-type", "create", "--name", "X", "--schema", "{", "--as", "admin")
        assert (refused.code, "not valid JSON" in refused.err) == (2, True)


def test_a_short_id_is_looked_for_in_a_bounded_part():
    assert SCANNED <= 10_000
