"""Command groups for the nouns of the governed path, made from what each says of itself, as their routes are.

Each group has the same commands with the same meaning; a noun names its columns, its fields and its filters.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import typer

from pmis.cli import options
from pmis.cli.approvals import Events, outcome
from pmis.cli.client import connected
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen, listing
from pmis.cli.output import as_json as print_json
from pmis.cli.text import NOTHING, label, moment, money, printable, short, title_of, value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pmis.cli.client import Api, Json


class Level(StrEnum):
    """How far a change reaches, or how unsure its writer is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Flag:
    """An option that fills a field, or narrows a list. `names` is the collection its text names a record of."""

    name: str
    flag: str
    help: str
    metavar: str = "TEXT"
    names: str | None = None
    json: bool = False
    """Whether the text is a JSON value."""

    def parameter(self) -> inspect.Parameter:
        """The option as a parameter of a command."""
        default = typer.Option(None, self.flag, metavar=self.metavar, help=self.help)
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=str | None)

    def read(self, text: str | None, lookup: Lookup) -> str | None:
        """The value that the text means."""
        return text if text is None or self.names is None else lookup.identity(self.names, text)


@dataclass(frozen=True)
class Noun:
    """What a group of commands says of its records."""

    name: str
    path: str
    help: str
    reference: str
    columns: tuple[Column, ...]
    fields: tuple[Flag, ...]
    filters: tuple[Flag, ...] = ()
    first_fields: tuple[Flag, ...] = ()
    """Fields that only a new record takes."""
    required: tuple[str, ...] = ()
    operations: frozenset[str] = frozenset({"create", "patch", "delete", "restore"})
    has_data: bool = True
    in_project: bool = True
    """Whether lists can be narrowed to a project."""
    creates_in_project: bool = True
    """Whether a new record says which project it belongs to."""
    shown_last: tuple[str, ...] = ("description", "data")
    orders: str = ""
    hides_deleted: bool = True
    has_list: bool = True
    """Whether it is listed as the others are; one that is not brings a list of its own."""
    called: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """The name and the help of the command for an operation, where it is not what it is for the others."""


_NOT_SHOWN: Final = frozenset({"id", "version", "project_id", "created_at", "updated_at", "currency", "number", "code"})


def group(noun: Noun) -> typer.Typer:
    """The commands of a noun."""
    app = typer.Typer(name=noun.name, help=noun.help, no_args_is_help=True)
    commands = _Commands(noun)
    a = "an" if noun.name[0] in "aeiou" else "a"
    if noun.has_list:
        _add(app, "list", f"List {noun.path}.", commands.list_parameters(), commands.list)
    _add(app, "show", f"Show {a} {noun.name}, now or as it was.", commands.show_parameters(), commands.show)
    if "create" in noun.operations:
        _add(app, "create", f"Propose a new {noun.name}.", commands.write_parameters("create"), commands.create)
    ways = (
        ("patch", "propose", f"Propose a change of {a} {noun.name}."),
        ("transition", "transition", f"Propose the next step of {a} {noun.name}, with fields that it brings along."),
        ("delete", "delete", f"Propose to delete {a} {noun.name}; it can be restored."),
        ("restore", "restore", f"Propose to restore a deleted {noun.name}."),
    )
    for operation, usual, usually in ways:
        if operation in noun.operations:
            name, words = noun.called.get(operation, (usual, usually))
            _add(app, name, words, commands.write_parameters(operation), commands.changing(operation))
    if "transition" in noun.operations:
        _add(
            app,
            "steps",
            f"Where {a} {noun.name} can go from here, and what each step needs.",
            commands.reading(),
            commands.steps,
        )
    _add(
        app,
        "timeline",
        f"The whole life of {a} {noun.name}, the newest first.",
        commands.timeline_parameters(),
        commands.timeline,
    )
    return app


def _add(
    app: typer.Typer, name: str, words: str, parameters: list[inspect.Parameter], run: Callable[..., None]
) -> None:
    """Add a command whose options are not known before the noun is."""

    def command(**given: object) -> None:
        run(**given)

    command.__name__ = name
    command.__doc__ = words
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010 - functions do not declare it
    app.command(name)(command)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:  # noqa: ANN401 - types and options
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_AS_JSON: Final = [
    _parameter("account", str | None, options.AS),
    _parameter("as_json", bool, options.JSON),
]
_STATED: Final = "as you see it; it can raise what the policy computes, never lower it."


class _Commands:
    """The commands of one noun."""

    def __init__(self, noun: Noun) -> None:
        self.noun = noun

    # --- parameters ---

    def reading(self) -> list[inspect.Parameter]:
        argument = typer.Argument(metavar=self.noun.name.upper(), help=self.noun.reference)
        return [_parameter("reference", str, argument), *_AS_JSON]

    def list_parameters(self) -> list[inspect.Parameter]:
        noun = self.noun
        parameters = [flag.parameter() for flag in noun.filters]
        if noun.orders:
            words = f"The order: {noun.orders}; a leading minus turns it round."
            parameters.append(_parameter("sort", str | None, typer.Option(None, "--sort", metavar="ORDER", help=words)))
        if noun.in_project:
            parameters.append(_parameter("project", str | None, options.PROJECT))
        if noun.hides_deleted:
            words = "Also those that were deleted."
            parameters.append(_parameter("deleted", bool, typer.Option(False, "--deleted", help=words)))
        return [
            *parameters,
            _parameter("limit", int, options.LIMIT),
            _parameter("everything", bool, options.ALL),
            _parameter("cursor", str | None, options.CURSOR),
            *_AS_JSON,
        ]

    def show_parameters(self) -> list[inspect.Parameter]:
        words = "As it stood at this time (ISO 8601 with its zone, such as 2026-11-30T12:00:00Z)."
        as_of = typer.Option(None, "--as-of", metavar="TIME", help=words)
        return [*self.reading()[:1], _parameter("as_of", str | None, as_of), *_AS_JSON]

    def timeline_parameters(self) -> list[inspect.Parameter]:
        return [
            *self.reading()[:1],
            _parameter("limit", int, options.LIMIT),
            _parameter("everything", bool, options.ALL),
            *_AS_JSON,
        ]

    def write_parameters(self, operation: str) -> list[inspect.Parameter]:
        noun = self.noun
        creating = operation == "create"
        parameters = [] if creating else self.reading()[:1]
        if operation == "transition":
            status = typer.Argument(metavar="STATUS", help="The status to take; `steps` lists those possible.")
            parameters.append(_parameter("status", str, status))
        if operation in ("create", "patch", "transition"):
            parameters += [flag.parameter() for flag in self._flags(operation)]
            if noun.has_data:
                parameters.append(_parameter("data_fields", list[str], options.DATA))
            parameters.append(_parameter("set_fields", list[str], options.SET))
        if creating and noun.creates_in_project:
            words = "The project it belongs to, by prefix or id; members of only one may leave it out."
            parameters.append(
                _parameter("project", str | None, typer.Option(None, "--project", metavar="PREFIX", help=words))
            )
        parameters.append(_parameter("reason", str | None, options.REASON))
        for name in ("impact", "uncertainty"):
            stated = typer.Option(None, f"--{name}", help=f"The {name} {_STATED}")
            parameters.append(_parameter(name, Level | None, stated))
        parameters.append(_parameter("dry_run", bool, options.DRY_RUN))
        if not creating:
            parameters.append(_parameter("if_match", int | None, options.IF_MATCH))
        return [*parameters, _parameter("key", str | None, options.KEY), *_AS_JSON]

    def _flags(self, operation: str) -> tuple[Flag, ...]:
        return (*self.noun.first_fields, *self.noun.fields) if operation == "create" else self.noun.fields

    # --- commands ---

    def list(
        self,
        *,
        limit: int,
        everything: bool,
        cursor: str | None,
        account: str | None,
        as_json: bool,
        deleted: bool = False,
        **given: Any,  # noqa: ANN401 - what the options hold
    ) -> None:

        with connected(account, as_json=as_json) as api:
            lookup = Lookup(api)
            params = {flag.name: flag.read(given[flag.name], lookup) for flag in self.noun.filters}
            params |= {name: given[name] for name in ("sort", "project") if name in given}
            found = api.listed(
                self.noun.path,
                limit=limit,
                everything=everything,
                cursor=cursor,
                deleted="true" if deleted else None,
                **params,
            )
            listing(found, self.noun.columns, lookup, json=as_json, nothing=f"There are no such {self.noun.path}.")

    def show(self, *, reference: str, as_of: str | None, account: str | None, as_json: bool) -> None:

        with connected(account, as_json=as_json) as api:
            lookup = Lookup(api)
            answer = api.get(self.noun.path, lookup.reference(self.noun.path, reference), as_of=as_of)
            if as_json:
                print_json(answer.body)
            else:
                show_record(answer.json, lookup, last=self.noun.shown_last)

    def steps(self, *, reference: str, account: str | None, as_json: bool) -> None:

        with connected(account, as_json=as_json) as api:
            lookup = Lookup(api)
            answer = api.get(self.noun.path, lookup.reference(self.noun.path, reference), "transitions")
            if as_json:
                print_json(answer.body)
                return
            screen = Screen()
            screen.line(f"now {printable(answer.json['status'])}")
            columns = (
                Column("TO", lambda step, _: printable(str(step["status"]))),
                Column("STEP", lambda step, _: printable(str(step["step"]))),
                Column("YOU MAY PROPOSE", lambda step, _: value(step["you_may_propose"])),
                Column("NEEDS", lambda step, _: value(step["needs"]), flexible=True),
                Column("MISSING", lambda step, _: value(step["missing"]), flexible=True),
            )
            if answer.json["next"]:
                screen.table(columns, answer.json["next"], lookup)

    def timeline(self, *, reference: str, limit: int, everything: bool, account: str | None, as_json: bool) -> None:

        with connected(account, as_json=as_json) as api:
            lookup = Lookup(api)
            named = lookup.reference(self.noun.path, reference)
            record = {} if as_json else api.get(self.noun.path, named).json
            show_timeline(
                api,
                lookup,
                (self.noun.path, named),
                limit=limit,
                everything=everything,
                as_json=as_json,
                currency=record.get("currency"),
            )

    def create(self, **given: Any) -> None:  # noqa: ANN401 - what the options hold
        self._write("create", **given)

    def changing(self, operation: str) -> Callable[..., None]:
        def command(**given: Any) -> None:  # noqa: ANN401 - what the options hold
            self._write(operation, **given)

        return command

    def _write(
        self,
        operation: str,
        *,
        account: str | None,
        as_json: bool,
        reason: str | None,
        impact: Level | None,
        uncertainty: Level | None,
        dry_run: bool,
        key: str | None,
        reference: str = "",
        if_match: int | None = None,
        **given: Any,  # noqa: ANN401 - what the options hold
    ) -> None:

        flags = self._flags(operation)
        named = {
            flag.name: options.json_value(given[flag.name], flag.flag)
            if flag.json and given.get(flag.name) is not None
            else given.get(flag.name)
            for flag in flags
        }
        body = options.fields_of(
            named,
            given.get("set_fields", []),
            given.get("data_fields"),
            flags={flag.name: flag.flag for flag in flags},
        )
        self._require_fields(operation, body)
        if "status" in given:
            body["status"] = given["status"]
        if given.get("project") is not None:
            body["project"] = given["project"]
        body |= options.said(reason, impact.value if impact else None, uncertainty.value if uncertainty else None)
        with connected(account, as_json=as_json) as api:
            lookup = Lookup(api)
            for flag in flags:
                if flag.names and named[flag.name] is not None:
                    body[flag.name] = flag.read(named[flag.name], lookup)
            target = () if operation == "create" else (lookup.reference(self.noun.path, reference),)
            method, last = _METHODS[operation]
            answer = api.send(
                method,
                self.noun.path,
                *target,
                *last,
                body=body,
                key=key,
                if_match=if_match,
                dry_run="true" if dry_run else None,
            )
            outcome(answer, lookup, operation=operation, json=as_json, kind=self.noun.name)

    def _require_fields(self, operation: str, body: dict[str, Any]) -> None:
        flags = {flag.name: flag.flag for flag in self._flags(operation)}
        missing = [flags[name] for name in self.noun.required if operation == "create" and name not in body]
        if missing:
            raise typer.BadParameter(f"A new {self.noun.name} needs {' and '.join(missing)}.")
        if operation == "patch" and not body:
            raise typer.BadParameter(
                "Nothing is proposed: give at least one field, such as " + flags[self._first()] + "."
            )

    def _first(self) -> str:
        return self.noun.fields[0].name


_METHODS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "create": ("POST", ()),
    "patch": ("PATCH", ()),
    "transition": ("POST", ("transitions",)),
    "delete": ("DELETE", ()),
    "restore": ("POST", ("restore",)),
}


def show_record(record: Json, lookup: Lookup, *, last: tuple[str, ...] = ()) -> None:
    """A record for people: what it is called, its fields that are not empty, its versions."""
    screen = Screen()
    screen.line(title_of(record) or short(str(record["id"])), style="bold")
    pairs: list[tuple[str, str]] = []
    for name in [*(name for name in record if name not in last), *(name for name in last if name in record)]:
        found = record[name]
        if name in _NOT_SHOWN or name in ("title", "name") or found in (None, "", {}, []):
            continue
        if name in ("amount", "budget"):
            shown = money(found, record.get("currency"))
        elif name.endswith("_at"):
            shown = f"{moment(found)} UTC"
        else:
            shown = lookup.name(name, found) or value(found)
        pairs.append((label(name), shown))
    if "prefix" in record and "currency" in record and not record.get("budget"):
        pairs.append(("currency", printable(str(record["currency"]))))
    pairs.append(("version", f"{record['version']}, {moment(record['updated_at'])} UTC"))
    pairs.append(("id", printable(str(record["id"]))))
    screen.pairs(pairs)


def show_timeline(
    api: Api,
    lookup: Lookup,
    path: tuple[str, ...],
    *,
    limit: int,
    everything: bool,
    as_json: bool,
    currency: Any = None,  # noqa: ANN401 - JSON
) -> None:
    """The events of a record and of what belongs to it."""
    found = api.listed(*path, "timeline", limit=limit, everything=everything)
    if as_json:
        print_json(found.body)
        return
    events = Events(lookup, Screen(), currency=currency)
    for event in found.items:
        events.show(event)
    if found.next is not None:
        typer.echo(f"{len(found.items)} are shown and there are more: --limit N or --all shows them.", err=True)


def short_id(record: Json, _lookup: Lookup) -> str:
    """The cell of an id."""
    return short(str(record["id"]))


def text(name: str) -> Callable[[Json, Lookup], str]:
    """The cell of a field that is text."""
    return lambda record, _: value(record.get(name))


def named(name: str) -> Callable[[Json, Lookup], str]:
    """The cell of a field that refers to another record."""
    return lambda record, lookup: lookup.name(name, record.get(name)) or NOTHING


def amount(name: str) -> Callable[[Json, Lookup], str]:
    """The cell of an amount."""
    return lambda record, _: money(record.get(name), record.get("currency"))
