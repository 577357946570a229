"""Redmine from Debian's packages as a peer: the same packages as issues, asked through its REST API.

It is measured when `/usr/share/redmine` is there (`apt-get install redmine redmine-pgsql puma`), from a copy in the
run's folder, with its default roles, trackers and work flow, served by Puma with as many workers as PMIS gets. A
package is an issue, its history are journals; amounts, parties and extra fields have no place in an issue of the
default configuration and are left out, which makes the answers smaller than those of PMIS.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from urllib.parse import urlencode

from psycopg.conninfo import conninfo_to_dict

from bench import data
from bench.load import http as request
from bench.targets import HITS, PAGES, WORKERS, Scenario, ScenarioName, Target, TargetError

if TYPE_CHECKING:
    import random
    import uuid
    from collections.abc import Sequence

    import psycopg

    from bench.database import Cluster

SOURCE: Final = Path("/usr/share/redmine")
NEW, IN_PROGRESS, CLOSED = 1, 2, 5
STATUS: Final = {"draft": NEW, "completed": CLOSED, "cancelled": 6}
ISSUE: Final = (
    *("id", "tracker_id", "project_id", "subject", "description", "start_date", "due_date", "status_id"),
    *("assigned_to_id", "priority_id", "author_id", "created_on", "updated_on", "root_id", "lft", "rgt"),
)
MANAGER, FEATURE, NORMAL = 3, 2, 2


def installed() -> bool:
    """Whether Redmine and a server for it are there."""
    return (SOURCE / "config.ru").is_file() and shutil.which("puma") is not None


class Redmine(Target):
    """The widest used open project tracker, as Debian packages it."""

    name = "redmine"
    table = "public.issues"
    patience: ClassVar[float] = 0.1

    def __init__(self, cluster: Cluster, count: int, scratch: Path) -> None:
        """Describe it."""
        super().__init__(cluster, count, scratch)
        self._key = secrets.token_hex(20)
        self._tree = scratch / f"{self.database}.tree"
        self._numbers: dict[uuid.UUID, int] = {}

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Let Redmine make its own tables and default configuration, then add people and projects."""
        self._copy()
        for task in (("db:migrate",), ("redmine:load_default_data", "REDMINE_LANG=en")):
            done = subprocess.run(
                [shutil.which("ruby") or "ruby", "bin/rails", *task],
                check=False,
                cwd=self._tree,
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                message = f"Redmine's {task[0]} failed:\n{(done.stdout[-500:] + done.stderr)[:2000]}"
                raise TargetError(message)
        world = data.world()
        with connection.cursor() as cursor:
            cursor.execute("insert into settings (name, value, updated_on) values ('rest_api_enabled', '1', now())")
            cursor.executemany(
                "insert into users (id, login, firstname, lastname, admin, status, language, type, mail_notification, "
                "created_on, updated_on) values (%s, %s, %s, %s, false, 1, 'en', 'User', 'none', now(), now())",
                [(100 + i, f"person{i}", *data.person_name(i).split(" ")) for i in range(len(world.people))],
            )
            cursor.executemany(
                "insert into email_addresses (user_id, address, is_default, notify, created_on, updated_on) "
                "values (%s, %s, true, false, now(), now())",
                [(100 + i, f"person{i}@example.org") for i in range(len(world.people))],
            )
            for i in range(len(world.projects)):
                cursor.execute(
                    "insert into projects (id, name, identifier, is_public, status, lft, rgt, created_on, updated_on) "
                    "values (%s, %s, %s, false, 1, %s, %s, now(), now())",
                    (i + 1, f"Programme {i + 1}", data.project_prefix(i).lower(), 2 * i + 1, 2 * i + 2),
                )
                cursor.execute("insert into enabled_modules (project_id, name) values (%s, 'issue_tracking')", (i + 1,))
                cursor.execute("insert into projects_trackers values (%s, %s)", (i + 1, FEATURE))
                cursor.executemany(
                    "with seat as (insert into members (user_id, project_id, created_on) values (%s, %s, now()) "
                    "returning id) insert into member_roles (member_id, role_id) select id, %s from seat",
                    [(100 + person, i + 1, MANAGER) for person in range(len(world.people))],
                )
            cursor.execute(
                "insert into tokens (user_id, action, value, created_on, updated_on) "
                "values (100, 'api', %s, now(), now())",
                (self._key,),
            )

    def _copy(self) -> None:
        shutil.copytree(SOURCE, self._tree, symlinks=False, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        # Debian's list of packages looks for the database's adapter where Debian keeps the instances.
        gems = self._tree / "Gemfile"
        gems.write_text(gems.read_text().replace(str(SOURCE), str(self._tree)))
        (self._tree / "Gemfile.lock").unlink(missing_ok=True)
        own = self._tree / "instances" / "bench"
        for folder in ("config", "tmp/cache", "log", "files"):
            (own / folder).mkdir(parents=True, exist_ok=True)
        login = conninfo_to_dict(self.cluster.url(self.database))
        where = {"host": login["host"], "port": login["port"], "database": self.database, "pool": 8}
        who = {"username": login["user"], "password": login["password"]}
        settings = json.dumps({"production": {"adapter": "postgresql", **where, **who}})
        for place in (own / "config", self._tree / "config"):
            (place / "database.yml").unlink(missing_ok=True)
            (place / "database.yml").write_text(settings)  # JSON is YAML
        (own / "config" / "secret_key.txt").write_text(secrets.token_hex(64))
        (own / "config" / "configuration.yml").write_text(
            "production:\n  email_delivery:\n    delivery_method: :test\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            "REDMINE_INSTANCE": "bench",
            "RAILS_ENV": "production",
            "BUNDLE_GEMFILE": str(self._tree / "Gemfile"),
            "RAILS_MAX_THREADS": "5",
        }

    def add(self, connection: psycopg.Connection[Any], packages: Sequence[data.Package]) -> None:
        """Copy issues, their journals and the details of these."""
        issues: list[tuple[Any, ...]] = []
        journals: list[tuple[Any, ...]] = []
        details: list[tuple[Any, ...]] = []
        number, last = self._last(connection, "issues"), self._last(connection, "journals")
        for package in packages:
            number += 1
            self._numbers[package.id] = number
            fields = package.fields
            issues.append(
                (
                    *(number, FEATURE, package.project + 1, fields["title"], fields["description"]),
                    *(fields["planned_start"], fields["planned_end"], STATUS.get(fields["status"], IN_PROGRESS)),
                    *(100 + fields["owner"], NORMAL, 100, package.created_at, package.updated_at, number, 1, 2),
                )
            )
            for entry in package.history[1:]:
                last += 1
                journals.append((last, number, "Issue", 100 + entry.person, "", entry.at))
                details += [
                    (last, "attr", *_detail(name, before, after)) for name, (before, after) in entry.changes.items()
                ]
        for table, columns, rows in (
            (
                "issues",
                ", ".join(ISSUE),
                issues,
            ),
            ("journals", "id, journalized_id, journalized_type, user_id, notes, created_on", journals),
            ("journal_details", "journal_id, property, prop_key, old_value, value", details),
        ):
            text = f"copy {table} ({columns}) from stdin"
            with connection.cursor() as cursor, cursor.copy(text.encode()) as into:
                for row in rows:
                    into.write_row(row)
        for table in ("issues", "journals"):
            connection.execute(f"select setval('{table}_id_seq', (select max(id) from {table}))".encode())

    @staticmethod
    def _last(connection: psycopg.Connection[Any], table: str) -> int:
        row = connection.execute(f"select coalesce(max(id), 0) from {table}".encode()).fetchone()
        return cast("int", row[0]) if row else 0

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Puma, preloaded, as its documentation runs it in production."""
        command = ["puma", "--dir", str(self._tree), "--environment", "production", "--workers", str(WORKERS)]
        command += ["--preload", "--threads", "5:5", "--bind", f"tcp://127.0.0.1:{self.port}", "--quiet"]
        return command, self._environment()

    def sign_in(self) -> None:
        """Use the key that is in the table."""
        self.headers = {"X-Redmine-API-Key": self._key}

    def path(
        self,
        scenario: ScenarioName,
        *,
        project: uuid.UUID | None = None,
        package: uuid.UUID | None = None,
        **query: str,
    ) -> str:
        """The path of a scenario's request."""
        home = data.world().projects.index(project) + 1 if project else 0
        if scenario == "search":
            return f"/projects/{home}/search.json?{urlencode({'q': query['q'], 'issues': '1', 'limit': str(HITS)})}"
        if scenario == "list":
            chosen = {"project_id": str(home), "status_id": "*", "limit": "50", "sort": "id:desc", **query}
            return f"/issues.json?{urlencode(chosen)}"
        if package is None:
            return "/issues.json"
        suffix = "?include=journals" if scenario == "history" else ""
        return f"/issues/{self._numbers[package]}.json{suffix}"

    def new_package(self, rng: random.Random) -> dict[str, Any]:
        """The body of a create."""
        fields = data.new_package_fields(rng)
        issue = {
            "project_id": 1 + rng.randrange(data.PROJECTS),
            "tracker_id": FEATURE,
            "subject": fields["title"],
            "description": fields["description"],
            "start_date": fields["planned_start"],
            "due_date": fields["planned_end"],
        }
        return {"issue": issue}

    def transition(self) -> dict[str, Any]:
        """The body that begins an issue."""
        return {"issue": {"status_id": IN_PROGRESS}}

    def requests(self, scenario: Scenario, limit: int) -> list[bytes]:
        """The requests of a scenario; Redmine is sent JSON with its type, and steps by PUT."""
        if scenario.name != "transition":
            return super().requests(scenario, limit)
        used, self._drafts = self._drafts[:limit], self._drafts[limit:]
        body = json.dumps(self.transition()).encode()
        return [request("PUT", self.path("transition", package=one), self.headers, body) for one in used]

    def _pages(self) -> list[str]:
        """The same number of first pages as the others get, by offset: there are no cursors."""
        pages = max(1, min(PAGES, self.count // data.PROJECTS // 50))
        found = [
            self.path("list", project=project, offset=str(50 * page))
            for project in data.world().projects
            for page in range(pages)
        ]
        self._rng.shuffle(found)
        return found

    def check(self) -> None:
        """Ask each thing once and look at the answer; raises TargetError when it is not what was asked for."""
        package = self.ids[len(self.ids) // 2]
        project = data.world().projects[len(self.ids) // 2 % data.PROJECTS]
        status, page = self.ask("GET", self.path("list", project=project))
        self._require(status == 200 and len(page["issues"]) == 50, "list", status, page)
        status, one = self.ask("GET", self.path("history", package=package))
        self._require(status == 200 and len(one["issue"]["journals"]) >= 4, "history", status, one)
        found = 0
        for word in data.SEARCH_WORDS[:20]:
            status, page = self.ask("GET", self.path("search", project=project, q=word))
            self._require(status == 200, "search", status, page)
            found += page["total_count"]
        self._require(found > 0, "search", status, "nothing was found")
        status, made = self.ask("POST", self.path("create"), self.new_package(self._rng))
        self._require(status == 201 and made["issue"]["status"]["id"] == NEW, "create", status, made)
        number = made["issue"]["id"]
        status, moved = self.ask("PUT", f"/issues/{number}.json", self.transition())
        self._require(status == 204, "transition", status, moved)
        status, moved = self.ask("GET", f"/issues/{number}.json")
        self._require(moved["issue"]["status"]["id"] == IN_PROGRESS, "transition", status, moved)


def _detail(name: str, before: Any, after: Any) -> tuple[str, str | None, str | None]:  # noqa: ANN401 - JSON values
    key = {"title": "subject", "status": "status_id", "owner": "assigned_to_id", "planned_end": "due_date"}.get(
        name, name
    )
    if name == "status":
        before, after = STATUS.get(before, IN_PROGRESS), STATUS.get(after, IN_PROGRESS)
    if name == "owner":
        before, after = (None if one is None else 100 + one for one in (before, after))
    return key, None if before is None else str(before), None if after is None else str(after)
