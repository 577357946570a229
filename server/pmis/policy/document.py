"""The policy document: versioned data that says everything the policy judges by, read strictly.

`Policy.parse` is the only way in. It accepts a document whole or not at all, and says of every fault where it is (a
JSON Pointer), what is wrong and what is allowed. Beyond the shape it checks what no schema can: that states are
reachable, that names refer to something, that tiers ascend, and that more risk never gets a laxer route.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache, cached_property
from importlib.resources import files
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from pmis.kit.errors import PmisError
from pmis.policy.access import DECIDING_ROLES, Role
from pmis.policy.approvers import Order, Step
from pmis.policy.levels import APPROVAL_ROUTES, Level, Route
from pmis.policy.lifecycle import Lifecycle, Phase
from pmis.policy.strict import DecimalText, Hours, Identifier, LevelWord, Names, No, Roles, Sentence, Strict, Yes

FORMAT: Final = "pmis-policy-v1"
ANY: Final = "*"
"""The key that stands for every currency or field that is not named."""


class Operation(StrEnum):
    """What a change does to its target."""

    CREATE = "create"
    PATCH = "patch"
    TRANSITION = "transition"
    DELETE = "delete"
    RESTORE = "restore"


class Writer(StrEnum):
    """Where a change comes from."""

    PERSON = "person"
    AGENT = "agent"
    IMPORT = "import"
    EMAIL = "email"
    SERVICE = "service"
    SYSTEM = "system"


UNTRUSTED: Final = "untrusted_text"
FLAGS: Final[Mapping[str, str]] = {
    "inexact": "the values are estimates rather than what the source says word for word",
    "of_another": "the record is another person's own",
    UNTRUSTED: "a value was taken from an e-mail or a file that anybody could have written",
}
"""What a writer can say about a change besides its fields; a rule may ask for it."""

_WRITERS: Final = frozenset(Writer)
Location: TypeAlias = tuple[str | int, ...]
Problem: TypeAlias = tuple[Location, str]


class PolicyDocumentError(PmisError):
    """The document is refused as a whole; `errors` lists each fault with its JSON Pointer."""

    code = "policy_invalid"
    status = 422
    title = "The policy document is not valid"

    def __init__(self, problems: list[Problem]) -> None:
        """The text names the first fault and counts the rest."""
        errors = [{"pointer": pointer(where), "problem": what} for where, what in problems]
        first = errors[0]
        more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first['pointer'] or 'The document'}: {first['problem']}.{more}", errors=errors)
        self.errors = errors


def pointer(where: Location) -> str:
    """The JSON Pointer (RFC 6901) of a place in the document; the empty text is the document itself."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in where)


# --- thresholds ---------------------------------------------------------------------------------------------------

CurrencyKey = Annotated[str, StringConstraints(pattern=r"^([A-Z]{3}|\*)$")]


def _with_fallback(thresholds: dict[str, Decimal]) -> dict[str, Decimal]:
    # Without a fallback, stating the amount in a currency nobody thought of would escape the rule.
    if ANY not in thresholds:
        raise PydanticCustomError("fallback", 'add "*", the threshold for every currency that is not named')
    return thresholds


Thresholds = Annotated[dict[CurrencyKey, DecimalText], AfterValidator(_with_fallback)]
"""An amount per currency, with one for all others. Amounts are only ever compared with that of their own currency."""


def threshold(thresholds: Mapping[str, Decimal], currency: str | None) -> Decimal:
    """The threshold that counts for the currency."""
    return thresholds.get(currency or ANY, thresholds[ANY])


# --- rules --------------------------------------------------------------------------------------------------------


class When(Strict):
    """The conditions of a rule. Every one that is given must hold; a list holds when any of its items does.

    Each is either about what the change is, or holds for every larger amount, slip or set of fields once it holds for
    a smaller one. That is why no fact that grows can make a rule stop applying.
    """

    noun: Names | None = None
    operation: Annotated[tuple[Operation, ...], Field(min_length=1)] | None = None
    writer: Annotated[tuple[Writer, ...], Field(min_length=1)] | None = None
    from_: Annotated[Names | None, Field(alias="from")] = None
    to: Names | None = None
    phase: Annotated[tuple[Phase, ...], Field(min_length=1)] | None = None
    fields: Names | None = None
    flags: Names | None = None
    currency_changes: Yes | None = None
    share_unknown: Yes | None = None
    share_above: DecimalText | None = None
    delta_above: Thresholds | None = None
    amount_above: Thresholds | None = None
    slip_days_above: Annotated[int, Field(ge=0, le=36600)] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no condition is given at all."""
        return not self.model_dump(exclude_none=True)


class FloorWhen(When):
    """The conditions of a floor, which may also ask how high the levels came out."""

    impact_at_least: LevelWord | None = None
    uncertainty_at_least: LevelWord | None = None


class ImpactRule(Strict):
    """A fact that makes the impact at least this high."""

    id: Identifier
    text: Sentence
    when: When
    impact: LevelWord


class UncertaintyRule(Strict):
    """A fact that makes the uncertainty at least this high."""

    id: Identifier
    text: Sentence
    when: When
    uncertainty: LevelWord


class FloorRule(Strict):
    """A fact below whose route the change never goes, whatever its score."""

    id: Identifier
    text: Sentence
    when: FloorWhen
    route: Route


R = TypeVar("R", ImpactRule, FloorRule)
Index: TypeAlias = Mapping[tuple[str, str, Phase | None], tuple[R, ...]]


class Writers(Strict):
    """The uncertainty that each writer starts from."""

    person: LevelWord
    agent: LevelWord
    import_: Annotated[LevelWord, Field(alias="import")]
    email: LevelWord
    service: LevelWord
    system: LevelWord

    def of(self, writer: str) -> Level | None:
        """The writer's level; None for a writer that is not known."""
        return getattr(self, "import_" if writer == Writer.IMPORT else writer) if writer in _WRITERS else None


class Uncertainty(Strict):
    """How uncertainty is found."""

    writers: Writers
    rules: tuple[UncertaintyRule, ...]


class Impact(Strict):
    """How impact is found, beyond what operations, fields and transitions carry themselves."""

    rules: tuple[ImpactRule, ...]


class Row(Strict):
    """The routes of one impact, by uncertainty."""

    low: Route
    medium: Route
    high: Route
    critical: Route


class Matrix(Strict):
    """The route for each impact and uncertainty."""

    low: Row
    medium: Row
    high: Row
    critical: Row

    def route(self, impact: Level, uncertainty: Level) -> Route:
        """The cell for the two levels."""
        return cast("Route", getattr(getattr(self, impact.word), uncertainty.word))

    def problems(self) -> Iterator[Problem]:
        """Cells that are laxer than one for less impact or less uncertainty."""
        for impact in Level:
            for uncertainty in Level:
                route = self.route(impact, uncertainty)
                for smaller, lesser in ((impact - 1, uncertainty), (impact, uncertainty - 1)):
                    if min(smaller, lesser) < 0:
                        continue
                    other = self.route(Level(smaller), Level(lesser))
                    if route.severity < other.severity:
                        less = pointer(("matrix", Level(smaller).word, Level(lesser).word))
                        what = f"{route} is laxer than {other} at {less}; more risk never gets a laxer route"
                        yield ("matrix", impact.word, uncertainty.word), what


# --- nouns --------------------------------------------------------------------------------------------------------

FieldKey = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]{0,63}(\.[A-Za-z0-9_]{1,64}){0,3})$")]


class OperationRule(Strict):
    """Who may propose the operation, and the least impact it has."""

    roles: Roles
    impact: LevelWord


class Noun(Strict):
    """What may be done to a kind of thing, by whom, and how much each of its fields matters.

    Roles are those in the project; with the scope `instance` also those on the instance itself.
    """

    scope: Literal["project", "instance"]
    operations: dict[Operation, OperationRule]
    fields: dict[FieldKey, LevelWord]

    def field_impact(self, name: str) -> Level:
        """How much a field matters: by its full name, else by the part before the first dot, else as `*`."""
        found = self.fields.get(name)
        if found is None:
            found = self.fields.get(name.partition(".")[0])
        return found if found is not None else self.fields[ANY]


# --- approvals ----------------------------------------------------------------------------------------------------


def _deciding(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    for role in roles:
        if role not in DECIDING_ROLES:
            able = " or ".join(sorted(DECIDING_ROLES))
            raise PydanticCustomError(
                "deciding_role", "{role} does not decide; use {able}", {"role": role, "able": able}
            )
    return roles


class StepRule(Strict):
    """Who must agree: so many people who hold one of the roles, of those listed when `people` is given."""

    id: Identifier
    name: Sentence
    roles: Annotated[Roles, AfterValidator(_deciding)]
    quorum: Annotated[int, Field(ge=1, le=20)]
    people: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=100)] | None = None

    @property
    def step(self) -> Step:
        """The step as approvals carry it."""
        return Step(id=self.id, name=self.name, roles=self.roles, quorum=self.quorum, people=self.people or ())

    def problems(self) -> Iterator[Problem]:
        """Named people that are too few or named twice."""
        people = self.people or ()
        if len(set(people)) < len(people):
            yield ("people",), "somebody is named twice"
        elif people and len(people) < self.quorum:
            yield ("people",), f"{len(people)} cannot give a quorum of {self.quorum}"


class RouteRule(Strict):
    """What waiting on a route means: who must agree, in which order, and how long it may take."""

    steps: tuple[StepRule, ...]
    order: Order
    expires_hours: Hours
    remind_hours: Hours | None = None
    bypass_hours: Hours | None = None
    deadline_hours: Hours | None = None
    notify_at_once: bool = False
    step_up: bool = False

    @property
    def seats(self) -> int:
        """How many different people must agree."""
        return sum(step.quorum for step in self.steps)

    def problems(self) -> Iterator[Problem]:
        """Times that could never come."""
        times = {
            "remind_hours": self.remind_hours,
            "bypass_hours": self.bypass_hours,
            "deadline_hours": self.deadline_hours,
        }
        for name, hours in times.items():
            if hours is not None and hours >= self.expires_hours:
                yield (name,), f"{hours} is not before the approval expires, at {self.expires_hours}"


class Approvals(Strict):
    """What each waiting route asks for."""

    confirm: Annotated[RouteRule, Field(alias="CONFIRM")]
    approval_required: Annotated[RouteRule, Field(alias="APPROVAL_REQUIRED")]
    executive_approval: Annotated[RouteRule, Field(alias="EXECUTIVE_APPROVAL")]
    escalate: Annotated[RouteRule, Field(alias="ESCALATE")]

    @property
    def by_route(self) -> dict[Route, RouteRule]:
        """The rule of each route that waits for somebody."""
        return {
            Route.CONFIRM: self.confirm,
            Route.APPROVAL_REQUIRED: self.approval_required,
            Route.EXECUTIVE_APPROVAL: self.executive_approval,
            Route.ESCALATE: self.escalate,
        }

    def problems(self) -> Iterator[Problem]:
        """Routes that ask for less than a laxer one, or for less than their name promises."""
        for route, rule in self.by_route.items():
            yield from _under((route,), rule.problems())
        if self.confirm.steps:
            yield (Route.CONFIRM, "steps"), "leave it empty: the proposer confirms, nobody else"
        if self.confirm.bypass_hours is not None:
            yield (Route.CONFIRM, "bypass_hours"), "leave it out: the proposer confirms, nobody else"
        fewest = 1
        for route in APPROVAL_ROUTES:
            rule = self.by_route[route]
            if route is Route.EXECUTIVE_APPROVAL:
                fewest = max(fewest, EXECUTIVE_SEATS)
            if rule.seats < fewest:
                yield (route, "steps"), f"{rule.seats} must agree here, but at least {fewest} different people have to"
            fewest = max(fewest, rule.seats)
            if route is not Route.APPROVAL_REQUIRED and not any(s.roles == (Role.EXECUTIVE,) for s in rule.steps):
                yield (route, "steps"), "one step must be for executives alone"
        if self.escalate.deadline_hours is None:
            yield (Route.ESCALATE,), "deadline_hours is missing: what is escalated has a deadline"


EXECUTIVE_SEATS: Final = 2


class Tier(Strict):
    """A step that is added above an amount."""

    above: Thresholds
    step: StepRule


class Tiers(Strict):
    """Amount tiers: each level that the amount is above adds its step, after those of the route."""

    applies_to: Annotated[tuple[When, ...], Field(min_length=1)]
    order: Order
    levels: tuple[Tier, ...]

    def problems(self) -> Iterator[Problem]:
        """Levels that do not ascend in every currency that any of them names."""
        for index in range(1, len(self.levels)):
            lower, upper = self.levels[index - 1].above, self.levels[index].above
            for currency in sorted({*lower, *upper}):
                below, above = threshold(lower, currency), threshold(upper, currency)
                if above <= below:
                    what = f"{above} is not above {below}, where the level before begins ({currency})"
                    yield ("tiers", "levels", index, "above"), what


class Delegations(Strict):
    """What a delegation may be. A borrowed seat is never lent on."""

    max_days: Annotated[int, Field(ge=1, le=366)]
    redelegation: No

    @property
    def longest(self) -> timedelta:
        """The longest a delegation may last."""
        return timedelta(days=self.max_days)


class Solo(Strict):
    """Whether the only person there is may approve their own changes, each time as a recorded exception."""

    enabled: bool


# --- the document -------------------------------------------------------------------------------------------------

_RESERVED: Final = ("matrix.", "writer.", "stated.", "refused.", "tier.", "base.", "confirm.")
_REQUIRED_NOUNS: Final = ("package", "task")


class Policy(Strict):
    """One version of the policy, checked. Make one with `parse`, or take the shipped one from `default_policy`."""

    format: Literal["pmis-policy-v1"]
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    name: Sentence
    nouns: dict[Identifier, Noun]
    lifecycles: dict[Identifier, Lifecycle]
    uncertainty: Uncertainty
    impact: Impact
    matrix: Matrix
    floors: tuple[FloorRule, ...]
    tiers: Tiers
    approvals: Approvals
    delegation: Delegations
    solo: Solo

    @classmethod
    def parse(cls, document: str | bytes | Mapping[str, Any]) -> "Policy":
        """The policy a JSON text or object states; raises PolicyDocumentError that lists every fault."""
        text = _plain_json(document)
        try:
            policy = cls.model_validate_json(text)
        except ValidationError as error:
            raise PolicyDocumentError([_explained(cls, one) for one in error.errors(include_url=False)]) from None
        problems = list(policy._problems())  # noqa: SLF001 - its own
        if problems:
            raise PolicyDocumentError(problems)
        return policy

    def to_json(self) -> dict[str, Any]:
        """The document as JSON; `parse` gives the same policy back."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def lifecycle(self, noun: str) -> Lifecycle | None:
        """The lifecycle of the noun; None for one that has no states."""
        return self.lifecycles.get(noun)

    def proposers(
        self, noun: str, operation: str, *, from_status: str | None = None, to_status: str | None = None
    ) -> tuple[Role, ...]:
        """The roles that may propose the operation, or the step between the two states; none when it is unknown."""
        if operation == Operation.TRANSITION:
            lifecycle = self.lifecycles.get(noun)
            if lifecycle is None or from_status is None or to_status is None:
                return ()
            step = lifecycle.find(from_status, to_status)
            return step.roles if step is not None else ()
        found = self.operation(noun, operation)
        return found.roles if found is not None else ()

    def operation(self, noun: str, operation: str) -> OperationRule | None:
        """The rule of an operation other than a transition."""
        known = self.nouns.get(noun)
        return known.operations.get(cast("Operation", operation)) if known is not None else None

    @cached_property
    def impact_rules(self) -> "Index[ImpactRule]":
        """The impact rules that can apply to a noun, an operation and a phase, in document order."""
        return self._indexed(self.impact.rules)

    @cached_property
    def floor_rules(self) -> "Index[FloorRule]":
        """The floors that can apply to a noun, an operation and a phase, in document order."""
        return self._indexed(self.floors)

    def _indexed(self, rules: tuple[R, ...]) -> "Index[R]":
        # Most rules are about one noun in one phase; a change is judged on every write and should not look at the rest.
        return {
            (noun, operation, phase): tuple(rule for rule in rules if _is_about(rule.when, noun, operation, phase))
            for noun in self.nouns
            for operation in Operation
            for phase in (*Phase, None)
        }

    def _problems(self) -> Iterator[Problem]:
        for required in _REQUIRED_NOUNS:
            if required not in self.nouns:
                yield ("nouns",), f"{required} is missing"
        for name, noun in self.nouns.items():
            yield from _under(("nouns", name), self._noun_problems(name, noun))
        for name, lifecycle in self.lifecycles.items():
            if name not in self.nouns:
                yield ("lifecycles", name), f"{name!r} is not one of the nouns: {', '.join(self.nouns)}"
            yield from _under(("lifecycles", name), lifecycle.problems())
        yield from self.matrix.problems()
        yield from self._rule_problems()
        yield from self.tiers.problems()
        yield from self._step_problems()
        yield from _under(("approvals",), self.approvals.problems())
        yield from self._seat_problems()

    def _noun_problems(self, name: str, noun: Noun) -> Iterator[Problem]:
        if ANY not in noun.fields:
            yield ("fields",), 'add "*", the level of every field that is not named'
        if Operation.TRANSITION in noun.operations:
            yield ("operations", "transition"), "leave it out: the transitions of a lifecycle say who may propose them"
        if name in _REQUIRED_NOUNS and name not in self.lifecycles:
            yield (), f"add lifecycles{pointer((name,))}: a {name} has states"

    def _rule_problems(self) -> Iterator[Problem]:
        seen: set[str] = set()
        rules: list[tuple[Location, ImpactRule | UncertaintyRule | FloorRule]] = [
            *((("uncertainty", "rules", n), rule) for n, rule in enumerate(self.uncertainty.rules)),
            *((("impact", "rules", n), rule) for n, rule in enumerate(self.impact.rules)),
            *((("floors", n), rule) for n, rule in enumerate(self.floors)),
        ]
        for at, rule in rules:
            if rule.id in seen:
                yield (*at, "id"), f"{rule.id!r} is the id of an earlier rule"
            if rule.id.startswith(_RESERVED):
                yield (*at, "id"), f"ids do not begin with {', '.join(_RESERVED)}: reasons use these themselves"
            seen.add(rule.id)
            yield from _under((*at, "when"), self._when_problems(rule.when))
        for n, when in enumerate(self.tiers.applies_to):
            yield from _under(("tiers", "applies_to", n), self._when_problems(when))

    def _when_problems(self, when: When) -> Iterator[Problem]:
        if when.is_empty:
            yield (), "give at least one condition"
        for n, noun in enumerate(when.noun or ()):
            if noun not in self.nouns:
                yield ("noun", n), f"{noun!r} is not one of the nouns: {', '.join(self.nouns)}"
        for n, flag in enumerate(when.flags or ()):
            if flag not in FLAGS:
                yield ("flags", n), f"{flag!r} is not one of the flags: {', '.join(FLAGS)}"
        about = when.noun or tuple(self.nouns)
        declared = {name for noun in about if noun in self.nouns for name in self.nouns[noun].fields}
        for n, name in enumerate(when.fields or ()):
            # A misspelt field would switch the rule off without a word.
            if name not in declared and name.partition(".")[0] not in declared:
                yield ("fields", n), f"{name!r} is not one of the fields listed for {', '.join(about)}"
        states = {state for noun in about if noun in self.lifecycles for state in self.lifecycles[noun].states}
        for key, named in (("from", when.from_), ("to", when.to)):
            for n, state in enumerate(named or ()):
                if state not in states:
                    yield (key, n), f"{state!r} is not a state of {', '.join(about)}"

    def _step_problems(self) -> Iterator[Problem]:
        """A step is known by its id: the same id twice in one route, or with two meanings, would count people wrong."""
        meaning: dict[str, Step] = {}
        for at, steps in self._step_lists():
            own: set[str] = set()
            for where, rule in steps:
                if rule.id in own:
                    yield (*at, *where, "id"), f"{rule.id!r} is the id of an earlier step here"
                elif meaning.setdefault(rule.id, rule.step) != rule.step:
                    yield (*at, *where, "id"), f"{rule.id!r} is the id of another step elsewhere"
                own.add(rule.id)
                yield from _under((*at, *where), rule.problems())

    def _seat_problems(self) -> Iterator[Problem]:
        """A tier whose step a route already asks for adds nobody there; a stricter route must not come out smaller."""
        for height in range(1, len(self.tiers.levels) + 1):
            tiers = [tier.step for tier in self.tiers.levels[:height]]
            largest: tuple[int, Route] = (0, Route.CONFIRM)
            for route in APPROVAL_ROUTES:
                asked = {step.id: step.quorum for step in (*self.approvals.by_route[route].steps, *tiers)}
                seats = sum(asked.values())
                if seats < largest[0]:
                    more, laxer = largest
                    what = f"with tier {tiers[-1].id!r}, {seats} must agree here, but {more} on the laxer {laxer}"
                    yield ("approvals", route, "steps"), what
                else:
                    largest = (seats, route)

    def _step_lists(self) -> Iterator[tuple[Location, list[tuple[Location, StepRule]]]]:
        for route, rule in self.approvals.by_route.items():
            yield ("approvals", route), [(("steps", n), step) for n, step in enumerate(rule.steps)]
        yield ("tiers", "levels"), [((n, "step"), tier.step) for n, tier in enumerate(self.tiers.levels)]


@cache
def default_policy() -> Policy:
    """The policy that ships."""
    return Policy.parse(files("pmis.policy").joinpath("default.json").read_bytes())


def _is_about(when: When, noun: str, operation: str, phase: Phase | None) -> bool:
    return (
        (when.noun is None or noun in when.noun)
        and (when.operation is None or operation in when.operation)
        and (when.phase is None or phase in when.phase)
    )


def _under(at: Location, problems: Iterator[Problem] | list[Problem]) -> Iterator[Problem]:
    return (((*at, *where), what) for where, what in problems)


# --- reading ------------------------------------------------------------------------------------------------------


def _plain_json(document: str | bytes | Mapping[str, Any]) -> str:
    """The document as JSON that says one thing only: no repeated keys, no NaN, no numbers beyond JSON's."""
    try:
        if isinstance(document, bytes):
            document = document.decode("utf-8")
        if not isinstance(document, str):
            return json.dumps(document, allow_nan=False)
        return json.dumps(
            json.loads(document, object_pairs_hook=_once, parse_constant=_refuse_constant), allow_nan=False
        )
    except _DuplicateKeyError as error:
        raise PolicyDocumentError([((), f"the key {error.args[0]!r} stands twice in one object")]) from None
    except RecursionError:
        raise PolicyDocumentError([((), "it is nested too deeply")]) from None
    except (ValueError, TypeError) as error:
        raise PolicyDocumentError([((), f"it is not JSON: {error}")]) from None


class _DuplicateKeyError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return made


def _refuse_constant(name: str) -> None:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


_WORDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "missing": lambda _: "it is missing",
    "json_invalid": lambda context: f"it is not JSON: {context['error']}",
    "bool_type": lambda _: "write true or false",
    "int_type": lambda _: "write a whole number",
    "string_type": lambda _: "write a text",
    "tuple_type": lambda _: "write a list",
    "dict_type": lambda _: "write an object",
    "model_type": lambda _: "write an object",
    "enum": lambda context: f"use {context['expected']}",
    "literal_error": lambda context: f"use {context['expected']}",
    "string_pattern_mismatch": lambda context: f"it does not match {context['pattern']}",
    "too_short": lambda context: f"list at least {context['min_length']}",
}


def _explained(model: type[BaseModel], error: ErrorDetails) -> Problem:
    where = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        return where, f"this key is not known here; known are {', '.join(_keys(model, where[:-1]))}"
    # Pydantic ends the place of a bad key with "[key]"; the key itself is the place.
    if where and where[-1] == "[key]":
        where = where[:-1]
        return where, f"this key is not allowed: {_words(error)}"
    return where, _words(error)


def _words(error: ErrorDetails) -> str:
    say = _WORDS.get(error["type"])
    text = say(error.get("ctx", {})) if say is not None else error["msg"]
    return text[:1].lower() + text[1:]


def _keys(model: type[BaseModel], where: Location) -> list[str]:
    """The keys known at a place of the document."""
    here: Any = model
    for part in where:
        here = _inside(here, part)
    return [info.alias or name for name, info in here.model_fields.items()]


def _inside(kind: Any, part: str | int) -> Any:  # noqa: ANN401 - types are walked as values
    """The type of what a key or an index leads to."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        kind = next(info.annotation for name, info in kind.model_fields.items() if part in (info.alias, name))
    else:
        arguments = get_args(kind)
        kind = arguments[1] if get_origin(kind) is dict else arguments[0]
    # What may be left out is a union with None; the keys are those of what it is when it is there.
    return get_args(kind)[0] if get_origin(kind) in (UnionType, Union) else kind
