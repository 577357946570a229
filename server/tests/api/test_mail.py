"""Mails over HTTP: the triage list, what is shown of a mail, and to whom."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest

from pmis.api import mail
from pmis.kit.db import Reach
from pmis.mail.filing import email_id
from tests.api.expect import applied, ok, problem, waits
from tests.mail.post import Post, letter, parcel

if TYPE_CHECKING:
    from pmis.email.models import Email
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.fixture
def post(office: Office) -> Post:
    return Post.of(office.a, office.test_database.files)


async def test_the_list_is_paged_and_filtered(office: Office, post: Post):
    await office.a.make_party(email="lister@firm.example")
    package = await office.a.make_package()
    made = [await post.one(letter("lister@firm.example"), post.at(package.code)) for _ in range(3)]
    stranger = await post.one(letter("stranger@evil.example"), post.at(package.code))
    path = f"/mail/messages?package_id={package.id}&limit=2"
    first = ok(await office.get("viewer", path))
    assert [one["id"] for one in first["items"]] == [str(one.id) for one in (made[2], made[1])]
    last = ok(await office.get("viewer", f"{path}&cursor={first['next']}"))
    assert ([one["id"] for one in last["items"]], last["next"]) == ([str(made[0].id)], None)
    waiting = ok(await office.get("admin", f"/mail/messages?status=quarantined&project={office.a.prefix}"))
    assert waiting["items"][0]["id"] == str(stranger.id)
    assert {one["status"] for one in waiting["items"]} == {"quarantined"}
    for who in ("viewer", "analyst", "executive", "auditor"):
        assert ok(await office.get(who, "/mail/messages?status=quarantined"))["items"] == []


@pytest.mark.parametrize("query", ["status=lost", "package_id=x", "cursor=x", "limit=0", "colour=red"])
async def test_a_question_that_is_none(office: Office, query: str):
    problem(await office.get("viewer", f"/mail/messages?{query}"), 422, "invalid_input")


async def test_a_mail_is_shown_without_what_could_do_harm(office: Office, post: Post):
    await office.a.make_party(email="harm@firm.example")
    package = await office.a.make_package()
    raw = letter(
        "harm@firm.example",
        body="<p>Please change the planned end to 2026-12-01\u202e</p><script>x</script><img src='https://t.example/1'>",
        more="MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n",
    )
    email = await post.one(raw, post.at(package.code))
    shown = ok(await office.get("viewer", f"/mail/messages/{email.id}"))
    assert shown["html"].strip() == "<p>Please change the planned end to 2026-12-01[U+202E]</p><img>"
    assert shown["authentication"]["authenticated"] is True
    assert shown["sender"]["kind"] == "party"
    # A line with something unseen in it asks for nothing.
    assert shown["suggestions"] == []


async def test_what_a_mail_asks_for_is_shown_and_not_done(office: Office, post: Post):
    await office.a.make_party(email="asks@firm.example")
    package = await office.a.make_package()
    body = (
        "Good day,\r\nplease change the planned end to 2026-12-01.\r\n> status: cancelled\r\nThe price is 1200.50 EUR"
    )
    email = await post.one(letter("asks@firm.example", body=body), post.at(package.code))
    shown = ok(await office.get("viewer", f"/mail/messages/{email.id}"))
    assert [(one["line"], one["patch"]) for one in shown["suggestions"]] == [
        (2, {"planned_end": "2026-12-01"}),
        (4, {"amount": "1200.50", "currency": "EUR"}),
    ]
    assert ok(await office.get("viewer", f"/packages/{package.id}"))["planned_end"] is None


async def test_the_packages_timeline_tells_of_its_mails(office: Office, post: Post):
    await office.a.make_party(email="line@firm.example")
    package = await office.a.make_package()
    email = await post.one(letter("line@firm.example"), post.at(package.code))
    await post.one(letter("stranger@evil.example"), post.at(package.code))
    events = ok(await office.get("viewer", f"/packages/{package.id}/timeline"))["items"]
    assert [one["stream_id"] for one in events if one["type"] == "email.ingested"] == [str(email.id)]
    assert events[0]["source"] == "mail"


async def test_the_inbox_of_the_instance_is_for_its_administrators(office: Office, post: Post):
    email = await post.one(letter(), "inbox@mail.test")
    assert ok(await office.get("root", f"/mail/messages/{email.id}"))["project_id"] is None
    for who in ("viewer", "executive", "auditor", "b:viewer"):
        problem(await office.get(who, f"/mail/messages/{email.id}"), 404, "not_found")


def where(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["status"], body["reason"], body["project_id"], body["package_id"]


async def events_of(office: Office, identity: object) -> list[dict[str, Any]]:
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select type, payload, actor, source from ledger.event where stream_id = %s order by stream_version",
            (identity,),
        )
    return [{"type": one, "payload": json.loads(text), "actor": who, "source": how} for one, text, who, how in rows]


@pytest.fixture
async def waiting(office: Office, post: Post) -> Email:
    """A mail of somebody unknown that names a package."""
    package = await office.a.make_package()
    return await post.one(parcel(f"{secrets.token_hex(4)}@stranger.example", "x"), post.at(package.code))


class TestAttach:
    async def test_it_is_released_from_quarantine_into_its_package(self, office: Office, waiting: Email):
        package = await office.a.make_package()
        path = f"/mail/messages/{waiting.id}"
        problem(await office.get("viewer", path), 404, "not_found")
        answer = await office.post("admin", f"{path}/attach", {"package": package.code, "reason": "It is theirs."})
        body = ok(answer)
        assert where(body) == ("attached", "by_person", str(office.a.project), str(package.id))
        assert answer.headers["etag"] == f'"{body["version"]}"'
        assert ok(await office.get("viewer", path))["package_id"] == str(package.id)
        events = ok(await office.get("viewer", f"/packages/{package.id}/timeline"))["items"]
        assert [one["type"] for one in events if one["stream_id"] == str(waiting.id)] == [
            "email.attached",
            "email.ingested",
        ]
        last = (await events_of(office, waiting.id))[-1]
        assert (last["actor"], last["source"]) == (f"person:{office.person('admin')}", "api")
        assert last["payload"]["reason"] == "It is theirs."
        assert last["payload"]["changes"]["status"] == {"from": "quarantined", "to": "attached"}

    async def test_answers_to_it_join_its_thread_from_then_on(self, office: Office, post: Post, waiting: Email):
        vendor = f"{secrets.token_hex(4)}@firm.example"
        await office.a.make_party(email=vendor)
        package = await office.a.make_package()
        more = f"In-Reply-To: {(await post.content(waiting))['headers']['message_id']}\r\n"
        before = await post.one(letter(vendor, more=more), post.at(package.code))
        ok(await office.post("admin", f"/mail/messages/{waiting.id}/attach", {"package": package.code}))
        after = await post.one(letter(vendor, more=more), post.at(package.code))
        assert before.thread_id != waiting.id
        assert after.thread_id == waiting.id

    async def test_only_to_a_package_of_its_project(self, office: Office, waiting: Email):
        other = await office.b.make_package()
        for name in (other.code, str(other.id), "ZZZ-001", str(waiting.id)):
            answer = await office.post("admin", f"/mail/messages/{waiting.id}/attach", {"package": name})
            assert problem(answer, 422, "invalid_input")["errors"][0]["pointer"] == "/package"

    async def test_what_was_attached_is_attached_elsewhere_and_not_twice(self, office: Office, waiting: Email):
        path = f"/mail/messages/{waiting.id}/attach"
        first, second = await office.a.make_package(), await office.a.make_package()
        for package in (first, second):
            ok(await office.post("admin", path, {"package": str(package.id)}))
        problem(await office.post("admin", path, {"package": second.code.lower()}), 422, "nothing_to_change")
        assert ok(await office.get("viewer", f"/mail/messages?package_id={first.id}"))["items"] == []

    async def test_a_version_that_is_not_the_present_one(self, office: Office, waiting: Email):
        package = await office.a.make_package()
        path = f"/mail/messages/{waiting.id}"
        stale = {"If-Match": '"7"'}
        for way, said in (("attach", {"package": package.code}), ("dismiss", {}), ("move", {"project": None})):
            problem(await office.post("admin", f"{path}/{way}", said, headers=stale), 412, "stale_version")
        fresh = {"If-Match": (await office.get("admin", path)).headers["etag"]}
        ok(await office.post("admin", f"{path}/attach", {"package": package.code}, headers=fresh))

    async def test_the_same_key_is_answered_the_same_with_one_event(self, office: Office, waiting: Email):
        package = await office.a.make_package()
        key = {"Idempotency-Key": secrets.token_hex(8)}
        path, said = f"/mail/messages/{waiting.id}/attach", {"package": package.code}
        first = await office.post("admin", path, said, headers=key)
        again = await office.post("admin", path, said, headers=key)
        assert (ok(first), again.content) == (ok(again), first.content)
        assert len(await events_of(office, waiting.id)) == 2
        # What the mail says is not in what is kept.
        assert "stranger.example" not in first.text


class TestDismiss:
    async def test_it_is_laid_aside_and_can_be_taken_up_again(self, office: Office, waiting: Email):
        path = f"/mail/messages/{waiting.id}"
        package = await office.a.make_package()
        ok(await office.post("admin", f"{path}/attach", {"package": package.code}))
        assert where(ok(await office.post("admin", f"{path}/dismiss", {})))[::3] == ("dismissed", None)
        problem(await office.get("viewer", path), 404, "not_found")
        problem(await office.post("admin", f"{path}/dismiss", {}), 422, "nothing_to_change")
        assert ok(await office.post("admin", f"{path}/attach", {"package": package.code}))["status"] == "attached"

    async def test_for_administrators_alone(self, office: Office, waiting: Email):
        package = await office.a.make_package()
        ok(await office.post("admin", f"/mail/messages/{waiting.id}/attach", {"package": package.code}))
        for who in ("viewer", "analyst", "operator", "executive", "auditor"):
            problem(await office.post(who, f"/mail/messages/{waiting.id}/dismiss", {}), 403, "forbidden")


class TestMove:
    async def test_out_of_the_inbox_into_the_project_that_it_is_for(self, office: Office, post: Post):
        package = await office.a.make_package()
        email = await post.one(letter(subject=f"About {package.code}"), "inbox@mail.test")
        path = f"/mail/messages/{email.id}"
        problem(await office.post("root", f"{path}/attach", {"package": package.code}), 409, "conflict")
        problem(await office.post("root", f"{path}/move", {"project": "ZZZNONE"}), 404, "not_found")
        assert ok(await office.post("root", f"{path}/move", {"project": office.a.prefix}))["status"] == "moved"
        problem(await office.post("root", f"{path}/dismiss", {}), 409, "mail_moved")
        (there,) = (
            one
            for one in ok(await office.get("admin", f"/mail/messages?status=quarantined&project={office.a.prefix}"))[
                "items"
            ]
            if one["reason"] == "moved"
        )
        assert (there["subject"], there["candidate_id"]) == (f"About {package.code}", str(package.id))
        assert (await events_of(office, there["id"]))[0]["actor"] == f"person:{office.person('root')}"
        # Who moved it there sees into that project no more than before.
        problem(await office.get("root", f"/mail/messages/{there['id']}"), 404, "not_found")

    async def test_back_and_forth_makes_no_second_mail(self, office: Office, post: Post, waiting: Email):
        path = f"/mail/messages/{waiting.id}"
        ok(await office.post("admin", f"{path}/move", {"project": None}))
        there = email_id(waiting.inbound_id, None)
        assert (await post.email(there)).status == "quarantined"
        for _ in range(2):
            ok(await office.post("root", f"/mail/messages/{there}/move", {"project": office.a.prefix}))
            assert ((await post.email(waiting.id)).status, (await post.email(there)).status) == ("quarantined", "moved")
            ok(await office.post("admin", f"{path}/move", {"project": None}))
            assert ((await post.email(waiting.id)).status, (await post.email(there)).status) == ("moved", "quarantined")
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select id from state.email where doc::jsonb ->> 'inbound_id' = %s", (str(waiting.inbound_id),)
            )
        assert len(rows) == 2

    async def test_not_into_a_project_that_one_does_not_see(self, office: Office, waiting: Email):
        for name in (office.b.prefix, str(office.b.project), "ZZZNONE"):
            answer = await office.post("admin", f"/mail/messages/{waiting.id}/move", {"project": name})
            assert problem(answer, 404, "not_found")["detail"] == "There is no such project."
        problem(
            await office.post("admin", f"/mail/messages/{waiting.id}/move", {"project": office.a.prefix}),
            422,
            "nothing_to_change",
        )


class TestAccept:
    @pytest.fixture
    async def asked(self, office: Office, waiting: Email) -> Email:
        package = await office.a.make_package()
        ok(await office.post("admin", f"/mail/messages/{waiting.id}/attach", {"package": package.code}))
        return waiting

    async def test_it_becomes_a_proposal_from_an_email_that_waits_for_a_yes(self, office: Office, asked: Email):
        path = f"/mail/messages/{asked.id}"
        package = ok(await office.get("analyst", path))["package_id"]
        answer = await office.post("analyst", f"{path}/suggestions/1/accept", {"reason": "They called, too."})
        approval = waits(answer, "confirmation_required")
        assert (approval["source"], approval["proposer"]["person_id"]) == ("mail", str(office.person("analyst")))
        assert approval["reason"] == f"From an e-mail ({asked.id}, suggestion 1). They called, too."
        assert approval["decision"]["facts"]["writer"] == "email"
        assert approval["decision"]["uncertainty"] == "high"
        assert approval["changes"][0]["patch"] == {"planned_end": "2031-12-01"}
        assert ok(await office.get("viewer", f"/packages/{package}"))["planned_end"] is None
        assert ok(await office.get("viewer", path))["suggestions"][0]["accepted"] is True
        last = (await events_of(office, asked.id))[-1]
        assert (last["type"], last["source"]) == ("email.suggestion_accepted", "mail")
        assert last["payload"]["approval_id"] == approval["id"]
        problem(await office.post("operator", f"{path}/suggestions/1/accept", {}), 409, "suggestion_accepted")
        ok(await office.post("analyst", f"/approvals/{approval['id']}/confirm", {"digest": approval["digest"]}))
        assert ok(await office.get("viewer", f"/packages/{package}"))["planned_end"] == "2031-12-01"

    async def test_revising_it_is_no_way_around_the_yes(self, office: Office, asked: Email):
        answer = await office.post("analyst", f"/mail/messages/{asked.id}/suggestions/1/accept", {})
        approval = waits(answer, "confirmation_required")
        ok(await office.post("analyst", f"/approvals/{approval['id']}/withdraw", {}))
        again = waits(await office.post("analyst", f"/approvals/{approval['id']}/revise", {}), "confirmation_required")
        assert again["decision"]["facts"]["flags"] == ["untrusted_text"]

    async def test_the_same_change_by_hand_is_applied_at_once(self, office: Office):
        """The control: it waited because an e-mail said it."""
        package = await office.a.make_package()
        applied(await office.patch("analyst", f"/packages/{package.id}", {"planned_end": "2031-12-01"}))

    async def test_once_the_package_is_past_draft_somebody_else_decides(self, office: Office, asked: Email):
        package = ok(await office.get("analyst", f"/mail/messages/{asked.id}"))["package_id"]
        await office.a.do("package", "transition", UUID(package), {"status": "submitted"}, who="operator")
        answer = await office.post("analyst", f"/mail/messages/{asked.id}/suggestions/1/accept", {})
        assert waits(answer, "pending")["route"] == "APPROVAL_REQUIRED"

    async def test_a_preview_writes_nothing(self, office: Office, asked: Email):
        path = f"/mail/messages/{asked.id}/suggestions/1/accept?dry_run=true"
        before = await office.count()
        body = ok(await office.post("analyst", path, {}))
        assert (body["outcome"], body["facts"]["writer"]) == ("preview", "email")
        assert await office.count() == before

    async def test_who_may_not_propose_may_not_accept(self, office: Office, asked: Email):
        for who in ("viewer", "auditor"):
            problem(await office.post(who, f"/mail/messages/{asked.id}/suggestions/1/accept", {}), 403)
        problem(await office.post("b:analyst", f"/mail/messages/{asked.id}/suggestions/1/accept", {}), 404)
        assert (await events_of(office, asked.id))[-1]["type"] == "email.attached"

    async def test_what_waits_is_attached_first(self, office: Office, waiting: Email):
        answer = await office.post("admin", f"/mail/messages/{waiting.id}/suggestions/1/accept", {})
        problem(answer, 409, "mail_not_attached")

    @pytest.mark.parametrize("number", ["0", "2", "-1", "x", "99999", "\uff11"])
    async def test_a_number_that_there_is_none_of(self, office: Office, asked: Email, number: str):
        path = f"/mail/messages/{asked.id}"
        problem(await office.post("analyst", f"{path}/suggestions/{number}/accept", {}), 404, "not_found")
        problem(await office.get("analyst", f"{path}/attachments/{number}"), 404, "not_found")

    async def test_what_the_package_refuses_is_not_accepted(self, office: Office, post: Post):
        vendor = f"{secrets.token_hex(4)}@firm.example"
        await office.a.make_party(email=vendor)
        package = await office.a.make_package()
        email = await post.one(letter(vendor, body="The status is completed"), post.at(package.code))
        answer = await office.post("operator", f"/mail/messages/{email.id}/suggestions/1/accept", {})
        problem(answer, 409, "transition_refused")
        assert (await post.email(email.id)).accepted == []

    async def test_two_at_once_make_one_proposal(self, office: Office, asked: Email):
        path = f"/mail/messages/{asked.id}/suggestions/1/accept"
        answers = await asyncio.gather(*(office.post(who, path, {}) for who in ("analyst", "operator", "admin")))
        assert sorted(one.status_code for one in answers) == [202, 409, 409]


class TestAttachments:
    async def test_a_file_comes_as_it_was_and_runs_nowhere(self, office: Office, waiting: Email):
        answer = await office.get("admin", f"/mail/messages/{waiting.id}/attachments/1")
        assert answer.content == b"%PDF-1.7 x"
        told = answer.headers
        assert told["content-type"] == "application/octet-stream"
        assert told["content-disposition"] == "attachment; filename*=UTF-8''offer.pdf"
        assert told["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
        assert (told["x-content-type-options"], told["cache-control"]) == ("nosniff", "no-store")
        problem(await office.get("viewer", f"/mail/messages/{waiting.id}/attachments/1"), 404, "not_found")

    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            ("../../etc/passwd", "passwd"),
            ("a\\b\\c.txt", "c.txt"),
            (".bashrc", "bashrc"),
            ("con<>|?.txt", "con____.txt"),
            ("", "attachment-1"),
            ("//", "attachment-1"),
            ("résumé \U0001f600.pdf", "r%C3%A9sum%C3%A9%20%F0%9F%98%80.pdf"),
            ("x" * 200, "x" * 120),
        ],
    )
    def test_a_name_is_no_path(self, name: str, kept: str):
        assert quote(mail.file_name(name, 1), safe="") == kept

    async def test_a_file_that_rotted_is_not_given_out(self, office: Office, waiting: Email):
        digest = waiting.attachments[0].digest
        place = office.parts.settings.storage / digest[:2] / digest
        place.write_bytes(b"something else")
        problem(await office.get("admin", f"/mail/messages/{waiting.id}/attachments/1"), 500, "content_damaged")
        place.unlink()
        problem(await office.get("admin", f"/mail/messages/{waiting.id}/attachments/1"), 500, "content_missing")
