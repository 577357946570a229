"""People: those one works with, their roles, and the seats they lend."""

from __future__ import annotations

import sys

import typer

from pmis.cli import options
from pmis.cli.approvals import outcome
from pmis.cli.client import Api, BadArgumentError, connected
from pmis.cli.governed import show_record
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import printable, short, value

app = typer.Typer(name="people", help="People, and their roles in projects.", no_args_is_help=True)
_PERSON = typer.Argument(metavar="PERSON", help="A name, an id, the last 8 digits of it, or `me`.")
_PEOPLE = (
    Column("ID", lambda person, _: short(str(person["id"]))),
    Column("NAME", lambda person, _: printable(str(person["name"])), flexible=True),
    Column("ACTIVE", lambda person, _: value(person["active"])),
    Column(
        "IN THE INSTANCE",
        lambda person, _: value([word for word in ("admin", "auditor") if person[f"instance_{word}"]]),
    ),
)
_ROLES = (
    Column("PROJECT", lambda one, lookup: printable(lookup.project_prefix(one["project_id"]))),
    Column("PERSON", lambda one, lookup: lookup.name("person_id", one["person_id"]) or "", flexible=True),
    Column("ROLES", lambda one, _: value(one["roles"])),
)


@app.command("list")
def list_people(
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List the people you share a project with; administrators of the instance see everybody."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("people", limit=limit, everything=everything, cursor=cursor)
        listing(found, _PEOPLE, Lookup(api), json=as_json, nothing="There is nobody.")


@app.command()
def show(
    person: str = _PERSON,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Show a person."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        answer = api.get("people", lookup.person(person))
        if as_json:
            print_json(answer.body)
        else:
            show_record({name: held for name, held in answer.json.items() if name != "credential"}, lookup)


@app.command()
def create(
    name: str = typer.Option(..., metavar="NAME", help="What the person is called."),
    email: str = typer.Option(..., metavar="ADDRESS", help="The address to sign in with."),
    password_stdin: bool = typer.Option(False, "--password-stdin", help="Read the password from standard input."),
    reason: str | None = options.REASON,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose a new person, who will sign in with the address and the password."""
    if password_stdin:
        try:
            password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadArgumentError("The password on standard input is not valid UTF-8 text.") from None
    elif sys.stdin.isatty():
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise typer.BadParameter("Without a terminal, give --password-stdin.")
    body = {"name": name, "email": email, "password": password, **options.said(reason)}
    with connected(account, as_json=as_json) as api:
        answer = api.send("POST", "people", body=body, key=key)
        outcome(answer, Lookup(api), operation="create", json=as_json)


@app.command()
def disable(
    person: str = _PERSON,
    hand_over_to: str | None = typer.Option(
        None, "--hand-over-to", metavar="PERSON", help="Who gets the seats in open approvals that wait for them."
    ),
    reason: str | None = options.REASON,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose that a person signs in no more: their sessions and API tokens end, their seats in approvals go on.

    Says first which packages and open tasks of theirs you can see; these are moved like any others.
    """
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.person(person)
        body = {"active": False, **options.said(reason)}
        if hand_over_to is not None:
            body["hand_over_to"] = lookup.person(hand_over_to)
        if not as_json:
            _say_what_is_theirs(api, identity)
        answer = api.send("PATCH", "people", identity, body=body, key=key)
        outcome(answer, lookup, operation="patch", json=as_json)


def _say_what_is_theirs(api: Api, person: str) -> None:
    screen = Screen(err=True)
    owned = api.listed("packages", everything=True, owner_id=person)
    assigned = api.listed("tasks", everything=True, assignee_id=person)
    for found, word in ((owned, "owns"), (assigned, "is to do")):
        for one in found.items:
            if one["status"] in ("completed", "cancelled"):
                continue
            code = one.get("code") or short(str(one["id"]))
            screen.line(f"Still {word}: {printable(str(code))} {printable(str(one['title']))}")


@app.command()
def enable(
    person: str = _PERSON,
    reason: str | None = options.REASON,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose that a disabled person signs in again; what was handed over stays where it is."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        body = {"active": True, **options.said(reason)}
        answer = api.send("PATCH", "people", lookup.person(person), body=body, key=key)
        outcome(answer, lookup, operation="patch", json=as_json)


@app.command()
def roles(
    project: str | None = options.PROJECT,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List who has which roles, project by project."""
    with connected(account, as_json=as_json) as api:
        found = api.listed("memberships", limit=limit, everything=everything, cursor=cursor, project=project)
        listing(found, _ROLES, Lookup(api), json=as_json, nothing="Nobody has a role.")


@app.command()
def grant(
    person: str = _PERSON,
    role: list[str] = typer.Argument(
        metavar="[ROLE]...", default=None, help="Every role the person is to have; none ends it."
    ),
    project: str = typer.Option(..., "--project", metavar="PREFIX", help="In which project, by prefix or id."),
    reason: str | None = options.REASON,
    dry_run: bool = options.DRY_RUN,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose the roles that a person is to have in a project, in place of those they have now."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        identity = lookup.person(person)
        held = api.listed("memberships", person_id=identity, project=project).items
        dry = "true" if dry_run else None
        body = {"roles": role or [], **options.said(reason)}
        if held:
            answer = api.send("PATCH", "memberships", held[0]["id"], body=body, key=key, dry_run=dry)
        else:
            answer = api.send(
                "POST", "memberships", body={**body, "person_id": identity, "project": project}, key=key, dry_run=dry
            )
        outcome(answer, lookup, operation="patch" if held else "create", json=as_json, kind="membership")


@app.command()
def lend(
    person: str = _PERSON,
    start: str = typer.Option(..., "--from", metavar="TIME", help="From when (ISO 8601 with its zone)."),
    end: str = typer.Option(..., "--to", metavar="TIME", help="Until when."),
    project: str | None = typer.Option(None, "--project", metavar="PREFIX", help="In which project, by prefix or id."),
    reason: str | None = options.REASON,
    dry_run: bool = options.DRY_RUN,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose to lend your own seat in approvals to somebody else for a while."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        body = {"to_person": lookup.person(person), "starts_at": start, "ends_at": end, **options.said(reason)}
        if project is not None:
            body["project"] = project
        answer = api.send("POST", "delegations", body=body, key=key, dry_run="true" if dry_run else None)
        outcome(answer, lookup, operation="create", json=as_json, kind="delegation")
