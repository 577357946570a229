"""Lists: filtered, sorted, paged by key, made of documents that were rendered when they were written.

The statement for each combination of filters and order is composed once with SQLAlchemy Core and kept. Over several
projects each project contributes at most one page through its own index, so a page costs the same at any depth and
however few of the instance's projects the caller may see. By amount it costs the more the further down, see ADR 0016.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pmis.kit.errors import InvalidInputError
from pmis.kit.money import require_amount
from pmis.kit.paging import decode_cursor, encode_cursor, foreign_cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import TypeAlias
    from uuid import UUID

    from pmis.kit.db import Session

    Clause: TypeAlias = Callable[[sa.Table, sa.ColumnElement[Any]], sa.ColumnElement[bool]]
    PageClause: TypeAlias = Callable[[sa.Table, sa.ColumnElement[Any], "Bounds"], sa.ColumnElement[bool]]

METADATA: Final = sa.MetaData(schema="state")
_INSTANCE: Final[sa.ColumnElement[Any]] = sa.null()
_MAX_INTEGER: Final = 2**31 - 1
_DIALECT: Final = postgresql.psycopg.dialect()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def state_table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table of state: the four columns that all have, then its own."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("project_id", sa.Uuid),
        sa.Column("doc", sa.Text, nullable=False),
        *columns,
    )


@dataclass(frozen=True)
class Bounds:
    """A page of records in the order of their ids: how many, in which direction, after which."""

    limit: sa.BindParameter[int]
    descending: bool
    after: sa.BindParameter[Any] | None
    deleted: bool
    """Whether deleted records are among them."""

    def applied(self, found: sa.Select[Any], key: sa.Column[Any]) -> sa.Select[Any]:
        """Of what is found, no more than the page; `key` holds the ids."""
        if self.after is not None:
            found = found.where(key < self.after if self.descending else key > self.after)
        return found.order_by(key.desc() if self.descending else key.asc()).limit(self.limit)


@dataclass(frozen=True)
class Filter:
    """A query parameter that narrows a list. `values` turns its text into parameters, or raises ValueError.

    `clause` is given the table and the project whose rows are being read; what it says of the time is said of the
    parameter `now`. Texts in `instead` have a clause of their own, which an index may serve where one for all does not.
    `of_page` finds no more than a page; it serves where nothing else narrows a list in the order of ids.
    """

    clause: Clause
    values: Callable[[str], Mapping[str, Any]]
    description: str
    example: str
    instead: Mapping[str, Clause] = field(default_factory=dict[str, "Clause"])
    of_page: PageClause | None = None


@dataclass(frozen=True)
class Listing:
    """What can be asked of one table's list. Orders map a name to a column; `id` is always the last key."""

    table: sa.Table
    orders: Mapping[str, str]
    default_order: str
    filters: Mapping[str, Filter] = field(default_factory=dict[str, Filter])
    hides_deleted: bool = False

    def __hash__(self) -> int:
        """By identity: listings are made once, when their module is read."""
        return id(self)


@dataclass(frozen=True)
class Page:
    """A page of documents, and the cursor of the next one."""

    docs: list[str]
    next: str | None

    def body(self) -> bytes:
        """The JSON answer."""
        following = json.dumps(self.next)
        return f'{{"items":[{",".join(self.docs)}],"next":{following}}}'.encode()


@lru_cache(maxsize=1024)
def _statement(
    listing: Listing,
    filters: tuple[str, ...],
    order: str,
    descending: bool,
    after: bool,
    deleted: bool,
    spread: bool,
    instance: bool,
) -> str:
    table = listing.table
    unnested = sa.func.unnest(sa.bindparam("projects", type_=postgresql.ARRAY(sa.Uuid)))
    projects = unnested.table_valued("id").render_derived(name="p")
    name = listing.orders[order]
    key = table.c[name]
    keys = [table.c.id] if name == "id" else [key, table.c.id]
    limit = sa.bindparam("limit", type_=sa.Integer)

    first = sa.bindparam("after0", type_=sa.Uuid) if after else None
    bounds = Bounds(limit, descending, first, deleted or not listing.hides_deleted)
    alone = listing.filters.get(filters[0]) if len(filters) == 1 and key is table.c.id else None
    of_page = alone.of_page if alone is not None else None

    def rows(project: sa.ColumnElement[Any]) -> sa.Select[Any]:
        query: Any = sa.select(table.c.doc, *[column.label(f"key{i}") for i, column in enumerate(keys)])
        query = query.where(table.c.project_id.is_(None) if project is _INSTANCE else table.c.project_id == project)
        if of_page is not None:
            query = query.where(of_page(table, project, bounds))
        for asked in filters if of_page is None else ():
            parameter, _, text = asked.partition("=")
            wanted = listing.filters[parameter]
            query = query.where(wanted.instead.get(text, wanted.clause)(table, project))
        if listing.hides_deleted and not deleted:
            query = query.where(~table.c.deleted)
        if after:
            here, there = (
                sa.tuple_(*keys),
                sa.tuple_(*[sa.bindparam(f"after{i}", type_=c.type) for i, c in enumerate(keys)]),
            )
            query = query.where(here < there if descending else here > there)
        if name != "id" and table.c[name].nullable:
            query = query.where(key.is_not(None))
        return query.order_by(*[column.desc() if descending else column.asc() for column in keys]).limit(limit)

    if not spread:
        return str(rows(sa.bindparam("project", type_=sa.Uuid)).compile(dialect=_DIALECT))
    each = rows(projects.c.id).correlate(projects).lateral("each")
    outer = [each.c[f"key{i}"] for i in range(len(keys))]
    found: Any = sa.select(each.c.doc, *outer).select_from(projects.join(each, sa.true()))
    if instance:
        own = rows(_INSTANCE).subquery("own")
        both = sa.union_all(found, sa.select(own)).subquery("both")
        found, outer = sa.select(both), [both.c[f"key{i}"] for i in range(len(keys))]
    found = found.order_by(*[column.desc() if descending else column.asc() for column in outer]).limit(limit)
    return str(found.compile(dialect=_DIALECT))


def _typed(value: Any, column: sa.Column[Any]) -> Any:  # noqa: ANN401 - whatever the column holds
    """The value of a key column that a cursor holds as text; raises InvalidInputError for what cannot be one."""
    kind = column.type.python_type
    try:
        if not isinstance(value, str):
            raise foreign_cursor()
        if issubclass(kind, date):
            return kind.fromisoformat(value)
        if kind is Decimal:
            return require_amount(value)
        typed = kind(value)
    except ValueError:
        raise foreign_cursor() from None
    if kind is int and not 0 <= typed <= _MAX_INTEGER:
        raise foreign_cursor()
    return typed


async def page(
    session: Session,
    listing: Listing,
    *,
    projects: Sequence[UUID],
    filters: Mapping[str, str],
    sort: str | None,
    cursor: str | None,
    limit: int,
    now: datetime,
    deleted: bool = False,
    instance: bool = False,
) -> Page:
    """One page of what lies in the projects. Raises InvalidInputError for a filter, order or cursor that is none.

    `sort` is the name of an order, with a leading minus for the other direction. Rows without a value in the column
    that is sorted by are not in the list. `now` is the time that filters go by. `instance` adds what is in no project.
    """
    order = listing.default_order if sort is None else sort
    descending = order.startswith("-")
    name = order.removeprefix("-")
    if name not in listing.orders:
        known = ", ".join(sorted(listing.orders))
        raise InvalidInputError(
            f"sort: there is no order {name!r}; use one of {known}, with a leading minus to turn it round.",
            errors=[{"pointer": "/query/sort", "message": f"one of {known}", "type": "enum"}],
        )
    params: dict[str, Any] = {"limit": limit + 1, "now": now}
    asked: list[str] = []
    for parameter, text in filters.items():
        wanted = listing.filters[parameter]
        asked.append(f"{parameter}={text}" if text in wanted.instead else parameter)
        try:
            params.update(wanted.values(text))
        except ValueError as error:
            raise InvalidInputError(
                f"{parameter}: {error}",
                errors=[{"pointer": f"/query/{parameter}", "message": str(error), "type": "value_error"}],
            ) from None
    keys = 1 if listing.orders[name] == "id" else 2
    if cursor is not None:
        columns = [listing.table.c[listing.orders[name]], listing.table.c.id][-keys:]
        for i, (value, column) in enumerate(zip(decode_cursor(cursor, order, keys), columns, strict=True)):
            params[f"after{i}"] = _typed(value, column)
    spread = instance or len(projects) != 1
    if spread:
        params["projects"] = list(projects)
    else:
        params["project"] = projects[0]
    after = cursor is not None
    statement = _statement(listing, tuple(sorted(asked)), name, descending, after, deleted, spread, instance)
    rows = await session.all(statement, params)
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = encode_cursor(order, [str(value) for value in rows[-1][1:]])
    return Page([row[0] for row in rows], following)
