from __future__ import annotations

import pytest

from pmis.cli.options import json_or_text
from pmis.cli.text import changes, label, moment, money, printable, short, title_of, value, words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Größe → 橋", "Größe → 橋"),
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("a\rb\x00c\x9bd", "a\\u000db\\u0000c\\u009bd"),
        ("two\nlines", "two\\u000alines"),
        ("pay \u202e001", "pay \\u202e001"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_reaches_a_terminal_cannot_steer_it(text: str, shown: str):
    assert printable(text) == shown


def test_line_breaks_stay_where_lines_may_be():
    assert printable("a\n\tb\r", lines=True) == "a\n\tb\\u000d"


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1500000.00", "EUR", "1,500,000.00 EUR"),
        ("0.5000", "USD", "0.5000 USD"),
        ("999999999999999999.9999", "JPY", "999,999,999,999,999,999.9999 JPY"),
        ("1E+3", "EUR", "1,000 EUR"),
        ("12.00", None, "12.00"),
        (None, "EUR", "—"),
        ("erased", "EUR", "erased EUR"),
    ],
)
def test_amounts_are_exact_and_have_their_currency(amount: str | None, currency: str | None, shown: str):
    assert money(amount, currency) == shown


def test_times():
    assert moment("2026-11-22T08:15:03.123456Z") == "2026-11-22 08:15"
    assert moment("2026-11-22T08:15:03Z", seconds=True) == "2026-11-22 08:15:03"
    assert (moment(None), moment("soon")) == ("—", "soon")


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (None, "—"),
        ("", "—"),
        ([], "—"),
        ({}, "—"),
        (False, "no"),
        (0, "0"),
        (1.5, "1.5"),
        (["a", 2], "a, 2"),
        ({"name": "Nora", "role": None, "phone": "1"}, "name Nora, phone 1"),
        ([{"name": "A"}, {"name": "B"}], "name A\nname B"),
        ({"deep": {"er": 1}}, '{"deep": {"er": 1}}'),
    ],
)
def test_values_as_people_would_write_them(found: object, shown: str):
    assert value(found) == shown


def test_names():
    assert label("planned_end") == "planned end"
    assert label("vendor_id") == "vendor"
    assert title_of({"code": "P-001", "title": "Bridge"}) == "P-001 Bridge"
    assert title_of({"code": "—", "title": "Bridge"}) == "Bridge"
    assert title_of({"prefix": "P", "name": "Road"}) == "P Road"
    assert title_of({"body": "said"}) == ""
    assert short("01a20258-a30a-7707-8668-e2220166848f") == "0166848f"
    assert words(["a"]) == "a"
    assert words(["a", "b", "c"], "or") == "a, b or c"


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (1, 1, []),
        (1, True, [("x", 1, True)]),
        (None, {"a": 1}, [("x.a", None, 1)]),
        ({"a": 1, "b": 2}, {"b": 3}, [("x.a", 1, None), ("x.b", 2, 3)]),
        ([1, 2], [2, 1], [("x", [1, 2], [2, 1])]),
        ("text", {"a": 1}, [("x", "text", {"a": 1})]),
        (
            [{"id": "one", "to": 1}, {"id": "two", "to": 2}],
            [{"id": "two", "to": 9}, {"id": "three", "to": 3}],
            [("x.one.id", "one", None), ("x.one.to", 1, None), ("x.two.to", 2, 9), ("x.three.id", None, "three"),
             ("x.three.to", None, 3)],
        ),
        ([{"id": "one"}, {"id": "one"}], [], [("x", [{"id": "one"}, {"id": "one"}], [])]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, [("x.a.b.c", 1, 2)]),
    ],
)  # fmt: skip
def test_differences_are_found_as_deep_as_they_can_be_named(before: object, after: object, found: list[object]):
    assert list(changes(before, after, "x")) == found


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("12", 12),
        ("1.50", 1.5),
        ("true", True),
        ("null", None),
        ('"12"', "12"),
        ("007", "007"),
        ("two words", "two words"),
        ("[1, 2]", [1, 2]),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("", ""),
        ("{", "{"),
        ("P=1", "P=1"),
    ],
)
def test_a_value_is_json_or_else_text(text: str, meant: object):
    assert json_or_text(text) == meant
