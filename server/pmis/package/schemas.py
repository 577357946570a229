"""What may be proposed for a package."""

from datetime import date
from typing import Annotated, Any, Self, cast
from uuid import UUID

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import AfterValidator, Field, StringConstraints, model_validator

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
    if any(str(ref).startswith(("http:", "https:")) for ref in _references(value)):
        message = "a schema refers only to itself, not to addresses elsewhere"
        raise ValueError(message)
    return value


def _references(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        record = cast("dict[str, Any]", value)
        return [record.get("$ref", ""), *(ref for item in record.values() for ref in _references(item))]
    if isinstance(value, list):
        return [ref for item in cast("list[Any]", value) for ref in _references(item)]
    return []


class PackageTypePatch(Proposed):
    """The fields to change."""

    description: LongText = ""
    fields_schema: Annotated[Data, AfterValidator(_json_schema)] = Field(default={"type": "object"})


class PackageTypeCreate(PackageTypePatch, InProject):
    """A new package type. Packages that exist keep their data; it is judged when it next changes."""

    name: Name = Field(examples=["Works"])
    fields_schema: Annotated[Data, AfterValidator(_json_schema)] = Field(
        examples=[{"type": "object", "properties": {"lots": {"type": "integer", "minimum": 1}}}]
    )
