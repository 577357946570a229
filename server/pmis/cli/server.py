"""Single processes of a running system: the API, migrations, the doctor."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def api(
    host: str | None = typer.Option(None, help="The address to listen on. Default: API_HOST."),
    port: int | None = typer.Option(None, min=0, max=65535, help="The port to listen on. Default: API_PORT."),
    uds: str | None = typer.Option(None, help="Listen on this Unix socket instead."),
    handoff: int | None = typer.Option(None, hidden=True, help="Load, then take the rest from this channel."),
    workers: int | None = typer.Option(None, min=1, max=64, help="How many processes. Default: API_WORKERS."),
) -> None:
    """Serve the HTTP API in the foreground."""
    from pmis.cli.serving import serve  # noqa: PLC0415 - see the package

    serve(host=host, port=port, uds=uds, handoff=handoff, workers=workers)


@app.command()
def migrate() -> None:
    """Bring the database's schema to what this version needs. Safe to run from several places at once."""
    from pmis.kit.settings import load_settings  # noqa: PLC0415 - see the package
    from pmis.ops.migrate import head_revision, upgrade  # noqa: PLC0415

    before = upgrade(load_settings())
    head = head_revision()
    if before is None:
        typer.echo(f"at {head}, nothing to do")
    else:
        typer.echo(f"from {before or 'nothing'} to {head}")


@app.command()
def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print JSON for programs."),
) -> None:
    """Check settings, database, logins, schema, broker, disk, clock and seals; say what to do about each fault.

    Ends with 0 when all is well, 1 with warnings, 2 when something does not work.
    """
    import json  # noqa: PLC0415 - see the package

    from pmis.ops.doctor import Level, examine  # noqa: PLC0415

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.level.name.lower():<8} {finding.check:<11} {finding.text}")
            if finding.advice:
                typer.echo(f"{'':<20} -> {finding.advice}")
    raise typer.Exit(max((finding.level for finding in findings), default=Level.OK).value)
