"""How often one may try: exact counters in PostgreSQL, by account and by client address.

They count before anything is looked up, so an account that there is not is limited like one that there is. Nothing is
kept of an account or an address but a digest under a key of the instance. An attempt that succeeds is given back.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pmis.kit.db import Reach
from pmis.kit.errors import TooManyAttemptsError

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Database
    from pmis.kit.settings import Settings

_BITS: Final = 64
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The budgets from which an attempt was taken, in the order in which they are locked: addresses come first.

    Each list of budgets has the window over which they count.
    """

    budgets: list[tuple[list[bytes], list[int], float]]


class Attempts:
    """Counts attempts for every process alike."""

    def __init__(self, database: Database, secret: str, settings: Settings) -> None:
        """Derive the key of the digests from the instance's secret."""
        self._database = database
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis sign-in digests v1").derive(
            secret.encode()
        )
        self._window = float(settings.signin_window_seconds)
        self._account = settings.signin_account_attempts
        self._address = settings.signin_address_attempts
        self._codes = settings.signin_codes_a_day

    def digest(self, kind: str, text: str) -> str:
        """What stands for an address or an account where it must not be read."""
        return hmac.digest(self._key, f"{kind}\n{text}".encode(), "sha256").hex()

    def address_digest(self, what: str, address: str) -> str:
        """What stands for the network of an address."""
        return self.digest(f"{what} address", _network(address))

    async def take(self, what: str, *, address: str, account: str | None = None) -> Taken:
        """Take an attempt; raises TooManyAttemptsError when there is none left, and takes none then."""
        pairs = [(f"{what} address", _network(address), self._address)]
        if account is not None:
            pairs.append((f"{what} account", account.casefold(), self._account))
        return await self._take([(pairs, self._window)])

    async def take_code(self, *, address: str, person: UUID) -> Taken:
        """Take a guess at a code: from what one has in a short while, and from what one has in a day.

        Codes are six digits, and three are good at any time: at the rate of passwords somebody would have guessed one
        within months.
        """
        fast = [("code address", _network(address), self._address), ("code account", str(person), self._account)]
        slow = [("code account a day", str(person), self._codes)]
        return await self._take([(slow, _DAY_SECONDS), (fast, self._window)])

    async def _take(self, wanted: list[tuple[list[tuple[str, str, int]], float]]) -> Taken:
        taken = Taken([])
        for pairs, window in wanted:
            subjects = [bytes.fromhex(self.digest(kind, text)) for kind, text, _ in pairs]
            limits = [limit for *_, limit in pairs]
            # A statement of its own: that it was tried counts, whatever becomes of the request.
            async with self._database.read(Reach.INSTANCE) as session:
                row = await session.one("select identity.attempt(%s, %s, %s)", (subjects, limits, window))
            if row is not None and row[0] > 0:
                await self.give_back(taken)
                raise TooManyAttemptsError(row[0])
            taken.budgets.append((subjects, limits, window))
        return taken

    async def give_back(self, taken: Taken) -> None:
        """It was a good attempt: it does not count."""
        async with self._database.read(Reach.INSTANCE) as session:
            for subjects, limits, window in taken.budgets:
                await session.execute("select identity.give_back(%s, %s, %s)", (subjects, limits, window))


def _network(address: str) -> str:
    """The address; for IPv6 the /64 that one household or machine has to itself."""
    with suppress(ValueError):
        found = ip_address(address.partition("%")[0])
        if isinstance(found, IPv6Address):
            return str(found.ipv4_mapped or IPv6Network((found, _BITS), strict=False))
    return address
