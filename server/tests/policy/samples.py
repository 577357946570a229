"""Documents, facts and people that the policy's tests share."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pmis.policy.arbitrate import Facts
from pmis.policy.document import FLAGS, Operation, Policy, Writer, default_policy
from pmis.policy.levels import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DOCUMENTS = Path(__file__).parent / "documents"


def default_document() -> dict[str, Any]:
    """The shipped document as JSON, to be changed by the test that asked for it."""
    return json.loads(files("pmis.policy").joinpath("default.json").read_text())


def budget_matrix() -> Policy:
    return Policy.parse((DOCUMENTS / "budget_matrix.json").read_bytes())


def facts(operation: str = "patch", target_type: str = "package", writer: str = "person", **more: Any) -> Facts:
    """Facts with the lists and texts that a table of cases likes to write."""
    for name in ("fields", "first_set", "flags"):
        if name in more:
            more[name] = frozenset(more[name])
    for name in ("amount_before", "amount_after", "budget"):
        if isinstance(more.get(name), (str, int)):
            more[name] = Decimal(more[name])
    return Facts(operation=operation, target_type=target_type, writer=writer, **more)


def person(number: int) -> UUID:
    return UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number)


# --- what changes can look like -----------------------------------------------------------------------------------

NOUNS = tuple(default_policy().nouns)
FIELDS = sorted(
    {name for noun in default_policy().nouns.values() for name in noun.fields if name != "*"} | {"x", "data.a"}
)
STATES = sorted({state for one in default_policy().lifecycles.values() for state in one.states})
CURRENCIES = ("USD", "EUR", "JPY")

AMOUNTS = [Decimal(text) for text in ("0", "100000", "100000.01", "1000000", "1500000.01", "3500000.01", "7500001")]
KNOWN = [
    ("transition", noun, source, step.to)
    for noun, lifecycle in default_policy().lifecycles.items()
    for step in lifecycle.transitions
    for source in step.from_
] + [
    (operation.value, noun, status, None)
    for noun, rule in default_policy().nouns.items()
    for operation in rule.operations
    for status in (default_policy().lifecycles[noun].states if noun in default_policy().lifecycles else [None])
]


def _amount(dice: Random) -> Decimal | None:
    kind = dice.random()
    if kind < 0.25:
        return None
    return dice.choice(AMOUNTS) if kind < 0.6 else Decimal(dice.randrange(2_000_000_000)) / 100


def _some(dice: Random, values: Sequence[str], most: int) -> frozenset[str]:
    return frozenset(dice.choices(values, k=dice.randint(0, most)))


def thrown(dice: Random, **fixed: Any) -> Facts:
    """A change as writers make them, from dice: known words nearly everywhere, a few unknown ones."""
    currency = dice.choice([None, *CURRENCIES])
    level: list[Level | None] = [None, *Level]
    parts: dict[str, Any] = {
        "operation": dice.choice([*Operation, "merge"]),
        "target_type": dice.choice([*NOUNS, "package", "package", "task", "unicorn"]),
        "writer": dice.choice([*Writer, "ghost"]),
        "status": dice.choice([None, *STATES, "lost"]),
        "to_status": dice.choice([None, *STATES, "lost"]),
        "fields": _some(dice, FIELDS, 4),
        "first_set": _some(dice, FIELDS, 4),
        "amount_before": _amount(dice),
        "amount_after": _amount(dice),
        "currency_before": currency,
        "currency_after": dice.choice([currency, currency, currency, *CURRENCIES]),
        "budget": _amount(dice),
        "budget_currency": dice.choice([currency, currency, *CURRENCIES]),
        "slip_days": dice.randint(-40, 200) if dice.random() < 0.5 else 0,
        "flags": _some(dice, sorted(FLAGS), 2) if dice.random() < 0.3 else frozenset(),
        "stated_impact": dice.choice(level) if dice.random() < 0.3 else None,
        "stated_uncertainty": dice.choice(level) if dice.random() < 0.3 else None,
        "person_behind": dice.choice([None, None, True, False]),
        "solo": dice.random() < 0.2,
    }
    return Facts(**{**parts, **fixed})


def thrown_known(dice: Random, **fixed: Any) -> Facts:
    """A change that the policy knows, so that a property is not all about refusals."""
    operation, noun, status, to_status = dice.choice(KNOWN)
    known: dict[str, Any] = {"operation": operation, "target_type": noun, "status": status, "to_status": to_status}
    if dice.random() < 0.7:
        known["fields"] = _some(
            dice, [name for name in default_policy().nouns[noun].fields if name != "*"] or FIELDS, 4
        )
    return thrown(dice, **{**known, "writer": dice.choice(list(Writer)), **fixed})


# Facts are thrown from one drawn seed rather than drawn field by field: that is thirty times faster, and a property is
# worth more for having seen thousands of changes than for a shrunk counterexample, which the fields show as they are.
dice = st.integers(min_value=0, max_value=2**63).map(Random)
some_facts = dice.map(thrown)
known_facts = dice.map(thrown_known)


# --- properties with planted twins --------------------------------------------------------------------------------


def run(
    prop: Callable[..., None],
    strategies: Mapping[str, st.SearchStrategy[Any]],
    *,
    examples: int = 300,
    derandomize: bool = False,
) -> None:
    """Try a property on many examples; raises what the property raises on one that breaks it.

    Properties are plain functions rather than decorated tests, so that each runs twice: on the real code, where it must
    hold, and on a planted bug, where it must not. The twin is derandomized, so that it finds its bug every time.
    """
    found = settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )(given(**strategies)(prop))
    found()
