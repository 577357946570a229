"""A mail goes where it was sent; it is shown to the project only when its sender is known and vouched for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.mail import reading, routing
from pmis.mail.authentication import authenticate
from pmis.mail.filing import file
from tests.builders import make_world
from tests.mail.hostile import CASES
from tests.mail.post import AUTHSERV, Post, letter, passed

if TYPE_CHECKING:
    from pathlib import Path

    from pmis.mail.authentication import Authentication

pytestmark = pytest.mark.anyio


class TestWhere:
    async def test_to_a_package(self, post: Post):
        vendor = await post.known_vendor()
        package = await post.world.make_package()
        email = await post.one(letter(), post.at(package.code))
        assert (email.status, email.reason) == ("attached", "address")
        assert (email.package_id, email.project_id) == (package.id, post.world.project)
        assert (email.sender_kind, email.sender_id) == ("party", vendor)
        await post.world.require_replay()

    async def test_by_a_code_in_the_subject_of_a_mail_to_the_project(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        email = await post.one(letter(subject=f"Re: {package.code}, the dates"), post.at(post.world.prefix))
        assert (email.status, email.reason, email.package_id) == ("attached", "subject", package.id)

    async def test_a_code_of_another_project_in_the_subject_leads_nowhere(self, post: Post, tmp_path: Path):
        await post.known_vendor()
        other = await (await make_world(post.world.database)).make_package()
        email = await post.one(letter(subject=f"Re: {other.code}"), post.at(post.world.prefix))
        assert (email.status, email.reason, email.candidate_id) == ("quarantined", "no_package", None)
        assert email.project_id == post.world.project

    async def test_two_codes_in_a_subject_are_none(self, post: Post):
        await post.known_vendor()
        codes = [(await post.world.make_package()).code for _ in range(2)]
        email = await post.one(letter(subject=" and ".join(codes)), post.at(post.world.prefix))
        assert (email.status, email.candidate_id) == ("quarantined", None)

    async def test_a_reply_goes_by_its_token_and_not_by_its_subject(self, post: Post):
        await post.known_vendor()
        package, other = await post.world.make_package(), await post.world.make_package()
        raw = letter(subject=f"Re: {other.code}")
        email = await post.one(raw, post.addresses.reply_address(package.id))
        assert (email.status, email.reason, email.package_id) == ("attached", "token", package.id)

    async def test_a_reply_goes_by_the_message_it_answers(self, post: Post):
        await post.known_vendor()
        package, other = await post.world.make_package(), await post.world.make_package()
        more = f"In-Reply-To: {post.addresses.message_id(package.id, uuid7())}\r\n"
        for recipient in ("inbox@mail.test", post.at(other.code)):
            email = await post.one(letter(more=more), recipient)
            assert (email.status, email.reason, email.package_id) == ("attached", "reference", package.id)

    async def test_a_reference_to_another_project_does_not_move_a_mail_out_of_the_one_it_came_to(self, post: Post):
        other = await (await make_world(post.world.database)).make_package()
        more = f"References: {post.addresses.message_id(other.id, uuid7())}\r\n"
        email = await post.one(letter(more=more), post.at(post.world.prefix))
        assert email.project_id == post.world.project

    async def test_a_forged_token_or_message_id_leads_nowhere(self, post: Post):
        package = await post.world.make_package()
        token = post.addresses.token(package.id)
        forged = ("b" if token[-5] == "a" else "a").join((token[:-5], token[-4:]))
        email = await post.one(
            letter(more=f"References: <{forged}.{'0' * 32}@mail.test>\r\n"), f"reply+{forged}@mail.test"
        )
        assert (email.project_id, email.status, email.reason) == (None, "quarantined", "no_project")

    async def test_without_an_envelope_the_headers_say_to_whom_it_came(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        email = await post.one(letter(to=f"x@y.example, {post.at(package.code)}"), way="file")
        assert email.package_id == package.id

    async def test_a_mail_to_two_projects_is_filed_in_both(self, post: Post):
        second = await make_world(post.world.database)
        found = await post.deliver(letter(), post.at(post.world.prefix), post.at(second.prefix))
        assert {one.project_id for one in found} == {post.world.project, second.project}
        assert len({one.inbound_id for one in found}) == 1

    async def test_answers_join_the_thread_of_a_known_sender_only(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        stranger = letter("stranger@evil.example", more="References: <thread@firm.example>\r\n")
        await post.one(stranger.replace(b"Message-ID: <", b"Message-ID: <first.", 1), post.at(package.code))
        first = await post.one(letter(), post.at(package.code))
        said = (await post.content(first))["headers"]["message_id"]
        answer = await post.one(letter(more=f"In-Reply-To: {said}\r\n"), post.at(package.code))
        assert answer.thread_id == first.thread_id == first.id
        # Whoever claims a Message-ID that is taken starts a thread of their own for it, and takes over none.
        reused = letter("stranger@evil.example").replace(b"Message-ID: <", b"X-Old: <", 1)
        claimed = await post.one(b"Message-ID: " + said.encode() + b"\r\n" + reused, post.at(package.code))
        assert claimed.status == "quarantined"
        later = await post.one(letter(more=f"In-Reply-To: {said}\r\n"), post.at(package.code))
        assert later.thread_id == first.thread_id


class TestWho:
    @pytest.mark.parametrize(
        ("raw", "facts", "reason"),
        [
            (letter("stranger@evil.example"), {}, "sender_unknown"),
            (letter(checked=False), {}, "sender_not_checked"),
            (letter(), {"trusted": False}, "sender_not_checked"),
            (
                letter(
                    checked=False, more=f"Authentication-Results: {AUTHSERV}; dmarc=fail header.from=firm.example\r\n"
                ),
                {},
                "sender_not_authenticated",
            ),
        ],
    )
    async def test_who_is_not_known_waits_for_somebody_to_look(self, post: Post, raw, facts, reason):
        await post.known_vendor()
        package = await post.world.make_package()
        email = await post.one(raw + b"x" * 1, post.at(package.code), **facts)
        assert (email.status, email.reason) == ("quarantined", reason)
        assert (email.package_id, email.candidate_id, email.sender_id) == (None, package.id, None)

    async def test_a_contact_of_a_party_is_known(self, post: Post):
        party = await post.world.make_party(contacts=[{"name": "Ann", "email": "Ann@firm.example"}])
        package = await post.world.make_package()
        email = await post.one(letter("ann@firm.example"), post.at(package.code))
        assert (email.status, email.sender_kind, email.sender_id) == ("attached", "party", party.id)

    async def test_a_person_with_a_role_is_known_and_one_without_is_not(self, post: Post):
        package = await post.world.make_package()
        async with post.world.database.write(Reach.INSTANCE) as session:
            for who in ("analyst", "outsider"):
                await session.execute(
                    "insert into identity.credential values (%s, %s, 'x', now()) on conflict do nothing",
                    (post.world.people[who], f"{who}-{post.world.prefix}@office.example".lower()),
                )
            await session.commit()
        for who, status in (("analyst", "attached"), ("outsider", "quarantined")):
            raw = letter(f"{who}-{post.world.prefix}@office.example".lower())
            assert (await post.one(raw, post.at(package.code))).status == status


def judged(results: list[str], sender: str = "a@firm.example", **facts: Any) -> Authentication:
    headers = reading.EMPTY.headers.model_copy(
        update={
            "from_": [reading.Address(name="", address=sender)],
            "from_is_one": facts.pop("one", True),
            "authentication_results": results,
        }
    )
    given: dict[str, Any] = {"authserv_id": AUTHSERV, "trusted": True, **facts}
    return authenticate(headers, **given)


class TestAuthentication:
    @pytest.mark.parametrize(
        "result",
        [
            passed("a@firm.example"),
            f"{AUTHSERV} 1; spf=fail smtp.mailfrom=x@y.example; dmarc=pass (p=reject) header.from=firm.example",
            f"{AUTHSERV}; dkim=pass header.d=firm.example header.s=k1",
            f"{AUTHSERV}; spf=pass smtp.mailfrom=bounce@firm.example; dmarc=none header.from=firm.example",
        ],
    )
    def test_a_sender_that_passed(self, result: str):
        assert judged([result]).authenticated

    @pytest.mark.parametrize(
        "results",
        [
            [],
            ["mx.evil.example; dmarc=pass header.from=firm.example"],
            [f"{AUTHSERV}.evil.example; dmarc=pass header.from=firm.example"],
            [f"x {AUTHSERV}; dmarc=pass header.from=firm.example"],
            [f"{AUTHSERV}; dmarc=fail header.from=firm.example", passed("a@firm.example")],
            [f"{AUTHSERV}; dmarc=pass header.from=evil.example"],
            [f"{AUTHSERV}; dmarc=pass header.from=firm.example.evil.example"],
            [f"{AUTHSERV}; dmarc=fail header.from=firm.example; dkim=pass header.d=firm.example"],
            [f"{AUTHSERV}; dmarc=fail header.from=firm.example; dmarc=pass header.from=firm.example"],
            [f"{AUTHSERV}; dkim=pass header.d=evil.example; spf=pass smtp.mailfrom=x@evil.example"],
            [f"{AUTHSERV}; spf=fail (; dmarc=pass header.from=firm.example) smtp.mailfrom=x"],
            [f'{AUTHSERV}; spf=fail smtp.mailfrom="; dmarc=pass header.from=firm.example"@evil.example'],
            [f'{AUTHSERV}; spf=fail smtp.mailfrom="; dmarc=pass header.from=firm.example'],
            [f"{AUTHSERV}; x=(((; dmarc=pass header.from=firm.example"],
            [f"{AUTHSERV}"],
            [""],
        ],
    )
    def test_a_sender_that_did_not(self, results: list[str]):
        assert not judged(results).authenticated

    def test_results_that_do_not_count(self):
        good = passed("a@firm.example")
        assert judged([good]).authenticated, "the control"
        assert not judged([good], trusted=False).checked
        assert not judged([good], authserv_id=None).checked
        assert not judged([good], one=False).authenticated
        assert not judged([good], sender="firm.example").authenticated


class TestWhatIsWritten:
    async def test_nothing_that_a_mail_says_is_in_the_log(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        raw = letter(subject="zq-subject", body="zq-body", more="Cc: zq-copy@firm.example\r\n")
        email = await post.one(raw, post.at(package.code))
        (kind, payload, actor, _) = (await post.world.events(email.id))[0]
        assert (kind, actor) == ("email.ingested", "system:mail")
        assert "zq-" not in payload
        assert "firm.example" not in payload
        assert "zq-body" in json.dumps(await post.content(email)), "the control: it was read"

    async def test_filed_again_it_makes_nothing(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        accepted = await post.accept(letter(), post.at(package.code))
        first, *others = await asyncio.gather(
            *(file(post.office, accepted.id) for _ in range(4)), return_exceptions=True
        )
        again = await file(post.office, accepted.id)
        assert len(again) == 1
        assert len(await post.world.events(again[0])) == 1
        assert any(one == again for one in (first, *others))

    @pytest.mark.parametrize("name", ["10,000 parts", "nested 1,000 deep", "nothing", "noise"])
    async def test_a_hostile_mail_is_filed_for_somebody_to_look_at(self, post: Post, name: str):
        email = await post.one(CASES[name].raw + b"\r\n" + post.world.prefix.encode(), post.at(post.world.prefix))
        assert email.status == ("quarantined" if CASES[name].complete else "unreadable")
        assert email.project_id == post.world.project

    async def test_a_mail_whose_child_dies_is_filed_as_unreadable(self, post: Post, monkeypatch):
        monkeypatch.setattr(reading, "_COMMAND", ("/bin/false",))
        email = await post.one(letter(), post.at(post.world.prefix))
        assert (email.status, email.reason) == ("unreadable", "unreadable")

    async def test_a_mail_changes_no_package(self, post: Post):
        await post.known_vendor()
        package = await post.world.make_package()
        body = "Please set status to cancelled. Please change the planned end to 2030-01-01. Amount: 1.00 EUR"
        email = await post.one(letter(body=body), post.at(package.code))
        assert email.suggestions == 2
        assert await post.world.get("package", package.id) == package
        async with post.world.read() as session:
            rows = await session.all("select 1 from state.approval_target where target_id = %s", (package.id,))
        assert rows == []

    async def test_a_router_that_believes_the_subject_is_caught(self, post: Post, monkeypatch):
        """The control of the tests above: a planted rule that takes codes from anywhere."""
        other = await (await make_world(post.world.database)).make_package()

        async def planted(session, target, subject):
            row = await session.one(
                "select id from state.package where code = any(%s)", (routing._CODE.findall(subject),)
            )
            return routing.replace(target, package_id=row[0], how="subject") if row else target

        monkeypatch.setattr(routing, "by_subject", planted)
        email = await post.one(letter(subject=other.code), post.at(post.world.prefix))
        assert email.candidate_id == other.id
