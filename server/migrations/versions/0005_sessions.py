"""Signing in: sessions and their refresh tokens, API tokens, second factors, and how often one may try.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IDENTITY = """
-- One row for each sign-in. What happened to it is in the log; `version` is where its stream there stands.
create table identity.session (
    id uuid primary key,
    person_id uuid not null,
    kind text not null check (kind in ('bearer', 'cookie')),
    version integer not null default 1,
    client text not null,
    cookie bytea unique,
    started_at timestamptz not null,
    last_used_at timestamptz not null,
    authenticated_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    ended_because text,
    check ((ended_at is null) = (ended_because is null))
);
create index session_by_person on identity.session (person_id, id) where ended_at is null;
create index session_by_end on identity.session (coalesce(ended_at, expires_at));

-- A session's family of refresh tokens. The one without `used_at` is good; `successor` is the next one, sealed under a
-- key that only whoever holds this one can derive, for the client that did not hear the answer.
create table identity.refresh_token (
    digest bytea primary key,
    session_id uuid not null references identity.session (id) on delete cascade,
    issued_at timestamptz not null,
    used_at timestamptz,
    used_by bytea,
    successor bytea,
    check ((used_at is null) = (successor is null))
);
create index refresh_token_by_session on identity.refresh_token (session_id);
create unique index refresh_token_good on identity.refresh_token (session_id) where used_at is null;

create table identity.api_token (
    id uuid primary key,
    person_id uuid not null,
    name text not null,
    digest bytea not null unique,
    hint text not null,
    scopes text[] not null check (cardinality(scopes) > 0),
    version integer not null default 1,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,
    ended_at timestamptz,
    ended_because text,
    check ((ended_at is null) = (ended_because is null))
);
create index api_token_by_person on identity.api_token (person_id, id);

-- The secret lies in the vault. `last_step` is the step of the last code that was taken: each is good once.
create table identity.second_factor (
    person_id uuid primary key,
    secret_ref text not null,
    last_step bigint not null default 0,
    made_at timestamptz not null,
    confirmed_at timestamptz
);
create table identity.recovery_code (
    person_id uuid not null references identity.second_factor (person_id) on delete cascade,
    digest bytea not null,
    used_at timestamptz,
    primary key (person_id, digest)
);

-- How far ahead of now somebody's attempts reach: each moves it on by its share of the window.
create table identity.throttle (
    subject bytea primary key,
    due_at timestamptz not null
) with (fillfactor = 70);

-- Takes one attempt from each budget, or from none: the seconds to wait, 0 when the attempt may be made. The subjects
-- come in one fixed order, so that two calls never wait for each other.
create function identity.attempt(p_subjects bytea[], p_limits integer[], p_window double precision)
returns double precision
language plpgsql as $$
declare
    at timestamptz;
    due timestamptz;
    share interval;
    waits double precision := 0;
begin
    insert into identity.throttle (subject, due_at)
    select s, '-infinity' from unnest(p_subjects) with ordinality u(s, n) order by n
    on conflict do nothing;
    for i in 1 .. cardinality(p_subjects) loop
        select due_at into due from identity.throttle where subject = p_subjects[i] for update;
        at := clock_timestamp();
        share := make_interval(secs => p_window / p_limits[i]);
        due := greatest(due, at) + share;
        waits := greatest(waits, extract(epoch from due - at) - p_window);
    end loop;
    if waits > 0.001 then
        return waits;
    end if;
    for i in 1 .. cardinality(p_subjects) loop
        update identity.throttle
        set due_at = greatest(due_at, clock_timestamp()) + make_interval(secs => p_window / p_limits[i])
        where subject = p_subjects[i];
    end loop;
    return 0;
end
$$;

-- Gives back what `attempt` took, once the attempt was a good one.
create function identity.give_back(p_subjects bytea[], p_limits integer[], p_window double precision) returns void
language plpgsql as $$
begin
    for i in 1 .. cardinality(p_subjects) loop
        update identity.throttle set due_at = due_at - make_interval(secs => p_window / p_limits[i])
        where subject = p_subjects[i];
    end loop;
end
$$;

-- Every API process remembers who may do what; it is told whom to read afresh when the transaction commits, whoever
-- made the change.
create function identity.tell() returns trigger
language plpgsql
set search_path = pg_catalog
as $$
begin
    perform pg_notify('pmis_identity', to_jsonb(new) ->> tg_argv[0]);
    return null;
end
$$;
create trigger session_tells after update of ended_at, authenticated_at, cookie on identity.session
    for each row execute function identity.tell('person_id');
create trigger api_token_tells after update of ended_at on identity.api_token
    for each row execute function identity.tell('person_id');
create trigger person_tells after update on state.person
    for each row execute function identity.tell('id');
create trigger membership_tells after insert or update on state.membership
    for each row execute function identity.tell('person_id');

revoke all on function identity.attempt, identity.give_back, identity.tell from public;
grant execute on function identity.attempt, identity.give_back, identity.tell to pmis_app;
grant select, insert, update, delete on identity.session, identity.refresh_token, identity.api_token,
    identity.second_factor, identity.recovery_code, identity.throttle to pmis_app;
"""


def upgrade() -> None:
    """Create the tables of signing in, and what tells the API processes of a change."""
    op.execute(IDENTITY)


def downgrade() -> None:
    """Who signed in stands in the log; restore a backup instead."""
    message = "there is no way back from the sessions; restore a backup"
    raise NotImplementedError(message)
