"""What the statuses of OCDS mean in the life cycles of PMIS.

The most advanced stage that says something decides: a contract before its award, an award before the tender.

| stage | status | package |
|---|---|---|
| planning only | | `draft` |
| tender | `planning`, `planned` | `draft` |
| tender | `active`, `complete` | `approved` (through `submitted` and `in_review`) |
| tender | `cancelled`, `unsuccessful`, `withdrawn` | `cancelled` |
| award | `pending`, `active` | `awarded` |
| award | `cancelled`, `unsuccessful` | `cancelled` |
| contract | `pending` | `awarded` |
| contract | `active` | `active`, and stays so through implementation |
| contract | `terminated` | `completed` |
| contract | `cancelled` (before it was signed) | what its award says |

A pending award is, in the words of the standard, proposed but not yet in force. That is what a proposal to award is
here, so it becomes one and waits for its approval. Where a status is missing the release tags say the stage:
`tenderCancellation`, `awardCancellation` and `contractTermination` end it; a contract that is signed or has an
implementation is active.

| milestone | task |
|---|---|
| `scheduled`, `notMet`, none | `pending` (a date that has passed makes it overdue by itself) |
| `partiallyMet` | `in_progress` |
| `met`, or a `dateMet` without a status | `completed` |
| taken back (only its `id` is left) | `cancelled` |

A step is taken as far as the policy's guards let it: without an amount a package stays in review, without a supplier
it is not awarded, without dates not active, and with a milestone still open not completed; a notice says so.

An import only ever goes forward, and only when the publisher says something new: it never takes a step back, never
leaves `on_hold` for a status that was already known, and never reopens what is completed or cancelled.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from pmis.ocds.values import child, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.ocds.values import JsonObject

FROZEN: Final = frozenset({"completed", "cancelled"})
_FORWARD: Final = ("draft", "submitted", "in_review", "approved", "awarded", "active", "completed")
_NEEDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "approved": (("amount", "an amount with its currency"),),
    "awarded": (("vendor_id", "a supplier"), ("amount", "an amount with its currency")),
    "active": (("planned_start", "a start date"), ("planned_end", "an end date")),
}
_TASK_STEPS: Final = {
    ("pending", "in_progress"): ("in_progress",),
    ("pending", "completed"): ("in_progress", "completed"),
    ("in_progress", "completed"): ("completed",),
    ("blocked", "in_progress"): ("in_progress",),
    ("blocked", "completed"): ("in_progress", "completed"),
    ("review_needed", "completed"): ("completed",),
    ("pending", "cancelled"): ("cancelled",),
    ("in_progress", "cancelled"): ("cancelled",),
    ("blocked", "cancelled"): ("cancelled",),
    ("review_needed", "cancelled"): ("cancelled",),
}

_TENDER: Final = {
    "planning": "draft",
    "planned": "draft",
    "active": "approved",
    "complete": "approved",
    "cancelled": "cancelled",
    "unsuccessful": "cancelled",
    "withdrawn": "cancelled",
}
_AWARD: Final = {"pending": "awarded", "active": "awarded", "cancelled": "cancelled", "unsuccessful": "cancelled"}
_CONTRACT: Final = {"pending": "awarded", "active": "active", "terminated": "completed", "cancelled": None}
_MILESTONE: Final = {
    "scheduled": "pending",
    "notMet": "pending",
    "partiallyMet": "in_progress",
    "met": "completed",
}


def package_status(
    tender: JsonObject, award: JsonObject | None, contracts: Sequence[JsonObject], tags: Sequence[str]
) -> str:
    """The package status that the stages of a process (or of one award of it) call for."""
    stages = {contract_status(contract, tags) for contract in contracts}
    for reached in ("active", "completed"):
        if reached in stages:
            return reached
    if award is not None:
        return award_status(award, tags)
    return "awarded" if "awarded" in stages else tender_status(tender, tags)


def tender_status(tender: JsonObject, tags: Sequence[str]) -> str:
    """The package status that the tender calls for while there is no award."""
    if said := _TENDER.get(text(tender.get("status")) or ""):
        return said
    last = next((tag for tag in reversed(tags) if tag.startswith("tender")), None)
    if last is None:
        return "draft"
    return "cancelled" if last == "tenderCancellation" else "approved"


def award_status(award: JsonObject, tags: Sequence[str]) -> str:
    """The package status that an award calls for while there is no contract."""
    if said := _AWARD.get(text(award.get("status")) or ""):
        return said
    last = next((tag for tag in reversed(tags) if tag.startswith("award")), None)
    return "cancelled" if last == "awardCancellation" else "awarded"


def contract_status(contract: JsonObject, tags: Sequence[str]) -> str | None:
    """The package status that a contract calls for; None when it says nothing beyond its award."""
    status = text(contract.get("status"))
    if status in _CONTRACT:
        return _CONTRACT[status]
    last = next((tag for tag in reversed(tags) if tag.startswith("contract")), None)
    if last == "contractTermination":
        return "completed"
    return "active" if text(contract.get("dateSigned")) or child(contract, "implementation") else "awarded"


def milestone_status(milestone: JsonObject) -> str:
    """The task status that a milestone calls for."""
    if not milestone.keys() - {"id"}:
        return "cancelled"
    said = _MILESTONE.get(text(milestone.get("status")) or "")
    return said or ("completed" if text(milestone.get("dateMet")) else "pending")


def held_at(status: str, fields: Mapping[str, Any], *, open_tasks: bool) -> tuple[str, str]:
    """How far a package gets towards a status with what is known of it, and what is missing for the rest (or "").

    The steps of the default policy need these things; an import stops before a step it cannot take.
    """
    if status not in _FORWARD:
        return status, ""
    for before, step in pairwise(_FORWARD[: _FORWARD.index(status) + 1]):
        for name, said in _NEEDS.get(step, ()):
            if fields.get(name) is None:
                return before, f"{step} needs {said}"
        if step == "completed" and open_tasks:
            return before, "completed needs every milestone met"
    return status, ""


def package_path(current: str, target: str) -> tuple[str, ...] | None:
    """The transitions from one package status to another, none of them backward; None when there is no such way."""
    if current == target:
        return ()
    if current in FROZEN:
        return None
    if target == "cancelled":
        return ("cancelled",)
    if current == "on_hold":
        return ("active", "completed") if target == "completed" else None
    start, end = _FORWARD.index(current), _FORWARD.index(target)
    return _FORWARD[start + 1 : end + 1] if end > start else None


def task_path(current: str, target: str) -> tuple[str, ...] | None:
    """The transitions from one task status to another, none of them backward; None when there is no such way."""
    return () if current == target else _TASK_STEPS.get((current, target))
