"""The command line's entry: finds the command, and turns every failure into one plain sentence and an exit code.

0 done, 1 refused or failed, 2 not understood, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GROUPS: Final = (
    "up",
    "demo",
    "admin",
    "server",
    "processes",
    "ledger",
    "verify",
    "login",
    "reauthenticate",
    "second_factor",
    "token",
    "webhook",
    "project",
    "package",
    "package_type",
    "task",
    "party",
    "comment",
    "memory",
    "chat",
    "approval",
    "notification",
    "importing",
    "audit",
    "mail",
    "policy",
    "people",
    "invite",
    "jobs",
    "evaluate",
    "dev",
)
"""The modules of `pmis.cli` that hold commands, in the order of the help."""

app = typer.Typer(
    name="pmis",
    help="A project management information system with one governed write path and a log anyone can verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata  # noqa: PLC0415 - loads slowly, and help needs none of it

        typer.echo(f"pmis {importlib.metadata.version('pmis')}")
        raise typer.Exit


@app.callback()
def pmis(
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and end."
    ),
) -> None:
    """A project management information system with one governed write path and a log anyone can verify."""


for _group in GROUPS:
    app.add_typer(importlib.import_module(f"pmis.cli.{_group}").app)


def _asked_for(arguments: Sequence[str]) -> typer.Typer:
    """The commands without those of every group that is not asked for: making all takes longer than most commands.

    The help of all lists the groups all the same.
    """
    asked = next((one for one in arguments if not one.startswith("-")), None)
    small = copy(app)
    small.registered_groups = []
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None and isinstance(inner.info.name, str) and inner.info.name != asked:
            group, inner = copy(group), copy(inner)  # noqa: PLW2901 - the one everybody has stays whole
            inner.registered_commands, inner.registered_groups = [], []
            group.typer_instance = inner
        small.registered_groups.append(group)
    return small


def run() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    debug = os.environ.get("PMIS_DEBUG", "") not in ("", "0")
    try:
        _asked_for(sys.argv[1:])(prog_name="pmis")
    except PmisError as error:
        if debug:
            traceback.print_exc()
        _fail(error.detail)
    except Exception as error:  # noqa: BLE001 - the edge: nobody above this could handle it
        if debug:
            traceback.print_exc()
        if type(error).__module__.startswith("psycopg"):
            first = str(error).strip().partition("\n")[0]
            _fail(f"The database does not do what was asked: {first}. `pmis doctor` says what may be wrong.")
        path = None if debug else _record(traceback.format_exc())
        where = f"The details are in {path}" if path else "Run it again with PMIS_DEBUG=1 to see the details"
        if debug:
            where = "The details are above"
        _fail(f"Something went wrong that PMIS did not expect ({type(error).__name__}). {where}.")
    sys.exit(0)


def _fail(text: str) -> NoReturn:
    sys.stderr.write(f"error: {text}\n")
    sys.exit(1)


def _record(details: str) -> Path | None:
    """Keep the trace where the other logs are; None when that cannot be written."""
    from pmis.ops.datafolder import log_folder  # noqa: PLC0415 - needed only when something is wrong

    try:
        path = log_folder() / "cli.log"
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat()} pmis {' '.join(sys.argv[1:2])}\n{details}\n")
    except OSError:
        return None
    return path


if __name__ == "__main__":
    run()
