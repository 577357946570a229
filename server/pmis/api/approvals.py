"""Approvals over HTTP: the inbox, and everything that can be said to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID  # noqa: TC003 - pydantic reads the annotations at run time

from pydantic import Field, StringConstraints, create_model
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, etag, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.events import events_page
from pmis.api.resources import answer_of, limit_of, next_link, project_named
from pmis.api.secondfactor import with_proof
from pmis.api.secrets import reveal
from pmis.approval import decide
from pmis.approval.change import Operation  # noqa: TC001
from pmis.approval.governed import ENVELOPE, Input, Proposed, parse_input
from pmis.approval.inbox import LISTING, Asked, approvals, waiting_for
from pmis.approval.models import Approval
from pmis.approval.propose import Outcome, Wanted, propose
from pmis.approval.registry import NOUNS
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.fields import Data  # noqa: TC001
from pmis.kit.ids import uuid7
from pmis.kit.listing import Page
from pmis.kit.text import Line, Words
from pmis.ledger.idempotency import Answer
from pmis.policy.access import Action, allowed, authorize
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.approval.governed import AnyNoun
    from pmis.kit.db import Session, WriteSession

Reason = Annotated[Words, StringConstraints(min_length=1, max_length=2000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Decide(Input):
    """A decision. `digest` is the digest of what was shown: a decision about other content is refused."""

    digest: Digest | None = Field(
        default=None, examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
    )
    reason: Reason | None = Field(default=None, examples=["As agreed on Monday."])


class DecideWithReason(Input):
    """A decision that needs a reason."""

    digest: Digest | None = None
    reason: Reason = Field(examples=["The amount is above the offer."])


class Revise(Proposed):
    """Propose again. `patches` replaces the patch of the records it names by id; the others stay as proposed."""

    patches: dict[UUID, Data] = Field(default={}, max_length=1000)


class ProposedChange(Input):
    """One change of a proposal of several."""

    operation: Operation
    target_type: Annotated[Line, StringConstraints(max_length=40)] = Field(examples=["package"])
    target: UUID | None = Field(default=None, description="The record; for a new one an id of your own, or none.")
    project: Annotated[Line, StringConstraints(max_length=40)] | None = None
    patch: Data = Field(default={})
    if_version: int | None = Field(default=None, ge=1)


class Proposal(Proposed):
    """Changes that are applied all or nothing, in this order; the strictest route holds for all."""

    changes: Annotated[list[ProposedChange], Field(min_length=1, max_length=1000)] = Field(
        examples=[
            [{"operation": "create", "target_type": "package", "project": "P", "patch": {"title": "Cycle lane, north"}}]
        ]
    )


ApprovalPage = create_model(
    "ApprovalPage", items=(list[Approval], ...), next=(str | None, ...), __doc__="A page of approvals."
)
router = docs.RouteTable("approvals")


async def _shown(session: Session, call: Call, approval: Approval) -> str:
    return (await reveal(session, call.parts.vault, call.principal, [approval.model_dump_json()]))[0]


async def list_approvals(request: Request) -> Response:
    """A page of approvals, or of those that wait for the caller."""
    call = await caller(request)
    require_known_parameters(
        request, frozenset({*LISTING.filters, "waiting_for", "sort", "cursor", "limit", "project"})
    )
    given = request.query_params
    limit = limit_of(request)
    waiting = given.get("waiting_for")
    if waiting not in (None, "me"):
        raise InvalidInputError(
            "waiting_for: only `me` is possible.",
            errors=[{"pointer": "/query/waiting_for", "message": "me", "type": "enum"}],
        )
    filters = {name: given[name] for name in given if name in LISTING.filters}
    async with call.parts.database.read(call.reach) as session:
        instance = False
        if "project" in given:
            projects = [await project_named(session, call.principal, given["project"])]
        else:
            projects = await readable_projects(session, call.principal)
            # Changes of people and of the policy lie in no project; their deciders are the instance's.
            instance = allowed(call.principal, Action.READ, None)
        asked = Asked(projects, instance, call.parts.clock.now(), filters, given.get("sort"), given.get("cursor"))
        if waiting:
            found = await waiting_for(session, call.principal, asked, limit)
        else:
            found = await approvals(session, asked, limit)
        found = Page(await reveal(session, call.parts.vault, call.principal, found.docs), found.next)
    return Response(found.body(), 200, next_link(request, found.next), "application/json")


async def get_approval(request: Request, approval_id: str) -> Response:
    """One approval."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        approval = await decide.visible_approval(session, call.principal, _id(approval_id))
        body = await _shown(session, call, approval)
    return Response(body, 200, {"ETag": etag(approval.version)}, "application/json")


async def approval_timeline(request: Request, approval_id: str) -> Response:
    """The approval's life, the newest first."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    async with call.parts.database.read(call.reach) as session:
        approval = await decide.visible_approval(session, call.principal, _id(approval_id))
        body, following = await events_page(
            session,
            call,
            "stream_id in (select %s::uuid union all select id from state.comment where entity_id = %s)",
            [approval.id, approval.id],
            cursor=request.query_params.get("cursor"),
            limit=limit_of(request),
        )
    return Response(body, 200, next_link(request, following), "application/json")


def _id(text: str) -> UUID:
    identity = uuid_or_none(text)
    if identity is None:
        raise NotFoundError("There is no such approval.")
    return identity


def _saying(verdict: decide.VerdictName) -> Any:  # noqa: ANN401 - an endpoint
    model = Decide if verdict == "approve" else DecideWithReason

    async def endpoint(request: Request, approval_id: str) -> Response:
        call = await caller(request)
        require_known_parameters(request, frozenset())
        docs.require_json(request)
        said = parse_input(model, await request.body())

        async def handle(session: WriteSession, recent: bool) -> Answer:
            outcome = await decide.say(
                session,
                call.parts.vault,
                call.proposing(),
                _id(approval_id),
                verdict,
                reason=said.reason,
                shown=said.digest,
                recent=recent,
            )
            return _decided(call, outcome)

        return await with_proof(call, lambda recent: write(call, lambda session: handle(session, recent)))

    endpoint.__name__ = verdict
    return endpoint


def _decided(call: Call, outcome: Outcome) -> Answer:
    answer = answer_of(call, outcome, path=None)
    # A decision was taken either way: 200, also when the approval still waits for somebody else.
    return Answer(200, answer.body, {}, answer.project_id)


async def confirm_approval(request: Request, approval_id: str) -> Response:
    """The proposer's own yes."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(Decide, await request.body())

    async def handle(session: WriteSession, recent: bool) -> Answer:
        outcome = await decide.confirm(
            session, call.parts.vault, call.proposing(), _id(approval_id), shown=said.digest, recent=recent
        )
        return _decided(call, outcome)

    return await with_proof(call, lambda recent: write(call, lambda session: handle(session, recent)))


async def withdraw_approval(request: Request, approval_id: str) -> Response:
    """Take a proposal back."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(Decide, await request.body())

    async def handle(session: WriteSession) -> Answer:
        approval = await decide.withdraw(session, call.proposing(), _id(approval_id), reason=said.reason)
        body = approval.model_dump_json().encode()
        return Answer(200, body, {"ETag": etag(approval.version)}, approval.project_id)

    return await write(call, handle)


async def revise_approval(request: Request, approval_id: str) -> Response:
    """Propose again."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(Revise, await request.body())

    async def handle(session: WriteSession) -> Answer:
        outcome = await decide.revise(session, call.parts.vault, call.proposing(said), _id(approval_id), said.patches)
        return answer_of(call, outcome, path=None)

    return await write(call, handle)


async def propose_changes(request: Request) -> Response:
    """Propose several changes at once."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(Proposal, await request.body())

    async def handle(session: WriteSession) -> Answer:
        places = await _places(session, call, said.changes)
        wanted = [await _wanted(session, call, change, i, places) for i, change in enumerate(said.changes)]
        outcome = await propose(session, call.parts.vault, call.proposing(said), wanted)
        return answer_of(call, outcome, path=None)

    return await write(call, handle)


async def _places(session: Session, call: Call, changes: Sequence[ProposedChange]) -> dict[UUID, UUID | None]:
    """Where the records lie that a proposal is about; those that it creates are not among them.

    Raises NotFoundError for a record that the caller may not see.
    """
    created: set[UUID] = set()
    existing: dict[str, set[UUID]] = {}
    for i, change in enumerate(changes):
        noun = _proposable(change, i)
        if noun.instance_level:
            authorize(call.principal, Action.PROPOSE, None)
        if change.operation == "create":
            if change.target in created:
                raise _at(i, "target", "an earlier change creates this record")
            created.update({change.target} if change.target else ())
        elif change.target is None:
            raise _at(i, "target", "say which record")
        elif change.target not in created:
            existing.setdefault(change.target_type, set()).add(change.target)
    places: dict[UUID, UUID | None] = {}
    for name, targets in existing.items():
        rows = await session.all(f"select id, project_id from state.{name} where id = any(%s)", (list(targets),))
        found: dict[UUID, UUID | None] = dict(rows)
        if any(one not in found or not allowed(call.principal, Action.READ, found[one]) for one in targets):
            raise NotFoundError(f"There is no such {NOUNS[name].label}.")
        places |= found
    return places


def _proposable(change: ProposedChange, index: int) -> AnyNoun:
    noun = NOUNS.get(change.target_type)
    if noun is None or not noun.operations:
        known = sorted(name for name, one in NOUNS.items() if one.operations)
        raise _at(index, "target_type", f"there is no {change.target_type!r} here; use one of {', '.join(known)}")
    if change.operation not in noun.operations:
        raise _at(index, "operation", f"a {noun.label} knows only {', '.join(sorted(noun.operations))}")
    return noun


async def _wanted(
    session: Session, call: Call, change: ProposedChange, index: int, places: dict[UUID, UUID | None]
) -> Wanted:
    noun = NOUNS[change.target_type]
    creating = change.operation == "create"
    try:
        patch = noun.validated(change.operation, change.patch)
    except InvalidInputError as error:
        for item in error.extra.get("errors", []):
            item["pointer"] = f"/changes/{index}/patch{item['pointer']}"
        raise
    if said := sorted(ENVELOPE & set(change.patch)):
        raise _at(index, f"patch/{said[0]}", "say this once, for the whole proposal")
    target = change.target or uuid7()
    project = await project_named(session, call.principal, change.project) if change.project else None
    if target in places:
        project = places[target]
    elif creating and project is None and not noun.instance_level and noun.stream_type != "project":
        raise _at(index, "project", "say which project a new record belongs to")
    return Wanted(noun, change.operation, target, patch, project, change.if_version)


def _at(index: int, field: str, message: str) -> InvalidInputError:
    pointer = f"/changes/{index}/{field}"
    return InvalidInputError(
        f"{pointer[1:]}: {message}.", errors=[{"pointer": pointer, "message": message, "type": "value_error"}]
    )


_one = "/approvals/{approval_id}"
docs.route(
    router,
    "GET",
    "/approvals",
    list_approvals,
    docs.Spec(
        "List approvals",
        "read",
        {200: ApprovalPage},
        docs.READ_REFUSALS,
        headers=("Link",),
        description="`waiting_for=me` lists, oldest first, what the caller can decide or confirm right now.",
        parameters=[
            *(docs.query(name, item.description, item.example) for name, item in LISTING.filters.items()),
            docs.query("waiting_for", "Only what waits for the caller.", "me", {"type": "string", "enum": ["me"]}),
            docs.query("sort", "The order.", "created_at", {"type": "string", "enum": ["created_at", "-created_at"]}),
            docs.CURSOR,
            docs.LIMIT,
            docs.PROJECT,
        ],
    ),
)
docs.route(
    router,
    "GET",
    _one,
    get_approval,
    docs.Spec("Read one approval", "read", {200: Approval}, docs.READ_REFUSALS, headers=("ETag",)),
)
docs.route(
    router,
    "GET",
    f"{_one}/timeline",
    approval_timeline,
    docs.Spec(
        "The whole life of an approval",
        "read",
        {200: docs.EventPage},
        docs.READ_REFUSALS,
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
_SAYINGS: Final[tuple[tuple[decide.VerdictName, str, str], ...]] = (
    ("approve", "approve", "Agree; when enough people have, the change is applied"),
    ("reject", "reject", "Refuse, with a reason"),
    ("request_changes", "request-changes", "Send back to the proposer, with a reason"),
)
for _verdict, _path, _words in _SAYINGS:
    docs.route(
        router,
        "POST",
        f"{_one}/{_path}",
        _saying(_verdict),
        docs.Spec(
            _words,
            "decide",
            {200: docs.Outcome},
            docs.SAY_REFUSALS,
            body=Decide if _verdict == "approve" else DecideWithReason,
            body_required=_verdict != "approve",
        ),
    )
docs.route(
    router,
    "POST",
    f"{_one}/confirm",
    confirm_approval,
    docs.Spec(
        "Confirm one's own proposal as shown",
        "confirm",
        {200: docs.Outcome},
        docs.SAY_REFUSALS,
        body=Decide,
        body_required=False,
    ),
)
docs.route(
    router,
    "POST",
    f"{_one}/withdraw",
    withdraw_approval,
    docs.Spec(
        "Take one's own proposal back",
        "confirm",
        {200: Approval},
        docs.SAY_REFUSALS,
        headers=("ETag",),
        body=Decide,
        body_required=False,
    ),
)
docs.route(
    router,
    "POST",
    f"{_one}/revise",
    revise_approval,
    docs.Spec(
        "Propose again what was sent back or ended unapplied",
        "propose",
        {200: docs.Outcome, 202: docs.Outcome},
        docs.SAY_REFUSALS,
        headers=("ETag", "Location"),
        body=Revise,
        body_required=False,
    ),
)
docs.route(
    router,
    "POST",
    "/proposals",
    propose_changes,
    docs.Spec(
        "Propose several changes that stand or fall together",
        "propose",
        {200: docs.Outcome, 202: docs.Outcome},
        docs.SAY_REFUSALS,
        headers=("ETag", "Location"),
        body=Proposal,
    ),
)
