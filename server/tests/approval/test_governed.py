"""What a noun reads from outside: one meaning or none (R14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.approval.governed import merged, parse_input
from pmis.approval.registry import NOUNS
from pmis.kit.errors import InvalidInputError, MalformedRequestError
from pmis.package.schemas import PackageCreate, PackagePatch


class TestInput:
    @pytest.mark.parametrize("raw", [b"{", b'{"title": }', b"\xff\xfe", b'{"title": "a"} x', b"[1, 2"])
    def test_what_is_not_json_is_malformed(self, raw: bytes):
        with pytest.raises(MalformedRequestError, match="The body is not valid JSON"):
            parse_input(PackagePatch, raw)

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (b'{"title": "a", "title": "b"}', r"'title' twice in one object"),
            (b'{"data": {"a": 1, "b": {"x": 1, "x": 1}}}', r"'x' twice in one object"),
            (b'{"data": {"a": 1e999}}', "the number 1e999, which is too large"),
            (b'{"data": {"a": -1e999}}', "the number -1e999, which is too large"),
        ],
    )
    def test_what_two_readers_understand_differently_is_refused(self, raw: bytes, words: str):
        with pytest.raises(MalformedRequestError, match=words):
            parse_input(PackagePatch, raw)

    @pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
    def test_what_is_no_number_is_refused(self, constant: bytes):
        with pytest.raises(MalformedRequestError, match="which is not JSON"):
            parse_input(PackagePatch, b'{"data": {"a": ' + constant + b"}}")

    def test_what_every_reader_understands_is_taken(self):
        assert parse_input(PackagePatch, b'{"data": {"a": 1.5, "b": {"a": -1e9}}}').data == {"a": 1.5, "b": {"a": -1e9}}

    def test_an_empty_body_is_an_empty_object(self):
        assert parse_input(PackagePatch, b"") == PackagePatch()

    def test_every_fault_is_listed_with_its_place(self):
        with pytest.raises(InvalidInputError) as caught:
            parse_input(PackageCreate, b'{"title": "", "amount": true, "nonsense": 1}')
        assert {one["pointer"] for one in caught.value.extra["errors"]} == {"/title", "/amount", "/nonsense"}

    def test_a_length_is_told_in_characters(self):
        with pytest.raises(InvalidInputError) as caught:
            parse_input(PackageCreate, b'{"title": ""}')
        assert caught.value.extra["errors"][0]["message"] == "String should have at least 1 character"

    @pytest.mark.parametrize("noun", sorted(NOUNS))
    def test_no_noun_takes_a_field_that_it_does_not_know(self, noun: str):
        for operation in sorted(NOUNS[noun].operations):
            with pytest.raises(InvalidInputError) as caught:
                NOUNS[noun].parse(operation, b'{"nonsense": 1}')
            assert "/nonsense" in {one["pointer"] for one in caught.value.extra["errors"]}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=12,
)


class TestMerged:
    @pytest.mark.parametrize(
        ("old", "patch", "new"),
        [
            # The examples of RFC 7396, appendix A.
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            (["a", "b"], ["c", "d"], ["c", "d"]),
            ({"a": "b"}, ["c"], ["c"]),
            ({"a": "foo"}, None, None),
            ({"a": "foo"}, "bar", "bar"),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ],
    )
    def test_as_the_rfc_has_it(self, old: object, patch: object, new: object):
        assert merged(old, patch) == new

    @given(_VALUES, _VALUES)
    def test_twice_is_once(self, old: object, patch: object):
        once = merged(old, patch)
        assert merged(once, patch) == once
