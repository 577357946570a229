"""Roles that somebody has here because of the groups they are in at their provider.

The settings say which groups give what; that is the standing order of whoever runs the server, as what is done at the
console is, and not a proposal of the provider's: it goes around no approval that somebody else could give. It reaches
as far as it says: of a project that it names, the roles that it names, of the instance, the rights that it names.
Everything else is left as people decided it. Each change is an event whose governance says `SETTING`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pmis.approval.propose import promise_changes
from pmis.identity.models import Membership, Person
from pmis.identity.noun import MEMBERSHIPS, PEOPLE
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import append

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from pmis.identity.providers import Grant, Provider
    from pmis.kit.db import WriteSession
    from pmis.ledger.event import Event, Origin

log = logging.getLogger("pmis.identity")
RIGHTS: Final = ("instance_admin", "instance_auditor")


@dataclass(frozen=True, slots=True)
class Order:
    """What the settings say of somebody: what they are to have, of what the settings speak about."""

    roles: Mapping[str, tuple[frozenset[str], frozenset[str]]]
    """By project: the roles to have, and all that are spoken of."""
    rights: Mapping[str, bool]
    """The rights on the instance that are spoken of, and whether to have them."""


def order_of(groups: Mapping[str, Iterable[Grant]], member_of: frozenset[str]) -> Order:
    """What the settings say of a member of these groups."""
    roles: dict[str, tuple[set[str], set[str]]] = {}
    rights: dict[str, bool] = {}
    for group, grants in groups.items():
        for grant in grants:
            if grant.project is not None:
                given, spoken = roles.setdefault(grant.project, (set(), set()))
                spoken.update(grant.roles)
                given.update(grant.roles if group in member_of else ())
            for right in RIGHTS:
                if getattr(grant, right):
                    rights[right] = rights.get(right, False) or group in member_of
    return Order({key: (frozenset(given), frozenset(spoken)) for key, (given, spoken) in roles.items()}, rights)


def roles_after(held: Iterable[str], given: frozenset[str], spoken: frozenset[str]) -> list[str]:
    """The roles in a project from now on: those that the settings do not speak of stay."""
    return sorted((set(held) - spoken) | given)


async def follow(
    session: WriteSession, person: UUID, provider: Provider, member_of: frozenset[str], *, origin: Origin
) -> bool:
    """Bring somebody's roles to what their groups give them; says whether anything changed."""
    if not provider.groups:
        return False
    # Two sign-ins of one person at once: the second sees what the first has made.
    await session.one("select pg_advisory_xact_lock(hashtextextended('pmis groups ' || %s, 0))", (str(person),))
    order = order_of(provider.groups, member_of)
    events = await _rights(session, person, order.rights, provider, origin)
    for project, (given, spoken) in sorted(order.roles.items()):
        events += await _roles(session, person, project, (given, spoken), provider, origin)
    if events:
        promise_changes(session, events)
    return bool(events)


def _fact(kind: str, told: Mapping[str, Any], provider: Provider) -> Fact:
    governance = {"route": "SETTING", "rule": "signin.groups", "provider": provider.name}
    return Fact(kind, {**told, "governance": governance})


async def _rights(
    session: WriteSession, person: UUID, rights: Mapping[str, bool], provider: Provider, origin: Origin
) -> list[Event]:
    if rights:
        # Before anybody's row: of two administrators who are to lose the right at once, the second sees the first.
        await session.one("select pg_advisory_xact_lock(hashtextextended('pmis last administrator', 0))")
    row = await session.one("select doc from state.person where id = %s for update", (person,)) if rights else None
    if row is None:
        return []
    before = Person.model_validate_json(row[0])
    changes = PEOPLE.diff(before.plain, rights)
    if changes.get("instance_admin", {}).get("to") is False and not await session.one(
        "select 1 from state.person where instance_admin and active and id <> %s", (person,)
    ):
        log.warning("the last administrator of the instance stays one, whatever the groups say")
        del changes["instance_admin"]
    if not changes:
        return []
    fact = _fact("person.patched", {"changes": changes}, provider)
    return append(session, PEOPLE, before, [fact], origin=origin, stream_id=person, project_id=None)[1]


async def _roles(
    session: WriteSession,
    person: UUID,
    project: str,
    order: tuple[frozenset[str], frozenset[str]],
    provider: Provider,
    origin: Origin,
) -> list[Event]:
    found = await session.one("select id from state.project where prefix = %s or id::text = %s", (project, project))
    if found is None:
        log.warning("OIDC_PROVIDERS names the project %s, which there is not", project)
        return []
    row = await session.one(
        "select doc from state.membership where project_id = %s and person_id = %s for update", (found[0], person)
    )
    before = Membership.model_validate_json(row[0]) if row else None
    held = before.roles if before else []
    after = roles_after(held, *order)
    if after == sorted(held):
        return []
    if before is None:
        fields = {"person_id": str(person), "roles": after}
        fact = _fact("membership.created", {"fields": fields}, provider)
    else:
        fact = _fact("membership.patched", {"changes": {"roles": {"from": before.roles, "to": after}}}, provider)
    target = before.id if before else uuid7()
    return append(session, MEMBERSHIPS, before, [fact], origin=origin, stream_id=target, project_id=found[0])[1]
