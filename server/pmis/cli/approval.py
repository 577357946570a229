"""Approvals: what waits, and what is said to it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import approvals, options
from pmis.cli.client import BadArgumentError, connected
from pmis.cli.governed import show_timeline
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing, needed
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short

if TYPE_CHECKING:
    from pmis.cli.client import Api, Json

app = typer.Typer(name="approval", help="Approvals: what waits, and what is said to it.", no_args_is_help=True)
_APPROVAL: Final[Any] = typer.Argument(
    metavar="APPROVAL",
    help="The id, the last 8 digits of it as lists show them, or, while it waits, the code of a package it is about.",
)
_REASON: Final[Any] = typer.Option(..., "--reason", metavar="TEXT", help="Why; the proposer reads it.")
_DIGEST: Final[Any] = typer.Option(
    None, "--digest", metavar="HEX", help="Decide only about the content with this digest. Default: what is shown now."
)
_YES: Final[Any] = typer.Option(False, "--yes", "-y", help="Do not ask.")
_PROTECTED: Final = ("protected", "erased")


def _needs(approval: Json, lookup: Lookup) -> str:
    if approval["status"] == "confirmation_required":
        return f"the yes of {printable(str(cast('Json', approval['proposer'])['name']))}"
    return needed(approval["open_steps"], lookup, serial=False) if approval["open_steps"] else ""


def _what(approval: Json, _lookup: Lookup) -> str:
    operation = cast("list[Json]", approval["diff"])[0]["operation"]
    return printable(f"{operation} {approval['label']}")


_COLUMNS: Final = (
    Column("ID", lambda one, _: short(str(one["id"]))),
    Column("PROPOSED (UTC)", lambda one, _: moment(one["created_at"]), spare=True),
    Column("BY", lambda one, _: printable(str(one["proposer"]["name"])), flexible=True, spare=True),
    Column("WHAT", _what, flexible=True),
    Column("STATUS", lambda one, _: printable(str(one["status"])), status=True),
    Column("NEEDS", _needs, flexible=True),
)


@app.command("list")
def list_approvals(
    mine: bool = typer.Option(False, "--mine", help="Only those that wait for you, the oldest first."),
    status: str = typer.Option(
        "open", "--status", help="`open`, `any`, or statuses separated by commas, such as applied,rejected."
    ),
    route: str | None = typer.Option(None, help="Only these routes, separated by commas, such as EXECUTIVE_APPROVAL."),
    proposer: str | None = typer.Option(None, metavar="PERSON", help="Only those proposed by this person, or `me`."),
    package: str | None = typer.Option(None, metavar="PACKAGE", help="Only those about this package."),
    sort: str | None = typer.Option(None, metavar="ORDER", help="created_at, or -created_at for the newest first."),
    project: str | None = options.PROJECT,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List approvals that wait, the oldest first."""
    statuses = {"open": "pending,confirmation_required", "any": None}.get(status, status)
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        found = api.listed(
            "approvals",
            limit=limit,
            everything=everything,
            cursor=cursor,
            sort=sort,
            status=statuses,
            waiting_for="me" if mine else None,
            route=route,
            proposer=f"person:{lookup.person(proposer)}" if proposer else None,
            target_id=lookup.package(package) if package else None,
            project=project,
        )
        nothing = "Nothing waits for you." if mine else "There are no such approvals."
        listing(found, _COLUMNS, lookup, json=as_json, nothing=nothing)


@app.command()
def show(approval: str = _APPROVAL, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show an approval: what would change, why it waits, who must agree, what was said."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.get("approvals", lookup.approval(approval))
        if as_json:
            print_json(answer.body)
        else:
            approvals.show(answer.json, lookup, Screen())


@app.command()
def timeline(
    approval: str = _APPROVAL,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """The whole life of an approval, the newest first."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        path = ("approvals", lookup.approval(approval))
        show_timeline(api, lookup, path, limit=limit, everything=everything, as_json=as_json)


@app.command()
def approve(
    approval: str = _APPROVAL,
    reason: str | None = typer.Option(None, "--reason", metavar="TEXT", help="Why; it stands in the log."),
    digest: str | None = _DIGEST,
    yes: bool = _YES,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Agree to exactly what is shown. When enough people have agreed, the change is applied."""
    _decide(approval, "approve", reason=reason, digest=digest, ask=not yes, key=key, account=account, as_json=as_json)


@app.command()
def confirm(
    approval: str = _APPROVAL,
    digest: str | None = _DIGEST,
    yes: bool = _YES,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Say your own yes to what you proposed, exactly as it is shown."""
    _decide(approval, "confirm", digest=digest, ask=not yes, key=key, account=account, as_json=as_json)


@app.command()
def reject(
    approval: str = _APPROVAL,
    reason: str = _REASON,
    digest: str | None = _DIGEST,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Refuse a change, with a reason. That ends the approval."""
    _decide(approval, "reject", reason=reason, digest=digest, key=key, account=account, as_json=as_json)


@app.command("request-changes")
def request_changes(
    approval: str = _APPROVAL,
    reason: str = _REASON,
    digest: str | None = _DIGEST,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Send a change back to who proposed it, with a reason; `revise` proposes it again."""
    _decide(approval, "request-changes", reason=reason, digest=digest, key=key, account=account, as_json=as_json)


@app.command()
def withdraw(
    approval: str = _APPROVAL,
    reason: str | None = typer.Option(None, "--reason", metavar="TEXT", help="Why; it stands in the log."),
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Take your own proposal back."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.send(
            "POST", "approvals", lookup.approval(approval), "withdraw", body=options.said(reason), key=key
        )
        if as_json:
            print_json(answer.body)
        else:
            Screen().line(f"{printable(str(answer.json['label']))}: the proposal is withdrawn.")


@app.command()
def revise(
    approval: str = _APPROVAL,
    set_fields: list[str] = options.SET,
    target: str | None = typer.Option(
        None, "--target", metavar="ID", help="The record that --set is about, where the approval is about several."
    ),
    reason: str | None = options.REASON,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose again what was sent back, went stale or expired: the same, but for what --set says."""
    fields = options.field_assignments(set_fields)
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        old = api.get("approvals", lookup.approval(approval)).json
        body: dict[str, Any] = options.said(reason if reason is not None else old.get("reason"))
        if fields:
            change = _change(old, target)
            body["patches"] = {str(change["target"]): _patch(change, fields)}
        answer = api.send("POST", "approvals", old["id"], "revise", body=body, key=key)
        approvals.outcome(answer, lookup, operation=str(old["diff"][0]["operation"]), json=as_json)


def _change(approval: Json, target: str | None) -> Json:
    changes = cast("list[Json]", approval["changes"])
    if target is None:
        if len(changes) == 1:
            return changes[0]
        raise typer.BadParameter(f"This approval is about {len(changes)} records: say which with --target.")
    fragment = target.replace("-", "").lower()
    found = [one for one in changes if str(one["target"]).replace("-", "").endswith(fragment)]
    if len(found) != 1:
        raise BadArgumentError(f"{printable(target[:80])!r} names {'none' if not found else 'several'} of its records.")
    return found[0]


def _patch(change: Json, fields: dict[str, Any]) -> dict[str, Any]:
    patch = {**cast("dict[str, Any]", change["patch"]), **fields}
    hidden = [name for name, found in patch.items() if name not in fields and found in _PROTECTED]
    if hidden:
        # What the API shows in its place must not be proposed as if it were the value.
        raise BadArgumentError(f"You cannot see {', '.join(map(printable, hidden))}: give it anew with --set.")
    return patch


def _decide(
    approval: str,
    verb: str,
    *,
    digest: str | None,
    key: str | None,
    account: str | None,
    as_json: bool,
    reason: str | None = None,
    ask: bool = False,
) -> None:
    """Fetch, show, ask, and decide about just what was shown."""
    if ask and not sys.stdin.isatty():
        raise typer.BadParameter("Without a terminal nobody can be asked: look at it with `show`, then give --yes.")
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        shown = api.get("approvals", lookup.approval(approval)).json
        if ask:
            screen = Screen(err=as_json)
            approvals.show(shown, lookup, screen)
            typer.confirm("Confirm this?" if verb == "confirm" else "Agree to this?", abort=True, err=True)
        answer = _say(api, shown, verb, digest=digest, reason=reason, key=key)
        if as_json:
            print_json(answer.body)
            return
        screen = Screen()
        said = answer.json
        after = cast("Json", said["approval"])
        if said["outcome"] == "applied":
            approvals.outcome(answer, lookup, operation=str(shown["diff"][0]["operation"]), json=False)
        elif verb == "approve":
            still = needed(after["open_steps"], lookup, serial=cast("Json", after["decision"])["order"] == "serial")
            screen.line(f"Your yes is recorded; approval {short(after['id'])} still waits for {still}.", style="yellow")
        else:
            done = {"reject": "is rejected", "request-changes": "goes back to who proposed it"}[verb]
            screen.line(f"{printable(str(after['label']))}: the proposal {done}. Nothing was changed.", style="yellow")


def _say(api: Api, shown: Json, verb: str, *, digest: str | None, reason: str | None, key: str | None) -> Any:  # noqa: ANN401
    body = {"digest": digest or shown["digest"], **options.said(reason)}
    return api.send("POST", "approvals", str(shown["id"]), verb, body=body, key=key)
