-- How far a table that others fill has been read: what orders its rows, of the one up to which
-- none is missing. Empty is the table's beginning.
create table watch (
    model_name text not null,
    source text not null,
    position text[] not null,
    primary key (model_name, source)
) with (fillfactor = 50);
