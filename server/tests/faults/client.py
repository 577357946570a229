"""Clients that do not give up: they send a write again, under the same key, until it is answered."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pmis.ops.demo_people import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX: Final = "/api/v1"
PACKAGE: Final = "select id::text from state.package where not deleted order by id limit 1"
LOST: Final = (OSError, http.client.HTTPException)
"""What becomes of a request whose answer does not come."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection at a time, which is made anew when it breaks."""

    def __init__(self, port: int, *, patience: float = 10.0, token: str | None = None) -> None:
        self.port = port
        self.patience = patience
        self.token = token
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; raises one of LOST when no whole answer comes."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        try:
            self._connection.request(method, PREFIX + path, body, given)
            answer = self._connection.getresponse()
            whole = answer.read()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, whole)
        except LOST:
            self.close()
            raise

    def status(self, path: str) -> int:
        """The status of a read; 0 when there is no answer."""
        try:
            return self.ask("GET", path).status
        except LOST:
            return 0
        finally:
            self.close()

    def sign_in(self, who: str = "operator") -> str:
        said = {"email": f"{who}@demo.example", "password": PASSWORD}
        answer = self.ask("POST", "/auth/login", json.dumps(said).encode())
        assert answer.status == 200, answer.body
        self.token = str(answer.json["access_token"])
        self.close()
        return self.token

    def close(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None


@dataclass
class Writes:
    """What was sent, by key, and what came of it; shared by the threads that write."""

    port: int
    token: str
    package: str
    mark: str
    patience: float = 10.0
    size: int = 0
    """Bytes of filling in each write."""
    acked: dict[str, str] = field(default_factory=dict[str, str])
    lost: int = 0
    """Answers that did not come."""
    refused: dict[int, int] = field(default_factory=dict[int, int])
    """How often each status said: not now."""
    wrong: list[str] = field(default_factory=list[str])
    latest: float = 0.0
    """When the last of them was acknowledged."""
    _threads: list[threading.Thread] = field(default_factory=list[threading.Thread])
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _most: int = 0

    def begin(self, threads: int, most: int = 0) -> None:
        """Write with so many clients, up to so many writes, or until told to end."""
        self._most = most
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def end(self, seconds: float = 90) -> None:
        """Begin no further write, and wait until all that were begun are answered."""
        self._stop.set()
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, until - time.monotonic()))
            assert not thread.is_alive(), f"a write was not answered in {seconds:g} s: {self.refused} {self.wrong[:3]}"

    def _run(self) -> None:
        client = Client(self.port, patience=self.patience, token=self.token)
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
            if self._most and number > self._most:
                break
            self._write(client, f"{self.mark}-{number}")
        client.close()

    def _write(self, client: Client, key: str) -> None:
        said = {"entity_type": "package", "entity_id": self.package, "body": f"{key} {'x' * self.size}".strip()}
        body = json.dumps(said).encode()
        while True:
            try:
                answer = client.ask("POST", "/comments", body, Idempotency_Key=key)
            except LOST:
                with self._lock:
                    self.lost += 1
                time.sleep(0.02)
                continue
            with self._lock:
                if answer.status == 201:
                    self.acked[key] = str(answer.json["resource"]["id"])
                    self.latest = time.monotonic()
                    return
                if answer.status not in (409, 503) or "retry-after" not in answer.headers:
                    self.wrong.append(f"{answer.status} {answer.body[:300]!r}")
                    return
                self.refused[answer.status] = self.refused.get(answer.status, 0) + 1
            time.sleep(0.05)

    def account(self, all_rows: Callable[..., list[tuple[Any, ...]]]) -> tuple[set[str], dict[str, int]]:
        """Those that were acknowledged and are not there, and those that are there without that, or more than once."""
        rows = all_rows(
            "select split_part(doc::jsonb ->> 'body', ' ', 1), id::text from state.comment "
            "where starts_with(doc::jsonb ->> 'body', %s)",
            (f"{self.mark}-",),
        )
        found: dict[str, list[str]] = {}
        for key, identity in rows:
            found.setdefault(key, []).append(identity)
        missing = {key for key, identity in self.acked.items() if identity not in found.get(key, ())}
        extra = {key: len(ids) for key, ids in found.items() if len(ids) > 1 or key not in self.acked}
        return missing, extra
