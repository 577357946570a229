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


async def ask(session: Session, text: str, *projects: UUID, limit: int = 50, **more: Any) -> list[str]:
    """The titles of the packages that are found, page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        given: dict[str, Any] = {"filters": {"q": text}, "sort": None, "now": datetime.now(UTC), **more}
        asked = await page(session, RESOURCE.listing, projects=projects, cursor=cursor, limit=limit, **given)
        found += [json.loads(doc)["title"] for doc in asked.docs]
        cursor = asked.next
        if cursor is None:
            return found


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


@pytest.mark.parametrize("sort", [None, "created_at", "-amount"])
async def test_a_page_holds_what_it_can_whatever_else_has_the_word(world: World, sort: str | None):
    other = await make_world(world.database)
    word = f"zq{secrets.token_hex(6)}"
    for number in range(7):
        package = await world.make_package(title=f"{number} {word}", amount="1.00", currency="EUR")
        await world.make_task(package.id, title=f"Task {number} {word}")
        await other.make_package(title=f"Other {number} {word}", amount="1.00", currency="EUR")
    gone = await world.make_package(title=f"Gone {word}", amount="1.00", currency="EUR")
    await world.do("package", "delete", gone.id, {}, who="admin")
    async with world.database.read(Reach.INSTANCE) as session:
        mine = await ask(session, word, world.project, limit=2, sort=sort)
        assert sorted(mine) == [f"{number} {word}" for number in range(7)]
        if sort is None:
            assert mine == [f"{number} {word}" for number in reversed(range(7))]
        both = await ask(session, word, world.project, other.project, limit=3, sort=sort)
        assert len(both) == len(set(both)) == 14
        with_gone = await ask(session, word, world.project, limit=3, sort=sort, deleted=True)
        assert f"Gone {word}" in with_gone
        assert len(with_gone) == 8
