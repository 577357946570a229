"""Vectors of what texts mean: near each other where the texts are.

Vectors of two embedders say nothing of each other, so each is kept with the name of its embedder and compared with no
other's. No embedder is asked while a transaction is open: most of them take their time, and some are elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.kit.settings import Settings

    Vector: TypeAlias = Sequence[float]


class EmbeddingError(PmisError):
    """No vectors could be made just now; the text says why."""

    code = "embedding_failed"
    title = "What the text means could not be worked out"


class Embedder(Protocol):
    """Makes vectors of length one, of as many numbers as it says; the same for the same text."""

    @property
    def name(self) -> str:
        """What its vectors are kept under: another for every version whose vectors are not comparable."""
        ...

    @property
    def dimensions(self) -> int:
        """How many numbers each vector has."""
        ...

    @property
    def least(self) -> float:
        """The similarity below which two texts have nothing to do with each other."""
        ...

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text that is to be found; raises EmbeddingError."""
        ...

    async def question(self, text: str) -> Vector:
        """The vector of what is looked for; raises EmbeddingError."""
        ...


def embedder_of(settings: Settings) -> Embedder:
    """The embedder that the settings choose; nothing is connected or loaded yet."""
    match settings.embedder:
        case "provider":
            from pmis.memory.embedding.provider import ProviderEmbedder  # noqa: PLC0415 - only where it is used

            return ProviderEmbedder.of(settings)
        case "local":
            from pmis.memory.embedding.local import LocalEmbedder  # noqa: PLC0415 - the same

            return LocalEmbedder()
        case _:
            from pmis.memory.embedding.hashing import HashingEmbedder  # noqa: PLC0415 - the same

            return HashingEmbedder()
