"""Talking with the assistant, in one message or many."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import options
from pmis.cli.client import Listed, RefusedError, connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable

if TYPE_CHECKING:
    from pmis.cli.client import Answer, Api, Json

app = typer.Typer(name="chat", help="The assistant: ask it, and have it propose changes for you.")
_CONVERSATION: Final[Any] = typer.Argument(metavar="CONVERSATION", help="The conversation's id.")
_IN: Final[Any] = typer.Option(None, "--conversation", metavar="ID", help="Go on with this conversation.")
_WITHIN: Final[Any] = typer.Option(
    None, "--project", metavar="PREFIX", help="The project that it is about, where the words leave it open."
)
_COLUMNS: Final = (
    Column("LAST (UTC)", lambda one, _: moment(one["touched_at"])),
    Column("TURNS", lambda one, _: str(one["turns"]), right=True),
    Column("TITLE", lambda one, _: printable(str(one["title"])), flexible=True),
    Column("CONVERSATION", lambda one, _: str(one["id"])),
)


_USAGE: Final = (
    Column("DAY (UTC)", lambda one, _: str(one["day"])),
    Column("MODEL", lambda one, _: printable(str(one["model"] or "none")), flexible=True),
    *(
        Column(name.replace("_", " ").upper(), lambda one, _, name=name: f"{one[name]:,}", right=True)
        for name in ("turns", "proposals", "calls", "tokens_read", "tokens_written", "failed")
    ),
    Column("COST", lambda one, _: f"{one['cost']} {one['currency']}" if one["cost"] else "-", right=True),
)


@app.callback(invoke_without_command=True)
def chat(
    context: typer.Context,
    conversation: str | None = _IN,
    project: str | None = _WITHIN,
    account: str | None = options.AS,
) -> None:
    """Talk with the assistant, a line for each message, until an empty line or the end of the input."""
    if context.invoked_subcommand is not None:
        return
    asks = sys.stdin.isatty()
    with connected(account) as api:
        if asks:
            typer.echo("Ask, or say what to change. An empty line ends this.", err=True)
        while line := _line(asks):
            try:
                answer = _said(api, line, conversation, project, None)
            except RefusedError as refused:
                typer.echo(f"error: {refused.detail}", err=True)
                continue
            conversation = cast("str", answer.json["conversation_id"])
            _show(answer.json)
            if asks:
                _offer(api, answer.json)


def _line(asks: bool) -> str:
    """The next message; empty at the end."""
    if asks:
        sys.stderr.write("> ")
        sys.stderr.flush()
    return sys.stdin.readline().strip()


def _said(api: Api, text: str, conversation: str | None, project: str | None, key: str | None) -> Answer:
    body = {"query": text, "conversation_id": conversation, "project": project}
    return api.send("POST", "chat", body={name: value for name, value in body.items() if value is not None}, key=key)


def _show(answer: Json) -> None:
    """The answer, and what it rests on."""
    screen = Screen()
    screen.line(printable(str(answer["response"]), lines=True))
    for change in cast("list[Json]", answer["changes"]):
        if change["approval_id"]:
            screen.line(f"  approval {change['approval_id']}: {change['outcome']}", style="yellow")
    for one in cast("list[Json]", answer["evidence"])[:10]:
        screen.line(printable(f"  [{one['type']}] {one['label']}  {one['url']}"), style="dim")


def _offer(api: Api, answer: Json) -> None:
    """Ask for the yes that a change waits for; it is the person's own, given to the approval."""
    waiting = {
        str(one["approval_id"]): str(one["digest"])
        for one in cast("list[Json]", answer["changes"])
        if one["outcome"] == "confirmation_required"
    }
    for approval, digest in waiting.items():
        if not typer.confirm(f"Do it (approval {approval})?", err=True):
            return
        api.send("POST", "approvals", approval, "confirm", body={"digest": digest})
    if waiting:
        _show(api.send("POST", "conversations", str(answer["conversation_id"]), "resume").json)


@app.command()
def say(
    text: list[str] = typer.Argument(metavar="TEXT...", help="What to say."),
    conversation: str | None = _IN,
    project: str | None = _WITHIN,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Say one thing, and show the answer."""
    with connected(account, as_json=as_json) as api:
        answer = _said(api, " ".join(text), conversation, project, key)
        if as_json:
            print_json(answer.body)
        else:
            _show(answer.json)


@app.command("list")
def list_conversations(
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List your conversations, the newest first."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("conversations", limit=limit, everything=everything, cursor=cursor)
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="You have not talked with the assistant.")


@app.command()
def show(conversation: str = _CONVERSATION, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show a conversation."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("conversations", conversation)
        if as_json:
            print_json(answer.body)
            return
        screen = Screen()
        for turn in cast("list[Json]", answer.json["turns"]):
            asked = cast("Json", turn["asked"])
            screen.line(printable(f"> {asked['query']}", lines=True), style="bold")
            if turn["answer"]:
                _show(cast("Json", turn["answer"]))
            else:
                screen.line(f"  no answer: {turn['status']}")


@app.command()
def export(
    conversation: str = _CONVERSATION,
    file: Path = typer.Argument(metavar="FILE", help="Where to write it, as Markdown."),
    account: str | None = options.AS,
) -> None:
    """Write a conversation to a file."""
    with connected(account) as api, file.open("wb") as into:
        api.download("conversations", conversation, "export", into=into)
    typer.echo(f"Written to {file}.")


@app.command()
def resume(conversation: str = _CONVERSATION, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Go on with a conversation's last message, when its process died or you have given the yes it waits for."""
    with connected(account, as_json=as_json) as api:
        answer = api.send("POST", "conversations", conversation, "resume")
        if as_json:
            print_json(answer.body)
        else:
            _show(answer.json)


@app.command()
def delete(conversation: str = _CONVERSATION, account: str | None = options.AS) -> None:
    """Delete a conversation; what was proposed in it stays."""
    with connected(account) as api:
        answer = api.send("DELETE", "conversations", conversation)
    typer.echo(f"Deleted, with {answer.json['deleted']} turns.")


@app.command()
def status(account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show whether the assistant works, or who stopped it."""
    with connected(account, as_json=as_json) as api:
        _switch(api.get("assistant"), as_json=as_json)


@app.command()
def usage(account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show what the assistant did and what models took, by day; for administrators of the instance."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("assistant", "usage")
        days = cast("list[Json]", answer.json["days"])
        found = Listed(days, None, answer.body)
        listing(found, _USAGE, Lookup(api), json=as_json, nothing="Nobody has talked with the assistant.")


@app.command()
def stop(reason: str | None = options.REASON, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Stop every agent, at once; for administrators of the instance."""
    with connected(account, as_json=as_json) as api:
        body = {"reason": reason} if reason else {}
        _switch(api.send("POST", "assistant", "stop", body=body), as_json=as_json)


@app.command()
def start(account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Let the agents work again; for administrators of the instance."""
    with connected(account, as_json=as_json) as api:
        _switch(api.send("POST", "assistant", "start"), as_json=as_json)


def _switch(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer.body)
        return
    found = answer.json
    if not found["stopped"]:
        typer.echo("The assistant works.")
        return
    why = f": {found['reason']}" if found["reason"] else ""
    at = moment(found["stopped_at"], seconds=True)
    typer.echo(printable(f"{found['stopped_by']} stopped the assistant at {at} UTC{why}"))
