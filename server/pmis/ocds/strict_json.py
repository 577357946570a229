"""JSON read strictly and exactly: no key twice, no NaN, no bottomless nesting, and numbers kept digit for digit.

Python's own parser does the reading. It does not say where a fault beyond syntax lies, so that a file found faulty is
scanned once more, slowly, for the place.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from pmis.ocds.values import visible

if TYPE_CHECKING:
    from pmis.ocds.values import Json

MAX_DEPTH: Final = 64
"""OCDS itself nests 9 deep; extensions add a few."""
_MAX_NUMBER_LENGTH: Final = 400
_MAX_EXPONENT: Final = 400

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][^\s,\]}]*|-?Infinity|NaN|[{}\[\],]', re.DOTALL)


class JsonFault(ValueError):  # noqa: N818 - it is told to the user as a fault in a file
    """What is wrong with a JSON text, and at which character."""

    def __init__(self, message: str, offset: int, *, syntax: bool = False) -> None:
        """`message` continues a sentence that named the place; `syntax` says that the text is no JSON at all."""
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.syntax = syntax


class _BeyondSyntaxError(Exception):
    """Something that the parser's hooks refuse; the scan finds out what and where."""


def parse(document: str, *, max_depth: int = MAX_DEPTH) -> Json:
    """The value a JSON text holds, with integers as `int` and every other number as `Decimal`; raises JsonFault."""
    try:
        value = _decoder.decode(document)
    except json.JSONDecodeError as error:
        if error.pos >= len(document.rstrip()):
            raise JsonFault("the JSON ends too early; the file may be truncated", len(document), syntax=True) from None
        raise JsonFault(f"this is not JSON ({error.msg[:1].lower()}{error.msg[1:]})", error.pos, syntax=True) from None
    except (_BeyondSyntaxError, RecursionError):
        _locate(document, max_depth)
    if _is_deeper(value, max_depth):
        _locate(document, max_depth)
    return value


def position(document: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both counted from 1."""
    before = document[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _BeyondSyntaxError
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_LENGTH:
        raise _BeyondSyntaxError
    return int(digits)


def _number(digits: str) -> Decimal:
    if _is_absurd(digits):
        raise _BeyondSyntaxError
    return Decimal(digits)


def _is_absurd(digits: str) -> bool:
    """Whether no program can be expected to hold the number: a length or an exponent meant to exhaust the reader."""
    if len(digits) > _MAX_NUMBER_LENGTH:
        return True
    exponent = digits.lower().partition("e")[2]
    return bool(exponent) and (len(exponent) > len("+0400") or abs(int(exponent)) > _MAX_EXPONENT)


def _constant(_: str) -> NoReturn:
    raise _BeyondSyntaxError


_decoder = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_number, parse_constant=_constant, strict=True
)


def _is_deeper(value: Json, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        inside: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                inside.extend(cast("dict[str, Json]", item).values())
            elif isinstance(item, list):
                inside.extend(cast("list[Json]", item))
        level = inside
        if not level:
            return False
    return True


def _locate(document: str, max_depth: int) -> NoReturn:
    """Raise the JsonFault that the parser's hooks met, with its place."""
    # One entry for each open object or list: the keys seen so far, or None for a list.
    open_: list[set[str] | None] = []
    expects_key = False
    for found in _TOKEN.finditer(document):
        symbol = found.group()
        if symbol in "{[":
            open_.append(set() if symbol == "{" else None)
            if len(open_) > max_depth:
                raise JsonFault(f"objects and lists are nested more than {max_depth} deep", found.start())
            expects_key = symbol == "{"
        elif symbol in "}]":
            open_ = open_[:-1]
            expects_key = False
        elif symbol == ",":
            expects_key = bool(open_) and open_[-1] is not None
        elif symbol.endswith(("NaN", "Infinity")):
            raise JsonFault(f"{symbol} is not a number of JSON", found.start())
        elif not symbol.startswith('"'):
            if _is_absurd(symbol):
                raise JsonFault("this number is too long or too large", found.start())
        elif expects_key:
            key = str(json.loads(symbol, strict=False))
            keys = open_[-1] or set()
            if key in keys:
                raise JsonFault(f'the key "{visible(key)}" stands twice in one object', found.start())
            keys.add(key)
            open_[-1] = keys
            expects_key = False
    # Deeper than Python's own parser goes, which is far deeper than the limit: the scan above has found it before.
    raise JsonFault("the JSON cannot be read", 0)  # pragma: no cover
