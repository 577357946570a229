"""Mail from a service that calls us: the raw mail as the body, signed with a secret that both know."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import parts_of, require_good_key, require_known_parameters
from pmis.kit import signing
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError, NotFoundError, PmisError
from pmis.mail.intake import Delivery, accept

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

router = docs.RouteTable("mail")
log = logging.getLogger("pmis.mail")
PATH: Final = "/mail/inbound"
AT_ONCE: Final = 4
"""How many mails a process reads at the same time: as much memory as four of the largest it may cost."""
READ_SECONDS: Final = 60.0
"""For how long one may hold its place."""
_TYPES: Final = ("message/rfc822", "application/octet-stream")


class MailTaken(BaseModel):
    """The mail was taken for good, and will be filed."""

    id: UUID
    repeated: bool = Field(description="It was taken before, in this way; nothing was made.")


async def take_mail(request: Request) -> Response:
    """Take in a mail; the answer comes after the commit."""
    parts = parts_of(request)
    secrets = parts.settings.mail_webhook_keys
    if not secrets:
        raise NotFoundError(
            "This instance takes no mail in this way; its administrator has to set MAIL_WEBHOOK_SECRET."
        )
    require_known_parameters(request, frozenset())
    require_good_key(request)
    kind = request.headers.get("content-type", _TYPES[0]).partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise docs.UnsupportedMediaError("Send the raw mail as message/rfc822.")
    try:
        # What is not even signed is not read.
        check = signing.Check(request.headers, secrets, parts.clock.now())
        async with _place(request):
            raw = await _read(request, check)
            return await _taken(request, raw)
    except signing.SignatureError as error:
        log.warning("a mail by webhook was refused: %s", error.detail)
        raise


class TooManyMailsError(PmisError):
    """So many mails are being taken in that no further one is read now."""

    code = "too_many_mails"
    status = 503
    title = "Too many mails at once"
    retry_after = 5


@asynccontextmanager
async def _place(request: Request) -> AsyncGenerator[None]:
    """One of the places of those who are read at once; raises TooManyMailsError.

    Anybody can make up headers that look right, and have a large body read before it is found out.
    """
    state = request.app.state
    reading = getattr(state, "mails_reading", 0)
    if reading >= AT_ONCE:
        raise TooManyMailsError("Many mails are being taken in. Send it again after `Retry-After` seconds.")
    state.mails_reading = reading + 1
    try:
        yield
    finally:
        state.mails_reading -= 1


async def _read(request: Request, check: signing.Check) -> bytes:
    """The body, once it is found to be signed; raises SignatureError, or SlowMailError for one that does not come."""
    spool = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for piece in request.stream():
                check.update(piece)
                spool += piece
    except TimeoutError:
        raise SlowMailError(f"The mail did not come within {READ_SECONDS:.0f} seconds.") from None
    check.require_good()
    return bytes(spool)


class SlowMailError(PmisError):
    """The mail is sent so slowly that its place is given to another."""

    code = "mail_too_slow"
    status = 408
    title = "The mail came too slowly"


async def _taken(request: Request, raw: bytes) -> Response:
    """Accept a mail that is signed."""
    parts = parts_of(request)
    if not raw:
        raise InvalidInputError("The body is empty; send the raw mail.")
    delivery = Delivery("webhook", raw, trusted=True, correlation_id=request.scope["correlation_id"])
    taken = await accept(parts.database, parts.storage, delivery, max_bytes=parts.settings.mail_max_bytes)
    log.info("mail %s %s by webhook", taken.id, "came again" if taken.repeated else "accepted")
    return Response(canonical({"id": str(taken.id), "repeated": taken.repeated}), 202, None, "application/json")


def _header(name: str, description: str, example: str) -> dict[str, object]:
    # Not `required`: whoever leaves it out is told so as somebody who did not sign.
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_EXAMPLE: Final = (
    "From: Ann <ann@firm.example>\r\nTo: p-001@pmis.localhost\r\nSubject: The offer\r\n\r\nHere it is.\r\n"
)
docs.route(
    router,
    "POST",
    PATH,
    take_mail,
    docs.Spec(
        "Take in a mail",
        "public",
        {202: {"model": MailTaken, "description": "Taken for good; a worker files it."}},
        (400, 401, 404, 408, 413, 415, 422, 503),
        description=(
            "For mail services that hand over raw mails (RFC 5322). The request is signed as Standard Webhooks "
            "describes it, with MAIL_WEBHOOK_SECRET, and no older than five minutes. To whom the mail came follows "
            "from its `Delivered-To`, `To` and `Cc`. Up to MAIL_MAX_BYTES, within a minute; four are read at once, and "
            "more are answered 503 with `Retry-After`. The same mail again is answered the same "
            "and makes nothing; an `Idempotency-Key` has no effect."
        ),
        files={kind: {"schema": {"type": "string", "format": "binary"}, "example": _EXAMPLE} for kind in _TYPES},
        parameters=[
            _header(signing.ID, "The message's id at the sender.", "msg_2b9a"),
            _header(signing.TIMESTAMP, "When it was signed: seconds since 1970.", "1795341600"),
            _header(
                signing.SIGNATURE,
                "`v1,` and, in base64, HMAC-SHA256 over id, timestamp and body, joined by full stops. Several, "
                "separated by spaces, where several secrets sign.",
                "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            ),
        ],
    ),
)
