"""Contents by digest: the same promises from a folder and from a bucket."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pmis.kit.settings import load_settings
from pmis.kit.storage import ContentDamagedError, ContentMissingError, Storage, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """A server that speaks S3, over real HTTP."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(s3_server: str) -> Storage:
    import httpx2

    assert httpx2.put(f"{s3_server}/mails", headers={"Authorization": _SIGNED}).status_code == 200
    return Storage.of(
        load_settings(
            s3_bucket_name="mails", s3_endpoint_url=s3_server, s3_access_key_id="key", s3_secret_access_key="word"
        )
    )


_SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage.in_folder(tmp_path / "objects") if request.param == "folder" else request.getfixturevalue("bucket")


async def test_what_is_put_can_be_had(storage: Storage):
    for content in (b"", b"\x00\xff", os.urandom(6 << 20)):
        digest = await storage.put(content)
        assert digest == hashlib.sha256(content).hexdigest()
        assert await storage.put(content) == digest
        assert await storage.get(digest) == content
    storage.look()


async def test_what_is_not_there(storage: Storage):
    with pytest.raises(ContentMissingError):
        await storage.get("0" * 64)


async def test_only_a_digest_is_a_name(storage: Storage):
    for name in ("../secrets.json", "", "A" * 64, "0" * 63 + "\n"):
        with pytest.raises(ValueError, match="is not a digest"):
            await storage.get(name)


async def test_a_damaged_file_is_an_error_and_is_mended_when_it_comes_again(tmp_path: Path):
    storage = Storage.in_folder(tmp_path / "objects")
    digest = await storage.put(b"a mail")
    path = tmp_path / "objects" / digest[:2] / digest
    path.write_bytes(b"")  # what a power cut makes of a file that was not synced
    with pytest.raises(ContentDamagedError):
        await storage.get(digest)
    assert await storage.put(b"a mail") == digest
    assert await storage.get(digest) == b"a mail"


async def test_the_file_and_both_folders_are_synced_before_put_returns(tmp_path: Path, monkeypatch):
    storage = Storage.in_folder(tmp_path / "objects")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):  # also where somebody else put it there, who may not have synced it yet
        synced.clear()
        digest = await storage.put(b"a mail")
        folder = tmp_path / "objects"
        assert synced == [str(folder / digest[:2] / digest), str(folder / digest[:2]), str(folder)]


async def test_nobody_else_reads_the_folder(tmp_path: Path):
    Storage.in_folder(tmp_path / "objects")
    assert (tmp_path / "objects").stat().st_mode & 0o777 == 0o700


async def test_a_storage_that_does_not_take_it_says_so(tmp_path: Path):
    (tmp_path / "full").mkdir()
    storage = Storage.in_folder(tmp_path / "full")
    digest = hashlib.sha256(b"a mail").hexdigest()
    (tmp_path / "full" / digest[:2]).write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailableError, match="does not take a file"):
        await storage.put(b"a mail")


async def test_a_missing_bucket_is_found_at_once(s3_server: str):
    storage = Storage.of(
        load_settings(
            s3_bucket_name="nothing", s3_endpoint_url=s3_server, s3_access_key_id="key", s3_secret_access_key="word"
        )
    )
    with pytest.raises(StorageUnavailableError, match="the bucket nothing does not"):
        storage.look()
    with pytest.raises(StorageUnavailableError):
        await storage.put(b"a mail")
