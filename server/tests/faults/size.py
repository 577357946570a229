"""How large the fault suites are: a small part in every run, all of it with `pmis test --faults`."""

from __future__ import annotations

import os
import sys
from typing import Final

WHOLE: Final = os.environ.get("PMIS_TEST_FAULTS", "") not in ("", "0")
ALL: Final = os.environ.get("PMIS_TEST_FAULTS", "") == "all"
"""Whether every suite was asked for, so that one that ran nothing is a fault."""


def show(text: str) -> None:
    """Say how far a suite is, to whoever watches (`-s`)."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
