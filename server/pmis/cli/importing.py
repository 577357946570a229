"""`pmis import` and `pmis export`: what others publish about a procurement in, what is known of it here out."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import options
from pmis.cli.client import BadArgumentError, connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, differences, needed
from pmis.cli.output import as_json as print_json
from pmis.cli.text import printable, short, words
from pmis.kit.errors import PmisError
from pmis.kit.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pmis.cli.client import Answer, Api, Json

app = typer.Typer()
imports = typer.Typer(name="import", help="Import what others publish.", no_args_is_help=True)
exports = typer.Typer(name="export", help="Export in the formats of others.", no_args_is_help=True)
app.add_typer(imports)
app.add_typer(exports)

LARGEST_BYTES: Final = 10 * 1024 * 1024
_POLL_SECONDS: Final = 0.2
_SHOWN: Final = 200
_LONG: Final = 60
_LEFT_OUT: Final = frozenset({"data", "external_ref", "status", "source", "package_id"})
_FILES: Final[Any] = typer.Argument(
    metavar="FILE...", help="Releases or release packages (OCDS 1.0 or 1.1), as JSON or JSON Lines, the oldest first."
)
_YES: Final[Any] = typer.Option(
    False, "--yes", "-y", help="Do not ask; also the own yes where the policy wants no more than that."
)


class NotImportedError(PmisError):
    """A file, or one of several, was not imported; what was said before says why."""

    code = "not_imported"
    title = "Not everything was imported"


@dataclass(frozen=True)
class _File:
    """A file as it was read, once: what is shown and what is imported are the same bytes."""

    name: str
    content: bytes


@imports.command("ocds")
def import_ocds(
    files: list[Path] = _FILES,
    project: str | None = typer.Option(
        None, "--project", metavar="PREFIX", help="The project, by prefix or id. Default: the only one you see."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what it would do; write nothing."),
    yes: bool = _YES,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Import open contracting data: show what each file would do, ask, and propose it as one change.

    Nothing is written when any item of any file is wrong. The same file again changes nothing.
    """
    if not (dry_run or yes or sys.stdin.isatty()):
        raise typer.BadParameter("Without a terminal nobody can be asked: look with --dry-run, then give --yes.")
    found = [_read(path) for path in files]
    with connected(account) as api:
        _Import(api, project, as_json=as_json).run(found, ask=not yes, dry_run=dry_run)


@exports.command("ocds")
def export_ocds(
    package: str = typer.Argument(metavar="PACKAGE", help="The code (P-001) or the id."),
    file: Path = typer.Argument(Path("-"), metavar="[FILE]", help="Where to write it; `-` is standard output."),
    publisher: str | None = typer.Option(
        None, "--publisher", metavar="NAME", help="Who publishes it. Default: the project's name."
    ),
    ocid_prefix: str | None = typer.Option(
        None, "--ocid-prefix", metavar="PREFIX", help="Your registered prefix, for what did not come from OCDS."
    ),
    account: str | None = options.AS,
) -> None:
    """Export a package as an OCDS release package: what came from OCDS, with what was changed here."""
    with connected(account) as api:
        reference = Lookup(api).reference("packages", package)
        answer = api.get("exports", "ocds", reference, publisher=publisher, ocid_prefix=ocid_prefix)
    if str(file) == "-":
        typer.echo(answer.body, nl=False)
        return
    try:
        file.write_bytes(answer.body)
    except OSError as error:
        raise BadArgumentError(f"{printable(str(file))} cannot be written: {error.strerror}.") from None
    typer.echo(f"{printable(str(file))}: {len(answer.body):,} bytes written.")


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as source:
            content = source.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise BadArgumentError(f"{printable(str(path))} cannot be read: {reason}.") from None
    if len(content) > LARGEST_BYTES:
        raise BadArgumentError(
            f"{printable(path.name)}: over the limit of {LARGEST_BYTES:,} bytes. Split it; nothing was imported."
        )
    return _File(printable(path.name)[-200:], content)


class _Import:
    """One run of the command."""

    def __init__(self, api: Api, project: str | None, *, as_json: bool) -> None:
        self._api = api
        self._project = project
        self._as_json = as_json
        self._lookup = Lookup(api)
        self._screen = Screen(err=as_json)
        self._waiting: dict[str, str] = {}
        """The approvals that this run left waiting, with the files they are for."""

    def run(self, files: Sequence[_File], *, ask: bool, dry_run: bool) -> None:
        """Look at every file before anything is written, then import one after the other."""
        previews = [self._preview(file) for file in files]
        wrong = [preview.json for preview in previews if preview.json["errors"]]
        if dry_run or wrong:
            for preview in previews:
                self._show(preview)
        if wrong:
            count = sum(len(one["errors"]) for one in wrong)
            names = words([printable(str(one["file"])) for one in wrong])
            raise NotImportedError(
                f"{count} item{'s' if count > 1 else ''} of {names} cannot be imported. Nothing was written."
            )
        if dry_run:
            self._screen.line("Nothing was written.")
            return
        for number, file in enumerate(files):
            # What came before may have changed what this one does.
            preview = self._preview(file) if number else previews[0]
            self._take(file, preview, ask=ask)

    def _preview(self, file: _File) -> Answer:
        return self._sent(file, {"dry_run": "true"})

    def _take(self, file: _File, preview: Answer, *, ask: bool) -> None:
        said = preview.json
        if said["errors"]:
            self._show(preview)
            raise NotImportedError(f"{file.name} and what follows it were not imported.")
        awaiting = cast("list[Json]", said["awaiting"])
        blocking = [one for one in awaiting if one["id"] in self._waiting and not one["same"]]
        if blocking:
            first = str(blocking[0]["id"])
            raise NotImportedError(
                f"{file.name} was not imported: it builds on {self._waiting[first]}, which waits as approval "
                f"{short(first)}. Import it when that is decided."
            )
        if said["items"] and ask and not any(one["same"] for one in awaiting):
            self._show(preview)
            typer.confirm(f"Import {file.name}?", abort=True, err=True)
        with self._progress(file) as (identity, advance):
            answer = self._imported(file, said, identity, advance)
        if self._as_json:
            print_json(answer.body)
        else:
            self._tell(answer.json)
        approval = cast("Json | None", answer.json["approval"])
        if approval and answer.json["outcome"] in ("pending", "confirmation_required"):
            self._waiting[str(approval["id"])] = file.name

    def _sent(self, file: _File, params: dict[str, str]) -> Answer:
        return self._api.send(
            "POST",
            "imports",
            "ocds",
            body=file.content,
            project=self._project,
            file=file.name,
            if_match=None,
            key=None,
            **params,
        )

    def _imported(self, file: _File, shown: Json, identity: str, advance: Callable[[Json], None]) -> Answer:
        """Send the file, and tell how far it is while the answer is waited for."""
        with ThreadPoolExecutor(1) as sender:
            sent = sender.submit(
                self._sent, file, {"confirm": "true", "digest": str(shown["digest"]), "progress": identity}
            )
            while True:
                try:
                    return sent.result(_POLL_SECONDS)
                except NotYetError:
                    if sent.done():
                        raise
                try:
                    advance(self._api.get("imports", identity).json)
                except PmisError:
                    continue  # it has not begun, or is not told: the answer itself is what counts

    @contextmanager
    def _progress(self, file: _File) -> Generator[tuple[str, Callable[[Json], None]]]:
        """A bar on a terminal, a line for each phase elsewhere; always on standard error."""
        identity = str(uuid7())
        if not sys.stderr.isatty():
            phases: list[str] = []

            def line(told: Json) -> None:
                if told["phase"] not in phases:
                    phases.append(str(told["phase"]))
                    typer.echo(f"{file.name}: {printable(str(told['phase']))}", err=True)

            yield identity, line
            return
        from rich.console import Console  # noqa: PLC0415 - loads slowly
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            bar = bars.add_task(file.name, total=None)

            def advance(told: Json) -> None:
                bars.update(
                    bar,
                    description=f"{file.name}: {printable(str(told['phase']))}",
                    completed=int(told["done"]),
                    total=int(told["total"]) or None,
                )

            yield identity, advance

    # --- what is said ---

    def _show(self, preview: Answer) -> None:
        if self._as_json:
            print_json(preview.body)
            return
        said = preview.json
        screen = self._screen
        repeated = int(said["repeated"])
        count = int(said["releases"])
        head = f"{printable(str(said['file']))}: {count} release{'' if count == 1 else 's'}"
        screen.line(head + (f", {repeated} imported before" if repeated else ""), style="bold")
        items = cast("list[Json]", said["items"])
        if items:
            names = {str(one["target"]): str(one["label"]) for one in items}
            screen.table(_COLUMNS, [{**one, "names": names} for one in items[:_SHOWN]], self._lookup)
            if len(items) > _SHOWN:
                screen.line(f"... and {len(items) - _SHOWN} more; --json shows all.")
        for error in cast("list[Json]", said["errors"])[:_SHOWN]:
            screen.line(f"error: {_item(error)}", style="red")
        for notice in cast("list[Json]", said["notices"])[:_SHOWN]:
            screen.line(f"note: {_item(notice)}", style="yellow")
        for one in cast("list[Json]", said["awaiting"]):
            if one["same"]:
                screen.line(f"note: approval {short(str(one['id']))} waits already for just this", style="yellow")
                continue
            screen.line(
                f"note: approval {short(str(one['id']))} ({printable(str(one['label']))}) already waits to change "
                "the same records; whichever is applied first makes the other void",
                style="yellow",
            )
        if said["errors"]:
            return
        if not items:
            screen.line("Nothing in it is new.")
        else:
            decision = cast("Json", said["decision"])
            screen.line(f"{self._verdict(said)}; rule {printable(str(decision['rule']))}.")
            reasons = [one for one in cast("list[Json]", decision["reasons"]) if one["rule"] == decision["rule"]]
            screen.pairs(("why", printable(str(one["text"]))) for one in reasons[:1])

    def _verdict(self, said: Json) -> str:
        if said["route"] == "AUTO":
            return "It would be applied at once"
        if said["route"] == "CONFIRM":
            return "It would be applied with your yes"
        serial = said["decision"].get("order") == "serial"
        return f"It would wait for {needed(said['open_steps'], self._lookup, serial=serial)}"

    def _tell(self, said: Json) -> None:
        name = printable(str(said["file"]))
        count = int(said["changes"])
        changes = f"{count} change{'' if count == 1 else 's'}"
        approval = cast("Json | None", said["approval"])
        if said["outcome"] == "unchanged":
            self._screen.line(f"{name}: unchanged; nothing in it is new.")
        elif said["outcome"] == "applied":
            packages = [
                printable(str(one["label"]))
                for one in cast("list[Json]", said["records"])
                if one["target_type"] == "package"
            ]
            about = f": {words(packages[:5])}" if packages else ""
            more = f" and {len(packages) - 5} more packages" if len(packages) > 5 else ""  # noqa: PLR2004 - enough to see
            self._screen.line(f"{name}: applied, {changes}{about}{more}.", style="green")
        elif approval is not None:
            waits = (
                "your own yes"
                if said["outcome"] == "confirmation_required"
                else needed(approval["open_steps"], self._lookup, serial=approval["decision"].get("order") == "serial")
            )
            already = "already " if said["joined"] else ""
            self._screen.line(
                f"{name}: {already}waits for {waits}, {changes}; approval {short(str(approval['id']))}.", style="yellow"
            )
        for notice in cast("list[Json]", said["notices"])[:_SHOWN]:
            self._screen.line(f"note: {_item(notice)}", style="yellow")


def _item(item: Json) -> str:
    return f"{printable(str(item['place']))}: {printable(str(item['message']))}"


def _change(item: Json, _lookup: Lookup) -> str:
    status = next((one["after"] for one in cast("list[Json]", item["fields"]) if one["field"] == "status"), None)
    if item["operation"] == "transition":
        return f"→ {printable(str(status))}"
    return {"create": "new", "patch": "change"}.get(str(item["operation"]), printable(str(item["operation"])))


def _fields(item: Json, lookup: Lookup) -> str:
    """What a change sets, in short: the details of what was published are kept in `data`, and are many."""
    fields = {str(one["field"]): (one["before"], one["after"]) for one in cast("list[Json]", item["fields"])}
    money = fields.pop("currency", (None, None))
    if "vendor_id" in fields:
        # A vendor that comes with the same file has no record yet whose name could be looked up.
        before, after = fields["vendor_id"]
        fields["vendor_id"] = before, item["names"].get(after, after)
    shown = [(name, *values) for name, values in fields.items() if name not in _LEFT_OUT]
    said: list[str] = []
    for one in differences(shown, fresh=item["operation"] == "create", currencies=money):
        name, text = one.pair(lookup)
        plain = text.plain.replace("\n", " ")
        said.append(f"{name} {plain if len(plain) <= _LONG else plain[: _LONG - 1] + '…'}")
    return "; ".join(said) or ("what is kept of the release" if "data" in fields else "")


def _state(item: Json, _lookup: Lookup) -> str:
    return "error" if item["errors"] else "ok"


_COLUMNS: Final = (
    Column("CHANGE", _change),
    Column("RECORD", lambda item, _: printable(str(item["target_type"]))),
    Column("NAME", lambda item, _: printable(str(item["label"])), flexible=True),
    Column("SETS", _fields, flexible=True),
    Column("WHERE", lambda item, _: printable(str(item["pointer"])), flexible=True),
    Column("", _state, status=True),
)
