"""Measuring how well the assistant understands."""

from __future__ import annotations

import sys
from typing import Any, Final

import typer

app = typer.Typer()
_LEAST: Final = 0.95


@app.command("eval")
def evaluate(
    only: list[str] = typer.Option([], "--class", metavar="NAME", help="Only utterances of this class; repeatable."),
    faults: bool = typer.Option(False, "--faults", help="Show every utterance of which something else came."),
) -> None:
    """Say the shipped utterances to the assistant, on an instance of its own, and print how many came out exactly.

    Exits with 1 below 95 % or at a single wrong write.
    """
    from pmis.ops import evaluation  # noqa: PLC0415 - loads slowly

    shows = sys.stderr.isatty()

    def progress(done: int, of: int) -> None:
        if shows:
            sys.stderr.write(f"\r{done} of {of}" + ("\n" if done == of else ""))
            sys.stderr.flush()

    score: Any = evaluation.evaluate(progress, only=only)
    if faults:
        for utterance, found in score.faults:
            typer.echo(f"[{utterance.kind}] {utterance.text}")
            for one in found:
                typer.echo(f"    {one}")
    typer.echo(score.report())
    if score.wrong_writes or score.accuracy < _LEAST:
        raise typer.Exit(1)
