"""Memories on the command line: remembered, found, corrected, forgotten, and made findable anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]

TEXT = "The mayor wants the carillon before the fair."


@pytest.fixture
def code(pmis: Pmis, make_package: Callable[..., str]) -> str:
    return make_package("Remembered of")


def stored(pmis: Pmis, code: str, text: str = TEXT, *more: str) -> str:
    said = pmis("memory", "store", "package", code, text, *more, "--json", "--as", "analyst")
    assert said.code == 0, said
    return said.json["resource"]["id"]


class TestStoring:
    def test_it_is_stored_listed_and_shown(self, pmis: Pmis, code: str):
        said = pmis("memory", "store", "package", code, TEXT, "--kind", "decision", "--as", "analyst")
        assert said.out == "the memory is created (version 1); rule matrix.low.low; applied at once.\n"
        listed = pmis("memory", "list", "package", code, "--as", "viewer").out
        assert re.search(r"decision +Ana Analyst +The mayor wants the carillon", listed), listed
        identity = pmis("memory", "list", "package", code, "--json", "--as", "viewer").json["items"][0]["id"]
        shown = pmis("memory", "show", identity[-8:], "--as", "viewer").out
        assert TEXT in shown
        assert (
            pmis("memory", "list", "package", code, "--kind", "analysis", "--json", "--as", "viewer").json["items"]
            == []
        )

    def test_it_says_what_it_rests_on(self, pmis: Pmis, code: str):
        identity = stored(pmis, code, TEXT, "--source", f"package:{code}")
        sources = pmis("memory", "show", identity, "--json", "--as", "viewer").json["sources"]
        assert [one["type"] for one in sources] == ["package"]

    def test_what_is_not_understood(self, pmis: Pmis, code: str):
        for arguments, words in (
            (("store", "package", code, TEXT, "--source", "nothing"), "is not of the form TYPE:ID"),
            (("list", "package"), "Say which package."),
            (("store", "cloud", code, TEXT), "entity_type"),
            (("store", "package", code, TEXT, "--kind", "rumour"), "kind"),
        ):
            refused = pmis("memory", *arguments, "--as", "analyst")
            assert (refused.code != 0, words in refused.err) == (True, True), refused


class TestFinding:
    def test_it_says_why(self, pmis: Pmis, code: str):
        stored(pmis, code)
        found = pmis(
            "memory", "search", "When does the mayor want the carillon?", "package", code, "--as", "viewer"
        ).out
        assert re.search(r"words \(no\. 1\) +context +The mayor wants", found), found
        nothing = pmis("memory", "search", "zeppelin", "package", code, "--as", "viewer").out
        assert nothing == "Nothing is remembered that has to do with it.\n"


class TestForgetting:
    def test_it_is_corrected_forgotten_and_restored(self, pmis: Pmis, code: str):
        identity = stored(pmis, code)
        corrected = pmis("memory", "correct", identity, "--text", "The mayor has no wishes.", "--as", "analyst")
        assert corrected.out == "the memory is changed (version 2); rule matrix.low.low; applied at once.\n"
        timeline = pmis("memory", "timeline", identity, "--as", "viewer").out
        assert TEXT in timeline
        forgotten = pmis("memory", "forget", identity, "--as", "analyst")
        assert forgotten.out == "the memory is deleted (version 3); rule matrix.low.low; applied at once.\n"
        listed = ("memory", "list", "package", code, "--json", "--as", "viewer")
        assert pmis(*listed).json["items"] == []
        assert len(pmis(*listed, "--deleted").json["items"]) == 1
        assert pmis("memory", "restore", identity, "--as", "analyst").code == 0
        assert len(pmis(*listed).json["items"]) == 1

    def test_that_of_somebody_else_waits_for_an_approval(self, pmis: Pmis, code: str):
        waits = pmis("memory", "forget", stored(pmis, code), "--as", "operator")
        assert (waits.code, "Waits for 1 admin" in waits.out) == (0, True), waits


def test_what_they_are_found_by_is_made_anew(pmis: Pmis, code: str, live_api: LiveApi, monkeypatch: pytest.MonkeyPatch):
    stored(pmis, code)
    monkeypatch.setenv("DATABASE_URL", live_api.database.app_dsn)
    monkeypatch.setenv("SECRET_KEY", SECRET)
    made = pmis("memory", "reindex")
    assert re.fullmatch(r"\d+ memories were made findable, by hashing:1\n", made.out), made
    found = pmis("memory", "search", "carillons wanted", "package", code, "--as", "viewer").out
    assert re.search(r"meaning \(no\. 1, 0\.\d\d\)", found), found
    assert pmis("memory", "reindex", "--json").json == {"memories": 0, "embedder": "hashing:1"}
    assert pmis("memory", "reindex", "--all", "--json").json["memories"] >= 1
