"""The nouns of the governed path, by stream type; `pmis.nouns` fills it when the program starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pmis.approval.governed import AnyNoun

NOUNS: Final[dict[str, AnyNoun]] = {}


def register(*nouns: AnyNoun) -> None:
    """Put nouns on the governed path."""
    NOUNS.update({noun.stream_type: noun for noun in nouns})
