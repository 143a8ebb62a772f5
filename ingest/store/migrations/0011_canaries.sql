-- Canaries: the same texts, embedded again and again. One row is one set as it was sent, with its
-- vectors as little-endian float32 in the order of the ids. The distances are 1 - cosine to the
-- reference of the same set. The longest gap is that between the newest sets of the model, null
-- while there are too few.
create table canary (
    model_name text not null,
    received_at timestamptz not null,
    canary_set text not null,
    ids text[] not null,
    embeddings bytea not null,
    is_reference boolean not null,
    median_distance double precision not null,
    max_distance double precision not null,
    longest_gap_seconds double precision,
    idempotency_key text,
    fingerprint bytea not null,
    primary key (model_name, received_at)
);
alter table canary alter column embeddings set storage external;
