"""The whole permission table, cell by cell, and what it means for agents, jobs and strangers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.kit.errors import ForbiddenError, NotFoundError
from pmis.policy import access
from pmis.policy.access import (
    ALL,
    DECIDING_ROLES,
    PEOPLE_ONLY,
    Action,
    Principal,
    Role,
    allowed,
    authorize,
    permitted,
    visible_projects,
)
from tests.policy.samples import person

HERE, THERE = UUID(int=1), UUID(int=2)

TABLE = """
             viewer analyst operator admin executive auditor
read              x       x        x     x         x       x
comment           -       x        x     x         x       -
propose           -       x        x     x         x       -
work_tasks        -       x        x     x         -       -
confirm           -       x        x     x         x       -
decide            -       -        -     x         x       -
delegate          -       -        -     x         x       -
configure         -       -        -     x         -       -
administer        -       -        -     -         -       -
read_audit        -       -        -     x         x       x
verify            -       -        -     x         x       x
export            -       -        -     x         -       x
"""
_HEAD, *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [(Role(role), Action(row[0]), cell == "x") for row in _ROWS for role, cell in zip(_HEAD, row[1:], strict=True)]


def someone(*roles: Role, project: UUID = HERE, **more: Any) -> Principal:
    return Principal("person", person(1), "Ada", roles={project: frozenset(roles)}, **more)


def agent_of(boss: Principal | None, *roles: Role, **more: Any) -> Principal:
    return Principal("agent", UUID(int=9), "Assistant", on_behalf_of=boss, roles={HERE: frozenset(roles)}, **more)


def test_the_table_has_every_cell():
    assert {(role, action) for role, action, _ in CELLS} == {(role, action) for role in Role for action in Action}


@pytest.mark.parametrize(("role", "action", "may"), CELLS)
def test_a_role_permits_what_the_table_says(role: Role, action: Action, may: bool):
    assert allowed(someone(role), action, HERE) is may
    assert visible_projects(someone(role), action) == ({HERE} if may else frozenset())
    if may:
        authorize(someone(role), action, HERE)
    else:
        with pytest.raises(ForbiddenError, match="None of your roles in this project"):
            authorize(someone(role), action, HERE)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("stranger", [someone(Role.ADMIN, project=THERE), Principal("person", person(2), "Nobody")])
def test_a_stranger_is_told_that_nothing_is_there(stranger: Principal, action: Action):
    with pytest.raises(NotFoundError):
        authorize(stranger, action, HERE)


def test_roles_add_up():
    both = someone(Role.ANALYST, Role.AUDITOR)
    assert allowed(both, Action.PROPOSE, HERE)
    assert allowed(both, Action.VERIFY, HERE)
    assert not allowed(both, Action.DECIDE, HERE)


def test_what_is_remembered_is_what_would_be_worked_out_again_and_it_is_bounded():
    who = someone(Role.OPERATOR)
    for number in range(3 * access.REMEMBERED):
        elsewhere = UUID(int=number + 1)
        assert access.permitted(who, elsewhere) == access.permitted(someone(Role.OPERATOR), elsewhere)
        assert len(who.known.permitted) <= access.REMEMBERED
    assert access.permitted(who, HERE) == access.PERMISSIONS[Role.OPERATOR]
    assert access.visible_projects(who) == access.visible_projects(who) == {HERE}
    assert access.visible_projects(who, Action.DECIDE) == set()


def test_only_admins_and_executives_decide():
    assert {Role.ADMIN, Role.EXECUTIVE} == DECIDING_ROLES


class TestAgents:
    def test_an_agent_has_what_both_it_and_its_person_have(self):
        agent = agent_of(someone(Role.ANALYST), Role.ANALYST, Role.ADMIN)
        assert agent.roles_in(HERE) == {Role.ANALYST}
        assert allowed(agent, Action.PROPOSE, HERE)

    @pytest.mark.parametrize("action", sorted(PEOPLE_ONLY))
    def test_an_agent_of_an_admin_still_does_nothing_that_is_for_people(self, action: Action):
        boss = someone(Role.ADMIN, Role.EXECUTIVE, instance_admin=True)
        agent = agent_of(boss, *Role, instance_admin=True)
        for project in (HERE, None):
            with pytest.raises(ForbiddenError, match=r"Only a person may .*; an agent cannot"):
                authorize(agent, action, project)
            assert visible_projects(agent, action) == frozenset()

    def test_an_agent_without_a_person_has_nothing(self):
        agent = agent_of(None, Role.ADMIN)
        assert agent.projects == frozenset()
        assert visible_projects(agent) == frozenset()
        with pytest.raises(NotFoundError):
            authorize(agent, Action.READ, HERE)

    def test_an_agent_sees_no_project_that_its_person_left(self):
        agent = agent_of(someone(Role.ANALYST, project=THERE), Role.ANALYST)
        with pytest.raises(NotFoundError):
            authorize(agent, Action.READ, HERE)

    def test_an_agent_of_an_agent_has_what_all_three_have(self):
        inner = agent_of(someone(Role.ANALYST), Role.ANALYST, Role.ADMIN)
        outer = agent_of(inner, Role.ANALYST, Role.AUDITOR)
        assert outer.roles_in(HERE) == {Role.ANALYST}
        assert outer.person_id == person(1)

    @given(
        st.frozensets(st.sampled_from(list(Role))),
        st.frozensets(st.sampled_from(list(Role))),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    def test_an_agent_never_has_more_than_its_person(
        self, own: frozenset[Role], theirs: frozenset[Role], a: bool, b: bool, c: bool, d: bool
    ):
        boss = someone(*theirs, instance_admin=a, instance_auditor=b)
        agent = agent_of(boss, *own, instance_admin=c, instance_auditor=d)
        for project in (HERE, THERE, None):
            assert permitted(agent, project) <= permitted(boss, project) - PEOPLE_ONLY


class TestServicesAndJobs:
    def test_a_service_has_its_own_roles_but_never_those_of_people(self):
        service = Principal("service", UUID(int=5), "ERP", roles={HERE: frozenset({Role.ADMIN})})
        assert allowed(service, Action.PROPOSE, HERE)
        assert not permitted(service, HERE) & PEOPLE_ONLY
        with pytest.raises(ForbiddenError, match="a service cannot"):
            authorize(service, Action.DECIDE, HERE)

    def test_a_job_of_the_instance_reads_and_proposes_everywhere_and_decides_nowhere(self):
        job = Principal("system", "overdue", "Overdue ladder")
        assert visible_projects(job) is ALL
        assert visible_projects(job, Action.WORK_TASKS) is ALL
        assert visible_projects(job, Action.DECIDE) == frozenset()
        assert visible_projects(job, Action.READ_AUDIT) == frozenset()
        with pytest.raises(ForbiddenError, match="a job cannot"):
            authorize(job, Action.DECIDE, HERE)

    def test_a_job_that_acts_for_somebody_has_no_more_than_they_have(self):
        job = Principal("system", "import", "Import", on_behalf_of=someone(Role.ANALYST, project=THERE))
        assert job.projects == {THERE}
        assert visible_projects(job, Action.PROPOSE) == {THERE}
        assert job.roles_in(THERE) == {Role.ANALYST}
        with pytest.raises(NotFoundError):
            authorize(job, Action.READ, HERE)

    def test_a_job_for_an_auditor_of_the_instance_only_reads(self):
        job = Principal("system", "report", "Report", on_behalf_of=someone(instance_auditor=True))
        assert permitted(job, HERE) == {Action.READ}


class TestTheInstance:
    def test_its_administrator_administers_but_reads_no_project_unasked(self):
        chief = someone(project=THERE, instance_admin=True)
        authorize(chief, Action.ADMINISTER, None)
        with pytest.raises(NotFoundError):
            authorize(chief, Action.READ, HERE)

    def test_its_auditor_reads_and_verifies_everything_and_changes_nothing(self):
        auditor = someone(project=THERE, instance_auditor=True)
        for project in (HERE, THERE, None):
            assert permitted(auditor, project) == {Action.READ, Action.READ_AUDIT, Action.VERIFY, Action.EXPORT}
        assert visible_projects(auditor) is ALL
        assert visible_projects(auditor, Action.PROPOSE) == frozenset()

    def test_an_executive_of_any_project_may_join_its_decisions(self):
        assert permitted(someone(Role.EXECUTIVE), None) == {Action.READ, Action.DECIDE}

    def test_everybody_else_is_told_who_may(self):
        with pytest.raises(ForbiddenError, match="Only an administrator of this instance may administer"):
            authorize(someone(Role.ADMIN), Action.ADMINISTER, None)
        with pytest.raises(ForbiddenError):
            authorize(someone(Role.ADMIN), Action.READ, None)

    def test_roles_on_the_instance(self):
        assert someone(Role.ADMIN).roles_in(None) == frozenset()
        assert someone(Role.EXECUTIVE, instance_admin=True, instance_auditor=True).roles_in(None) == {
            Role.ADMIN,
            Role.AUDITOR,
            Role.EXECUTIVE,
        }


class TestNames:
    def test_events_name_the_principal(self):
        assert someone().ref == f"person:{person(1)}"
        assert Principal("system", "sealer", "Sealer").ref == "system:sealer"

    def test_the_human_behind(self):
        assert someone().person_id == person(1)
        assert agent_of(someone()).person_id == person(1)
        assert agent_of(None).person_id is None
        assert Principal("system", "sealer", "Sealer").person_id is None
        assert Principal("person", "not-a-uuid", "Odd").person_id is None
