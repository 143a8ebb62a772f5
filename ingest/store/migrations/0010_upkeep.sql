-- Days (UTC) on which expired vectors were looked for. Retention counts them, and not those of the
-- calendar, so that nothing expires because a clock jumps. Until now, every day that the service ran
-- has a partition.
create table upkeep (day date primary key);
insert into upkeep
    select day::date from generate_series(date '2020-01-01', clock_timestamp() at time zone 'UTC',
        interval '1 day') as day
    where to_regclass('embedding_p' || to_char(day, 'YYYYMMDD')) is not null;
