"""E-mail: the listener, and mails from files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pmis.kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pmis.mail.listener import Desk

app = typer.Typer(name="mail", help="E-mail: taking it in, and looking through it.", no_args_is_help=True)


def _desk(process: str) -> Desk:
    from pmis.kit import faults, logs  # noqa: PLC0415 - see the package
    from pmis.kit.db import Database  # noqa: PLC0415
    from pmis.kit.settings import load_settings  # noqa: PLC0415
    from pmis.kit.storage import Storage  # noqa: PLC0415
    from pmis.mail.addresses import Addresses  # noqa: PLC0415
    from pmis.mail.listener import Desk  # noqa: PLC0415

    settings = load_settings()
    addresses = Addresses(settings.mail_domain, settings.require_secret("secret_key"))
    database = Database(settings.app_dsn, size=5, lock_timeout_ms=settings.lock_timeout_ms, role="pmis_app")
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
    from pmis.mail.listener import serve as listen  # noqa: PLC0415 - see the package

    desk = _desk("mail")
    if desk.settings.mail_smtp_port is None and desk.settings.mail_lmtp_port is None:
        raise InvalidInputError("Neither MAIL_SMTP_PORT nor MAIL_LMTP_PORT is set; set the port to listen on.")
    asyncio.run(listen(desk, typer.echo))


@app.command()
def ingest(
    file: str = typer.Argument(metavar="FILE", help="A raw mail (RFC 5322), or - for standard input."),
    recipient: list[str] = typer.Option(
        [], "--to", metavar="ADDRESS", help="To whom it came. Default: what its headers say. May be repeated."
    ),
) -> None:
    """Take in a mail from a file, at the server's console. The same file again makes nothing."""
    from pmis.mail.intake import Accepted, Delivery, accept  # noqa: PLC0415 - see the package

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
