"""Small tools over JSON: exact storage, pointers, foreign text made safe."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given

from pmis.kit.canonical import canonical
from pmis.ocds.values import identifier, line, pack, point, split_pointer, text, unpack, visible
from tests.ocds.test_strict_json import values


@given(values)
def test_packing_is_plain_json_and_loses_nothing(value):
    packed = json.loads(canonical([pack(value)]))[0]
    assert _exact(unpack(packed)) == _exact(value)


@pytest.mark.parametrize(
    "value",
    [{"$number": "1"}, {"$object": {"$number": "1"}}, {"$object": 1}, {"$number": Decimal("1.10")}, {"$number": [1]}],
)
def test_an_extension_may_use_the_marks_own_names(value):
    packed = json.loads(canonical([pack(value)]))[0]
    assert _exact(unpack(packed)) == _exact(value)


def test_trailing_zeros_and_big_integers_survive():
    assert str(unpack(pack(Decimal("1.10")))) == "1.10"
    assert unpack(pack(2**70)) == 2**70
    assert isinstance(unpack(pack(2**70)), int)
    assert pack(2**53) == 2**53


def test_pointers_escape_what_the_rfc_says():
    assert point("", "a/b", 0, "~x") == "/a~1b/0/~0x"
    assert split_pointer("/a~1b/0/~0x") == ["a/b", "0", "~x"]
    assert split_pointer("") == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain é", "plain é"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("\ud800", "\\ud800"),
        ("a\nb", "a\\nb"),
        ("x" * 90, "x" * 79 + "…"),
    ],
)
def test_foreign_text_is_safe_to_print(value, shown):
    assert visible(value) == shown
    visible(value).encode()


def test_text_and_ids_never_trust_types():
    assert [line(one) for one in (" a \n b ", "", 3, None)] == ["a b", None, None, None]
    assert [text(one) for one in (" a\nb ", " ", [])] == ["a\nb", None, None]
    assert [identifier(one) for one in (7, "7", True, "", 1.5, None)] == ["7", "7", None, None, None, None]


def _exact(value):
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return value
    return ("number", isinstance(value, int), Decimal(value))
