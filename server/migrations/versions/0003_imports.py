"""What imports remember beside the log: releases that said nothing new, and how far a running import is.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IMPORTS = """
-- Releases that changed nothing when they came. No record remembers those, and they must not be judged again later,
-- when a record here differs from what they say.
create table ledger.import_seen (
    project_id uuid not null,
    fingerprint text not null check (fingerprint ~ '^[0-9a-f]{64}$'),
    primary key (project_id, fingerprint)
);

-- For whoever looks at a running import; worth nothing after it, hence unlogged.
create unlogged table ledger.import_progress (
    id uuid primary key,
    actor text not null,
    phase text not null,
    done int not null,
    total int not null,
    updated_at timestamptz not null default clock_timestamp()
);
create index import_progress_by_age on ledger.import_progress (updated_at);

grant select, insert on ledger.import_seen to pmis_app;
grant select, insert, update, delete on ledger.import_progress to pmis_app;
"""


def upgrade() -> None:
    """Create both tables."""
    op.execute(IMPORTS)


def downgrade() -> None:
    """What was seen is not forgotten; restore a backup instead."""
    message = "there is no way back from the imports; restore a backup"
    raise NotImplementedError(message)
