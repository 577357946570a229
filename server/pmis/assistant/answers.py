"""From a question to what is said about it, with the records, events and approvals that say so.

Everything is read in the session of the turn, which reaches what the person reaches, and only from projects that the
person reads; times are told in the zone of the turn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pmis.approval.inbox import LISTING as APPROVALS
from pmis.approval.inbox import Asked, waiting_for
from pmis.approval.models import Approval
from pmis.approval.registry import NOUNS
from pmis.assistant.plan import (
    AboutRecord,
    ChangesSince,
    Decisions,
    FieldHistory,
    ListOf,
    Named,
    Question,
    Remembered,
    Totals,
    WaitingFor,
)
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.listing import page
from pmis.memory import recall as memories
from pmis.package.resource import RESOURCE as PACKAGES
from pmis.party.resource import RESOURCE as PARTIES
from pmis.policy.access import Action, allowed
from pmis.project.visible import readable_projects
from pmis.task.resource import RESOURCE as TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from pmis.kit.db import Row, Session
    from pmis.kit.listing import Listing
    from pmis.ledger.vault import Vault
    from pmis.memory.embedding import Embedder
    from pmis.memory.models import Memory
    from pmis.policy.access import Principal

SHOWN: Final = 20
COUNTED: Final = 1000
_LISTINGS: Final = {
    "package": PACKAGES.listing,
    "task": TASKS.listing,
    "party": PARTIES.listing,
    "approval": APPROVALS,
}
_PLURAL: Final = {
    "package": "packages",
    "task": "tasks",
    "party": "parties",
    "approval": "approvals",
    "memory": "memories",
}
_TOLD: Final = ("package", "task", "party", "comment", "approval", "memory")
_DIALECT: Final = postgresql.psycopg.dialect()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
_MATTERS: Final = {
    "package": ("status", "owner_id", "vendor_id", "amount", "planned_start", "planned_end", "actual_end"),
    "task": ("status", "assignee_id", "due_date"),
    "party": ("kind", "email"),
    "project": ("timezone", "currency", "budget"),
    "person": (),
    "approval": ("status", "route", "proposer", "expires_at"),
}
_WORDS: Final = {
    "owner_id": "owner",
    "vendor_id": "vendor",
    "assignee_id": "assignee",
    "due_date": "due date",
    "email": "e-mail",
}
_PEOPLE: Final = frozenset({"owner_id", "assignee_id"})
_VERDICTS: Final = {"approve": "approved", "reject": "rejected", "request_changes": "asked for changes to"}


@dataclass(frozen=True)
class Evidence:
    """What an answer rests on. `url` is where people open it, in PMIS itself."""

    type: str
    id: str
    label: str
    url: str

    def to_json(self) -> dict[str, str]:
        """As the API gives it."""
        return {"type": self.type, "id": self.id, "label": self.label, "url": self.url}


@dataclass(frozen=True)
class Finding:
    """What was found out: what is said, what it rests on, and the records that "it" may mean from here on."""

    text: str
    evidence: list[Evidence] = field(default_factory=list[Evidence])
    records: list[Named] = field(default_factory=list[Named])
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The records themselves, without what is protected, for who works with them instead of reading."""

    def to_json(self) -> dict[str, Any]:
        """As a state of the graph holds it."""
        return {
            "text": self.text,
            "evidence": [one.to_json() for one in self.evidence],
            "records": [{"type": one.type, "id": str(one.id), "label": one.label} for one in self.records],
        }


@dataclass(frozen=True)
class Asking:
    """Who asks, and when and where they are."""

    person: Principal
    """Themselves: what waits for them waits for no agent of theirs."""
    now: datetime
    zone: ZoneInfo
    public: str
    """Where people open PMIS, without a slash at the end."""
    vault: Vault | None = None
    """Opens what is remembered; without it, nothing of that is told."""
    meant: Mapping[str, memories.Question] = field(default_factory=dict[str, memories.Question])
    """What texts mean that memories are looked for by, made out before a session was opened."""

    def link(self, kind: str, name: str) -> str:
        """Where people open a record."""
        return link(self.public, kind, name)

    def day(self, at: datetime) -> str:
        """A time as people read it."""
        return f"{at.astimezone(self.zone):%Y-%m-%d %H:%M}"


def link(public: str, kind: str, name: str) -> str:
    """Where people open a record."""
    return f"{public}/{_PLURAL.get(kind, kind + 's')}/{name}"


def words(field_name: str) -> str:
    """What people call a field."""
    return _WORDS.get(field_name, field_name.removesuffix("_id").replace("_", " "))


async def answer(session: Session, asking: Asking, question: Question) -> Finding:
    """What there is to say to a question; raises NotFoundError for a record that is not there for who asks."""
    match question:
        case AboutRecord():
            return await _about(session, asking, question)
        case ListOf():
            return await _list(session, asking, question)
        case WaitingFor():
            return await _waiting(session, asking, question)
        case Decisions():
            return await _decisions(session, asking, question)
        case ChangesSince():
            return await _changes(session, asking, question)
        case Totals():
            return await _totals(session, asking, question)
        case FieldHistory():
            return await _history(session, asking, question)
        case Remembered():
            return await _remembered(session, asking, question)
        case _:
            return Finding(
                "I can tell you how records stand, list and count them, add up amounts, say what waits for you, who "
                "decided what, and what changed since when; and I can propose changes. For example: "
                + " ".join(f"“{example}”" for example in EXAMPLES)
            )


EXAMPLES: Final = (
    "What is the status of P-001?",
    "What is overdue?",
    "What waits for me?",
    "Who approved P-001?",
    "What changed since Monday?",
    "Total amount by status",
    "Put P-001 on hold",
    "Set the amount of P-001 to 50,000 EUR",
)


# --- one record


async def _row(session: Session, asking: Asking, record: Named) -> dict[str, Any]:
    """The record; raises NotFoundError for what who asks may not see."""
    row = await session.one(f"select doc, project_id from state.{record.type} where id = %s", (record.id,))
    place = record.id if record.type == "project" else row[1] if row else None
    if row is None or (place is not None and not allowed(asking.person, Action.READ, place)):
        raise NotFoundError(f"There is no such {record.type}.")
    return json.loads(row[0])


async def _about(session: Session, asking: Asking, question: AboutRecord) -> Finding:
    record = question.record
    doc = await _row(session, asking, record)
    name, title = record.label, str(doc.get("title") or doc.get("name") or "")
    names = await names_in(session, [doc])
    if question.fields:
        told = [
            f"The {words(one)} of {name} is {value}." if (value := value_of(doc, one, names)) else _no(name, one)
            for one in question.fields
        ]
        text = " ".join(told)
    else:
        told = [
            f"{words(one)} {value}"
            for one in _MATTERS.get(record.type, ())
            if one != "status" and (value := value_of(doc, one, names))
        ]
        head = f"{name} ({title})" if title and title != name else name
        gone = " It was deleted." if doc.get("deleted_at") else ""
        status = f" is {_spoken(doc['status'])}" if "status" in doc else ""
        text = f"{head}{status}{': ' if told else ''}{', '.join(told)}.{gone}"
    found = [Evidence(record.type, str(record.id), _label(record, doc), _link(asking, record, doc))]
    if record.type == "package":
        text += await _beside(session, asking, record, found, short=bool(question.fields))
    if question.fields in ((), ("status",)) and asking.vault is not None:
        kept = await memories.latest(session, asking.vault, entity=record.id, limit=_BESIDE)
        text += "".join(f"\nRemembered: {_remembers(one)}" for one in kept)
        found += [_memory(asking, one) for one in kept]
    event = await session.one(
        "select id::text, type, occurred_at from ledger.event where stream_id = %s "
        "order by stream_version desc limit 1",
        (record.id,),
    )
    if event:
        found.append(Evidence("event", event[0], f"{event[1]}, {asking.day(event[2])}", asking.link("event", event[0])))
    return Finding(text, found, [record], [_open(record.type, doc)])


def _open(kind: str, doc: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its protected fields."""
    secret = NOUNS[kind].secret_fields if kind in NOUNS else frozenset[str]()
    return {name: value for name, value in doc.items() if name not in secret}


async def _beside(session: Session, asking: Asking, record: Named, found: list[Evidence], *, short: bool) -> str:
    """What goes on about a package: open tasks, and approvals that wait."""
    waiting = await session.all(
        "select a.id::text, a.doc from state.approval_target t join state.approval a on a.id = t.approval_id "
        "where t.target_id = %s and t.open order by a.id limit 5",
        (record.id,),
    )
    for identity, doc in waiting:
        found.append(Evidence("approval", identity, json.loads(doc)["label"], asking.link("approval", identity)))
    if short:
        return ""
    tasks = await session.one(
        "select count(*) from (select from state.task where package_id = %s and not deleted "
        "and status not in ('completed', 'cancelled') limit 100) open",
        (record.id,),
    )
    said = ""
    if tasks and tasks[0]:
        said += f" It has {tasks[0]} open {'task' if tasks[0] == 1 else 'tasks'}."
    if waiting:
        said += f" {len(waiting)} {'approval waits' if len(waiting) == 1 else 'approvals wait'} for a decision."
    return said


async def names_in(session: Session, docs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the people, parties and packages that records refer to are called, in one query."""
    people = {str(doc[one]) for doc in docs for one in _PEOPLE if doc.get(one)}
    parties = {str(doc["vendor_id"]) for doc in docs if doc.get("vendor_id")}
    packages = {str(doc["package_id"]) for doc in docs if doc.get("package_id")}
    of: dict[str, set[str]] = {"party": parties, "package": packages, "task": set(), "project": set()}
    for doc in docs:
        if doc.get("entity_id") and doc.get("entity_type") in of:
            of[doc["entity_type"]].add(str(doc["entity_id"]))
    if not people and not any(of.values()):
        return {}
    rows = await session.all(
        "select id::text, doc::json ->> 'name' from state.person where id = any(%s::uuid[]) union all "
        "select id::text, doc::json ->> 'name' from state.party where id = any(%s::uuid[]) union all "
        "select id::text, code from state.package where id = any(%s::uuid[]) union all "
        "select id::text, doc::json ->> 'title' from state.task where id = any(%s::uuid[]) union all "
        "select id::text, prefix from state.project where id = any(%s::uuid[])",
        (sorted(people), *(sorted(of[kind]) for kind in ("party", "package", "task", "project"))),
    )
    return dict(rows)  # pyright: ignore[reportArgumentType, reportCallIssue, reportReturnType, reportUnknownVariableType]


def value_of(doc: Mapping[str, Any], name: str, names: Mapping[str, str]) -> str | None:
    """A field as people read it; None when it says nothing."""
    value = doc.get(name)
    if value is None or value == "":
        return None
    if name == "amount":
        return f"{Decimal(str(value)):,} {doc.get('currency') or ''}".strip()
    if name == "status":
        return _spoken(str(value))
    if name == "proposer":
        return str(value["name"])
    if name in ("contacts", "bank_details"):
        return "protected; open the record to see it if you may"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return names.get(str(value), str(value))


def _no(name: str, field_name: str) -> str:
    return f"{name} has no {words(field_name)}."


def _spoken(status: str) -> str:
    return status.replace("_", " ")


def _label(record: Named, doc: Mapping[str, Any]) -> str:
    title = str(doc.get("title") or doc.get("name") or doc.get("label") or "")
    code = doc.get("code")
    return f"{code} {title}".strip() if code else title or record.label


def _link(asking: Asking, record: Named, doc: Mapping[str, Any]) -> str:
    return asking.link(record.type, str(doc.get("code") or doc.get("prefix") or record.id))


# --- what is remembered


async def meanings(embedder: Embedder | None, questions: Iterable[Question]) -> dict[str, memories.Question]:
    """What the texts mean that questions look for; to be made out while no session is open."""
    texts = [one.text for one in questions if isinstance(one, Remembered) and one.text]
    return {text: await memories.question_of(embedder, text) for text in texts} if embedder is not None else {}


_BESIDE: Final = 3
"""How many memories are told beside how a record stands."""
_LABEL: Final = 60


async def _remembered(session: Session, asking: Asking, question: Remembered) -> Finding:
    record = question.record
    if record is not None:
        await _row(session, asking, record)
    about = record.label if record else question.project.label if question.project else ""
    if asking.vault is None:
        return Finding("")
    projects = await _projects(session, asking, question.project)
    notice = None
    if question.text:
        meant = asking.meant.get(question.text) or memories.Question(question.text)
        recalled = await memories.recall(
            session, asking.vault, asking.person, meant, projects=projects, entities=[record.id] if record else None
        )
        found, notice = [one.memory for one in recalled], meant.notice
    else:
        found = await memories.latest(
            session, asking.vault, projects=projects, entity=record.id if record else None, limit=SHOWN
        )
    of = f" of {about}" if about else ""
    to_do = f" that has to do with “{question.text}”" if question.text else ""
    if not found:
        return Finding(f"Nothing is remembered{of}{to_do}.", [], [record] if record else [])
    called = await _entities(session, found)
    lines = [
        f"- {'' if record else called.get(str(one.entity_id), one.entity_type) + ': '}{_remembers(one)}"
        for one in found
    ]
    text = "\n".join([f"What is remembered{of}{to_do}:", *lines]) + (f"\n{notice}" if notice else "")
    return Finding(
        text,
        [_memory(asking, one) for one in found],
        [Named("memory", one.id, _shortened(one.text)) for one in found],
        [json.loads(one.doc) for one in found],
    )


async def _entities(session: Session, found: Sequence[Memory]) -> dict[str, str]:
    """What the records are called that memories are of."""
    docs = [{"entity_type": one.entity_type, "entity_id": str(one.entity_id)} for one in found]
    return await names_in(session, docs)


def _remembers(one: Memory) -> str:
    return f"“{' '.join(one.text.split())}” ({one.kind}, {one.author_name}, {one.created_at:%Y-%m-%d})"


def _memory(asking: Asking, one: Memory) -> Evidence:
    return Evidence("memory", str(one.id), _shortened(one.text), asking.link("memory", str(one.id)))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LABEL else line[: _LABEL - 1].rstrip() + "…"


# --- many records


async def _projects(session: Session, asking: Asking, project: Named | None) -> list[UUID]:
    if project is not None:
        return [project.id] if allowed(asking.person, Action.READ, project.id) else []
    return await readable_projects(session, asking.person)


async def _list(session: Session, asking: Asking, question: ListOf) -> Finding:
    projects = await _projects(session, asking, question.project)
    most = COUNTED if question.count else min(question.limit or SHOWN, SHOWN)
    try:
        found = await page(
            session,
            _LISTINGS[question.type],
            projects=projects,
            filters=question.filters,
            sort=question.sort,
            cursor=None,
            limit=most,
            now=asking.now,
            instance=question.type == "approval" and allowed(asking.person, Action.READ, None),
        )
    except KeyError as error:
        raise InvalidInputError(f"There is no filter {error.args[0]!r} for {_PLURAL[question.type]}.") from None
    docs = [json.loads(doc) for doc in found.docs]
    what = _PLURAL[question.type]
    if question.count:
        number = f"more than {COUNTED:,}" if found.next else str(len(docs))
        one = len(docs) == 1 and not found.next
        such = _such(question.filters, one=one)
        text = f"There {'is' if one else 'are'} {number} {question.type if one else what}{such}."
        docs = docs[:SHOWN]
    elif not docs:
        return Finding(f"There are no {what}{_such(question.filters)}.")
    else:
        names = await names_in(session, docs)
        lines = [f"- {_line(question.type, doc, names)}" for doc in docs]
        more = f"\nThere are more; these are the first {len(docs)}." if found.next else ""
        one = len(docs) == 1
        head = f"{len(docs)} {question.type if one else what}{_such(question.filters, one=one)}:"
        text = "\n".join([head, *lines]) + more
    return Finding(text, *_rests_on(asking, question.type, docs), [_open(question.type, doc) for doc in docs])


def _rests_on(asking: Asking, kind: str, docs: Sequence[Mapping[str, Any]]) -> tuple[list[Evidence], list[Named]]:
    records = [Named(kind, UUID(doc["id"]), _short(doc)) for doc in docs]  # pyright: ignore[reportArgumentType]
    evidence = [
        Evidence(kind, doc["id"], _label(record, doc), _link(asking, record, doc))
        for record, doc in zip(records, docs, strict=True)
    ]
    return evidence, records


def _short(doc: Mapping[str, Any]) -> str:
    return str(doc.get("code") or doc.get("title") or doc.get("name") or doc.get("label") or doc["id"])


def _line(kind: str, doc: Mapping[str, Any], names: Mapping[str, str]) -> str:
    matters = [value for one in _MATTERS[kind] if (value := value_of(doc, one, names))]
    name = _label(Named(kind, UUID(doc["id"]), ""), doc)  # pyright: ignore[reportArgumentType]
    return ", ".join([name, *matters[:4]])


def _such(filters: Mapping[str, str], *, one: bool = False) -> str:
    """The filters in words, as far as words help."""
    said: list[str] = []
    that = "that is" if one else "that are"
    for name, value in filters.items():
        match name:
            case "overdue":
                said.append(f"{that} overdue" if value == "true" else f"{that} not overdue")
            case "status":
                said.append(f"{that} {' or '.join(_spoken(one) for one in value.split(','))}")
            case "q":
                said.append(f"about “{value}”")
            case "amount_min" | "amount_max":
                said.append(f"of {'at least' if name.endswith('min') else 'at most'} {value}")
            case "due_from" | "planned_end_from":
                said.append(f"from {value} on")
            case "due_to" | "planned_end_to":
                said.append(f"until {value}")
            case "currency":
                said.append(f"in {value}")
            case "without":
                said.append(f"without {' and '.join(words(field) for field in value.split(','))}")
            case _:
                pass
    return " " + " ".join(said) if said else ""


async def _waiting(session: Session, asking: Asking, question: WaitingFor) -> Finding:
    projects = await _projects(session, asking, question.project)
    instance = question.project is None and allowed(asking.person, Action.READ, None)
    found = await waiting_for(session, asking.person, Asked(projects, instance, asking.now, {}), SHOWN)
    approvals = [Approval.model_validate_json(doc) for doc in found.docs]
    if not approvals:
        return Finding("Nothing waits for you.")
    one = len(approvals) == 1
    more = " or more" if found.next else ""
    head = f"{len(approvals)}{more} {'approval waits' if one and not more else 'approvals wait'} for you"
    evidence = [Evidence("approval", str(a.id), a.label, asking.link("approval", str(a.id))) for a in approvals]
    records = [Named("approval", a.id, a.label) for a in approvals]
    if question.count:
        return Finding(head + ".", evidence, records)
    names = await _names_of(session, approvals)
    lines = [f"- {a.label}: {_does(a, names)} (proposed by {a.proposer.name}, {a.route})" for a in approvals]
    return Finding("\n".join([head + ":", *lines]), evidence, records)


def _does(approval: Approval, names: Mapping[str, str]) -> str:
    """What an approval would change, in a few words."""
    told = [
        f"{words(diff.field)} {_named(diff.before, names)} → {_named(diff.after, names)}"
        if diff.field not in NOUNS[record.target_type].secret_fields
        else f"{words(diff.field)} (protected)"
        for record in approval.diff
        for diff in record.fields
    ]
    return "; ".join(told[:4]) or approval.diff[0].operation if approval.diff else approval.route


def _named(value: object, names: Mapping[str, str]) -> str:
    return names.get(value, value) if isinstance(value, str) else _plain(value)


async def _names_of(session: Session, approvals: Sequence[Approval]) -> dict[str, str]:
    """What those are called to whom approvals refer."""
    diffs = [diff for approval in approvals for record in approval.diff for diff in record.fields]
    return await names_in(session, [{diff.field: value} for diff in diffs for value in (diff.before, diff.after)])


def _plain(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value) if isinstance(value, str | int) else json.dumps(value, ensure_ascii=False, default=str)


async def _decisions(session: Session, asking: Asking, question: Decisions) -> Finding:
    record = question.record
    if record.type == "approval":
        rows = await session.all("select doc, project_id from state.approval where id = %s", (record.id,))
    else:
        await _row(session, asking, record)
        rows = await session.all(
            "select a.doc, a.project_id from state.approval_target t join state.approval a on a.id = t.approval_id "
            "where t.target_id = %s order by a.id desc limit 50",
            (record.id,),
        )
    told: list[str] = []
    evidence: list[Evidence] = []
    approvals = _seen(asking, rows)
    names = await _names_of(session, approvals)
    for approval in approvals:
        if question.status is not None and not any(
            change.patch.get("status") == question.status for change in approval.changes
        ):
            continue
        for verdict in approval.verdicts:
            if question.verdict is not None and verdict.verdict != question.verdict:
                continue
            why = f" (“{verdict.reason}”)" if verdict.reason else ""
            told.append(
                f"{verdict.name} {_VERDICTS[verdict.verdict]} {_does(approval, names)} on {asking.day(verdict.at)}{why}"
            )
        if approval.verdicts:
            identity = str(approval.id)
            evidence.append(Evidence("approval", identity, approval.label, asking.link("approval", identity)))
    if not told:
        what = {"approve": "approved", "reject": "rejected", "request_changes": "asked for changes to"}.get(
            question.verdict or "", "decided about"
        )
        to = f" the step to {_spoken(question.status)} of" if question.status else " anything of"
        return Finding(f"Nobody has {what}{to} {record.label}.", [], [record])
    return Finding(f"{record.label}: " + "; ".join(told) + ".", evidence, [record])


def _seen(asking: Asking, rows: Sequence[Row]) -> list[Approval]:
    return [Approval.model_validate_json(doc) for doc, place in rows if allowed(asking.person, Action.READ, place)]


async def _changes(session: Session, asking: Asking, question: ChangesSince) -> Finding:
    until = question.until or asking.now + timedelta(days=1)
    where = ["e.occurred_at >= %s", "e.occurred_at < %s"]
    values: list[Any] = [question.since, until]
    record = question.record
    if record is not None and record.type != "project":
        await _row(session, asking, record)
        where.append(
            "e.stream_id in (select %s::uuid union all select approval_id from state.approval_target where target_id = "
            "%s union all select id from state.task where package_id = %s union all "
            "select id from state.comment where entity_id = %s)"
        )
        values += [record.id] * 4
    else:
        where.append("e.project_id = any(%s)")
        values.append(await _projects(session, asking, record))
    where.append("e.stream_type = any(%s)")
    values.append(list(question.types or _TOLD))
    if question.by is not None:
        where.append("(e.actor = %s or e.on_behalf_of = %s)")
        values += [f"person:{question.by.id}"] * 2
    rows = await session.all(
        "select e.id::text, e.type, e.stream_type, e.stream_id::text, e.actor_name, e.on_behalf_of_name, "
        f"e.occurred_at, e.payload from ledger.event e where {' and '.join(where)} order by e.position desc limit %s",
        (*values, SHOWN + 1),
    )
    about = f" of {record.label}" if record else ""
    by = f" by {question.by.label}" if question.by else ""
    span = f"since {asking.day(question.since)}" + (f" until {asking.day(question.until)}" if question.until else "")
    if not rows:
        return Finding(f"Nothing{about} changed{by} {span}.", [], [record] if record else [])
    labels = await _labels(session, rows)
    lines: list[str] = []
    evidence: list[Evidence] = []
    for identity, type_, kind, stream, actor, behalf, at, payload in rows[:SHOWN]:
        who = f"{actor} for {behalf}" if behalf else actor
        what = _changed(kind, json.loads(payload))
        lines.append(f"- {asking.day(at)} {labels.get(stream, stream)}: {type_.replace('.', ' ')}{what} by {who}")
        evidence.append(
            Evidence("event", identity, f"{type_} {labels.get(stream, '')}".strip(), asking.link("event", identity))
        )
    more = f"\nThere is more; these are the newest {SHOWN}." if len(rows) > SHOWN else ""
    return Finding("\n".join([f"What changed{about}{by} {span}:", *lines]) + more, evidence, [record] if record else [])


async def _labels(session: Session, rows: Sequence[Row]) -> dict[str, str]:
    """What the records of some events are called."""
    by_type: dict[str, set[str]] = {}
    for row in rows:
        if row[2] in _TOLD:
            by_type.setdefault(row[2], set()).add(row[3])
    parts = [
        f"select id::text, doc::json ->> 'code', coalesce(doc::json ->> 'title', doc::json ->> 'name', "
        f"doc::json ->> 'label') from state.{kind} where id = any(%s::uuid[])"
        for kind in by_type
    ]
    found = await session.all(" union all ".join(parts), [sorted(one) for one in by_type.values()]) if parts else []
    return {row[0]: " ".join(filter(None, row[1:])) for row in found if any(row[1:])}


def _changed(kind: str, payload: Mapping[str, Any]) -> str:
    """The first few fields that an event changed."""
    changes: dict[str, Any] = payload.get("changes") or {}
    secret = NOUNS[kind].secret_fields if kind in NOUNS else frozenset[str]()
    told = [
        f"{words(name)} {_plain(one['from'])} → {_plain(one['to'])}" if name not in secret else f"{words(name)}"
        for name, one in list(changes.items())[:3]
    ]
    return f" ({'; '.join(told)})" if told else ""


# --- sums


def _narrowed(
    listing: Listing, filters: Mapping[str, str], projects: Sequence[UUID], now: datetime
) -> tuple[Any, dict[str, Any]]:
    """The conditions of a list's filters, and their values; raises InvalidInputError."""
    table = listing.table
    params: dict[str, Any] = {"projects": list(projects), "now": now}
    clauses: list[Any] = [table.c.project_id == sa.func.any(sa.bindparam("projects", type_=postgresql.ARRAY(sa.Uuid)))]
    for name, text in filters.items():
        wanted = listing.filters.get(name)
        if wanted is None:
            raise InvalidInputError(f"There is no filter {name!r} here.")
        try:
            params.update(wanted.values(text))
        except ValueError as error:
            raise InvalidInputError(f"{name}: {error}") from None
        clauses.append(wanted.instead.get(text, wanted.clause)(table, table.c.project_id))
    clauses.append(~table.c.deleted)
    return sa.and_(*clauses), params


_GROUPS: Final = {
    "status": "status",
    "currency": "currency",
    "vendor": "vendor_id",
    "owner": "owner_id",
    "package_type": "package_type",
    "project": "project_id",
    "assignee": "assignee_id",
}


async def _totals(session: Session, asking: Asking, question: Totals) -> Finding:
    listing = _LISTINGS[question.type]
    table = listing.table
    money = question.type == "package"
    names = [name for name in question.by if _GROUPS[name] in table.c]
    columns = [table.c[_GROUPS[name]] for name in names]
    if money and "currency" not in names:
        # Money is never added up across currencies.
        names.append("currency")
        columns.append(table.c.currency)
    where, params = _narrowed(listing, question.filters, await _projects(session, asking, question.project), asking.now)
    sums: list[Any] = [sa.func.count()]
    if money:
        sums.append(sa.func.sum(table.c.amount))
    query = sa.select(*columns, *sums).where(where).group_by(*columns).order_by(*columns)
    rows = await session.all(str(query.compile(dialect=_DIALECT)), params)
    called = await _called(session, rows, names)
    if not rows:
        return Finding(f"There are no {_PLURAL[question.type]}{_such(question.filters)}.")
    lines: list[str] = []
    for row in rows:
        group = ", ".join(
            called.get(str(value), _spoken(str(value))) if value is not None else f"no {name}"
            for name, value in zip(names, row[: len(names)], strict=True)
            if name != "currency" or value is not None or not money
        )
        count = row[len(names)]
        total = row[len(names) + 1] if money else None
        currency = row[names.index("currency")] if "currency" in names else None
        amount = f", {total:,} {currency or ''}".rstrip() if total is not None else ""
        lines.append(f"- {group or 'without an amount'}: {count}{amount}")
    by = " and ".join(name.replace("_", " ") for name in names)
    what = "Amounts" if money else "Tasks"
    return Finding("\n".join([f"{what}{_such(question.filters)} by {by}:", *lines]))


async def _called(session: Session, rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    wanted = [(kind, i) for i, name in enumerate(names) for kind in [_NAMED_BY.get(name)] if kind is not None]
    if not wanted:
        return {}
    parts = [f"select id::text, doc::json ->> 'name' from state.{kind} where id = any(%s)" for kind, _ in wanted]
    values = [sorted({row[i] for row in rows if row[i] is not None}) for _, i in wanted]
    return {row[0]: row[1] for row in await session.all(" union all ".join(parts), values)}


_NAMED_BY: Final = {"vendor": "party", "owner": "person", "assignee": "person", "project": "project"}


async def _history(session: Session, asking: Asking, question: FieldHistory) -> Finding:
    record = question.record
    await _row(session, asking, record)
    if record.type in NOUNS and question.field in NOUNS[record.type].secret_fields:
        return Finding(f"The {words(question.field)} of {record.label} are protected; open the record if you may.")
    rows = await session.all(
        "select id::text, type, actor_name, on_behalf_of_name, occurred_at, payload from ledger.event "
        "where stream_id = %s order by stream_version",
        (record.id,),
    )
    told: list[tuple[str, str, datetime, Any]] = []
    for identity, _, actor, behalf, at, payload in rows:
        said = json.loads(payload)
        who = f"{actor} for {behalf}" if behalf else actor
        if question.field in said.get("changes", {}):
            told.append((identity, who, at, said["changes"][question.field]["to"]))
        elif question.field in said.get("fields", {}):
            told.append((identity, who, at, said["fields"][question.field]))
    told = [one for i, one in enumerate(told) if i or one[3] not in (None, "")]
    if not told:
        return Finding(f"The {words(question.field)} of {record.label} was never set.", [], [record])
    names = await names_in(session, [{question.field: one[3]} for one in told if isinstance(one[3], str)])
    lines = [
        f"- {asking.day(at)} {names.get(str(value), _plain(value))} by {who}" for _, who, at, value in told[-SHOWN:]
    ]
    evidence = [
        Evidence("event", identity, f"{record.label}, {asking.day(at)}", asking.link("event", identity))
        for identity, _, at, _ in told[-SHOWN:]
    ]
    return Finding("\n".join([f"The {words(question.field)} of {record.label}:", *lines]), evidence, [record])
