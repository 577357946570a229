"""`pmis import ocds` and `pmis export ocds` against a served API, and the walk-through of the guide, word for word."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pmis.ocds.reader import read
from tests.cli import conftest
from tests.cli.conftest import SECRET, approval_in, serving_demo, spawn, spawn_tty
from tests.ocds.office import DATA, SIX, package_of, substance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import LiveApi, Ran
    from tests.conftest import TestDatabase

    Pmis = Callable[..., Ran]

# The served demo and the command line belong to the tests of the latter; here they are used on a database of their own.
home, live_api, signed_in, pmis = conftest.home, conftest.live_api, conftest.signed_in, conftest.pmis

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "guides" / "ocds.md"


def other_process(path: Path, ocid: str, **changed: Any) -> Any:
    """The release in a file, of another process and other organisations, as a package."""
    text = path.read_text().replace("ocds-213czf-000-00001", ocid).replace("team@example.com", f"{ocid}@example.com")
    for known in ("E09000003", "11111111", "22222222"):
        text = text.replace(known, f"{known}-{ocid[-5:]}")
    (release,) = json.loads(text)["releases"]
    return package_of({**release, **changed})


def counts(api: LiveApi) -> Any:
    import psycopg

    tables = ("ledger.event", "state.package", "state.party", "state.task", "state.approval", "ledger.import_seen")
    with psycopg.connect(api.database.admin_dsn) as connection:
        return [connection.execute(f"select count(*) from {table}").fetchone() for table in tables]


class TestWalkThrough:
    """Every command of the guide as a process on a terminal, every question answered with yes."""

    def story(self) -> list[tuple[list[str], list[str]]]:
        """The blocks of the guide's last part, each with what the guide says is printed."""
        text = GUIDE.read_text().partition("## One procurement in six releases")[2]
        blocks = re.findall(r"```sh\n([^`]*)```\n((?:\n?> [^\n]*\n?)*)", text)
        return [(block.splitlines(), re.findall(r"^> `(.*)`$", said, re.MULTILINE)) for block, said in blocks]

    @pytest.fixture
    def untouched(self, make_database: Callable[[str], TestDatabase], tmp_path: Path) -> Iterator[LiveApi]:
        """The demo as `pmis up` makes it, which is where the guide begins."""
        with serving_demo(make_database("guide"), tmp_path / "live") as api:
            yield api

    def settings(self, api: LiveApi) -> dict[str, str]:
        return {
            "PMIS_URL": api.url,
            "DATABASE_URL": api.database.app_dsn,
            "DATABASE_OWNER_URL": api.database.owner_dsn,
            "DATABASE_AUDITOR_URL": api.database.auditor_dsn,
            "SECRET_KEY": SECRET,
        }

    def command(self, line: str, variables: dict[str, str], environment: dict[str, str]) -> Ran:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        said, piped, rest = line.partition(" | ")
        words = shlex.split(rest if piped else said)
        assert words.pop(0) == "./pmis", line
        words = [found for word in words for found in (sorted(map(str, ROOT.glob(word))) if "*" in word else [word])]
        words = [str(ROOT / word) if word.startswith("server/") else word for word in words]
        if piped:
            return spawn(*words, stdin=f"{said.removeprefix('echo ')}\n".encode(), environment=environment)
        answers = [("[y/N]", "y")] * 12
        return spawn_tty(*words, answers=answers, columns=160, environment=environment)

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_the_six_releases_as_the_guide_tells_them(
        self, home: Path, untouched: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        environment = self.settings(untouched)
        variables: dict[str, str] = {}
        ran = 0
        for lines, expected in self.story():
            printed = ""
            for line in lines:
                if named := re.fullmatch(r"([A-Z]+)=(\S+)", line):
                    variables[named[1]] = named[2]
                    continue
                done = self.command(line, variables, environment)
                assert done.code == 0, (line, done)
                printed += done.out
                ran += 1
            plain = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed).split())
            for words in expected:
                # An ellipsis stands for the id, which is another one every time.
                assert re.search(re.escape(words).replace("…", r"[0-9a-f]{8}\.?"), plain), (words, printed)
        assert ran == 24
        (found,) = read((tmp_path / "release.json").read_bytes(), "release.json")
        assert substance(found.release) == substance(json.loads((DATA / "compiled.json").read_text()))
        package = spawn("package", "show", "P-010", "--json", "--as", "admin", environment=environment).json
        assert (package["status"], package["amount"], package["currency"]) == ("active", "11000000.00", "GBP")
        assert (package["actual_start"], package["planned_end"]) == ("2010-07-01", "2011-06-30")


class TestImport:
    def test_a_preview_writes_nothing(self, pmis: Pmis, live_api: LiveApi, tmp_path: Path):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(other_process(SIX[0], "ocds-213czf-000-10001")))
        before = counts(live_api)
        done = pmis("import", "ocds", str(path), "--dry-run", "--as", "operator")
        assert done.code == 0, done
        assert counts(live_api) == before
        lines = done.out.splitlines()
        assert lines[0] == "plan.json: 1 release"
        assert lines[1].split() == ["CHANGE", "RECORD", "NAME", "SETS", "WHERE"]
        assert [line.split()[:2] for line in lines[2:8]] == [
            ["new", "party"],
            ["new", "package"],
            ["new", "task"],
            ["→", "in_progress"],
            ["→", "completed"],
            ["new", "task"],
        ]
        assert all(line.endswith("ok") for line in lines[2:8])
        assert "amount 1,000,000.00 GBP" in lines[3]
        assert lines[8] == "It would be applied at once; rule matrix.low.medium."
        assert lines[-1] == "Nothing was written."

    def test_it_is_applied_and_the_second_time_unchanged(self, pmis: Pmis, live_api: LiveApi, tmp_path: Path):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(other_process(SIX[0], "ocds-213czf-000-10002")))
        done = pmis("import", "ocds", str(path), "--yes", "--as", "operator")
        assert done.code == 0, done
        assert re.fullmatch(r"plan\.json: applied, 6 changes: P-\d{3} Planned cycle lane improvements\.\n", done.out)
        before = counts(live_api)
        again = pmis("import", "ocds", str(path), "--yes", "--as", "operator")
        assert (again.code, again.out) == (0, "plan.json: unchanged; nothing in it is new.\n")
        assert counts(live_api) == before

    def test_the_answers_are_there_for_programs(self, pmis: Pmis, tmp_path: Path):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(other_process(SIX[0], "ocds-213czf-000-10003")))
        preview = pmis("import", "ocds", str(path), "--dry-run", "--json", "--as", "operator")
        assert (preview.code, preview.json["outcome"], len(preview.json["items"])) == (0, "preview", 6)
        done = pmis("import", "ocds", str(path), "--yes", "--json", "--as", "operator")
        assert (done.json["outcome"], done.json["changes"]) == ("applied", 6)

    def test_without_a_terminal_it_wants_a_yes(self, pmis: Pmis, live_api: LiveApi):
        before = counts(live_api)
        done = pmis("import", "ocds", str(SIX[0]), "--as", "operator")
        assert done.code == 2
        assert "--dry-run" in done.err
        assert counts(live_api) == before

    def test_a_no_writes_nothing(self, signed_in: LiveApi, tmp_path: Path):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(other_process(SIX[0], "ocds-213czf-000-10004")))
        before = counts(signed_in)
        done = spawn_tty("import", "ocds", str(path), "--as", "operator", answers=[("[y/N]", "n")])
        assert done.code == 1
        assert "Import plan.json?" in done.out
        assert counts(signed_in) == before

    def test_one_bad_file_of_several_stops_them_all_before_anything_is_written(
        self, pmis: Pmis, live_api: LiveApi, tmp_path: Path
    ):
        good, bad = tmp_path / "good.json", tmp_path / "bad.json"
        good.write_text(json.dumps(other_process(SIX[0], "ocds-213czf-000-10005")))
        wrong = other_process(SIX[0], "ocds-213czf-000-10006")
        wrong["releases"][0]["planning"]["milestones"][1]["dueDate"] = "next week"
        wrong["releases"][0]["tender"]["value"]["currency"] = "EURO"
        bad.write_text(json.dumps(wrong))
        before = counts(live_api)
        done = pmis("import", "ocds", str(good), str(bad), "--yes", "--as", "operator")
        assert done.code == 1
        assert counts(live_api) == before
        errors = [line for line in done.out.splitlines() if line.startswith("error: ")]
        assert [line.split(": ")[1] for line in errors] == [
            "bad.json /releases/0/planning/milestones/1/dueDate",
            "bad.json /releases/0/tender/value/currency",
        ]
        marked = [line for line in done.out.splitlines() if line.endswith(" error")]
        assert any("/releases/0/planning/milestones/1" in line for line in marked)
        assert done.err == "error: 2 items of bad.json cannot be imported. Nothing was written.\n"

    def test_files_of_one_run_that_build_on_each_other_wait_for_each_other(
        self, pmis: Pmis, live_api: LiveApi, tmp_path: Path
    ):
        paths = [tmp_path / name for name in ("1.json", "2.json", "3.json")]
        for path, source in zip(paths, SIX, strict=False):
            path.write_text(json.dumps(other_process(source, "ocds-213czf-000-10007")))
        done = pmis("import", "ocds", *map(str, paths), "--yes", "--as", "operator")
        assert done.code == 1
        assert [line.split(",")[0] for line in done.out.splitlines()] == [
            "1.json: applied",
            "2.json: waits for 1 admin (an administrator) and 1 executive (an executive)",
        ]
        approval = approval_in(done.out)
        assert done.err.splitlines()[-1] == (
            f"error: 3.json was not imported: it builds on 2.json, which waits as approval {approval}. "
            "Import it when that is decided."
        )
        for who in ("admin", "executive"):
            assert pmis("approval", "approve", approval, "--yes", "--as", who).code == 0
        rest = pmis("import", "ocds", *map(str, paths), "--yes", "--as", "operator")
        assert rest.code == 0, rest
        assert [line.split(";")[0] for line in rest.out.splitlines()][:2] == ["1.json: unchanged", "2.json: unchanged"]
        assert rest.out.splitlines()[2].startswith("3.json: waits for 1 admin")

    def test_the_progress_of_a_large_file_is_told(self, pmis: Pmis, tmp_path: Path):
        path = tmp_path / "many.jsonl"
        lines = [json.dumps(other_process(SIX[0], f"ocds-213czf-001-{i:05d}")) for i in range(40)]
        path.write_text("\n".join(lines))
        done = pmis("import", "ocds", str(path), "--yes", "--as", "operator")
        assert done.code == 0, done
        assert done.out.startswith("many.jsonl: applied, 240 changes: ")
        assert {line.split(": ")[0] for line in done.err.splitlines()} == {"many.jsonl"}
        assert "many.jsonl: proposing" in done.err


class TestBadFiles:
    FILES: ClassVar[dict[str, tuple[bytes, str]]] = {
        "latin1.json": ('{"ocid": "Müller"}'.encode("latin-1"), "not UTF-8 at line 1, byte 12"),
        "half.json": (SIX[0].read_bytes()[:2500], "line "),
        "nul.json": (b'{"ocid": "a\x00"}', "there is a NUL byte"),
        "oc4ids.json": (b'{"version": "0.9", "projects": [{"id": "oc4ids-abc123-1"}]}', "OC4IDS"),
        "records.json": (b'{"version": "1.1", "records": []}', "record package"),
        "empty.json": (b"", "the file is empty"),
        "huge.json": (b'{"ocid": "' + b"a" * (10 * 1024 * 1024) + b'"}', "over the limit"),
        "ten.json": (b'{"ocid": "' + b"a" * 10_000_000 + b'"}', "over the limit"),
    }

    @pytest.mark.parametrize("name", FILES)
    def test_garbage_gets_a_clear_message_and_nothing_is_written(
        self, pmis: Pmis, live_api: LiveApi, tmp_path: Path, name: str
    ):
        content, message = self.FILES[name]
        path = tmp_path / name
        path.write_bytes(content)
        before = counts(live_api)
        done = pmis("import", "ocds", str(SIX[0]), str(path), "--yes", "--as", "operator")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error: {name}: ")
        assert message in done.err
        assert len(done.err.splitlines()) == 1
        assert counts(live_api) == before

    def test_a_file_that_is_not_there_is_named(self, pmis: Pmis, tmp_path: Path):
        done = pmis("import", "ocds", str(tmp_path / "none.json"), "--yes", "--as", "operator")
        assert done.code == 1
        assert done.err == f"error: {tmp_path / 'none.json'} cannot be read: No such file or directory.\n"
        folder = pmis("import", "ocds", str(tmp_path), "--yes", "--as", "operator")
        assert folder.err == f"error: {tmp_path} cannot be read: Is a directory.\n"

    def test_whoever_only_reads_is_told_so(self, pmis: Pmis, live_api: LiveApi):
        before = counts(live_api)
        done = pmis("import", "ocds", str(SIX[0]), "--yes", "--as", "viewer")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: None of your roles in this project allows you to propose changes")
        assert counts(live_api) == before


class TestExport:
    def test_it_goes_to_standard_output_or_into_a_file(self, pmis: Pmis, tmp_path: Path):
        done = pmis("export", "ocds", "p-001", "--ocid-prefix", "ocds-abc123", "--as", "admin")
        assert done.code == 0, done
        (found,) = read(done.out.encode(), "export.json")
        assert str(found.release["ocid"]).startswith("ocds-abc123-")
        path = tmp_path / "out.json"
        written = pmis("export", "ocds", "P-001", str(path), "--publisher", "Highways Office", "--as", "auditor")
        assert written.out == f"{path}: {path.stat().st_size:,} bytes written.\n"
        assert json.loads(path.read_bytes())["publisher"] == {"name": "Highways Office"}

    def test_what_cannot_be_done_is_said(self, pmis: Pmis, tmp_path: Path):
        assert pmis("export", "ocds", "P-999", "--as", "admin").err == "error: There is no such package.\n"
        refused = pmis("export", "ocds", "P-001", "--as", "viewer")
        assert (refused.code, refused.out) == (1, "")
        assert "administrators and auditors" in refused.err
        nowhere = pmis("export", "ocds", "P-001", str(tmp_path / "none" / "x.json"), "--as", "admin")
        assert nowhere.code == 1
        assert "cannot be written: No such file or directory." in nowhere.err
