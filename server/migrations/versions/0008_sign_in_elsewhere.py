"""Signing in through identity providers: whose account an identity there opens, and which sign-ins have ended.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ELSEWHERE = """
-- Issuer and subject name somebody for good; an address does not. How a link came and went is in the log, without the
-- subject, which is the person's and can be erased here.
create table identity.external_identity (
    id uuid primary key,
    issuer text not null,
    subject text not null,
    provider text not null,
    person_id uuid not null,
    linked_at timestamptz not null,
    last_used_at timestamptz not null,
    unique (issuer, subject),
    unique (person_id, issuer)
);

-- Sign-ins that have come back from the provider: each counts once. Kept until its time is over anyway.
create table identity.ended_flow (
    digest bytea primary key,
    expires_at timestamptz not null
);
create index ended_flow_by_time on identity.ended_flow (expires_at);

grant select, insert, update, delete on identity.external_identity, identity.ended_flow to pmis_app;
"""


def upgrade() -> None:
    """Create the tables of signing in elsewhere."""
    op.execute(ELSEWHERE)


def downgrade() -> None:
    """Links would be lost; restore a backup instead."""
    message = "there is no way back from the links of accounts; restore a backup"
    raise NotImplementedError(message)
