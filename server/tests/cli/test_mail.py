"""`pmis mail`: mails from files, the list, one mail on the screen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pmis.kit.db import Database
from pmis.kit.storage import Storage
from pmis.ledger.vault import Vault
from pmis.mail.addresses import Addresses
from pmis.mail.filing import Office, file
from tests.builders import SECRET
from tests.mail.post import letter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, signed_in: LiveApi, tmp_path: Path) -> LiveApi:
    """The console of the server that is signed in to."""
    for name, value in {
        "DATABASE_URL": signed_in.database.app_dsn,
        "SECRET_KEY": SECRET,
        "STORAGE_DIR": str(tmp_path / "objects"),
        "MAIL_DOMAIN": "mail.test",
    }.items():
        monkeypatch.setenv(name, value)
    return signed_in


def file_it(server: LiveApi, folder: Path, inbound: str) -> str:
    """What a worker does with it."""

    async def run() -> UUID:
        database = Database(server.database.app_dsn, size=1, role="pmis_app")
        await database.open()
        try:
            office = Office(database, Storage.in_folder(folder), Vault(SECRET), Addresses("mail.test", SECRET))
            return (await file(office, UUID(inbound)))[0]
        finally:
            await database.close()

    return str(asyncio.run(run()))


def test_a_mail_from_a_file_is_taken_once_and_shown(pmis: Pmis, server: LiveApi, tmp_path: Path):
    path = tmp_path / "mail.eml"
    path.write_bytes(
        letter(
            "ann@firm.example", to="p-001@mail.test", subject="The bearings", body="\u202eHello \x1b[31m", checked=False
        )
    )
    first, again = pmis("mail", "ingest", str(path)), pmis("mail", "ingest", str(path))
    assert first.out.endswith(" was taken in\n")
    assert again.out == first.out.replace("was taken in", "was taken in before")
    identity = file_it(server, tmp_path / "objects", first.out.split()[0])
    listed = pmis("mail", "list", "--status", "quarantined", "--as", "admin").out
    assert identity in listed
    assert "ann@firm.example (not authenticated)" in " ".join(listed.split())
    shown = pmis("mail", "show", identity, "--as", "admin").out
    assert "Status      quarantined (sender_not_checked)" in shown
    assert "[U+202E]Hello [U+001B][31m" in shown
    assert "\x1b" not in shown
    assert pmis("mail", "show", identity, "--json", "--as", "admin").json["subject"] == "The bearings"
    refused = pmis("mail", "show", identity, "--as", "viewer")
    assert (refused.code, "There is no such mail." in refused.err) == (1, True)


def test_a_file_that_is_not_there_and_one_from_standard_input(pmis: Pmis, server: LiveApi, tmp_path: Path):
    refused = pmis("mail", "ingest", str(tmp_path / "nothing"))
    assert (refused.code, "cannot be read: No such file or directory" in refused.err) == (1, True)
    taken = pmis("mail", "ingest", "-", "--to", "inbox@mail.test", stdin=letter())
    assert taken.out.endswith(" was taken in\n")


def test_the_listener_wants_a_port(pmis: Pmis, server: LiveApi):
    refused = pmis("mail", "serve")
    assert (refused.code, "MAIL_SMTP_PORT" in refused.err) == (1, True)
