"""Mail from a mailbox, held by a real IMAP server: taken once, marked after the commit, never lost."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from imapclient import IMAPClient

from pmis.kit.errors import UnavailableError
from pmis.kit.storage import StorageUnavailableError
from pmis.mail import imap
from pmis.mail.imap import Fetcher, Mailbox, MailboxUnavailableError, fetch_once, watch
from pmis.mail.listener import Desk
from tests.mail.mailbox import NAME, mailbox_server
from tests.mail.post import letter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tests.mail.mailbox import Server
    from tests.mail.post import Post

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[Server]:
    with mailbox_server() as server:
        yield server


@pytest.fixture
def desk(post: Post) -> Desk:
    return Desk(post.world.database, post.storage, post.addresses, post.settings)


async def taken(post: Post, *mails: bytes) -> list[int]:
    """How often each mail is here, and filed by how many jobs."""
    found: list[int] = []
    for raw in mails:
        digest = await post.storage.put(raw)
        async with post.world.read() as session:
            row = await session.one(
                "select count(*) from mail.inbound i join jobs.job j on j.payload::jsonb ->> 'inbound_id' = i.id::text "
                "where i.source = 'imap' and i.digest = %s",
                (digest,),
            )
        assert row is not None
        found.append(row[0])
    return found


async def test_what_waits_is_taken_once_and_read_there(server: Server, desk: Desk, post: Post):
    mails = [letter(), letter()]
    server.put(*mails)
    assert await fetch_once(desk, server.mailbox) == 2
    assert await fetch_once(desk, server.mailbox) == 0
    assert await taken(post, *mails) == [1, 1]
    assert server.flags() == [{b"\\Seen"}, {b"\\Seen"}]


@pytest.mark.parametrize(
    ("lacks", "left"), [((), []), (("MOVE",), []), (("MOVE", "UIDPLUS"), [{b"\\Deleted"}])], ids=str
)
async def test_or_moved_to_a_folder_which_is_made(server: Server, desk: Desk, post: Post, lacks, left, monkeypatch):
    """What somebody else only marked as deleted stays where it is, whatever the server can do."""
    marked, raw = letter(), letter()
    server.put(marked, raw)
    with server.client() as client:
        client.delete_messages(client.search()[:1])
    known = IMAPClient.has_capability
    monkeypatch.setattr(IMAPClient, "has_capability", lambda self, name: name not in lacks and known(self, name))
    mailbox = replace(server.mailbox, done="Taken")
    assert [await fetch_once(desk, mailbox), await fetch_once(desk, mailbox)] == [1, 0]
    assert server.flags() == [{b"\\Deleted"}, *left]
    assert len(server.flags("Taken")) == 1
    assert await taken(post, marked, raw) == [0, 1]


async def test_killed_between_the_commit_and_the_mark_it_makes_nothing_twice(
    server: Server, desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
):
    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    raw = letter()
    server.put(raw)
    with monkeypatch.context() as patched:
        patched.setattr(Fetcher, "mark", killed)
        with pytest.raises(KilledError):
            await fetch_once(desk, server.mailbox)
    assert (await taken(post, raw), server.flags()) == ([1], [set()])
    assert await fetch_once(desk, server.mailbox) == 0
    assert (await taken(post, raw), server.flags()) == ([1], [{b"\\Seen"}])


async def test_what_cannot_be_kept_is_not_marked(
    server: Server, desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
):
    async def full(_: bytes) -> str:
        raise StorageUnavailableError("The disk is full.")

    raw = letter()
    server.put(raw)
    with monkeypatch.context() as patched:
        patched.setattr(desk.storage, "put", full)
        with pytest.raises(UnavailableError):
            await fetch_once(desk, server.mailbox)
    assert server.flags() == [set()]
    assert await fetch_once(desk, server.mailbox) == 1
    assert await taken(post, raw) == [1]


async def test_marked_before_the_commit_it_would_be_lost(server: Server, desk: Desk, post: Post, monkeypatch):
    """The control of the two above: a fetcher that marks first, and what these tests then find."""

    async def planted(desk: Desk, fetcher: Fetcher, uids: list[int]) -> int:
        for uid in uids:
            await asyncio.to_thread(fetcher.mark, uid)
        raise UnavailableError("The database is away.")

    raw = letter()
    server.put(raw)
    with monkeypatch.context() as patched:
        patched.setattr(imap, "_take", planted)
        with pytest.raises(UnavailableError):
            await fetch_once(desk, server.mailbox)
    assert await fetch_once(desk, server.mailbox) == 0
    assert await taken(post, raw) == [0]


async def test_a_mail_that_is_too_large_is_left_with_a_flag_and_stops_none(server: Server, desk: Desk, post: Post):
    large, raw = letter(body="x" * desk.settings.mail_max_bytes), letter()
    server.put(large, raw)
    assert await fetch_once(desk, server.mailbox) == 1
    assert server.flags() == [{b"\\Flagged"}, {b"\\Seen"}]
    assert await taken(post, large, raw) == [0, 1]


async def test_a_mailbox_that_keeps_no_marks_does_not_go_round_for_ever(
    server: Server, desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
):
    raw = letter()
    server.put(raw)
    monkeypatch.setattr(Fetcher, "mark", lambda *_: None)
    with pytest.raises(MailboxUnavailableError, match="does not keep"):
        await fetch_once(desk, server.mailbox)
    assert await taken(post, raw) == [1]


@pytest.mark.parametrize("wrong", [{"password": "another"}, {"folder": "Nowhere"}, {"port": 1}, {"security": "tls"}])
async def test_a_mailbox_that_does_not_let_us_in(server: Server, desk: Desk, wrong: dict[str, Any]):
    with pytest.raises(MailboxUnavailableError) as raised:
        await fetch_once(desk, replace(server.mailbox, **wrong))
    assert server.mailbox.password not in raised.value.detail
    assert server.mailbox.password not in repr(server.mailbox)


async def test_a_password_that_cannot_be_sent_is_a_mailbox_that_does_not_let_us_in(server: Server, desk: Desk):
    with pytest.raises(MailboxUnavailableError) as raised:
        await fetch_once(desk, replace(server.mailbox, password="h\u00e9"))
    assert "e9" not in raised.value.detail


@asynccontextmanager
async def watching(desk: Desk, mailbox: Mailbox) -> AsyncGenerator[list[str]]:
    said: list[str] = []
    ended = asyncio.Event()
    task = asyncio.create_task(watch(desk, mailbox, ended, said.append))
    try:
        yield said
    finally:
        ended.set()
        await asyncio.wait_for(task, 30)


async def until(post: Post, raw: bytes, seconds: float = 60) -> float:
    began = time.monotonic()
    while await taken(post, raw) == [0]:
        assert time.monotonic() - began < seconds, "it was not taken"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_what_comes_is_told_by_idle(server: Server, desk: Desk, post: Post, record_property):
    first, second = letter(), letter()
    async with watching(desk, server.mailbox):
        server.put(first)
        await until(post, first)
        await asyncio.sleep(1)
        server.put(second)
        record_property("figure", f"IMAP: taken {await until(post, second):.2f} s after it came, told by IDLE")


async def test_a_server_without_idle_is_asked_again(server: Server, desk: Desk, post: Post, monkeypatch):
    known = IMAPClient.has_capability
    monkeypatch.setattr(IMAPClient, "has_capability", lambda self, name: name != "IDLE" and known(self, name))
    monkeypatch.setattr(imap, "_POLL_SECONDS", 0.1)
    async with watching(desk, server.mailbox):
        await asyncio.sleep(0.5)
        raw = letter()
        server.put(raw)
        await until(post, raw)


async def test_a_server_that_comes_back_with_other_uids_is_read_on(server: Server, desk: Desk, post: Post, monkeypatch):
    """It forgets everything, so its mailbox has another UIDVALIDITY and its UIDs begin anew."""
    is_back = asyncio.Event()

    async def pause(*_: object) -> None:
        await is_back.wait()

    monkeypatch.setattr(imap, "_pause", pause)
    before, new = letter(), letter()
    async with watching(desk, server.mailbox) as said:
        server.put(before)
        await until(post, before)
        with server.client() as client:
            validity = client.select_folder("INBOX")[b"UIDVALIDITY"]
        # By then it is told of news by IDLE.
        await asyncio.sleep(1)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        with server.client() as client:
            assert client.select_folder("INBOX")[b"UIDVALIDITY"] != validity
        # The same mail under the same UID as before, and one that is new.
        await asyncio.to_thread(server.put, before, new)
        is_back.set()
        await until(post, new)
    assert await taken(post, before, new) == [1, 1]
    assert len(said) == 2


async def test_a_server_that_ends_in_idle_is_missed_at_once(server: Server, desk: Desk, post: Post, monkeypatch):
    """The library says of the end of a connection what it says of silence, without waiting."""
    asked: list[float] = []
    known = IMAPClient.idle_check

    def counted(self: IMAPClient, timeout: float) -> object:
        asked.append(time.monotonic())
        return known(self, timeout)

    monkeypatch.setattr(IMAPClient, "idle_check", counted)
    before, new = letter(), letter()
    async with watching(desk, server.mailbox):
        server.put(before)
        await until(post, before)
        # By then it is told of news by IDLE.
        await asyncio.sleep(1)
        assert asked
        ended = time.monotonic()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(2)
        assert len([at for at in asked if at > ended]) < 10, "it asks without a pause"
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.put, new)
        await until(post, new, 20)
    assert await taken(post, before, new) == [1, 1]


async def test_it_waits_twice_as_long_each_time_up_to_five_minutes(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    ended = asyncio.Event()

    async def pause(_: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            ended.set()

    monkeypatch.setattr(imap, "_pause", pause)
    await watch(desk, Mailbox("127.0.0.1", 1, NAME, "hunter2", security="none"), ended, print)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_no_log_line_holds_the_password_or_what_a_mail_says(server: Server, desk: Desk, caplog):
    server.put(letter(subject="hunter2", body="hunter3"))
    with caplog.at_level(logging.DEBUG):
        assert await fetch_once(desk, server.mailbox) == 1
    assert "accepted by imap" in caplog.text
    assert not [word for word in ("hunter2", "hunter3", server.password) if word in caplog.text]
