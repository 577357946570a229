"""Pure decisions about packages."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

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


def slip_days(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """By how many days the planned end moves away; 0 when it does not, or was not known."""
    old, new = before.get("planned_end"), after.get("planned_end")
    if not old or not new:
        return 0
    return max(0, (date.fromisoformat(new) - date.fromisoformat(old)).days)


def money(state: Mapping[str, Any]) -> tuple[Decimal | None, str | None]:
    """The amount and its currency."""
    amount = state.get("amount")
    return (None if amount is None else Decimal(amount)), state.get("currency")
