"""A mailbox on a real IMAP server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imapclient import IMAPClient

from pmis.mail.imap import Mailbox

if TYPE_CHECKING:
    from collections.abc import Generator

NAME, PASSWORD = "box", "the password of the mailbox"


@dataclass
class Server:
    """An IMAP server of its own process, which forgets everything when it is stopped."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("pymap")
        listen = ("--host", "127.0.0.1", "--port", str(self.port), "--no-tls", "--no-service", "admin")
        self.process = subprocess.Popen(
            [program, *listen, "dict", "--demo-user", NAME, "--demo-password", PASSWORD],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            assert self.process.poll() is None, "the IMAP server did not start"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the IMAP server does not listen")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox("127.0.0.1", self.port, NAME, PASSWORD, security="none")

    @contextmanager
    def client(self) -> Generator[Any]:
        client: Any = IMAPClient("127.0.0.1", self.port, ssl=False, timeout=30)
        try:
            client.login(NAME, PASSWORD)
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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
