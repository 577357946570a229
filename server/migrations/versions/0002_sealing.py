"""The sealed tree, its checkpoints, and the one function through which they grow.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TREE = r"""
-- The perfect subtrees of the RFC 6962 tree over the events' content hashes; level 0 holds the leaves.
create table ledger.tree_node (
    level smallint not null,
    idx bigint not null,
    hash bytea not null check (octet_length(hash) = 32),
    position bigint,
    primary key (level, idx),
    check ((level = 0) = (position is not null))
);
create unique index tree_leaf_by_position on ledger.tree_node (position) where position is not null;

-- What was signed. Every event at or below `settled` is sealed or will never exist: whoever looks for events that are
-- not sealed yet may begin there. It is proved by transaction numbers, never taken from the highest position seen.
create table ledger.checkpoint (
    size bigint primary key check (size > 0),
    root bytea not null check (octet_length(root) = 32),
    note text not null,
    settled bigint not null,
    signed_at timestamptz not null default clock_timestamp()
);

create trigger tree_node_is_append_only before update or delete on ledger.tree_node
    for each row execute function ledger.refuse_change();
create trigger tree_node_is_not_truncated before truncate on ledger.tree_node
    for each statement execute function ledger.refuse_change();
create trigger checkpoint_is_append_only before update or delete on ledger.checkpoint
    for each row execute function ledger.refuse_change();
create trigger checkpoint_is_not_truncated before truncate on ledger.checkpoint
    for each statement execute function ledger.refuse_change();

create function ledger.tree_root(p_size bigint) returns bytea
language plpgsql stable
set search_path = pg_catalog
as $$
declare
    root bytea;
    part bytea;
begin
    -- A perfect subtree per one-bit of the size, from the smallest on the right to the largest on the left.
    for lvl in 0..62 loop
        if (p_size >> lvl) & 1 = 1 then
            select n.hash into part from ledger.tree_node n where n.level = lvl and n.idx = (p_size >> lvl) - 1;
            if not found then
                return null;
            end if;
            root := case when root is null then part else sha256('\x01'::bytea || part || root) end;
        end if;
    end loop;
    return root;
end
$$;

-- The sealer names the events and the root it signed; the nodes are made here, of what the log holds, so that nobody
-- who may call this can seal anything but events of the log, each once, behind those that are sealed already.
create function ledger.append_checkpoint(
    p_size bigint, p_positions bigint[], p_root bytea, p_note text, p_settled bigint
) returns bigint
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
    new_size bigint := p_size + cardinality(p_positions);
    known bigint;
    done bigint;
    first bigint := p_size;
    stop bigint := new_size;
    lvl smallint := 0;
begin
    perform pg_advisory_xact_lock(8097879367303361388);
    select coalesce(max(size), 0) into known from ledger.checkpoint;
    if known <> p_size then
        raise exception 'the log is sealed up to %, not %', known, p_size using errcode = 'PM005';
    end if;
    insert into ledger.tree_node (level, idx, hash, position)
        select 0, p_size + p.place - 1, sha256('\x00'::bytea || e.content_hash), e.position
        from unnest(p_positions) with ordinality as p (position, place) join ledger.event e using (position);
    get diagnostics done = row_count;
    if done <> cardinality(p_positions) or done = 0 then
        raise exception '% of % positions are events of the log', done, cardinality(p_positions) using errcode = 'PM005';
    end if;
    while first < stop loop
        insert into ledger.tree_node (level, idx, hash)
            select lvl + 1, l.idx / 2, sha256('\x01'::bytea || l.hash || r.hash)
            from ledger.tree_node l join ledger.tree_node r on r.level = lvl and r.idx = l.idx + 1
            where l.level = lvl and l.idx >= first / 2 * 2 and l.idx < stop / 2 * 2 and l.idx % 2 = 0;
        first := first / 2;
        stop := stop / 2;
        lvl := lvl + 1;
    end loop;
    if ledger.tree_root(new_size) is distinct from p_root
        or split_part(p_note, E'\n', 2) <> new_size::text
        or split_part(p_note, E'\n', 3) <> encode(p_root, 'base64')
    then
        raise exception 'the note does not state the root of these % events', new_size using errcode = 'PM005';
    end if;
    insert into ledger.checkpoint (size, root, note, settled)
        select new_size, p_root, p_note, greatest(
            (select c.settled from ledger.checkpoint c order by c.size desc limit 1),
            least(p_settled, (select max(e.position) from ledger.event e)));
    return new_size;
end
$$;

-- How far sealing is behind the log, for health checks and metrics.
create function ledger.seal_lag(
    out sealed bigint, out unsealed bigint, out oldest_unsealed_at timestamptz, out sealed_at timestamptz
)
language sql stable security definer
set search_path = pg_catalog
as $$
    select coalesce(last.size, 0), waiting.events, waiting.oldest, last.signed_at
    from (select) as always
    left join lateral (
        select c.size, c.settled, c.signed_at from ledger.checkpoint c order by c.size desc limit 1
    ) as last on true
    cross join lateral (
        select count(*) as events, min(e.occurred_at) as oldest from ledger.event e
        where e.position > coalesce(last.settled, 0)
          and not exists (
              select from ledger.tree_node n where n.position = e.position and n.position > coalesce(last.settled, 0)
          )
    ) as waiting
$$;

revoke all on function ledger.tree_root, ledger.append_checkpoint, ledger.seal_lag from public;
grant select on ledger.tree_node, ledger.checkpoint to pmis_app, pmis_sealer, pmis_auditor;
grant execute on function ledger.append_checkpoint to pmis_sealer;
grant execute on function ledger.tree_root, ledger.seal_lag to pmis_app, pmis_sealer, pmis_auditor;
"""


def upgrade() -> None:
    """Create the tree and its guards."""
    op.execute(TREE)


def downgrade() -> None:
    """What was signed is never taken back; restore a backup instead."""
    message = "there is no way back from a sealed log; restore a backup"
    raise NotImplementedError(message)
