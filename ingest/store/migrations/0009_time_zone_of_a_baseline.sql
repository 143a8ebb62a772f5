-- A detector knows the seasons by the local time of one time zone. Until now that was UTC.
alter table baseline add column time_zone text not null default 'UTC';
