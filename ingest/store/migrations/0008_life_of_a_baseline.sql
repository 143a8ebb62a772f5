-- The baseline in use is the one that was pinned or chosen last. The exporter replaces one that has
-- seen less than a week, but never one that a person chose, or pinned by an earlier release. That
-- may still pin while this one runs: the defaults are for it.
alter table baseline add column automatic boolean not null default false;
alter table baseline add column matures boolean not null default false;
alter table baseline add column used_at timestamptz not null default clock_timestamp();
alter table baseline add column first_at timestamptz not null default clock_timestamp();
alter table baseline add column last_at timestamptz not null default clock_timestamp();
update baseline set
    automatic = version = 1 and source like 'first %',
    matures = version = 1 and source like 'first %',
    used_at = pinned_at,
    first_at = coalesce((select min(received_at) from baseline_embedding as e
        where e.model_name = baseline.model_name and e.version = baseline.version), pinned_at),
    last_at = coalesce((select max(received_at) from baseline_embedding as e
        where e.model_name = baseline.model_name and e.version = baseline.version), pinned_at);

create view baseline_in_use as
    select distinct on (model_name) model_name, version, used_at
    from baseline order by model_name, used_at desc, version desc;
