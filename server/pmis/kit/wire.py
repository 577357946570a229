"""Statements on one connection: prepared once, and several of them in one message.

The driver's cursors do the same and more, and cost several times the processor time: there statements share a message
only as one text with the values written into it, which PostgreSQL parses and plans each time. Here libpq is driven
through what the driver publishes of it (`psycopg.pq`). The driver still adapts the values and loads the rows, so that
they are what its cursors give, and an error is the driver's error for it. COPY and streams go through its cursors.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from psycopg import OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import AsyncConnection, Error
    from psycopg.abc import Buffer
    from psycopg.pq import Format
    from psycopg.pq.abc import PGresult

Row: TypeAlias = tuple[Any, ...]
Params: TypeAlias = "Sequence[Any] | Mapping[str, Any] | None"
Statement: TypeAlias = "tuple[str, Params]"
_Key: TypeAlias = tuple[bytes, tuple[int, ...]]
"""A statement, and the types of its values: with others it is another one."""

_PLACEHOLDER: Final = re.compile(r"%(?:(%)|s|\((\w+)\)s|(.?))", re.DOTALL)
_MOST_PREPARED: Final = 200
"""Statements that a connection keeps prepared: what is asked often is asked early, and rare filters come later."""
_MOST_SEEN: Final = 2000
_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


@lru_cache(maxsize=2000)
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with PostgreSQL's placeholders, and the names of its values in their order, if they have names."""
    names: list[str] = []
    count = 0

    def number(found: re.Match[str]) -> str:
        nonlocal count
        escaped, name, wrong = found.groups()
        if escaped:
            return "%"
        if wrong is not None:
            message = f"{found[0]!r} is not a placeholder; a percent sign is written as %%"
            raise ValueError(message)
        if name is None:
            count += 1
            return f"${count}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PLACEHOLDER.sub(number, statement).encode(), tuple(names)


@lru_cache(maxsize=256)
def _formats(form: PyFormat, count: int) -> list[PyFormat]:
    return [form] * count


class Result(NamedTuple):
    """What a statement gave: its rows, and how many rows it touched."""

    rows: list[Row]
    touched: int


class _Sent(NamedTuple):
    """A statement as PostgreSQL takes it."""

    text: bytes
    values: Sequence[Buffer | None] | None
    types: tuple[int, ...]
    formats: Sequence[Format] | None


class Wire:
    """Asks on one connection, one caller at a time. A connection on which an exchange broke off is closed."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        """Nothing is prepared yet."""
        self._pgconn = connection.pgconn
        self._adapt = Transformer(connection)
        self._names: dict[_Key, bytes] = {}
        self._seen: set[_Key] = set()
        self._made = 0

    async def ask(self, *statements: Statement, calls: int = 0) -> list[Result]:
        """Run the statements in their order, in one message; raises the first error, after which none of them runs.

        Errors, and values that cannot be adapted, leave a connection that can be used. The first `calls` statements are
        calls of functions, which know the types of their values: stated by the value, an absent date and a present one
        would make two statements to be prepared.
        """
        sent = [self._adapted(text, params, call=place < calls) for place, (text, params) in enumerate(statements)]
        preparing: list[_Key | None] = []
        pgconn = self._pgconn
        try:
            pgconn.enter_pipeline_mode()
            for one in sent:
                self._send(one, preparing)
            pgconn.pipeline_sync()
            found = await self._received()
            pgconn.exit_pipeline_mode()
        except BaseException:
            # Half of an answer may still be under way. The server takes back what was not committed.
            pgconn.finish()
            raise
        answers: list[Result] = []
        error: Error | None = None
        for result, key in zip(found, preparing, strict=True):
            if result.status in _DONE:
                if key is None:
                    answers.append(self._loaded(result))
                continue
            error = error or error_from_result(result)
            if key is not None:
                self._names.pop(key, None)
        if error is None:
            return answers
        if isinstance(error, InvalidSqlStatementName):
            # A pooler gave us another server, or somebody said `discard all`.
            self._names.clear()
        raise error

    def _adapted(self, statement: str, params: Params, *, call: bool) -> _Sent:
        if params is None:
            return _Sent(statement.encode(), None, (), None)
        text, names = _numbered(statement)
        values: Any = [params[name] for name in names] if names else params  # pyright: ignore[reportCallIssue, reportArgumentType]
        if call:
            return _Sent(text, self._adapt.dump_sequence(values, _formats(PyFormat.TEXT, len(values))), (), None)
        dumped = self._adapt.dump_sequence(values, _formats(PyFormat.AUTO, len(values)))
        return _Sent(text, dumped, self._adapt.types or (), self._adapt.formats)

    def _send(self, one: _Sent, preparing: list[_Key | None]) -> None:
        """Send a statement, prepared from its second time on; adds, for each result to come, what it prepares."""
        pgconn, key = self._pgconn, (one.text, one.types)
        name = self._names.get(key)
        if name is None:
            if key not in self._seen or len(self._names) >= _MOST_PREPARED:
                if len(self._seen) >= _MOST_SEEN:
                    self._seen.clear()
                self._seen.add(key)
                pgconn.send_query_params(one.text, one.values, one.types or None, one.formats)
                preparing.append(None)
                return
            self._made += 1
            name = self._names[key] = b"pmis_%d" % self._made
            pgconn.send_prepare(name, one.text, one.types or None)
            preparing.append(key)
        pgconn.send_query_prepared(name, one.values, one.formats)
        preparing.append(None)

    async def _received(self) -> list[PGresult]:
        """Every result up to the end of the message."""
        pgconn = self._pgconn
        while pgconn.flush():
            # The server may not take more before somebody takes its answers.
            await self._ready(or_writable=True)
            pgconn.consume_input()
        found: list[PGresult] = []
        while True:
            while pgconn.is_busy():
                await self._ready()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                # The end of one statement's results, unless there is nobody left to give any.
                if pgconn.status == ConnStatus.BAD:
                    if found and found[-1].status == ExecStatus.FATAL_ERROR:
                        raise error_from_result(found[-1])
                    raise OperationalError("the connection was lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return found
            else:
                found.append(result)

    async def _ready(self, *, or_writable: bool = False) -> None:
        """Wait until the server has said something, or takes more."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        socket = self._pgconn.socket
        loop.add_reader(socket, _wake, ready)
        if or_writable:
            loop.add_writer(socket, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if or_writable:
                loop.remove_writer(socket)

    def _loaded(self, result: PGresult) -> Result:
        rows: list[Row] = []
        if result.status == ExecStatus.TUPLES_OK:
            self._adapt.set_pgresult(result)
            rows = self._adapt.load_rows(0, result.ntuples, tuple)
        return Result(rows, result.command_tuples or 0)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
