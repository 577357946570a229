"""What is done to memories that nobody waits for: vectors made anew, and forgotten texts erased."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pmis.kit.db import Reach
from pmis.memory import index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pmis.kit.db import Database, Session, WriteSession
    from pmis.ledger.vault import Vault
    from pmis.memory.embedding import Embedder

_FIRST: Final = UUID(int=0)
BATCH: Final = 64
_WITHOUT_WORDS: Final = "not exists (select from memory.words w where w.memory_id = m.id)"
_WITHOUT_VECTOR: Final = (
    "not exists (select from memory.vector v "
    "where v.memory_id = m.id and v.version = m.version and v.embedder = %(embedder)s)"
)
_ERASE: Final = (
    "select m.id from state.memory m join ledger.vault_key k on k.subject = m.id "
    "where m.deleted and k.wrapped is not null and (m.doc::json ->> 'deleted_at')::timestamptz <= %s "
    "order by m.id limit %s for update of m skip locked"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A memory as it stands, without its text."""

    id: UUID
    project_id: UUID
    version: int
    ref: str


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a walk over the memories is: the last that was looked at, and how many were made findable."""

    last: UUID = _FIRST
    done: int = 0
    finished: bool = False


async def one(session: Session, memory: UUID) -> Standing | None:
    """The memory, if it is not forgotten."""
    row = await session.one(
        "select id, project_id, version, doc from state.memory where id = %s and not deleted", (memory,)
    )
    return _standing(row) if row else None


def _standing(row: Sequence[object]) -> Standing:
    identity, project, version, doc = row
    return Standing(identity, project, version, json.loads(str(doc))["text"])  # pyright: ignore[reportArgumentType] - a row


async def make_findable(
    session: WriteSession, standing: Standing, embedder: str, vector: Sequence[float] | None, text: str | None = None
) -> bool:
    """Keep what a memory is found by, unless it was changed or forgotten since it was read."""
    row = await session.one(
        "select 1 from state.memory where id = %s and version = %s and not deleted for share",
        (standing.id, standing.version),
    )
    if row is None:
        return False
    if text is not None:
        await index.put_words(session, standing.id, standing.project_id, text)
    if vector is not None:
        await index.put_vector(session, standing.id, standing.project_id, standing.version, embedder, vector)
    return True


async def step(database: Database, vault: Vault, embedder: Embedder, at: Pass, *, everything: bool) -> Pass:
    """Make the next few memories findable that are not, or (`everything`) whichever come next.

    Raises EmbeddingError. What was done before stays done, and is not found again.
    """
    async with database.read(Reach.INSTANCE) as session:
        vectors = await index.has_vectors(session)
        lacking = f"({_WITHOUT_WORDS} or {_WITHOUT_VECTOR})" if vectors else _WITHOUT_WORDS
        rows = await session.all(
            "select m.id, m.project_id, m.version, m.doc from state.memory m "
            f"where not m.deleted and m.id > %(last)s and (%(everything)s or {lacking}) order by m.id limit %(limit)s",
            {"last": at.last, "everything": everything, "embedder": embedder.name, "limit": BATCH},
        )
        found = [_standing(row) for row in rows]
        texts = await vault.open(session, [one.ref for one in found])
    found = [one for one in found if texts[one.ref] is not None]
    made = await embedder.passages([texts[one.ref] for one in found]) if vectors else [None] * len(found)
    done = 0
    async with database.write(Reach.INSTANCE) as session:
        for standing, vector in zip(found, made, strict=True):
            done += await make_findable(session, standing, embedder.name, vector, texts[standing.ref])
        await session.commit()
    return Pass(rows[-1][0] if rows else at.last, at.done + done, len(rows) < BATCH)


async def erase_due(session: WriteSession, vault: Vault, *, before: datetime, limit: int) -> int:
    """Erase the texts of memories that were forgotten before this time; how many. Once erased they are not found."""
    rows = await session.all(_ERASE, (before, limit))
    for row in rows:
        await vault.destroy(session, row[0])
    return len(rows)
