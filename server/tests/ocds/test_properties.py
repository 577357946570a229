"""Promises that hold for any process: the round trip, repetition, and input that means harm."""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmis.ocds.errors import FileTooLargeError, NotOcdsError, UnreadableFileError
from pmis.ocds.mapping import Known, plan, wanted
from pmis.ocds.merge import merge
from pmis.ocds.reader import read
from pmis.ocds.upgrade import upgrade
from pmis.ocds.writer import dumps
from tests.ocds.office import SIX, Office, package_of, substance
from tests.ocds.processes import processes

KEY = "ocds:ocds-h-1"
bounded = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def compiled(releases: list[Any]) -> Any:
    result: Any = {}
    for one in releases:
        result = merge(result, upgrade(one), "1.1")
    return result


def accepted(office: Office, releases: list[Any]) -> list[Any]:
    """Take the releases in one by one; those that were taken.

    A release that takes a step back is left out: PMIS does not follow it, and writes its own status.
    """
    taken: list[Any] = []
    for one in releases:
        planned = office.plan(list(read(dumps(package_of(one)).encode(), "f.json")))
        assert {error.code for error in planned.errors} <= {"record_frozen", "period_reversed"}
        if not planned.errors and not any(notice.code == "status_not_followed" for notice in planned.notices):
            office.apply(planned)
            taken.append(one)
    return taken


@bounded
@given(processes(3))
def test_everything_that_was_said_survives_the_round_trip(releases):
    office = Office()
    taken = accepted(office, releases)
    if not taken:
        return
    said, exported = substance(compiled(taken)), substance(office.export(KEY))
    assert exported == said


NOTHING = {"x_false": False, "x_nought": 0, "x_nought_point": Decimal("0.00"), "x_empty": "", "x_in": {"k": False}}


def saying_nothing(release: Any) -> Any:
    """The release with values that count as false in every object, each of which says something all the same."""
    if isinstance(release, list):
        return [saying_nothing(item) for item in release]
    if not isinstance(release, dict):
        return release
    return {key: saying_nothing(value) for key, value in release.items()} | NOTHING


@pytest.mark.parametrize("awards", [1, 3])
def test_what_counts_as_false_is_said_like_anything_else(awards):
    money = {"amount": 0, "currency": "EUR"}
    release = saying_nothing(
        {
            "tender": {"id": "1", "title": "Road", "status": "complete", "value": money, "documents": [{"id": "1"}]},
            "awards": [{"id": str(one), "status": "active", "title": "Award"} for one in range(awards)],
            "contracts": [{"id": str(one), "awardID": str(one), "status": "active"} for one in range(awards)],
            "initiationType": "tender",
            "parties": [{"id": "1", "name": "One", "roles": ["buyer"], "contactPoint": {"name": "x", "url": ""}}],
            "language": "en",
        }
    ) | {"ocid": "ocds-h-1", "id": "1", "date": "2021-01-01T00:00:00Z", "tag": ["contract"]}
    office = Office()
    assert accepted(office, [release]) == [release]
    assert len(office.packages) == awards
    assert substance(office.export(KEY)) == substance(compiled([release]))
    again = office.plan(list(read(dumps(package_of(release)).encode(), "f.json")))
    assert (again.steps(), again.errors) == ([], ())


@bounded
@given(processes(3))
def test_what_was_taken_in_again_changes_nothing(releases):
    office = Office()
    taken = accepted(office, releases)
    before = json.dumps(office.records)
    for one in taken:
        planned = office.plan(list(read(dumps(package_of(one)).encode(), "f.json")))
        assert (planned.steps(), planned.errors) == ([], ())
    assert json.dumps(office.records) == before


@bounded
@given(processes(3))
def test_what_was_written_builds_the_same_elsewhere_and_is_written_the_same(releases):
    here, there = Office(), Office()
    if not accepted(here, releases):
        return
    exported = here.export(KEY)
    planned = there.plan(list(read(dumps(package_of(exported)).encode(), "f.json")))
    if planned.errors:
        return
    there.apply(planned)
    assert substance(there.export(KEY)) == substance(exported)


@bounded
@given(processes(3))
def test_one_file_says_what_its_releases_say_one_by_one(releases):
    one_by_one, at_once = Office(), Office()
    if len(accepted(one_by_one, releases)) < len(releases):
        return
    planned = at_once.plan(list(read(dumps(package_of(*releases)).encode(), "f.json")))
    assert planned.errors == ()
    at_once.apply(planned)
    assert substance(at_once.export(KEY)) == substance(one_by_one.export(KEY))


@bounded
@given(processes(2))
def test_what_is_looked_up_is_enough(releases):
    """The plan asks for nothing that `wanted` did not name: with only that known, it comes out the same."""
    office = Office()
    accepted(office, releases[:-1])
    found = list(read(dumps(package_of(releases[-1])).encode(), "f.json"))
    prefixes = wanted(found).prefixes

    def within(records: Any) -> Any:
        return {key: one for key, one in records.items() if any(key.startswith(prefix) for prefix in prefixes)}

    asked = wanted(found, within(office.packages))
    known = office.known
    less = Known(
        within(known.packages),
        within(known.tasks),
        {key: party for key, party in known.parties.items() if key in asked.parties},
        {address: key for address, key in known.emails.items() if address in asked.emails},
        known.seen,
    )
    assert plan(found, less).steps() == plan(found, known).steps()


anything: Any = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
        st.sampled_from(["\x00", "\ud800", "x" * 400, "EUR", "active", "2020-01-01", "ocds-x-1", "-1"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["id", "amount", "currency", "status", "suppliers", "name", "startDate"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
REAL = [json.loads(path.read_text())["releases"][0] for path in SIX]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in _places(item, (*path, key))]


PLACES = [_places(one) for one in REAL]


@settings(bounded, max_examples=150)
@given(st.data())
def test_a_damaged_release_is_planned_or_explained_but_never_a_crash(data):
    """Any value at any places of a real release: the plan is total, and errors can be printed."""
    number = data.draw(st.integers(0, len(REAL) - 1))
    damaged = deepcopy(REAL[number])
    for path in data.draw(st.lists(st.sampled_from(PLACES[number]), min_size=1, max_size=3)):
        holder: Any = damaged
        for part in path[:-1]:
            if not isinstance(holder, (dict, list)) or (isinstance(holder, dict) and part not in holder):
                break
            if isinstance(holder, list) and (not isinstance(part, int) or part >= len(holder)):
                break
            holder = holder[part]
        else:
            if isinstance(holder, dict) or (
                isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder)
            ):
                holder[path[-1]] = data.draw(anything)
    from pmis.ocds.reader import FoundRelease, Place

    office = Office()
    for before in REAL[:number]:
        office.take_in(package_of(before))
    for version in ("1.0", "1.1"):
        found = [FoundRelease(damaged, version, Place("f.json", None, "/releases/0"))]
        planned = plan(found, office.known)
        for problem in (*planned.errors, *planned.notices):
            str(problem).encode()
        wanted(found, office.packages)
        if not planned.errors and version == "1.1":
            office.apply(planned)
            key = f"ocds:{damaged['ocid']}" if isinstance(damaged["ocid"], str) else ""
            if key in office.packages:
                office.export(key)


@settings(bounded, max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(content):
    refusal = None
    try:
        list(read(content, "f.json"))
    except (UnreadableFileError, NotOcdsError, FileTooLargeError) as error:
        refusal = error.detail
    if refusal is not None:
        assert refusal.startswith("f.json")
        assert refusal == refusal.encode().decode()


@settings(bounded, max_examples=200)
@given(st.data())
def test_a_real_file_with_bytes_changed_is_read_or_refused(data):
    content = bytearray(SIX[data.draw(st.integers(0, 5))].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = list(read(bytes(content), "f.json"))
    except (UnreadableFileError, NotOcdsError):
        return
    for problem in plan(found, Known()).errors:
        str(problem).encode()
