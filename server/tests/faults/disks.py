"""Small disks of a test's own: a file that is mounted as ext4, or a piece of memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def require_mounts(folder: Path) -> None:
    """Skip the test, with the reason, where this user on this machine cannot mount what it needs."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk of its own")
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed, so there is no disk of its own to be had")
    image, place = folder / "probe.img", folder / "probe"
    place.mkdir()
    try:
        make_image(image, 16)
        done = _run("mount", "-o", "loop", str(image), str(place))
        if done.returncode:
            pytest.skip(f"this machine does not mount images: {done.stderr.strip()}")
        _run("umount", str(place))
    finally:
        image.unlink(missing_ok=True)
        place.rmdir()


def make_image(image: Path, megabytes: int) -> None:
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    done = _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(image))
    assert done.returncode == 0, done.stderr


@contextmanager
def mounted(image: Path, place: Path) -> Generator[Path]:
    """The image as a folder."""
    place.mkdir()
    done = _run("mount", "-o", "loop", str(image), str(place))
    assert done.returncode == 0, done.stderr
    try:
        yield place
    finally:
        _unmount(place)


@contextmanager
def memory(place: Path, megabytes: int) -> Generator[Path]:
    """A folder that holds so much and no more."""
    place.mkdir()
    done = _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(place))
    assert done.returncode == 0, done.stderr
    try:
        yield place
    finally:
        _unmount(place)


def resize(place: Path, megabytes: int) -> None:
    """Make the folder of `memory()` larger."""
    done = _run("mount", "-o", f"remount,size={megabytes}m", str(place))
    assert done.returncode == 0, done.stderr


def _unmount(place: Path) -> None:
    # What still runs there keeps its files; the mount goes with the last of it.
    if _run("umount", str(place)).returncode:
        _run("umount", "-l", str(place))
    with suppress(OSError):
        place.rmdir()


def fill(place: Path, leave_kilobytes: int) -> Path:
    """Fill the disk with one file, up to so much."""
    ballast = place / "ballast"
    free = shutil.disk_usage(place).free - (leave_kilobytes << 10)
    # Whoever else writes there at this moment has filled the rest.
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while free > 0:
            free -= file.write(b"\0" * min(free, 1 << 20))
    return ballast
