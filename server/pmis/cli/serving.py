"""Runs uvicorn on the API, with the settings' address, or on a socket that a supervisor hands over."""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from pmis.kit import logs
from pmis.kit.errors import UnavailableError
from pmis.kit.settings import load_settings
from pmis.ops.process import reason_of

if TYPE_CHECKING:
    from collections.abc import Generator

_APP: Final = "pmis.api.main:app"
_NEEDED: Final = (
    "pmis.api.app",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    uds: str | None = None,
    handoff: int | None = None,
    workers: int | None = None,
) -> None:
    """Serve the API until a signal ends it; raises PmisError when the settings or the address do not allow it."""
    listener = _handed_over(handoff) if handoff is not None else None
    settings = load_settings()
    settings.require_servable()
    logs.configure(settings, "api")
    options: dict[str, Any] = {
        "host": settings.api_host if host is None else host,
        "port": settings.api_port if port is None else port,
        "workers": settings.api_workers if workers is None else workers,
        "log_level": settings.log_level.lower(),
        # The application logs each request itself, with its correlation id.
        "access_log": False,
        # Its own lines go where everything else goes.
        "log_config": None,
        "server_header": False,
        # It would believe any program of this machine; `pmis.api.proxy` believes those that are named.
        "proxy_headers": False,
        "timeout_graceful_shutdown": 10,
        # One that still loads, on a busy machine, is not dead: ending it would only make the machine busier.
        "timeout_worker_healthcheck": 60,
        "lifespan": "on",
    }
    config = uvicorn.Config(_APP, **options)
    if listener is None:
        listener = _unix_socket(Path(uds), config.backlog) if uds is not None else _tcp_socket(config)
    if config.workers > 1:
        listener.set_inheritable(True)
        with _shared_counts():
            Multiprocess(config, sockets=[listener]).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(3)


@contextmanager
def _shared_counts() -> Generator[None]:
    """A folder in which the processes add up their metrics, empty at the start: the one that is set, or one for now."""
    with tempfile.TemporaryDirectory(prefix="pmis-metrics-") as made:
        folder = Path(os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", made))
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.db"):
            left.unlink()
        yield


def _handed_over(number: int) -> socket.socket:
    """Load what takes long, then wait for the supervisor: it sends where the settings are, and the socket to serve.

    Ends the process when the supervisor has nothing to send after all.
    """
    gc.disable()
    for name in _NEEDED:
        importlib.import_module(name)
    gc.freeze()  # what was loaded stays; nobody needs to look through it again
    gc.enable()
    with socket.socket(fileno=number) as channel:
        message, descriptors, _, _ = socket.recv_fds(channel, 65536, 1)
    if not message:
        sys.exit(0)
    os.environ.update(json.loads(message))
    # Not uvicorn's own --fd: that takes every socket for a Unix one and loses the caller's address.
    return socket.socket(fileno=descriptors[0])


def _tcp_socket(config: uvicorn.Config) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((config.host, config.port), family=family, backlog=config.backlog)
    except OSError as error:
        raise UnavailableError(
            f"The API cannot listen on {config.host} port {config.port}: {reason_of(error)}. "
            "Choose another address with --host and --port."
        ) from None


def _unix_socket(path: Path, backlog: int) -> socket.socket:
    """A socket at the path; one that a killed process left there is replaced, a living one is not."""
    listener = socket.socket(socket.AF_UNIX)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
    try:
        listener.bind(str(path))
        listener.listen(backlog)
    except OSError as error:
        raise UnavailableError(f"The API cannot listen on {path}: {reason_of(error)}.") from None
    return listener
