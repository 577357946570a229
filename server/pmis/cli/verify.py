"""Judge an exported log, with no database and no settings."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations

import typer

app = typer.Typer()


@app.command()
def verify(
    file: str = typer.Argument(help="The exported log; - is standard input, gzip is recognised."),
    checkpoint: list[Path] = typer.Option(
        [], help="A checkpoint that was kept elsewhere, or a folder of them. May be repeated."
    ),
    key: list[str] = typer.Option(
        [], help="The key that must have signed (see `pmis ledger key`), or a file that holds it. May be repeated."
    ),
    hash_only: bool = typer.Option(False, "--hash-only", help="Do not check that payloads are canonical JSON."),
    jobs: int | None = typer.Option(None, min=1, max=64, help="Processes to use. Default: as many as fit the file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for programs."),
) -> None:
    """Check an exported log: every event, every stream, every signature, and the checkpoints kept elsewhere.

    Ends with 0 when all is well, 1 when the log was tampered with, 2 when the file cannot be judged. The same check
    without an installed PMIS: `python verify.py FILE`, with the single file pmis/ledger/verify.py.
    """
    from pmis.ledger.verify import report_on  # noqa: PLC0415 - see the package

    code = report_on(file, checkpoints=checkpoint, keys=key, check_canonical=not hash_only, jobs=jobs, as_json=as_json)
    raise typer.Exit(code)
