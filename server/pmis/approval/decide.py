"""What people say to a waiting approval: approve, reject, ask for changes, confirm, withdraw, revise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from uuid import UUID

from pmis.approval.change import digest
from pmis.approval.errors import (
    ApprovalClosedError,
    ApprovalExpiredError,
    ApprovalVoidError,
    DigestMismatchError,
    MayNotDecideError,
    StepUpNeededError,
)
from pmis.approval.models import APPROVALS, Approval
from pmis.approval.propose import (
    Loaded,
    Outcome,
    Request,
    Wanted,
    active_policy,
    actor_of,
    apply_changes,
    judge,
    load,
    promise_changes,
    propose,
    waiting_steps,
)
from pmis.approval.registry import NOUNS
from pmis.kit.errors import InvalidInputError, NotFoundError, PmisError
from pmis.ledger.event import Actor, Fact, Origin
from pmis.ledger.outbox import promise
from pmis.ledger.store import append
from pmis.policy.access import DECIDING_ROLES, Action, Principal, Role, allowed
from pmis.policy.approvers import (
    Candidate,
    DecisionRefusedError,
    Delegation,
    Round,
    Vote,
    is_complete,
    may_confirm,
    may_decide,
)
from pmis.policy.approvers import Verdict as Said
from pmis.policy.arbitrate import Decision
from pmis.policy.document import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Kind
    from pmis.policy.document import Policy

VerdictName = Literal["approve", "reject", "request_changes"]
_NOBODY: Final = UUID(int=0)


async def visible_approval(
    session: Session, principal: Principal, approval_id: UUID, *, lock: bool = False
) -> Approval:
    """The approval, if the principal may see it; raises NotFoundError otherwise."""
    row = await session.one(
        "select doc from state.approval where id = %s" + (" for update" if lock else ""), (approval_id,)
    )
    approval = Approval.model_validate_json(row[0]) if row else None
    if approval is None or not allowed(principal, Action.READ, approval.project_id):
        raise NotFoundError("There is no such approval.")
    return approval


async def _locked(session: WriteSession, principal: Principal, approval_id: UUID) -> Approval:
    """The approval under lock, after every record that it would change: the one order in which all take locks."""
    seen = await visible_approval(session, principal, approval_id)
    existing = [
        Wanted(NOUNS[change.target_type], "patch", change.target, {}, change.project_id)
        for change in seen.changes
        if change.base_version > 0
    ]
    if existing:
        await load(session, existing)
    return await visible_approval(session, principal, approval_id, lock=True)


async def _require_open(session: WriteSession, approval: Approval, statuses: Sequence[str] = ("pending",)) -> None:
    if approval.is_open and approval.expires_at is not None and session.now >= approval.expires_at:
        await expire(session, approval, correlation_id=f"expiry-{approval.id}")
        raise ApprovalExpiredError(
            f"This approval expired on {approval.expires_at:%Y-%m-%d %H:%M} UTC. Propose the change again."
        )
    if approval.status not in statuses:
        detail = f"This approval is {approval.status.replace('_', ' ')}"
        raise ApprovalClosedError(
            detail + (f": {approval.closed_reason}." if approval.closed_reason else "."),
            approval_status=approval.status,
        )


def _require_digest(approval: Approval, shown: str | None) -> None:
    if digest(approval.changes, approval.policy_version) != approval.digest:
        raise DigestMismatchError(
            "The stored change is not the one that was digested. Nothing was applied; tell your administrator."
        )
    if shown is not None and shown != approval.digest:
        raise DigestMismatchError(
            "You saw another version of this change. Read it again before you decide.", digest=approval.digest
        )


@dataclass(frozen=True)
class _Electorate:
    """Who may lend or fill seats in a project at a moment."""

    policy: Policy
    at: datetime
    delegations: tuple[Delegation, ...]
    electors: frozenset[UUID]


_PANELS: Final = (
    "select 'in_force' as part, null::uuid as project_id, null::uuid as person, null::uuid as taker, "
    "null::timestamptz as starts, null::timestamptz as ends, null::text[] as roles, version from state.policy "
    "union all select case m.person_id when %(me)s then 'own' else 'elector' end, m.project_id, m.person_id, null, "
    "null, null, m.roles, null from state.membership m join state.person p on p.id = m.person_id and p.active "
    "where m.project_id = any(%(projects)s) and (m.person_id = %(me)s or m.roles && %(deciding)s::text[]) "
    "union all select 'lent', d.project_id, d.from_person, d.to_person, d.starts_at, d.ends_at, m.roles, null "
    "from state.delegation d join state.membership m on m.person_id = d.from_person and m.project_id = d.project_id "
    "join state.person p on p.id = d.from_person and p.active "
    "where d.project_id = any(%(projects)s) and not d.revoked and d.ends_at > %(at)s"
)


async def _panels(
    session: Session,
    principal: Principal,
    projects: Collection[UUID | None],
    at: datetime,
    policy: Policy | None = None,
) -> Callable[[UUID | None], tuple[Candidate, _Electorate]]:
    """Who a person is, and who else sits, in each of the projects and in none, as it stands in this transaction.

    One statement for all of them. `policy` is the one to judge by, if not the one in force.
    """
    me = principal.person_id or _NOBODY
    rows = await session.all(
        _PANELS,
        {"me": me, "projects": sorted(one for one in projects if one), "deciding": sorted(DECIDING_ROLES), "at": at},
    )
    if policy is None:
        policy = await active_policy(session, next((row[-1] for row in rows if row[0] == "in_force"), 0))
    own: dict[UUID | None, frozenset[Role]] = {None: principal.roles_in(None)}
    lent: dict[UUID | None, list[Delegation]] = {}
    electors: dict[UUID | None, set[UUID]] = {}
    for part, project, person, taker, starts, ends, roles, _ in rows:
        held = frozenset(Role(role) for role in roles or ())
        if part == "own":
            own[project] = held
        if part == "lent":
            lent.setdefault(project, []).append(Delegation(person, taker, starts, ends, project, held))
        elif policy.solo.enabled and not held.isdisjoint(DECIDING_ROLES):
            electors.setdefault(project, set()).add(person)

    def panel(project: UUID | None) -> tuple[Candidate, _Electorate]:
        delegations, others = tuple(lent.get(project, ())), frozenset(electors.get(project, ()))
        held = own.get(project, frozenset[Role]()) if principal.kind == "person" else frozenset[Role]()
        candidate = Candidate(me, held, principal.kind)
        return candidate, _Electorate(policy, at, delegations, others)

    return panel


def _votes(approval: Approval) -> tuple[Vote, ...]:
    return tuple(
        Vote(vote.person_id, vote.seat_person_id, vote.step, Said(vote.verdict), vote.exception)
        for vote in approval.verdicts
    )


def _round(approval: Approval, electorate: _Electorate) -> Round:
    decision = Decision.from_json(approval.decision)
    return Round(
        steps=decision.steps,
        order=decision.order,
        at=electorate.at,
        proposers=frozenset({approval.proposer.person_id} if approval.proposer.person_id else ()),
        votes=_votes(approval),
        delegations=electorate.delegations,
        project_id=approval.project_id,
        solo=electorate.policy.solo.enabled,
        electors=electorate.electors,
    )


async def say(
    session: WriteSession,
    vault: Vault,
    request: Request,
    approval_id: UUID,
    verdict: VerdictName,
    *,
    reason: str | None = None,
    shown: str | None = None,
    recent: bool,
) -> Outcome:
    """Approve, reject or ask for changes; applies the changes when enough people have agreed.

    `shown` is the digest of what the decider saw; `recent` whether they proved lately who they are, which the edge
    knows. Raises DecisionRefusedError for whoever may not decide, StepUpNeededError where the policy asks for a recent
    proof and there is none, and InvalidInputError for a no without a reason.
    """
    if verdict != "approve" and not (reason or "").strip():
        message = "say why; the proposer reads it"
        raise InvalidInputError(
            f"reason: {message}.", errors=[{"pointer": "/reason", "message": message, "type": "missing"}]
        )
    if request.principal.kind != "person":
        raise MayNotDecideError("Only a person decides. An agent, a service or a job cannot.", why="not_a_person")
    approval = await _locked(session, request.principal, approval_id)
    await _require_open(session, approval)
    _require_digest(approval, shown)
    loaded = await load(session, _existing(approval))
    project = approval.project_id
    candidate, electorate = (await _panels(session, request.principal, {project}, session.now, loaded.policy))(project)
    round_ = _round(approval, electorate)
    seat = may_decide(round_, candidate)
    if not recent and Decision.from_json(approval.decision).step_up:
        raise StepUpNeededError
    collisions = await _drift(session, approval, loaded)
    if collisions is not None and verdict == "approve":
        return await _void(session, request, approval, *collisions)
    vote = Vote(candidate.person_id, seat.seat_person_id, seat.step, Said(verdict), seat.exception)
    after = replace(round_, votes=(*round_.votes, vote))
    fact = Fact(
        "approval.decided",
        {
            "verdict": {
                "person_id": str(candidate.person_id),
                "name": request.principal.name,
                "seat_person_id": str(seat.seat_person_id),
                "step": seat.step,
                "verdict": verdict,
                "reason": reason,
                "exception": seat.exception,
            },
            "open_steps": waiting_steps(after),
            "digest": approval.digest,
        },
    )
    approval, events = append(
        session,
        APPROVALS,
        approval,
        [fact],
        origin=request.origin,
        stream_id=approval.id,
        project_id=approval.project_id,
    )
    if verdict == "approve" and is_complete(after):
        return await _apply(session, vault, request, approval)
    promise(
        session,
        "approval.decided",
        key=f"decided:{approval.id}:{approval.version}",
        event_id=events[0].id,
        payload={"approval_id": str(approval.id), "status": approval.status},
    )
    return Outcome("pending", Decision.from_json(approval.decision), approval=approval)


async def confirm(
    session: WriteSession, vault: Vault, request: Request, approval_id: UUID, *, shown: str | None = None, recent: bool
) -> Outcome:
    """The proposer's explicit yes to the shown change; an agent cannot give it.

    Raises StepUpNeededError unless they proved lately (`recent`) who they are, where the policy asks for that, and for
    a seat that is lent: whoever has it decides what may well ask for it.
    """
    approval = await _locked(session, request.principal, approval_id)
    await _require_open(session, approval, ("confirmation_required",))
    _require_digest(approval, shown)
    principal = request.principal
    may_confirm(approval.proposer.person_id, Candidate(principal.person_id or _NOBODY, frozenset(), principal.kind))
    lends = any(change.target_type == "delegation" for change in approval.changes)
    if not recent and (lends or Decision.from_json(approval.decision).step_up):
        raise StepUpNeededError
    collisions = await _drift(session, approval, await load(session, _existing(approval)))
    if collisions is not None:
        return await _void(session, request, approval, *collisions)
    approval, _ = append(
        session,
        APPROVALS,
        approval,
        [Fact("approval.confirmed", {"digest": approval.digest})],
        origin=request.origin,
        stream_id=approval.id,
        project_id=approval.project_id,
    )
    return await _apply(session, vault, request, approval)


async def withdraw(session: WriteSession, request: Request, approval_id: UUID, *, reason: str | None) -> Approval:
    """Take a proposal back; only the person behind it can."""
    approval = await _locked(session, request.principal, approval_id)
    await _require_open(session, approval, ("pending", "confirmation_required"))
    own = request.principal.person_id
    if own is None or own != approval.proposer.person_id:
        raise MayNotDecideError("Only the proposer takes a proposal back.", why="not_the_proposer")
    _require_same_hand(request.principal, approval)
    return await _end(session, request.origin, approval, "withdrawn", reason or "taken back by the proposer")


def _require_same_hand(principal: Principal, approval: Approval) -> None:
    """Raise MayNotDecideError for a service that takes up what its owner, or another service, proposed."""
    if principal.kind == "service" and principal.ref != approval.proposer.ref:
        raise MayNotDecideError("A service takes up only what it proposed itself.", why="not_the_proposer")


async def revise(
    session: WriteSession, vault: Vault, request: Request, approval_id: UUID, patches: dict[UUID, dict[str, Any]]
) -> Outcome:
    """Propose again after a request for changes, a drift or an expiry: same records, on the state of the day.

    `patches` replaces the patch of the records it names; the new approval says which one it supersedes. What was known
    of the values, such as that others wrote them, is known of the new proposal too.
    """
    old = await _locked(session, request.principal, approval_id)
    if old.is_open or old.status == "applied":
        raise ApprovalClosedError(
            f"This approval is {old.status.replace('_', ' ')}; one that was sent back or ended is revised.",
            approval_status=old.status,
        )
    if request.principal.person_id is None or request.principal.person_id != old.proposer.person_id:
        raise MayNotDecideError("Only the proposer revises a proposal.", why="not_the_proposer")
    _require_same_hand(request.principal, old)
    if strangers := sorted(map(str, patches.keys() - {change.target for change in old.changes})):
        message = "the proposal does not change this record"
        raise InvalidInputError(
            f"patches: {message}.",
            errors=[{"pointer": f"/patches/{one}", "message": message, "type": "value_error"} for one in strangers],
        )
    wanted = [
        Wanted(
            NOUNS[change.target_type],
            change.operation,
            change.target,
            NOUNS[change.target_type].validated(change.operation, patches[change.target])
            if change.target in patches
            else change.patch,
            change.project_id,
        )
        for change in old.changes
    ]
    request = replace(request, flags=request.flags | _flags(old))
    return await propose(session, vault, request, wanted, supersedes=old.id)


async def expire(session: WriteSession, approval: Approval, *, correlation_id: str) -> Approval:
    """End an approval that nobody decided in time."""
    origin = Origin(Actor("system:expiry", "Expiry"), "system", correlation_id)
    return await _end(session, origin, approval, "expired", "nobody decided in time")


async def expire_due(session: WriteSession, *, limit: int = 500) -> int:
    """End up to `limit` approvals whose time has run out; says how many. Those being decided right now are left."""
    rows = await session.all(
        "select doc from state.approval where status in ('pending', 'confirmation_required') and expires_at <= %s "
        "order by id limit %s for update skip locked",
        (session.now, limit),
    )
    for (doc,) in rows:
        approval = Approval.model_validate_json(doc)
        await expire(session, approval, correlation_id=f"expiry-{approval.id}")
    return len(rows)


_FRESH: Final = (
    "(step ->> 'ready')::boolean and not coalesce(d.doc -> 'decision' -> 'escalated', '[]') ? (step ->> 'id')"
)
_SILENT: Final = f"""
select a.doc, array(select step ->> 'id' from jsonb_array_elements(d.doc -> 'open_steps') step where {_FRESH})
from state.approval a, lateral (select a.doc::jsonb as doc) d
where a.status = 'pending' and (a.expires_at is null or a.expires_at > %(now)s)
  and (d.doc ->> 'policy_version')::int = (select version from state.policy)
  and exists (select from jsonb_array_elements(d.doc -> 'open_steps') step where {_FRESH})
  and least((d.doc ->> 'deadline_at')::timestamptz, case when d.doc -> 'decision' ->> 'order' = 'serial' then coalesce((
        select max((verdict ->> 'at')::timestamptz) from jsonb_array_elements(d.doc -> 'verdicts') verdict
        where not exists (
            select from jsonb_array_elements(d.doc -> 'open_steps') step where step ->> 'id' = verdict ->> 'step')
    ), (d.doc ->> 'created_at')::timestamptz) else (d.doc ->> 'created_at')::timestamptz end
    + make_interval(hours => (d.doc -> 'decision' ->> 'bypass_hours')::int)) <= %(now)s
order by a.id limit %(limit)s for update of a skip locked
"""
"""Open approvals with steps that it is the turn of, were not escalated before and stayed silent for too long."""


async def escalate_due(session: WriteSession, *, limit: int = 500) -> int:
    """Open up to `limit` approvals to executives in which those whose turn it is stayed silent; says how many.

    That is once for each step, `bypass_hours` after its turn came or at the approval's deadline, whichever comes first.
    As many different people have to agree as before, and nobody who was asked is asked no more. Where every executive
    is asked already it is said all the same, and those for whom it waits are told once more. What another policy than
    the one in force judged is left: it cannot be applied any more.
    """
    rows = await session.all(_SILENT, {"now": session.now, "limit": limit})
    for doc, silent in rows:
        approval = Approval.model_validate_json(doc)
        decision = Decision.from_json(approval.decision)
        steps = tuple(step.bypassed() if step.id in silent else step for step in decision.steps)
        proposer = approval.proposer.person_id
        after = Round(
            steps=steps,
            order=decision.order,
            at=session.now,
            proposers=frozenset({proposer} if proposer else ()),
            votes=_votes(approval),
            project_id=approval.project_id,
        )
        overdue = approval.deadline_at is not None and approval.deadline_at <= session.now
        fact = Fact(
            "approval.escalated",
            {
                "reason": "deadline" if overdue else "silence",
                "silent": silent,
                "steps": [step.to_json() for step in steps],
                "open_steps": waiting_steps(after),
            },
        )
        correlation_id = f"escalation-{approval.id}"
        escalated, events = append(
            session,
            APPROVALS,
            approval,
            [fact],
            origin=Origin(Actor("system:escalation", "Escalation"), "system", correlation_id),
            stream_id=approval.id,
            project_id=approval.project_id,
        )
        promise(
            session,
            "approval.escalated",
            key=f"escalated:{approval.id}:{escalated.version}",
            event_id=events[0].id,
            payload={"approval_id": str(approval.id), "escalated": escalated.version},
        )
    return len(rows)


async def _end(session: WriteSession, origin: Origin, approval: Approval, verb: str, reason: str) -> Approval:
    ended, events = append(
        session,
        APPROVALS,
        approval,
        [Fact(f"approval.{verb}", {"reason": reason})],
        origin=origin,
        stream_id=approval.id,
        project_id=approval.project_id,
    )
    promise(
        session,
        "approval.ended",
        key=f"ended:{approval.id}",
        event_id=events[0].id,
        payload={"approval_id": str(approval.id), "status": ended.status},
    )
    return ended


def _existing(approval: Approval) -> list[Wanted]:
    return [
        Wanted(
            NOUNS[change.target_type],
            "create" if change.base_version == 0 else "patch",
            change.target,
            {},
            change.project_id,
        )
        for change in approval.changes
    ]


async def _drift(session: Session, approval: Approval, loaded: Loaded) -> tuple[str, list[str]] | None:
    """Why the approval no longer fits, with the fields that collide; None while it fits."""
    if loaded.policy.version != approval.policy_version:
        return f"the policy changed from version {approval.policy_version} to {loaded.policy.version}", []
    if loaded.taken:
        return "what it creates exists already", []
    for change in approval.changes:
        now = loaded.before.get(change.target)
        version = now.version if now else 0
        if change.base_version == version:
            continue
        rows = await session.all(
            "select distinct key from ledger.event e, "
            "lateral jsonb_object_keys(coalesce(e.payload::jsonb -> 'changes', '{}')) as key "
            "where e.stream_id = %s and e.stream_version > %s",
            (change.target, change.base_version),
        )
        colliding = sorted({key for (key,) in rows} & set(change.patch))
        return f"{change.target_type} moved from version {change.base_version} to {version}", colliding
    return None


async def _void(
    session: WriteSession, request: Request, approval: Approval, reason: str, colliding: list[str]
) -> Outcome:
    append(
        session,
        APPROVALS,
        approval,
        [Fact("approval.voided", {"reason": reason, "colliding": colliding})],
        origin=request.origin,
        stream_id=approval.id,
        project_id=approval.project_id,
    )
    raise ApprovalVoidError(
        f"Nothing was applied: {reason}. Propose the change again on what is there now.",
        colliding=colliding,
        approval_id=str(approval.id),
    )


async def _apply(session: WriteSession, vault: Vault, request: Request, approval: Approval) -> Outcome:
    """Decide the stored changes again on the state of the day and apply them, once."""
    proposer = proposer_principal(approval)
    wanted = [
        Wanted(NOUNS[change.target_type], change.operation, change.target, change.patch, change.project_id)
        for change in approval.changes
    ]
    again = Request(
        proposer,
        request.source,
        request.correlation_id,
        approval.reason,
        writer=Writer(_writer(approval)),
        flags=_flags(approval),
        causation_id=request.causation_id,
    )
    try:
        judged = await judge(session, again, wanted)
    except PmisError as error:
        return await _void(session, request, approval, error.detail.rstrip("."), [])
    governance = {
        "approval_id": str(approval.id),
        "digest": approval.digest,
        "policy_version": approval.policy_version,
        "route": approval.route,
        "rule": approval.decision["rule"],
    }
    origin = Origin(
        actor_of(request.principal),
        request.source,
        request.correlation_id,
        request.causation_id,
    )
    entities, events = await apply_changes(session, vault, origin, judged, governance, approval.reason)
    results = [
        {"target_type": change.target_type, "target": str(change.target), "version": entity.version}
        for change in approval.changes
        for entity in entities
        if entity.id == change.target
    ]
    approval, ended = append(
        session,
        APPROVALS,
        approval,
        [Fact("approval.applied", {"digest": approval.digest, "results": results})],
        origin=origin,
        stream_id=approval.id,
        project_id=approval.project_id,
    )
    # Unique: whatever else goes wrong, a second application of the same approval cannot commit.
    promise(
        session,
        "approval.applied",
        key=f"applied:{approval.id}",
        event_id=ended[0].id,
        payload={"approval_id": str(approval.id), "events": [str(event.id) for event in events]},
    )
    promise_changes(session, events)
    return Outcome("applied", Decision.from_json(approval.decision), entities, approval)


def _writer(approval: Approval) -> str:
    return _facts(approval)[0]["writer"]


def _flags(approval: Approval) -> frozenset[str]:
    return frozenset(flag for facts in _facts(approval) for flag in facts.get("flags", ()))


def _facts(approval: Approval) -> list[dict[str, Any]]:
    """What the policy was told of each change."""
    facts = approval.decision["facts"]
    return facts.get("changes") or [facts]


def proposer_principal(approval: Approval) -> Principal:
    """The proposer as a principal with the right to what was proposed; it was checked when the proposal came in.

    An agent stays an agent and acts for the same person, so that the records say what they would have said at once.
    """
    proposer = approval.proposer
    kind, _, identity = proposer.ref.partition(":")
    everything = frozenset(Role)
    projects = {change.project_id: everything for change in approval.changes if change.project_id is not None}
    person: Principal | None = None
    if proposer.person_id is not None:
        name = proposer.on_behalf_of_name or proposer.name
        person = Principal(kind="person", id=proposer.person_id, name=name, roles=projects, instance_admin=True)
        if kind == "person":
            return person
    return Principal(
        kind=cast("Kind", kind),
        id=identity,
        name=proposer.name,
        on_behalf_of=person,
        roles=projects,
        instance_admin=True,
    )


async def waits_for(
    session: Session, principal: Principal, approvals: Sequence[Approval], at: datetime
) -> list[Approval]:
    """Those of the approvals that this principal could decide or confirm right now."""
    if principal.kind != "person":
        return []
    waiting = [one for one in approvals if one.is_open and (one.expires_at is None or at < one.expires_at)]
    if not waiting:
        return []
    panel = await _panels(session, principal, {one.project_id for one in waiting}, at)
    mine: list[Approval] = []
    for approval in waiting:
        if approval.status == "confirmation_required":
            if approval.proposer.person_id == principal.person_id:
                mine.append(approval)
            continue
        candidate, electorate = panel(approval.project_id)
        try:
            may_decide(_round(approval, electorate), candidate)
        except DecisionRefusedError:
            continue
        mine.append(approval)
    return mine
