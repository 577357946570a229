"""What a proposal comes to at once, and what is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
import pytest

from pmis.approval.change import Change
from pmis.approval.errors import AlreadyExistsError, NothingToChangeError, PolicyRefusedError
from pmis.approval.propose import active_policy, preview, propose
from pmis.approval.registry import NOUNS
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError, InvalidInputError, NotFoundError, StaleVersionError
from pmis.kit.ids import uuid7
from pmis.policy.access import Role
from pmis.policy.levels import Level, Route
from tests.builders import World, make_project, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import TestDatabase

pytestmark = pytest.mark.anyio


async def events(world: World) -> int:
    async with world.read() as session:
        row = await session.one("select count(*) from ledger.event")
    return row[0] if row else -1


class TestRoutes:
    async def test_what_the_policy_leaves_to_the_writer_is_applied_at_once(self, world: World):
        outcome = await world.propose("operator", "package", "create", None, {"title": "A package"})
        assert (outcome.outcome, outcome.decision.route, outcome.approval) == ("applied", Route.AUTO, None)
        kind, payload, *_ = (await world.events(outcome.entities[0].id))[0]
        assert kind == "package.created"
        assert '"governance":{"digest":' in payload

    async def test_what_needs_others_waits_and_changes_nothing(self, world: World):
        draft = await world.make_package()
        outcome = await world.propose(
            "analyst", "package", "patch", draft.id, {"title": "Mine"}, stated_impact=Level.HIGH, reason="Why not."
        )
        assert outcome.approval is not None
        assert (outcome.outcome, outcome.entities, outcome.approval.reason) == ("pending", [], "Why not.")
        assert (await world.get("package", draft.id)).version == draft.version
        (change,) = outcome.approval.diff[0].fields
        assert (change.field, change.before, change.after) == ("title", "A package", "Mine")

    async def test_what_the_policy_refuses_is_refused_with_its_reasons(self, world: World):
        before = await events(world)
        now = {"starts_at": "2026-01-01T00:00:00+00:00", "ends_at": "2026-01-02T00:00:00+00:00"}
        with pytest.raises(PolicyRefusedError) as caught:
            await world.propose(
                "agent:admin", "delegation", "create", None, {"to_person": str(world.people["viewer"]), **now}
            )
        assert caught.value.extra["reasons"]
        assert await events(world) == before


class TestRefusals:
    async def test_a_stale_version(self, world: World):
        draft = await world.make_package()
        with pytest.raises(StaleVersionError, match="You saw version 7") as caught:
            await world.propose("operator", "package", "patch", draft.id, {"title": "X"}, if_version=7)
        assert caught.value.extra["version"] == draft.version

    async def test_an_id_that_is_taken(self, world: World):
        draft = await world.make_package()
        with pytest.raises(AlreadyExistsError, match="a record with this id exists"):
            await world.propose("operator", "package", "create", draft.id, {"title": "X"})

    async def test_nothing_to_change(self, world: World):
        draft = await world.make_package()
        with pytest.raises(NothingToChangeError, match="already has the proposed value"):
            await world.propose("operator", "package", "patch", draft.id, {"title": draft.title})

    async def test_a_step_of_what_has_no_life_cycle(self, world: World):
        made = await world.do("package_type", "create", None, {"name": "Works", "fields_schema": {}}, who="admin")
        with pytest.raises(InvalidInputError, match="A package type has no life cycle"):
            await world.propose("admin", "package_type", "transition", made.id)

    async def test_whose_role_does_not_suffice(self, world: World):
        draft = await world.make_package()
        with pytest.raises(ForbiddenError, match=r"Only an? .* may propose this") as caught:
            await world.propose("viewer", "package", "patch", draft.id, {"title": "X"})
        assert "operator" in caught.value.extra["allowed_roles"]

    async def test_r13_what_one_may_not_see_is_not_there(self, world: World):
        draft = await world.make_package()
        with pytest.raises(NotFoundError, match="There is no such package"):
            await world.propose("outsider", "package", "patch", draft.id, {"title": "X"})

    async def test_a_project_that_is_not_there(self, world: World):
        gone, before = uuid7(), await events(world)
        async with world.database.write(Reach.INSTANCE) as session:
            request = await world.request(session, "operator")
            # A role in a project that has no row: only a mistake elsewhere can bring it about.
            roles = {**request.principal.roles, gone: frozenset({Role.OPERATOR})}
            request = replace(request, principal=replace(request.principal, roles=roles))
            wanted = replace(world.wanted("package", "create", None, {"title": "X"}), project_id=gone)
            with pytest.raises(NotFoundError, match="There is no such project"):
                await propose(session, world.vault, request, [wanted])
        assert await events(world) == before

    async def test_changes_of_two_projects_in_one_proposal(self, world: World):
        async with world.database.write(Reach.INSTANCE) as session:
            other = await make_project(session, world.vault)
            await session.commit()
        async with world.database.write(Reach.INSTANCE) as session:
            request = await world.request(session, "operator")
            roles = {**request.principal.roles, other: frozenset({Role.OPERATOR})}
            request = replace(request, principal=replace(request.principal, roles=roles))
            here = world.wanted("package", "create", None, {"title": "X"})
            with pytest.raises(InvalidInputError, match="lie in one project"):
                await propose(session, world.vault, request, [here, replace(here, target=uuid7(), project_id=other)])


class TestFaultsOfOurs:
    """What no input brings about says what is wrong, rather than going on with nothing."""

    async def test_a_database_without_a_policy_says_how_to_get_one(self, make_database: Callable[[str], TestDatabase]):
        database = make_database("bare")
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from state.policy")
        async with opened(database) as pool, pool.read(Reach.INSTANCE) as session:
            with pytest.raises(RuntimeError, match="run `pmis migrate`"):
                await active_policy(session)

    async def test_a_noun_that_causes_no_fact_is_named(self, world: World):
        change = Change(
            operation="create",
            target_type="package",
            target=UUID(int=1),
            project_id=world.project,
            patch={},
            base_version=0,
        )
        async with world.database.write(Reach.INSTANCE) as session:
            request = await world.request(session, "operator")
            with pytest.raises(RuntimeError, match="package: a change caused no fact"):
                preview(NOUNS["package"], None, [], change, request, session)
