"""Proving again who one is, for what the server wants a fresh proof of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import typer

from pmis.cli import options
from pmis.cli.client import RefusedError, connected
from pmis.cli.text import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmis.cli.client import Answer, Api

app = typer.Typer()
CODE: Any = typer.Option(
    None,
    "--code",
    metavar="TEXT",
    help="What your authenticator shows, or a recovery code, if you have a second factor.",
)


def with_code(ask: Callable[[str | None], Answer], code: str | None) -> Answer:
    """What is answered to `ask`; where a code is needed and somebody sits at the terminal, they are asked for it."""
    try:
        return ask(code)
    except RefusedError as refused:
        if refused.problem.get("code") != "second_factor_needed" or not sys.stdin.isatty():
            raise
    return ask(cast("str", typer.prompt("Code", err=True)))


def prove(api: Api, password: str | None = None, code: str | None = None) -> Answer:
    """Give the password again, and the code where there is a second factor; what is missing is asked for."""
    given = password or cast("str", typer.prompt("Password, to prove that it is you", hide_input=True, err=True))

    def ask(one: str | None) -> Answer:
        body = {"password": given, **({"code": one} if one else {})}
        return api.request("POST", ("auth", "reauthenticate"), body=body)

    return with_code(ask, code)


@app.command()
def reauthenticate(
    password_stdin: bool = typer.Option(False, "--password-stdin", help="Read the password from standard input."),
    code: str | None = CODE,
    account: str | None = options.AS,
) -> None:
    """Prove again who you are, as some decisions need; on a terminal those commands ask by themselves."""
    if not password_stdin and not sys.stdin.isatty():
        raise typer.BadParameter("Without a terminal, give --password-stdin.")
    from pmis.cli.login import password_from_stdin  # noqa: PLC0415 - that module needs this one

    given = password_from_stdin() if password_stdin else None
    with connected(account) as api:
        answer = prove(api, given, code)
        typer.echo(f"That is fresh until {moment(answer.json['recent_until'], seconds=True)} UTC.")
