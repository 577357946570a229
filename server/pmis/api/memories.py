"""Memories that have to do with something: found by their words and by what they mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import caller, require_known_parameters, uuid_or_none
from pmis.api.resources import limit_of, project_named
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError
from pmis.kit.text import paragraph
from pmis.memory.models import MemoryOut
from pmis.memory.recall import question_of, recall

if TYPE_CHECKING:
    from pmis.memory.recall import Recalled

router = docs.RouteTable("memories")
MAX_QUESTION: Final = 1000


class Why(BaseModel):
    """Why a memory was found: its place among those found in each way, the first being 1."""

    words: int | None = Field(description="Its place among those that have words of the question.")
    meaning: int | None = Field(description="Its place among those that mean something like the question.")
    similarity: float | None = Field(description="How like the question it is, at most 1; scales differ by embedder.")


class FoundMemory(BaseModel):
    """A memory, and why it was found."""

    memory: MemoryOut
    why: Why
    score: float = Field(description="By which it stands where it stands; comparable within this answer alone.")


class FoundMemories(BaseModel):
    """The memories that have most to do with the question, the best first."""

    items: list[FoundMemory]
    notice: str | None = Field(description="Why only words were compared, where what they mean could not be.")


async def search_memories(request: Request) -> Response:
    """What is remembered about something."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"q", "entity_id", "project", "limit"}))
    given, limit = request.query_params, limit_of(request)
    text, entity = _asked(given.get("q", "")), given.get("entity_id")
    identity = None if entity is None else uuid_or_none(entity)
    if entity is not None and identity is None:
        raise _wrong("entity_id", "the id of a record")
    question = await question_of(call.parts.embedder, text)
    async with call.parts.database.read(call.reach) as session:
        found = await recall(
            session,
            call.parts.vault,
            call.principal,
            question,
            projects=[await project_named(session, call.principal, given["project"])] if "project" in given else None,
            entities=None if identity is None else [identity],
            limit=limit,
        )
    body = {"items": [_shown(one) for one in found], "notice": question.notice}
    return Response(canonical(body), 200, None, "application/json")


def _asked(text: str) -> str:
    try:
        asked = paragraph(text).strip()
    except ValueError as error:
        raise _wrong("q", str(error)) from None
    if not 1 <= len(asked) <= MAX_QUESTION:
        raise _wrong("q", f"what to look for, up to {MAX_QUESTION} characters")
    return asked


def _wrong(name: str, message: str) -> InvalidInputError:
    errors = [{"pointer": f"/query/{name}", "message": message, "type": "value_error"}]
    return InvalidInputError(f"{name}: {message}.", errors=errors)


def _shown(one: Recalled) -> dict[str, object]:
    similarity = None if one.similarity is None else round(one.similarity, 4)
    return {
        "memory": json.loads(one.memory.doc),
        "why": {"words": one.by_words, "meaning": one.by_meaning, "similarity": similarity},
        "score": round(one.score, 6),
    }


docs.route(
    router,
    "GET",
    "/memories/search",
    search_memories,
    docs.Spec(
        "Find memories",
        "read",
        {200: FoundMemories},
        docs.READ_REFUSALS,
        description=(
            "Those with words of the question, and those that mean something like it, in one ranking (reciprocal rank "
            "fusion). What was forgotten is not among them."
        ),
        parameters=[
            {**docs.query("q", "What to look for.", "When must the paving be done?"), "required": True},
            docs.query("entity_id", "Only what is remembered of this record.", "0197c0de-0000-7000-8000-000000000000"),
            docs.PROJECT,
            docs.LIMIT,
        ],
    ),
)
