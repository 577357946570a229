"""The embedded Valkey, and the few words of its protocol that the health checks speak."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from pmis.ops import valkey
from pmis.ops.postgres import socket_folder
from pmis.ops.process import current_user, named_user
from pmis.ops.valkey import BrokerError, EmbeddedValkey, ping

pytestmark = pytest.mark.anyio
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place():
    path = Path(tempfile.mkdtemp(prefix="pmis vk-"))
    path.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(path, named_user("nobody").uid, -1)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def described(place):
    user = named_user("nobody") if os.geteuid() == 0 else current_user()
    return EmbeddedValkey(
        folder=place / "valkey",
        sockets=socket_folder(place / "run", user, valkey.SOCKET),
        password="pass/word",
        user=user,
    )


@pytest.fixture
def server(place):
    made = described(place)
    made.prepare()
    with subprocess.Popen(made.command(), stdout=subprocess.DEVNULL, cwd="/") as process:
        asyncio.run(until_ready(made))
        yield made
        made.clear_stale()
        process.kill()


async def until_ready(server):
    for _ in range(500):
        try:
            await ping(server.url)
        except BrokerError:
            await asyncio.sleep(0.01)
        else:
            return
    pytest.fail("Valkey did not become ready")


async def test_it_serves_who_knows_the_password_and_nobody_over_tcp(server):
    await ping(server.url)
    with pytest.raises(BrokerError, match="WRONGPASS"):
        await ping(server.url.replace("pass%2Fword", "other"))
    with pytest.raises(BrokerError, match="NOAUTH"):
        await ping(server.url.replace(":pass%2Fword@", ""))
    config = server.folder / "valkey.conf"
    assert config.stat().st_mode & 0o777 == 0o600
    assert "port 0\n" in config.read_text()
    assert server.socket.stat().st_mode & 0o077 == 0


async def test_another_database_can_be_asked_for(server):
    await ping(server.url.replace("db=0", "db=3"))
    with pytest.raises(BrokerError, match="index"):
        await ping(server.url.replace("db=0", "db=99999"))


async def test_a_leftover_server_is_ended_before_the_next(server):
    again = described(server.folder.parent)
    again.prepare()
    with pytest.raises(BrokerError):
        await ping(server.url)


async def test_files_it_cannot_read_are_put_aside(server):
    server.clear_stale()
    aside = server.set_aside()
    assert aside.is_dir()
    assert not server.folder.exists()


class TestPing:
    async def test_nobody_there(self):
        with pytest.raises(BrokerError, match="refused"):
            await ping("redis://127.0.0.1:1/0")
        with pytest.raises(BrokerError, match="No such file"):
            await ping("unix:///nowhere/valkey.sock?db=0")

    async def test_somebody_who_never_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(BrokerError, match=r"no answer within 0\.2 s"):
                await ping(f"redis://user:secret@127.0.0.1:{port}/1", timeout_seconds=0.2)

    async def test_somebody_who_hangs_up(self):
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
            port = rude.sockets[0].getsockname()[1]
            with pytest.raises(BrokerError):
                await ping(f"redis://127.0.0.1:{port}")


@as_root
def test_a_binary_out_of_reach_is_copied(place, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "valkey-server").symlink_to(valkey.wheel_binary())
    made = described(place)
    made.binary = closed / "valkey-server"
    made.copies = place
    made.prepare()
    assert made.binary.parent == place
    assert made.binary.read_bytes()[:4] == b"\x7fELF"
