"""API tokens on the command line: made, shown once, used through PMIS_TOKEN, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran


@pytest.fixture
def make(pmis: Callable[..., Ran]) -> Callable[..., str]:
    """Makes a token of the operator's."""

    def made(name: str, *more: str) -> str:
        done = pmis("token", "create", name, *more, "--as", "operator")
        assert done.code == 0, done
        assert done.out.startswith("pmist_")
        assert "is not shown again" in done.err
        return done.out.strip()

    return made


def test_one_that_reads(
    pmis: Callable[..., Ran], make: Callable[..., str], live_api: LiveApi, monkeypatch: pytest.MonkeyPatch
):
    token = make("Reader", "--days", "3")
    monkeypatch.setenv("PMIS_TOKEN", token)
    monkeypatch.setenv("PMIS_URL", live_api.url)
    me = pmis("whoami")
    assert me.out.splitlines()[0] == "Omar Operator"
    assert "API token  Reader, may read, until 20" in me.out
    assert pmis("package", "list").code == 0
    refused = pmis("package", "create", "--title", "x")
    assert (refused.code, refused.err) == (
        1, "error: The API token 'Reader' only reads. Make one with the scope `write`.\n",
    )  # fmt: skip
    refused = pmis("token", "create", "Another")
    assert (refused.code, "only reads" in refused.err) == (1, True)
    refused = pmis("token", "list")
    assert (refused.code, "done in person" in refused.err) == (1, True)


def test_one_that_writes_in_one_project(
    pmis: Callable[..., Ran], make: Callable[..., str], live_api: LiveApi, monkeypatch: pytest.MonkeyPatch
):
    token = make("Writer", "--write", "--project", "P")
    monkeypatch.setenv("PMIS_TOKEN", token)
    monkeypatch.setenv("PMIS_URL", live_api.url)
    made = pmis("package", "create", "--title", "By a program", "--json")
    assert made.json["outcome"] == "applied"
    code = made.json["resource"]["code"]
    timeline = pmis("package", "timeline", code)
    assert "Writer" in timeline.out, timeline


def test_they_are_listed_and_revoked(
    pmis: Callable[..., Ran], make: Callable[..., str], live_api: LiveApi, monkeypatch: pytest.MonkeyPatch
):
    token = make("To be revoked", "--project", "P")
    listed = pmis("token", "list", "--as", "operator")
    line = next(one for one in listed.out.splitlines() if "To be revoked" in one)
    assert token[:10] in line
    assert token not in listed.out
    assert "never" in line
    assert pmis("token", "list", "--as", "viewer").err == "You have no API tokens.\n"
    short = line.split()[0]
    revoked = pmis("token", "revoke", short, "--as", "operator")
    assert (revoked.code, revoked.out) == (0, f"{short} is revoked.\n"), revoked
    assert pmis("token", "revoke", short, "--as", "operator").code == 1
    assert "To be revoked" not in pmis("token", "list", "--as", "operator").out
    monkeypatch.setenv("PMIS_TOKEN", token)
    monkeypatch.setenv("PMIS_URL", live_api.url)
    refused = pmis("whoami")
    assert refused.code == 1
    assert "does not accept the token in PMIS_TOKEN" in refused.err


def test_what_it_prints_for_programs(pmis: Callable[..., Ran]):
    made = pmis("token", "create", "As JSON", "--json", "--as", "operator").json
    assert set(made) >= {"id", "token", "expires_at", "scope"}
    assert pmis("token", "list", "--json", "--as", "operator").json["items"][0]["id"] == made["id"]
    assert pmis("token", "revoke", made["id"], "--json", "--as", "operator").json == {"revoked": 1}
