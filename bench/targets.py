"""The contestants: how each is filled and started, and which requests it is sent in each scenario.

A contestant is one program on one database with so many packages. All are filled with the same packages under the
same ids, so the same thing is asked of each; only paths and bodies differ.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import secrets
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import urlencode
from uuid import uuid4

import psycopg

from bench import data, seed_floor, seed_pmis
from bench.load import Load, http as request
from bench.measure import Meter
from pmis.identity.tokens import Tokens
from pmis.ops import postgres as pg
from pmis.ops.migrate import upgrade_database

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from bench.database import Cluster

ROOT: Final = Path(__file__).resolve().parents[1]
WORKERS: Final = 2
PAGES: Final = 20
HITS: Final = 10
"""How many a search is asked for: as many as the words have with the fewest packages, so that what is answered grows no
larger with their number, and rates compare."""
SAMPLE: Final = 2000

ScenarioName = Literal["list", "get", "history", "search", "transition", "create"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request."""

    name: ScenarioName
    title: str
    writes: bool
    load: Load
    expected: frozenset[str] = frozenset({"200"})


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Scenario("list", "list 50", writes=False, load=Load()),
        Scenario("get", "get one", writes=False, load=Load()),
        Scenario("history", "history", writes=False, load=Load()),
        Scenario("search", "search", writes=False, load=Load()),
        Scenario(
            "transition",
            "transition",
            writes=True,
            load=Load(once=True, count_statuses=True),
            expected=frozenset({"200", "204"}),
        ),
        Scenario("create", "create", writes=True, load=Load(count_statuses=True), expected=frozenset({"201"})),
    )
}


class TargetError(Exception):
    """A contestant does not do what the scenario asks of it; the text shows its answer."""


class Target(ABC):
    """One program on one database."""

    name: ClassVar[str]
    table: ClassVar[str]
    """The table of packages, whose updates should be HOT."""
    patience: ClassVar[float] = 1.0
    """Which part of the drafts of a round it is given: the slow would otherwise be at it for minutes."""

    def __init__(self, cluster: Cluster, count: int, scratch: Path) -> None:
        """Describe it; nothing is created before `fill`."""
        self.cluster = cluster
        self.count = count
        self.scratch = scratch
        self.database = f"bench_{self.name}_{count}"
        self.port = 0
        self.headers: dict[str, str] = {}
        self.ids: list[uuid.UUID] = []
        self.own_sessions = 0
        """How often this program itself connected to the database since the measuring began."""
        self._drafts: list[uuid.UUID] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._rng = random.Random(data.SEED + count)

    def __str__(self) -> str:
        """The name and the size."""
        return f"{self.name} {self.count:,}"

    @abstractmethod
    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Create the tables, and what packages refer to."""

    @abstractmethod
    def add(self, connection: psycopg.Connection[Any], packages: Sequence[data.Package]) -> None:
        """Store packages with their history."""

    def prepare(self) -> None:
        """Make the empty database."""
        self.cluster.create(self.database)
        with self.cluster.connect(self.database) as connection:
            self.create(connection)

    def store(self, packages: Sequence[data.Package]) -> None:
        """Store packages, and remember what can be asked of them."""
        with self.cluster.connect(self.database) as connection:
            self.add(connection, packages)
        self.ids += [package.id for package in packages]

    def store_drafts(self, packages: Sequence[data.Package]) -> None:
        """Store drafts to be used up by transitions."""
        with self.cluster.connect(self.database) as connection:
            self.add(connection, packages)
            connection.execute("vacuum analyze")
        self.own_sessions += 1
        fresh = [package.id for package in packages]
        # In the order of the table all rows of a page would change within a millisecond, as no real day does.
        random.Random(data.SEED).shuffle(fresh)
        self._drafts += fresh

    def vacuum(self) -> None:
        """Leave the tables as an idle hour of autovacuum would."""
        with self.cluster.connect(self.database) as connection:
            connection.execute("vacuum (freeze, analyze)")

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """The command line that serves `self.port`, and its environment."""

    @abstractmethod
    def sign_in(self) -> None:
        """Put what every request carries into `self.headers`."""

    def start(self) -> None:
        """Start the program and wait until it answers."""
        self.port = pg.free_port()
        command, environment = self.command()
        log = self.scratch / f"{self.database}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.sign_in()
                status, _ = self.ask("GET", self.path("list", project=data.world().projects[0]))
            except (OSError, http.client.HTTPException):
                status = 0
            if status == 200:
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = (
                    f"{self} does not answer ({status or 'no connection'}). Its log ends:\n{log.read_text()[-3000:]}"
                )
                raise TargetError(message)
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the program."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def meter(self) -> Meter:
        """Watches the running program."""
        if self._process is None:
            message = f"{self} is not running"
            raise TargetError(message)
        return Meter(self.cluster, self._process.pid, self.database)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request: status and decoded JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            payload = None if body is None else json.dumps(body).encode()
            content = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, payload, {**self.headers, **content})
            answer = connection.getresponse()
            text = answer.read()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text.decode(errors="replace")
        finally:
            connection.close()

    prefix: ClassVar[str] = ""
    project_parameter: ClassVar[str] = "project"

    def path(
        self,
        scenario: ScenarioName,
        *,
        project: uuid.UUID | None = None,
        package: uuid.UUID | None = None,
        **query: str,
    ) -> str:
        """The path of a scenario's request."""
        if scenario in {"list", "search"}:
            limit = str(HITS if scenario == "search" else 50)
            return (
                f"{self.prefix}/packages?{urlencode({self.project_parameter: str(project), 'limit': limit, **query})}"
            )
        suffix = {"history": "/timeline", "transition": "/transitions"}.get(scenario, "")
        return f"{self.prefix}/packages/{package}{suffix}" if package else f"{self.prefix}/packages"

    def new_package(self, rng: random.Random) -> dict[str, Any]:
        """The body of a create."""
        return {"project": str(rng.choice(data.world().projects)), **data.new_package_fields(rng)}

    def transition(self) -> dict[str, Any]:
        """The body that submits a draft."""
        return {"status": "submitted"}

    def requests(self, scenario: Scenario, limit: int) -> list[bytes]:
        """The requests of a scenario, in their order; at most `limit` of those that can be sent but once."""
        rng = self._rng
        match scenario.name:
            case "list":
                return [request("GET", path, self.headers) for path in self._pages()]
            case "search":
                projects = data.world().projects
                paths = [self.path("search", project=rng.choice(projects), q=word) for word in data.SEARCH_WORDS]
                rng.shuffle(paths)
                return [request("GET", path, self.headers) for path in paths]
            case "get" | "history" as name:
                chosen = rng.sample(self.ids, min(SAMPLE, len(self.ids)))
                return [request("GET", self.path(name, package=one), self.headers) for one in chosen]
            case "create":
                bodies = [json.dumps(self.new_package(rng)).encode() for _ in range(SAMPLE)]
                return [request("POST", self.path("create"), self.headers, body) for body in bodies]
            case "transition":
                used, self._drafts = self._drafts[:limit], self._drafts[limit:]
                body = json.dumps(self.transition()).encode()
                return [request("POST", self.path("transition", package=one), self.headers, body) for one in used]

    def _pages(self) -> list[str]:
        """The first pages of every project, found by following the cursors."""
        found: list[str] = []
        for project in data.world().projects:
            path: str | None = self.path("list", project=project)
            for _ in range(PAGES):
                if path is None:
                    break
                found.append(path)
                status, page = self.ask("GET", path)
                if status != 200 or len(page["items"]) == 0:
                    message = f"{self}: {path} answered {status}: {str(page)[:500]}"
                    raise TargetError(message)
                path = self.path("list", project=project, cursor=page["next"]) if page["next"] else None
        self._rng.shuffle(found)
        return found

    def check(self) -> None:
        """Ask each thing once and look at the answer; raises TargetError when it is not what was asked for."""
        package = self.ids[len(self.ids) // 2]
        project = data.world().projects[len(self.ids) // 2 % data.PROJECTS]
        status, page = self.ask("GET", self.path("list", project=project))
        self._require(status == 200 and len(page["items"]) == 50 and page["next"], "list", status, page)
        status, one = self.ask("GET", self.path("get", package=package))
        self._require(status == 200 and one["id"] == str(package), "get", status, one)
        status, history = self.ask("GET", self.path("history", package=package))
        self._require(status == 200 and len(history["items"]) >= 5, "history", status, history)
        found = 0
        for word in data.SEARCH_WORDS[:20]:
            status, page = self.ask("GET", self.path("search", project=project, q=word))
            self._require(status == 200, "search", status, page)
            found += len(page["items"])
        self._require(found > 0, "search", status, "nothing was found")
        status, made = self.ask("POST", self.path("create"), self.new_package(self._rng))
        made = self.resource(made)
        self._require(status == 201 and made.get("status") == "draft", "create", status, made)
        status, moved = self.ask("POST", self.path("transition", package=made["id"]), self.transition())
        moved = self.resource(moved)
        self._require(status == 200 and moved.get("status") == "submitted", "transition", status, moved)

    def resource(self, answer: Any) -> Any:  # noqa: ANN401 - JSON
        """The package in the answer to a write."""
        return answer

    def _require(self, fine: object, scenario: str, status: int, answer: object) -> None:
        if not fine:
            message = f"{self}: {scenario} answered {status}: {str(answer)[:1000]}"
            raise TargetError(message)


class Floor(Target):
    """The fastest honest program."""

    name = "floor"
    table = "package"

    def __init__(self, cluster: Cluster, count: int, scratch: Path) -> None:
        """Describe it."""
        super().__init__(cluster, count, scratch)
        self._token = secrets.token_urlsafe(32)

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Create the tables, people and projects."""
        seed_floor.create_schema(connection, self._token)

    def add(self, connection: psycopg.Connection[Any], packages: Sequence[data.Package]) -> None:
        """Copy them."""
        seed_floor.add_packages(connection, packages)

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Uvicorn with as many workers as PMIS gets."""
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "bench.floor:app",
            "--port",
            str(self.port),
            "--workers",
            str(WORKERS),
        ]
        command += ["--no-access-log", "--log-level", "warning", "--no-proxy-headers"]
        return command, {"FLOOR_DSN": self.cluster.url(self.database)}

    def sign_in(self) -> None:
        """Use the token that is in the table."""
        self.headers = {"Authorization": f"Bearer {self._token}"}


class Pmis(Target):
    """PMIS as it is shipped: every check, event, hash and promise included."""

    name = "pmis"
    table = "state.package"
    prefix = "/api/v1"

    def __init__(self, cluster: Cluster, count: int, scratch: Path) -> None:
        """Describe it."""
        super().__init__(cluster, count, scratch)
        self._secrets = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Migrate, then append what packages refer to."""
        del connection
        upgrade_database(self.cluster.url(self.database, pg.OWNER))
        seed_pmis.create_world(self.cluster.url(self.database, pg.APP))

    def add(self, connection: psycopg.Connection[Any], packages: Sequence[data.Package]) -> None:
        """Append and project them."""
        seed_pmis.add_packages(connection, packages)

    def command(self) -> tuple[list[str], dict[str, str]]:
        """`pmis api`, as production runs it."""
        command = [sys.executable, "-m", "pmis.cli.main", "api", "--port", str(self.port), "--workers", str(WORKERS)]
        return command, {
            **self._secrets,
            "DATABASE_URL": self.cluster.url(self.database, pg.APP),
            "ENVIRONMENT": "production",
            "PMIS_DATA_DIR": str(self.scratch / f"{self.database}.data"),
            "ACCESS_TOKEN_MINUTES": "600",
        }

    def sign_in(self) -> None:
        """Issue the token that a login of the first person would give."""
        person, session = data.world().people[0], uuid4()
        with psycopg.connect(self.cluster.url(self.database, pg.APP), autocommit=True) as connection:
            connection.execute(
                "insert into identity.session "
                "(id, person_id, kind, client, started_at, last_used_at, authenticated_at, expires_at) "
                "select %s, %s, 'bearer', 'bench', t, t, t, t + interval '1 day' from (select now() as t) as clock",
                (session, person),
            )
        token = Tokens(self._secrets["JWT_SECRET_KEY"], 600).issue(person, session, datetime.now(UTC))
        self.headers = {"Authorization": f"Bearer {token}"}

    def resource(self, answer: Any) -> Any:  # noqa: ANN401 - JSON
        """The package in the outcome, if it was applied at once."""
        return answer.get("resource") or answer


def chunks(packages: Iterable[data.Package], size: int = 5000) -> Iterable[list[data.Package]]:
    """So many packages at a time, so that a hundred thousand of them never stand in memory."""
    iterator = iter(packages)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
