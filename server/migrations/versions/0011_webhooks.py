"""Outgoing webhooks: where they go, and what each of them still has to be told.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = """
create schema webhook;

-- An address outside that is told of events: of one project's, or of the instance's. Its secrets lie in the vault.
create table webhook.hook (
    id uuid primary key,
    version integer not null,
    project_id uuid,
    -- Who answers for it: it is told nothing that this person may not read by then.
    person_id uuid not null,
    url text not null,
    description text not null,
    types text[] not null check (cardinality(types) between 1 and 50),
    include_payload boolean not null,
    enabled boolean not null,
    disabled_because text check (disabled_because in ('person', 'owner', 'rights', 'gone', 'failing')),
    secret_ref text not null,
    previous_ref text,
    previous_until timestamptz,
    -- The circuit breaker: how many calls in a row failed, since when, and until when nobody is called.
    failures integer not null default 0,
    failing_since timestamptz,
    open_until timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    check (enabled = (disabled_because is null)),
    check ((previous_ref is null) = (previous_until is null))
);
create unique index hook_by_address on webhook.hook
    (coalesce(project_id, '00000000-0000-0000-0000-000000000000'), md5(url));
create index hook_by_project on webhook.hook (project_id) where enabled;

-- What a hook is to be told, once for each event: accepted in the very transaction of the event.
create table webhook.delivery (
    id uuid primary key,
    number bigint generated always as identity,
    -- No foreign key: a change of the log's own would wait for whoever deletes the hook, and fail.
    hook_id uuid not null,
    -- Null for a ping, which tells of nothing.
    event_id uuid,
    project_id uuid,
    type text not null,
    status text not null default 'pending' check (status in ('pending', 'delivered', 'stopped')),
    job_id uuid not null,
    -- How often a job was accepted for it beyond the first: to wait for a breaker, or to deliver it again.
    round integer not null default 0,
    attempts integer not null default 0,
    answer integer,
    error text,
    milliseconds integer,
    created_at timestamptz not null default transaction_timestamp(),
    tried_at timestamptz,
    unique (hook_id, event_id)
) with (fillfactor = 80);
create index delivery_by_number on webhook.delivery (hook_id, number);
create index delivery_undone on webhook.delivery (hook_id, number) where status <> 'delivered';
create index delivery_to_prune on webhook.delivery (created_at);
"""

FUNCTIONS = """
-- Every event is offered to every hook here, in its own transaction: what was committed is told, what was taken back is
-- not. The jobs are put in without a notice, as take_outbox does: notices would make commits queue. It runs within
-- ledger.append_event, with its rights and its search path.
create function webhook.offer() returns trigger
language plpgsql
as $$
declare
    delivery uuid;
    key text;
    hook webhook.hook;
begin
    -- A loop over nothing still costs a cursor, for each event that there is.
    if not exists (select from webhook.hook h where h.enabled) then
        return null;
    end if;
    for hook in
        select * from webhook.hook h
        where h.enabled and (h.project_id is null or h.project_id = new.project_id)
          and (new.type = any(h.types) or split_part(new.type, '.', 1) || '.*' = any(h.types))
    loop
        delivery := gen_random_uuid();
        key := format('webhook.deliver:%s:%s', delivery, 0);
        insert into webhook.delivery (id, hook_id, event_id, project_id, type, job_id)
            values (delivery, hook.id, new.id, new.project_id, new.type, jobs.id_of(key));
        insert into jobs.job (id, kind, dedup, project_id, payload, correlation_id, event_id)
            values (jobs.id_of(key), 'webhook.deliver', key, hook.project_id,
                json_build_object('delivery_id', delivery)::text, new.correlation_id, new.id);
    end loop;
    return null;
end
$$;
create trigger event_is_offered after insert on ledger.event for each row execute function webhook.offer();
"""

PRIVILEGES = """
revoke all on schema webhook from public;
revoke all on function webhook.offer from public;
grant usage on schema webhook to pmis_app, pmis_auditor;
grant select, insert, update, delete on webhook.hook, webhook.delivery to pmis_app;
grant select on webhook.delivery to pmis_auditor;
"""


def upgrade() -> None:
    """Create the schema; from then on every event is offered."""
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """Nobody is told any more; the secrets stay sealed in the vault."""
    op.execute("drop trigger event_is_offered on ledger.event")
    op.execute("drop schema webhook cascade")
