"""A second verifier, written to share nothing with the first: no code of ours, another structure, another tree.

It holds the whole file in memory, sorts instead of streaming, takes its Merkle roots from `pymerkle` and, at the last
size, from the textbook recursion as well, and writes canonical JSON by hand. What the two must agree on is the verdict
and, where an event can be named, its name.
"""

from __future__ import annotations

import base64
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519
from pymerkle import InmemoryTree

HASHED = tuple(
    line.strip()
    for line in """
        position
        id
        stream_type
        stream_id
        stream_version
        project_id
        type
        schema_version
        actor
        actor_name
        on_behalf_of
        on_behalf_of_name
        source
        correlation_id
        causation_id
        occurred_at
        previous_hash
    """.strip().splitlines()
)
NULLABLE = {"project_id", "on_behalf_of", "on_behalf_of_name", "causation_id"}
NUMBERS = {"position", "stream_version", "schema_version"}
HEADER = {"record", "format", "origin", "keys", "project", "exported_at", "sealed", "unsealed", "checkpoints"}
Name = tuple[str, int]


class UnusableError(Exception):
    pass


@dataclass
class Verdict:
    """`names` are the events in question, in leaf order where that is known."""

    status: str
    reasons: list[str] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)


@dataclass
class Note:
    origin: str
    size: int
    root: bytes
    body: bytes
    signatures: list[tuple[str, bytes, bytes]]


def written(value: Any) -> str:
    """Canonical JSON by hand."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
        return '"' + "".join(short.get(c, c if c >= " " else f"\\u{ord(c):04x}") for c in value) + '"'
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return "{" + ",".join(f"{written(key)}:{written(value[key])}" for key in sorted(value)) + "}"


def root_by_the_book(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1" + root_by_the_book(leaves[:half]) + root_by_the_book(leaves[half:])).digest()


def read_note(text: str) -> Note:
    at = text.rindex("\n\n")
    body, tail = text[: at + 1], text[at + 2 :]
    origin, size, root, *_ = body.split("\n")
    signatures = []
    for line in tail.splitlines():
        dash, name, value = line.split(" ")
        raw = base64.b64decode(value, validate=True)
        if dash != "\u2014":
            raise ValueError(line)
        signatures.append((name, raw[:4], raw[4:]))
    digest = base64.b64decode(root, validate=True)
    if str(int(size)) != size or len(digest) != 32 or not signatures or base64.b64encode(digest).decode() != root:
        raise ValueError(text)
    return Note(origin, int(size), digest, body.encode(), signatures)


def is_signed(note: Note, keys: list[str]) -> bool:
    for key in keys:
        name, key_id, value = key.split("+", 2)
        for signer, signer_id, signature in note.signatures:
            if (signer, signer_id.hex(), name) == (note.origin, key_id, signer):
                try:
                    public = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(value)[1:])
                    public.verify(signature, note.body)
                except InvalidSignature:
                    return False
                return True
    return False


def digest_of(event: dict[str, Any]) -> str:
    lines = ["pmis-event-v1", *("-" if event[key] is None else str(event[key]) for key in HASHED)]
    lines.append(sha256(event["payload"].encode()).hexdigest())
    if any("\n" in line for line in lines) or [line for line in lines if line == "-"] != ["-"] * sum(
        event[key] is None for key in HASHED
    ):
        return "ambiguous"
    return sha256("\n".join(lines).encode()).hexdigest()


def read(data: bytes) -> list[dict[str, Any]]:
    if not data.endswith(b"\n"):
        raise UnusableError("cut off")
    records = [read_line(line) for line in data[:-1].split(b"\n")]
    kinds = [record.get("record") for record in records]
    if kinds[0] != "header" or kinds[-1] != "trailer" or not set(kinds[1:-1]) <= {"event", "checkpoint"}:
        raise UnusableError("not an export")
    require_header(records[0])
    for record in records:
        if record["record"] == "event":
            require_shape(record)
    return records


def read_line(line: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if any(count > 1 for count in Counter(key for key, _ in pairs).values()):
            raise ValueError(pairs)
        return dict(pairs)

    try:
        record = json.loads(line.decode(), object_pairs_hook=once)
    except ValueError as error:
        raise UnusableError(str(error)) from None
    if not isinstance(record, dict):
        raise UnusableError("no object")
    return record


def require_header(header: dict[str, Any]) -> None:
    if set(header) != HEADER or header["format"] != "pmis-log/1" or not isinstance(header["keys"], list):
        raise UnusableError("header")
    for key in header["keys"]:
        name, _, rest = str(key).partition("+")
        key_id, _, value = rest.partition("+")
        try:
            raw = base64.b64decode(value, validate=True)
        except ValueError:
            raise UnusableError("key") from None
        if sha256(name.encode() + b"\n" + raw).hexdigest()[:8] != key_id or base64.b64encode(raw).decode() != value:
            raise UnusableError("key")


def require_shape(event: dict[str, Any]) -> None:
    if set(event) - {"proof"} != {"record", "leaf", "payload", "content_hash", *HASHED}:
        raise UnusableError("columns")
    for key, value in event.items():
        wanted: tuple[type, ...] = (int,) if key in NUMBERS else (str,)
        if key in NULLABLE:
            wanted = (str, type(None))
        if key == "leaf":
            wanted = (int, type(None))
        if key != "proof" and type(value) not in wanted:
            raise UnusableError(key)
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise UnusableError(key) from None


def judge(
    data: bytes, *, notes: list[str] | None = None, keys: list[str] | None = None, leaves: list[str] | None = None
) -> Verdict:
    """The verdict on an export. `leaves` are the lines of the sealer's lists, from the first leaf on."""
    try:
        return _judge(read(data), notes or [], keys or [], leaves)
    except UnusableError as error:
        return Verdict("unusable", [str(error)])


class Blame:
    """Collects what is wrong, and which events that concerns."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.names: list[Name] = []

    def __call__(self, why: str, *names: Name) -> None:
        self.reasons.append(why)
        self.names += names


def name_of(event: dict[str, Any]) -> Name:
    return event["stream_id"], event["stream_version"]


def _judge(records: list[dict[str, Any]], given: list[str], keys: list[str], leaves: list[str] | None) -> Verdict:
    header, trailer = records[0], records[-1]
    events = [record for record in records if record["record"] == "event"]
    sealed = [event for event in events if event["leaf"] is not None]
    blame = Blame()
    blame_leaves(sealed, leaves or [], blame)
    for event in events:
        if digest_of(event) != event["content_hash"]:
            blame("content hash", name_of(event))
        if not is_canonical(event["payload"]):
            blame("canonical", name_of(event))
    blame_streams(events, blame)
    if [event["leaf"] for event in events] != [*range(len(sealed)), *[None] * (len(events) - len(sealed))]:
        blame("leaf numbers")
    blame_checkpoints(records, sealed, keys or header["keys"], given, blame)
    kinds = Counter(record["record"] for record in records)
    counted = {"sealed": len(sealed), "unsealed": len(events) - len(sealed), "checkpoints": kinds["checkpoint"]}
    for key, count in counted.items():
        if header.get(key) != count or trailer.get(key) != count:
            blame("counts")
    return Verdict("tampered" if blame.reasons else "ok", blame.reasons, blame.names)


def is_canonical(payload: str) -> bool:
    try:
        return payload.startswith("{") and written(json.loads(payload)) == payload
    except (ValueError, RecursionError):
        return False


def blame_leaves(sealed: list[dict[str, Any]], leaves: list[str], blame: Blame) -> None:
    for at, line in enumerate(leaves):
        content_hash, stream, version = line.split()
        if at >= len(sealed):
            blame(f"leaf {at} is gone", (stream, int(version)))
            return
        if sealed[at]["content_hash"] != content_hash:
            blame(f"leaf {at} differs", name_of(sealed[at]), (stream, int(version)))
            return


def blame_streams(events: list[dict[str, Any]], blame: Blame) -> None:
    streams: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        streams[event["stream_id"]].append(event)
    for identity, stream in streams.items():
        head = "0" * 64
        for version, event in enumerate(stream, start=1):
            if event["stream_version"] != version or event["previous_hash"] != head:
                blame("chain", name_of(event), (identity, version), (identity, version - 1))
            head = event["content_hash"]


def blame_checkpoints(
    records: list[dict[str, Any]],
    sealed: list[dict[str, Any]],
    keys: list[str],
    given: list[str],
    blame: Blame,
) -> None:
    origin = records[0]["origin"]
    tree = grow(sealed)
    inside: list[Note] = []
    before = 0
    for record in records:
        before += record["record"] == "event" and record["leaf"] is not None
        if record["record"] == "checkpoint":
            try:
                inside.append(read_note(record["note"]))
            except (ValueError, TypeError, AttributeError, KeyError):
                raise UnusableError("checkpoint") from None
            if inside[-1].size != before:
                blame("checkpoint out of place")
    if max((note.size for note in inside), default=0) < len(sealed):
        blame("not covered")
    seen: dict[int, bytes] = {}
    for note in [*inside, *map(read_note, given)]:
        if note.origin != origin:
            blame("another log")
        elif not is_signed(note, keys):
            blame("signature")
        elif note.size > len(sealed):
            blame("truncated")
        elif tree.get_root(note.size) != note.root:
            blame("root")
        if seen.setdefault(note.size, note.root) != note.root:
            blame("split view")


def grow(sealed: list[dict[str, Any]]) -> InmemoryTree:
    """The tree by pymerkle; at its full size it must be the one of the textbook."""
    tree = InmemoryTree(algorithm="sha256")
    data = []
    for event in sealed:
        try:
            data.append(bytes.fromhex(event["content_hash"]))
        except ValueError:
            data.append(event["content_hash"].encode())
        tree.append_entry(data[-1])
    if tree.get_root() != root_by_the_book(data):
        raise AssertionError("two definitions of one tree disagree")
    return tree
