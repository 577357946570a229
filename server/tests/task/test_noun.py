"""Tasks and their packages: what is over takes no more tasks, and a date that goes is late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pmis.approval.errors import ApprovalVoidError, FrozenRecordError, GuardRefusedError
from pmis.approval.registry import NOUNS
from pmis.policy.levels import Route

if TYPE_CHECKING:
    from tests.builders import World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_a_package_that_is_over_takes_no_more_tasks(world: World, status: str):
    package = await world.make_package("active")
    deleted = await world.make_task(package.id)
    await world.do("task", "delete", deleted.id, reason="A mistake.")
    await world.do("package", "transition", package.id, {"status": status}, who="admin", reason="That was it.")
    with pytest.raises(FrozenRecordError, match=f"Its package is {status} and frozen"):
        await world.make_task(package.id)
    with pytest.raises(FrozenRecordError, match="takes no more tasks"):
        await world.do("task", "restore", deleted.id)


async def test_nor_one_that_the_same_proposal_ends(world: World):
    package = await world.make_package("active")
    ending = world.wanted("package", "transition", package.id, {"status": "completed"})
    adding = world.wanted("task", "create", None, {"package_id": str(package.id), "title": "Late"})
    with pytest.raises(FrozenRecordError):
        await world.propose_all("admin", [ending, adding])


async def test_nor_does_one_end_while_it_gets_a_task(world: World):
    """Both lock the package: whichever comes first, the other one sees it."""
    for _ in range(8):
        package = await world.make_package("active")
        outcome = await world.propose("operator", "package", "transition", package.id, {"status": "completed"})
        waiting = outcome.approval
        assert waiting is not None
        ended, added = await asyncio.gather(
            world.settle(outcome, "operator"), world.make_task(package.id), return_exceptions=True
        )
        assert isinstance(added, FrozenRecordError) != isinstance(ended, ApprovalVoidError), (ended, added)


async def test_the_control_without_the_lock_both_are_done(world: World, monkeypatch: pytest.MonkeyPatch):
    async def unlooked(*_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(type(NOUNS["task"]), "check_references", unlooked)
    package = await world.make_package("active")
    await world.do("package", "transition", package.id, {"status": "completed"}, who="admin")
    assert (await world.make_task(package.id)).status == "pending"


async def test_a_due_date_does_not_get_late_unseen_by_going_first(world: World):
    package = await world.make_package()
    task = await world.make_task(package.id, due_date="2026-11-30")
    far, gone = [
        await world.propose("operator", "task", "patch", task.id, {"due_date": due}, reason="Later.")
        for due in ("2027-11-30", None)
    ]
    assert [one.decision.route for one in (far, gone)] == [Route.APPROVAL_REQUIRED] * 2


@pytest.mark.parametrize("due", ["2027-11-30", None])
async def test_a_step_moves_no_due_date_without_a_reason_either(world: World, due: str | None):
    package = await world.make_package()
    task = await world.make_task(package.id, due_date="2026-11-30")
    step = {"status": "in_progress", "due_date": due}
    with pytest.raises(GuardRefusedError, match="needs a reason"):
        await world.do("task", "transition", task.id, step)
    assert (await world.propose("operator", "task", "transition", task.id, step, reason="Later.")).outcome == "pending"
