"""Passwords: Argon2id, off the event loop, a few at a time, and none that everybody tries first."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER: Final = PasswordHasher()
"""RFC 9106's second recommended option, as the library ships it: 64 MiB, three passes, four lanes."""
_limiter: list[CapacityLimiter] = []


def _few() -> CapacityLimiter:
    # Each check takes about 0.1 s of a core and 64 MiB; two at a time keep a burst of sign-ins from starving the rest.
    if not _limiter:
        _limiter.append(CapacityLimiter(2))
    return _limiter[0]


_UNITS: Final = re.compile(r"(.{1,8}?)\1+", re.DOTALL)
_ENDS: Final = re.compile(r"^[^a-z]+|[^a-z]+$")
_DIGITS: Final = 12


@cache
def _common() -> frozenset[str]:
    text = files("pmis.identity").joinpath("common_passwords.txt").read_text(encoding="ascii")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def is_common(password: str) -> bool:
    """Whether the password is a common one, is one with digits and marks around it, or repeats a few signs."""
    folded = password.lower()
    return _UNITS.fullmatch(folded) is not None or any(
        hashlib.sha256(form.encode()).hexdigest()[:_DIGITS] in _common() for form in (folded, _ENDS.sub("", folded))
    )


def uncommon(password: str) -> str:
    """The password; raises ValueError for a common one."""
    if is_common(password):
        message = "this password is among the first that somebody would try; choose another"
        raise ValueError(message)
    return password


def needs_rehash(encoded: str) -> bool:
    """Whether the hash was made with other parameters than those of today."""
    return _HASHER.check_needs_rehash(encoded)


def hash_password(password: str) -> str:
    """The encoded hash, with its own salt and parameters."""
    return _HASHER.hash(password)


async def hash_password_soon(password: str) -> str:
    """The same without holding up the event loop."""
    return await to_thread.run_sync(hash_password, password, limiter=_few())


async def verify_password(encoded: str | None, password: str) -> bool:
    """Whether the password fits. With no hash it takes as long and says no, so that time tells nothing."""
    return await to_thread.run_sync(_verify, encoded, password, limiter=_few())


def _verify(encoded: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(encoded or _nobody(), password) and encoded is not None
    except (VerificationError, InvalidHashError):
        return False


_nobodys: list[str] = []


def _nobody() -> str:
    if not _nobodys:
        _nobodys.append(_HASHER.hash("nobody has this password"))
    return _nobodys[0]
