"""What may be proposed for a package."""

import json
import re
from datetime import date
from functools import lru_cache
from typing import Annotated, Any, Self, cast
from uuid import UUID

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import AfterValidator, Field, StringConstraints, model_validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from pmis.approval.governed import InProject, Proposed
from pmis.kit.fields import Amount, Currency, Data, ExternalRef, LongText, Name, Title
from pmis.kit.text import Line


class PackagePatch(Proposed):
    """The fields to change; those left out stay as they are. `data` is merged key by key (RFC 7396)."""

    title: Title = Field(default="", examples=["Cycle lane, northern section"])
    description: LongText = ""
    package_type: Name | None = Field(default=None, description="The name of a package type of the project.")
    owner_id: UUID | None = None
    vendor_id: UUID | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    planned_start: date | None = None
    planned_end: date | None = None
    actual_start: date | None = None
    actual_end: date | None = None
    external_ref: ExternalRef | None = None
    data: Data = Field(default={}, description="Extra fields, as the package type's schema says.")


class PackageCreate(PackagePatch, InProject):
    """A new package. It begins as a draft; its code is given when it is applied."""

    title: Title = Field(examples=["Cycle lane, northern section"])

    @model_validator(mode="after")
    def _money_has_a_currency(self) -> Self:
        if (self.amount is None) != (self.currency is None):
            message = "amount and currency come together"
            raise ValueError(message)
        return self


class PackageTransition(PackagePatch):
    """The step to take, and the fields that it brings along, such as the vendor of an award."""

    status: Annotated[Line, StringConstraints(max_length=40)] = Field(examples=["submitted"])


def _json_schema(value: dict[str, Any]) -> dict[str, Any]:
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
    return value


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


class PackageTypePatch(Proposed):
    """The fields to change."""

    description: LongText = Field(default="", examples=["Everything that is built."])
    fields_schema: Annotated[Data, AfterValidator(_json_schema)] = Field(default={"type": "object"})


class PackageTypeCreate(PackageTypePatch, InProject):
    """A new package type. Packages that exist keep their data; it is judged when it next changes."""

    name: Name = Field(examples=["Works"])
    fields_schema: Annotated[Data, AfterValidator(_json_schema)] = Field(
        examples=[{"type": "object", "properties": {"lots": {"type": "integer", "minimum": 1}}}]
    )
