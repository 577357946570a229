"""What the planner makes of the utterances of the evaluation, of other people's, and of garbage."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from pmis.api.context import reach_of
from pmis.assistant.evaluation import Score, Utterance, body_of, load_utterances, remembered
from pmis.assistant.planner import plan
from pmis.identity.principals import load_principal
from pmis.kit.db import Reach

if TYPE_CHECKING:
    from pmis.assistant.evaluation import World
    from pmis.assistant.plan import Before, Plan
    from tests.api.office import Office

pytestmark = pytest.mark.anyio

_BY_CLASS: dict[str, list[Utterance]] = defaultdict(list)
for _one in load_utterances():
    _BY_CLASS[_one.kind].append(_one)
Evaluated = tuple["Office", "World"]


async def asked(evaluated: Evaluated, text: str, before: tuple[str, ...] = (), who: str = "tom") -> Plan:
    """The plan for the last message of a conversation."""
    office, world = evaluated
    async with office.database.read(Reach.INSTANCE) as session:
        principal = await load_principal(session, office.people[who])
    left: Before | None = None
    async with office.database.read(reach_of(principal)) as session:
        for earlier in before:
            found = await plan(
                earlier, session=session, principal=principal, now=world.now, zone=world.zone, before=left
            )
            left = remembered(found, earlier)
        return await plan(text, session=session, principal=principal, now=world.now, zone=world.zone, before=left)


@pytest.mark.parametrize("kind", sorted(_BY_CLASS))
async def test_the_evaluation(evaluated: Evaluated, kind: str):
    score = Score()
    for utterance in _BY_CLASS[kind]:
        found = await asked(evaluated, utterance.text, utterance.before)
        score.add(utterance, body_of(found), evaluated[1])
    assert not score.wrong_writes
    assert score.accuracy >= 0.95, [(one.text, found) for one, found in score.faults]


async def changes(evaluated: Evaluated, text: str, **more: Any) -> tuple[str, int]:
    found = await asked(evaluated, text, **more)
    return found.kind, len(found.changes)


@pytest.mark.parametrize(
    "text",
    [
        "put P-001 to P-003 on hold",
        "put p-001 through p-003 on hold",
        "put P-004 or P-001 on hold",
        "close all tasks of P-004",
        "cancel everything in P-004",
        "put P-004 on hold until Friday",
        "put P-004 on hold for Maria",
        "award P-003 to ACME, P-004",
        "cancel P-010 tomorrow",
        "complete P-004 and all its tasks",
        "assign P-006 to Maria and Bob",
        "make P-006 submitted and cancelled",
        "put P-001 on hold and frobnicate P-004",
        "put P-001 works on hold",
        "put P-001 P-004 on hold",
        "put P-004 on hold to ACME",
        "cancel P-010, no wait, P-006",
        "which tasks are without a colour?",
        "create a task 'a' and 'b' for P-001",
        "What is the status of P-001 and cancel it",
    ],
)
async def test_nothing_is_written_in_part_or_by_guess(evaluated: Evaluated, text: str):
    kind, count = await changes(evaluated, text)
    assert (kind, count) == ("clarify", 0)


@pytest.mark.parametrize("code", ["H-001", "H-777"])
async def test_what_is_not_seen_is_not_there(evaluated: Evaluated, code: str):
    for text in (f"what is the status of {code}?", f"put {code} on hold"):
        found = await asked(evaluated, text, who="mark")
        assert found.kind == "clarify"
        assert found.text.replace(code, "X") == "I found no record “X” among what you may see."
    found = await asked(evaluated, "put the quay wall repair on hold", who="mark")
    assert (found.kind, found.candidates) == ("clarify", ())


async def test_somebody_without_a_project_finds_nothing(evaluated: Evaluated):
    for text in ("what is the status of P-001?", "put P-001 on hold", "assign it to Maria", "hello"):
        found = await asked(evaluated, text, who="nobody")
        assert not found.changes
        assert not found.candidates


async def test_an_ambiguous_name_brings_its_candidates(evaluated: Evaluated):
    found = await asked(evaluated, "put the cycle lane on hold")
    assert found.kind == "clarify"
    assert [one.label for one in found.candidates] == ["P-001", "P-002"]


async def test_a_reason_is_kept_word_for_word(evaluated: Evaluated):
    found = await asked(evaluated, "Put P-004 on hold because Bob said the pump is “late”.")
    assert [one.reason for one in found.changes] == ['Bob said the pump is "late"']


async def test_a_slip_is_mended_in_the_order_and_not_in_the_title(evaluated: Evaluated):
    found = await asked(evaluated, "craete a task Retaining wal for P-001")
    assert [one.patch["title"] for one in found.changes] == ["Retaining wal"]


async def test_days_are_those_of_the_place(evaluated: Evaluated):
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    office, _ = evaluated
    async with office.database.read(Reach.INSTANCE) as session:
        principal = await load_principal(session, office.people["tom"])
        found = [
            await plan(
                "set the due date of Survey the site to tomorrow",
                session=session,
                principal=principal,
                now=datetime(2026, 11, 25, 23, 30, tzinfo=UTC),
                zone=ZoneInfo(zone),
            )
            for zone in ("America/New_York", "Europe/Berlin")
        ]
    assert [one.changes[0].patch["due_date"] for one in found] == ["2026-11-26", "2026-11-27"]


async def test_a_project_in_view_decides_between_equals(evaluated: Evaluated):
    office, world = evaluated
    async with office.database.read(Reach.INSTANCE) as session:
        principal = await load_principal(session, office.people["tom"])
        from uuid import UUID

        from pmis.assistant.plan import Named

        here = Named("project", UUID(world.ids["project:H"]), "H")
        found = await plan(
            "put package 1 on hold",
            session=session,
            principal=principal,
            now=world.now,
            zone=world.zone,
            project=here,
        )
    assert [one.target.label for one in found.changes if one.target] == ["H-001"]


_PIECES = (
    *("P-001", "H-002", "the", "of", "and", "to", "Maria", "ACME", "cycle", "lane", "5,000 EUR", "next Friday", "10 %"),
    *("'", '"', "“", "”", "?", "!", ",", ":", "\x00", "\u202e", "🙂", "amount", "owner", "due", "status", "on hold"),
    *("not", "because", "if", "who", "which", "what", "it", "\n", "é", "٣", "P-", "-001", "#", "03/04/2026", "x" * 50),
)


async def test_no_garbage_makes_it_fail_or_write(evaluated: Evaluated):
    rng = random.Random(4)
    for _ in range(150):
        text = " ".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 25)))
        found = await asked(evaluated, text)
        # None of the pieces is an order.
        assert not found.changes, text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10_000,
        "P-001 " * 1600,
        "'" * 10_000,
        "(" * 10_000,
        "1," * 5000,
        "put " * 2500,
        "and " * 2500,
        "cycle lane " * 180,
        "\x00\u202e🙂" * 3000,
        "one hundred " * 160,
        " " * 10_000,
        "put P-004 on hold " + "verily " * 270,
    ],
)
async def test_long_texts_take_no_long_time(evaluated: Evaluated, text: str):
    begun = time.perf_counter()
    found = await asked(evaluated, text)
    assert not found.changes
    assert time.perf_counter() - begun < 3


@pytest.mark.parametrize(
    ("text", "kind", "lacked"),
    [
        ("which tasks are without an assignee?", "task", "assignee_id"),
        ("unassigned tasks", "task", "assignee_id"),
        ("packages without owner and vendor", "package", "owner_id,vendor_id"),
        ("show packages that have no budget", "package", "amount"),
        ("list packages with no deadline", "package", "planned_end"),
    ],
)
async def test_what_lacks_something_is_listed(evaluated: Evaluated, text: str, kind: str, lacked: str):
    found = body_of(await asked(evaluated, text))
    assert [(one["type"], one["filters"].get("without")) for one in found["questions"]] == [(kind, lacked)]


async def test_a_record_may_be_called_after_what_is_outside(evaluated: Evaluated):
    found = body_of(await asked(evaluated, "create a package called Hotel renovation in project Harbour"))
    assert [(one["operation"], one["patch"]) for one in found["changes"]] == [("create", {"title": "Hotel renovation"})]
