"""Processes: who they are, who they run as, and how to be rid of one that a killed supervisor left behind."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPAWN: Final = str(Path(__file__).with_name("spawn.py"))
_PROC: Final = Path("/proc")
HAS_PROC: Final = _PROC.joinpath("self", "stat").exists()
"""Whether this system tells where a process works (Linux)."""


class EmbeddedServerError(PmisError):
    """An embedded server cannot run here; the text says why and what to do."""

    code = "embedded_server"
    title = "An embedded server does not run"


@dataclass(frozen=True)
class User:
    """A user to run as."""

    name: str
    uid: int
    gid: int


def current_user() -> User:
    """The user of this process; a container's user may have no name."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name, uid, os.getegid())


def named_user(name: str) -> User:
    """The user of that name; raises EmbeddedServerError when the machine does not know it."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedServerError(
            f"There is no user {name!r} on this machine to run the embedded servers as. "
            "Set PMIS_RUN_AS to an unprivileged user, or start PMIS as one."
        ) from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def user_of(path: Path) -> User:
    """The owner of a folder."""
    status = path.stat()
    try:
        return User(pwd.getpwuid(status.st_uid).pw_name, status.st_uid, status.st_gid)
    except KeyError:
        return User(str(status.st_uid), status.st_uid, status.st_gid)


def command_as(
    user: User,
    command: Sequence[str | Path],
    *,
    parent: int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> list[str]:
    """The command line that runs a command as a user.

    With `parent` given, the command gets `death_signal` when that process dies, where the system can do this (Linux).
    """
    argv = [sys.executable, "-I", "-S", _SPAWN]
    if user.uid != os.geteuid():
        argv += ["--uid", str(user.uid), "--gid", str(user.gid)]
    if parent is not None:
        argv += ["--parent", str(parent), "--signal", str(int(death_signal))]
    return [*argv, "--", *map(str, command)]


def can_use(user: User, folder: Path) -> bool:
    """Whether a user can reach and read a folder."""
    if user.uid == os.geteuid():
        return os.access(folder, os.R_OK | os.X_OK)
    argv = command_as(user, ())[:-1]
    return subprocess.run([*argv, "--probe", str(folder)], check=False, cwd="/").returncode == 0


def reason_of(error: OSError) -> str:
    """The system's own words for an error, without what libraries wrap round them."""
    if error.errno is not None and error.errno > 0:  # name look-ups have numbers of their own, below zero
        return os.strerror(error.errno)
    return error.strerror or str(error)


def identity(pid: int) -> str | None:
    """A text that names this very process, not another that was given its number later; None when it is gone."""
    if HAS_PROC:
        try:
            fields = _PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{pid}:{fields[19]}"
    answer = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)],  # noqa: S607 - macOS and the BSDs have it in the path
        check=False,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return f"{pid}:{' '.join(answer.split()[:-1])}" if answer and not answer.split()[-1].startswith("Z") else None


def working_in(folder: Path) -> Iterator[int]:
    """The processes whose working folder is the given one, as far as this user may know (Linux only)."""
    wanted = str(folder.resolve())
    for entry in _PROC.glob("[0-9]*"):
        try:
            if str((entry / "cwd").readlink()) == wanted:
                yield int(entry.name)
        except OSError:
            continue


def stop(pid: int, steps: Sequence[tuple[signal.Signals, float]], *, group: bool = False) -> bool:
    """Send each signal and wait so many seconds for the end; False when the process outlives them all."""
    who = identity(pid)
    for number, patience in steps:
        if who is None or identity(pid) != who:
            break
        try:
            (os.killpg if group else os.kill)(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience
        while identity(pid) == who and time.monotonic() < deadline:
            time.sleep(0.02)
    return who is None or identity(pid) != who
