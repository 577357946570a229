"""Builds whole logs in memory, honest ones and what an attacker makes of them."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pmis.ledger.checkpoint import Checkpoint, CheckpointSigner
from pmis.ledger.merkle import consistency_plan, inclusion_plan, node_hash
from pmis.ledger.sink import FileSink, Publication
from pmis.ledger.verify import GENESIS, CompactRange, SignedLeaf, event_hash, leaf_hash

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "pmis.test/log"
SIGNER = CheckpointSigner(ORIGIN, hashlib.sha256(b"the honest key").digest())
ATTACKER = CheckpointSigner(ORIGIN, hashlib.sha256(b"another key").digest())
PROJECT = "0190c8f4-0000-7000-8000-000000000001"

Event = dict[str, Any]

_TYPES = {"package": ("created", "patched", "transitioned"), "task": ("created", "closed"), "party": ("created",)}
_TITLES = ("bridge", "école", "学校", "two\nlines", 'a "quote" and a \\', "\x7f\u2028")
_NAMES = ("Ana Petrović", "Bô Nguyễn", "Chen 陈", "Dana \N{RIGHT-TO-LEFT MARK}Levi", "Ed “the” O'Neil")


def canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def made_uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def make_event(rng: random.Random, stream: tuple[str, str], at: datetime) -> Event:
    kind, identity = stream
    payload: dict[str, Any] = {
        "title": f"Lot {rng.randrange(1000)}: {rng.choice(_TITLES)}",
        "amount": {"currency": "USD", "value": f"{rng.randrange(10**7)}.{rng.randrange(100):02}"},
        "flags": [True, None, rng.randrange(100)],
    }
    for_somebody = rng.random() < 0.3
    return {
        "position": 0,
        "id": made_uuid(rng),
        "stream_type": kind,
        "stream_id": identity,
        "stream_version": 0,
        "project_id": None if kind == "party" else PROJECT,
        "type": f"{kind}.{rng.choice(_TYPES[kind])}",
        "schema_version": 1,
        "actor": f"{'agent' if for_somebody else 'person'}:{made_uuid(rng)}",
        "actor_name": rng.choice(_NAMES),
        "on_behalf_of": f"person:{made_uuid(rng)}" if for_somebody else None,
        "on_behalf_of_name": rng.choice(_NAMES) if for_somebody else None,
        "source": rng.choice(["api", "cli", "mail"]),
        "correlation_id": f"req-{rng.randrange(10**6)}",
        "causation_id": made_uuid(rng) if rng.random() < 0.2 else None,
        "occurred_at": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "previous_hash": GENESIS,
        "payload": canonical(payload),
        "content_hash": "",
    }


def rehash(event: Event) -> None:
    event["content_hash"] = event_hash(event).hex()


def rechain(events: list[Event], *, renumber: bool = False) -> None:
    """What whoever rewrites history does: every link and every hash fits again."""
    heads: dict[str, tuple[int, str]] = {}
    for event in events:
        version, head = heads.get(event["stream_id"], (0, GENESIS))
        event["previous_hash"] = head
        if renumber:
            event["stream_version"] = version + 1
        rehash(event)
        heads[event["stream_id"]] = (event["stream_version"], event["content_hash"])


def roots(events: list[Event]) -> list[bytes]:
    """The root of the tree of every size, from 0 on."""
    tree = CompactRange()
    found = [tree.root()]
    for event in events:
        tree.append(leaf_hash(bytes.fromhex(event["content_hash"])))
        found.append(tree.root())
    return found


@dataclass
class Log:
    """A log as an export shows it: sealed events in leaf order, unsealed ones, and the notes by size."""

    events: list[Event]
    unsealed: list[Event] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=lambda: [str(SIGNER.key)])
    origin: str = ORIGIN

    def copy(self) -> Log:
        return copy.deepcopy(self)

    def seal(self, sizes: list[int], signer: CheckpointSigner = SIGNER) -> None:
        known = roots(self.events)
        self.notes = {size: signer.sign(size, known[size]) for size in sizes}

    def records(self) -> list[dict[str, Any]]:
        notes = sorted(self.notes.items())
        counts = {"sealed": len(self.events), "unsealed": len(self.unsealed), "checkpoints": len(notes)}
        found: list[dict[str, Any]] = [
            {
                "record": "header",
                "format": "pmis-log/1",
                "origin": self.origin,
                "keys": self.keys,
                "project": None,
                "exported_at": "2026-05-01T12:00:00.000000Z",
                **counts,
            }
        ]
        for leaf, event in enumerate(self.events):
            found.append({"record": "event", "leaf": event.get("leaf", leaf), **without_leaf(event)})
            while notes and notes[0][0] <= leaf + 1:
                found.append({"record": "checkpoint", "note": notes.pop(0)[1]})
        found += [{"record": "checkpoint", "note": note} for _, note in notes]
        found += [{"record": "event", "leaf": None, **event} for event in self.unsealed]
        return [*found, {"record": "trailer", **counts}]

    def lines(self) -> list[bytes]:
        return encode(self.records())

    def keep(self, folder: Path, *, leaves: bool = True) -> None:
        """What the sealer of this log would have kept outside."""
        sink = FileSink(folder)
        start = 0
        for size, note in sorted(self.notes.items()):
            listed = [
                SignedLeaf(event["content_hash"], event["stream_id"], event["stream_version"])
                for event in self.events[start:size]
            ]
            sink.publish(Publication(note, Checkpoint.parse(note), start, listed, SIGNER.key))
            if not leaves:
                (folder / f"{size}.leaves").unlink()
            start = size


def without_leaf(event: Event) -> Event:
    return {key: value for key, value in event.items() if key != "leaf"}


def encode(records: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for record in records]


def make_log(
    seed: int = 1, *, events: int = 40, streams: int = 7, sizes: list[int] | None = None, unsealed: int = 3
) -> Log:
    """An honest log: streams of several kinds, interleaved, sealed at some sizes."""
    rng = random.Random(seed)
    kinds = sorted(_TYPES)
    known = [(rng.choice(kinds), made_uuid(rng)) for _ in range(streams)]
    versions = dict.fromkeys((identity for _, identity in known), 0)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made: list[Event] = []
    position = 0
    for _ in range(events + unsealed):
        stream = rng.choice(known)
        at += timedelta(seconds=rng.randrange(1, 10**5), microseconds=rng.randrange(10**6))
        event = make_event(rng, stream, at)
        versions[stream[1]] += 1
        # Positions have gaps: a transaction that was taken back had one too.
        position += rng.choice([1, 1, 1, 2, 5])
        event["position"], event["stream_version"] = position, versions[stream[1]]
        made.append(event)
    rechain(made)
    log = Log(made[:events], made[events:])
    if sizes is None:
        sizes = sorted({*rng.sample(range(1, events + 1), min(events, 4)), events}) if events else []
    log.seal(sizes)
    return log


def part(log: Log, *, bring: list[int] | None = None) -> list[dict[str, Any]]:
    """The records of an export of one project: the newest checkpoint first, and a proof with every sealed event."""
    nodes: dict[tuple[int, int], bytes] = {}
    level, row = 0, [leaf_hash(bytes.fromhex(event["content_hash"])) for event in log.events]
    while row:
        nodes.update({(level, index): node for index, node in enumerate(row)})
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        level += 1
    newest = max(log.notes)
    sizes = sorted({newest, *(log.notes if bring is None else bring)}, reverse=True)
    mine = [(leaf, event) for leaf, event in enumerate(log.events) if event["project_id"] == PROJECT]
    later = [event for event in log.unsealed if event["project_id"] == PROJECT]
    counts = {"sealed": len(mine), "unsealed": len(later), "checkpoints": len(sizes)}
    head, *_, tail = log.records()
    checkpoints = [
        {
            "record": "checkpoint",
            "note": log.notes[size],
            "consistency": [node.hex() for node in consistency_plan(size, newest).hashes(nodes)],
        }
        for size in sizes
    ]
    events = [
        {
            "record": "event",
            "leaf": leaf,
            **event,
            "proof": [node.hex() for node in inclusion_plan(leaf, newest).hashes(nodes)],
        }
        for leaf, event in mine
    ]
    events += [{"record": "event", "leaf": None, **event} for event in later]
    return [{**head, **counts, "project": PROJECT}, *checkpoints, *events, {**tail, **counts}]
