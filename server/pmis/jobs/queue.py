"""Accepting work, in the transaction that causes it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from datetime import datetime

    from pmis.kit.db import WriteSession

ACCEPT: Final = "select jobs.accept(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def id_of(dedup: str) -> UUID:
    """The id of the job that a key names; `jobs.id_of` gives the same."""
    digits = hashlib.sha256(dedup.encode()).hexdigest()[:32]
    return UUID(f"{digits[:12]}8{digits[13:16]}8{digits[17:]}")


def enqueue(
    session: WriteSession,
    kind: str,
    payload: dict[str, Any],
    *,
    dedup: str | None,
    correlation_id: str,
    due_at: datetime | None = None,
    project_id: UUID | None = None,
    acting: str | None = None,
    event_id: UUID | None = None,
    max_attempts: int | None = None,
) -> UUID:
    """Accept a job in this transaction: it is done, or visibly dead, if and only if the transaction commits.

    Returns its id. A `dedup` that was accepted before names the same job, which stays as it is. `acting` is for whom it
    is done, as events name them.
    """
    identity = uuid7() if dedup is None else id_of(dedup)
    session.defer(
        ACCEPT,
        (
            identity,
            kind,
            dedup,
            project_id,
            canonical(payload),
            acting,
            correlation_id,
            event_id,
            due_at,
            max_attempts,
        ),
    )
    return identity
