"""Whose account an identity at a provider opens: links by issuer and subject, and how one comes to be.

Only the pair of issuer and subject names somebody for good; an address may be given to somebody else one day. So a
link is made by the person, being signed in, or, for providers that are set to it, by an address which the provider has
verified, once: an account that has an identity at the provider takes no second one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pmis.kit.errors import ConflictError, ForbiddenError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import record

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Literal
    from uuid import UUID

    from pmis.identity.oidc import Flow, Identity
    from pmis.identity.providers import Provider
    from pmis.kit.db import Row, Session, WriteSession
    from pmis.ledger.event import Origin

    Because = Literal["person", "email"]

_LISTED: Final = (
    "select id, provider, linked_at, last_used_at from identity.external_identity "
    "where person_id = %(person)s and (%(after)s::uuid is null or id < %(after)s) order by id desc limit %(limit)s"
)


class IdentityNotLinkedError(ForbiddenError):
    """The provider knows the person, but no account here is theirs."""

    code = "identity_not_linked"
    title = "This identity opens no account here"


class IdentityTakenError(ConflictError):
    """The identity is linked to another account, or the account to another identity of the provider."""

    code = "identity_taken"
    title = "This identity cannot be linked"


async def spend(session: WriteSession, flow: Flow) -> bool:
    """Whether the flow ends here and now; False when it has ended before."""
    return bool(
        await session.execute(
            "insert into identity.ended_flow (digest, expires_at) values (%s, %s) on conflict do nothing",
            (flow.digest, flow.expires_at),
        )
    )


async def person_of(
    session: WriteSession, identity: Identity, provider: Provider, *, now: datetime, origin: Origin
) -> UUID:
    """Whose account it opens, linked by this very sign-in where that is allowed; raises IdentityNotLinkedError."""
    row = await session.one(
        "update identity.external_identity set last_used_at = %s where issuer = %s and subject = %s "
        "returning person_id",
        (now, identity.issuer, identity.subject),
    )
    if row is not None:
        return row[0]
    refused = IdentityNotLinkedError(
        f"No account here is linked to your identity at {provider.shown}. Sign in with your password and link it, or "
        "ask an administrator for an account."
    )
    if not provider.link_by_email:
        raise refused
    if identity.email is None or not identity.email_verified:
        raise IdentityNotLinkedError(
            f"{provider.shown} has not verified your e-mail address, so it opens no account here. Verify it there, or "
            "sign in with your password and link the identity."
        )
    found = await session.one(
        "select c.person_id from identity.credential c join state.person p on p.id = c.person_id "
        "where lower(c.email) = lower(%s) and p.active and not exists ("
        "select from identity.external_identity e where e.person_id = c.person_id and e.issuer = %s)",
        (identity.email, identity.issuer),
    )
    if found is None:
        raise refused
    await link(session, identity, found[0], provider, because="email", now=now, origin=origin)
    return found[0]


async def link(
    session: WriteSession,
    identity: Identity,
    person: UUID,
    provider: Provider,
    *,
    because: Because,
    now: datetime,
    origin: Origin,
) -> None:
    """Let the identity open the person's account from now on; raises IdentityTakenError. Linked already is fine."""
    key = uuid7()
    made = await session.execute(
        "insert into identity.external_identity (id, issuer, subject, provider, person_id, linked_at, last_used_at) "
        "values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (key, identity.issuer, identity.subject, provider.name, person, now, now),
    )
    if not made:
        same = await session.one(
            "select 1 from identity.external_identity where issuer = %s and subject = %s and person_id = %s",
            (identity.issuer, identity.subject, person),
        )
        if same is None:
            raise IdentityTakenError(
                f"The identity opens another account here, or yours is linked to another identity at {provider.shown}. "
                "Remove that link first."
            )
        return
    fact = Fact("identity.linked", {"person_id": str(person), "provider": provider.name, "because": because})
    record(session, "identity", key, fact, origin=origin, project_id=None)


async def unlink(session: WriteSession, key: UUID, person: UUID, *, origin: Origin) -> None:
    """Let the identity open the account no more; raises NotFoundError for one that is not the person's."""
    row = await session.one(
        "delete from identity.external_identity where id = %s and person_id = %s returning provider", (key, person)
    )
    if row is None:
        raise NotFoundError("There is no such identity.")
    fact = Fact("identity.unlinked", {"person_id": str(person), "provider": row[0]})
    record(session, "identity", key, fact, origin=origin, project_id=None, version=2)


async def links_of(session: Session, person: UUID, *, after: UUID | None, limit: int) -> list[Row]:
    """The identities that open somebody's account, the newest first."""
    return await session.all(_LISTED, {"person": person, "after": after, "limit": limit})
