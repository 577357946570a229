"""Files that commands write."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pmis.cli.client import BadArgumentError
from pmis.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def destination(file: str) -> Generator[IO[bytes]]:
    """Where to write: the file appears, or is replaced, only when all of it is there."""
    if file == "-":
        yield sys.stdout.buffer
        return
    path = Path(file)
    fresh: str | None = None
    try:
        number, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(number, "wb") as into:
            yield into
        Path(fresh).replace(path)
        fresh = None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadArgumentError(f"{printable(file)} cannot be written: {reason}.") from None
    finally:
        if fresh is not None:
            Path(fresh).unlink(missing_ok=True)
