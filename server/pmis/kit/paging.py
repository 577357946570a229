"""Keyset paging: a page ends where the next begins, and no page costs more for lying deeper."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pmis.kit.errors import InvalidInputError

MAX_LIMIT: Final = 200
_MAX_CURSOR: Final = 400


def encode_cursor(order: str, values: list[Any]) -> str:
    """An opaque cursor: the order it belongs to, and the key of the last row of the page."""
    return base64.urlsafe_b64encode(json.dumps([order, *values], separators=(",", ":")).encode()).decode().rstrip("=")


def foreign_cursor() -> InvalidInputError:
    """The refusal of a cursor that this list did not give out."""
    return InvalidInputError(
        "The cursor is not one of this list in this order. Start again without it.",
        errors=[{"pointer": "/query/cursor", "message": "not a cursor of this list", "type": "value_error"}],
    )


def decode_cursor(cursor: str, order: str, length: int) -> list[Any]:
    """The key in a cursor; raises InvalidInputError for a foreign or damaged one."""
    if len(cursor) > _MAX_CURSOR:
        raise foreign_cursor()
    try:
        decoded = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise foreign_cursor() from None
    if not isinstance(decoded, list) or len(decoded) != length + 1 or decoded[0] != order:  # pyright: ignore[reportUnknownArgumentType]
        raise foreign_cursor()
    return decoded[1:]  # pyright: ignore[reportUnknownVariableType]


def decode_moment(cursor: str, order: str) -> tuple[datetime, UUID]:
    """The key of a list in the order of a time and an id; raises InvalidInputError for a foreign or damaged cursor."""
    at, identity = decode_cursor(cursor, order, 2)
    try:
        moment, found = datetime.fromisoformat(str(at)), UUID(str(identity))
    except ValueError:
        raise foreign_cursor() from None
    if moment.tzinfo is None:
        raise foreign_cursor()
    return moment, found
