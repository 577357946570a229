"""Processes of the product that die at a chosen moment, or that are wrong on purpose: `python -m ... NAME`.

`listener`: the SMTP listener, killed once between the commit of a mail and its 250, whenever the file PMIS_TEST_MINE
is there. `hasty`: one that answers 250 first and commits a while later, which the proofs must find out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pmis.kit.ids import uuid7
from pmis.mail import listener
from pmis.mail.intake import Accepted, accept

if TYPE_CHECKING:
    from pmis.mail.intake import Delivery

_late: set[asyncio.Task[Accepted]] = set()


def _step() -> None:
    mine = Path(os.environ["PMIS_TEST_MINE"])
    if mine.exists():
        mine.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


async def mined(database: Any, storage: Any, delivery: Delivery, *, max_bytes: int) -> Accepted:
    taken = await accept(database, storage, delivery, max_bytes=max_bytes)
    _step()
    return taken


async def hasty(database: Any, storage: Any, delivery: Delivery, *, max_bytes: int) -> Accepted:
    async def later() -> Accepted:
        # Nobody waits for it: the process is killed before.
        await asyncio.sleep(60)
        return await accept(database, storage, delivery, max_bytes=max_bytes)

    task = asyncio.create_task(later())
    _late.add(task)
    return Accepted(uuid7(), repeated=False)


def main() -> None:
    listener.accept = {"listener": mined, "hasty": hasty}[sys.argv[1]]
    sys.argv = ["pmis", "mail", "serve"]
    from pmis.cli.main import run

    run()


if __name__ == "__main__":
    main()
