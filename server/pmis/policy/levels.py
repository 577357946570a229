"""The two scales of the policy: how much is at stake (`Level`) and who must agree (`Route`)."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class Level(IntEnum):
    """Impact or uncertainty. It is a number so that the higher of two levels is `max`."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    @classmethod
    def parse(cls, word: str) -> Level:
        """The level a document or a caller names; raises ValueError that lists the four words."""
        try:
            return _BY_WORD[word]
        except (KeyError, TypeError):
            message = f"{word!r} is not a level: use low, medium, high or critical"
            raise ValueError(message) from None

    @property
    def word(self) -> str:
        """The level as documents, the API and reasons write it."""
        return _WORDS[self]


_WORDS: Final = tuple(level.name.lower() for level in Level)
_BY_WORD: Final = dict(zip(_WORDS, Level, strict=True))


class Route(StrEnum):
    """What must happen before a change is applied, from nothing to never."""

    AUTO = "AUTO"
    CONFIRM = "CONFIRM"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    EXECUTIVE_APPROVAL = "EXECUTIVE_APPROVAL"
    ESCALATE = "ESCALATE"
    REJECT = "REJECT"

    # Compare severities, never routes: `<` between routes compares their spelling.
    @property
    def severity(self) -> int:
        """The place of the route on the scale; more is stricter."""
        return _SEVERITY[self]

    @property
    def needs_approvers(self) -> bool:
        """Whether somebody other than the proposer must agree."""
        return self in APPROVAL_ROUTES


_SEVERITY: Final = {route: severity for severity, route in enumerate(Route)}
APPROVAL_ROUTES: Final = (Route.APPROVAL_REQUIRED, Route.EXECUTIVE_APPROVAL, Route.ESCALATE)


def strictest(*routes: Route) -> Route:
    """The strictest of the routes; `AUTO` when there is none."""
    return max(routes, key=lambda route: route.severity, default=Route.AUTO)
