"""Canonical JSON: one text for one value, so that a digest of the text is a digest of the value.

UTF-8, keys sorted by code point, no white space, no escapes beyond what JSON requires, no NaN and no infinity.
For values without floats this is what RFC 8785 (JCS) gives for keys in the Basic Multilingual Plane.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def canonical(value: Mapping[str, Any] | list[Any]) -> str:
    """The canonical text of a JSON value; raises ValueError for what JSON cannot hold."""
    return _encode(value)


def sha256_hex(text: str) -> str:
    """The SHA-256 of the text's UTF-8 form, in lower-case hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
