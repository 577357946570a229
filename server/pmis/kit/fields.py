"""Field types that inputs share."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, EmailStr, Field, PlainSerializer, StringConstraints

from pmis.kit.money import MAX_DIGITS, MAX_PLACES, plain, require_amount, require_currency
from pmis.kit.text import Line, Paragraph, clean_json

_MIN_PLACES = 2
_AMOUNT: Final = rf"^[0-9]{{1,{MAX_DIGITS}}}(\.[0-9]{{1,{MAX_PLACES}}})?$"


def _amount(value: Any) -> Decimal:  # noqa: ANN401 - whatever the JSON held
    if not isinstance(value, (str, Decimal)):
        message = 'an amount is a decimal text such as "1500000.00"'
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError into a field error
    amount = require_amount(str(value))
    if amount < 0:
        message = "an amount is not negative"
        raise ValueError(message)
    if isinstance(value, str) and not re.fullmatch(_AMOUNT, value):
        message = f"{value!r} is not an amount in plain digits such as 1500000.00"
        raise ValueError(message)
    places = -int(amount.normalize().as_tuple().exponent)
    return amount.quantize(Decimal(1).scaleb(-max(places, _MIN_PLACES)))


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    # Each call of the library's own reads hundreds of files.
    return frozenset(available_timezones())


def _time_zone(value: str) -> str:
    if value not in _time_zones():
        message = f"{value!r} is not a time zone of the IANA database, such as Europe/Berlin"
        raise ValueError(message)
    ZoneInfo(value)
    return value


Amount = Annotated[
    Decimal,
    BeforeValidator(_amount, json_schema_input_type=Annotated[str, StringConstraints(pattern=_AMOUNT)]),
    PlainSerializer(plain, return_type=str, when_used="json"),
    Field(examples=["1500000.00"], description="An exact decimal, as text."),
]
Currency = Annotated[
    str,
    AfterValidator(require_currency),
    Field(examples=["USD"], description="ISO 4217.", json_schema_extra={"pattern": "^[A-Z]{3}$"}),
]
TimeZone = Annotated[str, AfterValidator(_time_zone), Field(examples=["Europe/Berlin"])]
Email = Annotated[EmailStr, StringConstraints(max_length=254)]
Title = Annotated[Line, StringConstraints(max_length=300)]
Name = Annotated[Line, StringConstraints(max_length=150)]
LongText = Annotated[Paragraph, StringConstraints(max_length=10_000)]
ExternalRef = Annotated[Line, StringConstraints(max_length=300), Field(examples=["ocds:ocds-213czf-000-00001"])]
Data = Annotated[dict[str, Any], AfterValidator(clean_json)]
