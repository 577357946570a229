"""Requests to addresses that people entered: webhooks. They leave the install, and reach nothing inside it.

Whoever may enter an address could otherwise make the server talk to what only the server can reach: a database, the
metadata service of a cloud, a router. So a name is resolved once, every address that it stands for must be a public
one, and the connection goes to the very address that was looked at; the certificate must still be the name's. Only
HTTPS, no redirects, no proxy, a few seconds, a little of the answer. (OWASP: Server-Side Request Forgery Prevention.)
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import httpx2

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = "Callable[[str, int], Awaitable[Sequence[str]]]"

SECONDS: Final = 5.0
ANSWER_BYTES: Final = 64 * 1024
MAX_URL: Final = 2000

_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_ODD: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]|\s")
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    # Besides what ipaddress itself knows as not global; its list differs between versions of Python.
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001:2::/48",
        "2001:10::/28",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/9",
        "ff00::/8",
    )
)
_WITH_IPV4_INSIDE: Final = (
    (ip_network("::ffff:0:0/96"), 0),
    (ip_network("::ffff:0:0:0/96"), 0),
    (ip_network("64:ff9b::/96"), 0),
    (ip_network("2002::/16"), 80),
)
"""IPv6 networks that stand for IPv4 addresses (mapped, translated, NAT64, 6to4), and how far right those bits begin."""
_TEREDO: Final = ip_network("2001::/32")


class AddressRefusedError(PmisError):
    """The address is not one that may be called; the text says why."""

    code = "address_refused"
    status = 422
    title = "This address may not be called"


class CallFailedError(PmisError):
    """The address could not be reached, or did not answer in time; trying again may help."""

    code = "call_failed"
    status = 502
    title = "The other side did not answer"


@dataclass(frozen=True, slots=True)
class Goal:
    """An address as it was entered, taken apart. `literal` when its host is an IP address already."""

    host: str
    port: int
    target: str
    literal: Address | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, and the beginning of the body."""

    status: int
    body: bytes
    seconds: float


def goal_of(url: str, ports: Collection[int] = (443,)) -> Goal:
    """The address taken apart; raises AddressRefusedError for what is not plain HTTPS to a name or an IP address."""
    if len(url) > MAX_URL or _ODD.search(url):
        raise AddressRefusedError("It is too long, or holds spaces, control characters or backslashes.")
    try:
        parts, seen = urlsplit(url), httpx2.URL(url)
        port = 443 if parts.port is None else parts.port
        host = (parts.hostname or "").lower()
        sent = seen.raw_host.decode("ascii").lower()
    except (ValueError, httpx2.InvalidURL, UnicodeError):
        raise AddressRefusedError("It is not an address such as https://hooks.example.org/pmis.") from None
    if parts.scheme != "https":
        raise AddressRefusedError("It must begin with https://.")
    if "@" in parts.netloc:
        raise AddressRefusedError("It must not hold a user name or a password.")
    if parts.fragment or "#" in url:
        raise AddressRefusedError("It must not hold a fragment (#).")
    if port not in ports or port != (seen.port or 443):
        raise AddressRefusedError(f"Its port must be {' or '.join(map(str, sorted(ports)))}.")
    # Two readers that do not agree on the host are how one address is judged and another one called.
    if not host.isascii() or host.strip("[]") != sent.strip("[]"):
        raise AddressRefusedError("Its host must be written in plain ASCII; write an international name in punycode.")
    target = seen.raw_path.decode("ascii")
    literal = _literal(host)
    if literal is None and not _NAME.fullmatch(host):
        raise AddressRefusedError("Its host must be a full name such as hooks.example.org, or a usual IP address.")
    return Goal(host, port, target, literal)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address lies outside every private, local, reserved and translated network, or in an allowed one."""
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        for network, right in _WITH_IPV4_INSIDE:
            if address in network:
                return is_public(IPv4Address(int(address) >> right & 0xFFFFFFFF), allowed)
        if address in _TEREDO:
            return False
    if not address.is_global or address.is_multicast:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name; raises OSError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def require_good(url: str, networks: Sequence[str], ports: Collection[int]) -> None:
    """Raise AddressRefusedError for what will never be called; where a name leads is judged at each call."""
    goal = goal_of(url, frozenset(ports))
    if goal.literal is not None and not is_public(goal.literal, tuple(ip_network(text) for text in networks)):
        raise AddressRefusedError(f"{goal.host} leads into a private or local network.")


class Egress:
    """Calls addresses outside; holds what this install allows."""

    def __init__(
        self,
        *,
        networks: Sequence[str] = (),
        ports: Collection[int] = (443,),
        context: ssl.SSLContext | None = None,
        resolver: Resolve = resolve,
    ) -> None:
        """`networks` are inside networks that may be called all the same; `ports` those that addresses may name."""
        self._allowed = tuple(ip_network(text) for text in networks)
        self._ports = frozenset(ports)
        self._context = context or ssl.create_default_context()
        self._resolve = resolver

    async def check(self, url: str) -> tuple[Goal, Address]:
        """The address taken apart, and where it leads now; raises AddressRefusedError or CallFailedError."""
        goal = goal_of(url, self._ports)
        if goal.literal is not None:
            found: list[Address] = [goal.literal]
        else:
            try:
                found = [ip_address(text) for text in await self._resolve(goal.host, goal.port)]
            except (OSError, ValueError):
                found = []
            if not found:
                raise CallFailedError(f"The name {goal.host} cannot be resolved.")
        # One inside address among several is not an accident, and which of them is called would be chance.
        if not all(is_public(one, self._allowed) for one in found):
            raise AddressRefusedError(f"{goal.host} leads into a private or local network.")
        return goal, found[0]

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body; whatever the other side answers is an answer, a redirect too.

        Raises AddressRefusedError when the address may not be called, CallFailedError when nobody answered.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(SECONDS):
                goal, address = await self.check(url)
                return await self._send(goal, address, body, headers, began)
        except TimeoutError:
            raise CallFailedError(f"There was no answer within {SECONDS:.0f} seconds.") from None
        except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
            raise CallFailedError(f"{type(error).__name__} while calling it.") from None

    async def _send(
        self, goal: Goal, address: Address, body: bytes, headers: Mapping[str, str], began: float
    ) -> Answer:
        host = f"[{goal.host}]" if isinstance(goal.literal, IPv6Address) else goal.host
        authority = host if goal.port == 443 else f"{host}:{goal.port}"  # noqa: PLR2004 - the port that goes without saying
        numeric = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        there = httpx2.URL(f"https://{numeric}:{goal.port}{goal.target}")
        sent = {**headers, "Host": authority}
        named = {"sni_hostname": goal.host}
        async with (
            httpx2.AsyncClient(verify=self._context, trust_env=False, timeout=SECONDS) as client,
            client.stream("POST", there, content=body, headers=sent, extensions=named) as response,
        ):
            read = bytearray()
            async for chunk in response.aiter_raw(8192):
                read += chunk
                if len(read) >= ANSWER_BYTES:
                    break
            return Answer(response.status_code, bytes(read[:ANSWER_BYTES]), time.monotonic() - began)
