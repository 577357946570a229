"""Invitations on the command line: sent, agreed, handed over, accepted, taken back."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

CHOSEN = "correct horse battery staple"


@pytest.fixture
def send(pmis: Callable[..., Ran]) -> Callable[..., tuple[str, str]]:
    """Invites somebody as the administrator of the instance, and agrees; the invitation's short id and the address."""

    def sent(*more: str) -> tuple[str, str]:
        address = f"n{time.monotonic_ns()}@demo.example"
        done = pmis("invite", "send", address, "--name", "Nia New", *more, "--as", "admin")
        assert done.code == 0, done
        confirm = re.search(r"pmis approval confirm (\w+)", done.out)
        assert confirm is not None, done.out
        assert pmis("approval", "confirm", confirm[1], "--yes", "--as", "admin").code == 0
        found = re.search(r"Invitation (\w+)\.", done.out)
        assert found is not None, done.out
        return found[1], address

    return sent


def test_from_the_invitation_to_the_sign_in(
    pmis: Callable[..., Ran], send: Callable[..., tuple[str, str]], live_api: LiveApi
):
    short, address = send("--days", "3")
    line = next(one for one in pmis("invite", "list", "--as", "admin").out.splitlines() if short in one)
    assert "open" in line
    shown = pmis("invite", "show", short, "--as", "admin")
    assert address in shown.out
    assert "somebody without a role" in shown.out
    assert "once" in shown.out
    handed = pmis("invite", "resend", short, "--as", "admin")
    link = handed.out.strip()
    assert "/invitation#pmisi_" in link
    assert "is not shown again" in handed.err
    done = pmis("invite", "accept", link, "--password-stdin", "--url", live_api.url, stdin=CHOSEN)
    assert (done.code, done.out) == (0, f"Welcome, Nia New. Sign in with `pmis login {address}`.\n"), done
    signed = pmis("login", address, "--as", "nia", "--password-stdin", "--url", live_api.url, stdin=CHOSEN)
    assert signed.code == 0, signed
    again = pmis("invite", "accept", link, "--password-stdin", "--url", live_api.url, stdin=CHOSEN)
    assert (again.code, "sign in if you have accepted" in again.err) == (1, True)
    assert pmis("invite", "list", "--status", "accepted", "--as", "admin").out.count("Nia New") >= 1


def test_roles_are_proposed_project_by_project(pmis: Callable[..., Ran], send: Callable[..., tuple[str, str]]):
    short, _ = send("--role", "P:analyst,operator", "--reason", "A new hand")
    # Agreed by somebody else, they would be there.
    assert pmis("invite", "show", short, "--as", "admin", "--json").json["roles"] == []
    for wrong in ("analyst", "P:", ":analyst", "P:analyst,"):
        refused = pmis("invite", "send", "x@demo.example", "--name", "X", "--role", wrong, "--as", "admin")
        assert (refused.code, "PROJECT:ROLE,ROLE" in refused.err) == (2, True), refused


def test_it_is_revoked(pmis: Callable[..., Ran], send: Callable[..., tuple[str, str]]):
    short, _ = send()
    done = pmis("invite", "revoke", short, "--as", "admin")
    assert (done.code, done.out) == (0, f"Invitation {short} is revoked.\n")
    refused = pmis("invite", "resend", short, "--as", "admin")
    assert (refused.code, refused.err) == (1, "error: This invitation was revoked.\n")


def test_who_may_not_is_refused(pmis: Callable[..., Ran]):
    refused = pmis("invite", "send", "x@demo.example", "--name", "X", "--as", "operator")
    assert (refused.code, "administrator of this instance" in refused.err) == (1, True), refused
    refused = pmis("invite", "list", "--as", "viewer")
    assert refused.code == 1


def test_without_a_terminal_everything_is_given(pmis: Callable[..., Ran], live_api: LiveApi):
    assert "give the link" in pmis("invite", "accept", "--password-stdin", "--url", live_api.url).err
    assert "--password-stdin" in pmis("invite", "accept", "x", "--url", live_api.url).err
