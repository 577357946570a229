"""Filters that several lists share."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from pmis.kit.listing import METADATA, Bounds, Filter
from pmis.kit.money import require_amount
from pmis.kit.text import one_line

SEARCH: Final = sa.Table(
    "search",
    METADATA,
    sa.Column("entity_id", sa.Uuid, primary_key=True),
    sa.Column("entity_type", sa.Text, nullable=False),
    sa.Column("project_id", sa.Uuid, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
)
_WORD: Final = re.compile(r"\w+")
MAX_QUERY: Final = 200


def search_terms(text: str) -> str:
    """A tsquery for all the words, each as the beginning of a word; raises ValueError when there is none."""
    words = _WORD.findall(one_line(text[:MAX_QUERY]).lower().replace("_", " "))
    if not words:
        message = "give at least one word to search for"
        raise ValueError(message)
    return " & ".join(f"'{word}':*" for word in words[:12])


def search_filter(index: sa.Table = SEARCH, *, key: str = "entity_id", words: str = "vector") -> Filter:
    """`q`: full text, every word must begin some word of the record.

    `index` is the table that is searched, `key` its column of the record's id, `words` that of what is compared, among
    them the project after a slash. The hits are an array, not a join: a generic plan would join every record of the
    project with every hit.
    """

    def hits(project: sa.ColumnElement[Any]) -> sa.Select[Any]:
        query = sa.func.to_tsquery(sa.literal_column("'simple'::regconfig"), sa.bindparam("q", type_=sa.Text))
        here = sa.cast(sa.func.concat(sa.literal_column("'''/'"), project, sa.literal_column("''''")), TSQUERY)
        vector: sa.ColumnElement[Any] = sa.literal_column(f"{index.name}.{words}")
        wanted = vector.op("@@")(query.op("&&")(here))
        found = sa.select(index.c[key]).where(wanted, index.c.project_id == project)
        if isinstance(project, sa.ColumnClause) and project.table is not None:
            found = found.correlate(project.table)
        return found

    def among(table: sa.Table, found: sa.Select[Any]) -> sa.ColumnElement[bool]:
        return table.c.id == sa.func.any(sa.func.array(found.scalar_subquery()))

    def of_page(table: sa.Table, project: sa.ColumnElement[Any], bounds: Bounds) -> sa.ColumnElement[bool]:
        found = hits(project).where(index.c.entity_type == sa.literal_column(f"'{table.name}'"))
        if not bounds.deleted:
            found = found.where(~index.c.deleted)
        return among(table, bounds.applied(found, index.c[key]))

    return Filter(
        lambda table, project: among(table, hits(project)),
        lambda text: {"q": search_terms(text)},
        "Full text: each word must begin a word of the record.",
        "cycle lane",
        of_page=of_page if index is SEARCH else None,
    )


def one_of(column: str, known: frozenset[str] | None, description: str, example: str) -> Filter:
    """Any of the comma-separated values."""

    def values(text: str) -> Mapping[str, Any]:
        given = [one_line(item.strip()) for item in text.split(",") if item.strip()]
        if not given:
            message = "give at least one value"
            raise ValueError(message)
        if known is not None and (wrong := sorted(set(given) - known)):
            message = f"{wrong[0]!r} is not one of {', '.join(sorted(known))}"
            raise ValueError(message)
        return {column: given}

    def clause(table: sa.Table, _project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return table.c[column] == sa.func.any(sa.bindparam(column, type_=sa.ARRAY(sa.Text)))

    return Filter(clause, values, f"{description}; several separated by commas.", example)


def equals(column: str, convert: Callable[[str], Any], description: str, example: str) -> Filter:
    """Exactly this value."""

    def clause(table: sa.Table, _project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return table.c[column] == sa.bindparam(column, type_=table.c[column].type)

    return Filter(clause, lambda text: {column: convert(text)}, description, example)


def at_most(parameter: str, column: str, convert: Callable[[str], Any], description: str, example: str) -> Filter:
    """This value or less."""

    def clause(table: sa.Table, _project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return table.c[column] <= sa.bindparam(parameter, type_=table.c[column].type)

    return Filter(clause, lambda text: {parameter: convert(text)}, description, example)


def at_least(parameter: str, column: str, convert: Callable[[str], Any], description: str, example: str) -> Filter:
    """This value or more."""

    def clause(table: sa.Table, _project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return table.c[column] >= sa.bindparam(parameter, type_=table.c[column].type)

    return Filter(clause, lambda text: {parameter: convert(text)}, description, example)


def without(*columns: str) -> Filter:
    """Nothing in any of these columns."""
    known = ", ".join(columns)

    def values(text: str) -> Mapping[str, Any]:
        given = [item.strip() for item in text.split(",") if item.strip()]
        if not given or not set(given) <= set(columns):
            message = f"one or more of {known}"
            raise ValueError(message)
        return {"without": given}

    def clause(table: sa.Table, _project: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        given = sa.bindparam("without", type_=sa.ARRAY(sa.Text))
        return sa.and_(
            *(sa.or_(sa.literal_column(f"'{name}'") != sa.func.all(given), table.c[name].is_(None)) for name in columns)
        )

    description = f"Only those that have none of these: {known}; several separated by commas."
    return Filter(clause, values, description, columns[0])


def uuid(text: str) -> UUID:
    """The UUID in a text; raises ValueError in plain words."""
    try:
        return UUID(text)
    except ValueError:
        message = f"{text[:40]!r} is not an id"
        raise ValueError(message) from None


def day(text: str) -> date:
    """The date in a text; raises ValueError in plain words."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{text[:40]!r} is not a date such as 2026-11-30"
        raise ValueError(message) from None


amount = require_amount
line = one_line
