"""The PostgreSQL of one run: PMIS's own embedded one, in a folder that is thrown away afterwards.

Every contestant gets its databases in this one cluster, so that version, settings and disk are the same for all. Its
settings are those that `pmis up` gives it, durability included; there may be more connections, as several programs
share it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from pmis.ops import postgres as pg

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LOG_PREFIX: Final = "pmisbench|"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running PostgreSQL and its log."""

    server: pg.EmbeddedPostgres
    log: Path
    pid: int

    def url(self, database: str, login: str = pg.ADMIN) -> str:
        """How a login reaches a database."""
        return self.server.url(login, database)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's connection that commits each statement."""
        return psycopg.connect(self.url(database), autocommit=True)

    def create(self, database: str) -> None:
        """Create an empty database, as PMIS would create its own."""
        with self.connect() as connection:
            pg.create_database(connection, database)

    def settle(self) -> None:
        """Write everything to disk now, so that no contestant pays for what another one wrote."""
        with self.connect() as connection:
            connection.execute("checkpoint")

    def set(self, name: str, value: str | None) -> None:
        """Change a setting for everybody, or take it back, from the next statement of each session on."""
        with self.connect() as connection:
            if value is None:
                connection.execute(sql.SQL("alter system reset {}").format(sql.Identifier(name)))
            else:
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            connection.execute("select pg_reload_conf()")


@contextmanager
def start(folder: Path) -> Generator[Cluster]:
    """Create and run a cluster in an empty folder, and stop it at the end."""
    extra = {"max_connections": "200", "log_line_prefix": f"{LOG_PREFIX}%d|%p|"}
    with pg.temporary(folder, extra) as (server, pid, log):
        yield Cluster(server, log, pid)
