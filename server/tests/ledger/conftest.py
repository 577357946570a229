"""Logs in a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger.database import LiveLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import TestDatabase


@pytest.fixture(scope="session")
def ledger_database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    """A database whose log may be rewritten by force, which no shared one survives."""
    database = make_database("ledger")
    with LiveLog.connect_as_superuser(database) as connection:
        connection.execute("create table public.first_event as select * from ledger.event")
    return database


@pytest.fixture
def live(ledger_database: TestDatabase, tmp_path: Path) -> LiveLog:
    """A log as a migration leaves it, never sealed, and a folder for its checkpoints."""
    with LiveLog.connect_as_superuser(ledger_database) as connection:
        connection.execute("truncate ledger.event, ledger.tree_node, ledger.checkpoint cascade")
        connection.execute("insert into ledger.event select * from public.first_event")
        connection.execute("select setval('ledger.event_position', (select max(position) from ledger.event))")
    return LiveLog(ledger_database, tmp_path / "kept")
