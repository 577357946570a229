"""What a compiled release means: the fields of the package, tasks and parties that stand for a contracting process.

A view is computed the same way from what was known before a file and from what is known after it; the difference is
the news. Each field remembers the place in the compiled release that it came from, which is where the writer puts a
value that was changed here.

**One process, several awards.** A process is one package, which has one vendor and one amount. It follows the first
award that is neither cancelled nor unsuccessful; an award that failed before it is kept in its data. Each further award
in force gets a package of its own, which holds that award with its contracts and nothing else of the process. Once an
award has a package of its own it keeps it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pydantic.networks import validate_email
from pydantic_core import PydanticCustomError

from pmis.kit.money import plain
from pmis.ocds.check import NAME_LENGTH, TITLE_LENGTH, amount_fault, day, money
from pmis.ocds.keys import award_key, package_key, task_key
from pmis.ocds.lifecycle import contract_status, milestone_status, package_status
from pmis.ocds.upgrade import references
from pmis.ocds.values import as_list, as_object, as_objects, child, identifier, indexed, line, pack, point, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pmis.ocds.values import Json, JsonObject

_DEAD_AWARD: Final = frozenset({"cancelled", "unsuccessful"})
_CUSTOMERS: Final = frozenset({"buyer", "procuringEntity", "funder", "payer", "reviewBody", "interestedParty"})
_SHORT: Final = 200
_URL: Final = re.compile(r"https?://\S{1,490}")


@dataclass(frozen=True)
class View:
    """The fields of one entity, the places they came from, and the status that is called for."""

    key: str
    fields: dict[str, Any]
    status: str = ""
    sources: dict[str, str] = field(default_factory=dict[str, str])
    package: str = ""
    """For a task, the package it is for."""


@dataclass(frozen=True)
class Scope:
    """The part of a process that one package stands for."""

    key: str
    award: str | None
    main: bool


@dataclass
class Part:
    """The award and the contracts of a scope, each with its place in the compiled release."""

    award: JsonObject | None = None
    award_at: str = ""
    contracts: list[tuple[str, JsonObject]] = field(default_factory=list[tuple[str, Any]])

    @property
    def award_holds(self) -> bool:
        """Whether there is an award that has not failed."""
        return self.award is not None and text(self.award.get("status")) not in _DEAD_AWARD

    @property
    def live(self) -> list[tuple[str, JsonObject]]:
        """The contracts that were not called off."""
        return [found for found in self.contracts if text(found[1].get("status")) != "cancelled"]


@dataclass(frozen=True)
class Process:
    """A contracting process as far as it is known: its compiled release, and what came with the releases."""

    ocid: str
    compiled: JsonObject
    tags: tuple[str, ...] = ()
    date: str = ""
    closed: dict[str, str] = field(default_factory=dict[str, str])
    """For each contract that was terminated, the day of the release that first said so."""
    own: frozenset[str] = frozenset()
    """The awards that have a package of their own already."""

    @cached_property
    def scopes(self) -> list[Scope]:
        """The packages of the process, the one for the process itself first."""
        awards: dict[str, bool] = {}
        for award in as_objects(self.compiled.get("awards")):
            if (key := identifier(award.get("id"))) is not None:
                awards[key] = text(award.get("status")) not in _DEAD_AWARD
        others = [key for key in awards if key not in self.own]
        first = next((key for key in others if awards[key]), next(iter(others), None))
        separate = [key for key, holds in awards.items() if key in self.own or (holds and key != first)]
        return [
            Scope(package_key(self.ocid), first, main=True),
            *(Scope(award_key(self.ocid, key), key, main=False) for key in separate),
        ]

    @cached_property
    def separate(self) -> dict[str, Scope]:
        """The packages that stand for one award, by the award."""
        return {scope.award: scope for scope in self.scopes if scope.award is not None and not scope.main}

    def scope_of(self, contract: JsonObject) -> Scope:
        """The package that a contract belongs to: that of its award, or of the process.

        Contracts of an award that failed, or of one that was never published, stay with the process.
        """
        return self.separate.get(identifier(contract.get("awardID")) or "", self.scopes[0])

    @cached_property
    def parts(self) -> dict[str, Part]:
        """What belongs to each package, by its key."""
        parts = {scope.key: Part() for scope in self.scopes}
        keys = {scope.award: scope.key for scope in self.scopes if scope.award is not None}
        for number, award in indexed(self.compiled.get("awards")):
            if key := keys.get(identifier(award.get("id")) or ""):
                parts[key].award, parts[key].award_at = award, point("", "awards", number)
        for number, contract in indexed(self.compiled.get("contracts")):
            parts[self.scope_of(contract).key].contracts.append((point("", "contracts", number), contract))
        return parts


def package_views(process: Process) -> list[View]:
    """The packages that stand for the process."""
    return [_package(process, scope, process.parts[scope.key]) for scope in process.scopes]


def _package(process: Process, scope: Scope, part: Part) -> View:
    release = process.compiled
    tender, budget = child(release, "tender"), child(release, "planning", "budget")
    found: dict[str, tuple[Json, str]] = {
        "title": _first(_titles(process, scope, part)),
        "description": _first(_descriptions(release, scope, part)),
        **_money(part, tender if scope.main else {}, budget if scope.main else {}),
        **_dates(process, part, tender if scope.main else {}),
        "vendor_id": _vendor(part),
    }
    return View(
        key=scope.key,
        fields={name: value for name, (value, _) in found.items()},
        status=package_status(
            tender if scope.main else {}, part.award, [contract for _, contract in part.contracts], process.tags
        ),
        sources={name: place for name, (_, place) in found.items() if place},
    )


def _first(candidates: Iterator[tuple[Json, str]]) -> tuple[Json, str]:
    return next(((value, place) for value, place in candidates if value is not None), (None, ""))


def _titles(process: Process, scope: Scope, part: Part) -> Iterator[tuple[str | None, str]]:
    release = process.compiled
    if scope.main:
        yield line(release.get("title")), "/title"
        yield line(child(release, "tender").get("title")), "/tender/title"
        yield line(child(release, "planning", "budget").get("project")), "/planning/budget/project"
    if part.award is not None:
        yield line(part.award.get("title")), f"{part.award_at}/title"
    for place, contract in part.contracts:
        yield line(contract.get("title")), f"{place}/title"
    yield (f"Award {scope.award}" if not scope.main else f"Contracting process {process.ocid}")[:TITLE_LENGTH], ""


def _descriptions(release: JsonObject, scope: Scope, part: Part) -> Iterator[tuple[str | None, str]]:
    if scope.main:
        yield text(release.get("description")), "/description"
        yield text(child(release, "tender").get("description")), "/tender/description"
        yield text(child(release, "planning").get("rationale")), "/planning/rationale"
        yield text(child(release, "planning", "budget").get("description")), "/planning/budget/description"
    if part.award is not None:
        yield text(part.award.get("description")), f"{part.award_at}/description"
    for place, contract in part.contracts:
        yield text(contract.get("description")), f"{place}/description"


def _money(part: Part, tender: JsonObject, budget: JsonObject) -> dict[str, tuple[Json, str]]:
    """The value of the furthest stage that states one: contract, award, tender, budget."""
    stages: list[tuple[Json, str]] = []
    if len(part.live) == 1:
        place, contract = part.live[0]
        stages.append((contract.get("value"), f"{place}/value"))
    if part.award is not None and part.award_holds:
        stages.append((part.award.get("value"), f"{part.award_at}/value"))
    for value, place in stages:
        if stated := money(value):
            return {"amount": (stated[0], place), "currency": (stated[1], place)}
    # Several contracts under an award that states no value: their sum, as long as it is of one currency.
    if summed := _sum([contract for _, contract in part.live]):
        return {"amount": (summed[0], ""), "currency": (summed[1], "")}
    for value, place in ((tender.get("value"), "/tender/value"), (budget.get("amount"), "/planning/budget/amount")):
        if stated := money(value):
            return {"amount": (stated[0], place), "currency": (stated[1], place)}
    return {"amount": (None, ""), "currency": (None, "")}


def _sum(contracts: Sequence[JsonObject]) -> tuple[str, str] | None:
    stated = [money(contract.get("value")) for contract in contracts]
    if not stated or None in stated or len({value[1] for value in stated if value}) != 1:
        return None
    total = sum((Decimal(value[0]) for value in stated if value), Decimal())
    currency = next(value[1] for value in stated if value)
    return None if amount_fault(total) else (plain(total), currency)


def _dates(process: Process, part: Part, tender: JsonObject) -> dict[str, tuple[Json, str]]:
    periods = [(f"{place}/period", as_object(contract.get("period"))) for place, contract in part.live]
    starts = [(found, f"{place}/startDate") for place, period in periods if (found := day(period.get("startDate")))]
    ends = [(found, f"{place}/endDate") for place, period in periods if (found := day(period.get("endDate")))]
    planned: dict[str, tuple[Json, str]] = {
        "planned_start": min(starts, default=(None, "")),
        "planned_end": max(ends, default=(None, "")),
    }
    fallbacks: list[tuple[str, JsonObject]] = []
    if part.award is not None and part.award_holds:
        fallbacks.append((f"{part.award_at}/contractPeriod", child(part.award, "contractPeriod")))
    fallbacks.append(("/tender/contractPeriod", child(tender, "contractPeriod")))
    for place, period in fallbacks:
        for name, key in (("planned_start", "startDate"), ("planned_end", "endDate")):
            if planned[name][0] is None and (found := day(period.get(key))):
                planned[name] = (found, f"{place}/{key}")
    return planned | _actual_dates(process, part, starts)


def _actual_dates(process: Process, part: Part, starts: list[tuple[str, str]]) -> dict[str, tuple[Json, str]]:
    """OCDS states no actual dates; what it implies.

    Work has started when a contract in force has an implementation: on the day its period began, if that day had come
    when the release was published. It has ended when every contract was terminated: on the day the last period ended,
    or the day the termination was published when that came first.
    """
    under_way = any(
        child(contract, "implementation") and contract_status(contract, process.tags) in ("active", "completed")
        for _, contract in part.live
    )
    published = day(process.date) or ""
    started = min((found for found, _ in starts if found <= published), default=None) if under_way else None
    closings: list[str | None] = []
    for _, contract in part.live:
        closed = process.closed.get(identifier(contract.get("id")) or "")
        ended = day(child(contract, "period").get("endDate"))
        closings.append(min(closed, ended) if closed and ended else closed)
    known = [closing for closing in closings if closing]
    ended = max(known) if known and len(known) == len(closings) else None
    if started and ended and ended < started:
        ended = None
    return {"actual_start": (started, ""), "actual_end": (ended, "")}


def _vendor(part: Part) -> tuple[str | None, str]:
    """The `id` of the first supplier of the award in force (the others stay in the data)."""
    if part.award is None or not part.award_holds:
        return None, ""
    for supplier in as_objects(part.award.get("suppliers")):
        return identifier(supplier.get("id")), f"{part.award_at}/suppliers"
    return None, ""


def task_views(process: Process) -> list[View]:
    """The tasks that stand for the milestones of planning, tender, contracts and their implementation."""
    release = process.compiled
    main = package_key(process.ocid)
    lists: list[tuple[tuple[str, ...], str, str, Json]] = [
        (("planning", "milestones"), main, "/planning/milestones", child(release, "planning").get("milestones")),
        (("tender", "milestones"), main, "/tender/milestones", child(release, "tender").get("milestones")),
    ]
    for number, contract in indexed(release.get("contracts")):
        name = identifier(contract.get("id"))
        if name is None:
            continue
        package = process.scope_of(contract).key
        place = point("", "contracts", number)
        implementation = child(contract, "implementation")
        for path, at, milestones in (
            (("contracts", name, "milestones"), f"{place}/milestones", contract.get("milestones")),
            (
                ("contracts", name, "implementation", "milestones"),
                f"{place}/implementation/milestones",
                implementation.get("milestones"),
            ),
        ):
            lists.append((path, package, at, milestones))
    views: dict[str, View] = {}
    for path, package, at, milestones in lists:
        for number, milestone in indexed(milestones):
            if view := _task(process.ocid, path, package, point(at, number), milestone):
                views.setdefault(view.key, view)
    return list(views.values())


def _task(ocid: str, path: tuple[str, ...], package: str, place: str, milestone: JsonObject) -> View | None:
    name = identifier(milestone.get("id"))
    if name is None:
        return None
    fields = milestone_fields(milestone)
    fields["data"] = {"ocds": {"ocid": ocid, "list": "/".join(path), "milestone": pack(milestone)}}
    sources = {"title": f"{place}/title", "description": f"{place}/description", "due_date": f"{place}/dueDate"}
    status = milestone_status(milestone)
    return View(task_key(ocid, path, name), fields, status, sources | {"status": f"{place}/status"}, package)


def milestone_fields(milestone: JsonObject) -> dict[str, Any]:
    """What a milestone says of its task, apart from the status."""
    return {
        "title": line(milestone.get("title")) or f"Milestone {identifier(milestone.get('id'))}",
        "description": text(milestone.get("description")),
        "due_date": day(milestone.get("dueDate")),
    }


def organisations(release: JsonObject) -> dict[str, JsonObject]:
    """The organisations of a process by their `id`, with every role they have; also those only referred to."""
    found: dict[str, JsonObject] = {}
    for party in as_objects(release.get("parties")):
        if (name := identifier(party.get("id"))) is not None:
            found.setdefault(name, party | {"roles": list(as_list(party.get("roles")))})
    for role, _, mention in references(release):
        if (name := identifier(mention.get("id"))) is not None:
            party = found.setdefault(name, {"id": name, "name": mention.get("name"), "roles": []})
            if role not in party["roles"]:
                party["roles"].append(role)
    return found


def party_view(key: str, party: JsonObject) -> View:
    """The party that stands for an organisation."""
    name = line(party.get("name")) or line(child(party, "identifier").get("legalName")) or identifier(party.get("id"))
    apart = ("identifier", "address")
    data: JsonObject = {detail: party.get(detail) for detail in apart}
    data["ocds"] = {detail: party[detail] for detail in party if detail not in ("id", "name", "roles", *apart)}
    contact = child(party, "contactPoint")
    fields: dict[str, Any] = {
        "name": name if name and len(name) <= NAME_LENGTH else "Unnamed organisation",
        "email": email(contact.get("email")),
        "kind": _kind(party),
        "contacts": _contacts(party, contact),
        "data": {key: pack(value) for key, value in data.items() if value},
    }
    return View(key, fields)


def email(value: Json) -> str | None:
    """The address when it is one; OCDS allows any text."""
    address = line(value)
    if address is None:
        return None
    try:
        return validate_email(address)[1]
    except PydanticCustomError:
        return None


def _kind(party: JsonObject) -> str:
    roles = {role for role in as_list(party.get("roles")) if isinstance(role, str)}
    buys = bool(roles & _CUSTOMERS)
    # Whoever is not on the buying side comes to it with an offer, whatever an extension calls the role.
    sells = bool(roles - _CUSTOMERS) or not roles
    return "both" if buys and sells else "customer" if buys else "vendor"


def _contacts(party: JsonObject, contact: JsonObject) -> list[JsonObject]:
    """Whom to talk to, as far as the statements are what they claim to be; the others stay in the data."""
    name, phone, url = (line(contact.get(key)) for key in ("name", "telephone", "url"))
    said: JsonObject = {
        "email": email(contact.get("email")),
        "phone": phone if phone and len(phone) <= _SHORT else None,
        "url": url if url and _URL.fullmatch(url) else None,
    }
    known = {key: value for key, value in said.items() if value}
    if not known and not name:
        return []
    named = next((one for one in (name, line(party.get("name"))) if one and len(one) <= NAME_LENGTH), "Contact")
    return [{"name": named, **known}]
