"""Amounts of money as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.assistant.planner.amounts import as_text, find_amounts, raised


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("1.5 million euros", "1500000.00", "EUR"),
        ("USD 12,500.50", "12500.50", "USD"),
        ("€2m", "2000000.00", "EUR"),
        ("1.234,56 EUR", "1234.56", "EUR"),
        ("1,234.56 EUR", "1234.56", "EUR"),
        ("1.200.000 €", "1200000.00", "EUR"),
        ("1 500 000 EUR", "1500000.00", "EUR"),
        ("1'500'000 CHF", "1500000.00", "CHF"),
        ("12,50 EUR", "12.50", "EUR"),
        ("1,234 EUR", "1234.00", "EUR"),
        ("5k eur", "5000.00", "EUR"),
        ("eur5000", "5000.00", "EUR"),
        ("$1,000", "1000.00", "USD"),
        ("£4,000", "4000.00", "GBP"),
        ("half a million euros", "500000.00", "EUR"),
        ("two hundred and fifty thousand dollars", "250000.00", "USD"),
        ("five thousand euros", "5000.00", "EUR"),
        ("2.5 bn JPY", "2500000000.00", "JPY"),
        ("0.1234 EUR", "0.1234", "EUR"),
        ("700000", "700000.00", None),
        ("250k", "250000.00", None),
        ("5 all", "5.00", None),
    ],
)
def test_an_amount(text: str, amount: str, currency: str | None):
    (found,) = find_amounts(text)
    assert found.money is not None
    assert found.money.value is not None
    assert (as_text(found.money.value), found.money.currency) == (amount, currency)


@pytest.mark.parametrize("text", ["1.234 EUR", "1,23,456 EUR", "-5 EUR", "1.2.3 EUR", "EUR 5 USD", "0.12345 EUR"])
def test_what_could_be_two_amounts_or_none_has_no_value(text: str):
    found = find_amounts(text)
    assert found[0].money is not None
    assert found[0].money.value is None


@pytest.mark.parametrize(("text", "percent"), [("10 %", "10"), ("ten percent", "10"), ("2.5 per cent", "2.5")])
def test_a_percentage(text: str, percent: str):
    (found,) = find_amounts(text)
    assert found.percent == Decimal(percent)


def test_a_raise_is_exact_to_the_cent():
    assert raised(Decimal("420000.50"), Decimal(-5)) == Decimal("399000.48")
    assert raised(Decimal("0.05"), Decimal(10)) == Decimal("0.06")


@given(st.text(max_size=300))
def test_nothing_makes_it_fail(text: str):
    for one in find_amounts(text):
        assert (one.money is None) or one.money.value is None or one.money.value >= 0
