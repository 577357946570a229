"""Open contracting data over HTTP: a file is one proposal, all or nothing; a package goes out as it came in."""

from __future__ import annotations

import asyncio
import hashlib
import json
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pmis.kit.db import Reach
from pmis.kit.errors import BusyError
from pmis.ocds.importing import REPORTED, prepare, submit
from pmis.ocds.reader import read
from tests.api.office import INSTANCE, STAFF, make_staff, new_mark
from tests.ocds.office import DATA, SIX, package_of, substance

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.api.office import Office

pytestmark = pytest.mark.anyio

PROCESS = "ocds:ocds-213czf-000-00001"
TABLES = (
    "ledger.event",
    "ledger.outbox",
    "ledger.vault",
    "ledger.import_seen",
    "state.package",
    "state.party",
    "state.task",
    "state.approval",
)


class Desk:
    """A project of its own in the served office, and files that are imported into it."""

    def __init__(self, office: Office, prefix: str) -> None:
        self.office = office
        self.prefix = prefix

    async def send(
        self, content: Any, who: str | None = "operator", *, headers: dict[str, str] | None = None, **params: str
    ) -> httpx2.Response:
        """Import: bytes as they are, a path's content under its name, anything else as JSON."""
        if hasattr(content, "read_bytes"):
            params = {"file": content.name, **params}
            content = content.read_bytes()
        elif not isinstance(content, bytes):
            content = json.dumps(content).encode()
        params = {"project": self.prefix, "file": "file.json", **params}
        given = {"Content-Type": "application/octet-stream", **(headers or {})}
        return await self.office.call(who, "POST", "/imports/ocds", content=content, headers=given, params=params)

    async def agree(self, approval: str) -> Any:
        """Everybody agrees who must."""
        for decider in ("admin2", "executive"):
            decided = await self.office.post(decider, f"/approvals/{approval}/approve")
            assert decided.status_code == 200, decided.text
            if decided.json()["outcome"] == "applied":
                return decided.json()
        raise AssertionError(decided.text)

    async def take(self, content: Any, who: str = "operator") -> Any:
        """Import a file, with every yes that it needs."""
        answer = await self.send(content, who, confirm="true")
        assert answer.status_code in (200, 202), answer.text
        said = answer.json()
        if said["outcome"] == "pending":
            await self.agree(said["approval"]["id"])
        return said

    async def propose(self, who: str, method: str, path: str, body: Any) -> Any:
        """A change by hand, with every yes that it needs."""
        answer = await self.office.call(who, method, path, body)
        assert answer.status_code in (200, 201, 202), answer.text
        said = answer.json()
        if said["outcome"] == "confirmation_required":
            confirmed = await self.office.post(who, f"/approvals/{said['approval']['id']}/confirm")
            assert confirmed.status_code == 200, confirmed.text
        elif said["outcome"] == "pending":
            await self.agree(said["approval"]["id"])
        return said

    async def listed(self, path: str, **params: str) -> list[Any]:
        answer = await self.office.get("admin", f"/{path}", params={"project": self.prefix, **params})
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    async def package(self) -> Any:
        (only,) = await self.listed("packages", external_ref=PROCESS)
        return only

    async def counts(self) -> tuple[int, ...]:
        return await self.office.count(*TABLES)

    async def refused(self, content: Any, status: int = 422, code: str = "import_refused", **more: Any) -> Any:
        """The problem of an import that must write nothing."""
        before = await self.counts()
        answer = await self.send(content, **more)
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
        assert await self.counts() == before
        return answer.json()

    async def exported(self, **params: str) -> Any:
        package = await self.package()
        answer = await self.office.get("admin", f"/exports/ocds/{package['code']}", params=params)
        assert answer.status_code == 200, answer.text
        (found,) = read(answer.content, "export.json")
        return answer, found


@pytest.fixture
async def desk(office: Office) -> Desk:
    """A staffed project with nothing in it, whose people are called by their roles."""
    world = await make_staff(office.database, office.vault, new_mark())
    own = replace(office, a=world, _tokens={}, _sessions={})
    own.sign_in(*STAFF, *(f"b:{name}" for name in STAFF), *INSTANCE)
    return Desk(own, world.prefix)


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def release(path: Path, **changed: Any) -> Any:
    """The release in a file, with something changed."""
    return {**deepcopy(document(path)["releases"][0]), **changed}


class TestSixReleases:
    async def test_they_tell_one_procurement(self, desk: Desk):
        told: list[tuple[str, str, str]] = []
        for path in SIX:
            said = await desk.take(path)
            assert (said["file"], said["releases"], said["repeated"], said["notices"]) == (path.name, 1, 0, [])
            told.append((said["outcome"], said["route"], (await desk.package())["status"]))
        waits = ("pending", "APPROVAL_REQUIRED")
        assert told == [
            ("applied", "AUTO", "draft"),
            (*waits, "approved"),
            (*waits, "approved"),
            (*waits, "awarded"),
            (*waits, "active"),
            (*waits, "active"),
        ]
        package = await desk.package()
        parties = {one["external_ref"]: one for one in await desk.listed("parties")}
        barnet, anycorp, betacorp = (
            parties[f"ocds-org:{name}"] for name in ("GB-LAC-E09000003", "GB-COH-11111111", "GB-COH-22222222")
        )
        fields = (
            "title", "amount", "currency", "planned_start", "planned_end", "actual_start", "actual_end", "vendor_id",
        )  # fmt: skip
        assert {name: package[name] for name in fields} == {
            "title": "Planned cycle lane improvements",
            "amount": "11000000.00",
            "currency": "GBP",
            "planned_start": "2010-07-01",
            "planned_end": "2011-06-30",
            "actual_start": "2010-07-01",
            "actual_end": None,
            "vendor_id": anycorp["id"],
        }
        assert [(one["name"], one["kind"], one["email"]) for one in (barnet, anycorp, betacorp)] == [
            ("London Borough of Barnet", "customer", "procurement-team@example.com"),
            ("AnyCorp Cycle Provision", "vendor", "contracts@anycorp.example"),
            ("Beta Corp Construction", "vendor", "bids@betacorp.example"),
        ]
        assert barnet["contacts"][0]["phone"] == "01234 345 346"
        tasks = await desk.listed("tasks", sort="created_at")
        assert [(one["title"], one["status"], one["due_date"], one["source"]) for one in tasks] == [
            ("Strategic outline procurement plan approval", "completed", "2009-03-14", "import"),
            ("Public consultation", "pending", "2009-05-01", "import"),
        ]
        assert {one["package_id"] for one in tasks} == {package["id"]}
        await desk.office.a.require_replay()

    async def test_every_event_says_who_let_it_in(self, desk: Desk):
        for path in SIX[:2]:
            await desk.take(path)
        package = await desk.package()
        answer = await desk.office.get("auditor", f"/audit/package/{package['id']}")
        events = answer.json()["items"]
        assert [one["type"] for one in reversed(events)] == [
            "package.created",
            "package.patched",
            *["package.transitioned"] * 3,
        ]
        # What waited was applied by the request of whoever agreed last.
        assert [one["source"] for one in reversed(events)] == ["import", *["api"] * 4]
        (approval,) = await desk.listed("approvals", status="applied")
        assert approval["source"] == "import"
        assert approval["reason"] == "OCDS import of ocds-213czf-000-00001-02-tender.json: 1 release"
        assert {one["writer"] for one in approval["decision"]["facts"]["changes"]} == {"import"}

    async def test_every_file_twice_changes_nothing_even_while_it_waits(self, desk: Desk):
        for path in SIX:
            first = (await desk.send(path, confirm="true")).json()
            before = await desk.counts()
            again = await desk.send(path, confirm="true")
            assert await desk.counts() == before
            if first["outcome"] == "pending":
                said = again.json()
                assert (again.status_code, said["outcome"], said["joined"]) == (202, "pending", True)
                assert said["approval"]["id"] == first["approval"]["id"]
                assert again.headers["Location"] == f"/api/v1/approvals/{first['approval']['id']}"
                await desk.agree(first["approval"]["id"])
            before = await desk.counts()
            after = await desk.send(path, confirm="true")
            said = after.json()
            assert (after.status_code, said["outcome"], said["changes"], said["repeated"]) == (200, "unchanged", 0, 1)
            assert await desk.counts() == before
        before = await desk.counts()
        for path in SIX:
            assert (await desk.send(path)).json()["outcome"] == "unchanged"
        assert await desk.counts() == before
        await desk.office.a.require_replay()

    async def test_while_it_waits_another_members_import_joins_it(self, desk: Desk):
        for path in SIX[:3]:
            await desk.take(path)
        first = (await desk.send(SIX[3], "operator")).json()
        said = (await desk.send(SIX[3], "analyst")).json()
        assert (said["outcome"], said["joined"], said["approval"]["id"]) == ("pending", True, first["approval"]["id"])

    async def test_a_rejected_file_can_be_proposed_again(self, desk: Desk):
        await desk.take(SIX[0])
        first = (await desk.send(SIX[1])).json()["approval"]
        said = await desk.office.post("admin", f"/approvals/{first['id']}/reject", {"reason": "Too early."})
        assert said.status_code == 200
        again = (await desk.send(SIX[1])).json()
        assert (again["outcome"], again["joined"]) == ("pending", False)
        assert again["approval"]["id"] != first["id"]
        # The same file has the same records, whoever proposes it, and however often.
        assert [one["target"] for one in again["approval"]["changes"]] == [one["target"] for one in first["changes"]]

    async def test_the_round_trip_keeps_what_the_releases_said(self, desk: Desk):
        for path in SIX:
            await desk.take(path)
        before = await desk.office.count("ledger.event")
        answer, found = await desk.exported(publisher="Highways Office")
        assert substance(found.release) == substance(json.loads((DATA / "compiled.json").read_text()))
        assert found.release["tag"] == ["planning", "tender", "award", "contract", "implementation"]
        assert found.package["publisher"] == {"name": "Highways Office"}
        assert answer.headers["Content-Disposition"] == 'attachment; filename="ocds-213czf-000-00001.json"'
        # What went out is in the log, and nothing else moved.
        assert await desk.office.count("ledger.event") == (before[0] + 1,)
        audit = await desk.office.get("auditor", "/audit", params={"project": desk.prefix, "type": "export.made"})
        (event,) = audit.json()["items"]
        package = await desk.package()
        assert event["payload"] == {
            "format": "ocds-1.1",
            "ocid": "ocds-213czf-000-00001",
            "package_id": package["id"],
            "bytes": len(answer.content),
            "sha256": hashlib.sha256(answer.content).hexdigest(),
        }
        # Importing what was exported changes nothing that the releases said.
        again = await desk.send(answer.content, dry_run="true")
        items = again.json()["items"]
        assert {field["field"] for item in items for field in item["fields"]} <= {"data"}, items
        await desk.office.a.require_replay()

    async def test_all_six_as_one_file_of_lines(self, desk: Desk):
        lines = b"\n".join(json.dumps(document(path)).encode() for path in SIX)
        said = await desk.take(lines)
        assert (said["releases"], said["outcome"]) == (6, "pending")
        package = await desk.package()
        assert (package["status"], package["amount"], package["actual_start"]) == (
            "active",
            "11000000.00",
            "2010-07-01",
        )
        assert (await desk.send(lines)).json()["outcome"] == "unchanged"
        await desk.office.a.require_replay()


class TestPreview:
    async def test_it_shows_everything_and_writes_nothing(self, desk: Desk):
        before = await desk.counts()
        answer = await desk.send(SIX[0], dry_run="true")
        said = answer.json()
        assert await desk.counts() == before
        assert (answer.status_code, said["outcome"], said["route"], said["open_steps"]) == (200, "preview", "AUTO", [])
        assert [(one["operation"], one["target_type"], one["pointer"]) for one in said["items"]] == [
            ("create", "party", "/releases/0/parties/0"),
            ("create", "package", "/releases/0"),
            ("create", "task", "/releases/0/planning/milestones/0"),
            ("transition", "task", "/releases/0/planning/milestones/0"),
            ("transition", "task", "/releases/0/planning/milestones/0"),
            ("create", "task", "/releases/0/planning/milestones/1"),
        ]
        party = {one["field"]: one["after"] for one in said["items"][0]["fields"]}
        # The vault's references are opened for whoever may see what lies behind them.
        assert party["contacts"][0]["email"] == "procurement-team@example.com"
        assert (said["errors"], said["notices"], said["awaiting"]) == ([], [], [])

    async def test_the_import_is_what_was_shown_or_nothing(self, desk: Desk):
        await desk.take(SIX[0])
        shown = (await desk.send(SIX[1], dry_run="true")).json()
        package = await desk.package()
        await desk.propose("operator", "PATCH", f"/packages/{package['id']}", {"description": "Ours."})
        problem = await desk.refused(SIX[1], 409, "import_changed", digest=shown["digest"])
        assert problem["digest"] == (await desk.send(SIX[1], dry_run="true")).json()["digest"]
        answer = await desk.send(SIX[1], digest=problem["digest"])
        assert answer.status_code == 202

    async def test_it_tells_who_must_agree_and_what_waits_already(self, desk: Desk):
        await desk.take(SIX[0])
        waiting = (await desk.send(SIX[1])).json()["approval"]
        said = (await desk.send(SIX[2], dry_run="true")).json()
        assert said["route"] == "APPROVAL_REQUIRED"
        assert said["decision"]["rule"] == "package.past_draft"
        assert [one["roles"] for one in said["open_steps"]] != []
        assert said["awaiting"] == [
            {"id": waiting["id"], "label": waiting["label"], "status": "pending", "source": "import", "same": False}
        ]
        assert [one["same"] for one in (await desk.send(SIX[1], dry_run="true")).json()["awaiting"]] == [True]

    async def test_it_shows_each_error_beside_its_item(self, desk: Desk):
        wrong = release(SIX[0])
        wrong["planning"]["milestones"][1]["dueDate"] = "next week"
        wrong["parties"][0]["name"] = "n" * 151
        before = await desk.counts()
        said = (await desk.send(package_of(wrong), dry_run="true")).json()
        assert await desk.counts() == before
        assert {(one["pointer"], one["code"]) for one in said["errors"]} == {
            ("/releases/0/planning/milestones/1/dueDate", "invalid_date"),
            ("/releases/0/parties/0/name", "too_long"),
        }
        marked = {one["pointer"]: len(one["errors"]) for one in said["items"] if one["errors"]}
        assert marked == {"/releases/0/planning/milestones/1": 1, "/releases/0/parties/0": 1}
        assert (said["route"], said["decision"]) == (None, None)


class TestAllOrNothing:
    async def test_one_bad_item_refuses_the_whole_file_and_names_every_place(self, desk: Desk):
        good, bad = release(SIX[0]), release(SIX[0], ocid="ocds-213czf-000-00002")
        bad["tender"]["value"]["currency"] = "EURO"
        bad["planning"]["milestones"][0]["dueDate"] = "soon"
        problem = await desk.refused(package_of(good, bad), file="two.json")
        assert {(one["place"], one["code"]) for one in problem["items"]} == {
            ("two.json /releases/1/tender/value/currency", "invalid_currency"),
            ("two.json /releases/1/planning/milestones/0/dueDate", "invalid_date"),
        }
        assert problem["items_total"] == 2
        assert problem["detail"].endswith("Nothing of two.json was imported.")
        assert (await desk.send(package_of(good))).json()["outcome"] == "applied"

    async def test_the_line_of_a_bad_item_is_named(self, desk: Desk):
        lines = [json.dumps(one).encode() for one in (release(SIX[0]), release(SIX[1], date="yesterday"))]
        (item,) = (await desk.refused(b"\n".join(lines), file="two.jsonl"))["items"]
        assert (item["line"], item["pointer"], item["place"]) == (2, "/date", "two.jsonl line 2 /date")

    async def test_what_the_domain_refuses_names_its_item_too(self, desk: Desk):
        """The second of two packages has a type whose schema leaves no room for what OCDS says."""
        second = release(SIX[0], ocid="ocds-213czf-000-00002", id="second")
        await desk.take(package_of(release(SIX[0]), second))
        await desk.propose("admin", "POST", "/package-types", {"name": "Works", "fields_schema": {"type": "object"}})
        (other,) = await desk.listed("packages", external_ref="ocds:ocds-213czf-000-00002")
        await desk.propose("operator", "PATCH", f"/packages/{other['id']}", {"package_type": "Works"})
        (works,) = await desk.listed("package-types")
        strict = {"fields_schema": {"type": "object", "maxProperties": 0}}
        await desk.propose("admin", "PATCH", f"/package-types/{works['id']}", strict)
        both = package_of(release(SIX[1]), release(SIX[1], ocid="ocds-213czf-000-00002", id="second-tender"))
        problem = await desk.refused(both)
        (item,) = problem["items"]
        assert (item["pointer"], item["code"]) == ("/releases/1", "invalid_input")
        preview = (await desk.send(both, dry_run="true")).json()
        assert preview["errors"] == [item]
        assert preview["route"] is None

    async def test_a_role_that_may_not_propose_an_item_is_told_which(self, desk: Desk):
        """Executives propose packages and parties, but no tasks."""
        problem = await desk.refused(SIX[0], 403, "forbidden", who="executive")
        assert "/releases/0/planning/milestones/0: Only" in problem["detail"]

    async def test_a_record_that_was_deleted_here_is_not_brought_back(self, desk: Desk):
        await desk.take(SIX[0])
        package = await desk.package()
        await desk.propose("operator", "DELETE", f"/packages/{package['id']}", {"reason": "Not ours."})
        problem = await desk.refused(SIX[1])
        assert [(one["code"], one["pointer"]) for one in problem["items"]] == [("record_deleted", "/releases/0")]

    async def test_a_record_whose_reference_was_changed_here_is_not_made_twice(self, desk: Desk):
        await desk.take(SIX[0])
        package = await desk.package()
        await desk.propose("operator", "PATCH", f"/packages/{package['id']}", {"external_ref": "ours-1"})
        problem = await desk.refused(SIX[0])
        assert [one["code"] for one in problem["items"]] == ["reference_changed"]
        assert PROCESS in problem["detail"]

    async def test_a_refusal_of_very_many_items_stays_readable(self, desk: Desk):
        wrong = release(SIX[0])
        wrong["planning"]["milestones"] = [{"id": str(i), "title": "t", "dueDate": "soon"} for i in range(REPORTED + 9)]
        problem = await desk.refused(package_of(wrong))
        assert (len(problem["items"]), problem["items_total"]) == (REPORTED, REPORTED + 9)


class TestOwnYes:
    """A party's name is of medium impact, an import of medium uncertainty: it wants the proposer's own yes."""

    async def news(self, desk: Desk) -> Any:
        await desk.take(SIX[0])
        renamed = release(SIX[0], id="renamed", date="2009-04-01T00:00:00Z")
        renamed["parties"][0]["name"] = "Barnet Council"
        return package_of(renamed)

    async def test_it_is_given_with_the_file(self, desk: Desk):
        answer = await desk.send(await self.news(desk), confirm="true")
        assert (answer.status_code, answer.json()["outcome"], answer.json()["route"]) == (200, "applied", "CONFIRM")
        (party,) = await desk.listed("parties")
        assert party["name"] == "Barnet Council"
        await desk.office.a.require_replay()

    async def test_or_later_with_the_same_file(self, desk: Desk):
        news = await self.news(desk)
        first = await desk.send(news)
        assert (first.status_code, first.json()["outcome"]) == (202, "confirmation_required")
        # Nobody else's yes counts.
        other = await desk.send(news, "analyst", confirm="true")
        assert (other.json()["outcome"], other.json()["joined"]) == ("confirmation_required", True)
        own = await desk.send(news, confirm="true")
        assert (own.status_code, own.json()["outcome"]) == (200, "applied")
        assert own.json()["approval"]["id"] == first.json()["approval"]["id"]


class TestAtTheSameTime:
    async def test_two_imports_of_one_file_make_one_procurement(self, desk: Desk):
        answers = await asyncio.gather(*(desk.send(SIX[0]) for _ in range(4)))
        outcomes = [one.json().get("outcome") or one.json()["code"] for one in answers]
        assert outcomes.count("applied") == 1
        assert set(outcomes) <= {"applied", "unchanged", "busy"}
        assert all("Retry-After" in one.headers for one in answers if one.status_code == 409)
        assert len(await desk.listed("packages")) == 1
        await desk.office.a.require_replay()

    async def test_a_record_that_moved_since_the_file_was_planned_is_not_overwritten(self, desk: Desk):
        await desk.take(SIX[0])
        office = desk.office
        planned = await prepare(office.database, office.vault, office.a.project, SIX[1].read_bytes(), "tender.json")
        package = await desk.package()
        await desk.propose("operator", "PATCH", f"/packages/{package['id']}", {"amount": "7.00"})
        before = await desk.counts()
        principal = await office.a.principal("operator")
        async with office.database.write(Reach.INSTANCE) as session:
            with pytest.raises(BusyError, match=r"tender\.json: what it changes was changed while it was read"):
                await submit(session, office.vault, principal, "test", planned)
        assert await desk.counts() == before

    async def test_a_record_that_came_since_the_file_was_planned_is_not_made_again(self, desk: Desk):
        office = desk.office
        planned = await prepare(office.database, office.vault, office.a.project, SIX[0].read_bytes(), "plan.json")
        await desk.take(SIX[0])
        principal = await office.a.principal("operator")
        async with office.database.write(Reach.INSTANCE) as session:
            with pytest.raises(BusyError):
                await submit(session, office.vault, principal, "test", planned)


class TestNoNews:
    async def test_a_release_that_says_nothing_new_is_known_again(self, desk: Desk):
        await desk.take(SIX[0])
        package = await desk.package()
        same = package_of(release(SIX[0], id="again", date="2009-04-01T00:00:00Z"))
        assert (await desk.send(same, dry_run="true")).json()["items"] == []
        first = (await desk.send(same)).json()
        assert (first["outcome"], first["repeated"]) == ("unchanged", 0)
        await desk.propose("operator", "PATCH", f"/packages/{package['id']}", {"title": "Ours"})
        again = (await desk.send(same)).json()
        assert (again["outcome"], again["repeated"]) == ("unchanged", 1)
        assert (await desk.package())["title"] == "Ours"

    async def test_tasks_that_end_with_the_package_do_not_hold_it_up(self, desk: Desk):
        for path in SIX:
            await desk.take(path)
        last = release(SIX[5], id="closed", date="2011-12-01T00:00:00Z", tag=["contractTermination"])
        last["contracts"][0]["status"] = "terminated"
        last["planning"] = {"milestones": [{"id": "2.0", "title": "Public consultation", "status": "met"}]}
        said = await desk.take(package_of(last))
        assert said["notices"] == []
        package = await desk.package()
        tasks = await desk.listed("tasks")
        assert package["status"] == "completed"
        assert {one["status"] for one in tasks} == {"completed"}
        await desk.office.a.require_replay()


GARBAGE = {
    "empty": (b"", 400, "ocds_unreadable"),
    "not UTF-8": (b'{"ocid": "\xff\xfe"}', 400, "ocds_unreadable"),
    "truncated": (SIX[0].read_bytes()[:3000], 400, "ocds_unreadable"),
    "NUL byte": (b'{"ocid": "a\x00b"}', 400, "ocds_unreadable"),
    "escaped NUL": (json.dumps(package_of(release(SIX[0], ocid="a\x00b"))).encode(), 422, "import_refused"),
    "a name twice": (b'{"ocid": "a", "ocid": "b"}', 400, "ocds_unreadable"),
    "NaN": (b'{"ocid": "a", "x": NaN}', 400, "ocds_unreadable"),
    "too deep": (b'{"ocid": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "ocds_unreadable"),
    "a spreadsheet": (b"PK\x03\x04" + b"\x00" * 100, 400, "ocds_unreadable"),
    "a list": (b"[]", 422, "ocds_not_recognised"),
    "OC4IDS": (b'{"projects": [{"id": "oc4ids-1"}]}', 422, "ocds_not_recognised"),
    "records": (b'{"version": "1.1", "records": []}', 422, "ocds_not_recognised"),
    "version 2": (b'{"version": "2.0", "releases": []}', 422, "ocds_not_recognised"),
    "no releases": (b'{"version": "1.1", "releases": []}', 422, "ocds_not_recognised"),
    "over what is read": (b'{"ocid": "' + b"a" * 10_000_001 + b'"}', 413, "ocds_too_large"),
    "over what is taken": (b" " * (10 * 1024 * 1024 + 1), 413, "too_large"),
}


class TestBadInput:
    @pytest.mark.parametrize("name", GARBAGE)
    async def test_garbage_gets_a_clear_problem_and_nothing_is_written(self, desk: Desk, name: str):
        content, status, code = GARBAGE[name]
        problem = await desk.refused(content, status, code, file="garbage.json")
        assert len(problem["detail"]) < 400
        if code != "too_large":
            assert "garbage.json" in problem["detail"]

    @pytest.mark.parametrize(
        ("params", "pointer"),
        [
            ({"dry_run": "yes"}, "/query/dry_run"),
            ({"confirm": "1"}, "/query/confirm"),
            ({"progress": "x"}, "/query/progress"),
            ({"digest": "f"}, "/query/digest"),
            ({"file": ""}, "/query/file"),
            ({"file": "a\x00b"}, "/query/file"),
            ({"file": "n" * 201}, "/query/file"),
            ({"colour": "red"}, "/query/colour"),
        ],
    )
    async def test_a_wrong_parameter_is_named(self, desk: Desk, params: dict[str, str], pointer: str):
        problem = await desk.refused(SIX[0], 422, "invalid_input", **params)
        assert [one["pointer"] for one in problem["errors"]] == [pointer]

    async def test_another_media_type_is_refused(self, desk: Desk):
        await desk.refused(SIX[0], 415, "unsupported_media_type", headers={"Content-Type": "text/csv"})

    @pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson; charset=utf-8"])
    async def test_json_is_taken_under_its_own_names(self, desk: Desk, kind: str):
        answer = await desk.send(SIX[0], headers={"Content-Type": kind})
        assert answer.json()["outcome"] == "applied"


class TestAccess:
    async def test_nobody_imports_without_signing_in(self, desk: Desk):
        await desk.refused(SIX[0], 401, "unauthenticated", who=None)
        assert (await desk.office.get(None, f"/imports/{uuid4()}")).status_code == 401
        assert (await desk.office.get(None, "/exports/ocds/P-001")).status_code == 401

    @pytest.mark.parametrize("who", ["viewer", "auditor"])
    @pytest.mark.parametrize("dry_run", ["true", "false"])
    async def test_who_may_not_propose_may_not_import(self, desk: Desk, who: str, dry_run: str):
        await desk.refused(SIX[0], 403, "forbidden", who=who, dry_run=dry_run)

    @pytest.mark.parametrize("who", ["b:admin", "root", "nobody"])
    async def test_another_project_does_not_exist(self, desk: Desk, who: str):
        await desk.refused(SIX[0], 404, "not_found", who=who)
        await desk.refused(SIX[0], 404, "not_found", who=who, project="NOSUCH")

    async def test_the_project_may_be_left_out_by_members_of_one(self, desk: Desk):
        content, headers = SIX[0].read_bytes(), {"Content-Type": "application/json"}
        alone = await desk.office.call("operator", "POST", "/imports/ocds", content=content, headers=headers)
        assert alone.json()["outcome"] == "applied"
        nobody = await desk.office.call("nobody", "POST", "/imports/ocds", content=content, headers=headers)
        assert (nobody.status_code, nobody.json()["errors"][0]["pointer"]) == (422, "/query/project")

    async def test_only_administrators_and_auditors_export(self, desk: Desk):
        await desk.take(SIX[0])
        code = (await desk.package())["code"]
        before = await desk.counts()
        for who, status in (("viewer", 403), ("operator", 403), ("executive", 403), ("b:admin", 404), ("nobody", 404)):
            assert (await desk.office.get(who, f"/exports/ocds/{code}")).status_code == status, who
        assert await desk.counts() == before
        for who in ("admin", "auditor"):
            assert (await desk.office.get(who, f"/exports/ocds/{code}")).status_code == 200

    async def test_exports_refuse_what_they_cannot_write(self, desk: Desk):
        await desk.take(SIX[0])
        package = await desk.package()
        path = f"/exports/ocds/{package['code']}"
        for params in ({"ocid_prefix": "x"}, {"publisher": ""}, {"publisher": "a\nb"}, {"format": "csv"}):
            assert (await desk.office.get("admin", path, params=params)).status_code == 422, params
        assert (await desk.office.get("admin", "/exports/ocds/NOSUCH-1")).status_code == 404
        await desk.propose("operator", "DELETE", f"/packages/{package['id']}", {"reason": "Not ours."})
        assert (await desk.office.get("admin", path)).status_code == 409

    async def test_a_package_that_never_was_in_ocds_is_exported_from_its_fields(self, desk: Desk):
        made = await desk.propose("operator", "POST", "/packages", {"title": "Bridge", "project": desk.prefix})
        code = made["resource"]["code"]
        answer = await desk.office.get("admin", f"/exports/ocds/{code}", params={"ocid_prefix": "ocds-abc123"})
        (found,) = read(answer.content, "export.json")
        assert str(found.release["ocid"]).startswith("ocds-abc123-")
        assert found.release["tender"]["title"] == "Bridge"


class TestProgress:
    async def test_the_caller_sees_how_far_it_is_and_nobody_else_does(self, desk: Desk):
        identity = str(uuid4())
        await desk.send(SIX[0], progress=identity)
        told = (await desk.office.get("operator", f"/imports/{identity}")).json()
        assert (told["id"], told["phase"], told["done"], told["total"]) == (identity, "done", 6, 6)
        for who in ("analyst", "admin", "b:admin"):
            assert (await desk.office.get(who, f"/imports/{identity}")).status_code == 404
        # Another's id is not taken over.
        await desk.send(SIX[0], "analyst", progress=identity)
        assert (await desk.office.get("analyst", f"/imports/{identity}")).status_code == 404
        assert (await desk.office.get("operator", f"/imports/{identity}")).json() == told
        assert (await desk.office.get("operator", "/imports/none")).status_code == 404

    async def test_it_is_told_while_the_import_runs(self, desk: Desk):
        """A lock that another holds stops it half way."""
        identity = str(uuid4())
        async with desk.office.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"import {desk.office.a.project}",)
            )
            sending = asyncio.create_task(desk.send(SIX[0], progress=identity))
            told: Any = {}
            while told.get("phase") != "proposing":
                assert not sending.done()
                await asyncio.sleep(0.02)
                told = (await desk.office.get("operator", f"/imports/{identity}")).json()
        assert (told["done"], told["total"]) == (0, 6)
        assert (await sending).json()["outcome"] == "applied"

    async def test_a_failed_import_says_so(self, desk: Desk):
        identity = str(uuid4())
        await desk.send(b"{", progress=identity)
        assert (await desk.office.get("operator", f"/imports/{identity}")).json()["phase"] == "failed"


class TestIdempotency:
    async def test_one_key_has_one_effect_and_one_answer(self, desk: Desk):
        key = {"Idempotency-Key": str(uuid4())}
        first = await desk.send(SIX[0], headers=key)
        before = await desk.counts()
        again = await desk.send(SIX[0], headers=key)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await desk.counts() == before
        other = await desk.send(SIX[1], headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert await desk.counts() == before

    async def test_a_refusal_is_kept_as_well(self, desk: Desk):
        key = {"Idempotency-Key": str(uuid4())}
        bad = package_of(release(SIX[0], date="soon"))
        first = await desk.send(bad, headers=key)
        again = await desk.send(bad, headers=key)
        assert first.status_code == again.status_code == 422
        assert again.content == first.content
        assert again.headers["Idempotency-Replayed"] == "true"
