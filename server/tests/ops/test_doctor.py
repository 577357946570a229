"""The doctor finds what is wrong, says what to do, and does not cry wolf."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from pydantic import SecretStr

from pmis.kit.settings import Settings
from pmis.ops import doctor
from pmis.ops import postgres as pg
from pmis.ops.datafolder import DataFolder
from pmis.ops.doctor import Level, examine

GOOD = {"secret_key": "fV3kq9ZtY0wB7nLxR2sD5hJ8mC1pGaEu", "jwt_secret_key": "Qb6yT4vN8zK1cX9rW3eS7uF2jH5gMdPo"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PMIS_DATA_DIR", str(tmp_path / "data"))


def findings(dsn=None, **values):
    """The findings by check; a check with several keeps its worst."""
    found = {}
    for finding in examine(**GOOD, **({"database_url": dsn} if dsn else {}), **values):
        if finding.check not in found or finding.level > found[finding.check].level:
            found[finding.check] = finding
    return found


def all_of(check, **values):
    """Every finding of one check."""
    return [one for one in examine(**GOOD, **values) if one.check == check]


def test_a_good_install(database):
    found = findings(database.app_dsn)
    assert {check: finding.level for check, finding in found.items()} == {
        "settings": Level.OK,
        "database": Level.OK,
        "login": Level.OK,
        "schema": Level.OK,
        "clock": Level.OK,
        "privileges": Level.OK,
        "seal": found["seal"].level,
        "jobs": found["jobs"].level,
        "memory": Level.OK,
        "broker": Level.WARNING,
        "storage": Level.OK,
        "disk": Level.OK,
    }
    assert found["schema"].text.startswith("at revision ")


@pytest.mark.parametrize(
    ("login", "power"), [("owner", "owns the tables of the log"), ("admin", "is a superuser and may create roles")]
)
def test_a_login_with_too_much_power(database, login, power):
    found = findings(getattr(database, f"{login}_dsn"))
    assert found["login"].level is Level.ERROR
    assert power in found["login"].text
    assert "pmis_app alone" in found["login"].advice
    assert found["privileges"].level is Level.ERROR


def test_a_login_with_too_little(database):
    found = findings(database.auditor_dsn)
    assert found["privileges"].level is Level.ERROR
    assert "may not append events" in found["privileges"].text


def test_a_direct_grant_on_the_log(make_database):
    database = make_database("granted")
    with psycopg.connect(database.owner_dsn) as connection:
        connection.execute("grant update, delete on ledger.event to pmis_app")
    found = findings(database.app_dsn)
    assert found["privileges"].text == "The API's login may update, delete events directly."


def test_an_empty_an_older_and_a_newer_database(make_database, cluster):
    database = make_database("revisions")
    # A newer one is right while a version is rolled out, or taken back.
    for revision, text, level in (
        ("0001", "is needed", Level.ERROR),
        ("9999", "does not know", Level.WARNING),
    ):
        with psycopg.connect(database.owner_dsn) as connection:
            connection.execute("update public.alembic_version set version_num = %s", (revision,))
        found = findings(database.app_dsn)["schema"]
        assert (found.level, text in found.text) == (level, True)
    with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
        pg.create_database(connection, "pmis_nothing")
    try:
        found = findings(cluster.server.url(pg.APP, "pmis_nothing"))["schema"]
        assert (found.text, found.advice) == ("The database is empty.", "Run `pmis migrate`.")
    finally:
        with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
            pg.drop_database(connection, "pmis_nothing")


def test_a_database_out_of_reach():
    found = findings("postgresql://u@127.0.0.1:1/d")["database"]
    assert found.level is Level.ERROR
    assert "refused" in found.text
    assert findings()["database"].text.startswith("DATABASE_URL is not set")


def test_events_that_nobody_seals(make_database):
    database = make_database("unsealed")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update ledger.event set occurred_at = occurred_at - interval '1 day'")
    found = findings(database.app_dsn)["seal"]
    assert found.level is Level.WARNING
    assert "wait since" in found.text


@pytest.mark.parametrize(
    ("free", "used", "level"),
    [
        (100 << 20, 0, Level.ERROR),
        (500 << 20, 0, Level.WARNING),
        (5 << 30, 15 << 30, Level.OK),
        (5 << 30, 25 << 30, Level.WARNING),
    ],
)
def test_the_disk(monkeypatch, free, used, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("usage", (), {"free": free, "used": used}))
    assert findings()["disk"].level is level


def test_each_volume_is_looked_at_once(monkeypatch, tmp_path):
    asked = []

    def usage(path):
        asked.append(path)
        return type("usage", (), {"free": 5 << 30, "used": 0})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = all_of("disk", storage_dir="/proc/nowhere", checkpoint_dir=tmp_path / "c")
    assert ([str(path) for path in asked], len(found)) == ([str(tmp_path), "/proc"], 2)


@pytest.mark.parametrize(("skew", "level"), [(0, Level.OK), (-5, Level.WARNING), (300, Level.ERROR)])
def test_the_clock(database, monkeypatch, skew, level):
    import time

    monkeypatch.setattr(doctor.time, "time", lambda real=time.time: real() + skew)
    assert findings(database.app_dsn)["clock"].level is level


def test_a_broker_that_does_not_answer():
    found = findings(redis_url="redis://127.0.0.1:1")["broker"]
    assert (found.level, "refused" in found.text) == (Level.ERROR, True)


def test_the_broker_that_is_used_is_the_one_that_is_asked():
    """Jobs go by CELERY_BROKER where it is set; REDIS_URL is asked as well, as other things are kept there."""
    found = all_of("broker", celery_broker="redis://127.0.0.1:1")
    assert [(one.level, "CELERY_BROKER" in one.advice) for one in found] == [(Level.ERROR, True)]
    both = {"celery_broker": "redis://127.0.0.1:1", "redis_url": "redis://127.0.0.1:2"}
    found = all_of("broker", **both)
    assert ["REDIS_URL" in one.advice for one in found] == [False, True]
    assert len(all_of("broker", **dict.fromkeys(both, "redis://127.0.0.1:1"))) == 1


def test_mail_that_cannot_be_answered_sent_or_believed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = {"smtp_server": "127.0.0.1", "smtp_port": server.getsockname()[1], "smtp_security": "none"}
        found = [one.text for one in all_of("mail", **there)]
        assert [text.partition(" ")[0] for text in found] == ["MAIL_FROM", "PUBLIC_URL", "the"]
        said = {"mail_from": "pmis@firm.example", "public_url": "https://pmis.firm.example"}
        (good,) = all_of("mail", **there, **said)
        assert (good.level, good.text) == (Level.OK, "the mail server 127.0.0.1 answers")
    (gone,) = all_of("mail", **there, **said)
    assert (gone.level, "Connection refused" in gone.text) == (Level.WARNING, True)
    assert "MAIL_AUTHSERV_ID" in findings(mail_smtp_port=0)["mail"].text
    assert "mail" not in findings(mail_smtp_port=0, mail_authserv_id="mx.firm.example")


class _Publishing(BaseHTTPRequestHandler):
    """What a provider publishes of itself."""

    def do_GET(self):
        here = f"http://{self.headers['Host']}"
        paths = {"authorization_endpoint": "a", "token_endpoint": "t", "jwks_uri": "keys"}
        published = {"issuer": here, **{name: f"{here}/{path}" for name, path in paths.items()}}
        body = json.dumps({"keys": []} if self.path == "/keys" else published).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002 - the base class names it
        pass


def test_identity_providers_are_asked():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Publishing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = {"name": "corp", "issuer": f"http://127.0.0.1:{server.server_port}", "client_id": "pmis"}
    try:
        found = findings(oidc_providers=SecretStr(json.dumps([one])))["sign-in"]
        assert (found.level, found.text) == (Level.OK, f"corp: answers at {one['issuer']}")
        # As people write it who copy it from a browser: the provider calls itself otherwise.
        slash = {**one, "issuer": f"{one['issuer']}/"}
        found = findings(oidc_providers=SecretStr(json.dumps([slash])))["sign-in"]
        assert found.level is Level.WARNING
        assert "another issuer" in found.text
    finally:
        server.shutdown()
        server.server_close()
    found = findings(oidc_providers=SecretStr(json.dumps([one])))["sign-in"]
    assert (found.level, "cannot be reached" in found.text) == (Level.WARNING, True)
    assert "issuer" in found.advice


def test_identity_providers_that_cannot_be_read():
    found = findings(oidc_providers=SecretStr('[{"name": "corp", "client_secret": "hush"}]'))["sign-in"]
    assert found.level is Level.ERROR
    assert "OIDC_PROVIDERS 0.issuer" in found.text
    assert "hush" not in found.text
    assert "sign-in" not in findings()


def test_weak_settings_in_production():
    found = [
        finding for finding in examine(environment="production", secret_key="short") if finding.check == "settings"
    ]
    assert [finding.text for finding in found] == [
        "SECRET_KEY is too short (5 bytes, at least 32 needed).",
        "JWT_SECRET_KEY is not set.",
    ]


def test_settings_that_cannot_be_read(monkeypatch):
    monkeypatch.setenv("API_PORT", "many")
    (finding,) = examine()
    assert (finding.check, finding.level) == ("settings", Level.ERROR)


def test_a_misspelt_setting(monkeypatch):
    monkeypatch.setenv("PMIS_DATADIR", "/x")
    assert "PMIS_DATADIR is set, and PMIS knows no such setting." in {finding.text for finding in examine(**GOOD)}


def test_a_folder_in_use_and_one_that_was_left(tmp_path):
    folder = DataFolder(tmp_path / "data")
    with folder.held():
        folder.runtime_file.write_text("{}")
        assert findings()["up"].level is Level.OK
    assert "was killed" in findings()["up"].text


class TestStorage:
    def test_a_folder_that_is_not_there_yet(self, tmp_path):
        found = findings(storage_dir=tmp_path / "objects")["storage"]
        assert found.level is Level.OK
        assert found.text.endswith("will be made when something is kept there")
        assert not (tmp_path / "objects").exists()

    def test_a_folder_that_is_there(self, tmp_path):
        assert findings(storage_dir=tmp_path)["storage"].text == f"{tmp_path} answers"

    def test_something_that_is_no_folder(self, tmp_path):
        (tmp_path / "objects").write_text("")
        found = findings(storage_dir=tmp_path / "objects")["storage"]
        assert (found.level, "STORAGE_DIR" in found.advice) == (Level.ERROR, True)

    def test_a_bucket_that_does_not_answer(self):
        found = findings(
            s3_bucket_name="mails",
            s3_endpoint_url="http://127.0.0.1:1",
            s3_access_key_id="a",
            s3_secret_access_key="b",
        )["storage"]
        assert found.level is Level.ERROR
        assert "the bucket mails does not answer" in found.text


def test_jobs_that_nobody_does_and_dead_letters_are_told(make_database):
    database = make_database("lazy")
    assert findings(database.app_dsn)["jobs"].text == "none waits"
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("update ledger.outbox set sent_at = now()")
        connection.execute(
            "insert into jobs.job (id, kind, payload, correlation_id, due_at) "
            "values (gen_random_uuid(), 'test.nothing', '{}', 'test', now() - interval '1 minute')"
        )
    finding = findings(database.app_dsn)["jobs"]
    assert (finding.level, finding.text[:25]) == (Level.WARNING, "1 wait, the oldest for 60")
    assert finding.text.endswith(" s in the queue default.")
    assert "pmis relay" in finding.advice
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("update jobs.job set status = 'dead', finished_at = now()")
    finding = findings(database.app_dsn)["jobs"]
    assert (finding.level, finding.text) == (Level.WARNING, "1 failed for good.")
