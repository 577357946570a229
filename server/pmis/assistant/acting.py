"""As whom the assistant acts: for one person, with what that person may do at most, and never what only people do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pmis.kit.errors import ForbiddenError
from pmis.policy.access import Principal

if TYPE_CHECKING:
    from pmis.policy.access import Principal as PrincipalType

AGENT: Final = "assistant"
NAME: Final = "Assistant"


def acting_for(person: PrincipalType) -> Principal:
    """The assistant as this person's agent; raises ForbiddenError for who is no person, or acts for nobody.

    It has the roles of the person, less whatever `policy.access` leaves to people alone: it decides, confirms,
    configures and exports nothing, whatever it is told.
    """
    if person.person_id is None or person.kind == "agent":
        raise ForbiddenError("The assistant works for people only.")
    return Principal(
        kind="agent",
        id=AGENT,
        name=NAME,
        on_behalf_of=person,
        roles=person.roles,
        instance_admin=person.instance_admin,
        instance_auditor=person.instance_auditor,
        confined=person.confined,
    )
