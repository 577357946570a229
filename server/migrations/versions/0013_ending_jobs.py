"""Jobs: people end those that wait, and lay dead letters aside.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

FUNCTIONS = """
-- Each says whether it was this call that ended the job: a worker that claims it, somebody who has it tried again and a
-- second call hold the same row, one after the other, and who comes late finds another status.
create function jobs.cancel(p_id uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set status = 'cancelled', finished_at = clock_timestamp()
        where id = p_id and status in ('queued', 'waiting');
    return found;
end
$$;

-- What went wrong stays with it, until it is pruned as what is done is.
create function jobs.dismiss(p_id uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set status = 'cancelled', finished_at = clock_timestamp() where id = p_id and status = 'dead';
    return found;
end
$$;
"""

PRIVILEGES = """
revoke all on function jobs.cancel(uuid), jobs.dismiss(uuid) from public;
grant execute on function jobs.cancel(uuid), jobs.dismiss(uuid) to pmis_app;
"""


def upgrade() -> None:
    """Two more ways for a job to end."""
    op.execute(FUNCTIONS)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """Jobs that were ended stay so."""
    op.execute("drop function jobs.cancel(uuid), jobs.dismiss(uuid)")
