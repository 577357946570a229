"""The database: one pool of psycopg connections, and two kinds of session on it.

A `ReadSession` runs each statement on its own. A `WriteSession` is one transaction at READ COMMITTED: nothing below the
edge commits it, and leaving it without `commit()` takes everything back. Conflicts that PostgreSQL reports (a lock
not given in time, a deadlock, a full disk, a lost server) become problems with a stable code.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, AsyncCursor, errors, sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pmis.kit.errors import BusyError, ConflictError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    Params = Sequence[Any] | Mapping[str, Any] | None
    Row = tuple[Any, ...]

_MOVED = "PM001"
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_DOWN = (
    errors.DiskFull,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,
    errors.QueryCanceled,
)


def translate(error: psycopg.Error | PoolTimeout) -> Exception:
    """The problem to show for a database error, or the error itself when it is a fault of ours."""
    if error.sqlstate == _MOVED:
        return BusyError("Somebody else changed the same record at the same moment. Try again.")
    if isinstance(error, errors.UniqueViolation):
        return ConflictError("Another record already has this value.", constraint=error.diag.constraint_name)
    if isinstance(error, _BUSY):
        return BusyError("Somebody else is changing the same record. Try again in a moment.")
    if isinstance(error, (PoolTimeout, *_DOWN)) or (isinstance(error, psycopg.OperationalError) and not error.sqlstate):
        return UnavailableError("The database is not available right now. Nothing was changed; try again shortly.")
    return error


class Session:
    """Statements on one connection. Rows come back as tuples, in the order of the select list."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        """Wrap a connection that the caller keeps open."""
        self.connection = connection
        # One cursor for one statement after the other: making one costs a third of what a small statement does.
        self._cursor = connection.cursor()

    async def _run(self, statement: str, params: Params = None) -> AsyncCursor[Row]:
        return await self._cursor.execute(cast("LiteralString", statement), params)

    async def execute(self, statement: str, params: Params = None) -> int:
        """Run a statement and say how many rows it touched."""
        return (await self._run(statement, params)).rowcount

    async def one(self, statement: str, params: Params = None) -> Row | None:
        """The first row, or None."""
        return await (await self._run(statement, params)).fetchone()

    async def all(self, statement: str, params: Params = None) -> list[Row]:
        """Every row."""
        return await (await self._run(statement, params)).fetchall()

    async def stream(self, statement: str, params: Params = None, *, batch: int = 1000) -> AsyncIterator[Row]:
        """The rows one by one, through a server-side cursor that holds `batch` of them in memory."""
        async with self.connection.cursor(name="stream") as cursor:
            cursor.itersize = batch
            await cursor.execute(cast("LiteralString", statement), params)
            async for row in cursor:
                yield row


class ReadSession(Session):
    """Reads only: each statement sees the newest committed state."""


@lru_cache(maxsize=4096)
def _combined(statements: tuple[str, ...]) -> str:
    """One statement that does what these do. Each works on a table of its own, so their order does not matter."""
    if len(statements) == 1:
        return statements[0]
    parts = ", ".join(f"w{i} as ({text})" for i, text in enumerate(statements))
    # A plain SELECT in a WITH runs only when somebody looks at it; INSERT and UPDATE always do.
    reads = [f"(select count(*) from w{i})" for i, text in enumerate(statements) if text.startswith("select ")]
    return f"with {parts} select {', '.join(reads) or '1'}"


class WriteSession(Session):
    """One transaction. `now` is its time, chosen by the database and equal to every event's `occurred_at`.

    Statements whose result nobody needs are deferred until the next one that is waited for, or the commit, and put
    together into as few as there can be. What they raise is raised there, always before `commit()` returns.
    """

    now: datetime
    first_rows: int
    """How many rows the statement that the transaction was begun with returned."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        """Wrap a connection; `begin()` opens the transaction."""
        super().__init__(connection)
        self._deferred: list[tuple[str, str, Sequence[Any]]] = []

    async def begin(self, first: tuple[str, Params] | None = None) -> None:
        """Open the transaction, and run its first statement (one with RETURNING) in the same round trip."""
        text, values = first or ("select 1", None)
        # Two statements in one message: parameters are put in by the client, as the simple protocol has none.
        cursor = AsyncClientCursor(self.connection)
        began = f"begin; with first as ({text}) select transaction_timestamp(), (select count(*) from first)"
        await cursor.execute(cast("LiteralString", began), values)
        cursor.nextset()
        now, self.first_rows = cast("tuple[datetime, int]", await cursor.fetchone())
        self.now = now.astimezone(UTC)

    def defer(self, table: str, statement: str, params: Sequence[Any] = ()) -> None:
        """Run a statement that changes one table (or appends to the log) before whatever runs next."""
        self._deferred.append((table, statement, params))

    def _groups(self) -> list[tuple[str, Sequence[Any]]]:
        """What was deferred, in order, put together as long as no table comes twice."""
        deferred, self._deferred = self._deferred, []
        groups: list[tuple[str, Sequence[Any]]] = []
        tables: set[str] = set()
        texts: list[str] = []
        values: list[Any] = []
        for table, text, params in deferred:
            if table in tables:
                groups.append((_combined(tuple(texts)), values))
                tables, texts, values = set(), [], []
            tables.add(table)
            texts.append(text)
            values = [*values, *params]
        if texts:
            groups.append((_combined(tuple(texts)), values))
        return groups

    async def _run(self, statement: str, params: Params = None) -> AsyncCursor[Row]:
        # No pipeline: on a local connection it costs more processor time than the round trips that it saves.
        for earlier, values in self._groups() if self._deferred else ():
            await super()._run(earlier, values)
        return await super()._run(statement, params)

    async def commit(self) -> None:
        """Make everything durable; a session is used for one commit."""
        await self._run("commit")

    async def restart(self) -> None:
        """Take everything back and begin again, so that a refusal can be recorded."""
        self._deferred.clear()
        await self.connection.execute("rollback")
        await self.begin()


class Database:
    """A pool of connections to one database, all under the role that may only append and project."""

    def __init__(self, dsn: str, *, size: int = 10, role: str | None = None, lock_timeout_ms: int = 3000) -> None:
        """Describe the pool; `open()` connects.

        `role` is set on each connection, for installs that have a single login which also owns the tables.
        """
        self._role = role
        self._options = (
            f"-c lock_timeout={lock_timeout_ms} -c idle_in_transaction_session_timeout=15000 -c timezone=UTC "
            "-c plan_cache_mode=force_generic_plan -c random_page_cost=1.1 "
            "-c search_path=state,ledger,identity -c jit=off"
        )
        self.pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            min_size=min(2, size),
            max_size=size,
            open=False,
            timeout=5,
            kwargs={"autocommit": True, "options": self._options, "prepare_threshold": 1},
            configure=self._configure,
        )

    async def _configure(self, connection: AsyncConnection[Row]) -> None:
        if self._role:
            await connection.execute(sql.SQL("set role {}").format(sql.Identifier(self._role)))

    async def open(self) -> None:
        """Connect; returns at once when the server is down, so that health can say so."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadSession]:
        """A session for reads."""
        try:
            async with self.pool.connection() as connection:
                yield ReadSession(connection)
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[ReadSession]:
        """A session whose statements all see one moment (REPEATABLE READ); what it writes to scratch is taken back."""
        try:
            async with self.pool.connection() as connection:
                await connection.execute("begin isolation level repeatable read")
                try:
                    yield ReadSession(connection)
                finally:
                    await connection.execute("rollback")
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error

    @asynccontextmanager
    async def write(self, first: tuple[str, Params] | None = None) -> AsyncGenerator[WriteSession]:
        """One transaction, begun with a first statement; what was not committed when the block ends is taken back."""
        try:
            async with self.pool.connection() as connection:
                try:
                    session = WriteSession(connection)
                    await session.begin(first)
                    yield session
                finally:
                    if (
                        connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
                        and not connection.closed
                    ):
                        await connection.execute("rollback")
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error
