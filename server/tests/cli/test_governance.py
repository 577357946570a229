"""The policy, the people and the log, over the API."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from pmis.identity.watch import FRESH_SECONDS
from tests.cli.conftest import approval_in, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


class TestPolicy:
    def test_it_is_shown(self, pmis: Pmis):
        shown = pmis("policy", "show", "--as", "viewer").out
        assert shown.startswith("The default policy, version 1\n")
        assert re.search(r"^low +AUTO +AUTO +CONFIRM +APPROVAL_REQUIRED$", shown, re.MULTILINE)
        assert re.search(r"^APPROVAL_REQUIRED +package.past_draft +Every change", shown, re.MULTILINE)
        assert re.search(r"of any currency +An executive$", shown, re.MULTILINE)
        document = json.loads(pmis("policy", "show", "--document", "--as", "viewer").out)
        assert document == pmis("policy", "show", "--json", "--as", "viewer").json["document"]

    def test_it_explains_a_change_that_nobody_made(self, pmis: Pmis):
        said = pmis(
            *("policy", "explain", "patch", "package", "--status", "active", "--amount-before", "100"),
            *("--amount-after", "2000000", "--currency", "EUR", "--as", "analyst"),
        )
        assert said.code == 0, said
        assert said.out.splitlines()[0].startswith("APPROVAL_REQUIRED, chosen by ")
        assert "[package.past_draft: status active]" in said.out
        assert "1. An administrator: 1 x admin" in said.out
        award = pmis(
            *("policy", "explain", "transition", "package", "--status", "approved", "--to", "awarded"),
            *("--first", "vendor_id", "--amount-before", "10", "--amount-after", "10", "--currency", "EUR", "--json"),
            *("--as", "analyst"),
        ).json
        assert award["route"] == "APPROVAL_REQUIRED"
        agent = pmis("policy", "explain", "patch", "policy", "--writer", "agent", "--as", "analyst")
        assert agent.out.startswith("REJECT")
        assert pmis("policy", "explain", "paint", "cloud", "--as", "analyst").out.startswith("REJECT")

    def test_it_judges_many_at_once(self, pmis: Pmis, tmp_path: Path):
        cases = [
            {"operation": "create", "target_type": "comment"},
            {"operation": "patch", "target_type": "package", "status": "draft", "fields": ["vendor_id"]},
        ]
        file = tmp_path / "cases.json"
        file.write_text(json.dumps(cases))
        shown = pmis("policy", "simulate", str(file), "--as", "analyst").out
        assert re.search(r"^1 +create comment +AUTO", shown, re.MULTILINE)
        assert re.search(r"^2 +patch package +EXECUTIVE_APPROVAL .* An executive$", shown, re.MULTILINE)
        both = pmis("policy", "simulate", "-", "--json", "--as", "analyst", stdin=json.dumps(cases)).json
        assert [one["route"] for one in both] == ["AUTO", "EXECUTIVE_APPROVAL"]
        one = pmis("policy", "simulate", "-", "--json", "--as", "analyst", stdin=json.dumps(cases[0])).json
        assert one["route"] == "AUTO"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is not valid JSON"),
            (b"{", "is not valid JSON"),
            (b"\xff{}", "is not valid UTF-8 text (byte 0)"),
            (b"3", "neither the facts"),
            (b"[]", "neither the facts"),
            (b"[3]", "neither the facts"),
            (b'{"operation": true, "target_type": "package"}', "operation: "),
            (b"{" * 100_000, "is not valid JSON"),
            (b"[" * 100_000, "is nested too deep"),
            (b" " * 1_100_000, "is larger than"),
        ],
        ids=["empty", "cut", "not UTF-8", "number", "nothing", "numbers", "boolean", "open", "deep", "large"],
    )
    def test_a_file_that_is_none(self, pmis: Pmis, content: bytes, said: str):
        refused = pmis("policy", "simulate", "-", "--as", "analyst", stdin=content)
        assert refused.code == 1
        assert said in refused.err
        assert pmis("policy", "propose", "-", "--as", "admin", stdin=content).code == 1

    def test_a_file_that_is_not_there(self, pmis: Pmis, tmp_path: Path):
        refused = pmis("policy", "propose", str(tmp_path / "no.json"), "--as", "admin")
        assert refused.err == f"error: {tmp_path / 'no.json'} cannot be read: No such file or directory.\n"

    def test_another_one_waits_for_two_and_its_difference_can_be_read(self, pmis: Pmis, tmp_path: Path):
        document = json.loads(pmis("policy", "show", "--document", "--as", "admin").out)
        document["approvals"]["APPROVAL_REQUIRED"]["expires_hours"] = 100
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(document))
        proposed = pmis("policy", "propose", str(file), "--reason", "Faster.", "--as", "admin")
        assert proposed.code == 0, proposed
        assert "executive" in proposed.out.splitlines()[0]
        assert "document.approvals.APPROVAL REQUIRED.expires hours  336 → 100" in proposed.out
        approval = approval_in(proposed.out)
        assert pmis("approval", "reject", approval, "--reason", "Too fast.", "--as", "executive").code == 0
        document["matrix"]["low"]["low"] = "MAYBE"
        file.write_text(json.dumps(document))
        refused = pmis("policy", "propose", str(file), "--as", "admin")
        assert refused.code == 1
        assert "matrix" in refused.err
        assert pmis("policy", "propose", str(file), "--as", "analyst").code == 1


class TestPeople:
    def test_they_are_listed_and_shown(self, pmis: Pmis):
        listed = pmis("people", "list", "--all", "--as", "viewer").out
        assert re.search(r"^[0-9a-f]{8}  Ada Admin +yes +admin$", listed, re.MULTILINE)
        shown = pmis("people", "show", "Ada Admin", "--as", "viewer").out
        assert "instance admin    yes" in shown
        assert "credential" not in shown
        assert re.search(
            r"^P +Omar Operator \([0-9a-f]{8}\) +operator$", pmis("people", "roles", "--as", "viewer").out, re.MULTILINE
        )

    def test_a_new_one_comes_in_and_signs_in(self, pmis: Pmis, live_api: LiveApi):
        mark = time.monotonic_ns()
        name, email = f"Nina New {mark}", f"nina{mark}@demo.example"
        made = pmis(
            *("people", "create", "--name", name, "--email", email, "--password-stdin", "--json", "--as", "admin"),
            stdin="a long enough word\n",
        )
        assert made.code == 0, made
        if made.json["outcome"] == "confirmation_required":
            approval = made.json["approval"]["id"]
            assert pmis("approval", "confirm", approval, "--yes", "--as", "admin").code == 0
        signed = run(
            "login", email, "--password-stdin", "--as", "nina", "--url", live_api.url, stdin="a long enough word"
        )
        assert signed.code == 0, signed
        granted = pmis("people", "grant", name, "viewer", "--project", "P", "--as", "admin")
        assert "create membership\n  roles   viewer\n" in granted.out
        assert pmis("approval", "approve", approval_in(granted.out), "--yes", "--as", "admin2").code == 0
        more = pmis("people", "grant", name, "viewer", "analyst", "--project", "P", "--dry-run", "--as", "admin")
        assert "roles  viewer → analyst, viewer" in more.out
        time.sleep(FRESH_SECONDS)
        assert pmis("package", "show", "P-001", "--as", "nina").code == 0

    def test_a_password_that_is_too_short(self, pmis: Pmis):
        refused = pmis(
            *("people", "create", "--name", "X", "--email", "x@demo.example", "--password-stdin", "--as", "admin"),
            stdin="short\n",
        )
        assert (refused.code, "/password" in refused.err or "password: " in refused.err) == (1, True)
        assert "short" not in refused.err.replace("too_short", "")
        assert pmis("people", "create", "--name", "X", "--email", "x@demo.example", "--as", "admin").code == 2

    def test_who_leaves_hands_over(self, pmis: Pmis):
        asked = pmis("people", "disable", "Omar Operator", "--hand-over-to", "Ben Admin", "--as", "admin")
        assert asked.code == 0, asked
        assert re.search(r"hand over to +— → Ben Admin", asked.out)
        assert re.search(r"active +yes → no", asked.out)
        assert re.search(r"^Still owns: P-\d+ ", asked.err, re.MULTILINE)
        assert pmis("approval", "withdraw", approval_in(asked.out), "--as", "admin").code == 0
        staying = pmis("people", "enable", "Omar Operator", "--as", "admin")
        assert (staying.code, "already has the proposed value" in staying.err) == (1, True)

    def test_a_seat_is_lent(self, pmis: Pmis):
        shown = pmis(
            *("people", "lend", "Ben Admin", "--from", "2027-01-01T00:00:00Z", "--to", "2027-01-08T00:00:00Z"),
            *("--project", "P", "--reason", "Away.", "--dry-run", "--as", "admin"),
        )
        assert shown.code == 0, shown
        assert re.search(r"to person +Ben Admin", shown.out)
        refused = pmis(
            *("people", "lend", "me", "--from", "2027-01-08T00:00:00Z", "--to", "2027-01-01T00:00:00Z"),
            *("--project", "P", "--as", "admin"),
        )
        assert (refused.code, "ends_at lies after starts_at" in refused.err) == (1, True)


class TestAudit:
    @pytest.fixture
    def sealed(self, pmis: Pmis, live_api: LiveApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        """The log is sealed under the key that the API knows; the key."""
        settings = live_api.settings
        assert settings.secret_key is not None
        monkeypatch.setenv("SECRET_KEY", settings.secret_key.get_secret_value())
        monkeypatch.setenv("DATABASE_URL", live_api.database.app_dsn)
        monkeypatch.setenv("DATABASE_SEALER_URL", live_api.database.sealer_dsn)
        monkeypatch.setenv("CHECKPOINT_DIR", str(settings.checkpoints))
        assert pmis("ledger", "seal").code == 0
        key = pmis("ledger", "key").out.strip()
        for name in ("SECRET_KEY", "DATABASE_URL", "DATABASE_SEALER_URL", "CHECKPOINT_DIR"):
            monkeypatch.delenv(name)
        return key

    def test_the_log_is_searched(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Logged")
        listed = pmis("audit", "list", "--package", code, "--as", "auditor").out
        assert re.search(
            r"^ *\d+  \d{4}-\d\d-\d\d [\d:]{8}  package.created  [0-9a-f]{8} v1 +Omar Operator +cli +[0-9a-f]{8}$",
            listed,
            re.MULTILINE,
        )
        mine = ("audit", "list", "--limit", "3", "--json", "--as", "auditor")
        by_type = pmis(*mine, "--type", "package.transitioned").json["items"]
        assert {item["type"] for item in by_type} == {"package.transitioned"}
        by_actor = pmis(*mine, "--actor", "Ada Admin", "--project", "P").json["items"]
        assert {item["actor_name"] for item in by_actor} == {"Ada Admin"}
        assert pmis(*mine, "--from", "2099-01-01T00:00:00Z").json["items"] == []
        assert pmis(*mine, "--to", "yesterday").code == 1
        assert pmis("audit", "list", "--package", code, "--stream", "x", "--as", "auditor").code == 2
        refused = pmis("audit", "list", "--as", "analyst")
        assert refused.err == "error: Only auditors, administrators and executives read the log.\n"
        assert (
            pmis("audit", "record", "package", code, "--json", "--as", "auditor").json["items"][0]["stream_version"]
            == 1
        )

    def test_an_event_is_shown_with_its_chain(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Chained", amount="5.00", currency="EUR")
        [event] = pmis("audit", "record", "package", code, "--json", "--as", "auditor").json["items"]
        for reference in (event["id"], event["id"][-8:]):
            shown = pmis("audit", "show", reference, "--as", "auditor").out
            assert "amount    5.00 EUR" in shown
            assert f"content hash    {event['content_hash']}" in shown
            assert f"previous hash   {'0' * 64}" in shown

    def test_a_proof_is_checked_here(
        self, pmis: Pmis, make_package: Callable[..., str], request: pytest.FixtureRequest
    ):
        code = make_package("Proven")
        [event] = pmis("audit", "record", "package", code, "--json", "--as", "auditor").json["items"]
        key = request.getfixturevalue("sealed")
        proof = pmis("audit", "proof", event["id"], "--key", key, "--as", "auditor")
        assert proof.code == 0, proof
        assert "content      fits its hash" in proof.out
        assert f"signed by    {key} (pinned)" in proof.out
        named = pmis("audit", "proof", event["id"], "--as", "auditor")
        assert "as the server names it" in named.out
        other = base64.b64encode(b"\x01" + bytes(32)).decode()
        foreign = pmis("audit", "proof", event["id"], "--key", f"pmis.local/log+00000000+{other}", "--as", "auditor")
        assert foreign.code == 1
        assert "The checkpoint does not hold" in foreign.err

    def test_what_is_not_sealed_yet_says_so_at_once(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Unsealed")
        [event] = pmis("audit", "record", "package", code, "--json", "--as", "auditor").json["items"]
        began = time.monotonic()
        refused = pmis("audit", "proof", event["id"], "--as", "auditor")
        assert (refused.code, "No checkpoint covers this event yet" in refused.err) == (1, True)
        assert time.monotonic() - began < 5

    def test_the_log_leaves_the_server_and_is_judged_elsewhere(self, pmis: Pmis, sealed: str, tmp_path: Path):
        note = pmis("audit", "checkpoints", "--note", "--as", "viewer").out
        assert note.startswith("pmis.local/log\n")
        kept = tmp_path / "kept.txt"
        kept.write_text(note)
        assert re.search(r"^ *\d+  \d{4}-", pmis("audit", "checkpoints", "--as", "viewer").out, re.MULTILINE)
        file = tmp_path / "log.jsonl.gz"
        exported = pmis("audit", "export", str(file), "--project", "P", "--as", "auditor")
        assert exported.code == 0, exported
        assert f"bytes are in {file}" in exported.err
        assert gzip.decompress(file.read_bytes()).startswith(b"{")
        judged = pmis("verify", str(file), "--key", sealed, "--checkpoint", str(kept))
        assert judged.code == 0, judged
        assert "OK" in judged.out
        lines = gzip.decompress(file.read_bytes()).replace(b"Bridge bearings", b"Bridge bearingz", 1)
        file.write_bytes(gzip.compress(lines))
        assert pmis("verify", str(file), "--key", sealed, "--checkpoint", str(kept)).code == 1
        refused = pmis("audit", "export", str(file), "--project", "P", "--as", "viewer")
        assert (refused.code, "allows you to export the log" in refused.err) == (1, True), refused
        nowhere = pmis("audit", "export", str(tmp_path / "no" / "log.gz"), "--project", "P", "--as", "auditor")
        assert (nowhere.code, "cannot be written" in nowhere.err) == (1, True)

    def test_the_server_verifies_its_log(self, pmis: Pmis, sealed: str):
        verified = pmis("audit", "verify", "--as", "admin")
        assert verified.code == 0, verified
        assert "every sealed event is the one that was signed" in verified.out
        assert pmis("audit", "verify", "--json", "--as", "admin").json["result"] == "ok"
        assert pmis("audit", "verify", "--as", "analyst").code == 1
