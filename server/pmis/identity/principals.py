"""From a person's id to a principal with roles, remembered for at most a second."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pmis.kit.errors import UnauthenticatedError
from pmis.policy.access import Principal, Role

if TYPE_CHECKING:
    from pmis.kit.db import Database, Session

FRESH_SECONDS: Final = 1.0
"""A role that was taken, or a person who was disabled, counts no longer than this."""

_QUERY: Final = (
    "select p.name, p.active, p.instance_admin, p.instance_auditor, "
    "(select json_object_agg(project_id, roles)::text from state.membership where person_id = p.id and roles <> '{}') "
    "from state.person p where p.id = %s"
)


async def load_principal(session: Session, person_id: UUID) -> Principal:
    """The person with the roles of this moment; raises UnauthenticatedError for one who is gone or disabled."""
    row = await session.one(_QUERY, (person_id,))
    if row is None or not row[1]:
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
    """Principals of one process, so that a busy client costs one look-up a second and not one a request."""

    def __init__(self, database: Database) -> None:
        """Nothing is read yet."""
        self._database = database
        self._known: dict[UUID, tuple[float, Principal]] = {}

    async def get(self, person_id: UUID) -> Principal:
        """The person's principal, at most FRESH_SECONDS old."""
        now = time.monotonic()
        known = self._known.get(person_id)
        if known is not None and now - known[0] < FRESH_SECONDS:
            return known[1]
        async with self._database.read() as session:
            principal = await load_principal(session, person_id)
        if len(self._known) > 10_000:  # noqa: PLR2004 - more people than that at once is no cache's business
            self._known.clear()
        self._known[person_id] = (now, principal)
        return principal

    def forget(self, person_id: UUID | None = None) -> None:
        """Read one, or all, afresh next time."""
        if person_id is None:
            self._known.clear()
        else:
            self._known.pop(person_id, None)
