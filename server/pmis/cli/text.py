"""Values as text for people: safe to print, short to read."""

from __future__ import annotations

import json
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NOTHING: Final = "—"
SHORT: Final = 8
"""How many hexadecimal digits of an id lists show: the last ones, as the first tell only the time."""
_TURNS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
"""Characters that change the direction or the lines of what stands around them."""


def printable(text: str, *, lines: bool = False) -> str:
    """The text with everything escaped that could move the cursor, turn the text round or not be written at all."""
    if text.isascii() and text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        character
        if character in kept or not (unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS)
        else f"\\u{ord(character):04x}"
        for character in text
    )


def short(identity: str) -> str:
    """The form of an id by which people name a record."""
    return identity.replace("-", "")[-SHORT:]


def money(amount: Any, currency: Any) -> str:  # noqa: ANN401 - JSON
    """An amount with its currency, its digits in groups of three."""
    if amount is None:
        return NOTHING
    try:
        figure = format(Decimal(str(amount)), ",f")
    except InvalidOperation:
        figure = printable(str(amount))
    return f"{figure} {printable(str(currency))}" if currency else figure


def moment(text: Any, *, seconds: bool = False) -> str:  # noqa: ANN401 - JSON
    """A time of the API (UTC) without what nobody reads."""
    if not isinstance(text, str) or len(text) < len("2026-11-22T08:15:03"):
        return NOTHING if text is None else printable(str(text))
    return printable(text[: 19 if seconds else 16].replace("T", " "))


def value(found: Any) -> str:  # noqa: ANN401 - any JSON value
    """A JSON value: texts as they are, nothing as a dash, everything else as people would write it."""
    if found is None or found in ("", {}, []):
        return NOTHING
    if isinstance(found, str):
        return printable(found, lines=True)
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, list):
        items = cast("list[Any]", found)
        plain = all(not isinstance(item, (dict, list)) for item in items)
        return ", ".join(value(item) for item in items) if plain else "\n".join(value(item) for item in items)
    if isinstance(found, dict):
        pairs = cast("dict[str, Any]", found)
        if all(not isinstance(item, (dict, list)) for item in pairs.values()):
            return ", ".join(f"{printable(name)} {value(item)}" for name, item in pairs.items() if item is not None)
        return printable(json.dumps(pairs, ensure_ascii=False))
    return printable(str(found))


def label(name: str) -> str:
    """A field as people call it."""
    return printable(name.removesuffix("_id").replace("_", " "))


def title_of(record: Mapping[str, Any]) -> str:
    """A record as people call it; empty for one that has no name."""
    code = record.get("code") or record.get("prefix")
    name = record.get("title") or record.get("name") or ""
    return printable(f"{code} {name}" if code and code != NOTHING else str(name))


def changes(before: Any, after: Any, path: str) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - any JSON values
    """Where two values differ, as deep as it can be named: objects by key, lists of named things by name."""
    if before == after and type(before) is type(after):
        return
    left, right = _named(before), _named(after)
    if left is None and right is None:
        yield path, before, after
        return
    if (left is None and before not in (None, [], {})) or (right is None and after not in (None, [], {})):
        yield path, before, after
        return
    left, right = left or {}, right or {}
    for name in [*left, *(name for name in right if name not in left)]:
        yield from changes(left.get(name), right.get(name), f"{path}.{name}" if path else name)


def _named(found: Any) -> dict[str, Any] | None:  # noqa: ANN401 - any JSON value
    """The parts of a value by name; None when its parts have none."""
    if isinstance(found, dict):
        return cast("dict[str, Any]", found) or None
    if not isinstance(found, list) or not found:
        return None
    parts: dict[str, Any] = {}
    for item in cast("list[Any]", found):
        name = (
            cast("dict[str, Any]", item).get("id") or cast("dict[str, Any]", item).get("name")
            if isinstance(item, dict)
            else None
        )
        if not isinstance(name, str) or name in parts:
            return None
        parts[name] = item
    return parts


def words(items: Sequence[str], last: str = "and") -> str:
    """The items as a sentence has them."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
