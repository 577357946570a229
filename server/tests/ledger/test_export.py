"""Exports of a real log: what is in them, that they are whole or not there, and that they verify."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pmis.kit.errors import NotFoundError
from pmis.ledger import export as module
from pmis.ledger.columns import EVENT_COLUMNS
from pmis.ledger.export import ExportError, export_lines
from pmis.ledger.verify import verify_file
from tests.ledger.database import OTHER_PROJECT, PROJECT, LiveLog, append
from tests.ledger.logs import SIGNER


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


class TestTheWholeLog:
    def test_every_column_and_the_exact_payload(self, live: LiveLog, target: Path) -> None:
        with live.app() as connection:
            append(connection, uuid4(), 1, title='Brücke "7"\n', amount={"value": "1.50", "currency": "EUR"})
        live.seal()
        done = live.export(target)
        header, *_, checkpoint, trailer = records(target)
        events = [record for record in records(target) if record["record"] == "event"]
        assert header["format"] == "pmis-log/1"
        assert (header["origin"], header["keys"], header["project"]) == (SIGNER.origin, [str(SIGNER.key)], None)
        assert checkpoint["note"] == (live.folder / "latest").read_text()
        assert trailer == {"record": "trailer", **done.counts()}
        assert list(events[-1]) == ["record", "leaf", *EVENT_COLUMNS]
        assert events[-1]["payload"] == '{"amount":{"currency":"EUR","value":"1.50"},"title":"Brücke \\"7\\"\\n"}'
        assert events[-1] == {"record": "event", "leaf": len(events) - 1, **live.events()[-1]}

    def test_leaves_then_what_is_not_sealed_and_each_checkpoint_behind_its_last_event(
        self, live: LiveLog, target: Path
    ) -> None:
        live.fill(9)
        total = live.seal(batch=4).size
        live.fill(2)
        done = live.export(target)
        assert (done.sealed, done.unsealed, done.checkpoints) == (total, 2, -(-total // 4))
        seen = 0
        for record in records(target)[1:-1]:
            if record["record"] == "checkpoint":
                assert record["note"].split("\n")[1] == str(seen)
            elif record["leaf"] is not None:
                assert record["leaf"] == seen
                seen += 1
        assert [record["leaf"] for record in records(target)[-3:-1]] == [None, None]
        assert live.verify(target).ok

    def test_a_log_that_was_never_sealed(self, live: LiveLog, target: Path) -> None:
        live.fill(3)
        report = live.verify(target)
        assert report.ok
        assert (report.sealed, report.unsealed) == (0, len(live.events()))

    def test_a_lost_event_is_left_out_and_its_checkpoints_are_not(self, live: LiveLog, target: Path) -> None:
        live.fill(9)
        total = live.seal(batch=4).size
        with live.superuser() as connection:
            connection.execute("delete from ledger.event where position >= %s", (live.events()[-3]["position"],))
        done = live.export(target)
        assert (done.sealed, done.checkpoints) == (total - 3, -(-total // 4))
        report = verify_file(str(target), checkpoints=[live.folder])
        assert report.findings[0].kind == "missing"

    def test_one_moment_is_exported_whatever_goes_on(self, live: LiveLog, target: Path) -> None:
        live.fill(5)
        live.seal()
        with psycopg.connect(live.database.auditor_dsn, autocommit=True) as connection:
            lines = export_lines(connection, origin=SIGNER.origin, keys=[SIGNER.key])
            first = next(lines)
            live.fill(4)
            live.seal()
            live.fill(1)
            target.write_bytes(first + b"".join(lines))
        report = verify_file(str(target), keys=[str(SIGNER.key)])
        assert report.ok
        assert report.unsealed == 0

    def test_it_changes_nothing_and_ends_its_transaction(self, live: LiveLog) -> None:
        with psycopg.connect(live.database.auditor_dsn, autocommit=True) as connection:
            lines = export_lines(connection, origin=SIGNER.origin, keys=[SIGNER.key])
            next(lines)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("create temporary table x ()")
            lines.close()
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


class TestOneProject:
    @pytest.fixture
    def mixed(self, live: LiveLog) -> LiveLog:
        live.fill(6, project=PROJECT)
        live.fill(4, project=OTHER_PROJECT)
        live.seal()
        live.fill(6, project=PROJECT)
        live.seal()
        live.fill(2, project=PROJECT)
        live.fill(1, project=OTHER_PROJECT)
        return live

    def test_its_events_with_their_proofs_and_no_others(self, mixed: LiveLog, target: Path) -> None:
        done = mixed.export(target, project=PROJECT)
        assert (done.sealed, done.unsealed) == (12, 2)
        assert {record.get("project_id", str(PROJECT)) for record in records(target)} == {str(PROJECT)}
        report = verify_file(str(target), checkpoints=[mixed.folder])
        assert report.ok, report.as_text()
        assert report.compared == 1, "the last checkpoint of the day is the newest one"

    def test_a_checkpoint_of_a_size_that_somebody_kept(self, mixed: LiveLog, target: Path) -> None:
        first, last = sorted(int(path.stem) for path in mixed.folder.glob("*.txt"))
        mixed.export(target, project=PROJECT, sizes=[first])
        assert verify_file(str(target), checkpoints=[mixed.folder / f"{first}.txt"], keys=[str(SIGNER.key)]).ok
        mixed.export(target, project=PROJECT)
        report = verify_file(str(target), checkpoints=[mixed.folder / f"{first}.txt"], keys=[str(SIGNER.key)])
        assert report.findings[0].kind == "checkpoint"
        assert last > first

    def test_the_last_checkpoint_of_each_day_comes_along(self, mixed: LiveLog, target: Path) -> None:
        first = min(int(path.stem) for path in mixed.folder.glob("*.txt"))
        with mixed.superuser() as connection:
            connection.execute(
                "update ledger.checkpoint set signed_at = signed_at - interval '1 day' where size = %s", (first,)
            )
        assert mixed.export(target, project=PROJECT).checkpoints == 2
        assert verify_file(str(target), checkpoints=[mixed.folder]).compared == 2

    def test_many_events_are_proved_a_stretch_at_a_time(
        self, live: LiveLog, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_STRETCH", 4)
        live.fill(11)
        live.seal()
        assert live.verify(target, project=PROJECT).sealed == 11

    def test_a_project_before_the_first_seal(self, live: LiveLog, target: Path) -> None:
        live.fill(3)
        report = live.verify(target, project=PROJECT)
        assert report.ok
        assert (report.sealed, report.unsealed, report.checkpoints) == (0, 3, 0)

    def test_an_unknown_project(self, mixed: LiveLog, target: Path) -> None:
        with pytest.raises(NotFoundError, match="knows no such project"):
            mixed.export(target, project=uuid4())
        assert not target.exists()

    def test_a_damaged_tree_says_so(self, mixed: LiveLog, target: Path) -> None:
        with mixed.superuser() as connection:
            connection.execute("delete from ledger.tree_node where level = 1")
        with pytest.raises(ExportError, match="Export the whole log, which needs no proofs"):
            mixed.export(target, project=PROJECT)
        assert not target.exists()


class TestFiles:
    def test_gzip_by_the_name_and_the_same_bytes_each_time(self, live: LiveLog, tmp_path: Path) -> None:
        live.fill(3)
        live.seal()
        path = tmp_path / "log.jsonl.gz"
        report = live.verify(path)
        assert report.ok
        assert gzip.decompress(path.read_bytes()).startswith(b'{"record":"header"')
        assert path.read_bytes()[4:8] == bytes(4), "no time in it"

    def test_standard_output(self, live: LiveLog, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        live.export(Path("-"))
        lines = capfdbinary.readouterr().out.splitlines()
        assert json.loads(lines[-1])["record"] == "trailer"

    def test_nothing_is_left_behind_when_it_fails(self, live: LiveLog, tmp_path: Path) -> None:
        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        live.fill(1200, streams=40)
        with pytest.raises(ExportError, match="cannot be written: No space left on device"):
            live.export(tmp_path / "x.jsonl", progress=fail)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there(self, live: LiveLog, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="cannot be written: No such file or directory"):
            live.export(tmp_path / "nowhere" / "x.jsonl")

    def test_what_was_there_stays_until_the_new_one_is_whole(self, live: LiveLog, target: Path) -> None:
        target.write_text("old")

        def fail(_: Any) -> None:
            assert target.read_text() == "old"
            raise ExportError("the fact could not be recorded")

        with pytest.raises(ExportError, match="could not be recorded"):
            live.export(target, on_done=fail)
        assert target.read_text() == "old"
        assert list(target.parent.iterdir()) == [target]

    def test_the_caller_learns_what_was_exported_before_the_file_appears(self, live: LiveLog, target: Path) -> None:
        seen: list[tuple[bool, dict[str, int]]] = []
        live.fill(2)
        live.export(target, on_done=lambda done: seen.append((target.exists(), done.counts())))
        assert seen == [(False, {"sealed": 0, "unsealed": len(live.events()), "checkpoints": 0})]

    def test_a_long_export_reports_its_progress(self, live: LiveLog, target: Path) -> None:
        seen: list[int] = []
        live.fill(1200, streams=40)
        live.export(target, progress=seen.append)
        assert seen == [1000]
