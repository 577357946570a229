"""A policy document is read whole or refused whole, and a refusal says where, what and what instead."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pmis.policy import document as module
from pmis.policy.access import Role
from pmis.policy.document import (
    Policy,
    PolicyDocumentError,
    Writer,
    default_policy,
    pointer,
    threshold,
)
from pmis.policy.levels import Level, Route
from tests.policy.samples import DOCUMENTS, budget_matrix, default_document, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Path = tuple[str | int, ...]


def changed(*edits: tuple[str, Any]) -> dict[str, Any]:
    """The shipped document with values put at pointers."""
    document = default_document()
    for where, value in edits:
        *parents, last = where.strip("/").split("/")
        here: Any = document
        for part in parents:
            here = here[int(part)] if isinstance(here, list) else here[part]
        if isinstance(here, list) and last == "-":
            here.append(value)
        elif isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    return document


def without(where: str) -> dict[str, Any]:
    document = default_document()
    *parents, last = where.strip("/").split("/")
    here: Any = document
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here[part]
    del here[last]
    return document


def faults(document: Any) -> dict[str, str]:
    with pytest.raises(PolicyDocumentError) as caught:
        Policy.parse(document)
    assert caught.value.status == 422
    assert caught.value.extra == {"errors": caught.value.errors}
    found: dict[str, str] = {}
    for one in caught.value.errors:
        found[one["pointer"]] = " | ".join(filter(None, (found.get(one["pointer"]), one["problem"])))
    return found


class TestWhole:
    @pytest.mark.parametrize("policy", [default_policy(), budget_matrix()], ids=["default", "budget matrix"])
    def test_documents_that_ship_are_valid_and_written_back_as_they_were_read(self, policy: Policy):
        assert Policy.parse(policy.to_json()) == policy
        assert Policy.parse(json.dumps(policy.to_json())) == policy

    def test_nothing_is_lost_or_added_by_reading(self):
        assert default_policy().to_json() == default_document()

    def test_text_bytes_and_objects_are_read_alike(self):
        raw = (DOCUMENTS / "budget_matrix.json").read_bytes()
        assert Policy.parse(raw) == Policy.parse(raw.decode()) == Policy.parse(json.loads(raw))

    def test_a_policy_cannot_be_changed_after_it_was_read(self):
        with pytest.raises(ValidationError, match="frozen"):
            default_policy().version = 2  # pyright: ignore[reportAttributeAccessIssue]

    def test_the_message_names_the_first_fault_and_counts_the_rest(self):
        with pytest.raises(PolicyDocumentError) as caught:
            Policy.parse(changed(("/version", True), ("/name", 5), ("/solo/enabled", "no")))
        assert caught.value.detail == "/version: write a whole number. (2 more)"
        with pytest.raises(PolicyDocumentError) as caught:
            Policy.parse("[]")
        assert caught.value.detail == "The document: write an object."


class TestText:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "it is not JSON: Expecting value"),
            ("{", "it is not JSON: Expecting property name"),
            (b"\xff\xfe", "it is not JSON: 'utf-8' codec can't decode"),
            ('{"version": NaN}', "it is not JSON: NaN is not a JSON number"),
            ('{"version": Infinity}', "it is not JSON: Infinity is not a JSON number"),
            ('{"version": 1e999}', "it is not JSON: Out of range float values"),
            ('{"name": "\\ud800"}', "it is not JSON"),
            ('{"version": 1, "version": 2}', "the key 'version' stands twice in one object"),
            ("[" * 100_000, "it is nested too deeply"),
            ("9" * 5000, "it is not JSON: Exceeds the limit"),
            ({"version": {1, 2}}, "it is not JSON: Object of type set"),
            ({"version": float("nan")}, "it is not JSON: Out of range float values"),
        ],
    )
    def test_what_is_not_json_is_said_to_be_so(self, text: Any, problem: str):
        found = faults(text)
        assert list(found) == [""]
        assert found[""].startswith(problem)

    def test_a_pointer_escapes_what_it_must(self):
        assert pointer(("a/b", "m~n", 0)) == "/a~1b/m~0n/0"
        assert pointer(()) == ""


SHAPE = [
    (without("/matrix/medium/high"), "/matrix/medium/high", "it is missing"),
    (without("/approvals/ESCALATE"), "/approvals/ESCALATE", "it is missing"),
    (changed(("/version", "1")), "/version", "write a whole number"),
    (changed(("/version", True)), "/version", "write a whole number"),
    (changed(("/version", 1.0)), "/version", "write a whole number"),
    (changed(("/version", 0)), "/version", "greater than or equal to 1"),
    (changed(("/format", "pmis-policy-v2")), "/format", "use 'pmis-policy-v1'"),
    (changed(("/name", "a\nb")), "/name", "it does not match"),
    (changed(("/name", "a\u0085b")), "/name", "it does not match"),
    (changed(("/name", "")), "/name", "at least 1 character"),
    (changed(("/solo/enabled", 1)), "/solo/enabled", "write true or false"),
    (changed(("/matrix/low/low", "MAYBE")), "/matrix/low/low", "use 'AUTO', 'CONFIRM', 'APPROVAL_REQUIRED'"),
    (changed(("/matrix", [])), "/matrix", "write an object"),
    (changed(("/floors", {})), "/floors", "write a list"),
    (changed(("/nouns", [])), "/nouns", "write an object"),
    (changed(("/name", 5)), "/name", "write a text"),
    (changed(("/uncertainty/writers/email", 2)), "/uncertainty/writers/email", "use low, medium, high or critical"),
    (
        changed(("/uncertainty/writers/fax", "low")),
        "/uncertainty/writers/fax",
        "known are person, agent, import, email",
    ),
    (
        changed(("/impact/rules/0/when/amount_over", "5")),
        "/impact/rules/0/when/amount_over",
        "known are noun, operation",
    ),
    (changed(("/surprise", 1)), "/surprise", "this key is not known here; known are format, version, name, nouns"),
    (
        changed(("/nouns/package/operations/merge", {})),
        "/nouns/package/operations/merge",
        "this key is not allowed: use",
    ),
    (
        changed(("/nouns/package/operations/create/roles", [])),
        "/nouns/package/operations/create/roles",
        "list at least 1",
    ),
    (
        changed(("/nouns/package/operations/create/roles", ["admin", "admin"])),
        "/nouns/package/operations/create/roles",
        "admin is listed twice",
    ),
    (
        changed(("/nouns/package/operations/create/roles/0", "boss")),
        "/nouns/package/operations/create/roles/0",
        "use 'vie",
    ),
    (
        changed(("/tiers/levels/0/above", {"EUR": "5"})),
        "/tiers/levels/0/above",
        'add "*", the threshold for every currency',
    ),
    (
        changed(("/tiers/levels/0/above/eur", "5")),
        "/tiers/levels/0/above/eur",
        "this key is not allowed: it does not match",
    ),
    (changed(("/tiers/levels/0/above/*", 5)), "/tiers/levels/0/above/*", "write a decimal number as text"),
    (changed(("/tiers/levels/0/step/quorum", True)), "/tiers/levels/0/step/quorum", "write a whole number"),
    (changed(("/tiers/levels/0/step/quorum", 0)), "/tiers/levels/0/step/quorum", "greater than or equal to 1"),
    (
        changed(("/tiers/levels/0/step/roles", ["analyst"])),
        "/tiers/levels/0/step/roles",
        "analyst does not decide; use admin or",
    ),
    (changed(("/tiers/levels/0/step/people", ["Ada"])), "/tiers/levels/0/step/people/0", "valid UUID"),
    (changed(("/delegation/redelegation", True)), "/delegation/redelegation", "use false"),
    (
        changed(("/impact/rules/0/when/share_unknown", False)),
        "/impact/rules/0/when/share_unknown",
        "use true, or leave it out",
    ),
    (
        changed(("/impact/rules/0/when/share_above", "0.1.2")),
        "/impact/rules/0/when/share_above",
        "write a decimal number",
    ),
]


@pytest.mark.parametrize(("document", "where", "problem"), SHAPE, ids=[f"{n}:{row[1]}" for n, row in enumerate(SHAPE)])
def test_a_wrong_shape_is_located_and_explained(document: dict[str, Any], where: str, problem: str):
    assert problem in faults(document)[where]


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1e6", " 1", "1.", ".5", "", "NaN", "١٢", "1,000", "0x10", "1" * 31, "0.123456789", "1_000"]
)
def test_amounts_are_plain_decimals(text: str):
    assert (
        "write a decimal number as text"
        in faults(changed(("/tiers/levels/0/above/*", text)))["/tiers/levels/0/above/*"]
    )


@pytest.mark.parametrize("text", ["0", "1500000", "1500000.00", "0.12345678", "123456789012345678901.12345678"])
def test_plain_decimals_are_exact(text: str):
    policy = Policy.parse(changed(("/tiers/levels/0/above/*", text)))
    assert threshold(policy.tiers.levels[0].above, "USD") == Decimal(text)
    assert policy.to_json()["tiers"]["levels"][0]["above"]["*"] == text


STEP = {"id": "second", "name": "Another", "roles": ["admin"], "quorum": 1}
TIER = {"above": {"*": "2000000"}, "step": STEP}
RULE = {"id": "x", "text": "X.", "when": {"noun": ["package"]}, "impact": "low"}
TWO = ["01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"]

MEANING = [
    # The matrix
    (
        changed(("/matrix/low/critical", "AUTO")),
        "/matrix/low/critical",
        "AUTO is laxer than CONFIRM at /matrix/low/high; more risk never gets a laxer route",
    ),
    (
        changed(("/matrix/high/medium", "REJECT")),
        "/matrix/critical/medium",
        "EXECUTIVE_APPROVAL is laxer than REJECT at /matrix/high/medium",
    ),
    # Nouns and their fields
    (without("/nouns/package"), "/nouns", "package is missing"),
    (without("/nouns/comment/fields/*"), "/nouns/comment/fields", 'add "*"'),
    (
        changed(("/nouns/package/operations/transition", {"roles": ["admin"], "impact": "low"})),
        "/nouns/package/operations/transition",
        "the transitions of a lifecycle say who may propose them",
    ),
    (without("/lifecycles/task"), "/nouns/task", "add lifecycles/task: a task has states"),
    (
        changed(("/lifecycles/unicorn", default_document()["lifecycles"]["task"])),
        "/lifecycles/unicorn",
        "'unicorn' is not one of the nouns",
    ),
    # Rules
    (changed(("/impact/rules/-", {**RULE, "when": {}})), "/impact/rules/20/when", "give at least one condition"),
    (
        changed(("/impact/rules/-", {**RULE, "when": {"noun": None}})),
        "/impact/rules/20/when",
        "give at least one condition",
    ),
    (
        changed(("/impact/rules/-", {**RULE, "id": "task.slip.7"})),
        "/impact/rules/20/id",
        "is the id of an earlier rule",
    ),
    (
        changed(("/impact/rules/-", {**RULE, "id": "matrix.low"})),
        "/impact/rules/20/id",
        "ids do not begin with matrix.",
    ),
    (changed(("/floors/0/id", "task.slip.7")), "/floors/0/id", "'task.slip.7' is the id of an earlier rule"),
    (changed(("/floors/0/when/noun", ["pakage"])), "/floors/0/when/noun/0", "'pakage' is not one of the nouns"),
    (
        changed(("/floors/3/when/fields", ["vendr_id"])),
        "/floors/3/when/fields/0",
        "'vendr_id' is not one of the fields listed for package",
    ),
    (changed(("/floors/7/when/from", ["actve"])), "/floors/7/when/from/0", "'actve' is not a state of package"),
    (changed(("/floors/7/when/to", ["blocked"])), "/floors/7/when/to/0", "'blocked' is not a state of package"),
    (changed(("/floors/12/when/flags", ["rumour"])), "/floors/12/when/flags/0", "'rumour' is not one of the flags"),
    (changed(("/tiers/applies_to/0", {})), "/tiers/applies_to/0", "give at least one condition"),
    # Tiers
    (
        changed(("/tiers/levels/-", {**TIER, "above": {"*": "1000000"}})),
        "/tiers/levels/1/above",
        "1000000 is not above 1000000, where the level before begins (*)",
    ),
    (
        changed(("/tiers/levels/-", {**TIER, "above": {"*": "2000000", "JPY": "500000"}})),
        "/tiers/levels/1/above",
        "500000 is not above 1000000, where the level before begins (JPY)",
    ),
    # Steps
    (
        changed(("/tiers/levels/-", {**TIER, "step": {**STEP, "id": "executive"}})),
        "/tiers/levels/1/step/id",
        "'executive' is the id of an earlier step here",
    ),
    (
        changed(("/tiers/levels/0/step/quorum", 2)),
        "/tiers/levels/0/step/id",
        "'executive' is the id of another step elsewhere",
    ),
    (
        changed(
            ("/approvals/APPROVAL_REQUIRED/steps/0/people", TWO), ("/approvals/APPROVAL_REQUIRED/steps/0/quorum", 3)
        ),
        "/approvals/APPROVAL_REQUIRED/steps/0/people",
        "2 cannot give a quorum of 3",
    ),
    (
        changed(("/approvals/APPROVAL_REQUIRED/steps/0/people", [TWO[0], TWO[0]])),
        "/approvals/APPROVAL_REQUIRED/steps/0/people",
        "somebody is named twice",
    ),
    # Approvals
    (changed(("/approvals/CONFIRM/steps", [STEP])), "/approvals/CONFIRM/steps", "the proposer confirms, nobody else"),
    (
        changed(("/approvals/APPROVAL_REQUIRED/steps", [])),
        "/approvals/APPROVAL_REQUIRED/steps",
        "0 must agree here, but at least 1 different people have to",
    ),
    (
        changed(("/approvals/EXECUTIVE_APPROVAL/steps", [default_document()["tiers"]["levels"][0]["step"]])),
        "/approvals/EXECUTIVE_APPROVAL/steps",
        "1 must agree here, but at least 2 different people have to",
    ),
    (
        changed(("/approvals/EXECUTIVE_APPROVAL/steps/1", STEP)),
        "/approvals/EXECUTIVE_APPROVAL/steps",
        "one step must be for executives alone",
    ),
    (
        changed(
            ("/approvals/EXECUTIVE_APPROVAL/steps/-", STEP),
            ("/approvals/EXECUTIVE_APPROVAL/steps/-", {**STEP, "id": "third"}),
        ),
        "/approvals/ESCALATE/steps",
        "2 must agree here, but at least 4 different people have to",
    ),
    (
        changed(("/approvals/APPROVAL_REQUIRED/steps/0/quorum", 2)),
        "/approvals/EXECUTIVE_APPROVAL/steps",
        "with tier 'executive', 2 must agree here, but 3 on the laxer APPROVAL_REQUIRED",
    ),
    (without("/approvals/ESCALATE/deadline_hours"), "/approvals/ESCALATE", "deadline_hours is missing"),
    (
        changed(("/approvals/ESCALATE/deadline_hours", 168)),
        "/approvals/ESCALATE/deadline_hours",
        "168 is not before the approval expires, at 168",
    ),
    (
        changed(("/approvals/CONFIRM/bypass_hours", 12)),
        "/approvals/CONFIRM/bypass_hours",
        "leave it out: the proposer confirms, nobody else",
    ),
    (
        changed(("/approvals/APPROVAL_REQUIRED/bypass_hours", 336)),
        "/approvals/APPROVAL_REQUIRED/bypass_hours",
        "336 is not before the approval expires, at 336",
    ),
    (
        changed(("/approvals/CONFIRM/remind_hours", 169)),
        "/approvals/CONFIRM/remind_hours",
        "169 is not before the approval expires, at 168",
    ),
]


@pytest.mark.parametrize(
    ("document", "where", "problem"), MEANING, ids=[f"{n}:{row[1]}" for n, row in enumerate(MEANING)]
)
def test_what_contradicts_itself_is_located_and_explained(document: dict[str, Any], where: str, problem: str):
    found = faults(document)
    assert problem in found[where], found


def test_every_fault_of_meaning_is_listed_at_once():
    document = changed(
        ("/matrix/medium/high", "AUTO"), ("/floors/0/id", "matrix.x"), ("/lifecycles/task/initial", "born")
    )
    assert {"/matrix/medium/high", "/floors/0/id", "/lifecycles/task/initial"} <= set(faults(document))


class TestLookingThingsUp:
    def test_proposers_of_an_operation_and_of_a_step(self):
        policy = default_policy()
        assert Role.EXECUTIVE in policy.proposers("package", "create")
        assert policy.proposers("task", "delete") == (Role.ANALYST, Role.OPERATOR, Role.ADMIN)
        assert policy.proposers("package", "transition", from_status="completed", to_status="active") == (
            Role.ADMIN,
            Role.EXECUTIVE,
        )

    @pytest.mark.parametrize(
        ("noun", "operation", "steps"),
        [
            ("unicorn", "create", {}),
            ("unicorn", "transition", {"from_status": "a", "to_status": "b"}),
            ("package", "merge", {}),
            ("package", "transition", {}),
            ("package", "transition", {"from_status": "draft"}),
            ("package", "transition", {"from_status": "draft", "to_status": "active"}),
            ("party", "transition", {"from_status": "a", "to_status": "b"}),
        ],
    )
    def test_nobody_proposes_what_the_policy_does_not_know(self, noun: str, operation: str, steps: dict[str, str]):
        assert default_policy().proposers(noun, operation, **steps) == ()

    def test_lifecycles_and_writers(self):
        policy = default_policy()
        assert policy.lifecycle("party") is None
        assert policy.lifecycle("task") is policy.lifecycles["task"]
        assert [policy.uncertainty.writers.of(writer) for writer in Writer] == [
            Level.LOW,
            Level.MEDIUM,
            Level.MEDIUM,
            Level.HIGH,
            Level.MEDIUM,
            Level.LOW,
        ]
        assert policy.uncertainty.writers.of("ghost") is None
        assert policy.uncertainty.writers.of("model_config") is None

    def test_a_field_counts_by_its_name_then_its_first_part_then_the_rest(self):
        fields = {"data": "low", "data.price": "critical", "*": "high"}
        noun = Policy.parse(changed(("/nouns/comment/fields", fields))).nouns["comment"]
        assert noun.field_impact("data.price") is Level.CRITICAL
        assert noun.field_impact("data.colour") is Level.LOW
        assert noun.field_impact("body") is Level.HIGH

    def test_the_delegation_limit_is_a_span_of_time(self):
        assert default_policy().delegation.longest.days == 90

    def test_the_keys_of_a_part_that_may_be_left_out_are_those_it_has_when_it_is_there(self):
        assert module._inside(dict[str, module.When | None], "any") is module.When

    def test_named_people_reach_the_step(self):
        step = budget_matrix().tiers.levels[0].step.step
        assert step.people == (UUID("01900000-0000-7000-8000-00000000d1e1"),)


# --- mutations ----------------------------------------------------------------------------------------------------


def places(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def at(document: Any, where: Path) -> Any:
    for part in where:
        document = document[part]
    return document


def put(document: Any, where: Path, value: Any) -> Any:
    mutated = copy.deepcopy(document)
    at(mutated, where[:-1])[where[-1]] = value
    return mutated


def wrong_types(value: Any) -> list[Any]:
    """Values of every other JSON type, the tempting ones first: a boolean for a number, a number for a text."""
    if isinstance(value, bool):
        return [int(value), str(value).lower(), [value], {}]
    if isinstance(value, int):
        return [True, float(value), str(value), [value], {}]
    if isinstance(value, str):
        return [1, True, [value], {"value": value}]
    return [1, True, "text", list(value) if isinstance(value, dict) else {"0": 1}]


def is_model(model: type[BaseModel], where: Path) -> type[BaseModel] | None:
    kind: Any = model
    for part in where:
        kind = module._inside(kind, part)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


SHIPPED = [default_document(), json.loads((DOCUMENTS / "budget_matrix.json").read_bytes())]
PLACES = [(number, where) for number, document in enumerate(SHIPPED) for where, _ in places(document) if where]
OBJECTS = [
    (n, where) for n, document in enumerate(SHIPPED) for where, value in places(document) if isinstance(value, dict)
]
REQUIRED = [
    (number, (*where, info.alias or name))
    for number, where in OBJECTS
    if (model := is_model(Policy, where)) is not None
    for name, info in model.model_fields.items()
    if info.is_required()
]


def refusal(parse: Callable[[Any], Any], document: Any) -> list[str] | None:
    try:
        parse(document)
    except PolicyDocumentError as error:
        return [one["pointer"] for one in error.errors]
    return None


def wrong_type_is_refused(parse: Callable[[Any], Any], place: tuple[int, Path], pick: int) -> None:
    number, where = place
    wrong = wrong_types(at(SHIPPED[number], where))
    found = refusal(parse, put(SHIPPED[number], where, wrong[pick % len(wrong)]))
    assert found is not None
    assert any(one.startswith(pointer(where)) for one in found)


def dropped_key_is_refused(parse: Callable[[Any], Any], place: tuple[int, Path]) -> None:
    number, where = place
    document = copy.deepcopy(SHIPPED[number])
    del at(document, where[:-1])[where[-1]]
    assert refusal(parse, document) == [pointer(where)]


def unknown_key_is_refused(parse: Callable[[Any], Any], place: tuple[int, Path]) -> None:
    number, where = place
    document = copy.deepcopy(SHIPPED[number])
    at(document, where)["unheard_of"] = "anything"
    found = refusal(parse, document)
    assert found is not None
    assert pointer((*where, "unheard_of")) in found


def lenient(document: Any) -> Policy:
    """The planted bug: a reader that converts types, ignores what it does not know and fills what is missing."""
    try:
        policy = Policy.model_validate(document, strict=False, extra="ignore")
    except ValidationError:
        return default_policy()
    return policy


MUTATIONS: list[tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]]]] = [
    (wrong_type_is_refused, {"place": st.sampled_from(PLACES), "pick": st.integers(0, 4)}),
    (dropped_key_is_refused, {"place": st.sampled_from(REQUIRED)}),
    (unknown_key_is_refused, {"place": st.sampled_from(OBJECTS)}),
]


@pytest.mark.parametrize(("prop", "strategies"), MUTATIONS, ids=[prop.__name__ for prop, _ in MUTATIONS])
def test_mutated_documents_are_refused_where_they_were_mutated(
    prop: Callable[..., None], strategies: dict[str, st.SearchStrategy[Any]]
):
    run(prop, {"parse": st.just(Policy.parse), **strategies}, examples=150)


@pytest.mark.parametrize(("prop", "strategies"), MUTATIONS, ids=[prop.__name__ for prop, _ in MUTATIONS])
def test_twin_a_lenient_reader_is_caught(prop: Callable[..., None], strategies: dict[str, st.SearchStrategy[Any]]):
    with pytest.raises(AssertionError):
        run(prop, {"parse": st.just(lenient), **strategies}, examples=150, derandomize=True)


@pytest.mark.parametrize(
    ("where", "wrong", "said"),
    [
        ("/impact/rules/8/when/share_unknown", 1, "use true, or leave it out"),
        ("/impact/rules/8/when/share_unknown", False, "use true, or leave it out"),
        ("/impact/rules/4/when/currency_changes", 1.0, "use true, or leave it out"),
        ("/delegation/redelegation", 0, "use false"),
        ("/delegation/redelegation", True, "use false"),
    ],
)
def test_a_number_is_no_boolean_where_only_one_boolean_is_allowed(where, wrong, said):
    assert faults(changed((where, wrong))) == {where: said}


def test_every_place_refuses_every_wrong_type():
    """All of them, once for each path of the same shape: random examples met the three bad ones once in a while."""
    seen: set[tuple[Any, ...]] = set()
    for number, where in PLACES:
        for pick, wrong in enumerate(wrong_types(at(SHIPPED[number], where))):
            shape = (*("#" if isinstance(part, int) else part for part in where), type(wrong), pick)
            if shape not in seen:
                seen.add(shape)
                wrong_type_is_refused(Policy.parse, (number, where), pick)
    assert len(seen) > 1000


def test_mutations_reach_the_whole_document():
    assert len(PLACES) > 1500
    assert len(REQUIRED) > 800


def lax_cell_is_refused(parse: Callable[[Any], Any], impact: Level, uncertainty: Level, route: Route) -> None:
    """A matrix is accepted exactly when no cell is laxer than one to its left or above it."""
    document = changed((f"/matrix/{impact.word}/{uncertainty.word}", route.value))
    cells = {(a, b): Route(document["matrix"][a.word][b.word]).severity for a in Level for b in Level}
    monotone = all(cells[a, b] <= cells[c, d] for a, b in cells for c, d in cells if a <= c and b <= d)
    found = refusal(parse, document)
    assert (found is None) is monotone
    assert monotone or any(one.startswith("/matrix/") for one in found or [])


def test_only_monotone_matrices_are_accepted():
    cells = {"impact": st.sampled_from(Level), "uncertainty": st.sampled_from(Level), "route": st.sampled_from(Route)}
    run(lax_cell_is_refused, {**cells, "parse": st.just(Policy.parse)})
    unchecked = st.just(lambda document: Policy.model_validate_json(json.dumps(document)))
    with pytest.raises(AssertionError):
        run(lax_cell_is_refused, {**cells, "parse": unchecked}, derandomize=True)
