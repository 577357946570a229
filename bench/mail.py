"""How long a mail takes from the answer that it is taken until it is filed, by each of the four ways in.

A real `pmis up` in a folder that is thrown away, with its demo project; a real conversation by SMTP, a signed webhook,
a mailbox on a real IMAP server, and `pmis mail ingest`. Mails come at a steady rate, each way in its turn; all of them
but the file's carry an attachment. The clock starts when the sender has its answer and stops when the mail is seen as
filed, by the clock of this program.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import psycopg
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError
from rich.console import Console

from pmis.kit.settings import Settings
from pmis.kit.signing import headers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

BAR_SECONDS: Final = 5.0
EACH_SECONDS: Final = 0.5
"""A mail each half second."""
LOOK_SECONDS: Final = 0.02
LEFT_SECONDS: Final = 120.0
DOMAIN: Final = "mail.bench.example"
BOX: Final = "box"
SUBJECT: Final = "Mail number "
_FILED: Final = (
    "select i.content::jsonb #>> '{headers,subject}', i.source from mail.inbound i "
    "where exists (select from state.email e where (e.doc::jsonb ->> 'inbound_id')::uuid = i.id)"
)
console = Console(highlight=False, soft_wrap=True)


class MailBenchError(Exception):
    """What keeps the benchmark from being one."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def letter(number: int, *, attachment: bool) -> bytes:
    """A mail about a package of the demo project, from one of its people."""
    mail = EmailMessage()
    mail["From"] = "Ana Lyst <analyst@demo.example>"
    mail["To"] = f"p-001@{DOMAIN}"
    mail["Subject"] = f"{SUBJECT}{number}"
    mail["Message-ID"] = f"<{number}.{secrets.token_hex(8)}@demo.example>"
    mail.set_content("Please change the planned end to 2031-12-01.\n")
    if attachment:
        mail.add_attachment(b"%PDF-1.7 " + os.urandom(50_000), "application", "pdf", filename="offer.pdf")
    return mail.as_bytes(policy=policy.SMTP)


def _await_listener(port: int) -> None:
    """Return when somebody listens; the parts of `pmis up` that nobody waits for come a little later."""
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                message = "the SMTP listener did not start"
                raise MailBenchError(message) from None
            time.sleep(0.1)
        else:
            return


@contextmanager
def _imap() -> Generator[tuple[int, str]]:
    """A mailbox on an IMAP server of its own: its port and its password."""
    port, password = _free_port(), secrets.token_hex(16)
    program = Path(sys.executable).with_name("pymap")
    listen = ("--host", "127.0.0.1", "--port", str(port), "--no-tls", "--no-service", "admin")
    server = subprocess.Popen(
        [program, *listen, "dict", "--demo-user", BOX, "--demo-password", password],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while True:
            try:
                _mailbox(port, password).logout()
                break
            except (OSError, IMAPClientError):
                if server.poll() is not None or time.monotonic() > until:
                    message = "the IMAP server did not start"
                    raise MailBenchError(message) from None
                time.sleep(0.1)
        yield port, password
    finally:
        server.kill()
        server.wait()


def _mailbox(port: int, password: str) -> Any:  # noqa: ANN401 - the library has no types
    client: Any = IMAPClient("127.0.0.1", port, ssl=False, timeout=30)
    client.login(BOX, password)
    return client


@contextmanager
def _running(folder: Path, **values: str) -> Generator[dict[str, str]]:
    """A `pmis up`; gives what its `runtime.json` says."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.removesuffix("_FILE").lower() not in Settings.model_fields
    }
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "pmis.cli.main",
                "up",
                "--data-dir",
                str(folder / "data"),
                "--port",
                "0",
                "--no-web",
            ],
            stdout=log,
            stderr=log,
            cwd="/",
            env={**kept, **values},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while "PMIS is ready" not in (folder / "up.log").read_text():
            if process.poll() is not None or time.monotonic() > until:
                message = f"pmis up did not start:\n{(folder / 'up.log').read_text()}"
                raise MailBenchError(message)
            time.sleep(0.1)
        yield json.loads((folder / "data" / "runtime.json").read_text())
    finally:
        process.terminate()
        process.wait(60)


class Senders:
    """Each way in: a call that returns when the mail is taken."""

    def __init__(self, runtime: dict[str, str], folder: Path, smtp: int, secret: str, box: tuple[int, str]) -> None:
        """Nothing is sent yet."""
        self._runtime, self._folder = runtime, folder
        self._smtp, self._secret = smtp, secret
        self._box = _mailbox(*box)
        self.ways: dict[str, Callable[[int], None]] = {
            "smtp": self.by_smtp,
            "webhook": self.by_webhook,
            "imap": self.by_imap,
            "file": self.by_file,
        }

    def by_smtp(self, number: int) -> None:
        """A conversation that ends with 250."""
        with smtplib.SMTP("127.0.0.1", self._smtp, timeout=30) as client:
            client.sendmail("analyst@demo.example", [f"p-001@{DOMAIN}"], letter(number, attachment=True))

    def by_webhook(self, number: int) -> None:
        """A signed call that is answered with 202."""
        body = letter(number, attachment=True)
        headers = headers_of([self._secret], f"bench_{number}", int(time.time()), body)
        api = http.client.HTTPConnection(urlsplit(self._runtime["PMIS_URL"]).netloc, timeout=30)
        api.request("POST", "/api/v1/mail/inbound", body, {**headers, "Content-Type": "message/rfc822"})
        answer = api.getresponse()
        if answer.status != 202:
            message = f"the webhook answered {answer.status}: {answer.read().decode()}"
            raise MailBenchError(message)
        api.close()

    def by_imap(self, number: int) -> None:
        """Delivered into the mailbox, which PMIS watches."""
        self._box.append("INBOX", letter(number, attachment=True))

    def by_file(self, number: int) -> None:
        """`pmis mail ingest`."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pmis.cli.main", "mail", "ingest", "-"],
            input=letter(number, attachment=False),
            env={**os.environ, "PMIS_DATA_DIR": str(self._folder / "data"), "MAIL_DOMAIN": DOMAIN},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            message = f"pmis mail ingest failed: {done.stderr.decode()}"
            raise MailBenchError(message)


class Watcher:
    """Notes when each mail is first seen as filed."""

    def __init__(self, dsn: str) -> None:
        """Connect, for reading."""
        self._connection = psycopg.connect(dsn, autocommit=True, options="-c pmis.reach=*")
        self.seen: dict[int, tuple[float, str]] = {}

    def look(self, until: float) -> None:
        """Look again and again until that moment of the monotonic clock."""
        while True:
            rows = self._connection.execute(_FILED).fetchall()
            now = time.monotonic()
            for subject, source in rows:
                if subject.startswith(SUBJECT):
                    self.seen.setdefault(int(subject.removeprefix(SUBJECT)), (now, source))
            if now >= until:
                return
            time.sleep(min(LOOK_SECONDS, until - now))

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def _play(senders: Senders, watcher: Watcher, first: int, count: int) -> dict[int, float]:
    """Send so many mails, each way in its turn; when each of them was taken."""
    taken: dict[int, float] = {}
    ways = list(senders.ways.values())
    begun = time.monotonic()
    with console.status("sending") as status:
        for number in range(first, first + count):
            ways[number % len(ways)](number)
            taken[number] = time.monotonic()
            watcher.look(begun + len(taken) * EACH_SECONDS)
            status.update(f"{len(taken)} of {count} taken, {len(watcher.seen.keys() & taken)} filed")
        left = time.monotonic() + LEFT_SECONDS
        while taken.keys() - watcher.seen.keys() and time.monotonic() < left:
            watcher.look(time.monotonic() + 0.2)
    return taken


def measure(count: int) -> bool:
    """Measure, print, judge."""
    folder = Path(tempfile.mkdtemp(prefix="pmis-bench-"))
    folder.chmod(0o711)
    smtp, secret = _free_port(), secrets.token_urlsafe(32)
    try:
        with (
            _imap() as box,
            _running(
                folder,
                MAIL_DOMAIN=DOMAIN,
                MAIL_SMTP_PORT=str(smtp),
                MAIL_WEBHOOK_SECRET=secret,
                IMAP_SERVER="127.0.0.1",
                IMAP_PORT=str(box[0]),
                IMAP_USERNAME=BOX,
                IMAP_PASSWORD=box[1],
                IMAP_SECURITY="none",
            ) as runtime,
        ):
            _await_listener(smtp)
            senders, watcher = Senders(runtime, folder, smtp, secret, box), Watcher(runtime["DATABASE_URL"])
            try:
                # The first mail of each way waits for what the others find loaded; it is sent and not counted.
                _play(senders, watcher, 0, len(senders.ways))
                return _judge(senders, watcher, _play(senders, watcher, len(senders.ways), count))
            finally:
                watcher.close()
    except MailBenchError as error:
        console.print(f"error: {error}", markup=False)
        return False
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _judge(senders: Senders, watcher: Watcher, taken: dict[int, float]) -> bool:
    took: dict[str, list[float]] = {way: [] for way in senders.ways}
    for number, at in taken.items():
        if number in watcher.seen:
            seen, way = watcher.seen[number]
            took[way].append(max(0.0, seen - at))
    filed = [one for each in took.values() for one in each]
    for way, each in took.items():
        if each:
            median, most = statistics.median(each), max(each)
            console.print(f"{way:8} {len(each):4} filed, median {median:.2f} s, at most {most:.2f} s")
    kept = len(filed) == len(taken) and max(filed, default=BAR_SECONDS) < BAR_SECONDS
    console.print(
        f"{len(filed)} of {len(taken)} filed, one taken each {EACH_SECONDS} s; bar {BAR_SECONDS:.0f} s each: "
        f"{'kept' if kept else 'BROKEN'}"
    )
    return kept
