"""From a person's id to a principal with roles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pmis.identity.watch import Remembered, Watch
from pmis.kit.db import Reach
from pmis.kit.errors import UnauthenticatedError
from pmis.policy.access import Principal, Role

if TYPE_CHECKING:
    from pmis.kit.db import Database, Session

_QUERY: Final = (
    "select p.name, p.active, p.instance_admin, p.instance_auditor, "
    "(select json_object_agg(project_id, roles)::text from state.membership where person_id = p.id and roles <> '{}') "
    "from state.person p where p.id = %s"
)


async def load_principal(session: Session, person_id: UUID, *, active: bool = True) -> Principal:
    """The person with the roles of this moment; raises UnauthenticatedError for one who is gone or disabled.

    Unless they must be `active`: then also somebody disabled, as they would be.
    """
    row = await session.one(_QUERY, (person_id,))
    if row is None or (active and not row[1]):
        raise UnauthenticatedError("This account is not active. Ask an administrator.")
    name, _, instance_admin, instance_auditor, memberships = row
    granted: dict[str, list[str]] = json.loads(memberships) if memberships else {}
    roles = {UUID(project): frozenset(Role(role) for role in names) for project, names in granted.items()}
    return Principal(
        kind="person",
        id=person_id,
        name=name,
        roles=roles,
        instance_admin=instance_admin,
        instance_auditor=instance_auditor,
    )


class Principals:
    """Principals of one process, so that a busy client costs one look-up a second at most, and none while all is heard.

    See `watch`.
    """

    def __init__(self, database: Database, watch: Watch) -> None:
        """Nothing is read yet."""
        self._database = database
        self._watch = watch
        self._known: Remembered[Principal] = Remembered(watch)

    async def get(self, person_id: UUID) -> Principal:
        """The person's principal, as it is or was within the last second."""
        known = self._known.get(person_id)
        if known is not None:
            return known
        told = self._watch.told
        async with self._database.read(Reach.INSTANCE) as session:
            principal = await load_principal(session, person_id)
        self._known.put(person_id, person_id, principal, told)
        return principal

    def forget(self, person_id: UUID | None = None) -> None:
        """Read one, or all, afresh next time."""
        self._watch.tell(person_id)
