"""Hypothesis strategies: contracting processes as publishers write them, extensions of their own included."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
TITLES = st.one_of(WORDS, st.sampled_from(["Road works", "Škola, rekonstrukce", "道路工事"]))
NUMBERS = st.one_of(
    st.integers(0, 10**9),
    st.decimals(0, 10**9, places=2, allow_nan=False),
    st.just(Decimal("0.10")),
    st.just(Decimal("123456789012345.1234")),
)
MONEY = st.fixed_dictionaries({"amount": NUMBERS, "currency": st.sampled_from(["EUR", "GBP", "JPY"])})
DAYS = st.integers(1, 28).map(lambda number: f"2021-02-{number:02d}T08:00:00Z")
DATES = st.one_of(DAYS, st.sampled_from(["2021-01-01", "2021-06-30T23:59:59+02:00", "2021-12-31T00:00:00.5-05:00"]))
IDS = st.sampled_from(["1", "2", "a/b", "ø~1"])
NUMERIC_OR_TEXT_IDS = st.one_of(IDS, st.integers(1, 3))

EXTENSIONS = st.dictionaries(
    st.sampled_from(["x_note", "$number", "lots", "ext:ension", "émile"]),
    st.recursive(
        st.one_of(
            st.sampled_from([False, 0, ""]),
            st.booleans(),
            st.integers(),
            st.decimals(allow_nan=False, allow_infinity=False, places=3),
            WORDS,
        ),
        lambda inner: st.one_of(
            st.lists(WORDS, max_size=3),
            st.dictionaries(st.sampled_from(["$object", "$number", "k", "id"]), inner, min_size=1, max_size=2),
        ),
        max_leaves=5,
    ),
    max_size=2,
)


def shaped(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    """An object with extensions beside its fields."""
    return st.builds(
        lambda known, extra: {**extra, **known}, st.fixed_dictionaries(required, optional=optional), EXTENSIONS
    )


def period(first: int, last: int) -> dict[str, str]:
    return {"startDate": f"2021-03-{first:02d}T00:00:00Z", "endDate": f"2021-03-{max(first, last):02d}T00:00:00Z"}


PERIODS = st.builds(period, st.integers(1, 31), st.integers(1, 31))
REGISTRATIONS = st.fixed_dictionaries({"scheme": st.just("XX-REG"), "id": IDS}, optional={"legalName": TITLES})
CONTACTS = st.fixed_dictionaries(
    {},
    optional={
        "name": TITLES,
        "email": st.sampled_from(["a@x.example", "A@X.example", "b@x.example", "none", ""]),
        "telephone": WORDS,
        "url": st.sampled_from(["http://x.example/", "x.example"]),
        "faxNumber": WORDS,
    },
)
PARTY_IDS = st.sampled_from(["XX-REG-1", "XX-REG-2", "org 3", "4"])
ROLES = st.lists(st.sampled_from(["buyer", "supplier", "tenderer", "x_role"]), unique=True, max_size=2)
PARTIES = st.lists(
    shaped(
        {"id": PARTY_IDS, "name": TITLES},
        identifier=REGISTRATIONS,
        contactPoint=CONTACTS,
        roles=ROLES,
        additionalIdentifiers=st.lists(REGISTRATIONS, max_size=2),
        address=st.fixed_dictionaries({"locality": WORDS}),
    ),
    max_size=3,
    unique_by=lambda one: one["id"],
)
REFERENCES = shaped({"id": PARTY_IDS}, name=TITLES)
DOCUMENTS = st.lists(shaped({"id": NUMERIC_OR_TEXT_IDS}, title=TITLES, datePublished=DATES), max_size=2)
MILESTONES = st.lists(
    shaped(
        {"id": NUMERIC_OR_TEXT_IDS, "title": TITLES},
        description=WORDS,
        dueDate=DATES,
        dateMet=DATES,
        status=st.sampled_from(["scheduled", "met", "notMet", "partiallyMet", "unheard"]),
    ),
    max_size=2,
    unique_by=lambda one: str(one["id"]),
)
TENDERS = shaped(
    {"id": IDS},
    title=TITLES,
    description=WORDS,
    value=MONEY,
    contractPeriod=PERIODS,
    procuringEntity=REFERENCES,
    milestones=MILESTONES,
    status=st.sampled_from(["planned", "active", "complete", "cancelled"]),
    documents=DOCUMENTS,
    submissionMethod=st.lists(WORDS, max_size=2),
    amendments=st.lists(shaped({}, rationale=WORDS), max_size=2),
    items=DOCUMENTS,
)
AWARDS = st.lists(
    shaped(
        {"id": NUMERIC_OR_TEXT_IDS},
        title=TITLES,
        value=MONEY,
        suppliers=st.lists(REFERENCES, max_size=2, unique_by=lambda one: one["id"]),
        status=st.sampled_from(["pending", "active", "cancelled", "unsuccessful"]),
        contractPeriod=PERIODS,
    ),
    max_size=3,
    unique_by=lambda one: str(one["id"]),
)
CONTRACTS = st.lists(
    shaped(
        {"id": NUMERIC_OR_TEXT_IDS, "awardID": NUMERIC_OR_TEXT_IDS},
        title=TITLES,
        value=MONEY,
        period=PERIODS,
        milestones=MILESTONES,
        dateSigned=DATES,
        status=st.sampled_from(["pending", "active", "terminated", "cancelled"]),
        implementation=shaped({}, milestones=MILESTONES, documents=DOCUMENTS),
    ),
    max_size=3,
    unique_by=lambda one: str(one["id"]),
)
CONTENTS = shaped(
    {},
    parties=PARTIES,
    buyer=REFERENCES,
    language=st.just("en"),
    planning=shaped({}, rationale=WORDS, milestones=MILESTONES, budget=shaped({}, amount=MONEY, project=TITLES)),
    tender=TENDERS,
    awards=AWARDS,
    contracts=CONTRACTS,
)
TAGS = st.lists(
    st.sampled_from(["planning", "tender", "tenderCancellation", "award", "contract", "contractTermination"]),
    min_size=1,
    max_size=2,
)


def _numbered(contents: list[Any], tags: list[list[str]]) -> list[Any]:
    return [
        {
            **content,
            "ocid": "ocds-h-1",
            "id": f"r{number}",
            "date": f"2021-04-{number + 1:02d}T00:00:00Z",
            "tag": tag,
            "initiationType": "tender",
        }
        for number, (content, tag) in enumerate(zip(contents, tags, strict=True))
    ]


def processes(most: int = 4) -> st.SearchStrategy[list[Any]]:
    """The releases of one process, in order."""
    return st.integers(1, most).flatmap(
        lambda size: st.builds(
            _numbered, st.lists(CONTENTS, min_size=size, max_size=size), st.lists(TAGS, min_size=size, max_size=size)
        )
    )
