"""API tokens: what a program shows instead of a person's sign-in.

A token is 256 random bits, kept as a digest, with an owner, a scope, an end and, when wanted, projects to which it is
confined. Whoever shows it is a service that acts for its owner: it has the roles that the owner has at that moment,
where it is let, and never does what only people do. It proposes; it does not decide, confirm, configure or export, and
it is no administrator of the instance.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from pmis.identity.sessions import digest_of
from pmis.identity.watch import Remembered, Watch
from pmis.kit.db import Reach
from pmis.kit.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import record
from pmis.policy.access import Principal

if TYPE_CHECKING:
    from collections.abc import Collection

    from pmis.kit.db import Database, Row, Session, WriteSession
    from pmis.ledger.event import Origin

Scope = Literal["read", "write"]
PREFIX: Final = "pmist_"
MAX_TOKENS: Final = 50
"""How many good tokens a person can have."""
USED: Final = timedelta(hours=1)
"""How exact `last_used_at` is: a use is written down when the one before it lies this far back."""
_TOKEN: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
_HINT_CHARACTERS: Final = len(PREFIX) + 4
_IN_PROJECT: Final = "project:"


class TokenNameTakenError(ConflictError):
    """Another good token of the same person has this name."""

    code = "token_name_taken"
    title = "You have a token of this name"


class TooManyTokensError(ConflictError):
    """A person has as many tokens as one can have."""

    code = "too_many_tokens"
    title = "You have too many tokens"


class TokenScopeError(ForbiddenError):
    """The token was made for less than this."""

    code = "token_scope"
    title = "This token does not reach so far"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What a request has to know of the token that it shows."""

    id: UUID
    person_id: UUID
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime
    last_used_at: datetime | None
    is_open: bool

    @property
    def scope(self) -> Scope:
        """Whether it only reads."""
        return "write" if "write" in self.scopes else "read"

    @property
    def projects(self) -> frozenset[UUID] | None:
        """The projects to which it is confined; None when it goes wherever its owner goes."""
        return projects_of(self.scopes)

    def principal(self, owner: Principal) -> Principal:
        """Who acts: a service for the owner as they are now, with their roles in the projects to which it is let.

        An auditor of the instance reads everywhere through a token that is confined to no project. Nobody administers
        the instance through one.
        """
        let = self.projects
        roles = owner.roles if let is None else {one: held for one, held in owner.roles.items() if one in let}
        return Principal(
            kind="service",
            id=self.id,
            name=self.name,
            on_behalf_of=owner,
            roles=roles,
            instance_auditor=owner.instance_auditor and let is None,
            confined=let is not None,
        )


def projects_of(scopes: Collection[str]) -> frozenset[UUID] | None:
    """The projects to which these scopes confine a token; None for no such limit."""
    named = [UUID(one.removeprefix(_IN_PROJECT)) for one in scopes if one.startswith(_IN_PROJECT)]
    return frozenset(named) if named else None


async def _alone(session: WriteSession, person: UUID) -> None:
    """One change of somebody's tokens after the other: two at once would not see what the other makes."""
    await session.one("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"api tokens of {person}",))


async def make(
    session: WriteSession,
    person: UUID,
    *,
    name: str,
    scope: Scope,
    projects: Collection[UUID],
    lifetime: timedelta,
    now: datetime,
    origin: Origin,
) -> tuple[UUID, str]:
    """A new token of the person: its id, and the token itself, which is never to be had again.

    Raises TokenNameTakenError or TooManyTokensError.
    """
    await _alone(session, person)
    names = await session.all(
        "select name from identity.api_token where person_id = %s and ended_at is null and expires_at > %s",
        (person, now),
    )
    if any(one.casefold() == name.casefold() for (one,) in names):
        raise TokenNameTakenError(f"name: you have a token {name!r}. Revoke it first, or choose another name.")
    if len(names) >= MAX_TOKENS:
        raise TooManyTokensError(f"You have {len(names)} tokens. Revoke those that nobody uses.")
    identity, token = uuid7(), PREFIX + secrets.token_urlsafe(32)
    scopes = ["read", *(["write"] if scope == "write" else []), *(f"{_IN_PROJECT}{one}" for one in sorted(projects))]
    expires = now + lifetime
    session.defer(
        "insert into identity.api_token (id, person_id, name, digest, hint, scopes, created_at, expires_at) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (identity, person, name, digest_of(token), token[:_HINT_CHARACTERS], scopes, now, expires),
    )
    told = {"person_id": str(person), "name": name, "scopes": scopes, "expires_at": expires.isoformat()}
    record(session, "api_token", identity, Fact("token.created", told), origin=origin, project_id=None)
    return identity, token


async def revoke(session: WriteSession, token_id: UUID, person: UUID, *, now: datetime, origin: Origin) -> None:
    """End one of somebody's tokens; raises NotFoundError for one that is not theirs or has been revoked."""
    row = await session.one(
        "select version from identity.api_token where id = %s and person_id = %s and ended_at is null for update",
        (token_id, person),
    )
    if row is None:
        raise NotFoundError("There is no such token.")
    _end(session, token_id, row[0] + 1, person, "revoked", now, origin)


async def revoke_all(session: WriteSession, person: UUID, *, why: str, now: datetime, origin: Origin) -> int:
    """End every token of somebody, also one that is just being made; says how many."""
    await _alone(session, person)
    rows = await session.all(
        "select id, version from identity.api_token where person_id = %s and ended_at is null order by id for update",
        (person,),
    )
    for identity, version in rows:
        _end(session, identity, version + 1, person, why, now, origin)
    return len(rows)


def _end(
    session: WriteSession, identity: UUID, version: int, person: UUID, why: str, now: datetime, origin: Origin
) -> None:
    session.defer(
        "update identity.api_token set ended_at = %s, ended_because = %s, version = %s where id = %s",
        (now, why, version, identity),
    )
    fact = Fact("token.revoked", {"person_id": str(person), "because": why})
    record(session, "api_token", identity, fact, origin=origin, project_id=None, version=version)


LISTED: Final = ("id", "name", "hint", "scopes", "created_at", "expires_at", "last_used_at")
SELECTED: Final = "select id, name, hint, scopes, created_at, expires_at, last_used_at from identity.api_token "


async def tokens_of(session: Session, person: UUID, *, after: UUID | None, limit: int) -> list[Row]:
    """Somebody's tokens that were not revoked, the newest first; for a while also those whose end has come."""
    return await session.all(
        SELECTED + "where person_id = %(person)s and ended_at is null "
        "and (%(after)s::uuid is null or id < %(after)s) order by id desc limit %(limit)s",
        {"person": person, "after": after, "limit": limit},
    )


async def prune(session: WriteSession, *, now: datetime, keep: timedelta = timedelta(days=30)) -> int:
    """Forget tokens that ended long ago; what happened stays in the log. Says how many."""
    return await session.execute(
        "delete from identity.api_token where coalesce(ended_at, expires_at) < %s", (now - keep,)
    )


class ApiTokens:
    """What this process remembers of tokens; see `watch`."""

    def __init__(self, database: Database, watch: Watch) -> None:
        """Nothing is read yet."""
        self._database = database
        self._watch = watch
        self._known: Remembered[ApiToken] = Remembered(watch)

    async def require(self, token: str, now: datetime) -> ApiToken:
        """The good token that this is; raises UnauthenticatedError for any other."""
        known = await self._read(digest_of(token)) if _TOKEN.fullmatch(token) else None
        if known is None or not known.is_open:
            raise UnauthenticatedError("This API token is not good, or was revoked.")
        if now >= known.expires_at:
            raise UnauthenticatedError(f"The API token {known.name!r} has expired. Make another.")
        return known

    async def note_use(self, token: ApiToken, digest: bytes, now: datetime) -> None:
        """Write down, now and then, that the token is in use."""
        if token.last_used_at is not None and now - token.last_used_at < USED:
            return
        told = self._watch.told
        async with self._database.write(Reach.INSTANCE) as session:
            await session.execute(
                "update identity.api_token set last_used_at = %s "
                "where id = %s and (last_used_at is null or last_used_at <= %s)",
                (now, token.id, now - USED),
            )
            await session.commit()
        self._known.put(digest, token.person_id, replace(token, last_used_at=now), told)

    async def _read(self, digest: bytes) -> ApiToken | None:
        known = self._known.get(digest)
        if known is not None:
            return known
        told = self._watch.told
        async with self._database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select id, person_id, name, scopes, expires_at, last_used_at, ended_at is null "
                "from identity.api_token where digest = %s",
                (digest,),
            )
        if row is None:
            return None
        identity, person, name, scopes, *rest = row
        state = ApiToken(identity, person, name, tuple(scopes), *rest)
        self._known.put(digest, person, state, told)
        return state
