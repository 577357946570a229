"""Mails that somebody made to hurt whoever reads them, or whoever looks at what was read."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Final

HEAD: Final = b"From: Ada <ada@example.org>\r\nTo: p-001@mail.test\r\nSubject: Hello\r\n"


def mail(body: bytes = b"", *headers: bytes, head: bytes = HEAD) -> bytes:
    """A mail with further headers."""
    return head + b"".join(one + b"\r\n" for one in headers) + b"\r\n" + body


def page(html: bytes) -> bytes:
    """A mail of HTML."""
    return mail(html, b"MIME-Version: 1.0", b"Content-Type: text/html; charset=utf-8")


def parts(count: int) -> bytes:
    """A mail of so many small parts."""
    one = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    return mail(one * count + b"--b--\r\n", b"Content-Type: multipart/mixed; boundary=b")


def nested(depth: int, kind: bytes = b"multipart/mixed") -> bytes:
    """A mail whose parts are nested so deep."""
    made = b"".join(b"Content-Type: %b; boundary=b%d\r\n\r\n--b%d\r\n" % (kind, i, i) for i in range(depth))
    return HEAD + made + b"Content-Type: text/plain\r\n\r\nx\r\n"


def mails_in_mails(depth: int) -> bytes:
    """A mail in a mail in a mail."""
    return HEAD + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\nx"


def attachment(content: bytes, name: bytes, kind: bytes = b"application/pdf") -> bytes:
    """A mail with a file."""
    body = (
        b"--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n--b\r\nContent-Type: "
        + kind
        + b'\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="'
        + name
        + b'"\r\n\r\n'
        + base64.encodebytes(content)
        + b"\r\n--b--\r\n"
    )
    return mail(body, b"MIME-Version: 1.0", b"Content-Type: multipart/mixed; boundary=b")


@dataclass(frozen=True)
class Case:
    """A hostile mail, and what must come of it: everything but its limits read, or only its headers."""

    raw: bytes
    complete: bool
    faults: tuple[str, ...] = ()
    subject: str | None = "Hello"
    says: dict[str, object] = field(default_factory=dict[str, object])


_MB: Final = 1 << 20
_CHARSET: Final = "its text is not in the charset that it names, or in none that is known"
_LONG: Final = "its text is longer than what is shown; the raw mail has all of it"
_TAGS: Final = "its HTML has too many elements to be shown"

CASES: Final[dict[str, Case]] = {
    "nothing": Case(b"", complete=True, subject=""),
    "NULs": Case(b"\0" * 1000, complete=True, subject=""),
    "noise": Case(random.Random(1).randbytes(100_000), complete=True, faults=(_CHARSET,), subject=None),
    "NULs in headers and text": Case(mail(b"a\0b", b"X-A: \0\0"), complete=True, says={"text": "a[U+0000]b"}),
    "10,000 parts": Case(parts(10_000), complete=False, faults=("it has more than 1000 parts",)),
    "nested 1,000 deep": Case(nested(1000), complete=False, faults=("its parts are nested more than 20 deep",)),
    "digests nested 1,000 deep": Case(
        nested(1000, b"multipart/digest"), complete=False, faults=("its parts are nested more than 20 deep",)
    ),
    "1,000 mails in each other": Case(
        mails_in_mails(1000), complete=False, faults=("its parts are nested more than 20 deep",)
    ),
    "300 attachments": Case(
        mail(
            b"--b\r\nContent-Disposition: attachment; filename=x\r\n\r\nx\r\n" * 300 + b"--b--\r\n",
            b"Content-Type: multipart/mixed; boundary=b",
        ),
        complete=False,
        faults=("it has more than 200 attachments",),
    ),
    "25 MB of one line": Case(mail(b"a" * (25 * _MB)), complete=True, faults=(_LONG,)),
    "25 MB of empty lines": Case(mail(b"\n" * (25 * _MB)), complete=False, faults=("it has more than 1000000 lines",)),
    "25 MB of one header": Case(
        b"Subject: Hello" + b"o" * (25 * _MB),
        complete=False,
        faults=(
            "its headers are longer than 262144 bytes",
            "its header Subject is longer than 4000 characters",
        ),
        subject=None,
    ),
    "20,000 headers": Case(mail(b"x", *(b"X-%d: y" % i for i in range(20_000))), complete=True),
    "10,000 senders": Case(
        b"From: " + b",".join(b"a%d@x.org" % i for i in range(10_000)) + b"\r\nSubject: Hello\r\n\r\nx",
        complete=True,
        faults=("its header From is longer than 4000 characters",),
    ),
    "comments in comments": Case(
        b"Subject: Hello\r\nFrom: " + b"(" * 3900 + b" a@x.org\r\n\r\nx",
        complete=True,
        faults=("its header From is not well formed",),
    ),
    "broken quoting everywhere": Case(
        b"Subject: Hello\r\nTo: "
        + b"<<<<" * 900
        + b"\r\nCc: "
        + b'"\\' * 1500
        + b"\r\nDate: "
        + b"(" * 3000
        + b"\r\n\r\nx",
        complete=True,
    ),
    "encoded words in encoded words": Case(
        b"Subject: Hello\r\nFrom: " + b"=?utf-8?q?" * 300 + b"=?utf-8?b?=?= " * 50 + b"<a@x.org>\r\n\r\nx",
        complete=True,
    ),
    "half-open elements": Case(page(b"<br " * 120_000), complete=True, faults=(_TAGS,)),
    "deep elements": Case(page(b"<div>" * 90_000), complete=True, faults=(_TAGS,)),
    "elements that the tree builder copies": Case(page(b"<b><i><a>" * 3000), complete=True),
    "tables in tables": Case(page(b"<table><tr><td>" * 3000), complete=True),
    "boundaries that never match": Case(
        mail(b"-" * _MB + b"\r\n--" * 100_000, b"Content-Type: multipart/mixed; boundary=b"), complete=True
    ),
    "a charset that takes quadratic time": Case(
        mail(b"a" * 500_000, b"Content-Type: text/plain; charset=punycode"), complete=True, faults=(_CHARSET,)
    ),
    "a charset that unpacks": Case(
        mail(b"x\x9cK\x04\x00\x00b\x00b", b"Content-Type: text/plain; charset=zlib"), complete=True, faults=(_CHARSET,)
    ),
    "a charset that is none": Case(
        mail(b"caf\xc3\xa9", b"Content-Type: text/plain; charset=\xff\xfe"),
        complete=True,
        says={"text": "café"},
    ),
    "UTF-8 that is none": Case(
        mail(b"caf\xe9", b"Content-Type: text/plain; charset=utf-8"),
        complete=True,
        faults=(_CHARSET,),
        says={"text": "café"},
    ),
    "base64 that is none": Case(mail(b"!!!!===\xff", b"Content-Transfer-Encoding: base64"), complete=True),
    "uuencoding that is none": Case(
        mail(b"begin 644 x\n\xff\xff\n", b"Content-Transfer-Encoding: uuencode"), complete=True
    ),
    "a type that is none": Case(mail(b"x", b"Content-Type: ;;;/\xff=\x00"), complete=True),
    "parameters that go on and on": Case(
        mail(b"x", b"Content-Disposition: attachment; " + b"a*0*=''%" * 400), complete=True
    ),
    "a line break in a subject": Case(
        mail(b"x", head=b"From: a@x.org\r\nSubject: =?utf-8?q?Hello=0D=0ABcc:_all@example.org?=\r\n"),
        complete=True,
        subject="Hello  Bcc: all@example.org",
    ),
    "a text that turns round": Case(
        mail(
            "pay \u202e0001\u202c now, \u200bhid\u00adden \U000e0041".encode(),
            b"Content-Type: text/plain; charset=utf-8",
        ),
        complete=True,
        says={"text": "pay [U+202E]0001[U+202C] now, [U+200B]hid[U+00AD]den [U+E0041]"},
    ),
    "a subject that turns round": Case(
        mail(b"x", head="Subject: a\u202eb\r\n".encode()), complete=True, subject="a[U+202E]b"
    ),
    "30 MB": Case(attachment(random.Random(2).randbytes(22 * _MB), b"large.pdf"), complete=True),
}
