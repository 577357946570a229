"""The API as a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any

import httpx2
import pytest

from tests.api.office import JWT_SECRET
from tests.builders import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import TestDatabase


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`pmis api`, as it is run."""

    def __init__(self, database: TestDatabase, folder: Path, workers: int = 1) -> None:
        self.port = free_port()
        self._workers = workers
        self.out = folder / "out"
        with self.out.open("wb") as out:
            self.process = self.start(database, folder, out)

    def start(self, database: TestDatabase, folder: Path, out: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pmis.cli.main", "api", "--port", str(self.port), "--workers", str(self._workers)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PMIS_DATA_DIR": str(folder),
                "DATABASE_URL": database.app_dsn,
                "SECRET_KEY": SECRET,
                "JWT_SECRET_KEY": JWT_SECRET,
                "PYTHONUNBUFFERED": "1",
            },
        )

    def get(self, path: str, **more: Any) -> httpx2.Response:
        """One request on a connection of its own, so that either process may get it."""
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", timeout=20, **more)

    def wait(self) -> None:
        """Until all answer."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                self.get("/api/v1/health")
            except httpx2.TransportError:
                time.sleep(0.1)
            else:
                if len(self.workers()) == self._workers:
                    return
        pytest.fail(self.out.read_text())

    def workers(self) -> set[int]:
        """The processes that say they have started."""
        return {int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.out.read_text())}

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]
