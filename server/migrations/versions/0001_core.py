"""The log, the state it makes, and who may do what to them.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
do $$
declare
    name text;
begin
    foreach name in array array['pmis_app', 'pmis_sealer', 'pmis_auditor'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
        if not pg_has_role(current_user, name, 'member') then
            execute format('grant %I to current_user', name);
        end if;
    end loop;
end
$$;
"""

LOG = r"""
create schema ledger;
create schema state;
create schema identity;

create sequence ledger.event_position;

create table ledger.event (
    position bigint primary key,
    id uuid not null,
    stream_type text not null,
    stream_id uuid not null,
    stream_version integer not null,
    project_id uuid,
    type text not null,
    schema_version integer not null,
    payload text not null,
    actor text not null,
    actor_name text not null,
    on_behalf_of text,
    on_behalf_of_name text,
    source text not null,
    correlation_id text not null,
    causation_id uuid,
    occurred_at timestamptz not null,
    previous_hash bytea not null,
    content_hash bytea not null,
    xid xid8 not null,
    unique (stream_id, stream_version),
    unique (id)
);
alter sequence ledger.event_position owned by ledger.event.position;
create index event_by_project on ledger.event (project_id, position desc);

-- Without a search path of its own and no more constant than what it calls, so that PostgreSQL writes it out where it is
-- called: as a call of its own it would cost several times what it computes.
create function ledger.content_hash(e ledger.event) returns bytea
language sql stable parallel safe
as $$
    select sha256(convert_to(concat_ws(E'\n',
        'pmis-event-v1', e.position, e.id, e.stream_type, e.stream_id, e.stream_version, coalesce(e.project_id::text, '-'),
        e.type, e.schema_version, e.actor, e.actor_name, coalesce(e.on_behalf_of, '-'), coalesce(e.on_behalf_of_name, '-'),
        e.source, e.correlation_id, coalesce(e.causation_id::text, '-'),
        to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        encode(e.previous_hash, 'hex'), encode(sha256(convert_to(e.payload, 'UTF8')), 'hex')), 'UTF8'))
$$;

-- The only way in. The caller names the version it expects; position, time, hashes and transaction are the database's.
create function ledger.append_event(
    p_id uuid, p_stream_type text, p_stream_id uuid, p_stream_version integer, p_project_id uuid,
    p_type text, p_schema_version integer, p_payload text, p_actor text, p_actor_name text,
    p_on_behalf_of text, p_on_behalf_of_name text, p_source text, p_correlation_id text, p_causation_id uuid
) returns bigint
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    e ledger.event;
    number xid8;
    previous bytea := '\x0000000000000000000000000000000000000000000000000000000000000000';
    ref constant text := '^(person|agent|service|system):[A-Za-z0-9._-]+$';
begin
    -- Judged here and not by CHECKs on the table: PostgreSQL prepares those anew for every insert, which costs more than
    -- the insert itself, and there is no other way in.
    if not coalesce(
        p_type ~ '^[a-z_]+\.[a-z_]+$' and p_stream_type ~ '^[a-z_]+$' and p_schema_version >= 1
        and p_stream_version >= 1 and p_payload is json object and p_actor ~ ref
        and p_actor_name !~ '[[:cntrl:]]' and length(p_actor_name) between 1 and 300
        and (p_on_behalf_of is null) = (p_on_behalf_of_name is null)
        and coalesce(p_on_behalf_of ~ ref and p_on_behalf_of_name !~ '[[:cntrl:]]'
            and length(p_on_behalf_of_name) between 1 and 300, true)
        and p_source in ('api', 'cli', 'chat', 'mcp', 'mail', 'import', 'job', 'system')
        -- A counted repetition would be worked out character by character, each time.
        and p_correlation_id ~ '^[A-Za-z0-9._:-]+$' and length(p_correlation_id) <= 100, false)
    then
        raise exception 'the event is not well formed' using errcode = 'PM004';
    end if;
    if p_stream_version > 1 then
        select content_hash into previous from ledger.event
        where stream_id = p_stream_id and stream_version = p_stream_version - 1
          and stream_type = p_stream_type and project_id is not distinct from p_project_id;
        if not found then
            raise exception 'stream % % does not stand at version %', p_stream_type, p_stream_id, p_stream_version - 1
                using errcode = 'PM001';
        end if;
    end if;
    -- Number first, position second: the sealer's proof that nothing appears below a position any more rests on it.
    number := pg_current_xact_id();
    e := row(
        nextval('ledger.event_position'), p_id, p_stream_type, p_stream_id, p_stream_version, p_project_id, p_type,
        p_schema_version, p_payload, p_actor, p_actor_name, p_on_behalf_of, p_on_behalf_of_name, p_source,
        p_correlation_id, p_causation_id, transaction_timestamp(), previous, null, number);
    e.content_hash := ledger.content_hash(e);
    -- Who comes second meets the unique key. It is not made another error here: a block that catches errors is a
    -- transaction within the transaction, each time.
    insert into ledger.event values (e.*);
    return e.position;
end
$$;

create function ledger.refuse_change() returns trigger
language plpgsql
as $$
begin
    raise exception '% is append-only: % refused', tg_relid::regclass, tg_op using errcode = 'PM002';
end
$$;
create trigger event_is_append_only before update or delete on ledger.event
    for each row execute function ledger.refuse_change();
create trigger event_is_not_truncated before truncate on ledger.event
    for each statement execute function ledger.refuse_change();

-- No event, no commit: judged at the end of the transaction, so that rows and events may be written in any order.
-- Everything is named in full, as the caller has the search path; setting one would cost more than the question.
create function ledger.require_event() returns trigger
language plpgsql
as $$
begin
    if not exists (
        select from ledger.event
        where stream_id operator(pg_catalog.=) new.id and stream_version operator(pg_catalog.=) new.version
          and stream_type operator(pg_catalog.=) tg_argv[0] and xid operator(pg_catalog.=) pg_catalog.pg_current_xact_id()
    ) then
        raise exception 'state row %.% is at version % without an event of this transaction', tg_table_name, new.id, new.version
            using errcode = 'PM003';
    end if;
    return null;
end
$$;

create table ledger.idempotency (
    actor text not null,
    key text not null,
    fingerprint bytea not null,
    project_id uuid,
    access text,
    status smallint,
    headers text,
    body bytea,
    created_at timestamptz not null default transaction_timestamp(),
    primary key (actor, key)
) with (fillfactor = 70);
create index idempotency_by_age on ledger.idempotency (created_at);

-- What the transaction promised to the outside; unique keys make a promise once. The relay deletes nothing it did not send.
create table ledger.outbox (
    id uuid primary key,
    topic text not null,
    key text not null unique,
    payload text not null,
    event_id uuid not null,
    created_at timestamptz not null default transaction_timestamp(),
    sent_at timestamptz
);

-- Values that may have to be erased stand beside the log, sealed under a key per subject; the log holds their digest.
create table ledger.vault_key (
    subject uuid primary key,
    wrapped bytea,
    destroyed_at timestamptz
);
create table ledger.vault (
    ref text primary key,
    subject uuid not null references ledger.vault_key (subject),
    ciphertext bytea not null
);
"""

STATE = """
create table state.project (
    id uuid primary key, version integer not null, project_id uuid not null check (project_id = id), doc text not null,
    prefix text not null unique, name text not null
);
create table state.package_number (project_id uuid primary key, last integer not null);
create table state.package (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    number integer not null, code text not null unique, status text not null, package_type text,
    owner_id uuid, vendor_id uuid, amount numeric, currency text, planned_end date,
    external_ref text, deleted boolean not null,
    unique (project_id, number)
) with (fillfactor = 70);
create unique index package_external_ref on state.package (project_id, external_ref) where external_ref is not null;
create index package_by_age on state.package (project_id, id);
create index package_by_amount on state.package (project_id, amount, id);
create index package_by_planned_end on state.package (project_id, planned_end, id);
create table state.package_type (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    name text not null, unique (project_id, name)
);
create table state.task (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    package_id uuid not null, status text not null, assignee_id uuid, due_date date,
    external_ref text, deleted boolean not null
) with (fillfactor = 70);
create unique index task_external_ref on state.task (project_id, external_ref) where external_ref is not null;
create index task_by_age on state.task (project_id, id);
create index task_by_package on state.task (package_id, id);
create index task_by_due_date on state.task (project_id, due_date, id);
create table state.party (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    name text not null, email text, kind text not null, external_ref text, deleted boolean not null
) with (fillfactor = 80);
create unique index party_email on state.party (project_id, lower(email)) where email is not null;
create unique index party_external_ref on state.party (project_id, external_ref) where external_ref is not null;
create index party_by_age on state.party (project_id, id);
create table state.comment (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    entity_type text not null, entity_id uuid not null, deleted boolean not null
);
create index comment_by_entity on state.comment (entity_id, id);
create index comment_by_age on state.comment (project_id, id);
create table state.person (
    id uuid primary key, version integer not null, project_id uuid check (project_id is null), doc text not null,
    name text not null, active boolean not null, instance_admin boolean not null, instance_auditor boolean not null
);
create table state.membership (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    person_id uuid not null, roles text[] not null, unique (project_id, person_id)
);
create index membership_by_person on state.membership (person_id);
create table state.delegation (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    from_person uuid not null, to_person uuid not null, starts_at timestamptz not null, ends_at timestamptz not null,
    revoked boolean not null
);
create index delegation_by_project on state.delegation (project_id, ends_at);
create table state.policy (
    id uuid primary key, version integer not null, project_id uuid check (project_id is null), doc text not null
);
create table state.approval (
    id uuid primary key, version integer not null, project_id uuid, doc text not null,
    status text not null, route text not null, target_type text not null, target_id uuid not null,
    proposer_ref text not null, expires_at timestamptz
) with (fillfactor = 70);
create index approval_by_age on state.approval (project_id, id);
create index approval_waiting on state.approval (project_id, id) where status in ('pending', 'confirmation_required');
create index approval_by_target on state.approval (target_id, id);
-- The approvals of each record: one that moves finds the open ones, which it makes void; a timeline finds them all.
create table state.approval_target (
    target_id uuid not null, approval_id uuid not null, open boolean not null, primary key (target_id, approval_id)
);
create index approval_target_by_approval on state.approval_target (approval_id);
-- The project is a word among the others, one that nobody can search for: the index itself then leaves out what other
-- projects have with the same words, which would else all be fetched to see whose it is.
create table state.search (
    entity_id uuid primary key, entity_type text not null, project_id uuid not null, body text not null,
    vector tsvector generated always as (
        to_tsvector('simple', body) || array_to_tsvector(array['/' || project_id::text])
    ) stored,
    deleted boolean not null
) with (fillfactor = 90);
create index search_vector on state.search using gin (vector) with (fastupdate = off);

create table identity.credential (
    person_id uuid primary key, email text not null, password_hash text not null, changed_at timestamptz not null
);
create unique index credential_email on identity.credential (lower(email));
"""

# A governed change ends in one message that calls these: PostgreSQL plans a function's statements once for each
# connection, which prepared statements cannot have when they share a message, or when a pooler stands in between.
WRITERS = """
create function ledger.claim(p_actor text, p_key text, p_fingerprint bytea) returns boolean
language plpgsql as $$
begin
    insert into ledger.idempotency (actor, key, fingerprint) values (p_actor, p_key, p_fingerprint)
    on conflict do nothing;
    return found;
end
$$;
create function ledger.settle(
    p_actor text, p_key text, p_status integer, p_body bytea, p_headers text, p_project_id uuid, p_access text
) returns void
language plpgsql as $$
begin
    update ledger.idempotency
    set status = p_status, body = p_body, headers = p_headers, project_id = p_project_id, access = p_access
    where actor = p_actor and key = p_key;
end
$$;
-- The only way in. What a CHECK and a foreign key would hold is judged here, for less than half of their cost: an event
-- that is there stays, so that nothing of it needs a lock.
create function ledger.promise(p_id uuid, p_topic text, p_key text, p_payload text, p_event_id uuid) returns void
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
    if p_payload is not json object or not exists (select from ledger.event where id = p_event_id) then
        raise exception 'a promise % is an object, and names an event', p_topic using errcode = '23000';
    end if;
    insert into ledger.outbox (id, topic, key, payload, event_id) values (p_id, p_topic, p_key, p_payload, p_event_id);
end
$$;

-- The caller has read the last number under a lock.
create function state.number_package(p_project_id uuid, p_number integer) returns void
language plpgsql as $$
begin
    update state.package_number set last = p_number where project_id = p_project_id and last = p_number - 1;
    if not found then
        raise exception 'package number % of project % is not the next one', p_number, p_project_id using errcode = 'PM001';
    end if;
end
$$;

-- Makes `state.add_<noun>` and `state.set_<noun>`: the columns in the order of the table, and for `set` the version
-- that the row is expected to stand at.
create function ledger.make_writers(p_noun text) returns void
language plpgsql as $make$
declare
    arguments text;
    names text;
    given text;
    assignments text;
begin
    select string_agg(format('p_%s %s', attname, format_type(atttypid, null)), ', ' order by attnum),
        string_agg(quote_ident(attname), ', ' order by attnum), string_agg('p_' || attname, ', ' order by attnum),
        string_agg(format('%I = p_%s', attname, attname), ', ' order by attnum)
    into arguments, names, given, assignments
    from pg_attribute
    where attrelid = ('state.' || p_noun)::regclass and attnum > 0 and not attisdropped and attgenerated = '';
    execute format($f$
        create function state.add_%1$s(%2$s) returns void language plpgsql as $body$
        begin
            insert into state.%1$s (%3$s) values (%4$s);
        end
        $body$;
        create function state.set_%1$s(%2$s, p_was integer) returns void language plpgsql as $body$
        begin
            update state.%1$s set %5$s where id = p_id and version = p_was;
            if not found then
                raise exception '%1$s %% does not stand at version %%', p_id, p_was using errcode = 'PM001';
            end if;
        end
        $body$;
        revoke all on function state.add_%1$s, state.set_%1$s from public;
        grant execute on function state.add_%1$s, state.set_%1$s to pmis_app;
    $f$, p_noun, arguments, names, given, assignments);
end
$make$;

-- Makes `state.put_<table>` and `state.drop_<table>` for rows that hang on a record; `p_key` is the record's column.
create function ledger.make_child_writers(p_table text, p_key text) returns void
language plpgsql as $make$
declare
    arguments text;
    names text;
    given text;
    assignments text;
    identity text;
begin
    select string_agg(quote_ident(a.attname), ', ') into identity
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = ('state.' || p_table)::regclass and i.indisprimary;
    select string_agg(format('p_%s %s', attname, format_type(atttypid, null)), ', ' order by attnum),
        string_agg(quote_ident(attname), ', ' order by attnum), string_agg('p_' || attname, ', ' order by attnum),
        string_agg(format('%I = p_%s', attname, attname), ', ' order by attnum)
    into arguments, names, given, assignments
    from pg_attribute
    where attrelid = ('state.' || p_table)::regclass and attnum > 0 and not attisdropped and attgenerated = '';
    execute format($f$
        create function state.put_%1$s(%2$s) returns void language plpgsql as $body$
        begin
            insert into state.%1$s (%3$s) values (%4$s) on conflict (%5$s) do update set %6$s;
        end
        $body$;
        create function state.drop_%1$s(p_%7$s uuid) returns void language plpgsql as $body$
        begin
            delete from state.%1$s where %7$s = p_%7$s;
        end
        $body$;
        revoke all on function state.put_%1$s, state.drop_%1$s from public;
        grant execute on function state.put_%1$s, state.drop_%1$s to pmis_app;
    $f$, p_table, arguments, names, given, identity, assignments, p_key);
end
$make$;
"""

NOUNS = (
    "project",
    "package",
    "package_type",
    "task",
    "party",
    "comment",
    "person",
    "membership",
    "delegation",
    "policy",
    "approval",
)


LOCK_ORDER = (
    "policy",
    "person",
    "project",
    "membership",
    "delegation",
    "package_type",
    "party",
    "package",
    "task",
    "comment",
    "memory",  # whose table comes with 0017: a function's tables are looked for when it runs
)


def lock_targets() -> str:
    """The function that takes a proposal's locks in the one order, and reads what is under them.

    One call instead of a statement for each noun; as each query in it sees what was committed when it began, approvals
    that came while it waited for a lock are seen. PostgreSQL prepares each condition anew in each transaction, so the
    usual change, that of one package, passes few of them.
    """

    def lock(noun: str) -> str:
        return f"""return query select '{noun}', t.id, t.doc, (select p.doc from state.project p where p.id = t.project_id)
            from state.{noun} t
            where t.id = any(p_ids) and (t.project_id is null or p_seen is null or t.project_id = any(p_seen))
            order by t.id for update;"""

    branches = "".join(
        f"""
        if '{noun}' = any(p_nouns) then
            {lock(noun)}
        end if;"""
        for noun in LOCK_ORDER
    )
    return f"""
create function ledger.lock_targets(
    p_nouns text[], p_ids uuid[], p_seen uuid[], p_created uuid[], p_projects uuid[]
)
returns table (kind text, id uuid, doc text, project text)
language plpgsql rows 5
as $$
declare
    taken boolean := false;
begin
    if p_nouns = '{{package}}' then
        {lock("package")}
    else{branches}
    end if;
    -- Who puts an approval there holds the lock of its target: none comes between these two.
    if exists (select from state.approval_target t where t.target_id = any(p_ids) and t.open) then
        return query select 'approval', a.id, a.doc, null::text from state.approval a
            where a.id in (select t.approval_id from state.approval_target t where t.target_id = any(p_ids) and t.open)
            order by a.id for update;
    end if;
    if cardinality(p_created || p_projects) > 0 then
        taken := exists (select from ledger.event e where e.stream_id = any(p_created) and e.stream_version = 1);
        return query select 'home', p.id, null::text, p.doc from state.project p where p.id = any(p_projects);
    end if;
    return query select 'in_force', q.id, q.version::text, taken::text from state.policy q;
end
$$;
"""


def upgrade() -> None:
    """Create the three schemas; the privileges come last, so that nothing is open in between."""
    op.execute(ROLES)
    op.execute(LOG)
    op.execute(STATE)
    op.execute(lock_targets())
    op.execute(WRITERS)
    op.execute("select ledger.make_child_writers('search', 'entity_id')")
    op.execute("select ledger.make_child_writers('approval_target', 'approval_id')")
    for noun in NOUNS:
        op.execute(f"select ledger.make_writers('{noun}')")
        op.execute(
            f"create constraint trigger {noun}_needs_its_event after insert or update on state.{noun} "
            f"deferrable initially deferred for each row execute function ledger.require_event('{noun}')"
        )
        op.execute(
            f"create trigger {noun}_is_never_deleted before delete on state.{noun} "
            "for each row execute function ledger.refuse_change()"
        )
    op.execute(
        """
        revoke all on schema ledger, state, identity from public;
        revoke all on all functions in schema ledger from public;
        revoke all on function state.number_package from public;
        grant usage on schema ledger, state, identity to pmis_app;
        grant usage on schema ledger, state to pmis_sealer, pmis_auditor;
        grant select on all tables in schema ledger, state to pmis_app;
        grant select on ledger.event to pmis_sealer, pmis_auditor;
        grant select on all tables in schema state to pmis_auditor;
        grant execute on function ledger.append_event, ledger.lock_targets, ledger.claim, ledger.settle, ledger.promise,
            state.number_package to pmis_app;
        grant insert, update, delete on ledger.idempotency to pmis_app;
        grant update (sent_at) on ledger.outbox to pmis_app;
        grant insert, update on ledger.vault_key, ledger.vault to pmis_app;
        grant insert, update on all tables in schema state to pmis_app;
        grant delete on state.approval_target, state.search to pmis_app;
        grant select, insert, update on identity.credential to pmis_app;
        grant usage on schema public to pmis_app;
        """
    )


def downgrade() -> None:
    """The log is never taken back; restore a backup instead."""
    message = "there is no way back from the first migration; restore a backup"
    raise NotImplementedError(message)
