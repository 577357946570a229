"""What the person at the server's console may do without anybody's approval: the first people, the first project.

Each such act is an event like any other; its governance says `CONSOLE`, so that an auditor finds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pmis.identity.noun import MEMBERSHIPS, PEOPLE
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from pmis.project.noun import PROJECTS

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.governed import AnyNoun
    from pmis.identity.models import Person
    from pmis.kit.db import WriteSession
    from pmis.ledger.projection import Entity
    from pmis.ledger.vault import Vault
    from pmis.project.models import Project

GOVERNANCE: Final = {"route": "CONSOLE", "rule": "server.console"}


@dataclass(frozen=True)
class Console:
    """One run of a command at the console."""

    session: WriteSession
    vault: Vault
    name: str
    correlation_id: str

    @property
    def _origin(self) -> Origin:
        return Origin(Actor(f"system:{self.name}", self.name.title()), "system", self.correlation_id)

    async def _create(self, noun: AnyNoun, fields: dict[str, Any], project_id: UUID | None, target: UUID) -> Entity:
        fact = Fact(f"{noun.stream_type}.created", {"fields": fields, "governance": GOVERNANCE})
        entity, _ = append(
            self.session, noun, None, [fact], origin=self._origin, stream_id=target, project_id=project_id
        )
        await noun.applied(self.session, self.vault, entity)
        return entity

    async def person(self, name: str, email: str, password: str, **rights: bool) -> Person:
        """A person who can sign in. Raises AlreadyExistsError for an address that is taken."""
        target = uuid7()
        patch = PEOPLE.validated("create", {"name": name, "email": email, "password": password, **rights})
        sealed = await PEOPLE.seal(self.session, self.vault, target, patch)
        return await self._create(PEOPLE, sealed, None, target)  # pyright: ignore[reportReturnType]

    async def project(self, **fields: Any) -> Project:  # noqa: ANN401 - the input model judges them
        """A project."""
        target = uuid7()
        return await self._create(PROJECTS, PROJECTS.validated("create", fields), target, target)  # pyright: ignore[reportReturnType]

    async def member(self, project_id: UUID, person_id: UUID, *roles: str) -> None:
        """Roles in a project."""
        patch = MEMBERSHIPS.validated("create", {"person_id": str(person_id), "roles": list(roles)})
        await self._create(MEMBERSHIPS, patch, project_id, uuid7())
