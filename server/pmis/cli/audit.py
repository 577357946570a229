"""The log: what happened, to what, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import options
from pmis.cli.approvals import Events
from pmis.cli.client import BadArgumentError, connected
from pmis.cli.lookup import COLLECTIONS, Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.saving import destination
from pmis.cli.text import moment, printable, short
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from pmis.cli.client import Json


class ProofError(PmisError):
    """A proof does not prove what it should."""

    code = "proof"
    title = "This proves nothing"


app = typer.Typer(name="audit", help="The log: what happened, to what, by whom.", no_args_is_help=True)


def _who(event: Json, _lookup: Lookup) -> str:
    behalf = event.get("on_behalf_of_name")
    return printable(str(event["actor_name"]) + (f" for {behalf}" if behalf else ""))


_COLUMNS: Final = (
    Column("POSITION", lambda event, _: str(event["position"]), right=True),
    Column("WHEN (UTC)", lambda event, _: moment(event["occurred_at"], seconds=True)),
    Column("WHAT", lambda event, _: printable(str(event["type"]))),
    Column("RECORD", lambda event, _: f"{short(str(event['stream_id']))} v{event['stream_version']}", spare=True),
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


_EVENT: Final[Any] = typer.Argument(metavar="EVENT", help="The id, or the last 8 digits of it as lists show them.")


@app.command()
def show(
    event: str = _EVENT,
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


@app.command()
def proof(
    event: str = _EVENT,
    key: list[str] = typer.Option(
        [], "--key", metavar="KEY", help="The key that must have signed (see `pmis ledger key`). May be repeated."
    ),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Prove that an event is in the signed log, and check the proof here, on this machine.

    Without --key the signature is checked against the key that the server names, which proves less: keep a key that you
    got another way.
    """
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.get("audit", "events", lookup.identity("audit", event), "proof")
        keys = key or [str(api.get("audit", "checkpoints", limit=1).json["key"])]
        lines = _checked(answer.json, keys, pinned=bool(key))
        if as_json:
            print_json(answer.body)
        else:
            Screen().pairs(lines, indent=0)


_OPENED: Final = (
    "does not give its hash as it is shown to you: values that the log keeps apart (contacts, say) are shown in it, or "
    "it was changed. `pmis verify` of an export tells which"
)


def _checked(found: Json, keys: list[str], *, pinned: bool) -> list[tuple[str, str]]:
    """What the proof shows; raises ProofError when it does not hold."""
    from pmis.kit.canonical import canonical  # noqa: PLC0415 - see the package
    from pmis.ledger.verify import (  # noqa: PLC0415
        Checkpoint,
        NoteError,
        VerifierKey,
        event_hash,
        leaf_hash,
        verify_inclusion,
    )

    said = cast("Json", found["event"])
    try:
        digest = bytes.fromhex(str(said["content_hash"]))
        checkpoint = Checkpoint.parse(str(found["checkpoint"]))
        signer = checkpoint.require_signature([VerifierKey.parse(one) for one in keys])
        path = [bytes.fromhex(str(one)) for one in cast("list[str]", found["path"])]
        index = int(found["leaf_index"])
        included = verify_inclusion(
            index=index, size=checkpoint.size, leaf=leaf_hash(digest), proof=path, root=checkpoint.root
        )
    except NoteError as error:
        raise ProofError(f"The checkpoint does not hold: {printable(str(error))}.") from None
    except (ValueError, KeyError, TypeError):
        raise ProofError("The server's proof is not one.") from None
    if not included:
        raise ProofError("The event is not in the tree that the checkpoint signs: the proof does not lead to its root.")
    fits = event_hash({**said, "payload": canonical(said["payload"])}) == digest
    return [
        (
            "event",
            f"{printable(str(said['type']))} at position {said['position']}, {moment(said['occurred_at'])} UTC",
        ),
        (
            "content",
            "fits its hash" if fits else _OPENED,
        ),
        ("in the tree", f"leaf {index} of {checkpoint.size}"),
        ("signed by", f"{printable(str(signer))} ({'pinned' if pinned else 'as the server names it'})"),
    ]


@app.command()
def checkpoints(
    note: bool = typer.Option(False, "--note", help="Print the newest signed note alone, to be kept elsewhere."),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List the signed checkpoints, the newest first. One kept elsewhere shows whether the log was rewritten."""
    with connected(account, as_json=as_json) as api:
        if note:
            newest = cast("list[Json]", api.get("audit", "checkpoints", limit=1).json["items"])
            if not newest:
                raise BadArgumentError("Nothing has been sealed yet: there is no checkpoint.")
            typer.echo(printable(str(newest[0]["note"]), lines=True), nl=False)
            return
        found = api.listed("audit", "checkpoints", limit=limit, everything=everything, cursor=cursor)
        columns = (
            Column("EVENTS", lambda one, _: str(one["size"]), right=True),
            Column("SIGNED (UTC)", lambda one, _: moment(one["signed_at"], seconds=True)),
            Column("ROOT", lambda one, _: printable(str(one["root_hash"])), flexible=True),
        )
        listing(found, columns, Lookup(api), json=as_json, nothing="Nothing has been sealed yet.")


@app.command()
def export(
    file: str = typer.Argument(metavar="FILE", help="Where to write it (JSON lines, gzip); - is standard output."),
    project: str | None = typer.Option(
        None, "--project", metavar="PREFIX", help="Only this project's events, each with a proof."
    ),
    account: str | None = options.AS,
) -> None:
    """Export the log as a file that `pmis verify` can judge without the server. The export is itself an event."""
    with connected(account) as api, destination(file) as into:
        size = api.download("audit", "export", into=into, project=project)
    typer.echo(f"{size:,} bytes are in {printable(file)}; judge them with `pmis verify`.", err=True)


@app.command()
def verify(account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Let the server verify its whole log now. To trust nobody, export it and use `pmis verify`.

    Ends with 0 when all is well, 1 when the log was tampered with.
    """
    with connected(account, as_json=as_json) as api:
        answer = api.request("POST", ("audit", "verify"), body={}, long=True)
    if as_json:
        print_json(answer.body)
    else:
        Screen().line(printable(str(answer.json["report"]), lines=True))
    raise typer.Exit(0 if answer.json["result"] == "ok" else 1)
