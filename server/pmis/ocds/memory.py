"""What PMIS remembers of a contracting process: how it lies in the packages' `data["ocds"]`, and how it comes back.

Each package holds the part of the compiled release that it stands for, so that a part can go on while another is
frozen: the package of the process holds everything but the awards that have a package of their own, which hold their
award and its contracts. `imported` lists the releases that changed the part, by which a repeated one is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pmis.ocds.check import day, moment
from pmis.ocds.keys import award_key, package_key
from pmis.ocds.lifecycle import contract_status
from pmis.ocds.values import as_list, as_object, as_objects, identifier, indexed, pack, unpack
from pmis.ocds.views import Process

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from pmis.ocds.values import JsonObject
    from pmis.ocds.views import Scope

FORMAT: Final = 1


@dataclass(frozen=True)
class Imported:
    """A release that was imported."""

    id: str
    date: str
    tag: tuple[str, ...]
    sha256: str

    def to_json(self) -> JsonObject:
        """As it is remembered."""
        return {"id": self.id, "date": self.date, "tag": list(self.tag), "sha256": self.sha256}


@dataclass(frozen=True)
class Memory:
    """Everything remembered of one process."""

    process: Process
    imported: tuple[Imported, ...] = ()
    parties: dict[str, str] = field(default_factory=dict[str, str])
    """The external reference given to each organisation of the process, by its `id` there."""
    package: JsonObject = field(default_factory=dict[str, Any])
    """What the file's package said about itself: publisher, licence, extensions."""
    parts: dict[str, JsonObject] = field(default_factory=dict[str, Any])
    """For each package of the process, what its data holds."""


def recall(ocid: str, packages: Mapping[str, JsonObject]) -> Memory:
    """What the packages (by their external reference) remember of a process; an empty memory of an unknown one."""
    main_key = package_key(ocid)
    parts: dict[str, JsonObject] = {}
    if part := remembered(packages.get(main_key)):
        parts[main_key] = part
        for award in as_list(part.get("order")):
            key = award_key(ocid, str(award))
            if own := remembered(packages.get(key)):
                parts[key] = own
    if not parts:
        return Memory(Process(ocid, {}))
    main = parts[main_key]
    imported = _history(parts.values())
    return Memory(
        process=Process(
            ocid,
            _compose(parts, main_key),
            tags=tuple(tag for one in imported for tag in one.tag),
            date=imported[-1].date if imported else "",
            closed={
                name: str(closed) for part in parts.values() for name, closed in as_object(part.get("closed")).items()
            },
            own=frozenset(str(part["award"]) for part in parts.values() if part.get("award")),
        ),
        imported=imported,
        parties={str(name): str(key) for name, key in as_object(main.get("parties")).items()},
        package=as_object(unpack(main.get("package"))),
        parts=parts,
    )


def remembered(package: Mapping[str, Any] | None) -> JsonObject | None:
    """What a package's data holds of OCDS; None when it is not something this module wrote."""
    part = as_object(as_object((package or {}).get("data")).get("ocds"))
    return part if part.get("format") == FORMAT else None


def remember(
    before: Memory,
    after: Process,
    new: Sequence[Imported],
    parties: Mapping[str, str],
    package: JsonObject,
    moved: Container[str],
) -> dict[str, JsonObject]:
    """What the data of each package is to hold that has news, or means something else now (`moved`).

    The second happens when a tag or a date speaks where the content stays the same.
    """
    places = {id(contract): place for place, contract in indexed(after.compiled.get("contracts"))}
    changed: dict[str, JsonObject] = {}
    for scope in after.scopes:
        content = _part(after, scope)
        part: JsonObject = {"format": FORMAT, "ocid": after.ocid, "release": pack(content)}
        closed = {
            name: after.closed[name]
            for contract in as_objects(content.get("contracts"))
            if (name := identifier(contract.get("id"))) in after.closed
        }
        if closed:
            part["closed"] = closed
        if not scope.main:
            part["award"] = scope.award
        else:
            part["parties"] = dict(parties)
            if after.separate:
                awards = as_objects(after.compiled.get("awards"))
                part["order"] = [name for award in awards if (name := identifier(award.get("id")))]
        if after.separate:
            # Merging only ever adds at the end, so a contract's place among all of them does not change.
            part["places"] = [places[id(contract)] for contract in as_objects(content.get("contracts"))]
        old = before.parts.get(scope.key, {})
        same = part == {key: value for key, value in old.items() if key not in ("imported", "package")}
        if same and scope.key not in moved:
            continue
        part["imported"] = [*as_list(old.get("imported")), *(one.to_json() for one in new)]
        if scope.main and package:
            part["package"] = pack(package)
        changed[scope.key] = part
    return changed


def close(process: Process, release_date: str) -> dict[str, str]:
    """The days on which the contracts of the process were closed, with those that a release of this date closes."""
    closed: dict[str, str] = {}
    for contract in as_objects(process.compiled.get("contracts")):
        name = identifier(contract.get("id"))
        if name and contract_status(contract, process.tags) == "completed":
            closed[name] = process.closed.get(name) or day(release_date) or ""
    return {name: on for name, on in closed.items() if on}


def _part(process: Process, scope: Scope) -> JsonObject:
    contracts = [contract for _, contract in process.parts[scope.key].contracts]
    awards = as_objects(process.compiled.get("awards"))
    if not scope.main:
        award = [award for award in awards if award is process.parts[scope.key].award]
        return {"awards": award, "contracts": contracts} if contracts else {"awards": award}
    if not process.separate:
        return process.compiled
    mine = [award for award in awards if identifier(award.get("id")) not in process.separate]
    apart = {"awards": mine, "contracts": contracts}
    # A list that has nothing left is not said; `false`, 0 and "" are said like anything else.
    return {key: apart.get(key, value) for key, value in process.compiled.items() if key not in apart or apart[key]}


def _compose(parts: Mapping[str, JsonObject], main_key: str) -> JsonObject:
    contents = {key: as_object(unpack(part.get("release"))) for key, part in parts.items()}
    release = dict(contents[main_key])
    others = [content for key, content in contents.items() if key != main_key]
    if others:
        awards = [award for content in (release, *others) for award in as_objects(content.get("awards"))]
        order = {str(name): place for place, name in enumerate(as_list(parts[main_key].get("order")))}
        release["awards"] = sorted(awards, key=lambda award: order.get(identifier(award.get("id")) or "", len(order)))
        placed = [
            placed
            for key, content in contents.items()
            for placed in zip(as_list(parts[key].get("places")), as_objects(content.get("contracts")), strict=False)
        ]
        if placed:
            release["contracts"] = [contract for _, contract in sorted(placed, key=lambda found: int(found[0]))]
    return release


def _history(parts: Any) -> tuple[Imported, ...]:  # noqa: ANN401 - the values of a dictionary
    found: dict[str, Imported] = {}
    for part in cast("Sequence[JsonObject]", parts):
        for one in as_objects(part.get("imported")):
            tag = tuple(str(tag) for tag in as_list(one.get("tag")))
            imported = Imported(str(one.get("id")), str(one.get("date")), tag, str(one.get("sha256")))
            found.setdefault(imported.sha256, imported)
    return tuple(sorted(found.values(), key=lambda one: (str(moment(one.date)), one.id)))
