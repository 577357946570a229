"""Makes what is made from the code: the reference pages, and the description that the web app's client comes from."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import typer
from pydantic_core import PydanticUndefined
from typer.main import get_command

from pmis.cli.main import app
from pmis.kit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic.fields import FieldInfo

_NOTE = "<!-- Made by `pmis generate`; change the code instead. -->"


def pages() -> dict[str, str]:
    """The text of each file by its path in the repository."""
    return {
        "docs/reference/cli.md": _cli(),
        "docs/reference/settings.md": _settings(),
        "web/client/openapi.json": _description(),
    }


def write_pages(root: Path) -> list[Path]:
    """Write the files below the repository's root; returns them."""
    written: list[Path] = []
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def stale_pages(root: Path) -> list[str]:
    """The paths of the files that are missing or not what the code says."""
    return [
        name
        for name, text in pages().items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def _description() -> str:
    """What the API says of itself, by itself: the command line knows the API only from outside."""
    command = [sys.executable, "-P", "-m", "pmis.api.description"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that a person may use, with its full name, groups among them."""
    root = get_command(app)
    context = typer.Context(root, info_name="pmis")
    yield from _below(root, "pmis", context)


def _below(command: Any, name: str, context: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - Typer keeps Click's types to itself
    for child_name in command.list_commands(context):
        child = command.get_command(context, child_name)
        if child is None or child.hidden:
            continue
        full = f"{name} {child_name}"
        yield full, child
        if hasattr(child, "list_commands"):
            yield from _below(child, full, context)


def _cli() -> str:
    parts = [
        "# Commands",
        _NOTE,
        (
            "`./pmis COMMAND` in a checkout. "
            "Exit codes: 0 done, 1 refused or failed, 2 not understood, 130 interrupted. "
            "`PMIS_DEBUG=1` shows the trace of a failure."
        ),
    ]
    for name, command in commands():
        heading = "##" if name.count(" ") == 1 else "###"
        parts.append(f"{heading} {name}")
        parts.append(_paragraphs(command.help or ""))
        if not hasattr(command, "list_commands"):
            parts.append(f"```\n{_usage(name, command)}\n```")
            if table := _parameters(command):
                parts.append(table)
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\f", "").split("\n\n"))


def _usage(name: str, command: Any) -> str:  # noqa: ANN401 - see _below
    context = typer.Context(command, info_name=name)
    return " ".join([name, *command.collect_usage_pieces(context)])


def _parameters(command: Any) -> str:  # noqa: ANN401 - see _below
    rows: list[str] = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        names = [*parameter.opts, *parameter.secondary_opts]
        shown = (
            ", ".join(f"`{name}`" for name in names) if parameter.param_type_name == "option" else f"`{parameter.name}`"
        )
        help_text = " ".join((getattr(parameter, "help", None) or "").split())
        rows.append(f"| {shown} | {help_text.replace('|', chr(92) + '|')} |")
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def _settings() -> str:
    parts = [
        "# Settings",
        _NOTE,
        (
            "Environment variables; an empty one counts as absent. A secret can also be read from the file that "
            "`NAME_FILE` names. What is not set here, commands take from the data folder of `pmis up`: "
            "secrets made once (`secrets.json`), and the addresses of the servers that run now (`runtime.json`)."
        ),
        "| name | default | meaning |\n|---|---|---|\n"
        + "\n".join(_setting(name, field) for name, field in Settings.model_fields.items()),
        (
            "`PMIS_DEBUG=1` makes the command line show the trace of a failure; `PMIS_PYTHON` names the Python that "
            "`./pmis` makes its environment with."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _setting(name: str, field: FieldInfo) -> str:
    secret = " (secret)" if name.upper() in Settings.secret_names else ""
    default = cast("object", field.default)
    shown = "" if default is PydanticUndefined or default is None or default == () else f"`{default}`"
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `{name.upper()}`{secret} | {shown} | {meaning} |"
