from __future__ import annotations

import itertools

import pytest

from pmis.policy.levels import APPROVAL_ROUTES, Level, Route, strictest


@pytest.mark.parametrize("word", ["low", "medium", "high", "critical"])
def test_a_level_is_read_from_its_word_and_written_as_it(word: str):
    assert Level.parse(word).word == word


@pytest.mark.parametrize("word", ["LOW", "", "none", "0", 0, True, None, ["low"], {"low": 1}])
def test_anything_else_is_refused_and_the_four_words_are_named(word: object):
    with pytest.raises(ValueError, match="use low, medium, high or critical"):
        Level.parse(word)  # pyright: ignore[reportArgumentType]


def test_levels_ascend():
    assert Level.LOW < Level.MEDIUM < Level.HIGH < Level.CRITICAL


def test_routes_ascend_by_severity_not_by_spelling():
    order = [
        Route.AUTO,
        Route.CONFIRM,
        Route.APPROVAL_REQUIRED,
        Route.EXECUTIVE_APPROVAL,
        Route.ESCALATE,
        Route.REJECT,
    ]
    assert [route.severity for route in order] == [0, 1, 2, 3, 4, 5]
    assert list(Route) == order


def test_the_strictest_route_wins_in_any_order():
    for routes in itertools.permutations([Route.AUTO, Route.ESCALATE, Route.APPROVAL_REQUIRED]):
        assert strictest(*routes) is Route.ESCALATE
    assert strictest() is Route.AUTO


def test_only_approval_routes_need_approvers():
    assert [route for route in Route if route.needs_approvers] == list(APPROVAL_ROUTES)
