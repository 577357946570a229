"""Processes: named by more than their number, ended for good, and not outliving who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pmis.ops import process
from pmis.ops.process import (
    EmbeddedServerError,
    can_use,
    command_as,
    current_user,
    identity,
    named_user,
    stop,
    working_in,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
on_linux = pytest.mark.skipif(not process.HAS_PROC, reason="only Linux can tell this")
SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]


def eventually(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def sleeper():
    with subprocess.Popen(SLEEP) as child:
        yield child
        child.kill()


class TestIdentity:
    def test_a_process_keeps_its_identity(self, sleeper):
        first = identity(sleeper.pid)
        time.sleep(0.05)
        assert first is not None
        assert first == identity(sleeper.pid)
        assert first.startswith(f"{sleeper.pid}:")

    def test_another_process_has_another(self, sleeper):
        assert identity(sleeper.pid) != identity(os.getpid())

    def test_a_dead_process_has_none_even_before_it_is_reaped(self, sleeper):
        sleeper.kill()
        eventually(lambda: identity(sleeper.pid) is None)
        sleeper.wait()
        assert identity(sleeper.pid) is None

    def test_without_proc_the_start_time_comes_from_ps(self, monkeypatch, sleeper):
        monkeypatch.setattr(process, "HAS_PROC", False)
        mine = identity(sleeper.pid)
        assert mine is not None
        assert mine == identity(sleeper.pid)
        sleeper.kill()
        sleeper.wait()
        assert identity(sleeper.pid) is None


class TestStop:
    def test_a_polite_signal_is_enough_for_most(self, sleeper):
        assert stop(sleeper.pid, ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        assert sleeper.wait() == -signal.SIGTERM

    def test_the_deaf_are_killed(self):
        deaf = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert stop(child.pid, ((signal.SIGTERM, 0.2), (signal.SIGKILL, 5.0)))
            assert child.wait() == -signal.SIGKILL

    def test_who_is_gone_already_counts_as_stopped(self, sleeper):
        sleeper.kill()
        sleeper.wait()
        assert stop(sleeper.pid, ((signal.SIGKILL, 1.0),))

    def test_a_survivor_is_reported(self, sleeper):
        assert not stop(sleeper.pid, ((signal.SIGCONT, 0.1),))


class TestCommandAs:
    def test_ourselves(self):
        answer = subprocess.run(command_as(current_user(), ["/bin/sh", "-c", "id -u"]), check=True, capture_output=True)
        assert answer.stdout.decode().strip() == str(os.geteuid())

    @as_root
    def test_somebody_else_without_our_groups(self):
        nobody = named_user("nobody")
        answer = subprocess.run(
            command_as(nobody, ["/bin/sh", "-c", "id -u; id -G"]), check=True, capture_output=True, cwd="/"
        )
        assert answer.stdout.decode().split() == [str(nobody.uid), str(nobody.gid)]

    def test_a_program_that_is_not_there(self):
        answer = subprocess.run(command_as(current_user(), ["/nowhere/x"]), check=False, capture_output=True)
        assert answer.returncode == 1
        assert answer.stderr.decode().strip() == "/nowhere/x cannot be started: No such file or directory"

    @on_linux
    @pytest.mark.parametrize("user", ["ourselves", pytest.param("nobody", marks=as_root)])
    def test_a_child_dies_with_its_parent(self, user):
        """Also as another user, although changing the user clears the request."""
        who = current_user() if user == "ourselves" else named_user(user)
        starter = (
            "import os, subprocess, sys, time\n"
            "from pmis.ops.process import User, command_as\n"
            f"child = subprocess.Popen(command_as(User({who.name!r}, {who.uid}, {who.gid}),"
            " ['/bin/sleep', '60'], parent=os.getpid()), cwd='/')\n"
            "time.sleep(0.5); print(child.pid, flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert identity(child) is not None
            parent.kill()
            eventually(lambda: identity(child) is None)


class TestFolders:
    @on_linux
    def test_who_works_in_a_folder(self, tmp_path):
        with subprocess.Popen(SLEEP, cwd=tmp_path) as child:
            eventually(lambda: list(working_in(tmp_path)) == [child.pid])
            child.kill()
        assert list(working_in(tmp_path)) == []

    @as_root
    def test_a_closed_folder_above_keeps_others_out(self, tmp_path):
        inner = tmp_path / "closed" / "inner"
        inner.mkdir(parents=True)
        inner.chmod(0o755)
        (tmp_path / "closed").chmod(0o700)
        assert can_use(current_user(), inner)
        assert not can_use(named_user("nobody"), inner)


def test_an_unknown_user_is_a_clear_refusal():
    with pytest.raises(EmbeddedServerError, match=r"no user 'nemo-nemo'.*PMIS_RUN_AS"):
        named_user("nemo-nemo")
