"""Same key, same request: the same answer and one effect.

The key is taken in the effect's own transaction, so a twin waits on the index until the first one has committed and
then reads its answer. The answer is kept as bytes. Refusals that the domain decided are kept too; those about who is
asking (401, 403), about load (429, 503, a lock not given) and faults are not, as another time may answer otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pmis.kit.errors import InvalidInputError, PmisError

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Statement, WriteSession

KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_REFUSALS: Final = frozenset({409, 412, 422})


class KeyReusedError(PmisError):
    """The key was used for another request."""

    code = "idempotency_key_reused"
    status = 422
    title = "This key belongs to another request"

    def __init__(self) -> None:
        """Say what keys are for."""
        super().__init__(
            "This Idempotency-Key was used for a different request. Use a new key for each request; "
            "repeat the same key only to retry the very same one."
        )


class MalformedKeyError(InvalidInputError):
    """The header is empty, too long or not printable ASCII."""

    code = "malformed_idempotency_key"
    status = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers, complete: kept and replayed byte for byte."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    project_id: UUID | None = None
    """Whose members may see the answer again; None for a refusal, or an answer that concerns the instance."""
    access: str = ""
    """The digest of what the caller was allowed at the time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that this transaction holds until it ends."""

    actor: str
    key: str


def require_key(header: str) -> str:
    """The key in an `Idempotency-Key` header; raises MalformedKeyError."""
    if not KEY.fullmatch(header):
        raise MalformedKeyError("Idempotency-Key must be 1 to 255 printable ASCII characters without spaces.")
    return header


def fingerprint(method: str, path: str, query: bytes, precondition: str, body: bytes) -> bytes:
    """The digest of everything that makes two requests the same."""
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode(), query, precondition.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def claiming(actor: str, key: str, print_: bytes) -> Statement:
    """The call that takes the key for a transaction; it waits while another one holds the key."""
    return "ledger.claim(%s, %s, %s)", (actor, key, print_)


async def claim(session: WriteSession, actor: str, key: str, print_: bytes, *, begun: bool = False) -> Claim | Answer:
    """Take the key for this transaction, or find the answer that was given under it.

    `begun` says that the transaction began with `claiming()`. Raises BusyError when another transaction holds the key
    for too long, and KeyReusedError when the key was used for another request.
    """
    call, values = claiming(actor, key, print_)
    taken = session.first if begun else (await session.all(f"select {call}", values))[0][0]
    if taken:
        return Claim(actor, key)
    row = await session.one(
        "select fingerprint, status, body, headers, project_id, access from ledger.idempotency "
        "where actor = %s and key = %s",
        (actor, key),
    )
    if row is None:
        # It was pruned between the two statements: as good as never used.
        return await claim(session, actor, key, print_)
    known, status, body, headers, project_id, access = row
    if bytes(known) != print_:
        raise KeyReusedError
    return Answer(status, bytes(body), json.loads(headers), project_id, access)


def settle(session: WriteSession, held: Claim, answer: Answer) -> None:
    """Keep the answer under the key, in the same transaction."""
    session.defer(
        "select ledger.settle(%s, %s, %s, %s, %s, %s, %s)",
        (
            held.actor,
            held.key,
            answer.status,
            answer.body,
            json.dumps(answer.headers),
            answer.project_id,
            answer.access,
        ),
    )


async def prune(session: WriteSession, days: int) -> int:
    """Forget the answers older than the stated window; says how many."""
    return await session.execute(
        "delete from ledger.idempotency where created_at < transaction_timestamp() - make_interval(days => %s)", (days,)
    )
