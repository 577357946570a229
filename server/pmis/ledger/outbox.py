"""Effects that a transaction promises; they are sent after the commit, at least once, by the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import WriteSession

PROMISE: Final = "select ledger.promise(%s, %s, %s, %s, %s)"


def promise(session: WriteSession, topic: str, *, key: str, event_id: UUID, payload: dict[str, Any]) -> None:
    """Promise an effect in this transaction. A key that was promised before makes the transaction fail."""
    session.defer(PROMISE, (uuid7(), topic, key, canonical(payload), event_id))
