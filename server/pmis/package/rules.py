"""Pure decisions about packages."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


def contradictions(after: Mapping[str, Any]) -> list[str]:
    """What cannot be true at once in a package."""
    found: list[str] = []
    if (after.get("amount") is None) != (after.get("currency") is None):
        found.append("amount and currency come together")
    for first, last in (("planned_start", "planned_end"), ("actual_start", "actual_end")):
        if after.get(first) and after.get(last) and after[first] > after[last]:
            found.append(f"{last} lies before {first}")
    return found


OPEN_ENDED: Final = 36_601
"""The slip of a date that is taken away: more days than any limit of a policy."""


def slip_days(before: str | None, after: str | None) -> int:
    """By how many days a known date moves away: 0 when it does not or was not known, OPEN_ENDED when it goes.

    Else a date could be taken away in one change and set to any day in the next, and neither would be late.
    """
    if not before:
        return 0
    if not after:
        return OPEN_ENDED
    return max(0, (date.fromisoformat(after) - date.fromisoformat(before)).days)


def money(state: Mapping[str, Any]) -> tuple[Decimal | None, str | None]:
    """The amount and its currency."""
    amount = state.get("amount")
    return (None if amount is None else Decimal(amount)), state.get("currency")
