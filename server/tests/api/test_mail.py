"""Mails over HTTP: the triage list, what is shown of a mail, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.expect import ok, problem
from tests.mail.post import Post, letter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.fixture
def post(office: Office, tmp_path: Path) -> Post:
    return Post.of(office.a, tmp_path)


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
