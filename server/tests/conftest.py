"""Fixtures for every test: one embedded PostgreSQL for the whole run, one migrated database per worker."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import pytest

from pmis.ops import postgres as pg
from pmis.ops.migrate import upgrade_database
from pmis.ops.postgres import EmbeddedPostgres
from pmis.ops.process import User, current_user, identity, named_user, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# Builders bring the `world` fixture, and the figures at the end of a run.
pytest_plugins = ("tests.builders",)

# The same examples in every run, so that a red build is about the change at hand; look for new ones with
# `--hypothesis-profile=default`.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.load_profile("steady")

_ROOT = "PMIS_TEST_ROOT"
_TEMPLATE = "pmis_template"


@dataclass(frozen=True)
class Cluster:
    """The run's PostgreSQL. Durability is off: what a test run loses in a power cut nobody misses."""

    server: EmbeddedPostgres

    @property
    def admin_dsn(self) -> str:
        return self.server.url(pg.ADMIN, "postgres")


@dataclass(frozen=True)
class TestDatabase:
    """A database of its own, at the head revision, and how each login reaches it."""

    __test__ = False

    cluster: Cluster
    name: str

    @property
    def files(self) -> Path:
        """A folder for what is beside the database."""
        return self.cluster.server.folder.parent / "files" / self.name

    @property
    def admin_dsn(self) -> str:
        return self.cluster.server.url(pg.ADMIN, self.name)

    @property
    def owner_dsn(self) -> str:
        return self.cluster.server.url(pg.OWNER, self.name)

    @property
    def app_dsn(self) -> str:
        return self.cluster.server.url(pg.APP, self.name)

    @property
    def sealer_dsn(self) -> str:
        return self.cluster.server.url(pg.SEALER, self.name)

    @property
    def auditor_dsn(self) -> str:
        return self.cluster.server.url(pg.AUDITOR, self.name)

    @property
    def worker_dsn(self) -> str:
        return self.cluster.server.url(pg.WORKER, self.name)

    @property
    def relay_dsn(self) -> str:
        return self.cluster.server.url(pg.RELAY, self.name)


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process makes the folder that all workers share, and sweeps those of killed runs."""
    if hasattr(config, "workerinput"):
        return
    for old in Path(tempfile.gettempdir()).glob("pmis-test-*"):
        if _owner_is_gone(old):
            _stop_cluster(old)
            shutil.rmtree(old, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix="pmis-test-"))
    root.chmod(0o711)
    (root / "owner").write_text(identity(os.getpid()) or "")
    os.environ[_ROOT] = str(root)


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _ROOT not in os.environ:
        return
    root = Path(os.environ.pop(_ROOT))
    _stop_cluster(root)
    shutil.rmtree(root, ignore_errors=True)


def _owner_is_gone(root: Path) -> bool:
    try:
        owner = (root / "owner").read_text()
    except OSError:
        return False
    return bool(owner) and identity(int(owner.partition(":")[0])) != owner


def _stop_cluster(root: Path) -> None:
    try:
        pid = int((root / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    stop(pid, pg.STOP_STEPS[1:])


@contextmanager
def _alone(root: Path) -> Generator[None]:
    with (root / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _unprivileged() -> User:
    return named_user("nobody") if os.geteuid() == 0 else current_user()


def _start_cluster(root: Path) -> EmbeddedPostgres:
    user = _unprivileged()
    sockets = root / "s"
    sockets.mkdir()
    pg.own(sockets, user)
    copies = root / "bin"
    copies.mkdir()
    server = EmbeddedPostgres(
        folder=root / "postgres",
        sockets=sockets,
        passwords=pg.generate_passwords(),
        user=user,
        copies=copies,
        extra={
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": "200",
            "shared_buffers": "128MB",
        },
    )
    # The folder itself must let the server's user make its files in it.
    if user.uid != os.geteuid():
        os.chown(root, user.uid, user.gid)
    server.prepare()
    server.start(root / "postgres.log")
    server.bootstrap()
    with psycopg.connect(server.url(pg.ADMIN, "postgres"), autocommit=True) as connection:
        pg.create_database(connection, _TEMPLATE)
    pg.add_extensions(server.url(pg.ADMIN, _TEMPLATE))
    upgrade_database(server.url(pg.OWNER, _TEMPLATE))
    return server


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The PostgreSQL of this run: the first worker that wants it starts it, the controlling process stops it."""
    root = Path(os.environ[_ROOT])
    described = root / "cluster.json"
    with _alone(root):
        if not described.exists():
            server = _start_cluster(root)
            described.write_text(json.dumps({"passwords": dict(server.passwords), "port": server.port}))
            described.chmod(0o600)
        known = json.loads(described.read_text())
    return Cluster(
        EmbeddedPostgres(
            folder=root / "postgres",
            sockets=root / "s",
            passwords=known["passwords"],
            user=_unprivileged(),
            port=known["port"],
        )
    )


@pytest.fixture(scope="session")
def make_database(cluster: Cluster, worker_id: str) -> Iterator[Callable[[str], TestDatabase]]:
    """Makes further databases at the head revision, for tests that commit, lock or stop things."""
    made: list[str] = []

    def make(label: str) -> TestDatabase:
        name = f"pmis_{worker_id}_{label}_{len(made)}"
        # A template is copied while nobody is connected to it: one worker at a time.
        with _alone(Path(os.environ[_ROOT])), psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
            pg.create_database(connection, name, template=_TEMPLATE)
        made.append(name)
        return TestDatabase(cluster, name)

    yield make
    with psycopg.connect(cluster.admin_dsn, autocommit=True) as connection:
        for name in made:
            pg.drop_database(connection, name)


@pytest.fixture(scope="session")
def database(make_database: Callable[[str], TestDatabase]) -> TestDatabase:
    """This worker's database."""
    return make_database("shared")


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the server does."""
    return "asyncio"
