"""Calls to addresses that people entered (T15): none reaches the inside, whatever the address looks like."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from pmis.kit.egress import (
    ANSWER_BYTES,
    AddressRefusedError,
    CallFailedError,
    Egress,
    goal_of,
    is_public,
)
from tests.kit.inside import NAME, Inside, recording, resolving, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def connections() -> Iterator[list[tuple[str, int]]]:
    with recording() as seen:
        yield seen


@pytest.fixture
async def inside(tmp_path: Path) -> AsyncIterator[Inside]:
    async with serving(tmp_path, NAME) as made:
        yield made


class TestGood:
    async def test_a_body_arrives_at_the_name_that_was_meant(self, inside: Inside, connections: Any):
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        answer = await egress.post(inside.url, b'{"a":1}', {"X-Test": "yes"})
        assert (answer.status, answer.body) == (200, b"ok")
        (request,) = inside.requests
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
        assert f"host: {NAME}:{inside.port}".encode() in head.lower()
        assert b"x-test: yes" in head.lower()
        assert body == b'{"a":1}'
        assert connections == [("127.0.0.1", inside.port)]

    @pytest.mark.parametrize(
        ("url", "host", "target"),
        [
            ("https://hooks.example.org", NAME, "/"),
            ("https://HOOKS.Example.ORG:443/a/b?c=d", NAME, "/a/b?c=d"),
            ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
            ("https://8.8.8.8/x", "8.8.8.8", "/x"),
            ("https://[2606:4700::1111]/x", "2606:4700::1111", "/x"),
        ],
    )
    async def test_public_addresses_are_taken(self, url: str, host: str, target: str):
        goal, _ = await Egress(resolver=resolving("93.184.215.14")).check(url)
        assert (goal.host, goal.port, goal.target) == (host, 443, target)

    @pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::808:808"])
    def test_public_is_public(self, text: str):
        assert is_public(ipaddress.ip_address(text))


# --- what may not ---

INSIDE_V4 = (
    "127.0.0.1", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.169.254", "169.254.170.2", "100.64.0.1",
    "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
)  # fmt: skip
INSIDE_V6 = (
    "::", "::1", "::7f00:1", "fc00::1", "fd12:3456::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
    "ff0e::1", "100::1", "2001::1", "2001:db8::1", "2001:10::1", "2001:2::1", "3fff::1", "5f00::1", "64:ff9b:1::1",
)  # fmt: skip


def _hidden(text: str) -> Iterator[str]:
    """The same IPv4 address inside IPv6 ones."""
    number = int(ipaddress.IPv4Address(text))
    for network, shift in (
        ("::ffff:0:0", 0), ("::ffff:0:0:0", 0), ("64:ff9b::", 0), ("2002::", 80),
    ):  # fmt: skip
        yield str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(network)) | number << shift))


def _spelled(text: str) -> Iterator[str]:
    """The same IPv4 address as lenient readers know it."""
    number = int(ipaddress.IPv4Address(text))
    a, b, c, d = (number >> shift & 255 for shift in (24, 16, 8, 0))
    yield from (
        str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"00{a:o}.{b}.{c}.{d}", f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0x{a:x}.{b}.{c}.{d}", f"{a}.{b}.{c}.{d}.", f"{a + 256}.{b}.{c}.{d}", f"{a:03}.{b:03}.{c:03}.{d:03}",
        f"{a}。{b}。{c}。{d}", f"{a}.{b}.{c}.{d}%00", f"%31{str(a)[1:]}.{b}.{c}.{d}",
    )  # fmt: skip


ADDRESSES = (*INSIDE_V4, *INSIDE_V6, *(one for text in INSIDE_V4 for one in _hidden(text)))
"""Addresses that a name may lead to."""
HOSTS = (
    *INSIDE_V4,
    *(f"[{text}]" for text in INSIDE_V6),
    *(f"[{one}]" for text in ("127.0.0.1", "169.254.169.254", "10.0.0.1") for one in _hidden(text)),
    *(one for text in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1") for one in _spelled(text)),
    "localhost", "LOCALHOST", "localhost.", "metadata", "ip6-localhost", "①②⑦.⓪.⓪.①", "127。0。0。1", "[::1%25lo]",
    "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[0000::1]", "[::127.0.0.1]", "1", "0", "0x7f", "127.1", "", ".", "..",
    "[", "[]", "[::1", "::1", "a..example.org", "-a.example.org", "exam_ple", "hooks.example.org\u200b",
    "hooks.example.1", "\uff48ooks.example.org", "bücher.example", "hooks.example.org%2f@127.0.0.1",
)  # fmt: skip
PUBLIC = f"https://{NAME}"
URLS = (
    *(f"https://{host}/hook" for host in HOSTS),
    "", "https:", "https://", "//127.0.0.1/", "/hook", "hooks.example.org", "https:/127.0.0.1", "https:127.0.0.1",
    f"http://{NAME}/", f"HTTP://{NAME}/", "http://127.0.0.1/", "ftp://hooks.example.org/", "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:6379/info", "unix:///run/valkey.sock", "data:text/plain,x",
    "javascript:alert(1)", "ldap://127.0.0.1/", "jar:https://127.0.0.1!/", "wss://hooks.example.org/",
    f"https://127.0.0.1@{NAME}/", f"https://{NAME}@127.0.0.1/", f"https://user:pw@{NAME}/", f"https://{NAME}:pw@127.0.0.1",
    f"https://{NAME}\\@127.0.0.1/", f"https://127.0.0.1\\@{NAME}/", f"https://{NAME}#@127.0.0.1/",
    f"{PUBLIC}/#fragment",
    f"{PUBLIC}/#", f"https://127.0.0.1#{NAME}/", f"https://127.0.0.1?@{NAME}/", f"{PUBLIC}:22/", f"{PUBLIC}:6379/",
    f"{PUBLIC}:80/", f"{PUBLIC}:0/", f"{PUBLIC}:65536/", f"{PUBLIC}:-1/", f"{PUBLIC}:443x/", f"{PUBLIC}:٤٤٣/",
    f"{PUBLIC}:4 43/",
    f" {PUBLIC}/", f"{PUBLIC}/ ", f"{PUBLIC}/a b", f"{PUBLIC}/\r\nHost: 127.0.0.1", f"{PUBLIC}\t/", f"{PUBLIC}/\x00",
    f"{PUBLIC}\n.evil.example/", f"{PUBLIC}/\u2028x", f"{PUBLIC}/\x7f", f"{PUBLIC}%00.evil.example/",
    f"{PUBLIC}/" + "x" * 2000,
    "https://[::1]:443@hooks.example.org/", "https://[fe80::1%25eth0]/", "https://[::ffff:7f00:1]:443/",
    "\thttps://127.0.0.1",
)  # fmt: skip


def test_there_are_enough_of_them():
    assert len(set(URLS)) >= 200
    assert len(set(ADDRESSES)) >= 100


class TestRefused:
    async def test_no_form_of_an_inside_address_is_called(self, connections: list[Any]):
        """The real resolver: a name that it should know leads inside, and any other nowhere."""
        asked: list[str] = []

        async def watched(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"] if host != NAME else ["93.184.215.14"]

        egress = Egress(resolver=watched)
        for url in URLS:
            with pytest.raises((AddressRefusedError, CallFailedError)) as caught:
                await egress.post(url, b"x", {})
            assert caught.value.detail, url
        assert connections == []
        assert NAME not in asked, "the public name in these is bait, and never where they lead"

    @pytest.mark.parametrize("address", ADDRESSES)
    async def test_no_name_may_lead_inside(self, address: str, connections: list[Any]):
        for found in ([address], ["93.184.215.14", address], [address, "93.184.215.14"]):

            async def resolve(_host: str, _port: int, found: list[str] = found) -> Sequence[str]:
                return found

            with pytest.raises(AddressRefusedError, match="private or local"):
                await Egress(resolver=resolve).post(f"{PUBLIC}/", b"x", {})
        assert connections == []

    async def test_a_name_without_an_address_is_a_failure_to_try_again(self):
        async def resolve(_host: str, _port: int) -> Sequence[str]:
            raise OSError("no such name")

        with pytest.raises(CallFailedError, match="cannot be resolved"):
            await Egress(resolver=resolve).post(PUBLIC, b"x", {})

    async def test_a_name_that_rebinds_is_resolved_once(self, inside: Inside, connections: list[Any]):
        """What was looked at is what is called; a second look-up would lead to 127.0.0.66."""
        for _ in range(3):
            egress = Egress(
                networks=["127.0.0.1/32"],
                ports=(inside.port,),
                context=inside.context,
                resolver=resolving("127.0.0.1", "127.0.0.66"),
            )
            assert (await egress.post(inside.url, b"x", {})).status == 200
        assert set(connections) == {("127.0.0.1", inside.port)}

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_answers_and_not_followed(self, inside: Inside, connections: list[Any], status: int):
        inside.answer = (
            f"HTTP/1.1 {status} Go\r\nLocation: https://127.0.0.1:{inside.port}/secret\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        assert (await egress.post(inside.url, b"x", {})).status == status
        assert len(inside.requests) == 1
        assert len(connections) == 1

    async def test_the_certificate_must_be_the_names(self, tmp_path: Path):
        async with serving(tmp_path, "other.example.org") as other:
            egress = Egress(
                networks=["127.0.0.0/8"], ports=(other.port,), context=other.context, resolver=resolving("127.0.0.1")
            )
            with pytest.raises(CallFailedError):
                await egress.post(other.url, b"x", {})
            assert other.requests == []

    async def test_and_one_that_is_trusted(self, inside: Inside):
        egress = Egress(networks=["127.0.0.0/8"], ports=(inside.port,), resolver=resolving("127.0.0.1"))
        with pytest.raises(CallFailedError):
            await egress.post(inside.url, b"x", {})
        assert inside.requests == []

    async def test_proxies_of_the_environment_are_not_used(
        self, inside: Inside, connections: list[Any], monkeypatch: pytest.MonkeyPatch
    ):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.9:9")
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        await egress.post(inside.url, b"x", {})
        assert connections == [("127.0.0.1", inside.port)]

    async def test_who_does_not_answer_is_not_waited_for(self, inside: Inside, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("pmis.kit.egress.SECONDS", 0.3)
        inside.delay = 30
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        with pytest.raises(CallFailedError, match="no answer within"):
            await egress.post(inside.url, b"x", {})

    async def test_only_the_beginning_of_a_long_answer_is_read(self, inside: Inside):
        inside.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"y" * 5_000_000
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        assert len((await egress.post(inside.url, b"x", {})).body) == ANSWER_BYTES

    async def test_garbage_for_an_answer_is_a_failure(self, inside: Inside):
        inside.answer = b"\x00\xff not http\r\n\r\n"
        egress = Egress(
            networks=["127.0.0.0/8"], ports=(inside.port,), context=inside.context, resolver=resolving("127.0.0.1")
        )
        with pytest.raises(CallFailedError):
            await egress.post(inside.url, b"x", {})


class TestTheTestsSee:
    """The tests above can fail: what others do reaches the inside, and is seen to."""

    async def test_a_client_that_checks_the_text_alone(self, inside: Inside, connections: list[Any]):
        def looks_good(url: str) -> bool:
            return not any(word in url for word in ("127.0.0.1", "localhost", "169.254", "10.0.0."))

        reached = 0
        async with httpx2.AsyncClient(verify=inside.context, timeout=1) as client:
            for url in (
                f"https://127.1:{inside.port}/",
                f"https://0x7f000001:{inside.port}/",
                f"https://0:{inside.port}/",
            ):
                assert looks_good(url)
                with contextlib.suppress(httpx2.HTTPError):
                    await client.post(url, content=b"x")
                reached = len(connections)
        assert reached > 0

    async def test_one_that_resolves_twice(
        self, inside: Inside, connections: list[Any], monkeypatch: pytest.MonkeyPatch
    ):
        """Planted: the connection is made by name again after the check."""
        resolve = resolving("127.0.0.1", "127.0.0.66")
        original = Egress._send

        async def again(self: Egress, goal: Any, address: Any, *more: Any) -> Any:
            return await original(self, goal, ipaddress.ip_address((await resolve("", 0))[0]), *more)

        monkeypatch.setattr(Egress, "_send", again)
        egress = Egress(networks=["127.0.0.1/32"], ports=(inside.port,), context=inside.context, resolver=resolve)
        with pytest.raises(CallFailedError):
            await egress.post(inside.url, b"x", {})
        assert ("127.0.0.66", inside.port) in connections

    async def test_one_that_trusts_the_first_of_several(self, monkeypatch: pytest.MonkeyPatch):
        """Planted: a single public address makes up for the others."""
        monkeypatch.setattr("builtins.all", any)

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return ["93.184.215.14", "127.0.0.1"]

        _, address = await Egress(resolver=resolve).check(PUBLIC)
        assert str(address) == "93.184.215.14"

    async def test_two_readers_of_one_address(self):
        """Why both readers must agree: an international full stop is one to the second, and none to the first."""
        with pytest.raises(AddressRefusedError, match="ASCII"):
            goal_of("https://127。0。0。1/")
