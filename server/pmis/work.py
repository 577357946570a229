"""Every kind of job there is, put together: what a worker can do is what is listed here."""

from __future__ import annotations

import pmis.assistant.tasks  # pyright: ignore[reportUnusedImport] - declares its job
import pmis.jobs.memories  # pyright: ignore[reportUnusedImport] - declares its jobs
import pmis.jobs.overdue  # pyright: ignore[reportUnusedImport] - the walk up the ladder
import pmis.jobs.upkeep  # pyright: ignore[reportUnusedImport] - each declares kinds of job
import pmis.mail.tasks  # pyright: ignore[reportUnusedImport] - the same
import pmis.notify.deliveries  # pyright: ignore[reportUnusedImport] - declares its job
import pmis.notify.invitation  # pyright: ignore[reportUnusedImport] - declares its job
import pmis.notify.tasks  # pyright: ignore[reportUnusedImport] - declares its jobs
import pmis.notify.warning  # pyright: ignore[reportUnusedImport] - declares its job
import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
from pmis.jobs.registry import KINDS

__all__ = ("KINDS",)
