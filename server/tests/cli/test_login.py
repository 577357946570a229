"""Signing in and out, several accounts side by side, and what is kept of them."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest

from pmis.cli import accounts
from pmis.cli.accounts import Account, AccountError, AddressError
from pmis.identity.tokens import Tokens
from pmis.ops.console import create_administrator
from pmis.ops.demo import PASSWORD
from tests.cli.conftest import JWT_SECRET, run, spawn, spawn_tty

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import LiveApi


class TestLogin:
    def test_it_is_scriptable(self, home: Path, live_api: LiveApi):
        signed = run("login", "analyst@demo.example", "--password-stdin", "--url", live_api.url, stdin=PASSWORD + "\n")
        assert (signed.code, signed.err) == (0, ""), signed
        assert signed.out.startswith(f"Signed in at {live_api.url} as Ana Analyst, until 20")
        me = run("whoami")
        assert me.out.splitlines()[0] == "Ana Analyst"
        assert f"at      {live_api.url}" in me.out
        assert "in P    analyst" in me.out

    def test_a_wrong_password_is_refused_and_nothing_is_kept(self, home: Path, live_api: LiveApi):
        refused = run("login", "analyst@demo.example", "--password-stdin", "--url", live_api.url, stdin="wrong\n")
        assert refused.code == 1
        assert refused.err == "error: The e-mail address or the password is wrong.\n"
        assert not home.exists()

    def test_the_running_instance_is_found_through_its_data_folder(self, home: Path, live_api: LiveApi, tmp_path: Path):
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "runtime.json").write_text(json.dumps({"PMIS_URL": live_api.url}))
        signed = run("login", "--email", "viewer@demo.example", "--password-stdin", stdin=PASSWORD)
        assert signed.code == 0, signed
        assert live_api.url in signed.out

    def test_without_a_terminal_it_does_not_ask(self, home: Path, live_api: LiveApi):
        for arguments in (["login", "analyst@demo.example"], ["login", "--password-stdin"]):
            refused = run(*arguments)
            assert refused.code == 2
            assert "Without a terminal" in refused.err

    def test_two_addresses_are_one_too_many(self, home: Path):
        assert run("login", "a@b.example", "--email", "c@d.example", "--password-stdin").code == 2

    @pytest.mark.parametrize("password", [b"\xff\xfe\n", b"x" * 5000], ids=["not UTF-8", "too long"])
    def test_what_is_no_password_is_said_to_be_none(self, home: Path, live_api: LiveApi, password: bytes):
        refused = run("login", "a@b.example", "--password-stdin", "--url", live_api.url, stdin=password)
        assert refused.code == 1
        assert "standard input" in refused.err

    def test_on_a_terminal_it_asks_and_does_not_show_the_password(self, home: Path, live_api: LiveApi):
        signed = spawn_tty(
            *("login", "--as", "vic", "--url", live_api.url),
            # With the space: by then the terminal has thrown away what came early, and shows nothing any more.
            answers=[("E-mail: ", "viewer@demo.example"), ("Password: ", PASSWORD)],
        )
        assert signed.code == 0, signed
        assert "Signed in" in signed.out
        assert PASSWORD not in signed.out
        assert accounts.read("vic") is not None

    def test_it_warns_where_anybody_could_listen(self, home: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("NO_PROXY", "*")
        # 192.0.2.0/24 belongs to nobody (RFC 5737); the resolver is spared by a name that is none.
        refused = run(
            "login", "a@b.example", "--password-stdin", "--url", "http://pmis.invalid:9", stdin="not sent anywhere"
        )
        assert refused.code == 1
        assert "is not encrypted" in refused.err
        assert "No PMIS answers at http://pmis.invalid:9" in refused.err


class TestPassword:
    def test_it_is_changed_and_the_new_one_signs_in(self, home: Path, live_api: LiveApi):
        email = "changes@demo.example"
        create_administrator(live_api.settings, name="Chris", email=email, password=PASSWORD, another=True)

        def sign_in(word: str, name: str) -> int:
            return run("login", email, "--as", name, "--password-stdin", "--url", live_api.url, stdin=word).code

        new = "another horse, another battery"
        assert sign_in(PASSWORD, "here") == 0
        assert sign_in(PASSWORD, "there") == 0
        changed = run("password", "--password-stdin", "--as", "here", stdin=f"{PASSWORD}\n{new}\n")
        assert (changed.code, changed.out) == (0, "The password is changed. One other sign-in has ended.\n"), changed
        assert run("whoami", "--as", "there").code == 1
        assert run("whoami", "--as", "here").code == 0
        assert sign_in(PASSWORD, "there") == 1
        assert sign_in(new, "there") == 0
        refused = run("password", "--password-stdin", "--as", "here", stdin=f"wrong\n{new}\n")
        assert (refused.code, refused.err) == (1, "error: The current password is wrong.\n")
        assert run("password", "--as", "here").code == 2


class TestAccounts:
    def test_they_are_readable_by_their_owner_alone(self, home: Path, live_api: LiveApi):
        accounts.keep(Account(live_api.url, "a-token", "mine"))
        path = home / "accounts" / "mine.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert [item.name for item in path.parent.iterdir()] == ["mine.json"]
        path.chmod(0o644)
        refused = run("whoami", "--as", "mine")
        assert refused.code == 1
        assert "can be read by other users" in refused.err

    def test_the_token_is_not_shown(self, home: Path):
        assert "s3cret" not in repr(Account("http://x", "s3cret", "mine"))

    def test_several_act_side_by_side(self, signed_in: LiveApi, monkeypatch: pytest.MonkeyPatch):
        assert run("whoami", "--as", "admin").out.startswith("Ada Admin\n")
        monkeypatch.setenv("PMIS_PROFILE", "viewer")
        assert run("whoami").out.startswith("Vic Viewer\n")
        assert run("whoami", "--as", "analyst").out.startswith("Ana Analyst\n")
        listed = run("whoami", "--all")
        assert [line.split()[0] for line in listed.out.splitlines()] == [
            "admin", "admin2", "analyst", "auditor", "executive", "operator", "viewer",
        ]  # fmt: skip
        assert len(run("whoami", "--all", "--json").json["items"]) == 7

    def test_a_token_in_the_environment_is_enough(self, home: Path, live_api: LiveApi, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PMIS_TOKEN", live_api.tokens["auditor"])
        monkeypatch.setenv("PMIS_URL", live_api.url + "/api/v1/")
        assert run("whoami").out.startswith("Aud Auditor\n")
        monkeypatch.setenv("PMIS_TOKEN", "rubbish")
        refused = run("whoami")
        assert refused.code == 1
        assert refused.err.startswith("error: The server does not accept the token in PMIS_TOKEN: ")
        monkeypatch.setenv("PMIS_TOKEN", "two\nlines")
        assert run("whoami").code == 1

    def test_signing_out_forgets(self, home: Path, live_api: LiveApi):
        for name in ("viewer", "analyst"):
            signed = run(
                *("login", f"{name}@demo.example", "--as", name, "--password-stdin", "--url", live_api.url),
                stdin=PASSWORD,
            )
            assert signed.code == 0, signed
        assert run("logout", "--as", "viewer").out == "Signed out: viewer.\n"
        refused = run("whoami", "--as", "viewer")
        assert refused.code == 1
        assert refused.err.startswith("error: Nobody is signed in as 'viewer'. Run `pmis login --as viewer`, or choose")
        assert "analyst" in run("logout", "--all").out
        assert run("whoami").err == "error: You are not signed in. Run `pmis login`.\n"
        assert run("logout").out == "Nobody was signed in.\n"
        assert run("whoami", "--all").err == "Nobody is signed in here.\n"

    def test_signing_out_ends_the_session_at_the_server(self, fresh: Account, live_api: LiveApi):
        assert run("logout", "--as", "fresh").out == "Signed out: fresh.\n"
        accounts.keep(fresh)
        refused = run("whoami", "--as", "fresh")
        assert refused.code == 1
        assert refused.err.startswith("error: This sign-in has ended. Sign in again.")

    def test_signing_out_forgets_also_when_no_server_answers(self, home: Path):
        accounts.keep(Account("http://127.0.0.1:9", "a-token", "mine", refresh_token="pmisr_x"))
        gone = run("logout", "--as", "mine")
        assert (gone.code, gone.out) == (0, "Signed out: mine.\n")
        assert "could not be ended at the server" in gone.err

    def test_a_token_is_never_sent_to_another_server(self, signed_in: LiveApi, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PMIS_URL", "http://127.0.0.1:9")
        refused = run("whoami", "--as", "admin")
        assert refused.code == 1
        assert refused.err == (
            f"error: 'admin' is signed in at {signed_in.url}, and PMIS_URL names http://127.0.0.1:9. "
            "Run `pmis login admin@demo.example --as admin` to sign in there, or unset PMIS_URL.\n"
        )

    def test_an_expired_one_says_so_and_how_to_go_on(self, home: Path, live_api: LiveApi):
        ana = UUID(run_me(live_api)["id"])
        old = Tokens(JWT_SECRET, 1).issue(ana, uuid4(), datetime.now(UTC) - timedelta(hours=1))
        accounts.keep(Account(live_api.url, old, "ana", "analyst@demo.example", "Ana Analyst"))
        refused = run("package", "list", "--as", "ana")
        assert refused.code == 1
        assert refused.err == (
            "error: The sign-in of Ana Analyst has expired. Run `pmis login analyst@demo.example --as ana`.\n"
        )

    def test_it_is_renewed_by_itself(self, fresh: Account, live_api: LiveApi):
        accounts.keep(stale(fresh))
        assert run("whoami", "--as", "fresh").out.startswith("Aud Auditor\n")
        now = accounts.read("fresh")
        assert now is not None
        assert now.token != fresh.token
        assert now.refresh_token not in (None, fresh.refresh_token)
        assert stat.S_IMODE((accounts.folder() / "fresh.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((accounts.folder() / ".fresh.lock").stat().st_mode) == 0o600
        assert accounts.kept() == ["fresh"]

    def test_also_when_only_the_server_knows_that_it_has_expired(self, fresh: Account, live_api: LiveApi):
        session = UUID(jwt.decode(fresh.token, options={"verify_signature": False})["sid"])
        person = UUID(jwt.decode(fresh.token, options={"verify_signature": False})["sub"])
        old = Tokens(JWT_SECRET, 1).issue(person, session, datetime.now(UTC) - timedelta(hours=1))
        accounts.keep(replace(fresh, token=old))
        assert run("whoami", "--as", "fresh").out.startswith("Aud Auditor\n")

    def test_several_commands_at_once_renew_it_once(self, fresh: Account, live_api: LiveApi):
        accounts.keep(stale(fresh))
        with ThreadPoolExecutor(4) as pool:
            ran = list(pool.map(lambda _: spawn("whoami", "--as", "fresh"), range(4)))
        assert [one.code for one in ran] == [0] * 4, ran
        with psycopg.connect(live_api.database.app_dsn) as connection:
            rows = connection.execute(
                "select s.ended_because, count(r.*) from identity.session s join identity.refresh_token r "
                "on r.session_id = s.id where s.id = %s group by s.ended_because",
                (jwt.decode(fresh.token, options={"verify_signature": False})["sid"],),
            ).fetchall()
        assert rows == [(None, 2)]

    def test_the_control_without_reading_again_what_was_kept_it_is_renewed_each_time(
        self, fresh: Account, live_api: LiveApi, monkeypatch: pytest.MonkeyPatch
    ):
        from pmis.cli.client import Api

        asked: list[str] = []
        real = Api._answer

        def answer(self: Api, request: Any) -> Any:
            asked.append(request.url.path)
            return real(self, request)

        monkeypatch.setattr(Api, "_answer", answer)
        monkeypatch.setattr(accounts, "read", lambda _: stale(fresh))
        monkeypatch.setattr(accounts, "keep", lambda _: None)
        for _ in range(2):
            assert run("whoami", "--as", "fresh").code == 0
        assert sum(path.endswith("/refresh") for path in asked) > 1

    def test_a_refresh_token_that_is_no_longer_good_says_how_to_go_on(self, fresh: Account, live_api: LiveApi):
        accounts.keep(replace(stale(fresh), token=fresh.token[:-3] + "AAA", refresh_token="pmisr_" + "A" * 43))
        refused = run("whoami", "--as", "fresh")
        assert refused.code == 1
        assert "Run `pmis login auditor@demo.example --as fresh`." in refused.err

    @pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "", "a b", "x" * 65, "-"])
    def test_a_name_cannot_lead_elsewhere(self, home: Path, name: str):
        if name == "":
            assert accounts.profile_name(name) == accounts.DEFAULT
            return
        with pytest.raises(AccountError, match="cannot name an account"):
            accounts.profile_name(name)
        assert run("whoami", "--as", name).code == 1

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{", '{"url": 3, "token": "x"}', '{"url": "http://x"}', '{"url": "x", "token": "y", "z": "1"}'],
    )
    def test_a_damaged_file_is_said_to_be_damaged(self, home: Path, text: str):
        path = home / "accounts" / "default.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o600)
        refused = run("whoami")
        assert refused.code == 1
        assert str(path) in refused.err
        assert "ign in again" in refused.err

    def test_where_they_are_kept(self, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        assert accounts.folder() == home / "accounts"
        monkeypatch.delenv("PMIS_CONFIG_DIR")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
        assert accounts.folder() == tmp_path / "xdg" / "pmis" / "accounts"
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert accounts.folder() == tmp_path / ".config" / "pmis" / "accounts"

    def test_a_folder_that_cannot_be_written_is_named(self, home: Path):
        home.write_text("in the way")
        with pytest.raises(AccountError, match="PMIS_CONFIG_DIR"):
            accounts.keep(Account("http://x", "token", "mine"))
        assert not list(home.parent.glob(".mine*"))


@pytest.fixture
def fresh(home: Path, live_api: LiveApi) -> Account:
    """An account that signed in just now, with a session of its own."""
    signed = run(
        *("login", "auditor@demo.example", "--as", "fresh", "--password-stdin", "--url", live_api.url), stdin=PASSWORD
    )
    assert signed.code == 0, signed
    account = accounts.read("fresh")
    assert account is not None
    return account


def stale(account: Account) -> Account:
    """The same, once its access token is past its time."""
    return replace(account, token_expires_at="2020-01-01T00:00:00+00:00")


def run_me(live_api: LiveApi):
    from pmis.cli.client import Api

    api = Api(live_api.url, Account(live_api.url, live_api.tokens["analyst"]))
    try:
        return api.get("auth", "me").json
    finally:
        api.close()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://pmis.example.org/", "https://pmis.example.org"),
        ("https://example.org/pmis/api/v1/", "https://example.org/pmis"),
        ("http://[::1]:8000/api", "http://[::1]:8000"),
    ],
)
def test_an_address_is_taken_as_people_write_it(text: str, url: str):
    assert accounts.address(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:8000",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x?q=1",
        "http://x:99999",
        "http://a b",
        "http://[x",
    ],
)
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(AddressError, match="is not the address of an API"):
        accounts.address(text)
