"""A mail is taken once, kept before anybody is told so, and a job to file it is there whenever it is."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from pmis.kit.errors import TooLargeError
from pmis.kit.storage import StorageUnavailableError
from pmis.mail import intake
from pmis.mail.filing import file
from tests.mail.post import letter

if TYPE_CHECKING:
    from tests.mail.post import Post

pytestmark = pytest.mark.anyio


async def test_what_is_accepted_is_kept_and_will_be_filed(post: Post):
    raw = letter()
    accepted = await post.accept(raw, "inbox@mail.test", sender="bounce@firm.example", peer="192.0.2.1")
    assert await post.storage.get(hashlib.sha256(raw).hexdigest()) == raw
    async with post.world.read() as session:
        row = await session.one(
            "select source, recipients, sender, peer, size from mail.inbound where id = %s", (accepted.id,)
        )
    assert row == ("lmtp", ["inbox@mail.test"], "bounce@firm.example", "192.0.2.1", len(raw))
    assert await post.jobs(accepted.id) == 1


async def test_the_same_mail_again_is_answered_the_same_and_makes_nothing(post: Post):
    raw = letter()
    first = await post.accept(raw, "inbox@mail.test")
    again = await post.accept(raw, "inbox@mail.test")
    assert (first.repeated, again.repeated, again.id) == (False, True, first.id)
    assert await post.jobs(first.id) == 1


async def test_twenty_deliveries_at_once_are_one_mail(post: Post):
    raw = letter()
    found = await asyncio.gather(*(post.accept(raw, "inbox@mail.test") for _ in range(20)))
    assert len({one.id for one in found}) == 1
    assert sum(not one.repeated for one in found) == 1
    assert await post.jobs(found[0].id) == 1


async def test_it_is_another_mail_when_a_byte_differs_or_it_came_another_way(post: Post):
    raw = letter()
    ids = {
        (await post.accept(raw, "inbox@mail.test")).id,
        (await post.accept(raw + b"\r\n", "inbox@mail.test")).id,  # with the same Message-ID
        (await post.accept(raw, "inbox@mail.test", way="smtp")).id,
    }
    assert len(ids) == 3


async def test_the_same_mail_to_somebody_else_is_filed_there_too(post: Post):
    raw = letter()
    await post.known_vendor()
    first = await post.world.make_package()
    (one,) = await post.deliver(raw, post.at(first.code))
    other = await post.accept(raw, "inbox@mail.test")
    assert other.repeated
    assert await post.jobs(other.id) == 2
    assert await file(post.office, other.id) == [one.id], "a project that it came to makes the inbox needless"


async def test_a_mail_that_is_too_large_is_not_taken(post: Post):
    with pytest.raises(TooLargeError):
        await post.accept(letter() + b"a" * post.settings.mail_max_bytes)


async def test_nothing_is_committed_when_it_cannot_be_kept(post: Post, monkeypatch):
    raw = letter()

    async def full(_content: bytes) -> str:
        raise StorageUnavailableError("The disk is full.")

    monkeypatch.setattr(post.storage, "put", full)
    with pytest.raises(StorageUnavailableError):
        await post.accept(raw)
    async with post.world.read() as session:
        digest = hashlib.sha256(raw).hexdigest()
        assert await session.one("select 1 from mail.inbound where digest = %s", (digest,)) is None


async def test_without_its_job_there_is_no_mail(post: Post, monkeypatch):
    """Both or neither; the control for the tests above, which count jobs."""
    raw = letter()

    def broken(*_: object, **__: object) -> None:
        message = "planted"
        raise RuntimeError(message)

    monkeypatch.setattr(intake, "enqueue", broken)
    with pytest.raises(RuntimeError, match="planted"):
        await post.accept(raw)
    async with post.world.read() as session:
        digest = hashlib.sha256(raw).hexdigest()
        assert await session.one("select 1 from mail.inbound where digest = %s", (digest,)) is None
