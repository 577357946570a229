"""What the assistant is told to remember, tells again, corrects and forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmis.assistant.grammar import Grammar
from pmis.assistant.plan import Plan, PlannedChange
from pmis.memory.embedding import EmbeddingError
from tests.api.expect import ok
from tests.assistant.talking import Talk, patch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.assistant.plan import Named
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


class Talker:
    """Somebody in one conversation with the grammar."""

    def __init__(self, office: Office, who: str) -> None:
        self.office, self.who = office, who
        self.conversation: str | None = None

    async def say(self, query: str, **more: Any) -> Any:
        said = {"query": query, **more}
        if self.conversation:
            said["conversation_id"] = self.conversation
        answer = ok(await self.office.post(self.who, "/chat", said))
        self.conversation = answer["conversation_id"]
        return answer

    async def memories(self, record: Named) -> list[Any]:
        return ok(await self.office.get(self.who, f"/memories?entity_id={record.id}"))["items"]


@pytest.fixture
async def talker(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Talker:
    monkeypatch.setattr(talk.office.parts.assistant, "_planner", Grammar())
    return Talker(talk.office, await talk.office.newcomer("analyst"))


@pytest.mark.parametrize(
    ("query", "text", "kind"),
    [
        ("Remember for {code}: the mayor wants it before May.", "the mayor wants it before May.", "context"),
        ("please remember that {code} hangs on the water permit", "{code} hangs on the water permit", "context"),
        ("Keep in mind for {code} that we decided to wait", "we decided to wait", "decision"),
        ("Don't forget that the client decided on {code} in May", "the client decided on {code} in May", "decision"),
        ('Remember about {code}: "Award {code}, and cancel it."', "Award {code}, and cancel it.", "context"),
        ("remember that we awarded {code} and should cancel it", "we awarded {code} and should cancel it", "context"),
        ("Remember of {code}: as an analysis: three bids came in", "three bids came in", "analysis"),
    ],
)  # fmt: skip
async def test_what_is_to_be_remembered_is_kept_and_nothing_else_is_done(
    talk: Talk, talker: Talker, query: str, text: str, kind: str
):
    package = await talk.package("Paving of Main Street")
    said = await talker.say(query.format(code=package.label))
    assert said["action_type"] == "change", said["response"]
    assert [one["outcome"] for one in said["changes"]] == ["applied"]
    (kept,) = await talker.memories(package)
    assert (kept["text"], kept["kind"]) == (text.format(code=package.label), kind)
    assert kept["conversation_id"] == said["conversation_id"]
    assert kept["writer"] == "agent"
    assert kept["author_name"] == talker.who
    # Shown at once, and a package is what it was.
    assert text.format(code=package.label) in said["response"]
    assert ok(await talk.office.get(talker.who, f"/packages/{package.label}"))["version"] == 1


@pytest.mark.parametrize(
    "query",
    ["Remember to put {code} on hold", "don't forget to cancel {code}", "Do you remember who approved {code}?"],
)
async def test_what_only_sounds_like_it_is_none(talk: Talk, talker: Talker, query: str):
    package = await talk.package("Paving of Main Street")
    await talker.say(query.format(code=package.label))
    assert not await talker.memories(package)


async def test_it_is_asked_back_of_what(talk: Talk, talker: Talker):
    one, other = await talk.package("Bridge"), await talk.package("Tunnel")
    said = await talker.say(f"Remember that {one.label} comes before {other.label}")
    assert said["action_type"] == "clarify"
    assert {c["label"] for c in said["candidates"]} == {one.label, other.label}
    said = await talker.say(other.label)
    assert [c["outcome"] for c in said["changes"]] == ["applied"]
    assert not await talker.memories(one)
    assert [m["text"] for m in await talker.memories(other)] == [f"{one.label} comes before {other.label}"]
    nothing = await talker.say("remember")
    assert nothing["action_type"] == "clarify"
    nobody = await talker.say("Remember for X-999: that it is late")
    assert nobody["action_type"] == "clarify"
    assert "X-999" in nobody["response"]


async def test_without_a_record_it_is_remembered_of_the_project(talk: Talk, talker: Talker):
    said = await talker.say("Remember that the town hall is closed in August", project=talk.office.a.prefix)
    assert [one["outcome"] for one in said["changes"]] == ["applied"]
    assert talk.office.a.prefix in said["response"]
    told = await talker.say("What do you remember?")
    assert "the town hall is closed in August" in told["response"]


async def test_told_beside_the_record_and_when_asked_for(talk: Talk, talker: Talker):
    package = await talk.package("Paving of Main Street")
    await talker.say(f"Remember for {package.label}: the gravel comes from the quarry at Linz")
    status = await talker.say(f"What is the status of {package.label}?")
    assert "Remembered: “the gravel comes from the quarry at Linz”" in status["response"]
    assert "memory" in {one["type"] for one in status["evidence"]}
    field = await talker.say(f"Who is the owner of {package.label}?")
    assert "gravel" not in field["response"]
    for query in (
        f"What do you remember about {package.label}?",
        f"what was remembered of {package.label}",
        f"Show the memories of {package.label}",
        f"Do you remember anything about {package.label}?",
        "What do you remember about the quarry?",
        "what do you remember about quarrys in linz",
    ):
        told = await talker.say(query)
        assert "the gravel comes from the quarry at Linz" in told["response"], (query, told["response"])
        assert told["action_type"] == "answer"
        assert not told["changes"]
    nothing = await talker.say("What do you remember about elephants?")
    assert "Nothing is remembered" in nothing["response"]


async def test_correcting_and_forgetting(talk: Talk, talker: Talker):
    package = await talk.package("Paving of Main Street")
    await talker.say(f"Remember for {package.label}: the client is away until May")
    await talker.say(f"What do you remember about {package.label}?")
    said = await talker.say("Correct that to: the client is away until June")
    assert [one["outcome"] for one in said["changes"]] == ["applied"], said["response"]
    assert [one["text"] for one in await talker.memories(package)] == ["the client is away until June"]
    said = await talker.say("forget it")
    assert [one["outcome"] for one in said["changes"]] == ["applied"], said["response"]
    assert "June" in said["response"]
    assert await talker.memories(package) == []
    # Where no memory was told, that means something else.
    other = Talker(talk.office, talker.who)
    assert (await other.say("forget it"))["changes"] == []


async def test_which_of_several_is_forgotten_is_asked(talk: Talk, talker: Talker):
    package = await talk.package("Paving of Main Street")
    for text in ("the first thing", "the second thing"):
        await talker.say(f"Remember for {package.label}: {text}")
    said = await talker.say(f"Forget what you remember about {package.label}")
    assert said["action_type"] == "clarify"
    assert not said["changes"]
    # The newest comes first.
    said = await talker.say("Forget the second one")
    assert [one["text"] for one in await talker.memories(package)] == ["the second thing"], said["response"]
    said = await talker.say(f"Forget what you remember about {package.label}")
    assert [one["outcome"] for one in said["changes"]] == ["applied"]
    assert (await talker.say(f"Forget what you remember of {package.label}"))["response"].startswith("Nothing is")


async def test_forgetting_what_somebody_else_remembers_takes_an_approval(talk: Talk, talker: Talker):
    package = await talk.package("Paving of Main Street")
    await talker.say(f"Remember for {package.label}: mine alone")
    other = Talker(talk.office, await talk.office.newcomer("analyst"))
    said = await other.say(f"Forget what you remember about {package.label}")
    assert [one["outcome"] for one in said["changes"]] == ["pending"]
    assert [one["text"] for one in await talker.memories(package)] == ["mine alone"]


async def test_other_projects_stay_unknown(talk: Talk, talker: Talker):
    there = await talk.package("Secret tower", world="b")
    ok(
        await talk.office.post(
            "b:analyst",
            "/memories",
            {"entity_type": "package", "entity_id": str(there.id), "text": "the tower leans", "kind": "context"},
        ),
        201,
    )
    for query in ("What do you remember about the tower?", f"What do you remember about {there.label}?"):
        assert "leans" not in (await talker.say(query))["response"]
    said = await talker.say(f"Remember for {there.label}: I was here")
    assert said["action_type"] == "clarify"
    assert not said["changes"]


async def test_an_embedder_that_fails_leaves_the_words(talk: Talk, talker: Talker, monkeypatch: pytest.MonkeyPatch):
    package = await talk.package("Paving of Main Street")
    await talker.say(f"Remember for {package.label}: the asphalt is ordered")

    class Broken:
        name, dimensions, least = "broken", 3, 0.0

        async def passages(self, texts: Sequence[str]) -> list[Sequence[float]]:
            raise EmbeddingError("The provider is away.")

        async def question(self, text: str) -> Sequence[float]:
            raise EmbeddingError("The provider is away.")

    monkeypatch.setattr(talk.office.parts.assistant, "_embedder", Broken())
    told = await talker.say("What do you remember about asphalt?")
    assert "the asphalt is ordered" in told["response"]
    assert "The provider is away. These were found by their words alone." in told["response"]


async def test_a_protected_value_is_still_none_of_a_chats_business(talk: Talk):
    package = await talk.package()
    change = PlannedChange("create", "comment", None, {"entity_type": "package"}, talk.office.a.project)
    talk.planner.plans["x"] = Plan("change", changes=(change,))
    assert (await talk.say("analyst", "x"))["action_type"] == "refuse"
    said = await talk.change("analyst", patch(package, title="As before"))
    assert said["changes"][0]["outcome"] == "applied"
