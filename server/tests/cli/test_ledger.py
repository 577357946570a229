"""`pmis ledger` and `pmis verify`, from an empty folder to a verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.cli.conftest import JWT_SECRET, SECRET, Ran, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import TestDatabase

OTHER_SECRET = "quite another secret, " + "q" * 40


@pytest.fixture
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    return make_database("cliledger")


@pytest.fixture
def settings(database: TestDatabase, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of an install with a login for each task; returns the folder of checkpoints."""
    monkeypatch.setenv("DATABASE_URL", database.app_dsn)
    monkeypatch.setenv("DATABASE_OWNER_URL", database.owner_dsn)
    monkeypatch.setenv("DATABASE_SEALER_URL", database.sealer_dsn)
    monkeypatch.setenv("DATABASE_AUDITOR_URL", database.auditor_dsn)
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET)
    monkeypatch.setenv("CHECKPOINT_ORIGIN", "pmis.test/cli")
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def tamper(database: TestDatabase) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update ledger.event set payload = '{}' where position = 1")


def verdict(path: Path, *arguments: str) -> Ran:
    return run("verify", str(path), *arguments)


class TestSealExportVerify:
    def test_the_whole_way(self, settings: Path, tmp_path: Path, database: TestDatabase) -> None:
        sealed = run("ledger", "seal")
        assert sealed.code == 0, sealed
        assert "events sealed" in sealed.out
        assert f"checkpoints are kept in {settings}" in sealed.out
        path = tmp_path / "log.jsonl.gz"
        exported = run("ledger", "export", str(path))
        assert (exported.code, exported.out) == (0, "")
        assert "sealed events, 0 not yet sealed, 1 checkpoints" in exported.err
        key = run("ledger", "key").out.strip()
        assert key.startswith("pmis.test/cli+")
        for arguments in (("--checkpoint", str(settings)), ("--key", key), ("--hash-only", "--jobs", "1")):
            checked = verdict(path, *arguments)
            assert checked.code == 0, checked
            assert checked.out.splitlines()[-1] == "OK       every sealed event is the one that was signed"
        assert verdict(path, "--json").json["result"] == "ok"

    def test_an_export_is_itself_recorded(self, settings: Path, tmp_path: Path, database: TestDatabase) -> None:
        run("ledger", "seal")
        assert run("ledger", "export", str(tmp_path / "x.jsonl")).code == 0
        with psycopg.connect(database.admin_dsn) as connection:
            row = connection.execute(
                "select type, actor, source, payload from ledger.event order by position desc limit 1"
            ).fetchone()
        assert row
        assert row[:3] == ("export.made", "system:console", "cli")
        assert json.loads(row[3])["project_id"] is None
        assert json.loads(row[3])["checkpoints"] == 1

    def test_an_export_that_cannot_be_recorded_is_not_made(
        self, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        ran = run("ledger", "export", str(tmp_path / "x.jsonl"))
        assert ran.code == 1
        assert not (tmp_path / "x.jsonl").exists()

    def test_sealing_again_in_json(self, settings: Path) -> None:
        run("ledger", "seal")
        again = run("ledger", "seal", "--json", "--full-check").json
        assert again["events"] == 0
        assert again["rechecked"] == again["size"] > 0

    def test_one_login_for_everything(
        self, settings: Path, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("DATABASE_OWNER_URL", "DATABASE_SEALER_URL", "DATABASE_AUDITOR_URL"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("DATABASE_URL", database.owner_dsn)
        assert run("ledger", "seal").code == 0
        assert run("ledger", "export", str(tmp_path / "x.jsonl")).code == 0
        assert verdict(tmp_path / "x.jsonl", "--checkpoint", str(settings)).code == 0


class TestRefusals:
    def test_a_changed_log_is_not_sealed_and_not_believed(
        self, settings: Path, tmp_path: Path, database: TestDatabase
    ) -> None:
        run("ledger", "seal")
        tamper(database)
        sealed = run("ledger", "seal")
        assert sealed.code == 1
        assert sealed.err.startswith("error: ")
        assert "is not what was sealed as leaf 0. Nothing was signed." in sealed.err
        run("ledger", "export", str(tmp_path / "x.jsonl"))
        checked = verdict(tmp_path / "x.jsonl", "--checkpoint", str(settings))
        assert checked.code == 1
        assert "TAMPERED" in checked.out
        assert "leaf 0) was altered" in checked.out
        assert verdict(tmp_path / "x.jsonl", "--checkpoint", str(settings), "--json").json["findings"][0]["leaf"] == 0

    def test_another_secret_needs_the_old_key_named(self, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run("ledger", "seal")
        old = run("ledger", "key").out.strip()
        monkeypatch.setenv("SECRET_KEY", OTHER_SECRET)
        refused = run("ledger", "seal")
        assert refused.code == 1
        assert "CHECKPOINT_PREVIOUS_KEYS" in refused.err
        monkeypatch.setenv("CHECKPOINT_PREVIOUS_KEYS", old)
        assert run("ledger", "seal").code == 0
        monkeypatch.setenv("CHECKPOINT_PREVIOUS_KEYS", "nonsense")
        assert "CHECKPOINT_PREVIOUS_KEYS names a key that is none" in run("ledger", "seal").err

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (None, "cannot be read: No such file or directory."),
            (b"", "The file is empty."),
            (b"\x00\xff\n", "Line 1 is not UTF-8 text."),
            (b"hello", "The file is cut off in line 1."),
            (b"hello\n", "Line 1 is not an exported PMIS log: it is not well-formed JSON."),
        ],
    )
    def test_a_file_that_cannot_be_judged_ends_with_two(
        self, home: Path, tmp_path: Path, content: bytes | None, error: str
    ) -> None:
        path = tmp_path / "x"
        if content is not None:
            path.write_bytes(content)
        ran = verdict(path)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("error: ")
        assert error in ran.err
        assert verdict(path, "--json").json["result"] == "unusable"

    def test_a_login_that_may_not_seal(
        self, settings: Path, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_SEALER_URL", database.auditor_dsn)
        ran = run("ledger", "seal")
        assert ran.code == 1
        assert "permission denied to set role" in ran.err

    def test_an_unknown_project(self, settings: Path, tmp_path: Path) -> None:
        ran = run("ledger", "export", str(tmp_path / "x"), "--project", "0190c8f4-0000-7000-8000-000000000009")
        assert (ran.code, ran.err) == (1, "error: The log knows no such project.\n")


class TestProgress:
    def test_it_is_shown_on_a_terminal_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pmis.cli import ledger

        class Terminal:
            def __init__(self) -> None:
                self.text = ""

            def isatty(self) -> bool:
                return True

            def write(self, text: str) -> int:
                self.text += text
                return len(text)

            def flush(self) -> None:
                pass

        assert ledger._progress("events") is None
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        show: Any = ledger._progress("events")
        show(12_000)
        assert terminal.text == "\r12,000 events"


class TestLoop:
    def test_it_seals_until_it_is_told_to_stop(self, settings: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pmis.cli.main", "ledger", "seal", "--loop"],
            env={**os.environ, "SEAL_INTERVAL_SECONDS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for _ in range(1200):
                if (settings / "latest").exists():
                    break
                assert process.poll() is None
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert (settings / "latest").exists()
        said = [json.loads(line) for line in out.splitlines()]
        assert {one["process"] for one in said} == {"sealer"}
        assert any(one["message"].startswith("sealed ") for one in said)
