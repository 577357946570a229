"""A process that answers a message and kills itself on the way, over and over; started by `test_killed`.

It forks for each try, as starting Python anew takes longer than a turn. What it reads on its standard input says what
to do; for each try it writes one line: how many messages went to PostgreSQL, or what the answer was.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any
from uuid import UUID, uuid4

import psycopg
import psycopg_pool  # pyright: ignore[reportUnusedImport]  # noqa: F401

import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
from pmis.api.context import reach_of
from pmis.assistant import checkpoints, graph  # pyright: ignore[reportUnusedImport] - loaded before forking  # noqa: F401
from pmis.assistant.plan import Plan
from pmis.assistant.service import Asker, Assistant
from pmis.assistant.state import PLAN
from pmis.assistant.turns import Answered, Said
from pmis.assistant.work import TurnLimits
from pmis.identity.principals import load_principal
from pmis.kit.clock import Clock
from pmis.kit.db import Database, Reach
from pmis.kit.wire import Wire
from pmis.ledger import idempotency
from pmis.ledger.vault import Vault
from tests.assistant.talking import Scripted


class Killer:
    """Counts what goes to PostgreSQL, and kills this process just before or just after one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def point(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        async def call(*args: Any, **more: Any) -> Any:
            self.point()
            answer = await inner(*args, **more)
            self.point()
            return answer

        setattr(owner, name, call)


def forget_keys() -> None:
    """A planted bug: each run of a node has a key of its own."""
    keys: list[str] = []

    def claiming(actor: str, _key: str, print_: bytes) -> Any:
        keys.append(uuid4().hex)
        return idempotency.claiming(actor, keys[-1], print_)

    def claim(session: Any, actor: str, _key: str, print_: bytes, **more: Any) -> Any:
        return idempotency.claim(session, actor, keys[-1], print_, **more)

    graph.claiming, graph.claim = claiming, claim  # pyright: ignore[reportPrivateImportUsage]


async def answered(task: dict[str, Any], killer: Killer) -> Any:
    dsn = task["dsn"]
    database = Database(dsn, size=2, role="pmis_app")
    await database.open()
    async with database.read(Reach.INSTANCE) as session:
        person = await load_principal(session, UUID(task["person"]))
    planner = Scripted({task["query"]: PLAN.validate_python(task["plan"])})
    assert isinstance(planner.plans[task["query"]], Plan)
    limits = TurnLimits(seconds=60, proposals_an_hour=10_000)
    assistant = Assistant(database, Vault(task["secret"]), Clock(), planner, dsn=dsn, public="", limits=limits)
    asker = Asker(person, reach_of(person), "chat", task["query"])
    killer.around(Wire, "ask")
    killer.around(psycopg.AsyncCursor, "execute")
    killer.around(psycopg.AsyncCursor, "executemany")
    key = bytes(32)
    taken = await assistant.take(
        asker, Said(UUID(task["person"]), {"query": task["query"]}, "", None, task["query"], key)
    )
    answer = taken.answer if isinstance(taken, Answered) else await assistant.answer(asker, taken)
    await assistant.close()
    await database.close()
    return answer


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            killer = Killer(task["at"])
            if task["forgets"]:
                forget_keys()
            answer = asyncio.run(answered(task, killer))
            os.write(write, json.dumps({"answer": answer, "points": killer.count}).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as told:
            text = told.read()
        _, status = os.waitpid(child, 0)
        result = json.loads(text) if text else {}
        result["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
