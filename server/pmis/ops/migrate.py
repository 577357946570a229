"""Bringing the database's schema to what this version needs: once, by the owner, while nobody else does."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pmis.kit.db import Reach
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from psycopg import Connection

    from pmis.kit.settings import Settings

LOCK_TIMEOUT_MS: Final = 5000
_LOCK: Final = 0x504D4953  # "PMIS"
_LOOK_SECONDS: Final = 0.1
_REVISION: Final = re.compile(
    r'^(?P<name>revision|down_revision)(?:\s*:[^=]+)?\s*=\s*(?:"(?P<value>[^"]+)"|None)\s*$', re.MULTILINE
)


class MigrationError(PmisError):
    """The schema cannot be brought to this version; nothing of the failed step was kept."""

    code = "migration_failed"
    title = "The database could not be migrated"


def migrations_folder() -> Path:
    """The folder of the migrations, beside the package in a checkout or inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "migrations"
    return beside if (beside / "env.py").is_file() else package / "migrations"


def known_revisions() -> dict[str, str | None]:
    """Each revision of this version and the one it follows, read without loading Alembic."""
    found: dict[str, str | None] = {}
    for path in sorted((migrations_folder() / "versions").glob("*.py")):
        values = {match["name"]: match["value"] for match in _REVISION.finditer(path.read_text(encoding="utf-8"))}
        if values.get("revision"):
            found[str(values["revision"])] = values.get("down_revision")
    return found


def head_revision() -> str:
    """The revision this version of PMIS works with."""
    known = known_revisions()
    heads = set(known) - set(known.values())
    if len(heads) != 1:
        raise MigrationError(
            f"The migrations have {len(heads)} heads ({', '.join(sorted(heads))}); exactly one is needed."
        )
    return heads.pop()


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at; None for an empty one."""
    if (connection.execute("select to_regclass('public.alembic_version')").fetchone() or [None])[0] is None:
        return None
    row = connection.execute("select version_num from public.alembic_version").fetchone()
    return str(row[0]) if row else None


def is_up_to_date(connection: Connection) -> bool:
    """Whether there is nothing to do: the head revision, vectors if PostgreSQL has got them, a policy in force."""
    if current_revision(connection) != head_revision() or vectors(connection) == "not set up":
        return False
    return connection.execute("select 1 from state.policy limit 1").fetchone() is not None


def vectors(connection: Connection) -> Literal["there", "not set up", "no extension"]:
    """Whether memories can be found by what they mean; that takes an extension, which may come later."""
    row = connection.execute(
        "select to_regclass('memory.vector') is not null, exists (select from pg_extension where extname = 'vector')"
    ).fetchone()
    there, extended = row or (False, False)
    return "there" if there else "not set up" if extended else "no extension"


def upgrade(settings: Settings) -> str | None:
    """Bring the schema to the head revision, as the owner; returns the revision it was at when something was done.

    One process at a time: others wait for it and then find nothing to do. A lock that a migration cannot have within
    its time-out fails the migration instead of stopping everybody else behind it.
    """
    return upgrade_database(settings.owner_dsn)


def upgrade_database(dsn: str) -> str | None:
    """The same for one database, reached as its owner: "" for one that was empty, None when nothing was to do."""
    import psycopg  # noqa: PLC0415 - loads slowly

    head = head_revision()
    try:
        with psycopg.connect(dsn, autocommit=True, application_name="pmis migrate") as connection:
            _wait_for_the_lock(connection)
            # Only now: another migration is waited for, a lock in the way is not.
            connection.execute("select set_config('lock_timeout', %s, false)", (str(LOCK_TIMEOUT_MS),))
            current = current_revision(connection)
            if is_up_to_date(connection):
                return None
            if current is not None and current not in known_revisions():
                raise MigrationError(
                    f"The database is at revision {current}, which this version of PMIS does not know: "
                    "a newer version has used it. Start that version, or restore a backup."
                )
            if current != head:
                _run_alembic(dsn)
            # Also when a run was killed between the two: what is there already costs nothing.
            set_up_checkpoints(dsn)
            connection.execute("select memory.set_up_vectors()")
            connection.execute(
                "grant select on public.alembic_version to pmis_app, pmis_sealer, pmis_auditor, pmis_relay"
            )
            # Last, as its presence says that all the rest was done, even if a run was killed on the way.
            asyncio.run(_begin_policy(dsn))
            return current or ""
    except psycopg.Error as error:
        raise MigrationError(f"The database could not be migrated: {_first_line(error)}.") from error


def _wait_for_the_lock(connection: Connection) -> None:
    """Take the lock of migrations, by asking for it again and again.

    A statement that waited for it would hold a snapshot, for whose end an index that is built concurrently by whoever
    has the lock would wait in turn.
    """
    while not (connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() or [False])[0]:
        time.sleep(_LOOK_SECONDS)


def set_up_checkpoints(dsn: str) -> None:
    """Make or renew the tables in which the assistant's graph notes how far it is."""
    from pmis.assistant.checkpoints import set_up  # noqa: PLC0415 - loads slowly

    set_up(dsn)


async def _begin_policy(dsn: str) -> None:
    """Put the shipped policy in force in a new instance."""
    from pmis.approval.bootstrap import ensure_policy  # noqa: PLC0415 - loads slowly
    from pmis.kit.db import Database  # noqa: PLC0415

    database = Database(dsn, size=1)
    await database.open()
    try:
        async with database.write(Reach.INSTANCE) as session:
            await ensure_policy(session)
            await session.commit()
    finally:
        await database.close()


def _run_alembic(dsn: str) -> None:
    from alembic import command  # noqa: PLC0415 - loads slowly, and is needed only when there is something to do
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, pool  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    engine = create_engine(
        dsn.replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=pool.NullPool,
        connect_args={"options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout=600000 -c timezone=UTC"},
    )
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except DBAPIError as error:
        raise MigrationError(f"A migration failed and was taken back: {_first_line(error.orig or error)}.") from error
    finally:
        engine.dispose()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
