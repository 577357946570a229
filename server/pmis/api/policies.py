"""The policy over HTTP: read it, ask it, propose another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import caller, etag, if_match, require_good_key, require_known_parameters
from pmis.api.edge import write
from pmis.api.resources import answer_of
from pmis.approval.governed import Input, LevelName, parse_input
from pmis.approval.policy import POLICIES, POLICY_ID, PolicyPatch, PolicyRecord
from pmis.approval.propose import Wanted, active_policy, propose
from pmis.kit.canonical import canonical
from pmis.kit.fields import Amount, Currency  # noqa: TC001
from pmis.kit.text import Line
from pmis.policy.arbitrate import Facts, arbitrate, explain
from pmis.policy.levels import Level

if TYPE_CHECKING:
    from pmis.kit.db import WriteSession
    from pmis.ledger.idempotency import Answer

router = docs.RouteTable("policy")
Word = Annotated[Line, StringConstraints(max_length=60)]


class Simulate(Input):
    """A hypothetical change, as facts."""

    operation: Word = Field(examples=["patch"])
    target_type: Word = Field(examples=["package"])
    writer: Word = Field(default="person", examples=["person"])
    status: Word | None = Field(default=None, examples=["approved"])
    to_status: Word | None = Field(default=None)
    fields: Annotated[list[Word], Field(max_length=100)] = Field(default=[], examples=[["amount"]])
    first_set: Annotated[list[Word], Field(max_length=100)] = Field(default=[])
    amount_before: Amount | None = None
    amount_after: Amount | None = None
    currency_before: Currency | None = None
    currency_after: Currency | None = None
    budget: Amount | None = None
    budget_currency: Currency | None = None
    slip_days: int = Field(default=0, ge=-100_000, le=100_000)
    flags: Annotated[list[Word], Field(max_length=20)] = Field(default=[])
    impact_level: LevelName | None = None
    uncertainty_level: LevelName | None = None


class Simulated(docs.Judged):
    """What the policy would answer, and why."""

    explanation: list[str] = Field(description="The same in sentences.")


async def get_policy(request: Request) -> Response:
    """The document in force."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        row = await session.one("select version, doc from state.policy where id = %s", (POLICY_ID,))
    version, doc = row or (0, json.dumps(None))
    return Response(doc, 200, {"ETag": etag(version)}, "application/json")


async def patch_policy(request: Request) -> Response:
    """Propose another document."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = POLICIES.parse("patch", await request.body())
    version = if_match(request)

    async def handle(session: WriteSession) -> Answer:
        wanted = Wanted(POLICIES, "patch", POLICY_ID, POLICIES.patch_of("patch", said), None, version)
        outcome = await propose(session, call.parts.vault, call.proposing(said), [wanted])
        return answer_of(call, outcome, path=None)

    return await write(call, handle)


async def simulate(request: Request) -> Response:
    """What the policy would say."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)
    said = parse_input(Simulate, await request.body())
    async with call.parts.database.read(call.reach) as session:
        policy = await active_policy(session)
    given = said.model_dump(exclude={"impact_level", "uncertainty_level"})
    for name in ("fields", "first_set", "flags"):
        given[name] = frozenset(given[name])
    if said.amount_before is not None and said.amount_after is None and "amount" not in said.fields:
        given["amount_after"] = said.amount_before
    facts = Facts(
        **given,
        stated_impact=Level.parse(said.impact_level) if said.impact_level else None,
        stated_uncertainty=Level.parse(said.uncertainty_level) if said.uncertainty_level else None,
    )
    decision = arbitrate(facts, policy)
    body = {**decision.to_json(), "explanation": explain(decision)}
    return Response(canonical(body), 200, None, "application/json")


docs.route(
    router,
    "GET",
    "/policy",
    get_policy,
    docs.Spec("The policy in force", "signed in", {200: PolicyRecord}, (401, 422, 503), headers=("ETag",)),
)
docs.route(
    router,
    "PATCH",
    "/policy",
    patch_policy,
    docs.Spec(
        "Propose another policy",
        "administer",
        {200: docs.Outcome, 202: docs.Outcome},
        docs.WRITE_REFUSALS,
        headers=("ETag", "Location"),
        parameters=[docs.IF_MATCH],
        body=PolicyPatch,
    ),
)
docs.route(
    router,
    "POST",
    "/policy/simulate",
    simulate,
    docs.Spec(
        "What the policy would say to a hypothetical change",
        "signed in",
        {200: Simulated},
        (400, 401, 413, 415, 422, 503),
        description="Nothing is written.",
        body=Simulate,
    ),
)
