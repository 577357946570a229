"""Jobs: each kind waits in a queue, so that what takes long holds up nothing that is waited for.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

QUEUES = """
-- Which kind of job waits where. A kind that is to wait elsewhere than in `default` gets its line here, in a migration
-- that makes the index below anew.
create function jobs.queue_of(p_kind text) returns text
language sql immutable strict parallel safe
return case
    when p_kind in ('mail.file', 'notify.approval') then 'prompt'
    when p_kind in ('notify.mail', 'notify.invitation', 'notify.refresh_reused') then 'post'
    when p_kind in ('webhook.deliver', 'memory.embed') then 'outside'
    when p_kind in ('tasks.check_overdue', 'upkeep.prune', 'notify.prune', 'approvals.expire', 'approvals.escalate',
        'approvals.remind', 'invitations.expire', 'assistant.prune', 'memory.upkeep') then 'long'
    else 'default'
end;
create index job_to_hand_out on jobs.job (jobs.queue_of(kind), due_at, id) where status in ('queued', 'waiting');
drop index jobs.job_to_publish_first;
-- What a mail holds is looked up by the job that sends it.
create index notification_mail_job on notify.notification (mail_job) where mail_job is not null;
"""

FUNCTIONS = r"""
-- The jobs to tell the workers of, marked as told, each queue by itself: at most p_window of each are in the broker at a
-- time, so that a long queue stays here and is not sent there again and again. A receiver outside that takes its time
-- has many calls waiting: few of them are in the broker. `jobs.publish` stays for relays of the version before.
create function jobs.hand_out(p_window integer, p_again_seconds double precision)
returns table (id uuid, kind text, queue text, correlation_id text)
language plpgsql security definer
set search_path = pg_catalog
as $$
#variable_conflict use_column
declare
    since constant timestamptz := clock_timestamp() - make_interval(secs => p_again_seconds);
    wanted text;
    most integer;
    told integer;
begin
    foreach wanted in array array['prompt', 'default', 'post', 'outside', 'long'] loop
        most := case when wanted = 'outside' then greatest(p_window / 16, 1) else p_window end;
        select count(*) into told from (
            select from jobs.job
            where status in ('queued', 'waiting') and jobs.queue_of(kind) = wanted and due_at <= clock_timestamp()
              and published_at > since
            limit most) as waiting;
        continue when told >= most;
        return query
            with due as (
                select id from jobs.job
                where status in ('queued', 'waiting') and jobs.queue_of(kind) = wanted and due_at <= clock_timestamp()
                  and (published_at is null or published_at <= since)
                order by due_at, id limit most - told for update skip locked
            )
            update jobs.job j set published_at = clock_timestamp() from due where j.id = due.id
                returning j.id, j.kind, wanted, j.correlation_id;
    end loop;
end
$$;

-- What is due in each queue: whoever listens to all but one of them leaves that one behind.
create function jobs.due_in_queues(out queue text, out jobs bigint, out oldest_due_at timestamptz) returns setof record
language sql stable security definer
set search_path = pg_catalog
as $$
    select jobs.queue_of(kind), count(*), min(due_at) from jobs.job
    where status in ('queued', 'waiting') and due_at <= clock_timestamp() group by 1 order by 3
$$;

-- As `jobs.sweep`, which stays for relays of the version before, and says which jobs they were.
create function jobs.sweep_lost(p_max_attempts integer, p_limit integer)
returns table (id uuid, kind text, correlation_id text, attempt integer, status text)
language plpgsql security definer
set search_path = pg_catalog
as $$
#variable_conflict use_column
declare
    lost uuid[];
    why constant text := '{"type":"WorkerLost","message":"The worker was not heard of again."}';
begin
    lost := array(select id from jobs.job where status = 'running' and lease_until < clock_timestamp()
        order by lease_until limit p_limit for update skip locked);
    if cardinality(lost) = 0 then
        return;
    end if;
    update jobs.attempt a set ended_at = clock_timestamp(), outcome = 'lost', error = why
        from jobs.job j where j.id = any(lost) and a.job_id = j.id and a.attempt = j.attempt;
    return query update jobs.job set lease_until = null, published_at = null, error = why, progress = null,
        status = case when attempt - forgiven >= coalesce(max_attempts, p_max_attempts) then 'dead' else 'queued' end,
        finished_at = case when attempt - forgiven >= coalesce(max_attempts, p_max_attempts) then clock_timestamp() end
        where id = any(lost) returning id, kind, correlation_id, attempt, status;
end
$$;
"""

PRIVILEGES = """
revoke all on function jobs.queue_of, jobs.hand_out, jobs.due_in_queues, jobs.sweep_lost from public;
grant execute on function jobs.hand_out, jobs.sweep_lost to pmis_relay;
grant execute on function jobs.queue_of to pmis_app, pmis_relay;
grant execute on function jobs.due_in_queues to pmis_app;
"""


def upgrade() -> None:
    """Queues, and a relay that says what it does."""
    op.execute(QUEUES)
    op.execute(FUNCTIONS)
    op.execute(PRIVILEGES)


def downgrade() -> None:
    """As before, with one queue."""
    op.execute("drop function jobs.hand_out, jobs.due_in_queues, jobs.sweep_lost")
    op.execute("drop index jobs.job_to_hand_out, notify.notification_mail_job")
    op.execute("drop function jobs.queue_of")
    op.execute(
        "create index job_to_publish_first on jobs.job (due_at, id) "
        "where status in ('queued', 'waiting') and kind <> 'webhook.deliver'"
    )
