"""What packages tell the policy of their dates, and what becomes of them when work is taken up again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pmis.package.rules import OPEN_ENDED, slip_days
from pmis.policy.document import Policy, PolicyDocumentError
from pmis.policy.levels import Route
from tests.policy.samples import default_document

if TYPE_CHECKING:
    from tests.builders import World


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [
        ("2026-01-01", "2026-01-31", 30),
        ("2026-01-31", "2026-01-01", 0),
        (None, "2026-01-01", 0),
        (None, None, 0),
        ("2026-01-01", None, OPEN_ENDED),
    ],
)
def test_how_late_a_date_gets(before: str | None, after: str | None, days: int):
    assert slip_days(before, after) == days


def test_a_date_that_goes_is_later_than_any_limit_that_a_policy_may_have():
    document = default_document()
    rule = {"id": "late", "text": "Late.", "impact": "high"}
    rules = document["impact"]["rules"]
    rules.append({**rule, "when": {"slip_days_above": OPEN_ENDED - 1}})
    Policy.parse(document)
    rules[-1]["when"] = {"slip_days_above": OPEN_ENDED}
    with pytest.raises(PolicyDocumentError):
        Policy.parse(document)


@pytest.mark.anyio
async def test_a_date_does_not_get_late_unseen_by_going_first(world: World):
    package = await world.make_package("active")
    later = str(package.planned_end + timedelta(days=365))
    at_once = await world.propose("operator", "package", "patch", package.id, {"planned_end": later})
    going = await world.propose("operator", "package", "patch", package.id, {"planned_end": None})
    assert [one.decision.route for one in (at_once, going)] == [Route.EXECUTIVE_APPROVAL] * 2


@pytest.mark.anyio
async def test_what_is_taken_up_again_has_not_ended(world: World):
    package = await world.make_package("active")
    done = await world.do("package", "transition", package.id, {"status": "completed"})
    assert done.actual_end is not None
    again = await world.do("package", "transition", package.id, {"status": "active"}, who="admin", reason="A leak.")
    assert (again.status, again.actual_end, again.actual_start) == ("active", None, package.actual_start)
    await world.require_replay()
