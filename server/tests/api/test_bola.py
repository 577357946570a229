"""T12: nobody reads, changes, counts or infers what lies outside their projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from fastapi.routing import APIRoute

from pmis.api import approvals, audit, context, docs, people, resources
from pmis.api.context import Call, parts_of
from pmis.approval import decide, propose
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, NotFoundError
from pmis.memory import recall
from pmis.policy.access import ALL, Action, Principal, allowed
from tests.api.expect import ok
from tests.api.matrix import ACTORS, Matrix, cells
from tests.api.office import keep_nothing
from tests.api.rows import ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from starlette.requests import Request

    from pmis.kit.db import Session
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def take_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell sees another's effect."""
    keep_nothing(monkeypatch)


async def test_every_operation_has_a_row(office: Office):
    served = {
        (method, route.path.removeprefix("/api/v1"))
        for route in office.app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/api/v1/")
        for method in route.methods or ()
    }
    assert served == set(docs.PERMISSIONS)
    rows = {(row.method, row.path) for row in ROWS}
    assert served - rows == set(), "an operation without a row"
    assert rows - served == set(), "a row without an operation"


def test_the_size_of_the_matrix():
    assert sum(len(list(cells(row))) for row in ROWS) >= 8400
    assert len(ACTORS) >= 7


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row.name}" for i, row in enumerate(ROWS)])
async def test_nobody_gets_further_than_they_may(furnished: Office, row: Row):
    matrix = await Matrix(furnished).run([row])
    assert not matrix.findings, "\n".join(matrix.findings[:20])
    if not row.hopeless:
        assert matrix.through, f"{row.name}: nobody gets through, so the refusals prove nothing"


async def test_an_administrator_of_the_instance_reads_nothing_of_the_projects_in_its_log(furnished: Office):
    path = "/audit?limit=200"
    while path:
        body = ok(await furnished.get("root", path))
        assert {event["project_id"] for event in body["items"]} <= {None}
        path = f"/audit?limit=200&cursor={body['next']}" if body["next"] else ""


def rows_of(*names: str) -> list[Row]:
    found = [row for row in ROWS if row.name in names]
    assert {row.name for row in found} == set(names)
    return found


async def everything(session: Session, *_: object) -> list[UUID]:
    """The projects of a list, to somebody who forgot to ask whose they are."""
    return [row[0] for row in await session.all("select id from state.project")]


def let_all_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL lets everybody reach every row, so that what the application judges stands alone."""
    monkeypatch.setattr(context, "reach_of", lambda _: Reach.INSTANCE)


WALLED: Final = (
    "packages",
    "package-types",
    "tasks",
    "parties",
    "customers",
    "comments",
    "memories",
    "delegations",
    "approvals",
)
"""The collections whose tables have policies."""
READS: Final = [row for row in ROWS if row.method == "GET" and row.path.split("/")[1] in WALLED and not row.hopeless]
QUIET: Final = {"GET /packages/{reference}/transitions", "GET /tasks/{reference}/transitions", "GET /approvals +"}
"""Those that tell nobody of a project: names of steps, and what waits for the caller."""


class TestSecondWall:
    """Behind holes in what the application judges, PostgreSQL shows nothing; without it, the same holes tell."""

    @pytest.mark.parametrize("row", READS, ids=[f"{i}-{row.name}" for i, row in enumerate(READS)])
    async def test_nothing_is_told(self, furnished: Office, monkeypatch: pytest.MonkeyPatch, row: Row):
        for module in (resources, decide):
            monkeypatch.setattr(module, "allowed", lambda *_: True)
        for module in (resources, approvals, recall):
            monkeypatch.setattr(module, "readable_projects", everything)
        assert not await self.told(furnished, row)
        let_all_reach(monkeypatch)
        assert await self.told(furnished, row) or row.name in QUIET

    async def told(self, furnished: Office, row: Row) -> list[str]:
        matrix = await Matrix(furnished).run([row], ["viewer", "admin"])
        return [finding for finding in matrix.findings if "tells of project" in finding]


class TestPlantedHoles:
    """The controls: with a hole in it, the same matrix says so. What PostgreSQL judges beside it is away."""

    @pytest.fixture(autouse=True)
    def one_wall(self, monkeypatch: pytest.MonkeyPatch) -> None:
        let_all_reach(monkeypatch)

    async def test_reading_without_asking_who_may(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(resources, "allowed", lambda *_: True)
        for name in ("GET /packages/{reference}", "GET /parties/{reference}/timeline", "GET /tasks + project"):
            matrix = await Matrix(furnished).run(rows_of(name), ["admin"])
            assert any("tells of project b" in one for one in matrix.findings), name

    async def test_listing_every_project(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(resources, "readable_projects", everything)
        for name in ("GET /packages", "GET /memberships", "GET /comments"):
            matrix = await Matrix(furnished).run(rows_of(name), ["viewer"])
            assert any("tells of project b" in one for one in matrix.findings), name

    async def test_proposing_without_a_role(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(propose, "require_right", lambda *_: None)
        matrix = await Matrix(furnished).run(rows_of("PATCH /packages/{reference}"), ["viewer", "auditor"])
        assert any("viewer, own live" in one and "not one of [403]" in one for one in matrix.findings)

    async def test_changing_what_one_does_not_see(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(propose, "require_right", lambda *_: None)
        monkeypatch.setattr(propose, "visible_projects", lambda *_: ALL)
        matrix = await Matrix(furnished).run(rows_of("PATCH /packages/{reference}"), ["b:admin"])
        assert any("foreign" in one for one in matrix.findings)

    async def test_403_for_what_may_not_be_seen(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        def told(*_: object) -> bool:
            raise ForbiddenError("Not yours.")

        monkeypatch.setattr(resources, "allowed", told)
        matrix = await Matrix(furnished).run(rows_of("GET /packages/{reference}"), ["nobody"])
        assert any("not one of [404]: 403" in one for one in matrix.findings)

    async def test_another_text_for_what_exists(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        def told(principal: Principal, action: Action, project: UUID | None) -> bool:
            if not allowed(principal, action, project):
                raise NotFoundError("You may not see this package.")
            return True

        monkeypatch.setattr(resources, "allowed", told)
        matrix = await Matrix(furnished).run(rows_of("GET /packages/{reference}"), ["nobody"])
        assert any("differs from" in one for one in matrix.findings)

    async def test_approvals_and_the_log_for_anybody(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(decide, "allowed", lambda *_: True)
        monkeypatch.setattr(audit, "allowed", lambda *_: True)
        for name in ("GET /approvals/{approval_id}", "GET /audit/events/{event_id}"):
            matrix = await Matrix(furnished).run(rows_of(name), ["admin"])
            assert any("tells of project b" in one for one in matrix.findings), name

    async def test_everybodys_people(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(people, "_SHARED", "(%(all)s or true or p.id = %(me)s or p.id = any(%(projects)s))")
        for name in ("GET /people", "GET /people/{reference}"):
            matrix = await Matrix(furnished).run(rows_of(name), ["viewer"])
            assert any("tells of project b" in one for one in matrix.findings), name

    async def test_answering_without_a_token(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        class Anybody:
            person_id = furnished.person("admin")

        monkeypatch.setattr(furnished.parts.tokens, "verify", lambda *_: Anybody())
        monkeypatch.setattr(resources, "caller", _caller_of(Anybody.person_id))
        matrix = await Matrix(furnished).run(rows_of("GET /packages"), ["anonymous"])
        assert any("answered without a token" in one for one in matrix.findings)

    async def test_a_fault(self, furnished: Office, monkeypatch: pytest.MonkeyPatch):
        def broken(*_: object) -> bool:
            raise RuntimeError

        monkeypatch.setattr(resources, "allowed", broken)
        matrix = await Matrix(furnished).run(rows_of("GET /packages/{reference}"), ["viewer"])
        assert any("a fault" in one for one in matrix.findings)


def _caller_of(person: UUID) -> Callable[[Request], Awaitable[Call]]:
    async def anybody(request: Request) -> Call:
        parts = parts_of(request)
        return Call(request, parts, await parts.principals.get(person), request.scope["correlation_id"], "api")

    return anybody
