"""Sealing a real log: what is sealed when, by whom, and when the sealer refuses."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import psycopg
import pytest

from pmis.ledger import seal as module
from pmis.ledger.checkpoint import Checkpoint, CheckpointSigner
from pmis.ledger.merkle import CompactRange, leaf_hash
from pmis.ledger.seal import LogAlteredError, SealError, SealLag, seal_lag, seal_loop
from pmis.ledger.sink import FileSink, NullSink, SinkError
from tests.ledger.database import LiveLog, append, rechain, regrow
from tests.ledger.logs import ATTACKER, ORIGIN, SIGNER

if TYPE_CHECKING:
    from collections.abc import Iterator


def sealed_positions(live: LiveLog) -> list[int]:
    return live.one("select coalesce(array_agg(position order by idx), '{}') from ledger.tree_node where level = 0")


def seventh(live: LiveLog) -> int:
    """The position that was sealed as leaf 6."""
    return live.one("select position from ledger.tree_node where level = 0 and idx = 6")


def settled(live: LiveLog) -> int:
    return live.one("select max(settled) from ledger.checkpoint")


def highest(live: LiveLog) -> int:
    return live.one("select max(position) from ledger.event")


class TestWhatIsSealed:
    def test_every_event_in_the_order_of_positions_under_a_signed_root(self, live: LiveLog) -> None:
        live.fill(20)
        events = live.events()
        sealed = live.seal()
        assert (sealed.size, sealed.events, sealed.checkpoints) == (len(events), len(events), 1)
        assert sealed_positions(live) == [event["position"] for event in events]
        tree = CompactRange()
        for event in events:
            tree.append(leaf_hash(bytes.fromhex(event["content_hash"])))
        size, root, note = live.one("select size, root, note from ledger.checkpoint")
        assert (size, root) == (len(events), tree.root())
        checkpoint = Checkpoint.parse(note)
        assert (checkpoint.size, checkpoint.root) == (size, root)
        checkpoint.require_signature([SIGNER.key])
        assert (live.folder / "latest").read_text() == (live.folder / f"{size}.txt").read_text() == note

    def test_nothing_new_signs_nothing(self, live: LiveLog) -> None:
        live.fill(3)
        first = live.seal()
        again = live.seal()
        assert (again.size, again.events, again.checkpoints) == (first.size, 0, 0)
        assert again.rechecked == first.size
        assert live.one("select count(*) from ledger.checkpoint") == 1

    def test_a_log_without_events(self, live: LiveLog) -> None:
        with live.superuser() as connection:
            connection.execute("delete from ledger.event")
        assert live.seal().size == 0
        assert not live.folder.exists()

    def test_a_backlog_is_sealed_in_batches_each_with_its_checkpoint(self, live: LiveLog) -> None:
        live.fill(25)
        total = len(live.events())
        sizes = [*range(10, total, 10), total]
        seen: list[int] = []
        with live.sealer(batch=10) as sealer:
            sealed = sealer.run(progress=seen.append)
        assert (sealed.size, sealed.checkpoints) == (total, len(sizes))
        assert live.one("select array_agg(size order by size) from ledger.checkpoint") == seen == sizes
        assert {path.name for path in live.folder.glob("*.txt")} == {f"{size}.txt" for size in sizes}
        assert live.verify(live.folder.parent / "x").ok

    def test_a_backlog_that_fills_its_batches_exactly(self, live: LiveLog) -> None:
        batch = 10 + len(live.events())
        live.fill(10 + batch)
        assert live.seal(batch=batch).checkpoints == 2

    def test_the_database_and_the_sealer_build_the_same_tree_at_every_size(self, live: LiveLog) -> None:
        live.fill(20)
        events = live.events()
        live.seal(batch=1)
        tree = CompactRange()
        for event in events:
            tree.append(leaf_hash(bytes.fromhex(event["content_hash"])))
            root = live.one("select root from ledger.checkpoint where size = %s", (tree.size,))
            assert root == tree.root() == live.one("select ledger.tree_root(%s)", (tree.size,))
        assert live.one("select ledger.tree_root(1000)") is None


class TestInFlight:
    """Positions do not follow commits: what commits later below others is sealed all the same."""

    def test_a_lower_position_that_commits_later(self, live: LiveLog) -> None:
        live.seal()
        with live.app() as slow, live.app() as quick:
            slow.execute("begin")
            low = append(slow, uuid4(), 1)
            high = append(quick, uuid4(), 1)
            assert low < high
            live.seal()
            assert high in sealed_positions(live)
            assert low not in sealed_positions(live)
            assert settled(live) < low
            slow.execute("commit")
        live.seal()
        assert sealed_positions(live)[-2:] == [high, low]
        assert live.verify(live.folder.parent / "x").ok

    def test_the_floor_never_passes_a_position_in_flight_whatever_else_goes_on(self, live: LiveLog) -> None:
        with live.app() as slow, live.app() as other, live.sealer() as sealer:
            slow.execute("begin")
            low = append(slow, uuid4(), 1)
            for _ in range(4):
                append(other, uuid4(), 1)
                sealer.run()
                assert settled(live) < low
            slow.execute("rollback")
        live.settle()
        assert settled(live) == highest(live) > low, "the position was given back: it can be passed"

    def test_a_transaction_with_a_number_but_no_event_yet_is_waited_for_by_the_floor_alone(self, live: LiveLog) -> None:
        """It began before the others; its event comes after them all."""
        with live.app() as slow, live.sealer() as sealer:
            slow.execute("begin")
            slow.execute("select pg_current_xact_id()")
            live.fill(5)
            assert sealer.run().events >= 5
            late = append(slow, uuid4(), 1)
            slow.execute("commit")
            assert sealer.run().events == 1
            assert sealed_positions(live)[-1] == late

    def test_a_number_above_every_finished_one_is_still_in_flight(self, live: LiveLog) -> None:
        """The snapshot's upper bound is one past the last *finished* transaction: it is no proof, and is not used."""
        with live.app() as first, live.app() as second, live.sealer() as sealer:
            first.execute("begin")
            first.execute("select pg_current_xact_id()")
            second.execute("begin")
            low = append(second, uuid4(), 1)
            high = append(first, uuid4(), 1)
            first.execute("commit")
            assert low < high
            sealer.run()
            live.fill(1)
            sealer.run()
            assert settled(live) < low
            second.execute("commit")
            sealer.run()
        assert low in sealed_positions(live)

    def test_the_later_version_written_by_the_older_transaction_comes_later(self, live: LiveLog) -> None:
        stream = uuid4()
        with live.app() as older, live.app() as younger, live.app() as bystander:
            bystander.execute("begin")
            older.execute("begin")
            older.execute("select pg_current_xact_id()")
            bystander.execute("select pg_current_xact_id()")
            one = append(younger, stream, 1)
            two = append(older, stream, 2)
            older.execute("commit")
            live.seal()
            assert [position for position in sealed_positions(live) if position in (one, two)] == [one, two]
            bystander.execute("rollback")
        assert live.verify(live.folder.parent / "x").ok

    def test_a_batch_may_end_between_two_versions_of_a_stream(self, live: LiveLog) -> None:
        live.fill(9, streams=1)
        live.seal(batch=2)
        assert live.verify(live.folder.parent / "x").ok

    def test_beside_writers_nothing_is_missed_and_streams_stay_in_order(self, live: LiveLog) -> None:
        def write(seed: int) -> None:
            with live.app() as connection:
                for number in range(150):
                    stream = uuid4()
                    connection.execute("begin")
                    for version in range(1, 2 + (seed + number) % 4):
                        append(connection, stream, version)
                    connection.execute("rollback" if number % 7 == 0 else "commit")

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for writer in writers:
            writer.start()
        runs = 0
        with live.sealer(batch=50) as sealer:
            while any(writer.is_alive() for writer in writers):
                sealer.run()
                runs += 1
            sealer.run()
        assert runs >= 2
        assert sorted(sealed_positions(live)) == [event["position"] for event in live.events()]
        assert live.verify(live.folder.parent / "x").ok

    def test_a_run_ends_although_writers_go_on(self, live: LiveLog) -> None:
        """It seals what was there when it began, in however many batches, and leaves the rest to the next."""
        live.fill(20)
        total = len(live.events())

        def write(_: int) -> None:
            live.fill(10)

        with live.sealer(batch=5) as sealer:
            sealed = sealer.run(progress=write)
        assert total <= sealed.events < total + 5


class TestTheFloor:
    def test_it_stands_at_the_top_when_nothing_is_in_flight(self, live: LiveLog) -> None:
        live.fill(5)
        live.settle()
        assert settled(live) == highest(live)

    def test_a_full_batch_moves_it_no_further_than_itself(self, live: LiveLog) -> None:
        live.fill(25)
        with live.sealer(batch=10) as sealer:
            sealer._seal_batch()
        assert settled(live) <= sealed_positions(live)[-1]

    def test_it_never_goes_back(self, live: LiveLog) -> None:
        live.fill(5)
        live.seal()
        before = settled(live)
        with live.app() as slow:
            slow.execute("begin")
            append(slow, uuid4(), 1)
            live.fill(1)
            live.seal()
            assert settled(live) == before


class TestTurns:
    def test_two_sealers_take_turns(self, live: LiveLog) -> None:
        live.fill(60)
        total = len(live.events())
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(live.seal(batch=7))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(result.events for result in results) == total
        assert live.verify(live.folder.parent / "x").ok

    def test_a_sealer_that_keeps_the_turn_is_named(self, live: LiveLog) -> None:
        live.fill(1)
        with psycopg.connect(live.database.sealer_dsn) as other:
            other.execute("select pg_advisory_xact_lock(%s)", (module.LOCK,))
            with pytest.raises(SealError, match="Another sealer has been at work"):
                live.seal(lock_seconds=0.05)
        assert live.seal().events > 0


class TestLag:
    def test_it_counts_what_waits(self, live: LiveLog) -> None:
        base = len(live.events())
        with psycopg.connect(live.database.app_dsn, autocommit=True) as connection:
            lag = seal_lag(connection)
            assert (lag.sealed, lag.unsealed, lag.sealed_at) == (0, base, None)
            live.seal()
            assert seal_lag(connection) == SealLag(base, 0, None, live.one("select signed_at from ledger.checkpoint"))
            live.fill(3)
            lag = seal_lag(connection)
            assert (lag.sealed, lag.unsealed) == (base, 3)
            assert lag.oldest_unsealed_at is not None
            assert abs((datetime.now(UTC) - lag.oldest_unsealed_at).total_seconds()) < 60

    def test_the_sealer_counts_no_further_than_it_needs(self, live: LiveLog) -> None:
        live.fill(10)
        with live.sealer() as sealer:
            assert sealer.waiting(4) == 4
            sealer.run()
            assert sealer.waiting(4) == 0


@pytest.fixture(scope="module")
def sealed(make_database: Any, tmp_path_factory: pytest.TempPathFactory) -> LiveLog:
    live = LiveLog(make_database("privileges"), tmp_path_factory.mktemp("kept"))
    live.seal()
    return live


class TestPrivileges:
    WRITES = (
        "insert into ledger.{table} select * from ledger.{table} limit 1",
        "update ledger.{table} set {column} = {column}",
        "delete from ledger.{table}",
        "truncate ledger.{table}",
        "drop table ledger.{table}",
        "alter table ledger.{table} disable trigger all",
    )
    TABLES = (("tree_node", "hash"), ("checkpoint", "note"), ("event", "payload"))

    @pytest.mark.parametrize("role", ["sealer_dsn", "app_dsn", "auditor_dsn"])
    @pytest.mark.parametrize("statement", WRITES)
    @pytest.mark.parametrize(("table", "column"), TABLES)
    def test_r3_nobody_but_the_functions_writes(
        self, sealed: LiveLog, role: str, statement: str, table: str, column: str
    ) -> None:
        with (
            psycopg.connect(getattr(sealed.database, role)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege) as caught,
        ):
            connection.execute(statement.format(table=table, column=column).encode())
        assert caught.value.sqlstate == "42501"

    @pytest.mark.parametrize("statement", WRITES[1:4])
    @pytest.mark.parametrize(("table", "column"), TABLES[:2])
    def test_r3_triggers_refuse_even_the_owner(self, sealed: LiveLog, statement: str, table: str, column: str) -> None:
        with (
            psycopg.connect(sealed.database.owner_dsn) as connection,
            pytest.raises(psycopg.DatabaseError, match="is append-only") as caught,
        ):
            connection.execute(statement.format(table=table, column=column).encode())
        assert caught.value.sqlstate == "PM002"

    @pytest.mark.parametrize("role", ["app_dsn", "auditor_dsn"])
    def test_r3_only_the_sealer_may_add_a_checkpoint(self, sealed: LiveLog, role: str) -> None:
        with (
            psycopg.connect(getattr(sealed.database, role)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("select ledger.append_checkpoint(1, '{1}', '\\x00', 'x', 0)")

    def test_r3_the_sealer_may_not_append_events(self, sealed: LiveLog) -> None:
        with (
            psycopg.connect(sealed.database.sealer_dsn) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            append(connection, uuid4(), 1)


class TestTheOnlyWayIn:
    """What `append_checkpoint` accepts from whoever may call it."""

    def call(self, live: LiveLog, *arguments: Any) -> None:
        with psycopg.connect(live.database.sealer_dsn) as connection:
            connection.execute("select ledger.append_checkpoint(%s, %s, %s, %s, %s)", arguments)

    @pytest.fixture
    def ready(self, live: LiveLog) -> tuple[LiveLog, int, int, bytes, str]:
        """A sealed log with one event more: its size, that event's position, the new root and note."""
        size = live.seal().size
        live.fill(1)
        tree = CompactRange()
        events = live.events()
        for event in events:
            tree.append(leaf_hash(bytes.fromhex(event["content_hash"])))
        return live, size, events[-1]["position"], tree.root(), SIGNER.sign(tree.size, tree.root())

    def test_the_right_call(self, ready: tuple[LiveLog, int, int, bytes, str]) -> None:
        live, size, position, root, note = ready
        self.call(live, size, [position], root, note, 10**9)
        assert settled(live) == highest(live), "a floor above every event is lowered to the highest"
        assert live.seal().events == 0

    def test_every_other_call(self, ready: tuple[LiveLog, int, int, bytes, str]) -> None:
        live, size, position, root, note = ready
        other = SIGNER.sign(size + 1, bytes(32))
        for arguments, why in [
            ((size + 1, [position], root, note, 0), f"the log is sealed up to {size}, not {size + 1}"),
            ((0, [position], root, note, 0), f"the log is sealed up to {size}, not 0"),
            ((size, [position, 10**9], root, note, 0), "1 of 2 positions are events"),
            ((size, [], root, note, 0), "0 of 0 positions are events"),
            ((size, [position], bytes(32), note, 0), "does not state the root"),
            ((size, [position], bytes(32), other, 0), "does not state the root"),
            ((size, [position], root, other, 0), "does not state the root"),
            ((size, [position], root, note.replace(f"\n{size + 1}\n", "\n7\n"), 0), "does not state the root"),
        ]:
            with pytest.raises(psycopg.DatabaseError, match=why) as caught:
                self.call(live, *arguments)
            assert caught.value.sqlstate == "PM005"
        for positions in ([1], [position, position]):
            with pytest.raises(psycopg.errors.UniqueViolation):
                self.call(live, size, positions, root, note, 0)
        assert len(sealed_positions(live)) == size

    def test_a_refusal_reaches_the_sealer_as_a_sentence(self, live: LiveLog, monkeypatch: pytest.MonkeyPatch) -> None:
        signer = CheckpointSigner(ORIGIN, bytes(32))
        monkeypatch.setattr(signer, "sign", lambda _size, root: SIGNER.sign(7, root))
        with pytest.raises(SealError, match="refused the checkpoint: the note does not state the root of these"):
            live.seal(signer=signer)
        assert not sealed_positions(live)

    def test_a_fault_of_the_database_is_not_dressed_up(self, live: LiveLog) -> None:
        with live.superuser() as connection:
            connection.execute("alter function ledger.append_checkpoint rename to gone")
            try:
                with pytest.raises(psycopg.errors.UndefinedFunction):
                    live.seal()
            finally:
                connection.execute("alter function ledger.gone rename to append_checkpoint")


class TestSinks:
    def test_what_a_sink_missed_is_brought_up(self, live: LiveLog) -> None:
        live.seal(sinks=[NullSink()])
        live.fill(3)
        live.seal(sinks=[])
        assert not live.folder.exists()
        live.seal()
        sizes = live.one("select array_agg(size order by size) from ledger.checkpoint")
        assert len(sizes) == 2
        assert {path.name for path in live.folder.glob("*.txt")} == {f"{size}.txt" for size in sizes}
        assert live.verify(live.folder.parent / "x").located_leaves == sizes[-1]

    def test_a_sink_that_fails_after_the_commit_is_tried_again(self, live: LiveLog) -> None:
        live.folder.write_text("in the way")
        live.fill(2)
        with pytest.raises(SinkError, match="cannot be"):
            live.seal()
        with pytest.raises(SinkError, match="cannot be"):
            live.seal()
        live.folder.unlink()
        live.seal()
        assert (live.folder / "latest").read_text() == live.one("select note from ledger.checkpoint")

    def test_a_folder_that_was_lost_is_filled_again(self, live: LiveLog) -> None:
        live.fill(5)
        live.seal(batch=2)
        kept = {path.name: path.read_text() for path in live.folder.iterdir()}
        shutil.rmtree(live.folder)
        live.seal()
        assert {path.name: path.read_text() for path in live.folder.iterdir()} == kept

    def test_every_sink_is_measured(self, live: LiveLog) -> None:
        other = FileSink(live.folder.parent / "other")
        live.fill(3)
        live.seal(sinks=[FileSink(live.folder), other])
        assert other.latest() == FileSink(live.folder).latest()
        (live.folder.parent / "other" / "latest").write_text(SIGNER.sign(99, bytes(32)))
        with pytest.raises(LogAlteredError, match=r"checkpoint in .*other signed 99"):
            live.seal(sinks=[FileSink(live.folder), other])

    def test_leaves_that_are_no_longer_what_was_sealed_are_not_published(self, live: LiveLog) -> None:
        live.fill(3)
        live.seal(sinks=[])
        with live.superuser() as connection:
            connection.execute(
                "update ledger.event set content_hash = sha256('x') where position = %s", (highest(live),)
            )
        with live.sealer() as sealer, pytest.raises(LogAlteredError, match="so the list of them was not written"):
            sealer._ship()
        assert not list(live.folder.glob("*.txt"))


class TestRefusals:
    """Nothing is signed on top of a history that is not the one that was signed."""

    @pytest.fixture
    def kept(self, live: LiveLog) -> Iterator[LiveLog]:
        live.fill(2)
        with live.app() as connection:
            connection.execute("begin")
            append(connection, uuid4(), 1)
            connection.execute("rollback")
        live.fill(18)
        live.settle()
        before = live.one("select count(*) from ledger.checkpoint")
        live.fill(2)
        yield live
        assert live.one("select count(*) from ledger.checkpoint") == before, "something was signed"

    def refuses(self, live: LiveLog, why: str, *, full_check: bool = False, **options: Any) -> None:
        with pytest.raises(SealError, match=why) as caught, live.sealer(**options) as sealer:
            sealer.run(full_check=full_check)
        assert "Nothing was signed" in caught.value.detail

    def test_r4_an_older_copy_of_the_database(self, live: LiveLog, make_database: Any) -> None:
        live.fill(20)
        live.seal()
        with psycopg.connect(live.database.cluster.admin_dsn, autocommit=True) as connection:
            name = f"{live.database.name}_backup"
            connection.execute(f"create database {name} template {live.database.name}".encode())
            try:
                live.fill(5)
                live.seal()
                restored = LiveLog(type(live.database)(live.database.cluster, name), live.folder)
                self.refuses(restored, "older than its own checkpoints")
                restored.fill(30)
                self.refuses(restored, "older than its own checkpoints")
                restored.seal(sinks=[])
                self.refuses(restored, "are not those that the newest checkpoint in .* signed: history was changed")
            finally:
                connection.execute(f"drop database {name} with (force)".encode())

    def test_r4_a_changed_event_is_named(self, kept: LiveLog) -> None:
        event = kept.events()[7]
        with kept.superuser() as connection:
            connection.execute("update ledger.event set payload = '{}' where position = %s", (event["position"],))
        self.refuses(kept, f"package {event['stream_id']} version {event['stream_version']} .* is not what was sealed")

    def test_r4_a_changed_event_with_every_hash_made_to_fit(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.event set payload = '{}' where position = %s", (seventh(kept),))
            rechain(connection)
        self.refuses(kept, "is not what was sealed as leaf")

    def test_r4_a_changed_event_with_the_whole_tree_made_to_fit(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.event set payload = '{}' where position = %s", (seventh(kept),))
            rechain(connection)
            regrow(connection)
        self.refuses(kept, "does not have the root that was signed")

    def test_r4_even_with_a_checkpoint_that_the_key_signed(self, kept: LiveLog) -> None:
        """Someone with the key and the database: what was kept outside still tells."""
        with kept.superuser() as connection:
            connection.execute("update ledger.event set payload = '{}' where position = %s", (seventh(kept),))
            rechain(connection)
            regrow(connection)
            size = kept.one("select max(size) from ledger.checkpoint")
            root = kept.one("select ledger.tree_root(%s)", (size,))
            connection.execute("update ledger.checkpoint set root = %s, note = %s", (root, SIGNER.sign(size, root)))
        self.refuses(kept, f"first {size} sealed events are not those that the newest checkpoint in")

    def test_r4_a_deleted_event(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("delete from ledger.event where position = %s", (seventh(kept),))
        self.refuses(kept, f"position {seventh(kept)}, which was sealed as leaf 6, is gone")

    @pytest.mark.parametrize("chunk", [4096, 4])
    def test_r4_an_event_put_in_by_force(self, kept: LiveLog, chunk: int) -> None:
        """Behind the sealer's back, into a position that was given back: it fits in every way, but nobody sealed it."""
        taken = {event["position"] for event in kept.events()}
        free = min(set(range(1, max(taken))) - taken)
        with kept.superuser() as connection:
            connection.execute("create temporary table made as select * from ledger.event order by position limit 1")
            connection.execute(
                "update made set position = %s, id = gen_random_uuid(), stream_id = gen_random_uuid(), "
                "stream_version = 1, previous_hash = decode(repeat('00', 32), 'hex')",
                (free,),
            )
            connection.execute("update made m set content_hash = ledger.content_hash(row(m.*)::ledger.event)")
            connection.execute("insert into ledger.event select * from made")
        self.refuses(kept, rf"position {free}\) was put into the log by force", chunk=chunk, full_check=True)
        report = kept.verify(kept.folder.parent / "x")
        assert report.unsealed == 3, "an export shows it as an event that nobody sealed"

    def test_r4_a_changed_leaf(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.tree_node set hash = sha256('x') where level = 0 and idx = 3")
        self.refuses(kept, "is not what was sealed as leaf 3")

    def test_r4_a_changed_inner_node(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.tree_node set hash = sha256('x') where level = 3 and idx = 0")
        self.refuses(kept, "Leaves 8 to 15 are not those that were signed", chunk=8, full_check=True)

    def test_r4_a_changed_subtree(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.tree_node set hash = sha256('x') where level = 4 and idx = 0")
        self.refuses(kept, "does not have the root that was signed")

    def test_r4_a_lost_node(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("delete from ledger.tree_node where level = 4 and idx = 0")
        self.refuses(kept, "was damaged: the stored tree has no node 0 at level 4")

    @pytest.mark.parametrize("column", ["root", "note"])
    def test_r4_a_changed_checkpoint(self, kept: LiveLog, column: str) -> None:
        size = kept.one("select max(size) from ledger.checkpoint")
        value = {"root": bytes(32), "note": SIGNER.sign(size - 1, bytes(32))}[column]
        with kept.superuser() as connection:
            connection.execute(f"update ledger.checkpoint set {column} = %s".encode(), (value,))
        self.refuses(kept, "nodes or checkpoints were changed")

    def test_r4_a_note_of_another_size(self, kept: LiveLog) -> None:
        size, root = kept.one("select size, root from ledger.checkpoint order by size desc limit 1")
        with kept.superuser() as connection:
            connection.execute("update ledger.checkpoint set note = %s", (SIGNER.sign(size + 1, root),))
        self.refuses(kept, "nodes or checkpoints were changed")

    def test_r4_a_note_that_is_none(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.checkpoint set note = 'x'")
        self.refuses(kept, "The last checkpoint in the database cannot be relied on")

    def test_r4_a_new_event_with_a_wrong_hash_is_not_sealed(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.event set payload = '{}' where position = %s", (highest(kept),))
        self.refuses(kept, "does not have the content hash it carries")

    def test_r4_a_new_event_that_continues_nothing_is_not_sealed(self, kept: LiveLog) -> None:
        with kept.superuser() as connection:
            connection.execute("update ledger.event set stream_version = 5 where position = %s", (highest(kept),))
            connection.execute(
                "update ledger.event e set content_hash = ledger.content_hash(e) where position = %s", (highest(kept),)
            )
        self.refuses(kept, "does not continue the version before it")

    def test_a_changed_key_says_what_to_do_and_goes_on_once_that_is_done(self, live: LiveLog) -> None:
        live.seal()
        live.fill(3)
        self.refuses(live, "name the old key in CHECKPOINT_PREVIOUS_KEYS", signer=ATTACKER)
        live.seal(signer=ATTACKER, previous_keys=[SIGNER.key])
        assert (live.folder / "vkey").read_text().split() == [str(ATTACKER.key), str(SIGNER.key)]
        assert live.verify(live.folder.parent / "x").ok

    def test_a_changed_origin(self, kept: LiveLog) -> None:
        signer = CheckpointSigner("pmis.test/other", bytes(32))
        self.refuses(kept, "is of the log 'pmis.test/log', this one is 'pmis.test/other'", signer=signer)

    def test_a_folder_of_another_log(self, live: LiveLog) -> None:
        live.folder.mkdir()
        (live.folder / "latest").write_text(CheckpointSigner("another/log", bytes(32)).sign(3, bytes(32)))
        self.refuses(live, "is of the log 'another/log'.* Set CHECKPOINT_ORIGIN")


class TestRechecks:
    def test_each_run_takes_the_next_stretch_and_a_full_check_takes_all(self, live: LiveLog) -> None:
        live.fill(30)
        with live.sealer(chunk=8) as sealer:
            total = sealer.run().size
            stretches = -(-total // 8)
            assert sum(sealer.run().rechecked for _ in range(stretches)) == total
            assert sealer.run(full_check=True).rechecked == total

    def test_a_change_anywhere_is_found_within_one_round(self, live: LiveLog) -> None:
        live.fill(30)
        with live.sealer(chunk=8) as sealer:
            stretches = -(-sealer.run().size // 8)
            with live.superuser() as connection:
                connection.execute(
                    "update ledger.event set actor_name = 'Someone' where position = %s", (seventh(live),)
                )
            with pytest.raises(LogAlteredError, match=f"position {seventh(live)}"):
                _ = [sealer.run() for _ in range(stretches)]
            with pytest.raises(LogAlteredError, match=f"position {seventh(live)}"):
                sealer.run(full_check=True)


class TestLoop:
    class Counted(module.Sealer):
        """A sealer that knows how much each of its runs has sealed."""

        runs: ClassVar[list[int]] = []

        def run(self, **options: Any) -> Any:
            sealed = super().run(**options)
            self.runs.append(sealed.events)
            return sealed

    def run_loop(self, live: LiveLog, connect: Any = None, **options: Any) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        options = {"interval_seconds": 3600, "threshold": 5, "poll_seconds": 0.02, **options}

        def make(connection: Any) -> module.Sealer:
            return self.Counted(connection, SIGNER, [FileSink(live.folder)])

        thread = threading.Thread(
            target=seal_loop,
            args=(connect or (lambda: psycopg.connect(live.database.sealer_dsn, autocommit=True)), make),
            kwargs={"stop": stop, **options},
        )
        thread.start()
        return thread, stop

    def wait(self, condition: Any) -> None:
        for _ in range(1000):
            if condition():
                return
            threading.Event().wait(0.01)
        pytest.fail("it did not happen within ten seconds")

    def test_it_seals_at_once_then_when_enough_waits(self, live: LiveLog, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="pmis.ledger.seal")
        base = len(live.events())
        thread, stop = self.run_loop(live)
        try:
            self.wait(lambda: len(sealed_positions(live)) == base)
            live.fill(4)
            threading.Event().wait(0.2)
            assert len(sealed_positions(live)) == base, "four of five wait for the interval"
            live.fill(1)
            self.wait(lambda: len(sealed_positions(live)) == base + 5)
        finally:
            stop.set()
            thread.join()
        assert f"sealed 5 events, {base + 5} in all" in caplog.text

    def test_it_seals_every_interval(self, live: LiveLog) -> None:
        base = len(live.events())
        thread, stop = self.run_loop(live, interval_seconds=0.05)
        try:
            self.wait(lambda: len(sealed_positions(live)) == base)
            live.fill(1)
            self.wait(lambda: len(sealed_positions(live)) == base + 1)
            # Intervals without new events change nothing.
            done = len(self.Counted.runs)
            self.wait(lambda: self.Counted.runs[done:].count(0) >= 3)
            assert live.one("select count(*) from ledger.checkpoint") == 2
        finally:
            stop.set()
            thread.join()

    def test_a_lost_database_and_a_refusal_are_reported_and_tried_again(
        self, live: LiveLog, caplog: pytest.LogCaptureFixture
    ) -> None:
        live.folder.write_text("in the way")
        calls: list[int] = []

        def connect() -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise psycopg.OperationalError("connection refused\nIs it running?")
            return psycopg.connect(live.database.sealer_dsn, autocommit=True)

        thread, stop = self.run_loop(live, connect, interval_seconds=0.05)
        try:
            self.wait(lambda: "checkpoint_sink: The folder of checkpoints" in caplog.text)
            live.folder.unlink()
            self.wait((live.folder / "latest").exists)
        finally:
            stop.set()
            thread.join()
        assert "the database did not answer the sealer: connection refused" in caplog.text
        assert "Is it running" not in caplog.text

    def test_it_ends_when_told_to_before_it_begins(self, live: LiveLog) -> None:
        stop = threading.Event()
        stop.set()
        seal_loop(
            lambda: pytest.fail("it connected"),
            lambda _: pytest.fail("it began"),
            interval_seconds=1,
            threshold=1,
            stop=stop,
        )


def test_the_environment_is_the_tests_own(live: LiveLog) -> None:
    """A guard for the tests above: they change history, and must not do so anywhere else."""
    assert live.database.name in live.database.admin_dsn
    assert live.one("show data_directory").startswith(os.environ["PMIS_TEST_ROOT"])
