"""Talking with the assistant on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

    Pmis = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("signed_in")


def test_one_message_is_answered_with_what_it_rests_on(pmis: Pmis):
    said = pmis("chat", "say", "What", "is", "the", "status", "of", "P-001?", "--as", "viewer")
    assert said.code == 0, said.err
    assert "P-001" in said.out
    assert "[package] P-001" in said.out
    as_json = pmis("chat", "say", "What is the status of P-001?", "--as", "viewer", "--json").json
    assert as_json["action_type"] == "answer"


def test_what_is_asked_for_is_proposed_and_waits(pmis: Pmis):
    said = pmis("chat", "say", "Set the amount of P-004 to 541,000 EUR", "--as", "analyst", "--json").json
    (change,) = said["changes"]
    assert (change["target"], change["outcome"]) == ("P-004", "pending")
    shown = pmis("approval", "show", change["approval_id"], "--as", "admin").out
    assert "541" in shown
    assert "Asked of the assistant" in shown
    assert pmis("approval", "withdraw", change["approval_id"], "--as", "analyst").code == 0


def test_a_conversation_line_by_line_then_listed_shown_exported_and_deleted(pmis: Pmis, tmp_path: Path):
    talked = pmis("chat", "--as", "viewer", stdin="What is the status of P-001?\nand who owns it?\n\n")
    assert talked.code == 0, talked.err
    assert "owner" in talked.out
    newest = pmis("chat", "list", "--as", "viewer", "--json").json["items"][0]
    assert newest["turns"] == 2
    assert "What is the status of P-001?" in pmis("chat", "list", "--as", "viewer").out
    shown = pmis("chat", "show", newest["id"], "--as", "viewer").out
    assert "> and who owns it?" in shown
    file = tmp_path / "talk.md"
    assert pmis("chat", "export", newest["id"], str(file), "--as", "viewer").code == 0
    assert "**Assistant**" in file.read_text()
    assert pmis("chat", "resume", newest["id"], "--as", "viewer").code == 0
    assert "no such conversation" in pmis("chat", "show", newest["id"], "--as", "admin").err
    assert pmis("chat", "delete", newest["id"], "--as", "viewer").out == "Deleted, with 2 turns.\n"


def test_what_it_did_is_shown_to_administrators(pmis: Pmis):
    pmis("chat", "say", "What is overdue?", "--as", "viewer")
    shown = pmis("chat", "usage", "--as", "admin")
    assert "TOKENS READ" in shown.out, shown.err
    assert "none" in shown.out
    assert pmis("chat", "usage", "--as", "viewer").code == 1


def test_only_an_administrator_stops_it_and_everybody_is_told_why(pmis: Pmis):
    assert pmis("chat", "status", "--as", "viewer").out == "The assistant works.\n"
    assert pmis("chat", "stop", "--as", "viewer").code == 1
    try:
        stopped = pmis("chat", "stop", "--reason", "A strange proposal.", "--as", "admin")
        assert stopped.out.endswith("A strange proposal.\n"), stopped.err
        refused = pmis("chat", "say", "What is overdue?", "--as", "viewer")
        assert refused.code == 1
        assert "A strange proposal." in refused.err
    finally:
        assert pmis("chat", "start", "--as", "admin").out == "The assistant works.\n"
