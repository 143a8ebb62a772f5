-- What the last poll saw, so that a table that was emptied or re-made is noticed, also after a
-- restart: what tells the table from another of its name, its newest row, and a digest of that
-- row's vector. Null is not known: a release that does not know these columns wrote the row.
alter table watch add column identity text[];
alter table watch add column newest text[];
alter table watch add column digest text;
