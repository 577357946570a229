"""Becomes another program: as an unprivileged user, and only for as long as the one who started it lives.

Run as a script by `pmis.ops.process`, with the standard library alone. What must happen between fork and exec happens
here, in a process of its own, instead of in a `preexec_fn` beside threads.
"""

import argparse
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int, signal_number: int) -> None:
    """Ask Linux for a signal when the parent dies. Must follow the change of user, which clears the request."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)


def main() -> None:
    """Drop privileges, tie the life to the parent's, then exec; with --probe only say whether a folder can be used."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--probe")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.uid is not None:
        os.setgroups([])
        os.setgid(options.gid)
        os.setuid(options.uid)
    if options.probe is not None:
        sys.exit(0 if os.access(options.probe, os.R_OK | os.X_OK) else 1)
    os.umask(0o077)
    if options.parent is not None:
        _die_with(options.parent, options.signal)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
