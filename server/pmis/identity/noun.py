"""What people, memberships and delegations tell the governed path."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pmis.approval.errors import AlreadyExistsError, BadReferenceError
from pmis.approval.governed import Noun
from pmis.identity.apitokens import revoke_all
from pmis.identity.handover import hand_over
from pmis.identity.models import (
    Delegation,
    DelegationCreate,
    DelegationPatch,
    Membership,
    MembershipCreate,
    MembershipPatch,
    Person,
    PersonCreate,
    PersonPatch,
)
from pmis.identity.passwords import hash_password_soon
from pmis.identity.sessions import end_all
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, InvalidInputError
from pmis.policy.approvers import Delegation as Lent
from pmis.policy.approvers import require_delegation

if TYPE_CHECKING:
    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Event, Fact, Origin
    from pmis.ledger.vault import Vault


class PersonNoun(Noun[Person]):
    """People. Address and password hash go into the vault, and from there to the table that sign-in reads."""

    stream_type = "person"
    label = "person"
    model = Person
    columns = ("name", "active", "instance_admin", "instance_auditor")
    create_input = PersonCreate
    patch_input = PersonPatch
    secret_fields = frozenset({"credential"})
    instance_level = True

    def decide(self, entity: Person | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts; raises InvalidInputError for a successor of somebody who stays. Who comes back needs none."""
        if entity is None:
            return super().decide(entity, change, situation)
        patch = dict(change.patch)
        stays = patch.get("active", entity.active)
        if stays and patch.get("hand_over_to") is not None:
            raise _unfit("it goes with `active` false: only who is disabled hands over")
        if stays and entity.hand_over_to is not None:
            patch["hand_over_to"] = None
        return super().decide(entity, change.model_copy(update={"patch": patch}), situation)

    async def check_references(
        self, session: Session, change: Change, entity: Person | None, situation: Situation
    ) -> None:
        """The successor is somebody else, who is active."""
        del situation
        successor = change.patch.get("hand_over_to")
        if entity is None or successor is None:
            return
        if UUID(successor) == entity.id:
            raise _unfit("somebody else takes over")
        if not await session.one("select 1 from state.person where id = %s and active for share", (UUID(successor),)):
            raise BadReferenceError("hand_over_to: there is no such active person.", field="hand_over_to")

    async def seal(self, session: WriteSession, vault: Vault, target: UUID, patch: dict[str, Any]) -> dict[str, Any]:
        """The patch with address and password as one sealed credential."""
        if "password" not in patch:
            return patch
        email = patch["email"]
        if await session.one("select 1 from identity.credential where lower(email) = lower(%s)", (email,)):
            raise AlreadyExistsError(f"email: {email} belongs to another person.", field="email")
        hashed = await hash_password_soon(patch["password"])
        credential = await vault.seal(session, target, {"email": email, "password_hash": hashed})
        rest = {name: value for name, value in patch.items() if name not in ("email", "password")}
        return {**rest, "credential": credential}

    async def applied(self, session: WriteSession, vault: Vault, entity: Person, origin: Origin) -> list[Event]:
        """Let a new person sign in; end sessions and API tokens of one who is disabled, and hand over their seats."""
        if not entity.active:
            await end_all(session, entity.id, why="disabled", now=session.now, origin=origin)
            await revoke_all(session, entity.id, why="disabled", now=session.now, origin=origin)
            # Their seats are in projects that whoever disables them need not see.
            with session.reaching(Reach.INSTANCE):
                return await hand_over(session, entity, origin)
        if entity.version > 1 or entity.credential is None:
            return []
        opened = (await vault.open(session, [entity.credential]))[entity.credential]
        await session.execute(
            "insert into identity.credential (person_id, email, password_hash, changed_at) values (%s, %s, %s, %s)",
            (entity.id, opened["email"], opened["password_hash"], session.now),
        )
        return []


class MembershipNoun(Noun[Membership]):
    """Roles per project; a person has one membership in each."""

    stream_type = "membership"
    label = "membership"
    model = Membership
    columns = ("person_id", "roles")
    create_input = MembershipCreate
    patch_input = MembershipPatch

    async def check_references(
        self, session: Session, change: Change, entity: Membership | None, situation: Situation
    ) -> None:
        """The person exists, and is not a member yet."""
        if entity is not None:
            return
        person = UUID(change.patch["person_id"])
        if person not in situation.known and not await session.one(
            "select 1 from state.person where id = %s", (person,)
        ):
            raise BadReferenceError("person_id: there is no such person.", field="person_id")
        if await session.one(
            "select 1 from state.membership where project_id = %s and person_id = %s", (change.project_id, person)
        ):
            raise AlreadyExistsError(
                "person_id: this person has a membership; change its roles instead.", field="person_id"
            )


class DelegationNoun(Noun[Delegation]):
    """Seats lent for a while. One lends only one's own."""

    stream_type = "delegation"
    label = "delegation"
    model = Delegation
    columns = ("from_person", "to_person", "starts_at", "ends_at", "revoked")
    create_input = DelegationCreate
    patch_input = DelegationPatch

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The seat is the proposer's own."""
        return {**change.patch, "from_person": str(situation.principal.person_id)}

    def decide(self, entity: Delegation | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts; raises ForbiddenError for another's seat, DelegationRefusedError for too long a loan."""
        lender = entity.from_person if entity else situation.principal.person_id
        if lender is None or lender != situation.principal.person_id:
            raise ForbiddenError("One lends, and takes back, only one's own seat.")
        starts = entity.starts_at if entity else datetime.fromisoformat(change.patch["starts_at"])
        ends = (
            datetime.fromisoformat(change.patch["ends_at"]) if "ends_at" in change.patch else entity and entity.ends_at
        )
        taker = entity.to_person if entity else UUID(change.patch["to_person"])
        if ends is not None:
            require_delegation(
                Lent(lender, taker, starts, ends, change.project_id), situation.policy.delegation.longest
            )
        return super().decide(entity, change, situation)

    async def check_references(
        self, session: Session, change: Change, entity: Delegation | None, situation: Situation
    ) -> None:
        """The seat goes to a member of the project."""
        del situation
        if entity is not None:
            return
        row = await session.one(
            "select 1 from state.membership where project_id = %s and person_id = %s and roles <> '{}'",
            (change.project_id, UUID(change.patch["to_person"])),
        )
        if row is None:
            raise BadReferenceError("to_person: this person has no role in the project.", field="to_person")


def _unfit(message: str) -> InvalidInputError:
    return InvalidInputError(
        f"hand_over_to: {message}.",
        errors=[{"pointer": "/hand_over_to", "message": message, "type": "value_error"}],
    )


PEOPLE = PersonNoun()
MEMBERSHIPS = MembershipNoun()
DELEGATIONS = DelegationNoun()
