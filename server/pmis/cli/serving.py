"""Runs uvicorn on the API, with the settings' address, or on a socket that a supervisor holds."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from pmis.kit.errors import UnavailableError
from pmis.kit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_APP: Final = "pmis.api.main:app"


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    uds: str | None = None,
    fd: int | None = None,
    workers: int | None = None,
) -> None:
    """Serve the API until a signal ends it; raises PmisError when the settings or the address do not allow it."""
    settings = load_settings()
    settings.require_servable()
    options: dict[str, Any] = {
        "host": settings.api_host if host is None else host,
        "port": settings.api_port if port is None else port,
        "uds": uds,
        "workers": settings.api_workers if workers is None else workers,
        "log_level": settings.log_level.lower(),
        # The application logs each request itself, with its correlation id.
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 10,
        "lifespan": "on",
    }
    config = uvicorn.Config(_APP, **options)
    sockets = _sockets(config, uds=uds, fd=fd)
    if config.workers > 1:
        Multiprocess(config, sockets=list(sockets)).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=list(sockets))
    if not server.started:
        sys.exit(3)


def _sockets(config: uvicorn.Config, *, uds: str | None, fd: int | None) -> Sequence[socket.socket]:
    if fd is not None:
        # Not uvicorn's own --fd: that takes every socket for a Unix one and loses the caller's address.
        return (socket.socket(fileno=fd),)
    if uds is not None:
        return (config.bind_socket(),)
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return (socket.create_server((config.host, config.port), family=family, backlog=config.backlog),)
    except OSError as error:
        raise UnavailableError(
            f"The API cannot listen on {config.host} port {config.port}: {error.strerror}. "
            "Choose another address with --host and --port."
        ) from None
