"""E-mail: the ways in, and what people decide about what came."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pmis.cli import options
from pmis.cli.approvals import outcome
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.saving import destination
from pmis.cli.text import moment, printable
from pmis.kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pmis.mail.listener import Desk

app = typer.Typer(name="mail", help="E-mail: taking it in, and looking through it.", no_args_is_help=True)


def _senders(one: dict[str, Any]) -> str:
    """Who the mail says it is from, with a mark where nobody vouches for that."""
    named = ", ".join(sender["address"] for sender in one["from"]) or "nobody"
    return printable(named if one["sender"]["authenticated"] else f"{named} (not authenticated)")


_COLUMNS: Final = (
    Column("ID", lambda one, _: str(one["id"])),
    Column("WHEN (UTC)", lambda one, _: moment(one["received_at"])),
    Column("STATUS", lambda one, _: printable(str(one["status"]))),
    Column("FROM", lambda one, _: _senders(one), flexible=True),
    Column("SUBJECT", lambda one, _: printable(str(one["subject"])), flexible=True),
)


@app.command("list")
def list_mails(
    status: str | None = typer.Option(
        None, metavar="WORDS", help="Only these: attached, quarantined, unreadable, dismissed, moved; comma-separated."
    ),
    package: str | None = typer.Option(None, metavar="PACKAGE", help="Only those attached to this package."),
    project: str | None = options.PROJECT,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List mails, the newest first: those of packages, and what waits for you if you administer."""
    with connected(account, as_json=as_json) as api:
        lookup = Lookup(api)
        found = api.listed(
            "mail",
            "messages",
            limit=limit,
            everything=everything,
            cursor=cursor,
            status=status,
            project=project,
            package_id=lookup.identity("packages", package) if package else None,
        )
        listing(found, _COLUMNS, lookup, json=as_json, nothing="There are no such mails.")


@app.command()
def show(
    mail: str = typer.Argument(metavar="ID", help="Its id, as the list gives it."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Show a mail: what it says, where it is, what it seems to ask for. What cannot be seen is written out."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("mail", "messages", mail)
        if as_json:
            print_json(answer.body)
            return
        found = answer.json
        package = found["package_id"] or found["candidate_id"]
        lines = [
            ("From", _senders(found)),
            ("To", ", ".join(one["address"] for one in found["to"])),
            ("Subject", found["subject"]),
            ("Received", moment(found["received_at"])),
            ("Status", f"{found['status']} ({found['reason']})"),
            ("Package", str(package and Lookup(api).name("package_id", package))),
            *(
                (f"File {number}", f"{one['name']} ({one['media_type']}, {one['size']} bytes)")
                for number, one in enumerate(found["attachments"], start=1)
            ),
            *(("Not read", fault) for fault in found["faults"]),
            *(
                (f"Asks for {one['number']}", f"{one['patch']} (line {one['line']}: {one['quote']}){_taken(one)}")
                for one in found["suggestions"]
            ),
        ]
        for name, text in lines:
            typer.echo(f"{name:<11} {printable(str(text))}")
        typer.echo()
        typer.echo(printable(found["text"], lines=True))


def _taken(suggestion: dict[str, Any]) -> str:
    return "; accepted" if suggestion["accepted"] else ""


_MAIL: Final[Any] = typer.Argument(metavar="ID", help="The mail's id, as the list gives it.")
_REASON: Final[Any] = typer.Option(None, "--reason", metavar="TEXT", help="Why; kept in the log.")


def _decide(way: str, mail: str, said: dict[str, Any], told: dict[str, Any]) -> None:
    """Say it to the API, and what came of it to whoever asks."""
    with connected(told["account"], as_json=told["as_json"]) as api:
        body = {name: value for name, value in {**said, "reason": told["reason"]}.items() if name in said or value}
        answer = api.send("POST", "mail", "messages", mail, way, body=body, key=told["key"], if_match=told["if_match"])
        if told["as_json"]:
            print_json(answer.body)
            return
        found = answer.json
        package = found["package_id"]
        place = f" to {Lookup(api).name('package_id', package)}" if package else ""
        typer.echo(f"The mail is {printable(str(found['status']))}{place} (version {found['version']}).")


@app.command()
def attach(
    mail: str = _MAIL,
    package: str = typer.Argument(metavar="PACKAGE", help="The package of the mail's project, by code or id."),
    reason: str | None = _REASON,
    if_match: int | None = options.IF_MATCH,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Attach a mail to a package, also out of quarantine; answers to it join it from then on."""
    told = {"reason": reason, "if_match": if_match, "key": key, "account": account, "as_json": as_json}
    _decide("attach", mail, {"package": package}, told)


@app.command()
def dismiss(
    mail: str = _MAIL,
    reason: str | None = _REASON,
    if_match: int | None = options.IF_MATCH,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Lay a mail aside that belongs to no package. It is kept, and can be attached all the same."""
    told = {"reason": reason, "if_match": if_match, "key": key, "account": account, "as_json": as_json}
    _decide("dismiss", mail, {}, told)


@app.command()
def move(
    mail: str = _MAIL,
    project: str | None = typer.Argument(
        None, metavar="[PROJECT]", help="The project, by prefix or id. Default: the instance's inbox."
    ),
    reason: str | None = _REASON,
    if_match: int | None = options.IF_MATCH,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Hand a mail to another project, where it waits for somebody to look at it, or to the instance's inbox."""
    told = {"reason": reason, "if_match": if_match, "key": key, "account": account, "as_json": as_json}
    _decide("move", mail, {"project": project}, told)


@app.command()
def accept(
    mail: str = _MAIL,
    number: int = typer.Argument(metavar="NUMBER", min=1, help="Which suggestion, as `pmis mail show` numbers them."),
    reason: str | None = options.REASON,
    dry_run: bool = options.DRY_RUN,
    if_match: int | None = options.IF_MATCH,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose what a line of a mail asks for, as your own change, which the policy judges as what an e-mail says."""
    with connected(account, as_json=as_json) as api:
        path = ("mail", "messages", mail, "suggestions", str(number), "accept")
        body = {"reason": reason} if reason else {}
        answer = api.send("POST", *path, body=body, key=key, if_match=if_match, dry_run="true" if dry_run else None)
        outcome(answer, Lookup(api), operation="patch", json=as_json)


@app.command()
def save(
    mail: str = _MAIL,
    number: int = typer.Argument(metavar="NUMBER", min=1, help="Which file, as `pmis mail show` numbers them."),
    file: str = typer.Argument(metavar="FILE", help="Where to write it; - is standard output."),
    account: str | None = options.AS,
) -> None:
    """Write a file of a mail to the disk, as it came. Nobody has looked for viruses in it."""
    with connected(account) as api, destination(file) as into:
        size = api.download("mail", "messages", mail, "attachments", str(number), into=into)
    typer.echo(f"{size:,} bytes are in {printable(file)}", err=True)


def _desk(process: str) -> Desk:
    from pmis.email.addresses import Addresses  # noqa: PLC0415
    from pmis.kit import faults, logs  # noqa: PLC0415 - see the package
    from pmis.kit.db import Database  # noqa: PLC0415
    from pmis.kit.settings import load_settings  # noqa: PLC0415
    from pmis.kit.storage import Storage  # noqa: PLC0415
    from pmis.mail.listener import Desk  # noqa: PLC0415

    settings = load_settings()
    addresses = Addresses.of(settings)
    database = Database.of(settings, settings.app_dsn, size=5, role="pmis_app")
    if process:
        logs.configure(settings, process)
        faults.configure(settings, process)
    return Desk(database, Storage.of(settings), addresses, settings)


@app.command()
def serve() -> None:
    """Take mail by SMTP and LMTP in the foreground, on MAIL_SMTP_PORT and MAIL_LMTP_PORT.

    A mail is answered with 250 once it is stored and committed; a worker files it. Mail for other addresses than those
    of MAIL_DOMAIN is refused.
    """
    import asyncio  # noqa: PLC0415 - see the package

    from pmis.mail.listener import serve as listen  # noqa: PLC0415

    desk = _desk("mail")
    if desk.settings.mail_smtp_port is None and desk.settings.mail_lmtp_port is None:
        raise InvalidInputError("Neither MAIL_SMTP_PORT nor MAIL_LMTP_PORT is set; set the port to listen on.")
    asyncio.run(listen(desk, typer.echo))


@app.command()
def fetch(
    watch: bool = typer.Option(False, "--watch", help="Stay, and take what comes as it comes, until a signal ends it."),
) -> None:
    """Fetch mail by IMAP from the mailbox of IMAP_SERVER, at the server's console.

    A mail is marked as read there, or moved to IMAP_DONE_FOLDER, once it is stored and committed; a worker files it.
    What is fetched again makes nothing. A mail larger than MAIL_MAX_BYTES stays, with a flag.
    """
    import asyncio  # noqa: PLC0415 - see the package

    from pmis.mail import imap  # noqa: PLC0415

    desk = _desk("imap" if watch else "")
    mailbox = imap.Mailbox.of(desk.settings)
    if mailbox is None:
        raise InvalidInputError("IMAP_SERVER is not set; name the server, IMAP_USERNAME and IMAP_PASSWORD.")
    if watch:
        asyncio.run(imap.serve(desk, mailbox, typer.echo))
        return

    async def once() -> int:
        await desk.database.open()
        try:
            return await imap.fetch_once(desk, mailbox)
        finally:
            await desk.database.close()

    new = asyncio.run(once())
    typer.echo(f"{new} {'mail was' if new == 1 else 'mails were'} taken in")


@app.command()
def ingest(
    file: str = typer.Argument(metavar="FILE", help="A raw mail (RFC 5322), or - for standard input."),
    recipient: list[str] = typer.Option(
        [], "--to", metavar="ADDRESS", help="To whom it came. Default: what its headers say. May be repeated."
    ),
) -> None:
    """Take in a mail from a file, at the server's console. The same file again makes nothing."""
    import asyncio  # noqa: PLC0415 - see the package

    from pmis.mail.intake import Accepted, Delivery, accept  # noqa: PLC0415

    desk = _desk("")
    limit = desk.settings.mail_max_bytes
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(limit + 1)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}.") from None

    async def take() -> Accepted:
        await desk.database.open()
        try:
            delivery = Delivery("file", raw, tuple(recipient), trusted=True)
            return await accept(desk.database, desk.storage, delivery, max_bytes=limit)
        finally:
            await desk.database.close()

    accepted = asyncio.run(take())
    typer.echo(f"{accepted.id} {'was taken in before' if accepted.repeated else 'was taken in'}")
