"""Models of others as planners. Nothing of a provider is imported before its model is asked for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmis.assistant.grammar import Grammar
from pmis.assistant.providers.planning import Budget, ModelPlanner

if TYPE_CHECKING:
    from pmis.assistant.work import Planner
    from pmis.kit.settings import Settings


def planner_of(settings: Settings) -> Planner:
    """Who plans, as the settings say; the grammar is behind every model."""
    if settings.assistant_provider == "none":
        return Grammar()

    def connect() -> object:
        from pmis.assistant.providers.models import model_of  # noqa: PLC0415 - takes seconds to load

        return model_of(settings)

    budget = Budget(settings.assistant_model_seconds, settings.assistant_model_calls, settings.assistant_model_tokens)
    name = f"{settings.assistant_provider}:{settings.assistant_model or 'no model named'}"
    return ModelPlanner(name, connect, Grammar(), budget)
