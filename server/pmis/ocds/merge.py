"""Releases of one contracting process folded into one: the merge routine of OCDS, which makes a compiled release.

The newest statement about a field wins, null takes a field back, objects in lists are the same when their `id` is, and
lists of plain values are replaced as a whole. Beyond what the standard lays down, and only where following it would
lose or multiply data: two objects with one `id` in one list stay two (the first is met by the first, the second by the
second), and an object without `id` is added once, not again with each release that repeats it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from pmis.kit.canonical import canonical
from pmis.ocds.values import as_list, as_object, as_objects, identifier, pack

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pmis.ocds.values import Json, JsonObject

_OMITTED: Final = frozenset({"id", "date", "tag"})
_WHOLE: Final = frozenset({"additionalIdentifiers", "additionalClassifications"})
# In 1.0 organisations had no ids to be told apart by: a list of them replaced the one before.
_WHOLE_IN_1_0: Final = _WHOLE | {"suppliers", "tenderers", "changes"}


def merge(compiled: JsonObject, release: JsonObject, version: str) -> JsonObject:
    """The compiled release after a release in the shape of 1.1 (see `upgrade`) that was published as `version`."""
    whole = _WHOLE_IN_1_0 if version == "1.0" else _WHOLE
    content = {key: value for key, value in release.items() if key not in _OMITTED}
    merged = _merge_objects(compiled, content, whole)
    return _keep_roles(compiled, merged) if version == "1.0" else merged


def _keep_roles(before: JsonObject, after: JsonObject) -> JsonObject:
    """The roles of a 1.0 release are only those seen in it: what an organisation was before, it still is."""
    roles = {identifier(party.get("id")): as_list(party.get("roles")) for party in as_objects(before.get("parties"))}
    parties: list[JsonObject] = []
    for party in as_objects(after.get("parties")):
        now = as_list(party.get("roles"))
        kept = [role for role in roles.get(identifier(party.get("id")), []) if role not in now]
        parties.append(party | {"roles": [*kept, *now]} if kept else party)
    return after | {"parties": parties} if parties else after


def _merge_objects(old: JsonObject, new: JsonObject, whole: frozenset[str]) -> JsonObject:
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif key in whole:
            merged[key] = value
        elif isinstance(value, dict):
            inside = _merge_objects(as_object(old.get(key)), cast("JsonObject", value), whole)
            if inside:
                merged[key] = inside
            else:
                merged.pop(key, None)
        elif isinstance(value, list):
            items = cast("list[Json]", value)
            if all(isinstance(item, dict) for item in items):
                if combined := _merge_lists(old.get(key), items, whole):
                    merged[key] = combined
            else:
                merged[key] = items
        else:
            merged[key] = value
    return merged


def _merge_lists(old: Json, new: list[JsonObject], whole: frozenset[str]) -> list[Json]:
    before = as_list(old)
    if not new:
        return before
    if not all(isinstance(item, dict) for item in before):
        before = []
    merged: dict[Hashable, JsonObject] = dict(_keyed(before))
    for key, item in _keyed(new):
        if combined := _merge_objects(merged.get(key, {}), item, whole):
            merged[key] = combined
    return list(merged.values())


def _keyed(items: list[JsonObject]) -> list[tuple[Hashable, JsonObject]]:
    """The objects, each with what makes it the same one in another release."""
    counts: Counter[Hashable] = Counter()
    keyed: list[tuple[Hashable, JsonObject]] = []
    for item in items:
        own = identifier(item.get("id"))
        # Without an id, being the same means saying the same; the second that says it is a second one.
        sameness: Hashable = ("id", own) if own is not None else ("content", canonical(pack(item)))
        keyed.append(((sameness, counts[sameness]), item))
        counts[sameness] += 1
    return keyed
