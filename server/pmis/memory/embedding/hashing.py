"""The embedder that needs nothing: which words a text has, and of which letters they are made."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pmis.memory.embedding import Vector

_WORD: Final = re.compile(r"\w+")
_GRAMS: Final = (3, 4)
_OF_A_WORD: Final = 1.0
_OF_A_GRAM: Final = 0.35
"""A word counts for more than a few of its letters, which bring `payments` near `payment` all the same."""


class HashingEmbedder:
    """Feature hashing of words and of the letters in them; knows no synonyms and no languages, and no network."""

    name = "hashing:1"
    dimensions = 512
    least = 0.2

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text."""
        return [vector_of(text) for text in texts]

    async def question(self, text: str) -> Vector:
        """The vector of what is looked for."""
        return vector_of(text)


def vector_of(text: str) -> Vector:
    """The vector of a text; one that has no words at all points where texts with words never point together."""
    counted = Counter(_features(text))
    vector = [0.0] * HashingEmbedder.dimensions
    for (feature, weight), count in counted.items():
        hashed = crc32(feature.encode())
        # One bit says the sign, so that features that fall together cancel out as often as they add up.
        sign = 1 if hashed & 1 else -1
        vector[(hashed >> 1) % HashingEmbedder.dimensions] += sign * weight * (1 + math.log(count))
    length = math.sqrt(math.fsum(one * one for one in vector))
    if length == 0:
        return [1.0] + [0.0] * (HashingEmbedder.dimensions - 1)
    return [one / length for one in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    for word in _WORD.findall("".join(one for one in decomposed if not unicodedata.combining(one))):
        # What is in nearly every sentence of any language with short words says little of what it is about.
        yield word, _OF_A_WORD if len(word) > 3 else _OF_A_GRAM  # noqa: PLR2004
        framed = f"<{word}>"
        for size in _GRAMS:
            for start in range(len(framed) - size + 1):
                yield framed[start : start + size], _OF_A_GRAM
