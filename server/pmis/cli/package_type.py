"""Package types: which extra fields a kind of package has."""

from __future__ import annotations

from pmis.cli.governed import Flag, Noun, group, short_id, text
from pmis.cli.output import Column

NOUN = Noun(
    name="package-type",
    path="package-types",
    help="Package types: which extra fields a kind of package has, as a JSON Schema.",
    reference="The id, or the last 8 digits of it as lists show them.",
    columns=(
        Column("ID", short_id),
        Column("NAME", text("name"), flexible=True),
        Column("DESCRIPTION", text("description"), flexible=True),
    ),
    fields=(
        Flag("description", "--description", "What kind of package it is."),
        Flag("fields_schema", "--schema", "The extra fields, as a JSON Schema (2020-12).", "JSON", json=True),
    ),
    first_fields=(Flag("name", "--name", "What packages call it; unique in the project."),),
    required=("name", "fields_schema"),
    operations=frozenset({"create", "patch"}),
    orders="created_at",
    has_data=False,
    hides_deleted=False,
    shown_last=("description", "fields_schema"),
)
app = group(NOUN)
