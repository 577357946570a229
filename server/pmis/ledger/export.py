"""Writes the log, or one project's part of it, as a file that `verify` can judge without the database.

JSON lines, UTF-8, one record a line:

* `header`: the format, the log's origin, the keys that sign it, when it was exported, and how much is to come;
* `event`: every column, the payload as the exact text that was hashed, and the leaf number (null when not sealed yet).
  What a transaction number was is left out: nothing vouches for it, and a restored database has others;
* `checkpoint`: the signed note. In a whole export each stands right behind the event that completes it, so that a
  reader needs to remember nothing;
* `trailer`: the counts again, so that a file that is cut off shows.

An export of one project begins with the newest checkpoint; each of its sealed events brings the proof (RFC 6962) that
it is in that tree. The last checkpoint of each day follows with the proof that the newest tree continues it, so that
whoever kept one of those can check the file against it. Everything is read in one snapshot, a stretch at a time.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, LiteralString, cast

from pmis.kit.errors import NotFoundError, PmisError
from pmis.ledger.columns import EVENT_SELECT, event_record
from pmis.ledger.merkle import (
    READ_NODES,
    MissingNodeError,
    Plan,
    consistency_plan,
    inclusion_plan,
    node_parameters,
)
from pmis.ledger.sink import sync_folder
from pmis.ledger.verify import EXPORT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from uuid import UUID

    from psycopg import Connection

    from pmis.ledger.verify import VerifierKey

    Row = tuple[Any, ...]

_STRETCH: Final = 500
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class ExportError(PmisError):
    """The export could not be written; no file was left behind."""

    code = "export_failed"
    status = 500
    title = "The log could not be exported"


@dataclass(slots=True)
class Exported:
    """What an export holds; complete once its lines are all taken."""

    project: UUID | None
    sealed: int = 0
    unsealed: int = 0
    checkpoints: int = 0

    def counts(self) -> dict[str, int]:
        """How much is in it."""
        return {"sealed": self.sealed, "unsealed": self.unsealed, "checkpoints": self.checkpoints}


_SEALED: Final[LiteralString] = (
    "select n.idx, "
    + EVENT_SELECT
    + " from ledger.tree_node n join ledger.event e on e.position = n.position where n.level = 0 order by n.idx"
)
# Not only above the settled floor: an event that was put below it by force must show as one that nobody sealed.
_NOT_SEALED: Final[LiteralString] = "not exists (select from ledger.tree_node n where n.position = e.position)"
_UNSEALED: Final[LiteralString] = (
    "select " + EVENT_SELECT + " from ledger.event e where " + _NOT_SEALED + " order by e.position"
)
_COUNT_UNSEALED: Final[LiteralString] = "select count(*) from ledger.event e where " + _NOT_SEALED
_OF_PROJECT: Final[LiteralString] = (
    "select n.idx, "
    + EVENT_SELECT
    + " from ledger.event e join ledger.tree_node n on n.position = e.position where e.project_id = %s order by n.idx"
)
_OF_PROJECT_UNSEALED: Final[LiteralString] = (
    "select "
    + EVENT_SELECT
    + " from ledger.event e where e.project_id = %s and "
    + _NOT_SEALED
    + " order by e.position"
)


def export_lines(
    connection: Connection[Row],
    *,
    origin: str,
    keys: Sequence[VerifierKey],
    project: UUID | None = None,
    sizes: Iterable[int] = (),
    exported: Exported | None = None,
) -> Generator[bytes]:
    """The lines of an export, in one snapshot of a connection that is in no transaction.

    `keys` are those that sign or signed, the present one first. With `project`, only its events, each with its proof;
    `sizes` are then checkpoints to bring along besides the last of each day. `exported` is filled in on the way.
    Raises NotFoundError for a project of which the log knows nothing.
    """
    done = exported or Exported(project)
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        reader = _Reader(connection)
        header: dict[str, Any] = {
            "record": "header",
            "format": EXPORT_FORMAT,
            "origin": origin,
            "keys": [str(key) for key in keys],
            "project": str(project) if project else None,
            "exported_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        if project is None:
            records = _whole(reader, done, header)
        else:
            records = _part(reader, done, header, project, frozenset(sizes))
        for record in records:
            yield _encode(record).encode() + b"\n"


class _Reader:
    """Queries of one snapshot."""

    def __init__(self, connection: Connection[Row]) -> None:
        self.connection = connection
        self._cursors = 0

    def one(self, statement: LiteralString, parameters: Sequence[Any] = ()) -> Row:
        return cast("Row", self.connection.execute(statement, parameters).fetchone())

    def all(self, statement: LiteralString, parameters: Sequence[Any] = ()) -> list[Row]:
        return self.connection.execute(statement, parameters).fetchall()

    def stream(self, statement: LiteralString, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        self._cursors += 1
        with self.connection.cursor(name=f"export_{self._cursors}") as cursor:
            cursor.itersize = _STRETCH
            cursor.execute(statement, parameters)
            yield from cursor

    def hashes(self, plans: Sequence[Plan]) -> list[list[bytes]]:
        wanted = node_parameters(node for plan in plans for node in plan.nodes)
        nodes = {(level, index): node for level, index, node in self.all(READ_NODES, wanted)}
        try:
            return [plan.hashes(nodes) for plan in plans]
        except MissingNodeError as error:
            raise ExportError(
                f"The sealed tree in the database was damaged: {error}. Export the whole log, which needs no proofs."
            ) from None


def _event(leaf: int | None, values: Sequence[Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {"record": "event", "leaf": leaf, **event_record(values), **more}


def _whole(reader: _Reader, done: Exported, header: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (sealed,) = reader.one("select coalesce(max(idx) + 1, 0) from ledger.tree_node where level = 0")
    (unsealed,) = reader.one(_COUNT_UNSEALED)
    (checkpoints,) = reader.one("select count(*) from ledger.checkpoint")
    yield {**header, "sealed": sealed, "unsealed": unsealed, "checkpoints": checkpoints}
    notes = reader.stream("select size, note from ledger.checkpoint order by size")
    size, note = next(notes, (None, None))
    for leaf, *values in reader.stream(_SEALED):
        yield _event(leaf, values)
        done.sealed += 1
        # Also past a leaf that is gone: whatever happened to the log, its checkpoints are evidence.
        while size is not None and size <= leaf + 1:
            yield {"record": "checkpoint", "note": note}
            done.checkpoints += 1
            size, note = next(notes, (None, None))
    while size is not None:
        yield {"record": "checkpoint", "note": note}
        done.checkpoints += 1
        size, note = next(notes, (None, None))
    for values in reader.stream(_UNSEALED):
        yield _event(None, values)
        done.unsealed += 1
    yield {"record": "trailer", **done.counts()}


def _part(
    reader: _Reader, done: Exported, header: dict[str, Any], project: UUID, sizes: frozenset[int]
) -> Iterator[dict[str, Any]]:
    (sealed,) = reader.one(
        "select count(*) from ledger.event e join ledger.tree_node n on n.position = e.position "
        "where e.project_id = %s",
        (project,),
    )
    (unsealed,) = reader.one(_COUNT_UNSEALED + " and e.project_id = %s", (project,))
    if not sealed and not unsealed:
        raise NotFoundError("The log knows no such project.")
    notes = reader.all(
        "select size, note from ledger.checkpoint c where size = (select max(size) from ledger.checkpoint) "
        "or size = any(%s) or size in (select max(size) from ledger.checkpoint "
        "group by (signed_at at time zone 'UTC')::date) order by size desc",
        (list(sizes),),
    )
    yield {**header, "sealed": sealed, "unsealed": unsealed, "checkpoints": len(notes)}
    newest = notes[0][0] if notes else 0
    for size, note in notes:
        (proof,) = reader.hashes([consistency_plan(size, newest)])
        yield {"record": "checkpoint", "note": note, "consistency": [node.hex() for node in proof]}
        done.checkpoints += 1
    stretch: list[Row] = []
    for row in reader.stream(_OF_PROJECT, (project,)):
        stretch.append(row)
        if len(stretch) == _STRETCH:
            yield from _proved(reader, done, stretch, newest)
            stretch.clear()
    yield from _proved(reader, done, stretch, newest)
    for values in reader.stream(_OF_PROJECT_UNSEALED, (project,)):
        yield _event(None, values)
        done.unsealed += 1
    yield {"record": "trailer", **done.counts()}


def _proved(reader: _Reader, done: Exported, stretch: list[Row], size: int) -> Iterator[dict[str, Any]]:
    proofs = reader.hashes([inclusion_plan(leaf, size) for leaf, *_ in stretch])
    for (leaf, *values), proof in zip(stretch, proofs, strict=True):
        yield _event(leaf, values, proof=[node.hex() for node in proof])
        done.sealed += 1


# ------------------------------------------------------------------------------------------------------------- files


def export_file(
    connection: Connection[Row],
    target: str,
    *,
    origin: str,
    keys: Sequence[VerifierKey],
    project: UUID | None = None,
    sizes: Iterable[int] = (),
    progress: Callable[[int], None] | None = None,
    on_done: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write an export to a file (gzip when its name ends in `.gz`), or to standard output when the target is `-`.

    The file appears only when it is complete. `on_done` is called before it does: it records that the export was made,
    and when it fails there is no export. Raises ExportError when the target cannot be written.
    """
    exported = Exported(project)
    lines = export_lines(connection, origin=origin, keys=keys, project=project, sizes=sizes, exported=exported)
    try:
        with _target(target) as file:
            for count, line in enumerate(lines, start=1):
                file.write(line)
                if progress and count % 1000 == 0:
                    progress(count)
            file.flush()
            if on_done:
                on_done(exported)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        # Ends the transaction at once, also when the target failed halfway.
        lines.close()
    return exported


@contextmanager
def _target(target: str) -> Generator[IO[bytes]]:
    if target == "-":
        yield sys.stdout.buffer
        return
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            if path.name.endswith(".gz"):
                # No name and no time in the file: the same export gives the same bytes.
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
