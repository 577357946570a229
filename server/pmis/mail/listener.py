"""The SMTP and LMTP listener: says 250 to a mail once it is committed, and to a recipient only when there is one.

It takes mail for this instance's own addresses and passes nothing on. What goes wrong on this side is a 451: the
sender keeps the mail and comes again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP

from pmis.kit.db import Reach
from pmis.kit.errors import PmisError, TooLargeError, UnavailableError
from pmis.kit.ids import uuid7
from pmis.kit.logs import CORRELATION
from pmis.mail.intake import Delivery, accept
from pmis.mail.routing import is_ours

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from pmis.email.addresses import Addresses
    from pmis.kit.db import Database
    from pmis.kit.settings import Settings
    from pmis.kit.storage import Storage
    from pmis.mail.intake import Way

log = logging.getLogger("pmis.mail")
_LATER: Final = "451 4.3.0 This cannot be taken now. Try again later."
_MAX_RECIPIENTS: Final = 100
_IDLE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Desk:
    """What a mail is handed to."""

    database: Database
    storage: Storage
    addresses: Addresses
    settings: Settings


class Handler:
    """What is said to each command."""

    def __init__(self, desk: Desk, way: Way) -> None:
        """For one of the two protocols."""
        self._desk = desk
        self._way: Way = way
        relays = desk.settings.mail_trusted_relays
        self._trusted = [ip_network(part) for part in map(str.strip, relays.split(",")) if part]

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take the recipient if it is an address of this instance that leads somewhere."""
        if len(envelope.rcpt_tos) >= _MAX_RECIPIENTS:
            return "452 4.5.3 There are too many recipients."
        place = self._desk.addresses.place_of(address)
        if place is None:
            return "550 5.1.1 This is not an address of this system."
        try:
            async with self._desk.database.read(Reach.INSTANCE) as session:
                ours = await is_ours(session, place)
        except PmisError:
            return _LATER
        if not ours:
            return "550 5.1.1 There is nobody at this address."
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 It will be taken."

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take the mail; the answer comes after the commit."""
        answer = await self._take(session, envelope)
        # LMTP (RFC 2033) answers for each recipient.
        return "\r\n".join([answer] * len(envelope.rcpt_tos)) if self._way == "lmtp" else answer

    async def _take(self, session: Session, envelope: Envelope) -> str:
        peer = str(session.peer[0]) if isinstance(session.peer, tuple) and session.peer else None
        content = envelope.original_content
        delivery = Delivery(
            self._way,
            content if content is not None else b"",
            tuple(envelope.rcpt_tos),
            envelope.mail_from,
            peer,
            trusted=self._way == "lmtp" or self._is_trusted(peer),
            correlation_id=f"mail-{uuid7()}",
        )
        CORRELATION.set(delivery.correlation_id)
        try:
            accepted = await accept(
                self._desk.database, self._desk.storage, delivery, max_bytes=self._desk.settings.mail_max_bytes
            )
        except TooLargeError:
            return "552 5.3.4 The mail is too large."
        except UnavailableError as error:
            log.warning("a mail was not taken: %s", error.detail)
            return _LATER
        log.info("mail %s %s by %s", accepted.id, "came again" if accepted.repeated else "accepted", self._way)
        return f"250 2.0.0 Taken as {accepted.id}"

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours is no reason to lose a mail: the sender keeps it."""
        log.error("a fault while a mail was taken: %s", type(error).__name__)
        return _LATER


class Certificate:
    """The certificate of the settings, read again when its files were replaced."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises UnavailableError for files that are no certificate and its key."""
        self._files = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self._seen = self._stamps()
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise UnavailableError(
                f"MAIL_SMTP_TLS_CERT and MAIL_SMTP_TLS_KEY cannot be read as a certificate and its key: {error}."
            ) from None

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """The certificate, where one is set; raises UnavailableError when only half of what is needed is."""
        certificate, key = settings.mail_smtp_tls_cert, settings.mail_smtp_tls_key
        if certificate is not None and key is not None:
            return cls(certificate, key)
        if certificate is not None or key is not None or settings.mail_smtp_require_tls:
            raise UnavailableError("STARTTLS needs both MAIL_SMTP_TLS_CERT and MAIL_SMTP_TLS_KEY.")
        return None

    def renew(self) -> None:
        """Use what stands in the files now; while they do not fit, as in the middle of a renewal, what stood there."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            # Another context, and not this one: it would keep a certificate of another kind of key beside the new one,
            # and one whose key does not fit would leave it without any.
            renewed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            renewed.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate was replaced by one that cannot be used: %s", error)
            return
        self.context = renewed
        self._seen = stamps
        log.info("the certificate was renewed")

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        found = [path.stat() for path in self._files]
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)


@asynccontextmanager
async def listening(desk: Desk) -> AsyncGenerator[dict[str, int]]:
    """Listen on the ports of the settings; gives the port of each protocol. Raises UnavailableError."""
    loop = asyncio.get_running_loop()
    settings = desk.settings
    wanted: tuple[tuple[Way, type[SMTP], int | None], ...] = (
        ("smtp", SMTP, settings.mail_smtp_port),
        ("lmtp", LMTP, settings.mail_lmtp_port),
    )
    servers: list[asyncio.Server] = []
    ports: dict[str, int] = {}
    try:
        for way, protocol, port in wanted:
            if port is None:
                continue
            try:
                server = await loop.create_server(_maker(desk, way, protocol, loop), settings.mail_smtp_host, port)
            except OSError as error:
                raise UnavailableError(
                    f"{way.upper()} cannot listen on {settings.mail_smtp_host} port {port}: {error.strerror}."
                ) from None
            servers.append(server)
            ports[way] = server.sockets[0].getsockname()[1]
        yield ports
    finally:
        for server in servers:
            server.close()


def _maker(desk: Desk, way: Way, protocol: type[SMTP], loop: asyncio.AbstractEventLoop) -> Callable[[], SMTP]:
    handler = Handler(desk, way)
    # LMTP is spoken with a mail server of one's own.
    certificate = Certificate.of(desk.settings) if way == "smtp" else None

    def make() -> SMTP:
        if certificate is not None:
            certificate.renew()
        return protocol(
            handler,
            tls_context=certificate.context if certificate else None,
            require_starttls=certificate is not None and desk.settings.mail_smtp_require_tls,
            data_size_limit=desk.settings.mail_max_bytes,
            enable_SMTPUTF8=True,
            hostname=socket.gethostname(),
            ident="PMIS",
            timeout=_IDLE_SECONDS,
            command_call_limit={"RCPT": _MAX_RECIPIENTS + 10, "*": 50},
            loop=loop,
        )

    return make


async def serve(desk: Desk, say: Callable[[str], Any]) -> None:
    """Listen until a signal ends it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await desk.database.open()
    try:
        async with listening(desk) as ports:
            for way, port in ports.items():
                say(f"{way.upper()} for {desk.addresses.domain} on {desk.settings.mail_smtp_host} port {port}")
            await ended.wait()
    finally:
        await desk.database.close()
