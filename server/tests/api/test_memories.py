"""Memories over HTTP: what is remembered is shown, found, corrected and forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmis.kit.db import Reach
from tests.api.expect import applied, ok, problem, waits

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio
TEXT = "The mayor wants the kiosk before the fair begins."


async def remembered(office: Office, who: str = "analyst", **fields: Any) -> dict[str, Any]:
    package = (await office.a.make_package()).id
    given = {"entity_type": "package", "entity_id": str(package), "kind": "context", "text": TEXT, **fields}
    return applied(await office.post(who, "/memories", given), 201)


async def texts_of(office: Office, path: str, who: str = "viewer") -> list[str]:
    return [one["text"] for one in ok(await office.get(who, path))["items"]]


class TestShowing:
    async def test_readers_read_the_text_wherever_it_is_shown(self, office: Office):
        memory = await remembered(office)
        one = f"/memories/{memory['id']}"
        changed = applied(await office.patch("analyst", one, {"text": f"{TEXT} Again."}))
        assert ok(await office.get("viewer", one))["text"] == changed["text"] == f"{TEXT} Again."
        assert f"{TEXT} Again." in await texts_of(office, f"/memories?entity_id={memory['entity_id']}")
        said = ok(await office.get("viewer", f"{one}/timeline"))["items"]
        assert [event["type"] for event in said] == ["memory.patched", "memory.stored"]
        assert said[0]["payload"]["changes"]["text"] == {"from": TEXT, "to": f"{TEXT} Again."}

    async def test_the_filters(self, office: Office):
        conversation = "0197c0de-0000-7000-8000-00000000abcd"
        memory = await remembered(office, kind="decision", conversation_id=conversation)
        other = await remembered(office, entity_id=memory["entity_id"])
        about = f"/memories?entity_id={memory['entity_id']}"
        for narrowed, found in (
            ("", {memory["id"], other["id"]}),
            ("&kind=decision", {memory["id"]}),
            ("&kind=decision,context", {memory["id"], other["id"]}),
            (f"&conversation_id={conversation}", {memory["id"]}),
            ("&entity_type=task", set[str]()),
            ("&q=kiosk fair", {memory["id"], other["id"]}),
            ("&q=kiosk tram", set[str]()),
        ):
            items = ok(await office.get("viewer", about + narrowed))["items"]
            assert {one["id"] for one in items} == found, narrowed

    async def test_an_approval_shows_what_it_is_about(self, office: Office):
        memory = await remembered(office)
        said = {"text": "The mayor has no wishes."}
        approval = waits(await office.patch("operator", f"/memories/{memory['id']}", said))
        (diff,) = ok(await office.get("viewer", f"/approvals/{approval['id']}"))["diff"]
        assert diff["fields"] == [{"field": "text", "before": TEXT, "after": said["text"]}]
        shown = ok(await office.post("admin", f"/approvals/{approval['id']}/approve", {}))
        assert shown["resource"]["text"] == said["text"]

    async def test_what_was_erased_is_said_to_be(self, office: Office):
        memory = await remembered(office)
        applied(await office.call("analyst", "DELETE", f"/memories/{memory['id']}"))
        async with office.database.write(Reach.INSTANCE) as session:
            await office.a.vault.destroy(session, memory["id"])
            await session.commit()
        assert ok(await office.get("viewer", f"/memories/{memory['id']}"))["text"] == "erased"
        answer = await office.post("analyst", f"/memories/{memory['id']}/restore", {})
        assert problem(answer, 409)["code"] == "erased"


class TestFinding:
    async def test_it_says_why_it_found_what_it_found(self, office: Office):
        memory = await remembered(office)
        found = ok(await office.get("viewer", f"/memories/search?q=kiosk&entity_id={memory['entity_id']}"))
        assert found["notice"] is None
        (item,) = found["items"]
        assert item["memory"] == ok(await office.get("viewer", f"/memories/{memory['id']}"))
        assert item["why"] == {"words": 1, "meaning": None, "similarity": None}
        for who in ("b:viewer", "root"):
            assert ok(await office.get(who, "/memories/search?q=kiosk"))["items"] == []

    async def test_what_is_forgotten_is_not_found(self, office: Office):
        memory = await remembered(office)
        about = f"/memories/search?q=kiosk&entity_id={memory['entity_id']}"
        assert len(ok(await office.get("viewer", about))["items"]) == 1
        applied(await office.call("analyst", "DELETE", f"/memories/{memory['id']}"))
        assert ok(await office.get("viewer", about))["items"] == []

    @pytest.mark.parametrize(
        "query", ["", "q=", "q=%20", f"q={'x' * 1001}", "q=%00", "q=x&entity_id=1", "q=x&limit=0", "q=x&sort=id"]
    )
    async def test_questions_that_are_none(self, office: Office, query: str):
        assert problem(await office.get("viewer", f"/memories/search?{query}"), 422)["code"] == "invalid_input"
