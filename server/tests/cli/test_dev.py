"""`pmis test` and the checks: the exit code tells the truth, and pytest's own summary comes last."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pmis.cli import dev

GOOD = "def test_good():\n    print('7 passed in 0.01s, says a test')\n"
BAD = "def test_bad():\n    print('7 passed in 0.01s, says a test')\n    assert 1 == 2\n"


def pmis(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-P", "-m", "pmis.cli.main", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "PMIS_TEST"))
            },
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p pytest_timeout",
        },
        **options,
    )


@pytest.mark.parametrize(("body", "code", "summary"), [(GOOD, 0, "1 passed"), (BAD, 1, "1 failed")])
def test_with_arguments_only_those_tests_are_run(tmp_path, body, code, summary):
    (tmp_path / "test_it.py").write_text(body)
    answer = pmis("test", "test_it.py", "-q", cwd=tmp_path)
    assert answer.returncode == code, answer
    assert "pmis: style" not in answer.stdout
    assert re.fullmatch(rf"{summary} in [0-9.]+s", answer.stdout.splitlines()[-1])


def test_pytests_own_options_are_passed_on(tmp_path):
    (tmp_path / "test_it.py").write_text(GOOD + BAD)
    answer = pmis("test", "-k", "good", "--collect-only", "-q", "test_it.py", cwd=tmp_path)
    assert answer.returncode == 0
    assert "::test_good\n" in answer.stdout
    assert "test_bad" not in answer.stdout


def test_the_fault_suites_are_run_whole_one_by_one_and_some_when_some_are_named(monkeypatch):
    ran = []

    def run(command, **options):
        ran.append((command, options["env"]["PMIS_TEST_FAULTS"]))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(dev.subprocess, "run", run)
    assert dev._faults([]) == dev._faults(["-k", "power"]) == 3
    (whole, everything), (part, some) = ran
    assert (everything, some) == ("all", "some")
    assert {"tests/faults", "tests/jobs/test_faults.py"} == {name[name.index("tests/") :] for name in whole[-2:]}
    assert part == [*whole, "-k", "power"]


def test_bench_hands_over_to_the_benchmark_with_its_words_and_its_exit_code(tmp_path):
    answer = pmis("bench", "--only", "nothing", cwd=tmp_path)
    assert answer.returncode == 2
    assert "there is no 'nothing'; known are list, get" in answer.stderr


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A tiny project in our shape: two gated packages and their tests."""
    server = tmp_path / "server"
    for package in ("ledger", "policy"):
        (server / "pmis" / package).mkdir(parents=True)
        (server / "pmis" / package / "__init__.py").write_text("def answer(x):\n    return 1 if x else 2\n")
    (server / "pmis" / "__init__.py").write_text("")
    (server / "tests").mkdir()
    (server / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\ntestpaths = ["tests"]\npythonpath = ["."]\n'
        '[tool.coverage.run]\nbranch = true\nsource_pkgs = ["pmis"]\n'
    )
    monkeypatch.setattr(dev, "_root", lambda: tmp_path)
    for name in list(os.environ):
        if name.startswith(("PYTEST", "COV", "PMIS_TEST")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(server))
    # The plugins of the real suite load slowly and have nothing to do here.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p xdist.plugin -p pytest_cov.plugin")
    return server


def covering(*packages):
    imports = "".join(f"from pmis.{package} import answer as {package}\n" for package in packages)
    calls = "".join(f"    assert {package}(1) == 1 and {package}(0) == 2\n" for package in packages)
    return f"{imports}\ndef test_all():\n{calls}"


class TestGates:
    def test_full_coverage_passes_and_the_summary_is_last(self, project, capfd):
        (project / "tests" / "test_it.py").write_text(covering("ledger", "policy"))
        assert dev._pytest((), gates=True) == 0
        lines = capfd.readouterr().out.splitlines()
        assert re.fullmatch(r"1 passed in [0-9.]+s", lines[-1])
        assert "pmis: coverage of ledger: ok" in lines

    def test_a_line_that_no_test_runs_fails(self, project, capfd):
        (project / "tests" / "test_it.py").write_text(covering("ledger"))
        assert dev._pytest((), gates=True) == 1
        lines = capfd.readouterr().out.splitlines()
        assert "pmis: coverage of policy: FAILED" in lines
        assert re.fullmatch(r"1 passed in [0-9.]+s", lines[-1])

    def test_a_failing_test_fails_and_loses_no_output(self, project, capfd):
        (project / "tests" / "test_it.py").write_text(covering("ledger", "policy") + BAD)
        assert dev._pytest((), gates=True) == 1
        output = capfd.readouterr().out
        assert "7 passed in 0.01s, says a test" in output
        assert re.fullmatch(r"1 failed, 1 passed in [0-9.]+s", output.splitlines()[-1])


class TestChecks:
    def test_what_a_failing_check_says_is_shown(self, project, capfd):
        assert not dev._passes("style", sys.executable, "-c", "print('line 3 is too long'); exit(1)")
        assert capfd.readouterr().out == "line 3 is too long\npmis: style: FAILED\n"

    def test_a_passing_check_is_quiet(self, project, capfd):
        assert dev._passes("style", sys.executable, "-c", "print('all is well')")
        assert capfd.readouterr().out == "pmis: style: ok\n"

    def test_outside_a_checkout_it_says_so(self, monkeypatch):
        from pmis.kit import settings

        monkeypatch.setattr(settings, "checkout", lambda: None)
        with pytest.raises(dev.NoCheckoutError, match="needs a source checkout"):
            dev._root()
