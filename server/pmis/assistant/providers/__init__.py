"""Models of others as planners. Nothing of a provider is imported before its model is asked for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pmis.assistant.grammar import Grammar
from pmis.assistant.providers.planning import Budget, ModelPlanner, Prices
from pmis.assistant.untrusted.reader import Reader
from pmis.kit.settings import SettingsError

if TYPE_CHECKING:
    from pmis.assistant.providers.models import Connected
    from pmis.assistant.work import Planner
    from pmis.kit.settings import Settings
    from pmis.kit.storage import Storage


_NEEDED: Final = {
    "openai": ("assistant_model", "openai_api_key"),
    "azure": ("assistant_model", "azure_openai_api_key", "azure_openai_endpoint"),
    "anthropic": ("assistant_model", "anthropic_api_key"),
}


def planner_of(settings: Settings) -> Planner:
    """Who plans, as the settings say; the grammar is behind every model.

    Raises SettingsError, which names every variable that the provider needs and that is not set.
    """
    provider = settings.assistant_provider
    if provider == "none":
        return Grammar()
    missing = [name.upper() for name in _NEEDED[provider] if not getattr(settings, name)]
    if missing:
        raise SettingsError(f"ASSISTANT_PROVIDER is {provider}, and {' and '.join(missing)} must be set for it.")

    def connect() -> Connected:
        from pmis.assistant.providers.models import model_of  # noqa: PLC0415 - takes seconds to load

        return model_of(settings)

    def storage() -> Storage:
        from pmis.kit.storage import Storage  # noqa: PLC0415 - its library loads slowly, and few texts are files

        return Storage.of(settings)

    seconds = settings.assistant_model_seconds
    budget = Budget(seconds, settings.assistant_model_calls, settings.assistant_model_tokens)
    # Whatever is wrong with one text, there is time left to plan.
    reader = Reader(storage, seconds / 3, asks=settings.assistant_texts == "model")
    read, written = settings.assistant_price_read, settings.assistant_price_written
    # With one price alone what was spent would be told as less than it was.
    prices = None
    if read is not None and written is not None:
        prices = Prices(read, written, settings.assistant_price_currency)
    return ModelPlanner(f"{provider}:{settings.assistant_model}", connect, Grammar(), budget, reader, prices)
