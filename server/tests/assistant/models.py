"""A server on this machine that speaks as OpenAI, Azure OpenAI and Anthropic do, and says what a test has it say."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - as the endpoints of an API have it
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Calls:
    """The model calls these tools, each with a name and arguments."""

    tools: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Says:
    """The model says this."""

    text: str


@dataclass(frozen=True)
class Fails:
    """The provider answers with this status and body."""

    status: int = 500
    body: str = '{"error": {"message": "broken", "type": "server_error"}}'
    seconds: float = 0


@dataclass
class Script:
    """What is said next, and what was asked."""

    steps: list[Calls | Says | Fails] = field(default_factory=list["Calls | Says | Fails"])
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    paths: list[str] = field(default_factory=list[str])
    tokens: int = 10

    async def _next(self, request: Request) -> Calls | Says | Response:
        self.asked.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        step = self.steps.pop(0) if self.steps else Says("That is all.")
        if isinstance(step, Fails):
            await asyncio.sleep(step.seconds)
            return Response(step.body, step.status, media_type="application/json")
        return step

    async def openai(self, request: Request) -> Response:
        """`POST /chat/completions`, of OpenAI and of Azure's deployments."""
        step = await self._next(request)
        if isinstance(step, Response):
            return step
        message: dict[str, Any] = {"role": "assistant", "content": step.text if isinstance(step, Says) else None}
        if isinstance(step, Calls):
            message["tool_calls"] = [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": name, "arguments": said if isinstance(said, str) else json.dumps(said)},
                }
                for number, (name, said) in enumerate(step.tools)
            ]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": self.tokens, "completion_tokens": 5, "total_tokens": self.tokens + 5}
        return JSONResponse(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )

    async def anthropic(self, request: Request) -> Response:
        """`POST /v1/messages`."""
        step = await self._next(request)
        if isinstance(step, Response):
            return step
        content: list[dict[str, Any]] = (
            [{"type": "text", "text": step.text}]
            if isinstance(step, Says)
            else [
                {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": said}
                for number, (name, said) in enumerate(step.tools)
            ]
        )
        reason = "end_turn" if isinstance(step, Says) else "tool_use"
        usage = {"input_tokens": self.tokens, "output_tokens": 5}
        return JSONResponse(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": content,
                "stop_reason": reason,
                "stop_sequence": None,
                "usage": usage,
            }
        )

    def app(self) -> Starlette:
        """The server."""
        return Starlette(
            routes=[
                Route("/openai/chat/completions", self.openai, methods=["POST"]),
                Route("/azure/openai/deployments/{name}/chat/completions", self.openai, methods=["POST"]),
                Route("/anthropic/v1/messages", self.anthropic, methods=["POST"]),
            ]
        )
