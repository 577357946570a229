"""Parties: customers and vendors."""

from __future__ import annotations

from pmis.cli.governed import Flag, Noun, group, short_id, text
from pmis.cli.output import Column

NOUN = Noun(
    name="party",
    path="parties",
    help="Parties: customers and vendors.",
    reference="The e-mail address, the name, the id, or the last 8 digits of it as lists show them.",
    columns=(
        Column("ID", short_id),
        Column("NAME", text("name"), flexible=True),
        Column("KIND", text("kind")),
        Column("E-MAIL", text("email"), flexible=True, spare=True),
    ),
    fields=(
        Flag("name", "--name", "What it is called."),
        Flag("kind", "--kind", "customer, vendor or both.", "KIND"),
        Flag("email", "--email", "Its e-mail address, unique in the project.", "ADDRESS"),
        Flag("external_ref", "--external-ref", "What it is called elsewhere."),
    ),
    filters=(
        Flag("kind", "--kind", "Only these kinds, separated by commas.", "KIND"),
        Flag("q", "--search", "Only those with these words, or words that begin so."),
        Flag("email", "--email", "Only the one with this e-mail address.", "ADDRESS"),
        Flag("external_ref", "--external-ref", "Only the one with this outside reference."),
    ),
    required=("name", "kind"),
    orders="created_at",
)
app = group(NOUN)
