"""`pmis demo`: the demo's people and project."""

import typer

app = typer.Typer()


@app.command()
def demo(
    if_empty: bool = typer.Option(False, "--if-empty", help="Do nothing, quietly, in an instance that has people."),
    people: bool = typer.Option(False, "--people", help="Only list the demo's people, if this instance has them."),
) -> None:
    """Load the demo: seven people, one project, a package in every status, two approvals that wait."""
    from pmis.kit.errors import ConflictError  # noqa: PLC0415 - loads slowly
    from pmis.kit.settings import get_settings  # noqa: PLC0415
    from pmis.ops.demo import load, present  # noqa: PLC0415
    from pmis.ops.demo_people import lines  # noqa: PLC0415

    settings = get_settings()
    if people:
        if present(settings):
            for line in lines():
                typer.echo(line)
        return
    if load(settings):
        typer.echo("loaded")
    elif if_empty:
        typer.echo("already there")
    else:
        raise ConflictError("This instance has people already; the demo is only for an empty one.")
