"""The matrix: every row, for everybody, in every place; what it finds wrong it lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from tests.api.office import STAFF, Office, Records
from tests.api.rows import UNKNOWN, Place, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx2

ACTORS: Final = (
    "anonymous",
    "nobody",
    "viewer",
    "analyst",
    "operator",
    "admin",
    "executive",
    "auditor",
    "b:admin",
    "root",
    "inspector",
)
_CORRELATION: Final = re.compile(r'"correlation_id":"[^"]*"')


@dataclass(frozen=True)
class Cell:
    """One call."""

    row: Row
    actor: str
    relation: str
    state: str
    coded: bool = False

    def __str__(self) -> str:
        """The cell in messages."""
        return f"{self.row.name} as {self.actor}, {self.relation} {self.state}{' by code' if self.coded else ''}"

    @property
    def side(self) -> str:
        """In whose records it happens: `a`, `b`, or nowhere."""
        mine = "b" if self.actor.startswith("b:") else "a"
        other = "a" if mine == "b" else "b"
        return {"own": mine, "foreign": other}.get(self.relation, "")

    @property
    def sees(self) -> bool:
        """Whether the actor may know of the record."""
        role = self.actor.removeprefix("b:")
        if self.relation in ("unknown", "malformed") or role not in self.row.sees:
            return False
        return not self.row.placed or self.row.instance or self.relation == "own" or role in ("inspector", "root")

    @property
    def gets_through(self) -> bool:
        """Whether the operation is the actor's to do."""
        return self.sees and self.actor.removeprefix("b:") in self.row.may


def cells(row: Row, actors: Iterable[str] = ACTORS) -> Iterator[Cell]:
    """Every call that the row asks for."""
    coded = (False, True) if row.kind in ("package", "project") and "{reference}" in row.path else (False,)
    for actor in actors:
        if not row.placed:
            yield Cell(row, actor, "own", "")
            continue
        for by_code in coded:
            for relation in ("own", "foreign"):
                for state in row.states:
                    yield Cell(row, actor, relation, state, by_code)
            yield Cell(row, actor, "unknown", row.states[0], by_code)
        yield Cell(row, actor, "malformed", row.states[0])


@dataclass
class Matrix:
    """One run over some rows."""

    office: Office
    findings: list[str] = field(default_factory=list[str])
    done: int = 0
    through: set[str] = field(default_factory=set[str])
    """The rows that somebody got through with success."""

    async def run(self, rows: Iterable[Row], actors: Iterable[str] = ACTORS) -> Matrix:
        """Call every cell."""
        actors = tuple(actors)
        for row in rows:
            told: dict[tuple[str, bool], str] = {}
            for cell in cells(row, actors):
                await self._call(cell, told)
        return self

    def request(self, cell: Cell) -> tuple[str, str, dict[str, Any]]:
        """The method, the path with its query, and the body of a call."""
        place = self._place(cell)
        row = cell.row
        path = row.path
        for name, value in row.fill.items():
            path = path.replace(f"{{{name}}}", value)
        path = re.sub(r"\{\w+\}", lambda _: place.ref(row.kind), path)
        if row.query:
            path += f"?{row.query(place)}"
        body = row.body(place) if row.body else None
        more: dict[str, Any] = {"content": row.content} if row.content is not None else {"json": body}
        return row.method, path, more

    async def _call(self, cell: Cell, told: dict[tuple[str, bool], str]) -> None:
        place = self._place(cell)
        method, path, more = self.request(cell)
        # Both prefixes serve the same; which one a cell uses makes no difference.
        base = "/api" if self.done % 4 == 3 else "/api/v1"
        actor = None if cell.actor == "anonymous" else cell.actor
        answer = await self.office.call(actor, method, path, base=base, **more)
        self.done += 1
        self._judge(cell, answer)
        sent = f"{path} {more.get('json')}"
        self._look_for_marks(cell, answer, sent)
        self._compare(cell, answer, place, told)

    def _place(self, cell: Cell) -> Place:
        side = cell.side
        if not side:
            return Place(None, "ZZZ999", cell.state, broken=cell.relation == "malformed", coded=cell.coded)
        world = getattr(self.office, side)
        return Place(self.office.records[side], world.prefix, cell.state, coded=cell.coded)

    def _judge(self, cell: Cell, answer: httpx2.Response) -> None:
        row, status = cell.row, answer.status_code
        if status < 400:
            self.through.add(row.name)
        if status >= 500:
            self._found(cell, answer, "a fault")
        elif "anonymous" in row.may:
            return
        elif cell.actor == "anonymous":
            if status != 401:
                self._found(cell, answer, "answered without a token")
        elif cell.gets_through:
            if status in (401, 403, 404):
                self._found(cell, answer, "refused to somebody who may")
        elif status not in self._refusals(cell):
            self._found(cell, answer, f"not one of {sorted(self._refusals(cell))}")

    def _refusals(self, cell: Cell) -> frozenset[int]:
        """What somebody may be answered who does not get through."""
        row = cell.row
        if cell.sees:
            return row.refused
        if cell.relation == "malformed":
            return frozenset({404, row.malformed, 403 if row.instance else 404})
        # The instance is no secret: whoever may not do something to it is told so, whatever it is about.
        return frozenset({404, 403}) if row.instance else frozenset({404})

    def _look_for_marks(self, cell: Cell, answer: httpx2.Response, sent: str) -> None:
        text = answer.text + "\n" + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        for side in ("a", "b"):
            if self._reads(cell.actor, side):
                continue
            if cell.actor == "root" and cell.row.knows_people:
                continue
            leaked = {found for found in self._marks[side].findall(text) if found not in sent}
            if leaked:
                self._found(cell, answer, f"tells of project {side}: {sorted(leaked)[:3]}")

    def _reads(self, actor: str, side: str) -> bool:
        if actor == "inspector":
            return True
        own = "b" if actor.startswith("b:") else "a"
        return actor.removeprefix("b:") in STAFF and own == side

    @cached_property
    def _marks(self) -> dict[str, re.Pattern[str]]:
        return {side: marks_of(self.office, side) for side in ("a", "b")}

    def _compare(self, cell: Cell, answer: httpx2.Response, place: Place, told: dict[tuple[str, bool], str]) -> None:
        """What may not be seen answers like what is not there, word for word."""
        if cell.sees or cell.relation not in ("own", "foreign", "unknown"):
            return
        ref = str(UNKNOWN) if place.records is None else ""
        text = _CORRELATION.sub("", answer.text)
        for one in (ref, *(place.records.all_ids() if place.records else ()), place.project, "ZZZ999-999"):
            if one:
                text = text.replace(one, "<ref>")
        same = f"{answer.status_code} {text}"
        known = told.setdefault((cell.actor, cell.coded), same)
        if known != same:
            self._found(cell, answer, f"differs from what other places that may not be seen answer: {known[:200]}")

    def _found(self, cell: Cell, answer: httpx2.Response, what: str) -> None:
        self.findings.append(f"{cell}: {what}: {answer.status_code} {answer.text[:200]}")


def marks_of(office: Office, side: str) -> re.Pattern[str]:
    """Everything that only a project's own people may read: its mark, its ids, its codes."""
    records: Records = office.records[side]
    world = office.a if side == "a" else office.b
    return re.compile("|".join(re.escape(one) for one in (records.mark, *records.all_ids(), f"{world.prefix}-")))
