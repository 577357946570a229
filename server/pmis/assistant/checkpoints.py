"""Where the graph notes how far a turn is: scratch in a schema of its own, thrown away when the turn has ended.

What was proposed and decided stands in the log; losing every checkpoint loses no effect and repeats none.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.checkpoint.serde.base import SerializerProtocol

SCHEMA: Final = "agent"
_JSON: Final = "pmis-json"
# A checkpoint that a crash of PostgreSQL loses is made again, and the keys of the turn find what was done: nobody waits
# for the disk.
_OPTIONS: Final = f"-c search_path={SCHEMA} -c timezone=UTC -c lock_timeout=3000 -c synchronous_commit=off"
_SIZE: Final = 4


def set_up(dsn: str) -> None:
    """Make or renew the library's tables, as the owner; for `pmis migrate`, while nobody else migrates.

    The library builds its indexes concurrently, which no transaction may do, so this is no step of Alembic's.
    """
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415 - loads slowly

    with psycopg.Connection[dict[str, Any]].connect(
        dsn, autocommit=True, prepare_threshold=None, row_factory=dict_row, options=_OPTIONS
    ) as connection:
        PostgresSaver(connection).setup()


class JsonFirst:
    """Keeps JSON as JSON, which holds numbers of any size; the library's own values as the library does."""

    def __init__(self, other: SerializerProtocol) -> None:
        """`other` keeps what is not JSON."""
        self._other = other

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:  # noqa: ANN401 - anything that a state may hold
        """The value's kind, and its bytes."""
        if isinstance(obj, dict | list) and _is_json(obj):
            return _JSON, json.dumps(obj).encode()
        return self._other.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:  # noqa: ANN401 - the same
        """The value in what `dumps_typed` gave."""
        return json.loads(data[1]) if data[0] == _JSON else self._other.loads_typed(data)


def _is_json(value: Any) -> bool:  # noqa: ANN401 - that is the question
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        return all(isinstance(name, str) and _is_json(one) for name, one in found.items())
    if isinstance(value, list):
        return all(_is_json(one) for one in cast("list[Any]", value))
    return value is None or type(value) in (str, int, bool)


@asynccontextmanager
async def saver_on(dsn: str) -> AsyncGenerator[AsyncPostgresSaver]:
    """The checkpoints under the application's role, on a few connections of their own."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415 - loads slowly
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer  # noqa: PLC0415
    from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute("set role pmis_app")

    pool: AsyncConnectionPool[psycopg.AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(
        dsn,
        min_size=0,
        max_size=_SIZE,
        open=False,
        timeout=5,
        configure=configure,
        kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0, "options": _OPTIONS},
    )
    await pool.open(wait=False)
    try:
        # What is not JSON is the library's own: nothing in a checkpoint names a class of ours, or anybody else's.
        yield AsyncPostgresSaver(pool, serde=JsonFirst(JsonPlusSerializer(allowed_msgpack_modules=None)))
    finally:
        await pool.close()


async def forget(saver: AsyncPostgresSaver, turns: list[str]) -> None:
    """Throw away what is noted of these turns."""
    for turn in turns:
        await saver.adelete_thread(turn)
