"""The application: what goes around every request, and the way from there to the endpoints.

The framework keeps the routes, describes them, and answers whatever is not one of them. A request for a `DirectRoute`
goes straight to its endpoint: half a dozen layers of the framework (telemetry, exit stacks, the table of routes looked
through from its top) would else cost as much as many an endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.convertors import StringConvertor
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request

from pmis.api.context import count_address
from pmis.api.docs import PERMISSIONS, UNCOUNTED, DirectRoute
from pmis.api.problems import REFUSED, refuse

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

_Key = tuple[str, int, str]


class Direct:
    """Calls the endpoint of a `DirectRoute`; everything else goes on to the framework."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        """Sort the routes by method, length and noun; among those that are alike the first one declared wins."""
        self._app = app
        self._routes: dict[_Key, list[tuple[re.Pattern[str], DirectRoute]]] = {}
        self._by_address: set[int] = set()
        """The routes that anybody may ask: their requests are counted by address, others once it is known who asks."""
        for route in routes:
            if not isinstance(route, DirectRoute):
                continue
            if not all(isinstance(one, StringConvertor) for one in route.param_convertors.values()):
                message = f"{route.path} has a parameter that is more than one segment of the path"
                raise TypeError(message)
            own = route.path.removeprefix("/api").removeprefix("/v1")
            for method in route.methods or ():
                if PERMISSIONS.get((method, own)) == "public" and own not in UNCOUNTED:
                    self._by_address.add(id(route))
                key = _key(method, route.path)
                self._routes.setdefault(key, []).append((route.path_regex, route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = self.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, params = found
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, params
        request = Request(scope, receive, send)
        try:
            if id(route) in self._by_address:
                await count_address(request)
            response = await route.endpoint(request, **params)
        except REFUSED as error:
            response = await refuse(request, error)
        await response(scope, receive, send)

    def find(self, method: str, path: str) -> tuple[DirectRoute, dict[str, Any]] | None:
        """The route that is meant, and the texts in its path."""
        for pattern, route in self._routes.get(_key(method, path), ()):
            match = pattern.match(path)
            if match is not None:
                return route, match.groupdict()
        return None


def _key(method: str, path: str) -> _Key:
    """What routes that could be meant by the same request have in common."""
    parts = path.split("/", 4)
    noun = parts[3:4] if parts[2:3] == ["v1"] else parts[2:3]
    return method, path.count("/"), noun[0] if noun else ""


class Application(FastAPI):
    """FastAPI, with what goes around it really around it: `outermost` answers first, and asks FastAPI itself."""

    outermost: ASGIApp | None = None

    def build_middleware_stack(self) -> ASGIApp:
        """Without the framework's own answer to a fault: it would go out before `outermost` has heard of the fault."""
        stack = super().build_middleware_stack()
        return stack.app if isinstance(stack, ServerErrorMiddleware) else stack

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request through all of the framework."""
        await super().__call__(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self
        await (self.outermost or self.framework)(scope, receive, send)
