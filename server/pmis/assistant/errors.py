"""The ways the assistant says no."""

from __future__ import annotations

from pmis.kit.errors import BusyError, ConflictError, PmisError


class AssistantStoppedError(ConflictError):
    """An administrator has stopped every agent."""

    code = "assistant_stopped"
    title = "The assistant is stopped"


class TurnRunningError(BusyError):
    """The conversation's last message, or this very one, is being answered."""

    code = "turn_running"
    title = "A message of this conversation is being answered"


class BudgetSpentError(PmisError):
    """The person's assistant has proposed as much as it may for now."""

    code = "assistant_budget_spent"
    status = 429
    title = "The assistant has proposed enough for now"

    def __init__(self, detail: str, seconds: int) -> None:
        """`seconds` is when the oldest proposal no longer counts."""
        self.retry_after = max(1, seconds)
        super().__init__(detail)
