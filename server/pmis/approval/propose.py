"""Propose changes: load, decide, arbitrate, then apply at once or record an approval that waits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from pmis.approval.change import Change, digest
from pmis.approval.errors import AlreadyExistsError, PolicyRefusedError
from pmis.approval.governed import AnyNoun, Situation
from pmis.approval.models import APPROVALS, Approval, FieldDiff, Proposer, RecordDiff
from pmis.approval.registry import NOUNS
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, InvalidInputError, NotFoundError, StaleVersionError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Actor, Event, Fact, Origin
from pmis.ledger.outbox import promise
from pmis.ledger.projection import Entity
from pmis.ledger.store import append
from pmis.policy.access import ALL, Action, Role, allowed, authorize, visible_projects
from pmis.policy.approvers import Round, open_steps
from pmis.policy.arbitrate import arbitrate_all
from pmis.policy.document import Policy, Writer
from pmis.policy.levels import Level, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pmis.kit.db import Session, Statement, WriteSession
    from pmis.ledger.event import Source
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Principal
    from pmis.policy.arbitrate import Decision, Facts

OutcomeName = Literal["applied", "pending", "confirmation_required"]


@dataclass(frozen=True, slots=True)
class Request:
    """Who proposes, from where, and what they say about it."""

    principal: Principal
    source: Source
    correlation_id: str
    reason: str | None = None
    stated_impact: Level | None = None
    stated_uncertainty: Level | None = None
    causation_id: UUID | None = None
    writer: Writer | None = None
    """What kind of writer the fields come from, when it is not the principal itself: an import, an e-mail."""
    flags: frozenset[str] = frozenset()
    """What is to be known of the values: the policy's `FLAGS` that hold of them."""

    @property
    def origin(self) -> Origin:
        """Where the events of this request come from."""
        return Origin(actor_of(self.principal), self.source, self.correlation_id, self.causation_id)


@dataclass(frozen=True)
class Wanted:
    """A change as it comes in. `if_version` is the version the writer saw, when it says so."""

    noun: AnyNoun
    operation: str
    target: UUID
    patch: dict[str, Any]
    project_id: UUID | None = None
    if_version: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a proposal: applied with its records, or an approval that waits."""

    outcome: OutcomeName
    decision: Decision
    entities: list[Entity] = field(default_factory=list[Entity])
    approval: Approval | None = None


@dataclass
class Judged:
    """A proposal that rules and policy have looked at, with everything under lock."""

    changes: list[Change]
    before: dict[UUID, Entity | None]
    caused: list[list[Fact]]
    decision: Decision
    policy: Policy
    projects: dict[UUID, Mapping[str, Any]]
    awaiting: list[Approval]

    @property
    def digest(self) -> str:
        """What an approval of this would be bound to."""
        return digest(self.changes, self.policy.version)


def actor_of(principal: Principal) -> Actor:
    """The principal as events name it."""
    behalf = principal.on_behalf_of
    return Actor(
        principal.ref, principal.signature, behalf.ref if behalf else None, behalf.signature if behalf else None
    )


def writer_of(principal: Principal) -> Writer:
    """What kind of writer a principal is."""
    return {"person": Writer.PERSON, "agent": Writer.AGENT, "service": Writer.SERVICE}.get(
        principal.kind, Writer.SYSTEM
    )


_policies: dict[int, Policy] = {}


async def _policy_at(session: Session, version: int) -> Policy:
    """The policy at its present version; parsed once in a process."""
    known = _policies.get(version)
    if known is not None:
        return known
    row = await session.one("select version, doc from state.policy")
    if row is None:
        message = "there is no policy; run `pmis migrate`"
        raise RuntimeError(message)
    policy = Policy.parse({**json.loads(row[1])["document"], "version": row[0]})
    _policies.clear()
    _policies[row[0]] = policy
    return policy


@lru_cache(maxsize=512)
def _parsed_project(doc: str) -> Mapping[str, Any]:
    return json.loads(doc)


async def active_policy(session: Session, version: int | None = None) -> Policy:
    """The policy in force; `version` says that its version was just read."""
    if version is None:
        row = await session.one("select version from state.policy")
        version = int(row[0]) if row else 0
    return await _policy_at(session, version)


@dataclass(frozen=True)
class Loaded:
    """What a proposal touches, under lock. `before` has None for a record that is to be created.

    `awaiting` are the open approvals of the records, under lock as well. `taken` says that a record which is to be
    created is there already, perhaps by another approval of the same proposal.
    """

    before: dict[UUID, Entity | None]
    projects: dict[UUID, Mapping[str, Any]]
    policy: Policy
    awaiting: list[Approval]
    taken: bool


def locking(wanted: Sequence[Wanted], principal: Principal | None = None) -> Statement:
    """The statement that takes every lock of a proposal and reads what is under them."""
    visible = ALL if principal is None else visible_projects(principal)
    seen = None if visible is ALL else Reach.of(visible).text
    created = {one.target for one in wanted if one.operation == "create"}
    by_noun: dict[str, list[UUID]] = {}
    for one in wanted:
        if one.target not in created:
            by_noun.setdefault(one.noun.stream_type, []).append(one.target)
    named = {one.project_id for one in wanted if one.project_id} - created
    targets = [identity for identities in by_noun.values() for identity in identities]
    return _LOCK, ("{" + ",".join(by_noun) + "}", _array(targets), seen, _array(created), _array(named))


def _array(identities: Iterable[UUID]) -> str:
    """The ids as PostgreSQL writes an array; the driver's own way takes several times as long."""
    return "{" + ",".join([identity.hex for identity in identities]) + "}"


async def load(session: WriteSession, wanted: Sequence[Wanted], principal: Principal | None = None) -> Loaded:
    """Lock every record that the changes touch in one fixed order, then their open approvals.

    Raises NotFoundError for a target that is not there. What the principal may not see is not there either: it is not
    even locked, as waiting for a lock would tell.
    """
    before: dict[UUID, Entity | None] = {one.target: None for one in wanted if one.operation == "create"}
    rows = await session.all(*locking(wanted, principal))
    projects: dict[UUID, Mapping[str, Any]] = {}
    awaiting: list[Approval] = []
    policy_version, taken = 0, False
    for kind, _, doc, project in rows:
        if project is not None and kind != "in_force":
            parsed = _parsed_project(project)
            projects[UUID(parsed["id"])] = parsed
        if kind == "approval":
            awaiting.append(Approval.model_validate_json(doc))
        elif kind == "in_force":
            policy_version, taken = int(doc), project == "true"
        elif kind != "home":
            entity = NOUNS[kind].model.model_validate_json(doc)
            before[entity.id] = entity
    for one in wanted:
        if one.target not in before:
            raise NotFoundError(f"There is no such {one.noun.label}.")
    return Loaded(before, projects, await _policy_at(session, policy_version), awaiting, taken)


_LOCK: Final = "select kind, id, doc, project from ledger.lock_targets(%s, %s, %s, %s, %s)"


def require_right(principal: Principal, policy: Policy, noun: str, project_id: UUID | None, facts: Facts | str) -> None:
    """Raise NotFoundError or ForbiddenError unless one of the principal's roles may propose this.

    Without facts yet (a new record, a wrong step) the bare operation is judged.
    """
    rule = policy.nouns.get(noun)
    instance = rule is not None and rule.scope == "instance"
    roles = principal.roles_in(None) if instance else frozenset[Role]()
    if project_id is not None:
        # An executive of some project counts on the instance, but that opens no project that is not theirs.
        if Role.ADMIN not in roles:
            authorize(principal, Action.READ, project_id)
        roles |= principal.roles_in(project_id)
    if isinstance(facts, str):
        proposers = policy.proposers(noun, facts)
    else:
        proposers = policy.proposers(noun, facts.operation, from_status=facts.status, to_status=facts.to_status)
    if roles.isdisjoint(proposers):
        raise ForbiddenError(
            f"Only {_listed(proposers)} may propose this." if proposers else "Nobody may propose this.",
            allowed_roles=[role.value for role in proposers],
        )


def require_step(principal: Principal, policy: Policy, noun: AnyNoun, project_id: UUID) -> None:
    """Raise NotFoundError or ForbiddenError unless one of the principal's roles may propose some step of the noun.

    Which step it is to be, and whether the record can take it, is judged afterwards.
    """
    authorize(principal, Action.READ, project_id)
    lifecycle = policy.lifecycles.get(noun.lifecycle or "")
    proposers = lifecycle.proposers if lifecycle else ()
    if proposers and principal.roles_in(project_id).isdisjoint(proposers):
        raise ForbiddenError(
            f"Only {_listed(proposers)} may propose this.", allowed_roles=[role.value for role in proposers]
        )


def _listed(roles: Sequence[Role]) -> str:
    words = [f"{'an' if role.value[0] in 'aeo' else 'a'} {role.value}" for role in roles]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


async def judge(session: WriteSession, request: Request, wanted: Sequence[Wanted]) -> Judged:
    """Load and lock, decide what would happen and what the policy says to it. Writes nothing.

    Raises the refusal that applies; PolicyRefusedError when the policy answers REJECT.
    """
    loaded = await load(session, wanted, request.principal)
    before, projects, policy = loaded.before, loaded.projects, loaded.policy
    known: dict[UUID, Entity] = {identity: entity for identity, entity in before.items() if entity is not None}
    situation_known: dict[UUID, Entity] = {}
    changes: list[Change] = []
    caused: list[list[Fact]] = []
    judged: list[Facts] = []
    for one in wanted:
        entity = known.get(one.target)
        creating = one.operation == "create"
        project_id = (
            (one.target if one.noun.stream_type == "project" else one.project_id)
            if creating
            else (entity.project_id if entity else one.project_id)
        )
        founding = creating and one.noun.stream_type == "project"
        place = None if founding else project_id
        if project_id is not None and project_id not in projects and not founding:
            raise NotFoundError("There is no such project.")
        if one.operation != "transition":
            require_right(request.principal, policy, one.noun.judged_as(place), place, one.operation)
        elif project_id is not None:
            require_step(request.principal, policy, one.noun, project_id)
        if creating and loaded.taken:
            raise AlreadyExistsError("target: a record with this id exists. Use another id, or none.", field="target")
        at_first = before[one.target]
        if one.if_version is not None and at_first is not None and at_first.version != one.if_version:
            raise StaleVersionError(
                f"You saw version {one.if_version}; it is at version {at_first.version} now. Read it again and repeat.",
                version=at_first.version,
            )
        change = Change(
            operation=one.operation,  # pyright: ignore[reportArgumentType] - the endpoint or planner named it
            target_type=one.noun.stream_type,
            target=one.target,
            project_id=project_id,
            patch=one.patch,
            base_version=at_first.version if at_first else 0,
        )
        situation = Situation(
            principal=request.principal,
            policy=policy,
            at=session.now,
            project=projects.get(project_id) if project_id else None,
            writer=request.writer or writer_of(request.principal),
            reason=request.reason,
            stated_impact=request.stated_impact,
            stated_uncertainty=request.stated_uncertainty,
            flags=request.flags,
            known=situation_known,
        )
        await one.noun.check_references(session, change, entity, situation)
        facts = one.noun.decide(entity, change, situation)
        told = one.noun.facts(entity, change, facts, situation)
        require_right(request.principal, policy, one.noun.judged_as(place), place, told)
        judged.append(told)
        if one is not wanted[-1]:
            after = preview(one.noun, entity, facts, change, request, session)
            known[one.target] = situation_known[one.target] = after
        changes.append(change)
        caused.append(facts)
    if len({change.project_id for change in changes}) > 1:
        # One approval has one project's members as its readers and its deciders.
        raise InvalidInputError(
            "The changes of one proposal lie in one project; propose those of another on their own."
        )
    decision = arbitrate_all(judged, policy)
    if decision.route is Route.REJECT:
        raise PolicyRefusedError(
            "The policy refuses this change: " + "; ".join(reason.text for reason in decision.reasons) + ".",
            reasons=[reason.to_json() for reason in decision.reasons],
        )
    if decision.route is not Route.AUTO:  # else it is applied at once, which shows the same
        last = wanted[-1]
        preview(last.noun, known.get(last.target), caused[-1], changes[-1], request, session)
    return Judged(changes, before, caused, decision, policy, projects, loaded.awaiting)


def preview(
    noun: AnyNoun, entity: Entity | None, facts: list[Fact], change: Change, request: Request, session: WriteSession
) -> Entity:
    """The record as it would be after the facts; raises what keeps the facts from making one."""
    for fact in facts:
        event = Event(
            id=change.target,
            stream_type=noun.stream_type,
            stream_id=change.target,
            stream_version=(entity.version if entity else 0) + 1,
            project_id=change.project_id,
            type=fact.type,
            schema_version=fact.schema_version,
            payload=fact.payload,
            actor=actor_of(request.principal),
            occurred_at=session.now,
        )
        entity = noun.apply(entity, event)
    if entity is None:
        message = f"{noun.stream_type}: a change caused no fact"
        raise RuntimeError(message)
    return entity


async def sealed(session: WriteSession, vault: Vault, request: Request, wanted: Sequence[Wanted]) -> list[Wanted]:
    """The changes with their secret fields put into the vault, for those who may propose them at all.

    Raises NotFoundError or ForbiddenError before anything that takes time or tells what else is in the tables.
    """
    if any(one.noun.secret_fields for one in wanted):
        policy = await active_policy(session)
        created = {one.target for one in wanted if one.operation == "create"}
        for one in wanted:
            if one.noun.secret_fields:
                place = one.project_id if one.target in created else await _place(session, request, one)
                require_right(request.principal, policy, one.noun.judged_as(place), place, one.operation)
    return [
        replace(one, patch=await one.noun.seal(session, vault, one.target, one.patch))
        if one.noun.secret_fields
        else one
        for one in wanted
    ]


async def _place(session: Session, request: Request, one: Wanted) -> UUID | None:
    row = await session.one(f"select project_id from state.{one.noun.stream_type} where id = %s", (one.target,))
    if row is None or (row[0] is not None and not allowed(request.principal, Action.READ, row[0])):
        raise NotFoundError(f"There is no such {one.noun.label}.")
    return row[0]


async def propose(
    session: WriteSession, vault: Vault, request: Request, wanted: Sequence[Wanted], *, supersedes: UUID | None = None
) -> Outcome:
    """Submit changes that stand or fall together; what the policy allows at once is applied, the rest waits."""
    judged = await judge(session, request, await sealed(session, vault, request, wanted))
    if judged.decision.route is Route.AUTO:
        governance = {
            "digest": judged.digest,
            "policy_version": judged.policy.version,
            "route": judged.decision.route.value,
            "rule": judged.decision.rule,
        }
        entities, events = await apply_changes(session, vault, request.origin, judged, governance, request.reason)
        promise_changes(session, events)
        return Outcome("applied", judged.decision, entities)
    approval = await _record(session, request, judged, supersedes)
    return Outcome(
        "confirmation_required" if approval.status == "confirmation_required" else "pending",
        judged.decision,
        approval=approval,
    )


async def apply_changes(
    session: WriteSession, vault: Vault, origin: Origin, judged: Judged, governance: dict[str, Any], reason: str | None
) -> tuple[list[Entity], list[Event]]:
    """Append the facts of a judged proposal and void the open approvals of what moved; the records and events."""
    current = dict(judged.before)
    events: list[Event] = []
    moved: dict[UUID, set[str]] = {}
    for change, facts in zip(judged.changes, judged.caused, strict=True):
        noun = NOUNS[change.target_type]
        project = judged.projects.get(change.project_id) if change.project_id else None
        said = {"governance": governance, **({"reason": reason} if reason else {})}
        final: list[Fact] = []
        for fact in facts:
            numbered = await noun.numbered(session, fact, project)
            final.append(Fact(numbered.type, {**numbered.payload, **said}, numbered.schema_version))
        entity, appended = append(
            session,
            noun,
            current[change.target],
            final,
            origin=origin,
            stream_id=change.target,
            project_id=change.project_id,
        )
        current[change.target] = entity
        events += appended
        if change.operation != "create":
            moved.setdefault(change.target, set()).update(
                name for fact in facts for name in fact.payload.get("changes", {})
            )
    _void_drifted(session, origin, moved, judged.awaiting, spared=governance.get("approval_id"))
    # Only now: what follows may concern approvals, and finds those that are void no longer open.
    for change in judged.changes:
        events += await NOUNS[change.target_type].applied(session, vault, current[change.target], origin)
    return [entity for entity in current.values() if entity is not None], events


def _void_drifted(
    session: WriteSession,
    origin: Origin,
    moved: Mapping[UUID, set[str]],
    awaiting: Sequence[Approval],
    *,
    spared: str | None,
) -> None:
    """Make void every other open approval for a record that just moved, and name the fields that collide."""
    for approval in awaiting:
        if str(approval.id) == spared or moved.keys().isdisjoint(change.target for change in approval.changes):
            continue
        colliding = sorted(
            {
                name
                for change in approval.changes
                if change.target in moved
                for name in moved[change.target] & (set(change.patch) or {"status"})
            }
        )
        words = (
            f"it collides in {', '.join(colliding)}" if colliding else "no field collides, but the version is another"
        )
        fact = Fact(
            "approval.voided", {"reason": f"the record was changed in the meantime; {words}", "colliding": colliding}
        )
        append(
            session, APPROVALS, approval, [fact], origin=origin, stream_id=approval.id, project_id=approval.project_id
        )


def promise_changes(session: WriteSession, events: Sequence[Event]) -> None:
    """Promise that the world hears of these events."""
    first = events[0]
    promise(
        session,
        "events",
        key=f"events:{first.id}",
        event_id=first.id,
        payload={
            "events": [{"id": str(event.id), "type": event.type, "stream_id": str(event.stream_id)} for event in events]
        },
    )


def diffs(judged: Judged) -> list[RecordDiff]:
    """What the proposal does, record by record and field by field."""
    found: list[RecordDiff] = []
    new: dict[UUID, Mapping[str, Any]] = {}
    for change, facts in zip(judged.changes, judged.caused, strict=True):
        entity = judged.before[change.target]
        if change.operation == "create":
            new[change.target] = facts[0].payload["fields"]
        fields: list[FieldDiff] = []
        for fact in facts:
            if "fields" in fact.payload:
                fields += [
                    FieldDiff(field=name, before=None, after=value)
                    for name, value in fact.payload["fields"].items()
                    if value not in (None, "", {}, []) and name not in ("number", "code")
                ]
            else:
                fields += [
                    FieldDiff(field=name, before=item["from"], after=item["to"])
                    for name, item in fact.payload["changes"].items()
                ]
        found.append(
            RecordDiff(
                operation=change.operation,
                target_type=change.target_type,
                target=change.target,
                label=label_of(change.target_type, entity.plain if entity else new[change.target]),
                fields=fields,
            )
        )
    return found


def label_of(target_type: str, fields: Mapping[str, Any]) -> str:
    """The record as a person would name it."""
    code = fields.get("code", "—")
    name = fields.get("title") or fields.get("name") or target_type
    return f"{code} {name}" if code != "—" else str(name)


async def _record(session: WriteSession, request: Request, judged: Judged, supersedes: UUID | None) -> Approval:
    decision = judged.decision
    first = judged.changes[0]
    person = request.principal.person_id
    behalf = request.principal.on_behalf_of
    confirming = decision.route is Route.CONFIRM
    diff = diffs(judged)
    now = session.now
    # A project that is to be founded has no members yet: those of the instance read and decide it.
    founding = any(one.operation == "create" and one.target_type == "project" for one in judged.changes)
    home = None if founding else first.project_id
    fields = {
        "status": "confirmation_required" if confirming else "pending",
        "route": decision.route.value,
        "target_type": first.target_type,
        "target_id": str(first.target),
        "label": diff[0].label if len(diff) == 1 else f"{diff[0].label} and {len(diff) - 1} more",
        "reason": request.reason,
        "proposer": Proposer(
            ref=request.principal.ref,
            name=request.principal.name,
            person_id=person,
            on_behalf_of=behalf.ref if behalf else None,
            on_behalf_of_name=behalf.name if behalf else None,
        ).model_dump(mode="json"),
        "source": request.source,
        "digest": judged.digest,
        "policy_version": judged.policy.version,
        "decision": decision.to_json(),
        "changes": [change.model_dump(mode="json") for change in judged.changes],
        "diff": [item.model_dump(mode="json") for item in diff],
        "open_steps": waiting_steps(
            Round(steps=decision.steps, order=decision.order, at=now, proposers=frozenset(), project_id=home)
        ),
        "expires_at": _after_hours(now, decision.expires_hours),
        "deadline_at": _after_hours(now, decision.deadline_hours),
        "supersedes": str(supersedes) if supersedes else None,
    }
    approval, events = append(
        session,
        APPROVALS,
        None,
        [Fact("approval.created", {"fields": fields})],
        origin=request.origin,
        stream_id=uuid7(),
        project_id=home,
    )
    urgent = decision.route is Route.ESCALATE
    promise(
        session,
        "approval.requested",
        key=f"requested:{approval.id}",
        event_id=events[0].id,
        payload={"approval_id": str(approval.id), "route": approval.route, "urgent": urgent},
    )
    return approval


def waiting_steps(round_: Round) -> list[dict[str, Any]]:
    """The steps that still wait, as an approval shows them."""
    return [{**one.step.to_json(), "missing": one.missing, "ready": one.ready} for one in open_steps(round_)]


def _after_hours(now: Any, hours: int | None) -> str | None:  # noqa: ANN401 - datetime
    return None if hours is None else (now + timedelta(hours=hours)).isoformat()
