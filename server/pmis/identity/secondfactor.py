"""The second factor: codes that an authenticator makes from a secret and the time (TOTP, RFC 6238).

The secret lies in the vault, sealed under the person's key. Each code is good once: the step of the last one that was
taken is kept, and none at or before it counts. Whoever loses the authenticator has recovery codes, each good once and
kept as a digest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pmis.kit.errors import ConflictError, ForbiddenError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import record

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Origin
    from pmis.ledger.vault import Vault

STEP_SECONDS: Final = 30
DIGITS: Final = 6
DRIFT: Final = 1
"""How many steps the authenticator's clock may be early or late."""
RECOVERY_CODES: Final = 10
_SECRET_BYTES: Final = 20
_RECOVERY_BYTES: Final = 10
_CODE: Final = re.compile(r"[0-9]{6}")
_RECOVERY: Final = re.compile(r"[a-z2-7]{16}")
_ISSUER: Final = "PMIS"


class SecondFactorOnError(ConflictError):
    """There is a second factor already."""

    code = "second_factor_on"
    title = "You have a second factor"


class WrongCodeError(ForbiddenError):
    """Whoever is signed in gave a code that is not good."""

    code = "wrong_code"
    title = "The code is not good"


def code_at(secret: bytes, step: int) -> str:
    """The code of a step (RFC 4226, section 5.3, with SHA-1 as every authenticator has it)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(now: datetime) -> int:
    """The step in which a moment lies."""
    return int(now.timestamp()) // STEP_SECONDS


def fitting_step(secret: bytes, code: str, now: datetime, last: int) -> int | None:
    """The step whose code this is, among those near now and after the last one taken; every one is compared."""
    found = None
    for step in range(step_of(now) - DRIFT, step_of(now) + DRIFT + 1):
        if hmac.compare_digest(code_at(secret, step), code) and step > last and found is None:
            found = step
    return found


def _plain(code: str) -> str:
    """The code without the blanks and dashes with which people write it."""
    return re.sub(r"[\s-]", "", code).lower()


def _digest(person: UUID, code: str) -> bytes:
    return hashlib.sha256(person.bytes + code.encode()).digest()


async def is_on(session: Session, person: UUID) -> bool:
    """Whether the person has a second factor."""
    row = await session.one(
        "select confirmed_at is not null from identity.second_factor where person_id = %s", (person,)
    )
    return row is not None and row[0]


async def standing(session: Session, person: UUID) -> tuple[datetime | None, int]:
    """Since when the person has a second factor, and how many recovery codes are left."""
    row = await session.one(
        "select confirmed_at, cardinality(array(select 1 from identity.recovery_code r "
        "where r.person_id = f.person_id and r.used_at is null)) from identity.second_factor f where person_id = %s",
        (person,),
    )
    return (row[0], row[1]) if row else (None, 0)


async def enrol(session: WriteSession, vault: Vault, person: UUID, label: str, now: datetime) -> tuple[str, str]:
    """A new secret, which counts once a code of it was given: the secret, and the address that authenticators read.

    Raises SecondFactorOnError when one counts already.
    """
    if await is_on(session, person):
        raise SecondFactorOnError("You have a second factor. Remove it before you set up another.")
    secret = secrets.token_bytes(_SECRET_BYTES)
    text = base64.b32encode(secret).decode()
    ref = await vault.seal(session, person, {"totp": text})
    changed = await session.execute(
        "insert into identity.second_factor (person_id, secret_ref, made_at) values (%(person)s, %(ref)s, %(now)s) "
        "on conflict (person_id) do update set secret_ref = excluded.secret_ref, made_at = excluded.made_at, "
        "last_step = 0 where identity.second_factor.confirmed_at is null",
        {"person": person, "ref": ref, "now": now},
    )
    if not changed:
        raise SecondFactorOnError("You have a second factor. Remove it before you set up another.")
    name = f"{quote(_ISSUER)}:{quote(label, safe='')}"
    uri = f"otpauth://totp/{name}?secret={text}&issuer={quote(_ISSUER)}&digits={DIGITS}&period={STEP_SECONDS}"
    return text, uri


async def confirm(
    session: WriteSession, vault: Vault, person: UUID, code: str, *, now: datetime, origin: Origin
) -> list[str]:
    """Let the secret count from now on, as its first code was given; answers the recovery codes, shown this once.

    Raises NotFoundError when none was begun, SecondFactorOnError when it counts already, and WrongCodeError.
    """
    # A sign-in without a code that begins now is either seen by whoever ends the sessions after this, or sees this.
    await session.one("select 1 from identity.credential where person_id = %s for update", (person,))
    row = await _locked(session, person)
    if row is None:
        raise NotFoundError("There is no second factor to confirm. Begin with POST /auth/second-factor.")
    ref, last, confirmed = row
    if confirmed is not None:
        raise SecondFactorOnError("You have a second factor already.")
    secret, plain = await _secret(session, vault, ref), _plain(code)
    step = fitting_step(secret, plain, now, last) if secret and _CODE.fullmatch(plain) else None
    if step is None:
        raise WrongCodeError(
            "The code is not the one that belongs to this secret now. Is the authenticator's clock right?"
        )
    codes = [base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    session.defer(
        "update identity.second_factor set confirmed_at = %s, last_step = %s where person_id = %s", (now, step, person)
    )
    for one in codes:
        session.defer(
            "insert into identity.recovery_code (person_id, digest) values (%s, %s)", (person, _digest(person, one))
        )
    _tell(session, "second_factor.enabled", person, origin)
    return ["-".join(one[i : i + 4] for i in range(0, len(one), 4)) for one in codes]


async def take(session: WriteSession, vault: Vault, person: UUID, code: str, *, now: datetime, origin: Origin) -> bool:
    """Whether the code is good, now; once taken it is not good again. Of two that come at once, one is.

    Without a second factor no code is.
    """
    row = await _locked(session, person)
    if row is None or row[2] is None:
        return False
    ref, last, _ = row
    plain = _plain(code)
    if _CODE.fullmatch(plain):
        secret = await _secret(session, vault, ref)
        step = fitting_step(secret, plain, now, last) if secret else None
        if step is None:
            return False
        session.defer("update identity.second_factor set last_step = %s where person_id = %s", (step, person))
        return True
    if not _RECOVERY.fullmatch(plain):
        return False
    used = await session.execute(
        "update identity.recovery_code set used_at = %s where person_id = %s and digest = %s and used_at is null",
        (now, person, _digest(person, plain)),
    )
    if used:
        _tell(session, "recovery_code.used", person, origin)
    return bool(used)


async def remove(session: WriteSession, person: UUID, *, because: str, origin: Origin) -> bool:
    """Take the second factor away, with its recovery codes; says whether there was one that counted."""
    # As `confirm` does: a sign-in that has just used it waits for this, or is waited for.
    await session.one("select 1 from identity.credential where person_id = %s for update", (person,))
    row = await _locked(session, person)
    if row is None:
        return False
    session.defer("delete from identity.second_factor where person_id = %s", (person,))
    if row[2] is not None:
        _tell(session, "second_factor.removed", person, origin, because=because)
    return row[2] is not None


async def _locked(session: WriteSession, person: UUID) -> tuple[str, int, datetime | None] | None:
    row = await session.one(
        "select secret_ref, last_step, confirmed_at from identity.second_factor where person_id = %s for update",
        (person,),
    )
    return (row[0], row[1], row[2]) if row else None


async def _secret(session: Session, vault: Vault, ref: str) -> bytes | None:
    opened = (await vault.open(session, [ref]))[ref]
    return base64.b32decode(opened["totp"]) if opened else None


def _tell(session: WriteSession, kind: str, person: UUID, origin: Origin, **more: str) -> None:
    fact = Fact(kind, {"person_id": str(person), **more})
    record(session, "second_factor", uuid7(), fact, origin=origin, project_id=None)
