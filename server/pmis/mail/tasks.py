"""The jobs of mails."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - Pydantic reads the annotation at run time

from pmis.email.addresses import Addresses
from pmis.jobs.registry import Payload, job
from pmis.kit.storage import Storage
from pmis.mail.filing import Office, file
from pmis.mail.intake import FILE

if TYPE_CHECKING:
    from pmis.jobs.registry import Work


class FileMail(Payload):
    """The mail that is to be filed."""

    inbound_id: UUID


@job(FILE, FileMail)
async def file_mail(wanted: FileMail, work: Work) -> None:
    """Read a mail and file it where it belongs, once."""
    settings = work.settings
    office = Office(
        work.database,
        Storage.of(settings),
        work.vault,
        Addresses.of(settings),
        settings.mail_authserv_id,
    )
    await file(office, wanted.inbound_id, finish=work.finish)
