"""For those who work on PMIS: the checks, the tests, and the pages made from the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer()

_GATED: Final = ("ledger", "policy")
"""The packages whose lines and branches must all be covered."""
_WORKERS: Final = "2"
_SUMMARY: Final = re.compile(r"\b(passed|failed|error|errors|no tests ran)\b.* in [0-9.]+s")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")


class NoCheckoutError(PmisError):
    """These commands need the source checkout and its tools."""

    code = "no_checkout"
    title = "Not a source checkout"


@app.command()
def lint() -> None:
    """Check style, formatting, import rules and dependencies."""
    raise typer.Exit(0 if _lint() else 1)


@app.command()
def types() -> None:
    """Check the types, strictly."""
    raise typer.Exit(0 if _types() else 1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]}
)
def test(
    context: typer.Context,
    faults: bool = typer.Option(  # noqa: PT028 - a command called test, not a test
        False,
        "--faults",
        help="Run the fault suites at their whole size: everything is killed, cut off and filled up. Takes long.",
    ),
    journeys: bool = typer.Option(  # noqa: PT028 - as above
        False, "--journeys", help="Walk through the product in a real Chromium, as its users do, and look for faults."
    ),
) -> None:
    """Check style, import rules, types and the web app, then run every test; with pytest's arguments just those."""
    if faults:
        raise typer.Exit(_faults(context.args))
    if journeys:
        raise typer.Exit(_journeys(context.args))
    if context.args:
        raise typer.Exit(_pytest(context.args))
    sound = [_lint(), _types(), _pages()]
    if not all(sound):
        _say("the checks above FAILED; the tests run all the same")
    code = _pytest((), gates=True)
    raise typer.Exit(code or (0 if all(sound) else 1))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]}
)
def bench(context: typer.Context) -> None:
    """Measure against the fastest honest program that gives the same answers, in one run; `-h` lists what to choose."""
    raise typer.Exit(
        subprocess.run([sys.executable, "-m", "bench", *context.args], check=False, cwd=_root()).returncode
    )


@app.command()
def generate(
    check: bool = typer.Option(False, "--check", help="Write nothing; fail when a page is not what the code says."),
) -> None:
    """Write what is made from the code: docs/reference, and the description behind the web app's client."""
    from pmis.cli.reference import stale_pages, write_pages  # noqa: PLC0415 - see the package

    if check:
        stale = stale_pages(_root())
        if stale:
            raise StalePagesError(f"{', '.join(stale)}: not what the code says. Run `pmis generate`.")
        return
    for path in write_pages(_root()):
        typer.echo(f"wrote {path}")


class StalePagesError(PmisError):
    """A generated page is not what the code says any more."""

    code = "stale_pages"
    title = "A generated page is stale"


def _root() -> Path:
    from pmis.kit.settings import checkout  # noqa: PLC0415 - see the package

    root = checkout()
    if root is None:
        raise NoCheckoutError("This needs a source checkout; run ./pmis in one.")
    return root


def _tool(name: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise NoCheckoutError(f"{name} is not installed here. Run this as ./pmis in the checkout, which installs it.")
    return str(path)


def _lint() -> bool:
    server = _root() / "server"
    targets = [str(path) for path in (server, _root() / "dev", _root() / "bench") if path.is_dir()]
    return all(
        [
            _passes("style", _tool("ruff"), "check", "--quiet", *targets),
            _passes("formatting", _tool("ruff"), "format", "--quiet", "--check", *targets),
            _passes("import rules", _tool("lint-imports"), "--no-logo"),
            _passes("dependencies", _tool("deptry"), "."),
        ]
    )


def _types() -> bool:
    return _passes("types", _tool("pyright"), "--pythonpath", sys.executable, "-p", str(_root() / "server"))


def _pages() -> bool:
    """Check the web app's sources and run its own tests, with the Node and the packages it is built with."""
    from pmis.ops.web import OLDEST_NODE_OF_TESTS, Web, WebError  # noqa: PLC0415 - see the package

    web = Web(_say, _root())
    for name, script in (("web app", "check"), ("web app's tests", "test")):
        try:
            node = web.node(OLDEST_NODE_OF_TESTS)
            web.install(node)
            web.npm(node, f"npm run {script}", "run", script)
        except WebError as error:
            typer.echo(str(error))
            _say(f"{name}: FAILED")
            return False
        _say(f"{name}: ok")
    return True


def _passes(name: str, *command: str) -> bool:
    """Run a check; its words are shown when it fails."""
    answer = subprocess.run(
        command, check=False, cwd=_root() / "server", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if answer.returncode:
        typer.echo(answer.stdout.rstrip())
    _say(f"{name}: {'FAILED' if answer.returncode else 'ok'}")
    return answer.returncode == 0


def _pytest(arguments: Sequence[str], *, gates: bool = False) -> int:
    """Run pytest; with the coverage gates its own summary still comes last."""
    command = [sys.executable, "-m", "pytest"]
    if not gates:
        # Paths are meant from where the caller stands.
        config = _root() / "server" / "pyproject.toml"
        return subprocess.run(
            [*command, "-c", str(config), f"--rootdir={_root() / 'server'}", *arguments], check=False
        ).returncode
    command += ["-n", _WORKERS, "--dist", "worksteal", "--cov", "--cov-report=term", "-q"]
    command.append(f"--color={'yes' if sys.stdout.isatty() else 'no'}")
    summary = ""
    with subprocess.Popen(
        command, cwd=_root() / "server", env=_coverage_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            if _SUMMARY.search(_ESCAPES.sub("", line)):
                # A line like it may stand in some test's output: only the last one is held back.
                summary, line = line, summary  # noqa: PLW2901 - what was held back takes its turn
            sys.stdout.write(line)
            sys.stdout.flush()
    covered = [_is_covered(package) for package in _GATED]
    sys.stdout.write(summary)
    return process.returncode or (0 if all(covered) else 1)


def _faults(arguments: Sequence[str]) -> int:
    """Run the fault suites, one test after another; with arguments only some of them, else none may be missing."""
    server = _root() / "server"
    suites = (server / "tests" / "faults", server / "tests" / "jobs" / "test_faults.py")
    command = [sys.executable, "-m", "pytest", "-c", str(server / "pyproject.toml"), f"--rootdir={server}"]
    # What they say as they go is shown; the figures come again, together, at the end.
    command += ["-n", "0", "-s", "-v", "-p", "no:randomly", *map(str, suites), *arguments]
    return subprocess.run(
        command, check=False, env={**os.environ, "PMIS_TEST_FAULTS": "some" if arguments else "all"}
    ).returncode


def _journeys(arguments: Sequence[str]) -> int:
    """Walk the journeys of the web app, with what they say as they go."""
    server = _root() / "server"
    command = [sys.executable, "-m", "pytest", "-c", str(server / "pyproject.toml"), f"--rootdir={server}"]
    command += ["-n", "0", "-s", str(server / "tests" / "ops" / "test_journeys.py"), *arguments]
    return subprocess.run(command, check=False, env={**os.environ, "PMIS_TEST_JOURNEYS": "1"}).returncode


def _coverage_environment() -> dict[str, str]:
    """Where coverage keeps its data, for processes that work elsewhere too."""
    return {**os.environ, "COVERAGE_FILE": str(_root() / "server" / ".coverage")}


def _is_covered(package: str) -> bool:
    return _passes(
        f"coverage of {package}",
        sys.executable,
        "-m",
        "coverage",
        "report",
        f"--include=pmis/{package}/*",
        "--fail-under=100",
        "--precision=2",
    )


def _say(text: str) -> None:
    typer.echo(f"pmis: {text}")
    sys.stdout.flush()
