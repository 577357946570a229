"""Every refusal as problem details (RFC 9457) with a stable code and the correlation id."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import psycopg
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pmis.kit.db import translate
from pmis.kit.errors import InvalidInputError, MalformedRequestError, NotFoundError, PmisError, TooLargeError
from pmis.kit.faults import report

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
log = logging.getLogger("pmis.api")


def body_of(error: PmisError, correlation_id: str) -> dict[str, Any]:
    """The problem document."""
    return {
        **error.extra,
        "type": f"urn:pmis:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "correlation_id": correlation_id,
    }


def response_of(error: PmisError, correlation_id: str) -> Response:
    """The answer that says no."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        json.dumps(body_of(error, correlation_id), ensure_ascii=False, separators=(",", ":")),
        error.status,
        headers,
        MEDIA_TYPE,
    )


class MethodNotAllowedError(PmisError):
    """The path is there, the method is not."""

    code = "method_not_allowed"
    status = 405
    title = "This method is not offered here"


_BY_STATUS: Final[dict[int, type[PmisError]]] = {
    400: MalformedRequestError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: TooLargeError,
}


def fault(error: Exception, correlation_id: str) -> Response:
    """Log a fault of ours, and answer without a word about it."""
    log.error("unexpected fault", exc_info=error)
    report(error)
    return response_of(
        PmisError("PMIS could not answer. Nothing was changed. Quote the correlation id when you report this."),
        correlation_id,
    )


REFUSED: Final = (PmisError, HTTPException, RequestValidationError, psycopg.Error)
"""What ends in an answer that says no; what is none of these is a fault, and ends at the edge."""


async def refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused."""
    correlation_id = request.scope.get("correlation_id", "-")
    if isinstance(error, PmisError):
        return response_of(error, correlation_id)
    if isinstance(error, HTTPException):
        known = _BY_STATUS.get(error.status_code, MalformedRequestError)
        response = response_of(known(str(error.detail)), correlation_id)
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response
    if isinstance(error, RequestValidationError):
        errors = [
            {"pointer": "/" + "/".join(map(str, item["loc"])), "message": item["msg"], "type": item["type"]}
            for item in error.errors()
        ]
        return response_of(
            InvalidInputError(f"{errors[0]['pointer'][1:]}: {errors[0]['message']}", errors=errors), correlation_id
        )
    if isinstance(error, psycopg.Error):
        translated = translate(error)
        if isinstance(translated, PmisError):
            return response_of(translated, correlation_id)
    return fault(error, correlation_id)


def install(app: FastAPI) -> None:
    """Let every refusal end in one handler; what no handler knows ends at the edge, in `fault`."""
    for kind in REFUSED:
        app.add_exception_handler(kind, refuse)
