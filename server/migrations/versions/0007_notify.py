"""Notifications: what people are told, in the application and by mail.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
create schema notify;

-- One row tells one person one thing once. It is told by mail in the job that holds it (`mail_job`), with all the others
-- that wait then; `mailed_at` is set when the mail was handed over.
create table notify.notification (
    id uuid primary key,
    person_id uuid not null,
    key text not null,
    -- The record that it is about.
    about uuid not null,
    project_id uuid,
    doc text not null check (doc is json object),
    created_at timestamptz not null default transaction_timestamp(),
    read_at timestamptz,
    mail_job uuid,
    mailed_at timestamptz,
    unique (person_id, key)
) with (fillfactor = 80);
create index notification_by_age on notify.notification (person_id, id);
create index notification_unread on notify.notification (person_id, id) where read_at is null;
create index notification_about on notify.notification (about) where read_at is null;
create index notification_to_prune on notify.notification (created_at);

-- How somebody wants to be mailed; who has no row has the default.
create table notify.preference (
    person_id uuid primary key,
    mail text not null check (mail in ('at_once', 'hourly', 'daily', 'never'))
);
"""

PRIVILEGES = """
revoke all on schema notify from public;
grant usage on schema notify to pmis_app, pmis_auditor;
grant select, insert, update on notify.notification, notify.preference to pmis_app;
grant delete on notify.notification to pmis_worker;
grant select on notify.notification, notify.preference to pmis_auditor;
"""


def upgrade() -> None:
    """Create the schema."""
    op.execute(TABLES)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """Drop what was told; nothing else refers to it."""
    op.execute("drop schema notify cascade")
