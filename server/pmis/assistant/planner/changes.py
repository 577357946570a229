"""From what a command says to the changes that it asks for, by the API's names and in its forms.

Nothing is guessed: what a command does not say, and the record does not tell, is asked back.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from pmis.approval.registry import NOUNS
from pmis.assistant.plan import PlannedChange
from pmis.assistant.planner.amounts import CENT, DOLLAR_CURRENCIES, as_text, currency_named, raised
from pmis.assistant.planner.asking import AskBackError, RefusedError, not_clear, unknown, which
from pmis.assistant.planner.dates import Day, Shift, Span, Unclear
from pmis.assistant.planner.words import STATUSES
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from pmis.assistant.plan import Operation, TargetType
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.knowledge import Record
    from pmis.assistant.planner.slots import Frame, Value
    from pmis.assistant.planner.turn import Turn

TRANSITIONS: Final = {
    "submit": "submitted",
    "review": "review",
    "approve": "approved",
    "award": "awarded",
    "start": "running",
    "hold": "held",
    "resume": "running",
    "complete": "done",
    "cancel": "cancelled",
    "block": "blocked",
    "unblock": "running",
}
"""The status that a verb leads to."""
_BACK: Final = {"reopen": ("reopen", "revive", "resume", "unblock", "return"), "return": ("revise", "return")}
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "package": {
        "title": "title",
        "description": "description",
        "owner": "owner_id",
        "vendor": "vendor_id",
        "amount": "amount",
        "currency": "currency",
        "planned_start": "planned_start",
        "end": "planned_end",
        "due": "planned_end",
        "actual_start": "actual_start",
        "actual_end": "actual_end",
        "package_type": "package_type",
        "external_ref": "external_ref",
    },
    "task": {
        "title": "title",
        "description": "description",
        "owner": "assignee_id",
        "assignee": "assignee_id",
        "end": "due_date",
        "due": "due_date",
        "external_ref": "external_ref",
    },
    "party": {"title": "name", "email": "email", "external_ref": "external_ref"},
}
"""The API's name of each field."""
DATES: Final = frozenset({"planned_start", "planned_end", "actual_start", "actual_end", "due_date"})
_DECIDING: Final = (
    "I decide nothing: approving, rejecting, confirming and withdrawing is for people. Open the approval in the inbox, "
    "or ask me “what waits for me?”."
)
_MONEY_VERBS: Final = frozenset({"raise", "lower", "double", "halve"})
_DATE_VERBS: Final = frozenset({"later", "earlier", "shift"})


def deciding() -> RefusedError:
    """Says that decisions are made by people."""
    return RefusedError(_DECIDING, ("What waits for me?",))


def field_of(name: str, kind: str) -> str | None:
    """The API's name of a field of a type of record."""
    return _FIELDS.get(kind, {}).get(name)


@dataclass
class Builder:
    """Makes the changes of a frame."""

    turn: Turn
    frame: Frame

    def changes(self) -> list[PlannedChange]:
        """The changes that the frame asks for, one for each target; raises AskBackError or RefusedError."""
        frame = self.frame
        if frame.left:
            raise not_clear(item.text for item in frame.left)
        if frame.verb == "decide":
            raise deciding()
        targets = self._targets()
        return [change for target in targets for change in [self._change(target)]]

    def _targets(self) -> list[Record]:
        frame, found = self.frame, list["Record"]()
        self._require_named()
        if not frame.targets:
            if frame.verb == "decide":
                raise deciding()
            raise AskBackError(self._what_to())
        for item in frame.targets:
            if item.kind == "ordinal" or item.can("pronoun"):
                found += self.turn.meant(item)
            elif frame.within:
                found.append(self._inside(item))
            else:
                types = self._types(item)
                found.append(self._one(item, types))
        unique = list({one.named.id: one for one in found}.values())
        for one in unique:
            self.turn.mention(one)
            if one.deleted and frame.verb != "restore":
                raise AskBackError(
                    f"{one.named.label} is deleted. Restore it first.", offers=[f"Restore {one.named.label}"]
                )
        return unique

    def _require_named(self) -> None:
        """Return unless whole kinds of records are spoken of: each is to be named. Raises AskBackError."""
        kinds = {noun for part in self.frame.parts for noun in part.nouns}
        types = {one.type for item in self.frame.targets for one in item.records}
        strange = kinds - types - {"record", "project", "person"}
        if (types and strange) or (types and self.frame.says_all):
            raise AskBackError(
                "I change what is named, one by one. Please name each record that is to be changed.",
                not_understood=sorted(strange),
                offers=("Which tasks are open?",),
            )

    def _what_to(self) -> str:
        said = self.frame.word
        return f"What do you want to {said}? Please name the package or task." if said else "Which record do you mean?"

    def _types(self, item: Item) -> tuple[str, ...]:
        """The types of records that the command can be about at all."""
        frame = self.frame
        found = {one.type for one in item.records}
        names = {value.field for value in frame.values if value.field} | set(frame.fields)
        fitting = tuple(
            kind for kind in ("package", "task", "party") if all(name in (*_FIELDS[kind], "status") for name in names)
        )
        if frame.verb in TRANSITIONS or frame.statuses:
            key = self._status_key()
            leads = tuple(kind for kind in ("package", "task") if status_of(self.turn, key, kind))
            fitting = tuple(kind for kind in leads if not names or kind in fitting) or leads
        kinds = [noun for part in frame.parts for noun in part.nouns if noun in ("package", "task", "party")]
        if kinds:
            fitting = tuple(kind for kind in fitting if kind in kinds)
        return fitting if found & set(fitting) else ("package", "task", "party")

    def _one(self, item: Item, types: tuple[str, ...]) -> Record:
        turn = self.turn
        found = turn.candidates(item, types)
        projects = {one.id for project in self.frame.projects for one in project.value}
        if projects:
            found = [one for one in found if one.project in projects]
        if len(found) == 1:
            return found[0]
        if not found and item.kind == "name" and not item.records:
            raise unknown(item.text)
        if not found:
            raise unknown(item.value if item.kind == "quote" else item.text, _kind_said(self.frame))
        raise which(item.value if item.kind == "quote" else item.text, [one.named for one in found])

    def _inside(self, item: Item) -> Record:
        turn = self.turn
        package = turn.record(self.frame.within[0], ("package",), kind="package")
        found = [one for one in turn.candidates(item, ("task",)) if one.doc.get("package_id") == str(package.named.id)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise unknown(f"{item.value if item.kind == 'quote' else item.text} of {package.named.label}", "task")
        raise which(item.text, [one.named for one in found])

    # --- one change ---

    def _change(self, target: Record) -> PlannedChange:
        verb = self.frame.verb
        if verb in ("delete", "restore") or (verb == "remove" and not self.frame.values and not self.frame.fields):
            if self.frame.values or self.frame.fields or self.frame.statuses:
                raise not_clear([*(value.item.text for value in self.frame.values), *self.frame.fields])
            if self.frame.word.lower() == "drop":
                raise AskBackError(f"Shall {target.named.label} be cancelled, or deleted? Please say which.")
            return self._planned(target, "restore" if verb == "restore" else "delete", {})
        patch = self._patch(target)
        status = self._status(target)
        if status is not None:
            return self._planned(target, "transition", {"status": status, **patch})
        if not patch:
            raise AskBackError(self._what_value(target))
        return self._planned(target, "patch", patch)

    def _planned(self, target: Record, operation: Operation, patch: Mapping[str, Any]) -> PlannedChange:
        checked(target.type, operation, patch)
        return PlannedChange(
            operation,
            cast("TargetType", target.type),
            target.named,
            patch,
            project=target.project,
            reason=self.turn.reason,
        )

    def _what_value(self, target: Record) -> str:
        named = [name for name in self.frame.fields if name != "status"]
        if named:
            return f"What shall the {named[0].replace('_', ' ')} of {target.named.label} be?"
        if "status" in self.frame.fields:
            known = ", ".join(self.turn.knowledge.statuses(target.type))
            return f"To which status shall {target.named.label} go? There are {known}."
        return f"What shall I propose for {target.named.label}?"

    # --- statuses ---

    def _status_key(self) -> str | None:
        if self.frame.statuses:
            return self.frame.statuses[0].senses["status"]
        return TRANSITIONS.get(self.frame.verb)

    def _status(self, target: Record) -> str | None:
        frame, turn = self.frame, self.turn
        if len(frame.statuses) > 1:
            raise AskBackError(
                "Which of the statuses do you mean?", not_understood=[one.text for one in frame.statuses]
            )
        if frame.verb in _BACK and not frame.statuses:
            return self._back(target)
        key = self._status_key()
        if key is None:
            return None
        status = status_of(turn, key, target.type)
        if status is None:
            known = turn.knowledge.statuses(target.type)
            if not known:
                raise AskBackError(f"{target.named.label} is a {target.type}, which has no status.")
            said = frame.statuses[0].text if frame.statuses else frame.word
            raise AskBackError(
                f"“{said}” is no status of a {target.type}. It can be {', '.join(known)}.", not_understood=[said]
            )
        return status

    def _back(self, target: Record) -> str:
        lifecycle = self.turn.knowledge.policy.lifecycles.get(target.type)
        steps = lifecycle.allowed(target.status or "") if lifecycle else ()
        for name in _BACK[self.frame.verb]:
            for step in steps:
                if step.name == name:
                    return step.to
        raise AskBackError(
            f"{target.named.label} is {target.status}; it cannot be {self.frame.word}ed. Name the status to go to."
        )

    # --- fields ---

    def _patch(self, target: Record) -> dict[str, Any]:
        frame = self.frame
        patch: dict[str, Any] = {}
        if frame.verb in ("double", "halve"):
            return self._multiplied(target)
        if frame.verb in ("clear", "remove"):
            return self._cleared(target)
        values = [value for value in frame.values if not self._is_old(value)]
        for value in values:
            name = value.field or self._inferred(value, target)
            for field, plain in self._values(name, value, target).items():
                if field in patch and patch[field] != plain:
                    raise AskBackError(f"I heard two values for the {field}. Please say one.")
                patch[field] = plain
        given = {value.field or self._inferred(value, target) for value in frame.values}
        bare = [name for name in frame.fields if name not in given and name not in ("status", "due", "dates")]
        if bare and (patch or frame.statuses):
            raise AskBackError(f"What shall the {bare[0].replace('_', ' ')} of {target.named.label} be?")
        return patch

    def _is_old(self, value: Value) -> bool:
        """Whether it is what the field was, in "from 4,000 to 5,000"."""
        if value.prep != "from":
            return False
        kinds = [other.item.kind for other in self.frame.values if other.prep != "from"]
        if value.item.kind not in kinds:
            raise not_clear([f"from {value.item.text}"])
        return True

    def _inferred(self, value: Value, target: Record) -> str:
        """The field that a value is for when none was named."""
        frame, item = self.frame, value.item
        is_party = any(one.type == "party" for one in item.records)
        if frame.statuses and is_party and self._status_key() == "awarded":
            return "vendor"
        if frame.statuses:
            # "On hold until Friday", "on hold for Maria": what that is to change was not said.
            raise not_clear([f"{value.prep or ''} {item.value if item.kind == 'quote' else item.text}"])
        if (
            item.kind in ("amount", "percent")
            and (frame.verb in _MONEY_VERBS | {"set", "award"})
            and target.type == "package"
        ):
            if item.kind == "amount" and item.money.is_bare and frame.verb == "award":
                raise not_clear([item.text])
            return "amount"
        if item.kind == "date" and (
            frame.verb in _DATE_VERBS
            or value.prep in ("by", "until", "till", "till the")
            or frame.word.lower() in ("move", "extend", "give", "grant", "allow")
        ):
            if frame.verb in TRANSITIONS:
                raise not_clear([f"{value.prep or ''} {item.text}"])
            return "end"
        is_somebody = item.kind in ("person", "address") or item.can("pronoun", "me")
        if is_somebody and frame.verb in ("assign", "set") and target.type in ("package", "task"):
            return "assignee" if target.type == "task" else "owner"
        if item.records and any(one.type == "party" for one in item.records) and frame.verb == "award":
            return "vendor"
        if item.kind in ("name", "quote") and frame.verb == "award":
            return "vendor"
        if item.kind == "quote" and frame.verb == "rename":
            return "title"
        if item.kind == "name" and frame.verb == "assign":
            return "assignee" if target.type == "task" else "owner"
        raise not_clear([f"{value.prep or ''} {item.value if item.kind == 'quote' else item.text}"])

    def _values(  # noqa: C901 - one case for each kind of field
        self, name: str, value: Value, target: Record
    ) -> dict[str, Any]:
        item = value.item
        if name == "status":
            raise not_clear([item.text])
        if name == "dates":
            return self._moved_dates(value, target)
        field = field_of(name, target.type)
        if field is None:
            raise AskBackError(f"A {target.type} has no {name.replace('_', ' ')}.", not_understood=[item.text])
        if field == "amount":
            return self._amount(value, target)
        if field in DATES:
            return {field: self._date(value, target, field).isoformat()}
        if field in ("owner_id", "assignee_id"):
            return {field: str(self.turn.person(item, [target.project]).id)}
        if field == "vendor_id":
            return {field: str(vendor(self.turn, item, target.project).named.id)}
        if field == "email":
            if item.kind != "address":
                raise not_clear([item.text])
            return {field: item.text}
        if field == "currency":
            named = currency_named(item.text)
            if named is None:
                raise unknown(item.text, "currency")
            return {field: named}
        text = item.value if item.kind == "quote" else item.text
        if not isinstance(text, str) or not text.strip():
            raise not_clear([item.text])
        return {field: text.strip()}

    def _amount(self, value: Value, target: Record) -> dict[str, Any]:
        frame, item = self.frame, value.item
        if item.kind not in ("amount", "percent"):
            raise not_clear([item.text])
        relative = frame.verb in ("raise", "lower") and (item.kind == "percent" or value.prep == "by")
        if item.kind == "percent" and not relative:
            raise AskBackError(
                f"Shall the amount be raised or lowered by {item.text.strip()}?", not_understood=[item.text]
            )
        if frame.verb in ("raise", "lower") and not relative and value.prep not in ("to", "up to", "down to"):
            raise AskBackError(
                f"By {item.text.strip()}, or to {item.text.strip()}? Please say which.", not_understood=[item.text]
            )
        if frame.verb == "set" and value.prep == "by":
            raise AskBackError(
                f"Shall the amount be raised or lowered by {item.text.strip()}?", not_understood=[item.text]
            )
        before = present_amount(target) if relative else None
        sign = -1 if frame.verb == "lower" else 1
        if item.kind == "percent":
            if item.value is None or before is None:
                raise not_clear([item.text])
            after = raised(before, sign * item.value)
            return {"amount": as_text(after)} if after >= 0 else _negative(item)
        patch = money(self.turn, item, target)
        if not relative or before is None:
            return patch
        if patch.get("currency") not in (None, target.doc.get("currency")):
            raise AskBackError(
                f"{target.named.label} is in {target.doc.get('currency')}, so I cannot add {item.text.strip()}."
            )
        after = before + sign * Decimal(patch["amount"])
        return {"amount": as_text(after)} if after >= 0 else _negative(item)

    def _multiplied(self, target: Record) -> dict[str, Any]:
        if self.frame.values or set(self.frame.fields) - {"amount"}:
            raise not_clear([value.item.text for value in self.frame.values] or self.frame.fields)
        factor = Decimal(2) if self.frame.verb == "double" else Decimal("0.5")
        return {"amount": as_text((present_amount(target) * factor).quantize(CENT))}

    def _cleared(self, target: Record) -> dict[str, Any]:
        frame = self.frame
        names = list(dict.fromkeys([*frame.fields, *(value.field for value in frame.values if value.field)]))
        if not names and frame.word.lower() in ("unassign", "un-assign"):
            names = ["assignee" if target.type == "task" else "owner"]
        if not names:
            raise AskBackError(f"What shall be cleared in {target.named.label}?")
        patch: dict[str, Any] = {}
        for name in names:
            field = field_of("end" if name == "due" else name, target.type)
            if field is None or field in ("title", "currency"):
                raise AskBackError(f"The {name.replace('_', ' ')} of a {target.type} cannot be empty.")
            patch[field] = "" if field == "description" else None
            if field == "amount":
                patch["currency"] = None
        for value in frame.values:
            self._require_present(value, target, names)
        return patch

    def _require_present(self, value: Value, target: Record, names: Sequence[str]) -> None:
        """A value that is to be removed is the one that is there; raises AskBackError."""
        field = field_of(value.field or names[0], target.type)
        is_there = target.doc.get(field or "")
        known = [*value.item.people, *(one.named for one in value.item.records)]
        if not any(str(one.id) == is_there for one in known):
            raise not_clear([value.item.text])

    # --- dates ---

    def _sign(self, value: Value) -> int:
        when = cast("Shift", value.item.value)
        if when.sign is not None and self.frame.verb != "earlier":
            return when.sign
        return -1 if self.frame.verb == "earlier" else 1

    def _date(self, value: Value, target: Record, field: str) -> date:
        item = value.item
        if item.kind != "date":
            raise not_clear([item.text])
        when = item.value
        if isinstance(when, Shift):
            said = target.doc.get(field)
            if said is None:
                raise AskBackError(
                    f"{target.named.label} has no {field.replace('_', ' ')} yet, so nothing can be moved. Name a day."
                )
            return self._shifted(when, said, self._sign(value), target)
        return a_day(item, past=field.startswith("actual"))

    def _shifted(self, when: Shift, said: str, sign: int, target: Record) -> date:
        from datetime import date as day  # noqa: PLC0415 - the type is wanted above

        project = self.turn.knowledge.projects.get(target.project)
        try:
            return when.applied(day.fromisoformat(said), sign, project.workdays if project else frozenset(range(5)))
        except OverflowError:
            raise AskBackError("That date is beyond the calendar.") from None

    def _moved_dates(self, value: Value, target: Record) -> dict[str, Any]:
        when = value.item.value
        if target.type == "task":
            return {"due_date": self._date(value, target, "due_date").isoformat()}
        if not isinstance(when, Shift):
            raise AskBackError("Which date: the planned start or the planned end?")
        present = {name: target.doc[name] for name in ("planned_start", "planned_end") if target.doc.get(name)}
        if not present:
            raise AskBackError(f"{target.named.label} has no planned dates yet. Name them.")
        return {
            name: self._shifted(when, said, self._sign(value), target).isoformat() for name, said in present.items()
        }


def _kind_said(frame: Frame) -> str:
    said = [noun for part in frame.parts for noun in part.nouns if noun in ("package", "task", "party")]
    return said[0] if said else "record"


def _negative(item: Item) -> dict[str, Any]:
    raise AskBackError(f"An amount cannot fall below zero by {item.text.strip()}.", not_understood=[item.text])


def status_of(turn: Turn, key: str | None, kind: str) -> str | None:
    """The status that a word means for a type of record, if the policy has it."""
    known = turn.knowledge.statuses(kind)
    status = STATUSES.get(key or "", {}).get(kind, key)
    return status if status in known else None


def present_amount(target: Record) -> Decimal:
    """The amount that the package has; raises AskBackError when it has none."""
    said = target.doc.get("amount")
    if said is None:
        raise AskBackError(f"{target.named.label} has no amount yet. Name one.")
    return Decimal(said)


def money(turn: Turn, item: Item, target: Record | None = None, currency: str | None = None) -> dict[str, Any]:
    """The amount and, where one was named, the currency; raises AskBackError."""
    said = item.money
    if said.value is None:
        raise AskBackError(
            f"I cannot tell which amount “{said.said.strip()}” is. Please write it like 1,234.50.",
            not_understood=[said.said],
        )
    present = target.doc.get("currency") if target is not None else None
    home = turn.knowledge.projects[target.project].currency if target is not None else currency
    named = said.currency
    if said.is_dollar:
        named = next((one for one in (present, home) if one in DOLLAR_CURRENCIES), "USD")
    if named is None and present is None:
        if target is not None or currency is None:
            raise AskBackError(f"In which currency is {said.said.strip()}?", not_understood=[said.said])
        named = currency
    return {"amount": as_text(said.value), **({"currency": named} if named else {})}


def a_day(item: Item, *, past: bool = False) -> date:
    """The one day that was said; raises AskBackError when it could be another, or is none."""
    when = item.value
    if isinstance(when, Day):
        return when.past if past and when.past is not None else when.day
    said = item.text.strip()
    if isinstance(when, Unclear) and when.readings:
        either = " or ".join(f"{one.day} {one:%B %Y}" for one in when.readings)
        raise AskBackError(f"Is {said} the {either}?", not_understood=[said])
    if isinstance(when, Span):
        raise AskBackError(f"Which day of {said} do you mean?", not_understood=[said])
    raise AskBackError(f"I do not know which day “{said}” is.", not_understood=[said])


def vendor(turn: Turn, item: Item, project: Any) -> Record:  # noqa: ANN401 - an id, or None for any project
    """The vendor of the project that was named; raises AskBackError."""
    said = item.value if item.kind == "quote" else item.text
    here = [one for one in turn.candidates(item, ("party",)) if project is None or one.project == project]
    found = [one for one in here if one.doc.get("kind") != "customer"]
    if not here:
        raise unknown(said, "vendor")
    if not found:
        raise AskBackError(f"{here[0].named.label} is a customer, not a vendor.", not_understood=[said])
    if len(found) > 1:
        raise which(said, [one.named for one in found])
    return found[0]


def checked(kind: str, operation: str, patch: Mapping[str, Any]) -> None:
    """Return when the API would take the patch; raises AskBackError with what it would say."""
    try:
        NOUNS[kind].validated(operation, patch)
    except PmisError as error:
        raise AskBackError(error.detail) from None


def merged(changes: Iterable[PlannedChange]) -> list[PlannedChange]:
    """The changes with those of one record put together, where they do not contradict each other."""
    found: dict[Any, PlannedChange] = {}
    for place, change in enumerate(changes):
        key = change.target.id if change.target is not None else place
        if change.target_type == "comment":
            key = place
        before = found.get(key)
        if before is None:
            found[key] = change
            continue
        clash = [name for name in change.patch if name in before.patch and before.patch[name] != change.patch[name]]
        kinds = {before.operation, change.operation}
        if clash or not kinds <= {"patch", "transition"}:
            label = change.target.label if change.target else ""
            raise AskBackError(f"These changes of {label} contradict each other. Please say one of them.")
        operation: Operation = "transition" if "transition" in kinds else "patch"
        found[key] = PlannedChange(
            operation,
            change.target_type,
            change.target,
            {**before.patch, **change.patch},
            project=change.project,
            reason=change.reason or before.reason,
        )
    return list(found.values())
