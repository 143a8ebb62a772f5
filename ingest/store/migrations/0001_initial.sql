-- Every primary key starts with model_name and no foreign key crosses tables, so that the
-- tables can be distributed by model_name without a change.

create extension if not exists vector;

-- One row a model. Its row lock orders the writers of that model: whoever holds it numbers its
-- vectors from last_seq, so that numbers have no gaps and become visible in their order. A
-- reader that asks for seq > last therefore misses nothing, however transactions interleave.
create table model (
    model_name text primary key,
    dimension integer not null check (dimension > 0),
    last_seq bigint not null default 0,
    last_received_at timestamptz,
    mismatched_dimension integer,
    mismatched_at timestamptz,
    created_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- received_at is the database's clock at the commit's numbering; embedded_at the client's word.
create table embedding (
    model_name text not null,
    seq bigint not null,
    received_at timestamptz not null,
    embedded_at timestamptz,
    id text,
    metadata jsonb,
    embedding vector not null,
    primary key (model_name, received_at, seq)
) partition by range (received_at);

-- Floats do not compress, and writing them out of line takes twice as long: each partition sets
-- toast_tuple_target to a page, which keeps them in the row. Unlike PLAIN, EXTERNAL still takes
-- rows above a page.
alter table embedding alter column embedding set storage external;

-- A unique key over the partitioned table would have to contain the time; these do not.
create table embedding_id (
    model_name text not null,
    id text not null,
    seq bigint not null,
    received_at timestamptz not null,
    primary key (model_name, id)
);
create index on embedding_id (received_at);

create table idempotency_key (
    model_name text not null,
    key text not null,
    fingerprint bytea not null,
    stored integer not null,
    duplicates integer not null,
    received_at timestamptz not null,
    primary key (model_name, key)
);
create index on idempotency_key (received_at);

create table baseline (
    model_name text not null,
    version integer not null,
    pinned_at timestamptz not null default clock_timestamp(),
    vectors integer not null,
    last_seq bigint not null,
    source text not null,
    quality jsonb not null,
    detector bytea not null,
    primary key (model_name, version)
);
alter table baseline alter column detector set storage external;

create table baseline_embedding (
    model_name text not null,
    version integer not null,
    seq bigint not null,
    received_at timestamptz not null,
    embedded_at timestamptz,
    id text,
    metadata jsonb,
    embedding vector not null,
    primary key (model_name, version, seq)
) with (toast_tuple_target = 8160);
alter table baseline_embedding alter column embedding set storage external;

create table drift_history (
    model_name text not null,
    window_name text not null,
    computed_at timestamptz not null default clock_timestamp(),
    state text not null,
    vectors integer not null,
    score double precision,
    magnitude double precision,
    cosine_similarity double precision,
    components jsonb,
    primary key (model_name, window_name, computed_at)
);
create index on drift_history (computed_at);
