"""The log itself: seal it, export it, name its key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003 - Typer reads the annotations

import typer

if TYPE_CHECKING:
    from psycopg import Connection

    from pmis.kit.db import WriteSession
    from pmis.kit.settings import Settings
    from pmis.ledger.export import Exported
    from pmis.ledger.seal import Sealer

app = typer.Typer(name="ledger", help="The log: seal it, export it, name its key.", no_args_is_help=True)


def _sealer(connection: Connection[Any], settings: Settings) -> Sealer:
    from pmis.ledger.checkpoint import previous_keys_of, signer_of  # noqa: PLC0415 - see the package
    from pmis.ledger.seal import Sealer  # noqa: PLC0415
    from pmis.ledger.sink import FileSink  # noqa: PLC0415

    # An install with a single login seals as one that may do nothing else.
    connection.execute("set role pmis_sealer")
    return Sealer(
        connection,
        signer_of(settings),
        [FileSink(settings.checkpoints)],
        previous_keys=previous_keys_of(settings),
    )


@app.command()
def seal(
    loop: bool = typer.Option(False, "--loop", help="Go on sealing until stopped; `pmis up` runs this."),
    full_check: bool = typer.Option(
        False, "--full-check", help="First hash every sealed event again, not only a stretch of them."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for programs."),
) -> None:
    """Put new events into the signed tree and keep the checkpoint outside the database.

    Refuses, with nothing signed, when the database is older than its checkpoints or sealed events were changed.
    """
    import dataclasses  # noqa: PLC0415 - see the package
    import json  # noqa: PLC0415

    import psycopg  # noqa: PLC0415

    from pmis.kit.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    if loop:
        _seal_until_stopped(settings)
        return
    with psycopg.connect(settings.sealer_dsn, autocommit=True) as connection:
        sealed = _sealer(connection, settings).run(full_check=full_check, progress=_progress("events sealed"))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(sealed)))
        return
    typer.echo(f"{sealed.events:,} events sealed, {sealed.size:,} in all, {sealed.rechecked:,} hashed again")
    typer.echo(f"checkpoints are kept in {settings.checkpoints}")


def _seal_until_stopped(settings: Settings) -> None:
    import signal  # noqa: PLC0415 - see the package
    import threading  # noqa: PLC0415

    import psycopg  # noqa: PLC0415

    from pmis.kit import faults, logs  # noqa: PLC0415
    from pmis.ledger.seal import seal_loop  # noqa: PLC0415

    logs.configure(settings, "sealer")
    faults.configure(settings, "sealer")
    stop = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    seal_loop(
        lambda: psycopg.connect(settings.sealer_dsn, autocommit=True, connect_timeout=5),
        lambda connection: _sealer(connection, settings),
        interval_seconds=settings.seal_interval_seconds,
        threshold=settings.seal_events,
        stop=stop,
    )


@app.command()
def export(
    file: str = typer.Argument(help="Where to write it; gzip when it ends in .gz, - is standard output."),
    project: UUID | None = typer.Option(None, help="Only this project's events, each with a proof."),
    checkpoint_size: list[int] = typer.Option(
        [], help="With --project: also bring the proof for the checkpoint of this size. May be repeated."
    ),
) -> None:
    """Write the log as a file that `pmis verify` can judge without the database.

    That it was exported is itself recorded in the log, and no file appears when that fails.
    """
    import psycopg  # noqa: PLC0415 - see the package

    from pmis.kit.settings import load_settings  # noqa: PLC0415
    from pmis.ledger.checkpoint import previous_keys_of, signer_of  # noqa: PLC0415
    from pmis.ledger.export import export_file  # noqa: PLC0415

    settings = load_settings()
    signer = signer_of(settings)
    with psycopg.connect(settings.auditor_dsn, autocommit=True) as connection:
        done = export_file(
            connection,
            file,
            origin=signer.origin,
            keys=[signer.key, *previous_keys_of(settings)],
            project=project,
            sizes=checkpoint_size,
            progress=_progress("records written"),
            on_done=lambda exported: _record_export(settings, exported),
        )
    typer.echo(
        f"{done.sealed:,} sealed events, {done.unsealed:,} not yet sealed, {done.checkpoints:,} checkpoints", err=True
    )


def _record_export(settings: Settings, exported: Exported) -> None:
    """Append `export.made`, as whoever sits at the server's console."""
    from pmis.kit.db import in_transaction  # noqa: PLC0415 - see the package
    from pmis.kit.ids import uuid7  # noqa: PLC0415
    from pmis.ledger.event import Actor, Fact, Origin  # noqa: PLC0415
    from pmis.ledger.store import record  # noqa: PLC0415

    identity = uuid7()
    project = exported.project
    fact = Fact("export.made", {"project_id": str(project) if project else None, **exported.counts()})
    origin = Origin(Actor("system:console", "Console"), "cli", f"export-{identity}")

    async def append(session: WriteSession) -> None:
        record(session, "export", identity, fact, origin=origin, project_id=project)

    in_transaction(settings.app_dsn, append)


@app.command()
def key() -> None:
    """Print the public key that checkpoints are signed with, for `pmis verify --key`."""
    from pmis.kit.settings import load_settings  # noqa: PLC0415 - see the package
    from pmis.ledger.checkpoint import signer_of  # noqa: PLC0415

    typer.echo(str(signer_of(load_settings()).key))


@app.command()
def replay(
    check: bool = typer.Option(False, "--check", help="Compare the rebuilt tables with the live ones, row by row."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for programs."),
) -> None:
    """Rebuild every table from the log in a scratch schema and compare it; ends with 1 when a row differs."""
    import asyncio  # noqa: PLC0415 - see the package
    import dataclasses  # noqa: PLC0415
    import json  # noqa: PLC0415

    from pmis.kit.db import Database, Reach  # noqa: PLC0415
    from pmis.kit.settings import load_settings  # noqa: PLC0415
    from pmis.ledger.replay import check as check_replay  # noqa: PLC0415
    from pmis.nouns import PROJECTIONS  # noqa: PLC0415

    if not check:
        raise typer.BadParameter("say --check: a replay compares and never writes", param_hint="--check")
    show = _progress("rows rebuilt")

    async def run() -> Any:  # noqa: ANN401 - a report
        database = Database(load_settings().app_dsn, size=1, role="pmis_app")
        await database.open()
        try:
            async with database.snapshot(Reach.INSTANCE) as session:
                return await check_replay(
                    session, PROJECTIONS, progress=(lambda _, count: show(count)) if show else None
                )
        finally:
            await database.close()

    report = asyncio.run(run())
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for found in report.differences[:50]:
            typer.echo(f"{found.kind:<9} {found.table} {found.key}")
        typer.echo(f"{report.rows:,} rows rebuilt from the log, {len(report.differences):,} differ")
    if report.differences:
        raise typer.Exit(1)


def _progress(what: str) -> Any:  # noqa: ANN401 - a function, or None where nobody watches
    if not sys.stderr.isatty():
        return None

    def show(count: int) -> None:
        typer.echo(f"\r{count:,} {what}", err=True, nl=False)

    return show
