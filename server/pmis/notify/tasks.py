"""The jobs that tell people."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - pydantic reads the annotations

from pmis.approval.models import Approval
from pmis.identity.principals import load_principal
from pmis.jobs.registry import GiveUpError, Payload, Work, job
from pmis.kit.db import Reach
from pmis.kit.errors import UnauthenticatedError
from pmis.notify.letter import LISTED, Letter, compose, hand_over
from pmis.notify.spread import MAIL, settle_overdue, tell_of, tell_of_overdue, wishes_of
from pmis.notify.unsubscribing import unsubscribe_token
from pmis.policy.access import ALL, visible_projects

if TYPE_CHECKING:
    from pmis.kit.db import Session

KEPT: Final = timedelta(days=90)
"""How long what somebody was told is kept, read or not: what it is about tells the same."""
_BATCH: Final = 1000
_OF_MAIL: Final = (
    "from notify.notification n where mail_job = %(job)s and mailed_at is null "
    "and (%(all)s or project_id is null or project_id = any(%(projects)s))"
)
"""What a mail tells: who may not read a project any more is not told of it either."""
_KINDS: Final = f"select doc::json ->> 'kind', count(*) {_OF_MAIL} group by 1"
_LISTED: Final = f"select doc::json {_OF_MAIL} order by id limit %(listed)s"
_PACKAGES: Final = (
    "select distinct coalesce((select t.package_id from state.task t where t.id = n.about), "  # noqa: S608 - the same
    "(select coalesce(p.id, t.package_id) from state.approval_target x left join state.package p on p.id = x.target_id "
    f"left join state.task t on t.id = x.target_id where x.approval_id = n.about limit 1)) {_OF_MAIL} limit 2"
)
"""The packages that it is about, a second one being enough to know; null stands for what is about none yet."""


class AboutApproval(Payload):
    """An approval with which something happened."""

    approval_id: UUID
    reminder: int = 0
    """Which reminder of it this is; 0 is none."""
    escalated: int = 0
    """The version it got when it was escalated, as whoever was asked stayed silent; 0 is not."""


class Climbed(Payload):
    """Rungs of the overdue ladder, by the events that say so."""

    events: list[UUID]


class Slot(Payload):
    """The slot of a schedule."""

    slot: datetime


class ToPerson(Payload):
    """Somebody who is to be mailed."""

    person_id: UUID


@job("notify.approval", AboutApproval)
async def about_approval(said: AboutApproval, work: Work) -> dict[str, Any]:
    """Tell those whom an approval concerns how it stands now, whatever it was that happened."""
    async with work.write() as session:
        row = await session.one("select doc from state.approval where id = %s", (said.approval_id,))
        if row is None:
            raise GiveUpError(f"There is no approval {said.approval_id}.")
        told = await tell_of(
            session,
            Approval.model_validate_json(row[0]),
            by_mail=work.settings.smtp_server is not None,
            occasion=f"escalated:{said.escalated}" if said.escalated else str(said.reminder),
            escalated=said.escalated > 0,
        )
        result = {"told": told}
        work.finish(session, result)
        await session.commit()
    return result


@job("notify.overdue", Climbed)
async def about_overdue(said: Climbed, work: Work) -> dict[str, Any]:
    """Tell those on the rungs that overdue tasks have climbed to."""
    async with work.write() as session:
        by_mail = work.settings.smtp_server is not None
        told = await tell_of_overdue(session, said.events, by_mail=by_mail, correlation_id=f"notify-{work.job.id}")
        result = {"told": told}
        work.finish(session, result)
        await session.commit()
    return result


@job(MAIL, ToPerson)
async def mail(said: ToPerson, work: Work) -> dict[str, Any]:
    """Mail somebody everything that is untold and unread, in one mail.

    What it holds is taken under the job's id first, so that an attempt after this one sends the same mail, under the
    same Message-ID, and another job another one. It is sent at least once: whether a mail server that fell silent took
    the mail, nobody can know.
    """
    job_id = work.job.id
    async with work.write() as session:
        await settle_overdue(session, said.person_id)
        await session.execute(
            # Once: what is told after that is another mail's, or the same Message-ID would hold something else.
            "update notify.notification set mail_job = %s where person_id = %s and mail_job is null "
            "and read_at is null and not exists (select from notify.notification where mail_job = %s)",
            (job_id, said.person_id, job_id),
        )
        address = await session.one("select email from identity.credential where person_id = %s", (said.person_id,))
        wish = (await wishes_of(session, [said.person_id])).get(said.person_id)
        await session.commit()
    letter = None
    if address is not None and wish != "never":
        async with work.database.read(Reach.INSTANCE) as session:
            letter = await _letter(session, said.person_id, address[0], work)
    if letter is not None:
        secret = work.settings.require_secret("secret_key")
        await hand_over(compose(letter, work.settings, unsubscribe_token(secret, said.person_id)), work.settings)
    result = {"mailed": sum(letter.kinds.values()) if letter is not None else 0}
    async with work.write() as session:
        await session.execute(
            "update notify.notification set mailed_at = %s where mail_job = %s and mailed_at is null",
            (session.now, job_id),
        )
        work.finish(session, result)
        await session.commit()
    return result


async def _letter(session: Session, person: UUID, address: str, work: Work) -> Letter | None:
    """What the job's mail tells, if there is anything that the person may still read."""
    try:
        principal = await load_principal(session, person)
    except UnauthenticatedError:
        return None
    visible = visible_projects(principal)
    values = {
        "job": work.job.id,
        "all": visible is ALL,
        "projects": [] if visible is ALL else list(visible),
        "listed": LISTED,
    }
    items = [doc for (doc,) in await session.all(_LISTED, values)]
    if not items:
        return None
    kinds = dict(await session.all(_KINDS, values))
    packages = [package for (package,) in await session.all(_PACKAGES, values)]
    package = packages[0] if len(packages) == 1 else None
    return Letter(work.job.id, principal.name, address, items, kinds, work.job.created_at, package)


@job("notify.prune", Slot)
async def prune(_: Slot, work: Work) -> dict[str, Any]:
    """Forget what people and webhooks were told long ago, and count as read what is told of tasks overdue no more.

    Before a mail the latter is done for its reader; this is for those who are not mailed.
    """
    async with work.write() as session:
        await settle_overdue(session)
        await session.commit()
    gone = 0
    while True:
        async with work.write() as session:
            found = await session.execute(
                "delete from notify.notification where id in "
                "(select id from notify.notification where created_at < %s order by created_at limit %s)",
                (session.now - KEPT, _BATCH),
            )
            await session.commit()
        gone += found
        if found < _BATCH:
            return {"notifications": gone, "deliveries": await _prune_deliveries(work)}


async def _prune_deliveries(work: Work) -> int:
    """Forget what webhooks were told long ago, but for what is still being delivered."""
    gone = 0
    while True:
        async with work.write() as session:
            found = await session.execute(
                "delete from webhook.delivery where id in ("
                "select d.id from webhook.delivery d where d.created_at < %s and not exists ("
                "select from jobs.job j where j.id = d.job_id and d.status = 'pending' "
                "and j.status in ('queued', 'running', 'waiting')) order by d.created_at limit %s)",
                (session.now - timedelta(days=work.settings.webhook_keep_days), _BATCH),
            )
            await session.commit()
        gone += found
        if found < _BATCH:
            return gone
