"""T10: a superuser changes history, recomputes whatever can be recomputed, and exports. Every time it shows.

The attacker of the bulk of these cases owns the database and the export: all hashes, links, leaf numbers and counts fit
again. What the attacker does not have is the signing key, and the checkpoints that were kept elsewhere. The classes are
those of the reliability plan; `test_seal_tamper.py` does a part of them in a real PostgreSQL.
"""

from __future__ import annotations

import base64
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from pmis.ledger.verify import (
    Checkpoint,
    LogVerifier,
    Report,
    UnusableError,
    VerifierKey,
    Witness,
    read_record,
    read_witnesses,
)
from tests.ledger.logs import ATTACKER, SIGNER, Event, Log, make_event, make_log, rechain, rehash, roots
from tests.ledger.second_verifier import judge

if TYPE_CHECKING:
    from collections.abc import Callable

Name = tuple[str, int]
CASES_PER_CLASS = int(os.environ.get("PMIS_TEST_TAMPERS_PER_CLASS", "90"))
"""Twelve times ninety on every change; 834 make the ten thousand of a nightly run."""
LOGS = 12


@dataclass
class Case:
    """What the attacker hands over, and what the auditor holds against it."""

    lines: list[bytes]
    names: set[Name] = field(default_factory=set)
    """The events that were tampered with, or put in the place of others; empty where no event can be named."""
    leaf: int | None = None
    """The first leaf that is not what it was."""
    given: bool = True
    pinned: bool = True
    more: list[str] = field(default_factory=list)


@dataclass
class Kept:
    """An honest log and what was kept of it elsewhere, with and without the lists of leaves."""

    log: Log
    with_leaves: list[Witness]
    without: list[Witness]
    leaves: list[str]


def name(event: Event) -> Name:
    return event["stream_id"], event["stream_version"]


def verify(
    lines: list[bytes],
    witnesses: list[Witness],
    keys: list[VerifierKey],
    verifier: type[LogVerifier] = LogVerifier,
) -> Report:
    machine = verifier(witnesses=witnesses, keys=keys)
    for number, line in enumerate(lines, start=1):
        machine.feed(read_record(line, number))
    return machine.finish()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Kept]:
    @cache
    def make(seed: int) -> Kept:
        log = make_log(seed, events=30 + seed, unsealed=seed % 4)
        folder = tmp_path_factory.mktemp("kept")
        log.keep(folder / "a")
        log.keep(folder / "b", leaves=False)
        lists = sorted((folder / "a").glob("*.leaves"), key=lambda path: int(path.stem))
        return Kept(
            log,
            read_witnesses([folder / "a"])[0],
            read_witnesses([folder / "b"])[0],
            [line for path in lists for line in path.read_text().splitlines()[1:]],
        )

    return make


# -- what attackers do


def changed(rng: random.Random, log: Log, change: Callable[[Event], None]) -> Case:
    """Change one event, and recompute nothing, its own hash, or everything."""
    leaf = rng.randrange(len(log.events))
    event = log.events[leaf]
    before = name(event)
    change(event)
    recompute = rng.choice(["nothing", "own hash", "chain", "chain"])
    if recompute == "own hash":
        rehash(event)
    elif recompute == "chain":
        rechain(log.events + log.unsealed)
    return Case(log.lines(), {before, name(event)}, leaf)


def edit(rng: random.Random, log: Log) -> Case:
    def change(event: Event) -> None:
        column = rng.choice(["payload"] * 6 + ["type", "correlation_id", "source", "id", "position", "schema_version"])
        if column == "payload":
            event["payload"] = event["payload"].replace('"value":"', '"value":"1', 1)
        elif column == "id":
            event["id"] = event["id"][::-1]
        elif column in ("position", "schema_version"):
            event[column] += 1000
        else:
            event[column] += "x"

    return changed(rng, log, change)


def retime(rng: random.Random, log: Log) -> Case:
    def change(event: Event) -> None:
        at = event["occurred_at"]
        event["occurred_at"] = rng.choice([f"{at[:18]}{(int(at[18]) + 1) % 10}{at[19:]}", f"2025{at[4:]}"])

    return changed(rng, log, change)


def reactor(rng: random.Random, log: Log) -> Case:
    def change(event: Event) -> None:
        column = rng.choice(["actor", "actor_name", "on_behalf_of"])
        if column == "on_behalf_of":
            present = event["on_behalf_of"] is not None
            event["on_behalf_of"] = None if present else "person:someone-else"
            event["on_behalf_of_name"] = None if present else "Someone Else"
        else:
            event[column] += "e"

    return changed(rng, log, change)


def delete(rng: random.Random, log: Log) -> Case:
    leaf = rng.randrange(len(log.events) - 1)
    if rng.random() < 0.3:
        for number, event in enumerate(log.events):
            event["leaf"] = number
    gone = log.events.pop(leaf)
    if rng.random() < 0.6:
        rechain(log.events + log.unsealed, renumber=True)
    return Case(log.lines(), {name(gone)}, leaf)


def insert(rng: random.Random, log: Log) -> Case:
    leaf = rng.randrange(1, len(log.events))
    if rng.random() < 0.3:
        extra = log.copy().events[rng.randrange(leaf)]
    else:
        like = log.events[leaf - 1]
        extra = make_event(rng, (like["stream_type"], like["stream_id"]), _at(like) + timedelta(seconds=1))
        extra["position"], extra["stream_version"] = like["position"], like["stream_version"] + 1
        rehash(extra)
    log.events.insert(leaf, extra)
    if rng.random() < 0.6:
        rechain(log.events + log.unsealed, renumber=True)
    return Case(log.lines(), {name(extra)}, leaf)


def _at(event: Event) -> datetime:
    return datetime.fromisoformat(event["occurred_at"])


def swap(rng: random.Random, log: Log) -> Case:
    events = log.events
    how = rng.choice(["order", "payloads", "order and chain"])
    one, other = sorted(rng.sample(range(len(events)), 2))
    names = {name(events[one]), name(events[other])}
    if how == "payloads":
        one_payload, other_payload = events[one]["payload"], events[other]["payload"]
        events[one]["payload"], events[other]["payload"] = other_payload, one_payload
        rechain(events + log.unsealed)
        if one_payload == other_payload:
            events[one]["payload"] = events[other]["payload"] = one_payload + " "
    else:
        events[one], events[other] = events[other], events[one]
        if how == "order and chain":
            rechain(events + log.unsealed, renumber=True)
            names |= {name(events[one]), name(events[other])}
    return Case(log.lines(), names, one)


def truncate(rng: random.Random, log: Log) -> Case:
    honest = log.copy()
    how = rng.choice(["cut", "cut at a checkpoint", "call them unsealed"])
    size = rng.randrange(len(log.events))
    if how == "cut at a checkpoint":
        size = rng.choice([0, *sorted(log.notes)[:-1]])
    tail = log.events[size:]
    log.events = log.events[:size]
    log.unsealed = tail + log.unsealed if how == "call them unsealed" else []
    log.notes = {known: note for known, note in log.notes.items() if known <= size}
    return Case(log.lines(), {name(honest.events[size])}, size)


def fork(rng: random.Random, log: Log) -> Case:
    leaf = rng.randrange(len(log.events))
    was = log.events[leaf]
    longer = rng.choice([0, 0, 5])
    for event in log.events[leaf:]:
        event["payload"] = event["payload"].replace('"title":"', '"title":"Another ', 1)
    for _ in range(longer):
        like = log.events[-1]
        extra = make_event(rng, (like["stream_type"], like["stream_id"]), _at(like))
        log.events.append({**extra, "position": like["position"] + 1})
    rechain(log.events, renumber=True)
    log.unsealed = []
    return Case(log.lines(), {name(was)}, leaf)


def key_swap(rng: random.Random, log: Log) -> Case:
    leaf = None
    if rng.random() < 0.5:
        leaf = rng.randrange(len(log.events))
        log.events[leaf]["payload"] = '{"title":"theirs"}'
        rechain(log.events + log.unsealed)
    log.seal(sorted(log.notes), ATTACKER)
    log.keys = [str(ATTACKER.key)]
    # Either the key was pinned and no checkpoint kept, or checkpoints were kept and the file's own key is believed.
    pinned = rng.random() < 0.5
    return Case(log.lines(), pinned=pinned, given=not pinned)


def old_backup(rng: random.Random, log: Log) -> Case:
    size = rng.choice(sorted(log.notes)[:-1])
    was = log.events[size]
    notes = {known: note for known, note in log.notes.items() if known <= size}
    log.events, log.unsealed, log.notes = log.events[:size], [], notes
    if rng.random() < 0.7:
        # The restored system went on, and so did a sealer that did not look at what it had signed before.
        for _ in range(rng.randrange(1, 30)):
            like = rng.choice(log.events)
            extra = make_event(rng, (like["stream_type"], like["stream_id"]), _at(log.events[-1]))
            log.events.append({**extra, "position": log.events[-1]["position"] + 1})
        rechain(log.events, renumber=True)
        log.seal([*notes, len(log.events)])
        return Case(log.lines(), {name(log.events[size]), name(was)}, size)
    return Case(log.lines(), {name(was)}, size)


def checkpoint_edit(rng: random.Random, log: Log) -> Case:
    size = rng.choice(sorted(log.notes))
    note = log.notes[size]
    how = rng.choice(["size", "root", "signature", "origin", "strip", "place"])
    origin, count, root, blank, line = note[:-1].split("\n")
    if how == "size":
        count = str(size + rng.choice([-1, 1, 10]))
    elif how == "root":
        root = base64.b64encode(roots(log.events)[size - 1]).decode()
    elif how == "signature":
        raw = bytearray(base64.b64decode(line.split(" ")[2]))
        raw[rng.randrange(4, len(raw))] ^= 1 << rng.randrange(8)
        line = f"{line.rpartition(' ')[0]} {base64.b64encode(raw).decode()}"
    elif how == "origin":
        origin += "x"
    log.notes[size] = f"{origin}\n{count}\n{root}\n{blank}\n{line}\n"
    lines = log.lines()
    if how == "strip":
        del log.notes[max(log.notes)]
        lines = log.lines()
    elif how == "place":
        at = next(number for number, text in enumerate(lines) if text.startswith(b'{"record":"checkpoint"'))
        lines.insert(at - 1, lines.pop(at))
    # An outside checkpoint of that size would do in the place of the one that was stripped: then nothing is lost.
    return Case(lines, given=how != "strip" and rng.random() < 0.5)


def split_view(rng: random.Random, log: Log) -> Case:
    """Whoever holds the key shows two people two logs."""
    leaf = rng.randrange(len(log.events))
    log.events[leaf]["payload"] = '{"title":"for your eyes only"}'
    names = {name(log.events[leaf])}
    rechain(log.events + log.unsealed)
    sizes = sorted(log.notes)
    log.seal(sizes)
    if rng.random() < 0.3:
        # The auditors lay their checkpoints side by side; the file is the honest one's twin.
        return Case(log.lines(), names, leaf, more=[log.notes[sizes[-1]]])
    return Case(log.lines(), names, leaf)


CLASSES: dict[str, Callable[[random.Random, Log], Case]] = {
    "edit": edit,
    "delete": delete,
    "insert": insert,
    "swap": swap,
    "truncate tail": truncate,
    "fork": fork,
    "re-time": retime,
    "re-actor": reactor,
    "key swap": key_swap,
    "old backup": old_backup,
    "checkpoint edit": checkpoint_edit,
    "split view": split_view,
}


def outcome(case: Case, kept: Kept, *, leaves: bool, verifier: type[LogVerifier] = LogVerifier) -> Report:
    witnesses = (kept.with_leaves if leaves else kept.without) if case.given else []
    extra = [Witness(f"note {n}", Checkpoint.parse(note)) for n, note in enumerate(case.more)]
    return verify(case.lines, [*witnesses, *extra], [SIGNER.key] if case.pinned else [], verifier)


def is_located(report: Report, case: Case, kept: Kept, *, leaves: bool) -> bool:
    """The first finding names the event; with no list of leaves it may name the checkpoints around it instead."""
    first = next(finding for finding in report.findings if finding.kind != "split-view")
    if {(first.stream_id, version) for version in first.versions} & case.names:
        return True
    if leaves or first.leaf is None or case.leaf is None:
        return False
    if first.kind == "truncated" or first.leaf == case.leaf:
        return True
    after = min((size for size in kept.log.notes if size > case.leaf), default=None)
    return first.kind in ("history", "missing") and after is not None and first.leaf <= case.leaf < after


@pytest.mark.parametrize("kind", CLASSES)
def test_r4_every_tamper_is_detected_and_located_and_both_verifiers_agree(
    kind: str, kept: Callable[[int], Kept]
) -> None:
    for number in range(CASES_PER_CLASS):
        rng = random.Random(f"{kind} {number}")
        honest = kept(number % LOGS)
        leaves = number % 2 == 0
        case = CLASSES[kind](rng, honest.log.copy())
        report = outcome(case, honest, leaves=leaves)
        assert not report.ok, f"{kind} {number} was not noticed"
        if case.names:
            assert is_located(report, case, honest, leaves=leaves), (number, case.names, case.leaf, report.as_text())
        second = judge(
            b"".join(case.lines),
            notes=[*(honest.log.notes.values() if case.given else ()), *case.more],
            keys=[str(SIGNER.key)] if case.pinned else [],
            leaves=honest.leaves if leaves and case.given else None,
        )
        assert second.status == "tampered", (kind, number, report.as_text())
        if case.names and leaves and case.given:
            assert set(second.names) & case.names, (kind, number, second.names)


def test_r4_there_are_a_thousand_tampers_in_twelve_classes() -> None:
    assert len(CLASSES) == 12
    assert len(CLASSES) * CASES_PER_CLASS >= 1000


def test_r4_an_honest_log_is_never_accused(kept: Callable[[int], Kept]) -> None:
    for seed in range(60):
        honest = kept(seed % LOGS) if seed < LOGS else None
        log = honest.log if honest else make_log(seed, events=seed, unsealed=seed % 3)
        witnesses = honest.with_leaves if honest else []
        report = verify(log.lines(), witnesses, [SIGNER.key])
        assert report.ok, report.as_text()
        assert report.sealed == len(log.events)
        second = judge(b"".join(log.lines()), notes=list(log.notes.values()), keys=[str(SIGNER.key)])
        assert second.status == "ok", second


# -- positive controls: a verifier that lacks one check must miss what that check is there for


def no_content(log: Log) -> Case:
    log.events[5]["payload"] = '{"title":"theirs"}'
    return Case(log.lines(), given=False)


def not_canonical(log: Log) -> Case:
    """The signer itself was fed with a payload that can be read in two ways."""
    log.events[5]["payload"] = '{"amount":"1","amount":"1000000"}'
    rechain(log.events + log.unsealed)
    log.seal(sorted(log.notes))
    return Case(log.lines(), given=False)


def broken_chain(log: Log) -> Case:
    """A stream without its beginning, sealed as it is."""
    event = log.events[-1]
    event["stream_version"] += 1
    rehash(event)
    log.unsealed = []
    log.seal(sorted(log.notes))
    return Case(log.lines(), given=False)


def leaf_numbers(log: Log) -> Case:
    log.events[3]["leaf"], log.events[4]["leaf"] = 4, 3
    return Case(log.lines(), given=False)


def insider(log: Log) -> Case:
    """Whoever holds the key rewrote history and signed it again; only what was kept outside tells."""
    log.events[5]["payload"] = '{"title":"theirs"}'
    rechain(log.events + log.unsealed)
    log.seal(sorted(log.notes))
    return Case(log.lines())


def rewritten(log: Log) -> Case:
    log.events[5]["payload"] = '{"title":"theirs"}'
    rechain(log.events + log.unsealed)
    return Case(log.lines(), given=False)


def signed_by_another(log: Log) -> Case:
    log.seal(sorted(log.notes), ATTACKER)
    return Case(log.lines(), given=False)


def cut(log: Log) -> Case:
    size = sorted(log.notes)[-2]
    log.events, log.unsealed = log.events[:size], []
    log.notes.pop(max(log.notes))
    return Case(log.lines())


def nothing(*_: Any, **__: Any) -> None:
    pass


CONTROLS: dict[str, tuple[Callable[[Log], Case], dict[str, Any]]] = {
    "content hash": (no_content, {"content_fits": lambda *_: True}),
    "canonical payload": (not_canonical, {"payload_is_canonical": lambda *_: True}),
    "stream": (broken_chain, {"check_stream": nothing}),
    "leaf number": (leaf_numbers, {"misplaced": nothing}),
    "root in the file": (rewritten, {"is_root_of_file": lambda *_: True}),
    "root kept outside": (insider, {"is_root_of_witness": lambda *_: True}),
    "signature": (signed_by_another, {"signature_fault": nothing}),
    "end": (cut, {"check_end": nothing}),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_r4_each_check_finds_something_that_no_other_check_finds(control: str, kept: Callable[[int], Kept]) -> None:
    tamper, blinded = CONTROLS[control]
    honest = kept(5)
    case = tamper(honest.log.copy())
    blind = type("Blind", (LogVerifier,), blinded)
    assert not outcome(case, honest, leaves=False).ok
    assert outcome(case, honest, leaves=False, verifier=blind).ok, "another check found it: this control proves nothing"
    assert outcome(Case(honest.log.lines()), honest, leaves=False, verifier=blind).ok


def test_r4_the_lists_of_leaves_are_what_locates_a_change(kept: Callable[[int], Kept]) -> None:
    honest = kept(5)
    case = insider(honest.log.copy())
    assert outcome(case, honest, leaves=True).findings[0].leaf == 5
    blind = type("Blind", (LogVerifier,), {"compare_leaf": nothing})
    report = outcome(case, honest, leaves=True, verifier=blind)
    assert report.findings[0].kind == "history"
    assert report.findings[0].leaf != 5


def test_r4_the_fuzz_would_see_a_verifier_that_misses_a_class(kept: Callable[[int], Kept]) -> None:
    """The loop above can fail: a verifier without the outside checks misses classes, and it is counted."""
    blind = type("Blind", (LogVerifier,), {"is_root_of_witness": lambda *_: True, "check_end": nothing})
    missed = Counter[str]()
    for kind in ("truncate tail", "old backup", "split view"):
        for number in range(20):
            honest = kept(number % LOGS)
            case = CLASSES[kind](random.Random(f"{kind} {number}"), honest.log.copy())
            missed[kind] += outcome(case, honest, leaves=False, verifier=blind).ok
    assert all(missed[kind] >= 5 for kind in ("truncate tail", "old backup", "split view")), missed


# -- a changed byte anywhere


def test_r4_no_changed_byte_goes_unnoticed() -> None:
    """Each byte of a small export in turn becomes another. Only the time of the export is vouched for by nobody."""
    log = make_log(3, events=3, streams=2, sizes=[2, 3], unsealed=1)
    data = b"".join(log.lines())
    start = data.index(b'"exported_at":"') + len(b'"exported_at":"')
    free = range(start, data.index(b'"', start))
    rng = random.Random(3)
    disagreements = Counter[tuple[str, str]]()
    for at in range(len(data)):
        if at in free:
            continue
        mutant = bytearray(data)
        mutant[at] = rng.choice([byte for byte in (data[at] ^ 1, data[at] ^ 32, 0, 10, 34, 255) if byte != data[at]])
        try:
            report = verify(bytes(mutant).splitlines(keepends=True), [], [SIGNER.key])
            first = "ok" if report.ok else "tampered"
        except UnusableError:
            first = "unusable"
        second = judge(bytes(mutant), keys=[str(SIGNER.key)]).status
        assert first != "ok", (at, data[max(0, at - 40) : at + 40])
        assert second != "ok", (at, data[max(0, at - 40) : at + 40])
        disagreements[first, second] += first != second
    # Both refuse every one; whether a line is damaged or altered may be seen differently, and seldom is.
    assert sum(disagreements.values()) < len(data) // 100, disagreements
