"""Text from outside: what a line and a paragraph may hold."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, StringConstraints

SEALED: Final = re.compile("sealed:[0-9a-f]{64}")
"""What a reference into the vault looks like; no text from outside may look like one."""


def is_sealed(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether the value is a reference into the vault."""
    return isinstance(value, str) and SEALED.fullmatch(value) is not None


_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""The categories Cc and Cs of Unicode."""
_ALLOWED_CONTROLS = frozenset("\n\t\r")


def _no_controls(value: str, allowed: frozenset[str]) -> str:
    found = next((one for one in _CONTROLS.finditer(value) if one[0] not in allowed), None)
    if found is not None:
        message = f"must not contain the control character U+{ord(found[0]):04X}"
        raise ValueError(message)
    if SEALED.fullmatch(value.strip()):
        message = "must not be a reference to sealed data"
        raise ValueError(message)
    return value


def one_line(value: str) -> str:
    """The text itself; raises ValueError for control characters, line breaks among them."""
    return _no_controls(value, frozenset())


def paragraph(value: str) -> str:
    """The text itself; raises ValueError for control characters other than line breaks and tabs."""
    return _no_controls(value, _ALLOWED_CONTROLS)


def clean_json(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value itself; raises ValueError when a text or key in it holds what PostgreSQL cannot store."""
    if isinstance(value, str):
        return paragraph(value)
    if isinstance(value, dict):
        return {paragraph(str(key)): clean_json(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [clean_json(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


Line = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True), AfterValidator(one_line)]
Paragraph = Annotated[str, AfterValidator(paragraph)]
Words = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(paragraph)]
"""A paragraph of which the blanks at its ends do not count: a length that is asked of it is asked of what remains."""
