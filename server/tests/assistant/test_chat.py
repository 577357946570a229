"""What becomes of a plan: answers with evidence, proposals on the governed path, and nothing beyond the person."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import psycopg
import pytest

from pmis.assistant.plan import (
    AboutRecord,
    ChangesSince,
    Decisions,
    FieldHistory,
    ListOf,
    Named,
    Plan,
    Totals,
    WaitingFor,
)
from tests.api.expect import ok, problem
from tests.assistant.talking import Talk, new, patch, step

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


async def doc_of(office: Office, record: Named) -> dict[str, Any]:
    return ok(await office.get("admin", f"/packages/{record.label}"))


class TestChange:
    async def test_a_draft_is_changed_at_once(self, talk: Talk):
        package = await talk.package()
        said = await talk.change("analyst", patch(package, title="Bridge, east"))
        assert said["action_type"] == "change"
        (change,) = said["changes"]
        assert (change["operation"], change["target_type"], change["target"]) == ("patch", "package", package.label)
        assert change["patch"] == {"title": "Bridge, east"}
        assert change["outcome"] == "applied"
        assert (await doc_of(talk.office, package))["title"] == "Bridge, east"
        assert {"type": "package", "id": str(package.id)}.items() <= said["evidence"][0].items()

    async def test_the_log_says_the_assistant_did_it_for_the_person(self, talk: Talk):
        package = await talk.package()
        await talk.change("analyst", patch(package, "As agreed.", description="Two lanes."))
        events = ok(await talk.office.get("admin", f"/packages/{package.label}/timeline"))["items"]
        newest = events[0]
        assert newest["type"] == "package.patched"
        assert newest["actor"] == "agent:assistant"
        assert newest["on_behalf_of"] == f"person:{talk.office.person('analyst')}"
        assert newest["source"] == "chat"
        assert newest["payload"]["reason"] == "As agreed."

    async def test_past_draft_it_waits_for_somebody_else(self, talk: Talk):
        package = await talk.package(amount="1000.00", currency="EUR")
        await talk.submit(package)
        said = await talk.change("admin", patch(package, amount="1200.00"))
        (change,) = said["changes"]
        assert change["outcome"] == "pending"
        assert said["route"] == change["route"] == "APPROVAL_REQUIRED"
        approval = change["approval_id"]
        assert approval in [one["id"] for one in said["evidence"]]
        own = await talk.office.post("admin", f"/approvals/{approval}/approve", {"digest": change["digest"]})
        problem(own, 403)
        done = ok(await talk.office.post("admin2", f"/approvals/{approval}/approve", {"digest": change["digest"]}))
        assert done["outcome"] == "applied"
        assert (await doc_of(talk.office, package))["amount"] == "1200.00"

    async def test_two_changes_of_one_record_stand_or_fall_together(self, talk: Talk):
        package = await talk.package(amount="1000.00", currency="EUR")
        await talk.submit(package)
        said = await talk.change("analyst", patch(package, amount="900.00"), step(package, "in_review"))
        assert [one["operation"] for one in said["changes"]] == ["patch", "transition"]
        assert len({one["approval_id"] for one in said["changes"]}) == 1

    async def test_changes_of_several_records_are_proposals_of_their_own(self, talk: Talk):
        one, other = await talk.package("One"), await talk.package("Other")
        said = await talk.change("analyst", patch(one, title="First"), patch(other, title="Second"))
        assert [change["outcome"] for change in said["changes"]] == ["applied", "applied"]
        assert (await doc_of(talk.office, other))["title"] == "Second"

    async def test_unless_all_would_be_taken_nothing_is_proposed(self, talk: Talk):
        one, other = await talk.package("One"), await talk.package("Other")
        before = await talk.office.count("ledger.event")
        said = await talk.change("analyst", patch(one, title="First"), step(other, "active"))
        assert said["action_type"] == "refuse"
        assert said["changes"] == []
        assert other.label in said["response"]
        assert "submitted" in said["response"]
        assert await talk.office.count("ledger.event") == before

    async def test_a_new_package_is_named_by_its_code(self, talk: Talk):
        said = await talk.change("analyst", new("package", talk.office.a.project, title="Fresh"))
        (change,) = said["changes"]
        assert change["outcome"] == "applied"
        assert change["patch"] == {"title": "Fresh"}
        assert change["target"].startswith(talk.office.a.prefix)
        assert said["resource_created"]["label"] == change["target"]
        assert ok(await talk.office.get("analyst", f"/packages/{change['target']}"))["title"] == "Fresh"

    @pytest.mark.parametrize("level", ["impact_level", "uncertainty_level"])
    async def test_a_stated_level_only_makes_it_stricter(self, talk: Talk, level: str):
        package = await talk.package()
        lax = await talk.change("analyst", patch(package, title="A"), **{level: "low"})
        strict = await talk.change("analyst", patch(package, title="B"), **{level: "critical"})
        assert lax["changes"][0]["outcome"] == "applied"
        assert strict["changes"][0]["outcome"] == "pending"

    async def test_protected_values_are_not_taken_from_a_chat(self, talk: Talk):
        party = await talk.office.a.do("party", "create", None, {"name": "Acme", "kind": "vendor"})
        named = Named("party", party.id, "Acme")
        said = await talk.change("admin", patch(named, bank_details={"iban": "DE89370400440532013000"}))
        assert said["action_type"] == "refuse"
        assert "protected" in said["response"]

    async def test_more_than_the_budget_is_refused(self, talk: Talk, monkeypatch: pytest.MonkeyPatch):
        who = await talk.office.newcomer("analyst")
        package = await talk.package()
        limits = talk.office.parts.assistant._limits
        monkeypatch.setattr(talk.office.parts.assistant, "_limits", type(limits)(60, 2, 60))
        for title in ("A", "B"):
            await talk.change(who, patch(package, title=title))
        talk.planner.plans["third"] = Plan("change", changes=(patch(package, title="C"),))
        answer = await talk.office.post(who, "/chat", {"query": "third"})
        problem(answer, 429, "assistant_budget_spent")
        assert 3000 < int(answer.headers["retry-after"]) <= 3600
        assert (await doc_of(talk.office, package))["title"] == "B"


class TestConfirm:
    async def test_the_turn_goes_on_when_the_person_has_said_yes(self, talk: Talk):
        package = await talk.package(planned_end="2030-01-01")
        said = await talk.change("operator", patch(package, title="Bridge, west"), impact_level="medium")
        (change,) = said["changes"]
        assert change["outcome"] == "confirmation_required"
        where = f"/conversations/{said['conversation_id']}/resume"
        waiting = ok(await talk.office.post("operator", where))
        assert waiting["changes"][0]["outcome"] == "confirmation_required"
        approval = f"/approvals/{change['approval_id']}"
        ok(await talk.office.post("operator", f"{approval}/confirm", {"digest": change["digest"]}))
        after = ok(await talk.office.post("operator", where))
        assert after["changes"][0]["outcome"] == "applied"
        assert after["turn_id"] == said["turn_id"]
        assert ok(await talk.office.post("operator", where)) == after


class TestWhoMay:
    async def test_what_the_person_may_not_see_is_not_there(self, talk: Talk):
        hidden = await talk.package("Hidden bridge", world="b")
        told = await talk.ask("admin", AboutRecord(hidden))
        assert told["response"] == "There is no such package."
        changed = await talk.change("admin", patch(hidden, title="Mine"))
        assert changed["action_type"] == "refuse"
        assert "Hidden bridge" not in json.dumps([told, changed])

    async def test_who_only_reads_proposes_nothing(self, talk: Talk):
        package = await talk.package()
        said = await talk.change("viewer", patch(package, title="Mine"))
        assert said["action_type"] == "refuse"
        assert (await doc_of(talk.office, package))["title"] == "Bridge"

    async def test_nobody_signed_in(self, talk: Talk):
        problem(await talk.office.post(None, "/chat", {"query": "hello"}), 401)

    async def test_a_project_of_others_is_not_there(self, talk: Talk):
        answer = await talk.office.post("analyst", "/chat", {"query": "hello", "project": talk.office.b.prefix})
        problem(answer, 404, "not_found")


class TestAnswers:
    async def test_how_a_record_stands(self, talk: Talk):
        party = await talk.office.a.do("party", "create", None, {"name": "Builders", "kind": "vendor"})
        package = await talk.package(
            amount="1234567.50",
            currency="EUR",
            vendor_id=str(party.id),
            owner_id=str(talk.office.person("operator")),
        )
        said = await talk.ask("viewer", AboutRecord(package))
        assert said["action_type"] == "answer"
        for part in (package.label, "Bridge", "draft", "1,234,567.50 EUR", "Builders", "Operator"):
            assert part in said["response"]
        kinds = [one["type"] for one in said["evidence"]]
        assert kinds == ["package", "event"]
        one = await talk.ask("viewer", AboutRecord(package, ("amount", "planned_end")))
        assert "The amount of" in one["response"]
        assert f"{package.label} has no planned end." in one["response"]

    async def test_lists_and_counts(self, talk: Talk):
        mark = f"zz{uuid4().hex[:8]}"
        for title in ("North", "South"):
            await talk.package(f"{mark} {title}")
        listed = await talk.ask("viewer", ListOf("package", {"q": mark}))
        assert "North" in listed["response"]
        assert len(listed["evidence"]) == 2
        counted = await talk.ask("viewer", ListOf("package", {"q": mark}, count=True))
        assert counted["response"].startswith("There are 2 packages")
        none = await talk.ask("viewer", ListOf("task", {"overdue": "true", "q": mark}))
        assert none["response"] == f"There are no tasks that are overdue about “{mark}”."

    async def test_what_waits_and_who_decided(self, talk: Talk):
        who = await talk.office.newcomer("admin")
        package = await talk.package()
        await talk.submit(package)
        asked = await talk.change("analyst", patch(package, title="Waits here"))
        approval = asked["changes"][0]["approval_id"]
        waits = await talk.ask(who, WaitingFor())
        assert approval in [one["id"] for one in waits["evidence"]]
        assert "Waits here" in waits["response"]
        nobody = await talk.ask("viewer", WaitingFor())
        assert nobody["response"] == "Nothing waits for you."
        before = await talk.ask("viewer", Decisions(package, "reject"))
        assert before["response"] == f"Nobody has rejected anything of {package.label}."
        body = {"digest": asked["changes"][0]["digest"], "reason": "Looks right."}
        ok(await talk.office.post(who, f"/approvals/{approval}/approve", body))
        said = await talk.ask("viewer", Decisions(package, "approve"))
        assert f"{who} approved" in said["response"]
        assert "Looks right." in said["response"]

    async def test_who_is_meant_is_named_and_not_numbered(self, talk: Talk):
        package = await talk.package()
        await talk.submit(package)
        await talk.change("analyst", patch(package, owner_id=str(talk.office.person("operator"))))
        waits = await talk.ask("admin2", WaitingFor())
        assert "owner nothing → Operator" in waits["response"]
        assert str(talk.office.person("operator")) not in waits["response"]

    async def test_what_changed_and_the_history_of_a_field(self, talk: Talk):
        start = talk.office.parts.clock.now()
        package = await talk.package("First title")
        await talk.change("analyst", patch(package, title="Second title"))
        changed = await talk.ask("viewer", ChangesSince(start, record=package))
        assert "First title → Second title" in changed["response"]
        assert "Assistant for Analyst" in changed["response"]
        assert [one["type"] for one in changed["evidence"]] == ["event", "event"]
        nothing = await talk.ask("viewer", ChangesSince(start + timedelta(days=1), record=package))
        assert "Nothing" in nothing["response"]
        history = await talk.ask("viewer", FieldHistory(package, "title"))
        assert history["response"].index("First title") < history["response"].index("Second title")

    async def test_money_is_not_added_up_across_currencies(self, talk: Talk):
        mark = f"zy{uuid4().hex[:8]}"
        for amount, currency in (("100.10", "EUR"), ("200.20", "EUR"), ("50.00", "USD")):
            await talk.package(f"{mark} one", amount=amount, currency=currency)
        said = await talk.ask("viewer", Totals(("status",), filters={"q": mark}))
        assert "- draft, EUR: 2, 300.30 EUR" in said["response"]
        assert "- draft, USD: 1, 50.00 USD" in said["response"]

    async def test_what_was_said_before_is_known(self, talk: Talk):
        package = await talk.package()
        first = await talk.ask("viewer", AboutRecord(package))
        await talk.say("viewer", "and it?", conversation_id=first["conversation_id"])
        before = talk.planner.heard[-1].before
        assert before is not None
        assert [one.label for one in before.records] == [package.label]


class TestConversations:
    async def test_listed_read_exported_and_deleted_by_its_person_only(self, talk: Talk):
        package = await talk.package()
        said = await talk.ask("viewer", AboutRecord(package))
        path = f"/conversations/{said['conversation_id']}"
        listed = ok(await talk.office.get("viewer", "/conversations"))["items"]
        assert said["conversation_id"] == listed[0]["id"]
        whole = ok(await talk.office.get("viewer", path))
        assert whole["turns"][0]["answer"] == said
        text = (await talk.office.get("viewer", f"{path}/export")).text
        assert said["response"] in text
        for method, where in (("GET", path), ("GET", f"{path}/export"), ("DELETE", path), ("POST", f"{path}/resume")):
            problem(await talk.office.call("admin", method, where, {} if method == "POST" else None), 404, "not_found")
        assert ok(await talk.office.delete("viewer", path)) == {"deleted": 1}
        problem(await talk.office.get("viewer", path), 404)

    async def test_the_same_key_gives_the_same_answer_and_one_effect(self, talk: Talk):
        package = await talk.package()
        talk.planner.plans["go"] = Plan("change", changes=(patch(package, title="Once"),))
        headers = {"Idempotency-Key": uuid4().hex}
        answers: list[Any] = []

        async def one() -> None:
            while True:
                answer = await talk.office.post("analyst", "/chat", {"query": "go"}, headers=headers)
                if answer.status_code != 409:
                    answers.append(ok(answer))
                    return
                problem(answer, 409, "turn_running")
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(one)
        assert all(answer == answers[0] for answer in answers)
        events = ok(await talk.office.get("admin", f"/packages/{package.label}/timeline"))["items"]
        assert [event["type"] for event in events] == ["package.patched", "package.created"]
        other = await talk.office.post("analyst", "/chat", {"query": "stop"}, headers=headers)
        problem(other, 422, "idempotency_key_reused")

    async def test_as_it_is_made(self, talk: Talk):
        package = await talk.package()
        talk.planner.plans["stream it"] = Plan("change", changes=(patch(package, title="Streamed"),))
        answer = await talk.office.post(
            "analyst", "/chat", {"query": "stream it"}, headers={"Accept": "text/event-stream"}
        )
        told = [part.split("\ndata: ") for part in answer.text.strip().split("\n\n")]
        kinds = [kind.removeprefix("event: ") for kind, _ in told]
        nodes = [json.loads(data)["node"] for kind, data in told if kind == "event: step"]
        assert nodes == [
            "taken",
            "intake",
            "retrieve",
            "plan",
            "validate",
            "arbitrate",
            "execute",
            "verify",
            "remember",
            "respond",
        ]
        assert kinds[-2:] == ["token", "answer"]
        assert json.loads(told[kinds.index("proposal")][1])["outcome"] == "applied"
        assert json.loads(told[-1][1])["changes"][0]["outcome"] == "applied"


class TestSwitch:
    async def test_stopped_it_does_nothing_and_says_so(self, talk: Talk):
        package = await talk.package()
        problem(await talk.office.post("admin", "/assistant/stop"), 403)
        stopped = ok(await talk.office.post("root", "/assistant/stop", {"reason": "A strange proposal."}))
        try:
            assert stopped["stopped"]
            assert ok(await talk.office.get("viewer", "/assistant"))["reason"] == "A strange proposal."
            talk.planner.plans["go on"] = Plan("change", changes=(patch(package, title="No"),))
            refused = await talk.office.post("analyst", "/chat", {"query": "go on"})
            assert "A strange proposal." in problem(refused, 409, "assistant_stopped")["detail"]
        finally:
            ok(await talk.office.post("root", "/assistant/start"))
        assert (await talk.change("analyst", patch(package, title="Yes")))["changes"][0]["outcome"] == "applied"
        with psycopg.connect(talk.office.test_database.owner_dsn) as connection:
            rows = connection.execute("select type from ledger.event where stream_type = 'assistant' order by position")
            assert [row[0] for row in rows][-2:] == ["assistant.stopped", "assistant.started"]
