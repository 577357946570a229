"""Outgoing webhooks, to a real receiver by HTTPS: told of each event once and for all, and of nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pydantic import SecretStr

from pmis.jobs.registry import Kind, Payload, Work
from pmis.jobs.runner import Runner
from pmis.kit import egress, signing
from pmis.kit.db import Reach
from pmis.kit.egress import Egress
from pmis.kit.ids import uuid7
from pmis.kit.signing import SignatureError
from pmis.notify import deliveries
from pmis.work import KINDS
from tests.api.expect import ok, problem
from tests.api.office import make_token, open_office, settings_for
from tests.jobs import killing
from tests.kit.inside import NAME, recording, resolving, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from pmis.kit.settings import Settings
    from pmis.notify.webhooks import Because
    from tests.api.office import Office
    from tests.conftest import TestDatabase
    from tests.kit.inside import Inside

pytestmark = pytest.mark.anyio
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "webhooks.md"


def answering(status: str, more: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


OK = answering("204 No Content")
DOWN = answering("503 Service Unavailable")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def office(make_database: Callable[[str], TestDatabase]) -> AsyncIterator[Office]:
    async with open_office(make_database("hooks")) as made:
        yield made


@dataclass
class Desk:
    """An office whose webhooks may lead to a receiver on this machine, and a worker that does what is due."""

    office: Office
    receiver: Inside
    settings: Settings

    @property
    def url(self) -> str:
        """Another address of the receiver each time."""
        return f"https://127.0.0.1:{self.receiver.port}/{secrets.token_hex(4)}"

    async def hook(self, who: str = "admin", *types: str, project: str | None = "own", **said: Any) -> Any:
        body: dict[str, Any] = {"url": self.url, "types": list(types) or ["package.*"], **said}
        if project is not None:
            body["project"] = self.office.world(who).prefix if project == "own" else project
        return ok(await self.office.post(who, "/webhooks", body), 201)

    async def read(self, hook: Any, who: str = "admin") -> Any:
        return ok(await self.office.get(who, f"/webhooks/{hook['id']}"))

    async def told(self, hook: Any, who: str = "admin", **query: str) -> list[Any]:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return ok(await self.office.get(who, f"/webhooks/{hook['id']}/deliveries?limit=200{more}"))["items"]

    async def attempt(self, identity: UUID | str, kinds: Any = KINDS, **settings: Any) -> str:
        """One attempt at a job, as a process of a worker makes it."""
        self.force("update jobs.job set due_at = now() where id = %s and status = 'waiting'", identity)
        update = {"database_worker_url": SecretStr(self.office.test_database.worker_dsn), **settings}
        runner = Runner(self.settings.model_copy(update=update), kinds, own_loop=False)
        await runner.tools.database.open()
        try:
            return await runner.attempt(identity)  # type: ignore[arg-type]
        finally:
            await runner.tools.database.close()

    async def work(self, hook: Any, who: str = "admin", **settings: Any) -> list[str]:
        """One attempt at everything that the hook is to be told, the oldest first."""
        return [
            await self.attempt(one["job_id"], **settings)
            for one in reversed(await self.told(hook, who, status="waiting"))
        ]

    def force(self, statement: str, *values: Any) -> None:
        """Let time have passed, which no test can wait for."""
        with psycopg.connect(self.office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement.encode(), values)

    def messages(self) -> list[tuple[dict[str, str], bytes]]:
        """What the receiver was sent, as headers and body."""
        found: list[tuple[dict[str, str], bytes]] = []
        for request in self.receiver.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line.partition(":") for line in head.decode().splitlines()[1:]]
            found.append(({name.lower(): value.strip() for name, _, value in lines}, body))
        return found


@pytest.fixture
async def desk(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with serving(tmp_path, NAME) as receiver:
        receiver.answer = OK
        settings = settings_for(
            office.test_database,
            webhook_networks="127.0.0.0/8",
            webhook_ports=f"443,{receiver.port}",
            webhook_ca_file=tmp_path / "certificate.pem",
            # Dead letters after these, and a worker that is told to try again does so at once.
            job_retry_seconds="0,0,0",
        )
        monkeypatch.setattr(office.parts, "settings", settings)
        yield Desk(office, receiver, settings)
        with psycopg.connect(office.test_database.admin_dsn, autocommit=True) as connection:
            connection.execute("truncate webhook.hook, webhook.delivery")


class TestMaking:
    async def test_the_secret_is_shown_once_and_kept_sealed_and_the_log_does_not_know_the_address(self, desk: Desk):
        made = await desk.hook(description="For the warehouse")
        assert made["secret"].startswith("whsec_")
        assert len(signing.key_of(made["secret"])) == 32
        shown = await desk.read(made)
        assert shown == {name: value for name, value in made.items() if name != "secret"}
        (listed,) = ok(await desk.office.get("admin", f"/webhooks?project={desk.office.a.prefix}"))["items"]
        assert listed == shown
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select payload from ledger.event where stream_id = %(id)s union all "
                "select h::text from webhook.hook h where id = %(id)s union all "
                "select convert_from(body, 'UTF8') from ledger.idempotency",
                {"id": made["id"]},
            )
        texts = [row[0] for row in rows]
        assert len(texts) >= 2
        assert made["secret"] not in "".join(texts)
        assert made["url"].rpartition("/")[2] not in texts[0]
        assert json.loads(texts[0])["host"] == "127.0.0.1"

    @pytest.mark.parametrize(
        ("said", "status", "code"),
        [
            ({"url": "http://hooks.example.org/"}, 422, "address_refused"),
            ({"url": "https://hooks.example.org:22/"}, 422, "address_refused"),
            ({"url": "https://10.0.0.1/"}, 422, "address_refused"),
            ({"url": "https://[::1]/"}, 422, "address_refused"),
            ({"url": "https://user:word@hooks.example.org/"}, 422, "address_refused"),
            ({"types": []}, 422, "invalid_input"),
            ({"types": ["signin.failed"]}, 422, "invalid_input"),
            ({"types": ["webhook.*"]}, 422, "invalid_input"),
            ({"types": ["*"]}, 422, "invalid_input"),
            ({"project": "NONE"}, 404, "not_found"),
        ],
    )
    async def test_what_is_refused(self, desk: Desk, said: dict[str, Any], status: int, code: str):
        good = {"url": desk.url, "types": ["package.*"], "project": desk.office.a.prefix}
        problem(await desk.office.post("admin", "/webhooks", {**good, **said}), status, code)

    async def test_one_address_is_told_once(self, desk: Desk):
        made = await desk.hook()
        said = {"url": made["url"], "types": ["task.*"], "project": desk.office.a.prefix}
        problem(await desk.office.post("admin2", "/webhooks", said), 409, "webhook_exists")
        other = await desk.hook()
        path = f"/webhooks/{other['id']}"
        problem(await desk.office.patch("admin", path, {"url": made["url"]}), 409, "webhook_exists")

    async def test_no_more_than_there_may_be(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        await desk.hook()
        monkeypatch.setattr("pmis.notify.webhooks.MAX_HOOKS", 1)
        said = {"url": desk.url, "types": ["task.*"], "project": desk.office.a.prefix}
        problem(await desk.office.post("admin", "/webhooks", said), 409, "too_many_webhooks")

    async def test_only_who_configures_and_in_person(self, desk: Desk):
        made = await desk.hook()
        path = f"/webhooks/{made['id']}"
        for who in ("viewer", "analyst", "operator", "executive", "auditor", "b:admin", "root", "inspector"):
            problem(await desk.office.get(who, path), 404, "not_found")
            assert str(made["id"]) not in (await desk.office.get(who, "/webhooks")).text
        _, token = await make_token(desk.office, "admin", scope="write")
        headers = {"Authorization": f"Bearer {token}"}
        said = {"url": desk.url, "types": ["package.*"], "project": desk.office.a.prefix}
        problem(await desk.office.call(None, "POST", "/webhooks", json=said, headers=headers), 403)
        problem(await desk.office.call(None, "DELETE", path, json={}, headers=headers), 404)

    async def test_it_needs_a_fresh_proof(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        made = await desk.hook()

        async def stale(_: object) -> bool:
            return False

        monkeypatch.setattr("pmis.api.secondfactor.has_proved", stale)
        path = f"/webhooks/{made['id']}"
        said = {"url": desk.url, "types": ["package.*"], "project": desk.office.a.prefix}
        problem(await desk.office.post("admin", "/webhooks", said), 403, "step_up_needed")
        problem(await desk.office.patch("admin", path, {"url": desk.url}), 403, "step_up_needed")
        problem(await desk.office.post("admin", f"{path}/secret", {}), 403, "step_up_needed")
        ok(await desk.office.patch("admin", path, {"enabled": False}))
        problem(await desk.office.patch("admin", path, {"enabled": True}), 403, "step_up_needed")


class TestTelling:
    async def test_the_receiver_can_verify_it_with_the_code_of_the_guide(self, desk: Desk):
        made = await desk.hook()
        package = await desk.office.a.make_package(title="A private title")
        assert await desk.work(made) == ["done"]
        ((headers, body),) = desk.messages()
        code = re.findall(r"```python\n(.+?)```", GUIDE.read_text(), re.DOTALL)
        guide: dict[str, Any] = {}
        exec(code[0], guide)
        assert guide["verified"](made["secret"], headers, body) == json.loads(body)
        for wrong in ({**headers, "webhook-timestamp": "1"}, {**headers, "webhook-id": "x"}):
            with pytest.raises(ValueError, match=r"."):
                guide["verified"](made["secret"], wrong, body)
        with pytest.raises(ValueError, match=r"."):
            guide["verified"](made["secret"], headers, body + b" ")
        said = json.loads(body)
        assert said["type"] == "package.created"
        assert said["data"]["entity_id"] == str(package.id)
        assert said["data"]["version"] == 1
        assert headers["webhook-id"] == said["data"]["event_id"]
        assert "private" not in body.decode()
        assert str(desk.office.person("operator")) not in body.decode()
        (delivery,) = await desk.told(made)
        assert (delivery["status"], delivery["answer"], delivery["attempts"]) == ("delivered", 204, 1)

    async def test_what_people_wrote_is_told_where_it_was_asked_for(self, desk: Desk):
        made = await desk.hook(include_payload=True)
        await desk.office.a.make_package(title="A private title")
        await desk.work(made)
        ((_, body),) = desk.messages()
        assert json.loads(body)["data"]["payload"]["fields"]["title"] == "A private title"

    async def test_once_for_each_event_that_was_committed_and_of_the_kinds_that_were_chosen(self, desk: Desk):
        everything, titles = await desk.hook(), await desk.hook("admin", "package.patched")
        foreign = await desk.hook("b:admin")
        package = await desk.office.a.make_package()
        for number in range(3):
            await desk.office.a.do("package", "patch", package.id, {"title": f"Title {number}"})
        problem(await desk.office.patch("operator", f"/packages/{package.id}", {"title": "Title 2"}), 422)
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select id, type from ledger.event where stream_id = %s", (package.id,))
        events = {str(identity): kind for identity, kind in rows}
        assert {one["event_id"] for one in await desk.told(everything)} == set(events)
        assert len(await desk.told(everything)) == len(events) == 4
        assert [one["type"] for one in await desk.told(titles)] == ["package.patched"] * 3
        assert await desk.told(foreign, "b:admin") == []

    async def test_control_without_the_trigger_nothing_is_accepted(self, desk: Desk):
        made = await desk.hook()
        desk.force("alter table ledger.event disable trigger event_is_offered")
        try:
            await desk.office.a.make_package()
        finally:
            desk.force("alter table ledger.event enable trigger event_is_offered")
        assert await desk.told(made) == []

    async def test_delivered_again_it_is_the_same_message_and_once_noted_it_is_not_sent_again(self, desk: Desk):
        """T18: killed between the receiver's yes and our note of it, and run twice."""
        made = await desk.hook()
        await desk.office.a.make_package()
        (waiting,) = await desk.told(made)

        async def killed(*_: Any) -> Any:
            killing.kill()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deliveries, "_delivered", killed)
            update = {"database_worker_url": SecretStr(desk.office.test_database.worker_dsn)}
            assert await killing.attempt(desk.settings.model_copy(update=update), KINDS, waiting["job_id"]) == "killed"
        assert len(desk.messages()) == 1
        assert killing.sweep(desk.office.test_database, waiting["job_id"]) == "running"
        assert await desk.attempt(waiting["job_id"]) == "done"
        first, second = desk.messages()
        assert first[0]["webhook-id"] == second[0]["webhook-id"]
        assert first[1] == second[1]
        # Its job again, as a copy that was accepted twice would be.
        desk.force("update jobs.job set status = 'queued', finished_at = null where id = %s", waiting["job_id"])
        assert await desk.attempt(waiting["job_id"]) == "done"
        assert len(desk.messages()) == 2

    async def test_while_the_secret_changes_both_sign(self, desk: Desk):
        made = await desk.hook()
        path = f"/webhooks/{made['id']}"
        changed = ok(await desk.office.post("admin", f"{path}/secret", {"overlap_hours": 1}))
        assert changed["former_secret_until"] is not None
        await desk.office.a.make_package()
        await desk.work(made)
        now = datetime.now(UTC)
        headers, body = desk.messages()[-1]
        for secret in (made["secret"], changed["secret"]):
            signing.require_signed(headers, body, [secret], now)
        desk.force("update webhook.hook set previous_until = now() - interval '1 second'")
        assert (await desk.read(made))["former_secret_until"] is None
        await desk.office.a.make_package()
        await desk.work(made)
        headers, body = desk.messages()[-1]
        signing.require_signed(headers, body, [changed["secret"]], now)
        with pytest.raises(SignatureError):
            signing.require_signed(headers, body, [made["secret"]], now)
        final = ok(await desk.office.post("admin", f"{path}/secret", {"overlap_hours": 0}))
        assert final["former_secret_until"] is None

    async def test_a_ping(self, desk: Desk):
        made = await desk.hook()
        told = ok(await desk.office.post("admin", f"/webhooks/{made['id']}/ping", {}), 202)
        assert (told["type"], told["status"], told["event_id"]) == ("webhook.ping", "waiting", None)
        assert await desk.work(made) == ["done"]
        ((headers, body),) = desk.messages()
        assert headers["webhook-id"] == told["id"]
        assert json.loads(body)["type"] == "webhook.ping"
        ok(await desk.office.patch("admin", f"/webhooks/{made['id']}", {"enabled": False}))
        problem(await desk.office.post("admin", f"/webhooks/{made['id']}/ping", {}), 409, "webhook_off")


class TestWhoAnswersForIt:
    async def test_what_its_owner_may_not_read_by_then_is_not_told_and_not_even_listed(self, desk: Desk):
        who = await _administrator(desk.office)
        made = await desk.hook(who, project=None)
        await desk.office.a.make_package()
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select job_id from webhook.delivery where hook_id = %s", (made["id"],))
        assert len(rows) == 1
        assert await desk.told(made, who) == []
        assert await desk.attempt(rows[0][0]) == "done"
        assert desk.messages() == []
        async with desk.office.database.read(Reach.INSTANCE) as session:
            assert await session.all("select from webhook.delivery where hook_id = %s", (made["id"],)) == []

    async def test_control_unless_nobody_asks_what_they_may_read(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        who = await _administrator(desk.office)
        made = await desk.hook(who, project=None)
        await desk.office.a.make_package()
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select job_id from webhook.delivery where hook_id = %s", (made["id"],))
        monkeypatch.setattr(deliveries, "allowed", lambda *_: True)
        await desk.attempt(rows[0][0])
        assert len(desk.messages()) == 1

    @pytest.mark.parametrize(
        ("statement", "because"),
        [
            ("update state.person set active = false where id = %s", "owner"),
            ("update state.membership set roles = '{viewer}' where person_id = %s", "rights"),
        ],
    )
    async def test_without_them_it_is_switched_off(self, desk: Desk, statement: str, because: Because):
        who = await desk.office.newcomer("admin")
        made = await desk.hook(who)
        await desk.office.a.make_package()
        await desk.office.a.make_package()
        desk.force(statement, desk.office.person(who))
        assert await desk.work(made) == ["done", "done"]
        assert desk.messages() == []
        after = await desk.read(made)
        assert (after["enabled"], after["disabled_because"]) == (False, because)
        assert {one["status"] for one in await desk.told(made)} == {"stopped"}
        for other in ("admin", "admin2"):
            (warning,) = await _warnings(desk, other, made)
            assert (warning["kind"], warning["doc"]["reason"]) == ("webhook.disabled", deliveries._WHY[because])
        await desk.office.a.make_package()
        assert len(await desk.told(made)) == 2
        # Who switches it on answers for it from then on.
        ok(await desk.office.patch("admin", f"/webhooks/{made['id']}", {"enabled": True}))
        on = await desk.read(made)
        assert (on["person_id"], on["disabled_because"]) == (str(desk.office.person("admin")), None)
        await desk.office.a.make_package()
        assert await desk.work(made) == ["done"]
        assert len(desk.messages()) == 1

    async def test_other_words_leave_it_with_its_owner(self, desk: Desk):
        made = await desk.hook()
        path = f"/webhooks/{made['id']}"
        after = ok(await desk.office.patch("admin2", path, {"description": "Other words"}))
        assert (after["person_id"], after["version"]) == (made["person_id"], 2)
        assert ok(await desk.office.patch("admin2", path, {"description": "Other words"}))["version"] == 2
        after = ok(await desk.office.patch("admin2", path, {"include_payload": True}))
        assert after["person_id"] == str(desk.office.person("admin2"))
        stale = await desk.office.patch("admin", path, {"description": "x"}, headers={"If-Match": '"1"'})
        problem(stale, 412, "stale_version")

    async def test_a_deleted_one_is_told_nothing_more(self, desk: Desk):
        made = await desk.hook()
        await desk.office.a.make_package()
        (waiting,) = await desk.told(made)
        assert ok(await desk.office.delete("admin", f"/webhooks/{made['id']}")) == {"deleted": 1}
        problem(await desk.office.get("admin", f"/webhooks/{made['id']}"), 404)
        assert await desk.attempt(waiting["job_id"]) == "done"
        assert desk.messages() == []
        async with desk.office.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select wrapped, array(select type from ledger.event where stream_id = subject "
                "order by stream_version) from ledger.vault_key where subject = %s",
                (made["id"],),
            )
        assert row == (None, ["webhook.created", "webhook.deleted"])


async def _administrator(office: Office) -> str:
    """An administrator of the instance who is in no project."""
    name = f"chief-{uuid7().hex}"
    office.people[name] = await office.sign_up(name, f"{name}@example.org", instance_admin=True)
    return name


class TestFailing:
    async def test_it_is_tried_again_and_then_dead_and_can_be_told_again(self, desk: Desk):
        made = await desk.hook()
        await desk.office.a.make_package()
        desk.receiver.answer = DOWN
        more: dict[str, Any] = {"webhook_breaker_failures": 100}
        (waiting,) = await desk.told(made)
        path = f"/webhooks/{made['id']}/deliveries/{waiting['id']}/redeliver"
        problem(await desk.office.post("admin", path, {}), 409, "delivery_under_way")
        outcomes = [await desk.attempt(waiting["job_id"], **more) for _ in range(4)]
        assert outcomes == ["waiting", "waiting", "waiting", "dead"]
        (failed,) = await desk.told(made, status="failed")
        assert (failed["answer"], failed["error"], failed["attempts"]) == (503, "The receiver answered 503.", 4)
        desk.receiver.answer = OK
        assert ok(await desk.office.post("admin", path, {}), 202)["status"] == "waiting"
        assert await desk.work(made) == ["done"]
        assert ok(await desk.office.post("admin", path, {}), 202)["status"] == "waiting"
        assert await desk.work(made) == ["done"]
        (told,) = await desk.told(made)
        assert (told["status"], told["attempts"], told["error"]) == ("delivered", 6, None)
        assert len({headers["webhook-id"] for headers, _ in desk.messages()}) == 1
        problem(await desk.office.post("admin", path.replace(told["id"], str(uuid7())), {}), 404)

    async def test_after_some_failures_it_rests_and_then_one_call_finds_out(self, desk: Desk):
        who = await desk.office.newcomer("admin")
        made = await desk.hook(who)
        more: dict[str, Any] = {"webhook_breaker_failures": 2, "webhook_breaker_seconds": 600}
        for _ in range(4):
            await desk.office.a.make_package()
        desk.receiver.answer = DOWN
        jobs = {one["job_id"] for one in await desk.told(made)}
        assert await desk.work(made, **more) == ["waiting", "waiting", "put off", "put off"]
        assert len(desk.messages()) == 2
        resting = await desk.read(made)
        assert resting["failures"] == 2
        left = datetime.fromisoformat(resting["resting_until"]) - datetime.now(UTC)
        assert timedelta(seconds=500) < left < timedelta(seconds=700)
        # What is put off has used up none of its attempts, and its job waits with it.
        assert {one["job_id"] for one in await desk.told(made)} == jobs
        assert [one["attempts"] for one in await desk.told(made)] == [0, 0, 1, 1]
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all(
                "select j.due_at > %s from webhook.delivery d join jobs.job j on j.id = d.job_id "
                "where d.hook_id = %s and d.attempts = 0",
                (datetime.now(UTC) + timedelta(seconds=500), made["id"]),
            )
        assert rows == [(True,), (True,)]
        # Its owner was told, once.
        assert await _warned(desk, who) == ["webhook.failing"]
        desk.force("update webhook.hook set open_until = now() - interval '1 second'")
        desk.force("update jobs.job set due_at = now() where kind = 'webhook.deliver'")
        outcomes = await desk.work(made, **more)
        assert outcomes.count("waiting") == 1
        assert len(desk.messages()) == 3
        worse = await desk.read(made)
        left = datetime.fromisoformat(worse["resting_until"]) - datetime.now(UTC)
        assert left > timedelta(seconds=1100), "it rests longer each time"
        desk.receiver.answer = OK
        desk.force("update webhook.hook set open_until = now() - interval '1 second'")
        desk.force("update jobs.job set due_at = now() where kind = 'webhook.deliver'")
        assert await desk.work(made, **more) == ["done"] * 4
        assert len(desk.messages()) == 7
        well = await desk.read(made)
        assert (well["failures"], well["failing_since"], well["resting_until"]) == (0, None, None)
        assert await _warned(desk, who) == ["webhook.failing"]

    async def test_control_without_a_breaker_everybody_calls(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        async def never(*_: Any) -> None:
            return None

        monkeypatch.setattr(deliveries, "_resting", never)
        made = await desk.hook()
        for _ in range(4):
            await desk.office.a.make_package()
        desk.receiver.answer = DOWN
        await desk.work(made, webhook_breaker_failures=2)
        assert len(desk.messages()) == 4

    async def test_after_days_it_is_switched_off(self, desk: Desk):
        who = await desk.office.newcomer("admin")
        made = await desk.hook(who)
        await desk.office.a.make_package()
        desk.receiver.answer = DOWN
        desk.force(
            "update webhook.hook set failures = 9, failing_since = now() - interval '6 days', open_until = now()"
        )
        assert await desk.work(made) == ["waiting"]
        after = await desk.read(made)
        assert (after["enabled"], after["disabled_because"]) == (False, "failing")
        assert await _warned(desk, who) == ["webhook.disabled", "webhook.failing"]
        # That it rests concerns whoever answers for it, that it is off all who can switch it on.
        assert [one["kind"] for one in await _warnings(desk, "admin2", made)] == ["webhook.disabled"]
        for stranger in ("operator", "b:admin", "root"):
            assert await _warnings(desk, stranger, made) == []
        assert await desk.work(made) == ["done"]
        assert await _warned(desk, who) == ["webhook.disabled", "webhook.failing"]
        assert len(desk.messages()) == 1

    @pytest.mark.parametrize("left_alone", ["null", "now() - interval '6 days'"])
    async def test_days_in_which_nobody_called_do_not_count(self, desk: Desk, left_alone: str):
        """A few failures a week ago and one now say nothing about the time between."""
        made = await desk.hook()
        await desk.office.a.make_package()
        desk.receiver.answer = DOWN
        desk.force(
            "update webhook.hook set failures = 4, failing_since = now() - interval '6 days', "
            f"open_until = {left_alone}"
        )
        assert await desk.work(made) == ["waiting"]
        assert (await desk.read(made))["enabled"]

    async def test_an_answer_of_the_address_before_says_nothing_of_the_new_one(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ):
        made = await desk.hook()
        await desk.office.a.make_package()
        (waiting,) = await desk.told(made)
        desk.receiver.answer = answering("410 Gone")
        judged = deliveries._failed

        async def moved_meanwhile(*given: Any) -> dict[str, Any]:
            desk.force("update webhook.hook set url = url || '/new'")
            return await judged(*given)

        monkeypatch.setattr(deliveries, "_failed", moved_meanwhile)
        assert await desk.attempt(waiting["job_id"]) == "waiting"
        (told,) = await desk.told(made)
        assert (told["status"], (await desk.read(made))["enabled"]) == ("waiting", True)

    async def test_those_of_the_instance_show_nothing_among_its_jobs(self, desk: Desk):
        """What they are told of lies in projects, into which who administers the instance does not see by that."""
        made = await desk.hook("root", project=None)
        await desk.office.a.make_package()
        async with desk.office.database.read(Reach.INSTANCE) as session:
            rows = await session.all("select job_id from webhook.delivery where hook_id = %s", (made["id"],))
        assert len(rows) == 1
        assert ok(await desk.office.get("root", "/jobs?kind=webhook.deliver&limit=200"))["items"] == []
        problem(await desk.office.get("root", f"/jobs/{rows[0][0]}"), 404)

    async def test_one_whose_job_was_cancelled_has_failed_and_is_told_again_by_another(self, desk: Desk):
        made = await desk.hook("admin2")
        await desk.office.a.make_package()
        (waiting,) = await desk.told(made)
        ok(await desk.office.post("admin2", f"/jobs/{waiting['job_id']}/cancel", {}))
        (failed,) = await desk.told(made)
        assert (failed["status"], await desk.attempt(failed["job_id"])) == ("failed", "nothing to do")
        ok(await desk.office.post("admin2", f"/webhooks/{made['id']}/deliveries/{failed['id']}/redeliver", {}), 202)
        assert await desk.work(made) == ["done"]
        assert [one["status"] for one in await desk.told(made)] == ["delivered"]
        assert len(desk.messages()) == 1

    async def test_one_whose_job_was_forgotten_has_failed_and_is_told_again_by_another(self, desk: Desk):
        made = await desk.hook("admin2")
        await desk.office.a.make_package()
        (waiting,) = await desk.told(made)
        desk.force(f"delete from jobs.job where id = '{waiting['job_id']}'")  # what was cancelled long ago is pruned
        (failed,) = await desk.told(made)
        assert failed["status"] == "failed"
        ok(await desk.office.post("admin2", f"/webhooks/{made['id']}/deliveries/{failed['id']}/redeliver", {}), 202)
        assert await desk.work(made) == ["done"]
        assert [one["status"] for one in await desk.told(made)] == ["delivered"]

    async def test_one_whose_dead_letter_is_laid_aside_just_now_is_told_by_another_job(self, desk: Desk):
        made = await desk.hook("admin2")
        await desk.office.a.make_package()
        (dead,) = await desk.told(made)
        desk.force(f"update jobs.job set status = 'dead', finished_at = now() where id = '{dead['job_id']}'")
        path = f"/webhooks/{made['id']}/deliveries/{dead['id']}/redeliver"
        with psycopg.connect(desk.office.test_database.admin_dsn) as other:
            other.execute("select jobs.dismiss(%s)", (dead["job_id"],))
            asked = asyncio.create_task(desk.office.post("admin2", path, {}))
            assert not (await asyncio.wait({asked}, timeout=0.3))[0], "it waits for the other"
            other.commit()
        told = ok(await asked, 202)
        assert (told["status"], told["job_id"] != dead["job_id"]) == ("waiting", True)
        assert await desk.work(made) == ["done"]

    async def test_one_that_is_gone_is_switched_off_at_once(self, desk: Desk):
        who = await _administrator(desk.office)
        made = await desk.hook(who, project=None)
        ok(await desk.office.post(who, f"/webhooks/{made['id']}/ping", {}), 202)
        desk.receiver.answer = answering("410 Gone")
        assert await desk.work(made, who) == ["done"]
        assert (await desk.read(made, who))["disabled_because"] == "gone"
        for other in (who, "root"):
            assert [one["kind"] for one in await _warnings(desk, other, made)] == ["webhook.disabled"]
        assert await _warnings(desk, "admin", made) == []
        assert [one["status"] for one in await desk.told(made, who)] == ["stopped"]


async def _warnings(desk: Desk, who: str, hook: Any) -> list[Any]:
    """What somebody was told of one hook."""
    items = ok(await desk.office.get(who, "/notifications?limit=200"))["items"]
    return [item for item in items if item["entity_id"] == hook["id"]]


async def _warned(desk: Desk, who: str) -> list[str]:
    items = ok(await desk.office.get(who, "/notifications?limit=200"))["items"]
    return sorted(item["kind"] for item in items if item["entity_type"] == "webhook")


class TestEgress:
    """T15 by the real path: what an address leads to is judged at each call."""

    async def test_a_name_that_leads_inside_is_not_called(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        made = await desk.hook("admin", url=f"https://{NAME}/x")
        await desk.office.a.make_package()
        for answers in (("127.0.0.1",), ("169.254.169.254",), ("93.184.215.14", "10.0.0.1"), ("::1",)):
            outside = Egress(resolver=_every(*answers))
            monkeypatch.setattr(deliveries, "way_out", lambda _, outside=outside: outside)
            with recording() as connections:
                outcome = [await desk.attempt(one["job_id"]) for one in await desk.told(made, status="waiting")]
            assert outcome == ["dead"]
            assert not [one for one in connections if one[1] == 443]
            (dead,) = await desk.told(made)
            assert dead["error"] == f"{NAME} leads into a private or local network."
            path = f"/webhooks/{made['id']}/deliveries/{dead['id']}/redeliver"
            ok(await desk.office.post("admin", path, {}), 202)

    async def test_a_name_that_is_bound_anew_is_called_where_it_was_looked_at(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ):
        port = desk.receiver.port
        made = await desk.hook("admin", url=f"https://{NAME}:{port}/x")
        await desk.office.a.make_package()
        context = desk.receiver.context
        rebinding = resolving("127.0.0.1", "127.0.0.2")
        outside = Egress(networks=["127.0.0.1/32"], ports=(port,), context=context, resolver=rebinding)
        monkeypatch.setattr(deliveries, "way_out", lambda _: outside)
        with recording() as connections:
            assert await desk.work(made) == ["done"]
        assert [one for one in connections if one[1] == port] == [("127.0.0.1", port)]
        # The next call looks anew, and finds that it leads elsewhere by now.
        await desk.office.a.make_package()
        with recording() as connections:
            assert await desk.work(made) == ["dead"]
        assert not [one for one in connections if one[1] == port]

    async def test_redirects_are_not_followed(self, desk: Desk):
        made = await desk.hook()
        await desk.office.a.make_package()
        desk.receiver.answer = answering("302 Found", f"Location: https://127.0.0.1:{desk.receiver.port}/other\r\n")
        assert await desk.work(made) == ["waiting"]
        assert len(desk.messages()) == 1
        (told,) = await desk.told(made)
        assert "redirects are not followed" in told["error"]

    async def test_a_slow_receiver_is_left(self, desk: Desk, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(egress, "SECONDS", 0.5)
        made = await desk.hook()
        await desk.office.a.make_package()
        desk.receiver.delay = 12
        began = time.monotonic()
        assert await desk.work(made) == ["waiting"]
        assert time.monotonic() - began < 11
        (told,) = await desk.told(made)
        assert "no answer within" in told["error"]

    async def test_of_a_long_answer_only_the_beginning_is_read(self, desk: Desk):
        made = await desk.hook()
        await desk.office.a.make_package()
        desk.receiver.answer = answering("200 OK", body=b"x" * (4 << 20))
        assert await desk.work(made) == ["done"]

    async def test_without_the_setting_nothing_inside_is_called(self, desk: Desk):
        made = await desk.hook()
        await desk.office.a.make_package()
        with recording() as connections:
            assert await desk.work(made, webhook_networks="") == ["dead"]
        assert not [one for one in connections if one[1] == desk.receiver.port]
        assert desk.messages() == []


def _every(*answers: str) -> Any:
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(answers)

    return resolve


async def test_what_was_told_long_ago_is_forgotten(desk: Desk):
    made = await desk.hook()
    for _ in range(3):
        await desk.office.a.make_package()
    done, waiting, _ = await desk.told(made)
    await desk.attempt(done["job_id"])
    for one in (done, waiting):
        desk.force("update webhook.delivery set created_at = now() - interval '1 year' where id = %s", one["id"])
    prune: Kind[Any] = KINDS["notify.prune"]
    seen: list[Any] = []

    async def run(slot: Payload, work: Work) -> None:
        seen.append(await prune.run(slot, work))

    identity = uuid7()
    desk.force(
        "insert into jobs.job (id, kind, payload, correlation_id) values (%s, 'notify.prune', "
        "'{\"slot\": \"2026-11-22T00:00:00Z\"}', 'test')",
        identity,
    )
    assert await desk.attempt(identity, {prune.name: Kind(prune.name, prune.payload, run)}) == "done"
    assert seen[0]["deliveries"] == 1
    assert done["id"] not in {one["id"] for one in await desk.told(made)}
    assert len(await desk.told(made)) == 2


async def test_pages_of_what_was_told(desk: Desk):
    made = await desk.hook()
    for _ in range(3):
        await desk.office.a.make_package()
    path = f"/webhooks/{made['id']}/deliveries"
    first = ok(await desk.office.get("admin", f"{path}?limit=2"))
    rest = ok(await desk.office.get("admin", f"{path}?limit=2&cursor={first['next']}"))
    assert [one["id"] for one in first["items"] + rest["items"]] == [one["id"] for one in await desk.told(made)]
    assert rest["next"] is None
    problem(await desk.office.get("admin", f"{path}?status=lost"), 422)
    problem(await desk.office.get("admin", f"{path}?cursor=x"), 422)
