"""The supervisor, on real processes: restarts, gives up, keeps logs, and stops what it started, all of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from pmis.ops import supervisor as module
from pmis.ops.process import EmbeddedServerError, identity
from pmis.ops.supervisor import Launch, Log, Program, ProgramError, Supervisor

pytestmark = pytest.mark.anyio
QUICK = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))


def python(body):
    return lambda: Launch([sys.executable, "-u", "-c", body])


@pytest.fixture
def said():
    return []


@pytest.fixture
def running():
    return {}


@pytest.fixture
async def supervisor(tmp_path, said, running):
    def record(identities):
        running.clear()
        running.update(identities)

    made = Supervisor(order=(("first",), ("second", "third")), say=said.append)
    made.settle(tmp_path, record)
    yield made
    await made.stop()


async def eventually(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is another process's doing
            await asyncio.sleep(0.01)


def pid_of(running, name):
    return int(running[name].partition(":")[0])


class TestRestarts:
    async def test_what_dies_is_started_again(self, supervisor, running, said, tmp_path):
        await supervisor.start(
            Program("first", python("import time; print('hello'); time.sleep(60)"), stop_steps=QUICK)
        )
        log = tmp_path / "first.log"
        for lives in (1, 2, 3):
            await eventually(lambda: log.read_text() == "hello\n" * lives)  # noqa: B023 - awaited in the same round
            if lives < 3:
                os.kill(pid_of(running, "first"), signal.SIGKILL)
        assert [text.partition(";")[0] for text in said if "ended" in text] == ["first ended (signal SIGKILL)"] * 2

    async def test_it_waits_longer_each_time_and_forgives_after_a_long_life(self, supervisor, said, monkeypatch):
        monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)
        monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.04)
        await supervisor.start(Program("first", python("import time; time.sleep(0.3); exit(7)"), stop_steps=QUICK))
        await eventually(lambda: len([text for text in said if "ended" in text]) >= 4)
        delays = [text.rpartition("again in ")[2] for text in said if "ended" in text]
        assert delays[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]
        assert "exit code 7" in said[0]
        monkeypatch.setattr(module, "STABLE_SECONDS", 0.1)
        said.clear()
        await eventually(lambda: len([text for text in said if "ended" in text]) >= 2)
        assert said[-1].endswith("0.01 s")

    async def test_the_return_of_a_program_is_told_with_its_time(self, supervisor, running, said):
        async def ready(_pid):
            await asyncio.sleep(0.05)
            return True

        await supervisor.start(Program("first", python("import time; time.sleep(60)"), ready=ready, stop_steps=QUICK))
        os.kill(pid_of(running, "first"), signal.SIGKILL)
        await eventually(lambda: any(text.startswith("first is back after ") for text in said))

    async def test_one_that_never_becomes_ready_is_killed_and_tried_again(self, supervisor, running):
        async def never(_pid):
            return False

        program = Program(
            "first",
            python("import time; time.sleep(60)"),
            ready=never,
            patience_seconds=0.1,
            attempts=2,
            stop_steps=QUICK,
        )
        with pytest.raises(ProgramError, match=r"(?s)first does not start.*not ready after 0\.1 s"):
            await supervisor.start(program)
        assert running == {}

    async def test_what_a_dead_leader_left_in_its_group_is_ended(self, supervisor, running, tmp_path):
        body = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid); time.sleep(60)"
        )
        await supervisor.start(Program("first", python(body), stop_steps=QUICK))
        await eventually(lambda: (tmp_path / "first.log").read_text().endswith("\n"))
        grandchild = int((tmp_path / "first.log").read_text())
        os.kill(pid_of(running, "first"), signal.SIGKILL)
        await eventually(lambda: identity(grandchild) is None)


class TestFirstStart:
    async def test_a_failure_shows_the_end_of_the_log(self, supervisor):
        program = Program("first", python("print('no such thing'); exit(3)"), ready=_not_yet, stop_steps=QUICK)
        with pytest.raises(ProgramError) as refused:
            await supervisor.start(program)
        assert refused.value.detail == (
            "first does not start. The end of its log:\n  no such thing\n  no such thing\n  no such thing"
        )

    async def test_preparation_that_fails_is_the_reason(self, supervisor):
        def fail():
            raise EmbeddedServerError("There is none for this machine.")

        with pytest.raises(EmbeddedServerError, match="none for this machine"):
            await supervisor.start(Program("first", python("pass"), prepare=fail, stop_steps=QUICK))

    async def test_another_round_when_something_could_be_changed(self, supervisor, tmp_path):
        marker = tmp_path / "marker"
        body = f"import pathlib, time; time.sleep(60) if pathlib.Path({str(marker)!r}).exists() else exit(1)"
        rounds = []

        def change():
            marker.touch()
            rounds.append(1)
            return True

        async def ready(_pid):
            return marker.exists()

        await supervisor.start(
            Program("first", python(body), ready=ready, gave_up=change, attempts=1, stop_steps=QUICK)
        )
        assert rounds == [1]

    async def test_patience_begins_with_the_release(self, supervisor):
        released = asyncio.Event()

        async def ready(_pid):
            return released.is_set()

        starting = asyncio.create_task(
            supervisor.start(
                Program(
                    "first",
                    python("import time; time.sleep(60)"),
                    ready=ready,
                    released=released,
                    patience_seconds=5,
                    stop_steps=QUICK,
                )
            )
        )
        await asyncio.sleep(0.2)
        assert not starting.done()
        released.set()
        await asyncio.wait_for(starting, 60)


async def _not_yet(_pid):
    return False


class TestStop:
    async def test_in_reverse_order_whatever_started_first(self, supervisor, running, tmp_path):
        body = (
            "import signal, sys, time\n"
            "signal.signal(15, lambda *_: (print('bye'), sys.exit()))\n"
            "print('up'); time.sleep(60)"
        )
        order = []
        for name in ("second", "first"):
            await supervisor.start(Program(name, python(body), stop_steps=QUICK))
        await eventually(lambda: all((tmp_path / f"{n}.log").read_text() == "up\n" for n in ("first", "second")))
        keepers = supervisor._keepers
        for name, keeper in keepers.items():
            keeper._changed = lambda name=name, told=keeper._changed: (order.append(name), told())
        await supervisor.stop()
        assert order == ["second", "first"]
        assert running == {}
        assert (tmp_path / "first.log").read_text() == "up\nbye\n"

    async def test_the_deaf_are_killed_in_the_end(self, supervisor, running, tmp_path):
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
        await supervisor.start(
            Program("first", python(deaf), stop_steps=((signal.SIGTERM, 0.3), (signal.SIGKILL, 2.0)))
        )
        await eventually(lambda: (tmp_path / "first.log").read_text() == "1\n")
        pid = pid_of(running, "first")
        await supervisor.stop()
        assert identity(pid) is None
        assert (tmp_path / "first.log").read_text() == "1\nit did not end within 0.3 s of SIGTERM\n"

    async def test_those_that_need_nothing_of_each_other_end_together(self, supervisor, tmp_path):
        # Each ends only once the other has been told to end.
        body = (
            "import pathlib, signal, sys, time\n"
            "here, mine, other = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]\n"
            "signal.signal(15, lambda *_: (here / mine).touch())\n"
            "print('up', flush=True)\n"
            "while not (here / mine).exists() or not (here / other).exists(): time.sleep(0.01)\n"
            "print('bye', flush=True)\n"
        )
        for mine, other in (("second", "third"), ("third", "second")):
            command = python(body)().command
            program = Program(
                mine,
                lambda command=command, mine=mine, other=other: Launch([*command, str(tmp_path), mine, other]),
                stop_steps=((signal.SIGTERM, 20.0), (signal.SIGKILL, 2.0)),
            )
            await supervisor.start(program)
        await eventually(lambda: all((tmp_path / f"{n}.log").read_text() == "up\n" for n in ("second", "third")))
        await supervisor.stop()
        assert {(tmp_path / f"{n}.log").read_text() for n in ("second", "third")} == {"up\nbye\n"}

    async def test_asked_twice_it_does_not_wait(self, supervisor, running, tmp_path):
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
        await supervisor.start(
            Program("first", python(deaf), stop_steps=((signal.SIGTERM, 60.0), (signal.SIGKILL, 2.0)))
        )
        await eventually(lambda: (tmp_path / "first.log").read_text() == "1\n")
        pid = pid_of(running, "first")
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0.3)
        assert identity(pid) is not None
        supervisor.hurry()
        await asyncio.wait_for(stopping, 30)
        assert identity(pid) is None

    async def test_while_it_waits_to_start_something_again(self, supervisor, running, monkeypatch):
        monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 300.0)
        await supervisor.start(Program("first", python("import time; time.sleep(60)"), stop_steps=QUICK))
        os.kill(pid_of(running, "first"), signal.SIGKILL)
        await eventually(lambda: not running)
        await asyncio.wait_for(supervisor.stop(), 30)

    async def test_while_it_prepares_a_start(self, supervisor, running):
        import threading

        entered, leave = threading.Event(), threading.Event()

        def prepare():
            if running.get("first") is None and entered.is_set():
                return
            entered.set()
            leave.wait(5)

        starting = asyncio.create_task(
            supervisor.start(Program("first", python("import time; time.sleep(60)"), prepare=prepare, stop_steps=QUICK))
        )
        await eventually(entered.is_set)
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0.1)
        leave.set()
        await asyncio.wait_for(stopping, 30)
        assert running == {}
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    async def test_a_record_that_cannot_be_kept_ends_nothing(self, supervisor, tmp_path, running):
        def full(_identities):
            raise OSError(28, "No space left on device")

        supervisor.settle(tmp_path, full)
        await supervisor.start(
            Program("first", python("print('hello'); import time; time.sleep(60)"), stop_steps=QUICK)
        )
        await eventually(lambda: (tmp_path / "first.log").read_text() == "hello\n")

    async def test_a_program_that_is_gone_when_it_should_be_started_again(self, supervisor, running, said, tmp_path):
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\nexec sleep 60\n")
        program.chmod(0o755)
        await supervisor.start(Program("first", lambda: Launch([str(program)]), stop_steps=QUICK))
        program.rename(tmp_path / "away")
        os.kill(pid_of(running, "first"), signal.SIGKILL)
        await eventually(lambda: any("first cannot be started" in text for text in said))
        (tmp_path / "away").rename(program)
        await eventually(lambda: "first" in running)


class TestLog:
    async def test_it_is_turned_over_by_size_and_only_some_are_kept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "_MAX_LOG_BYTES", 100)
        log = Log()
        log.open(tmp_path / "x.log")
        for number in range(60):
            log.write(b"%038d\n" % number)
        log.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
        newest = (tmp_path / "x.log").read_text().split()
        older = (tmp_path / "x.log.1").read_text().split()
        assert [int(line) for line in older + newest] == list(range(60 - len(older + newest), 60))
        assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())

    async def test_what_was_said_before_there_was_a_file_is_not_lost(self, tmp_path):
        log = Log()
        log.write(b"early\n")
        log.open(tmp_path / "x.log")
        log.write(b"late\n")
        log.close()
        assert (tmp_path / "x.log").read_text() == "early\nlate\n"

    async def test_lines_without_an_end_and_beyond_every_measure(self, supervisor, tmp_path):
        body = "import sys, time; sys.stdout.write('x' * 300_000 + '\\nend'); sys.stdout.flush(); time.sleep(0.2)"
        await supervisor.start(Program("first", python(body), stop_steps=QUICK))
        await eventually(lambda: (tmp_path / "first.log").stat().st_size >= 300_004)
        assert (tmp_path / "first.log").read_text()[:300_005].replace("x", "") == "\nend\n"

    async def test_a_full_disk_ends_nothing(self, tmp_path):
        log = Log()
        log.open(tmp_path / "x.log")
        with contextlib.closing(log):
            assert log._file is not None
            log._file.close()
            log._file = open("/dev/full", "ab", buffering=0)  # noqa: ASYNC230, PTH123, SIM115 - closed with the log
            log.write(b"lost\n")
        assert list(log.tail) == ["lost"]
