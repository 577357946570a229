"""A whole installation for a test: servers of its own, every process of the product, and a way to kill each of them.

The servers are durable, unlike those of the other tests: what they lose, the product would lose. Everything listens on
loopback or on sockets of its own, and what is killed is known by the process number that it was started with.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import psycopg

from pmis.kit.settings import Settings, load_settings
from pmis.ops import demo
from pmis.ops import postgres as pg
from pmis.ops.migrate import upgrade_database
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import command_as, current_user, named_user, stop
from pmis.ops.valkey import EmbeddedValkey
from tests.faults.client import Client
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

SECRET: Final = "a secret of the tests that is long enough, 0123456789"
WEBHOOK: Final = "the secret of a mail service, of the tests"
DOMAIN: Final = "mail.test"
KILL: Final = ((signal.SIGKILL, 10.0),)
ORDERLY: Final = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))
_PARTS: Final = Path(__file__).with_name("parts.py")
_FAST: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Seed:
    """The files of a stopped server whose database holds the demo, to be copied for each test."""

    folder: Path
    copies: Path
    passwords: Mapping[str, str]

    @classmethod
    def of(cls, root: Path) -> Seed:
        """The seed of this run, which whoever asks first makes."""
        place = root / "seed"
        copies = place / "bin"
        with (root / "seed.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            known = place / "passwords.json"
            if not known.exists():
                place.mkdir(mode=0o711, exist_ok=True)
                known.with_suffix(".new").write_text(json.dumps(_sow(place, copies)))
                known.with_suffix(".new").rename(known)
            return cls(place / "postgres", copies, json.loads(known.read_text()))


def _unprivileged() -> Any:
    return named_user("nobody") if os.geteuid() == 0 else current_user()


def _sow(place: Path, copies: Path) -> dict[str, str]:
    user = _unprivileged()
    sockets = place / "s"
    for folder in (place, copies, sockets):
        folder.mkdir(exist_ok=True)
    copies.chmod(0o755)
    pg.own(sockets, user)
    if user.uid != os.geteuid():
        os.chown(place, user.uid, user.gid)
    passwords = pg.generate_passwords()
    server = EmbeddedPostgres(place / "postgres", sockets, passwords, user=user, copies=copies, extra=_FAST)
    server.prepare()
    pid = server.start(place / "log")
    try:
        server.bootstrap()
        upgrade_database(server.url(pg.OWNER))
        settings = load_settings(
            embedded=False,
            database_url=server.url(pg.APP),
            secret_key=SECRET,
            jwt_secret_key=SECRET[::-1],
            storage_dir=place / "objects",
        )
        assert demo.load(settings)
    finally:
        stop(pid, pg.STOP_STEPS)
    return passwords


@dataclass
class System:
    """`settings` are those of every process; `extra` are the server's, over its own."""

    folder: Path
    seed: Seed
    settings: dict[str, str] = field(default_factory=dict[str, str])
    extra: dict[str, str] = field(default_factory=dict[str, str])
    data: Path | None = None
    """Where the database's files are put instead, such as on a small disk."""
    valkey_folder: Path | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])
    kept: dict[str, tuple[Sequence[str], Mapping[str, str]]] = field(
        default_factory=dict[str, "tuple[Sequence[str], Mapping[str, str]]"]
    )
    api_port: int = field(default_factory=free_port)
    smtp_port: int = field(default_factory=free_port)
    restarted: dict[str, int] = field(default_factory=dict[str, int])
    """How often a process ended by itself and was started again, as a supervisor does it."""
    _postmaster: int = 0
    _server: Any = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _over: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None
    _valkey_process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        user = _unprivileged()
        self.folder.mkdir(mode=0o711)
        self.logs = self.folder / "log"
        sockets = self.folder / "s"
        for made in (self.logs, sockets):
            made.mkdir()
        pg.own(sockets, user)
        place = self.data or self.folder
        if user.uid != os.geteuid():
            os.chown(self.folder, user.uid, user.gid)
            os.chown(place, user.uid, user.gid)
        subprocess.run(["cp", "-a", str(self.seed.folder), str(place / "postgres")], check=True)
        self.postgres = EmbeddedPostgres(
            place / "postgres",
            sockets,
            self.seed.passwords,
            user=user,
            copies=self.seed.copies,
            # The wheel's default is 100 connections: eleven processes with pools of their own need more.
            extra={"max_connections": "200", **self.extra},
        )
        mine = self.folder / "v"
        mine.mkdir(mode=0o700)
        self.valkey = EmbeddedValkey(self.valkey_folder or self.folder / "valkey", mine, "of-no-worth", current_user())

    # --- the servers ---

    def start_postgres(self) -> float:
        """Start it, also after it was killed; how long that took."""
        began = time.monotonic()
        self.postgres.prepare()
        with (self.logs / "postgres.log").open("ab") as log:
            command = self.postgres.command(parent=os.getpid())
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        pid = self._postmaster = self._server.pid
        wait_for(lambda: self.postgres.is_ready(pid), self.told, seconds=60)
        return time.monotonic() - began

    @property
    def postmaster(self) -> int:
        """Its number, after asking the server that it is this one and that the files are ours."""
        lines = (self.postgres.folder / "postmaster.pid").read_text().splitlines()
        assert lines[0] == str(self._postmaster), "another server than ours"
        assert Path(lines[1]) == self.postgres.folder, "other files than ours"
        return self._postmaster

    def kill_postmaster(self) -> None:
        pid = self.postmaster
        os.kill(pid, signal.SIGKILL)
        self._server.wait(20)

    def kill_backend(self) -> bool:
        """Kill a backend of one of our clients as hard as can be: PostgreSQL then ends all of them and recovers."""
        with suppress(psycopg.Error), self.connection() as admin:
            rows = admin.execute(
                "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
                "and backend_type = 'client backend' order by (state = 'active') desc, random() limit 1"
            ).fetchall()
            for (pid,) in rows:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def stop_postgres(self, steps: Any = pg.STOP_STEPS) -> None:
        if self._postmaster:
            stop(self._postmaster, steps)
            self._server.wait(20)

    def start_valkey(self) -> None:
        self.valkey.prepare()
        with (self.logs / "valkey.log").open("ab") as log:
            command = self.valkey.command(parent=os.getpid())
            self._valkey_process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        wait_for(self.valkey.socket.exists, "Valkey's socket")

    def valkey_client(self) -> Any:
        import redis

        client = redis.Redis(unix_socket_path=str(self.valkey.socket), password=self.valkey.password)
        info: Any = client.info("server")
        assert self._valkey_process is not None
        assert info["process_id"] == self._valkey_process.pid, "another server than ours"
        return client

    def stop_valkey(self, steps: Any = KILL) -> None:
        if self._valkey_process is not None:
            stop(self._valkey_process.pid, steps)
            self._valkey_process.wait(20)
            self._valkey_process = None

    @contextmanager
    def connection(self, login: str = pg.ADMIN) -> Generator[psycopg.Connection[Any]]:
        with psycopg.connect(self.postgres.url(login), autocommit=True, connect_timeout=5) as connection:
            yield connection

    def all(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """What the database says, as soon as it says anything."""
        until = time.monotonic() + 60
        while True:
            try:
                with self.connection() as connection:
                    return connection.execute(cast("LiteralString", statement), values).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def one(self, statement: str, values: Any = ()) -> Any:
        return self.all(statement, values)[0][0]

    # --- the product's processes ---

    @property
    def environment(self) -> dict[str, str]:
        """What `pmis up` would tell them, and nothing of whoever runs the tests."""
        known = Settings.model_fields
        mine = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE").lower() not in known}
        urls = {
            f"DATABASE_{name}URL": self.postgres.url(login)
            for name, login in (("", pg.APP), ("OWNER_", pg.OWNER), ("WORKER_", pg.WORKER), ("RELAY_", pg.RELAY))
        }
        return {
            **mine,
            **urls,
            "PMIS_DATA_DIR": str(self.folder / "none"),
            "REDIS_URL": self.valkey.url,
            "SECRET_KEY": SECRET,
            "JWT_SECRET_KEY": SECRET[::-1],
            "STORAGE_DIR": str(self.folder / "objects"),
            "MAIL_DOMAIN": DOMAIN,
            "MAIL_SMTP_PORT": str(self.smtp_port),
            "MAIL_WEBHOOK_SECRET": WEBHOOK,
            "WORKER_CONCURRENCY": "1",
            "JOB_RETRY_SECONDS": "0.5,1,2",
            "JOB_LEASE_SECONDS": "4",
            "JOB_REPUBLISH_SECONDS": "3",
            "SIGNIN_ADDRESS_ATTEMPTS": "1000000",
            # One person writes here as fast as the machine goes.
            "RATE_LIMIT_PERSON": "0",
            "PYTHONUNBUFFERED": "1",
            "PMIS_DEBUG": "1",
            **self.settings,
        }

    def start(self, name: str, *command: str, **settings: str) -> None:
        """Start `pmis COMMAND` under a name; `again()` starts it in the same way."""
        self.kept[name] = (command, settings)
        self.again(name)

    def supervise(self) -> None:
        """Start again what ends by itself, from now on."""
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                for name, process in list(self.processes.items()):
                    if process.poll() is not None:
                        self.restarted[name] = self.restarted.get(name, 0) + 1
                        self.again(name)

    def again(self, name: str) -> None:
        command, settings = self.kept[name]
        program = [str(_PARTS), command[0][1:]] if command[0].startswith("+") else ["-m", "pmis.cli.main", *command]
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                # It ends with the tests, should they be killed.
                command_as(current_user(), [sys.executable, "-P", *program], parent=os.getpid()),
                env={**self.environment, **settings},
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def end(self, name: str, steps: Any = ORDERLY) -> None:
        with self._lock:
            process = self.processes.pop(name)
        stop(process.pid, steps)
        process.wait(30)
        with suppress(ProcessLookupError):
            # Its own children, which a worker that is killed leaves to themselves.
            os.killpg(process.pid, signal.SIGKILL)

    def kill(self, name: str) -> None:
        self.end(name, KILL)

    def children(self, name: str) -> list[int]:
        """The processes of a worker's pool."""
        pid = self.processes[name].pid
        found = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(one) for one in found.read_text().split()] if found.exists() else []

    def named(self, start: str) -> list[str]:
        return [name for name in self.processes if name.startswith(start)]

    def start_api(self) -> None:
        self.start("api", "api", "--port", str(self.api_port))
        self.wait_for_api()

    def client(self, **options: Any) -> Client:
        return Client(self.api_port, **options)

    def wait_for_api(self) -> None:
        wait_for(lambda: self.client(patience=3).status("/readiness") == 200, self.told, seconds=60)

    def wait_for_smtp(self) -> None:
        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.smtp_port), timeout=3) as probe:
                return probe.recv(3) == b"220"
            return False

        wait_for(answers, self.told, seconds=60)

    def stop_all(self) -> None:
        """End everything; may be asked again."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join(30)
        for name in list(self.processes):
            self.end(name, ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        self.stop_valkey()
        self.stop_postgres(((signal.SIGINT, 10.0), (signal.SIGKILL, 5.0)))
        shutil.rmtree(self.folder, ignore_errors=True)

    def told(self) -> str:
        """The ends of all logs, for a test that fails."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2500:]}" for path in sorted(self.logs.glob("*.log"))
        )

    # --- what must be so after everything ---

    def differences(self) -> str:
        """What `pmis ledger replay --check` says; empty when the rows are what the log makes of them."""
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "pmis.cli.main", "ledger", "replay", "--check"],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
            cwd="/",
        )
        return "" if answer.returncode == 0 else answer.stdout + answer.stderr
