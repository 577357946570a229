"""Every fault of an item is listed with its place; the rest of the release is still looked at."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pmis.ocds.check import check, day, moment, money
from pmis.ocds.reader import FoundRelease, Place
from pmis.ocds.values import split_pointer

WHOLE: dict[str, Any] = {
    "ocid": "ocds-x-1",
    "id": "r1",
    "date": "2020-01-01T00:00:00Z",
    "tag": ["planning", "tender", "award", "contract"],
    "initiationType": "tender",
    "parties": [
        {"id": "A", "name": "Alpha", "roles": ["buyer"], "contactPoint": {"email": "a@example.com"}},
        {"id": "B", "name": "Beta", "roles": ["supplier"]},
    ],
    "buyer": {"id": "A", "name": "Alpha"},
    "planning": {
        "rationale": "Because.",
        "budget": {"amount": {"amount": 5, "currency": "EUR"}, "project": "P"},
        "milestones": [{"id": "m1", "title": "Plan", "dueDate": "2020-02-01", "status": "met"}],
    },
    "tender": {
        "id": "t",
        "title": "Works",
        "description": "All of it",
        "status": "active",
        "value": {"amount": 10, "currency": "EUR"},
        "minValue": {"amount": -1, "currency": "EUR"},
        "contractPeriod": {"startDate": "2020-03-01T00:00:00Z", "endDate": "2020-04-01T00:00:00Z"},
        "numberOfTenderers": 2,
        "hasEnquiries": False,
        "submissionMethod": ["inPerson"],
        "items": [{"id": 1, "quantity": 1, "unit": {"value": {"amount": 1, "currency": "EUR"}}}],
        "milestones": [{"id": 1, "title": "Open", "dueDate": "2020-02-01T00:00:00+02:00"}],
    },
    "awards": [
        {"id": "a1", "status": "active", "value": {"amount": 9, "currency": "EUR"}, "suppliers": [{"id": "B"}]},
        {"id": "a2", "status": "pending"},
    ],
    "contracts": [
        {
            "id": "c1",
            "awardID": "a1",
            "status": "active",
            "period": {"startDate": "2020-03-01", "endDate": "2020-04-01"},
            "implementation": {"transactions": [{"id": "x", "value": {"amount": -3, "currency": "EUR"}}]},
        }
    ],
}


def place(pointer: str = "/releases/0") -> Place:
    return Place("f.json", None, pointer)


def faults(release: Any) -> list[tuple[str, str, bool]]:
    return [
        (one.pointer.removeprefix("/releases/0"), one.code, one.blocking)
        for one in check(FoundRelease(release, "1.1", place()))
    ]


def with_value(pointer: str, value: Any) -> Any:
    release = deepcopy(WHOLE)
    holder: Any = release
    *path, last = split_pointer(pointer)
    for part in path:
        holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        holder[last] = value
    return release


def test_a_good_release_has_no_faults():
    assert faults(WHOLE) == []


ERRORS = [
    ("/ocid", None, "missing"),
    ("/ocid", "", "missing"),
    ("/ocid", 7.5, "missing"),
    ("/ocid", "x" * 201, "too_long"),
    ("/id", None, "missing"),
    ("/date", None, "invalid_date"),
    ("/date", "yesterday", "invalid_date"),
    ("/date", "2020-02-30T00:00:00Z", "invalid_date"),
    ("/date", 20200101, "invalid_date"),
    ("/parties", {"id": "A"}, "wrong_type"),
    ("/parties", ["A"], "wrong_type"),
    ("/parties/1/id", "A", "duplicate_id"),
    ("/parties/1/id", True, "wrong_type"),
    ("/parties/0/name", "n" * 151, "too_long"),
    ("/parties/0/name", ["n"], "wrong_type"),
    ("/parties/0/contactPoint", "mail", "wrong_type"),
    ("/parties/0/identifier", {"legalName": "n" * 151}, "too_long"),
    ("/buyer", [], "wrong_type"),
    ("/planning", "soon", "wrong_type"),
    ("/planning/budget/amount", 5, "wrong_type"),
    ("/planning/budget/amount/amount", "5", "wrong_type"),
    ("/planning/budget/amount/amount", True, "wrong_type"),
    ("/planning/milestones/0/title", "t" * 301, "too_long"),
    ("/planning/milestones/0/dueDate", "2020-13-01", "invalid_date"),
    ("/planning/milestones/0/dueDate", "next week", "invalid_date"),
    ("/tender/title", "t" * 301, "too_long"),
    ("/tender/title", 5, "wrong_type"),
    ("/tender/description", "d" * 10_001, "too_long"),
    ("/tender/value/amount", -1, "negative_amount"),
    ("/tender/value/amount", Decimal("1.23456"), "amount_out_of_range"),
    ("/tender/value/amount", Decimal("1E+30"), "amount_out_of_range"),
    ("/tender/value/amount", 10**19, "amount_out_of_range"),
    ("/tender/value/currency", "EURO", "invalid_currency"),
    ("/tender/value/currency", "eur", "invalid_currency"),
    ("/tender/value/currency", 978, "wrong_type"),
    ("/tender/items/0/unit/value/currency", "???", "invalid_currency"),
    ("/tender/contractPeriod", {"startDate": "2020-05-01", "endDate": "2020-04-30"}, "period_reversed"),
    ("/tender/contractPeriod/startDate", "01/03/2020", "invalid_date"),
    ("/tender/milestones/0/id", None, "missing"),
    ("/tender/milestones", [{"id": 1}, {"id": "1"}], "duplicate_id"),
    ("/awards/1/id", "a1", "duplicate_id"),
    ("/awards/1/id", "i" * 201, "too_long"),
    ("/awards/0/suppliers", {"id": "B"}, "wrong_type"),
    ("/contracts/0/period/endDate", True, "wrong_type"),
    ("/contracts/0/awardID", ["a1"], "wrong_type"),
    ("/contracts/0/implementation/transactions/0/value/currency", "XX1", "invalid_currency"),
    ("/tender/title", "nul\x00here", "control_character"),
    ("/tender/title", "bell\x07", "control_character"),
    ("/tender/title", "\ud800", "control_character"),
    ("/x_extension", [{"deep": {"er": "\x00"}}], "control_character"),
    ("/x_\x00key", 1, "control_character"),
]


@pytest.mark.parametrize(("pointer", "value", "code"), ERRORS, ids=lambda value: repr(value)[:30])
def test_each_error_is_found_at_its_place(pointer, value, code):
    found = [(where, what) for where, what, blocking in faults(with_value(pointer, value)) if blocking]
    assert {what for _, what in found} == {code}
    assert all(where.startswith(pointer.replace("\x00", "\\x00")) or code == "period_reversed" for where, _ in found)


NOTICES = [
    ("/tag", None, "missing"),
    ("/tag", ["tender", "party"], "unknown_code"),
    ("/tender/status", "ACTIVE", "unknown_code"),
    ("/awards/0/status", "won", "unknown_code"),
    ("/contracts/0/status", "signed", "unknown_code"),
    ("/planning/milestones/0/status", "done", "unknown_code"),
    ("/tender/value/currency", None, "currency_missing"),
    ("/tender/numberOfTenderers", True, "wrong_type"),
    ("/tender/numberOfTenderers", Decimal("1.5"), "wrong_type"),
    ("/tender/hasEnquiries", 1, "wrong_type"),
    ("/tender/submissionMethod", "inPerson", "wrong_type"),
    ("/tender/items/0/quantity", "many", "wrong_type"),
    ("/awards/0/date", "spring", "invalid_date"),
    ("/tender/items/0/unit/value/amount", "1", "wrong_type"),
]


@pytest.mark.parametrize(("pointer", "value", "code"), NOTICES, ids=lambda value: repr(value)[:30])
def test_what_only_stays_in_the_data_is_a_notice(pointer, value, code):
    found = faults(with_value(pointer, value))
    assert [(what, blocking) for _, what, blocking in found] == [(code, False)]
    assert found[0][0].startswith(pointer.removesuffix("/currency"))


def test_null_is_allowed_everywhere_below_the_head():
    release = deepcopy(WHOLE)
    release["tender"] = dict.fromkeys(release["tender"])
    release["awards"][0] = {"id": "a1", **dict.fromkeys(("status", "value", "suppliers"))}
    release["planning"] = None
    assert faults(release) == []


def test_all_faults_are_listed_not_only_the_first():
    release = with_value("/tender/title", "t" * 301)
    release["tender"]["value"] = {"amount": -1, "currency": "EURO"}
    release["awards"][0]["id"] = "a2"
    assert faults(release) == [
        ("/tender/title", "too_long", True),
        ("/tender/value/amount", "negative_amount", True),
        ("/tender/value/currency", "invalid_currency", True),
        ("/awards/1/id", "duplicate_id", True),
    ]


def test_a_message_says_where_and_what_and_is_safe_to_print():
    release = with_value("/tender/value/currency", "\x1b[31m")
    (control, currency) = check(FoundRelease(release, "1.1", place()))
    assert (
        str(control)
        == "f.json /releases/0/tender/value/currency: the text must not contain the control character U+001B"
    )
    assert "\x1b" not in str(currency)
    (long,) = check(FoundRelease(with_value("/parties/0/name", "n" * 1151), "1.1", Place("f.jsonl", 12, "")))
    assert str(long) == "f.jsonl line 12 /parties/0/name: 1,151 characters, at most 150 fit; it is not cut silently"


def test_organisations_in_place_are_checked_as_well():
    release = deepcopy(WHOLE)
    release["awards"][0]["suppliers"] = [{"name": "n" * 151, "identifier": 7}]
    assert {(where, what) for where, what, _ in faults(release)} == {
        ("/awards/0/suppliers/0/name", "too_long"),
        ("/awards/0/suppliers/0/identifier", "wrong_type"),
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2020-02-29T23:59:59Z", "2020-02-29"),
        ("2020-02-29t23:59:59.123456z", "2020-02-29"),
        ("2020-02-29T23:59:59-11:00", "2020-02-29"),
        ("2020-02-29", "2020-02-29"),
        (" 2020-02-29 ", "2020-02-29"),
        ("2020-02-29T24:00:00Z", None),
        ("2019-02-29", None),
        ("20200229", None),
        ("0000-01-01", None),
        ("٢٠٢٠-٠٢-٢٩", None),
        ("2020-02-29T10:00:00Z[UTC]", None),
        ("", None),
        (None, None),
        (20200229, None),
    ],
)
def test_the_day_is_the_one_its_author_wrote(value, expected):
    assert day(value) == expected


def test_moments_are_put_in_order_across_zones():
    assert moment("2020-01-01T00:30:00+01:00") == datetime(2019, 12, 31, 23, 30, tzinfo=UTC)
    assert moment("2020-01-01") == datetime(2020, 1, 1, tzinfo=UTC)
    assert moment("0001-01-01T00:00:00+14:00") == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"amount": 10, "currency": "EUR"}, ("10", "EUR")),
        ({"amount": Decimal("1E+3"), "currency": " EUR "}, ("1000", "EUR")),
        ({"amount": Decimal("0.10"), "currency": "DEM"}, ("0.10", "DEM")),
        ({"amount": Decimal("1.5000000"), "currency": "EUR"}, ("1.5000", "EUR")),
        ({"amount": Decimal("-0.0"), "currency": "EUR"}, ("0.0", "EUR")),
        ({"amount": 10}, None),
        ({"currency": "EUR"}, None),
        ({"amount": True, "currency": "EUR"}, None),
        ({"amount": "10", "currency": "EUR"}, None),
        ({"amount": -1, "currency": "EUR"}, None),
        ({"amount": 1, "currency": ["EUR"]}, None),
        (5, None),
    ],
)
def test_money_is_exact_and_whole_or_not_there(value, expected):
    assert money(value) == expected
