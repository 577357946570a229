"""Everything that has a stream, put together: what the program knows is what is listed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pmis.approval.models import APPROVALS
from pmis.approval.policy import POLICIES
from pmis.approval.registry import register
from pmis.comment.noun import COMMENTS
from pmis.email.models import EMAILS
from pmis.identity.invitations import INVITATIONS
from pmis.identity.noun import DELEGATIONS, MEMBERSHIPS, PEOPLE
from pmis.memory.noun import MEMORIES
from pmis.package.noun import PACKAGE_TYPES, PACKAGES
from pmis.party.noun import PARTIES
from pmis.project.noun import PROJECTS
from pmis.task.escalation import ESCALATIONS
from pmis.task.noun import TASKS

if TYPE_CHECKING:
    from pmis.approval.governed import AnyNoun
    from pmis.ledger.projection import AnyProjection

GOVERNED: Final[tuple[AnyNoun, ...]] = (
    POLICIES,
    PEOPLE,
    PROJECTS,
    MEMBERSHIPS,
    DELEGATIONS,
    INVITATIONS,
    PACKAGE_TYPES,
    PARTIES,
    PACKAGES,
    TASKS,
    COMMENTS,
    MEMORIES,
)
PROJECTIONS: Final[tuple[AnyProjection, ...]] = (*GOVERNED, APPROVALS, EMAILS, ESCALATIONS)

register(*GOVERNED)
