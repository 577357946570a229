"""The command line as a whole: quick to start, every command explained, every failure one plain sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pmis.cli import main, reference
from pmis.kit.settings import checkout

HEAVY = (
    "sqlalchemy",
    "fastapi",
    "psycopg",
    "pydantic",
    "uvicorn",
    "alembic",
    "cryptography",
    "jsonschema",
    "httpx2",
    "asyncio",
    "ssl",
    "importlib.metadata",
)


def pmis(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-P", "-m", "pmis.cli.main", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def broken(how, *arguments, **environment):
    """Run the command line with a command whose body is `how`."""
    program = f"""
import sys
from pmis.cli.main import app, run
@app.command()
def broken() -> None:
    {how}
sys.argv = ["pmis", "broken"]
run()
"""
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_help_loads_nothing_heavy():
    program = f"import sys, pmis.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"


def test_help_is_quick():
    """Beside what its library alone needs, by turns: a busy machine makes both slow."""
    alone: list[float] = []
    whole: list[float] = []
    for _ in range(5):
        alone.append(_seconds_for("-c", "import typer"))
        whole.append(_seconds_for("-m", "pmis.cli.main", "--help"))
    assert min(whole) < 3 * min(alone), f"{min(whole):.2f} s of processor time, and {min(alone):.2f} s for typer alone"


def _seconds_for(*arguments: str) -> float:
    started = os.times()
    subprocess.run(
        [sys.executable, "-P", *arguments],
        check=True, capture_output=True, env={**os.environ, "COVERAGE_PROCESS_CONFIG": ""},
    )  # fmt: skip
    ended = os.times()
    return ended.children_user + ended.children_system - started.children_user - started.children_system


@pytest.mark.parametrize(("name", "command"), list(reference.commands()))
def test_each_command_and_option_explains_itself(name, command):
    assert (command.help or "").strip(), f"{name} has no help"
    silent = [
        parameter.name
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert silent == [], f"{name}: no help for {silent}"


def test_the_reference_pages_are_what_the_code_says():
    root = checkout()
    assert root is not None
    assert reference.stale_pages(root) == [], "run `pmis generate`"


def test_each_command_is_in_the_reference_page():
    page = reference.pages()["docs/reference/cli.md"]
    assert [name for name, _ in reference.commands() if f"# {name}\n" not in page] == []


def test_a_stale_page_is_noticed(tmp_path):
    reference.write_pages(tmp_path)
    assert reference.stale_pages(tmp_path) == []
    pages = ["docs/reference/cli.md", "docs/reference/settings.md", "web/client/openapi.json"]
    (tmp_path / pages[0]).write_text("old")
    (tmp_path / pages[1]).unlink()
    (tmp_path / pages[2]).write_text("{}")
    assert reference.stale_pages(tmp_path) == pages


def test_the_modules_of_the_package_are_all_listed():
    from pathlib import Path

    folder = Path(main.__file__).parent
    holding = {path.stem for path in folder.glob("*.py") if "\napp = " in path.read_text()} - {"main"}
    assert holding == set(main.GROUPS)


class TestFailures:
    def test_a_refusal_is_one_sentence(self):
        answer = broken("from pmis.kit.errors import ConflictError; raise ConflictError('No, because.')")
        assert (answer.returncode, answer.stderr, answer.stdout) == (1, "error: No, because.\n", "")

    def test_a_surprise_is_one_sentence_and_a_log(self, tmp_path):
        answer = broken("raise ValueError('inside')", PMIS_DATA_DIR=str(tmp_path))
        log = tmp_path / "logs" / "cli.log"
        assert answer.returncode == 1
        assert answer.stderr == (
            f"error: Something went wrong that PMIS did not expect (ValueError). The details are in {log}.\n"
        )
        assert "ValueError: inside" in log.read_text()

    def test_a_surprise_where_no_log_can_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        answer = broken("raise ValueError('inside')", PMIS_DATA_DIR=str(tmp_path / "file" / "below"))
        assert answer.returncode == 1
        assert "PMIS_DEBUG=1" in answer.stderr
        assert "Traceback" not in answer.stderr

    def test_debugging_shows_the_trace(self, tmp_path):
        answer = broken("raise ValueError('inside')", PMIS_DATA_DIR=str(tmp_path), PMIS_DEBUG="1")
        assert answer.returncode == 1
        assert "Traceback" in answer.stderr

    def test_a_database_that_is_not_there(self, tmp_path):
        answer = broken(
            "import psycopg; psycopg.connect('host=127.0.0.1 port=1 user=u dbname=d')", PMIS_DATA_DIR=str(tmp_path)
        )
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: The database does not do what was asked: ")
        assert answer.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "arguments", [("nonsense",), ("up", "--nonsense"), ("api", "--port", "x"), ("api", "--port", "70000")]
    )
    def test_what_is_not_understood_ends_with_2(self, arguments):
        answer = pmis(*arguments)
        assert answer.returncode == 2
        assert "Traceback" not in answer.stderr

    def test_an_interrupt_is_quiet(self):
        answer = broken("raise KeyboardInterrupt")
        assert (answer.returncode, answer.stderr) == (130, "")

    def test_a_reader_that_leaves_early_is_no_failure(self):
        program = "import sys; from pmis.cli.main import app, run\n@app.command()\ndef much():\n  import typer\n"
        program += "  for n in range(200000): typer.echo('x' * 80)\nsys.argv = ['pmis', 'much']; run()"
        with subprocess.Popen(
            [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""
            process.wait(20)

    def test_bad_settings_are_named(self, tmp_path):
        answer = pmis("migrate", PMIS_DATA_DIR=str(tmp_path), API_PORT="many", DATABASE_URL="")
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: API_PORT ")

    def test_a_missing_database_says_what_to_do(self, tmp_path):
        answer = pmis("migrate", PMIS_DATA_DIR=str(tmp_path), DATABASE_URL="")
        assert answer.returncode == 1
        assert "Start one with `pmis up`, or set DATABASE_URL." in answer.stderr


def test_the_version():
    assert pmis("--version").stdout.startswith("pmis 0.")


def test_doctor_speaks_json(tmp_path):
    answer = pmis("doctor", "--json", PMIS_DATA_DIR=str(tmp_path), DATABASE_URL="", REDIS_URL="", PMIS_MISSPELT="1")
    findings = json.loads(answer.stdout)
    assert answer.returncode == 2
    assert {"check", "level", "text", "advice"} == set(findings[0])
    assert [found["level"] for found in findings if found["check"] == "database"] == ["error"]
    assert any("PMIS_MISSPELT" in found["text"] for found in findings)


def test_doctor_ends_with_1_when_it_only_warns(database, tmp_path):
    given = {"DATABASE_URL": database.app_dsn, "REDIS_URL": "", "SECRET_KEY": "s" * 40, "JWT_SECRET_KEY": "j" * 40}
    answer = pmis("doctor", "--json", PMIS_DATA_DIR=str(tmp_path), **given)
    levels = {found["level"] for found in json.loads(answer.stdout)}
    assert (answer.returncode, "error" in levels, "warning" in levels) == (1, False, True), answer.stdout
