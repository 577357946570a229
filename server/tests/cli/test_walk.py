"""The main job, as people do it: propose, have it judged, let somebody else agree, see it applied once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.cli.conftest import approval_in, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]

DEMO_PASSWORD = b"demo-demo-demo\n"


def test_an_analyst_proposes_an_admin_agrees_and_the_package_shows_it(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Kerb stones", amount="1000.00", currency="EUR", status="submitted")

    proposed = pmis("package", "transition", code, "in_review", "--reason", "All there.", "--as", "analyst")
    assert proposed.code == 0, proposed
    approval = approval_in(proposed.out)
    assert proposed.out.splitlines()[0] == (
        f"Waits for 1 admin (an administrator); rule package.past_draft; approval {approval}."
    )
    assert "status  submitted → in_review" in proposed.out
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["status"] == "submitted"

    waiting = pmis("approval", "list", "--mine", "--as", "admin")
    assert approval in waiting.out
    assert approval not in pmis("approval", "list", "--mine", "--as", "analyst").out
    shown = pmis("approval", "show", approval, "--as", "admin").out
    assert "by Ana Analyst" in shown
    assert "All there." in shown
    assert "1 admin (an administrator)" in shown

    agreed = pmis("approval", "approve", approval, "--yes", "--reason", "Fine.", "--as", "admin")
    assert agreed.code == 0, agreed
    assert agreed.out == (
        f"{code} Kerb stones is now in_review (version 3); rule package.past_draft; approval {approval}.\n"
    )
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["status"] == "in_review"
    again = pmis("approval", "approve", approval, "--yes", "--as", "admin2")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: This approval is applied")
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["version"] == 3

    told = pmis("package", "timeline", code, "--as", "viewer").out
    assert re.search(
        r"package.transitioned \(review\)  Ada Admin, through cli\n    status  submitted → in_review", told
    )
    assert f"approval {approval}" in told
    assert "Fine." in told


def test_nobody_approves_their_own_change(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Own goal", status="submitted", who="admin", agreeing="admin2")
    approval = approval_in(pmis("package", "propose", code, "--title", "Mine", "--as", "admin").out)
    refused = pmis("approval", "approve", approval, "--yes", "--as", "admin")
    assert refused.code == 1
    assert refused.err == "error: Nobody decides their own change, nor one that was proposed in their name.\n"
    assert pmis("package", "show", code, "--json", "--as", "admin").json["title"] == "Own goal"


def test_a_rejection_needs_a_reason_and_changes_nothing(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Gravel", status="submitted")
    approval = approval_in(pmis("package", "propose", code, "--title", "Sand", "--as", "analyst").out)
    bare = pmis("approval", "reject", approval, "--as", "admin")
    assert bare.code == 2
    assert "--reason" in bare.err
    blank = pmis("approval", "reject", approval, "--reason", "  ", "--as", "admin")
    assert blank.code == 1
    assert blank.err.startswith("error: reason: ")
    rejected = pmis("approval", "reject", approval, "--reason", "No sand.", "--as", "admin")
    assert rejected.code == 0
    assert rejected.out == f"{code} Gravel: the proposal is rejected. Nothing was changed.\n"
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["title"] == "Gravel"
    shown = pmis("approval", "show", approval, "--as", "analyst").out
    assert "rejected" in shown.splitlines()[0]
    assert "Ada Admin rejects" in shown
    assert "No sand." in shown


def test_an_approval_goes_stale_when_its_package_moves(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Culvert", status="submitted")
    stale = approval_in(pmis("package", "propose", code, "--title", "One", "--as", "analyst").out)
    other = approval_in(pmis("package", "propose", code, "--title", "Two", "--as", "operator").out)
    assert pmis("approval", "approve", other, "--yes", "--as", "admin").code == 0
    refused = pmis("approval", "approve", stale, "--yes", "--as", "admin")
    assert refused.code == 1
    assert "changed in the meantime" in refused.err
    assert "it collides in title" in refused.err
    assert "colliding  title" in pmis("approval", "show", stale, "--as", "analyst").out
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["title"] == "Two"

    revised = pmis("approval", "revise", stale, "--set", "title=Three", "--as", "analyst")
    assert revised.code == 0, revised
    assert "title  Two → Three" in revised.out
    assert pmis("approval", "approve", approval_in(revised.out), "--yes", "--as", "admin").code == 0
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["title"] == "Three"


def test_changes_are_asked_for_and_made(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Railing", amount="900.00", currency="EUR", status="submitted")
    first = approval_in(pmis("package", "propose", code, "--amount", "9000", "--as", "analyst").out)
    asked = pmis("approval", "request-changes", first, "--reason", "A nought too many.", "--as", "admin")
    assert asked.out == f"{code} Railing: the proposal goes back to who proposed it. Nothing was changed.\n"
    revised = pmis("approval", "revise", first, "--set", "amount=990.50", "--as", "analyst", "--json").json
    assert revised["approval"]["supersedes"] is not None
    assert revised["approval"]["changes"][0]["patch"] == {"amount": "990.50"}
    assert pmis("approval", "withdraw", revised["approval"]["id"], "--as", "operator").code == 1
    withdrawn = pmis("approval", "withdraw", revised["approval"]["id"], "--as", "analyst")
    assert withdrawn.out == f"{code} Railing: the proposal is withdrawn.\n"


def test_an_award_above_a_tier_waits_for_both(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Tunnel", amount="1200000.00", currency="EUR", status="approved")
    proposed = pmis("package", "transition", code, "awarded", "--vendor", "Northern Roads Ltd", "--as", "analyst")
    assert proposed.code == 0, proposed
    approval = approval_in(proposed.out)
    assert "Waits for 1 admin (an administrator) and 1 executive (an executive)" in proposed.out
    assert "vendor  — → Northern Roads Ltd (" in proposed.out
    first = pmis("approval", "approve", approval, "--yes", "--as", "admin")
    assert first.out == f"Your yes is recorded; approval {approval} still waits for 1 executive (an executive).\n"
    assert pmis("package", "show", code, "--json", "--as", "analyst").json["status"] == "approved"
    twice = pmis("approval", "approve", approval, "--yes", "--as", "admin")
    assert (twice.code, "One person counts once" in twice.err) == (1, True)
    second = pmis("approval", "approve", approval, "--yes", "--as", "executive")
    assert second.out.startswith(f"{code} Tunnel is now awarded")


def test_a_change_of_some_weight_asks_its_proposer_again(pmis: Pmis, make_package: Callable[..., str]):
    code = make_package("Park", amount="100.00", currency="EUR")
    proposed = pmis("package", "propose", code, "--amount", "2500000", "--as", "analyst")
    approval = approval_in(proposed.out)
    assert "Waits for your own yes" in proposed.out
    assert "amount  100.00 EUR → 2,500,000.00 EUR" in proposed.out
    assert f"pmis approval confirm {approval}" in proposed.out
    assert approval in pmis("approval", "list", "--mine", "--as", "analyst").out
    assert pmis("approval", "confirm", approval, "--yes", "--as", "operator").code == 1
    done = pmis("approval", "confirm", approval, "--yes", "--as", "analyst")
    assert done.out.startswith(f"{code} Park is changed (version 2)"), done
    assert "amount   2,500,000.00 EUR" in pmis("package", "show", code, "--as", "viewer").out


def test_the_whole_walk_as_processes_of_their_own(home: object, live_api: LiveApi):
    where = {"PMIS_URL": live_api.url}
    for who in ("analyst", "admin"):
        signed = spawn(
            "login", f"{who}@demo.example", "--password-stdin", "--as", who, stdin=DEMO_PASSWORD, environment=where
        )
        assert (signed.code, signed.err) == (0, ""), signed
        assert signed.out.startswith(f"Signed in at {live_api.url} as ")
    created = spawn(
        "package", "create", "--title", "By hand", "--amount", "10.00", "--currency", "EUR", "--json", "--as", "analyst"
    )
    assert created.code == 0, created
    code = created.json["resource"]["code"]
    assert spawn("package", "transition", code, "submitted", environment={"PMIS_PROFILE": "analyst"}).code == 0
    approval = approval_in(spawn("package", "transition", code, "in_review", "--as", "analyst").out)
    agreed = spawn("approval", "approve", approval, "--yes", "--as", "admin")
    assert (agreed.code, agreed.err) == (0, ""), agreed
    assert spawn("package", "show", code, "--json", "--as", "analyst").json["status"] == "in_review"
