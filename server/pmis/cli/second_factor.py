"""The second factor: codes of an authenticator beside the password."""

from __future__ import annotations

import sys
from typing import cast

import typer

from pmis.cli import options
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Screen
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable

app = typer.Typer(
    name="second-factor",
    help="The second factor: codes of an authenticator beside your password.",
    no_args_is_help=True,
)
_PLACE = ("auth", "second-factor")


@app.command()
def show(account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Say whether you have a second factor, and how many recovery codes are left."""
    with connected(account, as_json=as_json) as api:
        answer = api.get(*_PLACE)
        if as_json:
            print_json(answer.body)
        elif answer.json["enabled"]:
            left = answer.json["recovery_codes_left"]
            typer.echo(
                f"You have a second factor since {moment(answer.json['since'])} UTC; {left} recovery codes are left."
            )
        else:
            typer.echo("You have no second factor. Set one up with `pmis second-factor enable`.")


@app.command()
def enable(account: str | None = options.AS) -> None:
    """Set up a second factor: type the secret into an authenticator, then give the code that it shows.

    Without a terminal the code is read from standard input, after the secret was printed.
    """
    screen = Screen()
    with connected(account) as api:
        begun = api.request("POST", _PLACE, body={}).json
        screen.line("Type this into an authenticator (time-based, 6 digits):")
        screen.line(f"  {printable(str(begun['secret']))}")
        screen.line(f"  {printable(str(begun['uri']))}")
        sys.stdout.flush()
        code = cast("str", typer.prompt("Code", err=True)) if sys.stdin.isatty() else sys.stdin.readline().strip()
        done = api.request("POST", (*_PLACE, "confirm"), body={"code": code}).json
        screen.line("From now on you sign in with a code too. For the day on which the authenticator is lost,")
        screen.line("keep these recovery codes where it is not; each is good once, and they are not shown again:")
        for one in cast("list[str]", done["recovery_codes"]):
            screen.line(f"  {printable(one)}")


@app.command()
def disable(
    code: str | None = typer.Option(None, "--code", metavar="CODE", help="What the authenticator shows."),
    account: str | None = options.AS,
) -> None:
    """Remove your second factor: it takes a code of it, or a recovery code, which a terminal is asked for."""
    with connected(account) as api:
        if code is None and sys.stdin.isatty() and api.get(*_PLACE).json["enabled"]:
            code = cast("str", typer.prompt("Code", err=True))
        removed = api.request("DELETE", _PLACE, body={} if code is None else {"code": code}).json["removed"]
        typer.echo("Your second factor is removed." if removed else "You had no second factor.")


@app.command()
def reset(
    person: str = typer.Argument(metavar="PERSON", help="A name, an id, or the last 8 digits of it."),
    account: str | None = options.AS,
) -> None:
    """As an administrator of the instance, take away the second factor of somebody who lost it; their sign-ins end."""
    with connected(account) as api:
        identity = Lookup(api).person(person)
        removed = api.request("DELETE", ("people", identity, "second-factor")).json["removed"]
        typer.echo("The second factor is removed." if removed else "They had no second factor.")
