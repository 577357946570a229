"""OCDS files taken apart into releases: JSON or JSON Lines, versions 1.0 and 1.1, releases and release packages.

A JSON Lines file is read line by line and never held as a whole. Whatever cannot be read ends the reading with an error
that names the file and the place in it, and says nothing else about the content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Final, cast

from pmis.kit.canonical import canonical, sha256_hex
from pmis.ocds.errors import FileTooLargeError, NotOcdsError, UnreadableFileError
from pmis.ocds.strict_json import MAX_DEPTH, JsonFault, parse, position
from pmis.ocds.upgrade import upgrade
from pmis.ocds.values import pack, point, text, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pmis.ocds.values import Json, JsonObject

_BOM: Final = b"\xef\xbb\xbf"
_FOREIGN: Final = {
    b"PK\x03\x04": "a ZIP file or a spreadsheet",
    b"\x1f\x8b": "compressed with gzip",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_VERSION: Final = re.compile(r"1\.[01](?:\.\d+)?")
_KINDS: Final = ((dict, "an object"), (list, "a list"), (str, "a text"), (bool, "true or false"), (type(None), "null"))


@dataclass(frozen=True)
class Limits:
    """How much is read: of a JSON file or of one line of a JSON Lines file, of any file, and how deep it nests."""

    document_bytes: int = 10_000_000
    file_bytes: int = 100_000_000
    releases: int = 10_000
    depth: int = MAX_DEPTH


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Place:
    """A place in a file: the line of a JSON Lines file (else None) and the JSON Pointer in it."""

    file: str
    line: int | None
    pointer: str

    def at(self, *parts: str | int) -> Place:
        """The place of something inside."""
        return Place(self.file, self.line, point(self.pointer, *parts))

    def __str__(self) -> str:
        where = f"{self.file} line {self.line}" if self.line else self.file
        return f"{where} {visible(self.pointer, 200)}" if self.pointer else where


@dataclass(frozen=True)
class FoundRelease:
    """A release as the file has it, with what its package says about all of its releases."""

    release: JsonObject
    version: str
    place: Place
    package: JsonObject = field(default_factory=dict[str, "Json"])

    @cached_property
    def upgraded(self) -> JsonObject:
        """The release in the shape of 1.1."""
        return upgrade(self.release)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the release's canonical form: the same release again has the same one, however it is laid out."""
        return sha256_hex(canonical(pack(self.release)))


def read(source: BinaryIO | bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[FoundRelease]:
    """The releases of a file, in its order.

    `name` is what errors call the file. Raises UnreadableFileError, NotOcdsError or FileTooLargeError; the caller must
    not keep what came before the error.
    """
    count = 0
    for document, line in _documents(BytesIO(source) if isinstance(source, bytes) else source, name, limits):
        for found in _releases(document, name, line):
            count += 1
            if count > limits.releases:
                raise FileTooLargeError(
                    f"{name}: more than {limits.releases} releases in one file; split it.", file=name
                )
            yield found
    if not count:
        raise NotOcdsError(f"{name}: the package holds no releases.", file=name)


def _documents(source: BinaryIO, name: str, limits: Limits) -> Iterator[tuple[Json, int | None]]:
    """The JSON values of the file: one, or one for each line, each with the line it stands on."""
    lines = _Lines(source, name, limits)
    first = lines.next()
    if first is None:
        raise UnreadableFileError(f"{name}: the file is empty.", file=name)
    start = lines.number
    document = _decode(first, name, start)
    try:
        value = parse(document, max_depth=limits.depth)
    except JsonFault as fault:
        if not fault.syntax:
            raise _unreadable(name, document, fault.offset, fault.message, start) from None
        # The first line alone is no JSON: then the file is one document that goes over several lines, or it is damaged.
        rest = source.read(limits.document_bytes - len(first) + 1)
        if len(first) + len(rest) > limits.document_bytes:
            raise lines.too_large(limits.document_bytes) from None
        yield _parse(first + rest, name, start, limits), None
        return
    following = lines.next()
    if following is None:
        yield value, None
        return
    yield value, start
    while following is not None:
        yield _parse(following, name, lines.number, limits), lines.number
        following = lines.next()


class _Lines:
    """The lines of a file that are not blank, without its byte order mark, within the limits."""

    def __init__(self, source: BinaryIO, name: str, limits: Limits) -> None:
        self._source = source
        self._name = name
        self._limits = limits
        self._read = 0
        self.number = 0

    def next(self) -> bytes | None:
        while True:
            line = self._source.readline(self._limits.document_bytes + 1)
            self._read += len(line)
            self.number += 1
            if len(line) > self._limits.document_bytes:
                raise self.too_large(self._limits.document_bytes)
            if self._read > self._limits.file_bytes:
                raise self.too_large(self._limits.file_bytes)
            if self.number == 1:
                self._refuse_foreign(line)
                line = line.removeprefix(_BOM)
                if not line:
                    return None
            if not line:
                return None
            if line.strip():
                return line

    def too_large(self, limit: int) -> FileTooLargeError:
        """The refusal of a file over `limit` bytes."""
        return FileTooLargeError(
            f"{self._name}: over the limit of {limit:,} bytes. Split it, or send JSON Lines: a release on each line.",
            file=self._name,
        )

    def _refuse_foreign(self, start: bytes) -> None:
        for mark, what in _FOREIGN.items():
            if start.startswith(mark):
                raise UnreadableFileError(f"{self._name}: this is {what}, not JSON in UTF-8.", file=self._name)


def _decode(content: bytes, name: str, first_line: int) -> str:
    try:
        document = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + first_line
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise UnreadableFileError(
            f"{name}: not UTF-8 at line {line}, byte {column}. Save the file as UTF-8.", file=name, line=line
        ) from None
    if (nul := document.find("\x00")) >= 0:
        raise _unreadable(name, document, nul, "there is a NUL byte", first_line)
    return document


def _parse(content: bytes, name: str, first_line: int, limits: Limits) -> Json:
    document = _decode(content, name, first_line)
    try:
        return parse(document, max_depth=limits.depth)
    except JsonFault as fault:
        raise _unreadable(name, document, fault.offset, fault.message, first_line) from None


def _unreadable(name: str, document: str, offset: int, message: str, first_line: int) -> UnreadableFileError:
    line, column = position(document, offset)
    line += first_line - 1
    return UnreadableFileError(f"{name}: line {line}, column {column}: {message}.", file=name, line=line, column=column)


def _releases(document: Json, name: str, line: int | None) -> Iterator[FoundRelease]:
    top = Place(name, line, "")
    if not isinstance(document, dict):
        raise NotOcdsError(
            f"{top}: {_kind(document)}, where an OCDS release or release package (an object) is needed.", file=name
        )
    content = cast("JsonObject", document)
    _refuse_relatives(content, top)
    if "releases" not in content:
        if "ocid" not in content:
            raise NotOcdsError(
                f"{top}: neither `releases` nor an `ocid`: not an OCDS release or release package.", file=name
            )
        # A release on its own has no place for its version; `parties` came with 1.1.
        yield FoundRelease(content, _version(content, top, "1.1" if "parties" in content else "1.0"), top)
        return
    releases = content["releases"]
    if not isinstance(releases, list):
        raise NotOcdsError(f"{top.at('releases')}: {_kind(releases)}, where a list of releases is needed.", file=name)
    version = _version(content, top, "1.0")
    package = {key: value for key, value in content.items() if key != "releases"}
    for number, release in enumerate(cast("list[Json]", releases)):
        place = top.at("releases", number)
        if not isinstance(release, dict):
            raise NotOcdsError(f"{place}: {_kind(release)}, where a release (an object) is needed.", file=name)
        yield FoundRelease(cast("JsonObject", release), version, place, package)


def _refuse_relatives(content: JsonObject, top: Place) -> None:
    """Name the formats that come from the same family and are often taken for releases."""
    said = None
    if "records" in content:
        said = "an OCDS record package. Import the release packages that its records were made of"
    elif "compiledRelease" in content or ("ocid" in content and "releases" in content):
        said = "an OCDS record. Import the releases that it was made of"
    elif isinstance(content.get("projects"), list) or str(content.get("id", "")).startswith("oc4ids-"):
        said = (
            "a project file of OC4IDS, the data standard for infrastructure projects, not an OCDS release or release "
            "package. Import the OCDS releases of the contracting processes that it links to"
        )
    elif "releaseTag" in content or "$schema" in content:
        said = "not data but a schema or a table of codes"
    if said:
        raise NotOcdsError(f"{top}: this is {said}.", file=top.file)


def _version(content: JsonObject, top: Place, default: str) -> str:
    value = content.get("version")
    if value is None:
        return default
    said = text(value)
    if said is None:
        raise NotOcdsError(f'{top.at("version")}: {_kind(value)}, where a text such as "1.1" is needed.', file=top.file)
    if not _VERSION.fullmatch(said):
        raise NotOcdsError(
            f'{top.at("version")}: version "{visible(said)}" of OCDS is not understood; 1.0 and 1.1 are.', file=top.file
        )
    return said[:3]


def _kind(value: Json) -> str:
    return next((said for kind, said in _KINDS if isinstance(value, kind)), "a number")
