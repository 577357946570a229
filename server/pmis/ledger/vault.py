"""Values that may have to be erased: sealed beside the log, referred to by digest.

Each subject (a person, a party) has a key of its own, itself sealed under a key derived from the instance's secret.
Destroying a subject's key erases every value of the subject for good; the log and the rows keep the references and stay
valid. A reference is the SHA-256 of a random salt and the value, so it neither tells nor allows to guess the value.
AES-256-GCM throughout; the reference is the associated data, so a ciphertext cannot be moved to another reference.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pmis.kit.canonical import canonical
from pmis.kit.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pmis.kit.db import Session, WriteSession

NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
PREFIX: Final = "sealed:"


class Vault:
    """Seals and opens JSON values."""

    def __init__(self, secret: str) -> None:
        """Derive the master key from the instance's secret; a new secret cannot open what an old one sealed."""
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis vault v1").derive(secret.encode())
        self._master = AESGCM(derived)

    async def seal(self, session: WriteSession, subject: UUID, value: Any) -> str:  # noqa: ANN401 - any JSON value
        """Store the value under the subject's key and answer its reference.

        Raises ErasedSubjectError when the subject's key was destroyed.
        """
        key = await self._subject_key(session, subject)
        salt = os.urandom(SALT_BYTES)
        plain = salt + canonical([value]).encode()
        ref = PREFIX + hashlib.sha256(plain).hexdigest()
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, plain, ref.encode())
        await session.execute(
            "insert into ledger.vault (ref, subject, ciphertext) values (%s, %s, %s)", (ref, subject, sealed)
        )
        return ref

    async def open(self, session: Session, refs: Sequence[str]) -> dict[str, Any]:
        """The values behind the references; None for those that were erased."""
        values: dict[str, Any] = dict.fromkeys(refs)
        rows = await session.all(
            "select ref, subject, ciphertext, wrapped from ledger.vault join ledger.vault_key using (subject) "
            "where ref = any(%s) and wrapped is not null",
            (list(refs),),
        )
        for ref, subject, sealed, wrapped in rows:
            key = self._unwrap(subject, bytes(wrapped))
            body = bytes(sealed)
            plain = AESGCM(key).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], ref.encode())
            values[ref] = json.loads(plain[SALT_BYTES:])[0]
        return values

    async def destroy(self, session: WriteSession, subject: UUID) -> None:
        """Erase every value of the subject, for good."""
        await session.execute(
            "insert into ledger.vault_key (subject, wrapped, destroyed_at) values (%s, null, transaction_timestamp()) "
            "on conflict (subject) do update set wrapped = null, destroyed_at = transaction_timestamp()",
            (subject,),
        )

    async def _subject_key(self, session: WriteSession, subject: UUID) -> bytes:
        key = AESGCM.generate_key(256)
        nonce = os.urandom(NONCE_BYTES)
        await session.execute(
            "insert into ledger.vault_key (subject, wrapped) values (%s, %s) on conflict (subject) do nothing",
            (subject, nonce + self._master.encrypt(nonce, key, subject.bytes)),
        )
        row = await session.one("select wrapped from ledger.vault_key where subject = %s for share", (subject,))
        if row is None or row[0] is None:
            raise ErasedSubjectError("The personal data of this record were erased; it takes no new ones.")
        return self._unwrap(subject, bytes(row[0]))

    def _unwrap(self, subject: UUID, wrapped: bytes) -> bytes:
        return self._master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], subject.bytes)


class ErasedSubjectError(ConflictError):
    """The subject's key was destroyed."""

    code = "erased"
    title = "These personal data were erased"
