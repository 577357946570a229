"""Money: an exact decimal with a currency of ISO 4217. It is never a float and never summed across currencies."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

MAX_DIGITS: Final = 18
MAX_PLACES: Final = 4


@lru_cache(maxsize=1)
def currencies() -> frozenset[str]:
    """Every currency code that ISO 4217 has or had, as CLDR lists them; historic ones stand in old contracts."""
    from babel.numbers import list_currencies  # noqa: PLC0415 - the locale data loads slowly and few commands need it

    return frozenset(list_currencies())


def require_currency(code: str) -> str:
    """The code itself; raises ValueError for one that ISO 4217 does not know."""
    if code not in currencies():
        message = f"{code!r} is not a currency code of ISO 4217, such as EUR or USD"
        raise ValueError(message)
    return code


def require_amount(text: str) -> Decimal:
    """The exact amount that a decimal text such as "1500000.00" states; raises ValueError for anything else."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        message = f"{text!r} is not a decimal number"
        raise ValueError(message) from None
    if not amount.is_finite():
        message = f"{text!r} is not a finite number"
        raise ValueError(message)
    exponent = amount.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    if places > MAX_PLACES:
        message = f"an amount has at most {MAX_PLACES} decimal places"
        raise ValueError(message)
    if amount.adjusted() >= MAX_DIGITS:
        message = f"an amount has at most {MAX_DIGITS} digits before the point"
        raise ValueError(message)
    return amount


def plain(amount: Decimal) -> str:
    """The amount as text without an exponent, keeping its decimal places."""
    return format(amount, "f")
