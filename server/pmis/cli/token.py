"""API tokens: what programs show instead of a sign-in."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import typer

from pmis.cli import options
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

if TYPE_CHECKING:
    from pmis.cli.client import Json

app = typer.Typer(
    name="token",
    help="API tokens, which let programs act for you without your password.",
    no_args_is_help=True,
)
_DAYS: Final = 90


def _until(token: Json) -> str:
    end = str(token["expires_at"])
    return f"{moment(end)}{' (over)' if datetime.fromisoformat(end).timestamp() < time.time() else ''}"


_COLUMNS: Final = (
    Column("ID", lambda token, _: short(str(token["id"]))),
    Column("NAME", lambda token, _: printable(str(token["name"])), flexible=True),
    Column("MAY", lambda token, _: str(token["scope"])),
    Column(
        "PROJECTS",
        lambda token, lookup: ", ".join(printable(lookup.project_prefix(one)) for one in token["projects"]) or "yours",
    ),
    Column("BEGINS WITH", lambda token, _: printable(str(token["hint"]))),
    Column("UNTIL (UTC)", lambda token, _: _until(token)),
    Column("USED LAST (UTC)", lambda token, _: moment(token["last_used_at"]) if token["last_used_at"] else "never"),
)


@app.command()
def create(
    name: str = typer.Argument(metavar="NAME", help="What will use it; the log names it by this."),
    write: bool = typer.Option(False, "--write", help="Let it propose changes too. Default: it only reads."),
    project: list[str] = typer.Option(
        [], "--project", metavar="PREFIX", help="Only this project, by prefix or id. May be repeated. Default: yours."
    ),
    days: int = typer.Option(_DAYS, "--days", min=1, max=3650, metavar="N", help="In how many days it ends."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Make an API token. It is printed this once: put it where your program finds it, such as PMIS_TOKEN.

    A program that shows it has your roles, less what only people do: it never decides, confirms or configures.
    """
    body = {"name": name, "scope": "write" if write else "read", "projects": project, "expires_in_days": days}
    with connected(account, as_json=as_json) as api:
        answer = api.request("POST", ("tokens",), body=body)
        if as_json:
            print_json(answer.body)
            return
        made = answer.json
        typer.echo(printable(str(made["token"])))
        typer.echo(f"It is good until {moment(made['expires_at'])} UTC, and is not shown again.", err=True)


@app.command("list")
def list_tokens(
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List your API tokens, the newest first."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("tokens", limit=limit, everything=everything, cursor=cursor)
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="You have no API tokens.")


@app.command()
def revoke(
    token: list[str] = typer.Argument(metavar="TOKEN...", help="Their ids, or the last 8 digits of them."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Revoke API tokens; every process refuses them within a second."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        for one in token:
            identity = lookup.identity("tokens", one)
            answer = api.request("DELETE", ("tokens", identity))
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"{short(identity)} is revoked.")
