"""Finding memories by what they say and by what they mean, for one who may read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pmis.memory import index
from pmis.memory.embedding import EmbeddingError
from pmis.memory.index import Place
from pmis.memory.models import Memory
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pmis.kit.db import Row, Session
    from pmis.ledger.vault import Vault
    from pmis.memory.embedding import Embedder, Vector
    from pmis.policy.access import Principal

CANDIDATES: Final = 50
"""How many are looked at of those found in each way."""
_EVEN: Final = 60
"""How much the first places of a ranking count beside the next ones (Cormack and others, Reciprocal Rank Fusion)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: the text, and what it means, where an embedder could say."""

    text: str
    embedder: str | None = None
    vector: Vector | None = None
    least: float = 0.0
    notice: str | None = None
    """Why it is looked for by its words alone, in words for whoever asked."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory with its text, and why it was found: its places among those found in each way, the first being 1."""

    memory: Memory
    score: float
    by_words: int | None
    by_meaning: int | None
    similarity: float | None


async def question_of(embedder: Embedder, text: str) -> Question:
    """What a text asks for. To be called before a session is opened; an embedder that fails leaves the words."""
    try:
        return Question(text, embedder.name, await embedder.question(text), embedder.least)
    except EmbeddingError as error:
        return Question(text, notice=f"{error.detail} These were found by their words alone.")


async def recall(
    session: Session,
    vault: Vault,
    principal: Principal,
    question: Question,
    *,
    projects: Sequence[UUID] | None = None,
    entities: Sequence[UUID] | None = None,
    limit: int = 8,
) -> list[Recalled]:
    """The memories that have most to do with the question, of projects that the principal reads, the best first.

    `projects` and `entities` narrow it down. What was forgotten is not among them.
    """
    visible = await readable_projects(session, principal)
    wanted = visible if projects is None else [one for one in visible if one in set(projects)]
    if not wanted:
        return []
    place = Place(wanted, entities)
    words, near = await index.found(session, place, question.text, question.embedder, question.vector, CANDIDATES)
    meaning = [hit for hit in near if hit.nearness >= question.least]
    ranks = [{hit.memory_id: rank for rank, hit in enumerate(hits, 1)} for hits in (words, meaning)]
    scores = fused(ranks)
    best = sorted(scores, key=lambda one: (scores[one], one), reverse=True)
    similarities = {hit.memory_id: hit.nearness for hit in meaning}
    found = await _opened(session, vault, wanted, best[: 2 * limit])
    return [
        Recalled(found[one], scores[one], ranks[0].get(one), ranks[1].get(one), similarities.get(one))
        for one in best
        if one in found
    ][:limit]


async def latest(
    session: Session,
    vault: Vault,
    *,
    projects: Sequence[UUID] | None = None,
    entity: UUID | None = None,
    limit: int = 8,
) -> list[Memory]:
    """The newest memories with their texts: of a record that whoever asks may read, or of projects that they read."""
    rows = await session.all(
        "select doc from state.memory where (%(entity)s::uuid is null or entity_id = %(entity)s) "
        "and (%(projects)s::uuid[] is null or project_id = any(%(projects)s)) and not deleted "
        "order by id desc limit %(limit)s",
        {"entity": entity, "projects": None if projects is None else list(projects), "limit": limit},
    )
    return await _with_texts(session, vault, rows)


def fused(rankings: Sequence[Mapping[UUID, int]]) -> dict[UUID, float]:
    """One score for what several rankings place: who is high up in both comes before who is first in one."""
    scores: dict[UUID, float] = {}
    for ranking in rankings:
        for one, rank in ranking.items():
            scores[one] = scores.get(one, 0.0) + 1 / (_EVEN + rank)
    return scores


async def _opened(
    session: Session, vault: Vault, projects: Sequence[UUID], identities: Sequence[UUID]
) -> dict[UUID, Memory]:
    """Those that are there, with their texts."""
    rows = await session.all(
        "select doc from state.memory where id = any(%s) and project_id = any(%s) and not deleted",
        (list(identities), list(projects)),
    )
    return {one.id: one for one in await _with_texts(session, vault, rows)}


async def _with_texts(session: Session, vault: Vault, rows: Sequence[Row]) -> list[Memory]:
    memories = [Memory.model_validate(json.loads(row[0])) for row in rows]
    texts = await vault.open(session, [one.text for one in memories]) if memories else {}
    return [one.model_copy(update={"text": texts[one.text]}) for one in memories if texts[one.text] is not None]
