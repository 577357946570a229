"""The ways in which the planner does not plan: it asks back, or says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmis.assistant.plan import Named

MOST_CANDIDATES: Final = 10
OFFERS: Final = (
    "What is the status of P-001?",
    "What waits for me?",
    "Put P-001 on hold because the vendor is late",
)


class AskBackError(Exception):
    """Something has to be said first; nothing is changed."""

    def __init__(
        self,
        text: str,
        *,
        candidates: Iterable[Named] = (),
        not_understood: Iterable[str] = (),
        offers: Iterable[str] = (),
    ) -> None:
        """The question, and what it is about."""
        super().__init__(text)
        self.text = text
        self.candidates = tuple(candidates)[:MOST_CANDIDATES]
        self.not_understood = tuple(one for one in not_understood if one.strip())
        self.offers = tuple(offers)


class RefusedError(Exception):
    """It is understood, and will not be done."""

    def __init__(self, text: str, offers: Iterable[str] = ()) -> None:
        """Why."""
        super().__init__(text)
        self.text = text
        self.offers = tuple(offers)


def which(said: str, candidates: Iterable[Named]) -> AskBackError:
    """Asks which of several was meant."""
    some = tuple(candidates)
    listed = ", ".join(one.label for one in some[:MOST_CANDIDATES])
    return AskBackError(
        f"“{said.strip()}” could be any of {len(some)}: {listed}. Which one do you mean?", candidates=some
    )


def unknown(said: str, kind: str = "record") -> AskBackError:
    """Says that nothing is called so."""
    said = said.strip()
    return AskBackError(f"I found no {kind} “{said}” among what you may see.", not_understood=[said])


def not_clear(parts: Iterable[str]) -> AskBackError:
    """Says what nothing was made of."""
    some = [part.strip() for part in parts if part.strip()]
    listed = ", ".join(f"“{part}”" for part in some[:5])
    return AskBackError(
        f"I did not understand {listed or 'this'}, so I changed nothing. Please say it in other words.",
        not_understood=some,
        offers=OFFERS,
    )
