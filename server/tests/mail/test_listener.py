"""Real conversations by SMTP and LMTP: 250 after the commit, 550 for what is not ours, 451 for what is our fault."""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pmis.kit.errors import UnavailableError
from pmis.mail import listener
from pmis.mail.listener import Desk, listening
from tests.kit.inside import certificate_in
from tests.mail.post import letter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.mail.post import Post

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def ports(post: Post, **settings: object) -> AsyncGenerator[dict[str, int]]:
    given = {"mail_smtp_port": 0, "mail_lmtp_port": 0, **settings}
    desk = Desk(post.world.database, post.storage, post.addresses, post.settings.model_copy(update=given))
    async with listening(desk) as found:
        yield found


async def send(port: int, raw: bytes, *recipients: str) -> dict[str, tuple[int, bytes]]:
    """The recipients that were refused."""

    def converse() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            return client.sendmail("bounce@firm.example", list(recipients), raw)

    return await asyncio.to_thread(converse)


async def inbounds(post: Post) -> int:
    async with post.world.read() as session:
        row = await session.one("select count(*) from mail.inbound")
    return row[0] if row else 0


async def talk(port: int, *lines: bytes) -> list[bytes]:
    """The last line of each answer to what is said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said: list[bytes] = []

    async def answer() -> None:
        while True:
            line = await asyncio.wait_for(reader.readline(), 20)
            if line[3:4] != b"-":
                said.append(line.rstrip())
                return

    await answer()
    for line in lines:
        writer.write(line + b"\r\n")
        await answer()
    writer.close()
    await writer.wait_closed()
    return said


class TestSmtp:
    async def test_a_mail_is_taken_once(self, post: Post):
        raw = letter()
        async with ports(post) as found:
            before = await inbounds(post)
            for _ in range(2):
                assert await send(found["smtp"], raw, "inbox@mail.test") == {}
            assert await inbounds(post) == before + 1

    async def test_250_is_said_after_the_commit(self, post: Post):
        raw = letter()
        async with ports(post) as found:
            said = await talk(
                found["smtp"], b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<inbox@mail.test>", b"DATA", raw + b"\r\n."
            )
        assert said[-1].startswith(b"250 2.0.0 Taken as ")
        identity = said[-1].rpartition(b" ")[2].decode()
        async with post.world.read() as session:
            assert await session.one("select 1 from mail.inbound where id = %s", (identity,))

    @pytest.mark.parametrize(
        "address",
        ["x@example.org", "nobody@mail.test", "zz9-001@mail.test", "reply+abc@mail.test", "inbox@mail.test.evil"],
    )
    async def test_mail_for_others_is_refused(self, post: Post, address: str):
        async with ports(post) as found:
            before = await inbounds(post)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                await send(found["smtp"], letter(), address)
            assert refused.value.recipients[address][0] == 550
            assert await inbounds(post) == before

    async def test_those_that_are_ours_get_it_all_the_same(self, post: Post):
        package = await post.world.make_package()
        async with ports(post) as found:
            refused = await send(
                found["smtp"],
                letter(),
                post.at(package.code),
                post.addresses.reply_address(package.id),
                "x@example.org",
            )
        assert list(refused) == ["x@example.org"]

    async def test_a_mail_that_is_too_large_is_refused(self, post: Post):
        async with ports(post) as found:
            before = await inbounds(post)
            with pytest.raises(smtplib.SMTPResponseException) as refused:
                await send(found["smtp"], letter() + b"a\r\n" * (1 << 19), "inbox@mail.test")
            assert refused.value.smtp_code == 552
            assert await inbounds(post) == before

    async def test_when_it_cannot_be_taken_the_sender_comes_again(self, post: Post, monkeypatch):
        async def broken(*_: object, **__: object) -> None:
            raise UnavailableError("The database is away.")

        monkeypatch.setattr(listener, "accept", broken)
        async with ports(post) as found:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                await send(found["smtp"], letter(), "inbox@mail.test")
        assert refused.value.smtp_code == 451

    async def test_a_fault_of_ours_loses_no_mail_either(self, post: Post, monkeypatch):
        async def broken(*_: object, **__: object) -> None:
            message = "planted"
            raise RuntimeError(message)

        monkeypatch.setattr(listener, "accept", broken)
        async with ports(post) as found:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                await send(found["smtp"], letter(), "inbox@mail.test")
        assert refused.value.smtp_code == 451

    @pytest.mark.parametrize(("relays", "status"), [("", "quarantined"), ("127.0.0.0/8, 192.0.2.7", "attached")])
    async def test_results_count_from_trusted_relays_only(self, post: Post, relays: str, status: str):
        await post.known_vendor()
        package = await post.world.make_package()
        async with ports(post, mail_trusted_relays=relays) as found:
            await send(found["smtp"], letter(), post.at(package.code))
        async with post.world.read() as session:
            row = await session.one("select id from mail.inbound where recipients = %s", ([post.at(package.code)],))
        assert row is not None
        from pmis.mail.filing import file

        (email,) = await file(post.office, row[0])
        assert (await post.email(email)).status == status

    async def test_a_mail_cannot_smuggle_another(self, post: Post):
        """A line break that only some take for one does not end a mail."""
        inner = b"MAIL FROM:<a@b>\r\nRCPT TO:<inbox@mail.test>\r\nDATA\r\nsmuggled\r\n.\r\n"
        for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"):
            async with ports(post) as found:
                before = await inbounds(post)
                await talk(
                    found["smtp"], b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<inbox@mail.test>", b"DATA",
                    letter() + end + inner.replace(b"\r\n.\r\n", b"") + b"\r\n.",
                )  # fmt: skip
                assert await inbounds(post) == before + 1

    async def test_a_port_that_is_taken(self, post: Post):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UnavailableError, match=rf"^SMTP cannot listen on 127\.0\.0\.1 port {port}"):
                await ports(post, mail_smtp_port=port).__aenter__()


class TestLmtp:
    async def test_it_answers_for_each_recipient(self, post: Post):
        package = await post.world.make_package()
        async with ports(post) as found:
            reader, writer = await asyncio.open_connection("127.0.0.1", found["lmtp"])
            lines = [
                b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:<inbox@mail.test>",
                b"RCPT TO:<" + post.at(package.code).encode() + b">",
                b"RCPT TO:<x@example.org>", b"DATA", letter() + b"\r\n.", b"QUIT",
            ]  # fmt: skip
            for line in lines:
                writer.write(line + b"\r\n")
                await asyncio.sleep(0.2)
            said = (await asyncio.wait_for(reader.read(), 20)).split(b"\r\n")
            writer.close()
            await writer.wait_closed()
        assert [line[:3] for line in said if b"Taken as" in line] == [b"250", b"250"]
        assert sum(line.startswith(b"550 5.1.1") for line in said) == 1
        assert said[-2][:3] == b"221"


async def mailed_by_tls(port: int, authority: Path, raw: bytes) -> tuple[bytes, bytes]:
    """Send a mail after STARTTLS; the serial number of the certificate that was shown, and what EHLO said before."""

    def converse() -> tuple[bytes, bytes]:
        context = ssl.create_default_context(cafile=authority)
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            said = client.ehlo()[1]
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            shown = client.sock.getpeercert(binary_form=True)
            assert shown is not None
            assert client.sendmail("bounce@firm.example", ["inbox@mail.test"], raw) == {}
        return hashlib.sha256(shown).digest(), said

    return await asyncio.to_thread(converse)


class TestTls:
    async def test_mail_comes_by_starttls_and_a_renewed_certificate_is_used(self, post: Post, tmp_path: Path):
        certificate, key = certificate_in(tmp_path, "mail.test")
        async with ports(post, mail_smtp_tls_cert=certificate, mail_smtp_tls_key=key) as found:
            before = await inbounds(post)
            first, said = await mailed_by_tls(found["smtp"], certificate, letter())
            assert b"STARTTLS" in said.upper()
            assert await inbounds(post) == before + 1
            assert (await mailed_by_tls(found["smtp"], certificate, letter()))[0] == first
            certificate_in(tmp_path, "mail.test")
            renewed, _ = await mailed_by_tls(found["smtp"], certificate, letter())
            assert renewed != first
            # In the middle of a renewal the certificate and the key do not fit; what was there is used.
            fitting = certificate.read_bytes()
            (tmp_path / "other").mkdir()
            certificate.write_bytes(certificate_in(tmp_path / "other", "mail.test")[0].read_bytes())
            authority = tmp_path / "authority.pem"
            authority.write_bytes(fitting)
            assert (await mailed_by_tls(found["smtp"], authority, letter()))[0] == renewed

    async def test_where_it_is_required_nothing_is_taken_before(self, post: Post, tmp_path: Path):
        certificate, key = certificate_in(tmp_path, "mail.test")
        settings = {"mail_smtp_tls_cert": certificate, "mail_smtp_tls_key": key, "mail_smtp_require_tls": True}
        async with ports(post, **settings) as found:
            said = await talk(found["smtp"], b"EHLO firm.example", b"MAIL FROM:<a@firm.example>")
            assert said[-1].startswith(b"530")
            await mailed_by_tls(found["smtp"], certificate, letter())
        del settings["mail_smtp_require_tls"]
        async with ports(post, **settings) as found:
            said = await talk(found["smtp"], b"EHLO firm.example", b"MAIL FROM:<a@firm.example>")
            assert said[-1].startswith(b"250"), "the control: where it is not required it is taken"

    @pytest.mark.parametrize("half", ["mail_smtp_tls_cert", "mail_smtp_tls_key", "mail_smtp_require_tls"])
    async def test_half_of_what_is_needed_is_refused(self, post: Post, tmp_path: Path, half: str):
        with pytest.raises(UnavailableError, match="needs both"):
            async with ports(post, **{half: True if half.endswith("require_tls") else tmp_path / "none.pem"}):
                pass

    async def test_what_is_no_certificate_is_refused(self, post: Post, tmp_path: Path):
        (tmp_path / "x.pem").write_text("x")
        with pytest.raises(UnavailableError, match="cannot be read"):
            async with ports(post, mail_smtp_tls_cert=tmp_path / "x.pem", mail_smtp_tls_key=tmp_path / "x.pem"):
                pass
