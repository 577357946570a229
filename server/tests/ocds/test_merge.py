"""Releases are put together as the standard says, by a second routine and by the reference implementation's result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.ocds.merge import merge
from tests.ocds.office import DATA, SIX, prune, substance


def merged(*releases: Any, version: str = "1.1") -> Any:
    compiled: Any = {}
    for release in releases:
        compiled = merge(compiled, release, version)
    return compiled


def test_the_six_releases_are_what_the_reference_implementation_makes_of_them():
    compiled = merged(*(json.loads(path.read_text())["releases"][0] for path in SIX))
    assert substance(compiled) == substance(json.loads((DATA / "compiled.json").read_text()))


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        ([{"a": 1, "b": 2}, {"a": 3}], {"a": 3, "b": 2}),
        ([{"a": {"x": 1, "y": 2}}, {"a": {"y": None}}], {"a": {"x": 1}}),
        ([{"a": {"x": 1}}, {"a": {"x": None}}], {}),
        ([{"a": 1}, {"a": None}, {"a": 2}], {"a": 2}),
        ([{"a": ["x", "y"]}, {"a": ["z"]}], {"a": ["z"]}),
        ([{"a": ["x"]}, {"a": []}], {"a": ["x"]}),
        ([{"a": {}, "b": [], "c": None}], {}),
        (
            [{"a": [{"id": "1", "x": 1}]}, {"a": [{"id": "1", "y": 2}, {"id": "2"}]}],
            {"a": [{"id": "1", "x": 1, "y": 2}, {"id": "2"}]},
        ),
        ([{"a": [{"id": 1, "x": 1}]}, {"a": [{"id": "1", "x": 2}]}], {"a": [{"id": "1", "x": 2}]}),
        ([{"a": [{"id": "1", "x": 1}]}, {"a": [{"id": "1", "x": None}]}], {"a": [{"id": "1"}]}),
        ([{"a": [{"id": "1"}, {"id": "2"}]}, {"a": [{"id": "2", "x": 1}]}], {"a": [{"id": "1"}, {"id": "2", "x": 1}]}),
        ([{"a": 1}, {"a": {"x": 1}}], {"a": {"x": 1}}),
        ([{"a": ["x"]}, {"a": [{"id": "1"}]}], {"a": [{"id": "1"}]}),
        ([{"a": {"x": 1}}, {"a": "gone"}], {"a": "gone"}),
        (
            [
                {"parties": [{"id": "1", "additionalIdentifiers": [{"id": "a"}]}]},
                {"parties": [{"id": "1", "additionalIdentifiers": [{"id": "b"}]}]},
            ],
            {"parties": [{"id": "1", "additionalIdentifiers": [{"id": "b"}]}]},
        ),
    ],
)
def test_the_rules(releases, expected):
    assert merged(*releases) == expected


def test_what_names_a_release_is_not_merged():
    assert merged({"id": "1", "date": "2020", "tag": ["tender"], "ocid": "x"}) == {"ocid": "x"}


def test_two_objects_with_one_id_stay_two():
    twins = {"tender": {"documents": [{"id": "1", "title": "Plan"}, {"id": "1", "title": "Map"}]}}
    assert merged(twins) == merged(twins, twins) == twins
    changed = merged(twins, {"tender": {"documents": [{"id": "1", "title": "New plan"}]}})
    assert [one["title"] for one in changed["tender"]["documents"]] == ["New plan", "Map"]


def test_an_object_without_id_is_added_once():
    first = {"tender": {"amendments": [{"rationale": "A"}, {"rationale": "A"}]}}
    assert merged(first, first) == first
    later = merged(first, {"tender": {"amendments": [{"rationale": "B"}]}})
    assert later["tender"]["amendments"] == [{"rationale": "A"}, {"rationale": "A"}, {"rationale": "B"}]


def test_in_1_0_a_list_of_organisations_replaces_the_one_before_and_roles_add_up():
    one = {"parties": [{"id": "A", "roles": ["buyer"]}], "awards": [{"id": "1", "suppliers": [{"id": "A"}]}]}
    two = {"parties": [{"id": "A", "roles": ["supplier"]}], "awards": [{"id": "1", "suppliers": [{"id": "B"}]}]}
    assert merged(one, two, version="1.0") == {
        "parties": [{"id": "A", "roles": ["buyer", "supplier"]}],
        "awards": [{"id": "1", "suppliers": [{"id": "B"}]}],
    }
    assert merged(one, two)["awards"][0]["suppliers"] == [{"id": "A"}, {"id": "B"}]
    assert merged(one, two)["parties"] == [{"id": "A", "roles": ["supplier"]}]


def test_nothing_given_is_changed():
    before = {"a": [{"id": "1", "b": {"c": 1}}], "parties": [{"id": "A", "roles": ["x"]}]}
    kept = json.loads(json.dumps(before))
    merge(before, {"a": [{"id": "1", "b": {"c": 2, "d": 3}}], "parties": [{"id": "A", "roles": ["y"]}]}, "1.0")
    assert before == kept


# The same rules a second time, by another road: every leaf with its path, the newest leaf wins, put together again.

_WHOLE = {"additionalIdentifiers", "additionalClassifications"}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    found: dict[tuple[Any, ...], Any] = {}
    for key, item in value.items():
        here = (*path, key)
        if isinstance(item, dict):
            found |= _leaves(item, here)
        elif isinstance(item, list) and item and key not in _WHOLE and all(isinstance(one, dict) for one in item):
            for one in item:
                own = (*here, ("id", str(one["id"])))
                found |= {own: None} | _leaves(one, own)
        elif item != [] or key in _WHOLE:
            found[here] = item
    return found


def _together(leaves: dict[tuple[Any, ...], Any]) -> Any:
    root: Any = {}
    for path, value in leaves.items():
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        if isinstance(path[-1], tuple):
            node.setdefault(path[-1], {})
        elif value is not None:
            node[path[-1]] = value
    return _lists(root)


def _lists(node: Any) -> Any:
    if isinstance(node, dict):
        if node and all(isinstance(key, tuple) for key in node):
            return [_lists(item) for item in node.values()]
        return {key: _lists(item) for key, item in node.items()}
    return node


scalars = st.none() | st.integers(0, 3) | st.text("ab", max_size=2)


def _objects(inner: Any) -> Any:
    # Each name holds one kind of thing, as in every schema.
    return st.fixed_dictionaries(
        {},
        optional={
            "title": scalars,
            "value": st.fixed_dictionaries({}, optional={"amount": scalars, "currency": scalars}),
            "methods": st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=2),
            "additionalIdentifiers": st.lists(st.fixed_dictionaries({"id": st.sampled_from("xy")}), max_size=2),
            "parts": st.lists(inner, max_size=3, unique_by=lambda one: one["id"]),
        },
    )


items = st.recursive(
    st.fixed_dictionaries({"id": st.sampled_from("123")}, optional={"title": scalars}),
    lambda inner: st.builds(lambda one, own: {**one, "id": own}, _objects(inner), st.sampled_from("123")),
    max_leaves=8,
)


@given(st.lists(_objects(items), min_size=1, max_size=4))
def test_another_road_leads_to_the_same(releases):
    leaves: dict[tuple[Any, ...], Any] = {}
    for release in releases:
        leaves |= _leaves(release)
    assert prune(merged(*releases)) == prune(_together(leaves))


@given(_objects(items))
def test_a_release_again_says_nothing_new(release):
    once = merged(release)
    assert merged(release, release) == once
