"""Signatures of requests between servers, in both directions, as Standard Webhooks describes them.

What is signed is the message's id, the seconds since 1970, and the body as it is sent. The receiver refuses what is
older or newer than a few minutes, so that a request that somebody wrote down is worth nothing later, and takes what any
one of several secrets has signed, so that they can be changed without losing a message.
(https://github.com/standard-webhooks/standard-webhooks)
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pmis.kit.errors import PmisError
from pmis.kit.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
TOLERANCE_SECONDS: Final = 300
PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_LONGEST: Final = 2000
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""What an id may be. Not a full stop, above all: it parts what is signed, which could be cut elsewhere."""
_SHORTEST_KEY: Final = 24
_DIGITS: Final = 12


class SignatureError(PmisError):
    """The request is not signed, not with a secret that is known here, or not in these minutes."""

    code = "signature_refused"
    status = 401
    title = "The signature is not good"


def key_of(secret: str) -> bytes:
    """The bytes that sign: those that a `whsec_` secret holds in base64, or those of any other text.

    Raises SettingsError when they are too few to protect anything.
    """
    key = secret.encode()
    if secret.startswith(PREFIX):
        with suppress(binascii.Error):
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    if len(key) < _SHORTEST_KEY:
        raise SettingsError(
            f"A secret that signs webhooks holds {len(key)} bytes; at least {_SHORTEST_KEY} are needed. Set a "
            "longer one, here and at the sender."
        )
    return key


def signature(secret: str, identity: str, at: int, body: bytes) -> str:
    """What the signature header says of a message."""
    digest = hmac.digest(key_of(secret), f"{identity}.{at}.".encode() + body, "sha256")
    return _VERSION + base64.b64encode(digest).decode()


def headers_of(secrets: Sequence[str], identity: str, at: int, body: bytes) -> dict[str, str]:
    """The headers that go with a message; it is signed with each of the secrets.

    Raises ValueError for an id that no receiver takes.
    """
    if not _ID.fullmatch(identity):
        message = f"{identity!r} is no id of a message: one to 200 letters, digits, _ and -"
        raise ValueError(message)
    signed = " ".join(signature(secret, identity, at, body) for secret in secrets)
    return {ID: identity, TIMESTAMP: str(at), SIGNATURE: signed}


def require_recent(headers: Mapping[str, str], now: datetime) -> None:
    """Raise SignatureError unless all three headers are there and the time that they say is about now.

    To be asked before the body is read.
    """
    for name in (ID, TIMESTAMP, SIGNATURE):
        if not headers.get(name):
            raise SignatureError(f"The header {name} is missing. Sign the request as Standard Webhooks describes it.")
    if not _ID.fullmatch(headers[ID]):
        raise SignatureError(f"{ID} must be one to 200 letters, digits, _ and -.")
    if len(headers[SIGNATURE]) > _LONGEST:
        raise SignatureError(f"{SIGNATURE} is longer than any that is good.")
    at = headers[TIMESTAMP]
    if not (at.isascii() and at.isdigit() and len(at) <= _DIGITS):
        raise SignatureError(f"{TIMESTAMP} must be the seconds since 1970.")
    if abs(now.timestamp() - int(at)) > TOLERANCE_SECONDS:
        raise SignatureError(
            f"It was signed more than {TOLERANCE_SECONDS} seconds ago, or will be. Sign it when it is sent, and set "
            "both clocks."
        )


class Check:
    """Judges a message whose body comes piece by piece, so that nothing else has to be done with it before."""

    def __init__(self, headers: Mapping[str, str], secrets: Sequence[str], now: datetime) -> None:
        """Raises SignatureError for headers that no body can make good; see `require_recent`."""
        require_recent(headers, now)
        self._headers = headers
        begun = f"{headers[ID]}.{int(headers[TIMESTAMP])}.".encode()
        self._digests = [hmac.new(key_of(secret), begun, "sha256") for secret in secrets]

    def update(self, piece: bytes) -> None:
        """The next piece of the body."""
        for digest in self._digests:
            digest.update(piece)

    def require_good(self) -> None:
        """Raise SignatureError unless one of the secrets signed the body that came."""
        wanted = [_VERSION.encode() + base64.b64encode(one.digest()) for one in self._digests]
        given = [one.encode() for one in self._headers[SIGNATURE].split(" ")]
        # Each is compared with each, however many are right.
        if not sum(hmac.compare_digest(one, other) for one in wanted for other in given):
            raise SignatureError("No secret that is known here has signed this.")


def require_signed(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime) -> None:
    """Raise SignatureError unless one of the secrets signed this very body about now."""
    check = Check(headers, secrets, now)
    check.update(body)
    check.require_good()
