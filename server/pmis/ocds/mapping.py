"""From releases to what would change here: intents, their differences to the present state, and the steps in order.

`plan` is pure. Give it the releases of one file and what PMIS knows of the processes and parties in them; it answers
with one intent for each party, package and task concerned, and everything that is wrong. An intent says which fields
the publisher's word calls for now (`fields`) and which it called for before this file (`base`). Only where these two
differ does `diff` propose anything: a field that a person changed here stays as it is while the publisher only repeats
himself, and the same file twice proposes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pmis.kit.canonical import canonical
from pmis.ocds.check import ItemError, check, moment, readable
from pmis.ocds.keys import package_key, party_key, process_prefix
from pmis.ocds.lifecycle import FROZEN, held_at, package_path, task_path
from pmis.ocds.memory import Imported, Memory, close, recall, remember
from pmis.ocds.merge import merge
from pmis.ocds.reader import Place
from pmis.ocds.upgrade import references
from pmis.ocds.values import as_list, as_object, as_objects, identifier, visible
from pmis.ocds.views import Process, organisations, package_views, party_view, task_views

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pmis.ocds.reader import FoundRelease
    from pmis.ocds.values import JsonObject
    from pmis.ocds.views import View

TargetType = Literal["party", "package", "task"]
Operation = Literal["create", "patch", "transition"]

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_CLOSED_TASK: Final = frozenset({"completed", "cancelled"})
_PACKAGE_FACTS: Final = {"uri", "publishedDate", "version"}


class PartyKey(str):
    """The external reference of a party, where its identifier will stand once it is known."""

    __slots__ = ()


@dataclass(frozen=True)
class Known:
    """What PMIS holds now, as its API shows it, deleted records included: records by their external reference.

    `emails` says which party (by external reference, or by id) has an address, in lower case. `seen` holds the
    fingerprints of releases that said nothing new when they came (`Plan.idle`): no record remembers those.
    """

    packages: Mapping[str, JsonObject] = field(default_factory=dict[str, Any])
    tasks: Mapping[str, JsonObject] = field(default_factory=dict[str, Any])
    parties: Mapping[str, JsonObject] = field(default_factory=dict[str, Any])
    emails: Mapping[str, str] = field(default_factory=dict[str, str])
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Intent:
    """What a file wants of one party, package or task, and where it says so."""

    target_type: TargetType
    key: str
    fields: dict[str, Any]
    base: dict[str, Any] | None
    """The fields that the releases before this file called for; None at the first encounter."""
    place: Place
    status: str = ""
    base_status: str = ""
    package_key: str = ""
    data: JsonObject | None = None
    """For a package, what `data["ocds"]` is to hold; None leaves it as it is."""


@dataclass(frozen=True)
class Delta:
    """The difference between an intent and the present state: fields to set, and transitions to take."""

    patch: dict[str, Any]
    path: tuple[str, ...] = ()
    notices: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patch or self.path)


@dataclass(frozen=True)
class Step:
    """One change to propose. `vendor_id` holds a PartyKey, a task's `package_id` the key of its package."""

    operation: Operation
    target_type: TargetType
    key: str
    patch: dict[str, Any]
    place: Place


@dataclass(frozen=True)
class Plan:
    """Everything a file wants, what stands against it, and what is worth knowing."""

    intents: tuple[Intent, ...]
    deltas: dict[tuple[TargetType, str], Delta]
    errors: tuple[ItemError, ...]
    notices: tuple[ItemError, ...]
    releases: int
    repeated: int
    """How many of the releases had been imported before."""
    idle: tuple[str, ...]
    """The fingerprints of releases that say nothing new; keep them for `Known.seen`."""

    def steps(self) -> list[Step]:
        """The changes, in an order in which each can be applied: what is referred to comes before what refers to it.

        Steps into a frozen status come last, since nothing more can be changed after them.
        """
        by_type: dict[TargetType, list[Step]] = {"party": [], "package": [], "task": []}
        freezing: list[Step] = []
        for intent in self.intents:
            for step in _steps(intent, self.deltas[intent.target_type, intent.key]):
                last = step.target_type == "package" and step.patch.get("status") in FROZEN
                (freezing if last else by_type[step.target_type]).append(step)
        return [*by_type["party"], *by_type["package"], *by_type["task"], *freezing]


@dataclass(frozen=True)
class Wanted:
    """What to look up before planning: names that records of the processes begin with, parties, and addresses."""

    prefixes: frozenset[str]
    parties: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()


def wanted(found: Sequence[FoundRelease], packages: Mapping[str, JsonObject] | None = None) -> Wanted:
    """What `plan` needs to know. Ask first without `packages` for the prefixes, then with them for the rest."""
    groups = _grouped(found)
    prefixes = frozenset(process_prefix(ocid) for ocid in groups)
    if packages is None:
        return Wanted(prefixes)
    parties: set[str] = set()
    addresses: set[str] = set()
    for ocid, releases in groups.items():
        fold = _fold(ocid, releases, packages)
        parties.update(fold.parties.values())
        for name, party in organisations(fold.after.compiled).items():
            if address := party_view(fold.parties[name], party).fields["email"]:
                addresses.add(address.lower())
    return Wanted(prefixes, frozenset(parties), frozenset(addresses))


def plan(found: Sequence[FoundRelease], known: Known) -> Plan:
    """What the releases of one file call for; never raises for what they hold."""
    problems = [error for one in found for error in check(one)]
    intents: list[Intent] = []
    repeated = 0
    idle: list[str] = []
    for ocid, releases in _grouped(found).items():
        fold = _fold(ocid, releases, known.packages, known.seen)
        problems += fold.errors
        repeated += fold.repeated
        if fold.new:
            wants = _intents(fold, problems)
            intents += wants
            if all(intent.data is None for intent in wants):
                idle += [one.sha256 for one in fold.imported]
    intents = _shared_parties(intents, known, problems)
    deltas: dict[tuple[TargetType, str], Delta] = {}
    for intent in intents:
        delta, errors = _judged(intent, known)
        deltas[intent.target_type, intent.key] = delta
        problems += errors
    return Plan(
        intents=tuple(intents),
        deltas=deltas,
        errors=tuple(error for error in problems if error.blocking),
        notices=tuple(error for error in problems if not error.blocking),
        releases=len(found),
        repeated=repeated,
        idle=tuple(idle),
    )


def diff(intent: Intent, current: Mapping[str, Any] | None, parties: Mapping[str, JsonObject]) -> Delta:
    """What has to change for the intent; nothing when the publisher says nothing new or it is so already.

    `parties` are the known ones by external reference. Raises nothing; it does not judge whether the change is allowed.
    """
    if current is None:
        return _creation(intent)
    patch, notices = _field_changes(intent, current, parties)
    if intent.data is not None and (change := merge_patch(as_object(current.get("data")), {"ocds": intent.data})):
        patch["data"] = change
    _complete_money(patch, current, intent.fields)
    path: tuple[str, ...] | None = ()
    if intent.status != intent.base_status:
        now = str(current.get("status"))
        path = _path(intent, now)
        if path is None:
            notices.append(("status_not_followed", f"OCDS says {intent.status}; it is {now} here and stays so"))
    return Delta(patch, path or (), tuple(notices))


def _creation(intent: Intent) -> Delta:
    created = {name: value for name, value in intent.fields.items() if not _is_empty(value)}
    if intent.data is not None:
        created["data"] = {"ocds": intent.data}
    if intent.target_type == "task":
        created["package_id"] = intent.package_key
    created["external_ref"] = intent.key
    return Delta(created, _path(intent, "pending" if intent.target_type == "task" else "draft") or ())


def _field_changes(
    intent: Intent, current: Mapping[str, Any], parties: Mapping[str, JsonObject]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields that the publisher's news changes; at the first encounter, those that are still empty here."""
    patch: dict[str, Any] = {}
    notices: list[tuple[str, str]] = []
    base = intent.base
    for name, value in intent.fields.items():
        had = current.get(name)
        if name == "kind":
            # A role is only ever added: who sells to us in this process may buy in another.
            if had not in (value, "both"):
                patch[name] = "both" if had else value
        elif base is not None and _same(name, base.get(name), value, parties):
            continue
        elif name == "data":
            if change := merge_patch(as_object(had), value, gaps_only=base is None, base=base and base["data"]):
                patch[name] = change
        elif _same(name, had, value, parties):
            continue
        elif base is None and not _is_empty(had):
            notices.append(("differs", f"{name} is another here and is left as it is"))
        else:
            patch[name] = value
    return patch, notices


def merge_patch(
    old: Mapping[str, Any], new: Mapping[str, Any], *, gaps_only: bool = False, base: Mapping[str, Any] | None = None
) -> JsonObject:
    """The JSON Merge Patch (RFC 7396) that makes the keys of `new` what they are there; other keys of `old` stay.

    With `gaps_only` nothing that is there is changed. A key that `base` has and `new` has not was taken back.
    """
    patch: JsonObject = {}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif not gaps_only and (base is None or base.get(key) != value) and (change := _change(old[key], value)):
            patch[key] = change[0]
    if base is not None:
        patch |= {key: None for key in base if key not in new and key in old}
    return patch


def _change(old: Any, new: Any) -> list[Any]:  # noqa: ANN401 - JSON values
    """In a list, what turns one JSON value into another by RFC 7396; an empty list when they are equal."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if canonical([old]) == canonical([new]) else [new]
    before, after = cast("JsonObject", old), cast("JsonObject", new)
    patch: JsonObject = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif change := _change(before[key], value):
            patch[key] = change[0]
    return [patch] if patch else []


@dataclass(frozen=True)
class _Fold:
    """A process before and after the releases of a file."""

    memory: Memory
    after: Process
    parties: dict[str, str]
    new: list[FoundRelease]
    repeated: int
    errors: list[ItemError]
    imported: tuple[Imported, ...]

    @property
    def before(self) -> Process:
        return self.memory.process


def _grouped(found: Iterable[FoundRelease]) -> dict[str, list[FoundRelease]]:
    groups: dict[str, list[FoundRelease]] = {}
    for one in found:
        ocid = one.release.get("ocid")
        if isinstance(ocid, str) and ocid.strip():
            groups.setdefault(ocid, []).append(one)
    return groups


def _fold(
    ocid: str,
    releases: Sequence[FoundRelease],
    packages: Mapping[str, JsonObject],
    idle: frozenset[str] = frozenset(),
) -> _Fold:
    memory = recall(ocid, packages)
    process = memory.process
    seen = {one.sha256: one for one in memory.imported}
    last = moment(process.date)
    new: list[FoundRelease] = []
    imported: list[Imported] = []
    errors: list[ItemError] = []
    repeated = 0
    usable = [one for one in releases if readable(one)]
    for one in sorted(usable, key=lambda found: moment(found.release["date"]) or _LONG_AGO):
        sha256 = one.fingerprint
        if sha256 in seen or sha256 in idle:
            repeated += 1
            continue
        name, date = str(identifier(one.release.get("id"))), str(one.release["date"])
        stated = moment(date)
        if last is not None and stated is not None and stated < last:
            errors.append(_out_of_order(one, date, process.date))
            continue
        twin = next((known for known in seen.values() if known.id == name and known.date == date), None)
        if twin is not None:
            message = (
                f'release "{visible(name)}" was imported before with other content; a change needs a new id or date'
            )
            errors.append(ItemError(one.place.at("id"), "release_changed", message))
            continue
        tags = tuple(tag for tag in as_list(one.release.get("tag")) if isinstance(tag, str))
        seen[sha256] = Imported(name, date, tags, sha256)
        imported.append(seen[sha256])
        new.append(one)
        last = stated
        process = replace(
            process,
            compiled=merge(process.compiled, one.upgraded, one.version),
            tags=(*process.tags, *tags),
            date=date,
        )
        process = replace(process, closed=close(process, date))
    return _Fold(memory, process, _links(process, memory.parties), new, repeated, errors, tuple(imported))


def _out_of_order(one: FoundRelease, date: str, last: str) -> ItemError:
    message = (
        f"it is dated {date}, before {last} of a release that was imported; import releases in the order of their dates"
    )
    return ItemError(one.place.at("date"), "out_of_order", message)


def _links(process: Process, known: Mapping[str, str]) -> dict[str, str]:
    """The external reference of each organisation of the process; one given once stays."""
    links = dict(known)
    taken = set(links.values())
    for name, party in organisations(process.compiled).items():
        if name not in links:
            links[name] = party_key(process.ocid, party, taken)
            taken.add(links[name])
    return links


def _intents(fold: _Fold, problems: list[ItemError]) -> list[Intent]:
    places = _places(fold)
    default = fold.new[-1].place
    before, after = fold.before, fold.after
    intents: list[Intent] = []
    known_parties = organisations(before.compiled)
    for name, party in organisations(after.compiled).items():
        key = fold.parties[name]
        # One that the process knew, lost sight of and names again is not met for the first time.
        known = known_parties.get(name) or ({"id": name} if name in fold.memory.parties else None)
        base = party_view(key, known).fields if known else None
        intents.append(Intent("party", key, party_view(key, party).fields, base, places.get(key, default)))
    tasks, tasks_before = task_views(after), {view.key: view for view in task_views(before)}
    stages, stages_before = package_views(after), {view.key: view for view in package_views(before)}
    moved = {view.key for view in stages if _meaning(view) != _meaning(stages_before.get(view.key))}
    data = remember(fold.memory, after, fold.imported, fold.parties, _about(fold), moved)
    for view in stages:
        place = places.get(view.key, default)
        open_tasks = [task for task in tasks if task.package == view.key and task.status not in _CLOSED_TASK]
        status, missing = held_at(view.status, view.fields, open_tasks=bool(open_tasks))
        if missing:
            problems.append(ItemError(place, "held_back", f"it stays {status}: {missing}", blocking=False))
        problems += _period_faults(view, place)
        earlier = stages_before.get(view.key) if view.key in fold.memory.parts else None
        intents.append(
            Intent(
                "package",
                view.key,
                _with_party(view.fields, fold.parties),
                _with_party(earlier.fields, fold.parties) if earlier else None,
                place,
                status,
                _held_before(earlier, list(tasks_before.values())),
                data=data.get(view.key),
            )
        )
    for view in tasks:
        earlier = tasks_before.get(view.key)
        if view.status == "cancelled" and earlier is None:
            continue
        place = places.get(view.key, default)
        base = earlier.fields if earlier else None
        base_status = earlier.status if earlier else ""
        intents.append(
            Intent("task", view.key, view.fields, base, place, view.status, base_status, package_key=view.package)
        )
    return intents


def _meaning(view: View | None) -> Any:  # noqa: ANN401 - only compared
    return view and (view.fields, view.status)


def _held_before(earlier: View | None, tasks: list[View]) -> str:
    if earlier is None:
        return ""
    open_tasks = any(task.package == earlier.key and task.status not in _CLOSED_TASK for task in tasks)
    return held_at(earlier.status, earlier.fields, open_tasks=open_tasks)[0]


def _with_party(fields: dict[str, Any], parties: Mapping[str, str]) -> dict[str, Any]:
    vendor = fields["vendor_id"]
    return {**fields, "vendor_id": PartyKey(parties[vendor]) if vendor in parties else None}


def _period_faults(view: View, place: Place) -> list[ItemError]:
    """Periods that only come to be reversed when releases are put together."""
    start, end = view.fields["planned_start"], view.fields["planned_end"]
    if not start or not end or start <= end:
        return []
    return [ItemError(place, "period_reversed", f"put together, the work would end ({end}) before it starts ({start})")]


def _about(fold: _Fold) -> JsonObject:
    """What the file's package says about itself, as far as it is not about that one file."""
    newest = fold.new[-1].package
    return {key: value for key, value in newest.items() if key not in _PACKAGE_FACTS} or fold.memory.package


def _places(fold: _Fold) -> dict[str, Place]:
    """Where the file speaks of each entity, by its external reference; the last place counts."""
    places: dict[str, Place] = {}
    for one in fold.new:
        release = one.upgraded
        alone = Process(fold.after.ocid, release, own=fold.after.own)
        for view in task_views(alone):
            places[view.key] = Place(
                one.place.file, one.place.line, one.place.pointer + view.sources["title"].removesuffix("/title")
            )
        for number, award in enumerate(as_objects(release.get("awards"))):
            if scope := fold.after.separate.get(identifier(award.get("id")) or ""):
                places[scope.key] = one.place.at("awards", number)
        for _, where, mention in references(release):
            if (name := identifier(mention.get("id"))) in fold.parties:
                places[fold.parties[name]] = one.place.at(*where)
        for number, party in enumerate(as_objects(one.release.get("parties"))):
            if (name := identifier(party.get("id"))) in fold.parties:
                places[fold.parties[name]] = one.place.at("parties", number)
        places[package_key(fold.after.ocid)] = one.place
    return places


def _shared_parties(intents: list[Intent], known: Known, problems: list[ItemError]) -> list[Intent]:
    """One intent for each party, and no address given to two."""
    parties: dict[str, Intent] = {}
    for intent in intents:
        if intent.target_type != "party":
            continue
        earlier = parties.get(intent.key)
        if earlier is not None:
            kinds = {earlier.fields["kind"], intent.fields["kind"]}
            kind = intent.fields["kind"] if len(kinds) == 1 else "both"
            # A process that knew the party before may speak anew of it; one that meets it now does not overrule that.
            spoken = intent if intent.base is not None or earlier.base is None else earlier
            parties[intent.key] = replace(spoken, fields={**spoken.fields, "kind": kind})
        else:
            parties[intent.key] = intent
    addresses = Counter(address.lower() for intent in parties.values() if (address := intent.fields["email"]))
    for key, intent in parties.items():
        address = intent.fields["email"]
        if not address:
            continue
        holder = known.emails.get(address.lower())
        if holder == key or (holder is None and addresses[address.lower()] == 1):
            continue
        problems.append(
            ItemError(
                intent.place.at("contactPoint", "email"),
                "email_shared",
                "another party has this address; it is kept with the contact only",
                blocking=False,
            )
        )
        base = None if intent.base is None else {**intent.base, "email": None}
        parties[key] = replace(intent, fields={**intent.fields, "email": None}, base=base)
    return [*parties.values(), *(intent for intent in intents if intent.target_type != "party")]


def _judged(intent: Intent, known: Known) -> tuple[Delta, list[ItemError]]:
    """The difference, as far as it can be proposed, and what stands against it."""
    records = {"party": known.parties, "package": known.packages, "task": known.tasks}[intent.target_type]
    current = records.get(intent.key)
    # A task that was known before and is gone was removed by a person here.
    if current is None and intent.target_type == "task" and intent.base is not None:
        return Delta({}), []
    delta = diff(intent, current, known.parties)
    notices = [ItemError(intent.place, code, message, blocking=False) for code, message in delta.notices]
    if not delta or current is None:
        return delta, notices
    label = str(current.get("code") or current.get("title") or current.get("name") or intent.target_type)
    if current.get("deleted_at"):
        if intent.target_type == "task":
            return Delta({}), notices
        message = f"{visible(label)} was deleted here; restore it before importing more about it"
        return Delta({}), [*notices, ItemError(intent.place, "record_deleted", message)]
    if current.get("status") in FROZEN and intent.target_type != "party":
        if intent.target_type == "task":
            # The milestone as published is in the package's data; a task that has ended is left alone.
            return Delta({}), notices
        message = f"{visible(label)} is {current['status']} and frozen; reopen it before importing more about it"
        return Delta({}), [*notices, ItemError(intent.place, "record_frozen", message)]
    return delta, notices


def _path(intent: Intent, current: str) -> tuple[str, ...] | None:
    if not intent.status:
        return ()
    return (task_path if intent.target_type == "task" else package_path)(current, intent.status)


def _steps(intent: Intent, delta: Delta) -> list[Step]:
    """The changes of one record: created or patched first, then led through its transitions."""
    patch = dict(delta.patch)
    creating = "external_ref" in patch
    award: dict[str, Any] = {}
    if "awarded" in delta.path:
        # The vendor belongs to the award. So does its amount, once an earlier step no longer depends on it.
        names = ("vendor_id",) if "approved" in delta.path else ("vendor_id", "amount", "currency")
        award = {name: patch.pop(name) for name in names if name in patch}
    steps: list[Step] = []
    if patch:
        steps.append(Step("create" if creating else "patch", intent.target_type, intent.key, patch, intent.place))
    for status in delta.path:
        fields = {"status": status, **(award if status == "awarded" else {})}
        steps.append(Step("transition", intent.target_type, intent.key, fields, intent.place))
    return steps


def _complete_money(patch: dict[str, Any], current: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """An amount travels with its currency where the record has none."""
    for one, other in (("amount", "currency"), ("currency", "amount")):
        if one in patch and other not in patch and (patch[one] is None) != (current.get(other) is None):
            patch[other] = fields.get(other)


def _same(name: str, one: Any, other: Any, parties: Mapping[str, JsonObject]) -> bool:  # noqa: ANN401 - JSON values
    if _is_empty(one) or _is_empty(other):
        return _is_empty(one) and _is_empty(other)
    if name == "amount":
        return Decimal(one) == Decimal(other)
    if name == "vendor_id":
        return _party_id(one, parties) == _party_id(other, parties)
    return bool(one == other)


def _party_id(value: Any, parties: Mapping[str, JsonObject]) -> str:  # noqa: ANN401 - a key or an id
    if isinstance(value, PartyKey):
        return str(parties.get(value, {}).get("id", value))
    return str(value)


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - JSON values
    return value is None or value in ("", [], {})
