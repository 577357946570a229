"""When things go wrong between the command line and the server: once is once, and every failure is a sentence."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pmis.cli import accounts, client
from pmis.cli.accounts import Account
from pmis.cli.client import Api, BadArgumentError
from tests.cli.conftest import run, serving, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


class Line:
    """A line to the server on which things happen: what is queued happens to the next requests, the others pass."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.queue: deque[str] = deque()
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            while request := _read(near):
                self.requests.append(request)
                happens = self.queue.popleft() if self.queue else "pass"
                if happens == "cut before":
                    return
                if not happens.startswith(("cut", "pass")):
                    near.sendall(happens.encode())
                    return
                with socket.create_connection(self._target, timeout=20) as far:
                    far.sendall(request)
                    answer = _read(far)
                if happens == "cut after":
                    return
                if happens == "cut within":
                    near.sendall(answer[: len(answer) // 2])
                    return
                near.sendall(answer)

    @property
    def keys(self) -> list[str]:
        """The idempotency key of each request that had one."""
        lines = [line for request in self.requests for line in request.decode().split("\r\n")]
        return [line.partition(": ")[2] for line in lines if line.lower().startswith("idempotency-key:")]


def _read(end: socket.socket) -> bytes:
    """One request or answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = end.recv(65_536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        more = end.recv(65_536)
        if not more:
            break
        data += more
        missing -= len(more)
    return data


@pytest.fixture
def line(signed_in: LiveApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to the API, and the analyst signed in at its near end as `far`."""
    monkeypatch.setattr(client, "_FIRST_WAIT_SECONDS", 0.01)
    one = Line(signed_in.url)
    accounts.keep(Account(one.url, signed_in.tokens["analyst"], "far", "analyst@demo.example", "Ana Analyst"))
    yield one
    one.close()


def busy(seconds: int) -> str:
    body = json.dumps({"detail": "Not now.", "code": "unavailable", "status": 503})
    return (
        f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def titled(pmis: Pmis, title: str) -> list[str]:
    found = pmis("package", "list", "--search", title, "--json", "--as", "analyst").json
    return [item["code"] for item in found["items"]]


class TestOnce:
    @pytest.mark.parametrize(
        "happens",
        [
            ["cut before"],
            ["cut after"],
            ["cut within"],
            ["cut after", "cut before", "cut within"],
            [busy(0)],
            [busy(1)],
        ],
        ids=lambda steps: ", ".join(step[:12] for step in steps),
    )
    def test_a_write_takes_effect_once_whatever_happens_to_the_line(self, pmis: Pmis, line: Line, happens: list[str]):
        title = f"Once{time.monotonic_ns()}"
        line.queue.extend(happens)
        made = pmis("package", "create", "--title", title, "--json", "--as", "far")
        assert (made.code, made.err) == (0, ""), made
        assert made.json["outcome"] == "applied"
        assert len(titled(pmis, title)) == 1
        assert len(line.keys) == len(happens) + 1
        assert len(set(line.keys)) == 1

    def test_a_decision_is_taken_once(
        self, pmis: Pmis, line: Line, make_package: Callable[..., str], live_api: LiveApi
    ):
        code = make_package("Lock", status="submitted")
        proposed = pmis("package", "propose", code, "--title", "Sluice", "--json", "--as", "analyst").json
        accounts.keep(Account(line.url, live_api.tokens["admin"], "far-admin"))
        line.queue.extend(["pass", "cut after"])  # the approval is read, then decided
        agreed = pmis("approval", "approve", proposed["approval"]["id"], "--yes", "--as", "far-admin")
        assert agreed.code == 0, agreed
        assert agreed.out.startswith(f"{code} Sluice is changed (version 3)")

    def test_it_gives_up_in_the_end_and_says_how_to_go_on(self, pmis: Pmis, line: Line):
        title = f"Lost{time.monotonic_ns()}"
        line.queue.extend(["cut after"] + ["cut before"] * 10)
        lost = pmis("package", "create", "--title", title, "--as", "far")
        assert lost.code == 1
        assert len(line.requests) == 5
        key = line.keys[0]
        assert f"took effect is not known. Repeat it with `--key {key}`" in lost.err
        line.queue.clear()
        again = pmis("package", "create", "--title", title, "--key", key, "--json", "--as", "far")
        assert again.json["resource"]["code"] == titled(pmis, title)[0]
        assert len(titled(pmis, title)) == 1

    def test_a_key_of_ones_own_is_used_and_holds(self, pmis: Pmis, line: Line):
        key = f"mine-{time.monotonic_ns()}"
        first = pmis("package", "create", "--title", "Keyed", "--key", key, "--json", "--as", "far")
        assert line.keys == [key]
        assert pmis("package", "create", "--title", "Keyed", "--key", key, "--json", "--as", "far").out == first.out
        other = pmis("package", "create", "--title", "Another", "--key", key, "--as", "far")
        assert other.code == 1
        assert "was used for a different request" in other.err
        assert pmis("package", "create", "--title", "X", "--key", "with space", "--as", "far").code == 1

    def test_each_write_has_a_key_of_its_own(self, pmis: Pmis, line: Line):
        for _ in range(2):
            assert pmis("package", "create", "--title", "Twin", "--as", "far").code == 0
        assert len(set(line.keys)) == 2

    def test_a_busy_record_is_waited_for(self, pmis: Pmis, make_package: Callable[..., str], live_api: LiveApi):
        code = make_package("Busy")
        with psycopg.connect(live_api.database.owner_dsn) as held:
            held.execute("select 1 from state.package where code = %s for update", (code,))
            threading.Timer(0.6, held.rollback).start()
            changed = pmis("package", "propose", code, "--title", "Free again", "--as", "analyst")
        assert (changed.code, changed.err) == (0, ""), changed

    def test_who_asks_to_come_back_much_later_is_taken_at_their_word(self, pmis: Pmis, line: Line):
        line.queue.append(busy(60))
        began = time.monotonic()
        refused = pmis("package", "list", "--as", "far")
        assert (refused.code, refused.err) == (1, "error: Not now.\n")
        assert time.monotonic() - began < 5

    def test_a_download_that_breaks_off_leaves_no_file(self, pmis: Pmis, line: Line, live_api: LiveApi, tmp_path: Any):
        accounts.keep(Account(line.url, live_api.tokens["auditor"], "far-auditor"))
        line.queue.append("HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\nContent-Length: 1000\r\n\r\nonly this")
        target = tmp_path / "log.gz"
        target.write_bytes(b"the one before")
        broken = pmis("audit", "export", str(target), "--project", "P", "--as", "far-auditor")
        assert broken.code == 1
        assert "is not complete" in broken.err
        assert target.read_bytes() == b"the one before"
        assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".log")] == []


class TestFailures:
    def test_nobody_there(self, home: Any, monkeypatch: pytest.MonkeyPatch):
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        accounts.keep(Account(url, "token", "default"))
        refused = run("package", "list")
        assert refused.code == 1
        assert refused.err.startswith(f"error: No PMIS answers at {url} (")
        assert refused.err.endswith("Start it with `pmis up`, or name another address with `pmis login --url`.\n")

    def test_nobody_there_any_more(self, home: Any, signed_in: LiveApi, tmp_path: Any):
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "runtime.json").write_text(json.dumps({"PMIS_URL": signed_in.url}))
        accounts.keep(Account("http://127.0.0.1:9", "token", "old"))
        refused = run("package", "list", "--as", "old")
        assert (
            f"`pmis up` serves {signed_in.url} now: sign in there with `pmis login --url {signed_in.url}`."
            in refused.err
        )

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\n\r\n<h1>Oh</h1>\n", "answered 502 with something"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n<h1>Hi</h1>", "does not come from PMIS"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "does not come from PMIS"),
            (
                "HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/\x1b[2J\r\nContent-Length: 0\r\n\r\n",
                "sends its callers on to https://elsewhere.example/",
            ),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "No PMIS answers at"),
            (
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
                "No PMIS answers at",
            ),
        ],
        ids=["a proxy", "a page", "a list", "a redirect", "another protocol", "damaged gzip"],
    )
    def test_something_else_is_there(self, pmis: Pmis, line: Line, answer: str, said: str):
        line.queue.extend([answer] * 6)
        refused = pmis("package", "show", "P-001", "--as", "far")
        assert refused.code == 1
        assert said in refused.err
        assert "\x1b" not in refused.err
        assert refused.err.count("\n") == 1

    def test_a_server_that_fails_names_the_request(self, pmis: Pmis, line: Line):
        body = json.dumps({"detail": "PMIS could not answer.", "code": "internal_error", "correlation_id": "abc-1"})
        line.queue.append(f"HTTP/1.1 500 X\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        assert pmis("package", "list", "--as", "far").err == ("error: PMIS could not answer.\n  correlation id abc-1\n")

    def test_each_wrong_field_is_named(self, pmis: Pmis):
        refused = pmis(
            *("package", "create", "--title", "x" * 301, "--amount", "1.5.1", "--currency", "XXY", "--as", "analyst")
        )
        assert refused.code == 1
        assert refused.err == (
            "error: title: String should have at most 300 characters\n"
            "  /title: String should have at most 300 characters\n"
            "  /amount: '1.5.1' is not a decimal number\n"
            "  /currency: 'XXY' is not a currency code of ISO 4217, such as EUR or USD\n"
        )

    def test_for_a_program_the_problem_is_printed_as_it_came(self, pmis: Pmis):
        refused = pmis("package", "show", "P-999", "--json", "--as", "analyst")
        assert refused.code == 1
        assert refused.json["code"] == "not_found"
        assert refused.err == "error: There is no such package.\n"

    def test_a_role_that_is_missing_is_said(self, pmis: Pmis):
        refused = pmis("package", "propose", "P-001", "--title", "Mine", "--as", "viewer")
        assert refused.code == 1
        assert "Only an analyst, an operator, an admin or an executive may propose this." in refused.err

    def test_no_failure_shows_a_trace(self, home: Any):
        for arguments in (["package", "list"], ["package", "list", "--as", "../x"], ["package", "nothing"]):
            ended = spawn(*arguments)
            assert ended.code in (1, 2)
            assert "Traceback" not in ended.out + ended.err


class TestBadInput:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("package", "create", "--title", "\udcff\udcfe"),
            ("package", "list", "--search", "\udcff"),
            ("package", "show", "\udc80"),
            ("comment", "add", "package", "P-001", "\udcff"),
        ],
    )
    def test_text_that_is_not_utf_8(self, pmis: Pmis, arguments: tuple[str, ...]):
        refused = pmis(*arguments, "--as", "analyst")
        assert refused.code == 1
        assert "is not valid UTF-8 text" in refused.err
        assert "\\udc" in refused.err

    def test_a_number_is_what_was_written(self, pmis: Pmis, make_package: Callable[..., str]):
        code = make_package("Numbers")
        sets = ("--set", "title=2024", "--set", "amount=990.50", "--set", "currency=EUR", "--set", "description=1e3")
        done = pmis("package", "propose", code, *sets, "--json", "--as", "analyst").json["resource"]
        assert (done["title"], done["amount"], done["description"]) == ("2024", "990.50", "1e3")

    @pytest.mark.parametrize("reference", ["../people", "P-001/timeline", "a?b", "..", "P 001", "x" * 400, "P\x1b[2J"])
    def test_a_reference_reaches_no_other_address(self, pmis: Pmis, reference: str):
        refused = pmis("package", "show", reference, "--as", "analyst")
        assert refused.code == 1
        assert "names no record" in refused.err
        assert "\x1b" not in refused.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--set", 'title="a\\u0000b"'), "title: must not contain the control character U+0000"),
            (("--set", "title=true"), "title: Input should be a valid string"),
            (("--set", "amount=true", "--set", "currency=EUR"), "amount: an amount is a decimal text"),
            (("--set", "bogus=1"), "bogus: Extra inputs are not permitted"),
            (("--data", "x=1e999"), "no such number"),
            (("--planned-end", "soon"), "planned_end: "),
            (("--amount", "-5"), "amount: an amount is not negative"),
            (("--owner", "Nobody At All"), "There is no person 'Nobody At All'"),
            (("--vendor", "nobody@nowhere.example"), "There is no party 'nobody@nowhere.example'"),
        ],
    )
    def test_a_value_that_cannot_be(self, pmis: Pmis, arguments: tuple[str, ...], said: str):
        refused = pmis("package", "propose", "P-001", *arguments, "--as", "analyst")
        assert refused.code == 1
        assert refused.err.startswith("error: ")
        assert said in refused.err
        assert "\0" not in refused.err

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--set", "title"),
            ("--set", "=x"),
            ("--set", "title=a", "--set", "title=b"),
            ("--set", "title=a", "--title", "b"),
            ("--data", "a=1", "--set", "data={}"),
            ("--title",),
            ("--impact", "huge"),
            ("--if-match", "one"),
        ],
    )
    def test_what_cannot_be_understood_ends_with_2(self, pmis: Pmis, arguments: tuple[str, ...]):
        refused = pmis("package", "propose", "P-001", *arguments, "--as", "analyst")
        assert refused.code == 2
        assert "Usage: pmis package propose" in refused.err
        assert refused.out == ""

    def test_a_body_that_is_too_large(self, pmis: Pmis):
        refused = pmis("package", "propose", "P-001", "--description", "x" * 1_100_000, "--as", "analyst")
        assert refused.code == 1
        assert "larger than" in refused.err

    def test_something_nested_too_deep(self, pmis: Pmis):
        refused = pmis("package", "propose", "P-001", "--set", f"data={'[' * 5000}{']' * 5000}", "--as", "analyst")
        assert refused.code == 1
        assert "Traceback" not in refused.err


def test_the_server_knows_who_calls(pmis: Pmis, line: Line):
    assert pmis("package", "create", "--title", "Told", "--as", "far").code == 0
    head = line.requests[0].decode()
    assert "user-agent: pmis-cli/" in head.lower()
    assert "authorization: bearer " in head.lower()
    [code] = titled(pmis, "Told")[:1]
    assert pmis("package", "timeline", code, "--json", "--as", "analyst").json["items"][0]["source"] == "cli"


def test_a_proxy_is_not_asked_for_this_machine(pmis: Pmis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert pmis("package", "list", "--as", "analyst").code == 0


def test_a_token_that_is_none_is_not_sent(home: Any):
    with pytest.raises(BadArgumentError, match="holds what no token holds"):
        Api("http://127.0.0.1:9", Account("http://127.0.0.1:9", "no\r\nX-Evil: 1"))


def test_a_host_that_is_none(home: Any):
    with pytest.raises(BadArgumentError, match="cannot be reached"):
        Api("http://" + "a" * 70 + "\u0301.example:1")


class TestPages:
    @pytest.fixture
    def many(self, live_api: LiveApi) -> Any:
        """An application of 450 records behind the API's own list contract."""
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        asked: list[int] = []

        async def records(request: Any) -> JSONResponse:
            limit, start = int(request.query_params["limit"]), int(request.query_params.get("cursor") or 0)
            asked.append(limit)
            items = [
                {"id": f"{n:032x}", "code": f"P-{n}", "title": f"No {n}"} for n in range(start, min(start + limit, 450))
            ]
            following = str(start + limit) if start + limit < 450 else None
            return JSONResponse({"items": items, "next": following})

        with serving(Starlette(routes=[Route("/api/v1/packages", records)])) as one:
            accounts.keep(Account(one.url, "token", "many"))
            yield asked

    @pytest.mark.parametrize(
        ("arguments", "count", "asked", "more"),
        [
            ((), 50, [50], "50"),
            (("--limit", "3"), 3, [3], "3"),
            (("--limit", "200"), 200, [200], "200"),
            (("--limit", "250"), 250, [200, 50], "250"),
            (("--limit", "1000"), 450, [200, 200, 200], None),
            (("--all",), 450, [200, 200, 200], None),
            (("--cursor", "440"), 10, [50], None),
        ],
    )
    def test_they_are_followed(
        self, home: Any, many: list[int], arguments: Any, count: int, asked: list[int], more: Any
    ):
        listed = run("package", "list", *arguments, "--as", "many")
        assert listed.code == 0, listed
        assert len(listed.out.splitlines()) == count + 1
        assert many == asked
        expected = f"{more} are shown and there are more: --limit N or --all shows them.\n" if more else ""
        assert listed.err == expected
        as_json = run("package", "list", *arguments, "--json", "--as", "many").json
        assert len(as_json["items"]) == count
        assert (as_json["next"] is not None) == (more is not None)

    def test_a_page_with_nothing_on_it_is_not_the_end(self, home: Any):
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def records(request: Any) -> JSONResponse:
            first = "cursor" not in request.query_params
            return JSONResponse(
                {"items": [] if first else [{"id": "1", "code": "P-1"}], "next": "x" if first else None}
            )

        with serving(Starlette(routes=[Route("/api/v1/packages", records)])) as one:
            accounts.keep(Account(one.url, "token", "sparse"))
            assert len(run("package", "list", "--json", "--as", "sparse").json["items"]) == 1
