"""Has a mail read by a child process, and believes nothing of what that says but its shape."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pmis.mail.child import MAX_ADDRESSES, MAX_ATTACHMENTS, MAX_HEADER, MAX_TEXT

WALL_SECONDS: Final = 20.0
_MAX_JSON: Final = 16 * 1024 * 1024
_HEAD: Final = 8
_COMMAND: Final = (sys.executable, "-I", "-m", "pmis.mail.child")


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


Short = Annotated[str, StringConstraints(max_length=320)]
HeaderText = Annotated[str, StringConstraints(max_length=MAX_HEADER)]
Ids = Annotated[list[Annotated[str, StringConstraints(max_length=1000)]], Field(max_length=50)]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Address(_Strict):
    """An address as a header gives it; anybody can write anything there."""

    name: Short
    address: Short


Addresses = Annotated[list[Address], Field(max_length=2 * MAX_ADDRESSES)]


class Headers(_Strict):
    """The headers that matter."""

    subject: HeaderText
    from_: Addresses = Field(alias="from")
    from_is_one: bool
    to: Addresses
    cc: Addresses
    delivered_to: Addresses
    date: Annotated[AwareDatetime | None, Field(strict=False)]
    message_id: HeaderText | None
    in_reply_to: Ids
    references: Ids
    authentication_results: Annotated[list[HeaderText], Field(max_length=20)]
    auto_submitted: Short


class Attachment(_Strict):
    """A file that came with the mail."""

    name: Short
    media_type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+_-]+/[a-z0-9.+_-]+$", max_length=161)]
    size: Annotated[int, Field(ge=0)]
    digest: Digest
    inline: bool
    content_id: HeaderText | None


class Mail(_Strict):
    """What a mail says. Not `complete`: only its headers could be read, for the reasons in `faults`."""

    headers: Headers
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)]
    html: Annotated[str, StringConstraints(max_length=MAX_TEXT)] | None
    attachments: Annotated[list[Attachment], Field(max_length=MAX_ATTACHMENTS)]
    complete: bool
    faults: Annotated[list[Short], Field(max_length=25)]


EMPTY: Final = Mail.model_validate(
    {
        "headers": {
            "subject": "",
            "from": [],
            "from_is_one": False,
            "to": [],
            "cc": [],
            "delivered_to": [],
            "date": None,
            "message_id": None,
            "in_reply_to": [],
            "references": [],
            "authentication_results": [],
            "auto_submitted": "",
        },
        "text": "",
        "html": None,
        "attachments": [],
        "complete": False,
        "faults": [],
    }
)
"""A mail of which nothing could be read."""


@dataclass(frozen=True)
class Read:
    """A mail as far as it could be read, with what its attachments hold."""

    mail: Mail
    contents: list[bytes] = field(default_factory=list[bytes])


class ChildError(Exception):
    """The child did not give an answer; the text says why, and holds nothing of the mail."""


async def read(raw: bytes, *, wall_seconds: float = WALL_SECONDS) -> Read:
    """What the mail says. One that breaks the child is answered with its headers, or with nothing, and says so."""
    faults: list[str] = []
    for arguments in ((), ("headers",)):
        try:
            found = await _child(raw, arguments, wall_seconds)
        except ChildError as error:
            faults.append(str(error))
            continue
        if not faults:
            return found
        said = [*faults, *found.mail.faults]
        return Read(found.mail.model_copy(update={"complete": False, "faults": said}))
    return Read(EMPTY.model_copy(update={"faults": list(dict.fromkeys(faults))}))


async def _child(raw: bytes, arguments: tuple[str, ...], wall_seconds: float) -> Read:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # A trace would quote the mail.
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(wall_seconds):
            return await _converse(process, raw)
    except TimeoutError:
        message = f"reading it took more than {wall_seconds:g} seconds"
        raise ChildError(message) from None
    except (ValidationError, asyncio.IncompleteReadError, ConnectionError, UnicodeDecodeError):
        code = await _end(process)
        message = f"the process that read it was killed by signal {-code}" if code < 0 else "it could not be read"
        raise ChildError(message) from None
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> int:
    """Its exit code; it is given a moment to have one of its own."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            return await process.wait()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    return await process.wait()


async def _converse(process: asyncio.subprocess.Process, raw: bytes) -> Read:
    if process.stdin is None or process.stdout is None:  # pragma: no cover - both were asked for
        raise ConnectionError
    with contextlib.suppress(ConnectionError):
        process.stdin.write(raw)
        await process.stdin.drain()
        process.stdin.close()
    length = int.from_bytes(await process.stdout.readexactly(_HEAD), "big")
    if length > _MAX_JSON:
        raise ConnectionError
    mail = Mail.model_validate_json(await process.stdout.readexactly(length))
    # Decoding makes a content smaller, never larger: what says more than it was given is not believed.
    if sum(one.size for one in mail.attachments) > 2 * len(raw):
        raise ConnectionError
    contents = [await process.stdout.readexactly(one.size) for one in mail.attachments]
    if any(
        hashlib.sha256(content).hexdigest() != one.digest
        for content, one in zip(contents, mail.attachments, strict=True)
    ):
        raise ConnectionError
    return Read(mail, contents)
