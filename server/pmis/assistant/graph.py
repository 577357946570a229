"""The graph of a turn: small functions from what is known to what is known next.

    intake → retrieve → plan → validate → arbitrate → execute (once for each proposal) → verify → remember → respond
                          └─ nothing to change ────────────────────────────────────────────────────┘

What a proposal does is done in one transaction under a key of the turn, so a node that runs again, in whichever
process, finds what it did before. Where the person's own yes is wanted, the turn ends in an interrupt and goes on when
they have given it; the yes itself is given to the approval, by the person, and never passes through here.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime  # noqa: TC002 - the graph reads the annotations at run time
from langgraph.types import interrupt

from pmis.approval.models import Approval
from pmis.approval.propose import Outcome, Request, Wanted, diffs, judge, propose, sealed, waiting_steps
from pmis.approval.registry import NOUNS
from pmis.assistant import turns
from pmis.assistant.answers import Asking, answer, link, meanings, names_in, value_of, words
from pmis.assistant.contained import contained
from pmis.assistant.plan import Named, Plan, PlannedChange
from pmis.assistant.state import BEFORE, NAMED, PLAN, SOURCE, State
from pmis.assistant.untrusted.tools import provenance
from pmis.assistant.work import Heard, Work
from pmis.kit.canonical import canonical
from pmis.kit.errors import NotFoundError, PmisError
from pmis.ledger.idempotency import Answer, claim, claiming, settle
from pmis.policy.access import Action, allowed, visible_projects
from pmis.policy.approvers import Round
from pmis.policy.document import UNTRUSTED
from pmis.policy.levels import Level, Route
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from pmis.kit.db import Session

JsonObject = dict[str, Any]
WAITS: Final = "confirmation_required"
REFUSED: Final = "refused"
_MOST_CHANGES: Final = 50
_LABEL: Final = 60
_LONGEST_QUOTE: Final = 1500


async def intake(state: State) -> JsonObject:
    """What was said, without what nobody means to say: control characters, and marks that hide or turn text."""
    text = "".join(one if one.isprintable() or one in "\n\t" else " " for one in state["query"])
    return {"query": " ".join(text.split()), "at": 0, "findings": [], "proposals": [], "notices": []}


async def retrieve(state: State, runtime: Runtime[Work]) -> JsonObject:
    """Where the person works: the project they named, or the only one they are in, and the zone of their days.

    Of several projects the oldest says what "today" is.
    """
    work = runtime.context
    asked = state["asked_project"]
    visible = visible_projects(work.agent)
    async with work.database.read(work.reach) as session:
        await turns.require_running(session)
        found = await _project(session, work, asked)
    if found is None:
        return {"project": None, "zone": "UTC"}
    doc = json.loads(found)
    named = Named("project", UUID(doc["id"]), doc["prefix"])
    only = asked is not None or (isinstance(visible, frozenset) and len(visible) == 1)
    return {"project": NAMED.dump_python(named, mode="json") if only else None, "zone": doc["timezone"]}


async def _project(session: Session, work: Work, asked: str | None) -> str | None:
    """The project that was named, or the oldest that the person reads."""
    if asked is not None:
        row = await session.one(
            "select doc, id from state.project where id::text = %s or prefix = %s", (asked.lower(), asked.upper())
        )
        if row is None or not allowed(work.agent, Action.READ, row[1]):
            raise NotFoundError("There is no such project.")
        return row[0]
    visible = await readable_projects(session, work.agent)
    row = await session.one("select doc from state.project where id = any(%s) order by id limit 1", (visible,))
    return row[0] if row else None


async def plan(state: State, runtime: Runtime[Work]) -> JsonObject:
    """What to do about it, and what there is to say to what was asked."""
    work = runtime.context
    project, before = state["project"], state["before"]
    zone = ZoneInfo(state["zone"])
    heard = Heard(
        state["query"],
        work.clock.now(),
        zone,
        work.public,
        NAMED.validate_python(project) if project else None,
        BEFORE.validate_python(before) if before else None,
    )
    made = await work.planner.plan(lambda: work.database.read(work.reach), work.agent, heard)
    meant = await meanings(work.embedder, made.questions)
    async with work.database.read(work.reach) as session:
        asking = Asking(work.person, heard.now, zone, work.public, work.vault, meant)
        findings: list[JsonObject] = []
        for question in made.questions:
            try:
                findings.append((await answer(session, asking, question)).to_json())
            except PmisError as error:
                findings.append({"text": error.detail, "evidence": [], "records": []})
    return {"plan": PLAN.dump_python(made, mode="json"), "findings": findings}


async def validate(state: State, runtime: Runtime[Work]) -> JsonObject:
    """The changes as the governed path takes them, those of one record together; what it would not take is said."""
    work = runtime.context
    made = PLAN.validate_python(state["plan"])
    proposals: list[JsonObject] = []
    for change in made.changes[:_MOST_CHANGES]:
        item = _item(change)
        if change.target_type == "memory" and change.operation == "create" and work.conversation_id is not None:
            item["patch"]["conversation_id"] = str(work.conversation_id)
        noun = NOUNS.get(change.target_type)
        try:
            if noun is None or change.operation not in noun.operations:
                raise NotFoundError(f"Nobody can {change.operation} a {change.target_type} here.")
            secret = sorted(noun.secret_fields & change.patch.keys())
            if secret and change.target_type != "memory":
                # What was said is kept as text, where a protected value has no place; what is to be remembered has.
                fields = " and ".join(words(one) for one in secret)
                raise NotFoundError(f"The {fields} of a {change.target_type} are protected: change them in its form.")
            item["patch"] = noun.validated(change.operation, item["patch"])
            if change.operation != "create":
                item["patch"] = {name: item["patch"][name] for name in change.patch if name in item["patch"]}
        except PmisError as error:
            item["refusal"] = error.detail
        same = next((one for one in proposals if change.target and one["target_id"] == str(change.target.id)), None)
        if same is not None:
            same["changes"].append(item)
            same["refusal"] = same["refusal"] or item.get("refusal")
            same["reason"] = change.reason or same["reason"]
            continue
        proposals.append(
            {
                "target_id": str(change.target.id) if change.target else None,
                "new_id": str(_new_id(work.turn_id, len(proposals))),
                "project": str(change.project) if change.project else None,
                "changes": [item],
                "reason": change.reason or _in_own_words(work, state["query"]),
                "refusal": item.get("refusal"),
                "outcome": None,
            }
        )
    async with work.database.read(work.reach) as session:
        await turns.require_budget(
            session,
            work.person.person_id or UUID(int=0),
            work.clock.now(),
            most=work.limits.proposals_an_hour,
            more=len(proposals),
        )
    return {"proposals": proposals}


def _new_id(turn: UUID, place: int) -> UUID:
    """The id of a record that a turn makes: the same however often it is begun again, and as new as the turn."""
    rest = int.from_bytes(hashlib.sha256(f"{turn} {place}".encode()).digest()[:10], "big")
    return UUID(int=(turn.int >> 80 << 80 | rest) & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def _in_own_words(work: Work, query: str) -> str | None:
    """What stands for a reason where none was given: those who decide see what was asked for."""
    return f"Asked of the assistant: “{query[:_LONGEST_QUOTE]}”" if work.quotes else None


def _item(change: PlannedChange) -> JsonObject:
    return {
        "operation": change.operation,
        "target_type": change.target_type,
        "target": change.target.label if change.target else None,
        "target_id": str(change.target.id) if change.target else None,
        "patch": dict(change.patch),
        "sources": [SOURCE.dump_python(one, mode="json") for one in change.sources],
    }


async def arbitrate(state: State, runtime: Runtime[Work]) -> JsonObject:
    """What rules and policy say to each proposal. Unless all would be taken, none is made: nobody asked for a half."""
    work = runtime.context
    proposals = [dict(one) for one in state["proposals"]]
    for proposal in proposals:
        if proposal["refusal"]:
            continue
        async with work.database.write(work.reach) as session:
            try:
                request = _request(work, state, proposal)
                judged = await judge(session, request, await sealed(session, work.vault, request, _wanted(proposal)))
            except PmisError as error:
                if error.retry_after is not None:
                    raise
                proposal["refusal"] = error.detail
                continue
            decision = judged.decision
            round_ = Round(steps=decision.steps, order=decision.order, at=session.now, proposers=frozenset())
            proposal |= {
                "route": decision.route.value,
                "rule": decision.rule,
                "diff": [one.model_dump(mode="json") for one in diffs(judged)],
                "needs": waiting_steps(round_),
            }
    return {"proposals": json.loads(json.dumps(proposals, default=str))}


def _request(work: Work, state: State, proposal: JsonObject) -> Request:
    impact, stated = state["stated_impact"], state["stated_uncertainty"]
    uncertainty = Level.parse(stated) if stated else None
    if state["plan"]["unsure"]:
        uncertainty = max(uncertainty or Level.HIGH, Level.HIGH)
    sources = _sources(proposal)
    return Request(
        work.agent,
        work.source,
        work.correlation_id,
        reason=" ".join(one for one in (provenance(sources), proposal["reason"]) if one) or None,
        flags=frozenset({UNTRUSTED}) if sources else frozenset(),
        stated_impact=Level.parse(impact) if impact else None,
        stated_uncertainty=uncertainty,
    )


def _sources(proposal: JsonObject) -> list[JsonObject]:
    """What others wrote that was read before the proposal, each text with the fields that it has the values of."""
    found: dict[tuple[str, str], JsonObject] = {}
    for one in (source for item in proposal["changes"] for source in item["sources"]):
        same = found.setdefault((one["id"], one["part"]), {**one, "fields": []})
        same["fields"] += [name for name in one["fields"] if name not in same["fields"]]
    return list(found.values())


def _wanted(proposal: JsonObject) -> list[Wanted]:
    return [
        Wanted(
            NOUNS[item["target_type"]],
            item["operation"],
            UUID(proposal["target_id"] or proposal["new_id"]),
            item["patch"],
            UUID(proposal["project"]) if proposal["project"] else None,
        )
        for item in proposal["changes"]
    ]


def _is_refused(state: State) -> bool:
    return any(one["refusal"] for one in state["proposals"]) and state["at"] == 0


async def execute(state: State, runtime: Runtime[Work]) -> JsonObject:
    """Submit one proposal, under a key of the turn: done again, it finds what was answered the first time."""
    work = runtime.context
    at = state["at"]
    proposals = [dict(one) for one in state["proposals"]]
    proposal = proposals[at]
    key = f"chat:{work.turn_id}:{at}"
    print_ = hashlib.sha256(canonical({"changes": proposal["changes"], "id": proposal["new_id"]}).encode()).digest()
    async with work.database.write(work.reach, claiming(work.agent.ref, key, print_)) as session:
        held = await claim(session, work.agent.ref, key, print_, begun=True)
        if not isinstance(held, Answer):
            await turns.require_running(session)
            try:
                outcome = await propose(session, work.vault, _request(work, state, proposal), _wanted(proposal))
                became = _became(outcome)
            except PmisError as error:
                if error.retry_after is not None:
                    raise
                # The record has moved since it was judged; what the rules say now counts, and is said.
                became = {"outcome": REFUSED, "refusal": error.detail}
                await session.restart()
                held = await claim(session, work.agent.ref, key, print_)
            if not isinstance(held, Answer):
                held_answer = Answer(200, json.dumps(became).encode())
                settle(session, held, held_answer)
                await session.commit()
                held = held_answer
    proposal |= json.loads(held.body)
    return {"proposals": proposals, "at": at + 1}


def _became(outcome: Outcome) -> JsonObject:
    entity = outcome.entities[0] if outcome.entities else None
    approval = outcome.approval
    return {
        "outcome": outcome.outcome,
        "route": outcome.decision.route.value,
        "rule": outcome.decision.rule,
        "approval_id": str(approval.id) if approval else None,
        "digest": approval.digest if approval else None,
        "resource": json.loads(entity.doc) if entity else None,
    }


async def verify(state: State, runtime: Runtime[Work]) -> JsonObject:
    """Read back what became of each proposal: the record as it was to be, or the approval that says what waits."""
    work = runtime.context
    proposals = [dict(one) for one in state["proposals"]]
    notices = list(state["notices"])
    async with work.database.read(work.reach) as session:
        for proposal in proposals:
            if proposal["outcome"] == "applied":
                await _read_back(session, proposal, notices)
            elif proposal.get("approval_id"):
                row = await session.one("select doc from state.approval where id = %s", (proposal["approval_id"],))
                approval = Approval.model_validate_json(row[0]) if row else None
                if approval is None or approval.digest != proposal["digest"]:
                    notices.append("The approval of this proposal could not be read back. Tell an administrator.")
                    continue
                # Also after the person's yes, or somebody's decision: what became of it is said as it is.
                proposal["outcome"] = approval.status
    return {"proposals": proposals, "notices": notices}


async def _read_back(session: Session, proposal: JsonObject, notices: list[str]) -> None:
    kind = proposal["changes"][0]["target_type"]
    identity = proposal["target_id"] or proposal["new_id"]
    row = await session.one(f"select doc from state.{kind} where id = %s", (identity,))
    doc = json.loads(row[0]) if row else None
    # Somebody else may have changed it again since: then its version has moved on, and nothing is wrong.
    if doc is None or doc["version"] < proposal["resource"]["version"]:
        notices.append("What was applied could not be read back. Tell an administrator.")
        return
    proposal["resource"] = doc


async def remember(state: State) -> JsonObject:
    """What "it" and "the second one" mean in the next message."""
    made = PLAN.validate_python(state["plan"])
    records = [record for finding in state["findings"] for record in finding["records"]]
    for proposal in state["proposals"]:
        for item in proposal["changes"]:
            resource: JsonObject = proposal.get("resource") or {}
            identity = item["target_id"] or (proposal["new_id"] if resource else None)
            if identity:
                text = item["patch"].get("text", "")[:_LABEL] if item["target_type"] == "memory" else ""
                label = text or item["target"] or resource.get("code") or resource.get("title") or ""
                records.append({"type": item["target_type"], "id": identity, "label": label})
    seen = {(one["type"], one["id"]): one for one in records if one["type"] != "comment"}
    left: JsonObject = {"records": list(seen.values()) or _before(state), "asked": None, "candidates": []}
    if made.kind == "clarify":
        left |= {"asked": state["query"], "candidates": _candidates(made)}
    return {"left": left}


def _before(state: State) -> list[JsonObject]:
    before = state["before"]
    return list(before["records"]) if before else []


def _candidates(made: Plan) -> list[JsonObject]:
    return [NAMED.dump_python(one, mode="json") for one in made.candidates]


async def respond(state: State, runtime: Runtime[Work]) -> JsonObject:
    """Say it: what was found out, what was proposed and what became of it, and what nothing was made of."""
    work = runtime.context
    made = PLAN.validate_python(state["plan"])
    proposals, findings = state["proposals"], state["findings"]
    said = [finding["text"] for finding in findings]
    kind: str = made.kind
    if proposals and _is_refused(state):
        kind = "refuse"
        said.append(_refusal(proposals))
    else:
        async with work.database.read(work.reach) as session:
            names = await names_in(session, [item["patch"] for one in proposals for item in one["changes"]])
        said += [_proposed(one, names) for one in proposals]
    if made.text:
        said.append(made.text)
    if made.not_understood:
        said.append("I did not understand: " + ", ".join(f"“{one}”" for one in made.not_understood) + ".")
    if made.offers:
        said.append("You could say: " + " ".join(f"“{one}”" for one in made.offers))
    said += [*state["notices"], made.notice]
    refused = kind == "refuse"
    routes = [Route(one["route"]) for one in proposals if one.get("route") and not refused]
    created = [one for one in proposals if one["outcome"] == "applied" and not one["target_id"]]
    return {
        "answer": {
            "response": contained("\n\n".join(part for part in said if part), work.public)
            or "I have nothing to say to that.",
            "action_type": kind,
            "changes": [] if refused else [_change(one, item) for one in proposals for item in one["changes"]],
            "resource_created": _created(work, created[0]) if created else None,
            "evidence": _evidence(work, state),
            "route": max(routes, key=list(Route).index).value if routes else None,
            "questions": [] if refused else state["plan"]["questions"],
            "candidates": _candidates(made),
            "not_understood": list(made.not_understood),
            "offers": list(made.offers),
            "planner": made.planner or work.planner.name,
        }
    }


def _change(proposal: JsonObject, item: JsonObject) -> JsonObject:
    resource: JsonObject = proposal.get("resource") or {}
    return {
        "operation": item["operation"],
        "target_type": item["target_type"],
        "target": item["target"] or resource.get("code") or resource.get("title") or resource.get("name"),
        "target_id": item["target_id"] or resource.get("id"),
        "patch": item["patch"] if item["operation"] != "create" else _given(item["patch"]),
        "outcome": proposal["outcome"],
        "route": proposal.get("route"),
        "rule": proposal.get("rule"),
        "approval_id": proposal.get("approval_id"),
        "digest": proposal.get("digest"),
        "reason": proposal["reason"],
        "sources": item["sources"],
    }


def _given(patch: JsonObject) -> JsonObject:
    """The fields of a new record that say something."""
    return {name: value for name, value in patch.items() if value not in (None, "", {}, [])}


def _created(work: Work, proposal: JsonObject) -> JsonObject:
    kind, resource = proposal["changes"][0]["target_type"], proposal["resource"]
    name = resource.get("code") or resource["id"]
    return {"type": kind, "id": resource["id"], "label": name, "url": link(work.public, kind, name)}


def _evidence(work: Work, state: State) -> list[JsonObject]:
    found = [one for finding in state["findings"] for one in finding["evidence"]]
    for proposal in state["proposals"]:
        item = proposal["changes"][0]
        if proposal.get("approval_id"):
            identity = proposal["approval_id"]
            found.append(
                {
                    "type": "approval",
                    "id": identity,
                    "label": "the proposal",
                    "url": link(work.public, "approval", identity),
                }
            )
        if item["target_id"]:
            label, kind = item["target"], item["target_type"]
            found.append(
                {
                    "type": kind,
                    "id": item["target_id"],
                    "label": label,
                    "url": link(work.public, kind, label if kind == "package" else item["target_id"]),
                }
            )
    return list({(one["type"], one["id"]): one for one in found}.values())


def _refusal(proposals: list[JsonObject]) -> str:
    told = [
        f"{one['changes'][0]['target'] or 'The new ' + one['changes'][0]['target_type']}: {one['refusal']}"
        for one in proposals
        if one["refusal"]
    ]
    rest = len(proposals) - len(told)
    also = " The rest was not proposed either; ask for it alone if you want it." if rest else ""
    return "Nothing was changed. " + " ".join(told) + also


_BECAME: Final = {
    "applied": "done",
    "pending": "proposed; it waits for approval",
    WAITS: "ready; it waits for your own yes",
    "rejected": "rejected",
    "changes_requested": "sent back for changes",
    "withdrawn": "withdrawn",
    "voided": "void, as the record moved on",
    "expired": "expired",
}


def _proposed(proposal: JsonObject, names: Mapping[str, str]) -> str:
    what = ", ".join(_does(item, names) for item in proposal["changes"])
    if proposal["outcome"] == REFUSED:
        return f"{what}: not done. {proposal['refusal']}"
    told = f"{what}: {_BECAME[proposal['outcome']]}"
    if proposal["outcome"] != "applied":
        told += f" ({proposal['route']}, by the rule {proposal['rule']})"
    return f"{told}. {provenance(_sources(proposal))}".rstrip()


def _does(item: JsonObject, names: Mapping[str, str]) -> str:
    """What one change does, in words; the currency goes with the amount."""
    name = item["target"] or f"a new {item['target_type']}"
    fields = _given(item["patch"])
    status = fields.pop("status", None)
    told = [f"to {str(status).replace('_', ' ')}"] if status else []
    told += [
        f"{words(one)} {value_of(item['patch'], one, names)}"
        for one in fields
        if one != "currency" or "amount" not in fields
    ]
    if item["target_type"] in _OF_RECORDS:
        return _says_of(item, fields, names)
    verb = {"create": "Create", "delete": "Delete", "restore": "Restore"}.get(item["operation"], "Change")
    return f"{verb} {name}" + (f" ({', '.join(told)})" if told else "")


_OF_RECORDS: Final = ("memory", "comment")


def _says_of(item: JsonObject, fields: JsonObject, names: Mapping[str, str]) -> str:
    """What is done with a text that belongs to a record."""
    kind = item["target_type"]
    text, of = fields.get("text") or fields.get("body"), names.get(str(fields.get("entity_id")), "it")
    if item["operation"] == "create":
        return f"{'Remember of' if kind == 'memory' else 'Comment on'} {of}: “{text}”"
    told = {"patch": "Correct", "delete": "Forget" if kind == "memory" else "Delete", "restore": "Restore"}
    verb = told.get(item["operation"], "Change")
    return f"{verb} “{item['target']}”" + (f" to “{text}”" if text else "")


async def await_person(state: State) -> JsonObject:
    """Stop here until the person has been asked; nothing is done before or after, so that running it again is safe."""
    interrupt([one["approval_id"] for one in state["proposals"] if one["outcome"] == WAITS])
    return {}


def _after_plan(state: State) -> str:
    return "validate" if state["plan"]["kind"] == "change" and state["plan"]["changes"] else "remember"


def _after_arbitrate(state: State) -> str:
    return "remember" if _is_refused(state) else "execute"


def _after_execute(state: State) -> str:
    return "execute" if state["at"] < len(state["proposals"]) else "verify"


def _after_respond(state: State) -> str:
    return "await_person" if any(one["outcome"] == WAITS for one in state["proposals"]) else END


def build(saver: BaseCheckpointSaver[Any] | None) -> CompiledStateGraph[State, Work, State, State]:
    """The graph, noting after each node how far it is."""
    graph = StateGraph(State, context_schema=Work)
    for node in (intake, retrieve, plan, validate, arbitrate, execute, verify, remember, respond, await_person):
        graph.add_node(node.__name__, node)  # pyright: ignore[reportUnknownMemberType] - partly untyped
    graph.add_edge(START, "intake")
    graph.add_edge("intake", "retrieve")
    graph.add_edge("retrieve", "plan")
    graph.add_conditional_edges("plan", _after_plan, ["validate", "remember"])
    graph.add_edge("validate", "arbitrate")
    graph.add_conditional_edges("arbitrate", _after_arbitrate, ["execute", "remember"])
    graph.add_conditional_edges("execute", _after_execute, ["execute", "verify"])
    graph.add_edge("verify", "remember")
    graph.add_edge("remember", "respond")
    graph.add_conditional_edges("respond", _after_respond, ["await_person", END])
    graph.add_edge("await_person", "verify")
    return graph.compile(checkpointer=saver)  # pyright: ignore[reportUnknownMemberType] - partly untyped
