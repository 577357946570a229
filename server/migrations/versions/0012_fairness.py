"""Jobs: failures that are none of a job's own are counted by themselves, and webhooks hold nobody else up.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
alter table jobs.job add column outside integer not null default 0;
create index job_to_publish_first on jobs.job (due_at, id)
    where status in ('queued', 'waiting') and kind <> 'webhook.deliver';
"""

FUNCTIONS = r"""
-- The same, and whether the failure is none of the job's own: a lost database or storage, somebody else's lock. Such a
-- one is forgiven, and counted by itself against `p_max_attempts`. The shorter form stays for workers of the version
-- before this one.
create function jobs.fail(
    p_id uuid, p_attempt integer, p_error text, p_delay_seconds double precision, p_max_attempts integer,
    p_final boolean, p_outside boolean
) returns text
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    became text;
begin
    if not p_outside then
        return jobs.fail(p_id, p_attempt, p_error, p_delay_seconds, p_max_attempts, p_final);
    end if;
    update jobs.job set lease_until = null, published_at = null, error = p_error, outside = outside + 1,
        forgiven = forgiven + 1, due_at = clock_timestamp() + make_interval(secs => p_delay_seconds),
        status = case when outside + 1 >= p_max_attempts then 'dead' else 'waiting' end,
        finished_at = case when outside + 1 >= p_max_attempts then clock_timestamp() end
        where id = p_id and attempt = p_attempt and status = 'running'
        returning status into became;
    if found then
        update jobs.attempt set ended_at = clock_timestamp(), outcome = 'failed', error = p_error
            where job_id = p_id and attempt = p_attempt;
    end if;
    return became;
end
$$;

-- An attempt that found that it is not the time yet: it was none, and the job waits. In the transaction that found out,
-- as with `finish`.
create function jobs.put_off(p_id uuid, p_attempt integer, p_due_at timestamptz) returns void
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    update jobs.job set status = 'waiting', lease_until = null, published_at = null, forgiven = forgiven + 1,
        progress = null, due_at = p_due_at where id = p_id and attempt = p_attempt and status = 'running';
    if not found then
        raise exception 'attempt % of job % is over', p_attempt, p_id using errcode = 'PM006';
    end if;
    delete from jobs.attempt where job_id = p_id and attempt = p_attempt;
end
$$;

create or replace function jobs.retry(p_ids uuid[]) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    return query
        update jobs.job set status = 'queued', forgiven = attempt, outside = 0, finished_at = null, published_at = null,
            due_at = clock_timestamp() where id = any(p_ids) and status = 'dead' returning id;
    if found then
        notify pmis_jobs;
    end if;
end
$$;

-- The same order as before among all others; a receiver outside that takes its time must not hold up mail and
-- approvals, so calls to webhooks come last, and few of them are in the broker at a time.
create or replace function jobs.publish(p_window integer, p_again_seconds double precision) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    since constant timestamptz := clock_timestamp() - make_interval(secs => p_again_seconds);
    most_outside constant integer := greatest(p_window / 16, 1);
    told integer;
    told_outside integer;
    given integer;
begin
    select count(*), count(*) filter (where waiting.kind = 'webhook.deliver') into told, told_outside from (
        select kind from jobs.job
        where status in ('queued', 'waiting') and due_at <= clock_timestamp() and published_at > since
        limit p_window) as waiting;
    return query
        with due as (
            select id from jobs.job
            where status in ('queued', 'waiting') and due_at <= clock_timestamp() and kind <> 'webhook.deliver'
              and (published_at is null or published_at <= since)
            order by due_at, id limit greatest(p_window - told, 0) for update skip locked
        )
        update jobs.job j set published_at = clock_timestamp() from due where j.id = due.id returning j.id;
    get diagnostics given = row_count;
    return query
        with due as (
            select id from jobs.job
            where status in ('queued', 'waiting') and due_at <= clock_timestamp() and kind = 'webhook.deliver'
              and (published_at is null or published_at <= since)
            order by due_at, id limit greatest(least(p_window - told - given, most_outside - told_outside), 0)
            for update skip locked
        )
        update jobs.job j set published_at = clock_timestamp() from due where j.id = due.id returning j.id;
end
$$;
"""

PRIVILEGES = """
revoke all on function jobs.fail(uuid, integer, text, double precision, integer, boolean, boolean), jobs.put_off
    from public;
grant execute on function jobs.fail(uuid, integer, text, double precision, integer, boolean, boolean), jobs.put_off
    to pmis_worker;
"""


def upgrade() -> None:
    """Count, and publish, anew."""
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """The functions of the version before do without; the column and the index may stay."""
    message = "there is no way back from this; the version before works with it"
    raise NotImplementedError(message)
