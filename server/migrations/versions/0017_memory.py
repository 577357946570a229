"""Memories: what is worth remembering of a record, and what they are found by.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLES = """
create table state.memory (
    id uuid primary key, version integer not null, project_id uuid not null, doc text not null,
    entity_type text not null, entity_id uuid not null, kind text not null, conversation_id uuid, deleted boolean not null
) with (fillfactor = 90);
create index memory_by_entity on state.memory (entity_id, id);
create index memory_by_age on state.memory (project_id, id);
create index memory_by_conversation on state.memory (conversation_id, id) where conversation_id is not null;
create index memory_forgotten on state.memory (id) where deleted;

select ledger.make_writers('memory');
create constraint trigger memory_needs_its_event after insert or update on state.memory
    deferrable initially deferred for each row execute function ledger.require_event('memory');
create trigger memory_is_never_deleted before delete on state.memory
    for each row execute function ledger.refuse_change();
grant select, insert, update on state.memory to pmis_app;
grant select on state.memory to pmis_auditor;
"""

POLICY = """
create policy reach on state.memory to pmis_app
    using (coalesce(project_id = any((select nullif(current_setting('pmis.reach'), '*')::uuid[])::uuid[]), true))
    with check (coalesce(project_id = any((select nullif(current_setting('pmis.reach'), '*')::uuid[])::uuid[]), true));
create policy whole on state.memory for select to pmis_auditor using (true);
alter table state.memory enable row level security;
"""

# What memories are found by is made from their texts, which the log does not hold, and goes when they are forgotten:
# it is no state, and no replay rebuilds it. `pmis memory reindex` does.
FOUND_BY = """
create schema memory;
grant usage on schema memory to pmis_app;

-- As in state.search, the project is a word among the others.
create table memory.words (memory_id uuid primary key, project_id uuid not null, words tsvector not null);
create index words_found on memory.words using gin (words) with (fastupdate = off);

-- Nothing is near until PostgreSQL has vectors.
create function memory.nearest(
    p_projects uuid[], p_entities uuid[], p_embedder text, p_question text, p_limit integer
) returns table (memory_id uuid, similarity double precision) language plpgsql stable as $body$
begin
    return;
end
$body$;
revoke all on function memory.nearest from public;
grant execute on function memory.nearest to pmis_app;
grant select, insert, update, delete on memory.words to pmis_app;
"""

# PostgreSQL may have no `vector`, or get it later: `pmis migrate` calls this each time. The type and the operator are
# named with the schema that the extension lies in, wherever somebody has put it.
#
# The vectors of a project are all compared with the question, which finds the very nearest. An approximate index (HNSW)
# looks at the nearest of all projects and judges the project after that: in a small project beside large ones it finds
# less than there is, or goes on looking for about as long as comparing all of the project takes. The numbers are of half
# precision, so that a row of 512 or 1,000 of them stays below the size at which PostgreSQL would keep them elsewhere.
SET_UP_VECTORS = r"""
create function memory.set_up_vectors() returns boolean
language plpgsql
set search_path = pg_catalog
as $make$
declare
    place text;
begin
    if not exists (select from pg_extension where extname = 'vector') then
        if not exists (select from pg_available_extensions where name = 'vector') then
            return false;
        end if;
        begin
            create extension vector schema public;
        exception when insufficient_privilege then
            return false;
        end;
    end if;
    if to_regclass('memory.vector') is not null then
        return true;
    end if;
    select quote_ident(n.nspname) into place
    from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
    execute format($f$
        create table memory.vector (
            memory_id uuid primary key, project_id uuid not null, version integer not null, embedder text not null,
            embedding %1$s.halfvec not null
        );
        create index vector_of_project on memory.vector (project_id, embedder);
        create policy reach on memory.vector to pmis_app
            using (coalesce(project_id = any((select nullif(current_setting('pmis.reach'), '*')::uuid[])::uuid[]), true))
            with check
                (coalesce(project_id = any((select nullif(current_setting('pmis.reach'), '*')::uuid[])::uuid[]), true));
        alter table memory.vector enable row level security;
        grant select, insert, update, delete on memory.vector to pmis_app;
        grant usage on schema %1$s to pmis_app;

        -- A vector of an older version of the text, which came late, does not take the place of a newer one.
        create function memory.put_vector(
            p_memory_id uuid, p_project_id uuid, p_version integer, p_embedder text, p_embedding text
        ) returns void language sql as $body$
            insert into memory.vector (memory_id, project_id, version, embedder, embedding)
            values (p_memory_id, p_project_id, p_version, p_embedder, p_embedding::%1$s.halfvec)
            on conflict (memory_id) do update
            set version = excluded.version, embedder = excluded.embedder, embedding = excluded.embedding
            where vector.version <= excluded.version
        $body$;
        create or replace function memory.nearest(
            p_projects uuid[], p_entities uuid[], p_embedder text, p_question text, p_limit integer
        ) returns table (memory_id uuid, similarity double precision) language plpgsql stable as $body$
        declare
            -- Read once: as a part of the query it would be read anew for every row.
            question constant %1$s.halfvec := p_question::%1$s.halfvec;
        begin
            if question is null then
                return;
            end if;
            return query
                select found.memory_id, 1 - found.distance from (
                    select v.memory_id, v.embedding operator(%1$s.<=>) question as distance from memory.vector v
                    where v.project_id = any(p_projects) and v.embedder = p_embedder
                      and (p_entities is null
                        or v.memory_id in (select m.id from state.memory m where m.entity_id = any(p_entities)))
                    order by distance
                    limit p_limit
                ) found;
        end
        $body$;
        revoke all on function memory.put_vector from public;
        grant execute on function memory.put_vector to pmis_app;
    $f$, place);
    return true;
end
$make$;
revoke all on function memory.set_up_vectors from public;
"""


def upgrade() -> None:
    """Create the table, and what its rows are found by."""
    for part in (TABLES, POLICY, FOUND_BY, SET_UP_VECTORS):
        op.execute(part)


def downgrade() -> None:
    """What was remembered stands in the log; restore a backup instead."""
    message = "there is no way back from memories; restore a backup"
    raise NotImplementedError(message)
