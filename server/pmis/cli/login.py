"""Signing in at an API, and who one is there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import typer

from pmis.cli import accounts, options
from pmis.cli.accounts import DEFAULT, Account, AccountError
from pmis.cli.client import Api, BadArgumentError, RefusedError, connected, renewed
from pmis.cli.lookup import Lookup
from pmis.cli.output import Screen
from pmis.cli.output import as_json as print_json
from pmis.cli.reauthenticate import CODE, with_code
from pmis.cli.text import moment, printable, value
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from pmis.cli.client import Answer, Json

app = typer.Typer()
_LONGEST_PASSWORD: Final = 4096


@app.command()
def login(
    email: str | None = typer.Argument(None, metavar="[EMAIL]", help="Your e-mail address."),
    email_option: str | None = typer.Option(None, "--email", metavar="ADDRESS", help="The same as EMAIL."),
    url: str | None = typer.Option(
        None, metavar="URL", help="The address of the API. Default: PMIS_URL, else what `pmis up` serves."
    ),
    password_stdin: bool = typer.Option(False, "--password-stdin", help="Read the password from standard input."),
    code: str | None = CODE,
    account: str | None = typer.Option(
        None,
        "--as",
        metavar="NAME",
        help="The name under which to keep this account. Default: PMIS_PROFILE, `default`.",
    ),
) -> None:
    """Sign in, and stay signed in until `pmis logout`, or until nothing was asked for two weeks.

    Several accounts can be signed in side by side, each under a name of its own: `pmis login --as admin`, then
    `pmis approval list --as admin`. They are kept in PMIS_CONFIG_DIR, else XDG_CONFIG_HOME/pmis, else ~/.config/pmis.
    A program can do without: PMIS_TOKEN holds an API token (`pmis token create`), PMIS_URL the address it is for.
    """
    if email and email_option and email != email_option:
        raise typer.BadParameter("EMAIL and --email name different addresses.")
    profile = accounts.profile_name(account)
    before = accounts.read(profile)
    address = _address(url, before)
    email = email or email_option or _remembered(before, address)
    interactive = sys.stdin.isatty()
    if not interactive and (not email or not password_stdin):
        raise typer.BadParameter("Without a terminal, give EMAIL and --password-stdin.")
    if not accounts.is_local(address) and address.startswith("http:"):
        typer.echo(f"warning: {address} is not encrypted; what you send can be read on the way", err=True)
    email = email or cast("str", typer.prompt("E-mail", err=True))
    password = (
        password_from_stdin() if password_stdin else cast("str", typer.prompt("Password", hide_input=True, err=True))
    )
    made = _sign_in(address, email, password, code, profile)
    accounts.keep(made)
    named = "" if profile == DEFAULT else f", as {profile!r}"
    Screen().line(f"Signed in at {made.url} as {made.name}{named}, until {moment(made.expires_at)} UTC.")


def _address(given: str | None, before: Account | None) -> str:
    if given is not None:
        return accounts.address(given)
    # An account of this machine follows `pmis up`, whose port may be another each time.
    if before is not None and not accounts.is_local(before.url):
        return before.url
    return accounts.default_url()


def _remembered(before: Account | None, address: str) -> str | None:
    return before.email if before is not None and before.url == address else None


def password_from_stdin() -> str:
    """The password that standard input holds; raises BadArgumentError for what can be none."""
    raw = sys.stdin.buffer.read(_LONGEST_PASSWORD + 1)
    if len(raw) > _LONGEST_PASSWORD:
        raise BadArgumentError("What standard input holds is too long for a password.")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadArgumentError("The password on standard input is not valid UTF-8 text.") from None
    return text.removesuffix("\n").removesuffix("\r")


def _sign_in(url: str, email: str, password: str, code: str | None, profile: str) -> Account:
    api = Api(url)

    def ask(one: str | None) -> Answer:
        body = {"email": email, "password": password, **({"code": one} if one else {})}
        return api.request("POST", ("auth", "login"), body=body)

    try:
        token = with_code(ask, code).json
    finally:
        api.close()
    account = renewed(Account(url=url, token="", profile=profile, email=email), token)
    api = Api(url, account)
    try:
        name = printable(str(api.get("auth", "me").json["name"]))
    finally:
        api.close()
    return replace(account, name=name)


@app.command()
def password(
    stdin: bool = typer.Option(
        False, "--password-stdin", help="Read two lines from standard input: the present password, then the new one."
    ),
    account: str | None = options.AS,
) -> None:
    """Change your password; your other sign-ins end."""
    if stdin:
        present, _, chosen = password_from_stdin().partition("\n")
        present = present.removesuffix("\r")
    elif sys.stdin.isatty():
        present = cast("str", typer.prompt("Present password", hide_input=True, err=True))
        chosen = cast("str", typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise typer.BadParameter("Without a terminal, give --password-stdin.")
    with connected(account) as api:
        body = {"current_password": present, "new_password": chosen}
        ended = int(api.request("POST", ("auth", "password"), body=body).json["ended"])
    others = {0: "", 1: " One other sign-in has ended."}.get(ended, f" {ended} other sign-ins have ended.")
    typer.echo(f"The password is changed.{others}")


@app.command()
def logout(
    account: str | None = options.AS,
    everything: bool = typer.Option(False, "--all", help="Every account that is kept here."),
) -> None:
    """Sign out: the session ends at the server, and its tokens are removed from this machine."""
    names = accounts.kept() if everything else [accounts.profile_name(account)]
    forgotten = [name for name in names if _sign_out(name)]
    typer.echo(f"Signed out: {', '.join(forgotten)}." if forgotten else "Nobody was signed in.")


def _sign_out(name: str) -> bool:
    """End the session and forget the account, whatever the server says; says whether there was one."""
    try:
        kept = accounts.read(name)
    except AccountError:  # damaged, or readable by others: it goes all the same
        kept = None
    if kept is not None and not kept.has_expired:
        try:
            api = Api(kept.url, kept)
            try:
                api.request("POST", ("auth", "logout"), body={})
            finally:
                api.close()
        except RefusedError:
            pass  # it has ended already
        except PmisError as error:
            typer.echo(f"warning: the session of {name!r} could not be ended at the server: {error.detail}", err=True)
    return accounts.forget(name)


@app.command()
def whoami(
    everything: bool = typer.Option(False, "--all", help="List the accounts kept here instead; nothing is asked."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Say who is signed in, where, until when, and with which roles."""
    if everything:
        _list_accounts(as_json)
        return
    signed_in = accounts.current(account)
    with connected(account, as_json=as_json) as api:
        answer = api.get("auth", "me")
        if as_json:
            print_json(answer.body)
            return
        lookup = Lookup(api)
        me = answer.json
        roles = cast("dict[str, list[str]]", me["roles"])
        pairs = [("at", signed_in.url)]
        if signed_in.email:
            pairs.append(("e-mail", printable(signed_in.email)))
        pairs += [(f"in {printable(lookup.project_prefix(project))}", value(held)) for project, held in roles.items()]
        instance = [word for word in ("admin", "auditor") if me[f"instance_{word}"]]
        if instance:
            pairs.append(("in the instance", value(instance)))
        token = cast("Json | None", me.get("token"))
        if token is not None:
            told = f"{printable(str(token['name']))}, may {token['scope']}, until {moment(token['expires_at'])} UTC"
            pairs.append(("API token", told))
        if signed_in.expires_at:
            pairs.append(("until", f"{moment(signed_in.expires_at)} UTC"))
        screen = Screen()
        screen.line(printable(str(me["name"])), style="bold")
        screen.pairs([*pairs, ("id", printable(str(me["id"])))])


def _list_accounts(as_json: bool) -> None:
    found: list[Json] = []
    for name in accounts.kept():
        kept = accounts.read(name)
        if kept is not None:
            state = "expired" if kept.has_expired else "signed in"
            found.append(
                {
                    "account": name,
                    "url": kept.url,
                    "email": kept.email,
                    "name": kept.name,
                    "until": kept.expires_at,
                    "state": state,
                }
            )
    if as_json:
        typer.echo(json.dumps({"items": found}, ensure_ascii=False))
        return
    if not found:
        typer.echo("Nobody is signed in here.", err=True)
        return
    Screen().pairs(
        [
            (
                one["account"],
                (
                    f"{printable(str(one['name']))}, {printable(str(one['email']))}, at {one['url']}, "
                    f"{one['state']}" + (f", until {moment(one['until'])} UTC" if one["until"] else "")
                ),
            )
            for one in found
        ]
    )
