"""Reading an accepted mail and writing down, as events, where it belongs; done again it does nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pmis.email.models import EMAILS, Email
from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import NotFoundError
from pmis.kit.ids import derived_id
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from pmis.mail import reading
from pmis.mail.authentication import Authentication, authenticate
from pmis.mail.reading import Mail
from pmis.mail.routing import recipients_of, sender_of, targets_of
from pmis.mail.suggestions import suggestions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from pmis.email.addresses import Addresses
    from pmis.kit.db import Database, Session, WriteSession
    from pmis.kit.storage import Storage
    from pmis.ledger.vault import Vault
    from pmis.mail.routing import Sender, Target

ACTOR: Final = Actor("system:mail", "Incoming mail")


@dataclass(frozen=True)
class Office:
    """What filing works with."""

    database: Database
    storage: Storage
    vault: Vault
    addresses: Addresses
    authserv_id: str | None = None


@dataclass(frozen=True)
class Inbound:
    """A mail as it was accepted, and, once it was read, what it says."""

    id: UUID
    via: str
    digest: str
    size: int
    recipients: list[str]
    trusted: bool
    received_at: datetime
    correlation_id: str
    content: Mail | None

    @classmethod
    async def load(cls, session: Session, identity: UUID) -> Inbound:
        """The accepted mail; raises NotFoundError."""
        row = await session.one(
            "select id, source, digest, size, recipients, trusted, received_at, correlation_id, content "
            "from mail.inbound where id = %s",
            (identity,),
        )
        if row is None:
            raise NotFoundError("There is no such mail.")
        *rest, content = row
        return cls(*rest, content=Mail.model_validate_json(content) if content else None)


async def file(office: Office, identity: UUID, *, finish: Callable[[WriteSession], object] | None = None) -> list[UUID]:
    """Read the mail and file it in each project that it came to; the ids under which it is filed.

    `finish` is called before the last commit.
    """
    async with office.database.read(Reach.INSTANCE) as session:
        inbound = await Inbound.load(session, identity)
    content = inbound.content
    if content is None:
        # No connection is held while the child reads.
        found = await reading.read(await office.storage.get(inbound.digest))
        for attachment in found.contents:
            await office.storage.put(attachment)
        content = found.mail
    authentication = authenticate(content.headers, authserv_id=office.authserv_id, trusted=inbound.trusted)
    suggestions = [one.model_dump(mode="json") for one in suggestions_of(content.text)]
    async with office.database.write(Reach.INSTANCE) as session:
        await session.execute(
            "update mail.inbound set content = %s, authentication = %s, suggestions = %s, read_at = %s "
            "where id = %s and content is null",
            (
                content.model_dump_json(by_alias=True),
                canonical(authentication.to_json()),
                json.dumps(suggestions),
                session.now,
                identity,
            ),
        )
        recipients = recipients_of(inbound.recipients, content.headers)
        filed: list[UUID] = []
        for target in await targets_of(session, office.addresses, recipients, content.headers):
            sender = await sender_of(session, office.vault, content.headers, authentication, target.project_id)
            if await filed_in(session, inbound.id, target.project_id) is None:
                await place(
                    session,
                    inbound,
                    content,
                    target,
                    sender,
                    authenticated=authentication.authenticated,
                    suggestions=len(suggestions),
                    verdict=_verdict(content, target, sender, authentication),
                    origin=Origin(ACTOR, "mail", inbound.correlation_id),
                )
            filed.append(email_id(inbound.id, target.project_id))
        if finish is not None:
            finish(session)
        await session.commit()
    return filed


def email_id(inbound: UUID, project: UUID | None) -> UUID:
    """Under which a mail is filed in a project: the same whenever it is filed there."""
    return derived_id(inbound, "email", str(project))


async def filed_in(session: WriteSession, inbound: UUID, project: UUID | None) -> Email | None:
    """The mail as it is filed in a project, under a lock; None where it is not."""
    row = await session.one("select doc from state.email where id = %s for update", (email_id(inbound, project),))
    return Email.model_validate_json(row[0]) if row else None


async def place(
    session: WriteSession,
    inbound: Inbound,
    content: Mail,
    target: Target,
    sender: Sender | None,
    *,
    authenticated: bool,
    suggestions: int,
    verdict: tuple[str, str],
    origin: Origin,
) -> Email:
    """File the mail in a project in which it is not filed yet."""
    identity = email_id(inbound.id, target.project_id)
    status, reason = verdict
    attached = status == "attached"
    thread = await thread_of(session, target.project_id, content, identity, join=attached)
    fields = {
        "inbound_id": str(inbound.id),
        "via": inbound.via,
        "digest": inbound.digest,
        "size": inbound.size,
        "received_at": inbound.received_at.isoformat(),
        "status": status,
        "reason": reason,
        "package_id": str(target.package_id) if attached else None,
        "candidate_id": str(target.package_id) if target.package_id else None,
        "thread_id": str(thread),
        "sender_kind": sender.kind if sender else None,
        "sender_id": str(sender.id) if sender else None,
        "authenticated": authenticated,
        "attachments": [
            {"digest": one.digest, "size": one.size, "media_type": one.media_type} for one in content.attachments
        ],
        "suggestions": suggestions,
        "accepted": [],
    }
    email, _ = append(
        session,
        EMAILS,
        None,
        [Fact("email.ingested", {"fields": fields})],
        origin=origin,
        stream_id=identity,
        project_id=target.project_id,
    )
    return email


def _verdict(content: Mail, target: Target, sender: Sender | None, authentication: Authentication) -> tuple[str, str]:
    """What becomes of the mail, and why."""
    if not content.complete:
        return "unreadable", "unreadable"
    if target.project_id is None:
        return "quarantined", "no_project"
    if not authentication.authenticated:
        return "quarantined", "sender_not_authenticated" if authentication.checked else "sender_not_checked"
    if sender is None:
        return "quarantined", "sender_unknown"
    if target.package_id is None:
        return "quarantined", "no_package"
    return "attached", target.how


def _references(content: Mail) -> list[str]:
    headers = content.headers
    given = [headers.message_id, *headers.in_reply_to, *headers.references]
    return [hashlib.sha256(one.encode()).hexdigest() for one in given if one]


async def thread_of(session: WriteSession, project: UUID | None, content: Mail, identity: UUID, *, join: bool) -> UUID:
    """The thread that the mail answers in, or a new one. With `join`, answers to this mail will be found.

    Only mails that somebody known sent, or that somebody attached, join: nobody else can claim a Message-ID.
    """
    known = _references(content)
    if project is None:
        return identity
    row = await session.one(
        "select thread_id from mail.thread where project_id = %s and reference = any(%s) order by reference limit 1",
        (project, known),
    )
    thread = row[0] if row else identity
    if join and content.headers.message_id:
        await session.execute(
            "insert into mail.thread (project_id, reference, thread_id) values (%s, %s, %s) on conflict do nothing",
            (project, known[0], thread),
        )
    return thread


async def locked(session: WriteSession, identity: UUID) -> Email:
    """The filed mail, under a lock that lasts as long as the transaction; raises NotFoundError."""
    row = await session.one("select doc from state.email where id = %s for update", (identity,))
    if row is None:
        raise NotFoundError("There is no such mail.")
    return Email.model_validate_json(row[0])


def say(
    session: WriteSession,
    email: Email,
    verb: str,
    origin: Origin,
    changed: Mapping[str, Any],
    **told: Any,  # noqa: ANN401 - JSON values
) -> Email:
    """Write down what somebody decided about a filed mail, with what is told beside it; the mail as it then is."""
    before = email.plain
    changes = {name: {"from": before[name], "to": value} for name, value in changed.items() if before[name] != value}
    beside = {name: value for name, value in told.items() if value is not None}
    after, _ = append(
        session,
        EMAILS,
        email,
        [Fact(f"email.{verb}", {"changes": changes, **beside})],
        origin=origin,
        stream_id=email.id,
        project_id=email.project_id,
    )
    return after
