"""Packages: units of procured or executed work."""

from __future__ import annotations

from pmis.cli.governed import Flag, Noun, amount, group, text
from pmis.cli.output import Column

NOUN = Noun(
    name="package",
    path="packages",
    help="Packages: look at them, and propose changes of them.",
    reference="The code (P-001) or the id.",
    columns=(
        Column("CODE", text("code")),
        Column("TITLE", text("title"), flexible=True),
        Column("STATUS", text("status"), status=True),
        Column("AMOUNT", amount("amount"), right=True),
        Column("PLANNED END", text("planned_end"), spare=True),
    ),
    fields=(
        Flag("title", "--title", "What it is called."),
        Flag("description", "--description", "What it is about."),
        Flag("package_type", "--type", "The package type of the project that says which extra fields there are."),
        Flag("owner_id", "--owner", "Who answers for it: a name, an id or `me`.", "PERSON", "people"),
        Flag("vendor_id", "--vendor", "Who delivers it: a name, an e-mail address or an id.", "PARTY", "parties"),
        Flag("amount", "--amount", "An exact decimal such as 1500000.00.", "DECIMAL"),
        Flag("currency", "--currency", "The currency of the amount (ISO 4217).", "CODE"),
        Flag("planned_start", "--planned-start", "The first planned day.", "DATE"),
        Flag("planned_end", "--planned-end", "The last planned day.", "DATE"),
        Flag("actual_start", "--actual-start", "The day on which work began.", "DATE"),
        Flag("actual_end", "--actual-end", "The day on which work ended.", "DATE"),
        Flag("external_ref", "--external-ref", "What it is called elsewhere."),
    ),
    filters=(
        Flag("status", "--status", "Only these statuses, separated by commas."),
        Flag("q", "--search", "Only those with these words, or words that begin so."),
        Flag("package_type", "--type", "Only these package types, separated by commas."),
        Flag("owner_id", "--owner", "Only those of this person: a name, an id or `me`.", "PERSON", "people"),
        Flag("vendor_id", "--vendor", "Only those of this vendor.", "PARTY", "parties"),
        Flag("currency", "--currency", "Only amounts in these currencies, separated by commas.", "CODE"),
        Flag("amount_min", "--amount-min", "Only amounts from here on.", "DECIMAL"),
        Flag("amount_max", "--amount-max", "Only amounts up to here.", "DECIMAL"),
        Flag("planned_end_from", "--planned-end-from", "Only those planned to end then or later.", "DATE"),
        Flag("planned_end_to", "--planned-end-to", "Only those planned to end then or earlier.", "DATE"),
        Flag("external_ref", "--external-ref", "Only the one with this outside reference."),
        Flag(
            "without",
            "--without",
            "Only those that have none of these: owner_id, vendor_id, amount, planned_end, package_type.",
            "FIELDS",
        ),
    ),
    required=("title",),
    operations=frozenset({"create", "patch", "transition", "delete", "restore"}),
    orders="created_at, code, amount or planned_end",
)
app = group(NOUN)
