"""What a proxy in front of PMIS is believed: where a request comes from, and, where switched on, who asks.

It is believed only when it calls from one of TRUSTED_PROXY_ADDRESSES and shows the TRUSTED_PROXY_SECRET, if there is
one; without one it is never believed about people. Its headers are taken off every request at the edge, believed or
not: nothing behind the edge can read them by mistake, and nothing can log them.
"""

from __future__ import annotations

import hmac
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from pmis.kit.db import Reach
from pmis.kit.errors import UnauthenticatedError
from pmis.kit.text import one_line
from pmis.policy.access import Role

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from starlette.types import Scope

    from pmis.api.context import Parts
    from pmis.kit.settings import Settings
    from pmis.policy.access import Principal

SECRET: Final = b"x-proxy-secret"
_ID: Final = "X-User-Id"
_ROLE: Final = "X-User-Role"
_NAME: Final = "X-User-Name"
_NAMING: Final = {header.lower().encode(): header for header in (_ID, _ROLE, _NAME)}
_TAKEN_OFF: Final = frozenset({SECRET, *_NAMING})
_FORWARDED: Final = b"x-forwarded-for"
_LOOKED_AT: Final = _TAKEN_OFF | {_FORWARDED}
_MAX: Final = 300
_MAX_NAME: Final = 120
"""With the name that PMIS has, of 150 characters at most, it stands in an event, which takes 300."""
USER: Final = "proxied_user"
"""Where the edge puts, in a request's scope, what a believed proxy says of who asks: all values of each header."""
_Said: TypeAlias = "dict[str, list[bytes]]"


_NOBODY: Final = "The proxy names nobody whom this instance knows."


@dataclass(frozen=True, slots=True)
class ProxiedUser:
    """Whom a believed proxy says it speaks for."""

    id: str
    roles: frozenset[Role] | None
    """What it lets them be; None for all that they are."""
    name: str
    """What it calls them; empty when it does not say."""


class Proxies:
    """Judges, request by request, whether a proxy is believed."""

    def __init__(self, settings: Settings) -> None:
        """As the settings say."""
        addresses = filter(None, map(str.strip, settings.trusted_proxy_addresses.split(",")))
        self._networks = [ip_network(one) for one in addresses]
        secret = settings.trusted_proxy_secret
        self._secret = secret.get_secret_value().encode() if secret else None
        self._names_users = settings.trusted_proxy_users and self._secret is not None

    def judge(self, scope: Scope) -> None:
        """Take the proxy's headers off; where it is believed, note who asks from where."""
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in _LOOKED_AT:
                given.setdefault(name, []).append(value)
        if not given:
            return
        scope["headers"] = [item for item in scope["headers"] if item[0] not in _TAKEN_OFF]
        if not self._networks or not self._believes(scope, given.get(SECRET, [])):
            return
        hops = [hop.strip() for value in given.get(_FORWARDED, []) for hop in value.decode("latin-1").split(",")]
        self._from(scope, hops)
        if self._names_users and any(name in given for name in _NAMING):
            scope[USER] = {header: given[name] for name, header in _NAMING.items() if name in given}

    def _believes(self, scope: Scope, shown: list[bytes]) -> bool:
        client = scope.get("client")
        peer = _address(client[0]) if client else None
        if peer is None or not self._is_ours(peer):
            return False
        return self._secret is None or (len(shown) == 1 and hmac.compare_digest(shown[0], self._secret))

    def _is_ours(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def _from(self, scope: Scope, hops: list[str]) -> None:
        """The last hop that is not one of our own proxies: what stands before it anybody could have written."""
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                return
            scope["client"] = (str(address), 0)
            if not self._is_ours(address):
                return


def _address(text: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        found = ip_address(text.partition("%")[0])
        return getattr(found, "ipv4_mapped", None) or found
    return None


def _user(said: _Said) -> ProxiedUser:
    """Whom the headers name; raises UnauthenticatedError for headers that are not as they should be."""
    identity, named, name = _text(said, _ID, _MAX), _text(said, _ROLE, _MAX), _text(said, _NAME, _MAX_NAME)
    if not identity:
        raise UnauthenticatedError(_NOBODY)
    try:
        roles = frozenset(Role(one.strip().lower()) for one in named.split(",") if one.strip())
    except ValueError:
        raise UnauthenticatedError(f"The proxy's {_ROLE} may name {', '.join(Role)}, with commas between.") from None
    return ProxiedUser(identity, roles or None, name)


def _text(said: _Said, header: str, longest: int) -> str:
    """What a header says; raises UnauthenticatedError unless that is one short line, said once."""
    values = said.get(header, [b""])
    with suppress(ValueError):
        text = one_line(values[0].decode()).strip()
        if len(values) == 1 and len(text) <= longest:
            return text
    raise UnauthenticatedError(
        f"The proxy must send {header} once at most, as UTF-8, with up to {longest} characters and no control "
        "characters among them."
    )


async def principal_of(parts: Parts, said: _Said) -> Principal:
    """Who the proxy names, with no more than they have here and than it lets them have.

    What it calls them renames nobody: where that differs, the log has it beside the name that PMIS has.
    Raises UnauthenticatedError for whoever is not an active person of this instance.
    """
    user = _user(said)
    try:
        person = UUID(user.id)
    except ValueError:
        person = await _of_address(parts, user.id)
    principal = await parts.principals.get(person)
    if user.name and unicodedata.normalize("NFC", user.name) != unicodedata.normalize("NFC", principal.name):
        principal = replace(principal, proxied_name=user.name)
    if user.roles is None:
        return principal
    # Whatever they are called, people look at the projects that they are in.
    return replace(
        principal,
        roles={project: (held & user.roles) | {Role.VIEWER} for project, held in principal.roles.items() if held},
        instance_admin=principal.instance_admin and Role.ADMIN in user.roles,
        instance_auditor=principal.instance_auditor and Role.AUDITOR in user.roles,
    )


async def _of_address(parts: Parts, address: str) -> UUID:
    async with parts.database.read(Reach.INSTANCE) as session:
        row = await session.one("select person_id from identity.credential where lower(email) = lower(%s)", (address,))
    if row is None:
        raise UnauthenticatedError(_NOBODY)
    return row[0]
