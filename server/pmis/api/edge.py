"""The edge of a write: one transaction, one answer, kept under the key that the caller gave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from pmis.api.context import etag
from pmis.api.problems import MEDIA_TYPE, body_of
from pmis.kit.canonical import canonical
from pmis.kit.errors import PmisError
from pmis.ledger.idempotency import KEPT_REFUSALS, Answer, claim, claiming, fingerprint, require_key, settle
from pmis.policy.access import Action, authorize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pmis.api.context import Call
    from pmis.approval.propose import Outcome
    from pmis.kit.db import WriteSession

REPLAYED = "Idempotency-Replayed"


async def write(call: Call, handler: Callable[[WriteSession], Awaitable[Answer]]) -> Response:
    """Run the handler in one transaction and answer after its commit.

    With an `Idempotency-Key` the answer is kept in the same transaction, and given again, byte for byte, to the same
    request under the same key, once the caller is found still to have access. Refusals of the domain are kept too.
    """
    request = call.request
    header = request.headers.get("idempotency-key")
    if header is None:
        async with call.parts.database.write() as session:
            try:
                answer = await handler(session)
            except PmisError as error:
                if error.commits:
                    await session.commit()
                raise
            await session.commit()
        return _response(answer)
    key = require_key(header)
    body = await request.body()
    precondition = request.headers.get("if-match", "")
    print_ = fingerprint(request.method, request.url.path, request.scope["query_string"], precondition, body)
    async with call.parts.database.write(claiming(call.principal.ref, key, print_)) as session:
        held = await claim(session, call.principal.ref, key, print_, begun=True)
        if isinstance(held, Answer):
            return _replayed(call, held)
        try:
            answer = await handler(session)
        except PmisError as error:
            if error.status not in KEPT_REFUSALS or error.retry_after is not None:
                raise
            answer = refusal(error, call.correlation_id)
            if not error.commits:
                await session.restart()
                again = await claim(session, call.principal.ref, key, print_)
                if isinstance(again, Answer):
                    return _replayed(call, again)
                held = again
        settle(session, held, answer)
        await session.commit()
    return _response(answer)


def refusal(error: PmisError, correlation_id: str) -> Answer:
    """The refusal as an answer that can be kept."""
    text = json.dumps(body_of(error, correlation_id), ensure_ascii=False, separators=(",", ":"))
    return Answer(error.status, text.encode(), {"Content-Type": MEDIA_TYPE})


def _replayed(call: Call, answer: Answer) -> Response:
    if answer.project_id is not None:
        authorize(call.principal, Action.READ, answer.project_id)
    response = _response(answer)
    response.headers[REPLAYED] = "true"
    return response


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {"Content-Type": "application/json", **answer.headers})


def outcome_answer(
    outcome: Outcome, *, resource: str | None, approval: str | None, location: str | None, created: bool = False
) -> Answer:
    """What a proposal answers: 200 or 201 applied, 202 waiting. `resource` and `approval` are JSON texts."""
    entity = outcome.entities[0] if outcome.entities else None
    applied = outcome.outcome == "applied"
    head: dict[str, Any] = {
        "outcome": outcome.outcome,
        "route": outcome.decision.route.value,
        "rule": outcome.decision.rule,
        "score": outcome.decision.score,
        "reasons": [reason.to_json() for reason in outcome.decision.reasons],
    }
    body = f'{canonical(head)[:-1]},"approval":{approval or "null"},"resource":{resource or "null"}}}'
    headers: dict[str, str] = {}
    if applied and entity is not None:
        headers["ETag"] = etag(entity.version)
    if location:
        headers["Location"] = location
    project = entity.project_id if entity else outcome.approval.project_id if outcome.approval else None
    return Answer((201 if created else 200) if applied else 202, body.encode(), headers, project)
