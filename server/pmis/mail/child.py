"""Reads one mail in a process of its own, which can open no file, start no process and use only so much of anything.

Takes the raw mail on standard input. Gives, on standard output: eight bytes of length, a JSON object of that length,
and the attachments one after the other; their sizes are in the object. `headers` as an argument reads the headers
alone. What kills it (the limits, a fault in a parser) is for the parent to tell. Imports little, as it is started for
each mail.
"""

from __future__ import annotations

import codecs
import email.policy
import hashlib
import html
import json
import re
import resource
import sys
from datetime import UTC
from email.parser import BytesFeedParser, BytesHeaderParser
from typing import TYPE_CHECKING, Any, Final, cast

import nh3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

MAX_HEADER_BYTES: Final = 256 * 1024
"""All headers of a mail together."""
MAX_HEADER: Final = 4000
"""Characters of one header; the rest of a longer one is left out."""
MAX_PARTS: Final = 1000
MAX_DEPTH: Final = 20
MAX_LINES: Final = 1_000_000
MAX_TAGS: Final = 10_000
"""Of HTML. What builds its tree takes time by the square of how deep it is."""
MAX_ATTACHMENTS: Final = 200
MAX_ADDRESSES: Final = 100
MAX_TEXT: Final = 512 * 1024
"""Bytes of text, and of HTML, that are read; the rest stays in the raw mail."""
CPU_SECONDS: Final = 10
MEMORY_BYTES: Final = 768 * 1024 * 1024

# Loaded before no file can be opened any more. Others are read as Latin-1, and that is said.
_CHARSETS: Final = (
    *("ascii", "utf-8", "utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "mac-roman"),
    *(f"iso-8859-{number}" for number in range(2, 17) if number != 12),  # noqa: PLR2004 - there is no such part
    *("cp437", "cp850", "cp852", "cp866", "cp874", "koi8-r", "koi8-u", "tis-620"),
    *(f"cp{number}" for number in range(1250, 1259)),
    *("gb2312", "gbk", "gb18030", "big5", "shift_jis", "cp932", "euc-jp", "iso-2022-jp", "euc-kr", "cp949"),
)
_TRANSFERS: Final = ("quopri-codec", "base64-codec")

# The categories Cc, Cf and Cs of Unicode without line breaks and tabs, and what is drawn as nothing: what somebody
# could hide an instruction in, or turn the order of a sentence round with.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>")
_BLOCKS: Final = re.compile(r"<(?:br|hr|/p|/div|/tr|/li|/h[1-6]|/table|/blockquote)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]{0,2000}>")
_BLANKS: Final = re.compile(r"[ \t\u00a0]{2,}")
_LINES: Final = re.compile(r"(?:[ \t]*\n){3,}")

# fmt: off
_TAGS: Final = frozenset({
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "div", "dl", "dt", "em", "h1", "h2", "h3",
    "h4", "h5", "h6", "hr", "i", "img", "ins", "li", "ol", "p", "pre", "q", "s", "small", "span", "strong", "sub",
    "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul",
})
# fmt: on
_ATTRIBUTES: Final = {
    "a": {"href", "title"},
    "img": {"src", "alt"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}


class LimitError(Exception):
    """The mail is larger in some respect than what is read."""


class _Parser(BytesFeedParser):
    """Stops at too many parts or too deep a nesting, before either costs anything."""

    _parts = 0

    def _new_message(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            message = f"it has more than {MAX_PARTS} parts"
            raise LimitError(message)
        stack = cast("list[Any]", self._msgstack)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if len(stack) >= MAX_DEPTH:
            message = f"its parts are nested more than {MAX_DEPTH} deep"
            raise LimitError(message)
        super()._new_message()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def confine() -> None:
    """Give up, for good, what reading a mail does not need."""
    for name in (*_CHARSETS, *_TRANSFERS):
        codecs.lookup(name)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
    ):
        resource.setrlimit(what, (limit, limit))


def visible(text: str) -> str:
    """The text with every character that is not seen written out as `[U+202E]`."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def line(text: str, longest: int = MAX_HEADER) -> str:
    """The text on one line, cut to a length, with what is not seen written out."""
    return visible(" ".join(text[:longest].split("\n")).replace("\r", " ").replace("\t", " ")).strip()[:longest]


def read(raw: bytes, *, headers_only: bool = False) -> tuple[dict[str, Any], list[bytes]]:
    """What the mail says, and its attachments."""
    faults: list[str] = []
    end = _end_of_headers(raw)
    if end > MAX_HEADER_BYTES:
        faults.append(f"its headers are longer than {MAX_HEADER_BYTES} bytes")
        headers_only = True
    message: EmailMessage | None = None
    if not headers_only:
        try:
            message = _parsed(raw)
        except LimitError as error:
            faults.append(str(error))
    complete = message is not None
    if message is None:
        cut = raw[: min(end, MAX_HEADER_BYTES)]
        message = BytesHeaderParser(policy=email.policy.default).parsebytes(cut)
    found: dict[str, Any] = {"headers": _headers(message, faults), "text": "", "html": None, "attachments": []}
    blobs: list[bytes] = []
    if complete:
        try:
            _bodies(message, found, blobs, faults)
        except LimitError as error:
            faults.append(str(error))
            complete = False
            found |= {"text": "", "html": None, "attachments": []}
            blobs = []
    found |= {"complete": complete, "faults": [line(fault, 300) for fault in dict.fromkeys(faults)][:20]}
    return found, blobs


def _parsed(raw: bytes) -> EmailMessage:
    if raw.count(b"\n") + raw.count(b"\r") > 2 * MAX_LINES:
        message = f"it has more than {MAX_LINES} lines"
        raise LimitError(message)
    parser = _Parser(policy=email.policy.default)
    parser.feed(raw)
    return cast("EmailMessage", parser.close())


def _end_of_headers(raw: bytes) -> int:
    ends = [at for mark in (b"\r\n\r\n", b"\n\n", b"\r\r") if (at := raw.find(mark)) >= 0]
    return min(ends, default=len(raw))


def _values(message: EmailMessage, name: str, faults: list[str]) -> Iterator[Any]:
    """The values of a header, the longer ones cut; parsers of headers fail in many ways, and none of them counts."""
    for given, raw in list(message.raw_items()):
        if given.lower() != name:
            continue
        text = str(raw)
        if len(text) > MAX_HEADER:
            faults.append(f"its header {given} is longer than {MAX_HEADER} characters")
            text = text[:MAX_HEADER]
        try:
            # `str()` and the addresses are made here, where what they raise is caught.
            value = email.policy.default.header_factory(given, text.replace("\r", "").replace("\n", ""))
            _ = (str(value), getattr(value, "addresses", None))
        except Exception:  # noqa: BLE001 - whatever the parser stumbled over, the text is still there
            faults.append(f"its header {given} is not well formed")
            yield text
        else:
            yield value


def _headers(message: EmailMessage, faults: list[str]) -> dict[str, Any]:
    def first(name: str) -> str:
        return next((line(str(value)) for value in _values(message, name, faults)), "")

    def ids(name: str) -> list[str]:
        found = [one for value in _values(message, name, faults) for one in _ID.findall(str(value))]
        return found[-50:]

    senders = list(_values(message, "from", faults))
    date = next(_values(message, "date", faults), None)
    moment = getattr(date, "datetime", None)
    try:
        sent = moment.astimezone(UTC).isoformat() if moment is not None and moment.tzinfo is not None else None
    except (OverflowError, ValueError):
        sent = None
    return {
        "subject": first("subject"),
        "from": _addresses(senders),
        "from_is_one": _is_one(message, senders),
        "to": _addresses(_values(message, "to", faults)),
        "cc": _addresses(_values(message, "cc", faults)),
        "delivered_to": _addresses(_values(message, "delivered-to", faults))
        + _addresses(_values(message, "x-original-to", faults)),
        "date": sent,
        "message_id": next(iter(ids("message-id")), None),
        "in_reply_to": ids("in-reply-to"),
        "references": ids("references"),
        "authentication_results": [line(str(value)) for value in _values(message, "authentication-results", faults)][
            :20
        ],
        "auto_submitted": first("auto-submitted")[:100],
    }


def _is_one(message: EmailMessage, senders: list[Any]) -> bool:
    """Whether the mail names one sender, in a way that nobody reads differently."""
    raw = [str(value) for name, value in message.raw_items() if name.lower() == "from"]
    if len(raw) != 1 or len(raw[0]) > MAX_HEADER or len(senders) != 1:
        return False
    return len(_addresses(senders)) == 1 and not getattr(senders[0], "defects", True)


def _addresses(values: Any) -> list[dict[str, str]]:  # noqa: ANN401 - headers of the policy's own types, or texts
    found: list[dict[str, str]] = []
    for value in values:
        for one in getattr(value, "addresses", ()):
            local, domain = str(one.username), str(one.domain)
            address = f"{local}@{domain}" if domain else local
            found.append({"name": line(str(one.display_name), 300), "address": line(address, 320)})
    return found[:MAX_ADDRESSES]


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in cast("list[EmailMessage]", part.get_payload()):
            yield from _leaves(inner)
    else:
        yield part


def _bodies(message: EmailMessage, found: dict[str, Any], blobs: list[bytes], faults: list[str]) -> None:
    texts: list[str] = []
    pages: list[str] = []
    for part in _leaves(message):
        kind, name, disposition = _describe(part, faults)
        content = _content(part, faults)
        if disposition != "attachment" and not name and kind in ("text/plain", "text/html"):
            if len(content) > MAX_TEXT:
                faults.append("its text is longer than what is shown; the raw mail has all of it")
            text = _decoded(part, content[:MAX_TEXT], faults)
            (texts if kind == "text/plain" else pages).append(text)
            continue
        if part is message and not content:
            continue
        if len(blobs) >= MAX_ATTACHMENTS:
            limit = f"it has more than {MAX_ATTACHMENTS} attachments"
            raise LimitError(limit)
        blobs.append(content)
        cid = next((one for one in _ID.findall(str(part.get("content-id", "")))), None)
        found["attachments"].append(
            {
                "name": name or f"attachment-{len(blobs)}",
                "media_type": kind,
                "size": len(content),
                "digest": hashlib.sha256(content).hexdigest(),
                "inline": disposition == "inline",
                "content_id": cid[1:-1] if cid else None,
            }
        )
    page = "\n".join(pages)[:MAX_TEXT]
    text = "\n".join(texts)[:MAX_TEXT]
    if page:
        if page.count("<") > MAX_TAGS:
            faults.append("its HTML has too many elements to be shown")
            text = text if text.strip() else html.unescape(_TAG.sub(" ", page))
        else:
            found["html"] = sanitised(page)
            text = text if text.strip() else plain(page)
    found["text"] = visible(text.replace("\r\n", "\n").replace("\r", "\n"))[:MAX_TEXT]


def _describe(part: EmailMessage, faults: list[str]) -> tuple[str, str, str | None]:
    try:
        kind = part.get_content_type()
        disposition = part.get_content_disposition()
        name = line(str(part.get_filename() or ""), 200)
    except Exception:  # noqa: BLE001 - see _values
        faults.append("a part of it does not say what it is")
        return "application/octet-stream", "", "attachment"
    if not re.fullmatch(r"[a-z0-9.+_-]{1,60}/[a-z0-9.+_-]{1,100}", kind):
        kind = "application/octet-stream"
    # A name is shown and offered for saving: it is no path, and it does not hide what it ends in.
    return kind, re.sub(r'[/\\:*?"<>|]', "_", name).lstrip("."), disposition


def _content(part: EmailMessage, faults: list[str]) -> bytes:
    try:
        if part.is_multipart():  # a mail inside the mail: kept as it is, and not read
            return b"".join(inner.as_bytes() for inner in cast("list[EmailMessage]", part.get_payload()))
        content = part.get_payload(decode=True)
    except Exception:  # noqa: BLE001 - see _values
        faults.append("the encoding of a part is broken")
        return b""
    return content if isinstance(content, bytes) else b""


def _decoded(part: EmailMessage, content: bytes, faults: list[str]) -> str:
    for known in (_charset(part), "utf-8"):
        try:
            if known is not None:
                return content.decode(known)
        except ValueError:
            pass
        faults.append("its text is not in the charset that it names, or in none that is known")
    return content.decode("latin-1")


def _charset(part: EmailMessage) -> str | None:
    """The charset that the part names, if it is one of those that are read."""
    try:
        name = codecs.lookup(part.get_content_charset() or "utf-8").name
    except (LookupError, OSError, ValueError):
        return None
    return name if name in _KNOWN else None


_KNOWN: Final = frozenset(codecs.lookup(name).name for name in _CHARSETS)


def _attribute(tag: str, name: str, value: str) -> str | None:
    if tag == "img" and name == "src" and not value.strip().lower().startswith("cid:"):
        return None
    return value


def sanitised(page: str) -> str:
    """The HTML without anything that runs, loads from elsewhere or hides."""
    cleaned = nh3.clean(
        page,
        tags=set(_TAGS),
        clean_content_tags={"script", "style", "title", "template", "noscript", "svg", "math"},
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "cid"},
        link_rel="noopener noreferrer nofollow",
    )
    return visible(cleaned)[:MAX_TEXT]


def plain(page: str) -> str:
    """The words of the HTML."""
    bare = nh3.clean(
        _BLOCKS.sub("\n", page), tags=set(), clean_content_tags={"script", "style", "title", "template", "noscript"}
    )
    return _LINES.sub("\n\n", _BLANKS.sub(" ", html.unescape(bare))).strip()


def main() -> None:
    """Read standard input, write standard output."""
    confine()
    found, blobs = read(sys.stdin.buffer.read(), headers_only=sys.argv[1:] == ["headers"])
    text = json.dumps(found, ensure_ascii=True).encode()
    out = sys.stdout.buffer
    out.write(len(text).to_bytes(8, "big") + text)
    for blob in blobs:
        out.write(blob)
    out.flush()


if __name__ == "__main__":
    main()
