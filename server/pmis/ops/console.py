"""What the person at the server's console may do without anybody's approval: the first people, the first project.

Each such act is an event like any other; its governance says `CONSOLE`, so that an auditor finds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pmis.identity.noun import MEMBERSHIPS, PEOPLE
from pmis.kit.db import in_transaction
from pmis.kit.errors import ConflictError
from pmis.kit.ids import uuid7
from pmis.kit.settings import SettingsError
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.store import append
from pmis.ledger.vault import Vault
from pmis.project.noun import PROJECTS

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.governed import AnyNoun
    from pmis.identity.models import Person
    from pmis.kit.db import WriteSession
    from pmis.kit.settings import Settings
    from pmis.ledger.projection import Entity
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
        await noun.applied(self.session, self.vault, entity, self._origin)
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


class AdministratorExistsError(ConflictError):
    """There is somebody already who can make administrators."""

    code = "administrator_exists"


def create_administrator(settings: Settings, *, name: str, email: str, password: str, another: bool) -> None:
    """Make a person who administers the instance, in the settings' database.

    Raises AdministratorExistsError when an active one is there and `another` was not said, AlreadyExistsError for an
    address that is taken, and InvalidInputError for what is no name, address or password.
    """
    vault = vault_of(settings)

    async def work(session: WriteSession) -> None:
        # Two consoles at once: the second sees what the first has made.
        await session.one("select pg_advisory_xact_lock(hashtextextended('pmis console', 0))")
        row = await session.one("select name from state.person where instance_admin and active order by id limit 1")
        if row is not None and not another:
            raise AdministratorExistsError(
                f"{row[0]} administers this instance. Sign in and propose the new person, or give --another when "
                "nobody can sign in as an administrator any more."
            )
        await Console(session, vault, "console", str(uuid7())).person(name, email, password, instance_admin=True)

    in_transaction(settings.app_dsn, work)


def vault_of(settings: Settings) -> Vault:
    """The vault under the settings' secret; raises SettingsError when there is none."""
    if settings.secret_key is None:
        raise SettingsError("This needs a SECRET_KEY; `pmis up` makes one.")
    return Vault(settings.secret_key.get_secret_value())
