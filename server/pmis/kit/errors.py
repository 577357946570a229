"""The ways PMIS says no. Each carries a stable `code`, an HTTP status and a text that is safe to show.

A `detail` says what is wrong and what to do about it. `extra` travels beside it in the problem document (RFC 9457).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar


class PmisError(Exception):
    """The base of every refusal. Subclasses say which; raise those."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    retry_after: int | None = None
    commits: ClassVar[bool] = False
    """Whether what was written before the refusal (the expiry of an approval, say) is kept."""

    def __init__(self, detail: str, **extra: Any) -> None:  # noqa: ANN401 - any JSON value may travel beside the text
        """`detail` is shown to the caller as it is; `extra` must be JSON."""
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidInputError(PmisError):
    """The request does not have the shape the endpoint asks for; `errors` lists each field."""

    code = "invalid_input"
    status = 422
    title = "The request is not valid"


class MalformedRequestError(PmisError):
    """The body is not JSON, not UTF-8, or a header is not well formed."""

    code = "malformed_request"
    status = 400
    title = "The request could not be read"


class UnauthenticatedError(PmisError):
    """Nobody is signed in, or the token is not (or no longer) good."""

    code = "unauthenticated"
    status = 401
    title = "Sign in first"


class ForbiddenError(PmisError):
    """A member without the right role."""

    code = "forbidden"
    status = 403
    title = "Your role does not allow this"


class NotFoundError(PmisError):
    """It does not exist, or the caller may not know that it does."""

    code = "not_found"
    status = 404
    title = "Not found"


class ConflictError(PmisError):
    """The request contradicts the present state."""

    code = "conflict"
    status = 409
    title = "This contradicts the present state"


class BusyError(PmisError):
    """Somebody else holds a lock that was not given in time."""

    code = "busy"
    status = 409
    title = "Somebody else is working on this"
    retry_after = 1


class StaleVersionError(PmisError):
    """`If-Match` names another version than the present one."""

    code = "stale_version"
    status = 412
    title = "This was changed in the meantime"


class TooLargeError(PmisError):
    """The body is over the limit."""

    code = "too_large"
    status = 413
    title = "The request is too large"


class TooManyAttemptsError(PmisError):
    """More attempts than are allowed for the account or the client address."""

    code = "too_many_attempts"
    status = 429
    title = "Too many attempts"

    def __init__(self, seconds: float) -> None:
        """Say how long to wait."""
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"Too many attempts. Try again in {self.retry_after} seconds.")


class UnavailableError(PmisError):
    """A part that is needed does not answer; nothing was written."""

    code = "unavailable"
    status = 503
    title = "Not available right now"
    retry_after = 2
