"""Mail by signed webhook: taken once and for good, or refused and nothing kept."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from pmis.api import inbound
from pmis.kit import signing
from pmis.kit.db import Reach
from pmis.mail.filing import file
from tests.api.expect import problem
from tests.api.office import WEBHOOK_SECRETS
from tests.mail.post import Post, letter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio
PATH = "/mail/inbound"


async def send(
    office: Office, raw: bytes, *, secret: str = WEBHOOK_SECRETS[0], at: int | None = None, **headers: str
) -> httpx2.Response:
    """A call of the mail service."""
    moment = int(time.time()) if at is None else at
    signed = signing.headers_of([secret], f"msg_{secrets.token_hex(4)}", moment, raw)
    sent = {**signed, "Content-Type": "message/rfc822", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await office.call(None, "POST", PATH, content=raw, headers=sent)


async def kept(office: Office) -> int:
    async with office.database.read(Reach.INSTANCE) as session:
        row = await session.one("select count(*) from mail.inbound where source = 'webhook'")
    assert row is not None
    return row[0]


async def test_a_signed_mail_is_taken_and_filed_where_it_was_sent(office: Office):
    post = Post.of(office.a, office.test_database.files)
    vendor = f"{secrets.token_hex(4)}@firm.example"
    await office.a.make_party(email=vendor)
    package = await office.a.make_package()
    answer = await send(office, letter(vendor, to=post.at(package.code)))
    assert answer.status_code == 202, answer.text
    taken = UUID(answer.json()["id"])
    assert await post.jobs(taken) == 1
    (identity,) = await file(post.office, taken)
    email = await post.email(identity)
    assert (email.via, email.status, email.package_id) == ("webhook", "attached", package.id)


async def test_the_same_again_makes_nothing(office: Office):
    post = Post.of(office.a, office.test_database.files)
    raw, before = letter(), await kept(office)
    first, again = await send(office, raw), await send(office, raw)
    assert (first.json()["repeated"], again.json()) == (False, {**first.json(), "repeated": True})
    assert await kept(office) == before + 1
    assert await post.jobs(UUID(first.json()["id"])) == 1


async def test_either_secret_is_good_while_they_are_changed(office: Office):
    for secret in WEBHOOK_SECRETS:
        assert (await send(office, letter(), secret=secret)).status_code == 202


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "some other secret of thirty-two bytes"},
        {"at": 1_600_000_000},
        {"at": 9_000_000_000},
        {"webhook_signature": "v1,AAAA"},
        {"webhook_id": "msg_other"},
        {"webhook_timestamp": "x"},
    ],
)
async def test_what_is_not_signed_is_refused_logged_and_not_kept(
    office: Office, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    before = await kept(office)
    with caplog.at_level(logging.WARNING, "pmis.mail"):
        answer = await send(office, letter(subject="hunter2"), **wrong)
    problem(answer, 401, "signature_refused")
    assert await kept(office) == before
    assert "a mail by webhook was refused" in caplog.text
    assert "hunter2" not in caplog.text + answer.text


async def test_another_body_than_was_signed_is_refused(office: Office):
    raw, before = letter(), await kept(office)
    headers = signing.headers_of([WEBHOOK_SECRETS[0]], "m", int(time.time()), raw)
    answer = await office.call(
        None, "POST", PATH, content=raw + b" ", headers={**headers, "Content-Type": "message/rfc822"}
    )
    problem(answer, 401, "signature_refused")
    assert await kept(office) == before


async def test_a_token_is_no_signature(office: Office):
    sent = {"Content-Type": "message/rfc822"}
    problem(await office.call("root", "POST", PATH, content=letter(), headers=sent), 401, "signature_refused")


async def test_what_is_no_mail_is_told_so(office: Office):
    problem(await send(office, b""), 422, "invalid_input")
    problem(await send(office, b"{}", Content_Type="application/json"), 415, "unsupported_media_type")


async def test_it_takes_larger_bodies_than_others_up_to_its_limit(office: Office):
    limit = office.parts.settings.mail_max_bytes
    assert limit > office.parts.settings.max_body_bytes
    raw = letter()
    assert (await send(office, raw + b"x" * (limit - len(raw)))).status_code == 202
    problem(await send(office, raw + b"x" * (limit + 1 - len(raw))), 413, "too_large")
    large = {"Content-Type": "application/json"}
    problem(
        await office.call("admin", "POST", "/packages", content=b" " * (limit - 1), headers=large), 413, "too_large"
    )


async def test_without_a_secret_there_is_no_such_way_in(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        office.parts, "settings", office.parts.settings.model_copy(update={"mail_webhook_secret": None})
    )
    body = problem(await send(office, letter()), 404, "not_found")
    assert "MAIL_WEBHOOK_SECRET" in body["detail"]


async def test_when_it_cannot_be_kept_the_service_comes_again(office: Office, monkeypatch: pytest.MonkeyPatch):
    async def broken(_: bytes) -> str:
        from pmis.kit.storage import StorageUnavailableError

        raise StorageUnavailableError("The disk is full.")

    before = await kept(office)
    monkeypatch.setattr(office.parts.storage, "put", broken)
    problem(await send(office, letter()), 503, "storage_unavailable")
    assert await kept(office) == before


def held(raw: bytes, release: asyncio.Event, begun: asyncio.Semaphore) -> AsyncIterator[bytes]:
    """A body of which the second half comes when it may."""

    async def pieces() -> AsyncIterator[bytes]:
        begun.release()
        yield raw[: len(raw) // 2]
        await release.wait()
        yield raw[len(raw) // 2 :]

    return pieces()


async def slowly(office: Office, release: asyncio.Event, begun: asyncio.Semaphore) -> httpx2.Response:
    """A good mail, sent in two pieces."""
    raw = letter(f"{secrets.token_hex(4)}@firm.example")
    signed = signing.headers_of([WEBHOOK_SECRETS[0]], f"msg_{secrets.token_hex(4)}", int(time.time()), raw)
    headers = {**signed, "Content-Type": "message/rfc822"}
    return await office.call(None, "POST", PATH, content=held(raw, release, begun), headers=headers)


async def test_no_more_than_a_few_are_read_at_once(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbound, "AT_ONCE", 2)
    release, begun = asyncio.Event(), asyncio.Semaphore(0)
    under_way = [asyncio.create_task(slowly(office, release, begun)) for _ in range(2)]
    for _ in range(2):
        await begun.acquire()
    before = await kept(office)
    told = problem(await slowly(office, release, begun), 503, "too_many_mails")
    assert "Retry-After" in told["detail"]
    assert begun.locked(), "the body of the third was read"
    release.set()
    answers = await asyncio.gather(*under_way)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert await kept(office) == before + 2
    assert (await slowly(office, release, begun)).status_code == 202


async def test_control_without_the_limit_all_are_read(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbound, "AT_ONCE", 100)
    release, begun = asyncio.Event(), asyncio.Semaphore(0)
    under_way = [asyncio.create_task(slowly(office, release, begun)) for _ in range(8)]
    for _ in range(8):
        await begun.acquire()
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*under_way)} == {202}


async def test_one_that_comes_too_slowly_gives_its_place_back(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbound, "AT_ONCE", 1)
    monkeypatch.setattr(inbound, "READ_SECONDS", 0.2)
    problem(await slowly(office, asyncio.Event(), asyncio.Semaphore(0)), 408, "mail_too_slow")
    release = asyncio.Event()
    release.set()
    assert (await slowly(office, release, asyncio.Semaphore(0))).status_code == 202


async def test_one_that_is_forged_gives_its_place_back(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbound, "AT_ONCE", 1)
    for _ in range(3):
        problem(await send(office, letter(), webhook_signature="v1,AAAA"), 401, "signature_refused")
    assert (await send(office, letter())).status_code == 202
