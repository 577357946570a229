"""Where the graph notes how far a turn is: scratch in a schema of its own, thrown away when the turn has ended.

What was proposed and decided stands in the log; losing every checkpoint loses no effect and repeats none.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

SCHEMA: Final = "agent"
_OPTIONS: Final = f"-c search_path={SCHEMA} -c timezone=UTC -c lock_timeout=3000"
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
        # The state is plain JSON: nothing in a checkpoint names a class that reading it would make.
        yield AsyncPostgresSaver(pool, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    finally:
        await pool.close()


async def forget(saver: AsyncPostgresSaver, turns: list[str]) -> None:
    """Throw away what is noted of these turns."""
    for turn in turns:
        await saver.adelete_thread(turn)
