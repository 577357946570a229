"""Mail that is handed in by every way there is, again and again until it is taken, and what became of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import queue
import smtplib
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.faults.client import LOST, Client
from tests.faults.system import DOMAIN, WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.faults.system import System
    from tests.mail.mailbox import Server

_SOURCES: Final = {"smtp": "smtp", "webhook": "webhook", "ingest": "file", "imap": "imap"}


def letter(number: int, mark: str) -> bytes:
    return (
        f"From: Vera Vendor <vera@vendor.example>\r\nTo: p@{DOMAIN}\r\nSubject: Offer {mark} {number}\r\n"
        f"Message-ID: <{mark}-{number}@vendor.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n"
        f"This is the offer {number} of {mark}.\r\n"
    ).encode()


def digest_of(way: str, raw: bytes) -> tuple[str, str]:
    """What a mail is known by: the way it came, and the digest of what the transport hands over."""
    return _SOURCES[way], hashlib.sha256(raw).hexdigest()


@dataclass
class Senders:
    """Threads that send mails and remember which were accepted, and when."""

    system: System
    recipient: str
    mark: str
    accepted: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    again: int = 0
    """How often a mail was sent again, as it was not accepted or the answer was lost."""
    may_go_on: Callable[[], bool] = lambda: True
    _work: dict[str, queue.SimpleQueue[bytes]] = field(default_factory=dict[str, "queue.SimpleQueue[bytes]"])
    _threads: list[threading.Thread] = field(default_factory=list[threading.Thread])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    faults: list[str] = field(default_factory=list[str])
    stopped: bool = False

    def begin(self, plan: Mapping[str, tuple[int, int]], first: int = 1) -> dict[str, list[bytes]]:
        """Send so many mails by each way, with so many clients."""
        numbers = itertools.count(first)
        sent: dict[str, list[bytes]] = {}
        for way, (mails, clients) in plan.items():
            sent[way] = [letter(next(numbers), self.mark) for _ in range(mails)]
            waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            for raw in sent[way]:
                waiting.put(raw)
            for _ in range(clients):
                thread = threading.Thread(target=self._run, args=(way, waiting), daemon=True)
                self._threads.append(thread)
                thread.start()
        return sent

    @property
    def sending(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, way: str, waiting: queue.SimpleQueue[bytes]) -> None:
        once = getattr(self, f"_by_{way}")
        client = Client(self.system.api_port, patience=15)
        while not self.stopped:
            try:
                raw = waiting.get_nowait()
            except queue.Empty:
                break
            while not self.stopped and not self.may_go_on():
                time.sleep(0.05)
            while not self.stopped and not once(client, raw):
                self.again += 1
                time.sleep(0.1)
        client.close()

    def _accepted(self, way: str, raw: bytes) -> bool:
        with self._lock:
            self.accepted[digest_of(way, raw)] = time.monotonic()
        return True

    def _by_smtp(self, _client: Client, raw: bytes) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.system.smtp_port, timeout=15) as connection:
                refused = connection.sendmail("vera@vendor.example", [self.recipient], raw)
        except (*LOST, smtplib.SMTPException):
            return False
        return not refused and self._accepted("smtp", raw)

    def _by_webhook(self, client: Client, raw: bytes) -> bool:
        at = int(time.time())
        identity = f"msg_{hashlib.sha256(raw).hexdigest()[:24]}"
        signed = base64.b64encode(hmac.digest(WEBHOOK.encode(), f"{identity}.{at}.".encode() + raw, "sha256")).decode()
        headers = {
            "webhook_id": identity,
            "webhook_timestamp": str(at),
            "webhook_signature": f"v1,{signed}",
            "Content_Type": "message/rfc822",
        }
        try:
            answer = client.ask("POST", "/mail/inbound", raw, **headers)
        except LOST:
            return False
        if answer.status == 202:
            return self._accepted("webhook", raw)
        if answer.status != 503 or "retry-after" not in answer.headers:
            self.faults.append(f"webhook: {answer.status} {answer.body[:300]!r}")
            self.stopped = True
        return False

    def _by_ingest(self, _client: Client, raw: bytes) -> bool:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pmis.cli.main", "mail", "ingest", "-", "--to", self.recipient],
            input=raw,
            env=self.system.environment,
            check=False,
            capture_output=True,
            timeout=60,
            cwd="/",
        )
        return done.returncode == 0 and self._accepted("ingest", raw)


def seen_in(server: Server, mails: Sequence[bytes]) -> bool:
    """Whether all of them are marked as read, which says that they were taken."""
    flags = server.flags()
    return len(flags) == len(mails) and all(b"\\Seen" in one for one in flags)


@dataclass(frozen=True)
class Account:
    """What became of the mails that were accepted."""

    done: int
    dead: int
    lost: list[tuple[str, str]]
    """Accepted, and neither done nor visibly dead."""
    doubled: list[tuple[str, str]]
    """Done more than once in effect."""
    without_raw: list[str]
    seconds: list[float]
    """From the acceptance to the end, for each."""

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99) - 1] if self.seconds else 0.0


def account(system: System, accepted: Sequence[tuple[str, str]], objects: Path | None = None) -> Account:
    """Compare what was accepted with what the database and the storage hold."""
    rows: list[tuple[Any, ...]] = system.all(
        "select i.source, i.digest, "
        "(select count(*) from state.email e where e.doc::jsonb ->> 'inbound_id' = i.id::text), "
        "(select count(*) from ledger.event v where v.type = 'email.ingested' "
        " and v.payload::jsonb -> 'fields' ->> 'inbound_id' = i.id::text), "
        "array(select j.status from jobs.job j where j.kind = 'mail.file' "
        " and j.payload::jsonb ->> 'inbound_id' = i.id::text), "
        "extract(epoch from (select max(j.finished_at) from jobs.job j where j.kind = 'mail.file' "
        " and j.payload::jsonb ->> 'inbound_id' = i.id::text) - i.received_at)::float8 from mail.inbound i",
        (),
    )
    known = {(source, digest): rest for source, digest, *rest in rows}
    done = dead = 0
    lost: list[tuple[str, str]] = []
    doubled: list[tuple[str, str]] = []
    seconds: list[float] = []
    for one in accepted:
        emails, events, statuses, took = known.get(one, (0, 0, [], None))
        if max(emails, events) > 1:
            doubled.append(one)
        if statuses == ["dead"] and not events:
            dead += 1
        elif statuses == ["done"] and emails and events:
            done += 1
            seconds.append(float(took or 0.0))
        else:
            lost.append(one)
    objects = objects or system.folder / "objects"
    raw = [digest for _, digest in accepted if not (objects / digest[:2] / digest).is_file()]
    return Account(done, dead, lost, doubled, raw, seconds)
