"""Open contracting data in and out: files as proposals, packages as release packages."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, require_good_key, require_known_parameters, uuid_or_none
from pmis.api.edge import write
from pmis.api.resources import Routes, flag, project_named
from pmis.api.secondfactor import with_proof
from pmis.api.secrets import reveal
from pmis.approval.change import Operation
from pmis.approval.models import Approval, FieldDiff
from pmis.approval.propose import actor_of, waiting_steps
from pmis.kit.canonical import canonical
from pmis.kit.errors import ForbiddenError, InvalidInputError, NotFoundError, PmisError
from pmis.kit.text import one_line
from pmis.ledger.event import Origin
from pmis.ledger.idempotency import Answer
from pmis.ocds import importing
from pmis.ocds.exporting import release_of, tell
from pmis.ocds.importing import Prepared, Preview, Submitted, item_json, place_json
from pmis.ocds.progress import Phase, Progress, ToldProgress, progress_of
from pmis.ocds.writer import Publication
from pmis.package.resource import RESOURCE as PACKAGES
from pmis.policy.access import Action, allowed, authorize
from pmis.policy.approvers import Round
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from pmis.kit.db import Session, WriteSession
    from pmis.ocds.mapping import Step

KINDS: Final = ("application/json", "application/x-ndjson", "application/octet-stream")
NAME_LENGTH: Final = 200
_OCID_PREFIX: Final = re.compile("ocds-[a-z0-9]{6}")
_DIGEST: Final = re.compile("[0-9a-f]{64}")
router = docs.RouteTable("imports")


class Item(BaseModel):
    """Something about an item of the file, and where it stands there."""

    place: str = Field(examples=["02-tender.json /releases/0/tender/value"])
    line: int | None = Field(description="The line, in a file of JSON Lines.")
    pointer: str = Field(description="The JSON Pointer in the file, or in its line.")
    code: str
    message: str


class ImportedChange(BaseModel):
    """One change that the file calls for."""

    operation: Operation
    target_type: Literal["party", "package", "task"]
    target: UUID | None
    key: str = Field(description="The outside reference.", examples=["ocds:ocds-213czf-000-00001"])
    label: str
    place: str
    line: int | None
    pointer: str
    fields: list[FieldDiff]
    errors: list[str] = Field(description="What is wrong with it.")


class ImportPreview(BaseModel):
    """What a file would do. With `errors` nothing can be imported."""

    outcome: Literal["preview"]
    file: str
    releases: int
    repeated: int = Field(description="How many of the releases were imported before.")
    items: list[ImportedChange]
    errors: list[Item]
    notices: list[Item]
    digest: str = Field(description="Send it with the import, so that nothing else than this is done.")
    decision: dict[str, Any] | None = Field(description="The policy's whole answer; null when nothing is proposed.")
    route: str | None
    open_steps: list[dict[str, Any]] = Field(description="Who must agree.")
    awaiting: list[dict[str, Any]] = Field(
        description="Approvals that wait already for the same records; `same` says whether for the very same changes."
    )


class ImportOutcome(BaseModel):
    """What became of a file: everything in it was applied, or waits as one approval, or there was nothing to do."""

    outcome: Literal["applied", "pending", "confirmation_required", "unchanged"]
    file: str
    releases: int
    repeated: int
    changes: int = Field(description="How many changes the file called for.")
    joined: bool = Field(description="Whether an approval waited already for the very same changes.")
    route: str | None
    rule: str | None
    notices: list[Item]
    approval: Approval | None
    records: list[dict[str, Any]] = Field(description="The records that were changed, as type, id, label and version.")


class ImportProgress(BaseModel):
    """How far an import is."""

    id: UUID
    phase: Phase
    done: int
    total: int
    updated_at: datetime


async def import_ocds(request: Request) -> Response:
    """Import a file, or show what it would do."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"project", "file", "dry_run", "confirm", "progress", "digest"}))
    require_good_key(request)
    given = request.query_params
    dry_run, confirm = flag(request, "dry_run"), flag(request, "confirm")
    name, progress, shown = _file_name(request), _progress(request, call), _digest(request)
    kind = request.headers.get("content-type", KINDS[-1]).partition(";")[0].strip().lower()
    if kind not in KINDS:
        raise docs.UnsupportedMediaError(f"Send the file as {' or '.join(KINDS)}.")
    async with call.parts.database.read(call.reach) as session:
        project = await _project(session, call, given.get("project"))
    authorize(call.principal, Action.PROPOSE, project)
    content = await request.body()
    prepared: Prepared | PmisError
    try:
        prepared = await importing.prepare(call.parts.database, call.parts.vault, project, content, name, progress)
    except PmisError as error:
        # Raised inside the edge's transaction, so that it is kept under the caller's key like any other refusal.
        prepared = error
    if not isinstance(prepared, PmisError):
        await progress.say("proposing", 0, len(prepared.wanted))
    try:
        if dry_run:
            response = await _shown(call, prepared)
        else:

            async def submit(recent: bool) -> Response:
                return await write(
                    call, lambda session: _submitted(session, call, prepared, confirm, shown, recent=recent)
                )

            response = await with_proof(call, submit)
    except BaseException:
        await progress.say("failed")
        raise
    total = 0 if isinstance(prepared, PmisError) else len(prepared.wanted)
    await progress.say("done", total, total)
    return response


async def _project(session: Session, call: Call, name: str | None) -> UUID:
    if name is not None:
        return await project_named(session, call.principal, name)
    mine = await readable_projects(session, call.principal)
    if len(mine) != 1:
        raise _wrong("project", "say which project, by id or prefix, as you see several or none")
    return mine[0]


def _file_name(request: Request) -> str:
    name = request.query_params.get("file", "upload")
    try:
        one_line(name)
    except ValueError as error:
        raise _wrong("file", str(error)) from None
    if not 1 <= len(name) <= NAME_LENGTH:
        raise _wrong("file", f"1 to {NAME_LENGTH} characters")
    return name


def _progress(request: Request, call: Call) -> Progress:
    text = request.query_params.get("progress")
    if text is None:
        return Progress()
    identity = uuid_or_none(text)
    if identity is None:
        raise _wrong("progress", "a UUID of your own choice")
    return ToldProgress(call.parts.database, identity, call.principal.ref)


def _digest(request: Request) -> str | None:
    text = request.query_params.get("digest")
    if text is not None and not _DIGEST.fullmatch(text):
        raise _wrong("digest", "64 hexadecimal digits")
    return text


def _wrong(parameter: str, message: str) -> InvalidInputError:
    return InvalidInputError(
        f"{parameter}: {message}.",
        errors=[{"pointer": f"/query/{parameter}", "message": message, "type": "value_error"}],
    )


async def _shown(call: Call, prepared: Prepared | PmisError) -> Response:
    """The preview; the transaction that found it out is taken back."""
    if isinstance(prepared, PmisError):
        raise prepared
    async with call.parts.database.write(call.reach) as session:
        found = await importing.preview(session, call.parts.vault, call.principal, call.correlation_id, prepared)
        body = canonical(_preview_json(found, session.now))
        shown = await reveal(session, call.parts.vault, call.principal, [body], project=prepared.project_id)
    return Response(shown[0].encode(), 200, None, "application/json")


def _preview_json(found: Preview, now: datetime) -> dict[str, Any]:
    prepared = found.prepared
    decision = found.judged.decision if found.judged else None
    return {
        "outcome": "preview",
        **_head(prepared),
        "items": _items(found),
        "errors": [item_json(one) for one in found.errors],
        "digest": prepared.digest,
        "decision": decision.to_json() if decision else None,
        "route": decision.route.value if decision else None,
        "open_steps": waiting_steps(Round(steps=decision.steps, order=decision.order, at=now, proposers=frozenset()))
        if decision
        else [],
        "awaiting": [
            {"id": str(one.id), "label": one.label, "status": one.status, "source": one.source, "same": same}
            for one, same in found.awaiting
        ],
    }


def _head(prepared: Prepared) -> dict[str, Any]:
    return {
        "file": prepared.name,
        "releases": prepared.plan.releases,
        "repeated": prepared.plan.repeated,
        "notices": [item_json(one) for one in prepared.plan.notices],
    }


def _items(found: Preview) -> list[dict[str, Any]]:
    prepared = found.prepared
    wrong = _by_step(prepared.steps, found)
    items: list[dict[str, Any]] = []
    for i, step in enumerate(prepared.steps):
        record = found.diff[i] if found.diff else None
        change = prepared.wanted[i] if prepared.wanted else None
        items.append(
            {
                "operation": step.operation,
                "target_type": step.target_type,
                "target": str(change.target) if change else None,
                "key": step.key,
                "label": record.label if record else _label(step, prepared),
                **place_json(step),
                "fields": [one.model_dump(mode="json") for one in record.fields]
                if record
                else [{"field": name, "before": None, "after": value} for name, value in step.patch.items()],
                "errors": wrong.get(i, []),
            }
        )
    return items


def _by_step(steps: list[Step], found: Preview) -> dict[int, list[str]]:
    """What is wrong with each change: an error belongs to the first of those that stand nearest round it."""
    wrong: dict[int, list[str]] = {}
    for error in found.errors:
        near = [
            (len(step.place.pointer), -i)
            for i, step in enumerate(steps)
            if step.place.line == error.place.line and (error.place.pointer + "/").startswith(step.place.pointer + "/")
        ]
        if near:
            wrong.setdefault(-max(near)[1], []).append(error.message)
    return wrong


def _label(step: Step, prepared: Prepared) -> str:
    own = step.patch.get("title") or step.patch.get("name")
    known = prepared.known(step)
    return str(own or known.get("title") or known.get("name") or step.key)


async def _submitted(
    session: WriteSession,
    call: Call,
    prepared: Prepared | PmisError,
    confirm: bool,
    shown: str | None,
    *,
    recent: bool,
) -> Answer:
    if isinstance(prepared, PmisError):
        raise prepared
    done = await importing.submit(
        session,
        call.parts.vault,
        call.principal,
        call.correlation_id,
        prepared,
        confirm=confirm,
        shown=shown,
        recent=recent,
    )
    waits = done.outcome in ("pending", "confirmation_required")
    approval = done.joined or (done.proposal.approval if done.proposal else None)
    headers: dict[str, str] = {}
    if waits and approval:
        base = "/api/v1" if "/api/v1/" in call.request.scope["path"] else "/api"
        headers["Location"] = f"{base}/approvals/{approval.id}"
    body = canonical(_outcome_json(done, approval))
    return Answer(202 if waits else 200, body.encode(), headers, prepared.project_id)


def _outcome_json(done: Submitted, approval: Approval | None) -> dict[str, Any]:
    decision = done.proposal.decision if done.proposal else None
    types = {one.target: one.noun.stream_type for one in done.prepared.wanted}
    return {
        "outcome": done.outcome,
        **_head(done.prepared),
        "changes": len(done.prepared.wanted),
        "joined": done.joined is not None,
        "route": decision.route.value if decision else approval.route if approval else None,
        "rule": decision.rule if decision else approval.decision["rule"] if approval else None,
        "approval": approval.model_dump(mode="json") if approval else None,
        "records": [
            {
                "target_type": types[one.id],
                "id": str(one.id),
                "label": " ".join(
                    str(found) for name in ("code", "title", "name") if (found := getattr(one, name, None))
                ),
                "version": one.version,
            }
            for one in (done.proposal.entities if done.proposal else [])
        ],
    }


async def import_progress(request: Request, import_id: str) -> Response:
    """How far one of the caller's own imports is."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    identity = uuid_or_none(import_id)
    async with call.parts.database.read(call.reach) as session:
        told = identity and await progress_of(session, identity, call.principal.ref)
    if not told:
        raise NotFoundError("There is no such import of yours.")
    body = {
        "id": str(identity),
        "phase": told.phase,
        "done": told.done,
        "total": told.total,
        "updated_at": told.updated_at.isoformat(),
    }
    return Response(canonical(body), 200, None, "application/json")


async def export_ocds(request: Request, reference: str) -> Response:
    """A package as an OCDS release package."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"publisher", "ocid_prefix"}))
    given = request.query_params
    prefix = given.get("ocid_prefix", "ocds-000000")
    if not _OCID_PREFIX.fullmatch(prefix):
        raise _wrong("ocid_prefix", "the prefix that the publisher registered, such as ocds-213czf")
    try:
        publisher = one_line(given["publisher"]).strip() if "publisher" in given else None
    except ValueError as error:
        raise _wrong("publisher", str(error)) from None
    if publisher is not None and not 1 <= len(publisher) <= NAME_LENGTH:
        raise _wrong("publisher", f"1 to {NAME_LENGTH} characters")
    async with call.parts.database.write(call.reach) as session:
        _, doc = await Routes(PACKAGES).find(session, call.principal, reference)
        package = PACKAGES.noun.model.model_validate_json(doc)
        if not allowed(call.principal, Action.EXPORT, package.project_id):
            raise ForbiddenError("Only administrators and auditors of the project take its data out.")
        if publisher is None:
            row = await session.one(
                "select doc::json ->> 'name' from state.project where id = %s", (package.project_id,)
            )
            publisher = str(row[0]) if row else "PMIS"
        moment = session.now.isoformat(timespec="seconds").replace("+00:00", "Z")
        publication = Publication(moment, publisher, prefix)
        export = await release_of(session, call.parts.vault, package.model_dump(mode="json"), publication)
        tell(session, Origin(actor_of(call.principal), call.source, call.correlation_id), export)
        await session.commit()
    headers = {"Content-Disposition": f'attachment; filename="{_safe(export.ocid)}.json"'}
    return Response(export.text.encode(), 200, headers, "application/json")


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]


_RELEASE: Final[dict[str, Any]] = {
    "ocid": "ocds-213czf-000-00001",
    "id": "ocds-213czf-000-00001-01-planning",
    "date": "2026-03-10T09:30:00Z",
    "language": "en",
    "tag": ["planning"],
    "initiationType": "tender",
    "planning": {"budget": {"description": "Cycle lanes, north", "amount": {"amount": 1500000, "currency": "USD"}}},
}
_FILE: Final[dict[str, Any]] = {
    "application/json": {
        "schema": {"type": "object", "description": "A release or a release package."},
        "example": _RELEASE,
    },
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "A release or release package on each line."},
        "example": canonical(_RELEASE),
    },
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary", "description": "Either of them, as a file."},
        "example": canonical(_RELEASE),
    },
}
docs.route(
    router,
    "POST",
    "/imports/ocds",
    import_ocds,
    docs.Spec(
        "Import a file of the Open Contracting Data Standard",
        "propose",
        {200: ImportPreview | ImportOutcome, 202: ImportOutcome},
        (400, 401, 403, 404, 409, 413, 415, 422, 503),
        description=(
            "Releases and release packages of versions 1.0 and 1.1, as JSON or JSON Lines, up to 10 MB. Everything in "
            "the file is proposed as one change: applied at once, or waiting as one approval, or, when an item is "
            "wrong, refused with `items` that say what and where. The same file again changes nothing."
        ),
        parameters=[
            docs.query("project", "The project, by id or prefix; needed by whoever sees several.", "P"),
            docs.query(
                "file", "What messages call the file.", "02-tender.json", {"type": "string", "maxLength": NAME_LENGTH}
            ),
            docs.DRY_RUN,
            docs.query(
                "confirm",
                "`true` is the caller's own yes, where the policy asks for no more than that.",
                schema={"type": "boolean", "default": False},
            ),
            docs.query(
                "digest",
                "The preview's; another content than was shown answers 409.",
                schema={"type": "string", "pattern": "^[0-9a-f]{64}$"},
            ),
            docs.query(
                "progress",
                "An id of your own choice, under which `GET /imports/{id}` tells how far it is.",
                schema={"type": "string", "format": "uuid"},
            ),
        ],
        files=_FILE,
    ),
)
docs.route(
    router,
    "GET",
    "/imports/{import_id}",
    import_progress,
    docs.Spec(
        "How far one's own import is",
        "read",
        {200: ImportProgress},
        docs.READ_REFUSALS,
        description="Under the id that was given as `progress`; told for a day.",
    ),
)
docs.route(
    router,
    "GET",
    "/exports/ocds/{reference}",
    export_ocds,
    docs.Spec(
        "Export a package as an OCDS release package",
        "export",
        {
            200: {
                "description": "An OCDS 1.1 release package.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
        (401, 403, 404, 409, 422, 503),
        description=(
            "The contracting process that the package stands for: what came from OCDS as it came, with what was "
            "changed here. Each export is an event, `export.made`, with the digest of what was given out."
        ),
        parameters=[
            docs.query("publisher", "Who publishes it. Default: the project's name.", "Highways Office"),
            docs.query(
                "ocid_prefix",
                "The publisher's prefix, for a package that did not come from OCDS.",
                "ocds-213czf",
                {"type": "string", "pattern": "^ocds-[a-z0-9]{6}$"},
            ),
        ],
    ),
)
