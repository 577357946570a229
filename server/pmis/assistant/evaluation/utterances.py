"""What is said in the evaluation, and what should come of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pmis.assistant.plan import Before, Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmis.assistant.plan import Plan


@dataclass(frozen=True, slots=True)
class Utterance:
    """One message. `before` are earlier messages of the same conversation; `held_out` was written after the grammar."""

    kind: str
    text: str
    expect: Mapping[str, Any]
    before: tuple[str, ...] = ()
    held_out: bool = False
    refused: bool = False
    """Whether it is understood as expected, and the rules refuse it: nothing is proposed then."""

    @property
    def outcome(self) -> Mapping[str, Any]:
        """What comes of it when rules and policy have had their say."""
        return {"action_type": "refuse"} if self.refused else self.expect


def load_utterances() -> list[Utterance]:
    """Every utterance of the evaluation."""
    text = files("pmis.assistant.evaluation").joinpath("utterances.json").read_text("utf-8")
    return [
        Utterance(
            one["class"],
            one["text"],
            one["expect"],
            tuple(one.get("before", ())),
            held_out=one.get("held_out", False),
            refused=one.get("refused", False),
        )
        for one in json.loads(text)
    ]


def body_of(plan: Plan) -> dict[str, Any]:
    """A plan in the shape of an answer of `POST /chat`, as far as a plan has it, with its questions beside."""
    return {
        "action_type": plan.kind,
        "changes": [
            {
                "operation": change.operation,
                "target_type": change.target_type,
                "target": str(change.target.id) if change.target else None,
                "patch": dict(change.patch),
            }
            for change in plan.changes
        ],
        "questions": [_plain(one) for one in plan.questions],
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a question
    if isinstance(value, (Named, UUID)):
        return str(value.id if isinstance(value, Named) else value)
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def remembered(plan: Plan, text: str) -> Before:
    """What a turn leaves for the next one."""
    records = [change.target for change in plan.changes if change.target is not None]
    for question in plan.questions:
        record = getattr(question, "record", None)
        if isinstance(record, Named):
            records.append(record)
    asked = text if plan.kind == "clarify" else None
    return Before(tuple(dict.fromkeys(records)), asked, plan.candidates)
