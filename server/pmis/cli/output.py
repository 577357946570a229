"""What commands print: tables and records for people, the API's own JSON for programs.

Colours and the width of the window count only on a terminal; elsewhere nothing is coloured, cut or wrapped.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import typer

from pmis.cli.text import NOTHING, changes, label, money, printable, value, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

    from pmis.cli.client import Json, Listed
    from pmis.cli.lookup import Lookup

_UNLIMITED: Final = 100_000
_GAP: Final = 2
_NARROWEST: Final = 8
STYLES: Final[Mapping[str, str]] = {
    "applied": "green",
    "completed": "green",
    "active": "green",
    "pending": "yellow",
    "confirmation_required": "yellow",
    "changes_requested": "yellow",
    "on_hold": "yellow",
    "blocked": "yellow",
    "rejected": "red",
    "voided": "red",
    "expired": "red",
    "cancelled": "red",
}


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """How wide each column becomes: as wide as it wants to be, as long as the others have as much."""
    shares = [0] * len(wanted)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        fair = max(room // (len(wanted) - done), _NARROWEST)
        shares[place] = min(wanted[place], fair)
        room -= shares[place]
    return shares


def _kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The places of the columns for which there is room, when flexible ones are as narrow as they may become."""
    least = [
        min(width, _NARROWEST) if column.flexible else width for column, width in zip(columns, widths, strict=True)
    ]
    kept = list(range(len(columns)))
    for place in reversed(range(len(columns))):
        if sum(least[one] for one in kept) + _GAP * (len(kept) - 1) <= room:
            break
        if columns[place].spare:
            kept.remove(place)
    return kept


@dataclass(frozen=True)
class Column:
    """A column of a list. What `flexible` ones hold is cut when the window is too narrow; the others never are.

    Where cutting is not enough, `spare` ones are left out, the last of them first.
    """

    head: str
    cell: Callable[[Json, Lookup], str]
    right: bool = False
    flexible: bool = False
    status: bool = False
    spare: bool = False


class Screen:
    """Standard output, or standard error where the other belongs to a program."""

    def __init__(self, *, err: bool = False) -> None:
        """Write to the stream as it is now."""
        self._stream: TextIO = sys.stderr if err else sys.stdout
        reconfigure = getattr(self._stream, "reconfigure", None)
        if reconfigure is not None:  # an old locale must not turn an answer into a failure
            reconfigure(errors="replace")
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """Rich's console, made when first needed."""
        if self._console is None:
            from rich.console import Console  # noqa: PLC0415 - loads slowly, and `--json` and help need none of it

            self._console = Console(
                file=self._stream,
                width=None if self._stream.isatty() else _UNLIMITED,
                highlight=False,
                markup=False,
                emoji=False,
            )
        return self._console

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """A line of text."""
        from rich.text import Text  # noqa: PLC0415 - see above

        self.show(Text(text, style=style or ""))

    def show(self, what: RenderableType) -> None:
        """Anything Rich can show, without the blanks that it puts at the ends of lines."""
        with self.console.capture() as captured:
            self.console.print(what)
        text = "\n".join(line.rstrip(" ") for line in captured.get().split("\n"))
        self._stream.write(text)
        self._stream.flush()

    def table(self, columns: Sequence[Column], records: Iterable[Json], lookup: Lookup) -> None:
        """Records, one a line."""
        from rich.table import Table  # noqa: PLC0415 - see above
        from rich.text import Text  # noqa: PLC0415

        heads = [column.head for column in columns]
        rows = [[" ".join(column.cell(record, lookup).split()) for column in columns] for record in records]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        widths = [max(Text(cell).cell_len for cell in cells) for cells in zip(heads, *rows, strict=True)]
        kept = _kept(columns, widths, self.console.width)
        left_out = [column.head for place, column in enumerate(columns) if place not in kept]
        columns, widths = [columns[place] for place in kept], [widths[place] for place in kept]
        rows = [[row[place] for place in kept] for row in rows]
        fixed = sum(width for width, column in zip(widths, columns, strict=True) if not column.flexible)
        shares = iter(
            # Rich itself would take what is too much from all columns alike, down to nothing.
            _shares(
                [width for width, column in zip(widths, columns, strict=True) if column.flexible],
                self.console.width - fixed - _GAP * (len(columns) - 1),
            )
        )
        for width, column in zip(widths, columns, strict=True):
            table.add_column(
                column.head,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis" if column.flexible else "crop",
                min_width=None if column.flexible else width,
                max_width=next(shares) if column.flexible else None,
            )
        for row in rows:
            table.add_row(
                *(
                    Text(cell, style=STYLES.get(cell, "") if column.status else "")
                    for cell, column in zip(row, columns, strict=True)
                )
            )
        self.show(table)
        if left_out:
            self.line(f"Too narrow for {words(left_out)}.", style="dim")

    def pairs(self, pairs: Iterable[tuple[str, str | Text]], *, indent: int = 2) -> None:
        """Names with their values, one below the other; a long value is wrapped beside its name."""
        from rich.padding import Padding  # noqa: PLC0415 - see above
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(overflow="fold", max_width=self.console.width // 2)
        grid.add_column(overflow="fold")
        for name, found in pairs:
            grid.add_row(Text(name, style="dim"), Text(found) if isinstance(found, str) else found)
        if grid.row_count:
            self.show(Padding(grid, (0, 0, 0, indent)))


@dataclass(frozen=True)
class Difference:
    """One field before and after. `fresh` is set for a new record, of which there is no before."""

    field: str
    before: Any
    after: Any
    fresh: bool = False
    currency_before: Any = None
    currency_after: Any = None

    def shown(self, lookup: Lookup) -> tuple[str, str]:
        """Both values as people read them."""
        if self.field in ("amount", "budget"):
            return money(self.before, self.currency_before), money(self.after, self.currency_after)
        return (
            lookup.name(self.field, self.before) or value(self.before),
            lookup.name(self.field, self.after) or value(self.after),
        )

    def pair(self, lookup: Lookup) -> tuple[str, Text]:
        """The field's name, and what becomes of it."""
        from rich.text import Text  # noqa: PLC0415 - see above

        before, after = self.shown(lookup)
        if self.fresh:
            return label(self.field), Text(after, style="green")
        return label(self.field), Text.assemble((before, "red"), " → ", (after, "green"))


def differences(
    fields: Iterable[tuple[str, Any, Any]], *, fresh: bool = False, currencies: tuple[Any, Any] = (None, None)
) -> list[Difference]:
    """The differences in fields with their values before and after, objects taken apart."""
    found: list[Difference] = []
    for field, before, after in fields:
        parts = [(field, before, after)] if fresh and not isinstance(after, dict) else changes(before, after, field)
        found += [Difference(name, old, new, fresh, *currencies) for name, old, new in parts]
    return found


def as_json(body: bytes) -> None:
    """The API's JSON as it came."""
    typer.echo(body)


def listing(
    found: Listed, columns: Sequence[Column], lookup: Lookup, *, json: bool, nothing: str, screen: Screen | None = None
) -> None:
    """A list for people or programs; says when there is more."""
    if json:
        as_json(found.body)
        return
    if not found.items:
        typer.echo(nothing, err=True)
        return
    (screen or Screen()).table(columns, found.items, lookup)
    if found.next is not None:
        typer.echo(f"{len(found.items)} are shown and there are more: --limit N or --all shows them.", err=True)


def needed(steps: Sequence[Mapping[str, Any]], lookup: Lookup, *, serial: bool) -> str:
    """Who must still agree, in words."""
    said: list[str] = []
    for step in steps:
        count = step.get("missing", step["quorum"])
        roles = words([f"{printable(str(role))}{'s' if count > 1 else ''}" for role in step["roles"]], "or")
        named = [lookup.name("person_id", person) or NOTHING for person in cast("list[str]", step.get("people") or [])]
        who = f"{count} {roles}" + (f" among {words(named, 'or')}" if named else "")
        if above := cast("list[str]", step.get("bypass") or []):
            who += f", or any {words([printable(str(role)) for role in above], 'or')}"
        name = printable(str(step["name"]))
        said.append(f"{who} ({name[:1].lower()}{name[1:]})")
    if not said:
        return "nobody"
    return ", then ".join(said) if serial else words(said)
