"""What is found: by words, by what is meant, by both; for whom; and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.memory.embedding import EmbeddingError
from pmis.memory.embedding.hashing import HashingEmbedder
from pmis.memory.recall import Question, fused, question_of, recall
from pmis.memory.upkeep import make_findable, one
from tests.builders import make_world
from tests.memory.working import embedded, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.memory.embedding import Vector
    from pmis.memory.recall import Recalled
    from tests.builders import World
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio
PAVING = "The mayor wants the paving before school begins."
ASPHALT = "Delays with the asphalt supplier are expected until March."
NOISE = "Residents complained about noise at night."


async def found(world: World, text: str, who: str = "viewer", **narrowed: Any) -> list[Recalled]:
    question = await question_of(HashingEmbedder(), text)
    async with world.database.read(await world.reach(who)) as session:
        return await recall(session, world.vault, await world.principal(who), question, **narrowed)


def texts(hits: Sequence[Recalled]) -> list[str]:
    return [hit.memory.text for hit in hits]


class TestBoth:
    async def test_what_has_the_words_is_found_before_any_vector_is_there(self, world: World, database: TestDatabase):
        await stored(world, text=PAVING)
        (hit,) = await found(world, "paving")
        assert (hit.memory.text, hit.by_words, hit.by_meaning, hit.similarity) == (PAVING, 1, None, None)

    async def test_what_means_it_is_found_without_any_of_the_words(self, world: World, database: TestDatabase):
        for text in (PAVING, ASPHALT, NOISE):
            await embedded(world, database, (await stored(world, text=text)).id)
        (hit, *_) = await found(world, "asphalts suppliers delayed")
        assert hit.memory.text == ASPHALT
        assert (hit.by_words, hit.by_meaning) == (None, 1)
        assert hit.similarity is not None
        assert hit.similarity > HashingEmbedder.least

    async def test_what_is_high_in_both_comes_first(self, world: World, database: TestDatabase):
        for text in (PAVING, ASPHALT, NOISE, "Paving stones are in the store."):
            await embedded(world, database, (await stored(world, text=text)).id)
        hits = await found(world, "When must the paving be done, says the mayor?")
        assert hits[0].memory.text == PAVING
        assert (hits[0].by_words, hits[0].by_meaning) == (1, 1)
        assert NOISE not in texts(hits)

    def test_ranks_are_fused(self):
        one, two, three = uuid7(), uuid7(), uuid7()
        scores = fused([{one: 1, two: 2}, {two: 1, three: 2}])
        assert sorted(scores, key=lambda key: -scores[key]) == [two, one, three]
        assert scores[two] == 1 / 62 + 1 / 61

    async def test_a_failing_embedder_leaves_the_words(self, world: World, database: TestDatabase):
        await stored(world, text=PAVING)

        class Away(HashingEmbedder):
            async def question(self, text: str) -> Vector:
                raise EmbeddingError("It is away.")

        question = await question_of(Away(), "paving")
        assert question == Question("paving", notice="It is away. These were found by their words alone.")
        async with world.read() as session:
            hits = await recall(session, world.vault, await world.principal("viewer"), question)
        assert texts(hits) == [PAVING]

    async def test_vectors_of_another_embedder_are_not_compared(self, world: World, database: TestDatabase):
        await embedded(world, database, (await stored(world, text=ASPHALT)).id)
        question = await question_of(HashingEmbedder(), "asphalts suppliers delayed")
        other = Question(question.text, "another:1", question.vector)
        async with world.read() as session:
            principal = await world.principal("viewer")
            assert await recall(session, world.vault, principal, question)
            assert not await recall(session, world.vault, principal, other)

    @pytest.mark.parametrize("text", ["", "?!", "'", "\\", "a | b & !", "the a of", "é" * 500, "x" * 5000, "&:*"])
    async def test_nothing_that_is_asked_breaks_it(self, world: World, database: TestDatabase, text: str):
        await embedded(world, database, (await stored(world, text=PAVING)).id)
        await found(world, text)


class TestWhose:
    async def test_nobody_is_told_of_other_projects(self, world: World, database: TestDatabase):
        other = await make_world(world.database)
        for place in (world, other):
            await embedded(place, database, (await stored(place, text=PAVING)).id)
        foreign = await stored(other, text=ASPHALT)
        for who in ("viewer", "admin", "agent:analyst"):
            assert len(await found(world, "paving", who)) == 1
            assert not await found(world, "asphalt", who)
            assert not await found(world, "asphalt", who, entities=[foreign.entity_id])
            assert not await found(world, "asphalt", who, projects=[other.project])
        for who in ("outsider", "root"):
            assert not await found(world, "paving", who)
        assert len(await found(other, "asphalt")) == 1

    async def test_it_is_narrowed_to_records(self, world: World, database: TestDatabase):
        first, second = await stored(world, text=PAVING), await stored(world, text=f"{PAVING} Again.")
        for memory in (first, second):
            await embedded(world, database, memory.id)
        assert len(await found(world, "paving")) == 2
        assert texts(await found(world, "paving", entities=[first.entity_id])) == [PAVING]
        assert not await found(world, "paving", entities=[])
        assert len(await found(world, "paving", limit=1)) == 1


class TestForgotten:
    async def test_it_is_found_in_no_way_and_again_when_restored(self, world: World, database: TestDatabase):
        memory = await stored(world, text=ASPHALT)
        await embedded(world, database, memory.id)
        await world.do("memory", "delete", memory.id, who="analyst")
        async with world.read() as session:
            for table in ("words", "vector"):
                assert not await session.all(f"select 1 from memory.{table} where memory_id = %s", (memory.id,))
        assert not await found(world, "asphalt")
        await world.do("memory", "restore", memory.id, who="analyst")
        assert texts(await found(world, "asphalt")) == [ASPHALT]
        await embedded(world, database, memory.id)
        assert (await found(world, "asphalt"))[0].by_meaning == 1

    async def test_a_vector_that_comes_late_does_not_bring_it_back(self, world: World, database: TestDatabase):
        memory = await stored(world, text=ASPHALT)

        async with world.read() as session:
            standing = await one(session, memory.id)
        assert standing is not None
        await world.do("memory", "delete", memory.id, who="analyst")
        vector = await HashingEmbedder().question(ASPHALT)
        async with world.database.write(Reach.INSTANCE) as session:
            assert not await make_findable(session, standing, HashingEmbedder.name, vector)
            await session.commit()
        async with world.read() as session:
            assert not await session.all("select 1 from memory.vector where memory_id = %s", (memory.id,))

    async def test_a_correction_is_found_and_what_it_corrects_is_not(self, world: World, database: TestDatabase):
        memory = await stored(world, text=ASPHALT)
        await embedded(world, database, memory.id)
        await world.do("memory", "patch", memory.id, {"text": NOISE}, who="analyst")
        assert texts(await found(world, "noise")) == [NOISE]
        await embedded(world, database, memory.id, version=2)
        assert not await found(world, "asphalt supplier")
