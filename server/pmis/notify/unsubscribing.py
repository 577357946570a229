"""What ends the mails to a person without their signing in: a token in each of these mails."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from uuid import UUID

_PURPOSE: Final = b"pmis unsubscribe v1\0"


def unsubscribe_token(secret: str, person: UUID) -> str:
    """What ends a person's mails, without signing in, for whoever has one of them; nothing else."""
    digest = hmac.new(secret.encode(), _PURPOSE + person.bytes, hashlib.sha256).hexdigest()
    return f"{person.hex}.{digest[:40]}"


def unsubscribed(secret: str, token: str) -> UUID | None:
    """The person whom a token is of, or None for one that is not ours."""
    try:
        person = UUID(token.partition(".")[0])
    except ValueError:
        return None
    return person if hmac.compare_digest(token.encode(), unsubscribe_token(secret, person).encode()) else None
