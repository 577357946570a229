"""The chat models of OpenAI, Azure OpenAI and Anthropic, as the settings describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, cast

import httpx2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel
    from pydantic import SecretStr

    from pmis.kit.settings import Settings

Connected: TypeAlias = "tuple[BaseChatModel, Callable[[], Awaitable[None]]]"
_MOST_WRITTEN: Final = 2000
"""How many tokens one call may write: a plan is short."""


def model_of(settings: Settings) -> Connected:
    """The configured model, with everything set that it needs, and how its connections are let go.

    It is asked once for each call: what fails is planned by the grammar at once, as somebody waits.
    """
    name, seconds = str(settings.assistant_model), settings.assistant_model_seconds
    match settings.assistant_provider:
        case "openai":
            from langchain_openai import ChatOpenAI  # noqa: PLC0415 - loads slowly

            client = httpx2.AsyncClient(timeout=seconds)
            chat = ChatOpenAI(
                http_async_client=client,
                model=name,
                api_key=settings.openai_api_key,
                base_url=settings.openai_base_url,
                timeout=seconds,
                max_retries=0,
                max_completion_tokens=_MOST_WRITTEN,
                use_responses_api=False,
            )
            return chat, client.aclose
        case "azure":
            from langchain_openai import AzureChatOpenAI  # noqa: PLC0415 - loads slowly

            client = httpx2.AsyncClient(timeout=seconds)
            azure = AzureChatOpenAI(
                http_async_client=client,
                azure_deployment=name,
                api_key=settings.azure_openai_api_key,
                azure_endpoint=settings.azure_openai_endpoint,
                api_version=settings.azure_openai_api_version,
                timeout=seconds,
                max_retries=0,
                max_completion_tokens=_MOST_WRITTEN,
            )
            return azure, client.aclose
        case "anthropic":
            from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - loads slowly

            claude = ChatAnthropic(
                model_name=name,
                api_key=cast("SecretStr", settings.anthropic_api_key),
                base_url=settings.anthropic_base_url,
                timeout=seconds,
                max_retries=0,
                max_tokens_to_sample=_MOST_WRITTEN,
                stop=None,
            )
            return claude, claude._async_client.close  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - it has no other way
        case "none":
            message = "there is no model"
            raise ValueError(message)
