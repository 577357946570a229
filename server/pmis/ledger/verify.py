"""Checks an exported PMIS log without a database: `python verify.py LOG.jsonl --checkpoint FILE --key KEY`.

This file stands alone. It needs Python 3.11 and the `cryptography` package and imports nothing else of PMIS, so that a
stranger can read it in an evening, keep a copy, and trust neither our server nor our database. The rest of PMIS takes
its definitions of hashes and checkpoints from here, never the other way round.

What is proved, for every sealed event of the file:

* its columns and its payload give its content hash (`pmis-event-v1`), and the payload is canonical JSON, so that no two
  readers can understand one text differently;
* the versions of each stream run 1, 2, 3, ... and each event carries the content hash of the one before it;
* the events, in leaf order, give the Merkle root (RFC 6962) that each checkpoint in the file states, and that each
  checkpoint *given from outside* states; every checkpoint is signed (C2SP signed note, Ed25519) by a known key.

The last point is the one that holds against an administrator of the database, who can recompute everything else. It is
worth as much as the checkpoints given with `--checkpoint` and the key given with `--key`: kept elsewhere, they bind the
log; without them a cut-off tail or a log signed with another key cannot be told from an honest one, and the report says
so. Where the folder of checkpoints also holds the lists of leaves that the sealer writes beside them, the first event
that differs is named exactly; with the checkpoints alone it is narrowed down to the events between two of them.

An export of a single project proves that each of its events is in the signed log. It cannot prove that none is left
out, beyond gaps in the versions of a stream.

Exit codes: 0 every check passed, 1 tampered, 2 the input cannot be judged (not an export, cut off, unreadable).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import gzip
import hashlib
import json
import os
import re
import sys
import zlib
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    Record = dict[str, Any]

EXPORT_FORMAT: Final = "pmis-log/1"
EVENT_FORMAT: Final = "pmis-event-v1"
LEAVES_FORMAT: Final = "pmis-leaves/1"
GENESIS: Final = "0" * 64
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
MAX_NOTE_BYTES: Final = 64 * 1024
MAX_FINDINGS: Final = 20
_CHUNK_BYTES: Final = 1024 * 1024
_LARGE_BYTES: Final = 16 * 1024 * 1024
WINDOW: Final = 1000
"""How many leaves past a difference are looked at to tell an alteration from a loss, an insertion or a new order."""

EVENT_COLUMNS: Final = (
    "position",
    "id",
    "stream_type",
    "stream_id",
    "stream_version",
    "project_id",
    "type",
    "schema_version",
    "actor",
    "actor_name",
    "on_behalf_of",
    "on_behalf_of_name",
    "source",
    "correlation_id",
    "causation_id",
    "occurred_at",
    "previous_hash",
    "payload",
    "content_hash",
)
"""The columns of an event, the hashed ones in the order in which they are hashed."""


class UnusableError(Exception):
    """The input cannot be judged; the text says in one sentence why."""


class NoteError(ValueError):
    """A checkpoint, or a verifier key, that is not what the specification asks for."""


# --------------------------------------------------------------------------------------------------------- Merkle tree

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def join_subtrees(hashes: Sequence[bytes]) -> bytes:
    """The root over the roots of perfect subtrees, given from the largest to the smallest."""
    if not hashes:
        return EMPTY_ROOT
    *others, root = hashes
    for left in reversed(others):
        root = node_hash(left, root)
    return root


class CompactRange:
    """A Merkle tree that only grows, kept as the roots of its perfect subtrees: one hash per one-bit of its size."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """An empty tree, or one whose subtrees are known (from the largest to the smallest)."""
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            message = f"a tree of {size} leaves has {size.bit_count()} perfect subtrees, not {len(self.hashes)}"
            raise ValueError(message)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        carry, size = leaf, self.size
        while size & 1:
            carry = node_hash(self.hashes.pop(), carry)
            size >>= 1
        self.hashes.append(carry)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root."""
        return join_subtrees(self.hashes)


def verify_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf hash is number `index` (from 0) of the tree of that size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    here, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the newer tree begins with exactly the leaves of the older one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= new_size:
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if old_size == new_size:
        return not proof and old_root == new_root
    steps = iter(proof if old_size & (old_size - 1) else [old_root, *proof])
    first = next(steps, None)
    if first is None:
        return False
    here, last = old_size - 1, new_size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = first
    for step in steps:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, step)
        here, last = here >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


# ------------------------------------------------------------------------------------------------- events and payloads


def hashed_text(event: Record) -> str:
    """What is hashed of an event: its columns and the hash of its payload, one a line, null as a dash.

    Raises TypeError for a column that should be text and is not, KeyError for one that is missing.
    """
    (
        position,
        identity,
        stream_type,
        stream_id,
        stream_version,
        project_id,
        kind,
        schema_version,
        actor,
        actor_name,
        on_behalf_of,
        on_behalf_of_name,
        source,
        correlation_id,
        causation_id,
        occurred_at,
        previous_hash,
        payload,
        _,
    ) = _event_values(event)
    return "\n".join(
        (
            EVENT_FORMAT,
            str(position),
            identity,
            stream_type,
            stream_id,
            str(stream_version),
            "-" if project_id is None else project_id,
            kind,
            str(schema_version),
            actor,
            actor_name,
            "-" if on_behalf_of is None else on_behalf_of,
            "-" if on_behalf_of_name is None else on_behalf_of_name,
            source,
            correlation_id,
            "-" if causation_id is None else causation_id,
            occurred_at,
            previous_hash,
            hashlib.sha256(payload.encode()).hexdigest(),
        )
    )


def event_hash(event: Record) -> bytes:
    """The content hash that an event of these columns must carry."""
    return hashlib.sha256(hashed_text(event).encode()).digest()


_event_values = itemgetter(*EVENT_COLUMNS)
_HEADER_BREAKS: Final = len(EVENT_COLUMNS) - 1


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


_decode = json.JSONDecoder(parse_constant=_no_constant).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def is_canonical(payload: str) -> bool:
    """Whether the text is the one canonical text of a JSON object.

    Keys sorted by code point, each once; no white space; no needless escape; numbers in their shortest form.
    """
    try:
        value: object = _decode(payload)
        return isinstance(value, dict) and _encode(value) == payload
    except (ValueError, RecursionError):
        return False


# --------------------------------------------------------------------------------------------------------- checkpoints

_SIGNATURE_LINE: Final = re.compile(r"— (\S+) (\S+)")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_LIKE_A_KEY: Final = re.compile(r"[^+/]+(?:/[^+/]+)*\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+")
_ED25519: Final = b"\x01"
_MAX_SIGNATURES: Final = 100


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"the {what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"the {what} is not canonical base64")
    return data


def _require_name(name: str, what: str) -> str:
    if not name or "+" in name or any(character.isspace() or not character.isprintable() for character in name):
        raise NoteError(f"the {what} must be a name without spaces and plus signs")
    return name


@dataclass(frozen=True)
class VerifierKey:
    """An Ed25519 key that signs checkpoints, under the name of the log."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Raise NoteError for a name that no signature line could carry."""
        _require_name(self.name, "key's name")

    @property
    def key_id(self) -> bytes:
        """The four bytes that name the key in a signature line (C2SP signed-note)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """The key as `name+id+key`, the form in which it is published and pinned."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `name+id+key`; raises NoteError."""
        name, plus, rest = text.partition("+")
        key_id, second_plus, encoded = rest.partition("+")
        if not plus or not second_plus:
            raise NoteError("a verifier key has the form name+id+key")
        if not _KEY_ID.fullmatch(key_id):
            raise NoteError("the key's id must be eight hexadecimal digits")
        data = _base64(encoded, "key")
        if len(data) != len(_ED25519) + 32 or not data.startswith(_ED25519):
            raise NoteError("the key is not an Ed25519 key")
        key = cls(name, data[1:])
        if key.key_id.hex() != key_id:
            raise NoteError("the key's id does not fit its name and value")
        return key

    def verifies(self, signature: bytes, text: str) -> bool:
        """Whether this key made the signature over the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """One signature line of a note."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a log of this origin was at this size. Nothing of it may be believed before `require_signature`."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, note: bytes | str) -> Checkpoint:
        """Read a C2SP tlog-checkpoint; raises NoteError, which says what is wrong with it."""
        try:
            text = note if isinstance(note, str) else note.decode()
            size_in_bytes = len(text.encode())
        except UnicodeError:
            raise NoteError("it is not UTF-8 text") from None
        if size_in_bytes > MAX_NOTE_BYTES:
            raise NoteError(f"it is longer than {MAX_NOTE_BYTES} bytes")
        if any(character < " " and character != "\n" for character in text):
            raise NoteError("it has control characters")
        body, blank, signature_block = text.rpartition("\n\n")
        if not blank or not signature_block.endswith("\n"):
            raise NoteError("it is not a signed note: a text, an empty line, and signature lines")
        lines = signature_block[:-1].split("\n")
        if len(lines) > _MAX_SIGNATURES:
            raise NoteError(f"it has more than {_MAX_SIGNATURES} signatures")
        signatures = tuple(_signature(line) for line in lines)
        parts = body.split("\n")
        if len(parts) < 3 or not all(parts):  # noqa: PLR2004 - origin, size and root
            raise NoteError("a checkpoint has an origin, a size and a root on three lines, and no empty line")
        origin, size, root, *_extensions = parts
        if not _SIZE.fullmatch(size):
            raise NoteError("the tree size is not a plain decimal number")
        digest = _base64(root, "root hash")
        if len(digest) != hashlib.sha256().digest_size:
            raise NoteError("the root hash does not have 32 bytes")
        return cls(origin, int(size), digest, body + "\n", signatures)

    def require_signature(self, keys: Iterable[VerifierKey]) -> VerifierKey:
        """The first of the keys that signed this; raises NoteError when none did, or a known key's signature is wrong.

        Signatures of unknown keys are passed over, as the specification asks: witnesses may have added theirs.
        """
        known = {(key.name, key.key_id): key for key in keys if key.name == self.origin}
        signed: list[VerifierKey] = []
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if not key.verifies(signature.value, self.text):
                raise NoteError(f"the signature of {signature.name}+{signature.key_id.hex()} does not fit its text")
            signed.append(key)
        if not signed:
            names = ", ".join(f"{signature.name}+{signature.key_id.hex()}" for signature in self.signatures[:3])
            raise NoteError(f"it is signed by {names}, which is not a key that was expected")
        return signed[0]


def _signature(line: str) -> Signature:
    match = _SIGNATURE_LINE.fullmatch(line)
    if not match:
        raise NoteError("a signature line is not of the form: dash, key name, signature")
    value = _base64(match[2], "signature")
    if len(value) <= 4:  # noqa: PLR2004 - four bytes of key id come before the signature
        raise NoteError("a signature is too short")
    return Signature(_require_name(match[1], "signer"), value[:4], value[4:])


# ---------------------------------------------------------------------------------------------- what is found and said


@dataclass
class Finding:
    """One thing that is not as it was signed. `versions` are those of the stream that are in question."""

    kind: str
    message: str
    line: int | None = None
    stream_type: str | None = None
    stream_id: str | None = None
    versions: tuple[int, ...] = ()
    id: str | None = None
    position: int | None = None
    leaf: int | None = None

    def as_json(self) -> Record:
        """The finding without what it does not know."""
        shown = {**self.__dict__, "versions": list(self.versions)}
        return {key: value for key, value in shown.items() if value is not None and value != []}


@dataclass
class Report:
    """What was checked and what was found. `findings` come in the order of the log: the first is the one to name."""

    origin: str = ""
    exported_at: str = ""
    project: str | None = None
    keys: list[str] = field(default_factory=list[str])
    pinned: bool = False
    sealed: int = 0
    unsealed: int = 0
    streams: int = 0
    checkpoints: int = 0
    given: int = 0
    compared: int = 0
    located_leaves: int = 0
    oldest_unsealed: str | None = None
    earlier_than_before: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    more_findings: int = 0
    warnings: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0 when nothing was found, else 1."""
        return 0 if self.ok else 1

    def as_json(self) -> Record:
        """Everything, for programs."""
        return {
            "result": "ok" if self.ok else "tampered",
            **{key: value for key, value in self.__dict__.items() if key != "findings"},
            "findings": [finding.as_json() for finding in self.findings],
        }

    def as_text(self) -> str:
        """Everything, for people."""
        scope = f"project {self.project}" if self.project else "the whole log"
        lines = [
            f"log      {_shown(self.origin)}, {scope}, exported {_shown(self.exported_at)}",
            *(f"key      {key} ({'pinned' if self.pinned else 'not pinned'})" for key in self.keys),
            f"checked  {self.sealed:,} sealed events in {self.streams:,} streams",
            f"against  {self.checkpoints:,} checkpoints in the file and {self.compared:,} of {self.given:,} given",
        ]
        if self.unsealed:
            lines.append(
                f"note     {self.unsealed:,} events are not sealed yet, so no checkpoint vouches for them; the oldest "
                f"is of {_shown(self.oldest_unsealed or '')}"
            )
        if self.earlier_than_before:
            lines.append(
                f"note     {self.earlier_than_before:,} events carry an earlier time than the one before them in their "
                "stream (a transaction that waited, or a clock set back)"
            )
        lines += [f"warning  {warning}" for warning in self.warnings]
        lines += [f"TAMPERED {finding.message}" for finding in self.findings]
        if self.more_findings:
            lines.append(f"         and {self.more_findings:,} more")
        if self.ok:
            lines.append("OK       every sealed event is the one that was signed")
        return "\n".join(lines)


def _shown(text: str) -> str:
    """Text from the file, fit for a terminal: whoever wrote the file must not steer the screen of who reads it."""
    return "".join(character if character.isprintable() else "?" for character in text[:200])


# --------------------------------------------------------------------------------------------- evidence kept elsewhere


@dataclass(frozen=True)
class Witness:
    """A checkpoint that was kept outside the database, and the list of leaves beside it when there is one."""

    source: str
    checkpoint: Checkpoint
    leaves: Path | None = None


@dataclass(frozen=True, slots=True)
class SignedLeaf:
    """What was sealed at a place of the tree: the content hash, and whose it was."""

    content_hash: str
    stream_id: str
    version: int


def read_witnesses(paths: Iterable[Path]) -> tuple[list[Witness], list[VerifierKey]]:
    """The checkpoints in the files and folders, and the keys that lie beside them in files named `vkey`.

    Raises UnusableError for a path that holds no checkpoint.
    """
    witnesses: list[Witness] = []
    keys: list[VerifierKey] = []
    for path in paths:
        if path.is_dir():
            notes = sorted(path.glob("*.txt"))
            if not notes:
                raise UnusableError(f"{path} holds no checkpoint: no file in it ends in .txt.")
            vkey = path / "vkey"
            if vkey.is_file():
                keys += read_keys([str(vkey)])
        else:
            notes = [path]
        for note in notes:
            try:
                checkpoint = Checkpoint.parse(_read_small(note))
            except NoteError as error:
                raise UnusableError(f"{note} is not a checkpoint: {error}.") from None
            leaves = note.with_suffix(".leaves")
            witnesses.append(Witness(str(note), checkpoint, leaves if leaves.is_file() else None))
    return witnesses, keys


def read_keys(texts: Iterable[str]) -> list[VerifierKey]:
    """Verifier keys, given as they are or as the names of files that hold one on each line; raises UnusableError."""
    keys: list[VerifierKey] = []
    for text in texts:
        lines = [text] if _LIKE_A_KEY.fullmatch(text) else _read_small(Path(text)).split()
        if not lines:
            raise UnusableError(f"{_shown(text)} holds no verifier key: it is empty.")
        for line in lines:
            try:
                keys.append(VerifierKey.parse(line if isinstance(line, str) else line.decode()))
            except (NoteError, UnicodeDecodeError) as error:
                reason = error if isinstance(error, NoteError) else "it is not UTF-8 text"
                raise UnusableError(f"{_shown(text)} is not a verifier key, nor a file of them: {reason}.") from None
    return keys


def _read_small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from None


def _unreadable(name: str, error: OSError | ValueError) -> UnusableError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a file name"
    return UnusableError(f"{_shown(name)} cannot be read: {reason}.")


def read_leaves(path: Path, *, origin: str, start: int, stop: int) -> Iterator[SignedLeaf]:
    """The leaves a sealer listed beside a checkpoint; raises ValueError when the list is not what it says."""
    with path.open("rb") as file:
        head = file.readline(1000).decode()
        if head != f"{LEAVES_FORMAT} {origin} {start} {stop}\n":
            message = "its first line does not name these leaves"
            raise ValueError(message)
        for _ in range(start, stop):
            content_hash, stream_id, version = file.readline(1000).decode().split()
            yield SignedLeaf(content_hash, stream_id, int(version))
        if file.read(1):
            message = "it goes on after its last leaf"
            raise ValueError(message)


class SignedLeaves:
    """The lists of leaves beside the checkpoints, from the first leaf on, as far as they fit what was signed."""

    def __init__(self, witnesses: Iterable[Witness]) -> None:
        """Read every list once and keep those whose leaves give the root of their checkpoint."""
        self._lists: list[tuple[Path, str, int, int]] = []
        self.size = 0
        self.warnings: list[str] = []
        tree = CompactRange()
        for witness in sorted(witnesses, key=lambda known: known.checkpoint.size):
            checkpoint, path = witness.checkpoint, witness.leaves
            if path is None or checkpoint.size <= self.size:
                continue
            try:
                tree = self._grown(tree, path, checkpoint)
            except (OSError, ValueError) as error:
                self.warnings.append(f"{path} does not help to locate a change: {_shown(str(error))}.")
                break
            self._lists.append((path, checkpoint.origin, self.size, checkpoint.size))
            self.size = checkpoint.size

    @staticmethod
    def _grown(tree: CompactRange, path: Path, checkpoint: Checkpoint) -> CompactRange:
        grown = CompactRange(tree.size, tree.hashes)
        for leaf in read_leaves(path, origin=checkpoint.origin, start=tree.size, stop=checkpoint.size):
            grown.append(leaf_hash(bytes.fromhex(leaf.content_hash)))
        if grown.root() != checkpoint.root:
            message = "its leaves do not give the root that was signed"
            raise ValueError(message)
        return grown

    def __iter__(self) -> Iterator[SignedLeaf]:
        """Every leaf, in order."""
        for path, origin, start, stop in self._lists:
            try:
                yield from read_leaves(path, origin=origin, start=start, stop=stop)
            except (OSError, ValueError):
                raise UnusableError(f"{path} changed while it was read.") from None


# -------------------------------------------------------------------------------------------------------- the verifier


class Entry(NamedTuple):
    """What the verifier needs of an event once its own hash was computed; the payload is left behind."""

    line: int
    leaf: int | None
    position: int
    id: str
    stream_type: str
    stream_id: str
    version: int
    previous_hash: str
    content_hash: str
    occurred_at: str
    digest: bytes
    fits: bool
    canonical: bool
    proof: object

    @property
    def name(self) -> str:
        """The event in words."""
        leaf = "" if self.leaf is None else f", leaf {self.leaf}"
        return (
            f"{_shown(self.stream_type)} {_shown(self.stream_id)} version {self.version} "
            f"(event {_shown(self.id)}, position {self.position}{leaf})"
        )


def read_record(line: bytes, number: int, *, check_canonical: bool = True) -> Entry | Record:
    """One line of an export: an event with its hash computed anew, or another record as it is.

    This is most of the work and depends on nothing but the line, so it can be done anywhere. Raises UnusableError.
    """
    if not line.endswith(b"\n"):
        raise UnusableError(
            f"Line {number} is longer than {MAX_LINE_BYTES // 1024 // 1024} MiB, which no event is."
            if len(line) > MAX_LINE_BYTES
            else f"The file is cut off in line {number}."
        )
    try:
        record: object = _decode(line.decode())
    except UnicodeDecodeError:
        raise UnusableError(f"Line {number} is not UTF-8 text.") from None
    except (ValueError, RecursionError):
        what = "an exported PMIS log" if number == 1 else "a record of an exported log"
        raise UnusableError(f"Line {number} is not {what}: it is not well-formed JSON.") from None
    if not isinstance(record, dict):
        raise UnusableError(f"Line {number} is not a record of an exported log: it is not a JSON object.")
    event = cast("Record", record)
    # A key that comes twice would be read as one here and perhaps as the other elsewhere. Within a string a quote has a
    # backslash before it, so the others that stand before a colon end the keys, of which no record has any inside.
    if line.count(b'":') - line.count(b'\\":') != len(event):
        raise UnusableError(f"Line {number} is not a record of an exported log: its keys are not each there once.")
    return _entry(event, number, check_canonical) if event.get("record") == "event" else event


def _entry(event: Record, number: int, check_canonical: bool) -> Entry:
    try:
        leaf = event["leaf"]
        text = hashed_text(event)
        digest = hashlib.sha256(text.encode()).digest()
    except KeyError as error:
        raise UnusableError(f"The event in line {number} has no {error.args[0]!r}.") from None
    except (TypeError, AttributeError, UnicodeEncodeError):
        raise UnusableError(f"The event in line {number} holds something that is not text.") from None
    position, version, recorded = event["position"], event["stream_version"], event["content_hash"]
    if (
        type(position) is not int
        or type(version) is not int
        or type(event["schema_version"]) is not int
        or type(recorded) is not str
        or not (leaf is None or type(leaf) is int)
        or len(event) != _EVENT_KEYS + ("proof" in event)
    ):
        raise UnusableError(f"The event in line {number} does not have the shape of an event.")
    on_behalf_of = event["on_behalf_of"]
    # Two different sets of columns must never give one text: a line break in a column would shift the lines after it,
    # and a dash would pass for a null.
    unambiguous = (
        text.count("\n") == _HEADER_BREAKS
        and (on_behalf_of is None) is (event["on_behalf_of_name"] is None)
        and on_behalf_of != "-"
        and event["project_id"] != "-"
        and event["causation_id"] != "-"
    )
    return Entry(
        number,
        leaf,
        position,
        event["id"],
        event["stream_type"],
        event["stream_id"],
        version,
        event["previous_hash"],
        recorded,
        event["occurred_at"],
        digest,
        unambiguous and digest.hex() == recorded,
        not check_canonical or is_canonical(event["payload"]),
        event.get("proof"),
    )


_EVENT_KEYS: Final = len(EVENT_COLUMNS) + 2  # and `record` and `leaf`


@dataclass
class _Divergence:
    """The first place where the file's leaves are not those that were signed, and what follows on both sides."""

    finding: Finding
    start: int
    signed: deque[SignedLeaf]
    found: list[Entry]


class LogVerifier:
    """Takes an export line by line and reports what is not as it was signed.

    Each check is a method of its own. Memory: the head of each stream, the subtree roots, and at most `WINDOW` leaves
    after a difference; never the events.
    """

    def __init__(
        self,
        *,
        witnesses: Sequence[Witness] = (),
        keys: Sequence[VerifierKey] = (),
    ) -> None:
        """`keys` are pinned: no other may have signed. Without them the file's own keys are used, with a warning."""
        self.report = Report(given=len(witnesses), pinned=bool(keys))
        self._keys = list(keys)
        self._given = list(witnesses)
        self._to_meet: deque[Witness] = deque()
        self._tree = CompactRange()
        self._streams: dict[str, tuple[int, str, str]] = {}
        self._gaps: dict[tuple[str, int], tuple[Finding, int]] = {}
        self._signed: Iterator[SignedLeaf] | None = None
        self._divergence: _Divergence | None = None
        self._header: Record | None = None
        self._target: Checkpoint | None = None
        self._covered = 0
        self._interval: Entry | None = None
        self._next_leaf = 0
        self._broken = False
        self._checkpoints = 0
        self._line = 0
        self._done = False

    # -- lines

    def feed(self, record: Entry | Record) -> None:
        """Take what the next line holds; raises UnusableError for what is no part of an export at this place."""
        self._line += 1
        if self._done:
            raise UnusableError(f"Line {self._line} comes after the trailer, where the file should end.")
        if isinstance(record, Entry):
            if self._header is None:
                raise UnusableError("This is not an exported PMIS log: its first line is not a header.")
            self._event(record)
            return
        kind = record.get("record")
        if self._header is None:
            if kind != "header":
                raise UnusableError("This is not an exported PMIS log: its first line is not a header.")
            self._begin(record)
        elif kind == "checkpoint":
            self._checkpoint(record)
        elif kind == "trailer":
            self._trailer(record)
        else:
            raise UnusableError(f"Line {self._line} is neither an event nor a checkpoint nor the trailer.")

    def _begin(self, record: Record) -> None:
        if record.get("format") != EXPORT_FORMAT:
            raise UnusableError(
                f"The file's format is {_shown(str(record.get('format')))!r}; this verifier reads {EXPORT_FORMAT!r}."
            )
        shape = {"origin": str, "exported_at": str, "sealed": int, "unsealed": int, "checkpoints": int, "keys": list}
        project = record.get("project")
        if (
            record.keys() != {"record", "format", "project", *shape}
            or any(type(record[key]) is not kind for key, kind in shape.items())
            or type(project) not in (str, type(None))
        ):
            raise UnusableError("The file's header does not have the shape of a header.")
        self._header = record
        report = self.report
        report.origin, report.exported_at, report.project = record["origin"], record["exported_at"], project
        try:
            keys = [VerifierKey.parse(str(text)) for text in record["keys"]]
        except NoteError as error:
            raise UnusableError(f"The file's header names a key that is none: {error}.") from None
        if not self._keys:
            self._keys = keys
            report.warnings.append(
                "No key was given, so the one that the file itself names was used. Pin it with --key: whoever made "
                "the file could have signed it with a key of their own."
            )
        report.keys = [str(key) for key in self._keys]
        self._accept_witnesses()

    def _accept_witnesses(self) -> None:
        """Keep the given checkpoints that are of this log and rightly signed; the others are findings."""
        accepted: list[Witness] = []
        for witness in self._given:
            checkpoint = witness.checkpoint
            if checkpoint.origin != self.report.origin:
                self._found(
                    "checkpoint",
                    f"The checkpoint {witness.source} is of the log {_shown(checkpoint.origin)!r}, "
                    f"the file says it is {_shown(self.report.origin)!r}.",
                )
            elif fault := self.signature_fault(checkpoint):
                self._found("signature", f"The checkpoint {witness.source} cannot be relied on: {_shown(fault)}.")
            else:
                accepted.append(witness)
        accepted.sort(key=lambda witness: witness.checkpoint.size)
        for one, other in pairwise(accepted):
            if one.checkpoint.size == other.checkpoint.size and one.checkpoint.root != other.checkpoint.root:
                self._found(
                    "split-view",
                    f"The key signed two different logs of {one.checkpoint.size:,} events: {one.source} and "
                    f"{other.source} do not agree.",
                    leaf=one.checkpoint.size - 1,
                )
        self._to_meet.extend(accepted)
        if self.report.project is None:
            leaves = SignedLeaves(accepted)
            self.report.warnings += leaves.warnings
            self.report.located_leaves = leaves.size
            self._signed = iter(leaves) if leaves.size else None
            self._meet_witnesses()
        if not self._given:
            self.report.warnings.append(
                "No checkpoint from outside was given, so a cut-off tail cannot be noticed. Give the newest one you "
                "kept with --checkpoint."
            )

    # -- events

    def _event(self, event: Entry) -> None:
        if not self.content_fits(event):
            self._found_in(
                event, "altered", f"{event.name} was altered: its columns and payload do not give its content hash."
            )
        if not self.payload_is_canonical(event):
            self._found_in(
                event,
                "payload",
                f"{event.name} has a payload that is not canonical JSON, so that two readers could understand it "
                "differently.",
            )
        if event.leaf is not None and self.report.project is None:
            self.compare_leaf(event, self._tree.size)
        self.check_stream(event)
        if event.leaf is None:
            self.report.unsealed += 1
            self.report.oldest_unsealed = min(self.report.oldest_unsealed or event.occurred_at, event.occurred_at)
            return
        if self.report.unsealed:
            self._found_in(event, "reordered", f"{event.name} is sealed but stands after events that are not.")
        self.report.sealed += 1
        # What is in the tree is the hash that the event carries; that it is the right one was checked above.
        digest = event.digest if event.fits else _digest_or(event.content_hash, event.digest)
        if self.report.project is None:
            self._sealed(event, event.leaf, digest)
        else:
            self.check_inclusion(event, event.leaf, digest)

    def _sealed(self, event: Entry, leaf: int, digest: bytes) -> None:
        """A leaf of the whole log: compare it with the signed leaves, and the tree with the checkpoints it reaches."""
        tree = self._tree
        if self._interval is None:
            self._interval = event
        # Where the list of signed leaves already tells what happened here, the leaf numbers add nothing.
        if leaf != self._next_leaf and self._divergence is None:
            self.misplaced(event, leaf, self._next_leaf)
        self._next_leaf = leaf + 1
        tree.append(leaf_hash(digest))
        self._meet_witnesses()

    # -- the checks, one by one

    def content_fits(self, event: Entry) -> bool:
        """Columns and payload give the content hash, and nothing else could."""
        return event.fits

    def payload_is_canonical(self, event: Entry) -> bool:
        """The payload is the one text of its value."""
        return event.canonical

    def check_stream(self, event: Entry) -> None:
        """Versions run 1, 2, 3, ... and each event carries the hash of the one before it."""
        stream, version = event.stream_id, event.version
        last, head, time = self._streams.get(stream, (0, GENESIS, ""))
        if version == last + 1:
            if event.previous_hash != head:
                self._found_in(
                    event,
                    "altered",
                    f"{event.name} does not continue version {last}: one of the two was replaced.",
                    versions=(last, version) if last else (version,),
                )
        elif version > last + 1:
            missing = f"version {last + 1} is" if version == last + 2 else f"versions {last + 1} to {version - 1} are"
            finding = self._found_in(
                event,
                "missing",
                f"{_shown(event.stream_type)} {_shown(stream)} {missing} missing: {event.name} comes right after "
                + (f"version {last}." if last else "nothing."),
                versions=(last + 1,),
            )
            # A version that was only moved shows up later, and then this was no loss.
            self._gaps[stream, last + 1] = (finding, version)
        else:
            message = f"{event.name} comes after version {last}: it was moved or added."
            gap = self._gaps.pop((stream, version), None)
            if gap is not None:
                finding, early = gap
                finding.kind, finding.message, finding.versions = "reordered", message, (version, early)
            else:
                self._found_in(event, "reordered", message)
            return
        if event.occurred_at < time:
            self.report.earlier_than_before += 1
        self._streams[stream] = (version, event.content_hash, event.occurred_at)

    def misplaced(self, event: Entry, leaf: int, expected: int) -> None:
        """A leaf number that does not follow the one before it."""
        if leaf > expected:
            gone = f"Leaf {expected} is" if leaf == expected + 1 else f"Leaves {expected} to {leaf - 1} are"
            self._found_in(event, "missing", f"{gone} missing before {event.name}.", leaf=expected)
        else:
            self._found_in(
                event, "reordered", f"{event.name} stands where leaf {expected} belongs: it was moved or added."
            )

    def compare_leaf(self, event: Entry, index: int) -> None:
        """The leaf is the one that the list of signed leaves has at this place."""
        if self._divergence is not None:
            if len(self._divergence.found) < WINDOW:
                self._divergence.found.append(event)
            return
        signed = next(self._signed, None) if self._signed is not None else None
        if signed is None or signed.content_hash == event.content_hash:
            return
        finding = self._found_in(event, "altered", "")
        self._divergence = _Divergence(finding, index, deque([signed]), [event])

    def is_root_of_file(self, checkpoint: Checkpoint) -> bool:
        """The log up to here is the one of a checkpoint in the file."""
        return self._tree.root() == checkpoint.root

    def is_root_of_witness(self, witness: Witness, root: bytes) -> bool:
        """The log of this root is the one of a checkpoint that was kept outside."""
        return root == witness.checkpoint.root

    def signature_fault(self, checkpoint: Checkpoint) -> str | None:
        """Why a checkpoint is not to be believed, or None."""
        try:
            checkpoint.require_signature(self._keys)
        except NoteError as error:
            return str(error)
        return None

    def check_inclusion(self, event: Entry, leaf: int, digest: bytes) -> None:
        """An event of a partial export is in the tree of the checkpoint that the file brings along."""
        proof = _hashes(event.proof)
        if proof is None or self._target is None:
            raise UnusableError(f"The event in line {self._line} brings no proof that it is in the log.")
        target = self._target
        if not verify_inclusion(index=leaf, size=target.size, leaf=leaf_hash(digest), proof=proof, root=target.root):
            self._found_in(event, "altered", f"{event.name} is not in the log of {target.size:,} events.")

    def check_end(self) -> None:
        """Nothing that was sealed is cut off, and what the file calls sealed is covered by a checkpoint."""
        report = self.report
        if report.project is not None:
            if self._to_meet and not report.compared:
                newest = self._to_meet[-1]
                self._found(
                    "checkpoint",
                    f"The checkpoint {newest.source} is of {newest.checkpoint.size:,} events; this partial export "
                    "brings no proof for that size. Give a checkpoint of a size that it brings, or export again.",
                )
            return
        if self._to_meet:
            newest = self._to_meet[-1]
            first = next(self._signed, None) if self._signed is not None and self._divergence is None else None
            named = f" The first one missing is version {first.version} of {_shown(first.stream_id)}." if first else ""
            self._found(
                "truncated",
                f"The log ends with {report.sealed:,} sealed events, but the checkpoint {newest.source} signed "
                f"{newest.checkpoint.size:,}: the tail was cut off, or an old copy was put in its place (or the file "
                f"was exported before that checkpoint was signed).{named}",
                leaf=report.sealed,
                stream_id=first.stream_id if first else None,
                versions=(first.version,) if first else (),
            )
        if self._covered < report.sealed:
            self._found(
                "checkpoint",
                f"The file calls {report.sealed:,} events sealed, but its checkpoints cover only {self._covered:,}.",
                leaf=self._covered,
            )

    # -- checkpoints and the end

    def _checkpoint(self, record: Record) -> None:
        note = record.get("note")
        if record.keys() - {"consistency"} != {"record", "note"}:
            raise UnusableError(f"The checkpoint in line {self._line} is none: it has other keys than a note.")
        try:
            checkpoint = Checkpoint.parse(note if isinstance(note, str) else "")
        except NoteError as error:
            raise UnusableError(f"The checkpoint in line {self._line} is none: {error}.") from None
        self._checkpoints += 1
        self.report.checkpoints = self._checkpoints
        if checkpoint.origin != self.report.origin:
            self._found(
                "checkpoint",
                f"The checkpoint in line {self._line} is of another log, {_shown(checkpoint.origin)!r}.",
            )
        elif fault := self.signature_fault(checkpoint):
            self._found("signature", f"The checkpoint in line {self._line} cannot be relied on: {_shown(fault)}.")
        if self.report.project is not None:
            self._partial_checkpoint(record, checkpoint)
        elif checkpoint.size != self._tree.size:
            kind, verb = ("missing", "is missing") if checkpoint.size > self._tree.size else ("inserted", "was added")
            self._found(
                kind,
                f"The checkpoint in line {self._line} is of {checkpoint.size:,} events, but {self._tree.size:,} sealed "
                f"events stand before it: something {verb} from leaf {self._covered} on.",
                leaf=self._covered,
            )
        elif self.is_root_of_file(checkpoint):
            self._good(checkpoint.size)
        else:
            self._mismatch(
                f"The events up to leaf {checkpoint.size - 1} do not give the root of the checkpoint in line "
                f"{self._line}."
            )

    def _meet_witnesses(self) -> None:
        """Compare the tree with every given checkpoint of its present size."""
        while self._to_meet and self._to_meet[0].checkpoint.size == self._tree.size:
            self._meet(self._to_meet.popleft(), self._tree.root())

    def _meet(self, witness: Witness, root: bytes) -> None:
        self.report.compared += 1
        size = witness.checkpoint.size
        if self.is_root_of_witness(witness, root):
            self._good(size)
        else:
            self._mismatch(f"The checkpoint {witness.source} signed another log of {size:,} events.")

    def _partial_checkpoint(self, record: Record, checkpoint: Checkpoint) -> None:
        """The first is the one that the proofs lead to; each later one must be consistent with it."""
        target = self._target
        if target is None:
            self._target = target = checkpoint
        else:
            proof = _hashes(record.get("consistency"))
            if proof is None:
                raise UnusableError(f"The checkpoint in line {self._line} brings no proof of consistency.")
            if not verify_consistency(
                old_size=checkpoint.size,
                new_size=target.size,
                old_root=checkpoint.root,
                new_root=target.root,
                proof=proof,
            ):
                self._found(
                    "history",
                    f"The log of {target.size:,} events does not begin with the {checkpoint.size:,} events of the "
                    f"checkpoint in line {self._line}.",
                )
        met = [witness for witness in self._to_meet if witness.checkpoint.size == checkpoint.size]
        for witness in met:
            self._to_meet.remove(witness)
            self._meet(witness, checkpoint.root)

    def _trailer(self, record: Record) -> None:
        if record.keys() != {"record", "sealed", "unsealed", "checkpoints"}:
            raise UnusableError(f"Line {self._line} does not have the shape of a trailer.")
        self._done = True
        header = cast("Record", self._header)
        report = self.report
        counted = {"sealed": report.sealed, "unsealed": report.unsealed, "checkpoints": self._checkpoints}
        for key, count in counted.items():
            if not (header[key] == record[key] == count):
                self._found(
                    "count",
                    f"The file announces {_shown(str(header[key]))} {key} and closes with "
                    f"{_shown(str(record[key]))}, but holds {count}.",
                )
        self.check_end()
        self._classify()

    def finish(self) -> Report:
        """The report, once every line was fed; raises UnusableError for a file that is cut off."""
        if self._header is None:
            raise UnusableError("The file is empty.")
        if not self._done:
            raise UnusableError(f"The file is cut off after line {self._line}: it has no trailer.")
        self.report.streams = len(self._streams)
        return self.report

    # -- findings

    def _found(self, kind: str, message: str, **where: Any) -> Finding:  # noqa: ANN401 - the fields of Finding
        finding = Finding(kind, message, line=self._line, **where)
        if len(self.report.findings) < MAX_FINDINGS:
            self.report.findings.append(finding)
        else:
            self.report.more_findings += 1
        return finding

    def _found_in(self, event: Entry, kind: str, message: str, **where: Any) -> Finding:  # noqa: ANN401 - as above
        known = {
            "stream_type": event.stream_type,
            "stream_id": event.stream_id,
            "versions": (event.version,),
            "id": event.id,
            "position": event.position,
            "leaf": event.leaf,
        }
        return self._found(kind, message, **{**known, **where})

    def _good(self, size: int) -> None:
        self._covered = max(self._covered, size)
        self._interval = None

    def _mismatch(self, message: str) -> None:
        """A root that is not the signed one: something differs between the last good checkpoint and here.

        Every later root differs as well, and says nothing new.
        """
        first = self._interval
        size = self._tree.size
        if self._broken:
            self.report.more_findings += 1
        elif first is not None:
            start = self._covered
            span = f"leaf {start}" if start + 1 == size else f"leaves {start} to {size - 1}"
            self._found_in(
                first,
                "history",
                f"{message} What differs is among {span}, which begin with {first.name}.",
                leaf=start,
            )
        else:
            self._found("history", message, leaf=size - 1 if size else None)
        self._broken = True
        self._good(size)

    def _classify(self) -> None:
        """Say what happened at the first leaf that differs, now that what follows it is known."""
        divergence = self._divergence
        if divergence is None:
            return
        signed = divergence.signed
        for leaf in self._signed or ():
            signed.append(leaf)
            if len(signed) >= WINDOW:
                break
        here, was = divergence.found[0], signed[0]
        found_hashes = {event.content_hash for event in divergence.found}
        signed_hashes = {leaf.content_hash for leaf in signed}
        here_name, was_name = (here.stream_id, here.version), (was.stream_id, was.version)
        signed_here = f"version {was.version} of {_shown(was.stream_id)} was sealed at leaf {divergence.start}"
        finding = divergence.finding
        if here.content_hash in signed_hashes:
            if was.content_hash in found_hashes:
                finding.kind, message = "reordered", f"{here.name} was moved: {signed_here}."
            else:
                finding.kind, message = "missing", f"Leaf {divergence.start} is missing: {signed_here}."
                finding.stream_type, finding.id, finding.position = None, None, None
                finding.stream_id, finding.versions = was.stream_id, (was.version,)
        elif was.content_hash in found_hashes:
            finding.kind, message = "inserted", f"{here.name} was inserted: {signed_here}."
        elif here_name == was_name:
            message = f"{here.name} was altered: it is not the event that was sealed there."
        else:
            message = f"{here.name} is not what was sealed: {signed_here}."
        finding.leaf, finding.message = divergence.start, message


def _digest_or(recorded: str, digest: bytes) -> bytes:
    try:
        return bytes.fromhex(recorded)
    except ValueError:
        return digest


def _hashes(value: object) -> list[bytes] | None:
    """A proof in the file: a list of hashes in hexadecimal."""
    if not isinstance(value, list):
        return None
    try:
        hashes = [bytes.fromhex(cast("str", item)) for item in cast("list[object]", value)]
    except (ValueError, TypeError):
        return None
    return hashes if all(len(item) == len(EMPTY_ROOT) for item in hashes) else None


# --------------------------------------------------------------------------------------------------------------- files


def _chunks(file: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """The lines, in lists of about a mebibyte, each with the number of its first line."""
    number, size = 1, 0
    lines: list[bytes] = []
    while line := file.readline(MAX_LINE_BYTES + 1):
        lines.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield number, lines
            number, size, lines = number + len(lines), 0, []
    yield number, lines


def read_records(number: int, lines: list[bytes], check_canonical: bool) -> list[Entry | Record]:
    """Several lines of an export, the first of which has that number."""
    return [read_record(line, at, check_canonical=check_canonical) for at, line in enumerate(lines, start=number)]


def _records(file: IO[bytes], *, jobs: int, check_canonical: bool) -> Iterator[Entry | Record]:
    """What the lines hold, in order; with several jobs the hashing is done by as many processes."""
    if jobs == 1:
        for number, lines in _chunks(file):
            yield from read_records(number, lines, check_canonical)
        return
    waiting: deque[Future[list[Entry | Record]]] = deque()
    with ProcessPoolExecutor(jobs) as pool:
        try:
            for number, lines in _chunks(file):
                waiting.append(pool.submit(read_records, number, lines, check_canonical))
                if len(waiting) > 2 * jobs:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _default_jobs(path: str) -> int:
    """Other processes cost time to start: they are worth it for a large file only."""
    if path == "-" or Path(path).stat().st_size < _LARGE_BYTES:
        return 1
    return min(os.cpu_count() or 1, 8)


def _open(path: str) -> IO[bytes]:
    if path == "-":
        return sys.stdin.buffer
    with Path(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else Path(path).open("rb")


def verify_file(
    path: str,
    *,
    checkpoints: Iterable[Path] = (),
    keys: Iterable[str] = (),
    check_canonical: bool = True,
    jobs: int | None = None,
    verifier: type[LogVerifier] = LogVerifier,
) -> Report:
    """Verify an export (`-` is standard input, gzip is recognised); raises UnusableError when it cannot be judged.

    `checkpoints` are files or folders, `keys` verifier keys or files of them; a folder's own `vkey` counts as pinned.
    `check_canonical=False` leaves out the one check that reads inside payloads; their hashes are still checked.
    """
    witnesses, found_keys = read_witnesses(checkpoints)
    machine = verifier(witnesses=witnesses, keys=[*read_keys(keys), *found_keys])
    try:
        source = _open(path)
        jobs = jobs or _default_jobs(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        with source as file:
            for record in _records(file, jobs=jobs, check_canonical=check_canonical):
                machine.feed(record)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnusableError(f"{_shown(path)} is a damaged gzip file.") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return machine.finish()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verify.py",
        description="Check an exported PMIS log, without a database.",
        epilog="Exit codes: 0 every check passed, 1 tampered, 2 the input cannot be judged.",
    )
    parser.add_argument("file", help="the export; - is standard input; gzip is recognised")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint that was kept elsewhere, or a folder of them; may be repeated",
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        help="the key that must have signed (name+id+key), or a file that holds it; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--hash-only", action="store_true", help="do not check that payloads are canonical JSON")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes to use; default: as many as fit the file")
    return parser


def report_on(
    path: str,
    *,
    checkpoints: Iterable[Path] = (),
    keys: Iterable[str] = (),
    check_canonical: bool = True,
    jobs: int | None = None,
    as_json: bool = False,
) -> int:
    """Verify an export, print what was found, and return the exit code."""
    try:
        report = verify_file(path, checkpoints=checkpoints, keys=keys, check_canonical=check_canonical, jobs=jobs)
    except UnusableError as error:
        if as_json:
            print(json.dumps({"result": "unusable", "error": str(error)}))  # noqa: T201 - this is a program
        else:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - as above
        return 2
    print(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())  # noqa: T201 - as above
    return report.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _arguments().parse_args(arguments)
    return report_on(
        options.file,
        checkpoints=[Path(path) for path in options.checkpoint],
        keys=options.key,
        check_canonical=not options.hash_only,
        jobs=options.jobs,
        as_json=options.json,
    )


if __name__ == "__main__":
    sys.exit(main())
