"""A real API on a real socket with the demo in its database, and the real command line against it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest
import uvicorn

from pmis.api.app import create_app
from pmis.cli import accounts, main
from pmis.kit.db import Database, Reach
from pmis.kit.settings import load_settings
from pmis.ledger.vault import Vault
from pmis.ops.demo import PASSWORD, PEOPLE, load_into

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from pmis.kit.settings import Settings
    from tests.conftest import TestDatabase

SECRET = "a key for tests alone, " + "k" * 40
JWT_SECRET = "another key for tests, " + "j" * 40


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class LiveApi:
    """A server that runs for the whole session."""

    url: str
    database: TestDatabase
    tokens: dict[str, str]
    settings: Settings


class Serving:
    """uvicorn in a thread of this process."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=2)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            self._thread.join(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


async def _load_demo(database: TestDatabase) -> None:
    pool = Database(database.app_dsn, size=1, role="pmis_app")
    await pool.open()
    try:
        async with pool.write(Reach.INSTANCE) as session:
            await load_into(session, Vault(SECRET))
            await session.commit()
    finally:
        await pool.close()


@pytest.fixture(scope="session")
def live_api(
    make_database: Callable[[str], TestDatabase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    """The API with the demo in it, and with whatever the tests before have made."""
    with serving_demo(make_database("cli"), tmp_path_factory.mktemp("live")) as api:
        yield api


@contextlib.contextmanager
def serving_demo(database: TestDatabase, folder: Path) -> Generator[LiveApi]:
    """The API with the demo in it. Every person has signed in once: hashing takes long by design."""
    from pmis.cli.client import Api

    asyncio.run(_load_demo(database))
    settings = load_settings(
        embedded=False,
        database_url=database.app_dsn,
        database_auditor_url=database.auditor_dsn,
        pmis_data_dir=folder,
        lock_timeout_ms=300,
        secret_key=SECRET,
        jwt_secret_key=JWT_SECRET,
        access_token_minutes=60,
        step_up_minutes=1440,
        environment="test",
    )
    with Serving(create_app(settings)) as serving:
        tokens: dict[str, str] = {}
        for _, email, _roles in PEOPLE:
            api = Api(serving.url)
            said = api.request("POST", ("auth", "login"), body={"email": email, "password": PASSWORD})
            tokens[email.partition("@")[0]] = said.json["access_token"]
            api.close()
        yield LiveApi(serving.url, database, tokens, settings)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder and a data folder of the test's own, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("PMIS_") and name != "PMIS_TEST_ROOT"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "config"
    monkeypatch.setenv("PMIS_CONFIG_DIR", str(folder))
    monkeypatch.setenv("PMIS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return folder


@pytest.fixture
def signed_in(home: Path, live_api: LiveApi) -> LiveApi:
    """Everybody of the demo is signed in, under the first part of their address."""
    for name, email, _ in PEOPLE:
        profile = email.partition("@")[0]
        accounts.keep(accounts.Account(live_api.url, live_api.tokens[profile], profile, email, name))
    return live_api


class _Stdin(io.TextIOWrapper):
    def isatty(self) -> bool:
        return False


def run(*arguments: str, stdin: str | bytes = b"") -> Ran:
    """Run a command in this process, from `sys.argv` to the exit code, as `pmis` would."""
    out, err = io.BytesIO(), io.BytesIO()
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["pmis", *arguments], _Stdin(io.BytesIO(raw), encoding="utf-8")
    outward, errors = io.TextIOWrapper(out, encoding="utf-8"), io.TextIOWrapper(err, encoding="utf-8")
    try:
        with contextlib.redirect_stdout(outward), contextlib.redirect_stderr(errors):
            try:
                main.run()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.argv, sys.stdin = before
    for stream in (outward, errors):
        stream.flush()
    return Ran(code, out.getvalue().decode(), err.getvalue().decode())


@pytest.fixture
def pmis(signed_in: LiveApi) -> Callable[..., Ran]:
    """Runs a command in this process; the demo's people are signed in."""
    return run


def spawn(*arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Ran:
    """Run a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pmis.cli.main", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def serving(app: Any) -> Generator[Serving]:
    """Another server, for as long as it is needed."""
    with Serving(app) as one:
        yield one


_STEPS = ("submitted", "in_review", "approved", "awarded", "active")


@pytest.fixture
def make_package(pmis: Callable[..., Ran]) -> Callable[..., str]:
    """Makes a package of the test's own and moves it to a status; returns its code."""

    def make(
        title: str, *, status: str = "draft", who: str = "operator", agreeing: str = "admin", **fields: str
    ) -> str:
        given = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", value)]
        made = pmis("package", "create", "--title", title, *given, "--json", "--as", who)
        assert made.code == 0, made
        code = made.json["resource"]["code"]
        for step in _STEPS[: _STEPS.index(status) + 1] if status != "draft" else ():
            moved = pmis("package", "transition", code, step, "--json", "--as", who)
            assert moved.code == 0, moved
            for other in (agreeing, "executive"):
                if moved.json["outcome"] == "pending":
                    approval = moved.json["approval"]["id"]
                    moved = pmis("approval", "approve", approval, "--yes", "--json", "--as", other)
                    assert moved.code == 0, moved
        return code

    return make


def approval_in(out: str) -> str:
    """The short id of the approval that an outcome names."""
    found = re.search(r"approval ([0-9a-f]{8})", out)
    assert found, out
    return found.group(1)


def spawn_tty(
    *arguments: str,
    answers: Sequence[tuple[str, str]] = (),
    columns: int = 100,
    environment: dict[str, str] | None = None,
) -> Ran:
    """Run a command on a terminal of its own, and answer each prompt once it is there."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # Workers are told a width of their own, which would count for more than the terminal's.
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pmis.cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**kept, "TERM": "xterm-256color", **(environment or {})},
    )
    os.close(theirs)
    waiting = list(answers)
    printed, seen = b"", 0
    with contextlib.suppress(OSError):  # the other end was closed
        while select.select([ours], [], [], 60)[0] and (chunk := os.read(ours, 65_536)):
            printed += chunk
            if waiting and (found := printed.find(waiting[0][0].encode(), seen)) >= 0:
                seen = found + len(waiting[0][0])
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
    os.close(ours)
    if process.poll() is None:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return Ran(process.returncode, printed.decode().replace("\r\n", "\n"), "")
