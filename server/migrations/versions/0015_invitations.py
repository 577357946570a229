"""Invitations: people who are to come, what they are to be, and the address that each open one goes to.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
-- One row for the person (in no project), and one for the roles in each project; `person_id` holds them together, and is
-- who the person will be.
create table state.invitation (
    id uuid primary key, version integer not null, project_id uuid, doc text not null,
    person_id uuid not null, status text not null, expires_at timestamptz
);
create unique index invitation_by_person on state.invitation
    (person_id, coalesce(project_id, '00000000-0000-0000-0000-000000000000'));
create index invitation_by_age on state.invitation (id) where project_id is null;
create index invitation_to_expire on state.invitation (expires_at) where status = 'open' and project_id is null;

select ledger.make_writers('invitation');
create constraint trigger invitation_needs_its_event after insert or update on state.invitation
    deferrable initially deferred for each row execute function ledger.require_event('invitation');
create trigger invitation_is_never_deleted before delete on state.invitation
    for each row execute function ledger.refuse_change();

grant select, insert, update on state.invitation to pmis_app;
grant select on state.invitation to pmis_auditor;

-- Addresses are kept beside the log, as those of people are: here only while the invitation is open.
create table identity.invited (
    invitation_id uuid primary key,
    email text not null
);
create unique index invited_email on identity.invited (lower(email));
grant select, insert, delete on identity.invited to pmis_app;
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Who was invited stands in the log; restore a backup instead."""
    message = "there is no way back from invitations; restore a backup"
    raise NotImplementedError(message)
