"""`pmis up`: everything on one machine."""

from __future__ import annotations

import contextlib
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Any

import typer

app = typer.Typer()


@app.command()
def up(
    data_dir: Path | None = typer.Option(
        None, help="The data folder. Default: PMIS_DATA_DIR, else .data in the checkout."
    ),
    port: int | None = typer.Option(
        None, min=0, max=65535, help="The API's port; 0 takes a free one. Default: API_PORT."
    ),
    web: bool = typer.Option(True, help="Build and serve the web app too."),
    web_port: int | None = typer.Option(
        None, min=0, max=65535, help="The web app's port; 0 takes a free one. Default: WEB_PORT."
    ),
    demo: bool = typer.Option(True, help="Load the demo project into an empty log."),
) -> None:
    """Start everything: PostgreSQL, Valkey, migrations, demo data on the first run, API, sealer, jobs, the web app.

    What DATABASE_URL or REDIS_URL name is used; the rest is embedded in the data folder. What dies is started again,
    Ctrl-C or SIGTERM stops everything, and the next start clears up after a kill -9.
    """
    from pmis.ops.up import run  # noqa: PLC0415 - see the package

    given: dict[str, Any] = {
        "pmis_data_dir": data_dir.absolute() if data_dir else None,
        "api_port": port,
        "web_port": web_port,
    }

    def say(text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that went away must not end what it started
            typer.echo(text)

    run({name: value for name, value in given.items() if value is not None}, demo=demo, pages=web, say=say)
