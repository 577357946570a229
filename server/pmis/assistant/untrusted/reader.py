"""Reads a text for a planner: finds it, has values taken out of it, and says which packages those name."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pmis.assistant.untrusted import texts
from pmis.assistant.untrusted.extractor import Extraction, extract
from pmis.assistant.untrusted.tools import Reading
from pmis.assistant.untrusted.values import taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmis.assistant.answers import Asking
    from pmis.assistant.untrusted.tools import ReadText
    from pmis.assistant.work import Sessions
    from pmis.kit.storage import Storage


class Reader:
    """Reads texts, each with one request at most; no session is open meanwhile."""

    def __init__(self, storage: Callable[[], Storage], seconds: float, *, asks: bool = True) -> None:
        """`storage` gives the place of files when the first is read; a model may take `seconds` over a text.

        Unless it `asks` a model, rules read every text.
        """
        self._of = storage
        self._seconds = seconds
        self._asks = asks

    @cached_property
    def _storage(self) -> Storage:
        return self._of()

    async def read(
        self,
        model: Any,  # noqa: ANN401 - a chat model
        sessions: Sessions,
        asking: Asking,
        tool: ReadText,
    ) -> tuple[Reading, Extraction]:
        """The values in a text, and what taking them took; raises NotFoundError, or what the storage raises."""
        async with sessions() as session:
            found = await tool.text(session, asking)
        text = found.text if found.digest is None else await found.content(self._storage)
        made = (
            await extract(model, text, found.written, seconds=self._seconds)
            if self._asks
            else Extraction(taken(text, found.written))
        )
        async with sessions() as session:
            packages = await texts.packages_of(session, asking, made.values.packages)
        return Reading(found.source, made.values, packages), made
