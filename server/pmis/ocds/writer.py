"""The way back: a package with its parties and tasks as an OCDS 1.1 release package.

What came from OCDS is written as it came, extensions included. On top of it goes what was changed here: a field that
differs from what the remembered release says is put at the place it came from. A package that never was in OCDS is
written from its fields alone.

OCDS has no room for some of what PMIS knows, and it is left out rather than put into a private extension: the owner,
actual dates, bank details, contacts beyond the first, the states `submitted`, `in_review` and `on_hold` (written as
what comes before or after them), a cancelled or blocked task, a vendor before the award, and the amount or dates of a
package with several contracts.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import NAMESPACE_URL

from pmis.kit.canonical import sha256_hex
from pmis.kit.ids import derived_id
from pmis.ocds.keys import package_key
from pmis.ocds.lifecycle import milestone_status
from pmis.ocds.memory import recall, remembered
from pmis.ocds.values import as_list, as_object, as_objects, child, identifier, line, split_pointer, unpack
from pmis.ocds.views import Process, milestone_fields, organisations, package_views, party_view, task_views

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pmis.ocds.values import Json, JsonObject
    from pmis.ocds.views import View

_FORWARD: Final = ("draft", "approved", "awarded", "active", "completed")
_STATUS_CLASS: Final = {"submitted": "draft", "in_review": "draft", "on_hold": "active"}
_TASK_CLASS: Final = {"blocked": "in_progress", "review_needed": "in_progress"}
_PER_CONTRACT: Final = frozenset({"amount", "planned_start", "planned_end"})
_MILESTONE: Final = {"pending": "scheduled", "in_progress": "partiallyMet", "completed": "met"}
_ORDER: Final = (
    "ocid", "id", "date", "tag", "initiationType", "language", "title", "description",
    "parties", "buyer", "planning", "tender", "awards", "contracts",
)  # fmt: skip
_STAGE_TAGS: Final = (("planning", "planning"), ("tender", "tender"), ("awards", "award"), ("contracts", "contract"))


@dataclass(frozen=True)
class Publication:
    """What the publisher says about the release: OCDS asks for it, the data does not hold it.

    `ocid_prefix` is the prefix registered with the Open Contracting Partnership; a package that did not come from OCDS
    gets its `ocid` from it.
    """

    date: str
    publisher: str
    ocid_prefix: str = "ocds-000000"
    uri: str | None = None


@dataclass
class _Draft:
    """The release being written, and the records whose word goes over what is remembered."""

    process: Process
    release: JsonObject
    packages: dict[str, Mapping[str, Any]]
    parties: dict[str, Mapping[str, Any]]
    """By identifier."""
    party_ids: dict[str, str] = field(default_factory=dict[str, str])
    """The `id` in the release of each party, by identifier."""

    def seen(self) -> Process:
        """The process as the release now stands."""
        return replace(self.process, compiled=self.release)


def write(
    package: Mapping[str, Any],
    parties: Iterable[Mapping[str, Any]],
    tasks: Iterable[Mapping[str, Any]],
    publication: Publication,
    award_packages: Sequence[Mapping[str, Any]] = (),
) -> JsonObject:
    """The release package for a contracting process; numbers in it are `int` or `Decimal` (see `dumps`).

    `package` stands for the process and `award_packages` for awards of it that have a package of their own. `parties`
    and `tasks` are those of all these packages; parties not concerned are not written.
    """
    known = {str(one["id"]): one for one in parties}
    part = remembered(package)
    if part is None:
        draft = _unknown_process(package, known, publication)
        about: JsonObject = {}
    else:
        ocid = str(part["ocid"])
        packages = {str(one.get("external_ref")): one for one in award_packages}
        packages[package_key(ocid)] = package
        # The reference may have been changed here; the data says what the package stands for.
        memory = recall(ocid, cast("Mapping[str, JsonObject]", packages))
        draft = _Draft(memory.process, deepcopy(memory.process.compiled), packages, known)
        by_ref = {str(one.get("external_ref")): identity for identity, one in known.items()}
        draft.party_ids = {by_ref[key]: name for name, key in memory.parties.items() if key in by_ref}
        _write_parties(draft)
        about = memory.package
    _write_packages(draft)
    _write_tasks(draft, tasks)
    return _packaged(draft, publication, about)


def dumps(value: Json) -> str:
    """The JSON text, indented, with every number digit for digit."""
    return "".join(_lines(value, "\n")) + "\n"


def _lines(value: Json, newline: str) -> Iterator[str]:
    inside = newline + "  "
    if isinstance(value, dict):
        items = cast("JsonObject", value)
        for number, (key, item) in enumerate(items.items()):
            yield f"{',' if number else '{'}{inside}{json.dumps(key, ensure_ascii=False)}: "
            yield from _lines(item, inside)
        yield f"{newline}}}" if items else "{}"
    elif isinstance(value, list):
        listed = cast("list[Json]", value)
        for number, item in enumerate(listed):
            yield f"{',' if number else '['}{inside}"
            yield from _lines(item, inside)
        yield f"{newline}]" if listed else "[]"
    elif isinstance(value, Decimal):
        yield str(value)
    else:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)


def _unknown_process(
    package: Mapping[str, Any], parties: dict[str, Mapping[str, Any]], publication: Publication
) -> _Draft:
    """A release for a package that was made here: what its fields say, no more."""
    ocid = f"{publication.ocid_prefix}-{package.get('code') or package['id']}"
    release: JsonObject = {
        "initiationType": "tender",
        "tender": {"id": str(package.get("code") or package["id"]), "title": package["title"], "status": "planned"},
    }
    return _Draft(Process(ocid, release), release, {package_key(ocid): package}, parties)


def _write_parties(draft: _Draft) -> None:
    """Names and contacts as they are here."""
    records = {name: draft.parties[identity] for identity, name in draft.party_ids.items()}
    for party in as_objects(draft.release.get("parties")):
        name = identifier(party.get("id"))
        record = records.get(name or "")
        if record is None:
            continue
        said = party_view("", organisations(draft.release)[str(name)]).fields
        if record.get("name") != said["name"]:
            party["name"] = record["name"]
        if record.get("email") and record["email"] != said["email"]:
            party.setdefault("contactPoint", {})["email"] = record["email"]
        for detail in ("identifier", "address"):
            own = as_object(as_object(record.get("data")).get(detail))
            if own and own != said["data"].get(detail):
                party[detail] = unpack(own)
        contacts = as_objects(record.get("contacts"))
        stated: list[JsonObject] = said["contacts"] or [{}]
        if contacts and {key: value for key, value in contacts[0].items() if value} != stated[0]:
            point = party.setdefault("contactPoint", {})
            for ours, theirs in (("name", "name"), ("email", "email"), ("phone", "telephone"), ("url", "url")):
                if contacts[0].get(ours):
                    point[theirs] = contacts[0][ours]


def _write_packages(draft: _Draft) -> None:
    # Looked at once: most packages are as their release says, and one that is not is looked at anew at each step.
    views = {view.key: view for view in package_views(draft.seen())}
    for key, package in draft.packages.items():
        view = views.get(key)
        if view is None:
            continue
        _reach(draft, key, view, package)
        for name in ("title", "description", "amount", "planned_start", "planned_end"):
            if not _agrees(view, name, package) or view.status != package["status"]:
                _write_field(draft, key, name, package)
        party = draft.parties.get(str(package.get("vendor_id")))
        supplier = draft.party_ids.get(str(party["id"])) if party else None
        if party is not None and (supplier is None or supplier != view.fields["vendor_id"]):
            _write_vendor(draft, key, party)


def _view(draft: _Draft, key: str) -> View:
    return next(view for view in package_views(draft.seen()) if view.key == key)


def _reach(draft: _Draft, key: str, view: View, package: Mapping[str, Any]) -> None:
    """Make the stages say the status that the package has, as far as it went beyond what they say."""
    status = str(package["status"])
    wanted = _STATUS_CLASS.get(status, status)
    if wanted == "cancelled":
        if view.status != wanted:
            _cancel(draft, key)
        return
    # Only what went further here is written: what lags behind waits for an approval, and OCDS is not taken back.
    if view.status not in _FORWARD or _FORWARD.index(wanted) <= _FORWARD.index(view.status):
        return
    if wanted == "approved":
        if key == package_key(draft.process.ocid):
            draft.release.setdefault("tender", {"id": draft.process.ocid})["status"] = "active"
        return
    award = _award(draft, key, package)
    award["status"] = "active"
    if wanted != "awarded":
        for contract in _contracts(draft, award):
            if contract.get("status") != "cancelled":
                contract["status"] = "active" if wanted == "active" else "terminated"


def _scope_award(draft: _Draft, key: str) -> str | None:
    return next((scope.award for scope in draft.seen().scopes if scope.key == key), None)


def _award(draft: _Draft, key: str, package: Mapping[str, Any]) -> JsonObject:
    """The award of a package; made when there is none."""
    name = _scope_award(draft, key)
    for award in as_objects(draft.release.get("awards")):
        if identifier(award.get("id")) == name:
            return award
    made: JsonObject = {"id": f"{draft.process.ocid}-award", "title": package["title"], "status": "active"}
    draft.release["awards"] = [*as_list(draft.release.get("awards")), made]
    return made


def _contracts(draft: _Draft, award: JsonObject) -> list[JsonObject]:
    """The contracts of an award; one is made when there is none in force."""
    mine = [
        contract
        for contract in as_objects(draft.release.get("contracts"))
        if identifier(contract.get("awardID")) == identifier(award.get("id"))
    ]
    if any(contract.get("status") != "cancelled" for contract in mine):
        return mine
    made: JsonObject = {"id": f"{identifier(award.get('id'))}-contract", "awardID": award["id"], "status": "active"}
    draft.release["contracts"] = [*as_list(draft.release.get("contracts")), made]
    return [made]


def _cancel(draft: _Draft, key: str) -> None:
    """The deepest stage that exists says that it is over, and the ones above it that it came to nothing."""
    name = _scope_award(draft, key)
    for contract in as_objects(draft.release.get("contracts")):
        if identifier(contract.get("awardID")) == name:
            contract["status"] = "cancelled"
    for award in as_objects(draft.release.get("awards")):
        if identifier(award.get("id")) == name:
            award["status"] = "cancelled"
            return
    draft.release.setdefault("tender", {"id": draft.process.ocid})["status"] = "cancelled"


def _write_field(draft: _Draft, key: str, name: str, package: Mapping[str, Any]) -> None:
    """Put a field where it came from when it is another here; where it came from nowhere, at the furthest stage."""
    view = _view(draft, key)
    if _agrees(view, name, package):
        return
    value = package.get(name)
    if value in (None, ""):
        # Taking it away at one stage lets an earlier stage speak: that one is silenced too.
        while view.sources.get(name):
            _remove(draft.release, view.sources[name])
            view = _view(draft, key)
        return
    at = view.sources.get(name) or _default_place(draft, key, name)
    if at.startswith("/contracts/") and name in _PER_CONTRACT and _is_shared(draft, key):
        return
    if name == "amount":
        _put(draft.release, at, {**as_object(_get(draft.release, at)), **_value(package)})
    else:
        _put(draft.release, at, f"{value}T00:00:00Z" if name.startswith("planned") else value)


def _agrees(view: View, name: str, package: Mapping[str, Any]) -> bool:
    said, value = view.fields[name], package.get(name)
    if not said or not value:
        return not said and not value
    if name == "amount":
        return Decimal(said) == Decimal(str(value)) and view.fields["currency"] == package.get("currency")
    return bool(said == value) or (name == "title" and line(value) == said)


def _value(package: Mapping[str, Any]) -> JsonObject:
    amount = Decimal(str(package["amount"]))
    whole = amount == amount.to_integral_value()
    return {"amount": int(amount) if whole else amount, "currency": package["currency"]}


def _default_place(draft: _Draft, key: str, name: str) -> str:
    """Where a field goes that the release does not state yet: the furthest stage there is."""
    scope = next(scope for scope in draft.seen().scopes if scope.key == key)
    awards, contracts = as_objects(draft.release.get("awards")), as_objects(draft.release.get("contracts"))
    award = next((place for place, one in enumerate(awards) if identifier(one.get("id")) == scope.award), None)
    mine = [place for place, one in enumerate(contracts) if identifier(one.get("awardID")) == scope.award]
    live = [place for place in mine if contracts[place].get("status") != "cancelled"]
    tail = {
        "title": "title",
        "description": "description",
        "amount": "value",
        "planned_start": "period/startDate",
        "planned_end": "period/endDate",
    }[name]
    if scope.main and name in ("title", "description"):
        return f"/tender/{name}"
    if live:
        return f"/contracts/{live[0]}/{tail}"
    tail = tail.replace("period", "contractPeriod")
    return f"/tender/{tail}" if award is None else f"/awards/{award}/{tail}"


def _is_shared(draft: _Draft, key: str) -> bool:
    """Whether several contracts are in force, so that none of them alone has the package's amount and dates."""
    name = _scope_award(draft, key)
    contracts = as_objects(draft.release.get("contracts"))
    return sum(identifier(one.get("awardID")) == name and one.get("status") != "cancelled" for one in contracts) > 1


def _write_vendor(draft: _Draft, key: str, party: Mapping[str, Any]) -> None:
    """The vendor as the award's supplier, once there is an award that has not failed."""
    award = draft.seen().parts[key].award
    if award is None or award.get("status") in ("cancelled", "unsuccessful"):
        return
    supplier = _party_id(draft, str(party["id"]), party)
    others = [one for one in as_objects(award.get("suppliers")) if identifier(one.get("id")) == supplier]
    award["suppliers"] = others or [{"id": supplier, "name": party["name"]}]


def _party_id(draft: _Draft, identity: str, party: Mapping[str, Any]) -> str:
    """The `id` of a party in the release; it is added to the parties when it is not among them."""
    if identity in draft.party_ids:
        return draft.party_ids[identity]
    own = str(party.get("external_ref") or "")
    name = own.removeprefix("ocds-org:") if own.startswith("ocds-org:") else identity
    draft.party_ids[identity] = name
    entry: JsonObject = {"id": name, "name": party["name"], "roles": ["supplier"]}
    data = as_object(party.get("data"))
    entry |= {detail: unpack(data[detail]) for detail in ("identifier", "address") if data.get(detail)}
    if party.get("email"):
        entry["contactPoint"] = {"email": party["email"]}
    draft.release["parties"] = [*as_list(draft.release.get("parties")), entry]
    return name


def _write_tasks(draft: _Draft, tasks: Iterable[Mapping[str, Any]]) -> None:
    views = {view.key: view for view in task_views(draft.seen())}
    keys = {str(package.get("id")): key for key, package in draft.packages.items()}
    for task in tasks:
        if task.get("deleted_at"):
            continue
        view = views.get(str(task.get("external_ref")))
        key = keys.get(str(task.get("package_id")))
        if view is not None:
            _write_milestone(as_object(_get(draft.release, view.sources["status"].removesuffix("/status"))), task)
        elif key is not None and task["status"] != "cancelled":
            _write_milestone(_new_milestone(draft, key, task), task)


def _write_milestone(milestone: JsonObject, task: Mapping[str, Any]) -> None:
    """Put over the milestone what was changed here since the task last followed it.

    A task that has ended follows no more: what the publisher said later stands.
    """
    followed = as_object(unpack(as_object(as_object(task.get("data")).get("ocds")).get("milestone"))) or milestone
    said = milestone_fields(followed)
    if task["title"] != said["title"]:
        milestone["title"] = task["title"]
    for ours, theirs in (("description", "description"), ("due_date", "dueDate")):
        value = task.get(ours) or None
        if value == said[ours]:
            continue
        if value is None:
            milestone.pop(theirs, None)
        else:
            milestone[theirs] = f"{value}T00:00:00Z" if ours == "due_date" else value
    status = _TASK_CLASS.get(str(task["status"]), str(task["status"]))
    if status in _MILESTONE and status != milestone_status(followed):
        milestone["status"] = _MILESTONE[status]


def _new_milestone(draft: _Draft, key: str, task: Mapping[str, Any]) -> JsonObject:
    """A milestone for a task made here: with the contract once there is one, else with the tender."""
    name = _scope_award(draft, key)
    contracts = as_objects(draft.release.get("contracts"))
    mine = [one for one in contracts if identifier(one.get("awardID")) == name and one.get("status") != "cancelled"]
    holder = mine[0] if mine else draft.release.setdefault("tender", {"id": draft.process.ocid})
    if child(holder, "implementation"):
        holder = holder["implementation"]
    milestone: JsonObject = {"id": str(task["id"]), "title": task["title"]}
    holder["milestones"] = [*as_list(holder.get("milestones")), milestone]
    return milestone


def _packaged(draft: _Draft, publication: Publication, about: JsonObject) -> JsonObject:
    release = draft.release
    tags = [tag for stage, tag in _STAGE_TAGS if release.get(stage)]
    if any(child(contract, "implementation") for contract in as_objects(release.get("contracts"))):
        tags.append("implementation")
    ocid = draft.process.ocid
    content = {key: value for key, value in release.items() if key not in ("ocid", "id", "date", "tag")}
    digest = sha256_hex(dumps(content))
    body: JsonObject = {
        "ocid": ocid,
        # The same content has the same id whenever it is written.
        "id": f"{ocid}-pmis-{digest[:16]}",
        "date": publication.date,
        "tag": tags or ["planning"],
        "initiationType": "tender",
        **content,
    }
    named: JsonObject = {
        "uri": publication.uri or f"urn:uuid:{derived_id(NAMESPACE_URL, ocid, digest)}",
        "version": "1.1",
        "publishedDate": publication.date,
        "publisher": {"name": publication.publisher},
    }
    ordered = {key: body[key] for key in _ORDER if key in body} | body
    return named | {key: value for key, value in about.items() if key not in named} | {"releases": [ordered]}


def _get(value: Json, pointer: str) -> Json:
    for part in split_pointer(pointer):
        value = as_list(value)[int(part)] if isinstance(value, list) else as_object(value).get(part)
    return value


def _put(release: JsonObject, pointer: str, value: Json) -> None:
    holder: Json = release
    *path, last = split_pointer(pointer)
    for part in path:
        if isinstance(holder, list):
            holder = cast("list[Json]", holder)[int(part)]
        else:
            inside = as_object(holder).get(part)
            if not isinstance(inside, (dict, list)):
                inside = cast("JsonObject", {})
                holder[part] = inside
            holder = cast("Json", inside)
    holder[last] = value


def _remove(release: JsonObject, pointer: str) -> None:
    *path, last = split_pointer(pointer)
    holder: Json = release
    for part in path:
        holder = as_list(holder)[int(part)] if isinstance(holder, list) else as_object(holder).get(part)
    as_object(holder).pop(last, None)
