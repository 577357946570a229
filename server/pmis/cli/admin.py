"""`pmis admin`: what is done at the server's console, before anybody can sign in."""

from __future__ import annotations

import sys

import typer

from pmis.cli.login import password_from_stdin

app = typer.Typer(name="admin", help="At the server's console: the first administrator.", no_args_is_help=True)


@app.callback()
def _admin() -> None:
    pass


@app.command()
def create(
    email: str = typer.Argument(metavar="EMAIL", help="The address to sign in with."),
    name: str = typer.Option(..., "--name", help="The person's name, as others will read it."),
    password_stdin: bool = typer.Option(
        False, "--password-stdin", help="Read the password from standard input instead of asking for it."
    ),
    another: bool = typer.Option(
        False, "--another", help="Also when there is an administrator, as when nobody can sign in as one any more."
    ),
) -> None:
    """Make an administrator of this instance, who makes everybody else.

    It takes the settings of the server, not a sign-in, and it is an event that says so.
    """
    from pmis.kit.settings import load_settings  # noqa: PLC0415 - loads slowly
    from pmis.ops.console import create_administrator  # noqa: PLC0415

    if not sys.stdin.isatty() and not password_stdin:
        raise typer.BadParameter("Without a terminal, give --password-stdin.")
    settings = load_settings()
    password = password_from_stdin() if password_stdin else _asked()
    create_administrator(settings, name=name, email=email, password=password, another=another)
    typer.echo(f"{email} can sign in now: pmis login {email}")


def _asked() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True))
