"""Send a scenario's requests with wrk, or with our own clients where it is not installed."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bench.clients import write_requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Generator = Literal["wrk", "builtin"]
HERE: Final = Path(__file__).parent
MAX_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Result:
    """What one round measured; latencies in milliseconds."""

    requests: int
    seconds: float
    bytes: int
    p50: float
    p95: float
    p99: float
    worst: float
    failures: int
    refused: int
    exhausted: bool
    statuses: Mapping[str, int]
    generator_cpu: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> int:
        """Answers of 400 and above, broken connections and time-outs."""
        return self.refused + self.failures


def choose_generator(wanted: str = "auto") -> Generator:
    """The generator to use; raises SystemExit when wrk is asked for and missing."""
    found = shutil.which("wrk") is not None
    if wanted == "wrk" and not found:
        message = "wrk is not installed: `apt-get install wrk`, or leave --generator away to use the built-in clients"
        raise SystemExit(message)
    return "wrk" if found and wanted != "builtin" else "builtin"


def http(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


@dataclass(frozen=True, slots=True)
class Load:
    """How a scenario is played: each request once (it cannot be repeated), or round and round."""

    once: bool = False
    count_statuses: bool = False


class Player:
    """Plays requests against ports of this machine; never longer than a minute at a time."""

    def __init__(self, generator: Generator, scratch: Path) -> None:
        """Use that generator and keep request files in `scratch`."""
        self.generator: Generator = generator
        self._file = scratch / "requests.bin"

    def play(self, port: int, requests: Sequence[bytes], *, clients: int, seconds: float, load: Load) -> Result:
        """One round; raises RuntimeError when the generator itself fails."""
        seconds = min(seconds, MAX_SECONDS)
        write_requests(self._file, list(requests))
        if self.generator == "wrk":
            command = [
                *(
                    "wrk",
                    "-t1",
                    f"-c{clients}",
                    f"-d{max(1, math.ceil(seconds))}s",
                    "--timeout",
                    "10s",
                    "-s",
                    str(HERE / "wrk.lua"),
                ),
                *(f"http://127.0.0.1:{port}", "--", str(self._file), "once" if load.once else "cycle"),
                "count" if load.count_statuses else "trust",
            ]
        else:
            command = [sys.executable, "-m", "bench.clients", str(port), str(clients), str(seconds), str(self._file)]
            command += ["--once"] if load.once else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=MAX_SECONDS + 60,
            cwd=HERE.parent, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            message = f"{command[0]} measured nothing:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"
            raise RuntimeError(message)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Result(**json.loads(line.removeprefix("RESULT ")), generator_cpu=cpu)
