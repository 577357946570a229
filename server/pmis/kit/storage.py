"""One place for what is too large for the database: files found by their SHA-256, in a folder or an S3 bucket.

A content is there, and would be after a power cut, when `put()` returns: whoever then commits a row that names its
digest names something that exists. The same content is kept once. What is read is compared with its digest, so a file
that rotted, or that somebody changed, is an error and never an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from pmis.kit.errors import PmisError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from obstore.store import ObjectStore

    from pmis.kit.settings import Settings

_DIGEST: Final = re.compile("[0-9a-f]{64}")


class StorageUnavailableError(UnavailableError):
    """The storage does not take or give contents now."""

    code = "storage_unavailable"


class ContentMissingError(PmisError):
    """Nothing with this digest is there."""

    code = "content_missing"
    title = "The content is missing"


class ContentDamagedError(PmisError):
    """What is there does not have this digest."""

    code = "content_damaged"
    title = "The content is damaged"


class Storage:
    """Contents by digest. `folder` is where they lie, when they lie in a folder."""

    def __init__(self, store: ObjectStore, name: str, folder: Path | None = None) -> None:
        """Use `of()`; `name` is what messages call the place."""
        self._store = store
        self._folder = folder
        self.name = name

    @classmethod
    def of(cls, settings: Settings) -> Storage:
        """The storage that the settings describe: the bucket of S3_BUCKET_NAME, else a folder, which is made."""
        if settings.s3_bucket_name is None:
            return cls.in_folder(settings.storage)
        options: dict[str, str | bool] = {"region": settings.s3_region}
        if settings.s3_endpoint_url is not None:
            # Servers other than Amazon's have one name for all their buckets.
            options |= {"endpoint": settings.s3_endpoint_url, "virtual_hosted_style_request": False}
        for name, value in (
            ("access_key_id", settings.s3_access_key_id),
            ("secret_access_key", settings.s3_secret_access_key),
        ):
            if value is not None:
                options[name] = value.get_secret_value()
        plain = (settings.s3_endpoint_url or "").startswith("http://")
        store = S3Store(
            settings.s3_bucket_name,
            config=options,  # pyright: ignore[reportArgumentType] - the typed form has one key for each of these
            client_options={"allow_http": plain, "timeout": "30s", "connect_timeout": "5s"},
            # Whoever hands something in is waiting, and will come again.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        )
        return cls(store, f"the bucket {settings.s3_bucket_name}")

    @classmethod
    def in_folder(cls, folder: Path) -> Storage:
        """A storage in a folder of this machine, which is made when it is missing."""
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(folder.parent)
        return cls(LocalStore(folder), str(folder), folder)

    async def put(self, content: bytes) -> str:
        """Keep the content for good, and answer its digest; raises StorageUnavailableError."""
        return await asyncio.to_thread(self._put, content)

    async def get(self, digest: str) -> bytes:
        """The content; raises ContentMissingError, ContentDamagedError or StorageUnavailableError."""
        content = await asyncio.to_thread(self._get, digest)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ContentDamagedError(
                f"What {self.name} holds as {digest} is something else. Restore it from a backup."
            )
        return content

    def look(self) -> None:
        """Raise StorageUnavailableError unless the storage answers; changes nothing."""
        try:
            if self._folder is None:
                next(iter(obstore.list(self._store, "00", chunk_size=1)), None)  # pyright: ignore[reportUnknownMemberType]
            elif not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise StorageUnavailableError(f"{self.name} cannot be written by this user.")
        except (BaseError, OSError) as error:
            raise StorageUnavailableError(f"{self.name} does not answer: {_first_line(error)}") from error

    def _put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = _path(digest)
        try:
            if self._folder is None:
                # An object of S3 is durable once it is acknowledged; the same one again is the same one.
                obstore.put(self._store, path, content)
            else:
                self._put_in(self._folder, path, content)
        except (BaseError, OSError) as error:
            raise StorageUnavailableError(
                f"{self.name} does not take a file: {_first_line(error)} Nothing was changed; try again shortly."
            ) from error
        return digest

    def _put_in(self, folder: Path, path: str, content: bytes) -> None:
        place = folder / path
        try:
            obstore.put(self._store, path, content, mode="create")
        except AlreadyExistsError:
            # It may be what a power cut left of a file that was not yet on the disk.
            if place.read_bytes() != content:
                obstore.put(self._store, path, content, mode="overwrite")
        # The library leaves it to the system when a file reaches the disk. Also one that was there already may not
        # have: its writer may be about to sync it.
        for one in (place, place.parent, folder):
            _sync(one)

    def _get(self, digest: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, _path(digest)).bytes())
        except FileNotFoundError:
            raise ContentMissingError(f"{self.name} does not hold {digest}. Restore it from a backup.") from None
        except (BaseError, OSError) as error:
            raise StorageUnavailableError(f"{self.name} does not give a file: {_first_line(error)}") from error


def _path(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        message = f"{digest[:80]!r} is not a digest"
        raise ValueError(message)
    return f"{digest[:2]}/{digest}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    words = str(error).strip().partition("\n")[0]
    return f"{words.rstrip('.')}."
