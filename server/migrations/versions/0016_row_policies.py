"""Row policies: what a session may reach of the projects, judged by PostgreSQL beside the application.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = ("package", "package_type", "task", "party", "comment", "delegation", "escalation")
"""Tables of state whose every row lies in a project."""
WITH_INSTANCE = ("approval", "email")
"""Those that hold rows of the instance itself too; who may see these the application judges alone."""

# The query does not look at the row: PostgreSQL asks it once for a statement, not once for a row, and plans an index on
# the other conditions as without a policy. It is null where every project is reached, and so is what is compared with
# it. A session that has not said what it reaches is refused by `current_setting` on a fresh connection, and on a used
# one, where the setting is left empty, by the cast.
REACHED = "coalesce(project_id = any((select nullif(current_setting('pmis.reach'), '*')::uuid[])::uuid[]), true)"


def upgrade() -> None:
    """Judge the application; not the owner, who migrates and backs up, nor who reads the whole log."""
    for table in (*TABLES, *WITH_INSTANCE):
        rule = REACHED if table in TABLES else f"project_id is null or {REACHED}"
        op.execute(
            f"create policy reach on state.{table} to pmis_app using ({rule}) with check ({rule});"
            f"create policy whole on state.{table} for select to pmis_auditor using (true);"
            f"alter table state.{table} enable row level security"
        )


def downgrade() -> None:
    """Let every session reach every row again."""
    for table in (*TABLES, *WITH_INSTANCE):
        op.execute(
            f"alter table state.{table} disable row level security;"
            f"drop policy whole on state.{table}; drop policy reach on state.{table}"
        )
