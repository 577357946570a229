"""`pmis up` as a whole, on real processes: everything is killed once, and everything comes back by itself."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from pmis.kit.settings import Settings
from pmis.ops import process
from pmis.ops.process import command_as, identity, named_user

pytestmark = pytest.mark.slow
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
PMIS = [sys.executable, "-P", "-m", "pmis.cli.main"]
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A run in the background of a shell ignores it, and whatever is started here would do so too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
PARTS = ("api", "postgres", "valkey", "sealer", "relay", "worker", "worker-long", "beat")


def environment(**values):
    """The environment without settings of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.removesuffix("_FILE").lower() not in Settings.model_fields
    }
    return {**kept, **values}


def number(who: str) -> int:
    """The process number in an identity."""
    return int(who.partition(":")[0])


class Running:
    """One `pmis up`, what it says, and the processes it keeps."""

    def __init__(self, folder, *arguments, user=None, interpreter=sys.executable, pages=False, **values):
        self.folder = folder
        # A user without rights in the checkout could not write coverage data either.
        kept = environment(**values) if user is None else {"PATH": "/usr/bin:/bin", **values}
        web = ["--web-port", "0"] if pages else ["--no-web"]
        command = [interpreter, *PMIS[1:], "up", "--data-dir", str(folder), "--port", "0", *web, *arguments]
        self.process = subprocess.Popen(
            command if user is None else command_as(user, command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=kept,
            start_new_session=True,
        )
        self.lines = []
        self._queue = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, text, seconds=90):
        """Everything said up to and with the line that holds the text."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{text!r} was not said in {seconds} s; this was:\n" + "\n".join(self.lines) + self.logs())
            if line is None:
                pytest.fail(f"ended before saying {text!r}:\n" + "\n".join(self.lines) + self.logs())
            self.lines.append(line)
            if text in line:
                return line

    def logs(self):
        return "".join(f"\n--- {path.name}\n{path.read_text()[-1500:]}" for path in self.folder.glob("logs/*.log"))

    def ready(self):
        self.until("PMIS is ready after")
        return self

    @property
    def url(self):
        return json.loads((self.folder / "runtime.json").read_text())["PMIS_URL"]

    def who(self, name):
        try:
            return json.loads((self.folder / "processes.json").read_text()).get(name)
        except (OSError, ValueError):
            return None

    def settled(self):
        """Every part, once each of them has lived for a second: not all of them are waited for at the start."""
        parts = {}

        def same():
            before = {name: self.who(name) for name in PARTS}
            time.sleep(1)
            parts.update({name: self.who(name) for name in PARTS})
            return parts == before and all(who and identity(number(who)) == who for who in parts.values())

        eventually(same)
        return parts

    def pid(self, name):
        return number(self.who(name) or pytest.fail(f"{name} does not run"))

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def healthy(self, seconds=30):
        deadline = time.monotonic() + seconds
        last = None
        while time.monotonic() < deadline:
            last = self.get("/api/v1/readiness")
            if last[0] == 200 and set(last[1]["checks"].values()) == {"ok"} and len(last[1]["checks"]) == 4:
                return
            time.sleep(0.05)
        pytest.fail(f"not healthy: {last}{self.logs()}")

    def kill(self, name):
        """Kill a part as hard as can be and wait for its successor."""
        before = self.who(name)
        os.kill(self.pid(name), signal.SIGKILL)
        eventually(lambda: self.who(name) not in (None, before))
        return before

    def end(self, signal_number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it still runs 60 s after {signal_number!r}{self.logs()}")
        self._reader.join(5)
        while not self._queue.empty():
            if (line := self._queue.get()) is not None:
                self.lines.append(line)
        return code

    def leave_nothing(self):
        """Kill whatever is left, for a test that failed half-way."""
        recorded = [self.who(name) for name in PARTS]
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for who in filter(None, recorded):
            if identity(number(who)) == who:
                os.kill(number(who), signal.SIGKILL)
        assert self.process.stdout is not None
        self._reader.join(5)
        self.process.stdout.close()


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def eventually(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place():
    """A folder with a space in its name, short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="pmis up-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def up():
    started = []

    def start(folder, *arguments, **options):
        running = Running(folder, *arguments, **options)
        started.append(running)
        return running

    yield start
    for running in started:
        running.leave_nothing()


@pytest.fixture(scope="module")
def installed(place):
    """A folder that a first start has filled, and that nobody uses now."""
    running = Running(place / "installed")
    try:
        running.ready()
        assert running.end() == 0
    finally:
        running.leave_nothing()
    return running.folder


@pytest.fixture
def folder(installed, place):
    """A copy of it, so that the tests need no order."""
    copy = Path(tempfile.mkdtemp(prefix="data ", dir=place))
    subprocess.run(["/bin/cp", "-a", f"{installed}/.", copy], check=True)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def login(running, person="admin"):
    body = json.dumps({"email": f"{person}@demo.example", "password": "demo-demo-demo"}).encode()
    request = urllib.request.Request(
        f"{running.url}/api/v1/auth/login",
        data=body,
        headers={"Content-Type": "application/json", "Idempotency-Key": f"login-{time.time_ns()}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status


class TestLife:
    """What an install goes through."""

    def test_from_an_empty_folder_to_a_working_login(self, up, place):
        folder = place / "empty"
        running = up(folder).ready()
        running.until("Ctrl-C")
        said = "\n".join(running.lines)
        assert "demo loaded" in said
        assert "analyst@demo.example" in said
        assert running.url in said
        running.healthy()
        assert login(running) == 200

        assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.json")} == {
            "secrets.json": 0o600,
            "runtime.json": 0o600,
            "processes.json": 0o600,
        }
        if os.geteuid() == 0:
            owners = {name: Path(f"/proc/{running.pid(name)}").stat().st_uid for name in ("postgres", "valkey")}
            assert owners == dict.fromkeys(("postgres", "valkey"), named_user("nobody").uid)

        second = up(folder)
        assert second.process.wait(30) == 1
        assert second.until("error:") == (
            f"error: PMIS already runs from this folder (pid {running.process.pid}) at {running.url}."
        )
        running.healthy()

        eventually(lambda: list((folder / "checkpoints").rglob("*")), seconds=30)
        doctor = subprocess.run(
            [*PMIS, "doctor", "--json"],
            check=False, capture_output=True, text=True, env=environment(PMIS_DATA_DIR=str(folder)),
        )  # fmt: skip
        # How full the disk is says nothing about the system.
        told = [found for found in json.loads(doctor.stdout) if found["check"] != "disk"]
        assert ({found["level"] for found in told}, doctor.stderr) == ({"ok"}, ""), told

        assert running.end(signal.SIGINT) == 0
        assert running.lines[-1] == "PMIS has stopped."
        assert not (folder / "runtime.json").exists()
        assert not (folder / "processes.json").exists()
        assert list(process.working_in(folder / "servers" / "postgres")) == []

    def test_each_part_that_is_killed_comes_back(self, up, folder):
        running = up(folder).ready()
        assert "demo loaded" not in "\n".join(running.lines)
        for name in ("sealer", "relay", "worker", "worker-long", "beat", "valkey", "postgres", "api"):
            running.kill(name)
            running.until(f"{name} is back after")
            running.healthy()
        assert login(running) == 200
        for name in PARTS:
            os.kill(running.pid(name), signal.SIGKILL)
        running.until("postgres is back after")
        running.healthy()
        assert login(running) == 200
        assert running.end() == 0

    def test_no_caller_is_refused_while_the_api_is_started_again(self, up, folder):
        running = up(folder).ready()
        os.kill(running.pid("api"), signal.SIGKILL)
        status, _ = running.get("/api/v1/health")
        assert status == 200
        assert running.end() == 0

    def test_a_killed_supervisor_is_cleared_up_after(self, up, folder):
        running = up(folder).ready()
        before = {name: running.who(name) for name in PARTS}
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(10)
        if process.HAS_PROC:  # there the system ends the children with their parent
            eventually(lambda: all(identity(number(who)) != who for who in before.values()))
        assert (folder / "runtime.json").exists()
        again = up(folder).ready()
        again.healthy()
        assert login(again) == 200
        assert again.end() == 0

    def test_orphans_of_a_killed_supervisor_are_ended_first(self, up, folder, monkeypatch):
        """As on systems that do not end the children: the servers are stopped from dying with their parent."""
        running = up(folder).ready()
        orphans = running.settled()
        pids = [number(who) for who in orphans.values()]
        for pid in pids:  # a stopped process takes its parent's death signal only when it runs again
            os.kill(pid, signal.SIGSTOP)
        if process.HAS_PROC:  # a signal that finds it still running would be taken before the stop
            eventually(lambda: all(stopped(pid) for pid in pids))
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(10)
        assert {n: identity(number(who)) for n, who in orphans.items()} == orphans
        for pid in pids[2:]:
            os.kill(pid, signal.SIGCONT)
        again = up(folder)
        again.ready()
        assert all(identity(number(who)) != who for who in orphans.values())
        again.healthy()
        assert login(again) == 200
        assert again.end() == 0

    def test_a_port_that_was_taken_meanwhile_moves_the_database(self, up, folder):
        running = up(folder).ready()
        port = json.loads((folder / "runtime.json").read_text())["POSTGRES_PORT"]
        running.until("Ctrl-C")
        os.kill(running.pid("postgres"), signal.SIGSTOP)
        # The stopped server still holds its port: take it in the moment of its death.
        stolen: list[socket.socket] = []

        def take():
            while not stolen:
                with contextlib.suppress(OSError):
                    stolen.append(socket.create_server(("127.0.0.1", port)))

        thief = threading.Thread(target=take)
        thief.start()
        os.kill(running.pid("postgres"), signal.SIGKILL)
        thief.join(20)
        eventually(lambda: json.loads((folder / "runtime.json").read_text())["POSTGRES_PORT"] != port)
        running.until("api is back after")
        running.healthy()
        assert login(running) == 200
        stolen[0].close()
        assert running.end() == 0

    def test_valkeys_files_may_be_lost(self, up, folder):
        for path in (folder / "servers" / "valkey" / "appendonlydir").iterdir():
            path.write_bytes(b"\x00nonsense\x00" * 50)
        running = up(folder).ready()
        assert any("nothing that counts is in them" in line for line in running.lines)
        running.healthy()
        assert running.end() == 0

    def test_a_missing_secrets_file_does_not_cost_the_database(self, up, folder):
        (folder / "secrets.json").rename(folder / "put-away")
        running = up(folder)
        assert running.process.wait(30) == 1
        assert "is gone. Restore that file" in running.until("error:")
        (folder / "put-away").rename(folder / "secrets.json")


class TestRefusals:
    def test_a_port_in_use(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            answer = subprocess.run(
                [*PMIS, "up", "--data-dir", str(tmp_path / "d"), "--port", str(port), "--no-web"],
                check=False, capture_output=True, text=True, env=environment(), timeout=60,
            )  # fmt: skip
        assert answer.returncode == 1
        assert answer.stderr == (
            f"error: PMIS cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another with --port.\n"
        )
        assert not (tmp_path / "d" / "servers").exists()

    def test_production_on_weak_secrets(self, up, tmp_path):
        running = up(tmp_path / "d", ENVIRONMENT="production", SECRET_KEY="changeme", PMIS_NOW="2026-01-01T00:00:00Z")
        assert running.process.wait(60) == 1
        said = running.until("error:")
        assert "SECRET_KEY is a placeholder" in said
        assert "PMIS_NOW is set" in said
        assert "JWT_SECRET_KEY" not in said
        assert not (tmp_path / "d" / "servers").exists()

    def test_the_api_alone_in_production(self):
        answer = subprocess.run(
            [*PMIS, "api"],
            check=False, capture_output=True, text=True, timeout=60,
            env=environment(
                ENVIRONMENT="production", DATABASE_URL="postgresql://u:postgres@h/d", JWT_SECRET_KEY="x" * 20,
                PMIS_DATA_DIR="/nonexistent",
            ),
        )  # fmt: skip
        assert answer.returncode == 1
        assert answer.stderr == (
            "error: SECRET_KEY is not set; JWT_SECRET_KEY is too short (20 bytes, at least 32 needed); "
            "DATABASE_URL has a default password.\n"
        )

    def test_a_database_that_is_not_there(self, up, tmp_path):
        running = up(tmp_path / "d", DATABASE_URL="postgresql://u@127.0.0.1:1/d", REDIS_URL="redis://127.0.0.1:1")
        assert running.process.wait(60) == 1
        assert "error: The database cannot be reached: " in running.until("error:")


def test_servers_of_ones_own_are_used_and_nothing_is_embedded(up, make_database, tmp_path):
    database = make_database("own")
    running = up(
        tmp_path / "d",
        "--no-demo",
        DATABASE_URL=database.app_dsn,
        DATABASE_OWNER_URL=database.owner_dsn,
        DATABASE_SEALER_URL=database.sealer_dsn,
        DATABASE_WORKER_URL=database.worker_dsn,
        DATABASE_RELAY_URL=database.relay_dsn,
        REDIS_URL="redis://127.0.0.1:1",
    ).ready()
    running.until("Nobody can sign in yet. Make the first administrator: ./pmis admin create EMAIL --name NAME")
    assert running.get("/api/v1/readiness")[1]["checks"]["database"] == "ok"
    ours = set(PARTS) - {"postgres", "valkey"}
    assert set(json.loads((running.folder / "processes.json").read_text())) == ours
    assert not (running.folder / "servers").exists()
    with psycopg.connect(database.admin_dsn) as connection:
        users = connection.execute("select distinct usename from pg_stat_activity where datname = %s", (database.name,))
        assert ("pmis_app",) in users.fetchall()
    assert running.end() == 0


def _copied_interpreter(folder):
    """The running interpreter where everybody may read it: the packages were chosen for exactly this version."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    source = Path(sys.base_prefix)
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*", "*.a")
    shutil.copytree(source / "lib" / version, folder / "lib" / version, ignore=left_out)
    for library in (source / "lib").glob("libpython*.so*"):
        shutil.copy2(library, folder / "lib" / library.name)
    (folder / "bin").mkdir()
    shutil.copy2(source / "bin" / version, folder / "bin" / version)
    for made in (folder, *folder.rglob("*")):
        made.chmod(0o755 if made.is_dir() or made.parent.name == "bin" else 0o644)
    return folder / "bin" / version


@as_root
def test_an_ordinary_user_needs_no_rights(up, place):
    """As a user who owns nothing but the data folder; the interpreter must be one that this user may run."""
    nobody = named_user("nobody")
    folder = place / "of nobody"
    folder.mkdir()
    os.chown(folder, nobody.uid, nobody.gid)
    interpreter = Path(sys.executable)
    if not process.can_use(nobody, interpreter.resolve().parent):
        interpreter = _copied_interpreter(place / "python")
    packages = ":".join(path for path in sys.path if path.endswith(("-packages", "server")))
    running = up(
        folder,
        user=nobody,
        interpreter=str(interpreter),
        PYTHONPATH=packages,
        LD_LIBRARY_PATH=str(interpreter.parent.parent / "lib"),
    ).ready()
    running.healthy()
    assert login(running) == 200
    assert {Path(f"/proc/{running.pid(name)}").stat().st_uid for name in PARTS} == {nobody.uid}
    running.kill("postgres")
    running.until("postgres is back after")
    running.healthy()
    assert running.end() == 0
