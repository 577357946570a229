"""The application's clock. Events take the database's transaction time instead: see `ledger.append_event`."""

from datetime import UTC, datetime


class Clock:
    """Tells the time in UTC; a fixed time, for evaluation runs, stands still."""

    def __init__(self, fixed: datetime | None = None) -> None:
        """Follow the machine's clock, or stand still at `fixed` (which must carry a time zone)."""
        if fixed is not None and fixed.tzinfo is None:
            message = "a fixed clock needs a time zone"
            raise ValueError(message)
        self._fixed = fixed

    def now(self) -> datetime:
        """The current time, in UTC."""
        return self._fixed.astimezone(UTC) if self._fixed else datetime.now(UTC)
