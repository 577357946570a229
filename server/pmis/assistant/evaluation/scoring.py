"""How well answers fit what was expected: exact outcomes by class, a confusion table, and wrong writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.assistant.evaluation.utterances import Utterance
    from pmis.assistant.evaluation.world import World

ACTIONS: Final = ("answer", "change", "clarify", "refuse")
_UNSAID: Final[tuple[Any, ...]] = (None, "", {}, [])
_REFERENCES: Final = frozenset({"person", "party", "package", "task", "project"})


@dataclass
class Score:
    """What came of the utterances of one run."""

    right: Counter[str] = field(default_factory=Counter[str])
    total: Counter[str] = field(default_factory=Counter[str])
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    wrong_writes: list[str] = field(default_factory=list[str])
    """Utterances of which a change was made that nobody asked for."""
    faults: list[tuple[Utterance, list[str]]] = field(default_factory=list[tuple["Utterance", list[str]]])

    @property
    def accuracy(self) -> float:
        """The share of exact outcomes."""
        count = self.total.total()
        return self.right.total() / count if count else 0.0

    def add(self, utterance: Utterance, body: Mapping[str, Any], world: World) -> list[str]:
        """Count an answer, or a plan in its shape; what differs from the expected one."""
        expected = utterance.outcome if "response" in body else utterance.expect
        found = differences(expected, body, world)
        if found and "response" in body:
            found.append(f"it says {body['response'][:150]!r}")
        self.total[utterance.kind] += 1
        self.right[utterance.kind] += not found
        self.confusion[expected["action_type"], str(body.get("action_type"))] += 1
        if found:
            self.faults.append((utterance, found))
        if wrong_writes(expected, body, world):
            self.wrong_writes.append(utterance.text)
        return found

    def report(self) -> str:
        """The tables, as text."""
        lines = [f"{'class':<24}{'right':>6}{'of':>6}{'share':>9}"]
        for kind in sorted(self.total):
            share = self.right[kind] / self.total[kind]
            lines.append(f"{kind:<24}{self.right[kind]:>6}{self.total[kind]:>6}{share:>9.1%}")
        lines += [f"{'all':<24}{self.right.total():>6}{self.total.total():>6}{self.accuracy:>9.1%}", ""]
        given = sorted({one for _, one in self.confusion} | set(ACTIONS))
        lines.append("expected, given".ljust(24) + "".join(f"{one:>10}" for one in given))
        for expected in ACTIONS:
            counts = "".join(f"{self.confusion[expected, one]:>10}" for one in given)
            lines.append(f"{expected:<24}{counts}")
        lines += ["", f"wrong writes: {len(self.wrong_writes)}"]
        lines += [f"  {text}" for text in self.wrong_writes]
        return "\n".join(lines)


def differences(expected: Mapping[str, Any], body: Mapping[str, Any], world: World) -> list[str]:
    """What an answer has otherwise than expected; what was not expected of it in particular may be anything."""
    found: list[str] = []
    if body.get("action_type") not in expected["action_type"].split("|"):
        found.append(f"action_type: {body.get('action_type')}, expected {expected['action_type']}")
    wanted, given = _canonical(expected.get("changes", ()), world), _canonical(body.get("changes", ()), world)
    missing = [one for one in wanted if one not in given]
    surplus = [one for one in given if one not in wanted]
    found += [f"no change {one}" for one in missing] + [f"a change {one}" for one in surplus]
    if "questions" in expected and "questions" in body:
        found += _differing_questions(expected["questions"], body["questions"], world)
    said = _spoken(str(body.get("response", "")))
    if "response" in body:
        found += [f"it does not say {fact!r}" for fact in expected.get("says", ()) if _spoken(fact) not in said]
    return found


def _spoken(text: str) -> str:
    """A text for comparing: a status may be shown as "on_hold" or "on hold"."""
    return text.casefold().replace("_", " ")


def wrong_writes(expected: Mapping[str, Any], body: Mapping[str, Any], world: World) -> list[str]:
    """The changes of an answer that are none of the expected ones."""
    wanted = _canonical(expected.get("changes", ()), world)
    return [one for one in _canonical(body.get("changes", ()), world) if one not in wanted]


def _canonical(changes: Sequence[Mapping[str, Any]], world: World) -> list[str]:
    return [_change(change, world) for change in changes]


def _change(change: Mapping[str, Any], world: World) -> str:
    """A change as a text that is the same for the same change, by the names of the world instead of ids."""
    operation = change["operation"]
    target: Any = change.get("target")
    if isinstance(target, dict):
        shown = cast("dict[str, Any]", target)
        target = shown.get("id") or shown.get("label")
    named = "new" if operation == "create" else _named(str(target), world, change["target_type"])
    patch = {
        name: _plain(name, value, world)
        for name, value in change.get("patch", {}).items()
        # A record that is created is often shown with its empty fields too.
        if not (operation == "create" and value in _UNSAID)
    }
    fields = ", ".join(f"{name}={patch[name]!r}" for name in sorted(patch))
    return f"{operation} {change['target_type']} {named}: {fields}"


def _named(text: str, world: World, kind: str) -> str:
    """The world's name of a record that is given by its id, its code, its title or that name."""
    if text in world.ids:
        return text
    known = world.named(text)
    if known is not None:
        return known
    if f"{kind}:{text}" in world.ids:
        return f"{kind}:{text}"
    for key, task in world.data["tasks"].items():
        if kind == "task" and task["title"] == text:
            return f"task:{key}"
    for key, party in world.data["parties"].items():
        if kind == "party" and party["name"] == text:
            return f"party:{key}"
    return text


def _plain(name: str, value: Any, world: World) -> Any:  # noqa: ANN401 - any JSON value
    if name == "amount" and value is not None:
        try:
            return format(Decimal(str(value)).normalize(), "f")
        except InvalidOperation:
            return value
    if isinstance(value, str):
        if name in ("title", "name", "body", "description"):
            return value.strip().casefold()
        if name.endswith("_id"):
            return _named(value, world, name.removesuffix("_id"))
    return value


def _differing_questions(
    wanted: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], world: World
) -> list[str]:
    left = [_resolved(one, world) for one in given]
    found: list[str] = []
    for one in wanted:
        plain = _resolved(one, world)
        fitting = next((other for other in left if all(other.get(name) == plain[name] for name in plain)), None)
        if fitting is None:
            found.append(f"no question {plain}")
        else:
            left.remove(fitting)
    return found + [f"a question {one}" for one in left]


def _resolved(value: Any, world: World) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        plain: dict[str, Any] = {name: _resolved(item, world) for name, item in cast("dict[str, Any]", value).items()}
        if isinstance(plain.get("status"), str):
            plain["status"] = ",".join(sorted(plain["status"].split(",")))
        return plain
    if isinstance(value, (list, tuple)):
        return [_resolved(item, world) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return world.named(value) or (f"package:{value}" if f"package:{value}" in world.ids else value)
    return value
