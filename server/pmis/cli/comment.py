"""Comments: what people say about a record."""

from __future__ import annotations

from typing import Any, Final

import typer

from pmis.cli import options
from pmis.cli.approvals import outcome
from pmis.cli.client import connected
from pmis.cli.lookup import COLLECTIONS, Lookup
from pmis.cli.output import Column, listing
from pmis.cli.text import moment, printable, short, value

app = typer.Typer(name="comment", help="Comments: what people say about a record.", no_args_is_help=True)
_KIND: Final[Any] = typer.Argument(metavar="TYPE", help="project, package, task, party or approval.")
_RECORD: Final[Any] = typer.Argument(metavar="RECORD", help="Its id, or what the commands for its kind take.")
_COLUMNS: Final = (
    Column("ID", lambda one, _: short(str(one["id"]))),
    Column("WHEN (UTC)", lambda one, _: moment(one["created_at"])),
    Column("WHO", lambda one, _: printable(str(one["author_name"])), flexible=True),
    Column("COMMENT", lambda one, _: value(one["body"]), flexible=True),
)


@app.command("list")
def list_comments(
    kind: str = _KIND,
    record: str = _RECORD,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List what was said about a record, the newest first."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.identity(COLLECTIONS[kind], record) if kind in COLLECTIONS else record
        found = api.listed(
            "comments", limit=limit, everything=everything, cursor=cursor, entity_type=kind, entity_id=identity
        )
        listing(found, _COLUMNS, lookup, json=as_json, nothing="Nobody has said anything.")


@app.command()
def add(
    kind: str = _KIND,
    record: str = _RECORD,
    text: str = typer.Argument(metavar="TEXT", help="What to say."),
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Say something about a record."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.identity(COLLECTIONS[kind], record) if kind in COLLECTIONS else record
        body = {"entity_type": kind, "entity_id": identity, "body": text}
        outcome(
            api.send("POST", "comments", body=body, key=key), lookup, operation="create", json=as_json, kind="comment"
        )
