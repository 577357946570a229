"""Invitations: people who are to come."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import accounts, options
from pmis.cli.approvals import outcome
from pmis.cli.client import Api, connected
from pmis.cli.login import password_from_stdin
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable, short, value

if TYPE_CHECKING:
    from pmis.cli.client import Json

app = typer.Typer(
    name="invite",
    help="Invitations, by which people come with the roles that were agreed, and a password that they choose.",
    no_args_is_help=True,
)
_ONE: Final = typer.Argument(metavar="INVITATION", help="Its id, or the last 8 digits of it.")


def _roles(invitation: Json, lookup: Lookup) -> str:
    rights = [word for word in ("admin", "auditor") if invitation[f"instance_{word}"]]
    held = [
        f"{printable(lookup.project_prefix(one['project_id']))}: {', '.join(one['roles'])}"
        for one in cast("list[Json]", invitation["roles"])
    ]
    return "; ".join([*([f"instance: {', '.join(rights)}"] if rights else []), *held])


_COLUMNS: Final = (
    Column("ID", lambda one, _: short(str(one["id"]))),
    Column("NAME", lambda one, _: printable(str(one["name"])), flexible=True),
    Column("ADDRESS", lambda one, _: printable(str(one["email"] or "erased")), flexible=True),
    Column("TO BE", _roles),
    Column("STATUS", lambda one, _: str(one["status"])),
    Column("GOOD UNTIL (UTC)", lambda one, _: moment(one["expires_at"])),
)


def _given_roles(given: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in given:
        project, colon, roles = item.rpartition(":")
        names = [name.strip() for name in roles.split(",")]
        if not colon or not project or not all(names):
            raise typer.BadParameter(
                f"{printable(item[:80])!r} is not of the form PROJECT:ROLE,ROLE.", param_hint="--role"
            )
        found.append({"project": project, "roles": names})
    return found


@app.command()
def send(
    email: str = typer.Argument(metavar="ADDRESS", help="Where the link goes; the person will sign in with it."),
    name: str = typer.Option(..., metavar="NAME", help="What the person is called."),
    role: list[str] = typer.Option(
        [],
        "--role",
        metavar="PROJECT:ROLES",
        help="Roles in a project, such as P:analyst,operator; the project by prefix or id. May be repeated.",
    ),
    instance_admin: bool = typer.Option(False, "--instance-admin", help="Let them administer the instance."),
    instance_auditor: bool = typer.Option(False, "--instance-auditor", help="Let them audit the instance."),
    days: int | None = typer.Option(
        None, "--days", min=1, max=90, metavar="N", help="How long a link is good. Default: INVITATION_DAYS."
    ),
    reason: str | None = options.REASON,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Invite somebody. The person and the roles in each project are proposals, each agreed where it lies.

    Once the person is agreed the link is mailed. Without a mail server, `pmis invite resend` prints it.
    """
    body: dict[str, Any] = {"email": email, "name": name, "roles": _given_roles(role), **options.said(reason)}
    body |= {"instance_admin": instance_admin, "instance_auditor": instance_auditor}
    if days is not None:
        body["expires_in_days"] = days
    with connected(account, as_json=as_json) as api:
        answer = api.send("POST", "invitations", body=body, key=key)
        if as_json:
            print_json(answer.body)
            return
        lookup, screen = Lookup(api), Screen()
        for one in cast("list[Json]", answer.json["proposals"]):
            part = replace(answer, body=json.dumps(one).encode())
            outcome(part, lookup, operation="create", json=False, kind="invitation")
        screen.line(f"Invitation {short(answer.json['id'])}.")


@app.command("list")
def list_invitations(
    status: str | None = typer.Option(
        None, "--status", metavar="STATUS", help="Only those: open, accepted, revoked or expired."
    ),
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List the invitations that were agreed, the newest first."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("invitations", limit=limit, everything=everything, cursor=cursor, status=status)
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="Nobody is invited.")


def _found(api: Api, invitation: str) -> str:
    return Lookup(api).identity("invitations", invitation)


@app.command()
def show(
    invitation: str = _ONE,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Show an invitation. Its link is shown to nobody."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("invitations", _found(api, invitation))
        if as_json:
            print_json(answer.body)
        else:
            _show(answer.json, Lookup(api))


def _show(said: Json, lookup: Lookup) -> None:
    waiting = [one["status"] for one in cast("list[Json]", said["roles"])]
    Screen().pairs(
        [
            ("name", value(said["name"])),
            ("address", value(said["email"] or "erased")),
            ("status", value(said["status"])),
            ("to be", _roles(said, lookup) or "somebody without a role"),
            ("roles", value(waiting) if waiting else ""),
            ("invited by", f"{value(said['inviter_name'])}, {moment(said['created_at'])} UTC"),
            ("sent", f"{said['sent']} times" if said["sent"] != 1 else "once"),
            ("good until", f"{moment(said['expires_at'])} UTC"),
            ("person", value(said["person_id"])),
            ("id", value(said["id"])),
        ]
    )


@app.command()
def resend(
    invitation: str = _ONE,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Send an invitation again: the link before is void. Without a mail server the link is printed, this once."""
    with connected(account, as_json=as_json) as api:
        answer = api.request("POST", ("invitations", _found(api, invitation), "resend"), body={})
        if as_json:
            print_json(answer.body)
            return
        said = answer.json
        until = f"{moment(said['expires_at'])} UTC"
        if said["link"] is None:
            Screen().line(f"The link is mailed; it is good until {until}.")
            return
        typer.echo(printable(str(said["link"])))
        typer.echo(f"Hand this link over. It is good once, until {until}, and is not shown again.", err=True)


@app.command()
def revoke(
    invitation: list[str] = typer.Argument(metavar="INVITATION...", help="Their ids, or the last 8 digits of them."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Take invitations back; their links are void at once."""
    with connected(account, as_json=as_json) as api:
        for one in invitation:
            identity = _found(api, one)
            answer = api.request("POST", ("invitations", identity, "revoke"), body={})
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"Invitation {short(identity)} is revoked.")


@app.command()
def accept(
    link: str = typer.Argument("", metavar="[LINK]", help="The link. Left out, it is asked for, and stays unseen."),
    password_stdin: bool = typer.Option(False, "--password-stdin", help="Read the password from standard input."),
    url: str | None = typer.Option(None, "--url", metavar="URL", help="Where the API is. Default: as `pmis login`."),
    as_json: bool = options.JSON,
) -> None:
    """Accept an invitation with the link that it came with, and choose a password. Sign in then."""
    on_terminal = sys.stdin.isatty()
    if not link:
        if not on_terminal:
            raise typer.BadParameter("Without a terminal, give the link.")
        link = str(typer.prompt("Link", hide_input=True, err=True))
    if password_stdin:
        password = password_from_stdin()
    elif on_terminal:
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise typer.BadParameter("Without a terminal, give --password-stdin.")
    body: dict[str, Any] = {"token": link.strip().rpartition("#")[2], "password": password}
    api = Api(accounts.address(url) if url else accounts.default_url())
    try:
        answer = api.request("POST", ("invitations", "accept"), body=body)
    finally:
        api.close()
    if as_json:
        print_json(answer.body)
        return
    said = answer.json
    Screen().line(f"Welcome, {value(said['name'])}. Sign in with `pmis login {value(said['email'])}`.")
