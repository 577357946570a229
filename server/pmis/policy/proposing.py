"""Who may propose what: the permission for the kind of thing, then the policy's roles for the operation."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pmis.kit.errors import ForbiddenError
from pmis.policy.access import Action, Principal, authorize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pmis.policy.document import Policy

_ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        "comment": Action.COMMENT,
        "task": Action.WORK_TASKS,
        "project": Action.CONFIGURE,
        "package_type": Action.CONFIGURE,
        "membership": Action.CONFIGURE,
        "delegation": Action.DELEGATE,
        "person": Action.ADMINISTER,
        "policy": Action.ADMINISTER,
    }
)


def action_for(noun: str) -> Action:
    """The action that proposing a change of such a thing is."""
    return _ACTIONS.get(noun, Action.PROPOSE)


def require_proposer(
    principal: Principal,
    policy: Policy,
    *,
    noun: str,
    operation: str,
    project_id: UUID | None,
    status: str | None = None,
    to_status: str | None = None,
) -> None:
    """Return when the principal may propose the operation in the project (None: on the instance itself).

    Raises NotFoundError and ForbiddenError as `authorize` does, and ForbiddenError that names the roles the policy asks
    for. Operations and steps that the policy does not know pass: they are refused, with what is allowed instead, where
    the change is judged. A job of the instance needs no role; what it proposes is judged like anything else.
    """
    authorize(principal, action_for(noun), project_id)
    roles = policy.proposers(noun, operation, from_status=status, to_status=to_status)
    is_job = principal.kind == "system" and principal.on_behalf_of is None
    if is_job or not roles or not principal.roles_in(project_id).isdisjoint(roles):
        return
    what = f"step from {status} to {to_status}" if operation == "transition" else operation
    asked = ", ".join(roles)
    raise ForbiddenError(
        f"The policy lets {asked} propose this ({noun}: {what}); you are none of these here.",
        roles=[role.value for role in roles],
    )
