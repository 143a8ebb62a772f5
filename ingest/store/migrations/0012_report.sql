-- The last report of each model, written at each check by the exporter that follows it, and read by
-- every replica. One row a model. The glance is what the page of the fleet needs of it: the whole
-- report is long and kept apart, so that a thousand glances are read quickly.
create table report (
    model_name text primary key,
    computed_at timestamptz not null,
    check_interval_seconds double precision not null,
    glance text not null,
    detail text not null
);
