"""Sessions: one for each sign-in, with its family of refresh tokens, and what the log says of it.

A refresh token is 256 random bits, good for one use, and kept as a digest. Its use gives the next of its family. When a
used one comes again, either the answer to its use was lost, or somebody else has it: within a few seconds, from the
client that used it, the very same successor is given again; otherwise the whole session ends. The successor is kept
sealed under a key derived from the used token, so the database alone gives nobody a token.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pmis.identity.watch import Remembered, Watch
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.outbox import promise
from pmis.ledger.store import record

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Database, Row, Session, WriteSession
    from pmis.kit.settings import Settings
    from pmis.ledger.event import Source
    from pmis.policy.access import Principal

Kind = Literal["bearer", "cookie"]
GRACE: Final = timedelta(seconds=10)
"""How long after its use a refresh token gives its successor once more to the client that used it."""
PREFIX: Final = "pmisr_"
COOKIE_PREFIX: Final = "pmisb_"
_COOKIE: Final = re.compile(COOKIE_PREFIX + r"[A-Za-z0-9_-]{43}")
_TOKEN: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
_NONCE_BYTES: Final = 12
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
MAX_CLIENT: Final = 120
SIGN_IN: Final = Actor("system:sign-in", "Sign-in")
"""Who is named in the log for what happened before anybody was known."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions last."""

    session: timedelta
    refresh: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Lifetimes:
        """As the settings say."""
        return cls(timedelta(days=settings.session_days), timedelta(days=settings.refresh_token_days))


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the program that asks: what it calls itself, and a digest of that and its address."""

    label: str
    digest: bytes

    @classmethod
    def of(cls, user_agent: str, address: str) -> Client:
        """The client behind a request."""
        digest = hashlib.sha256(f"{address}\n{user_agent}".encode()).digest()
        return cls(_UNPRINTABLE.sub(" ", user_agent).strip()[:MAX_CLIENT], digest)


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a request has to know of its session."""

    id: UUID
    person_id: UUID
    kind: Kind
    authenticated_at: datetime
    expires_at: datetime
    is_open: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """A session, and the refresh token that goes on from here."""

    session_id: UUID
    person_id: UUID
    refresh_token: str
    refresh_expires_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Browsing:
    """A session in a browser, and the value of its cookie."""

    session_id: UUID
    cookie: str
    expires_at: datetime


class RefreshReusedError(UnauthenticatedError):
    """A refresh token that had been used came again; the session has ended for everybody who holds it."""

    code = "refresh_reused"
    title = "This sign-in was ended"


class WrongPasswordError(ForbiddenError):
    """Whoever is signed in does not know the password."""

    code = "wrong_password"
    title = "The current password is wrong"


def digest_of(token: str) -> bytes:
    """What is kept of a token: it holds 256 random bits, so no salt and no slow hash is needed."""
    return hashlib.sha256(token.encode()).digest()


class ChangedMeanwhileError(UnauthenticatedError):
    """What somebody proved who they are with was changed while it was looked at."""

    code = "changed_meanwhile"
    title = "Sign in again"


async def hold_person(session: WriteSession, person_id: UUID | None) -> None:
    """Let nobody disable the person before this transaction ends; who does so now is waited for."""
    await session.one("select 1 from state.person where id = %s for share", (person_id,))


async def require_unchanged(session: WriteSession, principal: Principal, encoded: str, *, second_factor: bool) -> None:
    """Return when the hash that fitted is still the person's, and they are active and have proved all they have to.

    Whoever changes one of these ends the sessions that there are, and waits for this transaction or is waited for: so
    either the session that it begins is ended too, or it does not begin. Raises ChangedMeanwhileError.
    """
    await hold_person(session, principal.person_id)
    await session.one("select 1 from identity.credential where person_id = %s for share", (principal.person_id,))
    # A statement of its own, begun after the locks were given: what they were waited for is seen.
    row = await session.one(
        "select c.password_hash, p.active, exists (select from identity.second_factor f "
        "where f.person_id = c.person_id and f.confirmed_at is not null) "
        "from identity.credential c join state.person p on p.id = c.person_id where c.person_id = %s",
        (principal.person_id,),
    )
    if row is None or row[0] != encoded or not row[1] or row[2] != second_factor:
        raise ChangedMeanwhileError("Your account was changed at this moment. Sign in again.")


async def require_going_on(session: WriteSession, identity: UUID) -> None:
    """Return when the session has not ended, nor will before this is committed; raises ChangedMeanwhileError."""
    row = await session.one("select 1 from identity.session where id = %s and ended_at is null for share", (identity,))
    if row is None:
        raise ChangedMeanwhileError("Your account was changed at this moment. Sign in again.")


def begin(
    session: WriteSession, principal: Principal, *, client: Client, now: datetime, lifetimes: Lifetimes, origin: Origin
) -> Granted:
    """Begin a session of somebody who has proved who they are; `session.started` is the first fact of its stream."""
    identity, token = uuid7(), _new_token()
    person = principal.person_id
    if person is None:
        raise UnauthenticatedError("Only a person signs in.")
    expires = now + lifetimes.session
    session.defer(
        "insert into identity.session (id, person_id, kind, client, started_at, last_used_at, authenticated_at, "
        "expires_at) values (%s, %s, 'bearer', %s, %s, %s, %s, %s)",
        (identity, person, client.label, now, now, now, expires),
    )
    session.defer(
        "insert into identity.refresh_token (digest, session_id, issued_at) values (%s, %s, %s)",
        (digest_of(token), identity, now),
    )
    fact = Fact("session.started", {"person_id": str(person), "kind": "bearer", "client": client.label})
    record(session, "session", identity, fact, origin=origin, project_id=None)
    return Granted(identity, person, token, min(now + lifetimes.refresh, expires), expires)


async def refresh(
    session: WriteSession,
    token: str,
    *,
    client: Client,
    now: datetime,
    lifetimes: Lifetimes,
    source: Source,
    correlation_id: str,
) -> Granted | UnauthenticatedError:
    """The successor of a refresh token; a refusal is returned, as what it wrote is to be committed."""
    refused = UnauthenticatedError("The refresh token is not good, or not any more. Sign in again.")
    if not _TOKEN.fullmatch(token):
        return refused
    digest = digest_of(token)
    # The session is locked first, and the token read after it: of two that come at once the second sees what the first
    # has made of it.
    row = await session.one(
        "select id, person_id, version, expires_at, ended_at from identity.session "
        "where id = (select session_id from identity.refresh_token where digest = %s) for update",
        (digest,),
    )
    if row is None or row[4] is not None:
        return refused
    identity, person, version, expires, _ = row
    known = await session.one(
        "select issued_at, used_at, used_by, successor from identity.refresh_token where digest = %s", (digest,)
    )
    if known is None:
        return refused
    issued, used_at, used_by, sealed = known
    name = await session.one("select name, active from state.person where id = %s", (person,))
    if name is None or not name[1]:
        return refused
    origin = Origin(Actor(f"person:{person}", name[0]), source, correlation_id)
    if used_at is not None:
        if now - used_at <= GRACE and bytes(used_by) == client.digest:
            return Granted(
                identity, person, _unseal(token, bytes(sealed)), min(used_at + lifetimes.refresh, expires), expires
            )
        return _end_reused(session, identity, version, person, now, origin)
    if now >= min(issued + lifetimes.refresh, expires):
        _end(session, identity, version + 1, person, "expired", now, origin)
        return refused
    successor = _new_token()
    session.defer(
        "update identity.refresh_token set used_at = %s, used_by = %s, successor = %s where digest = %s",
        (now, client.digest, _seal(token, successor), digest),
    )
    session.defer(
        "insert into identity.refresh_token (digest, session_id, issued_at) values (%s, %s, %s)",
        (digest_of(successor), identity, now),
    )
    session.defer("update identity.session set last_used_at = %s where id = %s", (now, identity))
    return Granted(identity, person, successor, min(now + lifetimes.refresh, expires), expires)


def _end_reused(
    session: WriteSession, identity: UUID, version: int, person: UUID, now: datetime, origin: Origin
) -> RefreshReusedError:
    told = {"person_id": str(person)}
    event = record(
        session,
        "session",
        identity,
        Fact("refresh.reused", told),
        origin=Origin(SIGN_IN, origin.source, origin.correlation_id),
        project_id=None,
        version=version + 1,
    )
    promise(
        session,
        "refresh.reused",
        key=f"refresh.reused:{identity}",
        event_id=event.id,
        payload={"person_id": str(person), "session_id": str(identity)},
    )
    _end(session, identity, version + 2, person, "refresh_reused", now, origin)
    return RefreshReusedError(
        "This refresh token was used before, so somebody else may have it. The sign-in was ended; sign in again."
    )


def _end(
    session: WriteSession, identity: UUID, version: int, person: UUID, why: str, now: datetime, origin: Origin
) -> None:
    session.defer(
        "update identity.session set ended_at = %s, ended_because = %s, version = %s where id = %s",
        (now, why, version, identity),
    )
    fact = Fact("session.ended", {"person_id": str(person), "because": why})
    record(session, "session", identity, fact, origin=origin, project_id=None, version=version)


async def end_one(
    session: WriteSession, session_id: UUID, person_id: UUID, *, why: str, now: datetime, origin: Origin
) -> None:
    """End one of somebody's sessions; raises NotFoundError for one that is not theirs or has ended."""
    row = await session.one(
        "select version from identity.session where id = %s and person_id = %s and ended_at is null "
        "and expires_at > %s for update",
        (session_id, person_id, now),
    )
    if row is None:
        raise NotFoundError("There is no such session.")
    _end(session, session_id, row[0] + 1, person_id, why, now, origin)


async def prove_again(
    session: WriteSession, session_id: UUID, person_id: UUID, *, now: datetime, origin: Origin
) -> str | None:
    """Note in a session that the person proved again who they are; a browser's gets another cookie, which is answered.

    Raises NotFoundError for a session that is not theirs or has ended.
    """
    row = await session.one(
        "select version, kind from identity.session where id = %s and person_id = %s and ended_at is null "
        "and expires_at > %s for update",
        (session_id, person_id, now),
    )
    if row is None:
        raise NotFoundError("There is no such session.")
    version, kind = row[0] + 1, row[1]
    cookie = COOKIE_PREFIX + secrets.token_urlsafe(32) if kind == "cookie" else None
    session.defer(
        "update identity.session set authenticated_at = %s, version = %s, cookie = coalesce(%s, cookie) where id = %s",
        (now, version, digest_of(cookie) if cookie else None, session_id),
    )
    fact = Fact("session.reauthenticated", {"person_id": str(person_id)})
    record(session, "session", session_id, fact, origin=origin, project_id=None, version=version)
    return cookie


async def proved_at(session: Session, session_id: UUID) -> datetime | None:
    """When the person proved last, in an open session, who they are."""
    row = await session.one(
        "select authenticated_at from identity.session where id = %s and ended_at is null", (session_id,)
    )
    return row[0] if row else None


async def end_all(
    session: WriteSession, person_id: UUID, *, why: str, now: datetime, origin: Origin, but: UUID | None = None
) -> int:
    """End every session of somebody, `but` one; says how many."""
    rows = await session.all(
        "select id, version from identity.session where person_id = %s and ended_at is null "
        "and (%s::uuid is null or id <> %s) order by id for update",
        (person_id, but, but),
    )
    for identity, version in rows:
        _end(session, identity, version + 1, person_id, why, now, origin)
    return len(rows)


_LISTED: Final = (
    "select id, kind, client, started_at, last_used_at, authenticated_at, expires_at from identity.session "
    "where person_id = %(person)s and ended_at is null and expires_at > %(now)s "
    "and (%(after)s::uuid is null or id < %(after)s) order by id desc limit %(limit)s"
)


async def open_sessions(
    session: Session, person_id: UUID, *, now: datetime, after: UUID | None, limit: int
) -> list[Row]:
    """Somebody's open sessions, the newest first, that are older than one of them."""
    return await session.all(_LISTED, {"person": person_id, "now": now, "after": after, "limit": limit})


async def prune(
    session: WriteSession, *, now: datetime, lifetimes: Lifetimes, keep: timedelta = timedelta(days=30)
) -> int:
    """Forget sessions that ended long ago, used refresh tokens that are past their time, and spent attempts.

    What happened stays in the log. Says how many sessions were forgotten.
    """
    await session.execute("delete from identity.throttle where due_at < clock_timestamp()")
    await session.execute("delete from identity.ended_flow where expires_at < %s", (now,))
    await session.execute("delete from identity.refresh_token where used_at < %s", (now - lifetimes.refresh,))
    return await session.execute(
        "delete from identity.session where coalesce(ended_at, expires_at) < %s", (now - keep,)
    )


def begin_in_browser(
    session: WriteSession, principal: Principal, *, client: Client, now: datetime, lifetimes: Lifetimes, origin: Origin
) -> Browsing:
    """Begin a session that a cookie stands for: an id of 256 random bits, always a new one, kept as a digest."""
    identity, cookie = uuid7(), COOKIE_PREFIX + secrets.token_urlsafe(32)
    person = principal.person_id
    if person is None:
        raise UnauthenticatedError("Only a person signs in.")
    expires = now + min(lifetimes.refresh, lifetimes.session)
    session.defer(
        "insert into identity.session (id, person_id, kind, client, cookie, started_at, last_used_at, "
        "authenticated_at, expires_at) values (%s, %s, 'cookie', %s, %s, %s, %s, %s, %s)",
        (identity, person, client.label, digest_of(cookie), now, now, now, expires),
    )
    fact = Fact("session.started", {"person_id": str(person), "kind": "cookie", "client": client.label})
    record(session, "session", identity, fact, origin=origin, project_id=None)
    return Browsing(identity, cookie, expires)


_BY_ID: Final = (
    "select id, person_id, kind, authenticated_at, expires_at, ended_at is null from identity.session where id = %s"
)
_BY_COOKIE: Final = _BY_ID.replace("where id", "where cookie")


class Sessions:
    """What this process remembers of sessions; see `watch`."""

    def __init__(self, database: Database, watch: Watch) -> None:
        """Nothing is read yet."""
        self._database = database
        self._watch = watch
        self._known: Remembered[SessionState] = Remembered(watch)

    async def require(self, session_id: UUID, person_id: UUID, now: datetime) -> SessionState:
        """The person's session; raises UnauthenticatedError for one that has ended, or is somebody else's."""
        state = await self._state(_BY_ID, session_id)
        if state is None or state.person_id != person_id or not state.is_open or now >= state.expires_at:
            raise UnauthenticatedError("This sign-in has ended. Sign in again.")
        return state

    async def require_cookie(self, cookie: str, now: datetime) -> SessionState:
        """The session that a cookie stands for; raises UnauthenticatedError for one that has ended or never was."""
        state = await self._state(_BY_COOKIE, digest_of(cookie)) if _COOKIE.fullmatch(cookie) else None
        if state is None or not state.is_open or now >= state.expires_at:
            raise UnauthenticatedError("This sign-in has ended. Sign in again.")
        return state

    async def _state(self, statement: str, key: UUID | bytes) -> SessionState | None:
        known = self._known.get(key)
        if known is not None:
            return known
        told = self._watch.told
        async with self._database.read(Reach.INSTANCE) as session:
            row = await session.one(statement, (key,))
        if row is None:
            return None
        state = SessionState(*row)
        self._known.put(key, state.person_id, state, told)
        return state


def _new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _sealer(token: str) -> AESGCM:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis refresh successor v1").derive(token.encode())
    return AESGCM(key)


def _seal(token: str, successor: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _sealer(token).encrypt(nonce, successor.encode(), digest_of(token))


def _unseal(token: str, sealed: bytes) -> str:
    return _sealer(token).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], digest_of(token)).decode()
