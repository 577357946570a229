"""The log over HTTP: what happened, to what, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, require_known_parameters, uuid_or_none
from pmis.api.events import COLUMNS, NOTHING, event_json, events_page
from pmis.api.resources import limit_of, moment, next_link, project_named
from pmis.api.secrets import reveal
from pmis.kit.errors import ForbiddenError, InvalidInputError, NotFoundError
from pmis.kit.text import one_line
from pmis.policy.access import ALL, Action, allowed, authorize, visible_projects
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Row, Session

router = docs.RouteTable("audit")
_NOT_YOURS: Final = "Only auditors, administrators and executives read the log."
RECORDED: Final = (
    "Reading is itself recorded as an event, `log.read`, in each project that is read, or in the instance's log by "
    "whoever reads all of it; what is read again within the hour, once."
)
FILTERS: Final = ("type", "actor", "correlation_id", "stream_id")


async def _auditable(session: Session, call: Call, request: Request) -> tuple[list[UUID | None], str, list[Any]]:
    """The projects that are read, and the part of the log that the caller may audit, as a condition.

    Among the projects is None unless one was named.
    Raises ForbiddenError when they may audit none of it.
    """
    given = request.query_params
    if "project" in given:
        project = await project_named(session, call.principal, given["project"])
        authorize(call.principal, Action.READ_AUDIT, project)
        return [project], "project_id = %s", [project]
    if visible_projects(call.principal, Action.READ_AUDIT) is ALL:
        return [None], "true", []
    projects = await readable_projects(session, call.principal, Action.READ_AUDIT)
    instance = allowed(call.principal, Action.READ_AUDIT, None)
    if not projects and not instance:
        raise ForbiddenError(_NOT_YOURS)
    where = f"(project_id = any(%s){' or project_id is null' if instance else ''})"
    return [*projects, None], where, [projects]


async def list_events(request: Request) -> Response:
    """A page of the log."""
    call = await caller(request)
    require_known_parameters(request, frozenset({*FILTERS, "project", "from", "to", "cursor", "limit"}))
    given = request.query_params
    async with call.parts.database.read(call.reach) as session:
        projects, where, params = await _auditable(session, call, request)
        for name in FILTERS:
            if name in given:
                where += f" and {name} = %s"
                params.append(_value(name, given[name]))
        if "from" in given:
            where += " and occurred_at >= %s"
            params.append(moment(given["from"], "from"))
        if "to" in given:
            where += " and occurred_at < %s"
            params.append(moment(given["to"], "to"))
        body, following = await events_page(
            session, call, where, params, cursor=given.get("cursor"), limit=limit_of(request)
        )
    asked = {name: given[name] for name in (*FILTERS, "from", "to") if name in given}
    await call.parts.readings.note(call, "list", projects, found=body != NOTHING, **asked)
    return Response(body, 200, next_link(request, following), "application/json")


def _value(name: str, text: str) -> str | UUID:
    try:
        value = uuid_or_none(text) if name == "stream_id" else one_line(text)
        if value is not None:
            return value
    except ValueError:
        pass
    raise InvalidInputError(
        f"{name}: not a value it can have.",
        errors=[{"pointer": f"/query/{name}", "message": "not a value it can have", "type": "value_error"}],
    )


async def entity_events(request: Request, entity_type: str, entity_id: str) -> Response:
    """The events of one stream."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    identity = uuid_or_none(entity_id)
    async with call.parts.database.read(call.reach) as session:
        row = await session.one(
            "select project_id from ledger.event where stream_id = %s and stream_type = %s limit 1",
            (identity, _value("type", entity_type)),
        )
        project = _require_auditable(call, row, "record")[0]
        body, following = await events_page(
            session,
            call,
            "stream_id = %s",
            [identity],
            cursor=request.query_params.get("cursor"),
            limit=limit_of(request),
        )
    await call.parts.readings.note(call, "record", [project], stream_type=entity_type, stream_id=str(identity))
    return Response(body, 200, next_link(request, following), "application/json")


def _require_auditable(call: Call, row: Row | None, what: str) -> Row:
    """The row of something in the project in its first column; raises NotFoundError or ForbiddenError."""
    if not row or not allowed(call.principal, Action.READ, row[0]):
        raise NotFoundError(f"There is no such {what}.")
    if not allowed(call.principal, Action.READ_AUDIT, row[0]):
        raise ForbiddenError(_NOT_YOURS)
    return row


async def visible_event(session: Session, call: Call, event_id: str) -> tuple[UUID | None, int, str]:
    """The project, position and JSON of an event that the caller may audit.

    Raises NotFoundError or ForbiddenError.
    """
    identity = uuid_or_none(event_id)
    row = await session.one(f"select project_id, {COLUMNS} from ledger.event where id = %s", (identity,))
    row = _require_auditable(call, row, "event")
    return row[0], row[1], (await reveal(session, call.parts.vault, call.principal, [event_json(row[1:])]))[0]


async def get_event(request: Request, event_id: str) -> Response:
    """One event."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        project, _, body = await visible_event(session, call, event_id)
    await call.parts.readings.note(call, "event", [project], event_id=event_id)
    return Response(body, 200, None, "application/json")


docs.route(
    router,
    "GET",
    "/audit",
    list_events,
    docs.Spec(
        "Search the log",
        "read_audit",
        {200: docs.EventPage},
        (401, 403, 404, 422, 503),
        description=f"The newest first. {RECORDED}",
        headers=("Link",),
        parameters=[
            docs.query("type", "Only this type.", "package.transitioned"),
            docs.query("actor", "Only by this principal.", "person:0197c0de-0000-7000-8000-000000000000"),
            docs.query("correlation_id", "Only of this request.", "0197c0de-0000-7000-8000-000000000000"),
            docs.query("stream_id", "Only of this record.", "0197c0de-0000-7000-8000-000000000000"),
            docs.query(
                "from", "Not before this time.", "2026-11-01T00:00:00Z", {"type": "string", "format": "date-time"}
            ),
            docs.query("to", "Before this time.", "2026-12-01T00:00:00Z", {"type": "string", "format": "date-time"}),
            docs.CURSOR,
            docs.LIMIT,
            docs.PROJECT,
        ],
    ),
)
docs.route(
    router,
    "GET",
    "/audit/events/{event_id}",
    get_event,
    docs.Spec("Read one event", "read_audit", {200: docs.EventOut}, (401, 403, 404, 422, 503), description=RECORDED),
)
docs.route(
    router,
    "GET",
    "/audit/{entity_type}/{entity_id}",
    entity_events,
    docs.Spec(
        "The events of one record's stream",
        "read_audit",
        {200: docs.EventPage},
        (401, 403, 404, 422, 503),
        description=f"The newest first. {RECORDED}",
        headers=("Link",),
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
