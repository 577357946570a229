"""Projects: they hold packages and people."""

from __future__ import annotations

from pmis.cli.governed import Flag, Noun, amount, group, text
from pmis.cli.output import Column

NOUN = Noun(
    name="project",
    path="projects",
    help="Projects: they hold packages and people.",
    reference="The prefix (P) or the id.",
    columns=(
        Column("PREFIX", text("prefix")),
        Column("NAME", text("name"), flexible=True),
        Column("BUDGET", amount("budget"), right=True),
        Column("CURRENCY", text("currency"), spare=True),
        Column("TIME ZONE", text("timezone"), spare=True),
    ),
    fields=(
        Flag("name", "--name", "What it is called."),
        Flag("description", "--description", "What it is about."),
        Flag("timezone", "--timezone", "The time zone in which days count, such as Europe/Berlin.", "ZONE"),
        Flag("budget", "--budget", "An exact decimal in the project's currency.", "DECIMAL"),
    ),
    first_fields=(
        Flag("prefix", "--prefix", "What its packages' codes begin with; it stays for ever.", "PREFIX"),
        Flag("currency", "--currency", "Its currency (ISO 4217); it stays for ever.", "CODE"),
    ),
    required=("name", "prefix", "currency"),
    operations=frozenset({"create", "patch"}),
    orders="created_at",
    has_data=False,
    in_project=False,
    creates_in_project=False,
    hides_deleted=False,
)
app = group(NOUN)
