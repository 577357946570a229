"""A job system of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pmis.ops import postgres as pg
from pmis.ops.process import current_user
from pmis.ops.valkey import EmbeddedValkey
from tests.jobs.deeds import TABLES
from tests.jobs.plant import Plant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import TestDatabase


@pytest.fixture
def plant(make_database: Callable[[str], TestDatabase], tmp_path: Path) -> Iterator[Plant]:
    """A database without jobs, and a broker; processes are started by the test."""
    database = make_database("jobs")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    urls = {
        "DATABASE_URL": database.app_dsn,
        "DATABASE_OWNER_URL": database.owner_dsn,
        "DATABASE_WORKER_URL": database.worker_dsn,
        "DATABASE_RELAY_URL": database.relay_dsn,
    }
    user = current_user()
    sockets = pg.socket_folder(tmp_path / "s", user, "valkey.sock")
    valkey = EmbeddedValkey(folder=tmp_path / "valkey", sockets=sockets, password="of-no-worth", user=user)
    made = Plant(tmp_path, urls, database, valkey)
    try:
        made.start_broker()
        yield made
    finally:
        made.stop_all()
