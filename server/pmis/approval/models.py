"""The record of one proposal: what was proposed, who must agree, what they said, and what became of it."""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from pmis.approval.change import Change
from pmis.ledger.event import Event
from pmis.ledger.projection import Child, Entity, Projection, UnknownEventError

Status = Literal[
    "pending",
    "confirmation_required",
    "applied",
    "rejected",
    "changes_requested",
    "withdrawn",
    "voided",
    "expired",
]
OPEN: frozenset[str] = frozenset({"pending", "confirmation_required"})


class Frozen(BaseModel):
    """A part of an approval."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class FieldDiff(Frozen):
    """One field, old and new."""

    field: str
    before: Any
    after: Any


class RecordDiff(Frozen):
    """What the proposal does to one record."""

    operation: str
    target_type: str
    target: UUID
    label: str
    fields: list[FieldDiff]


class Proposer(Frozen):
    """Who proposed, and for whom."""

    ref: str
    name: str
    person_id: UUID | None
    on_behalf_of: str | None
    on_behalf_of_name: str | None


class Verdict(Frozen):
    """What one person said. `seat_person_id` is whose place it fills: the decider's own, or a delegator's."""

    person_id: UUID
    name: str
    seat_person_id: UUID
    step: str
    verdict: Literal["approve", "reject", "request_changes"]
    reason: str | None
    exception: bool = False
    at: datetime


class Approval(Entity):
    """One proposal that had to wait, from its creation to its end."""

    status: Status
    route: str
    target_type: str
    target_id: UUID
    label: str
    reason: str | None
    proposer: Proposer
    source: str
    digest: str
    policy_version: int
    decision: dict[str, Any]
    changes: list[Change]
    diff: list[RecordDiff]
    verdicts: list[Verdict] = Field(default=[])
    open_steps: list[dict[str, Any]] = Field(default=[])
    expires_at: datetime | None
    deadline_at: datetime | None
    supersedes: UUID | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    closed_reason: str | None = None
    colliding: list[str] = Field(default=[])
    applied: list[dict[str, Any]] = Field(default=[])

    @property
    def is_open(self) -> bool:
        """Whether it still waits."""
        return self.status in OPEN

    @property
    def proposer_ref(self) -> str:
        """The proposer as events name it."""
        return self.proposer.ref


class ApprovalProjection(Projection[Approval]):
    """Events of approvals to rows; their targets are listed beside, so that drift and timelines find them."""

    stream_type = "approval"
    model = Approval
    columns = ("status", "route", "target_type", "target_id", "proposer_ref", "expires_at")
    child_tables = (Child("approval_target", ("target_id", "approval_id", "open"), "approval_id"),)

    def children(self, entity: Approval) -> dict[str, list[tuple[Any, ...]]]:
        """One row for each record that the approval would change, or was to."""
        targets = sorted({change.target for change in entity.changes})
        return {"approval_target": [(target, entity.id, entity.is_open) for target in targets]}

    def change(self, entity: Approval, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        """What a decision or an end changes."""
        closed: dict[str, Any] = {"closed_at": event.occurred_at, "closed_by": event.actor.name, "open_steps": []}
        match event.verb:
            case "confirmed":
                return {}
            case "decided":
                verdict = Verdict.model_validate({**payload["verdict"], "at": event.occurred_at})
                changed: dict[str, Any] = {"verdicts": [*entity.verdicts, verdict], "open_steps": payload["open_steps"]}
                ends = {"reject": "rejected", "request_changes": "changes_requested"}
                if verdict.verdict in ends:
                    changed |= {**closed, "status": ends[verdict.verdict], "closed_reason": verdict.reason}
                return changed
            case "handed_over":
                decision = {**entity.decision, "steps": payload["steps"]}
                return {"decision": decision, "open_steps": payload["open_steps"]}
            case "escalated":
                told = {
                    "steps": payload["steps"],
                    "escalated": [*entity.decision.get("escalated", ()), *payload["silent"]],
                    "escalated_at": event.occurred_at.isoformat(),
                }
                return {"decision": {**entity.decision, **told}, "open_steps": payload["open_steps"]}
            case "applied":
                return {**closed, "status": "applied", "applied": payload["results"]}
            case "withdrawn" | "voided" | "expired":
                return {
                    **closed,
                    "status": event.verb,
                    "closed_reason": payload["reason"],
                    "colliding": payload.get("colliding", []),
                }
            case _:
                message = f"{event.type} is not an event of an approval that exists"
                raise UnknownEventError(message)


APPROVALS = ApprovalProjection()
