"""Mails that come in for the office of the assistant, by the same way as any: accepted, read by the child, filed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING, Self

from tests.mail.post import Post, passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.assistant.plan import Named
    from pmis.email.models import Email
    from tests.api.office import Office


@dataclass
class Letters:
    """A vendor whom project A knows, and who writes to its packages."""

    post: Post
    sender: str

    @classmethod
    async def of(cls, office: Office) -> Self:
        sender = f"{secrets.token_hex(6)}@firm.example"
        await office.a.make_party(email=sender)
        return cls(Post.of(office.a, office.test_database.files), sender)

    async def to(
        self,
        package: Named,
        text: str,
        *,
        subject: str = "A letter",
        kind: str = "plain",
        files: Sequence[tuple[str, str]] = (),
        known: bool = True,
    ) -> Email:
        """The mail as it is filed; `files` have a name and a text. From who is not `known` it waits for a look."""
        sender = self.sender if known else "stranger@nowhere.example"
        mail = EmailMessage()
        mail["Authentication-Results"] = passed(sender)
        mail["From"] = f"Somebody <{sender}>"
        mail["To"] = self.post.at(package.label)
        mail["Subject"] = subject
        mail["Message-ID"] = f"<{secrets.token_hex(8)}@firm.example>"
        mail["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
        mail.set_content(text, subtype=kind)
        for name, file in files:
            mail.add_attachment(file, filename=name)
        return await self.post.one(mail.as_bytes())
