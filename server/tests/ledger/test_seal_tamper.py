"""T10 in a real database: a superuser changes rows, the sealer refuses to go on, and an export gives it away.

The attacks are those of `test_tamper.py`, done in SQL with triggers off, each bare, with every hash of the log made to
fit again, and with the stored tree made to fit as well. The sealer and the verifier have to notice each by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmis.ledger.seal import LogAlteredError
from tests.ledger.database import LiveLog, rechain, regrow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from psycopg import Connection

Name = tuple[str, int]


def update(column: str, value: str) -> Callable[[Connection[Any], dict[str, Any]], None]:
    def change(connection: Connection[Any], event: dict[str, Any]) -> None:
        connection.execute(
            f"update ledger.event set {column} = {value} where position = %s".encode(), (event["position"],)
        )

    return change


def delete(connection: Connection[Any], event: dict[str, Any]) -> None:
    connection.execute("delete from ledger.event where position = %s", (event["position"],))


def swap(connection: Connection[Any], event: dict[str, Any]) -> None:
    """Exchange the payloads of an event and its predecessor."""
    connection.execute(
        "update ledger.event a set payload = b.payload from ledger.event b where a.stream_id = b.stream_id "
        "and a.stream_id = %s and (a.stream_version, b.stream_version) in ((%s, %s), (%s, %s))",
        (
            event["stream_id"],
            event["stream_version"],
            event["stream_version"] - 1,
            event["stream_version"] - 1,
            event["stream_version"],
        ),
    )


def move(connection: Connection[Any], event: dict[str, Any]) -> None:
    """Give the event the place of its neighbour, and the neighbour its."""
    connection.execute(
        "update ledger.tree_node set position = -position where level = 0 and position in (%s, %s)",
        (event["position"], event["position"] + 1),
    )
    connection.execute(
        "update ledger.tree_node set position = case when position = %(one)s then %(two)s else %(one)s end * -1 "
        "where level = 0 and position in (%(one)s, %(two)s)",
        {"one": -event["position"], "two": -event["position"] - 1},
    )


ATTACKS: dict[str, Callable[[Connection[Any], dict[str, Any]], None]] = {
    "edit": update("payload", '\'{"title":"theirs"}\''),
    "re-time": update("occurred_at", "occurred_at - interval '1 day'"),
    "re-actor": update("actor", "'person:somebody-else'"),
    "re-act-for": update("(on_behalf_of, on_behalf_of_name)", "('person:x', 'X')"),
    "delete": delete,
    "swap": swap,
    "move": move,
}
EFFORTS = ("bare", "hashes", "tree")


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_r4_a_superusers_change_stops_the_sealer_and_shows_in_the_export(
    attack: str, effort: str, live: LiveLog, tmp_path: Path
) -> None:
    live.fill(24, streams=4)
    live.seal(batch=10)
    assert live.verify(tmp_path / "before").ok
    event = next(event for event in live.events()[12:] if event["stream_version"] > 2)
    with live.superuser() as connection:
        ATTACKS[attack](connection, event)
        if effort != "bare":
            rechain(connection)
        if effort == "tree":
            regrow(connection)
    live.fill(3)
    with pytest.raises(LogAlteredError, match="Nothing was signed"), live.sealer(chunk=8) as sealer:
        sealer.run(full_check=True)
    report = live.verify(tmp_path / "after")
    assert not report.ok
    first = report.findings[0]
    involved = {event["stream_version"], event["stream_version"] - 1} if attack == "swap" else {event["stream_version"]}
    if attack == "move":
        assert first.leaf is not None
        leaf = next(number for number, known in enumerate(live.events()) if known["position"] == event["position"])
        assert first.leaf in (leaf, leaf + 1)
    else:
        assert first.stream_id == event["stream_id"], report.as_text()
        assert set(first.versions) & involved, report.as_text()


def test_r4_a_tail_cut_off_with_its_tree_and_checkpoints(live: LiveLog, tmp_path: Path) -> None:
    live.fill(24, streams=4)
    live.seal(batch=10)
    gone = live.events()[20]
    with live.superuser() as connection:
        connection.execute("delete from ledger.event where position >= %s", (gone["position"],))
        connection.execute("delete from ledger.tree_node")
        connection.execute(
            "insert into ledger.tree_node select 0, row_number() over (order by position) - 1, "
            "sha256('\\x00'::bytea || content_hash), position from ledger.event order by position"
        )
        regrow(connection)
        connection.execute("delete from ledger.checkpoint where size > 20")
    with pytest.raises(LogAlteredError, match="older than its own checkpoints"):
        live.seal()
    first = live.verify(tmp_path / "after").findings[0]
    assert (first.kind, first.stream_id) == ("truncated", gone["stream_id"])
    assert first.versions == (gone["stream_version"],)


def test_r4_an_honest_log_goes_on_and_verifies_after_all_this(live: LiveLog, tmp_path: Path) -> None:
    """The twin of the refusals above: the same steps without the attack."""
    live.fill(24, streams=4)
    live.seal(batch=10)
    live.fill(3)
    with live.sealer(chunk=8) as sealer:
        assert sealer.run(full_check=True).events == 3
    assert live.verify(tmp_path / "after").ok
