"""Accepted work: jobs, their attempts, the slots of the schedule, and the functions that alone may change them.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLES = """
do $$
declare
    name text;
begin
    foreach name in array array['pmis_worker', 'pmis_relay'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
        if not pg_has_role(current_user, name, 'member') then
            execute format('grant %I to current_user', name);
        end if;
        execute format('grant connect on database %I to %I', current_database(), name);
    end loop;
    -- A worker does the application's work; what else it may is to claim jobs and to end those it has.
    if not pg_has_role('pmis_worker', 'pmis_app', 'member') then
        grant pmis_app to pmis_worker;
    end if;
end
$$;
"""

TABLES = r"""
create schema jobs;

-- Work that was accepted. The broker only wakes workers: what is due, who works on it and how it ended stands here.
create table jobs.job (
    id uuid primary key,
    kind text not null check (kind ~ '^[a-z_]+(\.[a-z_]+)+$'),
    dedup text unique check (length(dedup) between 1 and 500),
    project_id uuid,
    payload text not null check (payload is json object),
    -- For whom it is done, as events name them; null for the instance's own.
    acting text,
    correlation_id text not null check (correlation_id ~ '^[A-Za-z0-9._:-]{1,100}$'),
    event_id uuid,
    status text not null default 'queued'
        check (status in ('queued', 'running', 'waiting', 'done', 'dead', 'cancelled')),
    -- Never goes back, so that it fences: whoever worked on an earlier attempt can neither finish nor fail this one.
    attempt integer not null default 0,
    -- The attempts that do not count any more: those before somebody said "again", and those a shutdown gave back.
    forgiven integer not null default 0,
    max_attempts integer check (max_attempts between 1 and 100),
    due_at timestamptz not null default clock_timestamp(),
    published_at timestamptz,
    lease_until timestamptz,
    progress text check (progress is json object),
    result text check (result is json),
    error text check (error is json object),
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    check ((status = 'running') = (lease_until is not null)),
    check ((status in ('done', 'dead', 'cancelled')) = (finished_at is not null))
) with (fillfactor = 70);
create index job_to_publish on jobs.job (due_at, id) where status in ('queued', 'waiting');
create index job_running on jobs.job (lease_until) where status = 'running';
create index job_dead on jobs.job (created_at, id) where status = 'dead';
create index job_by_age on jobs.job (created_at, id);
create index job_by_project on jobs.job (project_id, created_at, id) where project_id is not null;
create index job_to_prune on jobs.job (finished_at) where status in ('done', 'cancelled');

create table jobs.attempt (
    job_id uuid not null references jobs.job (id) on delete cascade,
    attempt integer not null,
    worker text not null,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    -- lost: its worker was not heard of again; returned: a shutdown gave it back.
    outcome text check (outcome in ('done', 'failed', 'lost', 'returned')),
    error text check (error is json object),
    primary key (job_id, attempt),
    check ((outcome is null) = (ended_at is null))
);

-- Each slot of a schedule is taken once, by whichever beat comes first. The first row of a schedule has no job: it says
-- since when the schedule runs.
create table jobs.slot (
    schedule text not null check (schedule ~ '^[a-z_]+(\.[a-z_]+)*$'),
    slot timestamptz not null,
    job_id uuid,
    fired_at timestamptz not null default clock_timestamp(),
    primary key (schedule, slot)
);

create index outbox_to_send on ledger.outbox (id) where sent_at is null;
"""

FUNCTIONS = r"""
-- The id of the job that a key names: whoever promises the same work twice is given the same job.
create function jobs.id_of(p_dedup text) returns uuid
language sql immutable strict parallel safe
set search_path = pg_catalog
as $$
    select overlay(overlay(left(encode(sha256(convert_to(p_dedup, 'UTF8')), 'hex'), 32)
        placing '8' from 13) placing '8' from 17)::uuid
$$;

create function jobs.accept(
    p_id uuid, p_kind text, p_dedup text, p_project_id uuid, p_payload text, p_acting text, p_correlation_id text,
    p_event_id uuid, p_due_at timestamptz, p_max_attempts integer
) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    insert into jobs.job (id, kind, dedup, project_id, payload, acting, correlation_id, event_id, due_at, max_attempts)
    values (coalesce(jobs.id_of(p_dedup), p_id), p_kind, p_dedup, p_project_id, p_payload, p_acting, p_correlation_id,
        p_event_id, coalesce(p_due_at, clock_timestamp()), p_max_attempts)
    on conflict do nothing;
    if not found then
        return false;
    end if;
    -- Wakes the relay at the commit. The outbox, which every change writes to, does without: notices make commits queue.
    notify pmis_jobs;
    return true;
end
$$;

-- What the outbox promised becomes jobs; a topic that nobody listens to is marked as sent all the same.
create function jobs.take_outbox(p_topics text[], p_kinds text[], p_limit integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    taken uuid[];
begin
    taken := array(
        select o.id from ledger.outbox o where o.sent_at is null order by o.id limit p_limit for update skip locked);
    insert into jobs.job (id, kind, dedup, project_id, payload, acting, correlation_id, event_id)
        select jobs.id_of(c.kind || ':' || o.key), c.kind, c.kind || ':' || o.key, e.project_id, o.payload, e.actor,
            e.correlation_id, o.event_id
        from ledger.outbox o
        join unnest(p_topics, p_kinds) as c (topic, kind) on c.topic = o.topic
        join ledger.event e on e.id = o.event_id
        where o.id = any(taken)
        order by o.id
    on conflict do nothing;
    update ledger.outbox set sent_at = clock_timestamp() where id = any(taken);
    return cardinality(taken);
end
$$;

-- A worker that does not renew its lease is gone: its job is due again, or dead when it had its attempts.
create function jobs.sweep(p_max_attempts integer, p_limit integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    lost uuid[];
    why constant text := '{"type":"WorkerLost","message":"The worker was not heard of again."}';
begin
    lost := array(select id from jobs.job where status = 'running' and lease_until < clock_timestamp()
        order by lease_until limit p_limit for update skip locked);
    if cardinality(lost) = 0 then
        return 0;
    end if;
    update jobs.attempt a set ended_at = clock_timestamp(), outcome = 'lost', error = why
        from jobs.job j where j.id = any(lost) and a.job_id = j.id and a.attempt = j.attempt;
    update jobs.job set lease_until = null, published_at = null, error = why, progress = null,
        status = case when attempt - forgiven >= coalesce(max_attempts, p_max_attempts) then 'dead' else 'queued' end,
        finished_at = case when attempt - forgiven >= coalesce(max_attempts, p_max_attempts) then clock_timestamp() end
        where id = any(lost);
    return cardinality(lost);
end
$$;

-- The jobs to tell the workers of, marked as told. At most p_window of them are in the broker at a time, so that a long
-- queue stays here and is not sent there again and again.
create function jobs.publish(p_window integer, p_again_seconds double precision) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    since constant timestamptz := clock_timestamp() - make_interval(secs => p_again_seconds);
    told integer;
begin
    select count(*) into told from (
        select from jobs.job where status in ('queued', 'waiting') and due_at <= clock_timestamp() and published_at > since
        limit p_window) as waiting;
    return query
        with due as (
            select id from jobs.job
            where status in ('queued', 'waiting') and due_at <= clock_timestamp()
              and (published_at is null or published_at <= since)
            order by due_at, id limit greatest(p_window - told, 0) for update skip locked
        )
        update jobs.job j set published_at = clock_timestamp() from due where j.id = due.id returning j.id;
end
$$;

-- The job, for one attempt under a lease; nothing when it is not to be done, or another worker has it.
create function jobs.claim(p_id uuid, p_lease_seconds double precision, p_worker text) returns setof jobs.job
language plpgsql security definer rows 1
set search_path = pg_catalog
as $$
declare
    j jobs.job;
begin
    update jobs.job set status = 'running', attempt = attempt + 1, progress = null,
        lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
        where id = p_id and status in ('queued', 'waiting') and due_at <= clock_timestamp()
        returning * into j;
    if found then
        insert into jobs.attempt (job_id, attempt, worker) values (j.id, j.attempt, p_worker);
        return next j;
    end if;
end
$$;

-- False when the attempt is over: another worker may have the job by now.
create function jobs.renew(p_id uuid, p_attempt integer, p_lease_seconds double precision) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
        where id = p_id and attempt = p_attempt and status = 'running';
    return found;
end
$$;

create function jobs.tell(p_id uuid, p_attempt integer, p_progress text) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set progress = p_progress where id = p_id and attempt = p_attempt and status = 'running';
    return found;
end
$$;

-- In the transaction of the effect itself, so that an attempt that is over takes its effect back with it.
create function jobs.finish(p_id uuid, p_attempt integer, p_result text) returns void
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set status = 'done', lease_until = null, result = p_result, error = null,
        finished_at = clock_timestamp() where id = p_id and attempt = p_attempt and status = 'running';
    if not found then
        raise exception 'attempt % of job % is over', p_attempt, p_id using errcode = 'PM006';
    end if;
    update jobs.attempt set ended_at = clock_timestamp(), outcome = 'done' where job_id = p_id and attempt = p_attempt;
end
$$;

-- The status after a failure: waiting for its next attempt, or dead; null when the attempt was over already.
create function jobs.fail(
    p_id uuid, p_attempt integer, p_error text, p_delay_seconds double precision, p_max_attempts integer, p_final boolean
) returns text
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    became text;
begin
    update jobs.job set lease_until = null, published_at = null, error = p_error,
        due_at = clock_timestamp() + make_interval(secs => p_delay_seconds),
        status = case when p_final or attempt - forgiven >= coalesce(max_attempts, p_max_attempts)
            then 'dead' else 'waiting' end,
        finished_at = case when p_final or attempt - forgiven >= coalesce(max_attempts, p_max_attempts)
            then clock_timestamp() end
        where id = p_id and attempt = p_attempt and status = 'running'
        returning status into became;
    if found then
        update jobs.attempt set ended_at = clock_timestamp(), outcome = 'failed', error = p_error
            where job_id = p_id and attempt = p_attempt;
    end if;
    return became;
end
$$;

-- A worker that is told to stop gives its job back: that attempt does not count.
create function jobs.give_back(p_id uuid, p_attempt integer) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set status = 'queued', lease_until = null, published_at = null, forgiven = forgiven + 1,
        progress = null where id = p_id and attempt = p_attempt and status = 'running';
    if not found then
        return false;
    end if;
    update jobs.attempt set ended_at = clock_timestamp(), outcome = 'returned' where job_id = p_id and attempt = p_attempt;
    notify pmis_jobs;
    return true;
end
$$;

-- Dead letters again, with all their attempts; says which of those named were dead.
create function jobs.retry(p_ids uuid[]) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    return query
        update jobs.job set status = 'queued', forgiven = attempt, finished_at = null, published_at = null,
            due_at = clock_timestamp() where id = any(p_ids) and status = 'dead' returning id;
    if found then
        notify pmis_jobs;
    end if;
end
$$;

-- Takes a slot and accepts its job, or neither: false when the slot was taken, or one after it.
create function jobs.fire(
    p_schedule text, p_slot timestamptz, p_kind text, p_payload text, p_correlation_id text
) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    key constant text := 'slot:' || p_schedule || ':' || to_char(p_slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
begin
    perform pg_advisory_xact_lock(hashtextextended('jobs.fire:' || p_schedule, 0));
    if exists (select from jobs.slot where schedule = p_schedule and slot >= p_slot) then
        return false;
    end if;
    insert into jobs.slot (schedule, slot, job_id)
        values (p_schedule, p_slot, case when p_kind is not null then jobs.id_of(key) end);
    if p_kind is not null then
        perform jobs.accept(null, p_kind, key, null, p_payload, null, p_correlation_id, null, null, null);
    end if;
    return true;
end
$$;

-- Forgets what ended long ago; dead letters stay until somebody decides about them.
create function jobs.prune(p_job_days integer, p_slot_days integer, p_limit integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    gone integer;
begin
    delete from jobs.job where id in (
        select id from jobs.job where status in ('done', 'cancelled')
          and finished_at < clock_timestamp() - make_interval(days => p_job_days)
        order by finished_at limit p_limit for update skip locked);
    get diagnostics gone = row_count;
    -- The newest slot of a schedule says how far it is.
    delete from jobs.slot s where s.fired_at < clock_timestamp() - make_interval(days => p_slot_days)
        and exists (select from jobs.slot n where n.schedule = s.schedule and n.slot > s.slot);
    return gone;
end
$$;

-- How far behind the workers are, for health checks and metrics.
create function jobs.lag(
    out unclaimed bigint, out oldest_due_at timestamptz, out running bigint, out dead bigint, out unsent bigint,
    out oldest_unsent_at timestamptz
)
language sql stable security definer
set search_path = pg_catalog
as $$
    select due.jobs, due.oldest, (select count(*) from jobs.job where status = 'running'),
        (select count(*) from jobs.job where status = 'dead'), promised.rows, promised.oldest
    from (
        select count(*) as jobs, min(due_at) as oldest from jobs.job
        where status in ('queued', 'waiting') and due_at <= clock_timestamp()
    ) as due, (
        select count(*) as rows, min(created_at) as oldest from ledger.outbox where sent_at is null
    ) as promised
$$;
"""

PRIVILEGES = """
revoke all on schema jobs from public;
revoke all on all functions in schema jobs from public;
grant usage on schema jobs to pmis_app, pmis_worker, pmis_relay, pmis_auditor;
grant select on all tables in schema jobs to pmis_app, pmis_relay, pmis_auditor;
grant execute on function jobs.accept, jobs.retry, jobs.lag, jobs.id_of to pmis_app;
grant execute on function jobs.claim, jobs.renew, jobs.tell, jobs.finish, jobs.fail, jobs.give_back, jobs.prune
    to pmis_worker;
grant execute on function jobs.take_outbox, jobs.sweep, jobs.publish, jobs.fire, jobs.lag to pmis_relay;
"""


def upgrade() -> None:
    """Create the schema; the privileges come last, so that nothing is open in between."""
    op.execute(ROLES)
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """Accepted work is not thrown away; restore a backup instead."""
    message = "there is no way back from the jobs; restore a backup"
    raise NotImplementedError(message)
