-- What was measured of each slice of a window. Rows of one check have the same time. They have a table
-- of their own: the previous release would take them for rows of the whole window.
create table slice_history (
    model_name text not null,
    computed_at timestamptz not null,
    slice text not null,
    window_name text not null,
    state text not null,
    vectors integer not null,
    baseline_version integer,
    score double precision,
    changed_ratio double precision,
    changed_ratio_lower double precision,
    changed_ratio_upper double precision,
    primary key (model_name, slice, window_name, computed_at)
);
create index on slice_history (model_name, computed_at);
create index on slice_history (computed_at);
