"""What memories are found by: their words, and vectors of what they mean. Made from the texts; no state."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.kit.db import Session, WriteSession
    from pmis.memory.embedding import Vector


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found, and how near it is: of those found in one way the nearest come first."""

    memory_id: UUID
    nearness: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where is looked: in these projects, and where it is said only of these records."""

    projects: Sequence[UUID]
    entities: Sequence[UUID] | None = None


_WORD: Final = re.compile(r"\w+")
_MOST_WORDS: Final = 24
_TELLING: Final = 3
"""Shorter words are looked for only where there are no others: they are in nearly everything."""
_PUT_WORDS: Final = (
    "insert into memory.words (memory_id, project_id, words) "
    "values (%(memory)s, %(project)s::uuid, "
    "to_tsvector('simple', %(text)s) || array_to_tsvector(array['/' || %(project)s::uuid::text])) "
    "on conflict (memory_id) do update set words = excluded.words"
)
_OF_ENTITIES: Final = (
    "(%(entities)s::uuid[] is null or w.memory_id in (select id from state.memory where entity_id = any(%(entities)s)))"
)
_FOUND: Final = (
    "(select true, w.memory_id, ts_rank(w.words, q.query, 1)::float8 as rank "
    "from to_tsquery('simple', %(terms)s) as q(query), memory.words w "
    f"where w.words @@ q.query and w.project_id = any(%(projects)s) and {_OF_ENTITIES} "
    "order by rank desc, w.memory_id desc limit %(limit)s) "
    "union all select false, memory_id, similarity from "
    "memory.nearest(%(projects)s, %(entities)s, %(embedder)s, %(vector)s, %(limit)s)"
)


async def put_words(session: WriteSession, memory: UUID, project: UUID, text: str) -> None:
    """Have the memory found by these words and no others."""
    await session.execute(_PUT_WORDS, {"memory": memory, "project": project, "text": text})


async def drop(session: WriteSession, memory: UUID) -> None:
    """Have the memory found by nothing any more."""
    await session.execute("delete from memory.words where memory_id = %s", (memory,))
    if await has_vectors(session):
        await session.execute("delete from memory.vector where memory_id = %s", (memory,))


async def is_kept(session: Session, memory: UUID) -> bool:
    """Whether the memory's text can still be had."""
    row = await session.one("select wrapped is not null from ledger.vault_key where subject = %s", (memory,))
    return row is not None and row[0]


async def has_vectors(session: Session) -> bool:
    """Whether this PostgreSQL compares vectors; where it has no such extension, words must do."""
    row = await session.one("select to_regclass('memory.vector') is not null")
    return row is not None and row[0]


async def found(
    session: Session, place: Place, text: str, embedder: str | None, vector: Vector | None, limit: int
) -> tuple[list[Hit], list[Hit]]:
    """Those with words of the text, or words that begin so, and those with near vectors; of each the nearest first.

    Vectors are compared with those of the same embedder alone. Both are asked for in one message to the database.
    Without an embedder, and where this PostgreSQL compares no vectors, only words are compared.
    """
    rows = await session.all(
        _FOUND,
        {
            "terms": _any_of(text),
            "projects": list(place.projects),
            "entities": None if place.entities is None else list(place.entities),
            "embedder": embedder,
            "vector": None if vector is None else _written(vector),
            "limit": limit,
        },
    )
    rows.sort(key=lambda row: (row[2], row[1]), reverse=True)
    return [Hit(*row[1:]) for row in rows if row[0]], [Hit(*row[1:]) for row in rows if not row[0]]


def _any_of(text: str) -> str:
    """A tsquery for any of the words; longer ones also as the beginning of a word."""
    words = list(dict.fromkeys(_WORD.findall(text.lower().replace("_", " "))))
    telling = [word for word in words if len(word) >= _TELLING] or words
    return " | ".join(f"'{word}'{':*' if len(word) > _TELLING else ''}" for word in telling[:_MOST_WORDS])


async def put_vector(
    session: WriteSession, memory: UUID, project: UUID, version: int, embedder: str, vector: Vector
) -> None:
    """Have the memory found by what this version of it means; a vector of a newer version stays."""
    values = (memory, project, version, embedder, _written(vector))
    await session.execute("select memory.put_vector(%s, %s, %s, %s, %s)", values)


def _written(vector: Vector) -> str:
    return "[" + ",".join(f"{one:.6g}" for one in vector) + "]"
