"""Telling people: who is told, once, by row and by mail, with a real mail server."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import psycopg
import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from pmis.jobs.queue import enqueue
from pmis.jobs.relay import Relay
from pmis.jobs.runner import Runner
from pmis.jobs.topics import CONSUMERS
from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.kit.listing import page
from pmis.kit.storage import Storage
from pmis.ledger.event import Origin
from pmis.mail.intake import Delivery, accept
from pmis.notify import invitation, tasks, warning
from pmis.notify.letter import LISTED, Letter, compose, subject_of
from pmis.notify.spread import due_after, tell_of, tell_of_overdue, whom_it_waits_for
from pmis.notify.unsubscribing import unsubscribe_token, unsubscribed
from pmis.policy.levels import Level
from pmis.task.escalation import ACTOR, climb, ladder_at
from pmis.task.resource import RESOURCE as TASKS
from pmis.work import KINDS
from tests.api.expect import ok, problem
from tests.api.office import PASSWORD, open_office, settings_for
from tests.builders import SECRET, make_member
from tests.jobs import killing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from uuid import UUID

    from pmis.approval.models import Approval
    from tests.api.office import Office
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def office(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    async with open_office(make_database("notify")) as made:
        yield made


class Postbox:
    """A mail server that keeps what it is given."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.answer.startswith("250"):
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


@pytest.fixture
def postbox() -> Iterator[tuple[Postbox, int]]:
    box = Postbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


async def wait(office: Office, who: str = "analyst", label: str = "A bridge") -> Approval:
    """A proposal that waits for an administrator."""
    outcome = await office.a.propose(
        who, "package", "create", None, {"title": label}, reason="Because <b>now</b>", stated_impact=Level.HIGH
    )
    assert outcome.approval is not None
    return outcome.approval


async def tell(
    office: Office, approval: Approval, *, by_mail: bool = False, occasion: str = "0", escalated: bool = False
) -> int:
    async with office.database.write(Reach.INSTANCE) as session:
        row = await session.one("select doc from state.approval where id = %s", (approval.id,))
        now = type(approval).model_validate_json((row or ("",))[0])
        told = await tell_of(session, now, by_mail=by_mail, occasion=occasion, escalated=escalated)
        await session.commit()
    return told


async def told(office: Office, approval: Approval) -> dict[str, set[str]]:
    """Who was told what about it, by kind."""
    names = {identity: name for name, identity in office.a.people.items()}
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select doc::json->>'kind', person_id from notify.notification where doc::json->>'entity_id' = %s",
            (str(approval.id),),
        )
    found: dict[str, set[str]] = {}
    for kind, person in rows:
        found.setdefault(kind, set()).add(names.get(person, str(person)))
    return found


class TestWho:
    async def test_those_in_whose_inbox_it_stands_and_nobody_else(self, office: Office):
        approval = await wait(office)
        async with office.database.read(Reach.INSTANCE) as session:
            people = await whom_it_waits_for(session, approval, datetime.now(UTC))
        inboxes = {
            name
            for name in office.a.people
            if any(
                item["id"] == str(approval.id)
                for item in ok(await office.get(name, "/approvals?waiting_for=me&limit=200"))["items"]
            )
        }
        assert {name for name, identity in office.a.people.items() if identity in people} == inboxes
        assert "admin" in inboxes
        assert "analyst" not in inboxes

    async def test_a_waiting_one_is_told_once_to_each(self, office: Office):
        approval = await wait(office)
        first = await tell(office, approval)
        assert first >= 2
        assert await tell(office, approval) == 0
        people = (await told(office, approval))["approval.waiting"]
        assert len(people) == first
        assert {"admin", "admin2"} <= people

    async def test_a_reminder_is_told_again_and_once(self, office: Office):
        approval = await wait(office)
        first = await tell(office, approval)
        assert await tell(office, approval, occasion="1") == first
        assert await tell(office, approval, occasion="1") == 0
        assert await tell(office, approval, occasion="2") == first

    async def test_a_storm_of_escalations_is_one_mail_within_two_minutes_whatever_they_wished(self, office: Office):
        # Somebody who was told of nothing yet: what comes within two minutes goes into the mail that is due already.
        admin = office.person(await office.newcomer("admin"))
        stormy = [await wait(office) for _ in range(4)]
        async with office.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "insert into notify.preference (person_id, mail) values (%s, 'daily') "
                "on conflict (person_id) do update set mail = 'daily'",
                (admin,),
            )
            await session.commit()
        for approval in stormy:
            assert await tell(office, approval, by_mail=True, occasion="escalated:2", escalated=True) >= 2
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select dedup, due_at - created_at < interval '3 minutes' from jobs.job where kind = 'notify.mail'", ()
            )
        mails = [(dedup, soon) for dedup, soon in rows if str(admin) in dedup]
        assert 1 <= len(mails) <= 2, "two, when a minute began in between"
        assert all(soon for _, soon in mails)
        async with office.database.read(Reach.INSTANCE) as session:
            found = await session.all(
                "select doc::json ->> 'urgent' from notify.notification where person_id = %s and about = any(%s)",
                (admin, [one.id for one in stormy]),
            )
        assert [urgent for (urgent,) in found] == ["true"] * 4
        assert await tell(office, stormy[0], occasion="0") >= 2
        async with office.database.read(Reach.INSTANCE) as session:
            found = await session.all(
                "select doc::json ->> 'urgent' from notify.notification where person_id = %s and about = %s "
                "order by id",
                (admin, stormy[0].id),
            )
        assert [urgent for (urgent,) in found] == ["true", "false"], "what is said later of it is not urgent any more"

    async def test_a_borrowed_seat_is_told_too(self, office: Office):
        taker = await office.newcomer("operator")
        office.a.people[taker] = office.person(taker)
        now = datetime.now(UTC)
        await office.a.do(
            "delegation",
            "create",
            None,
            {
                "to_person": str(office.person(taker)),
                "starts_at": (now - timedelta(hours=1)).isoformat(),
                "ends_at": (now + timedelta(days=1)).isoformat(),
            },
            who="admin",
        )
        approval = await wait(office)
        await tell(office, approval)
        assert taker in (await told(office, approval))["approval.waiting"]

    async def test_a_disabled_person_is_not(self, office: Office):
        gone = office.person(await office.newcomer("admin"))
        approval = await wait(office)
        async with office.database.read(Reach.INSTANCE) as session:
            assert gone in await whom_it_waits_for(session, approval, datetime.now(UTC))
        with psycopg.connect(office.test_database.admin_dsn) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("update state.person set active = false where id = %s", (gone,))
        async with office.database.read(Reach.INSTANCE) as session:
            assert gone not in await whom_it_waits_for(session, approval, datetime.now(UTC))

    async def test_its_proposer_is_told_the_end_and_the_waiting_ones_are_settled(self, office: Office):
        approval = await wait(office)
        await tell(office, approval)
        await office.a.say("admin", approval, "reject", reason="Too dear")
        assert await tell(office, approval) == 1
        assert (await told(office, approval))["approval.rejected"] == {"analyst"}
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select read_at is null from notify.notification where about = %s "
                "and doc::json->>'kind' = 'approval.waiting'",
                (approval.id,),
            )
        assert rows
        assert {unread for (unread,) in rows} == {False}

    async def test_who_ended_it_themselves_is_not_told(self, office: Office):
        approval = await wait(office)
        await tell(office, approval)
        await office.a.withdraw("analyst", approval)
        assert await tell(office, approval) == 0


_NOW = "update jobs.job set due_at = clock_timestamp() where status in ('queued', 'waiting')"


class Killed:
    """What hands a mail over to the mail server, and the first time it has, the process is killed."""

    def __init__(self, works: Works, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.times = 0
        self._works = works
        self._original = module.hand_over
        monkeypatch.setattr(works, "attempt", self._attempt)
        monkeypatch.setattr(module, "hand_over", self._dies)

    async def _dies(self, *arguments: Any) -> None:
        await self._original(*arguments)
        if not self.times:
            killing.kill()

    def _attempt(self, _: Runner, job: UUID) -> str:
        outcome = killing.attempt_now(self._works.settings, KINDS, job)
        if outcome == "killed":
            self.times += 1
            assert killing.sweep(self._works.office.test_database, job) == "running"
        return outcome


class Works:
    """The relay's and the worker's part, as they do it, on the office's database."""

    def __init__(self, office: Office, port: int | None) -> None:
        more = {"smtp_server": "127.0.0.1", "smtp_port": port, "smtp_security": "none"} if port else {}
        database = office.test_database
        self.office = office
        self.settings = settings_for(
            database,
            database_worker_url=SecretStr(database.worker_dsn),
            public_url="https://pmis.example.org/",
            mail_from="PMIS <pmis@example.org>",
            job_retry_seconds="60,60,60",
            **more,
        )

    def attempt(self, runner: Runner, job: UUID) -> str:
        """What came of it, in this process."""
        return runner.run(job)

    async def pump(self, *, hurry: bool = True) -> list[str]:
        """Do everything that is to do, the mails of later too; what came of each job."""
        return await anyio.to_thread.run_sync(self._pump, hurry)

    def _pump(self, hurry: bool) -> list[str]:
        told: list[UUID] = []
        relay = Relay(lambda jobs: told.extend(job.id for job in jobs), again_seconds=600, max_attempts=4)
        outcomes: list[str] = []
        runner = Runner(self.settings, KINDS)
        try:
            with (
                psycopg.connect(self.office.test_database.relay_dsn, autocommit=True) as connection,
                psycopg.connect(self.office.test_database.admin_dsn, autocommit=True) as admin,
            ):
                for _ in range(20):
                    if hurry:
                        admin.execute(
                            "update jobs.job set due_at = clock_timestamp() where status in ('queued', 'waiting')"
                        )
                    relay.step(connection)
                    if not told:
                        break
                    outcomes += [self.attempt(runner, told.pop(0)) for _ in range(len(told))]
        finally:
            runner.close()
        return outcomes


@pytest.fixture
async def works(office: Office, postbox: tuple[Postbox, int]) -> Works:
    """With a mail server, and nothing left to do from before."""
    made = Works(office, postbox[1])
    await made.pump()
    postbox[0].mails.clear()
    return made


async def addressed(office: Office, *roles: str) -> tuple[str, str]:
    """A member who can be mailed: name and address."""
    address = f"n{uuid7().hex}@example.org"
    name = f"Somebody {address[20:33]}"
    office.people[name] = await office.sign_up(name, address)
    async with office.database.write(Reach.INSTANCE) as session:
        await make_member(session, office.vault, office.a.project, office.people[name], *roles)
        await session.commit()
    office.a.people[name] = office.people[name]
    return name, address


def to(box: Postbox, address: str) -> list[Any]:
    return [mail for mail in box.mails if mail["To"].addresses[0].addr_spec == address]


class TestMail:
    async def test_from_the_proposal_to_the_mail(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        name, address = await addressed(office, "admin")
        approval = await wait(office, label="A bridge over <troubled> water")
        assert set(await works.pump()) == {"done"}
        (mail,) = to(postbox[0], address)
        assert mail["Subject"].endswith("waits for you")
        assert "A bridge over <troubled> water" in mail["Subject"]
        assert mail["From"] == "PMIS <pmis@example.org>"
        assert mail["Auto-Submitted"] == "auto-generated"
        plain = mail.get_body(("plain",)).get_content()
        html = mail.get_body(("html",)).get_content()
        link = f"https://pmis.example.org/approvals/{approval.id}"
        assert link in plain
        assert link in html
        assert "Because <b>now</b>" in plain
        assert "Because &lt;b&gt;now&lt;/b&gt;" in html
        assert "&lt;troubled&gt;" in html
        assert name in plain
        # Nothing that a link in it could do: they only read, and the one address that does something ends mails.
        assert "approve" not in re.sub(r"/approvals/", "", plain + html)
        assert await works.pump() == [], "and it is not told again"

    async def test_an_answer_comes_to_the_package_it_is_about(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        """By the address it is sent to, and by the message it answers, whatever its subject says."""
        works.settings = works.settings.model_copy(update={"mail_domain": "mail.test", "mail_authserv_id": "mx.test"})
        _, address = await addressed(office, "admin")
        package, other = await office.a.make_package("submitted"), await office.a.make_package()
        await office.a.propose("analyst", "package", "patch", package.id, {"title": "Another title"})
        await works.pump()
        (mail,) = to(postbox[0], address)
        storage = Storage.of(works.settings)
        for recipient in (mail["Reply-To"].addresses[0].addr_spec, "inbox@mail.test"):
            raw = (
                f"Authentication-Results: mx.test; dmarc=pass header.from=example.org\r\nFrom: <{address}>\r\n"
                f"To: <{recipient}>\r\nSubject: {other.code}\r\nIn-Reply-To: {mail['Message-ID']}\r\n\r\nYes.\r\n"
            ).encode()
            delivery = Delivery("smtp", raw, (recipient,), trusted=True)
            await accept(office.database, storage, delivery, max_bytes=works.settings.mail_max_bytes)
        assert await works.pump() == ["done"] * 2
        async with office.database.read(Reach.INSTANCE) as session:
            found = await session.all("select package_id, status from state.email where package_id is not null")
        assert found == [(package.id, "attached")] * 2

    @pytest.mark.parametrize("packages", [2, 0])
    async def test_what_is_about_several_packages_or_none_has_no_such_address(
        self, packages: int, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        works.settings = works.settings.model_copy(update={"mail_domain": "mail.test"})
        _, address = await addressed(office, "admin")
        for _ in range(packages):
            package = await office.a.make_package("submitted")
            await office.a.propose("analyst", "package", "patch", package.id, {"title": "Another title"})
        if not packages:
            await wait(office)
        await works.pump()
        assert [mail["Reply-To"] for mail in to(postbox[0], address)] == [None]

    async def test_many_things_are_one_mail(
        self, office: Office, works: Works, postbox: tuple[Postbox, int], monkeypatch: pytest.MonkeyPatch
    ):
        """Which reads no more of them than it lists."""
        letters: list[Letter] = []

        def composed(letter: Letter, *more: Any) -> Any:
            letters.append(letter)
            return compose(letter, *more)

        monkeypatch.setattr(tasks, "compose", composed)
        name, address = await addressed(office, "admin")
        ok(await office.patch(name, "/notifications/preferences", {"mail": "daily"}))
        for number in range(LISTED + 3):
            await wait(office, label=f"Bridge {number}")
        await works.pump(hurry=False)
        assert to(postbox[0], address) == [], "not before its time"
        await works.pump()
        (mail,) = to(postbox[0], address)
        assert mail["Subject"] == f"{LISTED + 3} approvals wait for you"
        plain = mail.get_body(("plain",)).get_content()
        assert plain.count("/approvals/") == LISTED
        assert "... and 3 more" in plain
        assert [len(one.items) for one in letters if one.address == address] == [LISTED]

    async def test_what_was_read_is_not_mailed(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        name, address = await addressed(office, "admin")
        await wait(office)
        await works.pump(hurry=False)
        assert ok(await office.post(name, "/notifications/read", {}))["marked"] == 1
        await works.pump()
        assert to(postbox[0], address) == []

    async def test_who_may_not_see_it_any_more_is_not_told(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        name, address = await addressed(office, "admin")
        await wait(office)
        await works.pump(hurry=False)
        with psycopg.connect(office.test_database.admin_dsn) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("update state.membership set roles = '{}' where person_id = %s", (office.person(name),))
        await works.pump()
        assert to(postbox[0], address) == []
        office.parts.principals.forget()
        assert ok(await office.get(name, "/notifications"))["items"] == []

    async def test_a_server_that_is_busy_is_tried_again_with_the_same_mail(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        box = postbox[0]
        name, address = await addressed(office, "admin")
        await wait(office)
        box.answer = "451 Later"
        await works.pump(hurry=False)
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute("update jobs.job set due_at = clock_timestamp() where status = 'queued'")
        assert "waiting" in await works.pump(hurry=False)
        # Something new meanwhile is another mail's, that of another time: this one stays what it is.
        now = datetime.now(UTC)
        times = (now, now + timedelta(minutes=2))
        wish = next(
            one for one in ("at_once", "daily") if all(due_after(t, one) != due_after(t, "hourly") for t in times)
        )
        ok(await office.patch(name, "/notifications/preferences", {"mail": wish}))
        other = await wait(office, label="Another bridge")
        box.answer = "250 OK"
        await works.pump()
        first, second = to(box, address)
        assert first["Message-ID"] != second["Message-ID"]
        assert str(other.id) not in first.get_body(("plain",)).get_content()
        assert str(other.id) in second.get_body(("plain",)).get_content()

    async def test_a_mail_that_was_sent_and_not_noted_is_the_same_mail_again(
        self, office: Office, works: Works, postbox: tuple[Postbox, int], monkeypatch: pytest.MonkeyPatch
    ):
        """Killed between the mail server's yes and the commit."""
        box = postbox[0]
        _, address = await addressed(office, "admin")
        await wait(office)
        killed = Killed(works, monkeypatch, tasks)
        assert "killed" in await works.pump()
        assert killed.times == 1
        twice = [mail for mail in box.mails if mail["Message-ID"] == box.mails[0]["Message-ID"]]
        assert len(twice) == 2, "at least once, and to be known again"
        assert twice[0]["Date"] == twice[1]["Date"]
        assert len({mail["Message-ID"] for mail in to(box, address)}) == 1

    async def test_an_address_that_is_refused_for_good_is_a_dead_letter(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        await addressed(office, "admin")
        await wait(office)
        postbox[0].answer = "550 No such person"
        assert "dead" in await works.pump()
        postbox[0].answer = "250 OK"
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            errors = connection.execute("select error::json->>'message' from jobs.job where status = 'dead'").fetchall()
        assert any("for good (code 550)" in error for (error,) in errors)

    async def test_without_a_mail_server_nothing_is_mailed_and_everything_is_told(self, office: Office):
        works = Works(office, None)
        await works.pump()
        approval = await wait(office)
        assert await works.pump() == ["done"]
        assert "admin" in (await told(office, approval))["approval.waiting"]

    async def test_a_server_that_is_away_is_tried_again(self, office: Office):
        works = Works(office, 1)
        await addressed(office, "admin")
        await wait(office)
        assert "waiting" in await works.pump()

    async def test_every_topic_that_is_promised_has_somebody_who_listens(self, office: Office):
        approval = await wait(office)
        await office.a.say("admin", approval, "approve")
        async with office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select topic from ledger.outbox where payload::json->>'approval_id' = %s", (str(approval.id),)
            )
        topics = {topic for (topic,) in rows}
        assert topics >= {"approval.requested", "approval.applied"}
        assert topics <= set(CONSUMERS)


class TestPreferences:
    async def test_they_are_ones_own_and_kept(self, office: Office):
        name = await office.newcomer()
        assert ok(await office.get(name, "/notifications/preferences")) == {"mail": "hourly"}
        for wish in ("daily", "never", "at_once"):
            assert ok(await office.patch(name, "/notifications/preferences", {"mail": wish})) == {"mail": wish}
            assert ok(await office.get(name, "/notifications/preferences")) == {"mail": wish}
        assert ok(await office.get("analyst", "/notifications/preferences")) == {"mail": "hourly"}

    async def test_who_wants_none_gets_none(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        name, address = await addressed(office, "admin")
        ok(await office.patch(name, "/notifications/preferences", {"mail": "never"}))
        await wait(office)
        await works.pump()
        assert to(postbox[0], address) == []

    async def test_a_link_in_the_mail_ends_them_without_signing_in(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        name, address = await addressed(office, "admin")
        await wait(office)
        await works.pump()
        (mail,) = to(postbox[0], address)
        link = mail["List-Unsubscribe"].strip("<>")
        path = link.removeprefix("https://pmis.example.org/api/v1")
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        problem(await office.call(None, "GET", path), 405)
        answer = await office.call(
            None,
            "POST",
            path,
            content=b"List-Unsubscribe=One-Click",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert ok(answer) == {"mail": "never"}
        assert ok(await office.get(name, "/notifications/preferences")) == {"mail": "never"}

    @pytest.mark.parametrize("token", ["", "x", "0" * 32, f"{'0' * 32}.{'0' * 40}", "ü", "a.b.c"])
    async def test_and_no_other_link_does(self, office: Office, token: str):
        problem(await office.call(None, "POST", f"/notifications/unsubscribe?token={token}"), 404, "not_found")

    def test_a_token_is_one_persons(self):
        one, other = uuid7(), uuid7()
        token = unsubscribe_token(SECRET, one)
        assert unsubscribed(SECRET, token) == one
        assert unsubscribed(SECRET, token.replace(one.hex, other.hex)) is None
        assert unsubscribed(SECRET[::-1], token) is None


class TestList:
    async def test_pages_of_ones_own_the_newest_first(self, office: Office):
        name, _ = await addressed(office, "admin")
        approvals = [await wait(office, label=f"Page {number}") for number in range(5)]
        for approval in approvals:
            await tell(office, approval)
        seen: list[str] = []
        path = "/notifications?limit=2"
        while path:
            answer = await office.get(name, path)
            page = ok(answer)
            seen += [item["entity_id"] for item in page["items"]]
            path = f"/notifications?limit=2&cursor={page['next']}" if page["next"] else ""
        assert seen == [str(approval.id) for approval in reversed(approvals)]
        first = ok(await office.get(name, "/notifications?limit=1"))["items"][0]
        assert (first["kind"], first["label"], first["urgent"]) == ("approval.waiting", approvals[-1].label, False)
        assert first["doc"]["from"].startswith("Analyst")

    async def test_reading_up_to_one_leaves_the_newer_and_a_retry_answers_the_same(self, office: Office):
        name, _ = await addressed(office, "admin")
        for number in range(3):
            await tell(office, await wait(office, label=f"Read {number}"))
        items = ok(await office.get(name, "/notifications"))["items"]
        key = {"Idempotency-Key": uuid7().hex}
        for _ in range(2):
            answer = await office.post(name, "/notifications/read", {"up_to": items[1]["id"]}, headers=key)
            assert ok(answer) == {"marked": 2}
        unread = ok(await office.get(name, "/notifications?unread=true"))["items"]
        assert [item["id"] for item in unread] == [items[0]["id"]]

    @pytest.mark.parametrize("query", ["unread=1", "unread=", "limit=0", "cursor=x", "cursor=WyItaWQiLCJ4Il0", "foo=1"])
    async def test_what_it_does_not_know_it_refuses(self, office: Office, query: str):
        problem(await office.get("analyst", f"/notifications?{query}"), 422, "invalid_input")


class TestWhen:
    NOW = datetime(2026, 11, 22, 14, 7, 20, 5, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("mail", "now", "due"),
        [
            ("at_once", NOW, NOW.replace(minute=8, second=0, microsecond=0)),
            ("at_once", NOW.replace(second=50), NOW.replace(minute=9, second=0, microsecond=0)),
            ("hourly", NOW, NOW.replace(hour=15, minute=0, second=0, microsecond=0)),
            ("hourly", NOW.replace(hour=23), datetime(2026, 11, 23, tzinfo=UTC)),
            ("daily", NOW, datetime(2026, 11, 23, 6, tzinfo=UTC)),
            ("daily", NOW.replace(hour=5), datetime(2026, 11, 22, 6, tzinfo=UTC)),
            ("daily", datetime(2026, 11, 22, 6, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC)),
        ],
    )
    def test_the_next_slot_is_always_later(self, mail: Any, now: datetime, due: datetime):
        assert due_after(now, mail) == due
        assert due > now

    def test_subjects(self):
        waiting = {"kind": "approval.waiting", "label": "P-1\r\nBcc: x", "urgent": False}
        ended = {"kind": "approval.rejected", "label": "P-2", "urgent": False}
        assert subject(waiting) == "P-1 Bcc: x waits for you"
        assert subject({**waiting, "urgent": True}) == "Urgent: P-1 Bcc: x waits for you"
        assert subject(ended) == "P-2: rejected"
        assert subject(ended, ended) == "2 of your proposals were dealt with"
        assert subject(waiting, ended) == "1 approval waits for you, and 1 more"
        assert subject(waiting, waiting) == "2 approvals wait for you"


def subject(*items: dict[str, Any]) -> str:
    return subject_of(items[0], Counter(item["kind"] for item in items))


async def climb_to(office: Office, day: date, *, people: tuple[str, str], due: date, **fields: Any) -> Any:
    """An overdue task of the first one, of a package of the second one; and the ladder of that day."""
    owner, lead = (str(office.people[name]) for name in people)
    package = await office.a.make_package(owner_id=lead)
    task = await office.a.make_task(package.id, assignee_id=owner, due_date=due.isoformat(), **fields)
    await walk(office, day)
    return task


async def walk(office: Office, day: date) -> None:
    async with office.database.write(Reach.INSTANCE) as session:
        slot = {"slot": f"{day}T00:00:00Z"}
        enqueue(session, "tasks.check_overdue", slot, dedup=None, correlation_id="test")
        await session.commit()


async def told_of_task(office: Office, task: UUID) -> list[tuple[Any, ...]]:
    names = {identity: name for name, identity in office.people.items()}
    async with office.database.read(Reach.INSTANCE) as session:
        rows = await session.all(
            "select person_id, doc::json ->> 'rung', read_at is null from notify.notification where about = %s "
            "order by id",
            (task,),
        )
    return [(names[person], rung, unread) for person, rung, unread in rows]


class TestOverdue:
    async def test_who_is_on_the_rung_is_told_once(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        """Twice by the same promise, as a worker does that is killed between effect and end."""
        (owner, address), (lead, _) = await addressed(office, "operator"), await addressed(office, "analyst")
        task = await climb_to(
            office, date(2025, 3, 4), people=(owner, lead), due=date(2025, 3, 3), title="Survey <the> site"
        )
        assert set(await works.pump()) == {"done"}
        assert await told_of_task(office, task.id) == [(owner, "owner", True)]
        (mail,) = to(postbox[0], address)
        assert mail["Subject"] == "Survey <the> site: overdue"
        assert f"https://pmis.example.org/tasks/{task.id}" in mail.get_body(("plain",)).get_content()
        html = mail.get_body(("html",)).get_content()
        assert "<strong>Survey &lt;the&gt; site</strong></a>" in html
        assert "overdue since 2025-03-03; you are told as its owner." in html
        async with office.database.write(Reach.INSTANCE) as session:
            rows = await session.all("select id from ledger.event where type = 'task.escalated'")
            again = await tell_of_overdue(session, [row[0] for row in rows], by_mail=True, correlation_id="test")
            await session.commit()
        assert again == 0
        items = ok(await office.get(owner, "/notifications"))["items"]
        assert [(item["kind"], item["label"], item["doc"]["rung"]) for item in items] == [
            ("task.overdue", "Survey <the> site", "owner")
        ]

    async def test_a_task_that_is_done_meanwhile_is_neither_told_nor_mailed(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        (owner, address), (lead, second) = await addressed(office, "operator"), await addressed(office, "analyst")
        task = await climb_to(office, date(2025, 4, 2), people=(owner, lead), due=date(2025, 4, 1))
        assert set(await works.pump(hurry=False)) == {"done"}
        assert await told_of_task(office, task.id) == [(owner, "owner", True)]
        await walk(office, date(2025, 4, 3))
        async with office.database.read(Reach.INSTANCE) as session:
            ladder = await ladder_at(session, datetime(2025, 4, 3, tzinfo=UTC))
        async with office.database.write(Reach.INSTANCE) as session:
            assert await climb(session, ladder, [task.id], origin=Origin(ACTOR, "job", "test")) == 1
            await session.commit()
        await office.a.do("task", "transition", task.id, {"status": "cancelled"}, reason="Not needed.")
        assert set(await works.pump()) == {"done"}
        assert await told_of_task(office, task.id) == [(owner, "owner", False)], "settled, and the lead never told"
        assert to(postbox[0], address) == to(postbox[0], second) == []

    async def test_of_a_task_that_is_done_nothing_stays_unread_where_nobody_is_mailed(self, office: Office):
        works = Works(office, None)
        (owner, _), (lead, _) = await addressed(office, "operator"), await addressed(office, "analyst")
        due = date(2025, 6, 3)
        done = await climb_to(office, date(2025, 6, 4), people=(owner, lead), due=due)
        late = await office.a.make_task(
            done.package_id, assignee_id=str(office.people[owner]), due_date=due.isoformat()
        )
        await works.pump()
        await office.a.do("task", "transition", done.id, {"status": "cancelled"}, reason="Not needed.")
        assert await told_of_task(office, done.id) == [(owner, "owner", True)]
        async with office.database.write(Reach.INSTANCE) as session:
            enqueue(session, "notify.prune", {"slot": "2025-06-05T00:00:00Z"}, dedup=None, correlation_id="test")
            await session.commit()
        await works.pump()
        assert await told_of_task(office, done.id) == [(owner, "owner", False)]
        assert await told_of_task(office, late.id) == [(owner, "owner", True)]

    def test_the_subject_counts_them(self):
        late: dict[str, Any] = {"kind": "task.overdue", "urgent": False, "label": "A task"}
        ended: dict[str, Any] = {"kind": "approval.applied", "urgent": False, "label": "A package"}
        assert subject(late, late) == "2 tasks are overdue"
        assert subject(late, ended) == "1 task is overdue, and 1 more"
        assert subject(late, late, ended) == "2 tasks are overdue, and 1 more"


class TestOverdueLists:
    async def test_what_is_overdue_and_how_far_it_has_climbed(self, office: Office, works: Works):
        package = await office.a.make_package(owner_id=str(office.a.people["analyst"]))
        today = datetime.now(UTC).date()
        yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=2)
        made = {
            name: (await office.a.make_task(package.id, title=name, **fields)).id
            for name, fields in {
                "late": {"due_date": yesterday.isoformat()},
                "early": {"due_date": tomorrow.isoformat()},
                "never": {},
                "done": {"due_date": yesterday.isoformat()},
            }.items()
        }
        await office.a.do("task", "transition", made["done"], {"status": "cancelled"}, reason="Not needed.")

        async def listed(query: str) -> set[str]:
            found = ok(await office.get("viewer", f"/tasks?package_id={package.id}&{query}"))["items"]
            return {item["title"] for item in found}

        assert await listed("overdue=true") == {"late"}
        assert await listed("overdue=false") == {"early", "never", "done"}
        assert await listed("overdue=true&sort=due_date") == {"late"}

        async def then(overdue: str) -> set[str]:
            """The same, as the clock of the instance may say that it is another day."""
            async with office.parts.database.read(Reach.INSTANCE) as session:
                found = await page(
                    session,
                    TASKS.listing,
                    projects=[office.a.project],
                    filters={"overdue": overdue, "package_id": str(package.id)},
                    sort="due_date" if overdue == "true" else None,
                    cursor=None,
                    limit=10,
                    now=datetime.now(UTC) + timedelta(days=10),
                )
            return {json.loads(doc)["title"] for doc in found.docs}

        assert await then("true") == {"late", "early"}
        assert await then("false") == {"never", "done"}
        monday = date(2025, 5, 5)
        task = await office.a.make_task(package.id, title="old", due_date=monday.isoformat())
        assert await listed("escalated=owner,lead") == set()
        await walk(office, monday + timedelta(days=1))
        await works.pump()
        assert "old" in await listed("escalated=owner,lead")
        assert await listed("escalated=sponsor") == set()
        for wrong in ("overdue=yes", "escalated=chief", "escalated=,"):
            problem(await office.get("viewer", f"/tasks?{wrong}"), 422, "invalid_input")
        events = ok(await office.get("viewer", f"/tasks/{task.id}/timeline"))["items"]
        assert "task.escalated" in {event["type"] for event in events}


class TestWarning:
    """C8: whoever shows a used refresh token ends the session, and its person is told, whatever mails they want."""

    async def reuse(self, office: Office) -> tuple[str, str, str]:
        """Somebody whose refresh token somebody else shows again: their name, address and session."""
        name, address = await addressed(office, "viewer")
        ok(await office.patch(name, "/notifications/preferences", {"mail": "never"}))
        said = {"email": address, "password": PASSWORD}
        begun = ok(await office.post(None, "/auth/login", said, headers={"User-Agent": "Their laptop"}))
        again = {"refresh_token": begun["refresh_token"]}
        ok(await office.post(None, "/auth/refresh", again, headers={"User-Agent": "Their laptop"}))
        thief = await office.post(None, "/auth/refresh", again, headers={"User-Agent": "Somebody else"})
        problem(thief, 401, "refresh_reused")
        return name, address, begun["session_id"]

    async def test_its_person_is_warned_at_once(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        name, address, session_id = await self.reuse(office)
        await works.pump(hurry=False)
        (mail,) = to(postbox[0], address)
        assert mail["Subject"] == "One of your sign-ins was ended"
        text = mail.get_content()
        assert "(Their laptop)" in text
        assert "pmisr_" not in text
        assert mail["Auto-Submitted"] == "auto-generated"
        (item,) = ok(await office.get(name, "/notifications"))["items"]
        assert (item["kind"], item["entity_id"], item["urgent"]) == ("session.refresh_reused", session_id, True)
        assert item["mailed_at"] is not None
        assert await works.pump() == [], "and no digest tells it again"

    async def test_warned_again_it_is_the_same_warning(
        self, office: Office, works: Works, postbox: tuple[Postbox, int], monkeypatch: pytest.MonkeyPatch
    ):
        """Killed between the mail server's yes and the commit; a second job finds it done."""
        killed = Killed(works, monkeypatch, warning)
        _, address, session_id = await self.reuse(office)
        await works.pump()
        assert killed.times == 1
        first, second = to(postbox[0], address)
        assert first["Message-ID"] == second["Message-ID"]
        async with office.database.write(Reach.INSTANCE) as session:
            row = await session.one("select person_id from identity.session where id = %s", (session_id,))
            assert row is not None
            payload = {"person_id": str(row[0]), "session_id": session_id}
            enqueue(session, "notify.refresh_reused", payload, dedup=None, correlation_id="test")
            await session.commit()
        assert await works.pump() == ["done"]
        assert len(to(postbox[0], address)) == 2

    async def test_without_a_mail_server_it_is_told_in_pmis(self, office: Office):
        works = Works(office, None)
        await works.pump()
        name, *_ = await self.reuse(office)
        assert await works.pump() == ["done"]
        (item,) = ok(await office.get(name, "/notifications"))["items"]
        assert (item["kind"], item["mailed_at"]) == ("session.refresh_reused", None)


async def invited(office: Office, *, name: str = "Nia <New>") -> tuple[str, str]:
    """An invitation that was agreed, as an auditor of the instance: its id, and the address."""
    address = f"n{uuid7().hex}@example.org"
    said = {"email": address, "name": name, "instance_auditor": True}
    made = ok(await office.post("root", "/invitations", said), 202)
    approval = made["proposals"][0]["approval"]
    way = "confirm" if approval["status"] == "confirmation_required" else "approve"
    assert way == "confirm"
    ok(await office.post("root", f"/approvals/{approval['id']}/confirm", {}))
    return made["id"], address


def link_of(mail: Any) -> str:
    plain = mail.get_body(("plain",)).get_content()
    found = re.search(r"https://pmis\.example\.org/invitation#(pmisi_\S+)", plain)
    assert found is not None, plain
    assert found[0] in mail.get_body(("html",)).get_content()
    return found[1]


async def accepted(office: Office, token: str) -> Any:
    return await office.post(None, "/invitations/accept", {"token": token, "password": PASSWORD})


class TestInvitation:
    async def test_the_link_in_the_mail_is_the_way_in(self, office: Office, works: Works, postbox: tuple[Postbox, int]):
        _, address = await invited(office)
        assert set(await works.pump()) == {"done"}
        (mail,) = to(postbox[0], address)
        assert mail["Subject"].endswith("invites you to PMIS")
        assert mail["Auto-Submitted"] == "auto-generated"
        assert "Nia <New>" in mail.get_body(("plain",)).get_content()
        html = mail.get_body(("html",)).get_content()
        assert "Nia &lt;New&gt;" in html
        assert "an auditor of the instance" in html
        assert ok(await accepted(office, link_of(mail)), 201)["email"] == address
        assert await works.pump() == []

    async def test_an_invitation_that_is_mailed_again_is_the_same_mail(
        self, office: Office, works: Works, postbox: tuple[Postbox, int], monkeypatch: pytest.MonkeyPatch
    ):
        """Killed between the mail server's yes and the commit."""
        original, died = invitation.hand_over, []

        async def dies(*arguments: Any) -> None:
            await original(*arguments)
            if not died:
                died.append(1)
                raise RuntimeError("killed")

        monkeypatch.setattr(invitation, "hand_over", dies)
        _, address = await invited(office)
        await works.pump()
        first, second = to(postbox[0], address)
        assert first["Message-ID"] == second["Message-ID"]
        assert link_of(first) == link_of(second)
        ok(await accepted(office, link_of(first)), 201)

    async def test_sent_again_the_link_before_is_void(
        self, office: Office, works: Works, postbox: tuple[Postbox, int], monkeypatch: pytest.MonkeyPatch
    ):
        # As where mail goes out: the link is in no answer.
        monkeypatch.setattr(office.parts, "settings", works.settings)
        identity, address = await invited(office)
        await works.pump()
        answer = ok(await office.post("root", f"/invitations/{identity}/resend", {}))
        assert (answer["mailed"], answer["link"], answer["sent"]) == (True, None, 2)
        await works.pump()
        first, second = to(postbox[0], address)
        assert first["Message-ID"] != second["Message-ID"]
        problem(await accepted(office, link_of(first)), 401, "invitation_not_good")
        ok(await accepted(office, link_of(second)), 201)

    async def test_only_the_last_of_several_is_mailed_and_none_that_is_over(
        self, office: Office, works: Works, postbox: tuple[Postbox, int]
    ):
        identity, address = await invited(office)
        gone, other = await invited(office)
        ok(await office.post("root", f"/invitations/{identity}/resend", {}))
        ok(await office.post("root", f"/invitations/{gone}/revoke", {}))
        assert set(await works.pump()) == {"done"}
        (mail,) = to(postbox[0], address)
        assert to(postbox[0], other) == []
        ok(await accepted(office, link_of(mail)), 201)

    async def test_without_a_mail_server_nothing_is_mailed(self, office: Office):
        works = Works(office, None)
        await works.pump()
        await invited(office)
        assert set(await works.pump()) == {"done"}

    async def test_of_none_that_there_is_the_job_is_given_up(self, office: Office, works: Works):
        async with office.database.write(Reach.INSTANCE) as session:
            payload = {"invitation_id": str(uuid7()), "serial": 1}
            enqueue(session, "notify.invitation", payload, dedup=None, correlation_id="test")
            await session.commit()
        assert await works.pump() == ["dead"]
