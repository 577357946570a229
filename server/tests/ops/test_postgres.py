"""The embedded PostgreSQL: never root, never trusting, and up again whatever was killed or left lying about."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from pmis.ops import postgres as pg
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import EmbeddedServerError, command_as, current_user, identity, named_user, stop

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place():
    """A short path that every user can pass through."""
    path = Path(tempfile.mkdtemp(prefix="pmis-pg-"))
    path.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(path, named_user("nobody").uid, -1)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def made_once():
    """A stopped cluster with its logins, to be copied: making one takes a second or more."""
    path = Path(tempfile.mkdtemp(prefix="pmis-pg-"))
    path.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(path, named_user("nobody").uid, -1)
    made = server_at(path)
    assert made.prepare()
    pid = made.start(path / "log")
    made.bootstrap()
    assert stop(pid, pg.STOP_STEPS)
    yield made
    shutil.rmtree(path, ignore_errors=True)


def server_at(place, **changes):
    user = named_user("nobody") if os.geteuid() == 0 else current_user()
    copies = place / "bin"
    copies.mkdir(exist_ok=True)
    made = EmbeddedPostgres(
        folder=place / "postgres",
        sockets=pg.socket_folder(place / "run", user, ".s.PGSQL.65535.lock"),
        passwords=dict.fromkeys((pg.ADMIN, *pg.LOGINS), "a password of no worth"),
        user=user,
        copies=copies,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def server(made_once, place):
    """A started server, and nothing of it left afterwards."""
    subprocess.run(["/bin/cp", "-a", made_once.folder, place / "postgres"], check=True)
    made = server_at(place)
    assert not made.prepare()
    pid = made.start(place / "log")
    yield made
    made.clear_stale()
    assert identity(pid) is None


def pid_of(server):
    return int((server.folder / "postmaster.pid").read_text().splitlines()[0])


def note(server, text):
    with psycopg.connect(server.url(pg.OWNER)) as connection:
        connection.execute("create table if not exists public.note (text text)")
        connection.execute("insert into public.note values (%s)", (text,))


def notes(server):
    with psycopg.connect(server.url(pg.OWNER)) as connection:
        return [row[0] for row in connection.execute("select text from public.note order by 1")]


def test_killed_at_any_point_it_starts_again_with_everything_committed(server, place):
    note(server, "before the postmaster was killed")
    os.kill(pid_of(server), signal.SIGKILL)
    assert not server.prepare()
    server.start(place / "log")
    note(server, "before all of it was killed")
    postmaster = pid_of(server)
    backends = [
        int(pid)
        for pid in subprocess.run(["pgrep", "-P", str(postmaster)], check=True, capture_output=True).stdout.split()
    ]
    assert backends
    for pid in (postmaster, *backends):
        os.kill(pid, signal.SIGKILL)
    server.prepare()
    server.start(place / "log")
    assert notes(server) == ["before all of it was killed", "before the postmaster was killed"]


def test_one_that_a_killed_supervisor_left_running_is_ended_first(server, place):
    note(server, "kept")
    first = pid_of(server)
    server.prepare()
    assert identity(first) is None
    server.start(place / "log")
    assert notes(server) == ["kept"]


def test_a_stale_pid_file_that_names_a_stranger_harms_nobody(server, place):
    note(server, "kept")
    stop(pid_of(server), pg.STOP_STEPS)
    user = server.user
    with subprocess.Popen(command_as(user, ["/bin/sleep", "60"]), cwd="/") as stranger:
        pid_file = server.folder / "postmaster.pid"
        pid_file.write_text(
            f"{stranger.pid}\n{server.folder}\n1700000000\n{server.port}\n{server.sockets}\n127.0.0.1\n"
        )
        if os.geteuid() == 0:
            os.chown(pid_file, user.uid, user.gid)
        for name in (f".s.PGSQL.{server.port}", f".s.PGSQL.{server.port}.lock"):
            (server.sockets / name).write_text(f"{stranger.pid}\n")
        server.prepare()
        server.start(place / "log")
        assert stranger.poll() is None
        assert notes(server) == ["kept"]
        stranger.kill()


def test_a_half_made_cluster_is_made_anew(place):
    unfinished = place / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    made = server_at(place)
    assert made.prepare()
    assert not unfinished.exists()
    assert (made.folder / "global").is_dir()
    assert (made.folder.stat().st_uid, made.folder.stat().st_mode & 0o777) == (made.user.uid, 0o700)


def test_every_login_needs_its_password(server):
    for login in (pg.ADMIN, *pg.LOGINS):
        for url in (server.url(login, "postgres"), server.tcp_url(login, "postgres")):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(url.replace("a%20password", "another"))
    trusting = [
        line for line in (server.folder / "pg_hba.conf").read_text().splitlines()
        if line.strip() and not line.startswith("#") and not line.endswith("scram-sha-256")
    ]  # fmt: skip
    assert trusting == []


def test_only_our_logins_may_enter_and_only_from_this_machine(server):
    with psycopg.connect(server.url(pg.ADMIN), autocommit=True) as connection:
        connection.execute("create role stranger login password 'a password of no worth'")
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("show data_checksums").fetchone() == ("on",)
        assert connection.execute("show timezone").fetchone() == ("UTC",)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(pg.APP).replace("pmis_app:", "stranger:"))


def test_no_password_reaches_the_log(server, place):
    with psycopg.connect(server.url(pg.ADMIN), autocommit=True) as connection:
        connection.execute("alter role pmis_app rename to elsewhere")
        connection.execute("create role pmis_app")
        with pytest.raises(psycopg.errors.DuplicateObject):
            # The statement that makes a login, failing: the server writes failed statements to its log.
            pg.create_login(connection, pg.APP, server.passwords[pg.APP])
    log = (place / "log").read_text()
    assert 'role "pmis_app" already exists' in log
    assert server.passwords[pg.APP] not in log


def test_bootstrapping_again_changes_nothing(server):
    note(server, "kept")
    server.bootstrap()
    assert notes(server) == ["kept"]


def test_another_server_on_the_port_is_not_taken_for_ours(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        made = server_at(place, port=other.getsockname()[1])
        made.prepare()
        with pytest.raises(EmbeddedServerError, match=r"(?s)PostgreSQL did not start.*could not"):
            made.start(place / "log", patience_seconds=20)


def test_sockets_move_when_the_path_is_too_long(tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    folder = pg.socket_folder(long / "run", current_user(), ".s.PGSQL.65535.lock")
    try:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        folder.rmdir()


@as_root
def test_binaries_out_of_reach_are_copied_once_per_version(made_once, place, tmp_path):
    original = pg.wheel_binaries()
    package = original.parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in (package.name, f"{package.name}.libs"):
        (closed / part).symlink_to(package.parent / part)
    (closed / f"{package.name}-9.9.dist-info").mkdir()
    subprocess.run(["/bin/cp", "-a", made_once.folder, place / "postgres"], check=True)
    made = server_at(place, binaries=closed / package.name / original.parent.name / "bin")
    made.prepare()
    assert made.binaries.is_relative_to(place / "bin")
    assert [path.name for path in (place / "bin").iterdir()] == [f"{package.name}-9.9.dist-info"]
    marked = made.binaries.stat().st_ino
    again = server_at(place, binaries=closed / package.name / original.parent.name / "bin")
    again.prepare()
    assert again.binaries.stat().st_ino == marked
    again.start(place / "log")
    again.clear_stale()


class TestOtherVersions:
    def test_the_oldest_that_is_supported(self, place):
        older = pg.wheel_binaries().parent.parent / "pginstall" / "bin"
        if not older.is_dir():
            pytest.skip("the wheel brings one version only")
        made = server_at(place, binaries=older, copies=None)
        made.prepare()
        made.start(place / "log")
        made.bootstrap()
        assert made.version == 16
        with psycopg.connect(made.url(pg.APP)) as connection:
            assert connection.execute("select current_setting('lock_timeout')").fetchone() == ("3s",)
        made.clear_stale()
        made.binaries = pg.wheel_binaries()
        with pytest.raises(EmbeddedServerError, match="was written by PostgreSQL 16, and this is PostgreSQL 18"):
            made.prepare()

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("echo 'postgres (PostgreSQL) 15.9'", "is too old; PMIS needs 16 or newer"),
            ("echo broken >&2; exit 127", "does not run: broken"),
        ],
    )
    def test_what_cannot_serve_is_refused(self, place, script, reason):
        folder = place / "own"
        folder.mkdir()
        for name in ("postgres", "psql"):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        with pytest.raises(EmbeddedServerError, match=reason):
            server_at(place, binaries=folder, copies=None).prepare()


def test_readiness_is_the_servers_own_word(server):
    assert server.is_ready(pid_of(server))
    assert not server.is_ready(os.getpid())
    stop(pid_of(server), pg.STOP_STEPS)
    time.sleep(0.05)
    assert not server.is_ready(os.getpid())
