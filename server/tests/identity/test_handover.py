"""M11: who is disabled leaves nothing behind that waits for them alone, and gives nobody a right by leaving."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pmis.approval.errors import BadReferenceError
from pmis.identity import handover
from pmis.kit.db import Reach
from pmis.kit.errors import InvalidInputError
from pmis.notify.spread import whom_it_waits_for
from pmis.policy.approvers import DecisionRefusedError
from tests.builders import make_member, make_person

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.approval.models import Approval
    from tests.builders import World

pytestmark = pytest.mark.anyio


async def join(world: World, name: str, *roles: str, **rights: bool) -> UUID:
    async with world.database.write(Reach.INSTANCE) as session:
        world.people[name] = await make_person(session, world.vault, name, **rights)
        if roles:
            await make_member(session, world.vault, world.project, world.people[name], *roles)
        await session.commit()
    return world.people[name]


async def disable(world: World, who: str, to: str | None = None) -> Any:
    """Propose it as an administrator of the instance, and confirm it."""
    patch = {"active": False, **({"hand_over_to": str(world.people[to])} if to else {})}
    outcome = await world.settle(await world.propose("root", "person", "patch", world.people[who], patch), "root")
    assert outcome.outcome == "applied"
    return outcome.entities[0]


async def handed(world: World, approval: Approval) -> list[tuple[str | None, list[str]]]:
    return [
        (said["to_person"], said["for_steps"])
        for kind, payload, *_ in await world.events(approval.id)
        if kind == "approval.handed_over"
        for said in [json.loads(payload)]
    ]


async def waiting_for(world: World, approval: Approval) -> set[UUID]:
    async with world.database.write(Reach.INSTANCE) as session:
        return set(await whom_it_waits_for(session, await world.approval(approval), session.now))


async def name_people(world: World, approval: Approval, *people: UUID) -> None:
    """Let the approval ask for these people by name, as a policy can: the policy of a world names nobody."""
    async with world.database.write(Reach.INSTANCE) as session:
        named = approval.decision["steps"]
        steps = [{**step, "people": [str(person) for person in people]} for step in named]
        told = {"from_person": "", "to_person": "", "for_steps": [], "steps": steps, "open_steps": approval.open_steps}
        handover._append(
            session,
            approval,
            handover.Fact("approval.handed_over", told),
            "tests",
            f"tests:{approval.id}",
            (await world.request(session, "root")).origin,
        )
        await session.commit()


@pytest.fixture
async def leaver(world: World) -> str:
    await join(world, "leaver", "admin")
    return "leaver"


async def test_an_open_approval_goes_to_the_successor_as_an_event(world: World, leaver: str):
    approval = await world.waiting()
    person = await disable(world, leaver, "admin")
    assert person.hand_over_to == world.people["admin"]
    [(to, steps)] = await handed(world, approval)
    assert to == str(world.people["admin"])
    assert steps == [step["id"] for step in approval.decision["steps"]]
    now = await world.approval(approval)
    assert (now.status, now.digest) == ("pending", approval.digest)
    assert (await world.outbox(f"handed_over:{approval.id}:{now.version}"))[0][0] == "approval.handed_over"
    assert (await world.say("admin", now, "approve", shown=now.digest)).outcome == "applied"
    await world.require_replay()


async def test_it_is_handed_over_in_projects_that_whoever_disables_them_does_not_see(world: World, leaver: str):
    await join(world, "root2", instance_admin=True)
    approval = await world.waiting()
    patch = {"active": False, "hand_over_to": str(world.people["admin"])}
    outcome = await world.propose("root", "person", "patch", world.people[leaver], patch)
    assert outcome.approval is not None
    assert (await world.reach("root2")) != Reach.INSTANCE
    assert (await world.say("root2", outcome.approval, "approve")).outcome == "applied"
    assert [to for to, _ in await handed(world, approval)] == [str(world.people["admin"])]
    await world.require_replay()


async def test_a_seat_that_is_given_by_name_is_the_successors_alone(world: World, leaver: str):
    approval = await world.waiting()
    await name_people(world, approval, world.people[leaver])
    approval = await world.approval(approval)
    assert await waiting_for(world, approval) == {world.people[leaver]}
    await disable(world, leaver, "admin2")
    assert await waiting_for(world, approval) == {world.people["admin2"]}
    with pytest.raises(DecisionRefusedError):
        await world.say("admin", approval, "approve")
    assert (await world.say("admin2", approval, "approve")).outcome == "applied"
    await world.require_replay()


async def test_without_a_successor_the_others_whom_the_route_asks_for_decide(world: World, leaver: str):
    approval = await world.waiting()
    assert world.people[leaver] in await waiting_for(world, approval)
    await disable(world, leaver)
    assert [to for to, _ in await handed(world, approval)] == [None]
    assert await waiting_for(world, approval) == {world.people["admin"], world.people["admin2"]}
    with pytest.raises(Exception, match="not active"):
        await world.say(leaver, approval, "approve")


@pytest.mark.parametrize("successor", ["viewer", "operator", "outsider"])
async def test_nobody_gets_a_role_by_it(world: World, leaver: str, successor: str):
    if successor == "outsider" and successor not in world.people:
        await join(world, successor)
    approval = await world.waiting()
    await disable(world, leaver, successor)
    assert [to for to, _ in await handed(world, approval)] == [None]
    with pytest.raises(Exception, match=r"roles|no such"):
        await world.say(successor, approval, "approve")


async def test_nobody_decides_their_own_change_by_it(world: World, leaver: str):
    package = await world.make_package("submitted")
    outcome = await world.propose("admin", "package", "patch", package.id, {"title": "My own"})
    assert outcome.approval is not None
    await name_people(world, outcome.approval, world.people[leaver])
    await disable(world, leaver, "admin")
    assert [to for to, _ in (await handed(world, outcome.approval))[1:]] == [None]
    with pytest.raises(DecisionRefusedError, match="their own"):
        await world.say("admin", outcome.approval, "approve")


async def test_with_the_question_left_out_it_would_be_found(world: World, leaver: str, monkeypatch: pytest.MonkeyPatch):
    """The control: without it the seat of their own change goes to the proposer, and the test above would say so."""
    package = await world.make_package("submitted")
    outcome = await world.propose("admin", "package", "patch", package.id, {"title": "My own"})
    assert outcome.approval is not None
    monkeypatch.setattr(handover, "_may_sit", lambda *_: True)
    await disable(world, leaver, "admin")
    assert [to for to, _ in await handed(world, outcome.approval)] == [str(world.people["admin"])]


async def test_what_they_were_to_confirm_is_taken_back(world: World):
    await join(world, "leaver", "admin")
    times = {"starts_at": "2999-01-01T00:00:00Z", "ends_at": "2999-01-02T00:00:00Z"}
    seat = {"to_person": str(world.people["admin2"]), **times}
    outcome = await world.propose("leaver", "delegation", "create", None, seat)
    assert outcome.outcome == "confirmation_required"
    assert outcome.approval is not None
    await disable(world, "leaver", "admin")
    after = await world.approval(outcome.approval)
    assert after.status == "withdrawn"
    assert "was disabled" in (after.closed_reason or "")


async def test_what_they_proposed_waits_on(world: World, leaver: str):
    package = await world.make_package("submitted")
    outcome = await world.propose(leaver, "package", "patch", package.id, {"title": "Theirs"})
    assert outcome.approval is not None
    await disable(world, leaver, "admin")
    assert await handed(world, outcome.approval) == []
    assert (await world.say("admin", outcome.approval, "approve")).outcome == "applied"


async def test_done_again_it_does_nothing_and_who_comes_back_has_no_successor(world: World, leaver: str):
    approval = await world.waiting()
    await disable(world, leaver, "admin")
    again = await world.propose("root", "person", "patch", world.people[leaver], {"name": "Gone"})
    await world.settle(again, "root")
    assert len(await handed(world, approval)) == 1
    back = await world.propose("root", "person", "patch", world.people[leaver], {"active": True})
    person: Any = (await world.settle(back, "root")).entities[0]
    assert (person.active, person.hand_over_to) == (True, None)


async def test_the_successor_is_somebody_else_who_is_active(world: World, leaver: str):
    target = world.people[leaver]
    with pytest.raises(InvalidInputError, match="somebody else"):
        await world.propose("root", "person", "patch", target, {"active": False, "hand_over_to": str(target)})
    with pytest.raises(InvalidInputError, match="active"):
        await world.propose("root", "person", "patch", target, {"hand_over_to": str(world.people["admin"])})
    await disable(world, "admin2")
    gone = {"active": False, "hand_over_to": str(world.people["admin2"])}
    with pytest.raises(BadReferenceError):
        await world.propose("root", "person", "patch", target, gone)


async def test_rows_from_before_are_still_what_their_log_makes_of_them(world: World):
    """Nobody's row says anything of a successor until there is one."""
    async with world.read() as session:
        rows = await session.all("select doc from state.person where id = %s", (world.people["viewer"],))
    assert [doc for (doc,) in rows if '"name"' in doc and "hand_over_to" not in doc]
