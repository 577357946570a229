"""Where checkpoints are kept: what the folder and its null twin promise, and what only the folder does."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from pmis.ledger.checkpoint import Checkpoint
from pmis.ledger.sink import CheckpointSink, FileSink, NullSink, Publication, SinkError
from pmis.ledger.verify import SignedLeaf, read_leaves
from tests.ledger.logs import ATTACKER, SIGNER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEAF = SignedLeaf("ab" * 32, "0190c8f4-7b1a-7c3e-9f6d-0123456789ab", 3)


def publication(size: int, root: str = "a", start: int = 0) -> Publication:
    note = SIGNER.sign(size, hashlib.sha256(root.encode()).digest())
    return Publication(note, Checkpoint.parse(note), start, [LEAF] * (size - start), SIGNER.key)


@pytest.fixture(params=["file", "null"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointSink:
    return FileSink(tmp_path / "kept") if request.param == "file" else NullSink()


class TestEverySink:
    def test_it_has_a_name_and_begins_empty(self, sink: CheckpointSink) -> None:
        assert sink.name
        assert sink.latest() is None

    def test_the_latest_is_the_last_one_or_none_was_kept(self, sink: CheckpointSink) -> None:
        for size in (3, 5):
            sink.publish(publication(size))
        assert sink.latest() in (None, publication(5).note)

    def test_publishing_twice_changes_nothing(self, sink: CheckpointSink) -> None:
        sink.publish(publication(3))
        before = sink.latest()
        sink.publish(publication(3))
        assert sink.latest() == before

    def test_the_leaves_are_all_taken(self, sink: CheckpointSink) -> None:
        leaves = iter([LEAF] * 3)
        given = publication(3)
        sink.publish(Publication(given.note, given.checkpoint, 0, leaves, given.key))
        assert next(leaves, None) is None


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "a" / "kept"

    def test_what_it_holds(self, folder: Path) -> None:
        FileSink(folder).publish(publication(3))
        assert sorted(path.name for path in folder.iterdir()) == ["3.leaves", "3.txt", "latest", "vkey"]
        assert (folder / "3.txt").read_text() == (folder / "latest").read_text() == publication(3).note
        assert (folder / "vkey").read_text() == f"{SIGNER.key}\n"
        assert list(read_leaves(folder / "3.leaves", origin=SIGNER.origin, start=0, stop=3)) == [LEAF] * 3

    def test_without_latest_the_largest_counts(self, folder: Path) -> None:
        sink = FileSink(folder)
        for size in (3, 20, 100):
            sink.publish(publication(size))
        (folder / "latest").unlink()
        (folder / "notes.txt").write_text("mine")
        assert sink.latest() == publication(100).note

    def test_a_new_key_is_put_first(self, folder: Path) -> None:
        FileSink(folder).publish(publication(3))
        note = ATTACKER.sign(5, bytes(32))
        FileSink(folder).publish(Publication(note, Checkpoint.parse(note), 3, [], ATTACKER.key))
        assert (folder / "vkey").read_text().split() == [str(ATTACKER.key), str(SIGNER.key)]

    def test_another_checkpoint_of_the_same_size_is_never_overwritten(self, folder: Path) -> None:
        sink = FileSink(folder)
        sink.publish(publication(3))
        with pytest.raises(SinkError, match="already holds another checkpoint of 3 events"):
            sink.publish(publication(3, "b"))
        assert sink.latest() == publication(3).note

    def test_the_same_checkpoint_signed_by_another_key_is_the_same(self, folder: Path) -> None:
        sink = FileSink(folder)
        sink.publish(publication(3))
        other = ATTACKER.sign(3, publication(3).checkpoint.root)
        sink.publish(Publication(other, Checkpoint.parse(other), 0, [], ATTACKER.key))
        assert (folder / "3.txt").read_text() == publication(3).note

    def test_a_file_that_is_no_checkpoint_stands_in_the_way(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "3.txt").write_text("shopping list")
        with pytest.raises(SinkError, match=r"3\.txt is not a checkpoint: .* Move it away"):
            FileSink(folder).publish(publication(3))

    def test_a_note_appears_only_after_its_leaves_and_nothing_half_written_is_left(self, folder: Path) -> None:
        def leaves() -> object:
            yield LEAF
            raise OSError(28, "No space left on device")

        given = publication(3)
        with pytest.raises(SinkError, match="cannot be written: No space left on device"):
            FileSink(folder).publish(Publication(given.note, given.checkpoint, 0, leaves(), given.key))  # pyright: ignore[reportArgumentType] - a generator is an iterable of leaves
        assert not (folder / "3.txt").exists()
        assert not (folder / "3.leaves").exists()
        FileSink(folder).publish(given)
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda folder: (folder / "latest").mkdir(), "cannot be read: Is a directory"),
            (lambda folder: (folder / "latest").write_bytes(b"\xff"), "cannot be read: it is not UTF-8 text"),
        ],
    )
    def test_a_latest_that_cannot_be_read(self, folder: Path, damage: Callable[[Path], object], why: str) -> None:
        folder.mkdir(parents=True)
        damage(folder)
        with pytest.raises(SinkError, match=why):
            FileSink(folder).latest()

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "kept").write_text("")
        with pytest.raises(SinkError, match="cannot be written"):
            FileSink(tmp_path / "kept").publish(publication(3))
