"""Invitations: somebody who is to come, and what they are to be.

An invitation is proposed as what it comes to: the person, judged as a new person is, and the roles in each project,
judged there as a new membership is, each by an approval of its own. Nobody invites to more than they could grant.
Once the person's part is agreed, a link goes to the address; who opens it chooses a password, and is somebody here from
then on, with the name, the rights and the roles that were agreed. Roles that are agreed later are theirs at that
moment. It is good for as long as whoever invited may still invite, and never longer than LONGEST_DAYS.

The link holds a token that is kept nowhere, in no form: it is a code, under a key of the instance, over the invitation
and how often it was sent. So the database alone gives nobody a token, and sending it again makes the one before void.
"""

from __future__ import annotations

import base64
import hmac
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import sqlalchemy as sa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field

from pmis.approval.errors import AlreadyExistsError, BadReferenceError
from pmis.approval.governed import Noun, Proposed
from pmis.approval.propose import promise_changes
from pmis.identity.noun import MEMBERSHIPS, PEOPLE
from pmis.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnauthenticatedError
from pmis.kit.ids import uuid7
from pmis.kit.listing import state_table
from pmis.ledger.event import Actor, Event, Fact, Origin
from pmis.ledger.outbox import promise
from pmis.ledger.projection import Entity, UnknownEventError
from pmis.ledger.store import append

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Row, Session, WriteSession
    from pmis.ledger.event import Source
    from pmis.ledger.vault import Vault

Status = Literal["open", "accepted", "revoked", "expired"]
PREFIX: Final = "pmisi_"
SENT: Final = "invitation.sent"
CLOCK: Final = Actor("system:expiry", "Expiry")
LONGEST_DAYS: Final = 90
"""For how long an invitation is open at most, however often it is sent again."""
_PROOF_BYTES: Final = 32
_ID_BYTES: Final = 16


class InvitationNotGoodError(UnauthenticatedError):
    """The token of no open invitation: one answer for all of them, so that it tells nothing."""

    code = "invitation_not_good"
    title = "This invitation is not good"

    def __init__(self) -> None:
        """Say what may be the matter."""
        super().__init__(
            "This invitation was accepted, sent again since, taken back, or is past its time. Ask whoever invited you "
            "for another, or sign in if you have accepted it."
        )


class InvitationOverError(ConflictError):
    """The invitation was accepted, taken back, or has expired."""

    code = "invitation_over"
    title = "This invitation is over"


class Invitation(Entity):
    """What somebody is to be: in no project the person and their rights on the instance, in a project their roles."""

    person_id: UUID
    name: str
    invited_address: str | None = None
    instance_admin: bool = False
    instance_auditor: bool = False
    roles: list[str] = Field(default=[])
    days: int = 1
    inviter: UUID
    inviter_name: str
    status: Status = "open"
    serial: int = 1
    """How often it was sent: only the last token is good."""
    expires_at: datetime | None = None


INVITATION_TABLE = state_table(
    "invitation",
    sa.Column("person_id", sa.Uuid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
)
_ENDS: Final = frozenset({"sent", "accepted", "revoked", "expired"})


class InvitationNoun(Noun[Invitation]):
    """Invitations on the governed path. They are proposed at their own endpoint alone, which gives them their ids."""

    stream_type = "invitation"
    label = "invitation"
    model = Invitation
    columns = ("person_id", "status", "expires_at")
    create_input = Proposed
    patch_input = Proposed
    operations = frozenset()
    secret_fields = frozenset({"invited_address"})

    def judged_as(self, project_id: UUID | None) -> str:
        """A new person, or in a project a new membership."""
        return "person" if project_id is None else "membership"

    def validated(self, operation: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Raise InvalidInputError: what somebody is invited to is not changed on the way."""
        del operation, patch
        raise InvalidInputError("An invitation is not changed. Withdraw it, and send another.")

    async def seal(self, session: WriteSession, vault: Vault, target: UUID, patch: dict[str, Any]) -> dict[str, Any]:
        """The patch with the address in the vault, under the key of the person who is to come.

        Raises AlreadyExistsError for the address of somebody who is here, or is invited.
        """
        del target
        if "email" not in patch:
            return patch
        email = patch["email"]
        await _require_free(session, email)
        rest = {name: value for name, value in patch.items() if name != "email"}
        return {**rest, "invited_address": await vault.seal(session, UUID(patch["person_id"]), email)}

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The fields, with who invites."""
        principal = situation.principal
        fields = super().first_fields(change, situation)
        return {**fields, "inviter": str(principal.person_id), "inviter_name": principal.name}

    def own_facts(
        self, entity: Invitation | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """What the policy would judge of the person, or of the membership."""
        del entity, situation
        if change.project_id is not None:
            fields = frozenset({"person_id", "roles"})
        else:
            fields = frozenset({"name", "credential", *(right for right in _RIGHTS if change.patch.get(right))})
        return {"target_type": self.judged_as(change.project_id), "fields": fields, "first_set": fields}

    async def check_references(
        self, session: Session, change: Change, entity: Invitation | None, situation: Situation
    ) -> None:
        """For roles: the invitation is not over, and the person, if they have come, has none in the project."""
        del entity, situation
        if change.project_id is None:
            return
        person = UUID(change.patch["person_id"])
        # Whoever accepts at this moment sees these roles, or is seen here.
        await _alone(session, person)
        row = await session.one(
            "select status from state.invitation where person_id = %s and project_id is null", (person,)
        )
        if row is not None and row[0] in ("revoked", "expired"):
            raise BadReferenceError(f"The invitation was {row[0]}.", field="person_id")
        if await session.one(
            "select 1 from state.membership where project_id = %s and person_id = %s", (change.project_id, person)
        ):
            raise AlreadyExistsError(
                "person_id: this person has a membership by now; change its roles instead.", field="person_id"
            )

    async def numbered(self, session: WriteSession, fact: Fact, project: Mapping[str, Any] | None) -> Fact:
        """The fact with the end of the link's time, which begins when it is agreed."""
        fields = fact.payload["fields"]
        if project is not None:
            return fact
        ends = session.now + timedelta(days=fields["days"])
        return Fact(fact.type, {**fact.payload, "fields": {**fields, "expires_at": ends.isoformat()}})

    async def applied(self, session: WriteSession, vault: Vault, entity: Invitation, origin: Origin) -> list[Event]:
        """Send the link; give the roles to somebody who has come already."""
        if entity.project_id is not None:
            here = await session.one("select 1 from state.person where id = %s", (entity.person_id,))
            return _granted(session, entity, origin) if here else []
        email = await _address(session, vault, entity)
        if email is None:
            raise ConflictError("The address of this invitation was erased.")
        await _require_free(session, email)
        await session.execute("insert into identity.invited (invitation_id, email) values (%s, %s)", (entity.id, email))
        row = await session.one(
            "select id from ledger.event where stream_id = %s and stream_version = %s", (entity.id, entity.version)
        )
        if row is not None:
            _promise(session, entity, row[0])
        return []

    def change(self, entity: Invitation, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """It is sent again, or over."""
        del entity
        if event.verb not in _ENDS:
            message = f"{event.type} is not an event of an {self.stream_type} that exists"
            raise UnknownEventError(message)
        return {name: change["to"] for name, change in payload["changes"].items()}


INVITATIONS: Final = InvitationNoun()
_RIGHTS: Final = ("instance_admin", "instance_auditor")
_LISTED: Final = (
    "select i.id, i.doc, (select json_agg(json_build_object('project_id', r.project_id, "
    "'roles', r.doc::json -> 'roles', 'status', r.status) order by r.id)::text from state.invitation r "
    "where r.person_id = i.person_id and r.project_id = any(%(projects)s)) "
    "from state.invitation i where i.project_id is null "
)
_MAY_INVITE: Final = "select 1 from state.person where active and instance_admin and id"
_OVER: Final = (
    "select i.doc from state.invitation i where i.status = 'open' and i.project_id is null "  # noqa: S608 - a constant
    f"and (i.expires_at <= %s or not exists ({_MAY_INVITE} = (i.doc::jsonb ->> 'inviter')::uuid)) "
    "order by i.id limit %s for update of i skip locked"
)
_ORPHANS: Final = """
select i.doc from state.invitation i
where i.status = 'open' and i.project_id is not null
  and not exists (select from state.invitation head where head.person_id = i.person_id and head.project_id is null)
  and not exists (
    select from state.approval a where a.status in ('pending', 'confirmation_required') and a.project_id is null
      and a.target_type = 'invitation'
      and a.doc::jsonb -> 'changes' -> 0 -> 'patch' ->> 'person_id' = i.person_id::text)
order by i.id limit %s for update of i skip locked
"""
"""Roles that were agreed for somebody who never was."""

_FIND: Final = "select doc from state.invitation where id = %s and project_id is null"
_FIND_LOCKED: Final = "select doc from state.invitation where id = %s and project_id is null for update"


class Secrets:
    """Makes the tokens of links, and knows them again."""

    def __init__(self, secret: str) -> None:
        """Derive the key from the instance's secret."""
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis invitations v1").derive(secret.encode())

    def token(self, invitation: UUID, serial: int) -> str:
        """What the link holds that was sent the so-manieth time."""
        return PREFIX + base64.urlsafe_b64encode(invitation.bytes + self._proof(invitation, serial)).decode()

    def link(self, base: str, invitation: Invitation) -> str:
        """Where the invitation is accepted. What follows the # is sent to no server and stands in none of its logs."""
        return f"{base}/invitation#{self.token(invitation.id, invitation.serial)}"

    def fits(self, token: str, invitation: Invitation) -> bool:
        """Whether it is the last token of this invitation."""
        return hmac.compare_digest(token.encode(), self.token(invitation.id, invitation.serial).encode())

    def _proof(self, invitation: UUID, serial: int) -> bytes:
        return hmac.digest(self._key, invitation.bytes + serial.to_bytes(8), "sha256")


def named_in(token: str) -> UUID:
    """The invitation that a token names; raises InvitationNotGoodError for a text that is no token."""
    try:
        raw = base64.b64decode(token.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if not token.startswith(PREFIX) or len(raw) != _ID_BYTES + _PROOF_BYTES:
        raise InvitationNotGoodError
    return UUID(bytes=raw[:_ID_BYTES])


async def _alone(session: Session, person: UUID) -> None:
    """One end of somebody's invitation, and one agreement to roles in it, after the other."""
    await session.one("select pg_advisory_xact_lock(hashtextextended('pmis invitation ' || %s, 0))", (str(person),))


async def _require_free(session: Session, email: str) -> None:
    if await session.one("select 1 from identity.credential where lower(email) = lower(%s)", (email,)):
        raise AlreadyExistsError(
            f"email: {email} belongs to a person who is here. Grant them roles instead.", field="email"
        )
    if await session.one("select 1 from identity.invited where lower(email) = lower(%s)", (email,)):
        raise AlreadyExistsError(
            f"email: an invitation to {email} is open. Send it again, or revoke it.", field="email"
        )


async def _address(session: Session, vault: Vault, invitation: Invitation) -> str | None:
    """Where it goes; None once it was erased."""
    if invitation.invited_address is None:
        return None
    return (await vault.open(session, [invitation.invited_address]))[invitation.invited_address]


def _promise(session: WriteSession, invitation: Invitation, event: UUID) -> None:
    promise(
        session,
        SENT,
        key=f"{SENT}:{invitation.id}:{invitation.serial}",
        event_id=event,
        payload={"invitation_id": str(invitation.id), "serial": invitation.serial},
    )


def _append(
    session: WriteSession, before: Invitation, verb: str, after: Mapping[str, Any], origin: Origin
) -> tuple[Invitation, Event]:
    fact = Fact(f"invitation.{verb}", {"changes": INVITATIONS.diff(before.plain, after)})
    entity, events = append(
        session, INVITATIONS, before, [fact], origin=origin, stream_id=before.id, project_id=before.project_id
    )
    return entity, events[0]


def _granted(session: WriteSession, part: Invitation, origin: Origin) -> list[Event]:
    """Give the roles that were agreed to the person, who is here."""
    fields = {"person_id": str(part.person_id), "roles": part.roles}
    fact = Fact("membership.created", {"fields": fields, "governance": _governance(part)})
    _, events = append(session, MEMBERSHIPS, None, [fact], origin=origin, stream_id=uuid7(), project_id=part.project_id)
    return [*events, _append(session, part, "accepted", {"status": "accepted"}, origin)[1]]


def _governance(invitation: Invitation) -> dict[str, Any]:
    """What lets somebody who accepts be what they become: the invitation, whose own event names its approval."""
    return {"route": "INVITATION", "rule": "invitation.accepted", "invitation_id": str(invitation.id)}


async def _parts(session: WriteSession, head: Invitation) -> list[Invitation]:
    """The roles that were agreed and not given yet; no more are agreed until this transaction ends."""
    await _alone(session, head.person_id)
    rows = await session.all(
        "select doc from state.invitation where person_id = %s and project_id is not null and status = 'open' "
        "order by id for update",
        (head.person_id,),
    )
    return [Invitation.model_validate_json(doc) for (doc,) in rows]


async def find(session: Session, identity: UUID | None, *, lock: bool = False) -> Invitation:
    """The invitation of this id; raises NotFoundError."""
    row = await session.one(_FIND_LOCKED if lock else _FIND, (identity,))
    if row is None:
        raise NotFoundError("There is no such invitation.")
    return Invitation.model_validate_json(row[0])


async def listed(
    session: Session,
    projects: Sequence[UUID],
    *,
    status: str | None = None,
    only: UUID | None = None,
    after: UUID | None = None,
    limit: int = 1,
) -> list[Row]:
    """Invitations with their roles in these projects, the newest first: id, document, roles as JSON."""
    return await session.all(
        f"{_LISTED} and (%(only)s::uuid is null or i.id = %(only)s) "
        "and (%(status)s::text is null or i.status = %(status)s) "
        "and (%(after)s::uuid is null or i.id < %(after)s) order by i.id desc limit %(limit)s",
        {"projects": list(projects), "only": only, "status": status, "after": after, "limit": limit},
    )


async def good(session: Session, secrets: Secrets, token: str, *, now: datetime, lock: bool = False) -> Invitation:
    """The open invitation whose last token this is; raises InvitationNotGoodError."""
    try:
        head = await find(session, named_in(token), lock=lock)
    except NotFoundError:
        raise InvitationNotGoodError from None
    # What it is worth shows to nobody who does not hold the token.
    fits = secrets.fits(token, head)
    if not fits or head.status != "open" or head.expires_at is None or now >= head.expires_at:
        raise InvitationNotGoodError
    if not await is_backed(session, head):
        raise InvitationNotGoodError
    return head


async def is_backed(session: Session, head: Invitation) -> bool:
    """Whether whoever invited may still invite."""
    return await session.one(f"{_MAY_INVITE} = %s", (head.inviter,)) is not None


async def send_again(
    session: WriteSession, identity: UUID | None, *, longest_days: int, by: UUID | None = None, origin: Origin
) -> Invitation:
    """Send an open invitation again, with a time that begins anew, of `longest_days` at most; the token before is void.

    With `by` only that inviter may. Raises NotFoundError, ForbiddenError or InvitationOverError.
    """
    head = await find(session, identity, lock=True)
    _require_open(head)
    if head.expires_at is not None and head.expires_at <= session.now:
        raise InvitationOverError("This invitation has expired.", invitation_status="expired")
    if by is not None and head.inviter != by:
        raise ForbiddenError(
            f"Without a mail server the link is in the answer, so only {head.inviter_name}, who invited, has it made "
            "again. Revoke the invitation, and invite them yourself."
        )
    ends = min(
        session.now + timedelta(days=min(head.days, longest_days)), head.created_at + timedelta(days=LONGEST_DAYS)
    )
    if not await is_backed(session, head):
        raise InvitationOverError(
            f"{head.inviter_name}, who invited, may no longer invite. Revoke this invitation, and invite them anew.",
            invitation_status=head.status,
        )
    after = {"serial": head.serial + 1, "expires_at": ends.isoformat()}
    entity, event = _append(session, head, "sent", after, origin)
    _promise(session, entity, event.id)
    return entity


async def revoke(session: WriteSession, identity: UUID | None, *, origin: Origin) -> Invitation:
    """Take an open invitation back, with all of its roles; raises NotFoundError or InvitationOverError."""
    head = await find(session, identity, lock=True)
    _require_open(head)
    return await _end(session, head, "revoked", origin)


def _require_open(head: Invitation) -> None:
    if head.status != "open":
        raise InvitationOverError(f"This invitation was {head.status}.", invitation_status=head.status)


async def _end(session: WriteSession, head: Invitation, verb: Status, origin: Origin) -> Invitation:
    for part in await _parts(session, head):
        _append(session, part, verb, {"status": verb}, origin)
    await session.execute("delete from identity.invited where invitation_id = %s", (head.id,))
    return _append(session, head, verb, {"status": verb}, origin)[0]


async def expire_due(session: WriteSession, *, limit: int = 500) -> int:
    """End up to `limit` invitations whose time has run out, or whose inviter may invite no more; says how many.

    Roles of somebody to whom nobody agreed in the end are among them. Those being accepted now are left.
    """
    rows = await session.all(_OVER, (session.now, limit))
    for (doc,) in rows:
        head = Invitation.model_validate_json(doc)
        late = head.expires_at is not None and head.expires_at <= session.now
        await _end(session, head, "expired" if late else "revoked", Origin(CLOCK, "system", f"expiry-{head.id}"))
    orphans = await session.all(_ORPHANS, (limit,))
    for (doc,) in orphans:
        part = Invitation.model_validate_json(doc)
        _append(session, part, "expired", {"status": "expired"}, Origin(CLOCK, "system", f"expiry-{part.id}"))
    return len(rows) + len(orphans)


async def accept(
    session: WriteSession,
    vault: Vault,
    secrets: Secrets,
    token: str,
    *,
    password_hash: str,
    source: Source,
    correlation_id: str,
) -> tuple[UUID, str, str]:
    """Make the person, exactly as was agreed (name, rights, roles), once: their id, name and address.

    Raises InvitationNotGoodError; AlreadyExistsError when somebody got the address in the meantime.
    """
    head = await good(session, secrets, token, now=session.now, lock=True)
    email = await _address(session, vault, head)
    if email is None:
        raise InvitationNotGoodError
    if await session.one("select 1 from identity.credential where lower(email) = lower(%s)", (email,)):
        raise AlreadyExistsError("This address signs somebody in already. Sign in, or ask whoever invited you.")
    origin = Origin(Actor(f"person:{head.person_id}", head.name), source, correlation_id)
    credential = await vault.seal(session, head.person_id, {"email": email, "password_hash": password_hash})
    fields = {
        "name": head.name,
        "active": True,
        **{right: getattr(head, right) for right in _RIGHTS},
        "credential": credential,
    }
    fact = Fact("person.created", {"fields": fields, "governance": _governance(head)})
    person, events = append(session, PEOPLE, None, [fact], origin=origin, stream_id=head.person_id, project_id=None)
    events += await PEOPLE.applied(session, vault, person, origin)
    for part in await _parts(session, head):
        events += _granted(session, part, origin)
    events.append(_append(session, head, "accepted", {"status": "accepted"}, origin)[1])
    await session.execute("delete from identity.invited where invitation_id = %s", (head.id,))
    promise_changes(session, events)
    return head.person_id, head.name, email
