"""A small supervisor: starts programs in order, restarts what dies, keeps their logs, stops them in reverse order.

Every program is the leader of a session of its own, so that a Ctrl-C at the terminal reaches this process alone and
what a dead leader left in its group can be ended before the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from pmis.kit.errors import PmisError
from pmis.ops.process import identity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 30.0
STABLE_SECONDS: Final = 20.0
"""A program that lived this long begins anew with the shortest delay when it dies."""
_MAX_LOG_BYTES: Final = 5 * 1024 * 1024
_KEPT_LOGS: Final = 3
_TAIL_LINES: Final = 12


class ProgramError(PmisError):
    """A program could not be started; the text holds the end of its log."""

    code = "program_failed"
    title = "A part of PMIS did not start"


async def _at_once(_pid: int) -> bool:
    return True


@dataclass
class Launch:
    """One start of a program."""

    command: Sequence[str]
    pass_fds: Sequence[int] = ()
    spawned: Callable[[], None] = lambda: None
    """Called once the process has its own copy of what was passed."""


@dataclass
class Program:
    """What to run, how to know that it is ready, and how to end it."""

    name: str
    launch: Callable[[], Launch]
    """Asked before every start, after `prepare`."""
    prepare: Callable[[], object] | None = None
    """Blocking work before every start, such as clearing what a killed predecessor left."""
    ready: Callable[[int], Awaitable[bool]] = _at_once
    patience_seconds: float = 60
    """How long it may take to become ready before it is ended and started again."""
    released: asyncio.Event | None = None
    """When given, the program waits for something of ours first, and its patience begins when this is set."""
    stop_steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
    attempts: int = 3
    """How many starts in a row may fail before the first start is given up."""
    gave_up: Callable[[], bool] | None = None
    """Called when they have; True when it changed something that makes another round worth it."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


class Log:
    """A program's log file, turned over by size; the last lines stay at hand for error messages."""

    def __init__(self) -> None:
        """Keep the last lines only, until `open` says where the file is."""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0

    def open(self, path: Path) -> None:
        """Append to the file from now on, what was said before included."""
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        for line in self.tail:
            self._append(f"{line}\n".encode())

    def write(self, line: bytes) -> None:
        """Add a line."""
        self.tail.append(line.decode(errors="replace").rstrip())
        self._append(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # a full disk must not end what is being logged
            if self._size + len(line) > _MAX_LOG_BYTES:
                self._turn_over()
            self._size += self._file.write(line)

    def _turn_over(self) -> None:
        if self._path is None or self._file is None:
            return
        for number in range(_KEPT_LOGS - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        self._size = 0


class Keeper:
    """Keeps one program running until it is told to stop."""

    def __init__(self, program: Program, log: Log, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        """`changed` is called whenever the process is another one."""
        self.program = program
        self.log = log
        self.who: str | None = None
        """The identity of the process that runs now."""
        self.is_ready = asyncio.Event()
        self.failures = 0
        self._say = say
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the program and wait until it is ready; raises ProgramError when it does not become so."""
        while True:
            self.failures = 0
            self._task = asyncio.create_task(self._keep(), name=self.program.name)
            self._task.add_done_callback(self._tell_if_broken)
            waiting = asyncio.create_task(self.is_ready.wait())
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if self.is_ready.is_set():
                return
            if self._task.done() and (error := self._task.exception()):
                raise error
            if self.program.gave_up is None or not self.program.gave_up():
                tail = "\n".join(f"  {line}" for line in self.log.tail)
                raise ProgramError(f"{self.program.name} does not start. The end of its log:\n{tail}")

    async def stop(self, *, at_once: bool = False) -> None:
        """End the program; resolves when it is gone and will not be started again."""
        self._stopping.set()
        task = self._task
        if task is None:
            return
        while not task.done():
            # There may be no process yet, when this comes between a preparation and its start.
            if self._process is not None:
                await self._end(self._process, self.program.stop_steps[-1:] if at_once else self.program.stop_steps)
            await asyncio.wait({task}, timeout=0.05)
        if not task.cancelled():
            task.exception()  # what went wrong was told when it did

    async def _end(self, process: asyncio.subprocess.Process, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        for number, patience in steps:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience)
                return
            self.log.write(f"it did not end within {patience:g} s of {number.name}\n".encode())

    def restart(self) -> None:
        """End the program in good order and let it be started again."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.program.stop_steps[0][0])

    def _tell_if_broken(self, task: asyncio.Task[None]) -> None:
        """A keeper that failed keeps nothing any more: that must not go unseen."""
        if self.is_ready.is_set() and not task.cancelled() and (error := task.exception()) is not None:
            self._say(f"{self.program.name} is not watched over any more ({error!r}); stop PMIS and start it again")

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_SECONDS
        was_ready = False
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_once(told=was_ready)
            if self._stopping.is_set():
                return
            was_ready = was_ready or self.is_ready.is_set()
            self.is_ready.clear()
            self.failures = 0 if was_ready else self.failures + 1
            if not was_ready and self.failures >= self.program.attempts:
                return
            if loop.time() - started >= STABLE_SECONDS:
                delay = FIRST_DELAY_SECONDS
            if was_ready:
                self._say(f"{self.program.name} ended ({_reason(code)}); starting it again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _run_once(self, *, told: bool) -> int:
        program = self.program
        try:
            if program.prepare is not None:
                await asyncio.to_thread(program.prepare)
            if self._stopping.is_set():
                return 0
            process, read_end = await self._spawn(program)
        except (PmisError, OSError) as error:
            self.log.write(f"{error}\n".encode())
            if not told:
                raise
            self._say(f"{program.name} cannot be started: {error}")
            return 1
        self._process = process
        self.who = identity(process.pid)
        self._changed()
        forwarding = asyncio.create_task(self._forward(read_end))
        watching = asyncio.create_task(self._watch(process, told=told))
        code = await process.wait()
        watching.cancel()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        # A grandchild that left the group may hold the pipe open for ever.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(forwarding, 1)
        self.who = self._process = None
        self._changed()
        return code

    @staticmethod
    async def _spawn(program: Program) -> tuple[asyncio.subprocess.Process, int]:
        # A pipe of our own: asyncio's would make the end of the process wait for grandchildren that hold it open.
        read_end, write_end = os.pipe()
        launch = program.launch()
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                cwd="/",
                env={**os.environ, **program.environment},
                pass_fds=tuple(launch.pass_fds),
                start_new_session=True,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
            launch.spawned()
        return process, read_end

    async def _forward(self, read_end: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        try:
            while not reader.at_eof():
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError as end:
                    line = end.partial + b"\n" if end.partial else b""
                except asyncio.LimitOverrunError as overrun:
                    line = await reader.readexactly(overrun.consumed)
                if line:
                    self.log.write(line)
        finally:
            transport.close()

    async def _watch(self, process: asyncio.subprocess.Process, *, told: bool) -> None:
        if self.program.released is not None:
            await self.program.released.wait()
        loop = asyncio.get_running_loop()
        started = loop.time()
        pause = 0.01
        while loop.time() - started < self.program.patience_seconds:
            if await self.program.ready(process.pid):
                self.is_ready.set()
                if told:
                    self._say(f"{self.program.name} is back after {loop.time() - started:.1f} s")
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        self.log.write(f"not ready after {self.program.patience_seconds:g} s\n".encode())
        with contextlib.suppress(ProcessLookupError):
            process.kill()


class Supervisor:
    """The programs of one `pmis up`."""

    def __init__(self, *, order: Sequence[Sequence[str]], say: Callable[[str], None]) -> None:
        """`order` names the programs in stages, of which each needs the earlier ones; `say` tells the person."""
        self._order = order
        self._say = say
        self._keepers: dict[str, Keeper] = {}
        self._logs: Path | None = None
        self._record: Callable[[Mapping[str, str]], None] | None = None
        self._at_once = False

    def settle(self, logs: Path, record: Callable[[Mapping[str, str]], None]) -> None:
        """Say where logs go, and who keeps a record of what runs for the next `up` after a kill."""
        self._logs = logs
        self._record = record
        for name, keeper in self._keepers.items():
            keeper.log.open(logs / f"{name}.log")
        self._changed()

    async def start(self, program: Program) -> None:
        """Start a program and keep it running; raises ProgramError when it does not become ready."""
        log = Log()
        if self._logs is not None:
            log.open(self._logs / f"{program.name}.log")
        keeper = Keeper(program, log, say=self._say, changed=self._changed)
        self._keepers[program.name] = keeper
        await keeper.start()

    def restart(self, name: str) -> None:
        """Start a program anew, if it runs."""
        if name in self._keepers:
            self._keepers[name].restart()

    def hurry(self) -> None:
        """Stop without patience: the person asked twice."""
        self._at_once = True

    async def stop(self) -> None:
        """End every program, those that need others first, those of one stage together."""
        for stage in reversed(self._order):
            await asyncio.gather(*(self._end(self._keepers[name]) for name in stage if name in self._keepers))

    async def _end(self, keeper: Keeper) -> None:
        stopping = asyncio.create_task(keeper.stop(at_once=self._at_once))
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=0.2)
            if self._at_once and not stopping.done():
                await keeper.stop(at_once=True)
        keeper.log.close()

    def _changed(self) -> None:
        if self._record is None:
            return
        with contextlib.suppress(OSError):  # a full disk must not end what runs
            self._record({name: keeper.who for name, keeper in self._keepers.items() if keeper.who is not None})


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
