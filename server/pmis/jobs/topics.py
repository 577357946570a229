"""Who does what the outbox promised.

Told here and not where the kinds are declared, so that the relay, which needs nothing else of them, stays small.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CONSUMERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "approval.requested": ("notify.approval",),
        "approval.decided": ("notify.approval",),
        "approval.applied": ("notify.approval",),
        "approval.ended": ("notify.approval",),
        "approval.escalated": ("notify.approval",),
        "approval.handed_over": ("notify.approval",),
        "approval.reminder": ("notify.approval",),
        "invitation.sent": ("notify.invitation",),
        "memory.changed": ("memory.embed",),
        "refresh.reused": ("notify.refresh_reused",),
        "task.escalated": ("notify.overdue",),
    }
)
"""The kinds of job that each promise of a topic becomes: one job each, with the promise's payload, once."""


def pairs(consumers: Mapping[str, tuple[str, ...]] = CONSUMERS) -> tuple[list[str], list[str]]:
    """The same as two columns: topics, and beside each the kind."""
    flat = [(topic, kind) for topic, kinds in consumers.items() for kind in kinds]
    return [topic for topic, _ in flat], [kind for _, kind in flat]
