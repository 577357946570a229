"""Warnings about one's own sign-in. They go out at once, whatever somebody's wish for mails is, and decide nothing."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - pydantic reads the annotations

from pmis.jobs.registry import GiveUpError, Payload, Work, job
from pmis.kit.canonical import canonical
from pmis.kit.ids import uuid7
from pmis.notify.letter import hand_over

if TYPE_CHECKING:
    from datetime import datetime

    from pmis.kit.settings import Settings

SUBJECT: Final = "One of your sign-ins was ended"
_TEXT: Final = """Hello {name},

on {at:%Y-%m-%d at %H:%M} UTC one of your sign-ins{client} was ended: a refresh token that had been used
already was shown again. Either a program lost an answer, or somebody else has what only you should have.

If you cannot say which program it was, change your password: {base}/settings/security
That ends all of your other sign-ins.

This mail asks for nothing to be answered, and never for a password.
"""
_SESSION: Final = (
    "select s.client, s.ended_at, p.name, c.email from identity.session s join state.person p on p.id = s.person_id "
    "left join identity.credential c on c.person_id = s.person_id where s.id = %s and s.person_id = %s"
)
_TELL: Final = (
    # Mailed by this very job, so that no digest holds it once more.
    "insert into notify.notification (id, person_id, key, about, doc, mail_job) values (%s, %s, %s, %s, %s, %s) "
    "on conflict do nothing"
)


class EndedSession(Payload):
    """A session that was ended, as a used refresh token of it came again."""

    person_id: UUID
    session_id: UUID


@job("notify.refresh_reused", EndedSession)
async def about_reuse(said: EndedSession, work: Work) -> dict[str, Any]:
    """Warn somebody in PMIS and by mail; a second attempt sends the same mail, under the same Message-ID."""
    key = f"refresh.reused:{said.session_id}"
    async with work.write() as session:
        row = await session.one(_SESSION, (said.session_id, said.person_id))
        if row is None:
            raise GiveUpError(f"There is no session {said.session_id}: it was forgotten.")
        client, ended, name, address = row
        doc = {
            "kind": "session.refresh_reused",
            "entity_type": "session",
            "entity_id": str(said.session_id),
            "label": SUBJECT,
            "urgent": True,
            "client": client,
        }
        told = (uuid7(), said.person_id, key, said.session_id, canonical(doc), work.job.id)
        await session.execute(_TELL, told)
        known = await session.one(
            "select mailed_at is not null from notify.notification where person_id = %s and key = %s",
            (said.person_id, key),
        )
        await session.commit()
    sent = known is not None and known[0]
    mailed = work.settings.smtp_server is not None and not sent and address is not None
    if mailed and address is not None:
        letter = compose(work.job.id, name, address, client, ended or work.job.created_at, work.settings)
        await hand_over(letter, work.settings)
    result = {"mailed": int(mailed)}
    async with work.write() as session:
        if mailed:
            await session.execute(
                "update notify.notification set mailed_at = %s where person_id = %s and key = %s and mailed_at is null",
                (session.now, said.person_id, key),
            )
        work.finish(session, result)
        await session.commit()
    return result


def compose(identity: UUID, name: str, address: str, client: str, at: datetime, settings: Settings) -> EmailMessage:
    """The mail, which names the program by what it called itself, and holds no token."""
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.mail_from
    local, _, domain = address.rpartition("@")
    message["To"] = Address(name, local, domain)
    message["Subject"] = SUBJECT
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{identity}@{settings.mail_from.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    called = f" ({client})" if client else ""
    message.set_content(_TEXT.format(name=name, at=at, client=called, base=settings.public))
    return message
