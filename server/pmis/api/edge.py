"""The edge of a write: one transaction, one answer, kept under the key that the caller gave."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from pmis.api.context import etag
from pmis.api.problems import MEDIA_TYPE, body_of
from pmis.api.secrets import reveal
from pmis.kit.canonical import canonical, sha256_hex
from pmis.kit.errors import ForbiddenError, PmisError
from pmis.ledger.idempotency import KEPT_REFUSALS, Answer, claim, claiming, fingerprint, require_key, settle
from pmis.policy.access import Action, authorize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pmis.api.context import Call
    from pmis.approval.propose import Outcome
    from pmis.kit.db import Session, Statement, WriteSession

REPLAYED = "Idempotency-Replayed"


async def write(
    call: Call, handler: Callable[[WriteSession], Awaitable[Answer]], *, ahead: Sequence[Statement] = ()
) -> Response:
    """Run the handler in one transaction and answer after its commit; `ahead` is what it is known to ask for first.

    With an `Idempotency-Key` the answer is kept in the same transaction, and given again, byte for byte, to the same
    request under the same key, once the caller is found still to have access. Refusals of the domain are kept too.
    What lies in the vault is kept as references, so that it can be erased, and is opened for each answer anew.
    """
    request = call.request
    header = request.headers.get("idempotency-key")
    if header is None:
        async with call.parts.database.write(call.reach, ahead=ahead) as session:
            try:
                answer = await _opened(session, call, await handler(session))
            except PmisError as error:
                if error.commits:
                    await session.commit()
                raise
            await session.commit()
        return _response(answer)
    key = require_key(header)
    body = await request.body()
    precondition = request.headers.get("if-match", "")
    print_ = fingerprint(request.method, request.scope["path"], request.scope["query_string"], precondition, body)
    async with call.parts.database.write(call.reach, claiming(call.principal.ref, key, print_), ahead) as session:
        held = await claim(session, call.principal.ref, key, print_, begun=True)
        if isinstance(held, Answer):
            return await _replayed(session, call, held)
        try:
            answer = await handler(session)
            shown = await _opened(session, call, answer)
        except PmisError as error:
            if error.status not in KEPT_REFUSALS or error.retry_after is not None:
                raise
            answer = shown = refusal(error, call.correlation_id)
            if not error.commits:
                await session.restart()
                again = await claim(session, call.principal.ref, key, print_)
                if isinstance(again, Answer):
                    return await _replayed(session, call, again)
                held = again
        settle(session, held, replace(answer, access=access_of(call)))
        await session.commit()
    return _response(shown)


def refusal(error: PmisError, correlation_id: str) -> Answer:
    """The refusal as an answer that can be kept."""
    text = json.dumps(body_of(error, correlation_id), ensure_ascii=False, separators=(",", ":"))
    return Answer(error.status, text.encode(), {"Content-Type": MEDIA_TYPE})


class AccessChangedError(ForbiddenError):
    """The answer under this key was given to somebody with other rights than the caller has now."""

    code = "access_changed"


async def _replayed(session: Session, call: Call, answer: Answer) -> Response:
    """The kept answer, to whom it may still be given, with what this caller may see now.

    Whose rights are what they were gets it again, also an administrator of the instance in a project without them;
    whose rights have changed gets it while they can read in its project.
    """
    if answer.access != access_of(call):
        if answer.project_id is None:
            raise AccessChangedError("Your rights have changed since this key was answered. Ask again under a new key.")
        authorize(call.principal, Action.READ, answer.project_id)
    response = _response(await _opened(session, call, answer))
    response.headers[REPLAYED] = "true"
    return response


async def _opened(session: Session, call: Call, answer: Answer) -> Answer:
    """The answer with what lies in the vault, as far as the caller may see it; it is kept without."""
    text = answer.body.decode()
    shown = await reveal(session, call.parts.vault, call.principal, [text], project=answer.project_id)
    return answer if shown[0] is text else replace(answer, body=shown[0].encode())


def access_of(call: Call) -> str:
    """The digest of everything that the caller may do."""
    principal = call.principal
    roles = {str(project): sorted(held) for project, held in principal.roles.items() if held}
    return sha256_hex(canonical([roles, principal.instance_admin, principal.instance_auditor]))


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
