"""The tables that the program describes are the tables that the migrations make."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, pool

import pmis.api.approvals  # pyright: ignore[reportUnusedImport] - approvals describe theirs
import pmis.nouns  # pyright: ignore[reportUnusedImport] - every noun describes its table  # noqa: F401
from pmis.kit.listing import METADATA

# Indexes, constraints and generated columns are the migrations' own: a list needs only the columns it reads.
IGNORED = {"remove_index", "remove_constraint", "modify_nullable"}


def _differences(dsn, metadata):
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=pool.NullPool)

    def concerned(_object, name, kind, _reflected, _compared):
        return kind != "table" or name in {table.name for table in metadata.tables.values()}

    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_schemas": True,
                    "include_object": concerned,
                    "include_name": lambda name, kind, _parents: kind != "schema" or name == "state",
                },
            )
            found = [
                item
                for entry in compare_metadata(context, metadata)
                for item in (entry if isinstance(entry, list) else [entry])
                if item[0] not in IGNORED
            ]
    finally:
        engine.dispose()
    return [item for item in found if not (item[0] == "remove_column" and item[3].name == "vector")]


def test_the_described_tables_are_those_of_the_migrations(database):
    assert len(METADATA.tables) >= 11
    assert _differences(database.owner_dsn, METADATA) == []


def test_a_column_that_is_missing_is_noticed(database):
    from sqlalchemy import Column, MetaData, Text

    changed = MetaData(schema="state")
    for table in METADATA.tables.values():
        table.to_metadata(changed)
    changed.tables["state.package"].append_column(Column("colour", Text))
    assert [item[0] for item in _differences(database.owner_dsn, changed)] == ["add_column"]
