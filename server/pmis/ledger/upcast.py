"""Old payloads are brought to the present form when they are read; the log itself is never rewritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Payload = dict[str, Any]

UPCASTERS: Final[dict[tuple[str, int], Callable[[Payload], Payload]]] = {}
"""(type, version n) to the function that makes a payload of version n + 1 of it. A type not listed is at version 1."""


def current_version(type_: str, upcasters: Mapping[tuple[str, int], Callable[[Payload], Payload]] = UPCASTERS) -> int:
    """The schema version in which events of this type are written today."""
    return 1 + max((version for name, version in upcasters if name == type_), default=0)


def upcast(
    type_: str,
    version: int,
    payload: Payload,
    upcasters: Mapping[tuple[str, int], Callable[[Payload], Payload]] = UPCASTERS,
) -> Payload:
    """The payload in the present form. The given one is left as it is."""
    while (step := upcasters.get((type_, version))) is not None:
        payload = step(payload)
        version += 1
    return payload
