"""What is wrong in a release, item by item, in the release as the file has it.

An *error* keeps the file from being imported: something that PMIS would have to guess, cut or lose. A *notice* does
not: the value stays where it is, in the package's `data`, and no field is made from it. Fields and types are those of
the OCDS schemas 1.0.3 and 1.1.5; what the schemas do not know is an extension and is only looked at for characters
that cannot be stored.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pmis.kit.money import MAX_PLACES, currencies, plain, require_amount
from pmis.kit.text import paragraph
from pmis.ocds.values import as_objects, identifier, is_number, line, text, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pmis.ocds.reader import FoundRelease, Place
    from pmis.ocds.values import Json, JsonObject

TITLE_LENGTH: Final = 300
NAME_LENGTH: Final = 150
DESCRIPTION_LENGTH: Final = 10_000
ID_LENGTH: Final = 200

RELEASE_TAGS: Final = frozenset(
    {
        "planning",
        "planningUpdate",
        "tender",
        "tenderAmendment",
        "tenderUpdate",
        "tenderCancellation",
        "award",
        "awardUpdate",
        "awardCancellation",
        "contract",
        "contractUpdate",
        "contractAmendment",
        "implementation",
        "implementationUpdate",
        "contractTermination",
        "compiled",
    }
)
TENDER_STATUSES: Final = frozenset(
    {"planning", "planned", "active", "cancelled", "unsuccessful", "complete", "withdrawn"}
)
AWARD_STATUSES: Final = frozenset({"pending", "active", "cancelled", "unsuccessful"})
CONTRACT_STATUSES: Final = frozenset({"pending", "active", "cancelled", "terminated"})
MILESTONE_STATUSES: Final = frozenset({"scheduled", "met", "notMet", "partiallyMet"})

_DATE_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


@dataclass(frozen=True)
class ItemError:
    """Something wrong with one item, where it stands in the file, in words for the person who sends the file."""

    place: Place
    code: str
    message: str
    blocking: bool = True

    @property
    def pointer(self) -> str:
        """The JSON Pointer of the item in its file (in its line, for JSON Lines)."""
        return self.place.pointer

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class _Kind:
    """What a field holds. `mapped`: PMIS makes a field of its own from it, so that a wrong value is an error."""

    name: Literal["text", "line", "id", "date", "number", "integer", "boolean", "texts", "code", "object", "objects"]
    mapped: bool = False
    limit: int = 0
    of: str = ""
    codes: frozenset[str] = frozenset()
    unique: bool = False


_T = _Kind("text")
_ID = _Kind("id")
_DATE = _Kind("date")
_NUMBER = _Kind("number")
_INTEGER = _Kind("integer")
_BOOLEAN = _Kind("boolean")
_TEXTS = _Kind("texts")
_TITLE = _Kind("line", mapped=True, limit=TITLE_LENGTH)
_NAME = _Kind("line", mapped=True, limit=NAME_LENGTH)
_DESCRIPTION = _Kind("text", mapped=True, limit=DESCRIPTION_LENGTH)
_KEY = _Kind("id", mapped=True, limit=ID_LENGTH)
_DAY = _Kind("date", mapped=True)


def _one(of: str) -> _Kind:
    return _Kind("object", mapped=True, of=of)


def _many(of: str, *, unique: bool = False) -> _Kind:
    return _Kind("objects", mapped=True, of=of, unique=unique)


_SHAPES: Final[dict[str, dict[str, _Kind]]] = {
    "Release": {
        "tag": _TEXTS,
        "initiationType": _T,
        "language": _T,
        "title": _TITLE,
        "description": _DESCRIPTION,
        "parties": _many("Organization", unique=True),
        "buyer": _one("Reference"),
        "planning": _one("Planning"),
        "tender": _one("Tender"),
        "awards": _many("Award", unique=True),
        "contracts": _many("Contract", unique=True),
        "relatedProcesses": _many("RelatedProcess"),
    },
    "Planning": {
        "rationale": _DESCRIPTION,
        "budget": _one("Budget"),
        "documents": _many("Document"),
        "milestones": _many("Milestone", unique=True),
    },
    "Budget": {
        "id": _ID,
        "description": _DESCRIPTION,
        "amount": _one("Money"),
        "project": _TITLE,
        "projectID": _ID,
        "uri": _T,
        "source": _T,
    },
    "Tender": {
        "id": _ID,
        "title": _TITLE,
        "description": _DESCRIPTION,
        "status": _Kind("code", codes=TENDER_STATUSES),
        "procuringEntity": _one("Reference"),
        "items": _many("Item"),
        "value": _one("Money"),
        "minValue": _one("Value"),
        "procurementMethod": _T,
        "procurementMethodDetails": _T,
        "procurementMethodRationale": _T,
        "mainProcurementCategory": _T,
        "additionalProcurementCategories": _TEXTS,
        "awardCriteria": _T,
        "awardCriteriaDetails": _T,
        "submissionMethod": _TEXTS,
        "submissionMethodDetails": _T,
        "tenderPeriod": _one("Period"),
        "enquiryPeriod": _one("Period"),
        "hasEnquiries": _BOOLEAN,
        "eligibilityCriteria": _T,
        "awardPeriod": _one("Period"),
        "contractPeriod": _one("WorkPeriod"),
        "numberOfTenderers": _INTEGER,
        "tenderers": _many("Reference"),
        "documents": _many("Document"),
        "milestones": _many("Milestone", unique=True),
        "amendments": _many("Amendment"),
        "amendment": _one("Amendment"),
    },
    "Award": {
        "id": _KEY,
        "title": _TITLE,
        "description": _DESCRIPTION,
        "status": _Kind("code", codes=AWARD_STATUSES),
        "date": _DATE,
        "value": _one("Money"),
        "suppliers": _many("Reference"),
        "items": _many("Item"),
        "contractPeriod": _one("WorkPeriod"),
        "documents": _many("Document"),
        "amendments": _many("Amendment"),
        "amendment": _one("Amendment"),
    },
    "Contract": {
        "id": _KEY,
        "awardID": _KEY,
        "title": _TITLE,
        "description": _DESCRIPTION,
        "status": _Kind("code", codes=CONTRACT_STATUSES),
        "period": _one("WorkPeriod"),
        "value": _one("Money"),
        "items": _many("Item"),
        "dateSigned": _DATE,
        "documents": _many("Document"),
        "implementation": _one("Implementation"),
        "relatedProcesses": _many("RelatedProcess"),
        "milestones": _many("Milestone", unique=True),
        "amendments": _many("Amendment"),
        "amendment": _one("Amendment"),
    },
    "Implementation": {
        "transactions": _many("Transaction"),
        "milestones": _many("Milestone", unique=True),
        "documents": _many("Document"),
    },
    "Milestone": {
        "id": _KEY,
        "title": _TITLE,
        "type": _T,
        "description": _DESCRIPTION,
        "code": _T,
        "dueDate": _DAY,
        "dateMet": _DATE,
        "dateModified": _DATE,
        "status": _Kind("code", codes=MILESTONE_STATUSES),
        "documents": _many("Document"),
    },
    "Document": {
        "id": _ID,
        "documentType": _T,
        "title": _T,
        "description": _T,
        "url": _T,
        "datePublished": _DATE,
        "dateModified": _DATE,
        "format": _T,
        "language": _T,
    },
    "Transaction": {
        "id": _ID,
        "source": _T,
        "date": _DATE,
        "value": _one("Value"),
        "payer": _one("Reference"),
        "payee": _one("Reference"),
        "uri": _T,
        "amount": _one("Value"),
        "providerOrganization": _one("Identifier"),
        "receiverOrganization": _one("Identifier"),
    },
    "Organization": {
        "id": _KEY,
        "name": _NAME,
        "identifier": _one("Identifier"),
        "additionalIdentifiers": _many("Identifier"),
        "address": _one("Address"),
        "contactPoint": _one("ContactPoint"),
        "roles": _TEXTS,
        "details": _one(""),
    },
    # A reference of 1.0 holds the organisation itself.
    "Reference": {
        "id": _KEY,
        "name": _NAME,
        "identifier": _one("Identifier"),
        "additionalIdentifiers": _many("Identifier"),
        "address": _one("Address"),
        "contactPoint": _one("ContactPoint"),
    },
    "Identifier": {"scheme": _T, "id": _Kind("id", limit=ID_LENGTH), "legalName": _NAME, "uri": _T},
    "Address": dict.fromkeys(("streetAddress", "locality", "region", "postalCode", "countryName"), _T),
    "ContactPoint": dict.fromkeys(("name", "email", "telephone", "faxNumber", "url"), _T),
    "Item": {
        "id": _ID,
        "description": _T,
        "classification": _one("Classification"),
        "additionalClassifications": _many("Classification"),
        "quantity": _NUMBER,
        "unit": _one("Unit"),
    },
    "Unit": {"name": _T, "id": _T, "scheme": _T, "uri": _T, "value": _one("Value")},
    "Classification": {"scheme": _T, "id": _ID, "description": _T, "uri": _T},
    "Amendment": {
        "date": _DATE,
        "rationale": _T,
        "id": _ID,
        "description": _T,
        "amendsReleaseID": _T,
        "releaseID": _T,
        "changes": _many(""),
    },
    "RelatedProcess": {
        "id": _ID,
        "relationship": _TEXTS,
        "title": _T,
        "scheme": _T,
        "identifier": _T,
        "uri": _T,
    },
    "Period": {"startDate": _DATE, "endDate": _DATE, "maxExtentDate": _DATE, "durationInDays": _INTEGER},
    "WorkPeriod": {"startDate": _DAY, "endDate": _DAY, "maxExtentDate": _DATE, "durationInDays": _INTEGER},
    "Money": {"amount": _Kind("number", mapped=True), "currency": _Kind("line", mapped=True)},
    "Value": {"amount": _NUMBER, "currency": _Kind("line", mapped=True)},
    "": {},
}

_WANTED: Final = {
    "text": "a text",
    "line": "a text",
    "id": "a text or a whole number",
    "date": "a date",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "texts": "a list of texts",
    "code": "a text",
    "object": "an object",
    "objects": "a list of objects",
}


def day(value: Json) -> str | None:
    """The calendar day (ISO 8601) of an OCDS date or date-time, as its author wrote it: no time zone moves it."""
    found = _DATE_TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        return None
    try:
        datetime.fromisoformat(found.group().upper())
        return date.fromisoformat(found.group(1)).isoformat()
    except ValueError:
        return None


def moment(value: Json) -> datetime | None:
    """The moment of an OCDS date-time, for putting releases in order; without a zone it counts as UTC."""
    if day(value) is None:
        return None
    stated = datetime.fromisoformat(value.strip().upper())
    offset = stated.utcoffset() or timedelta()
    stated = stated.replace(tzinfo=UTC)
    try:
        return stated - offset
    except OverflowError:  # a zone at the very first or last day of the calendar
        return stated


def money(value: Json) -> tuple[str, str] | None:
    """Amount (decimal text) and currency of an OCDS value; None when it does not hold both, rightly."""
    content = cast("JsonObject", value) if isinstance(value, dict) else {}
    amount = content.get("amount")
    currency = line(content.get("currency"))
    if amount is None or not is_number(amount) or currency not in currencies() or amount_fault(amount):
        return None
    return plain(_without_idle_zeros(Decimal(amount))), currency


def _without_idle_zeros(amount: Decimal) -> Decimal:
    """The same number with no more decimal places than money has, as far as only zeros stand beyond; never -0."""
    sign, digits, exponent = amount.as_tuple()
    places = -exponent if isinstance(exponent, int) else 0
    while places > MAX_PLACES and digits and digits[-1] == 0:
        digits, places = digits[:-1], places - 1
    return Decimal((sign if amount else 0, digits, -places))


def amount_fault(amount: int | Decimal) -> tuple[str, str] | None:
    """Why a package cannot have this amount, as a code and a message; None when it can."""
    if amount < 0:
        return "negative_amount", "the amount is negative"
    try:
        require_amount(str(_without_idle_zeros(Decimal(amount))))
    except ValueError as error:
        return "amount_out_of_range", str(error)
    return None


def check(found: FoundRelease) -> list[ItemError]:
    """Everything wrong with a release, in its order; nothing else in the package may rely on an unchecked release."""
    return [*_head(found), *_characters(found), *_shape("Release", found.release, found.place)]


def _head(found: FoundRelease) -> Iterator[ItemError]:
    release, place = found.release, found.place
    for key, what in (("ocid", "the contracting process"), ("id", "the release")):
        value = identifier(release.get(key))
        if value is None or not value.strip():
            yield ItemError(place.at(key), "missing", f"`{key}`, which names {what}, is missing or not a text")
        elif len(value) > ID_LENGTH:
            yield ItemError(place.at(key), "too_long", _too_long(len(value), ID_LENGTH))
    if moment(release.get("date")) is None:
        missing = "is missing" if release.get("date") is None else "is not a date-time such as 2010-03-15T09:30:00Z"
        yield ItemError(place.at("date"), "invalid_date", f"`date`, by which releases are put in order, {missing}")
    if not release.get("tag"):
        yield _notice(place.at("tag"), "missing", "`tag` is missing; the statuses alone tell the stage")
    tags: list[Json] = release["tag"] if isinstance(release.get("tag"), list) else []
    for number, tag in enumerate(tags):
        if isinstance(tag, str) and tag not in RELEASE_TAGS:
            yield _notice(place.at("tag", number), "unknown_code", f'"{visible(tag)}" is not a release tag of OCDS')


def readable(found: FoundRelease) -> bool:
    """Whether a release can at least be put in order and previewed: it has a date, and texts that can be stored."""
    return moment(found.release.get("date")) is not None and next(_characters(found), None) is None


def _characters(found: FoundRelease) -> Iterator[ItemError]:
    """The texts and keys that hold characters which cannot be stored, extensions included."""
    for path, what, value in _texts(found.release, ()):
        try:
            paragraph(value)
        except ValueError as error:
            yield ItemError(found.place.at(*map(_part, path)), "control_character", f"the {what} {error}")


def _part(part: str | int) -> str | int:
    return visible(part) if isinstance(part, str) else part


def _texts(value: Json, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Every text and key that is not plainly printable, with its path."""
    if isinstance(value, str):
        if not value.isprintable():
            yield path, "text", value
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[Json]", value)):
            yield from _texts(item, (*path, number))
    elif isinstance(value, dict):
        for key, item in cast("JsonObject", value).items():
            if not key.isprintable():
                yield (*path, key), "key", key
            yield from _texts(item, (*path, key))


def _shape(shape: str, content: JsonObject, place: Place) -> Iterator[ItemError]:
    """What is wrong with an object's known fields."""
    if shape in ("Money", "Value"):
        yield from _money(content, place, mapped=shape == "Money")
        return
    for key, kind in _SHAPES[shape].items():
        value = content.get(key)
        # In OCDS a null takes back what an earlier release said: any field may be null.
        if value is None:
            continue
        if not _FITS[kind.name](value):
            yield ItemError(place.at(key), "wrong_type", f"{_WANTED[kind.name]} is needed here", blocking=kind.mapped)
        elif kind.name in ("object", "objects"):
            yield from _inside(kind, value, place.at(key))
        elif found := _fault(kind, value):
            code, message, blocking = found
            yield ItemError(place.at(key), code, message, blocking)
    if shape == "WorkPeriod":
        yield from _period(content, place)


def _inside(kind: _Kind, value: Json, place: Place) -> Iterator[ItemError]:
    """What is wrong in an object or in a list of them."""
    if kind.name == "object":
        yield from _shape(kind.of, value, place)
        return
    if kind.unique:
        yield from _identities(value, place)
    for number, item in enumerate(value):
        yield from _shape(kind.of, item, place.at(number))


def _fault(kind: _Kind, value: Json) -> tuple[str, str, bool] | None:
    """What is wrong with a plain value of the right type: a code, a message, and whether it is an error."""
    if kind.name == "date" and day(value) is None:
        return "invalid_date", f'"{visible(value)}" is not a date or date-time', kind.mapped
    if kind.name == "code" and value not in kind.codes:
        known = ", ".join(sorted(kind.codes))
        said = f'"{visible(value)}" is not a status of OCDS here ({known}); it is kept but tells no stage'
        return "unknown_code", said, False
    if kind.limit and isinstance(value, str):
        size = len((line(value) if kind.name == "line" else text(value)) or "")
        if size > kind.limit:
            return "too_long", _too_long(size, kind.limit), True
    return None


def _identities(items: list[Json], place: Place) -> Iterator[ItemError]:
    """The items that cannot be told apart: each becomes an entity and needs an `id` of its own."""
    parties = place.pointer.endswith("/parties")
    counts = Counter(identifier(item.get("id")) for item in as_objects(items))
    seen: set[str] = set()
    for number, item in enumerate(as_objects(items)):
        key = identifier(item.get("id"))
        if key is None:
            # A party's name or registration number can stand in: 1.0 knew no ids for organisations.
            if not parties:
                yield ItemError(place.at(number, "id"), "missing", "`id` is missing; it is what tells the item apart")
        elif counts[key] > 1 and key in seen:
            yield ItemError(
                place.at(number, "id"),
                "duplicate_id",
                f'the id "{visible(key)}" stands {counts[key]} times in this list',
            )
        seen.add(key or "")


def _money(value: JsonObject, place: Place, *, mapped: bool) -> Iterator[ItemError]:
    amount, currency = value.get("amount"), value.get("currency")
    if amount is not None and not is_number(amount):
        yield ItemError(place.at("amount"), "wrong_type", "a number is needed here", blocking=mapped)
        amount = None
    if mapped and amount is not None and (fault := amount_fault(amount)):
        yield ItemError(place.at("amount"), *fault)
    if currency is not None and not isinstance(currency, str):
        yield ItemError(place.at("currency"), "wrong_type", "a text is needed here")
    elif line(currency) is not None and line(currency) not in currencies():
        message = f'"{visible(str(currency))}" is not a currency code of ISO 4217, such as EUR or USD'
        yield ItemError(place.at("currency"), "invalid_currency", message)
    elif amount is not None and line(currency) is None:
        yield _notice(place, "currency_missing", "an amount without its currency; no field is made from it")


def _period(content: JsonObject, place: Place) -> Iterator[ItemError]:
    start, end = day(content.get("startDate")), day(content.get("endDate"))
    if start and end and end < start:
        yield ItemError(place, "period_reversed", f"the period ends ({end}) before it starts ({start})")


def _too_long(size: int, limit: int) -> str:
    return f"{size:,} characters, at most {limit:,} fit; it is not cut silently"


def _notice(place: Place, code: str, message: str) -> ItemError:
    return ItemError(place, code, message, blocking=False)


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_whole(value: Json) -> bool:
    return is_number(value) and Decimal(value).to_integral_value() == value


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(item, kind) for item in cast("list[Json]", value))


_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "text": _is_text,
    "line": _is_text,
    "code": _is_text,
    "date": _is_text,
    "id": lambda value: isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)),
    "number": is_number,
    "integer": _is_whole,
    "boolean": lambda value: isinstance(value, bool),
    "texts": _is_list_of(str),
    "object": lambda value: isinstance(value, dict),
    "objects": _is_list_of(dict),
}
