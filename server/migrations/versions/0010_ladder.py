"""The overdue ladder: how far each task has climbed since each of its due dates.

Revision ID: 0010
Revises: 0008
"""

from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
create table state.escalation (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    task_id uuid not null, due_date date not null, rung text not null, day date not null
) with (fillfactor = 80);
create unique index escalation_by_task on state.escalation (task_id, due_date);

select ledger.make_writers('escalation');
create constraint trigger escalation_needs_its_event after insert or update on state.escalation
    deferrable initially deferred for each row execute function ledger.require_event('escalation');
create trigger escalation_is_never_deleted before delete on state.escalation
    for each row execute function ledger.refuse_change();

grant select, insert, update on state.escalation to pmis_app;
grant select on state.escalation to pmis_auditor;
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(TABLES)


def downgrade() -> None:
    """What the log says stays; restore a backup instead."""
    message = "there is no way back from the overdue ladder; restore a backup"
    raise NotImplementedError(message)
