"""JSON is read strictly and exactly, and a fault is found where it is."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.ocds.strict_json import JsonFault, parse, position
from pmis.ocds.writer import dumps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("123456789012345", 123456789012345),
        ("1234567890123456789", 1234567890123456789),
        ("0.1", Decimal("0.1")),
        ("1.10", Decimal("1.10")),
        ("1e3", Decimal("1e3")),
        ("-2.5E-7", Decimal("-2.5E-7")),
        ("true", True),
        ("null", None),
        ('"\\u00e9"', "é"),
        ('{"a":[{}]}', {"a": [{}]}),
    ],
)
def test_values_are_exact(text, value):
    found = parse(text)
    assert found == value
    assert type(found) is type(value)
    assert str(found) == str(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('{"a": 1,\n "b": 2,\n "a": 3}', 3, 2, 'the key "a" stands twice in one object'),
        ('{"a": {"b": 1, "c": [1, 2, {"x": 1}], "b": 2}}', 1, 39, 'the key "b" stands twice in one object'),
        ('{"\\u0061": 1, "a": 2}', 1, 15, 'the key "a" stands twice in one object'),
        ('{"a,b": "}{", "c": ["a,b"], "a,b": 1}', 1, 29, 'the key "a,b" stands twice in one object'),
        ('{"a": NaN}', 1, 7, "NaN is not a number of JSON"),
        ('{"a": -Infinity}', 1, 7, "-Infinity is not a number of JSON"),
        ('{"a": 1e999999999999999999999}', 1, 7, "this number is too long or too large"),
        ('{"a": 1E+401}', 1, 7, "this number is too long or too large"),
        ('["x", ' + "9" * 500 + "]", 1, 7, "this number is too long or too large"),
        ('{"a" 1}', 1, 6, "this is not JSON (expecting ':' delimiter)"),
        ('{"a": 1}\n}', 2, 1, "this is not JSON (extra data)"),
        ("[1, 2", 1, 6, "the JSON ends too early; the file may be truncated"),
        ('{"a": "b', 1, 7, "this is not JSON (unterminated string starting at)"),
        ('{"a": "line\nbreak"}', 1, 12, "this is not JSON (invalid control character at)"),
        ("['a']", 1, 2, "this is not JSON (expecting value)"),
        ("[01]", 1, 3, "this is not JSON (expecting ',' delimiter)"),
    ],
)
def test_faults_are_found_where_they_are(text, line, column, message):
    with pytest.raises(JsonFault) as caught:
        parse(text)
    assert (caught.value.message, position(text, caught.value.offset)) == (message, (line, column))


@pytest.mark.parametrize("depth", [65, 900, 50_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_bottomless_nesting_is_refused(depth, opening, closing):
    with pytest.raises(JsonFault, match="nested more than 64 deep") as caught:
        parse(opening * depth + "1" + closing * depth)
    assert caught.value.offset == len(opening) * 64


def test_the_limit_itself_is_allowed():
    assert parse("[" * 64 + "]" * 64) != []


def test_a_repeated_key_deep_inside_does_not_hide_behind_its_neighbours():
    assert parse('{"a": {"b": 1}, "c": {"b": 1}, "b": [{"b": 1}, {"b": 2}]}')


numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_read_back_exactly(value):
    assert _shape(parse(dumps(value))) == _shape(value)


@given(st.text(alphabet='{}[]",:0123456789.eE+-aN\\u \n', max_size=40))
def test_nothing_but_a_fault_comes_out_of_a_broken_text(text):
    ours, fault = None, None
    try:
        ours = parse(text)
    except JsonFault as found:
        fault = found
    if fault is None:
        assert json.loads(text) == _floats(ours)
    else:
        assert 0 <= fault.offset <= len(text)


def _floats(value):
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


def _shape(value):
    """Numbers as their digits say them; an integer of many digits may come back as a Decimal."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return Decimal(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else value
