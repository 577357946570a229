"""What one is told, and how one is mailed."""

from __future__ import annotations

from typing import Final

import typer

from pmis.cli import options
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

app = typer.Typer(name="notification", help="What you are told, and how you are mailed.", no_args_is_help=True)

_COLUMNS: Final = (
    Column("ID", lambda item, _: short(str(item["id"]))),
    Column("WHEN (UTC)", lambda item, _: moment(item["created_at"])),
    Column("", lambda item, _: "!" if item["urgent"] else "" if item["read_at"] else "*"),
    Column("WHAT", lambda item, _: printable(str(item["kind"]).replace("approval.", "").replace("_", " "))),
    Column("ABOUT", lambda item, _: printable(str(item["label"])), flexible=True),
    Column("APPROVAL", lambda item, _: short(str(item["entity_id"])), spare=True),
)


@app.command("list")
def list_notifications(
    unread: bool = typer.Option(False, "--unread", help="Only what was not read yet."),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List what you were told, the newest first; * marks what is unread, ! what is urgent."""
    with connected(account, as_json=as_json) as api:
        found = api.listed(
            "notifications", limit=limit, everything=everything, cursor=cursor, unread="true" if unread else None
        )
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="There is nothing you were told.")


@app.command()
def read(
    up_to: str | None = typer.Option(
        None, "--up-to", metavar="ID", help="The newest that you saw: the id, or the last 8 digits of it. Default: all."
    ),
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Mark as read what you were told; it is not mailed any more."""
    with connected(account, as_json=as_json) as api:
        last = Lookup(api).identity("notifications", up_to) if up_to else None
        answer = api.send("POST", "notifications", "read", body={"up_to": last} if last else {}, key=key)
        if as_json:
            print_json(answer.body)
        else:
            typer.echo(f"{answer.json['marked']} marked as read")


@app.command()
def mail(
    how: str | None = typer.Argument(None, metavar="[HOW]", help="at_once, hourly, daily or never. Default: say it."),
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Say, or change, how you are mailed what you have not read."""
    with connected(account, as_json=as_json) as api:
        place: tuple[str, str] = ("notifications", "preferences")
        answer = api.get(*place) if how is None else api.send("PATCH", *place, body={"mail": how}, key=key)
        if as_json:
            print_json(answer.body)
        else:
            typer.echo(f"mail: {answer.json['mail']}")
