"""Makes the Python environment that `./pmis` runs in: a venv, uv from PyPI, the locked packages.

Called by `./pmis` with any Python from 3.11 on, hence the standard library alone. Prints the environment's folder;
everything else goes to the standard error. Several first runs at once wait for one another.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

UV = "uv==0.13.9"
LOG_TAIL = 12
LOADED = (
    "pmis.api.app",
    "pmis.assistant.checkpoints",
    "pmis.assistant.graph",
    "pmis.cli.main",
    "pmis.jobs.worker",
    "pmis.ops.up",
    "alembic.command",
)
"""What our processes load, and all that these load in turn."""


class StepFailedError(Exception):
    """A step did not work; the text says which and why."""


def say(text: str) -> None:
    """Tell the person at the terminal what happens."""
    sys.stderr.write(f"pmis: {text}\n")
    sys.stderr.flush()


def choose(root: Path, own: Path) -> Path:
    """The checkout's environment where this user may write it, else the user's own."""
    shared = root / ".venv"
    if os.access(shared if shared.exists() else root, os.W_OK | os.X_OK):
        return shared
    try:
        own.parent.parent.mkdir(parents=True, exist_ok=True)
        for folder in (own.parent, own):
            folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise StepFailedError(
            f"Neither {shared} nor {own} can be written ({error.strerror}). Set XDG_CACHE_HOME to a folder of yours."
        ) from None
    if {folder.stat().st_uid for folder in (own.parent, own)} != {os.geteuid()}:
        raise StepFailedError(f"{own} belongs to another user. Set XDG_CACHE_HOME to a folder of yours.")
    return own


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is given back when this process ends, however it ends."""
    folder.mkdir(exist_ok=True)
    with (folder / ".pmis-lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another ./pmis is making the environment; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(what: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    """Run a step; raises StepFailedError with the end of what it printed."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(map(str, command))}\n")
        output.flush()
        answer = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    if answer.returncode:
        tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-LOG_TAIL:])
        raise StepFailedError(f"{what} failed. The end of {log}:\n{tail}")


def is_current(folder: Path, kind: str, wanted: str) -> bool:
    """Whether the environment was made from just what is wanted now."""
    try:
        return (folder / f".pmis-{kind}").read_text().rstrip("\n") == wanted and (folder / "bin" / "python").exists()
    except OSError:
        return False


def is_usable(folder: Path, root: str) -> bool:
    """Whether an older environment can be brought up to date: its Python runs, and it was made for this place."""
    stamps = [path.read_text().rstrip("\n") for path in folder.glob(".pmis-runtime")]
    if any(not stamp.endswith(f" {root}") for stamp in stamps):
        return False
    test = "import sys, encodings; sys.exit(sys.version_info < (3, 11))"
    python = folder / "bin" / "python"
    try:
        return subprocess.run([python, "-I", "-c", test], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def clear(folder: Path) -> None:
    """Empty the folder but for the lock that we hold."""
    for path in folder.iterdir():
        if path.name == ".pmis-lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def make(folder: Path, kind: str, wanted: str, root: Path) -> None:
    """Bring the environment up to date, step by step."""
    log = folder / ".pmis-setup.log"
    python = folder / "bin" / "python"
    # What a surrounding venv or pip configuration says about other places must not reach this one.
    clean = {
        name: value
        for name, value in os.environ.items()
        if name
        not in {
            "VIRTUAL_ENV",
            "PYTHONPATH",
            "PYTHONHOME",
            "PIP_TARGET",
            "PIP_PREFIX",
            "UV_PROJECT",
        }
    }
    clean |= {
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }

    if not is_usable(folder, str(root)):
        clear(folder)
        log.write_text("")
        say(f"making a Python environment in {folder} (once)")
        # The real interpreter, not a link that the next upgrade of the system points elsewhere.
        command = [os.path.realpath(sys.executable), "-m", "venv", folder]
        try:
            run("Making a virtual environment", command, log, clean)
        except StepFailedError as error:
            hint = " On Debian and Ubuntu: apt install python3-venv." if "ensurepip" in str(error) else ""
            raise StepFailedError(f"{error}{hint}") from None
    else:
        log.write_text("")

    uv = folder / ".uv" / UV.replace("==", "-")
    if not (uv / "bin" / "uv").exists():
        say("installing uv")
        pip = [python, "-m", "pip"]
        if subprocess.run([*pip, "--version"], check=False, capture_output=True, env=clean).returncode:
            run("Adding pip", [python, "-m", "ensurepip"], log, clean)
        fresh = uv.with_name("new")
        shutil.rmtree(uv.parent, ignore_errors=True)
        run(
            "Installing uv from PyPI",
            [*pip, "install", "--quiet", "--no-deps", "--target", fresh, UV],
            log,
            clean,
        )
        fresh.rename(uv)

    dev = kind == "dev" or (folder / ".pmis-dev").exists()
    say(f"installing the locked packages{' with the tools of development' if dev else ''}")
    settings = {
        "UV_PROJECT_ENVIRONMENT": str(folder),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
    }
    if not os.access(os.environ.get("HOME") or "/nonexistent", os.W_OK) and "UV_CACHE_DIR" not in os.environ:
        settings["UV_CACHE_DIR"] = str(folder / ".uv" / "cache")
    for stamp in (".pmis-runtime", ".pmis-dev"):
        (folder / stamp).unlink(missing_ok=True)
    command = [
        uv / "bin" / "uv",
        "sync",
        "--locked",
        "--project",
        root / "server",
        "--python",
        python,
    ]
    run(
        "Installing the packages",
        [*command, *([] if dev else ["--no-dev"])],
        log,
        clean | settings,
    )
    # Compiled once, also where PYTHONDONTWRITEBYTECODE is set (`-I` does not hear of it): else every process compiles
    # hundreds of modules when it starts. Ours as far as the checkout can be written; what changes later is compiled
    # again when it is first used. Of the libraries' thousands of modules only what our processes load.
    source = root / "server" / "pmis"
    for command in (
        ["-m", "compileall", "-q", source],
        ["-c", f"import {', '.join(LOADED)}"],
    ):
        subprocess.run([python, "-I", *command], check=False, capture_output=True)
    for stamp in (".pmis-runtime", *((".pmis-dev",) if dev else ())):
        fresh = folder / f"{stamp}.new"
        fresh.write_text(f"{wanted}\n")
        fresh.rename(folder / stamp)


def main() -> int:
    """Make sure of the environment and print where it is."""
    kind, wanted, root, own = sys.argv[1:]
    started = time.monotonic()
    try:
        folder = choose(Path(root), Path(own))
        with alone(folder):
            if not is_current(folder, kind, wanted):
                make(folder, kind, wanted, Path(root))
                say(f"the environment is ready after {time.monotonic() - started:.0f} s")
    except StepFailedError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: The Python environment could not be made: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
