"""The state of the graph: plain JSON, so that a checkpoint can be read by any version and holds no class."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from pydantic import TypeAdapter

from pmis.assistant.plan import Before, Named, Plan, Taken


class State(TypedDict):
    """One turn, as far as it is; what no node has said yet is not there. Every value is JSON."""

    query: str
    stated_impact: str | None
    stated_uncertainty: str | None
    asked_project: str | None
    before: dict[str, Any] | None

    project: dict[str, Any] | None
    zone: str
    plan: dict[str, Any]
    findings: list[dict[str, Any]]
    """What was found out for each question: a text, and the evidence for it."""
    proposals: list[dict[str, Any]]
    """Changes that stand or fall together, one entry for each proposal, and what became of it."""
    at: int
    """How many of the proposals were submitted."""
    notices: list[str]
    answer: dict[str, Any]
    left: dict[str, Any]


PLAN: Final = TypeAdapter(Plan)
BEFORE: Final = TypeAdapter(Before)
NAMED: Final = TypeAdapter(Named)
SOURCE: Final = TypeAdapter(Taken)
