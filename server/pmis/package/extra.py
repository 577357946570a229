"""Extra fields of a package, judged by the JSON Schema (2020-12) of its type."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


def require_followable(value: dict[str, Any]) -> None:
    """Raise ValueError for what is no JSON Schema, refers to something outside of it, or cannot be followed."""
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        message = f"not a JSON Schema (2020-12): {error.message}"
        raise ValueError(message) from None
    # A reference elsewhere would be fetched by the server, and `$id` turns the ones here into references elsewhere.
    if any(not reference.startswith("#") for reference in _references(value)):
        message = "a schema refers only to itself (#/...), and has no $id"
        raise ValueError(message)
    try:
        faults_of(value, {})
    except BrokenSchemaError as error:
        raise ValueError(str(error)) from None


def _references(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        record = cast("dict[str, Any]", value)
        here = [str(record[name]) for name in ("$ref", "$dynamicRef", "$id") if isinstance(record.get(name), str)]
        return here + [ref for item in record.values() for ref in _references(item)]
    if isinstance(value, list):
        return [ref for item in cast("list[Any]", value) for ref in _references(item)]
    return []


class BrokenSchemaError(Exception):
    """A schema that cannot be followed: it refers to what is not there, or goes round in a circle."""


def faults_of(schema: dict[str, Any], data: dict[str, Any]) -> list[ValidationError]:
    """Where the data do not fit the schema; raises BrokenSchemaError. Nothing outside the schema is ever read."""
    try:
        return list(_validator(json.dumps(schema, sort_keys=True)).iter_errors(data))  # pyright: ignore[reportUnknownMemberType]
    except Unresolvable:
        message = "the schema refers to something that it does not have"
        raise BrokenSchemaError(message) from None
    except (RecursionError, re.error):
        message = "the schema cannot be followed to an end"
        raise BrokenSchemaError(message) from None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema), registry=Registry())
