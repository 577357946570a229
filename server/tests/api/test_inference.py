"""R13 beyond the matrix: what cannot be read cannot be found out through filters, searches, references or conflicts."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from pmis.api.app import RESOURCES
from pmis.api.approvals import LISTING as APPROVALS
from pmis.api.audit import FILTERS as AUDIT_FILTERS
from pmis.kit.db import Reach
from tests.api.expect import applied, ok, problem, waits
from tests.api.matrix import marks_of
from tests.api.rows import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from pmis.kit.listing import Listing
    from tests.api.office import Office, Records

pytestmark = pytest.mark.anyio


def of(kind: str, state: str = "live") -> Callable[[Records], str]:
    return lambda records: str(records.ids[kind][state])


def value(name: str) -> Callable[[Records], str]:
    return lambda records: records.values[name]


def mark(records: Records) -> str:
    return records.mark


def works(records: Records) -> str:
    return f"Works {records.mark}"


def same(text: str) -> Callable[[Records], str]:
    """A value that says nothing about whose it is."""
    return lambda _: text


def proposer(records: Records) -> str:
    return f"person:{records.ids['person']['analyst']}"


LISTINGS: Final[dict[str, Listing]] = {**{one.path: one.listing for one in RESOURCES}, "approvals": APPROVALS}
_PARTIES: Final[dict[str, Callable[[Records], str]]] = {
    "kind": same("both"),
    "email": value("party.live.email"),
    "external_ref": value("party.external_ref"),
    "q": mark,
}
TELLING: Final[dict[str, dict[str, Callable[[Records], str]]]] = {
    "projects": {},
    "packages": {
        "status": same("draft"),
        "package_type": works,
        "owner_id": of("person", "operator"),
        "vendor_id": of("party"),
        "currency": same("EUR"),
        "external_ref": value("package.external_ref"),
        "amount_min": same("1.00"),
        "amount_max": same("999999999.00"),
        "planned_end_from": same("2020-01-01"),
        "planned_end_to": same("2030-01-01"),
        "without": same("vendor_id"),
        "q": mark,
    },
    "package-types": {},
    "tasks": {
        "status": same("pending"),
        "package_id": of("package"),
        "assignee_id": of("person", "operator"),
        "external_ref": value("task.external_ref"),
        "due_from": same("2020-01-01"),
        "due_to": same("2030-01-01"),
        "overdue": same("true"),
        "escalated": same("owner"),
        "without": same("assignee_id"),
        "q": mark,
    },
    "parties": _PARTIES,
    "customers": {**_PARTIES, "kind": same("customer,vendor")},
    "vendors": _PARTIES,
    "comments": {"entity_type": same("package"), "entity_id": of("package"), "q": mark},
    "memories": {
        "entity_type": same("package"),
        "entity_id": of("package"),
        "kind": same("context"),
        "conversation_id": of("person", "analyst"),
        "q": mark,
    },
    "memberships": {"person_id": of("person", "operator")},
    "delegations": {"from_person": of("person", "admin"), "to_person": of("person", "admin2")},
    "approvals": {
        "status": same("pending"),
        "route": same("APPROVAL_REQUIRED"),
        "target_id": of("package", "waiting"),
        "proposer": proposer,
    },
}
"""For each filter of each list, a value by which somebody might ask for another project's records."""


def silent(office: Office, answer: httpx2.Response, sent: str = "", side: str = "b") -> None:
    """Fail when an answer tells of a project beyond what the request said itself."""
    leaked = {one for one in marks_of(office, side).findall(f"{answer.text} {answer.headers}") if one not in sent}
    assert not leaked, f"{leaked}: {answer.text[:400]}"


def test_every_filter_of_every_list_is_tried():
    assert {path: set(listing.filters) for path, listing in LISTINGS.items()} == {
        path: set(filters) for path, filters in TELLING.items()
    }


@pytest.mark.parametrize("path", TELLING)
async def test_no_filter_finds_what_is_not_mine(furnished: Office, path):
    mine, theirs = furnished.records["a"], furnished.records["b"]
    if path == "tasks":
        for world, records in ((furnished.a, mine), (furnished.b, theirs)):
            await world.make_task(records.ids["package"]["live"], title=f"Nobody's {records.mark}")
    for name, make in TELLING[path].items():
        foreign, own = make(theirs), make(mine)
        for who in ("viewer", "admin", "nobody", "root"):
            for extra in ("", "&deleted=true") if LISTINGS[path].hides_deleted else ("",):
                answer = await furnished.get(who, f"/{path}?{name}={foreign}{extra}")
                silent(furnished, answer, foreign)
                if foreign != own:
                    assert ok(answer) == {"items": [], "next": None}, f"{path} {name} {who}"
        if path != "customers":
            found = ok(await furnished.get("viewer", f"/{path}?{name}={own}"))["items"]
            assert found, f"{path}?{name}={own} finds nothing, so finding nothing elsewhere proves nothing"


@pytest.mark.parametrize("path", TELLING)
async def test_no_order_shows_what_is_not_mine(furnished: Office, path):
    for order in LISTINGS[path].orders:
        for sign in ("", "-"):
            body = ok(await furnished.get("viewer", f"/{path}?sort={sign}{order}&limit=200"))
            silent(furnished, await furnished.get("viewer", f"/{path}?sort={sign}{order}&limit=200"))
            if path != "customers":
                assert body["items"]


@pytest.mark.parametrize("path", sorted({*TELLING, "audit", "people"} - {"projects", "customers"}))
async def test_a_cursor_of_theirs_opens_nothing_of_theirs(furnished: Office, path):
    theirs = ok(await furnished.get("b:admin", f"/{path}?limit=1"))
    assert theirs["next"], "a list of one page has no cursor to try"
    for who in ("admin", "nobody", "root"):
        answer = await furnished.get(who, f"/{path}?limit=200&cursor={theirs['next']}")
        if not (who == "root" and path in ("people", "audit")):
            silent(furnished, answer)


@pytest.mark.parametrize("name", ["mark", "title", "code", "prefix", "mail"])
async def test_a_search_finds_only_mine(furnished: Office, name):
    def words(records: Records) -> str:
        return {
            "mark": records.mark,
            "title": f"Package live {records.mark[:8]}",
            "code": records.values["package.live.code"],
            "prefix": records.mark[:6],
            "mail": f"live {records.mark}",
        }[name]

    asked = words(furnished.records["b"])
    for path in ("packages", "tasks", "parties", "comments", "memories"):
        for who in ("viewer", "nobody", "root"):
            answer = await furnished.get(who, f"/{path}", params={"q": asked, "deleted": "true"})
            assert ok(answer)["items"] == []
    found = ok(await furnished.get("viewer", "/packages", params={"q": words(furnished.records["a"])}))["items"]
    assert found or name == "mail"


_AUDIT: Final[dict[str, Callable[[Records], str]]] = {
    "type": same("package.created"),
    "actor": proposer,
    "correlation_id": value("correlation_id"),
    "stream_id": of("package"),
}


def test_every_filter_of_the_log_is_tried():
    assert set(AUDIT_FILTERS) == set(_AUDIT)


@pytest.mark.parametrize("name", _AUDIT)
async def test_the_log_is_searched_only_where_one_may_audit(furnished: Office, name):
    foreign, own = _AUDIT[name](furnished.records["b"]), _AUDIT[name](furnished.records["a"])
    for who in ("admin", "auditor", "executive", "root"):
        answer = await furnished.get(who, f"/audit?{name}={foreign}&limit=200")
        silent(furnished, answer, foreign)
        if foreign != own:
            assert ok(answer)["items"] == []
    assert ok(await furnished.get("auditor", f"/audit?{name}={own}"))["items"]
    assert ok(await furnished.get("inspector", f"/audit?{name}={foreign}"))["items"]


class TestReferences:
    """A field that names another project's record is refused like one that names nothing."""

    @staticmethod
    def cases() -> list[tuple[str, str, str, Callable[[Office, str], Any], Callable[[Records], str]]]:
        def package(office: Office) -> str:
            return str(office.records["a"].ids["package"]["live"])

        def bundle(kind: str, name: str, more: dict[str, Any]) -> Callable[[Office, str], Any]:
            return lambda office, ref: {
                "changes": [
                    {
                        "operation": "create",
                        "target_type": kind,
                        "project": office.a.prefix,
                        "patch": {**more, name: ref},
                    }
                ]
            }

        created: list[tuple[str, str, str, Callable[[Office, str], Any], Callable[[Records], str]]] = [
            ("operator", "PATCH", "/packages/{package}", lambda _, ref: {"vendor_id": ref}, of("party")),
            ("operator", "PATCH", "/packages/{package}", lambda _, ref: {"vendor_id": ref}, of("party", "deleted")),
            ("operator", "PATCH", "/packages/{package}", lambda _, ref: {"owner_id": ref}, of("person", "operator")),
            ("operator", "PATCH", "/packages/{package}", lambda _, ref: {"package_type": ref}, works),
            ("operator", "POST", "/packages", lambda _, ref: {"title": "x", "vendor_id": ref}, of("party")),
            ("operator", "POST", "/packages", lambda _, ref: {"title": "x", "owner_id": ref}, of("person", "viewer")),
            ("operator", "POST", "/packages", lambda _, ref: {"title": "x", "package_type": ref}, works),
            (
                "operator",
                "POST",
                "/packages/{package}/transitions",
                lambda _, ref: {"status": "submitted", "vendor_id": ref},
                of("party"),
            ),
            ("operator", "PATCH", "/tasks/{task}", lambda _, ref: {"assignee_id": ref}, of("person", "operator")),
            ("operator", "POST", "/tasks", lambda _, ref: {"title": "x", "package_id": ref}, of("package")),
            (
                "operator",
                "POST",
                "/tasks",
                lambda office, ref: {"title": "x", "package_id": package(office), "assignee_id": ref},
                of("person", "operator"),
            ),
            (
                "admin",
                "POST",
                "/delegations",
                lambda _, ref: {
                    "to_person": ref,
                    "starts_at": "2026-12-01T00:00:00Z",
                    "ends_at": "2026-12-02T00:00:00Z",
                },
                of("person", "admin2"),
            ),
            ("operator", "POST", "/proposals", bundle("task", "package_id", {"title": "x"}), of("package")),
            ("operator", "POST", "/proposals", bundle("package", "vendor_id", {"title": "x"}), of("party")),
            ("operator", "POST", "/proposals", bundle("package", "owner_id", {"title": "x"}), of("person", "viewer")),
        ]
        for kind in ("project", "package", "task", "party", "approval"):
            body = {"entity_type": kind, "body": "x"}
            created += [
                ("operator", "POST", "/comments", lambda _, ref, body=body: {**body, "entity_id": ref}, of(kind)),
                ("operator", "POST", "/proposals", bundle("comment", "entity_id", body), of(kind)),
            ]
        for kind in ("project", "package", "task", "party"):
            body = {"entity_type": kind, "kind": "context", "text": "x"}
            created += [
                ("operator", "POST", "/memories", lambda _, ref, body=body: {**body, "entity_id": ref}, of(kind)),
                ("operator", "POST", "/proposals", bundle("memory", "entity_id", body), of(kind)),
            ]
        for kind in ("project", "package", "task", "party", "comment", "approval", "event", "email", "memory"):
            created.append(
                (
                    "operator",
                    "PATCH",
                    "/memories/{memory}",
                    lambda _, ref, kind=kind: {"sources": [{"type": kind, "id": ref}]},
                    of(kind),
                )
            )
        return created

    @pytest.mark.parametrize("number", range(42))
    async def test_of_another_project_is_a_reference_to_nothing(self, furnished: Office, number):
        who, method, path, body, make = self.cases()[number]
        mine, theirs = furnished.records["a"], furnished.records["b"]
        path = re.sub(r"\{(\w+)\}", lambda found: str(mine.ids[found[1]]["live"]), path)
        nothing = str(UNKNOWN) if _is_id(make(theirs)) else "Nothing of that name"
        answers: list[str] = []
        before = await furnished.count()
        for ref in (make(theirs), nothing):
            answer = await furnished.call(who, method, path, body(furnished, ref))
            assert answer.status_code in (404, 422), answer.text
            silent(furnished, answer, ref)
            text = re.sub(r'"correlation_id":"[^"]*"', "", answer.text).replace(ref, "<ref>")
            answers.append(f"{answer.status_code} {text}")
        assert answers[0] == answers[1]
        assert await furnished.count() == before
        # The control: the same request about one's own record is not refused for its reference.
        answer = await furnished.call(who, method, path + "?dry_run=true", body(furnished, make(mine)))
        if path != "/proposals" and make(mine) != str(mine.ids["party"]["deleted"]):
            assert answer.json().get("code") not in ("bad_reference", "not_found"), answer.text

    def test_every_case_is_run(self):
        assert len(self.cases()) == 42

    async def test_a_new_member_is_named_by_id_and_nothing_is_told_of_them(self, furnished: Office):
        """Adding people needs their ids, which only they or an administrator of the instance can give away."""
        person = str(furnished.records["b"].ids["person"]["executive"])
        answer = await furnished.post("admin", "/memberships?dry_run=true", {"person_id": person, "roles": ["viewer"]})
        ok(answer)
        silent(furnished, answer, person)


def _is_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


class TestConflicts:
    """What is unique is unique in its project, so that a conflict tells nothing about another."""

    async def test_values_of_another_project_are_free_here(self, furnished: Office):
        mark = furnished.records["b"].mark
        for path, body in (
            ("/packages", {"title": "x", "external_ref": f"package-live-{mark}"}),
            ("/parties", {"name": "x", "kind": "vendor", "email": f"live@{mark}.example"}),
            ("/parties", {"name": "x", "kind": "vendor", "external_ref": f"party-live-{mark}"}),
        ):
            ok(await furnished.post("operator", f"{path}?dry_run=true", body))
        ok(await furnished.post("admin", "/package-types?dry_run=true", {"name": f"Works {mark}", "fields_schema": {}}))
        mine = furnished.records["a"].mark
        problem(
            await furnished.post(
                "operator", "/parties", {"name": "x", "kind": "vendor", "email": f"live@{mine}.example"}
            ),
            409,
            "already_exists",
        )

    async def test_addresses_of_people_are_told_to_nobody_who_may_not_add_any(self, furnished: Office):
        await furnished.sign_up("Known", "known@example.org")
        for who in ("admin", "executive", "viewer", "nobody", "inspector"):
            for email in ("known@example.org", "unknown@example.org"):
                said = {"name": "x", "email": email, "password": "long enough to be one"}
                problem(await furnished.post(who, "/people", said), 403, "forbidden")
                said = {"changes": [{"operation": "create", "target_type": "person", "patch": said}]}
                problem(await furnished.post(who, "/proposals", said), 403, "forbidden")
        said = {"name": "x", "email": "KNOWN@example.org", "password": "long enough to be one"}
        problem(await furnished.post("root", "/people", said), 409, "already_exists")

    async def test_prefixes_of_projects_neither(self, furnished: Office):
        for who in ("admin", "viewer", "nobody"):
            for prefix in (furnished.b.prefix, "ZZFREE"):
                said = {"name": "x", "prefix": prefix, "currency": "EUR"}
                problem(await furnished.post(who, "/projects", said), 403, "forbidden")

    async def test_an_id_that_is_taken_elsewhere_puts_nothing_there(self, furnished: Office):
        theirs = furnished.records["b"].ids["package"]["live"]
        before = await furnished.get("b:viewer", f"/packages/{theirs}/timeline?limit=200")
        change = {
            "operation": "create",
            "target_type": "package",
            "target": str(theirs),
            "project": furnished.a.prefix,
            "patch": {"title": "x"},
        }
        for more in ({}, {"impact_level": "critical"}):
            answer = await furnished.post("operator", "/proposals", {"changes": [change], **more})
            problem(answer, 409, "already_exists")
            silent(furnished, answer, str(theirs))
        assert (await furnished.get("b:viewer", f"/packages/{theirs}/timeline?limit=200")).content == before.content


class TestBundles:
    @pytest.fixture
    async def both(self, furnished: Office) -> str:
        """Somebody who is an analyst in both projects."""
        who = await furnished.newcomer("analyst")
        async with furnished.database.write(Reach.INSTANCE) as session:
            from tests.builders import make_member

            await make_member(session, furnished.vault, furnished.b.project, furnished.people[who], "analyst")
            await session.commit()
        return who

    async def test_a_proposal_stays_in_one_project(self, furnished: Office, both: str):
        def change(side: str) -> dict[str, Any]:
            package = furnished.records[side].ids["package"]["live"]
            return {
                "operation": "patch",
                "target_type": "package",
                "target": str(package),
                "patch": {"description": "Together"},
            }

        before = await furnished.count()
        for order in (("a", "b"), ("b", "a")):
            said = {"changes": [change(side) for side in order], "impact_level": "high"}
            problem(await furnished.post(both, "/proposals", said), 422, "invalid_input")
        assert await furnished.count() == before
        for side in ("a", "b"):
            approval = waits(
                await furnished.post(both, "/proposals", {"changes": [change(side)], "impact_level": "high"})
            )
            assert approval["project_id"] == str(getattr(furnished, side).project)
            ok(await furnished.post(both, f"/approvals/{approval['id']}/withdraw", {}))

    async def test_the_instance_is_not_changed_along_with_a_project(self, furnished: Office):
        """Else the deciders of the project would decide about the instance."""
        async with furnished.database.write(Reach.INSTANCE) as session:
            from tests.builders import make_member, make_person

            person = await make_person(session, furnished.vault, "Both", instance_admin=True)
            await make_member(session, furnished.vault, furnished.a.project, person, "admin")
            await session.commit()
        who = "both"
        furnished.people[who] = person
        package = furnished.records["a"].ids["package"]["live"]
        said = {
            "changes": [
                {"operation": "patch", "target_type": "package", "target": str(package), "patch": {"description": "x"}},
                {
                    "operation": "patch",
                    "target_type": "person",
                    "target": str(furnished.person("viewer")),
                    "patch": {"instance_admin": True},
                },
            ]
        }
        problem(await furnished.post(who, "/proposals", said), 422, "invalid_input")


class TestTakenOut:
    async def test_an_export_of_a_project_holds_that_project(self, furnished: Office):
        answer = await furnished.get("auditor", f"/audit/export?project={furnished.a.prefix}")
        assert answer.status_code == 200
        text = gzip.decompress(answer.content).decode()
        assert furnished.records["a"].mark in text
        assert not marks_of(furnished, "b").search(text)
        whole = gzip.decompress((await furnished.get("inspector", "/audit/export")).content).decode()
        assert marks_of(furnished, "b").search(whole)

    async def test_a_package_goes_out_with_nothing_of_another_project(self, furnished: Office):
        package = furnished.records["a"].ids["package"]["live"]
        answer = await furnished.get("admin", f"/exports/ocds/{package}")
        assert furnished.records["a"].mark in json.dumps(ok(answer))
        silent(furnished, answer)


class TestPolicyText:
    async def test_a_comment_on_ones_own_record_is_found_in_its_timeline(self, furnished: Office):
        """The control of the references: the same kinds of request succeed at home."""
        package = furnished.records["a"].ids["package"]["live"]
        said = {"entity_type": "package", "entity_id": str(package), "body": "At home"}
        created = applied(await furnished.post("operator", "/comments", said), 201)
        events = ok(await furnished.get("viewer", f"/packages/{package}/timeline"))["items"]
        assert created["id"] in {event["stream_id"] for event in events}
