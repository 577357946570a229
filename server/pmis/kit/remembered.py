"""Answers that cost something and are asked for by anybody, as often as they like."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Remembered(Generic[T]):
    """One answer of this process, good for some seconds; whoever asks while it is being found waits for the same."""

    def __init__(self, find: Callable[[], Awaitable[T]], seconds: float) -> None:
        """Nothing is found yet."""
        self._find = find
        self._seconds = seconds
        self._found: tuple[T, float] | None = None
        self._finding = asyncio.Lock()

    async def get(self) -> T:
        """The answer; what finding it raises is raised, and not remembered."""
        async with self._finding:
            if self._found is None or time.monotonic() >= self._found[1]:
                answer = await self._find()
                self._found = answer, time.monotonic() + self._seconds
            return self._found[0]

    def forget(self) -> None:
        """Find it anew when it is asked for next."""
        self._found = None
