"""Where checkpoints are kept outside the database's reach.

A sink is written after the database has committed, and what it missed is brought up later. What it holds is what the
sealer measures the database against before it signs again.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pmis.kit.errors import PmisError
from pmis.ledger.verify import LEAVES_FORMAT, Checkpoint, NoteError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pmis.ledger.verify import SignedLeaf, VerifierKey


class SinkError(PmisError):
    """A place for checkpoints cannot be read or written, or holds something that contradicts what is to be written."""

    code = "checkpoint_sink"
    status = 503
    title = "Checkpoints cannot be kept outside the database"


@dataclass(frozen=True, slots=True)
class Publication:
    """A checkpoint to keep, the leaves that came with it, and the key that signed it."""

    note: str
    checkpoint: Checkpoint
    start: int
    leaves: Iterable[SignedLeaf]
    key: VerifierKey


class CheckpointSink(Protocol):
    """A place outside the database."""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        ...

    def latest(self) -> str | None:
        """The newest note that is kept there, or None; raises SinkError when that cannot be told."""
        ...

    def publish(self, publication: Publication) -> None:
        """Keep a checkpoint for good. Done twice it changes nothing; a contradiction raises SinkError."""
        ...


class NullSink:
    """Keeps nothing: for installs whose checkpoints stay in the database alone, which protects only what it signed."""

    name = "nowhere"

    def latest(self) -> str | None:
        """Nothing."""
        return None

    def publish(self, publication: Publication) -> None:
        """Nothing, but the leaves are taken all the same."""
        for _ in publication.leaves:
            pass


_NOTE_FILE = re.compile(r"([1-9][0-9]{0,18})\.txt")


class FileSink:
    """A folder: `<size>.txt` the note, `<size>.leaves` the leaves since the one before, `latest` and `vkey`.

    Each file appears whole or not at all, and a note only after its leaves: after a crash at any point the folder can
    be relied on, and written again.
    """

    def __init__(self, folder: Path) -> None:
        """The folder is made when the first checkpoint comes."""
        self._folder = folder
        self.name = str(folder)

    def latest(self) -> str | None:
        """The note in `latest`; where that is missing, the one with the largest size."""
        try:
            try:
                return (self._folder / "latest").read_bytes().decode()
            except FileNotFoundError:
                notes = self._notes()
                return notes[max(notes)].read_bytes().decode() if notes else None
        except (OSError, UnicodeDecodeError) as error:
            raise self._failed("read", error) from error

    def _notes(self) -> dict[int, Path]:
        if not self._folder.is_dir():
            return {}
        found = ((_NOTE_FILE.fullmatch(path.name), path) for path in self._folder.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def publish(self, publication: Publication) -> None:
        """Write the leaves, the note, the key and `latest`, in this order, each synced to the disk."""
        size = publication.checkpoint.size
        note = self._folder / f"{size}.txt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if note.exists():
                self._require_same(note, publication.checkpoint)
            else:
                self._write(self._folder / f"{size}.leaves", _leaf_lines(publication))
                self._write(note, [publication.note])
            self._add_key(str(publication.key))
            self._write(self._folder / "latest", [publication.note])
        except OSError as error:
            raise self._failed("written", error) from error

    def _require_same(self, path: Path, checkpoint: Checkpoint) -> None:
        try:
            kept = Checkpoint.parse(path.read_bytes())
        except NoteError as error:
            raise SinkError(
                f"{path} is not a checkpoint: {error}. Move it away and look into how it came there."
            ) from None
        if (kept.origin, kept.root) != (checkpoint.origin, checkpoint.root):
            raise SinkError(
                f"{path} already holds another checkpoint of {checkpoint.size} events. Two logs must not share a "
                "folder, and a log must not be signed twice: find out which of the two is yours."
            )

    def _add_key(self, key: str) -> None:
        path = self._folder / "vkey"
        keys = path.read_text(encoding="utf-8").split() if path.exists() else []
        if key not in keys:
            self._write(path, [f"{line}\n" for line in [key, *keys]])

    def _write(self, path: Path, lines: Iterable[str]) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(self._folder)

    def _failed(self, verb: str, error: OSError | UnicodeDecodeError) -> SinkError:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return SinkError(f"The folder of checkpoints {self.name} cannot be {verb}: {reason}.")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _leaf_lines(publication: Publication) -> Iterable[str]:
    yield f"{LEAVES_FORMAT} {publication.checkpoint.origin} {publication.start} {publication.checkpoint.size}\n"
    for leaf in publication.leaves:
        yield f"{leaf.content_hash} {leaf.stream_id} {leaf.version}\n"
