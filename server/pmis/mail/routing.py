"""Where a mail belongs, and whether its sender is known there.

Where follows from what it was sent to: a reply token, a reference to a mail of ours, a package's address, or a code in
the subject, in this order, and the last three only within a project that the mail came to. Whose it is follows from the
address of an authenticated sender: a person with a role in the project, or a party of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.email.addresses import Addresses, Place
    from pmis.kit.db import Session
    from pmis.ledger.vault import Vault
    from pmis.mail.authentication import Authentication
    from pmis.mail.reading import Headers

_CODE: Final = re.compile(r"(?<![A-Za-z0-9-])[A-Z][A-Z0-9]{0,9}-[0-9]{3,9}(?![A-Za-z0-9-])")
_MAX_CODES: Final = 10
How = Literal["token", "reference", "address", "subject", "none"]
_RANK: Final[dict[How, int]] = {"token": 0, "reference": 1, "address": 2, "subject": 3, "none": 4}


@dataclass(frozen=True)
class Target:
    """A project (None is the instance's inbox), the package that the mail is about, and what says so."""

    project_id: UUID | None
    package_id: UUID | None = None
    how: How = "none"


@dataclass(frozen=True)
class Sender:
    """A person or a party whose address the mail is from, and that a mail server vouches for."""

    kind: Literal["person", "party"]
    id: UUID


def recipients_of(envelope: Sequence[str], headers: Headers) -> list[str]:
    """To whom the mail came: the envelope, or, where the transport has none, what the headers say."""
    if envelope:
        return list(envelope)
    return [one.address for one in (*headers.delivered_to, *headers.to, *headers.cc)]


async def targets_of(
    session: Session, addresses: Addresses, recipients: Sequence[str], headers: Headers
) -> list[Target]:
    """One target for each project that the mail came to; the instance's inbox when it came to none."""
    referred = addresses.referred([*headers.references, *headers.in_reply_to])
    places = [place for place in map(addresses.place_of, recipients) if place is not None]
    best: dict[UUID | None, Target] = {}
    for place in places:
        found = await _target(session, place)
        known = best.get(found.project_id)
        if known is None or _RANK[found.how] < _RANK[known.how]:
            best[found.project_id] = found
    if referred is not None:
        home = await _project_of(session, referred)
        answered = Target(home, referred, "reference")
        if home is not None and home in best and best[home].how != "token":
            best[home] = answered
        elif home is not None and set(best) <= {None}:
            best = {home: answered}
    for project, target in list(best.items()):
        if target.how == "none" and project is not None:
            best[project] = await by_subject(session, target, headers.subject)
    # A project that the mail came to makes the instance's inbox needless.
    named = [target for target in best.values() if target.project_id is not None]
    return named or [Target(None)]


async def _target(session: Session, place: Place) -> Target:
    if place.package is not None:
        project = await _project_of(session, place.package)
        return Target(project, place.package, "token") if project else Target(None)
    if place.code is not None:
        row = await session.one(
            "select project_id, id from state.package where code = %s and not deleted", (place.code,)
        )
        if row is not None:
            return Target(row[0], row[1], "address")
    if place.prefix is not None:
        row = await session.one("select id from state.project where prefix = %s", (place.prefix,))
        return Target(row[0] if row else None)
    return Target(None)


async def _project_of(session: Session, package: UUID) -> UUID | None:
    row = await session.one("select project_id from state.package where id = %s and not deleted", (package,))
    return row[0] if row else None


async def by_subject(session: Session, target: Target, subject: str) -> Target:
    """The target with the package of its project that the subject names, when it names one."""
    codes = _CODE.findall(subject)[:_MAX_CODES]
    rows = await session.all(
        "select id from state.package where project_id = %s and code = any(%s) and not deleted",
        (target.project_id, codes),
    )
    # Two codes, and nobody can tell which is meant.
    return replace(target, package_id=rows[0][0], how="subject") if len(rows) == 1 else target


async def is_ours(session: Session, place: Place) -> bool:
    """Whether the address leads anywhere, so that a mail to it is taken."""
    if place.prefix is None and place.package is None:
        return True
    return (await _target(session, place)).project_id is not None


async def sender_of(
    session: Session, vault: Vault, headers: Headers, authentication: Authentication, project: UUID | None
) -> Sender | None:
    """Who sent it, as far as that is certain. Being known is no authority: it decides who looks at the mail."""
    if project is None or not authentication.authenticated or not headers.from_is_one:
        return None
    address = headers.from_[0].address.lower()
    row = await session.one(
        "select c.person_id from identity.credential c join state.person p on p.id = c.person_id "
        "join state.membership m on m.person_id = p.id "
        "where lower(c.email) = %s and p.active and m.project_id = %s and m.roles <> '{}'",
        (address, project),
    )
    if row is not None:
        return Sender("person", row[0])
    row = await session.one(
        "select id from state.party where project_id = %s and lower(email) = %s and not deleted", (project, address)
    )
    if row is not None:
        return Sender("party", row[0])
    sealed = dict(
        await session.all(
            "select doc::jsonb ->> 'contacts', id from state.party "
            "where project_id = %s and not deleted and doc::jsonb ->> 'contacts' is not null",
            (project,),
        )
    )
    for ref, contacts in (await vault.open(session, list(sealed))).items():
        if any((one.get("email") or "").lower() == address for one in contacts or ()):
            return Sender("party", sealed[ref])
    return None
