"""The addresses that this instance has: where a mail goes follows from where it was sent, not from what it says.

`inbox@` is the instance's, `p@` a project's (its prefix), `p-001@` a package's (its code), and `reply+TOKEN@` answers
to what was sent out about a package. A token holds the package's id and a keyed digest of it, so it cannot be guessed,
needs no table and does not grow old. Local parts are read without regard to case, as some senders change it.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmis.kit.settings import Settings

INBOX: Final = "inbox"
_REPLY: Final = "reply+"
_DIGEST_BYTES: Final = 16
_TOKEN: Final = "[a-z2-7]{52}"  # noqa: S105 - what one looks like
_PREFIX: Final = re.compile("[a-z][a-z0-9]{0,9}")
_CODE: Final = re.compile("[a-z][a-z0-9]{0,9}-[0-9]{3,9}")


@dataclass(frozen=True)
class Place:
    """What an address names: a prefix, a code, the package of a token; none of them, and it is the instance's inbox.

    That there is such a project or package is not said; that the token was given out here is.
    """

    address: str
    prefix: str | None = None
    code: str | None = None
    package: UUID | None = None


class Addresses:
    """The addresses of an instance whose mail domain is `domain`."""

    def __init__(self, domain: str, secret: str) -> None:
        """Tokens are made with a key that is derived from the instance's secret."""
        self.domain = domain.lower()
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis mail reply v1").derive(secret.encode())

    def token(self, package: UUID) -> str:
        """The token that answers to the package come back with; the same for the same package."""
        digest = hmac.digest(self._key, package.bytes, "sha256")[:_DIGEST_BYTES]
        return base64.b32encode(package.bytes + digest).decode().rstrip("=").lower()

    def reply_address(self, package: UUID) -> str:
        """Where an answer about the package is to be sent."""
        return f"{_REPLY}{self.token(package)}@{self.domain}"

    def message_id(self, package: UUID, identity: UUID) -> str:
        """The Message-ID of a mail of this identity about the package; answers carry it among their references."""
        return f"<{self.token(package)}.{identity.hex}@{self.domain}>"

    def package_of(self, token: str) -> UUID | None:
        """The package of a token that was made here; None for any other text."""
        if not re.fullmatch(_TOKEN, token):
            return None
        try:
            decoded = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
        except ValueError:
            return None
        package = UUID(bytes=decoded[:16])
        # The whole text is compared: base32 has several for the same bytes.
        return package if hmac.compare_digest(self.token(package), token) else None

    def place_of(self, address: str) -> Place | None:
        """What an address of ours names; None for one that is not ours."""
        local, _, domain = address.strip().rpartition("@")
        local = local.lower()
        if domain.lower() != self.domain:
            return None
        if local == INBOX:
            return Place(address)
        if local.startswith(_REPLY):
            package = self.package_of(local.removeprefix(_REPLY))
            return Place(address, package=package) if package else None
        if _CODE.fullmatch(local):
            return Place(address, prefix=local.partition("-")[0].upper(), code=local.upper())
        return Place(address, prefix=local.upper()) if _PREFIX.fullmatch(local) else None

    def referred(self, references: Iterable[str]) -> UUID | None:
        """The package that a mail answers to, by the Message-IDs it refers to; the last that is ours counts."""
        for reference in reversed(list(references)):
            found = self._reference.fullmatch(reference)
            package = self.package_of(found[1].lower()) if found else None
            if package is not None:
                return package
        return None

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        """Those of an instance with these settings; raises SettingsError without a SECRET_KEY."""
        return cls(settings.mail_domain, settings.require_secret("secret_key"))

    @cached_property
    def _reference(self) -> re.Pattern[str]:
        return re.compile(rf"<({_TOKEN})\.[0-9a-f]{{32}}@{re.escape(self.domain)}>", re.IGNORECASE)
