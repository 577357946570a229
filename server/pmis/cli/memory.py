"""Memories: what is worth remembering of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from pmis.cli import options
from pmis.cli.approvals import outcome
from pmis.cli.client import connected
from pmis.cli.governed import Flag, Noun, group, short_id, text
from pmis.cli.lookup import COLLECTIONS, Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

if TYPE_CHECKING:
    from pmis.cli.client import Json
    from pmis.kit.settings import Settings

_KINDS: Final = "conversation, decision, analysis or context"
_COLUMNS: Final = (
    Column("ID", short_id),
    Column("WHEN (UTC)", lambda one, _: moment(one["created_at"])),
    Column("KIND", text("kind")),
    Column("WHO", text("author_name"), flexible=True),
    Column("MEMORY", text("text"), flexible=True),
)
NOUN = Noun(
    name="memory",
    path="memories",
    help="Memories: what is worth remembering of a project, package, task or party.",
    reference="Its id, or the last 8 digits of it as lists show them.",
    columns=_COLUMNS,
    fields=(
        Flag("text", "--text", "What is remembered."),
        Flag("kind", "--kind", f"What kind of memory it is: {_KINDS}.", "KIND"),
        Flag("sources", "--sources", 'What it rests on: [{"type": ..., "id": ...}].', "JSON", json=True),
    ),
    operations=frozenset({"patch", "delete", "restore"}),
    has_data=False,
    shown_last=("text",),
    has_list=False,
    called={
        "patch": ("correct", "Propose to correct a memory; the old text stays in its history."),
        "delete": ("forget", "Propose to forget a memory; for a while it can be restored, then its text is erased."),
        "restore": ("restore", "Propose to restore a memory that was forgotten."),
    },
)
app = group(NOUN)
_TYPE: Final[Any] = typer.Argument(metavar="TYPE", help="project, package, task or party.")
_RECORD: Final[Any] = typer.Argument(metavar="RECORD", help="Its id, or what the commands for its kind take.")
_ANY_TYPE: Final[Any] = typer.Argument(None, metavar="[TYPE", help="Only those of a project, package, task or party,")
_ANY_RECORD: Final[Any] = typer.Argument(None, metavar="RECORD]", help="named as the commands for its kind take it.")


def _identity(lookup: Lookup, kind: str, record: str) -> str:
    return lookup.identity(COLLECTIONS[kind], record) if kind in COLLECTIONS else record


def _narrowed(lookup: Lookup, kind: str | None, record: str | None) -> str | None:
    """The id of the record that is asked about, if one is; raises BadParameter for half a name."""
    if kind is None:
        return None
    if record is None:
        raise typer.BadParameter(f"Say which {printable(kind)}.")
    return _identity(lookup, kind, record)


@app.command("list")
def list_memories(
    kind: str | None = _ANY_TYPE,
    record: str | None = _ANY_RECORD,
    only: str | None = typer.Option(None, "--kind", metavar="KIND", help=f"Only these, with commas: {_KINDS}."),
    conversation: str | None = typer.Option(
        None, "--conversation", metavar="ID", help="Only those of this conversation."
    ),
    search: str | None = typer.Option(None, "--search", metavar="TEXT", help="Only those with all of these words."),
    project: str | None = options.PROJECT,
    deleted: bool = typer.Option(False, "--deleted", help="Also those that were forgotten."),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List what is remembered, the newest first."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        found = api.listed(
            "memories",
            limit=limit,
            everything=everything,
            cursor=cursor,
            entity_id=_narrowed(lookup, kind, record),
            entity_type=kind,
            kind=only,
            conversation_id=conversation,
            q=search,
            project=project,
            deleted="true" if deleted else None,
        )
        listing(found, _COLUMNS, lookup, json=as_json, nothing="Nothing is remembered.")


@app.command()
def store(
    kind: str = _TYPE,
    record: str = _RECORD,
    words: str = typer.Argument(metavar="TEXT", help="What to remember."),
    as_kind: str = typer.Option("context", "--kind", metavar="KIND", help=f"What kind of memory it is: {_KINDS}."),
    source: list[str] = typer.Option(
        [], "--source", metavar="TYPE:ID", help="What it rests on, such as approval:ID. May be repeated."
    ),
    conversation: str | None = typer.Option(
        None, "--conversation", metavar="ID", help="The conversation in which it was said."
    ),
    reason: str | None = options.REASON,
    dry_run: bool = options.DRY_RUN,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Remember something of a record."""
    body: dict[str, Any] = {"entity_type": kind, "kind": as_kind, "text": words, **options.said(reason)}
    if conversation is not None:
        body["conversation_id"] = conversation
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        body["entity_id"] = _identity(lookup, kind, record)
        body["sources"] = [_source(lookup, one) for one in source]
        answer = api.send("POST", "memories", body=body, key=key, dry_run="true" if dry_run else None)
        outcome(answer, lookup, operation="create", json=as_json, kind="memory")


def _source(lookup: Lookup, said: str) -> dict[str, str]:
    kind, colon, name = said.partition(":")
    if not colon or not name:
        raise typer.BadParameter(f"{printable(said[:80])!r} is not of the form TYPE:ID.", param_hint="--source")
    return {"type": kind, "id": _identity(lookup, kind, name)}


@app.command()
def search(
    words: str = typer.Argument(metavar="QUESTION", help="What to look for."),
    kind: str | None = _ANY_TYPE,
    record: str | None = _ANY_RECORD,
    project: str | None = options.PROJECT,
    limit: int = typer.Option(10, "--limit", min=1, max=100, metavar="N", help="How many at most."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Find what has to do with a question, by its words and by what it means, and say why it was found."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.get(
            "memories", "search", q=words, limit=limit, project=project, entity_id=_narrowed(lookup, kind, record)
        )
        if as_json:
            print_json(answer.body)
            return
        screen = Screen()
        columns = (
            Column("ID", lambda one, _: short(str(one["memory"]["id"]))),
            Column("FOUND BY", lambda one, _: _why(one["why"])),
            Column("KIND", lambda one, _: printable(str(one["memory"]["kind"]))),
            Column("MEMORY", lambda one, _: printable(str(one["memory"]["text"])), flexible=True),
        )
        if answer.json["items"]:
            screen.table(columns, answer.json["items"], lookup)
        else:
            screen.line("Nothing is remembered that has to do with it.")
        if answer.json["notice"]:
            typer.echo(printable(str(answer.json["notice"])), err=True)


def _why(why: Json) -> str:
    ways = [f"words (no. {why['words']})"] if why["words"] is not None else []
    if why["meaning"] is not None:
        ways.append(f"meaning (no. {why['meaning']}, {why['similarity']:.2f})")
    return ", ".join(ways)


@app.command()
def reindex(
    everything: bool = typer.Option(
        False, "--all", help="All memories, not only those that lack something or that another embedder looked at."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for programs."),
) -> None:
    """Make anew what memories are found by, such as after a change of EMBEDDER. It takes the server's settings.

    The workers do the same by and by. What was done before it is stopped stays done.
    """
    import asyncio  # noqa: PLC0415 - see the package
    import json  # noqa: PLC0415

    from pmis.kit.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    done, embedder = asyncio.run(_reindexed(settings, everything=everything))
    if as_json:
        typer.echo(json.dumps({"memories": done, "embedder": embedder}))
        return
    typer.echo(f"{done:,} memories were made findable, by {embedder}")


async def _reindexed(settings: Settings, *, everything: bool) -> tuple[int, str]:
    """How many memories were made findable, and by which embedder."""
    from pmis.kit.db import Database  # noqa: PLC0415 - see the package
    from pmis.ledger.vault import Vault  # noqa: PLC0415
    from pmis.memory.embedding import embedder_of  # noqa: PLC0415
    from pmis.memory.upkeep import Pass, step  # noqa: PLC0415

    embedder, at = embedder_of(settings), Pass()
    vault = Vault(settings.require_secret("secret_key"))
    database = Database.of(settings, settings.app_dsn, size=1, role="pmis_app")
    await database.open()
    try:
        while not at.finished:
            at = await step(database, vault, embedder, at, everything=everything)
    finally:
        await database.close()
    return at.done, embedder.name
