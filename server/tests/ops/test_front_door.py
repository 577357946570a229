"""`./pmis` itself: makes its environment once, quickly finds it again, and says plainly what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pmis.kit.settings import checkout
from pmis.ops.process import named_user

ROOT = checkout() or pytest.fail("the tests run in a checkout")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def run(script, *arguments, **options):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PMIS_", "VIRTUAL_ENV"))}
    environment = kept | options.pop("environment", {})
    return subprocess.run(
        [script, *arguments], check=False, capture_output=True, text=True, env=environment, timeout=280, **options
    )


@pytest.fixture
def copy(tmp_path):
    """A checkout without an environment, on a path with a space."""
    root = tmp_path / "a b" / "checkout"
    root.mkdir(parents=True)
    for name in (
        "pmis",
        "dev",
        "server/pmis",
        "server/migrations",
        "server/pyproject.toml",
        "server/uv.lock",
        "server/README.md",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / name)
    return root


def fake_python(folder, version):
    """A Python that says it is of some version, and refuses what another would do."""
    folder.mkdir(exist_ok=True)
    path = folder / "python3"
    path.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version} ;; *) exit 1 ;; esac\n')
    path.chmod(0o755)
    return path


class TestPython:
    def test_one_that_is_too_old(self, copy, tmp_path):
        answer = run(copy / "pmis", environment={"PMIS_PYTHON": str(fake_python(tmp_path / "bin", "3.10"))})
        assert answer.returncode == 1
        assert "PMIS needs Python 3.11 or newer" in answer.stderr
        assert "is 3.10" in answer.stderr
        assert not (copy / ".venv").exists()

    def test_one_that_is_not_there(self, copy):
        answer = run(copy / "pmis", environment={"PMIS_PYTHON": "/nowhere/python3"})
        assert answer.returncode == 1
        assert "/nowhere/python3 was not found. Install it, or name it: PMIS_PYTHON=" in answer.stderr

    def test_none_at_all(self, copy, tmp_path):
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("dirname", "readlink", "cat", "cksum", "tr", "id"):
            (tools / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
        answer = run("/bin/sh", str(copy / "pmis"), environment={"PATH": str(tools)})
        assert answer.returncode == 1
        assert "python3 was not found" in answer.stderr


def test_a_step_that_fails_says_which_and_shows_the_end_of_its_log(copy):
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
    }
    answer = run(copy / "pmis", "--version", environment=nowhere)
    assert answer.returncode == 1
    assert "error: Installing uv from PyPI failed. The end of " in answer.stderr
    assert ".pmis-setup.log" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (copy / ".venv" / ".pmis-runtime").exists()


_COMPILED = """
import sys
files = set()
def heard(event, about):
    # Only what imports compile: anyio parses its own text, and many make small functions.
    if event == "compile" and "importlib" in sys._getframe(1).f_code.co_filename:
        files.add(str(about[1]))
sys.addaudithook(heard)
import pmis.api.app, pmis.cli.main, pmis.jobs.worker, pmis.ops.up, pmis.assistant.graph, alembic.command
print(*sorted(files), sep="\\n", end="")
"""
"""Prints the files that are compiled while what our processes load is loaded."""


@pytest.mark.slow
def test_first_runs_at_once_then_quick_ones_from_anywhere(copy, tmp_path):
    writing_nothing = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    first = [
        subprocess.Popen(
            [copy / "pmis", "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=writing_nothing,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=280) for process in first]
    assert [process.returncode for process in first] == [0, 0], answers
    assert [output.startswith("pmis 0.") for output, _ in answers] == [True, True]
    # One made it, the other waited.
    assert "".join(errors for _, errors in answers).count("installing the locked packages") == 1

    # From then on no process compiles anything.
    compiled = subprocess.run(
        [copy / ".venv" / "bin" / "python", "-P", "-c", _COMPILED],
        env=writing_nothing,
        capture_output=True,
        text=True,
        check=True,
    )
    assert compiled.stdout.splitlines() == []

    (tmp_path / "link").symlink_to(copy / "pmis")
    for script, folder in ((copy / "pmis", "/"), (tmp_path / "link", tmp_path), ("../checkout/pmis", copy)):
        answer = run(script, "--version", cwd=folder)
        assert (answer.returncode, answer.stderr) == (0, ""), answer

    # A folder with modules of other people's making is not where ours come from.
    (tmp_path / "typer.py").write_text("raise SystemExit('the wrong typer')")
    assert run(copy / "pmis", "--version", cwd=tmp_path).returncode == 0

    script, python = (
        _seconds(copy / "pmis", "--version"),
        _seconds(copy / ".venv" / "bin" / "python", "-P", "-m", "pmis.cli.main", "--version"),
    )
    assert script < 2 * python

    if os.geteuid() == 0 and (copy / ".venv/bin/python").resolve().is_relative_to("/usr"):
        nobody = named_user("nobody")
        _open_path(copy)
        answer = run(copy / "pmis", "--version", user=nobody.uid, group=nobody.gid, extra_groups=[], cwd="/")
        assert answer.returncode == 0, answer

    # Its programs name the place they were made for: somewhere else it is not used, and would be made anew.
    moved = copy.with_name("moved")
    copy.rename(moved)
    answer = run(moved / "pmis", "--version", environment={"PMIS_PYTHON": "/nowhere/python3"})
    assert answer.returncode == 1
    assert "/nowhere/python3 was not found" in answer.stderr


def _seconds(*command):
    """The processor time of the quickest of some runs: a busy machine must not fail this."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def _open_path(folder: Path):
    for parent in (folder, *folder.parents):
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)


@as_root
@pytest.mark.slow
def test_an_ordinary_user_in_roots_checkout_gets_an_environment_of_their_own(copy, tmp_path):
    """Without HOME, as in many a container."""
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), None)
    if python is None:
        pytest.skip("there is no Python that every user can reach")
    nobody = named_user("nobody")
    _open_path(copy)
    caches = tmp_path / "caches"
    caches.mkdir(mode=0o755)
    os.chown(caches, nobody.uid, nobody.gid)
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("SSL", "PIP_", "REQUESTS", "UV_", "HTTP"))
    }
    environment = {**kept, "PATH": "/usr/bin:/bin", "PMIS_PYTHON": python, "XDG_CACHE_HOME": str(caches)}
    for attempt in range(2):
        started = time.monotonic()
        answer = subprocess.run(
            [copy / "pmis", "--version"], check=False, capture_output=True, text=True, env=environment, cwd="/",
            user=nobody.uid, group=nobody.gid, extra_groups=[], timeout=280,
        )  # fmt: skip
        assert answer.returncode == 0, answer
        assert answer.stdout.startswith("pmis 0.")
        assert ("installing" in answer.stderr) == (attempt == 0), f"{time.monotonic() - started:.1f} s"
    assert not (copy / ".venv").exists()
    made = list((caches / "pmis").iterdir())
    assert [path.stat().st_uid for path in made] == [nobody.uid]
