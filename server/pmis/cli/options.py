"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import json
from typing import Any, Final, cast

import typer

from pmis.cli.text import printable

AS: Final[Any] = typer.Option(
    None,
    "--as",
    metavar="NAME",
    help="The account to act as, by the name given to `pmis login --as`. Default: PMIS_TOKEN, PMIS_PROFILE, `default`.",
)
JSON: Final[Any] = typer.Option(False, "--json", help="Print the API's JSON, for programs.")
LIMIT: Final[Any] = typer.Option(50, "--limit", min=1, max=100_000, metavar="N", help="How many at most.")
ALL: Final[Any] = typer.Option(False, "--all", help="All of them, however many.")
CURSOR: Final[Any] = typer.Option(
    None, "--cursor", metavar="TEXT", help="Go on where a list with --json ended: its `next`."
)
PROJECT: Final[Any] = typer.Option(None, "--project", metavar="PREFIX", help="Only this project, by prefix or id.")
REASON: Final[Any] = typer.Option(None, "--reason", metavar="TEXT", help="Why; shown to those who decide.")
DRY_RUN: Final[Any] = typer.Option(
    False, "--dry-run", help="Show the difference, the route and who must agree; write nothing."
)
IF_MATCH: Final[Any] = typer.Option(
    None, "--if-match", min=0, metavar="VERSION", help="Refuse when the record is not at this version any more."
)
KEY: Final[Any] = typer.Option(
    None,
    "--key",
    metavar="TEXT",
    help="The idempotency key: the same command under the same key takes effect once. Default: a new one.",
)
SET: Final[Any] = typer.Option(
    [],
    "--set",
    metavar="FIELD=VALUE",
    help="Any field of the API by its name. The value is JSON, or text when it is not; a number stays as it is "
    "written, null empties. May be repeated.",
)
DATA: Final[Any] = typer.Option(
    [],
    "--data",
    metavar="KEY=VALUE",
    help="An extra field of the record. The value is read as with --set. May be repeated.",
)


class _NotJson(ValueError):  # noqa: N818 - it never leaves this module
    pass


def _no_constant(name: str) -> Any:  # noqa: ANN401 - it never returns
    raise _NotJson(name)


def json_or_text(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value that the text is, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def json_value(text: str, option: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value that the text is; raises BadParameter when it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not valid JSON: {error}", param_hint=option) from None


def assignments(given: list[str], option: str) -> dict[str, Any]:
    """`name=value` pairs; raises BadParameter for one that is none, or a name given twice."""
    found: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{printable(item[:80])!r} is not of the form NAME=VALUE.", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{printable(name)!r} is given twice.", param_hint=option)
        found[name] = json_or_text(text)
    return found


def field_assignments(given: list[str]) -> dict[str, Any]:
    """What --set gives, field by field. No field of a record is a bare number: an amount is a text of digits."""
    found = assignments(given, "--set")
    for item in given:
        name, _, text = item.partition("=")
        if isinstance(found[name], (int, float)) and not isinstance(found[name], bool):
            found[name] = text.strip()
    return found


def fields_of(
    named: dict[str, Any], given: list[str], data: list[str] | None = None, *, flags: dict[str, str] | None = None
) -> dict[str, Any]:
    """The fields that options of their own, --set and --data give together; raises BadParameter for one given twice."""
    fields = {name: value for name, value in named.items() if value is not None}
    for name, value in field_assignments(given).items():
        if name in fields:
            raise typer.BadParameter(
                f"{printable(name)!r} is also given by {(flags or {}).get(name, 'another option')}.", param_hint="--set"
            )
        fields[name] = value
    if data:
        if "data" in fields:
            raise typer.BadParameter("'data' is also given by --data.", param_hint="--set")
        fields["data"] = assignments(data, "--data")
    return fields


def said(reason: str | None, impact: str | None = None, uncertainty: str | None = None) -> dict[str, Any]:
    """What travels beside the fields of a proposal."""
    given = {"reason": reason, "impact_level": impact, "uncertainty_level": uncertainty}
    return {name: cast("Any", value) for name, value in given.items() if value is not None}
