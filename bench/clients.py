"""A closed-loop load generator, for machines without wrk: one process, non-blocking sockets, no event-loop library.

Each client sends its next request as soon as the answer to the last one is complete. It takes about 20 us of CPU per
request, a tenth of what the fastest contestant takes to answer one. Prints the same line of JSON as `wrk.lua`.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import time
from pathlib import Path
from typing import Final

TIMEOUT_SECONDS: Final = 10.0


def read_requests(path: Path) -> list[bytes]:
    """The requests of a file: a line with the length, the request, a newline."""
    requests: list[bytes] = []
    with path.open("rb") as file:
        while line := file.readline():
            requests.append(file.read(int(line)))
            file.read(1)
    return requests


def write_requests(path: Path, requests: list[bytes]) -> None:
    """Write what `read_requests` reads."""
    with path.open("wb") as file:
        for request in requests:
            file.write(b"%d\n%b\n" % (len(request), request))


class Client:
    """One keep-alive connection and the answer it is waiting for."""

    __slots__ = ("buffer", "chunked", "expected", "sent_at", "socket", "status")

    def __init__(self, port: int) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.expected = -1
        self.chunked = False
        self.status = 0
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        """Send the next request and start its clock."""
        self.buffer = b""
        self.expected = -1
        self.chunked = False
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has arrived; true when the answer is complete. Raises ConnectionError when the server hung up."""
        data = self.socket.recv(262_144)
        if not data:
            message = "the server closed the connection"
            raise ConnectionError(message)
        self.buffer = self.buffer + data if self.buffer else data
        if self.expected < 0 and not self.chunked:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self.buffer[:end].lower()
            self.status = int(head[9:12])
            at = head.find(b"content-length:")
            if at >= 0:
                stop = head.find(b"\r", at)
                self.expected = end + 4 + int(head[at + 15 : stop if stop > 0 else None])
            elif b"transfer-encoding: chunked" in head:
                self.chunked = True
            else:
                self.expected = end + 4
        if self.chunked:
            return self.buffer.endswith(b"0\r\n\r\n")
        return len(self.buffer) >= self.expected


def percentile(ordered: list[float], share: float) -> float:
    """The value below which that share of an ordered list lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def play(port: int, clients: int, seconds: float, requests: list[bytes], *, once: bool) -> dict[str, object]:
    """Keep that many clients busy for that long, or until every request was sent once."""
    selector = selectors.DefaultSelector()
    statuses: dict[str, int] = {}
    latencies: list[float] = []
    position = failures = size = 0
    busy = 0
    start = time.perf_counter()
    end = start + seconds
    for _ in range(clients):
        if position == len(requests) and once:
            break
        client = Client(port)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(requests[position % len(requests)])
        position += 1
        busy += 1
    now = start
    while busy:
        ready = selector.select(TIMEOUT_SECONDS)
        if not ready:
            failures += busy
            break
        for key, _ in ready:
            client: Client = key.data
            try:
                if not client.receive():
                    continue
                now = time.perf_counter()
                latencies.append(now - client.sent_at)
                size += len(client.buffer)
                status = str(client.status)
                statuses[status] = statuses.get(status, 0) + 1
                if now < end and not (once and position == len(requests)):
                    client.send(requests[position % len(requests)])
                    position += 1
                    continue
            except (OSError, ValueError):
                failures += 1
            selector.unregister(client.socket)
            client.socket.close()
            busy -= 1
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": now - start,
        "bytes": size,
        "p50": percentile(latencies, 0.50) * 1000,
        "p95": percentile(latencies, 0.95) * 1000,
        "p99": percentile(latencies, 0.99) * 1000,
        "worst": percentile(latencies, 1.0) * 1000,
        "failures": failures,
        "refused": sum(count for status, count in statuses.items() if status >= "4"),
        "exhausted": once and position == len(requests),
        "statuses": statuses,
    }


def main() -> None:
    """Play a file of requests against a port of this machine and print the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("clients", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("file", type=Path)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    result = play(options.port, options.clients, options.seconds, read_requests(options.file), once=options.once)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
