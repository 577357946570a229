"""The mail that invites somebody: it goes to the address itself, and only its reader can accept."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - pydantic reads the annotations

from pmis.identity.invitations import Invitation, Secrets, find, is_backed
from pmis.jobs.registry import GiveUpError, Payload, Work, job
from pmis.kit.db import Reach
from pmis.kit.errors import NotFoundError
from pmis.notify.letter import hand_over, templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.kit.settings import Settings

_ROLES: Final = (
    "select p.doc::json ->> 'name', array(select json_array_elements_text(i.doc::json -> 'roles')) "
    "from state.invitation i join state.project p on p.id = i.project_id "
    "where i.person_id = %s and i.status = 'open' order by 1"
)


class Sent(Payload):
    """An invitation, and which sending of it."""

    invitation_id: UUID
    serial: int


@job("notify.invitation", Sent)
async def invite(said: Sent, work: Work) -> dict[str, Any]:
    """Mail the link, unless it was sent again since or is over; a second attempt sends the same mail."""
    settings = work.settings
    async with work.database.read(Reach.INSTANCE) as session:
        try:
            head = await find(session, said.invitation_id)
        except NotFoundError:
            raise GiveUpError(f"There is no invitation {said.invitation_id}.") from None
        row = await session.one("select email from identity.invited where invitation_id = %s", (head.id,))
        roles = [(str(project), list(held)) for project, held in await session.all(_ROLES, (head.person_id,))]
        backed = await is_backed(session, head)
    stands = backed and head.status == "open" and head.serial == said.serial
    mailed = settings.smtp_server is not None and stands and row is not None
    if mailed and row is not None:
        link = Secrets(settings.require_secret("secret_key")).link(settings.public, head)
        await hand_over(compose(work.job.id, head, row[0], roles, link, settings), settings)
    result = {"mailed": int(mailed)}
    async with work.write() as session:
        work.finish(session, result)
        await session.commit()
    return result


def compose(
    identity: UUID,
    invitation: Invitation,
    address: str,
    roles: Sequence[tuple[str, Sequence[str]]],
    link: str,
    settings: Settings,
) -> EmailMessage:
    """The mail, under a Message-ID that stays; nobody's absence note answers it."""
    values = {
        "name": invitation.name,
        "inviter": invitation.inviter_name,
        "base": settings.public,
        "link": link,
        "roles": roles,
        "rights": [
            word
            for word, has in (
                ("an administrator of the instance", invitation.instance_admin),
                ("an auditor of the instance", invitation.instance_auditor),
            )
            if has
        ],
        "ends": f"{invitation.expires_at:%Y-%m-%d at %H:%M} UTC",
    }
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.mail_from
    local, _, domain = address.rpartition("@")
    message["To"] = Address(invitation.name, local, domain)
    message["Subject"] = f"{' '.join(invitation.inviter_name.split())[:80]} invites you to PMIS"
    message["Date"] = format_datetime(invitation.updated_at)
    message["Message-ID"] = f"<{identity}@{settings.mail_from.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(templates().get_template("invitation.txt").render(values))
    message.add_alternative(templates().get_template("invitation.html").render(values), subtype="html")
    return message
