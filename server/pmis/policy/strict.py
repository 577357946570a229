"""The base of everything in a policy document: strict, frozen, and nothing unknown."""

from decimal import Decimal
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic_core import PydanticCustomError

from pmis.policy.access import Role
from pmis.policy.levels import Level


class Strict(BaseModel):
    """A part of the document: no unknown keys, no conversions (`true` is not a number), no change after reading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=False)


def _level(value: object) -> Level:
    # A number would pass as an IntEnum; a document says the word.
    try:
        return Level.parse(value)  # pyright: ignore[reportArgumentType] - parse refuses whatever is not one of its words
    except ValueError:
        raise PydanticCustomError("level", "use low, medium, high or critical") from None


LevelWord = Annotated[Level, BeforeValidator(_level), PlainSerializer(lambda level: level.word, return_type=str)]
"""A level, written as its word."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.:-]{0,63}$")]
"""A name that rules, reasons and records refer to."""

Sentence = Annotated[
    str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")
]
"""A line for people."""

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise PydanticCustomError("duplicate", "{value} is listed twice", {"value": str(value)})
    return values


# Tuples rather than sets: a document is written back exactly as it was read.
Names = Annotated[tuple[Identifier, ...], Field(min_length=1), AfterValidator(_distinct)]
Roles = Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(_distinct)]


def _yes(value: object) -> object:
    # To Python 1 is equal to true, and a literal asks for no more than that.
    if value is not True:
        raise PydanticCustomError("yes", "use true, or leave it out")
    return value


def _no(value: object) -> object:
    if value is not False:
        raise PydanticCustomError("no", "use false")
    return value


Yes = Annotated[Literal[True], BeforeValidator(_yes)]
"""What can only be so, or not be said."""
No = Annotated[Literal[False], BeforeValidator(_no)]
"""What is not to be had, and says so."""

MAX_PLACES: Final = 8
MAX_TEXT: Final = 30


def _decimal(value: object) -> Decimal:
    # `str.isdigit` knows more digits than ASCII has, hence `isascii`.
    if isinstance(value, str) and value.isascii() and len(value) <= MAX_TEXT:
        whole, point, places = value.partition(".")
        if whole.isdigit() and (not point or (places.isdigit() and len(places) <= MAX_PLACES)):
            return Decimal(value)
    raise PydanticCustomError("decimal_text", 'write a decimal number as text, not negative, such as "1500000.00"')


DecimalText = Annotated[
    Decimal, BeforeValidator(_decimal), PlainSerializer(lambda number: format(number, "f"), return_type=str)
]
"""A number that is not negative, written as text: JSON numbers would pass through binary floats."""

Hours = Annotated[int, Field(ge=1, le=24 * 366)]
"""A span of time; a year at most."""
