"""The stand-alone verifier: what it says, about what, and how it ends."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmis.kit.canonical import canonical
from pmis.ledger import verify as module
from pmis.ledger.verify import (
    EMPTY_ROOT,
    LogVerifier,
    Report,
    UnusableError,
    event_hash,
    hashed_text,
    is_canonical,
    main,
    read_keys,
    read_record,
    read_witnesses,
    verify_file,
)
from tests.ledger.logs import ATTACKER, SIGNER, Log, encode, make_log, part, rechain, rehash, roots

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = str(SIGNER.key)


@pytest.fixture
def log() -> Log:
    return make_log(7, events=25, streams=4, sizes=[4, 11, 25], unsealed=2)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[bytes]], str]:
    def write(lines: list[bytes], name: str = "log.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(b"".join(lines))
        return str(path)

    return write


def check(records: list[dict[str, Any]], **options: Any) -> Report:
    machine = LogVerifier(keys=[SIGNER.key], **options)
    for number, line in enumerate(encode(records), start=1):
        machine.feed(read_record(line, number))
    return machine.finish()


def refusal(lines: list[bytes]) -> str:
    """Why the lines cannot be judged."""

    def judge() -> None:
        machine = LogVerifier(keys=[SIGNER.key])
        for number, line in enumerate(lines, start=1):
            machine.feed(read_record(line, number))
        machine.finish()

    with pytest.raises(UnusableError) as caught:
        judge()
    return str(caught.value)


class TestStandingAlone:
    def test_it_imports_nothing_of_ours(self) -> None:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots = {name.partition(".")[0] for name in names}
        assert roots - sys.stdlib_module_names == {"cryptography"}

    def test_a_copy_of_the_file_runs_anywhere(self, log: Log, write: Any, tmp_path: Path) -> None:
        copy = tmp_path / "elsewhere" / "check.py"
        copy.parent.mkdir()
        shutil.copy(module.__file__, copy)
        log.keep(tmp_path / "kept")
        arguments = [write(log.lines()), "--checkpoint", str(tmp_path / "kept"), "--jobs", "2"]
        for program in (["-I", str(copy)], [module.__file__], ["-m", module.__name__]):
            done = subprocess.run(
                [sys.executable, *program, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert "OK       every sealed event is the one that was signed" in done.stdout


class TestHonestLogs:
    def test_everything_is_counted(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        witnesses, keys = read_witnesses([tmp_path])
        assert keys == [SIGNER.key]
        report = check(log.records(), witnesses=witnesses)
        assert report.ok
        assert (report.sealed, report.unsealed, report.checkpoints, report.given, report.compared) == (25, 2, 3, 3, 3)
        assert report.streams == 4
        assert report.located_leaves == 25
        assert report.warnings == []

    def test_an_empty_log(self) -> None:
        report = check(make_log(1, events=0, unsealed=0).records())
        assert report.ok
        assert report.sealed == 0

    def test_without_checkpoints_from_outside_it_says_what_cannot_be_noticed(self, log: Log) -> None:
        (warning,) = check(log.records()).warnings
        assert "a cut-off tail cannot be noticed" in warning

    def test_without_a_key_it_says_so(self, log: Log, write: Any) -> None:
        report = verify_file(write(log.lines()))
        assert report.ok
        assert not report.pinned
        assert any("Pin it with --key" in warning for warning in report.warnings)
        assert "(not pinned)" in report.as_text()

    def test_keys_that_signed_before_are_pinned_beside_the_present_one(self, log: Log, write: Any) -> None:
        notes = dict(log.notes)
        log.seal([25], ATTACKER)
        log.notes = {**notes, 25: log.notes[25]}
        path = write(log.lines())
        assert verify_file(path, keys=[KEY, str(ATTACKER.key)]).ok
        assert verify_file(path, keys=[str(ATTACKER.key)]).findings[0].kind == "signature"

    def test_events_that_are_not_sealed_yet_are_said_not_to_be_vouched_for(self, log: Log) -> None:
        report = check(log.records())
        oldest = min(event["occurred_at"] for event in log.unsealed)
        assert report.oldest_unsealed == oldest
        assert f"2 events are not sealed yet, so no checkpoint vouches for them; the oldest is of {oldest}" in (
            " ".join(report.as_text().split())
        )

    def test_a_time_before_its_predecessors_is_reported_but_is_no_tampering(self, log: Log) -> None:
        last = max(log.events, key=lambda event: event["stream_version"])
        last["occurred_at"] = "2025-01-01T00:00:00.000000Z"
        rechain(log.events + log.unsealed)
        log.seal([25])
        report = check(log.records())
        assert report.ok
        assert report.earlier_than_before == 1
        assert "1 events carry an earlier time" in report.as_text()

    def test_several_processes_see_the_same(self, log: Log, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_CHUNK_BYTES", 2000)
        path = write(log.lines())
        alone, together = verify_file(path, keys=[KEY], jobs=1), verify_file(path, keys=[KEY], jobs=2)
        assert alone == together
        assert together.ok
        log.events[9]["payload"] = "{}"
        path = write(log.lines())
        assert verify_file(path, keys=[KEY], jobs=1) == verify_file(path, keys=[KEY], jobs=2)
        path = write([*log.lines()[:20], b"x\n", *log.lines()[20:]])
        with pytest.raises(UnusableError, match="Line 21 "):
            verify_file(path, jobs=2)

    def test_large_files_use_several_processes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"x" * 100)
        assert module._default_jobs(str(path)) == 1
        assert module._default_jobs("-") == 1
        monkeypatch.setattr(module, "_LARGE_BYTES", 100)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        assert module._default_jobs(str(path)) == 8
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert module._default_jobs(str(path)) == 1


class TestEvents:
    def test_the_hash_is_of_the_lines_that_the_format_names(self, log: Log) -> None:
        lines = hashed_text(log.events[0]).split("\n")
        assert lines[0] == "pmis-event-v1"
        assert len(lines) == 19
        assert event_hash(log.events[0]).hex() == log.events[0]["content_hash"]

    @pytest.mark.parametrize(
        ("column", "null", "text"),
        [("project_id", None, "-"), ("causation_id", None, "-"), ("on_behalf_of", None, "-")],
    )
    def test_a_dash_never_passes_for_a_null(self, log: Log, column: str, null: None, text: str) -> None:
        event = log.events[3]
        event[column] = null
        if column == "on_behalf_of":
            event["on_behalf_of_name"] = null
        rechain(log.events + log.unsealed)
        log.seal([25])
        assert check(log.records()).ok
        event[column] = text
        if column == "on_behalf_of":
            event["on_behalf_of_name"] = text
        assert event_hash(event).hex() == event["content_hash"], "the hash alone would not tell"
        assert check(log.records()).findings[0].kind == "altered"

    def test_a_name_without_its_person_is_refused(self, log: Log) -> None:
        event = log.events[3]
        event["on_behalf_of"], event["on_behalf_of_name"] = None, "-"
        rechain(log.events + log.unsealed)
        log.seal([25])
        assert check(log.records()).findings[0].kind == "altered"

    def test_a_line_break_in_a_column_cannot_shift_the_others(self, log: Log) -> None:
        event = log.events[3]
        event["actor_name"], event["on_behalf_of"], event["on_behalf_of_name"] = "a\nb", None, None
        rehash(event)
        assert check(log.records()).findings[0].kind == "altered"

    @pytest.mark.parametrize(
        "payload",
        [
            '{"b":1,"a":2}',
            '{"a": 1}',
            '{"a":1,"a":1}',
            '{"a":1.0e3}',
            '{"a":NaN}',
            '{"a":Infinity}',
            '{"a":"\\u00e9"}',
            '{"a":"\\/"}',
            '{"a":1}\n',
            "[]",
            "1",
            "{",
            "",
            '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
            '{"a":' + "1" * 5000 + "}",
            '{"a":"\\ud800"}',
        ],
    )
    def test_a_payload_that_is_not_canonical_is_named(self, log: Log, payload: str) -> None:
        assert not is_canonical(payload)
        log.events[3]["payload"] = payload
        rechain(log.events + log.unsealed)
        log.seal([25])
        (finding,) = check(log.records()).findings
        assert (finding.kind, finding.leaf) == ("payload", 3)
        lines = encode(log.records())
        machine = LogVerifier(keys=[SIGNER.key])
        for number, line in enumerate(lines, start=1):
            machine.feed(read_record(line, number, check_canonical=False))
        assert machine.finish().ok

    @settings(max_examples=50)
    @given(
        st.dictionaries(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                max_leaves=6,
            ),
            max_size=4,
        )
    )
    def test_what_the_ledger_writes_is_canonical(self, value: dict[str, Any]) -> None:
        assert is_canonical(canonical(value))


class TestWords:
    def test_the_first_altered_event_is_named(self, log: Log) -> None:
        event = log.events[9]
        event["payload"] = "{}"
        text = check(log.records()).as_text()
        assert (
            f"TAMPERED {event['stream_type']} {event['stream_id']} version {event['stream_version']} "
            f"(event {event['id']}, position {event['position']}, leaf 9) was altered: its columns and payload do not "
            "give its content hash." in text
        )

    def test_a_missing_event_is_named_with_what_follows_it(self, log: Log) -> None:
        at = next(n for n, event in enumerate(log.events) if event["stream_version"] == 2)
        gone = log.events.pop(at)
        finding = next(f for f in check(log.records()).findings if f.stream_id == gone["stream_id"])
        assert finding.kind == "missing"
        assert finding.versions == (2,)
        assert f"{gone['stream_id']} version 2 is missing" in finding.message

    def test_several_missing_versions_and_a_missing_beginning(self, log: Log) -> None:
        stream = max(log.events, key=lambda event: event["stream_version"])["stream_id"]
        log.events = [e for e in log.events if e["stream_id"] != stream or e["stream_version"] not in (1, 2)]
        finding = next(f for f in check(log.records()).findings if f.stream_id == stream)
        assert "versions 1 to 2 are missing" in finding.message
        assert "comes right after nothing" in finding.message

    def test_leaf_numbers_tell_what_is_gone_and_what_was_added(self, log: Log) -> None:
        for number, event in enumerate(log.events):
            event["leaf"] = number
        del log.events[5:8]
        assert "Leaves 5 to 7 are missing before" in check(log.records()).as_text()
        log.events.insert(5, log.events[4])
        assert "stands where leaf 5 belongs: it was moved or added" in check(log.records()).as_text()
        del log.events[5], log.events[3]
        assert "Leaf 3 is missing before" in check(log.records()).as_text()

    def test_a_sealed_event_after_unsealed_ones(self, log: Log) -> None:
        records = log.records()
        at = next(n for n, record in enumerate(records) if record.get("leaf") == 24)
        records.insert(-1, records.pop(at))
        assert any("is sealed but stands after events that are not" in f.message for f in check(records).findings)

    def test_a_later_version_that_comes_twice(self, log: Log) -> None:
        log.events.insert(20, log.events[2])
        assert any("it was moved or added" in f.message for f in check(log.records()).findings)

    def test_two_versions_that_changed_places(self, log: Log) -> None:
        stream = max(log.events, key=lambda event: event["stream_version"])["stream_id"]
        one, other = (n for n, e in enumerate(log.events) if e["stream_id"] == stream and e["stream_version"] in (2, 3))
        log.events[one], log.events[other] = log.events[other], log.events[one]
        finding = next(f for f in check(log.records()).findings if f.stream_id == stream)
        assert (finding.kind, finding.versions) == ("reordered", (2, 3))

    def test_a_checkpoint_before_or_after_its_place(self, log: Log) -> None:
        records = log.records()
        at = next(n for n, record in enumerate(records) if record["record"] == "checkpoint")
        early = [*records[: at - 1], records[at], records[at - 1], *records[at + 1 :]]
        late = [*records[:at], records[at + 1], records[at], *records[at + 2 :]]
        assert "something is missing from leaf 0 on" in check(early).as_text()
        assert "something was added from leaf 0 on" in check(late).as_text()

    def test_a_checkpoint_of_another_log(self, log: Log) -> None:
        log.notes[11] = log.notes[11].replace("pmis.test/log\n", "other/log\n", 1)
        assert "is of another log, 'other/log'" in check(log.records()).as_text()

    def test_many_findings_are_counted_not_listed(self) -> None:
        log = make_log(2, events=60, unsealed=0)
        for event in log.events:
            event["payload"] = "{}"
        report = check(log.records())
        assert len(report.findings) == 20
        assert report.more_findings >= 40
        assert f"and {report.more_findings} more" in report.as_text()

    def test_what_the_file_says_cannot_steer_the_terminal(self, log: Log) -> None:
        log.events[3]["stream_type"] = "\x1b[2J\u202e"
        text = check(log.records()).as_text()
        assert "\x1b" not in text
        assert "\u202e" not in text

    def test_a_hash_that_is_none_is_an_alteration(self, log: Log) -> None:
        log.events[3]["content_hash"] = "zz"
        assert check(log.records()).findings[0].kind == "altered"
        assert check(log.records()).findings[0].leaf == 3

    def test_counts_that_do_not_fit(self, log: Log) -> None:
        records = log.records()
        records[0]["sealed"] = 26
        assert check(records).findings[-1].message == ("The file announces 26 sealed and closes with 25, but holds 25.")

    def test_programs_get_the_same_in_json(self, log: Log) -> None:
        log.events[9]["payload"] = "{}"
        answer = check(log.records()).as_json()
        assert answer["result"] == "tampered"
        assert answer["findings"][0]["kind"] == "altered"
        assert answer["findings"][0]["leaf"] == 9
        assert answer["findings"][0]["versions"] == [log.events[9]["stream_version"]]
        assert json.loads(json.dumps(answer)) == answer


class TestEvidence:
    """Checkpoints that were kept elsewhere."""

    def test_a_cut_off_tail_names_what_is_missing(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        gone = log.events[11]
        log.events, log.unsealed = log.events[:11], []
        del log.notes[25]
        finding = check(log.records(), witnesses=read_witnesses([tmp_path])[0]).findings[0]
        assert finding.kind == "truncated"
        assert f"The first one missing is version {gone['stream_version']} of {gone['stream_id']}" in finding.message

    def test_a_root_that_differs_narrows_the_place_down(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path, leaves=False)
        log.events[6]["payload"] = '{"title":"other"}'
        rechain(log.events + log.unsealed)
        finding = check(log.records(), witnesses=read_witnesses([tmp_path])[0]).findings[0]
        assert "What differs is among leaves 4 to 10, which begin with" in finding.message

    def test_one_event_between_two_checkpoints_is_named_exactly(self, log: Log, tmp_path: Path) -> None:
        log.seal([6, 7, 25])
        log.keep(tmp_path, leaves=False)
        log.events[6]["payload"] = '{"title":"other"}'
        rechain(log.events + log.unsealed)
        finding = check(log.records(), witnesses=read_witnesses([tmp_path])[0]).findings[0]
        assert "What differs is among leaf 6, which begin" in finding.message

    def test_the_file_and_a_kept_checkpoint_of_one_size_do_not_agree(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path, leaves=False)
        log.notes[11] = SIGNER.sign(11, roots(log.events)[10])
        findings = check(log.records(), witnesses=read_witnesses([tmp_path])[0]).findings
        assert [finding.leaf for finding in findings] == [10]
        assert "do not give the root of the checkpoint in line" in findings[0].message

    def test_a_kept_checkpoint_of_another_log_or_key(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "1.txt").write_text(ATTACKER.sign(11, roots(log.events)[11]))
        (tmp_path / "2.txt").write_text(SIGNER.sign(11, roots(log.events)[11]).replace("pmis.test/log\n", "b\n", 1))
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert [finding.kind for finding in report.findings] == ["signature", "checkpoint"]
        assert "cannot be relied on: it is signed by" in report.findings[0].message
        assert "is of the log 'b', the file says it is 'pmis.test/log'" in report.findings[1].message
        assert report.compared == 0

    def test_two_kept_checkpoints_that_contradict_each_other(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "1.txt").write_text(SIGNER.sign(11, roots(log.events)[11]))
        (tmp_path / "2.txt").write_text(SIGNER.sign(11, roots(log.events)[10]))
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert report.findings[0].kind == "split-view"
        assert "signed two different logs of 11 events" in report.findings[0].message

    def test_a_checkpoint_of_the_empty_log(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "0.txt").write_text(SIGNER.sign(0, EMPTY_ROOT))
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert (report.ok, report.compared) == (True, 1)
        (tmp_path / "0.txt").write_text(SIGNER.sign(0, bytes(32)))
        (finding,) = check(log.records(), witnesses=read_witnesses([tmp_path])[0]).findings
        assert "signed another log of 0 events" in finding.message

    def test_a_single_file_may_be_given(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        witnesses, keys = read_witnesses([tmp_path / "11.txt"])
        assert keys == []
        assert witnesses[0].leaves == tmp_path / "11.leaves"

    def test_kinds_of_difference_are_told_apart(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        witnesses = read_witnesses([tmp_path])[0]

        def first(change: Callable[[Log], Any]) -> tuple[str, int | None]:
            other = log.copy()
            change(other)
            finding = check(other.records(), witnesses=witnesses).findings[0]
            return finding.kind, finding.leaf

        def altered(other: Log) -> None:
            other.events[6]["payload"] = '{"title":"other"}'
            rechain(other.events + other.unsealed)

        def unlike(other: Log) -> None:
            other.events[6] = {**other.events[6], "stream_id": other.events[6]["id"], "stream_version": 1}
            rechain(other.events + other.unsealed)

        assert first(altered) == ("altered", 6)
        assert first(unlike) == ("altered", 6)
        assert first(lambda other: other.events.pop(6)) == ("missing", 6)
        assert first(lambda other: other.events.insert(6, other.events[1])) == ("inserted", 6)
        assert first(lambda other: other.events.insert(6, other.events.pop(8))) == ("reordered", 6)

    def test_only_so_many_leaves_after_a_difference_are_kept(
        self, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WINDOW", 3)
        log.keep(tmp_path)
        log.events[6]["payload"] = '{"title":"other"}'
        rechain(log.events + log.unsealed)
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert (report.findings[0].kind, report.findings[0].leaf) == ("altered", 6)

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda text: text.replace("0 4", "0 5", 1), "first line"),
            (lambda text: text[:-5], "not enough values"),
            (lambda text: text + "x\n", "goes on after its last leaf"),
            (lambda text: text[:70] + ("0" if text[70] != "0" else "1") + text[71:], "do not give the root"),
            (lambda text: text.replace("pmis-leaves/1", "\udcff\udcff", 1), "utf-8"),
        ],
    )
    def test_a_damaged_list_of_leaves_is_set_aside(
        self, log: Log, tmp_path: Path, damage: Callable[[str], str], why: str
    ) -> None:
        log.keep(tmp_path)
        path = tmp_path / "4.leaves"
        path.write_text(damage(path.read_text()), errors="surrogateescape")
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert report.ok
        assert report.located_leaves == 0
        assert why in report.warnings[0]

    def test_a_list_that_changes_while_it_is_read(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        machine = LogVerifier(witnesses=read_witnesses([tmp_path])[0], keys=[SIGNER.key])
        lines = log.lines()
        machine.feed(read_record(lines[0], 1))
        (tmp_path / "4.leaves").write_text("")
        with pytest.raises(UnusableError, match="changed while it was read"):
            machine.feed(read_record(lines[1], 2))

    def test_a_list_without_its_beginning_does_not_help(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        (tmp_path / "4.leaves").unlink()
        report = check(log.records(), witnesses=read_witnesses([tmp_path])[0])
        assert report.ok
        assert report.located_leaves == 0


class TestPartialExports:
    def test_every_event_is_proved(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        report = check(part(log), witnesses=read_witnesses([tmp_path])[0])
        assert report.ok, report.as_text()
        assert report.sealed == sum(event["project_id"] is not None for event in log.events)
        assert report.compared == 3
        assert "project 0190c8f4-0000-7000-8000-000000000001" in report.as_text()

    def test_an_altered_event_is_not_in_the_log(self, log: Log) -> None:
        records = part(log)
        event = next(record for record in records if record["record"] == "event")
        event["payload"] = '{"title":"other"}'
        rehash(event)
        finding = check(records).findings[0]
        assert finding.kind == "altered"
        assert "is not in the log of 25 events" in finding.message

    def test_a_left_out_version_shows(self, log: Log) -> None:
        records = part(log)
        at = next(n for n, r in enumerate(records) if r["record"] == "event" and r["stream_version"] == 2)
        del records[at]
        assert any(finding.kind == "missing" for finding in check(records).findings)

    def test_a_checkpoint_from_another_history(self, log: Log) -> None:
        records = part(log)
        records[2]["note"] = SIGNER.sign(11, roots(log.events)[10])
        assert "does not begin with the 11 events of the checkpoint in line 3" in check(records).as_text()

    def test_a_kept_checkpoint_of_another_history(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text(SIGNER.sign(11, roots(log.events)[10]))
        finding = check(part(log), witnesses=read_witnesses([tmp_path])[0]).findings[0]
        assert "signed another log of 11 events" in finding.message
        assert finding.leaf is None

    def test_kept_checkpoints_of_other_sizes(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text(SIGNER.sign(12, roots(log.events)[12]))
        witnesses = read_witnesses([tmp_path])[0]
        assert "brings no proof for that size" in check(part(log), witnesses=witnesses).as_text()
        (tmp_path / "y.txt").write_text(log.notes[11])
        assert check(part(log), witnesses=read_witnesses([tmp_path])[0]).ok

    @pytest.mark.parametrize("proof", [None, "no", [1], ["zz"], ["ab"], ["00" * 33]])
    def test_a_proof_that_is_none(self, log: Log, proof: Any) -> None:
        records = part(log)
        records[-3]["proof"] = proof
        records[2]["consistency"], kept = proof, records[2]["consistency"]
        assert "Line" not in refusal(encode(records))
        assert refusal(encode(records)) == "The checkpoint in line 3 brings no proof of consistency."
        records[2]["consistency"] = kept
        at = next(n for n, r in enumerate(records) if r["record"] == "event")
        records[at]["proof"] = proof
        assert refusal(encode(records)) == f"The event in line {at + 1} brings no proof that it is in the log."

    def test_events_without_the_checkpoint_they_lead_to(self, log: Log) -> None:
        records = [record for record in part(log) if record["record"] != "checkpoint"]
        assert "brings no proof" in refusal(encode(records))


class TestUnusableInput:
    def test_nothing(self) -> None:
        assert refusal([]) == "The file is empty."

    def test_another_file(self) -> None:
        assert refusal([b"hello\n"]) == "Line 1 is not an exported PMIS log: it is not well-formed JSON."
        assert refusal([b"{}\n"]) == "This is not an exported PMIS log: its first line is not a header."
        assert refusal([b"[]\n"]) == "Line 1 is not a record of an exported log: it is not a JSON object."

    def test_an_event_first(self, log: Log) -> None:
        assert refusal(log.lines()[1:]) == "This is not an exported PMIS log: its first line is not a header."

    def test_a_newer_format(self, log: Log) -> None:
        records = log.records()
        records[0]["format"] = "pmis-log/2"
        assert refusal(encode(records)) == "The file's format is 'pmis-log/2'; this verifier reads 'pmis-log/1'."

    @pytest.mark.parametrize(
        "change", [{"origin": 1}, {"keys": "x"}, {"sealed": True}, {"project": 5}, {"surplus": 1}, {"unsealed": 2.0}]
    )
    def test_a_header_of_another_shape(self, log: Log, change: dict[str, Any]) -> None:
        records = log.records()
        records[0].update(change)
        assert refusal(encode(records)) == "The file's header does not have the shape of a header."

    def test_a_header_with_a_key_that_is_none(self, log: Log) -> None:
        log.keys = ["x"]
        assert "The file's header names a key that is none" in refusal(log.lines())

    def test_cut_off(self, log: Log) -> None:
        lines = log.lines()
        assert refusal(lines[:10]) == "The file is cut off after line 10: it has no trailer."
        assert refusal([*lines[:10], lines[10][:50]]) == "The file is cut off in line 11."

    def test_more_after_the_end(self, log: Log) -> None:
        lines = log.lines()
        assert refusal([*lines, lines[5]]) == (
            f"Line {len(lines) + 1} comes after the trailer, where the file should end."
        )

    def test_lines_that_are_damaged(self, log: Log) -> None:
        lines = log.lines()
        for damaged, text in [
            (b"\xff\xfe\n", "is not UTF-8 text."),
            (b"\x00\x00\n", "is not a record of an exported log: it is not well-formed JSON."),
            (b'{"record":"event","record":"event"}\n', "its keys are not each there once."),
            (b'{"record":"event","a":{"record":1}}\n', "its keys are not each there once."),
            (b'{"record" :"event"}\n', "its keys are not each there once."),
            (lines[3].replace(b'"payload":', b'"payload":"x","payload":', 1), "its keys are not each there once."),
            (lines[3].replace(b'"payload":', b'"x\\\\":"x","payload":', 1), "its keys are not each there once."),
            (
                lines[3].replace(b'"payload":', b'"x\\\\":"x","payload":"x","payload":', 1),
                "does not have the shape of an event.",
            ),
            (b'{"record":"checkpoint","note":"x","note":"y","x\\\\":1}\n', "is none: it has other keys than a note"),
            (b'{"record":"trailer","sealed":1}\n', "does not have the shape of a trailer"),
            (b'{"record":NaN}\n', "it is not well-formed JSON."),
            (b"[" * 100_000 + b"\n", "it is not well-formed JSON."),
            (b"7\n", "it is not a JSON object."),
            (b'{"record":"surprise"}\n', "is neither an event nor a checkpoint nor the trailer."),
            (lines[0], "is neither an event nor a checkpoint nor the trailer."),
            (b'{"record":"checkpoint","note":7}\n', "it is not a signed note"),
        ]:
            text_found = refusal([*lines[:4], damaged, *lines[4:]])
            assert text in text_found
            assert "ine 5" in text_found

    def test_a_line_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 1024 * 1024)
        assert refusal([b"x" * (1024 * 1024 + 1)]) == "Line 1 is longer than 1 MiB, which no event is."

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"payload": None}, "holds something that is not text"),
            ({"type": 5}, "holds something that is not text"),
            ({"actor_name": "\ud800"}, "holds something that is not text"),
            ({"position": "1"}, "does not have the shape of an event"),
            ({"position": 1.0}, "does not have the shape of an event"),
            ({"stream_version": True}, "does not have the shape of an event"),
            ({"schema_version": "1"}, "does not have the shape of an event"),
            ({"content_hash": None}, "does not have the shape of an event"),
            ({"leaf": "3"}, "does not have the shape of an event"),
            ({"surplus": 1}, "does not have the shape of an event"),
        ],
    )
    def test_events_of_another_shape(self, log: Log, change: dict[str, Any], text: str) -> None:
        records = log.records()
        records[4].update(change)
        lines = [json.dumps(record).encode() + b"\n" for record in records]
        assert refusal(lines) == f"The event in line 5 {text}."

    @pytest.mark.parametrize("column", ["leaf", "payload", "actor", "content_hash"])
    def test_an_event_without_a_column(self, log: Log, column: str) -> None:
        records = log.records()
        del records[4][column]
        assert refusal(encode(records)) == f"The event in line 5 has no {column!r}."


class TestFiles:
    def test_gzip_is_recognised(self, log: Log, write: Any) -> None:
        path = write([gzip.compress(b"".join(log.lines()))], "log.bin")
        assert verify_file(path, keys=[KEY]).ok

    @pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"x" * 40 + data[80:]])
    def test_a_damaged_gzip_file(self, log: Log, write: Any, damage: Callable[[bytes], bytes]) -> None:
        path = write([damage(gzip.compress(b"".join(log.lines())))])
        with pytest.raises(UnusableError, match="is a damaged gzip file"):
            verify_file(path)

    def test_a_gzip_file_with_a_wrong_check_sum(self, log: Log, write: Any) -> None:
        data = bytearray(gzip.compress(b"".join(log.lines())))
        data[-8] ^= 1
        with pytest.raises(UnusableError, match="is a damaged gzip file"):
            verify_file(write([bytes(data)]))

    @pytest.mark.parametrize(
        ("name", "why"), [("nowhere", "No such file"), ("", "Is a directory"), ("a\0b", "not a file name")]
    )
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, name: str, why: str) -> None:
        with pytest.raises(UnusableError, match=why):
            verify_file(f"{tmp_path}/{name}")

    def test_a_file_that_fails_while_it_is_read(self, monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
        class Failing(io.BytesIO):
            def readline(self, *_: Any) -> bytes:
                raise OSError(5, "Input/output error")

        path = write([b"x"])
        monkeypatch.setattr(module, "_open", lambda _: Failing())
        with pytest.raises(UnusableError, match="cannot be read: Input/output error"):
            verify_file(path)

    def test_checkpoints_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableError, match="holds no checkpoint"):
            read_witnesses([tmp_path])
        with pytest.raises(UnusableError, match=r"x\.txt cannot be read: No such file"):
            read_witnesses([tmp_path / "x.txt"])
        (tmp_path / "x.txt").write_text("hello")
        with pytest.raises(UnusableError, match=r"x\.txt is not a checkpoint: it is not a signed note"):
            read_witnesses([tmp_path])

    def test_a_folder_without_a_key(self, log: Log, tmp_path: Path) -> None:
        log.keep(tmp_path)
        (tmp_path / "vkey").unlink()
        assert read_witnesses([tmp_path])[1] == []

    def test_keys_come_as_they_are_or_in_files(self, tmp_path: Path) -> None:
        path = tmp_path / "keys"
        path.write_text(f"{KEY}\n{ATTACKER.key}\n")
        assert read_keys([KEY, str(path)]) == [SIGNER.key, SIGNER.key, ATTACKER.key]

    @pytest.mark.parametrize(
        ("content", "why"), [(b"", "it is empty"), (b"x", "name\\+id\\+key"), (b"\xff", "not UTF-8 text")]
    )
    def test_a_file_of_keys_that_holds_none(self, tmp_path: Path, content: bytes, why: str) -> None:
        path = tmp_path / "keys"
        path.write_bytes(content)
        with pytest.raises(UnusableError, match=why):
            read_keys([str(path)])

    def test_a_key_with_a_slip_of_the_pen(self) -> None:
        with pytest.raises(UnusableError, match="is not a verifier key"):
            read_keys([KEY[:-3] + "A" + KEY[-2:]])


class TestCommandLine:
    def test_all_well(self, log: Log, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([write(log.lines()), "--key", KEY]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "OK       every sealed event is the one that was signed"

    def test_tampered(self, log: Log, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
        log.events[3]["payload"] = "{}"
        assert main([write(log.lines()), "--key", KEY, "--json", "--hash-only"]) == 1
        assert json.loads(capsys.readouterr().out)["result"] == "tampered"

    def test_unusable(self, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
        path = write([b"hello\n"])
        assert main([path]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", "error: Line 1 is not an exported PMIS log: it is not well-formed JSON.\n")
        assert main([path, "--json"]) == 2
        assert json.loads(capsys.readouterr().out) == {
            "result": "unusable",
            "error": "Line 1 is not an exported PMIS log: it is not well-formed JSON.",
        }

    def test_standard_input(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stdin:
            buffer = io.BytesIO(b"".join(log.lines()))

        monkeypatch.setattr(sys, "stdin", Stdin)
        assert main(["-", "--key", KEY]) == 0
