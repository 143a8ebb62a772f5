-- Which rows of a table without an order were read last: one of 2^level rows, by a hash of its key.
-- The digests are pairs of eight bytes: of a row's key and of its vector.
create table watch_sample (
    model_name text not null,
    source text not null,
    level integer not null,
    digests bytea not null,
    primary key (model_name, source)
);
alter table watch_sample alter column digests set storage external;
