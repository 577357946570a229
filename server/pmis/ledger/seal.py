"""Puts committed events into the Merkle tree and signs what the log is.

**Which events.** Every event that is visible and not in the tree yet, in the order of their positions. Nothing is ever
read from "after the last position": positions are given out before commits, so an event may become visible below
others that are sealed already. What keeps the search short is a floor, `checkpoint.settled`, below which everything is
proved to be sealed or never to exist: when the floor's position was the highest one visible, every transaction that
could hold a position below it already had its number (`append_event` takes its transaction number before its position),
and by now all transactions up to then have ended. A transaction that runs for hours therefore delays only its own
events, not the sealing of the others.

**In which order.** By position a stream's events are in the order of their versions: an event takes its position after
it has read its predecessor, and whoever sees it sees its predecessor too. Ordered by transaction number they would not
be: a transaction that began first and waited for a lock writes the later version.

**Before anything is signed** the database is measured against what it cannot change: the newest checkpoint in each
place outside must be rightly signed and must be the beginning of the present tree, the last signed root must be the
root of the stored tree, and a stretch of sealed events (another one each time, all of them with `full_check`) is hashed
again and proved to be in it. An older copy of the database or a changed leaf is refused with an error that says so.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import psycopg

from pmis.kit.errors import PmisError
from pmis.ledger.checkpoint import Checkpoint, NoteError, VerifierKey
from pmis.ledger.columns import EVENT_SELECT, event_record
from pmis.ledger.merkle import (
    READ_NODES,
    CompactRange,
    MissingNodeError,
    Plan,
    consistency_plan,
    inclusion_plan,
    leaf_hash,
    node_parameters,
    range_plan,
    verify_consistency,
    verify_inclusion,
)
from pmis.ledger.sink import Publication
from pmis.ledger.verify import SignedLeaf, event_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from threading import Event as Flag

    from psycopg import Connection

    from pmis.ledger.checkpoint import CheckpointSigner
    from pmis.ledger.sink import CheckpointSink

    Row = tuple[Any, ...]

log = logging.getLogger(__name__)

LOCK: Final = 8097879367303361388
"""The advisory lock of sealing; `ledger.append_checkpoint` takes the same."""
BATCH: Final = 10_000
CHUNK: Final = 4096
_CATCH_UP: Final = 500
_REMEMBERED: Final = 64


class SealError(PmisError):
    """The log was not sealed; nothing was signed."""

    code = "seal_refused"
    status = 503
    title = "The log was not sealed"


class LogAlteredError(SealError):
    """What was signed is no longer what the database holds."""

    code = "log_altered"
    title = "The log is not what was signed"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a run did: the size of the tree now, and how much of that is new."""

    size: int
    events: int
    checkpoints: int
    rechecked: int


@dataclass(frozen=True, slots=True)
class SealLag:
    """How far sealing is behind the log."""

    sealed: int
    unsealed: int
    oldest_unsealed_at: datetime | None
    sealed_at: datetime | None


SEAL_LAG: Final = "select sealed, unsealed, oldest_unsealed_at, sealed_at from ledger.seal_lag()"


def seal_lag(connection: Connection[Row]) -> SealLag:
    """How far sealing is behind, for health checks and metrics."""
    return SealLag(*cast("Row", connection.execute(SEAL_LAG).fetchone()))


@dataclass(slots=True)
class _Tree:
    """The sealed tree as the database has it, known to fit its last checkpoint."""

    range: CompactRange
    root: bytes
    settled: int


# The floor stands in both halves, or a merge join would read the whole index of leaves to find what lies above it.
_NEW_EVENTS: Final[LiteralString] = (
    "select "
    + EVENT_SELECT
    + """,
        case when e.stream_version = 1 then e.previous_hash = decode(repeat('00', 32), 'hex')
             else coalesce(before.content_hash = e.previous_hash, false) end
    from ledger.event e
    left join ledger.event before on before.stream_id = e.stream_id and before.stream_version = e.stream_version - 1
    where e.position > %(floor)s and not exists (
        select from ledger.tree_node n where n.position = e.position and n.position > %(floor)s
    ) order by e.position limit %(limit)s"""
)
_SEALED_EVENTS: Final[LiteralString] = (
    "select n.idx, n.hash, n.position, "
    + EVENT_SELECT
    + """
    from ledger.tree_node n left join ledger.event e on e.position = n.position
    where n.level = 0 and n.idx >= %s and n.idx < %s order by n.idx"""
)
_SMUGGLED: Final[LiteralString] = (
    "select "
    + EVENT_SELECT
    + """
    from ledger.event e where e.position > %s and e.position <= %s
      and not exists (select from ledger.tree_node n where n.position = e.position)
    order by e.position limit 1"""
)
_LEAVES: Final = """
    select encode(e.content_hash, 'hex'), e.stream_id::text, e.stream_version, n.hash
    from ledger.tree_node n left join ledger.event e on e.position = n.position
    where n.level = 0 and n.idx >= %s and n.idx < %s order by n.idx
"""


class Sealer:
    """Seals one log, on a connection of the role `pmis_sealer`. Several may run: they take turns."""

    def __init__(
        self,
        connection: Connection[Row],
        signer: CheckpointSigner,
        sinks: Sequence[CheckpointSink],
        *,
        previous_keys: Iterable[VerifierKey] = (),
        batch: int = BATCH,
        chunk: int = CHUNK,
        lock_seconds: float = 30,
    ) -> None:
        """`previous_keys` are those that signed before the present one; `batch` events make a checkpoint at most.

        `chunk`, a power of two, is how many sealed events are hashed again in one go; `lock_seconds` is how long
        another sealer is waited for.
        """
        self._connection = connection
        self._signer = signer
        self._sinks = sinks
        self._keys = [signer.key, *previous_keys]
        self._batch = batch
        self._chunk = chunk
        self._lock_timeout = f"{round(lock_seconds * 1000)}ms"
        self._next_chunk: int | None = None
        # Positions that will be settled once every transaction below a number has ended.
        self._to_settle: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def waiting(self, limit: int) -> int:
        """How many events wait to be sealed, counted up to the limit."""
        row = self._connection.execute(
            "with floor as (select coalesce((select settled from ledger.checkpoint order by size desc limit 1), 0)) "
            "select count(*) from (select from ledger.event e where e.position > (table floor) and not exists ("
            "select from ledger.tree_node n where n.position = e.position and n.position > (table floor)"
            ") limit %s) as waiting",
            (limit,),
        ).fetchone()
        return cast("Row", row)[0]

    def run(self, *, full_check: bool = False, progress: Callable[[int], None] | None = None) -> Sealed:
        """Seal everything that is visible now, in batches, each with its checkpoint, and bring the sinks up.

        Raises LogAlteredError or SealError, with nothing signed in that batch, and SinkError when a checkpoint that
        is already in the database could not be kept outside; the next run tries that again.
        """
        rechecked = self._recheck(full=full_check)
        # What writers add meanwhile is the next run's: otherwise fast writers could keep this one for ever.
        (goal,) = self._one("select coalesce(max(position), 0) from ledger.event")
        total = checkpoints = 0
        while True:
            size, count, last = self._seal_batch()
            if count:
                total, checkpoints = total + count, checkpoints + 1
                if progress:
                    progress(total)
            self._ship()
            if count < self._batch or last >= goal:
                return Sealed(size, total, checkpoints, rechecked)

    # -- reading and measuring the tree

    def _one(self, statement: LiteralString, parameters: Sequence[Any] = ()) -> Row:
        return cast("Row", self._connection.execute(statement, parameters).fetchone())

    def _hashes(self, plan: Plan) -> list[bytes]:
        rows = self._connection.execute(READ_NODES, node_parameters(plan.nodes)).fetchall()
        try:
            return plan.hashes({(level, index): node for level, index, node in rows})
        except MissingNodeError as error:
            raise LogAlteredError(
                f"The sealed tree in the database was damaged: {error}. Nothing was signed."
            ) from None

    def _tree(self) -> _Tree:
        row = self._connection.execute(
            "select size, root, note, settled from ledger.checkpoint order by size desc limit 1"
        ).fetchone()
        if row is None:
            return _Tree(CompactRange(), CompactRange().root(), 0)
        size, root, note, settled = row
        range_ = CompactRange(size, self._hashes(range_plan(size)))
        checkpoint = self._signed(note, "The last checkpoint in the database")
        if not checkpoint.root == root == range_.root() or checkpoint.size != size:
            raise LogAlteredError(
                f"The sealed tree in the database does not have the root that was signed for its {size} events: nodes "
                "or checkpoints were changed. Nothing was signed. Export the log and run `pmis verify` to see what "
                "differs."
            )
        return _Tree(range_, root, settled)

    def _signed(self, note: str, what: str) -> Checkpoint:
        try:
            checkpoint = Checkpoint.parse(note)
            if checkpoint.origin != self._signer.origin:
                raise SealError(
                    f"{what} is of the log {checkpoint.origin!r}, this one is {self._signer.origin!r}. Nothing was "
                    "signed. Set CHECKPOINT_ORIGIN to the log's own name, or CHECKPOINT_DIR to its own folder."
                )
            checkpoint.require_signature(self._keys)
        except NoteError as error:
            raise SealError(
                f"{what} cannot be relied on: {error}. Nothing was signed. If the signing key (or SECRET_KEY, from "
                "which it is derived) was changed on purpose, name the old key in CHECKPOINT_PREVIOUS_KEYS."
            ) from None
        return checkpoint

    def _measure(self, tree: _Tree) -> None:
        """Raise LogAlteredError unless the tree begins with what every sink keeps."""
        size = tree.range.size
        for sink in self._sinks:
            note = sink.latest()
            if note is None:
                continue
            kept = self._signed(note, f"The newest checkpoint in {sink.name}")
            if kept.size > size:
                raise LogAlteredError(
                    f"The database has {size} sealed events, but the newest checkpoint in {sink.name} signed "
                    f"{kept.size}: this database is older than its own checkpoints (a restored backup?), or its tail "
                    "was cut off. Nothing was signed. Restore a backup at least as new, or keep the old folder as "
                    "evidence and begin a new log: another CHECKPOINT_ORIGIN and CHECKPOINT_DIR."
                )
            if not verify_consistency(
                old_size=kept.size,
                new_size=size,
                old_root=kept.root,
                new_root=tree.root,
                proof=self._hashes(consistency_plan(kept.size, size)),
            ):
                raise LogAlteredError(
                    f"The database's first {kept.size} sealed events are not those that the newest checkpoint in "
                    f"{sink.name} signed: history was changed. Nothing was signed. Export the log and run "
                    "`pmis verify` with that checkpoint to see what differs."
                )

    # -- hashing sealed events again

    def _recheck(self, *, full: bool) -> int:
        with self._connection.transaction():
            self._connection.execute("set transaction isolation level repeatable read, read only")
            tree = self._tree()
            self._measure(tree)
            count = -(-tree.range.size // self._chunk)
            if not count:
                return 0
            if full:
                return sum(self._recheck_chunk(tree, index) for index in range(count))
            if self._next_chunk is None:
                # Restarts must not keep the same stretches from their turn.
                self._next_chunk = random.SystemRandom().randrange(count)
            index = self._next_chunk % count
            self._next_chunk = index + 1
            return self._recheck_chunk(tree, index)

    def _recheck_chunk(self, tree: _Tree, index: int) -> int:
        """Hash the events of a stretch again and prove that they are in the tree; returns how many."""
        size = tree.range.size
        start, stop = index * self._chunk, min((index + 1) * self._chunk, size)
        part = CompactRange()
        for leaf, node, position, *values in self._stream(_SEALED_EVENTS, (start, stop)):
            event = event_record(values)
            if event["position"] is None:
                raise LogAlteredError(
                    f"The event at position {position}, which was sealed as leaf {leaf}, is gone. Nothing was signed."
                )
            digest = event_hash(event)
            if digest.hex() != event["content_hash"] or leaf_hash(digest) != node:
                raise LogAlteredError(f"{_name(event)} is not what was sealed as leaf {leaf}. Nothing was signed.")
            part.append(node)
        proof = self._hashes(inclusion_plan(index, size, unit=self._chunk))
        if part.size != stop - start or not verify_inclusion(
            index=index, size=-(-size // self._chunk), leaf=part.root(), proof=proof, root=tree.root
        ):
            raise LogAlteredError(
                f"Leaves {start} to {stop - 1} are not those that were signed: nodes of the sealed tree were changed. "
                "Nothing was signed. Export the log and run `pmis verify` to see what differs."
            )
        self._require_no_smuggled(tree, start, stop)
        return part.size

    def _require_no_smuggled(self, tree: _Tree, start: int, stop: int) -> None:
        """Raise LogAlteredError for an event between these leaves that stands below the floor without being sealed."""
        bounds = dict(
            self._connection.execute(
                "select idx, position from ledger.tree_node where level = 0 and idx = any(%s)", ([start, stop],)
            ).fetchall()
        )
        low = bounds[start] if start else 0
        smuggled = self._connection.execute(
            _SMUGGLED, (low, min(bounds.get(stop, tree.settled), tree.settled))
        ).fetchone()
        if smuggled:
            raise LogAlteredError(
                f"{_name(event_record(smuggled))} was put into the log by force, among events that were sealed before "
                "it was there. Nothing was signed."
            )

    def _stream(self, statement: LiteralString, parameters: Sequence[Any] | dict[str, Any]) -> Iterator[Row]:
        with self._connection.cursor(name="seal") as cursor:
            cursor.itersize = 1000
            cursor.execute(statement, parameters)
            yield from cursor

    # -- sealing

    def _lock(self) -> None:
        # Each statement must see what was committed while the lock was waited for.
        self._connection.execute("set transaction isolation level read committed")
        self._connection.execute("select set_config('lock_timeout', %s, true)", (self._lock_timeout,))
        self._connection.execute("set local synchronous_commit = on")
        try:
            self._connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        except psycopg.errors.LockNotAvailable:
            raise SealError("Another sealer has been at work for too long. Try again later.") from None

    def _seal_batch(self) -> tuple[int, int, int]:
        """Seal up to a batch of events in one transaction; returns the tree's size, how many are new, and the last."""
        with self._connection.transaction():
            self._lock()
            tree = self._tree()
            self._measure(tree)
            size, provable = tree.range.size, self._provable(tree.settled)
            positions = [
                self._take(tree.range, values)
                for values in self._stream(_NEW_EVENTS, {"floor": tree.settled, "limit": self._batch})
            ]
            if not positions:
                return size, 0, 0
            # A full batch may have left events behind; what it took is all there was up to its last position.
            settled = provable if len(positions) < self._batch else min(provable, positions[-1])
            root = tree.range.root()
            note = self._signer.sign(tree.range.size, root)
            try:
                self._connection.execute(
                    "select ledger.append_checkpoint(%s, %s, %s, %s, %s)", (size, positions, root, note, settled)
                )
            except psycopg.Error as error:
                if error.sqlstate == "PM005":
                    raise SealError(f"The database refused the checkpoint: {error.diag.message_primary}.") from None
                raise
            return tree.range.size, len(positions), positions[-1]

    def _take(self, tree: CompactRange, values: Row) -> int:
        """Add a new event to the tree, but never one that a verifier would refuse; returns its position."""
        *columns, follows = values
        event = event_record(columns)
        digest = event_hash(event)
        if digest.hex() != event["content_hash"]:
            raise LogAlteredError(f"{_name(event)} does not have the content hash it carries. Nothing was signed.")
        if not follows:
            raise LogAlteredError(f"{_name(event)} does not continue the version before it. Nothing was signed.")
        tree.append(leaf_hash(digest))
        return event["position"]

    def _provable(self, settled: int) -> int:
        """The highest position up to which everything is visible now or will never exist.

        The order of the statements is the proof. First the highest visible position is read; whoever holds a position
        below it has a transaction number by then. Our own number, taken next, is above all of those. When no
        transaction below it runs any more, every event up to that position can be seen by the statements that follow.
        """
        (highest,) = self._one("select coalesce(max(position), 0) from ledger.event")
        if highest <= settled:
            return settled
        (number,) = self._one("select pg_current_xact_id()::text::bigint")
        self._to_settle.append((highest, number))
        (oldest_running,) = self._one("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        while self._to_settle and self._to_settle[0][1] <= oldest_running:
            settled = max(settled, self._to_settle.popleft()[0])
        return settled

    # -- keeping checkpoints outside

    def _ship(self) -> None:
        """Give each sink the checkpoints that it does not have yet."""
        for sink in self._sinks:
            with self._connection.transaction():
                self._lock()
                note = sink.latest()
                kept = self._signed(note, f"The newest checkpoint in {sink.name}").size if note else 0
                missing = self._connection.execute(
                    "select size, note, "
                    "coalesce((select max(b.size) from ledger.checkpoint b where b.size < c.size), 0) "
                    "from ledger.checkpoint c where size > %s order by size limit %s",
                    (kept, _CATCH_UP),
                ).fetchall()
                for size, text, start in missing:
                    sink.publish(
                        Publication(text, Checkpoint.parse(text), start, self._leaves(start, size), self._signer.key)
                    )

    def _leaves(self, start: int, stop: int) -> Iterator[SignedLeaf]:
        for content_hash, stream_id, version, node in self._stream(_LEAVES, (start, stop)):
            if content_hash is None or leaf_hash(bytes.fromhex(content_hash)) != node:
                raise LogAlteredError(
                    f"An event among leaves {start} to {stop - 1} is no longer what was sealed, so the list of them "
                    "was not written. Export the log and run `pmis verify` to see which."
                )
            yield SignedLeaf(content_hash, stream_id, version)


def _name(event: dict[str, Any]) -> str:
    return (
        f"{event['stream_type']} {event['stream_id']} version {event['stream_version']} "
        f"(event {event['id']}, position {event['position']})"
    )


def seal_loop(
    connect: Callable[[], Connection[Row]],
    make: Callable[[Connection[Row]], Sealer],
    *,
    interval_seconds: float,
    threshold: int,
    stop: Flag,
    poll_seconds: float = 2.0,
) -> None:
    """Seal every interval, and sooner when `threshold` events wait, until `stop` is set.

    Whatever goes wrong is logged and tried again: a lost database, a full disk, and a log that was tampered with, which
    must go on being reported.
    """
    due = time.monotonic()
    while not stop.is_set():
        try:
            with connect() as connection:
                sealer = make(connection)
                while not stop.is_set():
                    if time.monotonic() >= due or sealer.waiting(threshold) >= threshold:
                        due = time.monotonic() + interval_seconds
                        sealed = sealer.run()
                        if sealed.events:
                            log.info("sealed %s events, %s in all", sealed.events, sealed.size)
                    stop.wait(min(poll_seconds, interval_seconds))
        except PmisError as error:
            log.error("%s: %s", error.code, error.detail)  # noqa: TRY400 - a refusal, not a fault of the program
        except psycopg.Error as error:
            log.warning("the database did not answer the sealer: %s", str(error).splitlines()[0])
        stop.wait(min(10.0, interval_seconds))
