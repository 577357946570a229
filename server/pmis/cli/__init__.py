"""The command line. One module per command group, each with its Typer application as `app`.

A module is loaded whenever any command runs, so what loads slowly (the API, the drivers, pydantic) is imported inside
the command that needs it.
"""
