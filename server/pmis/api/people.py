"""People over HTTP: those one shares a project with, or, for administrators of the instance, everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import create_model
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, if_match, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.resources import answer_of, id_after, limit_of, next_link
from pmis.api.secrets import reveal
from pmis.approval.propose import Wanted, propose
from pmis.identity.models import Person, PersonCreate, PersonPatch
from pmis.identity.noun import PEOPLE
from pmis.kit.errors import NotFoundError
from pmis.kit.ids import uuid7
from pmis.kit.listing import Page
from pmis.kit.paging import encode_cursor
from pmis.policy.access import Action, allowed

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.idempotency import Answer

router = docs.RouteTable("people")
PersonPage = create_model("PersonPage", items=(list[Person], ...), next=(str | None, ...), __doc__="A page of people.")

_SHARED: Final = (
    "(%(all)s or p.id = %(me)s or exists (select from state.membership m where m.person_id = p.id "
    "and m.roles <> '{}' and m.project_id = any(%(projects)s)))"
)


def _sees(call: Call) -> dict[str, object]:
    return {
        "all": allowed(call.principal, Action.ADMINISTER, None) or call.principal.instance_auditor,
        "me": call.principal.person_id,
        "projects": sorted(call.principal.projects),
    }


async def find_person(session: Session, call: Call, reference: str) -> tuple[UUID, str]:
    """The person's id and record, when the caller may see them; raises NotFoundError."""
    identity = uuid_or_none(reference)
    row = identity and await session.one(
        f"select p.id, p.doc from state.person p where p.id = %(id)s and {_SHARED}", {**_sees(call), "id": identity}
    )
    if not row:
        raise NotFoundError("There is no such person.")
    return row[0], row[1]


async def list_people(request: Request) -> Response:
    """A page of people."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    limit = limit_of(request)
    params = {**_sees(call), "limit": limit + 1, "after": id_after(request)}
    async with call.parts.database.read(call.reach) as session:
        rows = await session.all(
            f"select p.id, p.doc from state.person p where {_SHARED} "
            "and (%(after)s::uuid is null or p.id > %(after)s) order by p.id limit %(limit)s",
            params,
        )
        following = encode_cursor("id", [str(rows[limit - 1][0])]) if len(rows) > limit else None
        shown = await reveal(session, call.parts.vault, call.principal, [row[1] for row in rows[:limit]])
    return Response(Page(shown, following).body(), 200, next_link(request, following), "application/json")


async def get_person(request: Request, reference: str) -> Response:
    """One person."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        _, doc = await find_person(session, call, reference)
        doc = (await reveal(session, call.parts.vault, call.principal, [doc]))[0]
    return Response(doc, 200, None, "application/json")


async def create_person(request: Request) -> Response:
    """Propose a new person."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = PEOPLE.parse("create", await request.body())

    async def handle(session: WriteSession) -> Answer:
        wanted = Wanted(PEOPLE, "create", uuid7(), PEOPLE.patch_of("create", said))
        outcome = await propose(session, call.parts.vault, call.proposing(said), [wanted])
        return answer_of(call, outcome, path="people", created=True)

    return await write(call, handle)


async def patch_person(request: Request, reference: str) -> Response:
    """Propose a change of a person."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = PEOPLE.parse("patch", await request.body())
    version = if_match(request)

    async def handle(session: WriteSession) -> Answer:
        identity, _ = await find_person(session, call, reference)
        wanted = Wanted(PEOPLE, "patch", identity, PEOPLE.patch_of("patch", said), None, version)
        outcome = await propose(session, call.parts.vault, call.proposing(said), [wanted])
        return answer_of(call, outcome, path="people")

    return await write(call, handle)


_one = "/people/{reference}"
docs.route(
    router,
    "GET",
    "/people",
    list_people,
    docs.Spec(
        "List people one works with",
        "signed in",
        {200: PersonPage},
        docs.READ_REFUSALS,
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router, "GET", _one, get_person, docs.Spec("Read one person", "signed in", {200: Person}, docs.READ_REFUSALS)
)
docs.route(
    router,
    "POST",
    "/people",
    create_person,
    docs.Spec(
        "Propose a new person",
        "administer",
        {201: docs.Outcome, 202: docs.Outcome},
        docs.SAY_REFUSALS,
        headers=("ETag", "Location"),
        body=PersonCreate,
    ),
)
docs.route(
    router,
    "PATCH",
    _one,
    patch_person,
    docs.Spec(
        "Propose a change of a person",
        "administer",
        {200: docs.Outcome, 202: docs.Outcome},
        docs.WRITE_REFUSALS,
        headers=("ETag", "Location"),
        parameters=[docs.IF_MATCH],
        body=PersonPatch,
    ),
)
