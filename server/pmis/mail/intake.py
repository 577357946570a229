"""Accepting a mail, whichever way it came: kept, committed, then said so.

What a mail is known by is the way it came and the SHA-256 of its bytes; its Message-ID is a claim like any other. When
it comes again it is answered the same and makes nothing, except where it comes to somebody it had not come to before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pmis.jobs.queue import enqueue
from pmis.kit.db import Reach
from pmis.kit.errors import TooLargeError
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Database
    from pmis.kit.storage import Storage

Way = Literal["smtp", "lmtp", "imap", "webhook", "file"]
FILE: Final = "mail.file"
"""The kind of job that reads a mail and files it."""
_MAX_RECIPIENTS: Final = 100
_MAX_ADDRESS: Final = 320


@dataclass(frozen=True)
class Delivery:
    """A mail as its transport gives it. `trusted`: whether its Authentication-Results can have been checked."""

    way: Way
    raw: bytes
    recipients: tuple[str, ...] = ()
    sender: str | None = None
    peer: str | None = None
    trusted: bool = False
    correlation_id: str = ""


@dataclass(frozen=True)
class Accepted:
    """What was accepted. `repeated`: it was here before, in this way."""

    id: UUID
    repeated: bool


async def accept(database: Database, storage: Storage, delivery: Delivery, *, max_bytes: int) -> Accepted:
    """Take a mail for good; when this returns, it is kept and will be filed, whatever happens to this process.

    Raises TooLargeError, and UnavailableError where nothing was taken and the sender is to come again.
    """
    if len(delivery.raw) > max_bytes:
        raise TooLargeError(f"The mail is larger than the {max_bytes} bytes that are taken.")
    digest = await storage.put(delivery.raw)
    recipients = sorted({one[:_MAX_ADDRESS].lower() for one in delivery.recipients})[:_MAX_RECIPIENTS]
    correlation_id = delivery.correlation_id or f"mail-{uuid7()}"
    async with database.write(Reach.INSTANCE) as session:
        row = await session.one(
            "insert into mail.inbound as known "
            "(id, source, digest, size, recipients, sender, peer, trusted, correlation_id) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (source, digest) do update "
            "set recipients = array(select distinct unnest(known.recipients || excluded.recipients) order by 1) "
            "returning id, recipients, correlation_id, xmax <> '0'::xid",
            (
                uuid7(),
                delivery.way,
                digest,
                len(delivery.raw),
                recipients,
                _clean(delivery.sender),
                _clean(delivery.peer),
                delivery.trusted,
                correlation_id,
            ),
        )
        if row is None:
            message = "an insert that returns its row returned none"
            raise RuntimeError(message)
        identity, everybody, first_correlation_id, repeated = row
        known_as = hashlib.sha256("\n".join(everybody).encode()).hexdigest()[:32]
        enqueue(
            session,
            FILE,
            {"inbound_id": str(identity)},
            dedup=f"{FILE}:{identity}:{known_as}",
            correlation_id=first_correlation_id,
        )
        await session.commit()
    return Accepted(identity, repeated)


def _clean(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "")[:_MAX_ADDRESS]
