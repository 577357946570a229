"""E-mail: what came in, as the transport gave it, and where it is filed.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
create schema mail;

-- What was accepted, once for each way that it came. The raw mail is in the storage, under its digest. What it says
-- stands here and not in the log, as it may have to be erased.
create table mail.inbound (
    id uuid primary key,
    source text not null check (source in ('smtp', 'lmtp', 'imap', 'webhook', 'file')),
    digest text not null check (digest ~ '^[0-9a-f]{64}$'),
    size bigint not null,
    recipients text[] not null,
    sender text,
    peer text,
    -- Whether the transport is one whose Authentication-Results count.
    trusted boolean not null,
    received_at timestamptz not null default transaction_timestamp(),
    correlation_id text not null check (correlation_id ~ '^[A-Za-z0-9._:-]{1,100}$'),
    content text check (content is json object),
    authentication text check (authentication is json object),
    suggestions text check (suggestions is json array),
    read_at timestamptz,
    unique (source, digest)
);
-- The Message-IDs of what was filed in a project, as digests, so that answers to it join its thread.
create table mail.thread (
    project_id uuid not null, reference text not null, thread_id uuid not null, primary key (project_id, reference)
);

create table state.email (
    id uuid primary key, version integer not null, project_id uuid, doc text not null,
    status text not null, package_id uuid, thread_id uuid not null, received_at timestamptz not null
) with (fillfactor = 80);
create index email_by_age on state.email (project_id, received_at, id);
create index email_by_package on state.email (package_id, received_at, id) where package_id is not null;

select ledger.make_writers('email');
create constraint trigger email_needs_its_event after insert or update on state.email
    deferrable initially deferred for each row execute function ledger.require_event('email');
create trigger email_is_never_deleted before delete on state.email
    for each row execute function ledger.refuse_change();

revoke all on schema mail from public;
grant usage on schema mail to pmis_app;
grant select, insert, update on mail.inbound to pmis_app;
grant select, insert on mail.thread to pmis_app;
grant select, insert, update on state.email to pmis_app;
grant select on state.email to pmis_auditor;
"""


def upgrade() -> None:
    """Create both tables and the state of e-mails."""
    op.execute(TABLES)


def downgrade() -> None:
    """Mails that were accepted are not thrown away; restore a backup instead."""
    message = "there is no way back from the mails; restore a backup"
    raise NotImplementedError(message)
