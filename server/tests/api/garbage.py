"""Requests that no client should send, byte by byte, and what must become of them.

A request says which answers are right where that is known from outside: a body that is no JSON is refused, a value that
the schema forbids is refused, a number too large for a page is refused. Everything else must be answered with something
that the description names. Whatever it is, `Judge` looks at it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from tests.api.description import validator
from tests.api.fuzzing import Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.types import ASGIApp, Message

    from tests.api.fuzzing import Ground, Judge

MEGABYTE: Final = 1024 * 1024
REFUSED: Final = range(400, 500)
_CHUNK: Final = b" " * 65536
_JSON: Final = (b"content-type", b"application/json")
Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Request:
    """One request as bytes. `right` holds the statuses that are right, nothing when any that is documented is."""

    name: str
    """The operation: method and path of the document."""
    why: str
    method: str
    path: str
    query: str = ""
    headers: tuple[Header, ...] = ()
    body: tuple[bytes, ...] = ()
    right: Sequence[int] = ()
    token: bool = True
    length: bool = True
    """Whether the length of the body is declared."""

    def __str__(self) -> str:
        """The request in messages."""
        return (
            f"{self.why}: {self.method} {self.path[:100]}?{self.query[:100]} {self.headers!r:.200} {self.body!r:.200}"
        )


async def send(app: ASGIApp, request: Request, token: str) -> Told:
    """Hand the request to the application as a server would, though no server would let some of them in."""
    headers = [*request.headers]
    if request.token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    if request.body and request.length and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(sum(map(len, request.body))).encode()))
    if request.body and not request.length:
        headers.append((b"transfer-encoding", b"chunked"))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        # As uvicorn does it.
        "path": unquote(request.path),
        "raw_path": request.path.encode(),
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    chunks = iter(request.body or (b"",))
    following = next(chunks, None)

    async def receive() -> Message:
        nonlocal following
        if following is None:
            return {"type": "http.disconnect"}
        chunk, following = following, next(chunks, None)
        return {"type": "http.request", "body": chunk, "more_body": following is not None}

    status, answered, body = 0, dict[str, str](), bytearray()

    async def answer(message: Message) -> None:
        nonlocal status, answered
        if message["type"] == "http.response.start":
            status = message["status"]
            answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    try:
        await app(scope, receive, answer)
    except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
        return Told(599, answered, f"raised {error!r}".encode())
    return Told(status, answered, bytes(body))


async def throw(judge: Judge, request: Request, token: str) -> Told:
    """Send one request and judge what it answers."""
    told = await send(judge.ground.app, request, token)
    names = {name for name, _ in request.headers}
    judge.look(request.name, str(request), told, key=b"idempotency-key" in names, dry="dry_run=true" in request.query)
    if request.right and told.status not in request.right:
        lowest, highest = min(request.right), max(request.right)
        wanted = (
            "a refusal" if request.right is REFUSED else f"{lowest}" if lowest == highest else f"{lowest}-{highest}"
        )
        judge.wrong(request.name, f"{request.why}: answered {told.status}, not {wanted}", str(request), told)
    return told


NOT_JSON: Final[Mapping[str, bytes]] = {
    "a space": b" ",
    "an open brace": b"{",
    "a cut-off pair": b'{"reason":',
    "a cut-off text": b'{"reason":"x',
    "two documents": b"{}{}",
    "a comma too many": b'{"reason":"x",}',
    "single quotes": b"{'reason':'x'}",
    "a comment": b'{"reason":"x"/* no */}',
    "NaN": b'{"reason":NaN}',
    "minus infinity": b'{"reason":-Infinity}',
    "a leading zero": b'{"reason":01}',
    "a raw NUL byte": b'{"reason":"a\x00b"}',
    "only a NUL byte": b"\x00",
    "invalid UTF-8": b'{"reason":"\xc3\x28"}',
    "an overlong encoding": b'{"reason":"\xc0\xaf"}',
    "an encoded surrogate": b'{"reason":"\xed\xa0\x80"}',
    "UTF-16": '{"reason":"x"}'.encode("utf-16"),
    "UTF-32": '{"reason":"x"}'.encode("utf-32"),
    "Latin-1": '{"reason":"é"}'.encode("latin-1"),
    "a lone surrogate": b'{"reason":"\\ud800"}',
    "a bad escape": b'{"reason":"\\x41"}',
    "a form": b"reason=x&reason=y",
    "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
    "deep lists": b"[" * 100_000,
    "closed deep lists": b'{"reason":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "deep objects": b'{"a":' * 50_000,
    "a list": b"[]",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a text": b'"x"',
    "a name twice": b'{"reason":"x","reason":"y"}',
    "an unknown name": b'{"nonsense":1}',
    "__proto__": b'{"__proto__":{"admin":true}}',
    "a name with NUL": b'{"\\u0000":1}',
    "many names": b"{" + b",".join(b'"k%d":1' % one for one in range(20_000)) + b"}",
    "a number of many digits": b'{"nonsense":' + b"9" * 10_000 + b"}",
    "a number too large": b'{"nonsense":1e99999}',
}
VALUES: Final[tuple[Any, ...]] = (
    True,
    0,
    -1,
    2.5,
    10**40,
    1e308,
    "",
    " ",
    "x",
    "a\x00b",
    "\ud800",
    "\u202ex",
    "a\nb\x1b[2J",
    "'; drop table state.package; --",
    "${jndi:ldap://x}{{7*7}}",
    "x" * 20_000,
    [],
    [None],
    ["x", True],
    {},
    {"\x00": [{"a": "\ud800"}]},
    None,
)
_TYPES: Final = (
    b"text/plain",
    b"application/xml",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=x",
    b"application/jsonx",
    b"application/json-patch+json",
    b"nonsense",
    b"\xff\xfe",
    b"application/octet-stream; charset=utf-16",
)
_TOKENS: Final = (
    None,
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer x",
    b"Bearer a.b.c",
    b"Bearer \xff\xfe",
    b"Bearer " + b"x" * 100_000,
    b"Basic cm9vdDpyb290",
    b"Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIwMTkwMDAwMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDEifQ.",
    b"Bearer null",
    b"Digest username=x",
)
_MATCHES: Final = (b"3", b'W/"3"', b'"x"', b'"3","4"', b'""', b'"-1"', b'"99999999999999"', b"\xff", b"", b'"3', b"**")
_KEYS: Final = (b"", b" ", b"x" * 256, b"a b", b"\xff\xfe", b"\xc3\xa9", b"a\tb", b"\x00")
_ODD: Final[tuple[tuple[Header, ...], ...]] = (
    ((b"x-correlation-id", b"x" * 5000),),
    ((b"x-correlation-id", b"\xff\r\nset-cookie: a=b"),),
    ((b"x-correlation-id", b"one"), (b"x-correlation-id", b"two")),
    ((b"accept", b"\xff/nonsense;q=ten"),),
    ((b"accept-encoding", b"gzip;q=-1, *;q=nan"),),
    ((b"accept-language", b"x" * 5000),),
    ((b"host", b""),),
    ((b"host", b"evil.example:99999999"),),
    ((b"host", b"\xff[::1"),),
    ((b"x-forwarded-for", b"' or 1=1 --"), (b"x-forwarded-host", b"evil.example"), (b"x-forwarded-proto", b"gopher")),
    ((b"x-http-method-override", b"DELETE"), (b"x-method-override", b"PUT")),
    ((b"cookie", b"a=\x00; b=\xff; =; ;;"),),
    ((b"range", b"bytes=-1-99999999999999999999"),),
    ((b"if-none-match", b"\xff"), (b"if-modified-since", b"never"), (b"if-unmodified-since", b"99999")),
    ((b"origin", b"null"), (b"referer", b"\xff")),
    ((b"user-agent", b"pmis-cli/\xff\x00"),),
    (
        (
            b"forwarded",
            b'for="_\xff"',
        ),
        (b"te", b"nonsense"),
        (b"expect", b"100-continue"),
    ),
    tuple((b"x-many-%d" % one, b"x" * 50) for one in range(300)),
)
_REFERENCES: Final = (
    "%00",
    "a%00b",
    "%FF%FE",
    "..",
    "%2e%2e",
    "%2Fetc%2Fpasswd",
    "'--",
    "1%20or%201=1",
    "%F0%9F%92%A9",
    "%ED%A0%80",
    "0",
    "-1",
    "null",
    "%20",
    "*",
    "x" * 5000,
    "%0D%0ASet-Cookie:a=b",
    "${jndi:ldap:x}",
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "%7B00000000-0000-0000-0000-000000000000%7D",
    "urn:uuid:00000000-0000-0000-0000-000000000000",
    "P-99999999999999999999",
    "%D9%A3",
)
_WORDS: Final = (
    "",
    "%00",
    "a%00b",
    "%FF",
    "%ED%A0%80",
    "-1",
    "1e9",
    "999999999999999999999",
    "%D9%A3",
    "null",
    "True",
    "[]",
    "'%20or%201=1--",
    "%25%5F%5C",
    "%F0%9F%92%A9",
    "x" * 3000,
    "a&{}=b",
    "%E2%80%AE",
    "NaN",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-13-45T25:61:00Z",
)
_FORGED: Final[tuple[Any, ...]] = (None, True, -1, 10**30, 1.5, "", "\x00", "\ud800", "x" * 200, [], {}, "not-a-uuid")
_NOT_OFFERED: Final = ("PUT", "TRACE", "HEAD", "OPTIONS", "PROPFIND", "GARBAGE", "get", "\x00")


class Dump:
    """Where the garbage comes from."""

    def __init__(self, ground: Ground, judge: Judge) -> None:
        """Garbage for everything that the application describes."""
        self.ground = ground
        self.judge = judge
        self.document = ground.app.openapi()

    def of(self, name: str, cursor: str | None = None) -> Iterator[Request]:
        """Everything for one operation, and a cursor that it gave out, if it gives out any."""
        operation = self.judge.operations[name]
        yield from self._headers(name, operation)
        yield from self._references(name)
        yield from self._queries(name, operation, cursor)
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            yield from self._bodies(name, operation, content["application/json"])
        if not name.startswith("GET "):
            yield from self._keys(name, operation)

    def nowhere(self) -> Iterator[Request]:
        """Methods that are not offered, and paths that are not there."""
        paths = {name.partition(" ")[2] for name in self.judge.operations}
        for path in sorted(paths):
            for method in _NOT_OFFERED:
                yield Request(f"{method} {path}", "a method", method, self._path(path), right=(405,))
            for more in ("/", "//", "/nothing/here", "%00", ";x=1"):
                name = f"GET {path}{more}"
                if "{" not in path:
                    yield Request(name, "a path", "GET", self._path(path) + more, right=(404, 405))

    def _path(self, path: str, **fixed: str) -> str:
        known = (self.ground.ids(path) or [{}])[0] | fixed
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", value)
        return path

    def request(self, name: str, why: str, **more: Any) -> Request:
        """A request to an operation."""
        method, _, path = name.partition(" ")
        if "imports" in path and "query" not in more:
            more["query"] = f"dry_run=true&project={self.ground.prefix}"
        return Request(name, why, method, more.pop("path", None) or self._path(path), **more)

    def _good(self, operation: dict[str, Any]) -> dict[str, Any]:
        """A body and its header, so that what is wrong is only what is meant to be."""
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return {}
        return {"body": (_dumped(self._example(content["application/json"])),), "headers": (_JSON,)}

    def _example(self, content: dict[str, Any]) -> Any:
        """The example of a body, about records that there are."""
        ids = self.ground.records.ids
        known = {
            "project": self.ground.prefix,
            "package_id": ids["package"]["live"],
            "entity_id": ids["package"]["live"],
            "person_id": ids["person"]["viewer"],
            "to_person": ids["person"]["admin2"],
            "owner_id": ids["person"]["operator"],
            "assignee_id": ids["person"]["operator"],
            "vendor_id": ids["party"]["live"],
        }
        example = content["example"]
        return {**example, **{name: str(value) for name, value in known.items() if name in example}}

    def _headers(self, name: str, operation: dict[str, Any]) -> Iterator[Request]:
        good = self._good(operation)
        own = good.pop("headers", ())
        if operation["x-permission"] != "public":
            for token in _TOKENS:
                given = () if token is None else ((b"authorization", token),)
                yield self.request(name, "a token", headers=own + given, token=False, right=(401,), **good)
        for odd in _ODD:
            yield self.request(name, "an odd header", headers=own + odd, **good)
        if any(one["name"] == "If-Match" for one in operation.get("parameters", [])):
            for tag in _MATCHES:
                yield self.request(name, "If-Match", headers=(*own, (b"if-match", tag)), right=(400,), **good)

    def _keys(self, name: str, operation: dict[str, Any]) -> Iterator[Request]:
        good = self._good(operation)
        own = good.pop("headers", ())
        right = () if operation["x-permission"] == "public" else REFUSED
        for key in _KEYS:
            yield self.request(name, "Idempotency-Key", headers=(*own, (b"idempotency-key", key)), right=right, **good)

    def _references(self, name: str) -> Iterator[Request]:
        path = name.partition(" ")[2]
        for parameter in (self.ground.ids(path) or [{}])[0]:
            for reference in _REFERENCES:
                yield self.request(
                    name,
                    f"{parameter} {reference[:20]}",
                    path=self._path(path, **{parameter: reference}),
                    right=REFUSED,
                )

    def _queries(self, name: str, operation: dict[str, Any], cursor: str | None) -> Iterator[Request]:
        good = self._good(operation)
        public = operation["x-permission"] == "public"
        for unknown in ("nonsense=1", "%00=1", "=", "%FF=x", "__proto__[a]=b"):
            # What is public is asked by machines that add things of their own.
            yield self.request(name, "an unknown parameter", query=unknown, right=() if public else (422,), **good)
        for one in operation.get("parameters", []):
            if one["in"] != "query":
                continue
            for word in _WORDS:
                query = f"{one['name']}={word.replace('{}', one['name'])}"
                strict = one["schema"].get("type") in ("integer", "boolean") or "enum" in one["schema"]
                strict |= one["schema"].get("format") == "date-time" and not word.startswith(("0001", "9999"))
                right = REFUSED if strict or "\x00" in unquote(word) or word.startswith("a&") else ()
                yield self.request(name, f"{one['name']} {word[:12]!r}", query=query, right=right, **good)
            if one["name"] == "cursor":
                for word in self._nonsense():
                    yield self.request(name, "no cursor", query=f"cursor={quote(word)}", right=REFUSED, **good)
                for word in self._forged(cursor) if cursor else ():
                    yield self.request(name, "a forged cursor", query=f"cursor={quote(word)}", **good)

    def _nonsense(self) -> Iterator[str]:
        """Cursors that no list can have given out."""
        for order in ("-size", "-position", "id", "created_at", "-created_at"):
            yield from (_sealed([order, word]) for word in _FORGED)
            yield from (_sealed([order, word, word]) for word in _FORGED)
        yield from (_sealed(None), _sealed({}), _sealed([]), _sealed([1]), _sealed(["x", 1, "x"]), "====", "e30", "W10")

    def _forged(self, cursor: str) -> Iterator[str]:
        """The cursor with other things in it, some of which may be a place in the list by chance."""
        yield from (cursor[:-2], cursor + "AA", cursor.swapcase(), cursor + "\n")
        order, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        for place in range(len(values)):
            for word in _FORGED:
                yield _sealed([order, *values[:place], word, *values[place + 1 :]])
        yield from (_sealed([order]), _sealed([order, *values, *values]), _sealed([f"-{order}", *values]))

    def _bodies(self, name: str, operation: dict[str, Any], content: dict[str, Any]) -> Iterator[Request]:
        imports = "octet-stream" in str(operation["requestBody"]["content"].keys())
        for why, body in NOT_JSON.items():
            yield self.request(name, why, headers=(_JSON,), body=(body,), right=REFUSED)
        for kind in _TYPES:
            right = REFUSED if imports else (415,)
            body = b"\xff" if imports else b"{}"
            yield self.request(name, "a type", headers=((b"content-type", kind),), body=(body,), right=right)
        size = (11 if imports else 2) * MEGABYTE // len(_CHUNK)
        ten = 11 * MEGABYTE // len(_CHUNK)
        # Where a signature is missing, no more is read.
        in_chunks = REFUSED if name.endswith("/mail/inbound") else (413,)
        yield self.request(name, "10 MB", headers=(_JSON,), body=(_CHUNK,) * ten, right=(413,))
        yield self.request(
            name, "10 MB in chunks", headers=(_JSON,), body=(_CHUNK,) * ten, length=False, right=in_chunks
        )
        for length in (b"5", b"-1", b"nonsense", b"1" * 400, b"\xff"):
            yield self.request(
                name,
                f"more than the declared {length[:10]!r}",
                headers=(_JSON, (b"content-length", length)),
                body=(_CHUNK,) * size,
                right=(*in_chunks, 413, 400),
            )
        if not imports:
            yield from self._fields(name, content)

    def _fields(self, name: str, content: dict[str, Any]) -> Iterator[Request]:
        """Every field with every value: what the schema forbids is refused."""
        example = self._example(content)
        schema = self.document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        judge = validator(self.document, schema)
        for field in schema.get("required", []):
            less = {key: value for key, value in example.items() if key != field}
            yield self.request(name, f"no {field}", headers=(_JSON,), body=(_dumped(less),), right=REFUSED)
        for field in schema["properties"]:
            for value in VALUES:
                body = {**example, field: value}
                # PostgreSQL stores no NUL, UTF-8 holds no surrogate.
                never = any(one in json.dumps(value) for one in ("\\u0000", "\\ud800"))
                right = REFUSED if never or not judge.is_valid(body) else ()  # pyright: ignore[reportUnknownMemberType]
                yield self.request(
                    name, f"{field}: {value!r:.30}", headers=(_JSON,), body=(_dumped(body),), right=right
                )


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _sealed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
