"""What becomes of a waiting approval when something else has changed, or somebody else speaks (M1, M2, R8, R9)."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pmis.approval import decide
from pmis.approval.errors import (
    ApprovalClosedError,
    ApprovalExpiredError,
    ApprovalVoidError,
    DigestMismatchError,
    MayNotDecideError,
)
from pmis.approval.policy import POLICY_ID
from pmis.approval.propose import actor_of
from pmis.approval.registry import NOUNS
from pmis.kit.db import Reach
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact, Origin
from pmis.ledger.store import append
from pmis.policy.approvers import DecisionRefusedError, Refusal
from pmis.policy.levels import Level
from tests.builders import World, make_world, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from uuid import UUID

    from pmis.approval.models import Approval
    from pmis.kit.db import Database
    from pmis.policy.access import Principal
    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


async def waiting(world: World, who: str = "analyst", **patch: Any) -> Approval:
    """An approval that waits for one admin."""
    draft = await world.propose("operator", "package", "create", None, {"title": "As it was"})
    outcome = await world.propose(
        who, "package", "patch", draft.entities[0].id, patch or {"title": "Another"}, stated_impact=Level.HIGH
    )
    assert outcome.approval is not None
    assert outcome.outcome == "pending"
    return outcome.approval


async def to_confirm(world: World, package: UUID | None = None) -> Approval:
    """A deletion that waits for the proposer's own yes."""
    if package is None:
        draft = await world.propose("operator", "package", "create", None, {"title": "As it was"})
        package = draft.entities[0].id
    outcome = await world.propose("operator", "package", "delete", package)
    assert outcome.approval is not None
    assert outcome.outcome == "confirmation_required"
    return outcome.approval


async def title_of(world: World, approval: Approval) -> str:
    return (await world.get("package", approval.target_id)).title


async def verbs(world: World, approval: Approval) -> list[str]:
    return [kind.removeprefix("approval.") for kind, *_ in await world.events(approval.id)]


class TestAgreed:
    async def test_r9_it_is_applied_once_by_whoever_is_the_last_to_agree(self, world: World):
        approval = await waiting(world)
        outcome = await world.say("admin", approval, "approve", shown=approval.digest)
        assert outcome.outcome == "applied"
        assert await title_of(world, approval) == "Another"
        assert await verbs(world, approval) == ["created", "decided", "applied"]
        assert len(await world.outbox(f"applied:{approval.id}")) == 1
        with pytest.raises(ApprovalClosedError, match="This approval is applied"):
            await world.say("admin2", approval, "approve")
        await world.require_replay()

    async def test_the_record_says_who_agreed_and_the_approval_for_whom(self, world: World):
        approval = await waiting(world, "agent:analyst")
        assert (await world.say("admin", approval, "approve")).outcome == "applied"
        _, _, actor, behalf = (await world.events(approval.target_id))[-1]
        assert (actor, behalf) == (f"person:{world.people['admin']}", None)
        assert approval.proposer.ref.startswith("agent:")
        assert approval.proposer.person_id == world.people["analyst"]

    async def test_a_no_needs_a_reason(self, world: World):
        approval = await waiting(world)
        for verdict in ("reject", "request_changes"):
            for reason in (None, "", "  "):
                with pytest.raises(InvalidInputError, match="say why") as caught:
                    await world.say("admin", approval, verdict, reason=reason)
                assert caught.value.extra["errors"][0]["pointer"] == "/reason"
        assert (await world.approval(approval)).is_open

    @pytest.mark.parametrize(("verdict", "status"), [("reject", "rejected"), ("request_changes", "changes_requested")])
    async def test_a_no_ends_it_and_is_kept_with_its_reason(self, world: World, verdict: str, status: str):
        approval = await waiting(world)
        await world.say("admin", approval, verdict, reason="Too dear.")
        after = await world.approval(approval)
        assert (after.status, after.closed_reason, after.verdicts[0].reason) == (status, "Too dear.", "Too dear.")
        with pytest.raises(ApprovalClosedError, match="Too dear"):
            await world.say("admin2", approval, "approve")
        assert await title_of(world, approval) == "As it was"

    async def test_whoever_saw_something_else_is_told_so(self, world: World):
        approval = await waiting(world)
        with pytest.raises(DigestMismatchError, match="Read it again") as caught:
            await world.say("admin", approval, "approve", shown="0" * 64)
        assert caught.value.extra["digest"] == approval.digest
        assert await verbs(world, approval) == ["created"]


class TestWho:
    async def test_r9_only_people_decide(self, world: World):
        approval = await waiting(world)
        with pytest.raises(MayNotDecideError, match="Only a person decides"):
            await world.say("agent:admin", approval, "approve")

    async def test_r9_only_people_confirm_even_for_the_person_who_proposed(self, world: World):
        approval = await to_confirm(world)
        with pytest.raises(DecisionRefusedError) as caught:
            await world.say("agent:operator", approval, "confirm")
        assert caught.value.reason is Refusal.NOT_A_PERSON
        with pytest.raises(DecisionRefusedError) as caught:
            await world.say("admin", approval, "confirm")
        assert caught.value.reason is Refusal.NOT_THE_PROPOSER
        assert (await world.say("operator", approval, "confirm")).outcome == "applied"

    async def test_r9_nobody_decides_their_own_change_nor_that_of_their_agent(self, world: World):
        for proposer in ("admin", "agent:admin"):
            with pytest.raises(DecisionRefusedError) as caught:
                await world.say("admin", await waiting(world, proposer), "approve")
            assert caught.value.reason is Refusal.OWN_CHANGE

    async def test_r13_whoever_may_not_see_it_finds_none(self, world: World):
        approval = await waiting(world)
        for verdict in ("approve", "confirm"):
            with pytest.raises(NotFoundError, match="There is no such approval"):
                await world.say("outsider", approval, verdict)

    async def test_only_the_proposer_takes_it_back(self, world: World):
        approval = await waiting(world)
        with pytest.raises(MayNotDecideError, match="Only the proposer"):
            await world.withdraw("admin", approval)
        ended = await world.withdraw("analyst", approval, "Not needed.")
        assert (ended.status, ended.closed_reason) == ("withdrawn", "Not needed.")
        with pytest.raises(ApprovalClosedError):
            await world.withdraw("analyst", approval)


async def those_for(world: World, principal: Principal, *approvals: Approval, after: int = 0) -> list[UUID]:
    """Which of the approvals wait for somebody, some days from now."""
    at = datetime.now(UTC) + timedelta(days=after)
    async with world.read() as session:
        return [one.id for one in await decide.waits_for(session, principal, approvals, at)]


async def lend(world: World, giver: str, taker: str) -> UUID:
    """Lend a seat for a day that began a while ago."""
    now = datetime.now(UTC)
    patch = {
        "to_person": str(world.people[taker]),
        "starts_at": (now - timedelta(hours=1)).isoformat(),
        "ends_at": (now + timedelta(days=1)).isoformat(),
    }
    return (await world.do("delegation", "create", None, patch, who=giver)).id


class TestWaitsFor:
    async def test_each_sees_what_they_can_decide_or_confirm(self, world: World):
        pending, own = await waiting(world), await to_confirm(world)
        for who, expected in (("admin", [pending.id]), ("operator", [own.id]), ("analyst", []), ("viewer", [])):
            assert await those_for(world, await world.principal(who), pending, own) == expected

    async def test_it_is_exactly_what_they_would_be_let_do(self, world: World):
        """Asked at once for everything, and each said for itself: with lent seats, seats taken back, and one's own."""
        await lend(world, "executive", "viewer")
        await lend(world, "admin", "analyst")
        taken_back = await lend(world, "admin2", "operator")
        await world.do("delegation", "patch", taken_back, {"revoked": True}, who="admin2")
        vendor = str((await world.make_party()).id)
        approvals = [await waiting(world, who, title=who) for who in ("analyst", "admin", "executive", "agent:admin2")]
        approvals += [await waiting(world, who, vendor_id=vendor) for who in ("analyst", "admin", "executive")]
        let: set[tuple[str, int]] = set()
        for who in world.people:
            principal = await world.principal(who)
            expected: list[UUID] = []
            for i, approval in enumerate(approvals):
                async with world.database.write(Reach.INSTANCE) as session:
                    try:
                        await decide.say(
                            session, world.vault, await world.request(session, who), approval.id, "approve", recent=True
                        )
                    except (DecisionRefusedError, NotFoundError):
                        continue
                expected.append(approval.id)
                let.add((who, i))
            if who not in ("root", "outsider"):
                assert await those_for(world, principal, *approvals) == expected, who
        # The proposer's stand-in is let do nothing of theirs, and a seat that was taken back is none.
        assert {who for who, _ in let} == {"admin", "admin2", "executive", "viewer", "analyst"}
        assert ("analyst", 1) not in let
        assert ("viewer", 4) in let

    async def test_nothing_waits_for_an_agent(self, world: World):
        approval = await waiting(world)
        assert await those_for(world, await world.principal("agent:admin"), approval) == []

    async def test_what_is_over_waits_for_nobody(self, world: World):
        approval = await waiting(world)
        ended = await world.withdraw("analyst", approval)
        admin = await world.principal("admin")
        assert await those_for(world, admin, ended) == []
        assert await those_for(world, admin, approval, after=365) == []


class TestDrift:
    """Whatever an approval was given on must still hold when it is given (R8)."""

    @asynccontextmanager
    async def _void(self, world: World, approval: Approval, words: str) -> AsyncGenerator[pytest.ExceptionInfo[Any]]:
        before = await world.events(approval.target_id)
        with pytest.raises(ApprovalVoidError, match=words) as caught:
            yield caught
        after = await world.approval(approval)
        assert after.status == "voided"
        assert await world.events(approval.target_id) == before
        assert await world.outbox(f"applied:{approval.id}") == []
        await world.require_replay()

    async def _moves(self, world: World, package: UUID, **fields: tuple[Any, Any]) -> None:
        """The record moves on a way that knows nothing of approvals."""
        noun = NOUNS["package"]
        async with world.database.write(Reach.INSTANCE) as session:
            principal = await world.principal("operator", session)
            row = await session.one("select doc from state.package where id = %s for update", (package,))
            assert row is not None
            changes = {name: {"from": old, "to": new} for name, (old, new) in fields.items()}
            append(
                session,
                noun,
                noun.model.model_validate_json(row[0]),
                [Fact("package.patched", {"changes": changes})],
                origin=Origin(actor_of(principal), "job", "another-way"),
                stream_id=package,
                project_id=world.project,
            )
            await session.commit()

    async def test_r8_a_record_that_moved_names_the_fields_that_collide(self, world: World):
        approval = await waiting(world, title="Mine", description="Mine")
        await self._moves(world, approval.target_id, title=("As it was", "Theirs"), external_ref=(None, "x"))
        async with self._void(world, approval, "package moved from version 1 to 2") as caught:
            await world.say("admin", approval, "approve")
        assert caught.value.extra["colliding"] == ["title"]
        assert (await world.approval(approval)).colliding == ["title"]
        assert await title_of(world, approval) == "Theirs"

    async def test_r8_a_confirmation_is_bound_to_what_was_shown_as_well(self, world: World):
        approval = await to_confirm(world)
        await self._moves(world, approval.target_id, title=("As it was", "Theirs"))
        async with self._void(world, approval, "package moved"):
            await world.say("operator", approval, "confirm")

    async def test_a_no_to_what_has_moved_is_still_a_no(self, world: World):
        approval = await waiting(world)
        await self._moves(world, approval.target_id, title=("As it was", "Theirs"))
        await world.say("admin", approval, "reject")
        assert (await world.approval(approval)).status == "rejected"

    async def test_r8_what_it_creates_was_created_by_another(self, world: World):
        identity = uuid7()
        approvals: list[Approval] = []
        for title in ("Mine", "Yours"):
            outcome = await world.propose(
                "analyst", "package", "create", identity, {"title": title}, stated_impact=Level.HIGH
            )
            assert outcome.approval is not None
            approvals.append(outcome.approval)
        await world.say("admin", approvals[0], "approve")
        async with self._void(world, approvals[1], "what it creates exists already"):
            await world.say("admin", approvals[1], "approve")
        assert await title_of(world, approvals[0]) == "Mine"

    async def test_r8_what_the_rules_no_longer_allow_is_not_applied(self, world: World):
        vendor = await world.make_party()
        approval = await waiting(world, vendor_id=str(vendor.id))
        await world.do("party", "delete", vendor.id)
        await world.say("admin", approval, "approve")
        async with self._void(world, approval, "vendor_id"):
            await world.say("executive", approval, "approve")
        assert (await world.get("package", approval.target_id)).vendor_id is None

    async def test_r8_a_change_that_is_not_the_digested_one_is_refused(self, world: World, database: TestDatabase):
        approval = await waiting(world)
        forge(database, approval, '"Another"', '"Forged"')
        with pytest.raises(DigestMismatchError, match="tell your administrator"):
            await world.say("admin", approval, "approve")
        assert await title_of(world, approval) == "As it was"
        forge(database, approval, '"Forged"', '"Another"')
        assert (await world.say("admin", approval, "approve")).outcome == "applied"


def forge(database: TestDatabase, approval: Approval, old: str, new: str) -> None:
    """Write into the approval's row past everything, as whoever owns the server can."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update state.approval set doc = replace(doc, %s, %s) where id = %s", (old, new, approval.id)
        )


async def reign(world: World, **changes: Any) -> None:
    """Put a policy in force that says this otherwise."""
    document = (await world.get("policy", POLICY_ID)).document
    outcome = await world.propose("root", "policy", "patch", POLICY_ID, {"document": {**document, **changes}})
    assert outcome.approval is not None
    for who in ("executive", "executive2", "admin"):
        if (await world.say(who, outcome.approval, "approve")).outcome == "applied":
            break
    assert (await world.approval(outcome.approval)).status == "applied"


class TestAnotherPolicy:
    @pytest.fixture
    async def world(self, make_database: Callable[[str], TestDatabase]) -> AsyncIterator[World]:
        """A world whose policy may change."""
        async with opened(make_database("policy")) as pool:
            yield await make_world(pool, roles={**_ROLES, "executive2": ("executive",)})

    async def test_whoever_is_alone_is_asked_for_an_exception_where_the_policy_knows_one(self, world: World):
        alone = await make_world(world.database, roles={"admin": ("admin",), "operator": ("operator",)})
        own = await waiting(alone, "admin")
        assert await those_for(alone, await alone.principal("admin"), own) == []
        await alone.withdraw("admin", own)
        await reign(world, solo={"enabled": True})
        own, others = await waiting(alone, "admin"), await waiting(world, "admin")
        assert await those_for(alone, await alone.principal("admin"), own) == [own.id]
        assert await those_for(world, await world.principal("admin"), others) == []
        await alone.say("admin", own, "approve")
        assert (await alone.approval(own)).verdicts[0].exception

    async def test_r8_an_approval_holds_under_the_policy_that_asked_for_it(self, world: World):
        pending, own = await waiting(world), await to_confirm(world)
        await reign(world, name="Another policy")
        for who, approval, verdict in (("admin", pending, "approve"), ("operator", own, "confirm")):
            with pytest.raises(ApprovalVoidError, match="the policy changed from version 1 to 2"):
                await world.say(who, approval, verdict)
            assert (await world.approval(approval)).status == "voided"
            assert await title_of(world, approval) == "As it was"
        await world.require_replay()


_ROLES = {name: (name,) for name in ("analyst", "operator", "admin", "executive")}


class TestTime:
    @pytest.fixture
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Approvals are over before anybody can decide them."""
        monkeypatch.setattr(
            "pmis.approval.propose._after_hours", lambda now, hours: hours and (now - timedelta(hours=1)).isoformat()
        )

    @pytest.mark.usefixtures("soon")
    async def test_whoever_comes_too_late_ends_it_and_hears_since_when(self, world: World):
        approval = await waiting(world)
        with pytest.raises(ApprovalExpiredError, match="expired on 20"):
            await world.say("admin", approval, "approve")
        after = await world.approval(approval)
        assert (after.status, after.closed_by, after.closed_reason) == ("expired", "Expiry", "nobody decided in time")
        with pytest.raises(ApprovalClosedError, match="nobody decided in time"):
            await world.say("admin", approval, "approve")

    @pytest.mark.usefixtures("soon")
    async def test_what_is_due_is_ended_but_not_what_somebody_holds(self, world: World):
        held, free = await waiting(world), await waiting(world)
        async with world.database.write(Reach.INSTANCE) as holder:
            await holder.one("select 1 from state.approval where id = %s for update", (held.id,))
            async with world.database.write(Reach.INSTANCE) as session:
                assert await decide.expire_due(session) >= 1
                await session.commit()
        assert (await world.approval(held)).is_open
        assert (await world.approval(free)).status == "expired"
        assert len(await world.outbox(f"ended:{free.id}")) == 1
        async with world.database.write(Reach.INSTANCE) as session:
            await decide.expire_due(session)
            await session.commit()
        assert (await world.approval(held)).status == "expired"


class TestSilence:
    """Whoever is asked and says nothing is bypassed upward, once."""

    @pytest.fixture
    async def world(
        self, make_database: Callable[[str], TestDatabase], monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[World]:
        """A world in which an approval has a deadline of 24 hours, and 24 hours have passed."""
        async with opened(make_database("silence")) as pool:
            world = await make_world(pool, roles={**_ROLES, "executive2": ("executive",)})
            approvals: dict[str, Any] = dict((await world.get("policy", POLICY_ID)).document["approvals"])
            steps = [
                {"id": "admin", "name": "Administrators", "roles": ["admin"], "quorum": 1},
                {
                    "id": "named",
                    "name": "Whom we trust",
                    "roles": ["executive"],
                    "quorum": 1,
                    "people": [str(world.people["executive"])],
                },
            ]
            approvals["APPROVAL_REQUIRED"] = {**approvals["APPROVAL_REQUIRED"], "steps": steps, "deadline_hours": 24}
            for route in ("EXECUTIVE_APPROVAL", "ESCALATE"):  # a stricter route asks for no fewer people
                decider, executive = approvals[route]["steps"]
                approvals[route] = {**approvals[route], "steps": [{**decider, "quorum": 2}, executive]}
            await reign(world, approvals=approvals)
            monkeypatch.setattr(
                "pmis.approval.propose._after_hours",
                lambda now, hours: hours and (now + timedelta(hours=-1 if hours == 24 else hours)).isoformat(),
            )
            yield world

    async def escalate(self, world: World) -> int:
        async with world.database.write(Reach.INSTANCE) as session:
            found = await decide.escalate_due(session)
            await session.commit()
        return found

    async def test_executives_fill_what_stayed_open_and_nobody_sits_twice(self, world: World):
        approval = await waiting(world)
        with pytest.raises(DecisionRefusedError) as caught:
            await world.say("executive2", approval, "approve")
        assert caught.value.reason is Refusal.NOT_AN_APPROVER
        assert await self.escalate(world) == 1
        assert await self.escalate(world) == 0, "once for each step"
        kind, payload, actor, _ = (await world.events(approval.id))[-1]
        told = json.loads(payload)
        assert (kind, actor) == ("approval.escalated", "system:escalation")
        assert (told["reason"], told["silent"]) == ("deadline", ["admin", "named"])
        assert len(await world.outbox(f"escalated:{approval.id}:2")) == 1
        after = await world.approval(approval)
        assert after.digest == approval.digest
        assert [one["bypass"] for one in after.open_steps] == [["executive"], ["executive"]]
        assert after.decision["escalated_at"]
        assert (await world.say("executive2", approval, "approve")).outcome == "pending"
        with pytest.raises(DecisionRefusedError) as caught:
            await world.say("executive2", approval, "approve")
        assert caught.value.reason is Refusal.ALREADY_COUNTED
        assert (await world.say("executive", approval, "approve")).outcome == "applied"
        await world.require_replay()

    async def test_those_who_were_asked_may_still_answer_and_the_proposer_never(self, world: World):
        approval = await waiting(world, "executive2")
        await self.escalate(world)
        with pytest.raises(DecisionRefusedError) as caught:
            await world.say("executive2", approval, "approve")
        assert caught.value.reason is Refusal.OWN_CHANGE
        assert (await world.say("admin", approval, "approve")).outcome == "pending"
        assert (await world.say("executive", approval, "approve")).outcome == "applied"

    async def test_a_step_that_was_filled_stays_as_it_was(self, world: World):
        approval = await waiting(world)
        await world.say("admin", approval, "approve")
        await self.escalate(world)
        assert "bypass" not in (await world.approval(approval)).decision["steps"][0]
        assert (await world.say("executive2", approval, "approve")).outcome == "applied"

    async def test_what_another_policy_judged_is_left(self, world: World):
        approval = await waiting(world)
        await reign(world, solo={"enabled": True})
        assert await self.escalate(world) == 0
        assert await verbs(world, approval) == ["created"]

    async def test_what_is_over_or_in_time_or_held_is_left(self, world: World, monkeypatch: pytest.MonkeyPatch):
        held, withdrawn, own = await waiting(world), await waiting(world), await to_confirm(world)
        await world.withdraw("analyst", withdrawn)
        monkeypatch.undo()
        in_time = await waiting(world)
        async with world.database.write(Reach.INSTANCE) as holder:
            await holder.one("select 1 from state.approval where id = %s for update", (held.id,))
            assert await self.escalate(world) == 0
        assert await self.escalate(world) == 1
        for approval in (withdrawn, own, in_time):
            assert "escalated" not in await verbs(world, approval)
        assert await verbs(world, held) == ["created", "escalated"]


class TestTurns:
    """Without a deadline silence counts from when it was a step's turn to speak."""

    async def world_of(self, pool: Database, order: str) -> World:
        """A world in which an admin and then, or meanwhile, an executive have 48 hours."""
        world = await make_world(pool, roles={**_ROLES, "executive2": ("executive",)})
        approvals: dict[str, Any] = dict((await world.get("policy", POLICY_ID)).document["approvals"])
        steps = [
            {"id": name, "name": name, "roles": [role], "quorum": 1}
            for name, role in (("first", "admin"), ("second", "executive"))
        ]
        route = "APPROVAL_REQUIRED"
        approvals[route] = {**approvals[route], "steps": steps, "order": order, "bypass_hours": 48}
        for route in ("EXECUTIVE_APPROVAL", "ESCALATE"):  # a stricter route asks for no fewer people
            decider, executive = approvals[route]["steps"]
            approvals[route] = {**approvals[route], "steps": [{**decider, "quorum": 2}, executive]}
        await reign(world, approvals=approvals)
        return world

    async def silent(self, world: World, approval: Approval, *, hours: int) -> list[str] | None:
        """Which of its steps have stayed silent so much later; None if it was not escalated."""
        later = decide._SILENT.replace("%(now)s", f"(%(now)s::timestamptz + interval '{hours} hours')")
        async with world.database.write(Reach.INSTANCE) as session:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(decide, "_SILENT", later)
                found = await decide.escalate_due(session)
            await session.commit()
        if not found:
            return None
        kind, payload, *_ = (await world.events(approval.id))[-1]
        told = json.loads(payload)
        assert (kind, told["reason"]) == ("approval.escalated", "silence")
        return told["silent"]

    async def test_all_at_once(self, make_database: Callable[[str], TestDatabase]):
        async with opened(make_database("meanwhile")) as pool:
            world = await self.world_of(pool, "parallel")
            approval = await waiting(world)
            assert await self.silent(world, approval, hours=47) is None
            assert await self.silent(world, approval, hours=49) == ["first", "second"]
            assert await self.silent(world, approval, hours=1000) is None

    async def test_one_after_the_other(self, make_database: Callable[[str], TestDatabase]):
        async with opened(make_database("turns")) as pool:
            world = await self.world_of(pool, "serial")
            approval = await waiting(world)
            assert await self.silent(world, approval, hours=47) is None
            assert await self.silent(world, approval, hours=49) == ["first"]
            assert await self.silent(world, approval, hours=1000) is None, "it is not the executives' turn"
            first, second = (await world.approval(approval)).open_steps
            assert (first["bypass"], "bypass" in second) == (["executive"], False)
            await world.say("admin", approval, "approve")
            assert await self.silent(world, approval, hours=47) is None
            assert await self.silent(world, approval, hours=49) == ["second"]
            assert (await world.approval(approval)).decision["escalated"] == ["first", "second"]
            assert [key for key in (2, 4) if not await world.outbox(f"escalated:{approval.id}:{key}")] == []
            assert (await world.say("executive", approval, "approve")).outcome == "applied"
            await world.require_replay()


class TestRevised:
    async def test_what_was_sent_back_is_proposed_again_on_the_state_of_the_day(self, world: World):
        approval = await waiting(world)
        await world.say("admin", approval, "request_changes", reason="A better title.")
        await world.do("package", "patch", approval.target_id, {"description": "Moved on."})
        outcome = await world.revise("analyst", approval, {approval.target_id: {"title": "A better one"}})
        # Nobody states again how grave it is: a title of a draft is applied at once.
        assert outcome.outcome == "applied"
        assert await title_of(world, approval) == "A better one"

    async def test_the_new_approval_says_what_it_supersedes(self, world: World):
        approval = await to_confirm(world)
        await world.withdraw("operator", approval)
        outcome = await world.revise("operator", approval)
        assert outcome.approval is not None
        assert outcome.approval.supersedes == approval.id
        assert outcome.approval.digest == approval.digest

    async def test_what_others_wrote_stays_what_others_wrote(self, world: World):
        package = await world.make_package()
        wanted = world.wanted("package", "patch", package.id, {"title": "As a mail says"})
        outcome = await world.propose_all("agent:operator", [wanted], flags=frozenset({"untrusted_text"}))
        assert outcome.outcome == "confirmation_required"
        assert outcome.approval is not None
        assert outcome.decision.uncertainty is Level.HIGH
        assert "untrusted.confirm" in [reason.rule for reason in outcome.decision.reasons]
        await world.withdraw("operator", outcome.approval)
        again = await world.revise("operator", outcome.approval)
        assert again.outcome == "confirmation_required"
        assert again.approval is not None
        assert again.approval.decision["facts"]["flags"] == ["untrusted_text"]
        assert (await world.say("operator", again.approval, "confirm")).outcome == "applied"
        await world.require_replay()

    async def test_only_by_the_proposer_and_only_what_it_was_about(self, world: World):
        approval = await waiting(world)
        with pytest.raises(ApprovalClosedError, match="is pending"):
            await world.revise("analyst", approval)
        await world.say("admin", approval, "request_changes")
        with pytest.raises(MayNotDecideError, match="Only the proposer revises"):
            await world.revise("operator", approval)
        stranger = uuid7()
        with pytest.raises(InvalidInputError) as caught:
            await world.revise("analyst", approval, {stranger: {"title": "X"}})
        assert caught.value.extra["errors"][0]["pointer"] == f"/patches/{stranger}"

    async def test_what_was_applied_is_not_proposed_again(self, world: World):
        approval = await waiting(world)
        await world.say("admin", approval, "approve")
        with pytest.raises(ApprovalClosedError, match="is applied"):
            await world.revise("analyst", approval)
