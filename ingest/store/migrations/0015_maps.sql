-- Where the vectors of the window lay among those of the baseline: positions in two dimensions. It is
-- drawn after the rest is kept, so it may be missing for a while, or if that failed.
alter table explanation add column map jsonb;
