"""Identifiers: UUID version 7 (RFC 9562), made by the application so that any PostgreSQL will do."""

from uuid import UUID, uuid5

import uuid_utils


def uuid7() -> UUID:
    """A new time-ordered identifier."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def uuid7_text() -> str:
    """A new time-ordered identifier, as text."""
    return str(uuid_utils.uuid7())


def derived_id(namespace: UUID, *parts: str) -> UUID:
    """The same identifier for the same parts, for rows that are found by what they join."""
    return uuid5(namespace, "\x1f".join(parts))
