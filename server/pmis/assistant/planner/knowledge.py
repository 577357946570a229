"""What the planner looks up: the projects and people that somebody may see, and the records that words point at.

A turn asks a handful of questions, whatever the number of records: codes go by their index, names through the full-text
index, each bounded. What lies outside the projects that somebody may read is not there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

from pmis.approval.propose import active_policy
from pmis.assistant.plan import Named
from pmis.assistant.planner.text import folded
from pmis.assistant.planner.words import FUNCTION_WORDS
from pmis.kit.filters import search_terms
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.policy.access import Principal
    from pmis.policy.document import Policy

MOST_PEOPLE: Final = 2000
MOST_HITS: Final = 120
"""Of how many records whose text holds a phrase the titles are compared with it."""
_WORD: Final = re.compile(r"\w+")
_ALIKE: Final = 0.75
"""How alike two words must be to be taken for one with a slip of the finger."""

_PROJECTS: Final = (
    "select id, prefix, name, doc::json ->> 'currency', doc::json ->> 'workdays' from state.project where id = any(%s)"
)
_PEOPLE: Final = (
    "select p.id, p.name, array_agg(m.project_id) from state.membership m join state.person p on p.id = m.person_id "
    "where m.project_id = any(%s) and m.roles <> '{}' and p.active group by p.id, p.name limit %s"
)
_ADDRESSES: Final = (
    "select lower(c.email), c.person_id from identity.credential c where lower(c.email) = any(%s) "
    "and exists (select from state.membership m where m.person_id = c.person_id and m.project_id = any(%s) "
    "and m.roles <> '{}')"
)
_SEARCH: Final = (
    "select asked.n, s.entity_id, s.entity_type, split_part(s.body, E'\\n', 1) "
    "from unnest(%(queries)s::text[]) with ordinality as asked(query, n) cross join lateral ("
    "select entity_id, entity_type, body from state.search "
    "where vector @@ to_tsquery('simple', asked.query) and project_id = any(%(projects)s) "
    "and entity_type in ('package', 'task', 'party') limit %(limit)s) s"
)
_RECORDS: Final = (
    "select 'package', id, project_id, doc, deleted from state.package where project_id = any(%(projects)s) "
    "and (id = any(%(ids)s) or code = any(%(codes)s)) "
    "union all select 'package', id, project_id, doc, deleted from state.package "
    "where project_id = any(%(projects)s) and number = any(%(numbers)s) "
    "union all select 'task', id, project_id, doc, deleted from state.task "
    "where project_id = any(%(projects)s) and id = any(%(ids)s) "
    "union all select 'party', id, project_id, doc, deleted from state.party "
    "where project_id = any(%(projects)s) and (id = any(%(ids)s) or lower(email) = any(%(addresses)s))"
)
_MEMORIES: Final = (
    "select id from state.memory where entity_id = %s and project_id = any(%s) and not deleted "
    "order by id desc limit 20"
)
_OPEN_APPROVALS: Final = "select distinct target_id from state.approval_target where target_id = any(%s) and open"


@dataclass(frozen=True, slots=True)
class Project:
    """A project as far as a planner needs to know it."""

    named: Named
    prefix: str
    name: str
    currency: str
    workdays: frozenset[int]
    """Monday is 0."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a role in the projects that are seen."""

    named: Named
    words: tuple[str, ...]
    projects: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Record:
    """A package, task or party as it stands."""

    named: Named
    project: UUID
    doc: Mapping[str, Any]
    deleted: bool

    @property
    def type(self) -> str:
        """What it is."""
        return self.named.type

    @property
    def status(self) -> str | None:
        """Where it is in its life."""
        return self.doc.get("status")

    @property
    def title(self) -> str:
        """What it is called, without its code."""
        return str(self.doc.get("title") or self.doc.get("name") or "")


@dataclass
class Knowledge:
    """What was looked up for one turn."""

    session: Session
    me: UUID | None
    policy: Policy
    projects: dict[UUID, Project]
    people: list[Person]
    records: dict[UUID, Record] = field(default_factory=dict["UUID", "Record"])
    addresses: dict[str, list[Named]] = field(default_factory=dict[str, list["Named"]])
    _asked: dict[tuple[str, ...], list[tuple[UUID, str, str]]] = field(
        default_factory=dict[tuple[str, ...], list[tuple["UUID", str, str]]]
    )

    @classmethod
    async def of(cls, session: Session, principal: Principal) -> Knowledge:
        """What the principal may know of: its projects, and who is in them."""
        visible = await readable_projects(session, principal)
        rows = await session.all(_PROJECTS, (visible,)) if visible else []
        projects = {
            row[0]: Project(
                Named("project", row[0], row[1]),
                row[1],
                row[2],
                row[3],
                frozenset(day - 1 for day in json.loads(row[4] or "[1,2,3,4,5]")),
            )
            for row in rows
        }
        members = await session.all(_PEOPLE, (visible, MOST_PEOPLE)) if visible else []
        people = [
            Person(Named("person", row[0], row[1]), tuple(_WORD.findall(folded(row[1]))), frozenset(row[2]))
            for row in members
        ]
        return cls(session, principal.person_id, await active_policy(session), projects, people)

    def statuses(self, kind: str) -> list[str]:
        """The statuses that the policy knows for a type of record."""
        lifecycle = self.policy.lifecycles.get(kind)
        return list(lifecycle.states) if lifecycle else []

    def unfinished(self, kind: str) -> list[str]:
        """The statuses in which a record still moves."""
        states = self.policy.lifecycles[kind].states
        return [name for name, state in states.items() if state.phase.value != "frozen"]

    async def people_at(self, addresses: Sequence[str]) -> None:
        """Remember whom the addresses belong to."""
        for address, person in await self.session.all(_ADDRESSES, (list(addresses), list(self.projects))):
            known = next((one.named for one in self.people if one.named.id == person), None)
            if known:
                self.addresses.setdefault(address, []).append(known)

    async def fetch(
        self,
        *,
        ids: Iterable[UUID] = (),
        codes: Iterable[str] = (),
        numbers: Iterable[int] = (),
        addresses: Iterable[str] = (),
    ) -> None:
        """Remember these records, as far as they are there and may be seen."""
        wanted = {
            "projects": list(self.projects),
            "ids": [one for one in ids if one not in self.records],
            "codes": list(codes),
            "numbers": list(numbers),
            "addresses": list(addresses),
        }
        if not any(wanted[name] for name in ("ids", "codes", "numbers", "addresses")):
            return
        for kind, identity, project, doc, deleted in await self.session.all(_RECORDS, wanted):
            plain = json.loads(doc)
            label = plain.get("code") or plain.get("title") or plain.get("name") or str(identity)
            self.records[identity] = Record(Named(kind, identity, label), project, plain, deleted)

    async def search(self, phrases: Iterable[tuple[str, ...]]) -> None:
        """Look for records whose text holds all words of a phrase, for each of the phrases."""
        await self._look({words: [" ".join(words)] for words in phrases if words and words not in self._asked})

    async def search_alike(self, phrases: Iterable[tuple[str, ...]]) -> None:
        """Look again for phrases in which something may be mistyped: by how their words begin, and by all but one."""
        wanted: dict[tuple[str, ...], list[str]] = {}
        for words in phrases:
            begins = [word[:3] if len(word) > 4 else word[:2] for word in words]  # noqa: PLR2004 - a long word
            ways = {" ".join(begins)}
            if len(words) > 1:
                ways |= {" ".join(words[:place] + words[place + 1 :]) for place in range(min(len(words), 6))}
            wanted[words] = sorted(ways)
        for words in wanted:
            self._asked.pop(words, None)
        await self._look(wanted)

    async def _look(self, wanted: Mapping[tuple[str, ...], Sequence[str]]) -> None:
        asked = [(words, query) for words, queries in wanted.items() for query in queries]
        if not asked or not self.projects:
            return
        rows = await self.session.all(
            _SEARCH,
            {
                "queries": [search_terms(query) for _, query in asked],
                "projects": list(self.projects),
                "limit": MOST_HITS,
            },
        )
        for words in wanted:
            self._asked.setdefault(words, [])
        for number, identity, kind, line in rows:
            self._asked[asked[number - 1][0]].append((identity, kind, line))

    def found(self, words: tuple[str, ...], *, alike: bool = False) -> list[tuple[float, UUID]]:
        """The records whose titles hold the phrase, each with how well: 3 is the very title, below 1 is a likeness."""
        best: dict[UUID, float] = {}
        for identity, kind, line in self._asked.get(words, ()):
            title = _title_words(kind, line)
            rank = match(words, title, alike=alike)
            if rank > best.get(identity, 0):
                best[identity] = rank
        return sorted(((rank, identity) for identity, rank in best.items()), key=lambda one: -one[0])

    async def memories_of(self, record: Named) -> list[Named]:
        """What is remembered of a record, the newest first; what they say is sealed, and not needed to name them."""
        rows = await self.session.all(_MEMORIES, (record.id, list(self.projects)))
        return [Named("memory", row[0], f"what is remembered of {record.label}") for row in rows]

    async def with_open_approval(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the records about which an approval is open."""
        return {row[0] for row in await self.session.all(_OPEN_APPROVALS, (list(ids),))}


def _title_words(kind: str, line: str) -> tuple[str, ...]:
    words = _WORD.findall(folded(line).replace("_", " "))
    # The text of a package begins with the two halves of its code.
    return tuple(words[2:] if kind == "package" else words)


def phrase_of(text: str) -> tuple[str, ...]:
    """The words of a text by which a record can be found."""
    words = _WORD.findall(text.lower().replace("_", " "))
    telling = tuple(word for word in words if word not in FUNCTION_WORDS)
    return (telling or tuple(words))[:12]


def match(words: Sequence[str], title: Sequence[str], *, alike: bool = False) -> float:
    """How well the words name the title: 0 not at all, 3 entirely; what is only alike gets less than 1."""
    wanted = [folded(word) for word in words]
    telling = [word for word in title if word not in FUNCTION_WORDS]
    if wanted in ([*title], telling):
        return 3.0
    if all(word in telling for word in wanted):
        places = [telling.index(word) for word in wanted]
        return 2.0 if places == list(range(places[0], places[0] + len(places))) else 1.7
    if all(any(one.startswith(word) for one in telling) for word in wanted) and any(len(word) > 2 for word in wanted):  # noqa: PLR2004
        return 1.2
    if not alike:
        return 0.0
    likeness = [max((likeness_of(word, one) for one in telling), default=0.0) for word in wanted]
    if min(likeness) < _ALIKE:
        return 0.0
    whole = 0.05 if len(wanted) == len(telling) else 0.0
    return min(0.99, sum(likeness) / len(likeness) - 0.06 + whole)


def likeness_of(one: str, other: str) -> float:
    """How alike two words are; a short word is only like itself, or like one with two letters changed round."""
    if one == other:
        return 1.0
    if len(one) > 3 and other.startswith(one):  # noqa: PLR2004 - the beginning of a longer word
        return 0.95
    if min(len(one), len(other)) < 4 or abs(len(one) - len(other)) > 2:  # noqa: PLR2004
        return 0.0
    if len(one) == len(other) and sorted(one) == sorted(other) and one[0] == other[0]:
        return 0.9
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
