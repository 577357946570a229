"""Extra fields of a package, judged by the JSON Schema (2020-12) of its type."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Its parts share no character, so that no text takes long to be refused.
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_LONGEST_EMAIL: Final = 254
_OPAQUE: Final = frozenset({"enum", "const", "default", "examples"})
"""What stands in these is a value, and no schema."""
FORMATS: Final = FormatChecker(formats=())
"""What `format` may ask of a text, and how it is judged; JSON Schema leaves that open."""


@FORMATS.checks("date", ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(_DATE.fullmatch(value) and date.fromisoformat(value))


@FORMATS.checks("date-time", ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("email")
def _is_email(value: object) -> bool:
    return not isinstance(value, str) or (len(value) <= _LONGEST_EMAIL and bool(_EMAIL.fullmatch(value)))


@FORMATS.checks("uuid", ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value.lower()


@FORMATS.checks("uri", ValueError)
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme and " " not in value)


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
    unknown = sorted(set(_formats(value)) - set(FORMATS.checkers))
    if unknown:
        message = f"format {unknown[0]!r} is not one that is checked; these are: {', '.join(sorted(FORMATS.checkers))}"
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


_SCHEMAS_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


def _formats(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    """Every `format` of a schema and of those in it."""
    if isinstance(value, list):
        return [found for item in cast("list[Any]", value) for found in _formats(item)]
    if not isinstance(value, dict):
        return []
    schema = cast("dict[str, Any]", value)
    found = [schema["format"]] if isinstance(schema.get("format"), str) else []
    for name, item in schema.items():
        if name in _SCHEMAS_BY_NAME and isinstance(item, dict):
            # Here any name is a field's, also those that mean something in a schema.
            found += _formats(list(cast("dict[str, Any]", item).values()))
        elif name not in _OPAQUE:
            found += _formats(item)
    return found


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
    return Draft202012Validator(json.loads(schema), registry=Registry(), format_checker=FORMATS)
