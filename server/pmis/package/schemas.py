"""What may be proposed for a package."""

from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

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
    from pmis.package.extra import require_followable  # noqa: PLC0415 - its library loads slowly, and few need it

    require_followable(value)
    return value


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
