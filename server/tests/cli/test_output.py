"""Tables for people, JSON for programs, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pmis.cli import accounts
from pmis.cli.accounts import Account
from pmis.cli.client import Api
from pmis.cli.lookup import Lookup
from pmis.cli.output import needed
from tests.cli.conftest import run, serving, spawn, spawn_tty

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]

LONG = "A very long title that no window of eighty columns can show beside everything else " * 3


class TestForPrograms:
    @pytest.mark.parametrize(
        ("command", "path"),
        [
            (("package", "list"), ("packages",)),
            (("package", "show", "P-001"), ("packages", "P-001")),
            (("package", "steps", "P-001"), ("packages", "P-001", "transitions")),
            (("task", "list"), ("tasks",)),
            (("party", "list"), ("parties",)),
            (("project", "show", "P"), ("projects", "P")),
            (("people", "list"), ("people",)),
            (("approval", "list", "--status", "any"), ("approvals",)),
            (("policy", "show"), ("policy",)),
            (("whoami",), ("auth", "me")),
        ],
        ids=" ".join,
    )
    def test_the_json_is_the_apis_own(
        self, pmis: Pmis, live_api: LiveApi, command: tuple[str, ...], path: tuple[str, ...]
    ):
        printed = pmis(*command, "--json", "--as", "admin")
        assert (printed.code, printed.err) == (0, "")
        api = Api(live_api.url, Account(live_api.url, live_api.tokens["admin"]))
        try:
            said = api.get(*path, limit=50 if "list" in command else None)
        finally:
            api.close()
        assert printed.out.encode() == said.body + b"\n"

    def test_refusals_and_outcomes_are_json_too(self, pmis: Pmis):
        outcome = pmis("package", "create", "--title", "For a program", "--json", "--as", "analyst").json
        assert outcome["outcome"] == "applied"
        assert outcome["resource"]["title"] == "For a program"
        preview = pmis("package", "propose", "P-001", "--title", "No", "--dry-run", "--json", "--as", "analyst").json
        assert preview["outcome"] == "preview"


class TestForPeople:
    def test_nothing_is_cut_wrapped_or_coloured_where_no_terminal_is(
        self, pmis: Pmis, make_package: Callable[..., str]
    ):
        title = f"Uncut {LONG.strip()}"
        code = make_package(title)
        listed = pmis("package", "list", "--search", "Uncut", "--as", "viewer")
        assert "\x1b" not in listed.out
        [line] = [line for line in listed.out.splitlines() if line.startswith(code)]
        assert title in line
        assert all(line == line.rstrip() for line in listed.out.splitlines())

    @pytest.mark.parametrize("columns", [50, 60, 100])
    def test_a_table_fits_the_window(self, signed_in: LiveApi, make_package: Callable[..., str], columns: int):
        code = make_package(f"Fits {LONG}", amount="1234567.00", currency="EUR")
        shown = spawn_tty("package", "list", "--limit", "5", "--as", "viewer", columns=columns)
        assert shown.code == 0, shown
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.out)
        rows = [line for line in plain.splitlines() if re.match(r"P-\d+ ", line)]
        assert len(rows) == 5, shown.out
        assert all(len(line) <= columns for line in rows), plain
        [row] = [line for line in rows if line.startswith(code)]
        assert "1,234,567.00 EUR" in row
        assert "…" in row
        # What does not matter most is left out, not cut, and the table says so.
        assert ("Too narrow for PLANNED END." in plain) is ("PLANNED END" not in plain.splitlines()[0])
        assert columns > 50 or "Too narrow" in plain

    def test_colours_are_for_terminals_that_want_them(self, signed_in: LiveApi):
        wanted = spawn_tty("package", "list", "--limit", "2", "--as", "viewer")
        assert "\x1b[1m" in wanted.out
        unwanted = spawn_tty("package", "show", "P-001", "--as", "viewer", environment={"NO_COLOR": "1"})
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", unwanted.out)
        dumb = spawn_tty("package", "list", "--limit", "2", "--as", "viewer", environment={"TERM": "dumb"})
        assert "\x1b" not in dumb.out

    def test_an_old_locale_is_no_failure(self, signed_in: LiveApi, make_package: Callable[..., str]):
        code = make_package("Straße 橋")
        shown = spawn("package", "show", code, "--as", "viewer", environment={"PYTHONIOENCODING": "ascii"})
        assert shown.code == 0, shown
        assert shown.out.splitlines()[0] == f"{code} Stra?e ?"

    def test_a_reader_that_has_seen_enough_is_no_failure(self, signed_in: LiveApi):
        import subprocess
        import sys

        command = f"{sys.executable} -P -m pmis.cli.main policy show --document --as admin | head -1"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60)
        assert done.stdout == b"{\n"
        assert b"Traceback" not in done.stderr
        assert b"error" not in done.stderr

    def test_what_others_wrote_does_not_steer_the_terminal(self, home: Path):
        """The API takes no control characters; a server that does not care must do no harm either."""
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        nasty = "\x1b]0;owned\x07\x1b[2J \u202eevil\r"
        record = {"id": nasty, "code": nasty, "title": nasty, "status": nasty, "version": 1, "updated_at": nasty}
        problem = {"detail": nasty, "errors": [{"pointer": nasty, "message": nasty}] * 2}
        app = Starlette(
            routes=[
                Route("/api/v1/packages", lambda _: JSONResponse({"items": [record], "next": None})),
                Route("/api/v1/packages/P-1", lambda _: JSONResponse(record)),
                Route("/api/v1/packages/P-2", lambda _: JSONResponse(problem, 409)),
            ]
        )
        with serving(app) as one:
            accounts.keep(Account(one.url, "token", "default"))
            for arguments in (["list"], ["show", "P-1"], ["show", "P-2"]):
                shown = run("package", *arguments)
                printed = shown.out + shown.err
                assert "\\u001b" in printed
                assert not set("\x1b\x07\r\u202e") & set(printed)

    def test_an_empty_list_says_so(self, pmis: Pmis):
        nothing = pmis("package", "list", "--search", "nosuchword", "--as", "viewer")
        assert (nothing.code, nothing.out, nothing.err) == (0, "", "There are no such packages.\n")
        assert json.loads(pmis("package", "list", "--search", "nosuchword", "--json", "--as", "viewer").out) == {
            "items": [],
            "next": None,
        }


def test_who_must_agree_is_said_with_those_above_whoever_stayed_silent():
    lookup = Lookup(Api("http://pmis.test", None))
    step: dict[str, Any] = {"id": "admin", "name": "An administrator", "roles": ["admin"], "quorum": 2, "missing": 2}
    assert needed([step], lookup, serial=False) == "2 admins (an administrator)"
    above = {**step, "missing": 1, "bypass": ["executive"]}
    assert needed([above], lookup, serial=False) == "1 admin, or any executive (an administrator)"
