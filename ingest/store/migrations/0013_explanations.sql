-- What changed while a window drifted. A drift has up to five explanations, numbered from 0: one when
-- it begins, and four later. seen_at is when the drift was last seen; it is kept up to date in the
-- newest explanation only. The slice is empty for all vectors of the model.
create table explanation (
    model_name text not null,
    window_name text not null,
    slice text not null,
    began_at timestamptz not null,
    number integer not null,
    explained_at timestamptz not null,
    seen_at timestamptz not null,
    baseline_version integer not null,
    summary text not null,
    told jsonb not null,
    primary key (model_name, window_name, slice, began_at, number)
);
create index on explanation (explained_at);
