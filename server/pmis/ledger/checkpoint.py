"""Signs what the log is: C2SP tlog-checkpoints with Ed25519. What they mean and how they are read is in `verify`."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pmis.kit.settings import SettingsError
from pmis.ledger.verify import Checkpoint, NoteError, VerifierKey

if TYPE_CHECKING:
    from pmis.kit.settings import Settings

__all__ = [
    "Checkpoint",
    "CheckpointSigner",
    "NoteError",
    "VerifierKey",
    "previous_keys_of",
    "signer_of",
    "signing_seed",
]

_SEED_BYTES: Final = 32
_DERIVATION: Final = b"pmis checkpoint signing key 1"


def signing_seed(*, signing_key: str | None, secret_key: str | None) -> bytes:
    """The seed of the signing key: the one that is set (base64), else one derived from the secret key.

    Raises SettingsError when the key is malformed, or when there is nothing to take it from.
    """
    if signing_key:
        try:
            seed = base64.b64decode(signing_key.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise SettingsError("CHECKPOINT_SIGNING_KEY is not base64.") from None
        if len(seed) != _SEED_BYTES:
            raise SettingsError(f"CHECKPOINT_SIGNING_KEY holds {len(seed)} bytes; an Ed25519 seed has {_SEED_BYTES}.")
        return seed
    if not secret_key:
        raise SettingsError("Set CHECKPOINT_SIGNING_KEY (or SECRET_KEY, from which it is derived) to sign checkpoints.")
    return HKDF(algorithm=SHA256(), length=_SEED_BYTES, salt=None, info=_DERIVATION).derive(secret_key.encode())


class CheckpointSigner:
    """Signs checkpoints of one log. Whoever holds this can speak for the log: keep it away from the database."""

    def __init__(self, origin: str, seed: bytes) -> None:
        """`origin` names the log and its key; raises NoteError when it is no such name."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.origin = origin
        self.key = VerifierKey(origin, self._key.public_key().public_bytes_raw())

    def sign(self, size: int, root: bytes) -> str:
        """The signed note that the log of this size has this root. The same arguments give the same note."""
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.key.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.origin} {signature}\n"


def signer_of(settings: Settings) -> CheckpointSigner:
    """The signer of this install's log; its key is what verifiers pin. Raises SettingsError when there is no key."""
    own, secret = settings.checkpoint_signing_key, settings.secret_key
    seed = signing_seed(
        signing_key=own.get_secret_value() if own else None, secret_key=secret.get_secret_value() if secret else None
    )
    return CheckpointSigner(settings.checkpoint_origin, seed)


def previous_keys_of(settings: Settings) -> list[VerifierKey]:
    """The keys that signed this install's log before; raises SettingsError for one that is none."""
    try:
        return [VerifierKey.parse(key) for key in settings.checkpoint_previous_keys.split()]
    except NoteError as error:
        raise SettingsError(f"CHECKPOINT_PREVIOUS_KEYS names a key that is none: {error}.") from None
