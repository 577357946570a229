"""One mail: what it says, as plain text and as HTML, and how it is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import aiosmtplib
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pmis.email.addresses import Addresses
from pmis.jobs.registry import GiveUpError
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.settings import Settings

SECONDS: Final = 30.0
LISTED: Final = 50
"""How many things one mail lists; of the rest it says how many there are."""


class NotHandedOverError(PmisError):
    """The mail server did not take the mail now; it is tried again."""

    code = "mail_not_taken"
    status = 503
    title = "The mail server did not take the mail"


@dataclass(frozen=True)
class Letter:
    """What goes to one person. `identity` names it for ever: sent again, it is the same mail."""

    identity: UUID
    name: str
    address: str
    items: Sequence[Mapping[str, Any]]
    """The first LISTED of what it tells."""
    kinds: Mapping[str, int]
    """How many things of each kind it tells, listed or not."""
    at: datetime
    package: UUID | None = None
    """The one package that all of it is about, to which an answer belongs."""


@cache
def templates() -> Environment:
    """The mails, as plain text and as HTML, in which what people wrote is escaped."""
    return Environment(
        loader=PackageLoader("pmis.notify"),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def compose(letter: Letter, settings: Settings, token: str) -> EmailMessage:
    """The mail, with a stable Message-ID, and with headers by which nobody's absence note answers it.

    Where mail comes in (MAIL_DOMAIN), an answer to what is about one package goes to that package.
    """
    base = settings.public
    values = {
        "name": letter.name,
        "items": letter.items,
        "words": _WORDS,
        "more": sum(letter.kinds.values()) - len(letter.items),
        "base": base,
        "preferences": f"{base}/settings/notifications",
    }
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.mail_from
    local, _, domain = letter.address.rpartition("@")
    message["To"] = Address(letter.name, local, domain)
    message["Subject"] = subject_of(letter.items[0], letter.kinds)
    message["Date"] = format_datetime(letter.at)
    if letter.package is not None and "mail_domain" in settings.model_fields_set:
        addresses = Addresses.of(settings)
        message["Reply-To"] = addresses.reply_address(letter.package)
        message["Message-ID"] = addresses.message_id(letter.package, letter.identity)
    else:
        message["Message-ID"] = f"<{letter.identity}@{settings.mail_from.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    # RFC 8058: mail programs offer to end these mails with one click, by a POST to this address.
    message["List-Unsubscribe"] = f"<{base}/api/v1/notifications/unsubscribe?token={token}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(templates().get_template("letter.txt").render(values))
    message.add_alternative(templates().get_template("letter.html").render(values), subtype="html")
    return message


def subject_of(first: Mapping[str, Any], kinds: Mapping[str, int]) -> str:
    """What a mail is about, on one line: its first item, or how many there are of which kinds."""
    total, waiting, overdue = sum(kinds.values()), kinds.get("approval.waiting", 0), kinds.get("task.overdue", 0)
    if total == 1:
        label = " ".join(str(first["label"]).split())[:120]
        if waiting:
            urgent = "Urgent: " if first["urgent"] else ""
            return f"{urgent}{label} waits for you"
        return f"{label}: {_WORDS[first['kind']]}"
    if waiting:
        rest = f", and {total - waiting} more" if waiting < total else ""
        return f"{waiting} {'approval waits' if waiting == 1 else 'approvals wait'} for you{rest}"
    if overdue == total:
        return f"{overdue} tasks are overdue"
    if overdue:
        return f"{overdue} {'task is' if overdue == 1 else 'tasks are'} overdue, and {total - overdue} more"
    if all(kind.startswith("approval.") for kind in kinds):
        return f"{total} of your proposals were dealt with"
    return f"{total} things that concern you"


_WORDS: Final = {
    "approval.waiting": "waits for you",
    "approval.applied": "approved and applied",
    "approval.rejected": "rejected",
    "approval.changes_requested": "changes were requested",
    "approval.withdrawn": "withdrawn",
    "approval.voided": "void, as the record has moved on",
    "approval.expired": "expired",
    "task.overdue": "overdue",
    "webhook.failing": "fails, and rests",
    "webhook.disabled": "was switched off",
}
"""What became of it, by the kind of notification."""


async def hand_over(message: EmailMessage, settings: Settings) -> None:
    """Give the mail to the mail server; raises NotHandedOverError to try again, GiveUpError where that is pointless."""
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    try:
        await aiosmtplib.send(
            message,
            hostname=settings.smtp_server,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=password,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            timeout=SECONDS,
        )
    except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
        many = isinstance(error, aiosmtplib.SMTPRecipientsRefused)
        codes = [one.code for one in error.recipients] if many else [error.code]
        if all(code >= 500 for code in codes):  # noqa: PLR2004 - RFC 5321: 5xx is for ever
            raise GiveUpError(f"The mail server refuses this mail for good (code {codes[0]}).") from None
        raise NotHandedOverError(f"The mail server takes it later (code {codes[0]}).") from None
    except (aiosmtplib.SMTPException, OSError) as error:
        what = type(error).__name__
        raise NotHandedOverError(f"The mail server at {settings.smtp_server} failed: {what}.") from None
