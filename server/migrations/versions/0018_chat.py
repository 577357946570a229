"""Conversations with the assistant, and the scratch in which its graph notes how far it is.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLES = """
create schema chat;
grant usage on schema chat to pmis_app;

create table chat.conversation (
    id uuid primary key,
    person_id uuid not null,
    title text not null,
    created_at timestamptz not null,
    touched_at timestamptz not null
);
create index conversation_of_person on chat.conversation (person_id, id);
create index conversation_touched on chat.conversation (touched_at);

-- One thing said, and what came of it. The lease says until when the process that answers is taken to be alive; the
-- attempt fences off one that comes back after its lease.
create table chat.turn (
    id uuid primary key,
    conversation_id uuid not null references chat.conversation on delete cascade,
    person_id uuid not null,
    number integer not null,
    key text,
    fingerprint bytea,
    access text not null,
    asked text not null,
    status text not null check (status in ('running', 'waiting', 'done', 'failed')),
    attempt integer not null default 1,
    lease_until timestamptz not null,
    answer text,
    left_over text,
    proposals integer not null default 0,
    usage text,
    began_at timestamptz not null,
    ended_at timestamptz,
    unique (conversation_id, number),
    check ((status in ('waiting', 'done')) = (answer is not null))
);
create unique index turn_key on chat.turn (person_id, key) where key is not null;
create index turn_of_person on chat.turn (person_id, began_at);
create index turn_by_time on chat.turn (began_at);
create index turn_ended on chat.turn (ended_at) where ended_at is not null;
grant select, insert, update, delete on chat.conversation, chat.turn to pmis_app;

-- One row: whether the assistant was stopped, since when, and by whom.
create table chat.switch (
    only_row boolean primary key default true check (only_row),
    stopped_at timestamptz,
    stopped_by text,
    reason text
);
insert into chat.switch default values;
grant select, update on chat.switch to pmis_app;

-- The graph's library makes its own tables here, see `assistant.checkpoints`.
create schema agent;
grant usage on schema agent to pmis_app;
alter default privileges in schema agent grant select, insert, update, delete on tables to pmis_app;
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop the tables; what became of conversations stands in the log."""
    op.execute("drop schema agent cascade; drop schema chat cascade")
