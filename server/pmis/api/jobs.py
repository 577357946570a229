"""Jobs over HTTP: what is being done, how far it is, what failed for good, and what people make of that."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response, StreamingResponse

from pmis.api import docs
from pmis.api.context import Call, caller, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.resources import limit_of, next_link, project_named
from pmis.approval.governed import Input, parse_input
from pmis.kit.canonical import canonical
from pmis.kit.errors import ConflictError, InvalidInputError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.kit.paging import decode_moment, encode_cursor
from pmis.kit.text import Words, one_line
from pmis.ledger.event import Fact
from pmis.ledger.idempotency import Answer
from pmis.ledger.store import record
from pmis.mail.intake import FILE
from pmis.notify.spread import MAIL
from pmis.policy.access import Action, allowed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pmis.kit.db import Row, Session, WriteSession
    from pmis.policy.access import Principal

router = docs.RouteTable("jobs")
Status = Literal["queued", "running", "waiting", "done", "dead", "cancelled"]
STATUSES: Final = ("queued", "running", "waiting", "done", "dead", "cancelled")
_ENDED: Final = frozenset({"done", "dead", "cancelled"})
_ORDER: Final = "-created_at"
_LOOK_SECONDS: Final = 0.5
LONGEST_STREAM_SECONDS: Final = 300
_MOST_RETRIED: Final = 1000
_COLUMNS: Final = (
    "id, kind, project_id, acting, correlation_id, status, attempt, due_at, lease_until, progress, result, error, "
    "created_at, finished_at"
)


class JobOut(BaseModel):
    """A job: work that was accepted, and what became of it."""

    id: UUID
    kind: str
    project_id: UUID | None
    acting: str | None
    correlation_id: str
    status: Status
    attempt: int
    due_at: datetime
    lease_until: datetime | None
    progress: dict[str, Any] | None
    result: Any
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


class AttemptOut(BaseModel):
    """One attempt at a job."""

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["done", "failed", "lost", "returned"] | None
    error: dict[str, Any] | None


class JobDetail(JobOut):
    """A job with what it was given, and every attempt at it."""

    payload: dict[str, Any]
    attempts: list[AttemptOut]


class Retried(BaseModel):
    """The dead letters that are tried again."""

    retried: list[UUID]


class JobEnd(Input):
    """Why a job is not to be done."""

    reason: Annotated[Words, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="Why; kept in the log.", examples=["The mail was filed by hand."]
    )


_INSTANCE: Final = " or (project_id is null and kind <> 'webhook.deliver')"


def _visible(principal: Principal) -> tuple[str, list[Any]]:
    """The jobs that the caller may see, as a condition: a job belongs to its project, or to the instance.

    Who administers the instance sees into no project by that, and a job's payload is its project's data. What an
    instance's webhook is told tells of projects too: it is shown with the webhook, as far as they may be seen.
    """
    mine = [project for project in principal.projects if allowed(principal, Action.CONFIGURE, project)]
    instance = allowed(principal, Action.ADMINISTER, None)
    return f"(project_id = any(%s){_INSTANCE if instance else ''})", [mine]


def _job(row: Row) -> dict[str, Any]:
    identity, kind, project, acting, correlation, status, attempt, due, lease, progress, result, error, *times = row
    return {
        "id": str(identity),
        "kind": kind,
        "project_id": str(project) if project else None,
        "acting": acting,
        "correlation_id": correlation,
        "status": status,
        "attempt": attempt,
        "due_at": due.isoformat(),
        "lease_until": lease.isoformat() if lease else None,
        "progress": json.loads(progress) if progress else None,
        "result": json.loads(result) if result else None,
        "error": json.loads(error) if error else None,
        **{name: at.isoformat() if at else None for name, at in zip(("created_at", "finished_at"), times, strict=True)},
    }


async def _page(request: Request, *, only: str | None = None) -> Response:
    call = await caller(request)
    names = ("kind", "project", "cursor", "limit") if only else ("kind", "project", "cursor", "limit", "status")
    require_known_parameters(request, frozenset(names))
    given, limit = request.query_params, limit_of(request)
    where, params = _visible(call.principal)
    async with call.parts.database.read(call.reach) as session:
        if "project" in given:
            where += " and project_id = %s"
            params.append(await project_named(session, call.principal, given["project"]))
        if "kind" in given:
            where += " and kind = %s"
            params.append(_line("kind", given["kind"]))
        if status := only or given.get("status"):
            where += " and status = any(%s)"
            params.append(_statuses(status))
        if "cursor" in given:
            where += " and (created_at, id) < (%s, %s)"
            params += decode_moment(given["cursor"], _ORDER)
        rows = await session.all(
            f"select {_COLUMNS} from jobs.job where {where} order by created_at desc, id desc limit %s",
            (*params, limit + 1),
        )
    items = [_job(row) for row in rows[:limit]]
    last = items[-1] if len(rows) > limit else None
    following = encode_cursor(_ORDER, [last["created_at"], last["id"]]) if last else None
    return Response(
        canonical({"items": items, "next": following}), 200, next_link(request, following), "application/json"
    )


def _line(name: str, text: str) -> str:
    try:
        return one_line(text)
    except ValueError as error:
        raise _wrong(name, str(error)) from None


def _statuses(text: str) -> list[str]:
    found = text.split(",")
    if not set(found) <= set(STATUSES):
        raise _wrong("status", f"one or more of {', '.join(STATUSES)}")
    return found


def _wrong(parameter: str, message: str) -> InvalidInputError:
    return InvalidInputError(
        f"{parameter}: {message}.",
        errors=[{"pointer": f"/query/{parameter}", "message": message, "type": "value_error"}],
    )


async def list_jobs(request: Request) -> Response:
    """A page of jobs."""
    return await _page(request)


async def list_dead_letters(request: Request) -> Response:
    """A page of the jobs that failed for good."""
    return await _page(request, only="dead")


async def _find(session: Session, call: Call, job_id: str, more: str = "") -> Row:
    """The row of a job that the caller may see; raises NotFoundError."""
    where, params = _visible(call.principal)
    row = await session.one(
        f"select {_COLUMNS}{more} from jobs.job where id = %s and {where}",
        (uuid_or_none(job_id), *params),
    )
    if row is None:
        raise NotFoundError("There is no such job.")
    return row


async def get_job(request: Request, job_id: str) -> Response:
    """One job, with its attempts."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        *row, payload = await _find(session, call, job_id, ", payload")
        attempts = await session.all(
            "select attempt, worker, started_at, ended_at, outcome, error from jobs.attempt where job_id = %s "
            "order by attempt",
            (row[0],),
        )
    body = {
        **_job(tuple(row)),
        "payload": json.loads(payload),
        "attempts": [
            {
                "attempt": number,
                "worker": worker,
                "started_at": started.isoformat(),
                "ended_at": ended.isoformat() if ended else None,
                "outcome": outcome,
                "error": json.loads(error) if error else None,
            }
            for number, worker, started, ended, outcome, error in attempts
        ],
    }
    return Response(canonical(body), 200, None, "application/json")


async def stream_job(request: Request, job_id: str) -> Response:
    """How far a job is, as it goes on."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        first = _job(await _find(session, call, job_id))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(call, first), 200, headers, "text/event-stream")


async def _told(call: Call, job: dict[str, Any]) -> AsyncIterator[str]:
    """The job whenever it changed, until it has ended; each look asks anew whether the caller may see it."""
    until = time.monotonic() + LONGEST_STREAM_SECONDS
    before: dict[str, Any] = {}
    while True:
        shown = {name: value for name, value in job.items() if name != "lease_until"}
        if shown != before:
            yield f"event: job\ndata: {canonical(shown)}\n\n"
            before = shown
        if job["status"] in _ENDED or time.monotonic() > until:
            return
        await asyncio.sleep(_LOOK_SECONDS)
        # The one who may see it is read anew: a role that was taken ends the stream.
        where, params = _visible(await call.standing())
        async with call.parts.database.read(call.reach) as session:
            row = await session.one(
                f"select {_COLUMNS} from jobs.job where id = %s and {where}",
                (UUID(job["id"]), *params),
            )
        if row is None:
            return
        job = _job(row)


async def retry_job(request: Request, job_id: str) -> Response:
    """Try a dead letter again."""
    call = await caller(request)
    require_known_parameters(request, frozenset())

    async def handle(session: WriteSession) -> Answer:
        row = await _find(session, call, job_id)
        if not await _retried(session, call, [row[0]], row[2]):
            raise ConflictError(f"This job is {row[5]}; only dead letters are tried again.", status_now=row[5])
        return Answer(200, canonical(_job(await _find(session, call, job_id))).encode(), {}, row[2])

    return await write(call, handle)


async def retry_dead_letters(request: Request) -> Response:
    """Try again every dead letter that the caller may see."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"kind", "project"}))
    given = request.query_params

    async def handle(session: WriteSession) -> Answer:
        where, params = _visible(call.principal)
        project: UUID | None = None
        if "project" in given:
            project = await project_named(session, call.principal, given["project"])
            where += " and project_id = %s"
            params.append(project)
        if "kind" in given:
            where += " and kind = %s"
            params.append(_line("kind", given["kind"]))
        rows = await session.all(
            f"select id from jobs.job where status = 'dead' and {where} order by created_at, id limit %s",
            (*params, _MOST_RETRIED),
        )
        found = await _retried(session, call, [row[0] for row in rows], project) if rows else []
        return Answer(200, canonical({"retried": [str(one) for one in found]}).encode(), {}, project)

    return await write(call, handle)


async def _retried(session: WriteSession, call: Call, jobs: list[UUID], project: UUID | None) -> list[UUID]:
    """Which of these were dead and are tried again; that somebody asked for it is an event."""
    found = [row[0] for row in await session.all("select * from jobs.retry(%s)", (jobs,))]
    if found:
        fact = Fact("job.retried", {"jobs": [str(one) for one in found]})
        record(session, "job_retry", uuid7(), fact, origin=call.origin, project_id=project)
    return found


@dataclass(frozen=True)
class _Ending:
    """A way in which somebody ends a job. Kinds in `kept` are not ended so: something accepted would be lost."""

    statement: str
    event: str
    otherwise: str
    kept: Mapping[str, str]


_ACCEPTED: Final = "The mail was accepted, and is filed or stays a dead letter. Have it tried again."
_CANCEL: Final = _Ending(
    "select jobs.cancel(%s)",
    "job.cancelled",
    "only jobs that wait are cancelled",
    {FILE: _ACCEPTED, MAIL: "What its person was told waits for this mail. They say themselves that they want none."},
)
_DISMISS: Final = _Ending(
    "select jobs.dismiss(%s)", "job.dismissed", "only dead letters are dismissed", {FILE: _ACCEPTED}
)


async def cancel_job(request: Request, job_id: str) -> Response:
    """End a job that waits, before anybody does it."""
    return await _end(request, job_id, _CANCEL)


async def dismiss_job(request: Request, job_id: str) -> Response:
    """Lay a dead letter aside."""
    return await _end(request, job_id, _DISMISS)


async def _end(request: Request, job_id: str, ending: _Ending) -> Response:
    call = await caller(request)
    require_known_parameters(request, frozenset())
    docs.require_json(request)
    said = parse_input(JobEnd, await request.body())

    async def handle(session: WriteSession) -> Answer:
        row = await _find(session, call, job_id)
        identity, kind, project = row[:3]
        if why := ending.kept.get(kind):
            raise ConflictError(why)
        ended = await session.one(ending.statement, (identity,))
        # What it is now: a worker or somebody else may have been faster.
        job = _job(await _find(session, call, job_id))
        if ended is None or not ended[0]:
            raise ConflictError(f"This job is {job['status']}; {ending.otherwise}.", status_now=job["status"])
        # A job ends so once: it is the one fact of its stream.
        fact = Fact(ending.event, {"kind": kind, "reason": said.reason or None})
        record(session, "job", identity, fact, origin=call.origin, project_id=project)
        return Answer(200, canonical(job).encode(), {}, project)

    return await write(call, handle)


_KIND: Final = docs.query("kind", "Only this kind.", "approvals.expire")
_PAGE: Final = [_KIND, docs.PROJECT, docs.CURSOR, docs.LIMIT]
_WHO: Final = "Administrators of a project see its jobs, those of the instance the jobs of no project."
_STREAM: Final = {
    "description": "An event `job` whenever it changed, until it has ended.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
docs.route(
    router,
    "GET",
    "/jobs",
    list_jobs,
    docs.Spec(
        "List jobs",
        "read",
        {200: docs.page_of(JobOut, "job")},
        docs.READ_REFUSALS,
        description=f"The newest first. {_WHO}",
        headers=("Link",),
        parameters=[docs.query("status", "Only these statuses.", "dead,waiting"), *_PAGE],
    ),
)
docs.route(
    router,
    "GET",
    "/jobs/dead-letters",
    list_dead_letters,
    docs.Spec(
        "List the jobs that failed for good",
        "read",
        {200: docs.page_of(JobOut, "job")},
        docs.READ_REFUSALS,
        description=f"They stay until they are tried again or dismissed. {_WHO}",
        headers=("Link",),
        parameters=_PAGE,
    ),
)
docs.route(
    router,
    "POST",
    "/jobs/dead-letters/retry",
    retry_dead_letters,
    docs.Spec(
        "Try dead letters again",
        "administer",
        {200: Retried},
        (400, 401, 403, 404, 409, 413, 422, 503),
        description=f"Up to {_MOST_RETRIED} of those that the caller sees, with all their attempts. It is an event.",
        parameters=[_KIND, docs.PROJECT],
    ),
)
docs.route(
    router,
    "GET",
    "/jobs/{job_id}",
    get_job,
    docs.Spec(
        "Read a job, its progress and its attempts", "read", {200: JobDetail}, docs.READ_REFUSALS, description=_WHO
    ),
)
docs.route(
    router,
    "GET",
    "/jobs/{job_id}/stream",
    stream_job,
    docs.Spec(
        "Watch a job",
        "read",
        {200: _STREAM},
        docs.READ_REFUSALS,
        description="Server-sent events. A stream ends with its job, and after five minutes; then ask again.",
    ),
)
docs.route(
    router,
    "POST",
    "/jobs/{job_id}/retry",
    retry_job,
    docs.Spec(
        "Try a dead letter again",
        "administer",
        {200: JobOut},
        (400, 401, 403, 404, 409, 413, 422, 503),
        description="With all its attempts. It is an event.",
    ),
)
for _path, _endpoint, _summary, _words in (
    (
        "cancel",
        cancel_job,
        "Cancel a job that waits",
        (
            "It is not done, neither now nor later. What runs is not cancelled: it ends by itself, or by "
            "`JOB_LIMIT_SECONDS`. It is an event."
        ),
    ),
    (
        "dismiss",
        dismiss_job,
        "Lay a dead letter aside",
        "It is not tried again, and is `cancelled` from then on; what went wrong stays with it. It is an event.",
    ),
):
    docs.route(
        router,
        "POST",
        f"/jobs/{{job_id}}/{_path}",
        _endpoint,
        docs.Spec(
            _summary,
            "administer",
            {200: JobOut},
            docs.SAY_REFUSALS,
            description=_words,
            body=JobEnd,
            body_required=False,
        ),
    )
