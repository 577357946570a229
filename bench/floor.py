"""The floor: the fastest honest FastAPI program on PostgreSQL that gives the same answers as PMIS.

It keeps what any serious program must (a token per request, a check of the project, validated input, an audit row in
the same transaction) and takes every shortcut that keeps the answers the same: one statement per request with its
plan prepared, no joins, keyset paging, no counting, orjson, a plain stack of connections in place of a pool, a token
remembered for thirty seconds, and no governance at all. Parameters and bodies are read from the request by hand:
declaring them costs FastAPI another 130 us per list. Run it with `uvicorn bench.floor:app`; it reads FLOOR_DSN.
"""

import asyncio
import hashlib
import os
import re
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg
import orjson
import uuid_utils
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

Row: TypeAlias = Sequence[Any]

CONNECTIONS: Final = int(os.environ.get("FLOOR_CONNECTIONS", "8"))
TOKEN_SECONDS: Final = 30
NEWEST: Final = uuid.UUID(int=2**128 - 1)
COLUMNS: Final = (
    "id::text, version, project_id::text, code, number, package_type, title, description, status, owner_id::text, "
    "vendor_id::text, amount::text, currency, planned_start, planned_end, actual_start, actual_end, external_ref, "
    "data, created_at, updated_at, deleted_at, deleted_by"
)
NAMES: Final = tuple(name.partition("::")[0].strip() for name in COLUMNS.split(","))
NEXT: Final = {
    "draft": ["submitted", "cancelled"],
    "submitted": ["in_review", "cancelled"],
    "in_review": ["submitted", "approved", "cancelled"],
    "approved": ["awarded", "cancelled"],
    "awarded": ["active", "cancelled"],
    "active": ["on_hold", "completed", "cancelled"],
    "on_hold": ["active", "cancelled"],
}
BEFORE: Final = {to: [start for start, ends in NEXT.items() if to in ends] for ends in NEXT.values() for to in ends}

SCHEMA: Final = """
create table project (id uuid primary key, prefix text not null, name text not null);
create table person (id uuid primary key, name text not null);
create table token (hash bytea primary key, person_id uuid not null references person);
create table membership (
    person_id uuid references person, project_id uuid references project, role text not null,
    primary key (person_id, project_id)
);
create table package (
    id uuid primary key, version integer not null, project_id uuid not null references project,
    code text not null unique, number integer not null, package_type text, title text not null,
    description text not null, status text not null, owner_id uuid, vendor_id uuid, amount numeric, currency text,
    planned_start date, planned_end date, actual_start date, actual_end date, external_ref text,
    data json not null, created_at timestamptz not null, updated_at timestamptz not null, deleted_at timestamptz,
    deleted_by text
) with (fillfactor = 85);
create index package_by_age on package (project_id, id);
create table package_search (package_id uuid primary key, project_id uuid not null, vector tsvector not null);
create index package_search_vector on package_search using gin (vector) with (fastupdate = off);
create table audit (
    position bigint generated always as identity primary key, id uuid not null, package_id uuid not null,
    version integer not null, project_id uuid not null, type text not null, actor text not null,
    actor_name text not null, on_behalf_of text, on_behalf_of_name text, source text not null,
    correlation_id text not null, causation_id uuid,
    occurred_at timestamptz not null, payload json not null
);
create index audit_by_package on audit (package_id, position);
"""
# The code is the project's prefix and at least three digits.
CODE: Final = "$3::text || '-' || lpad(next.number::text, greatest(3, length(next.number::text)), '0')"
AUDIT: Final = (
    "insert into audit "
    "(id, package_id, version, project_id, type, actor, actor_name, source, correlation_id, occurred_at, payload)"
)

# The pair is compared, as a generic plan would else walk the primary key past every other project's packages.
LIST: Final = f"""
select {COLUMNS} from package where project_id = $1 and (project_id, id) < ($1, $2)
and deleted_at is null order by package.id desc limit $3
"""
GET: Final = f"select {COLUMNS} from package where id = $1"
SEARCH: Final = f"""
select {COLUMNS} from package where id in (
    select package_id from package_search where vector @@ to_tsquery('simple', $2) and project_id = $1
) and deleted_at is null order by package.id desc limit $3
"""
EVENT: Final = (
    "position, id::text, package_id::text, version, project_id::text, type, actor, actor_name, on_behalf_of, "
    "on_behalf_of_name, source, correlation_id, causation_id::text, occurred_at, payload"
)
EVENT_NAMES: Final = tuple(name.partition("::")[0].strip() for name in EVENT.split(","))
PROJECT: Final = EVENT_NAMES.index("project_id")
HISTORY: Final = f"select {EVENT} from audit where package_id = $1 order by position desc limit $2"
# A sequence per project numbers its packages: never twice, and nobody waits for anybody. A roll-back leaves a gap.
CREATE: Final = f"""
with next as materialized (
    select nextval($4::text::regclass)::integer as number
), new as (
    insert into package
    select $1, 1, $2, {CODE}, next.number, $5, $6, $7, 'draft', $8, $9, $10, $11, $12, $13, null, null, null,
        $14, now(), now(), null, null from next
    returning {COLUMNS}
), searchable as (
    insert into package_search select $1, $2, to_tsvector('simple', {CODE} || ' ' || $6 || ' ' || $7) from next
), entry as (
    {AUDIT} values ($19, $1, 1, $2, 'package.created', $15, $16, 'api', $17, now(), $18)
)
select * from new
"""
# The row is locked before its status is judged; the audit row says what it was.
TRANSITION: Final = f"""
with old as (
    select id as old_id, status as old_status from package where id = $1 for update
), new as (
    update package set status = $2, version = version + 1, updated_at = now() from old
    where id = old_id and project_id = any($3) and old_status = any($4) and deleted_at is null
    returning {COLUMNS}, old_status
), entry as (
    {AUDIT} select $8, $1, version, project_id::uuid, 'package.transitioned', $5, $6, 'api', $7, now(),
        json_build_object('changes', json_build_object('status', json_build_object('from', old_status, 'to', $2::text)))
        from new
)
select * from new
"""


class Connection(Protocol):
    """What is used of a connection; the driver does not declare its types."""

    async def fetch(self, query: str, *arguments: object) -> list[Row]:
        """Run a prepared statement in its own transaction."""
        ...

    async def close(self) -> None:
        """Disconnect."""


class Connections:
    """Connections for requests to take turns on: the last one used comes first, and giving it back asks nothing."""

    def __init__(self) -> None:
        """Start without any."""
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()

    async def open(self, dsn: str, count: int) -> None:
        """Connect that many times."""
        settings = {"plan_cache_mode": "force_generic_plan", "random_page_cost": "1.1", "jit": "off", "timezone": "UTC"}
        connect: Callable[..., Awaitable[Connection]] = vars(asyncpg)["connect"]
        self._idle = [await connect(dsn, server_settings=settings) for _ in range(count)]

    async def close(self) -> None:
        """Close those that are idle."""
        for connection in self._idle:
            await connection.close()

    async def fetch(self, statement: str, *arguments: object) -> list[Row]:
        """Run one prepared statement in its own transaction."""
        if self._idle:
            connection = self._idle.pop()
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            connection = await turn
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            if self._waiting:
                self._waiting.popleft().set_result(connection)
            else:
                self._idle.append(connection)


class Person:
    """Whose token it is, and the projects this person may see."""

    __slots__ = ("actor", "name", "projects", "until")

    def __init__(self, person_id: uuid.UUID, name: str, projects: dict[uuid.UUID, str]) -> None:
        """Remember the person for a while."""
        self.actor = f"person:{person_id}"
        self.name = name
        self.projects = projects
        self.until = time.monotonic() + TOKEN_SECONDS


connections = Connections()
prefixes: dict[uuid.UUID, str] = {}
people: dict[str, Person] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Connect, and read the tables that hardly ever change."""
    await connections.open(os.environ["FLOOR_DSN"], CONNECTIONS)
    prefixes.update({row[0]: row[1] for row in await connections.fetch("select id, prefix from project")})
    yield
    await connections.close()


app = FastAPI(lifespan=lifespan)


async def current_person(request: Request) -> Person:
    """The person whose token this is; 401 for anybody else."""
    authorization = request.headers.get("authorization", "")
    person = people.get(authorization)
    if person is not None and person.until > time.monotonic():
        return person
    token = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    rows = await connections.fetch(
        "select person.id, person.name, project_id, role from token join person on person.id = person_id "
        "join membership using (person_id) where hash = $1",
        token,
    )
    if not rows:
        raise HTTPException(401, "sign in first")
    person = Person(rows[0][0], rows[0][1], {row[2]: row[3] for row in rows})
    people[authorization] = person
    return person


CurrentPerson = Annotated[Person, Depends(current_person)]


Body = TypeVar("Body", bound=BaseModel)


class NewPackage(BaseModel):
    """What a new package needs."""

    model_config = ConfigDict(extra="forbid", strict=False)

    project: uuid.UUID
    title: str = Field(min_length=1, max_length=300)
    description: str = Field(default="", max_length=20_000)
    package_type: str | None = Field(default=None, max_length=60)
    owner_id: uuid.UUID | None = None
    vendor_id: uuid.UUID | None = None
    amount: Decimal | None = None
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")
    planned_start: date | None = None
    planned_end: date | None = None
    data: dict[str, Any] = {}


class Transition(BaseModel):
    """Where to."""

    model_config = ConfigDict(extra="forbid")

    status: str = Field(max_length=30)
    reason: str | None = Field(default=None, max_length=2000)


def valid(model: type[Body], body: bytes) -> Body:
    """The body as the model; 422 when it is not one."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False, include_input=False, include_context=False)) from error


def render(row: Row) -> dict[str, Any]:
    """The package as it is answered; its `data` is JSON already."""
    package = dict(zip(NAMES, row, strict=False))
    package["data"] = orjson.Fragment(package["data"])
    return package


def event(row: Row) -> dict[str, Any]:
    """The audit row as it is answered."""
    shown = dict(zip(EVENT_NAMES, row, strict=False))
    shown["payload"] = orjson.Fragment(shown["payload"])
    return shown


def answer(body: object, status: int = 200) -> Response:
    """JSON, encoded once."""
    return Response(orjson.dumps(body, option=orjson.OPT_UTC_Z), status, media_type="application/json")


def page(rows: list[Row], limit: int) -> Response:
    """At most `limit` packages, and where the next page begins."""
    packages = [render(row) for row in rows[:limit]]
    return answer({"items": packages, "next": packages[-1]["id"] if len(rows) > limit else None})


def uuid7() -> uuid.UUID:
    """A new time-ordered id."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def identifier(text: str | None) -> uuid.UUID:
    """The UUID in a parameter; 422 for anything else."""
    try:
        return uuid.UUID(text)
    except (TypeError, ValueError) as error:
        raise HTTPException(422, "not a UUID") from error


@app.get("/packages")
async def list_packages(request: Request, person: CurrentPerson) -> Response:
    """A page of a project's packages, newest first; with `q` those that hold words beginning with these."""
    query = request.query_params
    project = identifier(query.get("project"))
    limit = int(query.get("limit", "50"))
    if project not in person.projects:
        raise HTTPException(404, "no such project")
    if words := query.get("q"):
        prefixes_of_words = " & ".join(f"{word}:*" for word in re.findall(r"\w+", words))
        return page(await connections.fetch(SEARCH, project, prefixes_of_words, limit + 1), limit)
    cursor = query.get("cursor")
    return page(await connections.fetch(LIST, project, identifier(cursor) if cursor else NEWEST, limit + 1), limit)


@app.get("/packages/{package_id}")
async def get_package(person: CurrentPerson, package_id: uuid.UUID) -> Response:
    """One package."""
    rows = await connections.fetch(GET, package_id)
    if not rows or uuid.UUID(rows[0][2]) not in person.projects:
        raise HTTPException(404, "no such package")
    return answer(render(rows[0]))


@app.get("/packages/{package_id}/timeline")
async def get_timeline(person: CurrentPerson, package_id: uuid.UUID, limit: int = 50) -> Response:
    """What happened to a package, newest first, with before and after."""
    rows = await connections.fetch(HISTORY, package_id, limit + 1)
    if not rows or uuid.UUID(rows[0][PROJECT]) not in person.projects:
        raise HTTPException(404, "no such package")
    entries = [event(row) for row in rows[:limit]]
    return answer({"items": entries, "next": entries[-1]["position"] if len(rows) > limit else None})


@app.post("/packages")
async def create_package(request: Request, person: CurrentPerson) -> Response:
    """A new draft, with the next number of its project."""
    new = valid(NewPackage, await request.body())
    prefix = prefixes.get(new.project)
    if prefix is None or person.projects.get(new.project) in {None, "viewer", "auditor"}:
        raise HTTPException(404, "no such project")
    data = orjson.dumps(new.data).decode()
    fields = orjson.dumps({"fields": {**new.__dict__, "status": "draft"}}, default=str).decode()
    rows = await connections.fetch(
        CREATE,
        *(uuid7(), new.project, prefix, f"number_{prefix.lower()}", new.package_type),
        *(
            new.title,
            new.description,
            new.owner_id,
            new.vendor_id,
            new.amount,
            new.currency,
            new.planned_start,
            new.planned_end,
        ),
        *(data, person.actor, person.name, str(uuid_utils.uuid7()), fields, uuid7()),
    )
    return answer(render(rows[0]), 201)


@app.post("/packages/{package_id}/transitions")
async def transition_package(request: Request, person: CurrentPerson, package_id: uuid.UUID) -> Response:
    """Move a package along its life; 409 names what is possible instead."""
    change = valid(Transition, await request.body())
    allowed = [project for project, role in person.projects.items() if role not in {"viewer", "auditor"}]
    rows = await connections.fetch(
        TRANSITION,
        *(package_id, change.status, allowed, BEFORE.get(change.status, [])),
        *(person.actor, person.name, str(uuid_utils.uuid7()), uuid7()),
    )
    if not rows:
        found = await connections.fetch(GET, package_id)
        if not found or uuid.UUID(found[0][2]) not in person.projects:
            raise HTTPException(404, "no such package")
        raise HTTPException(409, {"allowed": NEXT.get(found[0][8], [])})
    return answer(render(rows[0]))
