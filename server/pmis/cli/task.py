"""Tasks: things to do for a package."""

from __future__ import annotations

from pmis.cli.governed import Flag, Noun, group, named, short_id, text
from pmis.cli.output import Column

NOUN = Noun(
    name="task",
    path="tasks",
    help="Tasks: things to do for a package.",
    reference="The id, or the last 8 digits of it as lists show them.",
    columns=(
        Column("ID", short_id),
        Column("TITLE", text("title"), flexible=True),
        Column("STATUS", text("status"), status=True),
        Column("DUE", text("due_date")),
        Column("ASSIGNEE", named("assignee_id"), flexible=True, spare=True),
        Column("PACKAGE", named("package_id"), flexible=True, spare=True),
    ),
    fields=(
        Flag("title", "--title", "What is to be done."),
        Flag("description", "--description", "More about it."),
        Flag("assignee_id", "--assignee", "Who does it: a name, an id or `me`.", "PERSON", "people"),
        Flag("due_date", "--due", "The day by which it is done.", "DATE"),
        Flag("external_ref", "--external-ref", "What it is called elsewhere."),
    ),
    first_fields=(Flag("package_id", "--package", "The package it is for: its code or id.", "PACKAGE", "packages"),),
    filters=(
        Flag("status", "--status", "Only these statuses, separated by commas."),
        Flag("package_id", "--package", "Only those of this package.", "PACKAGE", "packages"),
        Flag("assignee_id", "--assignee", "Only those of this person: a name, an id or `me`.", "PERSON", "people"),
        Flag("q", "--search", "Only those with these words, or words that begin so."),
        Flag("due_from", "--due-from", "Only those due then or later.", "DATE"),
        Flag("due_to", "--due-to", "Only those due then or earlier.", "DATE"),
        Flag("without", "--without", "Only those that have none of these: assignee_id, due_date.", "FIELDS"),
        Flag(
            "overdue",
            "--overdue",
            "`true`: only open ones past their due date; `false`: only the others.",
            "true|false",
        ),
        Flag(
            "escalated", "--escalated", "Only those on these rungs of the overdue ladder, separated by commas.", "RUNGS"
        ),
        Flag("external_ref", "--external-ref", "Only the one with this outside reference."),
    ),
    required=("package_id", "title"),
    operations=frozenset({"create", "patch", "transition", "delete", "restore"}),
    orders="created_at or due_date",
    creates_in_project=False,
)
app = group(NOUN)
