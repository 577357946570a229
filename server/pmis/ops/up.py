"""`pmis up`: the whole system on one machine, from an empty folder to a working login, and back again.

What is given in the environment (DATABASE_URL, REDIS_URL) is used; the rest is embedded in the data folder.
A start takes as long as the API takes to load, because that begins at once, beside everything else: the API's process
waits, loaded, for its address and its settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import json
import os
import signal
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pmis.kit.errors import PmisError
from pmis.ops import demo_people, migrate, postgres, valkey, web
from pmis.ops.datafolder import DataFolder, write_private
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import command_as, current_user, reason_of
from pmis.ops.supervisor import Launch, Program, ProgramError, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from pmis.kit.settings import Settings
    from pmis.ops.datafolder import Secrets
    from pmis.ops.process import User

_BACKLOG: Final = 1024
_DEFAULT_POSTGRES_PORT: Final = 54320
_BEHIND: Final = ("sealer", "relay", "worker", "worker-long", "beat", "mail", "imap")
_ORDER: Final = (("postgres", "valkey"), ("api",), (*_BEHIND, "web"))
_ON_DATABASE: Final = ("api", *_BEHIND)


class PortTakenError(PmisError):
    """The API's port belongs to another program."""

    code = "port_taken"
    title = "The port is taken"


class StepFailedError(PmisError):
    """A step on the way up failed; the text is the step's own."""

    code = "step_failed"
    title = "PMIS could not be started"


class Up:
    """One run of `pmis up`."""

    def __init__(self, given: Mapping[str, Any], *, demo: bool, pages: bool = True, say: Callable[[str], None]) -> None:
        """`given` are settings from the command line, which go before the environment; `pages` wants the web app."""
        self._given = given
        self._demo = demo
        self._pages_wanted = pages
        self._web: web.Web | None = None
        self._say = say
        self._supervisor = Supervisor(order=_ORDER, say=self._tell)
        self._ending = asyncio.Event()
        self._began = time.monotonic()
        self._released = asyncio.Event()
        self._handoff = b""
        self._channel: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._url = ""
        self._web_url: str | None = None
        self._proxy: dict[str, str] = {}
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: valkey.EmbeddedValkey | None = None
        self._sockets: list[Path] = []

    async def run(self) -> None:
        """Start everything, keep it running until a signal says otherwise, and stop everything in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self._asked_to_stop)
        with contextlib.ExitStack() as held:
            starting = asyncio.create_task(self._start(held))
            ending = asyncio.create_task(self._ending.wait())
            held.callback(ending.cancel)
            try:
                await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    await self._ending.wait()
            finally:
                starting.cancel()
                await asyncio.wait({starting})
                await self._supervisor.stop()
        if self._ending.is_set():
            self._say("PMIS has stopped.")

    def _asked_to_stop(self) -> None:
        if self._ending.is_set():
            self._supervisor.hurry()
        else:
            self._say("Stopping (once more to hurry) ...")
            self._ending.set()

    def _tell(self, text: str) -> None:
        if not self._ending.is_set():
            self._say(f"{time.strftime('%H:%M:%S')} {text}")

    @contextlib.contextmanager
    def _step(self, name: str) -> Generator[list[str]]:
        """Print a line with the time that the step took and what it noted."""
        started = time.monotonic()
        notes: list[str] = []
        yield notes
        self._say(f"  {name:<12} {time.monotonic() - started:5.1f} s  {', '.join(notes)}".rstrip())

    async def _start(self, held: contextlib.ExitStack) -> None:
        beside = [asyncio.create_task(self._supervisor.start(self._api()))]
        try:
            await self._start_beside(beside, held)
        finally:
            if self._web is not None:
                self._web.end()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _start_beside(self, beside: list[asyncio.Task[None]], held: contextlib.ExitStack) -> None:
        settings = await asyncio.to_thread(self._load_settings)
        folder = DataFolder(settings.pmis_data_dir)
        lock = held.enter_context(folder.held())
        self._say(f"PMIS starts from {folder.path}")
        held.callback(self._clear, folder)
        self._listener = held.enter_context(self._listen(settings))
        self._url = self._public_url(self._listener)
        with self._step("data folder") as notes:
            secrets, user = await asyncio.to_thread(self._prepare_folder, folder, settings, notes)
            self._supervisor.settle(folder.logs, folder.record_processes)
            self._require_servable(folder, settings)
            if settings.database_url is None or settings.redis_url is None:
                await asyncio.to_thread(self._describe_servers, folder, settings, secrets, user, notes)
            self._web = self._find_web() if self._pages_wanted else None
            if self._web is not None:
                self._web_url = self._place_of_pages(settings)
                beside.append(asyncio.create_task(self._start_web(folder, self._web)))
        with self._step("servers") as notes:
            await self._start_servers(folder, notes)
        with self._step("database") as notes:
            await self._prepare_database(folder, settings, notes)
        with self._step("api") as notes:
            self._release(folder)
            await beside[0]
            notes.append("healthy")
        with self._step("jobs") as notes:
            # None of them is waited for: who signs in now need not know that they still load.
            behind = {**_BESIDE, **_workers(settings.worker_concurrency)}
            if settings.mail_smtp_port is not None or settings.mail_lmtp_port is not None:
                behind["mail"] = ("mail", "serve")
            if settings.imap_server is not None:
                behind["imap"] = ("mail", "fetch", "--watch")
            for name, command in behind.items():
                await self._supervisor.start(self._process(folder, name, command))
            notes.append(f"{', '.join(behind)}; {settings.worker_concurrency} jobs at a time")
        for started in beside[1:]:
            with self._step("web") as notes:
                notes.append(await self._pages(started))
        DataFolder.describe_holder(lock, url=self._url)
        self._say(f"PMIS is ready after {time.monotonic() - self._began:.1f} s: {self._web_url or self._url}")
        self._say(f"  API and its documentation: {self._url}/docs")
        for line in await asyncio.to_thread(_who_is_there, self._owner_dsn(settings), demo=self._demo):
            self._say(f"  {line}")
        self._say("Ctrl-C stops everything.")

    def _find_web(self) -> web.Web | None:
        """The web app of this checkout; what was installed without one has its pages elsewhere."""
        from pmis.kit.settings import checkout  # noqa: PLC0415 - loaded by now

        root = checkout()
        found = web.Web(self._tell, root) if root is not None else None
        return found if found is not None and found.exists else None

    def _place_of_pages(self, settings: Settings) -> str:
        """Where the web app is to listen; raises PortTakenError. Through it alone the API hears who asks from where."""
        host, port = settings.web_host, settings.web_port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.create_server(address[:2], family=family) as probe:
                url = self._public_url(probe)
        except OSError as error:
            raise PortTakenError(
                f"The web app cannot listen on {host} port {port}: {reason_of(error)}. Choose another with --web-port, "
                "or leave it out with --no-web."
            ) from None
        if not settings.trusted_proxy_addresses:
            self._proxy = {
                "TRUSTED_PROXY_ADDRESSES": "127.0.0.1,::1",
                "TRUSTED_PROXY_SECRET": token_urlsafe(32),
            }
        return url

    async def _start_web(self, folder: DataFolder, pages: web.Web) -> None:
        """Build the web app where it is not built yet, and serve it."""
        node, server = await asyncio.to_thread(pages.build)
        parts = urlsplit(self._web_url or "")
        host, port = parts.hostname or "", parts.port or 0

        async def ready(_pid: int) -> bool:
            return await asyncio.to_thread(web.is_healthy, host, port)

        told = {"HOSTNAME": host, "PORT": str(port), "PMIS_API_URL": self._url, "NODE_ENV": "production"}
        if secret := self._proxy.get("TRUSTED_PROXY_SECRET"):
            told["PMIS_PROXY_SECRET"] = secret
        command = command_as(current_user(), [node.program, server], parent=os.getpid())
        await self._supervisor.start(
            Program(
                name="web",
                launch=lambda: Launch(command),
                ready=ready,
                environment=web.environment_of(node, {**told, "PMIS_DATA_DIR": str(folder.path)}),
            )
        )

    async def _pages(self, started: asyncio.Task[None]) -> str:
        """What became of the web app: without it everything else works, and it can be mended without haste."""
        try:
            await started
        except (web.WebError, ProgramError) as error:
            self._web_url = None
            return f"NOT there; everything else is. {error}"
        return str(self._web_url)

    def _load_settings(self) -> Settings:
        from pmis.kit.settings import load_settings  # noqa: PLC0415 - loads slowly, so beside the API

        settings = load_settings(embedded=False, **self._given)
        if settings.environment == "production":
            self._demo = False  # its password is known to everybody
        return settings

    def _clear(self, folder: DataFolder) -> None:
        """Remove what says that something runs, once nothing does."""
        for path in (folder.runtime_file, folder.path / "processes.json"):
            path.unlink(missing_ok=True)
        for path in self._sockets:
            with contextlib.suppress(OSError):
                path.rmdir()

    @staticmethod
    def _listen(settings: Settings) -> socket.socket:
        """The API's socket, held here so that no caller is refused while the API is restarted."""
        host, port = settings.api_host, settings.api_port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            raise PortTakenError(
                f"PMIS cannot listen on {host} port {port}: {reason_of(error)}. Choose another with --port."
            ) from None

    @staticmethod
    def _public_url(listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        if ip_address(host).is_unspecified:  # listening everywhere: name the address that works here
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _prepare_folder(self, folder: DataFolder, settings: Settings, notes: list[str]) -> tuple[Secrets, User]:
        before = folder.runtime()
        ended = folder.end_leftovers()
        if ended:
            notes.append(f"ended what a killed run left: {', '.join(ended)}")
        user = folder.run_as(settings.pmis_run_as)
        for path in map(Path, before.get("SOCKETS", [])):
            # Only what an earlier run made under /tmp for itself, and only while it is still its.
            with contextlib.suppress(OSError):
                if path.stat().st_uid == user.uid:
                    for left in path.iterdir():
                        left.unlink()
                    path.rmdir()
        settings.checkpoints.mkdir(parents=True, exist_ok=True)
        return folder.secrets(), user

    @staticmethod
    def _require_servable(folder: DataFolder, settings: Settings) -> None:
        """Refuse what the API would refuse, before a database is made for it."""
        from pmis.kit.settings import load_settings  # noqa: PLC0415 - loaded by now

        url = settings.database_url
        load_settings(
            pmis_data_dir=folder.path, database_url=url.get_secret_value() if url else "postgresql://embedded"
        ).require_servable()

    def _describe_servers(
        self, folder: DataFolder, settings: Settings, secrets: Secrets, user: User, notes: list[str]
    ) -> None:
        if note := folder.prepare_servers(user, secrets.instance):
            notes.append(note)
        servers = folder.servers.resolve()
        copies = servers / "bin"
        copies.mkdir(mode=0o755, exist_ok=True)
        sockets = postgres.socket_folder(servers / "run", user, ".s.PGSQL.65535.lock")
        if sockets.parent != servers:
            self._sockets.append(sockets)
        if settings.database_url is None:
            port = folder.runtime().get("POSTGRES_PORT")
            self._postgres = EmbeddedPostgres(
                folder=servers / "postgres",
                sockets=sockets,
                passwords=secrets.postgres,
                user=user,
                port=port if isinstance(port, int) else _DEFAULT_POSTGRES_PORT,
            )
            if settings.pmis_postgres_bin is not None:
                self._postgres.binaries = settings.pmis_postgres_bin
            else:
                self._postgres.copies = copies
        if settings.redis_url is None:
            self._valkey = valkey.EmbeddedValkey(
                folder=servers / "valkey", sockets=sockets, password=secrets.valkey_password, user=user, copies=copies
            )

    async def _start_servers(self, folder: DataFolder, notes: list[str]) -> None:
        starting: list[Coroutine[Any, Any, Any]] = [asyncio.to_thread(importlib.import_module, "psycopg")]
        if self._postgres is not None:
            starting.append(self._supervisor.start(self._postgres_program(self._postgres, folder)))
        if self._valkey is not None:
            starting.append(self._supervisor.start(self._valkey_program(self._valkey)))
        await asyncio.gather(*starting)
        if self._postgres is not None:
            notes.append(f"PostgreSQL {self._postgres.version} on port {self._postgres.port}")
        else:
            notes.append("PostgreSQL of DATABASE_URL")
        notes.append("Valkey" if self._valkey is not None else "Valkey of REDIS_URL")

    def _postgres_program(self, server: EmbeddedPostgres, folder: DataFolder) -> Program:
        async def ready(pid: int) -> bool:
            return server.is_ready(pid)

        def prepare() -> None:
            server.prepare()
            if not postgres.port_is_free(server.port):
                # Somebody took the port while ours was down. The socket's name holds the port, so clients must move.
                server.port = postgres.free_port()
                if folder.runtime_file.exists():
                    self._write_runtime(folder)
                    for name in _ON_DATABASE:
                        self._supervisor.restart(name)

        return Program(
            name="postgres",
            launch=lambda: Launch(server.command(parent=os.getpid())),
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
            launch=lambda: Launch(server.command(parent=os.getpid())),
            prepare=server.prepare,
            ready=ready,
            stop_steps=valkey.STOP_STEPS,
            gave_up=set_aside,
        )

    async def _prepare_database(self, folder: DataFolder, settings: Settings, notes: list[str]) -> None:
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.bootstrap)
        self._write_runtime(folder)
        is_current, has_people = await asyncio.to_thread(_look, self._owner_dsn(settings))
        if is_current:
            notes.append(f"at revision {migrate.head_revision()}")
        else:
            notes.append(f"migrated {await self._child(folder, 'migrate')}")
            _, has_people = await asyncio.to_thread(_look, self._owner_dsn(settings))
        if self._demo and not has_people:
            notes.append(f"demo {await self._child(folder, 'demo', '--if-empty')}")

    def _owner_dsn(self, settings: Settings) -> str:
        return settings.owner_dsn if self._postgres is None else self._postgres.url(postgres.OWNER)

    def _api(self) -> Program:
        """The API: it loads, then waits on a channel for its listening socket and for where its settings are."""
        theirs: list[socket.socket] = []

        def launch() -> Launch:
            if self._channel is not None:
                self._channel.close()
            self._channel, other = socket.socketpair()
            theirs.append(other)
            return Launch(self._pmis("api", "--handoff", str(other.fileno())), (other.fileno(),), spawned)

        def spawned() -> None:
            theirs.pop().close()
            self._hand_over()

        async def ready(_pid: int) -> bool:
            return await asyncio.to_thread(self._is_healthy)

        return Program(name="api", launch=launch, ready=ready, released=self._released, environment=_LOGGED)

    def _release(self, folder: DataFolder) -> None:
        """Let the API begin, now and whenever it is started again."""
        self._handoff = json.dumps(self._environment(folder)).encode()
        self._released.set()
        self._hand_over()

    def _hand_over(self) -> None:
        if self._released.is_set() and self._channel is not None and self._listener is not None:
            with contextlib.suppress(OSError):  # it died meanwhile, and its successor gets the same
                socket.send_fds(self._channel, [self._handoff], [self._listener.fileno()])
                self._channel.shutdown(socket.SHUT_WR)

    def _process(self, folder: DataFolder, name: str, command: Sequence[str]) -> Program:
        return Program(
            name=name,
            launch=lambda: Launch(self._pmis(*command)),
            environment={**_LOGGED, **self._environment(folder)},
        )

    def _is_healthy(self) -> bool:
        parts = urlsplit(self._url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        try:
            connection.request("GET", "/api/v1/readiness")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    async def _child(self, folder: DataFolder, *arguments: str) -> str:
        """Run a command of ours to its end, in a process whose memory goes with it; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self._pmis(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment(folder)},
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

    @staticmethod
    def _pmis(*arguments: str) -> list[str]:
        return command_as(current_user(), [sys.executable, "-P", "-m", "pmis.cli.main", *arguments], parent=os.getpid())

    def _environment(self, folder: DataFolder) -> dict[str, str]:
        """What our own processes need beside the environment; passwords stay in the data folder's files."""
        return {"PMIS_DATA_DIR": str(folder.path), **self._proxy}

    def _write_runtime(self, folder: DataFolder) -> None:
        """Say where everything is, for our own processes and for every other command on this folder."""
        known: dict[str, object] = {"PMIS_URL": self._url, "SOCKETS": [str(path) for path in self._sockets]}
        if self._web_url is not None:
            known["PUBLIC_URL"] = self._web_url
        if self._postgres is not None:
            known["POSTGRES_PORT"] = self._postgres.port
            for name, login in (
                ("DATABASE_URL", postgres.APP),
                ("DATABASE_OWNER_URL", postgres.OWNER),
                ("DATABASE_SEALER_URL", postgres.SEALER),
                ("DATABASE_AUDITOR_URL", postgres.AUDITOR),
                ("DATABASE_WORKER_URL", postgres.WORKER),
                ("DATABASE_RELAY_URL", postgres.RELAY),
            ):
                known[name] = self._postgres.url(login)
        if self._valkey is not None:
            known["REDIS_URL"] = self._valkey.url
        write_private(folder.runtime_file, known)


_BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "sealer": ("ledger", "seal", "--loop"),
    "relay": ("relay",),
    "beat": ("beat",),
}
"""The commands of the processes that nobody who signs in waits for."""


def _workers(concurrency: int) -> dict[str, tuple[str, ...]]:
    """The workers that do so many jobs at a time: half of them are kept for what somebody waits for.

    The others do everything. Who wants one job at a time has one worker, and mails that wait for long work.
    """
    kept = concurrency // 2
    if not kept:
        return {"worker": ("worker",)}
    return {
        "worker": ("worker", "--concurrency", str(kept), "--queues", "prompt,default"),
        "worker-long": ("worker", "--concurrency", str(concurrency - kept)),
    }


# What our own processes say goes into a log of their own, so a failure may show its trace there.
_LOGGED: Final = {"PYTHONUNBUFFERED": "1", "PMIS_DEBUG": "1"}


def _look(owner_dsn: str) -> tuple[bool, bool]:
    """Whether the database needs no migration, and whether somebody lives in it."""
    import psycopg  # noqa: PLC0415 - loaded by now

    try:
        with psycopg.connect(owner_dsn, connect_timeout=10) as connection:
            if not migrate.is_up_to_date(connection):
                return False, False
            return True, connection.execute("select 1 from state.person limit 1").fetchone() is not None
    except psycopg.OperationalError as error:
        first = str(error).strip().partition("\n")[0]
        raise StepFailedError(f"The database cannot be reached: {first}") from None


def _who_is_there(owner_dsn: str, *, demo: bool) -> list[str]:
    """The demo's people, if all of them are there; how to make the first person, if there is none."""
    import psycopg  # noqa: PLC0415 - loaded by now

    emails = [email for _, email, _ in demo_people.PEOPLE]
    try:
        with psycopg.connect(owner_dsn, connect_timeout=10) as connection:
            row = connection.execute(
                "select exists (select from identity.credential), "
                "(select count(*) from identity.credential where email = any(%s))",
                (emails,),
            ).fetchone()
    except psycopg.Error:  # it was there a moment ago, and the supervisor sees to it
        return []
    somebody, of_demo = row or (True, 0)
    if not somebody:
        return ["Nobody can sign in yet. Make the first administrator: ./pmis admin create EMAIL --name NAME"]
    return demo_people.lines() if demo and of_demo == len(emails) else []


def run(given: Mapping[str, Any], *, demo: bool, pages: bool, say: Callable[[str], None]) -> None:
    """Run the system until it is told to stop; raises PmisError when it cannot be started."""

    async def main() -> None:
        await Up(given, demo=demo, pages=pages, say=say).run()

    asyncio.run(main())
