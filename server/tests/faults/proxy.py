"""A TCP proxy that loses answers, resets, falls silent and is slow, by the dice of a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """Stands before a port of this machine, or a Unix socket. `faults` says how probable each is for an answer.

    `lose`: the answer is thrown away and the connection reset. `cut`: the request is thrown away with it, before it
    reaches anybody. `silent`: nothing more comes, for `silence_seconds`, then a reset. `slow`: the answer trickles.
    """

    target: int | str
    faults: Mapping[str, float] = field(default_factory=dict[str, float])
    seed: int = 7
    silence_seconds: float = 1.0
    happened: dict[str, int] = field(default_factory=dict[str, int])
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _dice: random.Random = field(default_factory=random.Random)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        assert self._thread is not None
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._dice.seed(self.seed)
            tasks: set[asyncio.Task[None]] = set()

            def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.add(task := asyncio.create_task(self._serve(reader, writer)))
                task.add_done_callback(tasks.discard)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._ended.wait()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with contextlib.closing(self._loop):
            self._loop.run_until_complete(main())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there: Any = (
                asyncio.open_unix_connection(self.target)
                if isinstance(self.target, str)
                else asyncio.open_connection("127.0.0.1", self.target)
            )
            inner, outer = await there
        except OSError:
            writer.close()
            return
        pumps = [asyncio.create_task(self._up(reader, outer, writer)), asyncio.create_task(self._down(inner, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for one in (outer, writer):
                with contextlib.suppress(OSError, RuntimeError):
                    one.close()

    async def _up(
        self, reader: asyncio.StreamReader, outer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if "cut" in self.faults and self._dice.random() < self.faults["cut"]:
                    self.happened["cut"] = self.happened.get("cut", 0) + 1
                    _reset(client)
                    return
                outer.write(data)
                await outer.drain()

    async def _down(self, inner: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await inner.read(_CHUNK):
                fault = self._draw()
                if fault == "lose":
                    _reset(client)
                    return
                if fault == "silent":
                    await asyncio.sleep(self.silence_seconds)
                    _reset(client)
                    return
                if fault == "slow":
                    for at in range(0, len(data), max(1, len(data) // 4)):
                        client.write(data[at : at + max(1, len(data) // 4)])
                        await client.drain()
                        await asyncio.sleep(0.02)
                    continue
                client.write(data)
                await client.drain()

    def _draw(self) -> str | None:
        drawn = self._dice.random()
        for name in ("lose", "silent", "slow"):
            share = self.faults.get(name, 0.0)
            if drawn < share:
                self.happened[name] = self.happened.get(name, 0) + 1
                return name
            drawn -= share
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, not in good order."""
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
