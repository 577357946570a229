"""Looks over an install and says, for each fault, what to do about it. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from pmis.kit.errors import PmisError
from pmis.kit.settings import Settings, load_settings
from pmis.ops import migrate
from pmis.ops.datafolder import DataFolder
from pmis.ops.process import reason_of
from pmis.ops.valkey import BrokerError, ping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from psycopg import Connection

_OLDEST_POSTGRES: Final = 160_000
_LOW_DISK_BYTES: Final = 1 << 30
_NO_DISK_BYTES: Final = 200 << 20
_FULL_DISK: Final = 0.8
_STALLED_SECONDS: Final = 30
_REACH_SECONDS: Final = 5
_SKEW_SECONDS: Final = 2.0
_UNBEARABLE_SKEW_SECONDS: Final = 30.0


_OF_THE_COMMAND_LINE: Final = {
    "PMIS_CONFIG_DIR",
    "PMIS_DEBUG",
    "PMIS_PROFILE",
    "PMIS_PYTHON",
    "PMIS_TOKEN",
    "PMIS_URL",
}


class Level(IntEnum):
    """How bad it is; the highest becomes the exit code."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do when that is not right."""

    check: str
    level: Level
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding for programs."""
        return {"check": self.check, "level": self.level.name.lower(), "text": self.text, "advice": self.advice}


def examine(**values: Any) -> list[Finding]:  # noqa: ANN401 - settings, as load_settings takes them
    """Run every check that can be run; a check that another one's failure makes pointless is left out."""
    try:
        settings = load_settings(**values)
    except PmisError as error:
        return [
            Finding("settings", Level.ERROR, error.detail, "Correct the variables named here (see docs/reference).")
        ]
    return [
        *_settings(settings),
        *_data_folder(settings),
        *_database(settings),
        *_broker(settings),
        _storage(settings),
        *_mail(settings),
        *_providers(settings),
        *_disk(settings),
    ]


def _settings(settings: Settings) -> Iterator[Finding]:
    problems = [problem for problem in settings.problems() if not problem.startswith("DATABASE_URL is not")]
    for problem in problems:
        yield Finding(
            "settings", Level.ERROR, f"{problem}.", "The API will not start like this. Set the variable, or its _FILE."
        )
    known = {name.upper() for name in Settings.model_fields} | _OF_THE_COMMAND_LINE
    known |= {f"{name}_FILE" for name in Settings.secret_names}
    for name in sorted(os.environ):
        if name.startswith("PMIS_") and name not in known and not name.startswith("PMIS_TEST_"):
            yield Finding(
                "settings", Level.WARNING, f"{name} is set, and PMIS knows no such setting.", "Is it misspelt?"
            )
    if not problems:
        yield Finding("settings", Level.OK, f"valid for {settings.environment}")


def _providers(settings: Settings) -> Iterator[Finding]:
    """Whether each identity provider publishes what a sign-in through it needs."""
    if settings.oidc_providers is None:
        return
    from pmis.identity.oidc import RelyingParty  # noqa: PLC0415 - loads slowly
    from pmis.identity.providers import providers_of  # noqa: PLC0415

    try:
        providers = providers_of(settings)
    except PmisError as error:
        advice = "The API will not start like this; see docs/guides/identity-providers.md."
        yield Finding("sign-in", Level.ERROR, error.detail, advice)
        return
    for name, provider in providers.items():
        try:
            asyncio.run(RelyingParty(provider).check())
        except PmisError as error:
            advice = "People cannot sign in through it. Is `issuer` exact, and can this machine reach it?"
            yield Finding("sign-in", Level.WARNING, f"{name}: {error.detail}", advice)
        else:
            yield Finding("sign-in", Level.OK, f"{name}: answers at {provider.issuer}")


def _data_folder(settings: Settings) -> Iterator[Finding]:
    folder = DataFolder(settings.pmis_data_dir)
    if folder.is_held():
        yield Finding("up", Level.OK, f"`pmis up` runs from {folder.path}")
    elif folder.runtime_file.exists():
        yield Finding(
            "up",
            Level.WARNING,
            f"`pmis up` ran from {folder.path} and was killed.",
            "Run `pmis up` again: it clears up by itself.",
        )


def _database(settings: Settings) -> Iterator[Finding]:
    import psycopg  # noqa: PLC0415 - loads slowly

    try:
        dsn = settings.app_dsn
    except PmisError as error:
        yield Finding("database", Level.ERROR, error.detail, "Nothing works without a database.")
        return
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name="pmis doctor") as connection:
            yield _version(connection)
            yield from _login(connection)
            revision = _schema(connection)
            yield revision
            yield _clock(connection)
            if revision.level is not Level.ERROR:
                yield from _guarded(connection, _privileges)
                yield from _guarded(connection, lambda open_: [_seal(open_, settings)])
                yield from _guarded(connection, _jobs)
                yield from _guarded(connection, _memories)
    except psycopg.OperationalError as error:
        first = str(error).strip().partition("\n")[0]
        yield Finding(
            "database", Level.ERROR, f"It cannot be reached: {first}", "Is it running, and is DATABASE_URL right?"
        )


def _guarded(
    connection: Connection, check: Callable[[Connection], Iterator[Finding] | list[Finding]]
) -> Iterator[Finding]:
    from psycopg import errors  # noqa: PLC0415 - loaded by now

    try:
        yield from check(connection)
    except errors.InsufficientPrivilege as error:
        text = str(error).strip().partition("\n")[0]
        yield Finding("login", Level.WARNING, f"The login may not look: {text}", "Run the check as pmis_app.")


def _version(connection: Connection) -> Finding:
    number = connection.info.server_version
    text = f"PostgreSQL {number // 10_000}.{number % 10_000} answers"
    if number < _OLDEST_POSTGRES:
        return Finding("database", Level.ERROR, text, "PMIS needs PostgreSQL 16 or newer.")
    return Finding("database", Level.OK, text)


def _login(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "select current_user, rolsuper, rolcreaterole, rolbypassrls, "
        "exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "        where n.nspname in ('ledger', 'state') and pg_has_role(current_user, c.relowner, 'member')) "
        "from pg_roles where rolname = current_user"
    ).fetchone()
    name, superuser, creates_roles, bypasses, owns = row or ("", True, True, True, True)
    powers = [
        text
        for held, text in (
            (superuser, "is a superuser"),
            (creates_roles, "may create roles"),
            (bypasses, "bypasses row security"),
            (owns, "owns the tables of the log"),
        )
        if held
    ]
    if powers:
        yield Finding(
            "login",
            Level.ERROR,
            f"The API's login {name} {' and '.join(powers)}: a fault in the API could rewrite the log.",
            "Give DATABASE_URL a login with the role pmis_app alone, and keep the owner for DATABASE_OWNER_URL.",
        )
    else:
        yield Finding("login", Level.OK, f"{name} is neither owner nor superuser")


def _privileges(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "select has_table_privilege('ledger.event', 'insert'), has_table_privilege('ledger.event', 'update'), "
        "has_table_privilege('ledger.event', 'delete'), has_table_privilege('ledger.event', 'truncate'), "
        "exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        "  where n.nspname = 'ledger' and p.proname = 'append_event' and has_function_privilege(p.oid, 'execute'))"
    ).fetchone()
    insert, update, delete, truncate, append = row or (True, True, True, True, False)
    held = [
        word
        for may, word in ((insert, "insert"), (update, "update"), (delete, "delete"), (truncate, "truncate"))
        if may
    ]
    if held:
        yield Finding(
            "privileges",
            Level.ERROR,
            f"The API's login may {', '.join(held)} events directly.",
            "Revoke these, or use a login with the role pmis_app alone.",
        )
    if not append:
        yield Finding(
            "privileges",
            Level.ERROR,
            "The API's login may not append events.",
            "Grant it the role pmis_app: grant pmis_app to the login.",
        )
    if append and not held:
        yield Finding("privileges", Level.OK, "events can be appended, and not changed")


def _schema(connection: Connection) -> Finding:
    from psycopg import errors  # noqa: PLC0415 - loaded by now

    head = migrate.head_revision()
    try:
        current = migrate.current_revision(connection)
    except errors.InsufficientPrivilege:
        return Finding(
            "schema", Level.ERROR, "The login may not read the revision.", "Grant it the role pmis_app, then try again."
        )
    if current == head:
        return Finding("schema", Level.OK, f"at revision {head}")
    if current is None:
        return Finding("schema", Level.ERROR, "The database is empty.", "Run `pmis migrate`.")
    if current in migrate.known_revisions():
        return Finding("schema", Level.ERROR, f"At revision {current}, and {head} is needed.", "Run `pmis migrate`.")
    return Finding(
        "schema",
        Level.WARNING,
        f"At revision {current}, which this version does not know.",
        "A newer PMIS has used this database: right while it is rolled out or taken back, else start that version.",
    )


def _clock(connection: Connection) -> Finding:
    before = time.time()
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    after = time.time()
    skew = (before + after) / 2 - float(row[0] if row else 0)
    text = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database's"
    advice = "Synchronise both clocks (NTP): tokens and due dates go by them."
    if abs(skew) > _UNBEARABLE_SKEW_SECONDS:
        return Finding("clock", Level.ERROR, f"This clock is {text}.", advice)
    if abs(skew) > _SKEW_SECONDS:
        return Finding("clock", Level.WARNING, f"This clock is {text}.", advice)
    return Finding("clock", Level.OK, "agrees with the database's")


def _seal(connection: Connection, settings: Settings) -> Finding:
    row = connection.execute(
        "select sealed, unsealed, extract(epoch from clock_timestamp() - oldest_unsealed_at)::float8 "
        "from ledger.seal_lag()"
    ).fetchone()
    sealed, waiting, age = row or (0, 0, None)
    text = f"{sealed} events are sealed"
    if not waiting:
        return Finding("seal", Level.OK, text)
    text += f", {waiting} wait since {age or 0:.0f} s"
    if (age or 0) > 3 * settings.seal_interval_seconds:
        return Finding(
            "seal",
            Level.WARNING,
            f"{text}.",
            "Is the sealer running? `pmis ledger seal` seals now and says what is wrong.",
        )
    return Finding("seal", Level.OK, text)


def _jobs(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "select unclaimed + unsent, extract(epoch from clock_timestamp() - "
        "least(oldest_due_at, oldest_unsent_at))::float8, dead from jobs.lag()"
    ).fetchone()
    waiting, age, dead = row or (0, None, 0)
    text = f"{waiting} wait, the oldest for {age or 0:.0f} s" if waiting else "none waits"
    if (age or 0) > _STALLED_SECONDS:
        late = connection.execute(
            "select queue from jobs.due_in_queues() "
            "where oldest_due_at < clock_timestamp() - make_interval(secs => %s)",
            (_STALLED_SECONDS,),
        ).fetchall()
        where = f" in the queue {' and '.join(queue for (queue,) in late)}" if late else ""
        advice = "Do `pmis relay` and `pmis worker` run, for every queue? Their logs say why not."
        yield Finding("jobs", Level.WARNING, f"{text}{where}.", advice)
    else:
        yield Finding("jobs", Level.OK, text)
    if dead:
        yield Finding(
            "jobs",
            Level.WARNING,
            f"{dead} failed for good.",
            "`pmis job list --status dead` says why; `pmis job retry` has them tried again.",
        )


def _memories(connection: Connection) -> Iterator[Finding]:
    state = migrate.vectors(connection)
    if state == "there":
        yield Finding("memory", Level.OK, "memories are found by their words and by what they mean")
        return
    advice = "Run `pmis migrate`."
    if state == "no extension":
        advice = (
            "Install pgvector for this PostgreSQL, run `create extension vector` as a superuser, then `pmis migrate`."
        )
    yield Finding("memory", Level.WARNING, "Memories are found by their words alone, not by what they mean.", advice)


def _broker(settings: Settings) -> Iterator[Finding]:
    """Each address that is used: the jobs' broker, and what else is kept in Valkey where that is another one."""
    used = {
        "CELERY_BROKER": settings.celery_broker,
        "REDIS_URL": settings.redis_url if settings.redis_url != settings.celery_broker else None,
    }
    for name, address in used.items():
        if address is None:
            continue
        try:
            asyncio.run(ping(address.get_secret_value()))
        except BrokerError as error:
            text = f"Valkey does not serve: {error}."
            yield Finding("broker", Level.ERROR, text, f"Is it running, and is {name} right?")
        else:
            yield Finding("broker", Level.OK, f"Valkey answers at {name}")
    if not any(used.values()):
        advice = "Set it, or use `pmis up`, which brings Valkey."
        yield Finding("broker", Level.WARNING, "REDIS_URL is not set.", advice)


def _mail(settings: Settings) -> Iterator[Finding]:
    """Whether mail that goes out can be answered and followed, and whether senders of what comes in are known."""
    if settings.smtp_server is not None:
        for name, value, effect in (
            ("MAIL_FROM", "mail_from", "mail goes out from an address that nobody can answer"),
            ("PUBLIC_URL", "public_url", f"the links in mails lead to {settings.public}"),
        ):
            if value not in settings.model_fields_set:
                yield Finding("mail", Level.WARNING, f"{name} is not set: {effect}.", "Set it.")
        try:
            socket.create_connection((settings.smtp_server, settings.smtp_port), _REACH_SECONDS).close()
        except OSError as error:
            text = f"The mail server {settings.smtp_server} port {settings.smtp_port} is out of reach: "
            advice = "Mail waits until it is there. Are SMTP_SERVER and SMTP_PORT right?"
            yield Finding("mail", Level.WARNING, f"{text}{reason_of(error)}.", advice)
        else:
            yield Finding("mail", Level.OK, f"the mail server {settings.smtp_server} answers")
    ways = (settings.mail_smtp_port, settings.mail_lmtp_port, settings.imap_server, settings.mail_webhook_secret)
    if settings.mail_authserv_id is None and any(way is not None for way in ways):
        yield Finding(
            "mail",
            Level.WARNING,
            "MAIL_AUTHSERV_ID is not set, so no sender is known and every mail waits in quarantine.",
            "Set it to the name under which your mail server writes Authentication-Results.",
        )


def _storage(settings: Settings) -> Finding:
    if settings.s3_bucket_name is None and not settings.storage.exists():
        return Finding("storage", Level.OK, f"{settings.storage} will be made when something is kept there")
    from pmis.kit.storage import Storage  # noqa: PLC0415 - loads slowly

    try:
        storage = Storage.of(settings)
        storage.look()
    except (PmisError, OSError) as error:
        words = error.detail if isinstance(error, PmisError) else f"{error}."
        return Finding(
            "storage",
            Level.ERROR,
            f"Mails and attachments cannot be kept: {words}",
            "Correct the S3 settings, or make the folder of STORAGE_DIR writable for the user of the API.",
        )
    return Finding("storage", Level.OK, f"{storage.name} answers")


def _disk(settings: Settings) -> Iterator[Finding]:
    """Each volume that something is kept on, once."""
    volumes: dict[int, Path] = {}
    storage = [settings.storage] if settings.s3_bucket_name is None else []
    for kept in (settings.pmis_data_dir, *storage, settings.checkpoints):
        folder = kept
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        volumes.setdefault(folder.stat().st_dev, folder)
    for folder in volumes.values():
        usage = shutil.disk_usage(folder)
        # What is kept for the superuser alone is neither used nor free, as `df` has it.
        used = usage.used / (usage.used + usage.free)
        text = f"{usage.free / (1 << 30):.1f} GiB free at {folder}, {used:.0%} used"
        advice = "Make room: a full disk stops every write."
        if usage.free < _NO_DISK_BYTES:
            yield Finding("disk", Level.ERROR, text, advice)
        elif usage.free < _LOW_DISK_BYTES or used > _FULL_DISK:
            yield Finding("disk", Level.WARNING, text, advice)
        else:
            yield Finding("disk", Level.OK, text)
