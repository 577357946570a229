"""Vectors from OpenAI, from Azure OpenAI, or from whatever speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from pmis.memory.embedding import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.kit.settings import Settings
    from pmis.memory.embedding import Vector

BATCH: Final = 64
_OPENAI: Final = "https://api.openai.com/v1"
_ANSWER_BYTES: Final = 64 * 1024 * 1024
_OK: Final = 200


@dataclass(frozen=True)
class ProviderEmbedder:
    """Asks a provider over HTTP, in batches, each within a time-out; who fails once is not asked again here."""

    name: str
    url: str
    headers: Mapping[str, str]
    model: str
    dimensions: int
    seconds: float
    least: float = 0.25

    @classmethod
    def of(cls, settings: Settings) -> ProviderEmbedder:
        """The provider that the settings name; raises EmbeddingError for settings that name none."""
        model = settings.embedding_model
        if settings.embedding_provider == "azure":
            base, key = settings.azure_openai_endpoint, settings.azure_openai_api_key
            if base is None or key is None:
                raise EmbeddingError(
                    "EMBEDDER is provider and EMBEDDING_PROVIDER azure: set AZURE_OPENAI_ENDPOINT and "
                    "AZURE_OPENAI_API_KEY."
                )
            url = (
                f"{base.rstrip('/')}/openai/deployments/{model}/embeddings"
                f"?api-version={settings.azure_openai_api_version}"
            )
            headers = {"api-key": key.get_secret_value()}
        else:
            if settings.openai_api_key is None:
                raise EmbeddingError("EMBEDDER is provider: set OPENAI_API_KEY.")
            url = f"{(settings.openai_base_url or _OPENAI).rstrip('/')}/embeddings"
            headers = {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"}
        return cls(
            name=f"{settings.embedding_provider}:{model}:{settings.embedding_dimensions}",
            url=url,
            headers=headers,
            model=model,
            dimensions=settings.embedding_dimensions,
            seconds=settings.embedding_timeout_seconds,
        )

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text; raises EmbeddingError."""
        found: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            found += await self._ask(list(texts[start : start + BATCH]))
        return found

    async def question(self, text: str) -> Vector:
        """The vector of what is looked for; raises EmbeddingError."""
        return (await self._ask([text]))[0]

    async def _ask(self, texts: list[str]) -> list[Vector]:
        import httpx2  # noqa: PLC0415 - loads slowly, and only those with a provider need it

        body = {"model": self.model, "input": texts, "dimensions": self.dimensions, "encoding_format": "float"}
        read = bytearray()
        try:
            async with (
                asyncio.timeout(self.seconds),
                httpx2.AsyncClient(timeout=self.seconds, follow_redirects=False) as client,
                client.stream("POST", self.url, json=body, headers=dict(self.headers)) as response,
            ):
                if response.status_code != _OK:
                    raise EmbeddingError(f"The provider of embeddings answers {response.status_code}.")
                async for chunk in response.aiter_bytes():
                    read += chunk
                    if len(read) > _ANSWER_BYTES:
                        raise EmbeddingError("The provider of embeddings answers without an end.")
        except TimeoutError:
            raise EmbeddingError(f"The provider of embeddings did not answer within {self.seconds:g} s.") from None
        except (httpx2.HTTPError, OSError):
            raise EmbeddingError("The provider of embeddings cannot be reached.") from None
        return self._read(bytes(read), len(texts))

    def _read(self, body: bytes, wanted: int) -> list[Vector]:
        """The vectors in an answer, in the order of the texts, of length one."""
        nothing = EmbeddingError("The provider of embeddings answers what are no embeddings.")
        try:
            answer: Any = json.loads(body)
            items = sorted(cast("list[dict[str, Any]]", answer["data"]), key=lambda one: one["index"])
            places = [one["index"] for one in items]
            vectors = [[float(number) for number in one["embedding"]] for one in items]
        except (ValueError, TypeError, KeyError):
            raise nothing from None
        if places != list(range(wanted)):
            raise nothing
        return [self._checked(vector, nothing) for vector in vectors]

    def _checked(self, vector: Vector, nothing: EmbeddingError) -> Vector:
        if len(vector) != self.dimensions:
            raise EmbeddingError(
                f"The provider's vectors have {len(vector)} numbers, and EMBEDDING_DIMENSIONS says {self.dimensions}."
            )
        length = math.sqrt(math.fsum(one * one for one in vector))
        if not math.isfinite(length) or length == 0:
            raise nothing
        return [one / length for one in vector]
