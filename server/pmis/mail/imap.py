"""Mail from a mailbox by IMAP: taken, committed, and only then marked there; IDLE tells of new ones at once.

What stands in the mailbox is asked for anew on each connection, and nothing is remembered of it here: a mailbox whose
UIDs begin anew (another UIDVALIDITY) is read like any other. A mail that was taken and not marked, as the process was
killed between the two, comes again, is known by its bytes, and makes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from pmis.kit.errors import PmisError, TooLargeError, UnavailableError
from pmis.kit.ids import uuid7
from pmis.kit.logs import CORRELATION
from pmis.mail.intake import Delivery, accept

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmis.kit.settings import Settings
    from pmis.mail.listener import Desk

log = logging.getLogger("pmis.mail")
# At DEBUG the library writes down what goes over the line: whole mails.
logging.getLogger("imapclient").setLevel(logging.INFO)
SECONDS: Final = 30.0
"""The longest that any answer of the server is waited for."""
IDLE_SECONDS: Final = 120
"""How long one IDLE lasts at most, and so how long a mail waits whose coming was told with the answer before it."""
_POLL_SECONDS: Final = 30
"""How often a server is asked that does not know IDLE."""
_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 300.0
_TURN_SECONDS: Final = 1.0
_EMPTY_ANSWERS: Final = 3
_EMPTY_PAUSE_SECONDS: Final = 0.1
_FAULTS: Final = (OSError, IMAPClientError, ValueError)
"""What the library raises; ValueError, UnicodeError among them, of words that cannot be sent or understood."""
_SEEN: Final = rb"\Seen"
_FLAGGED: Final = rb"\Flagged"


class MailboxUnavailableError(UnavailableError):
    """The mailbox does not answer, or does not let us in."""

    code = "mailbox_unavailable"


@dataclass(frozen=True)
class Mailbox:
    """Where mail is fetched from, and what becomes there of what was taken: it is read, or moved to a folder."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    folder: str = "INBOX"
    done: str | None = None
    security: Literal["tls", "starttls", "none"] = "tls"
    context: ssl.SSLContext | None = None

    @classmethod
    def of(cls, settings: Settings) -> Mailbox | None:
        """The mailbox of the settings; None when there is none."""
        if settings.imap_server is None:
            return None
        password = settings.imap_password.get_secret_value() if settings.imap_password else ""
        return cls(
            settings.imap_server,
            settings.imap_port,
            settings.imap_username or "",
            password,
            settings.imap_folder,
            settings.imap_done_folder,
            settings.imap_security,
        )


class Fetcher:
    """One connection to the mailbox. Its calls block, and are to be made in a thread."""

    def __init__(self, mailbox: Mailbox, max_bytes: int) -> None:
        """Connect and open the folder; raises MailboxUnavailableError."""
        self._mailbox = mailbox
        self._max_bytes = max_bytes
        context = mailbox.context or ssl.create_default_context()
        try:
            # The library says nothing of its types.
            client: Any = IMAPClient(
                mailbox.host,
                mailbox.port,
                ssl=mailbox.security == "tls",
                ssl_context=context if mailbox.security == "tls" else None,
                timeout=SECONDS,
            )
        except _FAULTS as error:
            raise _unavailable(mailbox, error) from None
        self._client = client
        try:
            if mailbox.security == "starttls":
                client.starttls(context)
            client.login(mailbox.username, mailbox.password)
            if mailbox.done is not None and not client.folder_exists(mailbox.done):
                client.create_folder(mailbox.done)
            client.select_folder(mailbox.folder)
            self.knows_idle = bool(client.has_capability("IDLE"))
            self._moves = bool(client.has_capability("MOVE"))
            self._expunges_one = bool(client.has_capability("UIDPLUS"))
        except _FAULTS as error:
            self.close()
            raise _unavailable(mailbox, error) from None

    def close(self) -> None:
        """Let the connection go, whatever state it is in."""
        try:
            self._client.shutdown()
        except (OSError, IMAPClientError):
            log.debug("the connection to the mailbox was gone already")

    def waiting(self) -> list[int]:
        """Which mails were not taken yet, the oldest first."""
        wanted = ["UNDELETED", "UNFLAGGED", *(["UNSEEN"] if self._mailbox.done is None else [])]
        return sorted(cast("list[int]", self._asked(self._client.search, wanted)))

    def raw(self, uid: int) -> bytes | None:
        """The mail as it lies there, and still unread; None when it is gone. Raises TooLargeError."""
        sizes = self._asked(self._client.fetch, [uid], ["RFC822.SIZE"])
        size = sizes.get(uid, {}).get(b"RFC822.SIZE")
        if size is not None and size > self._max_bytes:
            raise TooLargeError(f"It has {size} bytes; {self._max_bytes} are taken.")
        return self._asked(self._client.fetch, [uid], ["BODY.PEEK[]"]).get(uid, {}).get(b"BODY[]")

    def mark(self, uid: int) -> None:
        """Say in the mailbox that the mail was taken.

        Where a server can neither move a mail nor expunge just one, it stays as deleted: to expunge all would take away
        for good what people only marked.
        """
        done = self._mailbox.done
        if done is None:
            self._asked(self._client.add_flags, [uid], [_SEEN])
        elif self._moves:
            self._asked(self._client.move, [uid], done)
        else:
            self._asked(self._client.copy, [uid], done)
            self._asked(self._client.delete_messages, [uid])
            if self._expunges_one:
                self._asked(self._client.uid_expunge, [uid])

    def set_aside(self, uid: int) -> None:
        """Leave a mail that cannot be taken where it is, with a flag; nobody comes back to it."""
        self._asked(self._client.add_flags, [uid], [_FLAGGED])

    def idle(self) -> None:
        """Have the server tell when something comes."""
        self._asked(self._client.idle)

    def news(self) -> bool:
        """Whether the server told something within a moment; raises MailboxUnavailableError when it is gone.

        The library says of a connection that ended what it says of a moment in which nothing came, only at once. A part
        of a TLS record looks the same, but not several times in a row.
        """
        for _ in range(_EMPTY_ANSWERS):
            began = time.monotonic()
            if self._asked(self._client.idle_check, _TURN_SECONDS):
                return True
            if time.monotonic() - began >= _TURN_SECONDS / 2:
                return False
            time.sleep(_EMPTY_PAUSE_SECONDS)
        raise _unavailable(self._mailbox, EOFError("it ended the connection"))

    def wake(self) -> None:
        """End the IDLE."""
        self._asked(self._client.idle_done)

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - what the library answers
        try:
            return call(*arguments)
        except _FAULTS as error:
            raise _unavailable(self._mailbox, error) from None


def _unavailable(mailbox: Mailbox, error: Exception) -> MailboxUnavailableError:
    # What a ValueError says may hold a part of the password.
    words = "" if isinstance(error, ValueError) else str(error).strip().partition("\n")[0][:200]
    return MailboxUnavailableError(f"The mailbox at {mailbox.host} does not answer: {words or type(error).__name__}.")


async def take_all(desk: Desk, fetcher: Fetcher) -> int:
    """Take what waits in the mailbox until nothing does, each mail marked there after its commit; how many were new.

    Raises UnavailableError when the mailbox, the database or the storage does not answer: what was not marked stays.
    """
    new, before = 0, list[int]()
    # Asked once more at the end: what the server tells of a mail that comes meanwhile may go by unheard.
    while uids := await asyncio.to_thread(fetcher.waiting):
        if uids == before:
            raise MailboxUnavailableError("The mailbox does not keep that its mails were taken; nothing is lost by it.")
        before = uids
        new += await _take(desk, fetcher, uids)
    return new


async def _take(desk: Desk, fetcher: Fetcher, uids: list[int]) -> int:
    new = 0
    for uid in uids:
        CORRELATION.set(correlation := f"mail-{uuid7()}")
        try:
            raw = await asyncio.to_thread(fetcher.raw, uid)
            if raw is None:
                continue
            delivery = Delivery("imap", raw, trusted=True, correlation_id=correlation)
            taken = await accept(desk.database, desk.storage, delivery, max_bytes=desk.settings.mail_max_bytes)
        except TooLargeError as error:
            log.warning("a mail stays in the mailbox with a flag: %s", error.detail)
            await asyncio.to_thread(fetcher.set_aside, uid)
            continue
        log.info("mail %s %s by imap", taken.id, "came again" if taken.repeated else "accepted")
        await asyncio.to_thread(fetcher.mark, uid)
        new += not taken.repeated
    return new


async def fetch_once(desk: Desk, mailbox: Mailbox) -> int:
    """Take what waits in the mailbox now; how many were new. Raises UnavailableError."""
    fetcher = await asyncio.to_thread(Fetcher, mailbox, desk.settings.mail_max_bytes)
    try:
        return await take_all(desk, fetcher)
    finally:
        await asyncio.to_thread(fetcher.close)


async def watch(desk: Desk, mailbox: Mailbox, ended: asyncio.Event, say: Callable[[str], Any]) -> None:
    """Take what comes until `ended`; a connection that breaks is made anew, after a wait that doubles each time."""
    wait = _FIRST_WAIT_SECONDS
    while not ended.is_set():
        try:
            fetcher = await asyncio.to_thread(Fetcher, mailbox, desk.settings.mail_max_bytes)
            try:
                say(f"IMAP from {mailbox.folder} of {mailbox.username} at {mailbox.host} port {mailbox.port}")
                while not ended.is_set():
                    await take_all(desk, fetcher)
                    wait = _FIRST_WAIT_SECONDS
                    await _until_news(fetcher, ended)
            finally:
                await asyncio.to_thread(fetcher.close)
        except PmisError as error:
            log.warning("%s Trying again in %.0f s.", error.detail, wait)
            await _pause(ended, wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)


async def _until_news(fetcher: Fetcher, ended: asyncio.Event) -> None:
    if not fetcher.knows_idle:
        await _pause(ended, _POLL_SECONDS)
        return
    await asyncio.to_thread(fetcher.idle)
    until = asyncio.get_running_loop().time() + IDLE_SECONDS
    # In short turns, so that a signal is heard.
    while not ended.is_set() and asyncio.get_running_loop().time() < until:
        if await asyncio.to_thread(fetcher.news):
            break
    await asyncio.to_thread(fetcher.wake)


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return


async def serve(desk: Desk, mailbox: Mailbox, say: Callable[[str], Any]) -> None:
    """Take what comes until a signal ends it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await desk.database.open()
    try:
        await watch(desk, mailbox, ended, say)
    finally:
        await desk.database.close()
