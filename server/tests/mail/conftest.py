"""A post office on a project of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mail.post import Post

if TYPE_CHECKING:
    from pathlib import Path

    from tests.builders import World


@pytest.fixture
def post(world: World, tmp_path: Path) -> Post:
    return Post.of(world, tmp_path)
