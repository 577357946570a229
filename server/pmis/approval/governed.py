"""What a noun tells the governed path: its fields, its rules and the facts that the policy judges."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pmis.approval.errors import DeletedRecordError, FrozenRecordError, GuardRefusedError, NothingToChangeError
from pmis.kit.errors import InvalidInputError, MalformedRequestError
from pmis.kit.text import Words, is_sealed
from pmis.ledger.event import Fact
from pmis.ledger.projection import Child, Entity, Projection
from pmis.policy.arbitrate import Facts
from pmis.policy.lifecycle import GUARDS, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic_core import ErrorDetails

    from pmis.approval.change import Change
    from pmis.kit.db import Session, Statement, WriteSession
    from pmis.ledger.event import Event, Origin
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Principal
    from pmis.policy.document import Policy, Writer
    from pmis.policy.levels import Level
    from pmis.policy.lifecycle import Transition


LevelName = Literal["low", "medium", "high", "critical"]


class Input(BaseModel):
    """Strict input: unknown fields, wrong types (a boolean for a number, say) and control characters are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class Proposed(Input):
    """What travels with every proposal beside its fields: why, and how risky the writer holds it to be."""

    reason: Annotated[Words, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="Why; shown to those who decide.", examples=["The supplier confirmed the new date."]
    )
    impact_level: LevelName | None = Field(
        default=None, description="The impact as the writer sees it; it can raise the computed one, never lower it."
    )
    uncertainty_level: LevelName | None = Field(
        default=None, description="How unsure the writer is; it can raise the computed uncertainty, never lower it."
    )


class InProject(Proposed):
    """A new record of a project."""

    project: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = Field(
        default=None,
        description="The id or prefix of the project; may be left out by whoever is a member of only one.",
        examples=["P"],
    )


ENVELOPE: Final = frozenset(InProject.model_fields)


class LiveEntity(Entity):
    """An entity that can be deleted and restored."""

    deleted_at: str | None = None
    deleted_by: str | None = None

    @property
    def deleted(self) -> bool:
        """Whether it is deleted at present."""
        return self.deleted_at is not None


E = TypeVar("E", bound=Entity)
I = TypeVar("I", bound=Input)  # noqa: E741 - the usual letter for an input


@dataclass(frozen=True)
class Situation:
    """What a decision may look at: nothing in it is read from a clock or a table while deciding."""

    principal: Principal
    policy: Policy
    at: datetime
    project: Mapping[str, Any] | None
    writer: Writer
    reason: str | None = None
    stated_impact: Level | None = None
    stated_uncertainty: Level | None = None
    flags: frozenset[str] = frozenset()
    known: dict[UUID, Entity] = field(default_factory=dict["UUID", Entity])
    """The records that earlier changes of the same proposal touched, as they would then be."""


def parse_input(model: type[I], raw: bytes | str) -> I:
    """The model in a JSON text; raises MalformedRequestError for what is not JSON, else InvalidInputError.

    Bytes come from outside: what readers of JSON disagree about (a name twice in an object, a number beyond a double)
    is refused, so that nobody sees one thing approved and another applied.
    """
    try:
        parsed = model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        found = problems(error)
        if found[0]["type"] == "json_invalid":
            raise MalformedRequestError(f"The body is not valid JSON: {found[0]['message']}") from None
        where = found[0]["pointer"][1:]
        raise InvalidInputError(
            f"{where}: {found[0]['message']}" if where else found[0]["message"], errors=found
        ) from None
    if raw and isinstance(raw, bytes):
        _unambiguous.decode(raw.decode())
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedRequestError(f"The body has {twice[:40]!r} twice in one object; send each name once.")
    return record


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise MalformedRequestError(f"The body has the number {text[:40]}, which is too large to be kept.")
    return value


def _no_constant(text: str) -> NoReturn:
    raise MalformedRequestError(f"The body has {text}, which is not JSON.")


_unambiguous: Final = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_no_constant)


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Each thing that is wrong with an input: a JSON pointer, and a sentence."""
    return [
        {
            "pointer": "/" + "/".join(str(part) for part in item["loc"]),
            "message": _message(item),
            "type": item["type"],
        }
        for item in error.errors(include_url=False)
    ]


def _message(item: ErrorDetails) -> str:
    """Pydantic's sentence; where a text was validated before it was measured, Pydantic takes it for a list."""
    if item["type"] in ("too_long", "too_short") and isinstance(item["input"], str):
        context = item.get("ctx", {})
        if item["type"] == "too_long":
            return f"String should have at most {context['max_length']} characters"
        return f"String should have at least {context['min_length']} character{'s' * (context['min_length'] != 1)}"
    return item["msg"].removeprefix("Value error, ")


SEARCHABLE: Final = Child(
    "search", ("entity_id", "entity_type", "project_id", "body", "deleted"), "entity_id", single=True
)
"""The text by which a record is found, for `Noun.child_tables`."""


class Noun(Projection[E]):
    """A noun on the governed path. Subclasses declare inputs and override what differs."""

    label: ClassVar[str]
    create_input: ClassVar[type[Proposed]]
    patch_input: ClassVar[type[Proposed]]
    transition_input: ClassVar[type[Proposed]] = Proposed
    lifecycle: ClassVar[str | None] = None
    operations: ClassVar[frozenset[str]] = frozenset({"create", "patch"})
    """What may be proposed for it."""
    merged_fields: ClassVar[frozenset[str]] = frozenset()
    """Object fields that a patch merges key by key (RFC 7396) instead of replacing."""
    secret_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that are kept in the vault: the log, the row and the digest hold references."""
    instance_level: ClassVar[bool] = False

    def found_by(self, entity: E, body: str, *, deleted: bool) -> dict[str, list[tuple[Any, ...]]]:
        """The row of a record that is found by this text."""
        return {SEARCHABLE.table: [(entity.id, self.stream_type, entity.project_id, body, deleted)]}

    def judged_as(self, project_id: UUID | None) -> str:
        """The noun under whose rules in the policy its changes in a project (or in none) fall."""
        del project_id
        return self.stream_type

    def parse(self, operation: str, raw: bytes | str) -> Proposed:
        """The input in a JSON text; raises InvalidInputError that lists every problem, or MalformedRequestError."""
        inputs: dict[str, type[Proposed]] = {
            "create": self.create_input,
            "patch": self.patch_input,
            "transition": self.transition_input,
        }
        return parse_input(inputs.get(operation, Proposed), raw)

    @staticmethod
    def patch_of(operation: str, parsed: Proposed) -> dict[str, Any]:
        """The proposed fields in JSON form: all of them for a new record, the given ones otherwise."""
        return parsed.model_dump(mode="json", exclude_unset=operation != "create", exclude=set(ENVELOPE))

    def validated(self, operation: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A patch from inside the program, held to the same rules as one from outside."""
        return self.patch_of(operation, self.parse(operation, json.dumps(patch, allow_nan=False)))

    async def seal(self, session: WriteSession, vault: Vault, target: UUID, patch: dict[str, Any]) -> dict[str, Any]:
        """The patch with its secret fields put into the vault."""
        sealed = {
            name: await vault.seal(session, target, patch[name])
            for name in self.secret_fields
            # A proposal that is revised brings what was sealed the first time.
            if patch.get(name) is not None and not is_sealed(patch[name])
        }
        return {**patch, **sealed} if sealed else patch

    async def check_references(self, session: Session, change: Change, entity: E | None, situation: Situation) -> None:
        """Raise BadReferenceError or AlreadyExistsError for what only the tables can tell."""

    def numbering(self, project_id: UUID | None) -> Statement | None:
        """What `numbered` asks for first when a record is created in the project, so that it can be read ahead."""
        del project_id

    async def numbered(self, session: WriteSession, fact: Fact, project: Mapping[str, Any] | None) -> Fact:
        """The fact with what is given out once, at the moment it is applied, such as a package's code."""
        del session, project
        return fact

    async def applied(self, session: WriteSession, vault: Vault, entity: E, origin: Origin) -> list[Event]:
        """What follows in the same transaction: a person's credential, a founder's membership. Returns its events."""
        del session, vault, entity, origin
        return []

    def decide(self, entity: E | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts the change causes; raises the refusal that applies. Pure."""
        if entity is None:
            return [Fact(f"{self.stream_type}.created", {"fields": self.first_fields(change, situation)})]
        if isinstance(entity, LiveEntity) and entity.deleted != (change.operation == "restore"):
            if change.operation == "restore":
                raise NothingToChangeError("It is not deleted.")
            raise DeletedRecordError(f"This {self.label} was deleted on {entity.deleted_at}. Restore it first.")
        before = entity.plain
        if change.operation == "transition":
            return [self._transition(before, change, situation)]
        self._require_thawed(before, change, situation)
        if change.operation == "patch":
            changes = self.diff(before, change.patch)
            if not changes:
                raise NothingToChangeError(f"Every field of this {self.label} already has the proposed value.")
            return [Fact(f"{self.stream_type}.patched", {"changes": changes})]
        deleted = change.operation == "delete"
        return [
            Fact(
                f"{self.stream_type}.{'deleted' if deleted else 'restored'}",
                {
                    "changes": self.diff(
                        before,
                        {
                            "deleted_at": situation.at.isoformat() if deleted else None,
                            "deleted_by": situation.principal.name if deleted else None,
                        },
                    )
                },
            )
        ]

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The fields of a new record."""
        fields = dict(change.patch)
        if self.lifecycle:
            fields.setdefault("status", situation.policy.lifecycles[self.lifecycle].initial)
        return fields

    def diff(self, before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The fields that change, with their values before and after."""
        changes: dict[str, dict[str, Any]] = {}
        for name, value in patch.items():
            old = before.get(name)
            new = merged(old, value) if name in self.merged_fields else value
            if new != old:
                changes[name] = {"from": old, "to": new}
        return changes

    def _require_thawed(self, before: Mapping[str, Any], change: Change, situation: Situation) -> None:
        if self.lifecycle and situation.policy.lifecycles[self.lifecycle].phase(before["status"]) is Phase.FROZEN:
            raise FrozenRecordError(
                f"This {self.label} is {before['status']} and frozen; it cannot be {_PAST[change.operation]}.",
                status_now=before["status"],
            )

    def _transition(self, before: Mapping[str, Any], change: Change, situation: Situation) -> Fact:
        if self.lifecycle is None:
            raise InvalidInputError(f"A {self.label} has no life cycle.")
        lifecycle = situation.policy.lifecycles[self.lifecycle]
        to = change.patch["status"]
        step = lifecycle.check(before["status"], to)
        changes = self.diff(before, change.patch)
        after = {**before, **{name: item["to"] for name, item in changes.items()}}
        stamps = self.stamps(before, after, situation)
        after |= {name: item["to"] for name, item in stamps.items()}
        missing = [GUARDS[name] for name in step.guards or () if not _content(name, after, situation)]
        if missing:
            raise GuardRefusedError(
                f"{before['status']} → {to} needs {' and '.join(missing)}.", missing=missing, step=step.name
            )
        return Fact(f"{self.stream_type}.transitioned", {"changes": {**changes, **stamps}, "step": step.name})

    def stamps(
        self, before: Mapping[str, Any], after: Mapping[str, Any], situation: Situation
    ) -> dict[str, dict[str, Any]]:
        """Changes that a step brings with it, such as the date on which work really began."""
        del before, after, situation
        return {}

    async def missing(self, session: Session, record: Mapping[str, Any], step: Transition, policy: Policy) -> list[str]:
        """What the step needs that the record, as it stands, does not have. A reason comes with the proposal."""
        del session, policy
        return [GUARDS[one] for one in step.guards or () if not _filled(one, record)]

    def facts(self, entity: E | None, change: Change, caused: list[Fact], situation: Situation) -> Facts:
        """What the policy is to judge."""
        changed: frozenset[str] = frozenset(
            str(name) for fact in caused for name in (fact.payload.get("changes") or fact.payload.get("fields") or ())
        )
        if change.operation == "create":
            # A field that keeps its default was not chosen: nobody is made an administrator by being none.
            usual = _defaults(self.create_input)
            changed = frozenset(
                name
                for name, value in change.patch.items()
                if value not in (None, {}, []) and (name not in usual or value != usual[name])
            )
        before: Mapping[str, Any] = entity.plain if entity else {}
        usual: dict[str, Any] = {
            "operation": change.operation,
            "target_type": self.stream_type,
            "writer": situation.writer,
            "status": before.get("status"),
            "to_status": change.patch.get("status") if change.operation == "transition" else None,
            "fields": changed,
            "first_set": frozenset(name for name in changed if before.get(name) in (None, "", {}, [])),
            "person_behind": situation.principal.person_id is not None,
            "solo": situation.policy.solo.enabled,
            "stated_impact": situation.stated_impact,
            "stated_uncertainty": situation.stated_uncertainty,
            "flags": situation.flags,
        }
        return Facts(**{**usual, **self.own_facts(entity, change, changed, situation)})

    def own_facts(
        self, entity: E | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """What this noun tells beside, or in place of, what every noun tells; `fields` are those that change."""
        del entity, change, fields, situation
        return {}


@cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.default for name, field in model.model_fields.items()}


_GUARDED_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "title_set": ("title",),
    "owner_set": ("owner_id",),
    "assignee_set": ("assignee_id",),
    "vendor_set": ("vendor_id",),
    "amount_set": ("amount", "currency"),
    "planned_dates_set": ("planned_start", "planned_end"),
    "actual_start_set": ("actual_start",),
    "actual_end_set": ("actual_end",),
    "due_date_set": ("due_date",),
}


def _content(guard: str, after: Mapping[str, Any], situation: Situation) -> bool:
    """Whether a guard is content with the record as it would be; `no_open_tasks` is judged with the references."""
    if guard == "reason_given":
        return bool(situation.reason)
    return _filled(guard, after)


def _filled(guard: str, record: Mapping[str, Any]) -> bool:
    return all(record.get(name) for name in _GUARDED_FIELDS.get(guard, ()))


_PAST: Final = {"create": "created", "patch": "changed", "delete": "deleted", "restore": "restored"}

AnyNoun = Noun[Any]


def merged(old: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON values
    """JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result: dict[str, Any] = dict(old) if isinstance(old, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for key, value in patch.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            result.pop(key, None)  # pyright: ignore[reportUnknownArgumentType]
        else:
            result[key] = merged(result.get(key), value)  # pyright: ignore[reportUnknownArgumentType]
    return result
