"""The database: one pool of psycopg connections, and two kinds of session on it.

A `ReadSession` runs each statement on its own. A `WriteSession` is one transaction at READ COMMITTED: nothing below the
edge commits it, and leaving it without `commit()` takes everything back. Either is opened for a `Reach`: the projects
whose rows PostgreSQL lets it reach. That travels in the message that a statement or a transaction begins with, and
ends with it, so that no connection keeps another caller's. Conflicts that PostgreSQL reports (a lock
not given in time, a deadlock, a full disk, a lost server) become problems with a stable code.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, LiteralString, Self, TypeAlias, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pmis.kit.errors import BusyError, ConflictError, UnavailableError
from pmis.kit.wire import Result, Row, Statement, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
    from uuid import UUID

    from pmis.kit.settings import Settings
    from pmis.kit.wire import Params

T = TypeVar("T")
Deferred: TypeAlias = "tuple[str, Sequence[Any]]"

_BEGIN: Final[Statement] = ("begin", None)
_SNAPSHOT: Final[Statement] = ("begin isolation level repeatable read", None)
_ROLLBACK: Final[Statement] = ("rollback", None)
_OPEN: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_MOVED = "PM001"
_VERSIONS = "event_stream_id_stream_version_key"
"""What the second of two meets that append the same version of a stream."""
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_DOWN = (
    errors.DiskFull,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,
    errors.QueryCanceled,
    errors.InvalidSqlStatementName,
)


_MOST_JOINED: Final = 8
"""What one change defers. Of longer rows hardly two are alike, and each would be prepared for itself."""
_CALL: Final = re.compile(r"select [\w.]+\([%s, ]*\)")
_REACHING: Final = "select set_config('pmis.reach', %s, true)"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which projects' rows a session may reach, as the policies of the tables read it (`pmis.reach`).

    Without one they refuse every statement. `text` is an array of ids, or `*`.
    """

    text: str

    INSTANCE: ClassVar[Reach]
    """Every project: for whoever looks after the instance, and for what comes before it is known who asks."""

    @staticmethod
    def of(projects: frozenset[UUID]) -> Reach:
        """These projects, and what belongs to the instance itself."""
        return _reach_of(projects)

    @property
    def statement(self) -> Statement:
        """The call that puts it in place until the transaction ends."""
        return _REACHING, (self.text,)


Reach.INSTANCE = Reach("*")


@lru_cache(maxsize=1000)
def _reach_of(projects: frozenset[UUID]) -> Reach:
    return Reach("{" + ",".join(sorted(str(project) for project in projects)) + "}")


def _joined(deferred: Sequence[Deferred]) -> list[Deferred]:
    """The same statements in the same order, with calls of functions that follow each other in one."""
    values = iter(values for _, values in deferred)
    return [
        (text, [value for some in islice(values, count) for value in some])
        for text, count in _texts_joined(tuple(text for text, _ in deferred))
    ]


@lru_cache(maxsize=500)
def _texts_joined(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """Each text to send, and how many of the given ones it stands for."""
    found: list[tuple[str, int]] = []
    for are_calls, group in groupby(texts, lambda text: _CALL.fullmatch(text) is not None):
        if are_calls:
            calls = [text.removeprefix("select ") for text in group]
            found.append(("select " + ", ".join(calls), len(calls)))
        else:
            found += [(text, 1) for text in group]
    return found


def translate(error: psycopg.Error | PoolTimeout) -> Exception:
    """The problem to show for a database error, or the error itself when it is a fault of ours."""
    is_twice = isinstance(error, errors.UniqueViolation)
    if error.sqlstate == _MOVED or (is_twice and error.diag.constraint_name == _VERSIONS):
        return BusyError("Somebody else changed the same record at the same moment. Try again.")
    if is_twice:
        return ConflictError("Another record already has this value.", constraint=error.diag.constraint_name)
    if isinstance(error, _BUSY):
        return BusyError("Somebody else is changing the same record. Try again in a moment.")
    if isinstance(error, (PoolTimeout, *_DOWN)) or (isinstance(error, psycopg.OperationalError) and not error.sqlstate):
        return UnavailableError("The database is not available right now. Nothing was changed; try again shortly.")
    return error


class Connection(AsyncConnection[Row]):
    """A connection that remembers what is prepared on it."""

    @cached_property
    def wire(self) -> Wire:
        """How sessions ask on it."""
        return Wire(self)


class Session:
    """Statements on one connection. Rows come back as tuples, in the order of the select list."""

    def __init__(self, connection: Connection) -> None:
        """Wrap a connection that the caller keeps open."""
        self.connection = connection

    async def _run(self, statement: str, params: Params = None) -> Result:
        return (await self.connection.wire.ask((statement, params)))[0]

    async def execute(self, statement: str, params: Params = None) -> int:
        """Run a statement and say how many rows it touched."""
        return (await self._run(statement, params)).touched

    async def one(self, statement: str, params: Params = None) -> Row | None:
        """The first row, or None."""
        rows = (await self._run(statement, params)).rows
        return rows[0] if rows else None

    async def all(self, statement: str, params: Params = None) -> list[Row]:
        """Every row."""
        return (await self._run(statement, params)).rows

    async def stream(self, statement: str, params: Params = None, *, batch: int = 1000) -> AsyncIterator[Row]:
        """The rows one by one, through a server-side cursor that holds `batch` of them in memory."""
        async with self.connection.cursor(name="stream") as cursor:
            cursor.itersize = batch
            await cursor.execute(cast("LiteralString", statement), params)
            async for row in cursor:
                yield row


class ReadSession(Session):
    """Reads only: each statement sees the newest committed state, within the reach that it brings with it."""

    def __init__(self, connection: Connection, reach: Reach) -> None:
        """Wrap a connection that the caller keeps open."""
        super().__init__(connection)
        self._reach = reach.statement

    async def _run(self, statement: str, params: Params = None) -> Result:
        return (await self.connection.wire.ask(self._reach, (statement, params), calls=1))[1]


class WriteSession(Session):
    """One transaction. `now` is its time, chosen by the database and equal to every event's `occurred_at`.

    Statements whose result nobody needs are deferred, and travel in one message with each other and with the commit: a
    round trip costs more than most of them do. What they raise is raised before `commit()` returns. They are calls of
    functions, whose own statements PostgreSQL plans only once, and which know the types of their values. Where there
    are a few, those that follow each other make one statement: one kind of change always makes the same few.
    """

    now: datetime
    first: Any
    """What the statement answered that the transaction was begun with."""

    def __init__(self, connection: Connection, reach: Reach) -> None:
        """Wrap a connection; `begin()` opens the transaction."""
        super().__init__(connection)
        self._reach = reach
        self._deferred: list[Deferred] = []
        self._ahead: list[tuple[Statement, list[Row]]] = []

    async def begin(self, first: Statement | None = None, ahead: Sequence[Statement] = ()) -> None:
        """Open the transaction, call a first function, and ask what is to be read ahead, all in one round trip.

        What was read ahead is answered once, to an `all()` that asks for the very same before anything is changed.
        """
        call, values = first or ("null", ())
        begin = f"select set_config('pmis.reach', %s, true), transaction_timestamp(), {call}"
        opened = [_BEGIN, (begin, (self._reach.text, *(values or ()))), *ahead]
        _, begun, *read = await self.connection.wire.ask(*opened, calls=len(opened))
        _, now, self.first = begun.rows[0]
        self.now = now.astimezone(UTC)
        self._ahead = [(asked, result.rows) for asked, result in zip(ahead, read, strict=True)]

    async def all(self, statement: str, params: Params = None) -> list[Row]:
        """Every row."""
        if self._ahead and not self._deferred:
            for place, (asked, rows) in enumerate(self._ahead):
                if asked == (statement, params):
                    del self._ahead[place]
                    return rows
        return await super().all(statement, params)

    async def execute(self, statement: str, params: Params = None) -> int:
        """Run a statement and say how many rows it touched."""
        self._ahead.clear()
        return await super().execute(statement, params)

    @contextmanager
    def reaching(self, reach: Reach) -> Generator[None]:
        """Reach other projects for a while: for what a change brings about where its author does not see."""
        before, self._reach = self._reach, reach
        self.defer(_REACHING, (reach.text,))
        try:
            yield
        finally:
            self._reach = before
            self.defer(_REACHING, (before.text,))

    def defer(self, statement: str, params: Sequence[Any] = ()) -> None:
        """Run a statement, in this order, before whatever runs next."""
        self._deferred.append((statement, params))

    async def _run(self, statement: str, params: Params = None) -> Result:
        deferred, self._deferred = self._deferred, []
        if deferred:
            self._ahead.clear()
        if 1 < len(deferred) <= _MOST_JOINED:
            deferred = _joined(deferred)
        return (await self.connection.wire.ask(*deferred, (statement, params), calls=len(deferred)))[-1]

    async def commit(self) -> None:
        """Make everything durable; a session is used for one commit."""
        await self._run("commit")

    async def restart(self) -> None:
        """Take everything back and begin again, so that a refusal can be recorded."""
        self._deferred.clear()
        self._ahead.clear()
        await self.connection.wire.ask(_ROLLBACK)
        await self.begin()


class Database:
    """A pool of connections to one database, all under the role that may only append and project."""

    def __init__(
        self, dsn: str, *, size: int = 10, role: str | None = None, lock_timeout_ms: int = 3000, wait_ms: int = 5000
    ) -> None:
        """Describe the pool; `open()` connects.

        `role` is set on each connection, for installs that have a single login which also owns the tables. Whoever
        waits longer than `wait_ms` for a connection is refused with `UnavailableError`.
        """
        self._role = role
        self._options = (
            f"-c lock_timeout={lock_timeout_ms} -c idle_in_transaction_session_timeout=15000 -c timezone=UTC "
            "-c plan_cache_mode=force_generic_plan -c random_page_cost=1.1 "
            "-c search_path=state,ledger,identity -c jit=off"
        )
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            connection_class=Connection,
            min_size=min(2, size),
            max_size=size,
            open=False,
            timeout=wait_ms / 1000,
            kwargs={"autocommit": True, "options": self._options, "prepare_threshold": None},
            configure=self._configure,
        )

    @classmethod
    def of(cls, settings: Settings, dsn: str, *, size: int, role: str) -> Self:
        """A pool with the patience that the settings ask for."""
        patience = {"lock_timeout_ms": settings.lock_timeout_ms, "wait_ms": settings.db_wait_ms}
        return cls(dsn, size=size, role=role, **patience)

    async def _configure(self, connection: Connection) -> None:
        if self._role:
            await connection.execute(sql.SQL("set role {}").format(sql.Identifier(self._role)))

    async def open(self) -> None:
        """Connect; returns at once when the server is down, so that health can say so."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    @asynccontextmanager
    async def read(self, reach: Reach) -> AsyncGenerator[ReadSession]:
        """A session for reads within the reach."""
        try:
            connection = await self.pool.getconn()
            try:
                yield ReadSession(connection, reach)
            finally:
                await self.pool.putconn(connection)
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error

    @asynccontextmanager
    async def snapshot(self, reach: Reach) -> AsyncGenerator[Session]:
        """A session whose statements all see one moment (REPEATABLE READ); what it writes to scratch is taken back."""
        try:
            async with self.pool.connection() as connection:
                try:
                    await connection.wire.ask(_SNAPSHOT, reach.statement, calls=2)
                    yield Session(connection)
                finally:
                    await connection.execute("rollback")
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error

    @asynccontextmanager
    async def write(
        self, reach: Reach, first: Statement | None = None, ahead: Sequence[Statement] = ()
    ) -> AsyncGenerator[WriteSession]:
        """One transaction within the reach; what was not committed when the block ends is taken back.

        See `WriteSession.begin()`.
        """
        try:
            connection = await self.pool.getconn()
            try:
                session = WriteSession(connection, reach)
                await session.begin(first, ahead)
                yield session
            finally:
                try:
                    if connection.pgconn.transaction_status in _OPEN:
                        await connection.wire.ask(_ROLLBACK)
                finally:
                    await self.pool.putconn(connection)
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error) from error


def in_transaction(dsn: str, work: Callable[[WriteSession], Awaitable[T]]) -> T:
    """Do a command's work, on the whole instance, in one transaction of the application's role, and commit it."""

    async def run() -> T:
        database = Database(dsn, size=1, role="pmis_app")
        await database.open()
        try:
            async with database.write(Reach.INSTANCE) as session:
                done = await work(session)
                await session.commit()
                return done
        finally:
            await database.close()

    return asyncio.run(run())
