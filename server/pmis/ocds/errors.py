"""The ways a file is refused before any of its items is looked at."""

from __future__ import annotations

from pmis.kit.errors import MalformedRequestError, PmisError, TooLargeError


class UnreadableFileError(MalformedRequestError):
    """Not UTF-8, not JSON, or JSON that two readers could read differently."""

    code = "ocds_unreadable"
    title = "The file cannot be read"


class NotOcdsError(PmisError):
    """Good JSON, but not an OCDS release or release package of a version that is understood."""

    code = "ocds_not_recognised"
    status = 422
    title = "This is not an OCDS release"


class FileTooLargeError(TooLargeError):
    """The file is over the limit."""

    code = "ocds_too_large"
    title = "The file is too large"
