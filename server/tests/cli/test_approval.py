"""The inbox, and deciding about exactly what was shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pmis.cli import lookup
from tests.cli.conftest import approval_in, spawn_tty

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


@pytest.fixture
def waiting(pmis: Pmis, make_package: Callable[..., str]) -> tuple[str, dict[str, object]]:
    """A package, and the approval of a change of its title, as the API has it."""
    code = make_package("Before", status="submitted")
    said = pmis("package", "propose", code, "--title", "After", "--reason", "Because.", "--json", "--as", "analyst")
    return code, said.json["approval"]


class TestInbox:
    def test_the_demo_has_two_that_wait(self, pmis: Pmis):
        listed = pmis("approval", "list", "--mine", "--limit", "2", "--as", "admin").out
        assert re.search(
            r"^[0-9a-f]{8} .* Ana Analyst +transition P-004 Noise barriers +pending +1 admin", listed, re.MULTILINE
        )
        assert re.search(
            r"^[0-9a-f]{8} .* Omar Operator +patch P-006 Bridge bearings +pending +1 admin", listed, re.MULTILINE
        )
        nothing = pmis("approval", "list", "--mine", "--as", "viewer")
        assert (nothing.out, nothing.err) == ("", "Nothing waits for you.\n")

    def test_it_is_narrowed(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        code, approval = waiting
        one = ("approval", "list", "--package", code, "--json", "--as", "viewer")
        assert [item["id"] for item in pmis(*one).json["items"]] == [approval["id"]]
        assert pmis(*one, "--status", "rejected").json["items"] == []
        assert pmis(*one, "--route", "EXECUTIVE_APPROVAL").json["items"] == []
        assert len(pmis(*one, "--proposer", "Ana Analyst", "--status", "any").json["items"]) >= 1
        assert pmis(*one, "--proposer", "Omar Operator").json["items"] == []
        refused = pmis("approval", "list", "--status", "maybe", "--as", "viewer")
        assert (refused.code, "'maybe' is not one of" in refused.err) == (1, True)


class TestNaming:
    def test_by_the_code_of_its_package_while_it_waits(
        self, pmis: Pmis, waiting: tuple[str, dict[str, str]], make_package: Callable[..., str]
    ):
        code, approval = waiting
        for reference in (code, code.lower()):
            assert pmis("approval", "show", reference, "--json", "--as", "viewer").json["id"] == approval["id"]
        second = pmis("package", "propose", code, "--description", "Too.", "--json", "--as", "analyst").json["approval"]
        several = pmis("approval", "approve", code, "--yes", "--as", "admin")
        assert several.code == 1
        assert f"'{code}' names 2 of them" in several.err
        assert approval["id"] in several.err
        assert second["id"] in several.err
        assert pmis("approval", "withdraw", second["id"], "--as", "analyst").code == 0
        assert pmis("approval", "approve", code, "--yes", "--as", "admin").code == 0
        closed = pmis("approval", "show", code, "--as", "viewer")
        assert closed.err == f"error: No approval waits about {code}; one that is closed is named by its id.\n"
        other = make_package("Nothing waits")
        assert pmis("approval", "approve", other, "--yes", "--as", "admin").code == 1
        nothing = pmis("approval", "show", "P-99999", "--as", "viewer")
        assert (nothing.code, "There is no such package" in nothing.err) == (1, True)

    def test_by_id_by_its_end_and_by_its_beginning(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        identity = waiting[1]["id"]
        digits = identity.replace("-", "")
        for reference in (identity, identity.upper(), digits, digits[-8:], digits[-12:], identity[:23], digits[:24]):
            shown = pmis("approval", "show", reference, "--json", "--as", "viewer")
            assert shown.json["id"] == identity, shown

    def test_several_that_begin_alike_are_listed(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Alike", status="submitted")
        both = [
            pmis("package", "propose", code, "--title", title, "--json", "--as", "analyst").json["approval"]["id"]
            for title in ("One", "Two")
        ]
        # The first digits only tell the time: those of a whole minute are the same.
        refused = pmis("approval", "approve", both[0][:8], "--yes", "--as", "admin")
        assert refused.code == 1
        assert "Say which by its id" in refused.err or both[0][:8] != both[1][:8]
        assert pmis("package", "show", code, "--json", "--as", "viewer").json["title"] == "Alike"

    @pytest.mark.parametrize(
        "reference", ["1234567", "xyzxyzxy", "0" * 8, "latest", "0197c0de-0000-7000-8000-000000000000"]
    )
    def test_what_names_none(self, pmis: Pmis, reference: str):
        refused = pmis("approval", "approve", reference, "--yes", "--as", "admin")
        assert refused.code == 1
        assert refused.err.startswith("error: ")
        assert "approval" in refused.err

    def test_one_that_is_closed_is_found_too(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        short = waiting[1]["id"][-8:]
        assert pmis("approval", "reject", short, "--reason", "No.", "--as", "admin").code == 0
        assert pmis("approval", "show", short, "--as", "viewer").out.startswith(f"approval {short}: rejected\n")
        assert "approval.decided" in pmis("approval", "timeline", short, "--as", "viewer").out

    def test_only_so_many_are_looked_through(self, pmis: Pmis, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lookup, "SCANNED", 1)
        monkeypatch.setattr("pmis.cli.client.PAGE", 1)
        assert pmis("approval", "show", "f" * 8, "--as", "viewer").code == 1


class TestDeciding:
    def test_the_digest_of_what_was_shown_is_sent(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        code, approval = waiting
        shown = pmis("approval", "show", approval["id"], "--as", "admin").out
        assert f"digest    {approval['digest']}" in shown or f"digest   {approval['digest']}" in shown
        refused = pmis("approval", "approve", approval["id"], "--yes", "--digest", "0" * 64, "--as", "admin")
        assert refused.code == 1
        assert "You saw another version of this change" in refused.err
        for verb in ("reject", "request-changes"):
            assert (
                pmis("approval", verb, approval["id"], "--reason", "x", "--digest", "0" * 64, "--as", "admin").code == 1
            )
        agreed = pmis(
            "approval", "approve", approval["id"], "--yes", "--digest", approval["digest"], "--json", "--as", "admin"
        )
        assert agreed.json["outcome"] == "applied"
        assert pmis("package", "show", code, "--json", "--as", "viewer").json["title"] == "After"

    def test_without_a_terminal_a_yes_has_to_be_said(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        for verb in ("approve", "confirm"):
            refused = pmis("approval", verb, waiting[1]["id"], "--as", "admin")
            assert refused.code == 2
            assert "give --yes" in refused.err

    def test_on_a_terminal_it_shows_and_asks(self, signed_in: LiveApi, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        code, approval = waiting
        command = ("approval", "approve", approval["id"][-8:], "--as", "admin")
        no = spawn_tty(*command, answers=[("Agree to this? [y/N]:", "")], environment={"NO_COLOR": "1"})
        plain = re.sub(r"\x1b\[[0-9;]*m", "", no.out)
        assert no.code == 1
        assert "title  Before → After" in plain
        assert "Because." in plain
        assert pmis("package", "show", code, "--json", "--as", "viewer").json["title"] == "Before"
        yes = spawn_tty(*command, answers=[("Agree to this? [y/N]:", "y")])
        assert yes.code == 0
        assert pmis("package", "show", code, "--json", "--as", "viewer").json["title"] == "After"

    @pytest.mark.parametrize(
        ("who", "said"),
        [
            ("viewer", "No open step of this approval asks for one of your roles."),
            ("auditor", "No open step of this approval asks for one of your roles."),
            ("operator", "No open step of this approval asks for one of your roles."),
            ("analyst", "Nobody decides their own change"),
        ],
    )
    def test_who_may_not_is_told_why(self, pmis: Pmis, waiting: tuple[str, dict[str, str]], who: str, said: str):
        refused = pmis("approval", "approve", waiting[1]["id"], "--yes", "--as", who)
        assert refused.code == 1
        assert said in refused.err

    def test_a_revision_takes_only_what_is_said(self, pmis: Pmis, waiting: tuple[str, dict[str, str]]):
        _, approval = waiting
        early = pmis("approval", "revise", approval["id"], "--as", "analyst")
        assert (early.code, "one that was sent back or ended is revised" in early.err) == (1, True)
        assert pmis("approval", "withdraw", approval["id"], "--reason", "Typo.", "--as", "analyst").code == 0
        assert (
            pmis("approval", "revise", approval["id"], "--target", "f" * 8, "--set", "title=X", "--as", "analyst").code
            == 1
        )
        assert pmis("approval", "revise", approval["id"], "--as", "operator").code == 1
        again = pmis(
            "approval", "revise", approval["id"], "--set", "description=More", "--json", "--as", "analyst"
        ).json
        assert again["approval"]["changes"][0]["patch"] == {"title": "After", "description": "More"}
        assert again["approval"]["reason"] == "Because."
        assert (
            "supersedes"
            in pmis("approval", "show", approval_in(f"approval {again['approval']['id'][-8:]}"), "--as", "viewer").out
        )
