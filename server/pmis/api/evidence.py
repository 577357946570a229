"""What lets a stranger check the log: proofs, checkpoints, exports, and a verification on request."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import FileResponse, Response

from pmis.api import docs
from pmis.api.audit import RECORDED, visible_event
from pmis.api.context import Call, caller, require_good_key, require_known_parameters
from pmis.api.resources import limit_of, next_link, project_named
from pmis.approval.governed import Input, parse_input
from pmis.kit.canonical import canonical
from pmis.kit.errors import ConflictError
from pmis.kit.ids import uuid7
from pmis.kit.paging import decode_cursor, encode_cursor, foreign_cursor
from pmis.ledger.checkpoint import previous_keys_of, signer_of
from pmis.ledger.event import Fact
from pmis.ledger.export import Exported, export_file
from pmis.ledger.merkle import READ_NODES, inclusion_plan, node_parameters
from pmis.ledger.store import record
from pmis.ledger.verify import verify_file
from pmis.policy.access import Action, authorize

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.settings import Settings

router = docs.RouteTable("audit")
_few = CapacityLimiter(1)
"""Exports and verifications read the whole log: one at a time in a process."""


class NotSealedError(ConflictError):
    """No checkpoint covers the event yet."""

    code = "not_sealed"
    title = "Not sealed yet"
    retry_after = 60


class Proof(BaseModel):
    """That an event is in the tree that a checkpoint signs (RFC 6962): enough to check it without this server."""

    event: docs.EventOut
    leaf_index: int
    leaf_hash: str = Field(description="SHA-256 of a zero byte and the event's content hash, hexadecimal.")
    tree_size: int
    root_hash: str
    path: list[str] = Field(description="The hashes from the leaf up to the root, hexadecimal.")
    checkpoint: str = Field(description="The signed note (C2SP tlog-checkpoint).")


class CheckpointOut(BaseModel):
    """A signed statement of the log's size and root."""

    size: int
    root_hash: str
    signed_at: str
    note: str


class CheckpointPage(BaseModel):
    """Checkpoints, the newest first, and the key that they are signed with."""

    key: str
    items: list[CheckpointOut]
    next: str | None


class Verification(BaseModel):
    """What the verifier found in the log as it is now."""

    result: str = Field(examples=["ok"])
    sealed: int
    unsealed: int
    streams: int
    checkpoints: int
    findings: list[dict[str, Any]]
    report: str = Field(description="The same in words.")


class Verify(Input):
    """Nothing to say: the whole log is checked."""


async def get_proof(request: Request, event_id: str) -> Response:
    """The proof that one event is in the newest signed tree."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    async with call.parts.database.read(call.reach) as session:
        project, position, event = await visible_event(session, call, event_id)
        newest = await session.one("select size, root, note from ledger.checkpoint order by size desc limit 1")
        leaf = await session.one(
            "select idx, hash from ledger.tree_node where level = 0 and position = %s", (position,)
        )
        if newest is None or leaf is None or leaf[0] >= newest[0]:
            raise NotSealedError("No checkpoint covers this event yet; the next one will, in a minute or so.")
        size, root, note = newest
        plan = inclusion_plan(leaf[0], size)
        rows = await session.all(READ_NODES, node_parameters(plan.nodes))
    await call.parts.readings.note(call, "proof", [project], event_id=event_id)
    path = plan.hashes({(level, index): bytes(hash_) for level, index, hash_ in rows})
    body = {
        "leaf_index": leaf[0],
        "leaf_hash": bytes(leaf[1]).hex(),
        "tree_size": size,
        "root_hash": bytes(root).hex(),
        "path": [item.hex() for item in path],
        "checkpoint": note,
    }
    return Response(f'{canonical(body)[:-1]},"event":{event}}}', 200, None, "application/json")


async def list_checkpoints(request: Request) -> Response:
    """A page of checkpoints: they name no record, so everybody who signed in may keep them."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"cursor", "limit"}))
    limit = limit_of(request)
    below = 2**62
    if (cursor := request.query_params.get("cursor")) is not None:
        found = decode_cursor(cursor, "-size", 1)[0]
        if type(found) is not int or not 0 <= found <= below:
            raise foreign_cursor()
        below = found
    async with call.parts.database.read(call.reach) as session:
        rows = await session.all(
            "select size, root, signed_at, note from ledger.checkpoint where size < %s order by size desc limit %s",
            (below, limit + 1),
        )
    following = encode_cursor("-size", [rows[limit - 1][0]]) if len(rows) > limit else None
    items = [
        {"size": size, "root_hash": bytes(root).hex(), "signed_at": signed_at.isoformat(), "note": note}
        for size, root, signed_at, note in rows[:limit]
    ]
    body = {"key": str(signer_of(call.parts.settings).key), "items": items, "next": following}
    return Response(canonical(body), 200, next_link(request, following), "application/json")


async def _scope(request: Request, call: Call) -> UUID | None:
    """The project to export, or None for the whole log; raises when the caller may not."""
    if "project" not in request.query_params:
        authorize(call.principal, Action.EXPORT, None)
        return None
    async with call.parts.database.read(call.reach) as session:
        project = await project_named(session, call.principal, request.query_params["project"])
    authorize(call.principal, Action.EXPORT, project)
    return project


def _export(settings: Settings, path: Path, project: UUID | None) -> Exported:
    signer = signer_of(settings)
    with psycopg.connect(settings.auditor_dsn, autocommit=True) as connection:
        keys = [signer.key, *previous_keys_of(settings)]
        return export_file(connection, str(path), origin=signer.origin, keys=keys, project=project)


async def export_log(request: Request) -> Response:
    """The log, or one project's part of it with a proof for each event, as a file for `pmis verify`."""
    call = await caller(request)
    require_known_parameters(request, frozenset({"project"}))
    project = await _scope(request, call)
    folder = tempfile.TemporaryDirectory(prefix="pmis-export-")
    path = Path(folder.name) / "log.jsonl.gz"
    try:
        done = await to_thread.run_sync(_export, call.parts.settings, path, project, limiter=_few)
        async with call.parts.database.write(call.reach) as session:
            fact = Fact("export.made", {"project_id": str(project) if project else None, **done.counts()})
            record(session, "export", uuid7(), fact, origin=call.origin, project_id=project)
            await session.commit()
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path, media_type="application/gzip", filename="pmis-log.jsonl.gz", background=BackgroundTask(folder.cleanup)
    )


def _verified(settings: Settings) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pmis-verify-") as folder:
        path = Path(folder) / "log.jsonl"
        _export(settings, path, None)
        kept = [settings.checkpoints] if settings.checkpoints.is_dir() else []
        keys = [str(key) for key in (signer_of(settings).key, *previous_keys_of(settings))]
        report = verify_file(str(path), checkpoints=kept, keys=keys, jobs=1)
    shown = report.as_json()
    names = ("result", "sealed", "unsealed", "streams", "checkpoints", "findings")
    return {**{name: shown[name] for name in names}, "report": report.as_text()}


async def verify_log(request: Request) -> Response:
    """Export the log to a scratch file and let the stand-alone verifier judge it, kept checkpoints included."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    require_good_key(request)
    docs.require_json(request)
    parse_input(Verify, await request.body())
    authorize(call.principal, Action.VERIFY, None)
    body = await to_thread.run_sync(_verified, call.parts.settings, limiter=_few)
    judged = {name: body[name] for name in ("result", "sealed", "unsealed", "checkpoints")}
    await call.parts.readings.write(call, [(Fact("log.verified", {**judged, "findings": len(body["findings"])}), None)])
    return Response(json.dumps(body, ensure_ascii=False), 200, None, "application/json")


docs.route(
    router,
    "GET",
    "/audit/events/{event_id}/proof",
    get_proof,
    docs.Spec(
        "Prove that an event is in the signed log",
        "read_audit",
        {200: Proof},
        (401, 403, 404, 409, 422, 503),
        description=RECORDED,
    ),
)
docs.route(
    router,
    "GET",
    "/audit/checkpoints",
    list_checkpoints,
    docs.Spec(
        "List the signed checkpoints",
        "signed in",
        {200: CheckpointPage},
        (401, 422, 503),
        headers=("Link",),
        description="Keep some of them where the administrators of this server cannot reach them.",
        parameters=[docs.CURSOR, docs.LIMIT],
    ),
)
docs.route(
    router,
    "GET",
    "/audit/export",
    export_log,
    docs.Spec(
        "Export the log",
        "export",
        {200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}},
        (401, 403, 404, 422, 503),
        description="JSON lines, gzip. The export is itself recorded as an event.",
        parameters=[docs.PROJECT],
    ),
)
docs.route(
    router,
    "POST",
    "/audit/verify",
    verify_log,
    docs.Spec(
        "Verify the whole log now",
        "verify",
        {200: Verification},
        (400, 401, 403, 413, 415, 422, 503),
        description=(
            "That it was verified is an event, `log.verified`; nothing else changes. "
            "A full rewrite shows only against checkpoints that were kept elsewhere."
        ),
        body=Verify,
        body_required=False,
    ),
)
