"""The journeys of `web/journeys`, in a real browser against what `pmis up` serves: `./pmis test --journeys`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pmis.kit.settings import checkout
from pmis.ops.web import Web, environment_of
from tests.ops.test_pages import BUILD_SECONDS
from tests.ops.test_up import Running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not os.environ.get("PMIS_TEST_JOURNEYS"), reason="`./pmis test --journeys` walks them; it needs a Chromium"
)


def test_every_journey_goes_well(tmp_path: Path):
    chromium = os.environ.get("PMIS_CHROMIUM") or shutil.which("chromium")
    assert chromium, "no Chromium: install it, or name it in PMIS_CHROMIUM"
    root = checkout()
    assert root is not None
    running = Running(tmp_path / "data", pages=True)
    try:
        running.until("PMIS is ready after", BUILD_SECONDS)
        node = Web(print, root).node()
        told = {
            "PMIS_WEB_URL": json.loads((running.folder / "runtime.json").read_text())["PUBLIC_URL"],
            "PMIS_CHROMIUM": chromium,
        }
        walked = subprocess.run(
            [node.program, "journeys/run.mjs"],
            check=False,
            cwd=root / "web",
            env=environment_of(node, told),
        )
        assert walked.returncode == 0, "a journey failed: see above"
        assert running.end() == 0
    finally:
        running.leave_nothing()
