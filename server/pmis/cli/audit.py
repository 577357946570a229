"""The log: what happened, to what, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import typer

from pmis.cli import options
from pmis.cli.approvals import Events
from pmis.cli.client import connected
from pmis.cli.lookup import COLLECTIONS, Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

if TYPE_CHECKING:
    from pmis.cli.client import Json

app = typer.Typer(name="audit", help="The log: what happened, to what, by whom.", no_args_is_help=True)


def _who(event: Json, _lookup: Lookup) -> str:
    behalf = event.get("on_behalf_of_name")
    return printable(str(event["actor_name"]) + (f" for {behalf}" if behalf else ""))


_COLUMNS: Final = (
    Column("POSITION", lambda event, _: str(event["position"]), right=True),
    Column("WHEN (UTC)", lambda event, _: moment(event["occurred_at"], seconds=True)),
    Column("WHAT", lambda event, _: printable(str(event["type"]))),
    Column("RECORD", lambda event, _: f"{short(str(event['stream_id']))} v{event['stream_version']}"),
    Column("WHO", _who, flexible=True),
    Column("THROUGH", lambda event, _: printable(str(event["source"]))),
    Column("EVENT", lambda event, _: short(str(event["id"]))),
)


@app.command("list")
def list_events(
    type_: str | None = typer.Option(
        None, "--type", metavar="TYPE", help="Only this type, such as package.transitioned."
    ),
    actor: str | None = typer.Option(
        None, metavar="PERSON", help="Only by this person, or a principal such as system:demo."
    ),
    correlation: str | None = typer.Option(None, metavar="ID", help="Only of the request with this correlation id."),
    package: str | None = typer.Option(None, metavar="PACKAGE", help="Only of this package."),
    stream: str | None = typer.Option(None, metavar="ID", help="Only of the record with this id."),
    start: str | None = typer.Option(
        None, "--from", metavar="TIME", help="Not before this time (ISO 8601 with its zone)."
    ),
    end: str | None = typer.Option(None, "--to", metavar="TIME", help="Before this time."),
    project: str | None = options.PROJECT,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Search the log, the newest first."""
    if package and stream:
        raise typer.BadParameter("Give --package or --stream, not both.")
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        given: dict[str, str | None] = {
            "type": type_,
            "actor": actor if actor is None or ":" in actor else f"person:{lookup.person(actor)}",
            "correlation_id": correlation,
            "stream_id": lookup.package(package) if package else stream,
            "from": start,
            "to": end,
            "project": project,
        }
        found = api.listed("audit", limit=limit, everything=everything, cursor=cursor, **given)
        listing(found, _COLUMNS, lookup, json=as_json, nothing="There are no such events.")


@app.command()
def show(
    event: str = typer.Argument(metavar="EVENT", help="The id, or the last 8 digits of it as lists show them."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Show an event, with the hashes that chain it to the one before."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.get("audit", "events", lookup.identity("audit", event))
        if as_json:
            print_json(answer.body)
            return
        found = answer.json
        screen = Screen()
        payload = cast("Json", found["payload"])
        currency = cast("Json", payload.get("fields") or {}).get("currency")
        Events(lookup, screen, currency=currency).show(found)
        screen.line()
        names = (
            "position",
            "id",
            "stream_id",
            "stream_version",
            "actor",
            "correlation_id",
            "previous_hash",
            "content_hash",
        )
        screen.pairs((name.replace("_", " "), printable(str(found[name]))) for name in names)


@app.command()
def record(
    kind: str = typer.Argument(metavar="TYPE", help="package, task, party, project, approval, person, policy, ..."),
    reference: str = typer.Argument(metavar="RECORD", help="Its id, or what the commands for its kind take."),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """The events of one record alone, the newest first."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.identity(COLLECTIONS[kind], reference) if kind in COLLECTIONS else reference
        found = api.listed("audit", kind, identity, limit=limit, everything=everything)
        listing(found, _COLUMNS, lookup, json=as_json, nothing="There are no such events.")
