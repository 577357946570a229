"""Access tokens: JWTs (RFC 9068) signed with Ed25519 under a key that is derived from JWT_SECRET_KEY.

One algorithm, one type, one issuer and audience, a fixed set of keys; a token that differs in any of these, lacks a
claim or carries an unknown header is refused. A token names the session it was given to: whoever takes it asks whether
that is still open. Verified tokens are remembered until they expire, as checking a signature costs more than
many a request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pmis.kit.errors import UnauthenticatedError
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Sequence

ISSUER: Final = "pmis"
AUDIENCE: Final = "pmis-api"
TYPE: Final = "at+jwt"
CLAIMS: Final = ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid")
MAX_BYTES: Final = 4096
SKEW: Final = timedelta(seconds=10)
"""How far the clocks of two API processes may be apart before one finds the other's tokens not good yet."""
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A verified token: whose it is, of which session, and until when (UTC)."""

    person_id: UUID
    session_id: UUID
    expires_at: datetime


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(self, secret: str, minutes: int, previous: Sequence[str] = ()) -> None:
        """Derive the signing key; tokens are good for so many minutes.

        Those that were signed under `previous` secrets are taken until they expire.
        """
        self._private = _key(secret)
        self._public = self._private.public_key()
        self.kid = _kid(self._public)
        others = [_key(one).public_key() for one in previous]
        self._keys = {self.kid: self._public, **{_kid(other): other for other in others}}
        self.lifetime = timedelta(minutes=minutes)
        self._verified: OrderedDict[str, AccessToken] = OrderedDict()

    def issue(self, person_id: UUID, session_id: UUID, now: datetime) -> str:
        """A token for the person's session, good from now."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(person_id),
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
            "jti": str(uuid7()),
            "sid": str(session_id),
        }
        return jwt.encode(claims, self._private, algorithm="EdDSA", headers={"typ": TYPE, "kid": self.kid})

    def verify(self, token: str, now: datetime) -> AccessToken:
        """Whose token it is; raises UnauthenticatedError for one that is not ours, not good yet or no longer."""
        known = self._verified.get(token)
        if known is None:
            known = self._checked(token, now)
            self._verified[token] = known
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        if now >= known.expires_at:
            self._verified.pop(token, None)
            raise UnauthenticatedError("The access token has expired. Sign in again.")
        return known

    def _checked(self, token: str, now: datetime) -> AccessToken:
        refused = UnauthenticatedError("The access token is not valid. Sign in again.")
        if len(token) > MAX_BYTES:
            raise refused
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys[header["kid"]]
            if header != {"alg": "EdDSA", "typ": TYPE, "kid": header["kid"]}:
                raise refused
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=ISSUER,
                # Times are judged by the application's clock, which may have been told to stand still.
                options={
                    "require": list(CLAIMS),
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            times = [claims[name] for name in ("iat", "nbf", "exp")]
            if any(type(time) is not int for time in times):
                raise refused
            issued, begins, ends = (datetime.fromtimestamp(time, UTC) for time in times)
            token_for, session = UUID(claims["sub"]), UUID(claims["sid"])
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
            raise refused from None
        if max(issued, begins) > now + SKEW:
            raise refused
        return AccessToken(token_for, session, ends)


def _key(secret: str) -> Ed25519PrivateKey:
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis access token v1").derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def _kid(public: Ed25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]
