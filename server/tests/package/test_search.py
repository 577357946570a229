"""A search costs what the project holds, however much others hold with the same words."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pmis.kit.db import Reach
from pmis.kit.listing import page
from pmis.package.resource import RESOURCE
from tests.builders import make_world

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import Session
    from tests.builders import World

pytestmark = pytest.mark.anyio


async def ask(session: Session, text: str, *projects: UUID) -> list[str]:
    """The titles of the packages that are found."""
    asked = await page(
        session,
        RESOURCE.listing,
        projects=projects,
        filters={"q": text},
        sort=None,
        cursor=None,
        limit=50,
        now=datetime.now(UTC),
    )
    return [json.loads(doc)["title"] for doc in asked.docs]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def test_what_others_hold_with_the_same_words_is_not_fetched(world: World):
    other = await make_world(world.database)
    word = f"zq{secrets.token_hex(6)}"
    for number in range(20):
        await world.make_package(title=f"Mine {number} {word}")
        await other.make_package(title=f"Theirs {number} {word}")
    asked: list[tuple[str, Any]] = []
    async with world.database.read(Reach.INSTANCE) as session:
        before = session.all

        async def noted(statement: str, params: Any = None) -> Any:
            asked.append((statement, params))
            return await before(statement, params)

        session.all = noted  # type: ignore[method-assign]
        assert len(await ask(session, word, world.project)) == 20
        both = await ask(session, word, world.project, other.project)
    assert sum(title.startswith("Theirs") for title in both) == 20
    assert len(both) == 40
    async with world.database.write(Reach.INSTANCE) as session:
        # Small tables are read through, whatever their indexes.
        await session.execute("set local enable_seqscan = off")
        for statement, params in asked:
            row = await session.one(f"explain (analyze, format json) {statement}", params)
            assert row is not None
            searched = [node for node in nodes(row[0][0]["Plan"]) if node.get("Relation Name") == "search"]
            assert searched
            assert {node.get("Rows Removed by Filter", 0) for node in searched} == {0}
            assert {node["Actual Rows"] for node in searched} == {20}


async def test_the_word_that_stands_for_the_project_is_found_by_nobody(world: World):
    await world.make_package(title="Some package")
    text = str(world.project)
    async with world.database.read(Reach.INSTANCE) as session:
        for asked in (text, f"/{text}", f"'/{text}'", text[:8], text.replace("-", " ")):
            assert await ask(session, asked, world.project) == []
        assert await ask(session, "package some", world.project) == ["Some package"]
