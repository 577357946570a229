"""A mailbox on a real IMAP server."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from pmis.mail.imap import Mailbox

if TYPE_CHECKING:
    from collections.abc import Generator

NAME = "box"


@dataclass
class Server:
    """An IMAP server of its own process, which forgets everything when it is stopped."""

    port: int = 0
    password: str = field(default_factory=lambda: f"the password {secrets.token_hex(8)}", repr=False)
    """No other server's, so that one that has taken the port is not held for this one."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on a free port, or on the same one again."""
        again = self.process is not None
        for _ in range(5):
            if not again:
                with socket.create_server(("127.0.0.1", 0)) as free:
                    self.port = free.getsockname()[1]
            if self._lets_us_in():
                return
        raise AssertionError("the IMAP server did not start")

    def _lets_us_in(self) -> bool:
        program = Path(sys.executable).with_name("pymap")
        listen = ("--host", "127.0.0.1", "--port", str(self.port), "--no-tls", "--no-service", "admin")
        self.process = subprocess.Popen(
            [program, *listen, "dict", "--demo-user", NAME, "--demo-password", self.password],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            try:
                with self.client():
                    return True
            except (OSError, IMAPClientError):
                time.sleep(0.1)
        self.stop()
        return False

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox("127.0.0.1", self.port, NAME, self.password, security="none")

    @contextmanager
    def client(self) -> Generator[Any]:
        client: Any = IMAPClient("127.0.0.1", self.port, ssl=False, timeout=30)
        try:
            client.login(NAME, self.password)
            client.select_folder("INBOX")
            yield client
        finally:
            client.shutdown()

    def put(self, *mails: bytes) -> None:
        with self.client() as client:
            for raw in mails:
                client.append("INBOX", raw)

    def flags(self, folder: str = "INBOX") -> list[set[bytes]]:
        """What is said of each mail of a folder."""
        with self.client() as client:
            client.select_folder(folder)
            found = client.search()
            told = client.fetch(found, ["FLAGS"]) if found else {}
            return [set(told[uid][b"FLAGS"]) - {b"\\Recent"} for uid in sorted(told)]


@contextmanager
def mailbox_server() -> Generator[Server]:
    """A server that runs."""
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()
