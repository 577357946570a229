"""Who may do what: roles per project, what each role permits, and the one function that answers.

Everything is denied unless a role of the principal permits it. What a principal may not even know of answers 404,
what it may see but not do answers 403. An agent never has more than the person it acts for, and some actions are for
people alone whatever the roles say: no agent, service or job decides, confirms or configures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, TypeAlias
from uuid import UUID

from pmis.kit.errors import ForbiddenError, NotFoundError


class Role(StrEnum):
    """What a person is in a project."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    OPERATOR = "operator"
    ADMIN = "admin"
    EXECUTIVE = "executive"
    AUDITOR = "auditor"


class Action(StrEnum):
    """What a principal wants to do, at the grain at which roles permit it."""

    READ = "read"
    COMMENT = "comment"
    PROPOSE = "propose"
    WORK_TASKS = "work_tasks"
    CONFIRM = "confirm"
    DECIDE = "decide"
    DELEGATE = "delegate"
    CONFIGURE = "configure"
    ADMINISTER = "administer"
    READ_AUDIT = "read_audit"
    VERIFY = "verify"
    EXPORT = "export"


Kind: TypeAlias = Literal["person", "agent", "service", "system"]

_CONTRIBUTE: Final = frozenset({Action.READ, Action.COMMENT, Action.PROPOSE, Action.CONFIRM})
_WORK: Final = _CONTRIBUTE | {Action.WORK_TASKS}
_AUDIT: Final = frozenset({Action.READ, Action.READ_AUDIT, Action.VERIFY, Action.EXPORT})

PERMISSIONS: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({Action.READ}),
        Role.ANALYST: _WORK,
        Role.OPERATOR: _WORK,
        Role.ADMIN: _WORK | _AUDIT | {Action.DECIDE, Action.DELEGATE, Action.CONFIGURE},
        Role.EXECUTIVE: _CONTRIBUTE | {Action.DECIDE, Action.DELEGATE, Action.READ_AUDIT, Action.VERIFY},
        Role.AUDITOR: _AUDIT,
    }
)
"""What each role permits in its project."""

DECIDING_ROLES: Final = frozenset(role for role, actions in PERMISSIONS.items() if Action.DECIDE in actions)
"""The roles whose holders can be approvers."""

PEOPLE_ONLY: Final = frozenset(
    {Action.CONFIRM, Action.DECIDE, Action.DELEGATE, Action.CONFIGURE, Action.ADMINISTER, Action.EXPORT}
)
"""What only a person does, in person: not an agent, not a service, not a job, whatever roles they were given."""

_INSTANCE_ADMIN: Final = _WORK | {
    Action.DECIDE,
    Action.DELEGATE,
    Action.CONFIGURE,
    Action.ADMINISTER,
    Action.READ_AUDIT,
    Action.VERIFY,
}
# An executive of any project may join the executive approval of a change of the instance itself (its policy, say).
_INSTANCE_EXECUTIVE: Final = frozenset({Action.READ, Action.DECIDE})
# Jobs of the instance itself: they look after every project and propose like anybody else.
_SYSTEM: Final = frozenset({Action.READ, Action.COMMENT, Action.PROPOSE, Action.WORK_TASKS})


_ON_INSTANCE: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType(
    {Role.ADMIN: _INSTANCE_ADMIN, Role.EXECUTIVE: _INSTANCE_EXECUTIVE, Role.AUDITOR: _AUDIT}
)


class _Everything(Enum):
    ALL = "all"


REMEMBERED: Final = 1000
"""Of how many projects a principal remembers what it may do there; callers name projects that need not exist."""

ALL: Final = _Everything.ALL
"""Every project there is, as an answer of `visible_projects`."""
Visible: TypeAlias = frozenset[UUID] | Literal[_Everything.ALL]


@dataclass(frozen=True, slots=True)
class Known:
    """What was already worked out from a principal's fields: the requests of a person share their principal."""

    permitted: dict[UUID | None, frozenset[Action]] = field(default_factory=dict[UUID | None, frozenset[Action]])
    visible: dict[Action, Visible] = field(default_factory=dict[Action, Visible])


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts, and for whom. `roles` are those granted to it, per project; what counts is what `roles_in` answers."""

    kind: Kind
    id: UUID | str
    name: str
    on_behalf_of: "Principal | None" = None
    roles: Mapping[UUID, frozenset[Role]] = field(default_factory=dict[UUID, frozenset[Role]])
    instance_admin: bool = False
    instance_auditor: bool = False
    confined: bool = False
    """Whether it is let to its projects alone: what an executive of one may do on the instance it may not."""
    proxied_name: str | None = None
    """What a proxy calls a person whom PMIS calls something else."""
    _on_instance: frozenset[Role] = field(init=False, repr=False, compare=False)
    known: Known = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out, once, what counts on the instance."""
        held = {Role.ADMIN: self.instance_admin, Role.AUDITOR: self.instance_auditor}
        held[Role.EXECUTIVE] = not self.confined and any(Role.EXECUTIVE in roles for roles in self.roles.values())
        object.__setattr__(self, "_on_instance", frozenset(role for role, holds in held.items() if holds))
        object.__setattr__(self, "known", Known())

    @property
    def ref(self) -> str:
        """The principal as events name it, such as `person:0197...` or `system:sealer`."""
        return f"{self.kind}:{self.id}"

    @property
    def signature(self) -> str:
        """What events call the principal: by its name, with what a proxy calls it said as the proxy's word."""
        return self.name if self.proxied_name is None else f"{self.name} (the proxy says: {self.proxied_name})"

    @property
    def person_id(self) -> UUID | None:
        """The human behind it: the person itself, or whom it acts for; None for a job or service on its own."""
        if self.kind == "person":
            return self.id if isinstance(self.id, UUID) else None
        return self.on_behalf_of.person_id if self.on_behalf_of is not None else None

    @property
    def projects(self) -> frozenset[UUID]:
        """The projects in which it has any role that counts."""
        granted = self
        while granted.kind == "system" and granted.on_behalf_of is not None:
            granted = granted.on_behalf_of
        return frozenset(project for project in granted.roles if self.roles_in(project))

    def roles_in(self, project_id: UUID | None) -> frozenset[Role]:
        """The roles that count in a project, or (None) for changes of the instance itself.

        An agent or a service that acts for somebody has the roles that both have, an agent without a person none, and
        a job has those of whom it acts for. For the instance, its administrators are `admin`, its auditors `auditor`,
        and an executive of any project is `executive`.
        """
        if self.on_behalf_of is None:
            return self._own_roles(project_id) if self.kind in ("person", "service") else frozenset()
        theirs = self.on_behalf_of.roles_in(project_id)
        return theirs if self.kind == "system" else theirs & self._own_roles(project_id)

    def _own_roles(self, project_id: UUID | None) -> frozenset[Role]:
        return self._on_instance if project_id is None else self.roles.get(project_id, frozenset())


def permitted(principal: Principal, project_id: UUID | None) -> frozenset[Action]:
    """Every action the principal may take in the project, or (None) on the instance itself."""
    known = principal.known.permitted
    if project_id not in known:
        if len(known) >= REMEMBERED:
            known.clear()
        known[project_id] = _permitted(principal, project_id)
    return known[project_id]


def _permitted(principal: Principal, project_id: UUID | None) -> frozenset[Action]:
    if project_id is None:
        table, roles = _ON_INSTANCE, principal.roles_in(None)
    else:
        table, roles = PERMISSIONS, principal.roles_in(project_id)
    actions = _everywhere(principal).union(*(table[role] for role in roles))
    if principal.kind == "system":
        actions &= _SYSTEM
    return actions if principal.kind == "person" else actions - PEOPLE_ONLY


def _everywhere(principal: Principal) -> frozenset[Action]:
    """What the principal may do in every project without a role in it."""
    if principal.kind == "system" and principal.on_behalf_of is None:
        return _SYSTEM
    return _AUDIT if Role.AUDITOR in principal.roles_in(None) else frozenset()


def allowed(principal: Principal, action: Action, project_id: UUID | None) -> bool:
    """Whether the principal may take the action in the project, or (None) on the instance itself."""
    return action in permitted(principal, project_id)


def authorize(principal: Principal, action: Action, project_id: UUID | None) -> None:
    """Return when the principal may take the action; deny by default.

    Raises NotFoundError when it may not even read there (so nobody learns what exists outside their projects), and
    ForbiddenError when it may read but not do this. The instance itself (None) is no secret: always ForbiddenError.
    """
    actions = permitted(principal, project_id)
    if action in actions:
        return
    if project_id is not None and Action.READ not in actions:
        raise NotFoundError("There is no such project.")
    if action in PEOPLE_ONLY and principal.kind != "person":
        detail = f"Only a person may {_WORDS[action]}; {_A[principal.kind]} cannot."
    elif project_id is None:
        detail = f"Only an administrator of this instance may {_WORDS[action]} here."
    else:
        detail = f"None of your roles in this project allows you to {_WORDS[action]}."
    raise ForbiddenError(detail, action=action.value)


_A: Final[Mapping[str, str]] = MappingProxyType({"agent": "an agent", "service": "a service", "system": "a job"})
_WORDS: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.READ: "read",
        Action.COMMENT: "comment",
        Action.PROPOSE: "propose changes",
        Action.WORK_TASKS: "work on tasks",
        Action.CONFIRM: "confirm a proposal",
        Action.DECIDE: "decide approvals",
        Action.DELEGATE: "delegate decisions",
        Action.CONFIGURE: "configure the project",
        Action.ADMINISTER: "administer the instance",
        Action.READ_AUDIT: "read the audit log",
        Action.VERIFY: "verify the log",
        Action.EXPORT: "export the log",
    }
)


def visible_projects(principal: Principal, action: Action = Action.READ) -> Visible:
    """The projects in which the principal may take the action; `ALL` for auditors of the instance and its jobs."""
    known = principal.known.visible
    if action not in known:
        known[action] = _visible_projects(principal, action)
    return known[action]


def _visible_projects(principal: Principal, action: Action) -> Visible:
    everywhere = _everywhere(principal)
    if action in (everywhere if principal.kind == "person" else everywhere - PEOPLE_ONLY):
        return ALL
    return _alike(frozenset(project for project in principal.projects if action in permitted(principal, project)))


@lru_cache(maxsize=REMEMBERED)
def _alike(projects: frozenset[UUID]) -> frozenset[UUID]:
    """One set for all that are equal: what is kept for it is then found without comparing it id by id."""
    return projects
