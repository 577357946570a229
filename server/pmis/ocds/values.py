"""JSON as OCDS files hold it: numbers are exact, and looking something up never trusts its type."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

Json: TypeAlias = Any
"""None, bool, int, Decimal, str, a list of Json or a JsonObject; never a float."""
JsonObject: TypeAlias = dict[str, Any]

_SAFE_INTEGER: Final = 2**53
_NUMBER: Final = "$number"
_OBJECT: Final = "$object"


def as_object(value: Json) -> JsonObject:
    """The value when it is an object, else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def as_objects(value: Json) -> list[JsonObject]:
    """The objects in a list; nothing for what is not a list."""
    return [item for item in as_list(value) if isinstance(item, dict)]


def as_list(value: Json) -> list[Json]:
    """The value when it is a list, else an empty one."""
    return cast("list[Json]", value) if isinstance(value, list) else []


def indexed(value: Json) -> Iterator[tuple[int, JsonObject]]:
    """The objects in a list, each with its place."""
    for place, item in enumerate(as_list(value)):
        if isinstance(item, dict):
            yield place, cast("JsonObject", item)


def child(value: Json, *path: str) -> JsonObject:
    """The object at a path of keys, or an empty one."""
    for key in path:
        value = as_object(value).get(key)
    return as_object(value)


def text(value: Json) -> str | None:
    """The text without space around it; None when there is none."""
    return (value.strip() or None) if isinstance(value, str) else None


def line(value: Json) -> str | None:
    """The text as one line: breaks and runs of space become single spaces; None when there is none."""
    return (" ".join(value.split()) or None) if isinstance(value, str) else None


def identifier(value: Json) -> str | None:
    """An `id` as text (OCDS allows texts and integers); None when there is none."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def is_number(value: Json) -> bool:
    """Whether the value is a JSON number; Python's booleans are not."""
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def point(pointer: str, *parts: str | int) -> str:
    """The JSON Pointer (RFC 6901) of something inside `pointer`."""
    return pointer + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def split_pointer(pointer: str) -> list[str]:
    """The parts of a JSON Pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def copied(value: Json) -> Json:
    """A copy that shares no list and no object with the value; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in cast("JsonObject", value).items()}
    return [copied(item) for item in cast("list[Json]", value)] if isinstance(value, list) else value


def visible(value: str, limit: int = 80) -> str:
    """Foreign text made safe to print: controls and stray surrogates are escaped, and it has an end."""
    if len(value) <= limit and value.isprintable():
        return value
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in value[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def pack(value: Json) -> Json:
    """The value in JSON that every reader keeps exact: other numbers than small integers are marked texts."""
    if isinstance(value, Decimal):
        # A point tells it from an integer, which an id may be and a decimal may not.
        digits = str(value)
        return {_NUMBER: digits if set(digits) & set(".eE") else f"{digits}.0"}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _SAFE_INTEGER:
        return {_NUMBER: str(value)}
    if isinstance(value, list):
        return [pack(item) for item in cast("list[Json]", value)]
    if isinstance(value, dict):
        packed = {key: pack(item) for key, item in cast("JsonObject", value).items()}
        # An extension may use the marks' own names: what looks like a mark is wrapped, so that it comes back as it was.
        return {_OBJECT: packed} if len(packed) == 1 and next(iter(packed)) in (_NUMBER, _OBJECT) else packed
    return value


def unpack(value: Json) -> Json:
    """The value that `pack` was given."""
    if isinstance(value, list):
        return [unpack(item) for item in cast("list[Json]", value)]
    if not isinstance(value, dict):
        return value
    packed = cast("JsonObject", value)
    if len(packed) == 1:
        key, item = next(iter(packed.items()))
        if key == _NUMBER:
            return Decimal(item) if set(item) & set(".eE") else int(item)
        if key == _OBJECT:
            return {name: unpack(inner) for name, inner in as_object(item).items()}
    return {key: unpack(item) for key, item in packed.items()}
