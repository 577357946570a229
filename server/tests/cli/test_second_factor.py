"""Second factors and fresh proofs on the command line."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.identity.secondfactor import code_at
from pmis.ops.console import create_administrator
from pmis.ops.demo import PASSWORD
from tests.cli.conftest import run, spawn_tty

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import LiveApi

PROMPT = "Password, to prove that it is you: "


def sign_in(api: LiveApi, email: str, name: str, *more: str) -> int:
    return run("login", email, "--as", name, "--password-stdin", "--url", api.url, *more, stdin=PASSWORD).code


def make_stale(api: LiveApi, email: str) -> None:
    """Let somebody's last proof lie two days back; every process reads it afresh."""
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as connection:
        connection.execute(
            "update identity.session set authenticated_at = authenticated_at - interval '2 days' "
            "where person_id = (select person_id from identity.credential where email = %s)",
            (email,),
        )
    time.sleep(1.1)


@pytest.fixture
def zoe(home: Path, live_api: LiveApi) -> str:
    """The address of somebody who is signed in as `zoe`."""
    email = f"zoe{time.monotonic_ns()}@demo.example"
    create_administrator(live_api.settings, name=f"Zoe {email[3:9]}", email=email, password=PASSWORD, another=True)
    assert sign_in(live_api, email, "zoe") == 0
    return email


def enable(name: str) -> tuple[bytes, list[str]]:
    """Set a second factor up, as a program that types does: the secret, and the recovery codes."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "pmis.cli.main", "second-factor", "enable", "--as", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        secret = base64.b32decode(process.stdout.readline().strip())
        process.stdout.readline()
        process.stdin.write(code_at(secret, int(time.time()) // 30) + "\n")
        process.stdin.flush()
        rest = process.stdout.read()
    assert process.returncode == 0
    codes = re.findall(r"^  ([a-z2-7]{4}(?:-[a-z2-7]{4}){3})$", rest, re.MULTILINE)
    assert len(codes) == 10, rest
    return secret, codes


def test_with_one_a_code_is_asked_for(zoe: str, live_api: LiveApi):
    assert "no second factor" in run("second-factor", "show", "--as", "zoe").out
    _, codes = enable("zoe")
    assert "10 recovery codes are left" in run("second-factor", "show", "--as", "zoe").out
    refused = run("login", zoe, "--as", "there", "--password-stdin", "--url", live_api.url, stdin=PASSWORD)
    assert (refused.code, "`code`" in refused.err) == (1, True)
    assert sign_in(live_api, zoe, "there", "--code", codes[0]) == 0
    assert sign_in(live_api, zoe, "there", "--code", codes[0]) == 1
    asked = spawn_tty(
        *("login", zoe, "--as", "there", "--url", live_api.url),
        answers=[("Password: ", PASSWORD), ("Code: ", codes[1])],
    )
    assert asked.code == 0, asked
    said = run("reauthenticate", "--password-stdin", "--code", codes[2], "--as", "zoe", stdin=PASSWORD)
    assert (said.code, said.out.startswith("That is fresh until 20")) == (0, True), said
    assert run("second-factor", "disable", "--as", "zoe").code == 1
    removed = run("second-factor", "disable", "--code", codes[3], "--as", "zoe")
    assert removed.out == "Your second factor is removed.\n"
    assert run("second-factor", "disable", "--as", "zoe").out == "You had no second factor.\n"
    assert sign_in(live_api, zoe, "there") == 0


def test_an_administrator_resets_it(zoe: str, live_api: LiveApi):
    enable("zoe")
    other = f"x{zoe}"
    create_administrator(live_api.settings, name="Rita", email=other, password=PASSWORD, another=True)
    assert sign_in(live_api, other, "rita") == 0
    me = run("whoami", "--as", "zoe", "--json").json["id"]
    done = run("second-factor", "reset", me, "--as", "rita")
    assert (done.code, done.out) == (0, "The second factor is removed.\n"), done
    assert run("whoami", "--as", "zoe").code == 1
    assert sign_in(live_api, zoe, "zoe") == 0


def test_what_wants_a_fresh_proof_asks_for_it(zoe: str, live_api: LiveApi):
    make_stale(live_api, zoe)
    refused = run("token", "create", "Late", "--as", "zoe")
    assert (refused.code, "pmis reauthenticate" in refused.err) == (1, True), refused
    asked = spawn_tty("token", "create", "Late", "--as", "zoe", answers=[(PROMPT, PASSWORD)])
    assert asked.code == 0, asked
    assert "pmist_" in asked.out
    assert PASSWORD not in asked.out
    assert run("token", "create", "Later", "--as", "zoe").code == 0
    assert run("reauthenticate", "--as", "zoe").code == 2
