"""`pmis mail`: mails from files, the list, one mail on the screen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pmis.email.addresses import Addresses
from pmis.kit.db import Database
from pmis.kit.storage import Storage
from pmis.ledger.vault import Vault
from pmis.mail.filing import Office, file
from tests.builders import SECRET
from tests.mail.mailbox import NAME, mailbox_server
from tests.mail.post import letter, parcel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, signed_in: LiveApi) -> LiveApi:
    """The console of the server that is signed in to."""
    for name, value in {
        "DATABASE_URL": signed_in.database.app_dsn,
        "SECRET_KEY": SECRET,
        "STORAGE_DIR": str(signed_in.settings.storage),
        "MAIL_DOMAIN": "mail.test",
    }.items():
        monkeypatch.setenv(name, value)
    return signed_in


def file_it(server: LiveApi, inbound: str) -> str:
    """What a worker does with it."""

    async def run() -> UUID:
        database = Database(server.database.app_dsn, size=1, role="pmis_app")
        await database.open()
        try:
            office = Office(database, Storage.of(server.settings), Vault(SECRET), Addresses("mail.test", SECRET))
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
    identity = file_it(server, first.out.split()[0])
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


def test_a_mail_is_moved_attached_taken_up_and_laid_aside(pmis: Pmis, server: LiveApi, tmp_path: Path):
    path = tmp_path / "parcel.eml"
    path.write_bytes(parcel("ann@firm.example", "x"))
    taken = pmis("mail", "ingest", str(path), "--to", "p@mail.test")
    identity = file_it(server, taken.out.split()[0])
    moved = pmis("mail", "move", identity, "--as", "admin")
    assert moved.out == "The mail is moved (version 2).\n"
    refused = pmis("mail", "attach", identity, "P-001", "--as", "admin")
    assert (refused.code, "It was moved to where it belongs" in refused.err) == (1, True)
    (there,) = pmis("mail", "list", "--status", "quarantined", "--json", "--as", "admin").json["items"][:1]
    assert (there["project_id"], there["reason"]) == (None, "moved")
    pmis("mail", "move", there["id"], "P", "--reason", "Theirs after all.", "--as", "admin")
    attached = pmis("mail", "attach", identity, "P-001", "--if-match", "3", "--as", "admin")
    assert attached.out == "The mail is attached to P-001 Site survey (version 4).\n"
    assert pmis("mail", "attach", identity, "P-001", "--if-match", "3", "--as", "admin").code == 1
    shown = pmis("mail", "show", identity, "--as", "analyst").out
    assert "Asks for 1  {'planned_end': '2031-12-01'} (line 2: Please change the planned end to 2031-12-01.)" in shown
    preview = pmis("mail", "accept", identity, "1", "--dry-run", "--as", "analyst").out
    assert "2031-12-01" in preview
    accepted = pmis("mail", "accept", identity, "1", "--json", "--as", "analyst").json
    assert (accepted["outcome"], accepted["approval"]["source"]) == ("confirmation_required", "mail")
    assert "; accepted" in pmis("mail", "show", identity, "--as", "analyst").out
    into = tmp_path / "offer.pdf"
    assert "File 1      offer.pdf (application/pdf, 10 bytes)" in shown
    assert pmis("mail", "save", identity, "1", str(into), "--as", "analyst").code == 0
    assert into.read_bytes() == b"%PDF-1.7 x"
    assert (
        pmis("mail", "save", identity, "2", str(tmp_path / "no"), "--as", "analyst").code,
        (tmp_path / "no").exists(),
    ) == (1, False)
    laid = pmis("mail", "dismiss", identity, "--reason", "Done.", "--as", "admin")
    assert laid.out == "The mail is dismissed (version 6).\n"


def test_mail_is_fetched_from_a_mailbox(pmis: Pmis, server: LiveApi, monkeypatch: pytest.MonkeyPatch):
    refused = pmis("mail", "fetch")
    assert (refused.code, "IMAP_SERVER is not set" in refused.err) == (1, True)
    with mailbox_server() as box:
        for name, value in {
            "IMAP_SERVER": "127.0.0.1",
            "IMAP_PORT": str(box.port),
            "IMAP_USERNAME": NAME,
            "IMAP_PASSWORD": box.password,
            "IMAP_SECURITY": "none",
            "IMAP_DONE_FOLDER": "Taken",
        }.items():
            monkeypatch.setenv(name, value)
        box.put(letter())
        assert pmis("mail", "fetch").out == "1 mail was taken in\n"
        assert pmis("mail", "fetch").out == "0 mails were taken in\n"
        assert (box.flags(), len(box.flags("Taken"))) == ([], 1)
        monkeypatch.setenv("IMAP_PASSWORD", "another")
        wrong = pmis("mail", "fetch")
    assert (wrong.code, "The mailbox at 127.0.0.1 does not answer" in wrong.err) == (1, True)
