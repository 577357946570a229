"""A post office for tests: a project that mail comes to, and mails that are taken in and filed."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmis.email.addresses import Addresses
from pmis.email.models import Email
from pmis.kit.settings import load_settings
from pmis.kit.storage import Storage
from pmis.mail.filing import Office, file
from pmis.mail.intake import Accepted, Delivery, accept
from tests.builders import SECRET, World

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from pmis.kit.settings import Settings

DOMAIN = "mail.test"
AUTHSERV = "mx.mail.test"
_counter = itertools.count(1)


def passed(address: str) -> str:
    """What a mail server of ours writes when DMARC passed."""
    return f"{AUTHSERV}; dmarc=pass header.from={address.rpartition('@')[2]}"


def letter(
    sender: str = "vendor@firm.example",
    to: str = "inbox@mail.test",
    *,
    subject: str = "A letter",
    body: str = "Hello.",
    checked: bool = True,
    more: str = "",
) -> bytes:
    """A mail; with `checked`, one whose sender a mail server of ours vouches for."""
    number = next(_counter)
    results = f"Authentication-Results: {passed(sender)}\r\n" if checked else ""
    return (
        f"{results}From: Somebody <{sender}>\r\nTo: {to}\r\nSubject: {subject}\r\n{more}"
        f"Message-ID: <{number}@firm.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n{body}\r\n"
    ).encode()


def parcel(sender: str, mark: str, *, name: str = "offer.pdf", file: bytes = b"%PDF-1.7 ") -> bytes:
    """A mail with a file, which asks for another date."""
    body = (
        f"--=b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nMail {mark}\r\n"
        "Please change the planned end to 2031-12-01.\r\n"
        f'--=b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="{name}"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{b64encode(file + mark.encode()).decode()}\r\n--=b--"
    )
    more = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=b"\r\n'
    return letter(sender, subject=f"About {mark}", body=body, more=more)


@dataclass
class Post:
    """The instance's mail."""

    world: World
    storage: Storage
    addresses: Addresses
    settings: Settings

    @classmethod
    def of(cls, world: World, folder: Path) -> Post:
        settings = load_settings(
            embedded=False,
            mail_domain=DOMAIN,
            mail_authserv_id=AUTHSERV,
            mail_max_bytes=1 << 20,
            storage_dir=folder / "objects",
            secret_key=SECRET,
        )
        return cls(world, Storage.of(settings), Addresses(DOMAIN, SECRET), settings)

    @property
    def office(self) -> Office:
        return Office(self.world.database, self.storage, self.world.vault, self.addresses, AUTHSERV)

    def at(self, code: str) -> str:
        return f"{code.lower()}@{DOMAIN}"

    async def accept(self, raw: bytes, *recipients: str, **facts: Any) -> Accepted:
        given: dict[str, Any] = {"way": "lmtp", "trusted": True, **facts}
        delivery = Delivery(raw=raw, recipients=recipients, **given)
        return await accept(self.world.database, self.storage, delivery, max_bytes=self.settings.mail_max_bytes)

    async def deliver(self, raw: bytes, *recipients: str, **facts: Any) -> list[Email]:
        """Accepted and filed; as which e-mails."""
        accepted = await self.accept(raw, *recipients, **facts)
        return [await self.email(one) for one in await file(self.office, accepted.id)]

    async def one(self, raw: bytes, *recipients: str, **facts: Any) -> Email:
        """The same for a mail that is filed in one place."""
        (found,) = await self.deliver(raw, *recipients, **facts)
        return found

    async def email(self, identity: UUID) -> Email:
        async with self.world.read() as session:
            row = await session.one("select doc from state.email where id = %s", (identity,))
        assert row is not None
        return Email.model_validate_json(row[0])

    async def content(self, email: Email) -> dict[str, Any]:
        async with self.world.read() as session:
            row = await session.one("select content from mail.inbound where id = %s", (email.inbound_id,))
        assert row is not None
        return json.loads(row[0])

    async def jobs(self, inbound: UUID) -> int:
        async with self.world.read() as session:
            rows = await session.all(
                "select payload from jobs.job where kind = 'mail.file' and payload like %s", (f"%{inbound}%",)
            )
        return len(rows)

    async def known_vendor(self, email: str = "vendor@firm.example") -> UUID:
        return (await self.world.make_party(email=email)).id
