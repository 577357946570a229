"""The web app as `pmis up` builds and serves it: real pages, through its own address, for people with a session."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pmis.ops.demo_people import PASSWORD
from tests.ops.test_up import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILD_SECONDS = 400
"""Installing Node and the packages, and building, on a slow machine."""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """What a browser does of its own accord: it keeps the cookie, and says from which page a request comes."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.host = urllib.parse.urlsplit(origin).netloc
        self.cookie = ""

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        sent = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"} if method != "GET" else {}
        if self.cookie:
            sent["Cookie"] = self.cookie
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        for cookie in found.headers.get_all("Set-Cookie") or ():
            self.cookie = cookie.partition(";")[0]
        return found

    def sign_in(self, who: str, password: str = PASSWORD) -> Answer:
        said = {"email": f"{who}@demo.example", "password": password, "session": "cookie"}
        return self.ask("POST", "/api/v1/auth/login", said)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("pages") / "data", pages=True)
    try:
        running.until("PMIS is ready after", BUILD_SECONDS)
        yield running
        assert running.end() == 0
    finally:
        running.leave_nothing()


@pytest.fixture
def origin(place: Running) -> str:
    return json.loads((place.folder / "runtime.json").read_text())["PUBLIC_URL"]


@pytest.fixture
def browser(origin: str) -> Browser:
    return Browser(origin)


@pytest.fixture
def ana(browser: Browser) -> Browser:
    assert browser.sign_in("analyst").status == 200
    return browser


def test_it_is_where_up_says_it_is(place: Running, origin: str):
    assert any(line.endswith(origin) for line in place.lines if line.startswith("PMIS is ready after"))


def test_nobody_signed_in_is_sent_to_sign_in_and_comes_back(browser: Browser):
    answer = browser.ask("GET", "/packages?status=draft")
    assert answer.status == 307
    assert answer.headers["Location"] == "/sign-in?next=%2Fpackages%3Fstatus%3Ddraft"
    page = browser.ask("GET", answer.headers["Location"])
    assert page.status == 200
    assert 'type="password"' in page.text


def test_the_session_is_a_cookie_that_no_script_reads(browser: Browser):
    answer = browser.sign_in("analyst")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert {"HttpOnly", "Secure", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert set(answer.json()) == {"session_id", "expires_in"}, "no token reaches a script"


def test_a_wrong_password_is_refused_through_the_pages_too(browser: Browser):
    answer = browser.sign_in("analyst", "wrong-wrong-wrong")
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert not browser.cookie


def test_the_list_comes_with_its_first_rows(ana: Browser):
    codes = [one["code"] for one in ana.ask("GET", "/api/v1/packages?limit=5").json()["items"]]
    page = ana.ask("GET", "/packages")
    assert page.status == 200
    assert len(codes) == 5
    rows = re.sub(r"<script.*?</script>", "", page.text, flags=re.DOTALL)
    assert [code for code in codes if f"/packages/{code}" not in rows] == []


@pytest.mark.parametrize("path", ["/", "/packages/board", "/approvals", "/tasks", "/chat", "/audit", "/profile"])
def test_every_page_is_there(ana: Browser, path: str):
    page = ana.ask("GET", path)
    assert page.status == 200
    assert "<main" in page.text


def test_a_package_has_a_page_and_nothing_is_nothing(ana: Browser):
    one = ana.ask("GET", "/api/v1/packages?limit=1").json()["items"][0]
    page = ana.ask("GET", f"/packages/{one['code']}")
    assert page.status == 200
    assert one["title"] in page.text
    assert ana.ask("GET", "/packages/NONE-99").status == 404
    assert ana.ask("GET", "/nothing-here").status == 404


def test_only_scripts_that_a_page_names_run_and_no_page_is_framed(ana: Browser):
    page = ana.ask("GET", "/packages")
    policy = page.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'self' 'nonce-([^']+)' 'strict-dynamic';", policy)
    assert nonce
    assert "frame-ancestors 'none'" in policy
    scripts = re.findall(r"<script\b[^>]*>", page.text)
    assert scripts
    assert [script for script in scripts if f'nonce="{nonce[1]}"' not in script] == []
    assert ana.ask("GET", "/packages").headers["Content-Security-Policy"] != policy, "each answer has its own"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "X-Powered-By" not in page.headers


def test_another_site_changes_nothing_with_the_cookie(ana: Browser):
    before = ana.ask("GET", "/api/v1/packages?limit=200").json()["items"]
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
    ):
        answer = ana.ask("POST", "/api/v1/packages", {"title": "Forged"}, **headers)
        assert (answer.status, answer.json()["code"]) == (403, "cross_site")
    assert ana.ask("GET", "/api/v1/packages?limit=200").json()["items"] == before


def test_nobody_becomes_somebody_by_a_header(browser: Browser):
    forged = {"X_User_Id": "admin@demo.example", "X_User_Role": "admin", "X_Proxy_Secret": "x"}
    assert browser.ask("GET", "/api/v1/auth/me", **forged).status == 401


def test_what_is_proposed_there_is_decided_there_by_somebody_else(ana: Browser, origin: str):
    one = next(
        each
        for each in ana.ask("GET", "/api/v1/packages?status=in_review&limit=50").json()["items"]
        if each["amount"] is not None
    )
    path = f"/api/v1/packages/{one['id']}/transitions"
    proposed = ana.ask("POST", path, {"status": "approved"}, Idempotency_Key="pages-1")
    again = ana.ask("POST", path, {"status": "approved"}, Idempotency_Key="pages-1")
    assert proposed.status == 202
    assert again.body == proposed.body
    assert again.headers["Idempotency-Replayed"] == "true"
    approval = proposed.json()["approval"]
    own = ana.ask("POST", f"/api/v1/approvals/{approval['id']}/approve", {"digest": approval["digest"]})
    assert own.status == 403
    ada = Browser(origin)
    assert ada.sign_in("admin").status == 200
    decided = ada.ask("POST", f"/api/v1/approvals/{approval['id']}/approve", {"digest": approval["digest"]})
    assert decided.status == 200, decided.text
    assert ana.ask("GET", f"/api/v1/packages/{one['id']}").json()["status"] == "approved"


def test_what_changes_is_heard_through_it_at_once(ana: Browser):
    connection = http.client.HTTPConnection(ana.host, timeout=20)
    # A browser takes compressed answers: what is compressed on the way would be held back.
    connection.request(
        "GET", "/api/v1/changes/stream?seconds=15", headers={"Cookie": ana.cookie, "Accept-Encoding": "gzip, br"}
    )
    stream = connection.getresponse()
    assert stream.status == 200
    assert stream.fp is not None
    heard: list[str] = []

    def until(event: str) -> None:
        while not heard or heard[-1] != event:
            heard.append(stream.readline().decode().strip())

    until("event: ready")
    one = ana.ask("GET", "/api/v1/packages?limit=1").json()["items"][0]
    said = {"body": "Hear this.", "entity_type": "package", "entity_id": one["id"]}
    began = time.monotonic()
    assert ana.ask("POST", "/api/v1/comments", said).status == 201
    until("event: change")
    took = time.monotonic() - began
    connection.close()
    assert took < 10, "held back until the stream ended"


def test_signing_out_ends_the_session_everywhere(ana: Browser):
    kept = ana.cookie
    assert ana.ask("POST", "/api/v1/auth/logout", {}).status == 200
    ana.cookie = kept
    assert ana.ask("GET", "/api/v1/auth/me").status == 401
    assert ana.ask("GET", "/packages").status == 307


def test_an_api_that_is_away_is_told_as_a_problem(ana: Browser, place: Running):
    """Last: the API is killed, and comes back by itself."""
    os.kill(place.pid("api"), signal.SIGKILL)
    deadline = time.monotonic() + 20
    answer = ana.ask("GET", "/api/v1/auth/me")
    while answer.status == 200 and time.monotonic() < deadline:
        answer = ana.ask("GET", "/api/v1/auth/me")
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "api_unreachable"
    assert ana.ask("GET", "/healthz").status == 200, "the pages themselves are there"
    while answer.status != 200 and time.monotonic() < deadline + 20:
        time.sleep(0.2)
        answer = ana.ask("GET", "/api/v1/auth/me")
    assert answer.status == 200
