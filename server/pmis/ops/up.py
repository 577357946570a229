"""`pmis up`: the whole system on one machine, from an empty folder to a working login, and back again.

What is given in the environment (DATABASE_URL, REDIS_URL) is used; the rest is embedded in the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pmis.kit.errors import PmisError
from pmis.kit.settings import load_settings
from pmis.ops import migrate, postgres, valkey
from pmis.ops.datafolder import DataFolder, Secrets, write_private
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import User, command_as, current_user
from pmis.ops.supervisor import Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pmis.kit.settings import Settings

_BACKLOG: Final = 1024
_DEFAULT_POSTGRES_PORT: Final = 54320


class PortTakenError(PmisError):
    """The API's port belongs to another program."""

    code = "port_taken"
    title = "The port is taken"


class StepFailedError(PmisError):
    """A step on the way up failed; the text is the step's own."""

    code = "step_failed"
    title = "PMIS could not be started"


@dataclass
class _Steps:
    """Prints a line for each step with the time it took."""

    say: Callable[[str], None]
    began: float

    @contextlib.contextmanager
    def step(self, name: str) -> Generator[list[str]]:
        started = time.monotonic()
        notes: list[str] = []
        yield notes
        self.say(f"  {name:<12} {time.monotonic() - started:5.1f} s  {', '.join(notes)}".rstrip())


class Up:
    """One run of `pmis up`."""

    def __init__(self, settings: Settings, *, demo: bool, say: Callable[[str], None]) -> None:
        """Describe the run; `settings` hold the data folder and the port."""
        self.settings = settings
        self.folder = DataFolder(settings.pmis_data_dir)
        self._demo = demo
        self._say = say
        self._supervisor = Supervisor(self.folder.logs, say=self._tell, record=self.folder.record_processes)
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: valkey.EmbeddedValkey | None = None
        self._listener: socket.socket | None = None
        self._url = ""
        self._ending = asyncio.Event()
        self._sockets: list[Path] = []

    async def run(self) -> None:
        """Start everything, keep it running until a signal says otherwise, and stop everything in order."""
        loop = asyncio.get_running_loop()
        with self.folder.held() as lock:
            starting = asyncio.create_task(self._start(lock))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    loop.add_signal_handler(number, self._asked_to_stop)
            ending = asyncio.create_task(self._ending.wait())
            try:
                await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    await self._ending.wait()
            finally:
                starting.cancel()
                ending.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await starting
                await self._stop()

    def _asked_to_stop(self) -> None:
        if self._ending.is_set():
            self._supervisor.hurry()
        else:
            self._say("Stopping (once more to hurry) ...")
            self._ending.set()

    def _tell(self, text: str) -> None:
        if not self._ending.is_set():
            self._say(f"{time.strftime('%H:%M:%S')} {text}")

    async def _start(self, lock: IO[str]) -> None:
        steps = _Steps(self._say, time.monotonic())
        self._say(f"PMIS starts from {self.folder.path}")
        listener = self._listen()
        self._url = self._public_url(listener)
        with steps.step("data folder") as notes:
            await asyncio.to_thread(self._prepare_folder, notes)
            self._require_servable()
        with steps.step("servers") as notes:
            await self._start_servers(notes)
        with steps.step("migrations") as notes:
            await self._migrate(notes)
        if self._demo:
            with steps.step("demo data") as notes:
                notes.append(await self._child("demo", "--if-empty"))
        with steps.step("api") as notes:
            await self._supervisor.start(self._api(listener))
            notes.append("healthy")
        with steps.step("sealer"):
            await self._supervisor.start(self._sealer())
        DataFolder.describe_holder(lock, url=self._url)
        self._say(f"PMIS is ready after {time.monotonic() - steps.began:.1f} s: {self._url}")
        self._say(f"  API and its documentation: {self._url}/docs")
        if self._demo:
            for line in (await self._child("demo", "--people")).splitlines():
                self._say(f"  {line}")
        self._say("Ctrl-C stops everything.")

    async def _stop(self) -> None:
        await self._supervisor.stop()
        if self._listener is not None:
            self._listener.close()
        for path in (self.folder.runtime_file, self.folder.path / "processes.json"):
            path.unlink(missing_ok=True)
        for path in self._sockets:
            with contextlib.suppress(OSError):
                path.rmdir()
        self._say("PMIS has stopped.")

    def _listen(self) -> socket.socket:
        """The API's socket, held here so that no caller is refused while the API is restarted."""
        host, port = self.settings.api_host, self.settings.api_port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            raise PortTakenError(
                f"PMIS cannot listen on {host} port {port}: {error.strerror}. Choose another with --port."
            ) from None
        return self._listener

    def _public_url(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        if ip_address(host).is_unspecified:  # listening everywhere: name the address that works here
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _prepare_folder(self, notes: list[str]) -> None:
        before = self.folder.runtime()
        ended = self.folder.end_leftovers()
        if ended:
            notes.append(f"ended what a killed run left: {', '.join(ended)}")
        user = self.folder.run_as(self.settings.pmis_run_as)
        secrets = self.folder.secrets()
        for path in map(Path, before.get("SOCKETS", [])):
            # Only what an earlier run made under /tmp for itself, and only while it is still its.
            with contextlib.suppress(OSError):
                if path.stat().st_uid == user.uid:
                    for left in path.iterdir():
                        left.unlink()
                    path.rmdir()
        if self.settings.database_url is None or self.settings.redis_url is None:
            note = self.folder.prepare_servers(user, secrets.instance)
            if note:
                notes.append(note)
            self._describe_servers(user, secrets, before.get("POSTGRES_PORT"))
        self.settings.checkpoints.mkdir(parents=True, exist_ok=True)

    def _require_servable(self) -> None:
        """Refuse what the API would refuse, before a database is made for it."""
        url = self.settings.database_url
        load_settings(
            pmis_data_dir=self.folder.path, database_url=url.get_secret_value() if url else "postgresql://embedded"
        ).require_servable()

    def _describe_servers(self, user: User, secrets: Secrets, port: object) -> None:
        servers = self.folder.servers.resolve()
        copies = servers / "bin"
        copies.mkdir(mode=0o755, exist_ok=True)
        longest = max((f".s.PGSQL.{65535}.lock", valkey.SOCKET), key=len)
        sockets = postgres.socket_folder(servers / "run", user, longest)
        if sockets.parent != servers:
            self._sockets.append(sockets)
        if self.settings.database_url is None:
            remembered = port if isinstance(port, int) else _DEFAULT_POSTGRES_PORT
            self._postgres = EmbeddedPostgres(
                folder=servers / "postgres", sockets=sockets, passwords=secrets.postgres, user=user, port=remembered
            )
            if self.settings.pmis_postgres_bin is not None:
                self._postgres.binaries = self.settings.pmis_postgres_bin
            else:
                self._postgres.copies = copies
        if self.settings.redis_url is None:
            self._valkey = valkey.EmbeddedValkey(
                folder=servers / "valkey", sockets=sockets, password=secrets.valkey_password, user=user, copies=copies
            )

    async def _start_servers(self, notes: list[str]) -> None:
        starting = [asyncio.to_thread(_load_driver)]
        if self._postgres is not None:
            starting.append(self._supervisor.start(self._postgres_program(self._postgres)))
        if self._valkey is not None:
            starting.append(self._supervisor.start(self._valkey_program(self._valkey)))
        await asyncio.gather(*starting)
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.bootstrap)
            notes.append(f"PostgreSQL {self._postgres.version} on port {self._postgres.port}")
        else:
            notes.append("PostgreSQL of DATABASE_URL")
        notes.append("Valkey" if self._valkey is not None else "Valkey of REDIS_URL")
        self._write_runtime()

    def _postgres_program(self, server: EmbeddedPostgres) -> Program:
        async def ready(pid: int) -> bool:
            return server.is_ready(pid)

        def prepare() -> None:
            server.prepare()
            if not postgres.port_is_free(server.port):
                # Somebody took the port while ours was down. The socket's name holds the port, so clients must move.
                server.port = postgres.free_port()
                if self.folder.runtime_file.exists():
                    self._write_runtime()
                    for name in ("api", "sealer"):
                        self._supervisor.restart(name)

        return Program(
            name="postgres",
            command=lambda: server.command(parent=os.getpid()),
            prepare=prepare,
            ready=ready,
            stop_steps=postgres.STOP_STEPS,
        )

    def _valkey_program(self, server: valkey.EmbeddedValkey) -> Program:
        async def ready(_pid: int) -> bool:
            try:
                await valkey.ping(server.url)
            except valkey.BrokerError:
                return False
            return True

        def set_aside() -> bool:
            aside = server.set_aside()
            self._say(f"  Valkey could not read its files; they are now in {aside} (nothing that counts is in them)")
            return True

        return Program(
            name="valkey",
            command=lambda: server.command(parent=os.getpid()),
            prepare=server.prepare,
            ready=ready,
            stop_steps=valkey.STOP_STEPS,
            gave_up=set_aside,
        )

    def _api(self, listener: socket.socket) -> Program:
        async def ready(_pid: int) -> bool:
            return await asyncio.to_thread(self._is_healthy)

        return Program(
            name="api",
            command=lambda: self._pmis("api", "--fd", str(listener.fileno())),
            ready=ready,
            pass_fds=(listener.fileno(),),
            environment=self._environment(),
        )

    def _sealer(self) -> Program:
        return Program(
            name="sealer", command=lambda: self._pmis("ledger", "seal", "--loop"), environment=self._environment()
        )

    def _is_healthy(self) -> bool:
        import http.client  # noqa: PLC0415 - used for a moment

        parts = urlsplit(self._url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
        try:
            connection.request("GET", "/api/v1/readiness")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    async def _migrate(self, notes: list[str]) -> None:
        head = migrate.head_revision()
        if self._postgres is not None and await asyncio.to_thread(self._is_at, head):
            notes.append(f"at {head}")
            return
        notes.append(await self._child("migrate"))

    def _is_at(self, head: str) -> bool:
        import psycopg  # noqa: PLC0415 - loaded by now

        assert self._postgres is not None  # noqa: S101 - the caller looked
        with psycopg.connect(self._postgres.url(postgres.OWNER)) as connection:
            return migrate.current_revision(connection) == head

    async def _child(self, *arguments: str) -> str:
        """Run a command of ours to its end, in a process whose memory goes with it; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self._pmis(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment()},
            start_new_session=True,
        )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if process.returncode:
            text = errors.decode(errors="replace").strip().removeprefix("error: ")
            raise StepFailedError(text or f"pmis {arguments[0]} ended with exit code {process.returncode}")
        return output.decode(errors="replace").strip()

    def _pmis(self, *arguments: str) -> list[str]:
        return command_as(current_user(), [sys.executable, "-P", "-m", "pmis.cli.main", *arguments], parent=os.getpid())

    def _environment(self) -> dict[str, str]:
        """What our own processes need to know beside the environment; passwords stay in the data folder's files."""
        return {"PMIS_DATA_DIR": str(self.folder.path), "PYTHONUNBUFFERED": "1"}

    def _write_runtime(self) -> None:
        """Say where everything is, for our own processes and for every other command on this folder."""
        known: dict[str, object] = {"PMIS_URL": self._url, "SOCKETS": [str(path) for path in self._sockets]}
        if self._postgres is not None:
            known["POSTGRES_PORT"] = self._postgres.port
            for name, login in (
                ("DATABASE_URL", postgres.APP),
                ("DATABASE_OWNER_URL", postgres.OWNER),
                ("DATABASE_SEALER_URL", postgres.SEALER),
                ("DATABASE_AUDITOR_URL", postgres.AUDITOR),
            ):
                known[name] = self._postgres.url(login)
        if self._valkey is not None:
            known["REDIS_URL"] = self._valkey.url
        write_private(self.folder.runtime_file, known)


def _load_driver() -> None:
    """Load the database driver while the servers start."""
    importlib.import_module("psycopg")


def run(settings: Settings, *, demo: bool, say: Callable[[str], None]) -> None:
    """Run the system until it is told to stop; raises PmisError when it cannot be started."""

    async def main() -> None:
        await Up(settings, demo=demo, say=say).run()

    asyncio.run(main())
