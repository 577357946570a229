"""Jobs: what is being done, how far it is, and what failed for good."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

import typer

from pmis.cli import options
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, printable

if TYPE_CHECKING:
    from pmis.cli.client import Json

app = typer.Typer(
    name="job", help="Work that was accepted: how far it is, and what failed for good.", no_args_is_help=True
)
_ENDED: Final = frozenset({"done", "dead", "cancelled"})


def _told(job: Json) -> str:
    """How far it is, or what went wrong."""
    progress, error = cast("Json | None", job["progress"]), cast("Json | None", job["error"])
    if progress and job["status"] == "running":
        total = f" of {progress['total']}" if progress.get("total") else ""
        return printable(f"{progress['done']}{total} {progress.get('text') or ''}".rstrip())
    return printable(str(error["message"])) if error else ""


_COLUMNS: Final = (
    Column("CREATED (UTC)", lambda job, _: moment(job["created_at"], seconds=True)),
    Column("KIND", lambda job, _: printable(str(job["kind"]))),
    Column("STATUS", lambda job, _: str(job["status"])),
    Column("ATTEMPT", lambda job, _: str(job["attempt"]), right=True),
    Column("TOLD", lambda job, _: _told(job), flexible=True),
    Column("JOB", lambda job, _: str(job["id"])),
)
_JOB: Final = typer.Argument(metavar="JOB", help="The job's id.")


@app.command("list")
def list_jobs(
    status: str | None = typer.Option(None, help="Only these, such as dead or queued,waiting."),
    kind: str | None = typer.Option(None, help="Only this kind, such as approvals.expire."),
    project: str | None = options.PROJECT,
    limit: int = options.LIMIT,
    everything: bool = options.ALL,
    cursor: str | None = options.CURSOR,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """List jobs, the newest first: those of the projects, or of the instance, that you administer."""
    with connected(account, as_json=as_json) as api:
        found = api.listed(
            "jobs", limit=limit, everything=everything, cursor=cursor, status=status, kind=kind, project=project
        )
        listing(found, _COLUMNS, Lookup(api), json=as_json, nothing="There are no such jobs.")


@app.command()
def show(job: str = _JOB, account: str | None = options.AS, as_json: bool = options.JSON) -> None:
    """Show a job with every attempt at it."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("jobs", job)
        if as_json:
            print_json(answer.body)
            return
        found = answer.json
        screen = Screen()
        screen.line(f"{printable(str(found['kind']))} is {found['status']}")
        names = ("id", "project_id", "acting", "correlation_id", "created_at", "due_at", "finished_at", "payload")
        told = [(name.replace("_", " "), printable(str(found[name]))) for name in names if found[name] is not None]
        screen.pairs([*told, *([("told", _told(found))] if _told(found) else [])])
        for one in cast("list[Json]", found["attempts"]):
            error = cast("Json | None", one["error"])
            words = printable(f": {error['message']} {error.get('where', '')}".rstrip()) if error else ""
            began = moment(one["started_at"], seconds=True)
            screen.line(f"attempt {one['attempt']} at {began}: {one['outcome'] or 'running'}{words}")


@app.command()
def retry(
    job: list[str] = typer.Argument(None, metavar="[JOB]...", help="The ids of dead letters."),
    everything: bool = typer.Option(False, "--all", help="Every dead letter that you may see."),
    kind: str | None = typer.Option(None, help="With --all: only this kind."),
    project: str | None = options.PROJECT,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Have dead letters tried again, with all their attempts."""
    if bool(job) == everything:
        raise typer.BadParameter("Name dead letters, or say --all.")
    with connected(account, as_json=as_json) as api:
        if everything:
            answer = api.send("POST", "jobs", "dead-letters", "retry", kind=kind, project=project)
            count = len(cast("list[str]", answer.json["retried"]))
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"{count} dead letters are tried again.")
            return
        for one in job:
            answer = api.send("POST", "jobs", one, "retry")
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"{printable(str(answer.json['kind']))} {one} is tried again.")


_JOBS: Final = typer.Argument(metavar="JOB...", help="The jobs' ids.")
_REASON: Final = typer.Option(None, help="Why; kept in the log.")


@app.command()
def cancel(
    job: list[str] = _JOBS, reason: str | None = _REASON, account: str | None = options.AS, as_json: bool = options.JSON
) -> None:
    """End jobs that wait, before anybody does them. What runs is not cancelled."""
    _end("cancel", "cancelled", job, reason, account, as_json=as_json)


@app.command()
def dismiss(
    job: list[str] = _JOBS, reason: str | None = _REASON, account: str | None = options.AS, as_json: bool = options.JSON
) -> None:
    """Lay dead letters aside: they are not tried again, and alarm nobody any more."""
    _end("dismiss", "dismissed", job, reason, account, as_json=as_json)


def _end(verb: str, done: str, jobs: list[str], reason: str | None, account: str | None, *, as_json: bool) -> None:
    with connected(account, as_json=as_json) as api:
        for one in jobs:
            answer = api.send("POST", "jobs", one, verb, body={} if reason is None else {"reason": reason})
            if as_json:
                print_json(answer.body)
            else:
                Screen().line(f"{printable(str(answer.json['kind']))} {one} is {done}.")


@app.command()
def watch(
    job: str = _JOB,
    seconds: float = typer.Option(300, min=0, help="Give up after so many seconds."),
    account: str | None = options.AS,
) -> None:
    """Tell how far a job is until it has ended; ends with 1 when it is dead or still goes on."""
    with connected(account) as api:
        until, before = time.monotonic() + seconds, ""
        while True:
            found = api.get("jobs", job).json
            line = f"{found['status']} {_told(found)}".rstrip()
            if line != before:
                Screen().line(line)
                before = line
            if found["status"] in _ENDED or time.monotonic() > until:
                raise typer.Exit(0 if found["status"] == "done" else 1)
            time.sleep(1)
