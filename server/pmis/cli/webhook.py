"""Outgoing webhooks: addresses outside that are told what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from pmis.cli import options
from pmis.cli.client import BadArgumentError, connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

if TYPE_CHECKING:
    from pmis.cli.client import Api, Json

app = typer.Typer(
    name="webhook",
    help="Webhooks, which tell programs outside what happens.",
    no_args_is_help=True,
)
_HOOK: Final = typer.Argument(metavar="WEBHOOK", help="Its id, or the last 8 digits of it.")
_TYPE_HELP: Final = "Tell it of events of this type, such as task.created or 'package.*'. May be repeated."


def _state(hook: Json) -> str:
    if not hook["enabled"]:
        return f"off ({hook['disabled_because']})"
    if hook["resting_until"]:
        return f"rests until {moment(hook['resting_until'])}"
    return f"failing ({hook['failures']})" if hook["failures"] else "on"


_COLUMNS: Final = (
    Column("ID", lambda hook, _: short(str(hook["id"]))),
    Column(
        "PROJECT",
        lambda hook, lookup: printable(lookup.project_prefix(hook["project_id"])) if hook["project_id"] else "-",
    ),
    Column("ADDRESS", lambda hook, _: printable(str(hook["url"])), flexible=True),
    Column("TOLD OF", lambda hook, _: printable(", ".join(hook["types"]))),
    Column("STATE", lambda hook, _: _state(hook)),
)
_DELIVERIES: Final = (
    Column("ID", lambda told, _: short(str(told["id"]))),
    Column("TYPE", lambda told, _: printable(str(told["type"]))),
    Column("STATUS", lambda told, _: str(told["status"])),
    Column("ATTEMPTS", lambda told, _: str(told["attempts"])),
    Column("ANSWER", lambda told, _: str(told["answer"] or "-")),
    Column("SINCE (UTC)", lambda told, _: moment(told["created_at"])),
    Column("ERROR", lambda told, _: printable(str(told["error"] or "")), flexible=True),
)


def _show(hook: Json, api: Api) -> None:
    owner = Lookup(api).name("person_id", hook["person_id"]) or ""
    until = hook["former_secret_until"]
    Screen().pairs(
        [
            ("address", printable(str(hook["url"]))),
            ("state", _state(hook)),
            ("told of", printable(", ".join(hook["types"]))),
            ("with payload", "yes" if hook["include_payload"] else "no"),
            ("answers for it", owner),
            *([("description", printable(str(hook["description"])))] if hook["description"] else []),
            *([("former secret", f"signs until {moment(until)}")] if until else []),
            *([("failing since", moment(hook["failing_since"]))] if hook["failing_since"] else []),
            ("id", str(hook["id"])),
        ]
    )


def _secret(made: Json) -> None:
    typer.echo(printable(str(made["secret"])))
    typer.echo(f"Webhook {short(str(made['id']))}. The secret is not shown again.", err=True)


@app.command()
def create(
    url: str = typer.Argument(metavar="URL", help="Where it goes: https, to a host outside."),
    types: list[str] = typer.Option([], "--type", metavar="TYPE", help=f"{_TYPE_HELP} At least one."),
    project: str | None = typer.Option(
        None,
        "--project",
        metavar="PREFIX",
        help="The project, by prefix or id. Default: the instance.",
    ),
    description: str = typer.Option("", "--description", metavar="TEXT", help="What it is for."),
    payload: bool = typer.Option(False, "--payload", help="Tell it what changed too, which people may have written."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Make a webhook. Its secret is printed this once: give it to the receiver, who verifies messages with it."""
    body: dict[str, Any] = {"url": url, "types": types, "description": description, "include_payload": payload}
    if project is not None:
        body["project"] = project
    with connected(account, as_json=as_json) as api:
        answer = api.request("POST", ("webhooks",), body=body)
        if as_json:
            print_json(answer.body)
        else:
            _secret(answer.json)


@app.command("list")
def list_webhooks(
    project: str | None = typer.Option(None, "--project", metavar="PREFIX", help="Only of this project."),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List the webhooks over which you have a say, the newest first."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("webhooks", limit=limit, everything=everything, cursor=cursor, project=project)
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="There are no webhooks that you may see.")


@app.command()
def show(webhook: str = _HOOK, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show a webhook."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("webhooks", Lookup(api).identity("webhooks", webhook))
        if as_json:
            print_json(answer.body)
        else:
            _show(answer.json, api)


def _change(webhook: str, body: dict[str, Any], account: str | None, *, as_json: bool) -> None:
    with connected(account, as_json=as_json) as api:
        answer = api.request("PATCH", ("webhooks", Lookup(api).identity("webhooks", webhook)), body=body)
        if as_json:
            print_json(answer.body)
        else:
            _show(answer.json, api)


@app.command()
def edit(
    webhook: str = _HOOK,
    url: str | None = typer.Option(None, "--url", metavar="URL", help="Where it goes from now on."),
    types: list[str] = typer.Option([], "--type", metavar="TYPE", help=f"{_TYPE_HELP} Instead of those before."),
    description: str | None = typer.Option(None, "--description", metavar="TEXT", help="What it is for."),
    payload: bool | None = typer.Option(None, "--payload/--no-payload", help="Whether it is told what changed too."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Change a webhook. Who changes more than the description answers for it from then on."""
    given: dict[str, Any] = {"url": url, "types": types or None, "description": description, "include_payload": payload}
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise BadArgumentError("Say what is to be different: --url, --type, --description or --payload.")
    _change(webhook, body, account, as_json=as_json)


@app.command()
def enable(webhook: str = _HOOK, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Switch a webhook on. You answer for it from then on: it is told what you may read."""
    _change(webhook, {"enabled": True}, account, as_json=as_json)


@app.command()
def disable(webhook: str = _HOOK, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Switch a webhook off. What happens meanwhile it is never told."""
    _change(webhook, {"enabled": False}, account, as_json=as_json)


@app.command()
def delete(webhook: str = _HOOK, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Delete a webhook, its secrets, and what it was told."""
    with connected(account, as_json=as_json) as api:
        identity = Lookup(api).identity("webhooks", webhook)
        answer = api.request("DELETE", ("webhooks", identity))
        if as_json:
            print_json(answer.body)
        else:
            Screen().line(f"{short(identity)} is deleted.")


@app.command()
def secret(
    webhook: str = _HOOK,
    overlap: int = typer.Option(
        24, "--overlap", min=0, max=168, metavar="HOURS", help="For how long the former secret signs as well."
    ),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Give a webhook another secret, which is printed this once."""
    with connected(account, as_json=as_json) as api:
        path = ("webhooks", Lookup(api).identity("webhooks", webhook), "secret")
        answer = api.request("POST", path, body={"overlap_hours": overlap})
        if as_json:
            print_json(answer.body)
        else:
            _secret(answer.json)


@app.command()
def ping(webhook: str = _HOOK, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Send a webhook a message that tells of nothing; `pmis webhook deliveries` says what it answered."""
    with connected(account, as_json=as_json) as api:
        answer = api.request("POST", ("webhooks", Lookup(api).identity("webhooks", webhook), "ping"), body={})
        if as_json:
            print_json(answer.body)
        else:
            Screen().line(f"{short(str(answer.json['id']))} is on its way.")


@app.command()
def deliveries(
    webhook: str = _HOOK,
    status: str | None = typer.Option(
        None, "--status", metavar="STATUS", help="Only those that are waiting, delivered, failed or stopped."
    ),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List what a webhook was told, and what it answered, the newest first."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        path = ("webhooks", lookup.identity("webhooks", webhook), "deliveries")
        found = api.listed(*path, limit=limit, everything=everything, cursor=cursor, status=status)
        listing(found, _DELIVERIES, lookup, json=as_json, nothing="It was told nothing.")


@app.command()
def redeliver(
    webhook: str = _HOOK,
    delivery: list[str] = typer.Argument(metavar="DELIVERY...", help="Their ids, or the last 8 digits of them."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Tell a webhook something again, under the same id."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.identity("webhooks", webhook)
        for one in delivery:
            told = lookup.within(("webhooks", identity, "deliveries"), "delivery", one)
            answer = api.request("POST", ("webhooks", identity, "deliveries", told, "redeliver"), body={})
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"{short(told)} is on its way again.")
